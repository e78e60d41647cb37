"""An exchange whose client is to stay with its server: the cookie is taken out of the request, and set in the response.

Only for backends with `sticky`; the others' exchanges know nothing of it.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from lbservice.core.backend import Backend
from lbservice.core.events import Access
from lbservice.policies.sticky import Sticky
from lbservice.proxy.exchange import Exchange
from lbservice.wire.keys import take_cookie
from lbservice.wire.message import RequestHead, ResponseHead

if TYPE_CHECKING:
    from lbservice.proxy.http_server import HttpServerProtocol


class StickyExchange(Exchange):
    """The server gets the request without our cookie; the client gets a cookie if it had none of this server's."""

    __slots__ = ("_cookie",)

    def __init__(self, client: HttpServerProtocol, backend: Backend, request: RequestHead, access: Access) -> None:
        super().__init__(client, backend, request, access)
        settings = backend.settings.sticky
        assert settings is not None
        self._cookie, fields = take_cookie(request.fields, settings.name.encode())
        if fields is not request.fields:
            request.fields = fields
            request.encoded = b""  # which holds the cookie

    @property
    def cookie(self) -> bytes:
        return self._cookie

    def whole_response(self, head: ResponseHead, payload: bytes, now: float) -> None:
        if self._line():
            self.response(head, payload, True, now)
        else:
            super().whole_response(head, payload, now)

    def response(self, head: ResponseHead, payload: bytes, done: bool, now: float) -> None:
        super().response(self._marked(head), payload, done, now)

    def upgraded(self, head: ResponseHead) -> None:
        super().upgraded(self._marked(head))

    def _marked(self, head: ResponseHead) -> ResponseHead:
        """The head with the cookie, if it is due. The head itself may be shared by responses alike."""
        line = self._line()
        if line:
            head = copy(head)
            head.fields += line
            head.encoded = b""
        return head

    def _line(self) -> bytes:
        """The field line that is due, or b""."""
        policy, settings = self.backend.policy, self.backend.settings.sticky
        if not isinstance(policy, Sticky) or settings is None:
            return b""  # a reload has switched it off since the request came
        assert self._lease is not None
        token = policy.token(self._lease.server)
        if token == self._cookie:
            return b""
        return b"Set-Cookie: %b=%b%b\r\n" % (settings.name.encode(), token, settings.attributes.encode())

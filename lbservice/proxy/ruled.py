"""A client's connection to a frontend that has rules. Without rules there is none of this on a request's way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lbservice.core.events import Access
from lbservice.core.route import host_alone
from lbservice.core.server import Server
from lbservice.proxy.exchange import Exchange
from lbservice.proxy.http_server import BODY, HEAD, HttpServerProtocol
from lbservice.proxy.rules import Answer, Destination, Rules, stripped
from lbservice.proxy.sticky import StickyExchange
from lbservice.wire.body import LengthBody
from lbservice.wire.forwarded import said
from lbservice.wire.h1 import encode_request
from lbservice.wire.message import NO_BODY, RequestHead, ResponseHead, Usual

if TYPE_CHECKING:
    from lbservice.proxy.listener import HttpFactory

SWALLOWED = 64 * 1024
"""Bytes of a body that are read, after its request has been refused, to keep the connection."""


class RuledServerProtocol(HttpServerProtocol):
    """Asks the rules about each request. What they answer themselves becomes no exchange."""

    __slots__ = ("_encodings", "_encodings_of", "_rules", "_secure_now", "_source", "_trusted", "destination")

    def __init__(self, factory: HttpFactory, address: Any, rules: Rules) -> None:
        super().__init__(factory, address)
        self._rules = rules
        self._source = self.host
        """The client's own address, as we believe it, and whether it used TLS: of the request that is served."""
        self._secure_now = False
        self._trusted = factory.trusts(self.host)
        self._encodings: dict[Destination, bytes] = {}
        """What a server gets behind the first line, by where a request goes; for the fields of `_encodings_of`."""
        self._encodings_of: Usual | None = None
        self.destination: Destination | None = None

    def _begin(self, request: RequestHead, line: bytes, began: float, now: float, request_id: bytes) -> Exchange | None:
        self._know_client(request)
        verdict = self._rules.judge(request, self._source, self._secure_now, now)
        if isinstance(verdict, Answer):
            self._answer(verdict, request, line, began, now, request_id)
            return None
        self.backend = verdict.backend
        self._most_body = verdict.max_body
        if verdict.strip:
            request.target = stripped(request.target, verdict.strip)
            request.encoded = b""  # its first line is not the one that came
        if not verdict.edits:
            self._make, self._make_sticky = Exchange, StickyExchange
        else:
            self._make, self._make_sticky = EditedExchange, EditedStickyExchange
            self.destination = verdict
            if request.encoded and request.usual is not None:
                request.encoded = self._encoding(request.usual, request.encoded, verdict)
        return super()._begin(request, line, began, now, request_id)

    def _know_client(self, request: RequestHead) -> None:
        """Who the client is: behind a trusted proxy, as that says (`core.address.believed`)."""
        self._secure_now = self.encrypted
        if self._trusted:
            self._source = self.source_of(request)
            schemes = said(request.forwarded, b"x-forwarded-proto")
            if schemes:
                self._secure_now = schemes[-1].lower() == "https"

    def facts(self, request: RequestHead, request_id: bytes) -> dict[str, bytes]:
        """The variables that a field's value may have."""
        host = host_alone(request.host.decode("latin-1")) if request.host else ""
        return {
            "client": self._source.encode("latin-1"),
            "host": host.encode("latin-1"),
            "request_id": request_id,
            "scheme": b"https" if self._secure_now else b"http",
        }

    def _encoding(self, usual: Usual, encoded: bytes, destination: Destination) -> bytes:
        """The fast path of a usual head, edited; b"" if the edits differ with each request."""
        edits = destination.request_edits
        if "request_id" in edits.uses:
            return b""
        if self._encodings_of is not usual:
            self._encodings_of = usual
            self._encodings.clear()
        known = self._encodings.get(destination)
        if known is None:
            before, behind = b"\r\nHost: %b\r\n" % usual.host, b"X-Request-ID: "
            request = RequestHead(b"", b"", 1, usual.host, b"")
            lines = edits.lines(encoded[len(before) : -len(behind)], self.facts(request, b""))
            known = b"\r\nHost: %b\r\n%b%b" % (edits.host or usual.host, lines, behind)
            self._encodings[destination] = known
        return known

    def _answer(
        self, answer: Answer, request: RequestHead, line: bytes, began: float, now: float, request_id: bytes
    ) -> None:
        """Answer ourselves. The connection is kept, unless there is a body that is more than a new connection costs."""
        factory = self.factory
        keep = request.persistent and request.minor == 1 and not (factory.stopping or request.expects_continue)
        keep = keep and 0 <= request.length <= SWALLOWED
        page = self.page(
            answer.status, request, request_id, close=not keep, retry_after=answer.retry_after, fields=answer.fields
        )
        self.transport.write(page)
        factory.frontend.requests += 1
        access = Access(True, self._name, self._frontend, factory.name, began, now, line, request_id)
        access.status = answer.status
        access.termination = answer.termination
        access.bytes_out = len(page)
        access.ended = now
        factory.ended(access)
        if keep and request.length:
            self._phase = BODY
            self._body = LengthBody(request.length)
            self._deadline.set(now, factory.settings.timeout_client)
        elif keep:
            self._rest(now)
        elif request.length == NO_BODY:
            self._close()
        else:
            self._linger()

    def _rest(self, now: float) -> None:
        """Ready for the next request."""
        self._phase = HEAD
        self._rested = now
        if not self._choked:
            self._deadline.set(now, self._keep_alive)
        if self._held:
            self.release()
        if self.factory.successor is not None and not self._running:
            self.hand_over()

    def _behind(self, rest: bytes) -> bytes:
        if self._phase is not BODY:
            return super()._behind(rest)
        body = self._body
        assert body is not None
        body.feed(rest)
        if not body.done:
            return b""
        self._body = None
        if self.factory.stopping:
            self._close()
        else:
            self._rest(self.seconds())
        return body.rest

    def _more_body(self, data: bytes) -> None:
        if self.exchange is not None:
            super()._more_body(data)
        elif (rest := self._behind(data)) and self._phase is HEAD:
            self._go_on(rest)


class EditedExchange(Exchange):
    """An exchange whose heads are edited, as the client's destination says. Our own answers are not."""

    __slots__ = ()

    _client: RuledServerProtocol

    @property
    def _destination(self) -> Destination:
        destination = self._client.destination  # there is one request at a time
        assert destination is not None
        return destination

    @property
    def _facts(self) -> dict[str, bytes]:
        return self._client.facts(self.request, self.access.request_id)

    def _head(self, server: Server) -> bytes:
        edits = self._destination.request_edits
        if not edits:
            return super()._head(server)
        request = self.request
        host = edits.host or request.host or server.settings.address.encode()
        lines = request.fields + self._client.introduction.fields(request, self.access.request_id)
        return encode_request(request, host, b"", edits.lines(lines, self._facts if edits.uses else {}))

    def whole_response(self, head: ResponseHead, payload: bytes, now: float) -> None:
        edits = self._destination.response_edits
        if head.encoded and edits and not edits.uses:
            super().whole_response(edits.usual_response(head), payload, now)
        elif edits:
            self.response(head, payload, True, now)
        else:
            super().whole_response(head, payload, now)

    def response(self, head: ResponseHead, payload: bytes, done: bool, now: float) -> None:
        edits = self._destination.response_edits
        if edits:
            head = edits.response(head, self._facts if edits.uses else {})
        super().response(head, payload, done, now)


class EditedStickyExchange(StickyExchange, EditedExchange):
    """Both: the cookie is set first, so that edits see it."""

    __slots__ = ()

"""What an http frontend does to a request before a server is sought: who may come, how often, and where to.

In this order: `allow` and `deny`, `rate-limit`, `methods`, the routes, redirects and refusals of the file, `max-body`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import ceil

from twisted.logger import Logger

from lbservice.core.address import Networks, neighbourhood
from lbservice.core.backend import Backend
from lbservice.core.clock import Seldom
from lbservice.core.frontend import Frontend
from lbservice.core.limits import RateLimit
from lbservice.core.route import Ambiguous, Question, Router, climbs, host_alone
from lbservice.core.settings import Edit, FrontendSettings, Rule
from lbservice.wire.edits import Edits, fill, variables
from lbservice.wire.headers import field_values
from lbservice.wire.message import RequestHead

TELL = 1.0
"""Seconds between two warnings of the same kind."""
REMEMBERED, MEMORABLE = 1000, 256
"""Requests whose rule is remembered, where it depends on host, path and method alone; and bytes of such a path.
Clients of whom it is remembered whether they are let in."""
_LONG = 64
"""Bytes of a field's value that a rate limit remembers as they are; of a longer one it remembers a digest."""

_log = Logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """What we answer ourselves. `termination` is the log's pair of letters; `fields` are field lines."""

    status: int
    termination: str = "PR"
    fields: bytes = b""
    retry_after: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Destination:
    """Where a request goes, and what is done to it on its way there and back."""

    backend: Backend
    strip: bytes
    max_body: int
    request_edits: Edits
    response_edits: Edits
    edits: bool
    """Does anything change in heads?"""


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer whose Location depends on the request. `location` may hold {host}, {path} and {uri}."""

    status: int
    location: bytes

    def answer(self, request: RequestHead) -> Answer:
        """The answer to this request."""
        location = self.location
        if uses := variables(location):
            host = _host(request.host)
            if not host and "host" in uses:
                return Answer(400)  # HTTP/1.0 without a Host, or a lone dot: `https:///x` leads browsers to the host x
            uri = request.target if request.target[:1] == b"/" else b"/"  # the whole server is `*`
            facts = {"host": host.encode("latin-1"), "path": uri.partition(b"?")[0], "uri": uri}
            location = fill(location, facts)
        return Answer(self.status, "LR", b"Location: %b\r\n" % location)


class Rules:
    """The rules of one frontend. `backend` takes what meets none of them; None: it is 404."""

    def __init__(
        self, settings: FrontendSettings, frontend: Frontend, backend: Backend | None, backends: Mapping[str, Backend]
    ) -> None:
        self._frontend = frontend
        allow, deny = Networks(settings.allow), Networks(settings.deny)
        self._is_let_in: Callable[[str], bool] | None = None
        if allow or deny:
            self._is_let_in = lru_cache(REMEMBERED)(
                lambda source: source not in deny and (not allow or source in allow)
            )
        rate = self._rate = settings.rate_limit
        self._limit = RateLimit(rate.rate, rate.burst) if rate is not None else None
        self._methods = frozenset(method.encode() for method in settings.methods)
        self._no_method = Answer(405, fields=b"Allow: %b\r\n" % ", ".join(settings.methods).encode())
        self._router = Router([rule.when for rule in settings.rules]) if settings.rules else None
        personal = any(rule.when.fields or rule.when.sources for rule in settings.rules)
        self._remembered = None if personal else lru_cache(REMEMBERED)(self._choose)
        self._targets: list[Destination | Redirect | Answer] = [
            _target(rule, settings, backends) for rule in settings.rules
        ]
        # The last of them takes what meets no rule, whose number is -1.
        self._targets.append(Answer(404, "LR") if backend is None else _destination(settings, backend))
        self._tell_denied = Seldom(TELL)
        self._tell_limited = Seldom(TELL)

    def inherit(self, before: Rules) -> None:
        """It takes the place of these: who has used up his requests has done so still."""
        if self._rate == before._rate:
            self._limit = before._limit

    def judge(self, request: RequestHead, source: str, secure: bool, now: float) -> Destination | Answer:
        """What happens to this request, of the client with the address `source`, which used TLS if it is `secure`."""
        if self._is_let_in is not None and not self._is_let_in(source):
            return self._denied(source, now)
        if self._limit is not None and (late := self._limit.wait(self._key(request, source), now)):
            return self._limited(source, late, now)
        if self._methods and request.method not in self._methods:
            return self._no_method
        target = self._targets[-1]
        if self._router is not None:
            path = request.target.partition(b"?")[0]
            try:
                if self._remembered is not None and len(path) <= MEMORABLE:
                    number = self._remembered(request.host, path, request.method, secure)
                else:
                    number = self._choose(
                        request.host, path, request.method, secure, source, lambda name: _values(request, name)
                    )
                target = self._targets[number]
                if isinstance(target, Destination) and target.strip and _climbs(stripped(path, target.strip)):
                    # The rules saw /x/../x/y as /x/y; stripped of its first /x its server would read that, not /y.
                    raise Ambiguous
            except Ambiguous:
                return Answer(400)
        if isinstance(target, Redirect):
            return target.answer(request)
        if isinstance(target, Destination) and 0 < target.max_body < request.length:
            return Answer(413)
        return target

    def _choose(
        self,
        host: bytes | None,
        path: bytes,
        method: bytes,
        secure: bool,
        source: str = "",
        fields: Callable[[str], list[str]] = lambda name: [],
    ) -> int:
        """The number of the rule that is met. Raises Ambiguous."""
        assert self._router is not None
        question = Question(
            source,
            host=_host(host),
            path=path.decode("latin-1"),
            method=method.decode("latin-1"),
            secure=secure,
            fields=fields,
        )
        return self._router.choose(question)

    def _key(self, request: RequestHead, source: str) -> bytes | str:
        """Who is limited together. A request without the field counts for its address.

        So does one that has it twice: which of them its server will read, only the server knows.
        """
        rate = self._rate
        if rate is None or not rate.field or len(values := _values(request, rate.field)) != 1:
            return neighbourhood(source)
        value = values[0].encode("latin-1")
        return value if len(value) <= _LONG else blake2b(value, digest_size=16).digest()

    def _denied(self, source: str, now: float) -> Answer:
        frontend = self._frontend
        frontend.denied += 1
        if self._tell_denied.now(now):
            _log.warn(
                "frontend {frontend} denies {client} (allow, deny); {denied} denied so far",
                event="client-denied",
                frontend=frontend.name,
                client=source,
                denied=frontend.denied,
            )
        return Answer(403)

    def _limited(self, source: str, late: float, now: float) -> Answer:
        frontend = self._frontend
        frontend.limited += 1
        if self._tell_limited.now(now):
            _log.warn(
                "frontend {frontend} limits {client} (rate-limit); {limited} refused so far",
                event="client-limited",
                frontend=frontend.name,
                client=source,
                limited=frontend.limited,
            )
        return Answer(429, retry_after=ceil(late))


def has_rules(settings: FrontendSettings, backends: Iterable[Backend]) -> bool:
    """Is there anything to be decided for the requests of this frontend, which may go to these backends?"""
    own = (settings.rules, settings.allow, settings.deny, settings.rate_limit, settings.methods, settings.max_body)
    edits = settings.request_edits or settings.response_edits
    theirs = (each.settings for each in backends)
    return any(own) or bool(edits) or any(each.max_body or each.request_edits or each.response_edits for each in theirs)


def _target(rule: Rule, settings: FrontendSettings, backends: Mapping[str, Backend]) -> Destination | Redirect | Answer:
    if rule.backend:
        return _destination(settings, backends[rule.backend], rule.strip)
    if rule.location:
        return Redirect(rule.status, rule.location.encode("ascii"))
    return Answer(rule.status)


def _destination(settings: FrontendSettings, backend: Backend, strip: str = "") -> Destination:
    """A backend's own `max-body` counts. The frontend's edits come first on the way there, and last on the way back."""
    own = backend.settings
    request_edits = _edits((*settings.request_edits, *own.request_edits))
    response_edits = _edits((*own.response_edits, *settings.response_edits))
    return Destination(
        backend,
        strip.encode("ascii"),
        settings.max_body if own.max_body is None else own.max_body,
        request_edits,
        response_edits,
        bool(request_edits or response_edits),
    )


def _edits(edits: Iterable[Edit]) -> Edits:
    return Edits((edit.name, edit.verb, edit.value) for edit in edits)


def stripped(target: bytes, prefix: bytes) -> bytes:
    """A request target, or its path, without a prefix that its path has; it begins with one slash as before.

    The path may spell the prefix otherwise (`%7e`, `%7E`, `~`), but in as many segments, so these are counted.
    """
    path, mark, query = target.partition(b"?")
    count = prefix.count(b"/") + 1
    rest = b"".join(path.split(b"/", count)[count:])
    return b"/" + rest.lstrip(b"/") + mark + query


def _climbs(path: bytes) -> bool:
    return climbs(path.decode("latin-1"))


def _host(field: bytes | None) -> str:
    return host_alone(field.decode("latin-1")) if field else ""


def _values(request: RequestHead, name: str) -> list[str]:
    """The values of a request's fields of that name (in small letters)."""
    if name == "upgrade":
        asked = (request.upgrade or b"").decode("latin-1").lower()  # names of protocols differ in no case
        return [protocol.strip(" \t") for protocol in asked.split(",")] if asked else []
    return field_values(request.fields, name)

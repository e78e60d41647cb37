"""Where a request is answered: let in, matched with the table of routes, read, done, and answered or refused."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from twisted.logger import Logger

from lbservice.admin.api import guard
from lbservice.admin.api.answer import dumps, shown
from lbservice.admin.api.feed import Feed
from lbservice.admin.api.login import Who
from lbservice.admin.api.openapi import document
from lbservice.admin.api.problem import MEDIA_TYPE, Problem, problem_of
from lbservice.admin.api.route import Call, Field, Level, Route
from lbservice.admin.api.routes import COMMENT, PATH_VALUES, ROUTES
from lbservice.core.change import By
from lbservice.errors import ControlError
from lbservice.services.control import Control

if TYPE_CHECKING:
    from lbservice.admin.api.channel import ApiRequest, Channel

PENALTY = 1.0
"""Seconds that the answer to a failed login takes."""
LONGEST_URI = 4096
CLI = "lbservice-cli/"
"""What the command line calls itself."""
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class Answer(NamedTuple):
    """What goes out."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = {}


class _Streaming(Exception):
    """The request has been given to the feed, which answers it."""


class Desk:
    """Answers requests for one Control."""

    log = Logger()

    def __init__(self, control: Control, feed: Feed, clock: Any) -> None:
        self._control = control
        self._feed = feed
        self._clock = clock

    def handle(self, request: ApiRequest, channel: Channel) -> None:
        """Answer it, now or (a stream, a failed login) later."""
        visit = _Visit(request, channel)
        try:
            answer = self._answer(visit)
        except _Streaming:
            return
        except Problem as problem:
            answer = self._refuse(visit, problem)
        except Exception:
            self.log.failure("{method} {path} fails", method=visit.method, path=visit.path)
            answer = self._refuse(visit, Problem(500, "this is a fault of the service; its log has more"))
        if answer.status == 401:
            late = self._clock.callLater(PENALTY, _send, visit, answer)
            request.notifyFinish().addErrback(lambda _: late.cancel() if late.active() else None)
        else:
            _send(visit, answer)

    # -- from the door to the route ----------------------------------------------------------

    def _answer(self, visit: _Visit) -> Answer:
        if not visit.path.startswith("/") or len(visit.request.uri) > LONGEST_URI:
            raise Problem(400, f"write a path, /v1/..., of at most {LONGEST_URI} bytes")
        visit.check_browser()
        found = [(route, values) for route in ROUTES if (values := route.match(visit.segments)) is not None]
        if not any(route.level is Level.ANYBODY for route, _ in found):
            visit.who = visit.channel.factory.login.who(visit.channel.transport, visit.fields("Authorization"))
        if not found:
            raise Problem(404, f"no such path; {visit.path[:100]!r} is not in /v1/openapi.json")
        allowed = sorted({route.method for route, _ in found} | {"OPTIONS"})
        allowed += ["HEAD"] if "GET" in allowed else []
        if visit.method == "OPTIONS":
            return Answer(204, b"", headers={"Allow": ", ".join(allowed)})
        method = "GET" if visit.method == "HEAD" else visit.method
        for route, values in found:
            if route.method == method:
                return self._take(visit, route, values)
        raise Problem(405, f"this path has {', '.join(allowed)}", {"Allow": ", ".join(allowed)})

    def _take(self, visit: _Visit, route: Route, texts: Mapping[str, str]) -> Answer:
        visit.route = route
        if visit.who.level < route.level:
            raise Problem(
                403, f"this needs the level {route.level.name.lower()}; yours is {visit.who.level.name.lower()}"
            )
        if route.path in ("/healthz", "/ready"):
            return self._health(route.path == "/ready")
        values = {name: PATH_VALUES[name].read_text(text) for name, text in texts.items()}
        values |= _read_query(visit.query, route.query + ((COMMENT,) if route.method == "DELETE" else ()))
        if route.changes:
            body = visit.json()
            if route.method == "DELETE":
                if body and "comment" in body and "comment" in dict(visit.query):
                    raise Problem(400, "comment is given twice, in the query and in the body")
                values |= {"comment": _read_body(body, ()).get("comment") or values["comment"]}
            else:
                values |= _read_body(body, route.body)
        if route.streams:
            return self._stream(visit)
        if route.path == "/v1/openapi.json":
            return Answer(200, dumps(document()))
        if route.changes:
            self._check_change(visit, values)
        call = Call(self._control, By(visit.who.actor, visit.face, values.get("comment", "")), values)
        try:
            answer = route.act(call)
        except ControlError as error:
            raise problem_of(error) from error
        return Answer(route.status, dumps(shown(answer)), headers={"ETag": self._tags(values)[0]})

    # -- what is asked before a change ---------------------------------------------------------

    def _check_change(self, visit: _Visit, values: Mapping[str, Any]) -> None:
        route = visit.route
        assert route is not None
        if not self._control.balancer.running and route.verb != "kick":
            raise Problem(503, "the service is stopping")
        wanted = visit.fields("If-Match")
        if not wanted or (len(wanted) == 1 and wanted[0].strip() == "*"):
            return
        tags = re.findall(r'"[^"]*"', ",".join(wanted))
        if not set(tags) & set(self._tags(values)):
            raise Problem(412, "it was changed since you looked (If-Match); look again, and then decide")

    def _tags(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """What an If-Match may name, the nearest first: the server in question, and all that can be changed.

        Of a server that is what people set, and whether it is leaving; not its health, which changes by itself.
        """
        journal = f'"{self._feed.start_id}-{self._control.journal.number}"'
        backend = self._control.balancer.backends.get(values.get("backend", ""))
        server = backend.servers.get(values.get("server", "")) if backend is not None else None
        if server is None:
            return (journal,)
        state = f"{server.path} {server.settings!r} {server.admin} {server.leaving}"
        return f'"{hashlib.sha256(state.encode("utf-8", "backslashreplace")).hexdigest()[:20]}"', journal

    # -- answers of its own --------------------------------------------------------------------

    def _health(self, ready: bool) -> Answer:
        balancer = self._control.balancer
        if ready:
            if not balancer.running:
                raise Problem(503, "stopping: nothing new is taken")
            if not any(backend.available for backend in balancer.backends.values()):
                raise Problem(503, "no backend has a server that can be used")
        return Answer(200, b"ready\n" if ready else b"ok\n", "text/plain; charset=utf-8")

    def _stream(self, visit: _Visit) -> Answer:
        headers = {"Content-Type": "text/event-stream", **_HEADERS}
        if visit.method == "HEAD":
            return Answer(200, b"", headers["Content-Type"])
        last = visit.fields("Last-Event-ID")
        for name, value in headers.items():
            visit.request.setHeader(name, value)
        self._feed.open(visit.request, last[0] if last else "")
        raise _Streaming

    def _refuse(self, visit: _Visit, problem: Problem) -> Answer:
        if problem.status in (401, 403) or visit.method not in ("GET", "HEAD", "OPTIONS"):
            self.log.warn(
                "admin: {method} {path} of {actor} is refused: {status} {reason}",
                event="refused",
                method=visit.method[:20],
                path=visit.path[:200],
                actor=visit.who.actor,
                face=visit.face,
                status=problem.status,
                reason=problem.detail,
            )
        return Answer(problem.status, dumps(problem.body()), MEDIA_TYPE, problem.headers)


class _Visit:
    """One request on its way through."""

    def __init__(self, request: ApiRequest, channel: Channel) -> None:
        self.request = request
        self.channel = channel
        self.method = request.method.decode("latin-1")
        path, _, query = request.uri.partition(b"?")
        self.path = path.decode("latin-1")
        self.segments = tuple(path.removeprefix(b"/").split(b"/"))
        self.raw_query = query
        self.who = Who(channel.who, Level.ANYBODY)
        self.route: Route | None = None

    def fields(self, name: str) -> list[str]:
        """All header fields of that name."""
        raw = self.request.requestHeaders.getRawHeaders(name.encode()) or []
        return [value.decode("latin-1") for value in raw]

    @property
    def face(self) -> str:
        """The command line says so itself; over a unix socket it is believed."""
        agents = self.fields("User-Agent")
        local = self.channel.factory.names is None
        return "cli" if local and agents and agents[0].startswith(CLI) else "api"

    @property
    def query(self) -> list[tuple[str, str]]:
        """Names and values. Raises Problem 400."""
        try:
            return parse_qsl(self.raw_query.decode("ascii"), keep_blank_values=True, max_num_fields=20, errors="strict")
        except ValueError:
            raise Problem(400, "the query is malformed") from None

    def check_browser(self) -> None:
        """Raises Problem for what a browser was talked into by somebody else's page."""
        names = self.channel.factory.names
        hosts = self.fields("Host")
        if names is not None:
            local = self.channel.own_address
            guard.check_host(hosts, names | {local})
        guard.check_site(self.fields("Origin"), self.fields("Sec-Fetch-Site"), hosts[0] if hosts else "")

    def json(self) -> dict[str, Any] | None:
        """The body of a change; None if a DELETE has none. Raises Problem 400, 413 or 415."""
        if self.request.too_large:
            raise Problem(413, "a body may have 1 MiB at most")
        if self.method == "DELETE" and not self.request.body:
            return None
        guard.check_json(self.fields("Content-Type"))
        if not self.request.body.strip():
            return {}
        try:
            body = json.loads(self.request.body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
        except (ValueError, RecursionError) as error:
            raise Problem(400, f"the body is no JSON: {str(error)[:200]}") from None
        if not isinstance(body, dict):
            raise Problem(400, "the body must be a JSON object, e.g. {}")
        return body


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is given twice")
    return found


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _read_query(query: list[tuple[str, str]], fields: tuple[Field, ...]) -> dict[str, Any]:
    known = {field.name: field for field in fields}
    values: dict[str, Any] = {field.name: field.default for field in fields}
    seen = set()
    for name, text in query:
        if name not in known:
            there = f"; there are: {', '.join(known)}" if known else ""
            raise Problem(400, f"{name[:60]!r} is no parameter here{there}")
        if name in seen:
            raise Problem(400, f"{name} is given twice")
        seen.add(name)
        values[name] = known[name].read_text(text)
    return values


def _read_body(body: dict[str, Any] | None, fields: tuple[Field, ...]) -> dict[str, Any]:
    body, fields = body or {}, (*fields, COMMENT)
    known = {field.name: field for field in fields}
    for name in body:
        if name not in known:
            raise Problem(400, f"{name[:60]!r} is no field here; there are: {', '.join(known)}")
    for field in fields:
        if field.required and field.name not in body:
            raise Problem(400, f"{field.name} is missing; {field.about}")
    return {name: field.read(body[name]) if name in body else field.default for name, field in known.items()}


def _send(visit: _Visit, answer: Answer) -> None:
    request = visit.request
    request.setResponseCode(answer.status)
    for name, value in {**_HEADERS, **answer.headers}.items():
        request.setHeader(name, value)
    if answer.status != 204:
        request.setHeader("Content-Type", answer.media_type)
        request.setHeader("Content-Length", str(len(answer.body)))
        request.write(answer.body)
    request.finish()

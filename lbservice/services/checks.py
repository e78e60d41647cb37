"""Active checks: one question to one server, answered with a CheckResult and never with an exception.

Whatever a server does, a check ends in `CheckSettings.patience`, reads at most `MAX_ANSWER` bytes, and leaves
nothing open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Protocol

from twisted.internet.abstract import isIPAddress

from lbservice.core.clock import Clock, Timer
from lbservice.core.health import CheckResult
from lbservice.core.server import Server
from lbservice.core.settings import CheckSettings, Expected, ServerSettings, ServerTls, Via
from lbservice.proxy.dial import Dial, DialError
from lbservice.proxy.http_client import MAX_FIELDS, MAX_HEAD, MAX_INTERIM
from lbservice.proxy.transport import Network
from lbservice.services.probe import NoAnswer, Probe
from lbservice.wire.body import Body, UntilCloseBody, reader
from lbservice.wire.h1 import BadMessage, cut_head, parse_response, refuse_no_response

MAX_WORDS = 16 * 1024
"""Bytes that a server may say in a conversation."""
MAX_ANSWER = 256 * 1024
"""Bytes that a server may answer to an http check, interim heads and framing included."""
MAX_BODY = 64 * 1024
"""Bytes of a body that are looked at."""
MAX_MATCHED = 8 * 1024
"""Bytes that a pattern is tried on: a usual one, as `.*ok`, takes 30 ms to find nothing in so many, 2 s in MAX_BODY."""
MAX_LOOKED = 16 * 1024 * 1024
"""What may be searched in one conversation, in bytes or as `_effort` says: tiny pieces are searched again and again."""
SHOWN = 40
"""Characters of an answer that people are shown."""
POLITE = 0.1
"""Seconds that a server gets to finish a body that we do not need: one that is cut off may complain in its log."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*(?=\.?(?::[0-9]*)?\Z)")
"""The part of a Host field that can be asked for in a TLS handshake."""


@dataclass(frozen=True, slots=True)
class Unasked:
    """We could not even ask, for a lack of our own, so nothing is known about the server."""

    why: str


class Check(Protocol):
    """One way to ask a server how it is."""

    async def run(self, server: Server) -> CheckResult | Unasked:
        """Ask once; the time it may take is the check's own."""


@dataclass(slots=True)
class Verdict:
    """What a check thinks of an answer. `body` reads what is left of it; `rest` is what has come of that."""

    passed: bool
    code: str
    detail: str = ""
    body: Body | None = None
    rest: bytes = b""


class TcpCheck:
    """Can a connection be opened, with its TLS handshake if there is one? Does the server say what it should?"""

    limit = MAX_WORDS

    def __init__(self, settings: CheckSettings, network: Network, clock: Clock) -> None:
        self._settings = settings
        self._network = network
        self._clock = clock

    async def run(self, server: Server) -> CheckResult | Unasked:
        settings, clock = self._settings, self._clock
        target = target_of(server.settings, settings)
        begun = clock.seconds()
        probe = Probe(self.limit)
        late: Timer | None = None
        try:
            await Dial(self._network, clock, target, probe, settings.patience).done
            late = clock.callLater(max(0.001, begun + settings.patience - clock.seconds()), probe.give_up)
            verdict = await self._judge(probe, target)
            ended = clock.seconds()
            if verdict.body is not None and late.active():
                late.reset(min(POLITE, max(0.001, begun + settings.patience - ended)))
                await _hear_out(probe, verdict.body, verdict.rest)
        except DialError as error:
            if error.local:
                return Unasked(error.detail)
            verdict, ended = Verdict(False, error.code, error.detail), clock.seconds()
        except (NoAnswer, BadMessage) as error:
            code = error.code if isinstance(error, NoAnswer) else "L7RSP"
            verdict, ended = Verdict(False, code, f"{error.why} {target.address}"), clock.seconds()
        finally:
            if late is not None and late.active():
                late.cancel()
            probe.close()
        return CheckResult(verdict.passed, verdict.code, verdict.detail, ended, ended - begun)

    async def _judge(self, probe: Probe, target: ServerSettings) -> Verdict:
        """Ask and listen, on an open connection. Raises NoAnswer, BadMessage."""
        if not self._settings.steps:
            return Verdict(True, "L4OK" if target.tls is None else "L6OK")
        heard, looked = b"", 0
        for step in self._settings.steps:
            if step.expect is None:
                heard = b""
                probe.write(step.send)
                continue
            while not find(step.expect, heard):
                looked += _effort(step.expect, heard)
                if looked > MAX_LOOKED:
                    raise NoAnswer("L7RSP", f"an answer in tiny pieces, without {shown(step.expect)}")
                try:
                    data = await probe.read()
                except NoAnswer as none:
                    raise NoAnswer(none.code, f"{none.why}: {_missing(step.expect, heard)}") from none
                if not data:
                    raise NoAnswer("L7RSP", f"connection closed: {_missing(step.expect, heard)}")
                heard += data
        return Verdict(True, "L7OK", shown(heard) if heard else "")


class HttpCheck(TcpCheck):
    """Does it answer a request with an expected status, and with an expected body?"""

    limit = MAX_ANSWER

    async def _judge(self, probe: Probe, target: ServerSettings) -> Verdict:
        settings = self._settings
        probe.write(self._question(target))
        head, rest = await _read_head(probe)
        response = parse_response(head, MAX_FIELDS, to_head=settings.method == "HEAD")
        status = response.status
        body = reader(response.length)
        if not any(low <= status <= high for low, high in settings.expect):
            verdict = Verdict(False, "L7STS", f"status {status}")
        elif settings.body is None:
            verdict = Verdict(True, "L7OK", f"status {status}")
        else:
            payload = await _read_body(probe, body, rest)
            rest = b""
            if find(settings.body, payload):
                verdict = Verdict(True, "L7OK", f"status {status}")
            else:
                verdict = Verdict(False, "L7RSP", f"status {status}, but {_missing(settings.body, payload)}")
        if not body.done:
            verdict.body, verdict.rest = body, rest
        return verdict

    def _question(self, target: ServerSettings) -> bytes:
        settings = self._settings
        given = {name.lower() for name, _ in settings.headers}
        lines = [f"{settings.method} {settings.path} HTTP/1.1", f"Host: {settings.host or target.address}"]
        ours = [("User-Agent", "lbservice-check"), ("Accept", "*/*"), ("Connection", "close")]
        if settings.method in ("POST", "PUT", "PATCH"):
            ours.append(("Content-Length", "0"))
        lines += [f"{name}: {value}" for name, value in ours if name.lower() not in given]
        lines += [f"{name}: {value}" for name, value in settings.headers]
        return "\r\n".join([*lines, "", ""]).encode()


def make(settings: CheckSettings, network: Network, clock: Clock) -> Check | None:
    """The check that a backend's `check = ...` asks for; None for `check = none`."""
    if settings.kind == "none":
        return None
    kind = HttpCheck if settings.kind == "http" else TcpCheck
    return kind(settings, network, clock)


def target_of(server: ServerSettings, check: CheckSettings) -> ServerSettings:
    """Where a check of this server connects to, and how.

    Another port is asked without TLS, as in HAProxy, unless the check itself is `tls`. A server that is not `tls`
    has no settings to verify its certificate by: then it is not verified.
    """
    via = server.check_via or check.via
    tls = server.tls if via is None or check.tls else None
    if check.tls and tls is None:
        name = _NAME.match(check.host or server.host)
        tls = ServerTls(verify=False, sni=None if name is None or isIPAddress(name[0]) else name[0])
    elif tls is not None and via is not None:
        tls = replace(tls, sni=tls.sni or server.host)
    return redirected(server, via, tls)


def redirected(server: ServerSettings, via: Via | None, tls: ServerTls | None) -> ServerSettings:
    """The server at another host or port, if there is one given, and with or without TLS."""
    host, port = via or (None, server.port)
    return replace(server, host=host or server.host, port=port, tls=tls)


async def _read_head(probe: Probe) -> tuple[bytes, bytes]:
    """The head of the answer, interim ones left out, and what has come behind it. Raises NoAnswer, BadMessage."""
    heard, seen, interim = b"", 0, 0
    while True:
        refuse_no_response(heard)
        end = cut_head(heard, MAX_HEAD, seen)
        if end > 0:
            if not heard.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
                return heard[:end], heard[end:]
            interim += 1
            if interim > MAX_INTERIM:
                raise BadMessage(502, f"more than {MAX_INTERIM} interim responses")
            heard, seen = heard[end:], 0
            continue
        seen = len(heard)
        data = await probe.read()
        if not data:
            raise NoAnswer("L7RSP", "connection closed without an answer")
        heard += data


async def _read_body(probe: Probe, body: Body, data: bytes) -> bytes:
    """As much of a body as is looked at; `data` has come already. Raises NoAnswer, BadMessage."""
    pieces: list[bytes] = []
    size = 0
    while not body.done:
        if data:
            pieces.append(body.feed(data))
            size += len(pieces[-1])
            if body.done or size >= MAX_BODY:
                break
        data = await probe.read()
        if not data:
            if isinstance(body, UntilCloseBody):
                body.done = True
                break
            raise NoAnswer("L7RSP", "the body broke off")
    return b"".join(pieces)[:MAX_BODY]


async def _hear_out(probe: Probe, body: Body, data: bytes) -> None:
    """Read what is left of a body, as far as it comes in time; `data` has come already."""
    try:
        body.feed(data)
        while not body.done and (data := await probe.read()):
            body.feed(data)
    except (NoAnswer, BadMessage):
        pass  # the verdict stands


def find(wanted: Expected, text: bytes) -> bool:
    """Is it somewhere in the text?"""
    return wanted in text if isinstance(wanted, bytes) else wanted.search(text[:MAX_MATCHED]) is not None


def _effort(wanted: Expected, text: bytes) -> int:
    """About what it took to find nothing, in bytes that were searched."""
    if isinstance(wanted, bytes):
        return len(text)
    return min(len(text), MAX_MATCHED) ** 2 // 16


def shown(text: Expected) -> str:
    """Bytes or a pattern for people: on one line, cut short, with nothing in it that a terminal would obey."""
    if not isinstance(text, bytes):
        return f"/{text.pattern.decode(errors='replace')}/"
    words = " ".join(text[: 4 * SHOWN].decode(errors="replace").split())
    cut = "..." if len(words) > SHOWN or len(text) > 4 * SHOWN else ""
    return "'" + "".join(letter if letter.isprintable() else "?" for letter in words[:SHOWN]) + cut + "'"


def _missing(wanted: Expected, text: bytes) -> str:
    return f"{shown(wanted)} expected, got {shown(text) if text else 'nothing'}"

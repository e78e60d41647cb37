"""Active checks: one question to one server, answered with a CheckResult and never with an exception."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from lbservice.core.clock import Clock
from lbservice.core.health import CheckResult
from lbservice.core.server import Server
from lbservice.core.settings import CheckSettings
from lbservice.proxy.dial import Dial, DialedProtocol, DialError
from lbservice.proxy.http_client import MAX_FIELDS, MAX_HEAD
from lbservice.proxy.transport import Network
from lbservice.wire.h1 import BadMessage, cut_head, parse_response


class Check(Protocol):
    """One way to ask a server how it is."""

    async def run(self, server: Server) -> CheckResult | None:
        """Ask once; the time it may take is the check's own. None when we could not even ask."""


class TcpCheck:
    """Can a connection be opened (and, to a TLS server, its handshake be made)?"""

    def __init__(self, settings: CheckSettings, network: Network, clock: Clock) -> None:
        self._settings = settings
        self._network = network
        self._clock = clock

    async def run(self, server: Server) -> CheckResult | None:
        start = self._clock.seconds()
        protocol = _Probe(b"")
        try:
            await Dial(self._network, self._clock, server.settings, protocol, self._settings.patience).done
        except DialError as error:
            return None if error.local else self._result(start, False, error.code, error.detail)
        protocol.close()
        code = "L4OK" if server.settings.tls is None else "L6OK"
        return self._result(start, True, code, "")

    def _result(self, start: float, passed: bool, code: str, detail: str) -> CheckResult:
        now = self._clock.seconds()
        return CheckResult(passed, code, detail, now, now - start)


class HttpCheck(TcpCheck):
    """Does it answer a request with an expected status?"""

    async def run(self, server: Server) -> CheckResult | None:
        settings, clock = self._settings, self._clock
        start = clock.seconds()
        host = settings.host or server.settings.address
        probe = _Probe(
            f"{settings.method} {settings.path} HTTP/1.1\r\nHost: {host}\r\n"
            "User-Agent: lbservice-check\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode()
        )
        try:
            await Dial(self._network, clock, server.settings, probe, settings.patience).done
        except DialError as error:
            probe.close()
            return None if error.local else self._result(start, False, error.code, error.detail)
        late = clock.callLater(max(0.001, settings.patience - (clock.seconds() - start)), probe.give_up)
        try:
            head = await probe.head
            response = parse_response(head, MAX_FIELDS, to_head=settings.method == "HEAD")
        except _NoAnswer as none:
            return self._result(start, False, none.code, f"{none} {server.settings.address}")
        except BadMessage as bad:
            return self._result(start, False, "L7RSP", f"{bad.why} {server.settings.address}")
        finally:
            if late.active():
                late.cancel()
            probe.close()
        status = response.status
        passed = any(low <= status <= high for low, high in settings.expect)
        return self._result(start, passed, "L7OK" if passed else "L7STS", f"status {status}")


def make(settings: CheckSettings, network: Network, clock: Clock) -> Check | None:
    """The check that a backend's `check = ...` asks for; None for `check = none`."""
    if settings.kind == "none":
        return None
    kind = HttpCheck if settings.kind == "http" else TcpCheck
    return kind(settings, network, clock)


class _NoAnswer(Exception):
    def __init__(self, code: str, words: str) -> None:
        self.code = code
        super().__init__(words)


class _Probe(DialedProtocol):
    """Sends a question and collects the answer's head, interim responses left out."""

    transport: Any

    def __init__(self, question: bytes) -> None:
        self.head: Deferred[bytes] = Deferred()
        self._question = question
        self._buffer = b""

    def connectionMade(self) -> None:
        super().connectionMade()
        if self._question:
            self.transport.write(self._question)

    def dataReceived(self, data: bytes) -> None:
        if self.head.called or not self._question:
            return
        self._buffer += data
        try:
            while (end := cut_head(self._buffer, MAX_HEAD)) > 0:
                head, self._buffer = self._buffer[:end], self._buffer[end:]
                if not head.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
                    self.head.callback(head)
                    return
        except BadMessage as bad:
            self.head.errback(bad)

    def give_up(self) -> None:
        """The answer has taken too long."""
        self._fail("L7TOUT", "no answer in time")

    def close(self) -> None:
        """The answer is known; the connection is of no use any more."""
        self._question = b""
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's own shape
        super().connectionLost(reason)
        if self._question:
            self._fail("L7RSP", "connection closed without an answer")

    def _fail(self, code: str, words: str) -> None:
        if not self.head.called:
            self.head.errback(_NoAnswer(code, words))

"""Those at the two ends: clients that talk to a frontend, and servers that answer, well or badly.

Both are `Peer`s: a connection that keeps what it has read and does what a script says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.wire import Address, MemoryNetwork


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """One end of a connection. `fate` is None while it is open, then "closed" or "reset" (by the other side)."""

    transport: Any

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self._inbox = bytearray()
        self.total = 0
        """Bytes received, also those that were taken."""
        self.eof = False
        """Has the other side finished sending?"""
        self.fate: str | None = None
        self._plans: list[Any] = []
        self.connected = False

    # -- what a test can do ---------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send, as far as the other side reads; the rest waits here."""
        self.transport.write(data)

    def finish(self) -> None:
        """Send no more, but go on reading."""
        self.transport.loseWriteConnection()

    def close(self) -> None:
        """An ordinary close."""
        self.transport.loseConnection()

    def abort(self) -> None:
        """A reset."""
        if self.fate is None and self.connected:
            self.transport.abortConnection()

    def stop_reading(self) -> None:
        """Let what comes pile up."""
        self.transport.pauseProducing()

    def read_on(self) -> None:
        """Read again."""
        self.transport.resumeProducing()

    @property
    def unsent(self) -> int:
        """Bytes that could not yet be handed to the network."""
        transport = self.transport
        return len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # type: ignore[no-any-return]

    @property
    def received(self) -> bytes:
        """What has come and was not taken yet."""
        return bytes(self._inbox)

    def take(self) -> bytes:
        """What has come since the last time."""
        data, self._inbox = self._inbox, bytearray()
        return bytes(data)

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something after a while, unless the connection has ended by then."""
        self._plans.append(self.network.clock.callLater(seconds, action))

    # -- from the reactor -----------------------------------------------------------------

    def connectionMade(self) -> None:
        self.connected = True

    def dataReceived(self, data: bytes) -> None:
        self._inbox += data
        self.total += len(data)

    def readConnectionLost(self) -> None:
        self.eof = True

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's own shape
        self.fate = "closed" if reason.check(ConnectionDone) else "reset"
        for plan in self._plans:
            if plan.active():
                plan.cancel()


class Client(Peer):
    """A client of a frontend. Closes when the other side does, as most do, unless `lingers`."""

    lingers = False

    def __init__(self, network: MemoryNetwork, to: Address, source: Address = ("198.51.100.7", 0)) -> None:
        super().__init__(network)
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda addr: self  # type: ignore[method-assign]
        network.connect(*to, factory, 60.0, source)
        network.run(network.latency)

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        if not self.lingers:
            self.close()

    def ask(self, data: bytes) -> bytes:
        """Send and let it be served; what came back."""
        self.send(data)
        self.network.run()
        return self.take()


Script = Callable[["Connection"], object]


class Connection(Peer):
    """A server's end of a connection; it splits what comes into requests and answers each."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(origin.network)
        self.origin = origin
        self.answered = 0
        self.request = b""
        """What is being answered: a whole request, or, for an `early` origin, what of it has come."""
        self._early = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self.origin.connections.append(self)
        if self.origin.greeting:
            self.send(self.origin.greeting)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        origin = self.origin
        while self._inbox and not origin.raw:
            if origin.early and not self._early and b"\r\n\r\n" in self._inbox:
                self._early = True
                self._answer(bytes(self._inbox))
            size = request_size(self._inbox)
            if size < 0:
                break
            origin.requests.append(bytes(self._inbox[:size]))
            del self._inbox[:size]
            if not self._early:
                self._answer(origin.requests[-1])
            self._early = False

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        if not self.origin.raw:
            self.close()

    def _answer(self, request: bytes) -> None:
        origin = self.origin
        self.request = request
        answer = origin.answers[min(origin.answered, len(origin.answers) - 1)]
        origin.answered += 1
        self.answered += 1
        if isinstance(answer, bytes):
            self.send(answer)
        else:
            answer(self)


class Origin(ServerFactory):
    """A server: gives each request the next of `answers`, the last one for ever.

    An answer is bytes or a script. `early`: it answers when the head is there, not the whole
    request. `raw`: it answers nothing by itself, and closes only when told.
    """

    noisy = False

    def __init__(
        self,
        network: MemoryNetwork,
        address: Address,
        *answers: bytes | Script,
        early: bool = False,
        raw: bool = False,
        greeting: bytes = b"",
    ) -> None:
        self.network = network
        self.address = address
        self.answers = answers or (OK,)
        self.answered = 0
        self.early = early
        self.raw = raw
        self.greeting = greeting
        self.requests: list[bytes] = []
        self.connections: list[Connection] = []
        self.port = network.listen(*address, self)

    def buildProtocol(self, addr: Any) -> Protocol:
        return Connection(self)

    @property
    def last(self) -> Connection:
        """The newest connection."""
        return self.connections[-1]

    @property
    def open(self) -> int:
        """How many connections the other side has neither closed nor finished."""
        return sum(connection.fate is None and not connection.eof for connection in self.connections)

    def gone(self) -> None:
        """Stop listening and reset every connection."""
        self.port.stopListening()
        for connection in self.connections:
            connection.abort()


# -- answers ---------------------------------------------------------------------------------


def answer(body: bytes = b"hello", *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole response with Content-Length."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


OK = answer()


def hang(connection: Connection) -> None:
    """Say nothing."""


def die(connection: Connection) -> None:
    """Reset the connection."""
    connection.abort()


def leave(connection: Connection) -> None:
    """Close without an answer."""
    connection.close()


def then_close(data: bytes) -> Script:
    """Answer, then close."""

    def script(connection: Connection) -> None:
        connection.send(data)
        connection.close()

    return script


def then_die(data: bytes, after: float = 0.1) -> Script:
    """Answer, and `after` seconds reset."""

    def script(connection: Connection) -> None:
        connection.send(data)
        connection.later(after, connection.abort)

    return script


def wait(seconds: float, data: bytes = OK) -> Script:
    """Answer after a while."""
    return lambda connection: connection.later(seconds, lambda: connection.send(data))


def dribble(data: bytes, size: int, every: float) -> Script:
    """Answer `size` bytes at a time."""

    def script(connection: Connection) -> None:
        for number, at in enumerate(range(0, len(data), size)):
            piece = data[at : at + size]
            connection.later(number * every, lambda piece=piece: connection.send(piece))  # type: ignore[misc]

    return script


# -- reading HTTP, simply --------------------------------------------------------------------


def request_size(data: bytes | bytearray) -> int:
    """How long the request at the start of `data` is; -1 while it is incomplete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return -1
    head, size = data[: end + 4].lower(), end + 4
    if b"\r\ntransfer-encoding: chunked\r\n" in head:
        return -1 if (size := _chunks(data, size)[1]) < 0 else size
    match = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
    size += int(match[1]) if match else 0
    return size if len(data) >= size else -1


def _chunks(data: bytes | bytearray, at: int) -> tuple[bytes, int]:
    """The payload of the chunks at `at`, and where they end; -1 when they do not."""
    payload = b""
    while (line := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line], 16)
        if len(data) < line + 2 + size + 2:
            break
        payload += data[line + 2 : line + 2 + size]
        at = line + 2 + size + 2
        if not size:
            return payload, at
    return payload, -1


@dataclass
class Answer:
    """One response as a client sees it."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    whole: bool
    """Has its end come, as its framing says?"""

    def __getitem__(self, name: str) -> str:
        """The value of a field that is there exactly once."""
        (value,) = self.all(name)
        return value

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return [value for key, value in self.fields if key.lower() == name.lower()]


def responses(data: bytes, *, to_head: bool = False) -> list[Answer]:
    """The responses in a client's bytes."""
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"half a head: {head!r}"
        line, *lines = head.decode("latin-1").split("\r\n")
        version, code, _ = line.split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [field.split(":", 1) for field in lines]
        this = Answer(int(code), [(name, value.strip()) for name, value in pairs], b"", True)
        found.append(this)
        if to_head or this.status < 200 or this.status in (204, 304):
            continue
        if this.all("Transfer-Encoding"):
            assert this["Transfer-Encoding"] == "chunked"
            assert not this.all("Content-Length")
            this.body, size = _chunks(data, 0)
            this.whole = size >= 0
            data = data[size:] if size >= 0 else b""
        elif lengths := this.all("Content-Length"):
            (length,) = map(int, lengths)
            this.body, data = data[:length], data[length:]
            this.whole = len(this.body) == length
        else:
            this.body, data = data, b""
    return found


def response(data: bytes, *, to_head: bool = False) -> Answer:
    """The only response."""
    (only,) = responses(data, to_head=to_head)
    return only


def fields_of(request: bytes) -> list[tuple[str, str]]:
    """The field lines of a request, in their order."""
    head = request.partition(b"\r\n\r\n")[0].decode("latin-1")
    pairs = [line.split(":", 1) for line in head.split("\r\n")[1:]]
    return [(name, value.strip()) for name, value in pairs]


def field(request: bytes, name: str) -> str | None:
    """A field of a request that is there once, or None."""
    values = [value for key, value in fields_of(request) if key.lower() == name.lower()]
    assert len(values) < 2, f"{name} is there {len(values)} times"
    return values[0] if values else None


def body_of(request: bytes) -> bytes:
    """The body of a whole request, without chunk lines."""
    head, _, body = request.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" in head.lower():
        return _chunks(body, 0)[0]
    return body

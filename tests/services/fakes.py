"""A network, a check and a log reader that behave like the real ones, on a clock that stands until it is moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, capturedLogs
from twisted.python.failure import Failure

from lbservice.core.health import CheckResult
from lbservice.core.server import Server
from lbservice.proxy.transport import Network

STEP = 1 / 16
"""Seconds; a power of two, so that times can be compared exactly."""


def pass_time(clock: Clock, seconds: float) -> None:
    """Let so much time pass, in small steps; first comes what is due now."""
    clock.pump([0, *[STEP] * round(seconds / STEP)])


@contextmanager
def heard(*names: str | None) -> Iterator[list[LogEvent]]:
    """The events of these names (None: without a name) that are logged meanwhile; filled in at the end."""
    events: list[LogEvent] = []
    with capturedLogs() as logged:
        yield events
    events += [event for event in logged if event.get("event") in names]


class MiddlingRandom(Random):
    """Chance that never leans to either side."""

    def random(self) -> float:
        return 0.5


class FakeCheck:
    """`passes` says how a server does, `takes` how long it thinks; `begun` holds when it was asked."""

    def __init__(self, clock: Clock, *, passes: bool = True, takes: float = 0.0) -> None:
        self.passes = passes
        self.takes = takes
        self.begun: list[float] = []
        self.running = 0
        self.most_running = 0
        self._clock = clock

    async def run(self, server: Server) -> CheckResult:
        begun = self._clock.seconds()
        self.begun.append(begun)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        if self.takes:
            await deferLater(cast(IReactorTime, self._clock), self.takes)
        self.running -= 1
        now = self._clock.seconds()
        return CheckResult(self.passes, "L4OK" if self.passes else "L4CON", "", now, now - begun)


class FakePort:
    def __init__(self, network: FakeNetwork, address: tuple[str, int]) -> None:
        self._network = network
        self._address = address

    def startReading(self) -> None:
        """It always reads."""

    def empty(self) -> None:
        """Nobody waits."""

    def stopListening(self) -> Deferred[None]:
        del self._network.listening[self._address]
        return succeed(None)


class FakeConnector:
    def __init__(self) -> None:
        self.wanted = True

    def disconnect(self) -> None:
        self.wanted = False


class FakeTransport(StringTransport):
    """What a server has been sent is in `value()`; `answer` is what it sends back."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self._protocol = protocol

    def answer(self, data: bytes) -> None:
        self._protocol.dataReceived(data)


class FakeNetwork(Network):
    """Connections to an address in `alive` are made, to one in `silent` never answered, others refused."""

    DELAY = STEP

    def __init__(self, clock: Clock) -> None:
        self.alive: set[tuple[str, int]] = set()
        self.silent: set[tuple[str, int]] = set()
        self.taken: set[tuple[str, int]] = set()
        self.listening: dict[tuple[str, int], IProtocolFactory] = {}
        self.dialled: list[tuple[float, tuple[str, int]]] = []
        self.connections: list[FakeTransport] = []
        self._clock = clock

    def listen(self, host: str, port: int, factory: IProtocolFactory, door: Any = None) -> IListeningPort:
        if (host, port) in self.taken:
            raise CannotListenError(host, port, OSError(98, "Address already in use"))
        self.listening[host, port] = factory
        return FakePort(self, (host, port))  # type: ignore[return-value] # as much of one as is asked for

    def connect(self, host: str, port: int, factory: Any, timeout: float) -> FakeConnector:
        connector = FakeConnector()
        self.dialled.append((self._clock.seconds(), (host, port)))
        if (host, port) not in self.silent:
            self._clock.callLater(self.DELAY, self._decide, (host, port), factory, connector)
        return connector

    def _decide(self, address: tuple[str, int], factory: Any, connector: FakeConnector) -> None:
        if not connector.wanted:
            return
        if address not in self.alive:
            factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
            return
        protocol = factory.buildProtocol(None)
        self.connections.append(FakeTransport(protocol))
        protocol.makeConnection(self.connections[-1])

    def dials_of(self, port: int) -> Sequence[float]:
        """When that port was dialled."""
        return [when for when, address in self.dialled if address[1] == port]

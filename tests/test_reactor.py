"""The one loop of ours in the epoll reactor."""

from __future__ import annotations

from collections.abc import Iterator
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import CONNECTION_LOST
from twisted.python.failure import Failure

from lbservice.reactor import use_direct_dispatch


class FakeTransport:
    """Is read once, and has been reset."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def fileno(self) -> int:
        return 99

    def doRead(self) -> Any:
        self.heard.append("doRead")
        return CONNECTION_LOST

    def doWrite(self) -> Any:
        self.heard.append("doWrite")

    def connectionLost(self, reason: Failure) -> None:
        self.heard.append(f"lost: {type(reason.value).__name__}")

    def readConnectionLost(self, reason: Failure) -> None:
        self.heard.append("a clean end")


class FakePoller:
    """Tells what it is told, once."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        events, self.events = self.events, []
        return events

    def register(self, *ignored: object) -> None:
        pass

    modify = unregister = register


@pytest.fixture
def reactor() -> Iterator[Any]:
    reactor: Any = EPollReactor()
    real, reactor._poller = reactor._poller, FakePoller()
    use_direct_dispatch(reactor)
    yield reactor
    reactor.removeAll()
    reactor.waker.connectionLost(Failure(CONNECTION_LOST))
    real.close()


@pytest.mark.parametrize("event", [EPOLLERR, EPOLLHUP, EPOLLERR | EPOLLHUP, EPOLLIN | EPOLLERR | EPOLLHUP])
def test_a_connection_in_trouble_is_read_to_find_out_which(reactor: Any, event: int) -> None:
    transport = FakeTransport()
    reactor.addReader(transport)
    reactor._poller.events = [(99, event)]
    reactor.doIteration(0)
    assert transport.heard == ["doRead", "lost: ConnectionLost"]


def test_one_that_is_only_written_to_is_lost(reactor: Any) -> None:
    transport = FakeTransport()
    reactor.addWriter(transport)
    reactor._poller.events = [(99, EPOLLOUT | EPOLLERR | EPOLLHUP)]
    reactor.doIteration(0)
    assert transport.heard == ["lost: ConnectionLost"]

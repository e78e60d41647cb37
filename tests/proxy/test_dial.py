"""One attempt to connect to a server: it ends exactly once, and leaves nothing behind."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from lbservice.core.settings import ServerSettings, ServerTls
from lbservice.proxy.dial import Dial, DialedProtocol, DialError
from tests.support.actors import Origin
from tests.support.wire import MemoryNetwork

HERE = ("10.0.0.1", 8000)


class Attempt:
    """A dial, and what came of it."""

    def __init__(self, network: MemoryNetwork, tls: ServerTls | None = None, host: str = HERE[0]) -> None:
        self.protocol = DialedProtocol()
        self.results: list[object] = []
        settings = ServerSettings("s1", host, HERE[1], tls=tls)
        self.dial = Dial(network, network.clock, settings, self.protocol, 5.0)
        self.dial.done.addBoth(self.results.append)

    @property
    def error(self) -> DialError:
        (result,) = self.results
        assert isinstance(result, Failure)
        assert isinstance(result.value, DialError)
        return result.value


@pytest.fixture
def network() -> Iterator[MemoryNetwork]:
    network = MemoryNetwork(Clock())
    yield network
    network.run()
    assert [skt for skt in network.sockets if skt.remote == HERE] == [], "a connection is left"
    assert network.clock.getDelayedCalls() == []


def test_it_connects(network: MemoryNetwork) -> None:
    origin = Origin(network, HERE)
    attempt = Attempt(network)
    assert attempt.results == []
    network.run()
    assert (attempt.results, attempt.protocol.dial, origin.open) == ([None], None, 1)
    assert network.clock.getDelayedCalls() == []
    attempt.protocol.transport.abortConnection()


def test_refused(network: MemoryNetwork) -> None:
    attempt = Attempt(network)
    network.run()
    assert str(attempt.error) == "L4CON connection refused 10.0.0.1:8000"
    assert not attempt.error.timed_out


def test_it_takes_too_long(network: MemoryNetwork) -> None:
    network.blackholes.add(HERE)
    attempt = Attempt(network)
    network.run(4.9)
    assert attempt.results == []
    network.run(0.2)
    assert str(attempt.error) == "L4TOUT connection timed out after 5s 10.0.0.1:8000"
    assert attempt.error.timed_out


def test_the_kernel_gives_up_first(network: MemoryNetwork) -> None:
    network.failures[HERE] = errno.ETIMEDOUT
    attempt = Attempt(network)
    network.run()
    assert (attempt.error.code, attempt.error.timed_out) == ("L4TOUT", True)


def test_no_route(network: MemoryNetwork) -> None:
    network.failures[HERE] = errno.EHOSTUNREACH
    attempt = Attempt(network)
    network.run()
    assert attempt.error.code == "L4CON"
    assert "10.0.0.1:8000" in str(attempt.error)
    assert "oute" in str(attempt.error)


def test_a_name_that_nobody_knows(network: MemoryNetwork) -> None:
    attempt = Attempt(network, host="app.example")
    network.run()
    assert attempt.error.code == "L4CON"
    assert "app.example" in str(attempt.error)


def test_a_name_is_looked_up(network: MemoryNetwork) -> None:
    network.names["app.example"] = HERE[0]
    Origin(network, HERE)
    attempt = Attempt(network, host="app.example")
    network.run()
    assert attempt.results == [None]
    attempt.protocol.transport.abortConnection()


def test_given_up_while_it_connects(network: MemoryNetwork) -> None:
    network.blackholes.add(HERE)
    attempt = Attempt(network)
    network.run(1)
    attempt.dial.done.cancel()
    network.run()
    (result,) = attempt.results
    assert isinstance(result, Failure)
    assert result.type is CancelledError, "the one who gives up must not take it for a server's failure"
    assert network.sockets == []


def test_given_up_in_the_moment_it_is_made(network: MemoryNetwork) -> None:
    Origin(network, HERE)
    attempt = Attempt(network)
    attempt.dial.done.cancel()
    (result,) = attempt.results
    assert isinstance(result, Failure)
    assert result.type is CancelledError


def test_given_up_in_the_middle_of_a_handshake(network: MemoryNetwork) -> None:
    Origin(network, HERE, raw=True)
    attempt = Attempt(network, ServerTls(verify=False))
    network.run(1)
    attempt.dial.done.cancel()
    network.run()
    (result,) = attempt.results
    assert isinstance(result, Failure)
    assert result.type is CancelledError


def test_a_handshake_that_takes_too_long(network: MemoryNetwork) -> None:
    Origin(network, HERE, raw=True)
    attempt = Attempt(network, ServerTls(verify=False))
    network.run(5.1)
    assert str(attempt.error) == "L6TOUT TLS handshake timed out after 5s 10.0.0.1:8000"


def test_a_server_that_speaks_no_tls(network: MemoryNetwork) -> None:
    Origin(network, HERE, raw=True, greeting=b"220 hello, this is no TLS\r\n")
    attempt = Attempt(network, ServerTls(verify=False))
    network.run(1)
    assert attempt.error.code == "L6RSP"


def test_a_server_that_closes_in_the_middle_of_a_handshake(network: MemoryNetwork) -> None:
    origin = Origin(network, HERE, raw=True)
    attempt = Attempt(network, ServerTls(verify=False))
    network.run(1)
    origin.last.abort()
    network.run()
    assert attempt.error.code == "L6RSP"


def test_a_certificate_file_that_cannot_be_read(network: MemoryNetwork) -> None:
    attempt = Attempt(network, ServerTls(ca="/nonexistent/ca.pem"))
    network.run()
    assert attempt.error.code == "L6RSP"

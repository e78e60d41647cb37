"""The in-memory network behaves like TCP between two Twisted transports."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    ConnectionRefusedError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import IConnector
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.support import wire
from tests.support.actors import Client, Origin
from tests.support.wire import MemoryNetwork

HERE = ("10.0.0.1", 80)


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork(Clock())


def pair(network: MemoryNetwork) -> tuple[Client, Any]:
    """Two connected ends that do nothing by themselves."""
    origin = Origin(network, HERE, raw=True)
    client = Client(network, HERE)
    client.lingers = True
    return client, origin.last


class Attempt(ClientFactory):
    noisy = False

    def __init__(self) -> None:
        self.failed: Failure | None = None

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self.failed = reason


def test_bytes_arrive_in_a_later_round(network: MemoryNetwork) -> None:
    client, server = pair(network)
    client.send(b"ping")
    assert not server.received
    network.run()
    assert server.received == b"ping"


def test_both_ends_know_each_other(network: MemoryNetwork) -> None:
    origin = Origin(network, HERE, raw=True)
    client = Client(network, HERE, ("198.51.100.9", 0))
    assert server_address(client) == ("10.0.0.1", 80)
    peer = origin.last.transport.getPeer()
    assert (peer.type, peer.host, peer.port) == ("TCP", "198.51.100.9", client.transport.getHost().port)
    assert origin.last.transport.getHost().port == 80


def server_address(client: Client) -> tuple[str, int]:
    peer = client.transport.getPeer()
    return peer.host, peer.port


def test_a_segment_bounds_what_one_read_returns(network: MemoryNetwork) -> None:
    client, server = pair(network)
    pieces: list[bytes] = []
    server.dataReceived = pieces.append
    network.segment = 2
    client.send(b"abcde")
    network.run()
    assert pieces == [b"ab", b"cd", b"e"]


def test_who_does_not_read_holds_the_sender_back(network: MemoryNetwork) -> None:
    client, server = pair(network)
    server.stop_reading()
    client.send(b"x" * 100_000)
    network.run()
    assert server.total == 0
    assert client.unsent == 100_000 - 65536
    server.read_on()
    network.run()
    assert (server.total, client.unsent) == (100_000, 0)


def test_a_producer_is_paused_above_64_kib_and_resumed_when_all_is_sent(network: MemoryNetwork) -> None:
    client, server = pair(network)
    calls: list[str] = []

    class Producer:
        def pauseProducing(self) -> None:
            calls.append("pause")

        def resumeProducing(self) -> None:
            calls.append("resume")

        def stopProducing(self) -> None:
            calls.append("stop")

    client.transport.registerProducer(Producer(), True)
    server.stop_reading()
    client.send(b"x" * 65536)  # the kernel takes it
    client.send(b"x" * 65536)  # full, but not above
    assert calls == []
    client.send(b"x")
    assert calls == ["pause"]
    server.read_on()
    network.run()
    assert calls == ["pause", "resume"]
    client.abort()
    network.run()
    assert calls == ["pause", "resume", "stop"]


def test_half_close_leaves_the_other_direction_open(network: MemoryNetwork) -> None:
    client, server = pair(network)
    client.send(b"question")
    client.finish()
    network.run()
    assert (server.received, server.eof, server.fate) == (b"question", True, None)
    server.send(b"answer")
    server.close()
    network.run()
    assert (client.received, client.eof, server.fate) == (b"answer", True, "closed")


def test_without_half_close_in_the_protocol_the_end_of_stream_ends_it(network: MemoryNetwork) -> None:
    lost: list[type[BaseException]] = []

    class Plain(Protocol):
        def connectionLost(self, reason: Failure = Failure(ConnectError())) -> None:  # noqa: B008 - Twisted's own shape
            lost.append(reason.type)  # type: ignore[arg-type]

    factory = ServerFactory.forProtocol(Plain)
    network.listen(*HERE, factory)
    client = Client(network, HERE)
    client.finish()
    network.run()
    assert [error.__name__ for error in lost] == ["ConnectionDone"]


def test_half_close_waits_for_what_is_queued(network: MemoryNetwork) -> None:
    client, server = pair(network)
    server.stop_reading()
    client.send(b"x" * 200_000)
    client.finish()
    network.run()
    assert not server.eof
    server.read_on()
    network.run()
    assert (server.total, server.eof) == (200_000, True)


def test_close_sends_what_is_queued_first(network: MemoryNetwork) -> None:
    client, server = pair(network)
    server.stop_reading()
    client.send(b"x" * 200_000)
    client.close()
    network.run()
    assert not server.eof
    server.read_on()
    network.run()
    assert (server.total, server.eof, client.fate) == (200_000, True, "closed")


def test_close_with_unread_bytes_resets_the_peer(network: MemoryNetwork) -> None:
    client, server = pair(network)
    server.stop_reading()
    client.send(b"unread")
    network.run()
    server.close()
    network.run()
    assert (server.fate, client.fate) == ("closed", "reset")


def test_abort_resets_the_peer_and_loses_what_it_has_not_read(network: MemoryNetwork) -> None:
    client, server = pair(network)
    server.stop_reading()
    client.send(b"lost")
    client.abort()
    network.run()
    server.read_on()
    network.run()
    assert (client.fate, server.fate, server.received) == ("reset", "reset", b"")


def test_sending_to_a_closed_peer_is_answered_by_a_reset(network: MemoryNetwork) -> None:
    client, server = pair(network)
    server.close()
    network.run()
    assert (client.eof, client.fate) == (True, None)
    client.send(b"too late")
    network.run()
    client.send(b"again")  # nobody reads here: only sending shows it
    network.run()
    assert client.fate == "reset"


def test_who_is_paused_does_not_notice_a_reset_until_it_reads(network: MemoryNetwork) -> None:
    client, server = pair(network)
    server.stop_reading()
    client.abort()
    network.run()
    assert server.fate is None
    server.read_on()
    network.run()
    assert server.fate == "reset"


def test_nobody_listening_is_refused(network: MemoryNetwork) -> None:
    attempt = Attempt()
    network.connect(*HERE, attempt, 5.0)
    assert attempt.failed is None
    network.run()
    assert attempt.failed is not None
    assert attempt.failed.type is ConnectionRefusedError


def test_connecting_can_fail_otherwise(network: MemoryNetwork) -> None:
    network.failures[HERE] = errno.ETIMEDOUT
    attempt, nameless = Attempt(), Attempt()
    network.connect(*HERE, attempt, 5.0)
    network.connect("app.example", 80, nameless, 5.0)
    network.run()
    assert attempt.failed is not None
    assert attempt.failed.type is TCPTimedOutError
    assert nameless.failed is not None
    assert nameless.failed.type is DNSLookupError


def test_a_blackhole_never_answers(network: MemoryNetwork) -> None:
    network.blackholes.add(HERE)
    attempt = Attempt()
    network.connect(*HERE, attempt, 5.0)
    network.run(4.9)
    assert attempt.failed is None
    network.run(0.2)
    assert attempt.failed is not None
    assert attempt.failed.type is TimeoutError
    assert network.sockets == []


def test_an_attempt_can_be_given_up(network: MemoryNetwork) -> None:
    network.blackholes.add(HERE)
    attempt = Attempt()
    network.connect(*HERE, attempt, 5.0).disconnect()
    assert attempt.failed is not None
    assert attempt.failed.type is UserError
    network.run()
    assert (network.sockets, network.clock.getDelayedCalls()) == ([], [])


def test_connections_wait_in_the_backlog_while_nobody_accepts(network: MemoryNetwork) -> None:
    origin = Origin(network, HERE, raw=True)
    origin.port.stopReading()
    client = Client(network, HERE)
    assert (client.connected, origin.connections) == (True, [])
    client.send(b"early")
    network.run()
    origin.port.startReading()
    network.run()
    assert origin.last.received == b"early"


def test_an_address_is_listened_on_once(network: MemoryNetwork) -> None:
    Origin(network, HERE)
    with pytest.raises(CannotListenError):
        Origin(network, HERE)


def test_an_exception_in_a_protocol_is_logged_and_costs_the_connection(
    network: MemoryNetwork, logged_errors: list[Any]
) -> None:
    client, server = pair(network)

    def confused(data: bytes) -> None:
        raise ZeroDivisionError

    server.dataReceived = confused
    client.send(b"x")
    network.run()
    assert server.fate == "reset"
    assert [event["failure"].type for event in logged_errors] == [ZeroDivisionError]
    logged_errors.clear()


def test_time_passes_timer_by_timer(network: MemoryNetwork) -> None:
    moments: list[float] = []
    network.clock.callLater(0.1, lambda: network.clock.callLater(0.2, lambda: moments.append(network.clock.seconds())))
    network.run(1.0)
    assert moments == [pytest.approx(0.3)]
    assert network.clock.seconds() == 1.0


def test_a_loop_that_never_ends_is_noticed(network: MemoryNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_ROUNDS", 1000)
    client, server = pair(network)
    client.dataReceived = client.send  # type: ignore[method-assign]
    server.dataReceived = server.send
    client.send(b"ping")
    with pytest.raises(AssertionError, match="never end"):
        network.run()

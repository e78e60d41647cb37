"""What is written within a turn of the reactor is sent at its end, once and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from lbservice.proxy.transport import outstanding
from lbservice.reactor import TURN
from tests.support.actors import Client
from tests.support.house import House

MakeHouse = Callable[..., House]


@pytest.fixture
def paths() -> str:
    """These tests open their turns themselves."""
    return "fast"


@pytest.fixture
def turn() -> Iterator[None]:
    """A turn that is open, and closed whatever happens."""
    TURN.open = True
    yield
    TURN.close()


def talking(make_house: MakeHouse) -> tuple[House, Client]:
    """A session, and the client that has said hello in it."""
    house = make_house(mode="tcp")
    house.origin(1, raw=True)
    client = house.client()
    client.send(b"hello")
    house.run()
    return house, client


def test_pieces_wait_and_go_out_together(house: House, turn: None) -> None:
    origin = house.origin(1, raw=True)
    transport = house.client().transport
    transport.write(b"GET / HTTP/1.1\r\n")
    transport.write(b"Host: a\r\n\r\n")
    house.run()
    assert (origin.connections, outstanding(transport)) == ([], 27)
    TURN.close()
    house.run()
    assert origin.last.take().startswith(b"GET / HTTP/1.1\r\n")
    assert outstanding(transport) == 0


def test_much_does_not_wait(house: House, turn: None) -> None:
    house.origin(1, raw=True)
    transport = house.client().transport
    transport.write(b"x" * (transport.bufferSize + 1))
    assert (transport.unflushed, TURN.waiting) == (b"", [transport])


def test_who_has_gone_meanwhile_sends_nothing(house: House, turn: None) -> None:
    client = house.client()
    client.transport.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    client.abort()
    house.run()
    TURN.close()
    house.run()
    assert house.log == []


@pytest.mark.parametrize("abort_first", [True, False])
def test_who_is_given_up_and_cut_off_in_one_turn_is_cut_off(make_house: MakeHouse, abort_first: bool) -> None:
    house, client = talking(make_house)
    TURN.open = True
    for cut_off in (True, False) if abort_first else (False, True):
        if cut_off:
            client.transport.abortConnection()
        else:
            client.transport.loseConnection()
    TURN.close()
    house.run()
    assert (house.origins[0].last.fate, house.endings) == ("reset", ["CD"])


def test_who_is_given_up_is_closed_at_the_end_of_the_turn_when_its_bytes_are_sent(make_house: MakeHouse) -> None:
    house, client = talking(make_house)
    TURN.open = True
    client.send(b", and bye")
    client.transport.loseConnection()
    assert client.fate is None
    TURN.close()
    assert client.fate == "closed"
    house.run()
    server = house.origins[0].last
    assert (server.take(), server.eof) == (b"hello, and bye", True)
    server.close()
    house.run()
    assert house.endings == ["--"]


def test_who_is_reset_before_the_end_of_the_turn_with_bytes_queued_is_left_alone(make_house: MakeHouse) -> None:
    house, client = talking(make_house)
    TURN.open = True
    client.transport._tempDataBuffer.append(b"more")
    client.transport._tempDataLen = 4
    client.transport.loseConnection()
    client.transport.connectionLost(Failure(ConnectionLost()))
    TURN.close()
    house.run()
    assert client.fate == "reset"
    house.origins[0].last.close()
    house.run()

"""What is written within a turn of the reactor is sent at its end, once and in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lbservice.proxy.transport import outstanding
from lbservice.reactor import TURN
from tests.support.house import House


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

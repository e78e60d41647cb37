"""Connections and requests that have ended leave nothing to the garbage collector, whose pauses everybody feels."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.support.house import House

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()
    gc.collect()


def left_over() -> Counter[str]:
    """What only the collector would find, of ours and of Twisted's, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    found = Counter(type(each).__name__ for each in gc.garbage if type(each).__module__.startswith(("lbs", "twisted")))
    gc.garbage.clear()
    return found


def fresh(house: House) -> None:
    house.client().send(CLOSE)
    house.run()


def kept(house: House) -> None:
    client = house.client()
    for _ in range(3):
        client.send(GET)
        house.run()
    client.close()
    house.run()


def left(house: House) -> None:
    client = house.client()
    client.send(GET)
    client.close()
    house.run()


def broken(house: House) -> None:
    client = house.client()
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    house.run(40)


def unplaced(house: House) -> None:
    for origin in house.origins:
        origin.port.stopListening()
    house.origins.clear()
    fresh(house)


@pytest.mark.parametrize("story", [fresh, kept, left, broken, unplaced])
@pytest.mark.usefixtures("no_collector")
def test_what_has_ended_is_no_garbage(house: House, story: Callable[[House], None]) -> None:
    house.origin()
    story(house)
    gc.collect()
    for _ in range(5):
        story(house)
    assert left_over() == Counter()

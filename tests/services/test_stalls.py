"""What is told of a reactor that stood still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from lbservice.services.stalls import BUSY, IDLE, Stalls
from lbservice.services.typed import Typed


class Reactor(Clock):
    """A clock that jumps: all that was due comes late."""

    def callWhenRunning(self, call: Any) -> None:
        call()

    def turns(self, seconds: float) -> None:
        """All is well for that long."""
        self.pump([BUSY / 4] * round(seconds / BUSY * 4))

    def stalls(self, seconds: float) -> None:
        self.rightNow += seconds
        self.advance(0)


class House:
    def __init__(self) -> None:
        self.reactor, self.typed, self.cpu = Reactor(), Typed(), 0.0
        self.stalls = Stalls(self.reactor, self.typed, lambda: self.cpu)
        self.stalls.startService()


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.stalls.stopService()
    assert house.reactor.getDelayedCalls() == []


def told(logged: Any) -> list[tuple[str, str, str]]:
    return [(event["log_level"].name, event["took"], event["typed"]) for event in logged if event["event"] == "stall"]


def test_a_reactor_that_turns_is_not_told_of(house: House) -> None:
    with capturedLogs() as logged:
        for _ in range(1000):
            house.reactor.advance(IDLE * 0.99)
    assert logged == []


def test_each_one_above_a_tenth_of_a_second_is_told_wherever_it_begins(house: House) -> None:
    for begins in range(1, 50):
        with capturedLogs() as logged:
            house.reactor.advance(begins / 1000)
            house.cpu += 0.11
            house.reactor.stalls(0.11)
            house.reactor.turns(1.5)
        assert told(logged), f"one that began {begins} ms after a look"
        low, high = map(int, told(logged)[0][1].split(" to "))
        assert low <= 110 <= high


def test_where_there_is_much_to_do_it_looks_more_closely(house: House) -> None:
    for seconds, expected in ((0.085, 0), (0.105, 1)):
        with capturedLogs() as logged:
            for _ in range(100):
                house.cpu += BUSY
                house.reactor.advance(BUSY)
            house.cpu += seconds
            house.reactor.stalls(seconds)
        assert len(told(logged)) == expected, told(logged)


def test_without_cpu_it_was_the_machine_and_is_no_warning(house: House) -> None:
    with capturedLogs() as logged:
        house.reactor.stalls(1)
        house.reactor.turns(1.5)
        house.cpu += 0.9
        house.reactor.stalls(1)
    assert [level for level, _, _ in told(logged)] == [LogLevel.info.name, LogLevel.warn.name]


def test_what_was_typed_is_told_with_its_own_time(house: House) -> None:
    house.typed._last = (0.25, "alice", "sum(range(10**8))")
    with capturedLogs() as logged:
        house.reactor.stalls(0.3)
    assert told(logged) == [("warn", "250", ": alice had typed: sum(range(10**8))")]


def test_something_short_that_was_typed_is_not_blamed(house: House) -> None:
    house.typed._last = (0.01, "alice", "lb.servers()")
    with capturedLogs() as logged:
        house.reactor.stalls(0.3)
    assert told(logged) == [("info", "250 to 300", "")]


def test_many_of_them_are_a_line_a_second(house: House) -> None:
    with capturedLogs() as logged:
        for _ in range(10):
            house.reactor.stalls(0.25)
    assert 2 <= len(told(logged)) <= 3
    assert sum(event["more"] != "" for event in logged) == len(told(logged)) - 1

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from lbservice.services.collector import FREEZE, FULL, Collector

EVERYTHING = ["unfreeze", "collect 2", "freeze"]
THE_YOUNG = ["collect 0", "freeze"]


class FakeCollecting:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def collect(self, generation: int = 2) -> int:
        self.told.append(f"collect {generation}")
        return 0

    def freeze(self) -> None:
        self.told.append("freeze")

    def unfreeze(self) -> None:
        self.told.append("unfreeze")

    def take(self) -> list[str]:
        told, self.told = self.told, []
        return told


class Playground:
    def __init__(self) -> None:
        self.clock = Clock()
        self.gc = FakeCollecting()
        self.in_flight = 0
        self.collector = Collector(self.clock, lambda: self.in_flight, self.gc)
        self.collector.startService()

    def wait(self, seconds: float) -> list[str]:
        """What the collector was told in this time."""
        self.gc.take()
        self.clock.pump([FREEZE] * round(seconds / FREEZE))
        return self.gc.take()


@pytest.fixture
def playground() -> Iterator[Playground]:
    playground = Playground()
    yield playground
    playground.collector.stopService()
    assert playground.clock.getDelayedCalls() == []


def test_what_is_there_at_the_start_is_frozen(playground: Playground) -> None:
    assert playground.gc.take() == EVERYTHING


def test_from_then_on_what_has_lived_for_a_while(playground: Playground) -> None:
    assert playground.wait(3 * FREEZE) == 3 * THE_YOUNG


def test_now_and_then_everything_is_looked_at(playground: Playground) -> None:
    playground.wait(FULL - FREEZE)
    assert playground.wait(2 * FREEZE) == EVERYTHING + THE_YOUNG
    playground.wait(FULL - 2 * FREEZE)
    assert playground.wait(FREEZE) == EVERYTHING


def test_but_not_while_somebody_would_wait_for_it(playground: Playground) -> None:
    playground.in_flight = 3
    assert "unfreeze" not in playground.wait(2 * FULL - FREEZE)
    playground.in_flight = 0
    assert playground.wait(FREEZE) == EVERYTHING


def test_unless_that_never_ends(playground: Playground) -> None:
    playground.in_flight = 3
    playground.wait(2 * FULL - FREEZE)
    assert playground.wait(FREEZE) == EVERYTHING

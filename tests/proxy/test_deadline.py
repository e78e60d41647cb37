"""One timer, moved a thousand times."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from lbservice.proxy.deadline import Deadline


class Watch:
    """A deadline and the moments at which it passed."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.passed: list[float] = []
        self.deadline = Deadline(self.clock, lambda: self.passed.append(self.clock.seconds()))

    def set(self, seconds: float) -> None:
        self.deadline.set(self.clock.seconds(), seconds)

    @property
    def timers(self) -> int:
        return len(self.clock.getDelayedCalls())


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_it_passes_once(watch: Watch) -> None:
    watch.set(5)
    watch.clock.pump([4.9, 0.1, 100])
    assert (watch.passed, watch.timers) == ([5.0], 0)


def test_never_set_it_never_passes(watch: Watch) -> None:
    watch.clock.advance(1000)
    assert (watch.passed, watch.timers) == ([], 0)


def test_moved_later_it_passes_then(watch: Watch) -> None:
    watch.set(5)
    watch.clock.advance(4)
    watch.set(5)
    watch.clock.pump([1, 3])
    assert watch.passed == []
    watch.clock.advance(1)
    assert watch.passed == [9.0]


def test_moved_earlier_it_passes_then(watch: Watch) -> None:
    watch.set(30)
    watch.set(2)
    watch.clock.advance(2)
    assert watch.passed == [2.0]


def test_earlier_then_later_counts_the_last(watch: Watch) -> None:
    watch.set(30)
    watch.set(2)
    watch.set(10)
    watch.clock.pump([2, 7.5])
    assert watch.passed == []
    watch.clock.advance(0.5)
    assert watch.passed == [10.0]


def test_many_moves_keep_one_timer(watch: Watch) -> None:
    for _ in range(1000):
        watch.set(30)
        watch.clock.advance(0.1)
    assert (watch.timers, watch.passed) == (1, [])


def test_it_can_be_set_again_when_it_has_passed(watch: Watch) -> None:
    watch.set(1)
    watch.clock.advance(1)
    watch.set(1)
    watch.clock.advance(1)
    assert watch.passed == [1.0, 2.0]


def test_it_can_be_set_again_while_it_passes() -> None:
    clock = Clock()
    moments: list[float] = []

    def passed() -> None:
        moments.append(clock.seconds())
        if len(moments) < 3:
            deadline.set(clock.seconds(), 2)

    deadline = Deadline(clock, passed)
    deadline.set(0, 2)
    clock.pump([1] * 10)
    assert moments == [2.0, 4.0, 6.0]


def test_closed_it_never_passes_and_holds_no_timer(watch: Watch) -> None:
    watch.set(5)
    watch.deadline.close()
    watch.set(5)
    watch.deadline.close()
    watch.clock.advance(10)
    assert (watch.passed, watch.timers) == ([], 0)


def test_it_can_be_closed_while_it_passes() -> None:
    clock = Clock()
    deadline = Deadline(clock, lambda: deadline.close())
    deadline.set(0, 1)
    clock.advance(1)
    assert clock.getDelayedCalls() == []

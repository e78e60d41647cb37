"""Patience with peers that bring and take slowly."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from lbservice.proxy.pace import MIN_RATE, RATE_AFTER, Intake, Uptake


class TestIntake:
    def test_nothing_may_come_for_so_long(self) -> None:
        intake = Intake(100.0, timeout=5.0)
        assert intake.due == 105.0

    def test_what_comes_buys_time_from_then_on(self) -> None:
        intake = Intake(100.0, timeout=5.0)
        intake.came(10_000, 104.0)
        assert intake.due == 109.0

    @pytest.mark.parametrize("size", [1, 999, 1000])
    def test_up_to_ten_seconds_a_trickle_will_do_and_no_longer(self, size: int) -> None:
        intake = Intake(100.0, timeout=30.0)
        intake.came(size, 109.0)
        assert intake.due == 100.0 + RATE_AFTER

    def test_then_the_average_counts(self) -> None:
        intake = Intake(100.0, timeout=30.0)
        intake.came(2000, 109.0)
        assert intake.due == 100.0 + 2000 / MIN_RATE

    def test_the_first_byte_may_have_a_bound_of_its_own(self) -> None:
        intake = Intake(100.0, timeout=30.0, first=3.0)
        assert intake.due == 103.0
        intake.came(1, 102.0)
        assert intake.due == 100.0 + RATE_AFTER

    def test_the_past_can_be_forgotten(self) -> None:
        intake = Intake(100.0, timeout=30.0, first=3.0)
        intake.restart(200.0)
        assert intake.due == 203.0


class Pile:
    """As much of a transport as tells what is left."""

    def __init__(self, size: int) -> None:
        self.dataBuffer: bytes = bytes(size)


class TestUptake:
    def look(self, before: int, after: int, seconds: float = 10.0, **how: Any) -> bool:
        pile = Pile(before)
        uptake = Uptake(pile, 100.0, 10.0, **how)
        pile.dataBuffer = bytes(after)
        return uptake.stalls(100.0 + seconds)

    def test_it_is_not_judged_before_its_time(self) -> None:
        assert not self.look(50_000, 50_000, 9.9)

    def test_who_takes_nothing_stalls(self) -> None:
        assert self.look(50_000, 50_000)

    def test_who_takes_enough_does_not(self) -> None:
        assert not self.look(50_000, 50_000 - 10 * MIN_RATE)

    def test_who_takes_less_does(self) -> None:
        assert self.look(50_000, 50_001 - 10 * MIN_RATE)

    def test_a_late_look_asks_for_more(self) -> None:
        assert self.look(50_000, 50_000 - 10 * MIN_RATE, 20.0)

    def test_the_last_bytes_are_enough_however_few(self) -> None:
        assert not self.look(3, 0)

    def test_without_a_rate_a_byte_will_do(self) -> None:
        assert not self.look(50_000, 49_999, rate=0)
        assert self.look(50_000, 50_000, rate=0)

    def test_each_look_is_compared_with_the_one_before(self) -> None:
        pile = Pile(50_000)
        uptake = Uptake(pile, 100.0, 10.0)
        pile.dataBuffer = bytes(40_000)
        assert not uptake.stalls(110.0)
        assert uptake.due == 120.0
        assert uptake.stalls(120.0)


def test_there_is_patience_without_end_only_where_it_is_asked_for() -> None:
    assert Intake(0.0, timeout=inf).due == RATE_AFTER

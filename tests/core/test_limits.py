from __future__ import annotations

from random import Random

import pytest

from lbservice.core.limits import RateLimit


def test_a_burst_at_once_and_then_the_rate() -> None:
    limit = RateLimit(2.0, 3)
    assert [limit.wait("a", 0.0) for _ in range(3)] == [0.0] * 3
    assert limit.wait("a", 0.0) == pytest.approx(0.5)
    assert limit.wait("a", 0.4) == pytest.approx(0.1)
    assert limit.wait("a", 0.5) == 0.0
    assert limit.wait("a", 0.5) == pytest.approx(0.5)


def test_who_waits_long_enough_has_a_whole_burst_again_and_no_more() -> None:
    limit = RateLimit(1.0, 2)
    for start in (0.0, 100.0):
        assert [bool(limit.wait("a", start)) for _ in range(3)] == [False, False, True]


def test_being_refused_costs_nothing() -> None:
    limit = RateLimit(1.0, 1)
    limit.wait("a", 0.0)
    for _ in range(100):
        assert limit.wait("a", 0.5) == pytest.approx(0.5)
    assert limit.wait("a", 1.0) == 0.0


def test_each_key_has_its_own() -> None:
    limit = RateLimit(1.0, 1)
    assert limit.wait("a", 0.0) == 0.0
    assert limit.wait("b", 0.0) == 0.0
    assert limit.wait("a", 0.0) > 0


@pytest.mark.parametrize(("rate", "burst"), [(10.0, 1), (10.0, 20), (0.5, 3)])
def test_over_a_long_time_it_is_the_rate(rate: float, burst: int) -> None:
    limit, random, now, taken = RateLimit(rate, burst), Random(1), 0.0, 0
    while now < 1000.0:
        taken += limit.wait("a", now) == 0.0
        now += random.expovariate(rate * 2)
    assert burst == 1 or 0.95 * rate * 1000 <= taken + burst
    assert taken <= rate * 1000 + burst + 1


class TestMemory:
    def test_it_is_bounded(self) -> None:
        limit = RateLimit(1.0, 1, most=100, slots=8)
        for number in range(1000):
            limit.wait(number, 0.0)
            assert len(limit) <= 100

    def test_who_is_forgotten_still_owes(self) -> None:
        limit = RateLimit(1.0, 5, most=10, slots=4)
        for _ in range(5):
            limit.wait("greedy", 0.0)
        assert limit.wait("greedy", 0.0) > 0
        for number in range(100):  # others, so that it is forgotten
            limit.wait(f"other {number}", 0.0)
        assert limit.wait("greedy", 0.0) > 0
        assert limit.wait("greedy", 1.0) == 0.0

    def test_who_is_remembered_keeps_his_bucket_whoever_comes(self) -> None:
        limit = RateLimit(1.0, 5, most=10, slots=1)
        for number in range(100):
            limit.wait(number, 0.0)
            assert limit.wait("regular", number * 1.0) == 0.0

    def test_who_owes_nothing_is_forgotten_without_a_trace(self) -> None:
        limit = RateLimit(1.0, 2, most=1, slots=1)
        for number in range(100):
            assert limit.wait(number, number * 10.0) == 0.0
            assert limit.wait(number, number * 10.0) == 0.0

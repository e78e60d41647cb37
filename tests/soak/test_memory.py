"""The soak's own judgement of memory: growth is seen, noise is not taken for it."""

from __future__ import annotations

from random import Random

import pytest

from tests.soak.memory import MIB, Growth, Sample, slope


def samples(seconds: int, per_ten_minutes: float, seed: int) -> list[Sample]:
    """Memory that grows by so many MiB in 10 minutes, and is up to half a MiB more for a while now and then."""
    chance = Random(seed)
    noise, line = 0.0, []
    for second in range(seconds):
        if chance.random() < 0.05:
            noise = chance.uniform(0, 0.5)
        line.append((float(second), (50 + noise + per_ten_minutes * second / 600) * MIB))
    return line


def test_the_slope_of_a_line_is_its_own() -> None:
    assert slope([(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]) == pytest.approx(2.0)


def test_half_an_hour_shows_a_mebibyte_and_a_half_in_ten_minutes_but_not_a_half() -> None:
    window = 21 * 60
    for seed in range(50):
        assert not Growth.of(samples(window, 1.5, seed), 1).good
        assert Growth.of(samples(window, 0.5, seed), 1).good


def test_two_minutes_show_a_hundred_bytes_a_request_but_take_no_noise_for_growth() -> None:
    window, requests = 84, 84 * 500
    leak = 100 * requests / window * 600 / MIB
    for seed in range(50):
        assert not Growth.of(samples(window, leak, seed), requests).good
        assert Growth.of(samples(window, 0.0, seed), requests).good

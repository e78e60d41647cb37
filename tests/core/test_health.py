from __future__ import annotations

import pytest

from lbservice.core.health import CheckResult, Health
from tests.core.build import failed, passed


def settled(*, up: bool = True, rise: int = 2, fall: int = 3) -> Health:
    """A health that has been checked before."""
    health = Health(rise=rise, fall=fall, up=up)
    health.observe(passed() if up else failed())
    return health


class TestTheFirstResult:
    """A new server is in doubt: one result decides."""

    def test_a_server_taken_for_up_is_down_at_once_when_its_first_check_fails(self) -> None:
        health = Health()
        assert health.up
        assert health.transition
        assert health.word == "UP 1/3"
        assert health.observe(failed())
        assert not health.up

    def test_a_server_taken_for_down_is_up_at_once_when_its_first_check_passes(self) -> None:
        health = Health(up=False)
        assert health.word == "DOWN 1/2"
        assert health.observe(passed())
        assert health.up

    def test_a_first_result_that_agrees_ends_the_doubt(self) -> None:
        up, down = Health(), Health(up=False)
        assert not up.observe(passed())
        assert not down.observe(failed())
        assert (up.word, down.word) == ("UP", "DOWN")
        assert not up.observe(failed()), "from now on fall counts"
        assert not down.observe(passed()), "from now on rise counts"

    def test_before_it_nothing_is_known(self) -> None:
        assert Health().reason == "not checked yet"
        assert not Health().history


class TestRiseAndFall:
    """So many results in a row change the state, and no fewer."""

    def test_three_failures_in_a_row_and_it_is_down(self) -> None:
        health = settled()
        assert [health.observe(failed()) for _ in range(3)] == [False, False, True]
        assert not health.up

    def test_two_successes_in_a_row_and_it_is_up_again(self) -> None:
        health = settled(up=False)
        assert [health.observe(passed()) for _ in range(2)] == [False, True]
        assert health.up

    def test_one_success_between_failures_starts_the_count_again(self) -> None:
        health = settled()
        for result in (failed(), failed(), passed(), failed(), failed()):
            assert not health.observe(result)
        assert health.up
        assert health.observe(failed())

    def test_one_failure_between_successes_starts_the_count_again(self) -> None:
        health = settled(up=False)
        for result in (passed(), failed(), passed()):
            assert not health.observe(result)
        assert health.observe(passed())

    def test_a_flip_is_reported_once(self) -> None:
        health = settled()
        assert [health.observe(failed()) for _ in range(7)] == [False, False, True, False, False, False, False]

    def test_with_one_and_one_every_result_counts_and_there_is_never_doubt(self) -> None:
        health = Health(rise=1, fall=1)
        doubts = []
        for result in (failed(), passed(), failed()):
            doubts.append(health.transition)
            assert health.observe(result)
        assert doubts == [False, False, False]


class TestWhatPeopleSee:
    def test_the_way_down_and_up_in_haproxys_words(self) -> None:
        health = settled(rise=3, fall=3)
        words = [health.word]
        for result in (failed(), failed(), failed(), passed(), passed(), passed()):
            health.observe(result)
            words.append(health.word)
        assert words == ["UP", "UP 2/3", "UP 1/3", "DOWN", "DOWN 1/3", "DOWN 2/3", "UP"]

    def test_doubt_begins_with_the_first_failure_and_ends_with_the_state(self) -> None:
        health = settled()
        seen = []
        for result in (failed(), failed(), failed()):
            health.observe(result)
            seen.append(health.transition)
        assert seen == [True, True, False]

    def test_since_is_the_moment_of_the_result_that_flipped_it(self) -> None:
        health = Health(now=5.0)
        health.observe(passed(at=7.0))
        assert health.since == 5.0
        for at in (10.0, 12.0, 14.0, 16.0):
            health.observe(failed(at))
        assert health.since == 14.0

    def test_the_reason_is_the_last_result(self) -> None:
        health = settled()
        health.observe(failed())
        assert health.reason == "L4CON connection refused"
        assert repr(health) == "<Health UP 2/3 (L4CON connection refused)>"

    @pytest.mark.parametrize(("detail", "text"), [("", "L4OK"), ("after 3ms", "L4OK after 3ms")])
    def test_a_result_without_detail_is_its_code(self, detail: str, text: str) -> None:
        assert str(CheckResult(True, "L4OK", detail, 0.0, 0.0)) == text

    def test_the_last_twenty_results_are_kept(self) -> None:
        health = Health()
        for at in range(25):
            health.observe(passed(float(at)))
        assert [result.at for result in health.history] == [float(at) for at in range(5, 25)]

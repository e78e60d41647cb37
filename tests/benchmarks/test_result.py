"""The numbers that are reported, from the runs that were made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.compare import compare
from benchmarks.processes import CannotRun
from benchmarks.result import METRICS, Result, Round, median, percentile, ratios, result
from benchmarks.rounds import turned


def rounds(*costs: tuple[float, float]) -> tuple[Round, ...]:
    return tuple({"lbservice": {"cpu_us": ours}, "haproxy": {"cpu_us": theirs}} for ours, theirs in costs)


def measured(*costs: tuple[float, float], workload: str = "get") -> Result:
    return Result(workload, "small GET", ("cpu_us",), rounds(*costs))


def test_the_ratio_is_the_median_of_the_rounds_not_the_ratio_of_the_medians() -> None:
    # A slow minute doubles both; the ratio of the medians would be 20 / 12.
    found = measured((10, 10), (20, 12), (40, 20))
    assert found.ratio("lbservice", "haproxy") == pytest.approx(20 / 12)
    assert measured((10, 10), (20, 30), (60, 20)).ratio("lbservice", "haproxy") == 1.0
    assert found.median("haproxy", "cpu_us") == 12


def test_a_round_without_one_of_the_two_has_no_ratio() -> None:
    some: list[Round] = [{"lbservice": {"cpu_us": 3}}, {"lbservice": {"cpu_us": 3}, "haproxy": {"cpu_us": 2}}]
    assert ratios(some, "lbservice", "haproxy", "cpu_us") == [1.5]
    assert ratios([{"lbservice": {}, "haproxy": {"cpu_us": 2}}], "lbservice", "haproxy", "cpu_us") == [None]
    assert Result("get", "", ("cpu_us",), (some[0],)).ratio("lbservice", "haproxy") is None


def test_the_median_is_of_what_is_known() -> None:
    assert median([3, None, 1]) == 2
    assert median([None]) is None


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 50), (0.99, 99), (1, 100)])
def test_percentiles_are_of_the_nearest_rank(share: float, value: int) -> None:
    assert percentile(range(1, 101), share) == value


def test_percentiles_of_little() -> None:
    assert percentile([], 0.99) == 0
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7


def test_the_order_turns() -> None:
    assert [turned("abc", number) for number in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]


def test_microseconds_become_milliseconds() -> None:
    words = METRICS["cpu_us"].words
    assert [words(value) for value in (1.234, 17.26, 640.4, 6270)] == ["1.23 µs", "17.3 µs", "640 µs", "6.27 ms"]


def test_a_result_survives_json() -> None:
    found = measured((10, 10), (20, 12))
    assert result(json.loads(json.dumps(found.asdict()))) == Result(
        found.workload, found.says, found.columns, found.rounds, {}
    )


class TestCompare:
    def file(self, *results: Result) -> Any:
        return json.loads(json.dumps({"results": [each.asdict() for each in results]}))

    def test_the_change_is_that_of_the_ratio(self) -> None:
        # The machine is twice as slow in the second file, and we are a quarter cheaper.
        said = compare(self.file(measured((20, 10))), self.file(measured((30, 20))))
        assert said.splitlines()[1].split() == ["get", "CPU", "20.0", "µs", "30.0", "µs", "2.00", "1.50", "-25%"]

    def test_without_a_ratio_it_is_that_of_the_cost(self) -> None:
        old, new = (Result("pick", "", ("cpu_us",), ({"lbservice": {"cpu_us": cost}},)) for cost in (2.0, 3.0))
        assert compare(self.file(old), self.file(new)).splitlines()[1].endswith("+50%")

    def test_only_what_both_have(self) -> None:
        old, new = self.file(measured((1, 1), workload="a")), self.file(measured((1, 1), workload="b"))
        assert len(compare(old, new).splitlines()) == 1

    def test_any_other_file_is_refused(self) -> None:
        with pytest.raises(CannotRun, match="no file that --json has written"):
            compare({"results": [{}]}, {})

"""What was measured: runs, rounds of them, and the numbers that are reported."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Run = Mapping[str, float]
"""One run of one program: values by metric (see `METRICS`), each in the unit that its name ends with."""
Round = Mapping[str, Run]
"""One run of each program, by its name."""


@dataclass(frozen=True, slots=True)
class Metric:
    """How a value is called in tables, and written: its unit, and how many of its units there are in a value's."""

    head: str
    unit: str = ""
    scale: float = 1.0

    def words(self, value: float) -> str:
        """Three significant digits or so, and the unit."""
        value *= self.scale
        unit = self.unit
        if unit == "µs" and value >= 1000:
            value, unit = value / 1000, "ms"
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
        return f"{value:,.{digits}f} {unit}".rstrip()


METRICS = {
    "cpu_us": Metric("CPU", "µs"),
    "per_second": Metric("a second"),
    "p50_ms": Metric("p50", "ms"),
    "p99_ms": Metric("p99", "ms"),
    "max_ms": Metric("longest", "ms"),
    "kib_each": Metric("memory each", "KiB"),
    "idle_us": Metric("CPU a second", "µs"),
    "connections": Metric("connections"),
    "late_send_p99_ms": Metric("generator late p99", "ms"),
    "pick_us": Metric("a pick", "µs"),
    "late_p50_ms": Metric("late p50", "ms"),
    "late_p99_ms": Metric("late p99", "ms"),
    "late_max_ms": Metric("late at most", "ms"),
    "own_max_ms": Metric("of it our CPU", "ms"),
    "gc_max_ms": Metric("longest gc", "ms"),
}


@dataclass(frozen=True, slots=True)
class Result:
    """One workload's rounds. The first of `columns` is the cost that ratios are made of."""

    workload: str
    says: str
    columns: tuple[str, ...]
    rounds: tuple[Round, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def programs(self) -> list[str]:
        """Those that were measured, in the order of the first round's names."""
        return list(dict.fromkeys(name for each in self.rounds for name in each))

    def median(self, program: str, metric: str) -> float | None:
        """Over the rounds; None where it was not measured."""
        return median(each[program].get(metric) for each in self.rounds if program in each)

    def ratio(self, program: str, base: str) -> float | None:
        """Median of the rounds' ratios of cost."""
        return median(ratios(self.rounds, program, base, self.columns[0]))

    def asdict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def result(values: Mapping[str, Any]) -> Result:
    """From JSON. Raises KeyError and TypeError for what is no result."""
    return Result(
        values["workload"], values["says"], tuple(values["columns"]), tuple(values["rounds"]), values["left_out"]
    )


def ratios(rounds: Sequence[Round], program: str, base: str, metric: str) -> list[float | None]:
    """Of a program to the base, in each round that has both: neighbours in time, so that the machine cancels out."""
    found: list[float | None] = []
    for each in rounds:
        if program in each and base in each:
            ours, theirs = each[program].get(metric), each[base].get(metric)
            found.append(ours / theirs if ours is not None and theirs else None)
    return found


def median(values: Iterable[float | None]) -> float | None:
    """Of what is there."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0-1) of the ordered values lie; the nearest rank, 0 for no values."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]

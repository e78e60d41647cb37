"""Two results of --json beside each other: what a commit has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers import BASE, OURS
from benchmarks.processes import CannotRun
from benchmarks.result import METRICS, Result, result
from benchmarks.table import aligned


def read(path: str) -> Any:
    """What --json has written. Raises CannotRun."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise CannotRun(f"{path} cannot be read: {error}") from error


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """A line for each workload that both have: our cost and its ratio to HAProxy, before and after.

    The change is that of the ratio, which a different minute or machine moves least; of the cost
    itself where there is no ratio.
    """
    before, after = _results(old), _results(new)
    table = [["workload", "cost", "old", "new", f"old to {BASE}", f"new to {BASE}", "change"]]
    table += [_row(before[name], after[name]) for name in after if name in before]
    return "\n".join(aligned(table))


def _row(old: Result, new: Result) -> list[str]:
    metric = METRICS[new.columns[0]]
    costs = [each.median(OURS, new.columns[0]) for each in (old, new)]
    ratios = [each.ratio(OURS, BASE) for each in (old, new)]
    return [
        new.workload,
        metric.head,
        *("-" if cost is None else metric.words(cost) for cost in costs),
        *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        _change(*(costs if None in ratios else ratios)),
    ]


def _change(old: float | None, new: float | None) -> str:
    return "-" if not old or new is None else f"{(new / old - 1) * 100:+.0f}%"


def _results(values: Mapping[str, Any]) -> dict[str, Result]:
    try:
        return {each["workload"]: result(each) for each in values["results"]}
    except (KeyError, TypeError) as error:
        raise CannotRun("this is no file that --json has written") from error

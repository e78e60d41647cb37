"""Results for people: plain text as they come, and Markdown for docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.peers import BASE
from benchmarks.processes import CannotRun
from benchmarks.result import METRICS, Result, ratios

BEGIN, END = "<!-- begin of the results: written by make bench -->", "<!-- end of the results -->"


def heads(result: Result) -> list[str]:
    """Of a result's columns."""
    return ["program", *(METRICS[column].head for column in result.columns), f"to {BASE}", "rounds"]


def rows(result: Result) -> list[list[str]]:
    """A row for each program: medians, the median ratio, and the least and the greatest ratio of a round."""
    found = []
    for program in result.programs:
        ratio = result.ratio(program, BASE)
        each = [value for value in ratios(result.rounds, program, BASE, result.columns[0]) if value is not None]
        spread = f"{min(each):.2f}-{max(each):.2f}" if each and program != BASE else ""
        found.append([program, *(_words(result, program, column) for column in result.columns), _ratio(ratio), spread])
    return found


def text(result: Result) -> str:
    """A workload with its table, for a terminal."""
    lines = [f"{result.workload}: {result.says}"]
    lines += [f"  {line}" for line in aligned([heads(result), *rows(result)])]
    lines += [f"  {name} is left out: {reason}" for name, reason in result.left_out.items()]
    return "\n".join(lines)


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if not at else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def markdown(results: Iterable[Result], about: Mapping[str, str]) -> str:
    """Everything: where and with what it was measured, the ratios at a glance, then each workload's table."""
    results = list(results)
    parts = ["\n".join(f"- {name}: {value}" for name, value in about.items()), glance(results)]
    for result in results:
        table = [heads(result), *rows(result)]
        notes = "".join(f"\n\n{name} is left out: {reason}." for name, reason in result.left_out.items())
        parts.append(f"### {result.workload}\n\n{result.says[:1].upper()}{result.says[1:]}.\n\n{_pipes(table)}{notes}")
    return "\n\n".join(part for part in parts if part) + "\n"


def glance(results: Iterable[Result]) -> str:
    """One row for each workload: the ratio of cost to HAProxy of every program."""
    compared = [result for result in results if any(result.ratio(program, BASE) for program in result.programs)]
    programs = list(dict.fromkeys(program for result in compared for program in result.programs if program != BASE))
    if not compared:
        return ""
    table = [["workload", "cost", BASE, *programs]]
    for result in compared:
        cost = METRICS[result.columns[0]].head
        base = _words(result, BASE, result.columns[0])
        table.append([result.workload, cost, base, *(_ratio(result.ratio(program, BASE)) for program in programs)])
    return _pipes(table)


def write_between(path: Path, body: str) -> None:
    """Put it between the two marker lines of a file. Raises CannotRun when they are not there."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CannotRun(f"{path} has no lines {BEGIN!r} and {END!r}")
    path.write_text(f"{before}{BEGIN}\n\n{body}\n{END}{after}")


def _pipes(table: Sequence[Sequence[str]]) -> str:
    head, *body = table
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ruler, *body])


def _words(result: Result, program: str, metric: str) -> str:
    value = result.median(program, metric)
    return "-" if value is None else METRICS[metric].words(value)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

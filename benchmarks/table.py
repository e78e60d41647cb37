"""Results for people: plain text as they come, and Markdown for docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.peers import BASE
from benchmarks.processes import CannotRun
from benchmarks.result import METRICS, Result, ratios

BEGIN, END = "<!-- begin of the results: written by make bench -->", "<!-- end of the results -->"


def heads(result: Result) -> list[str]:
    """Of a result's columns."""
    compared = [f"to {BASE}", "rounds"] if _is_compared(result) else []
    return ["program", *(METRICS[column].head for column in result.columns), *compared]


def rows(result: Result) -> list[list[str]]:
    """A row for each program: medians, the median ratio, and the least and the greatest ratio of a round."""
    found = []
    for program in result.programs:
        row = [program, *(_words(result, program, column) for column in result.columns)]
        if _is_compared(result):
            each = [value for value in ratios(result.rounds, program, BASE, result.columns[0]) if value is not None]
            spread = f"{min(each):.2f}-{max(each):.2f}" if each and program != BASE else ""
            row += [_ratio(result.ratio(program, BASE)), spread]
        found.append(row)
    return found


def text(result: Result) -> str:
    """A workload with its table, for a terminal."""
    lines = [f"{result.workload}: {result.says}"]
    lines += [f"  {line}" for line in aligned([heads(result), *rows(result)])]
    lines += [f"  {name} is left out: {reason}" for name, reason in result.left_out.items()]
    return "\n".join(lines)


def aligned(table: Sequence[Sequence[str]], *, words: bool = False) -> list[str]:
    """The first column to the left, the others to the right; all of them to the left when they are words."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if words or not at else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def markdown(results: Iterable[Result], about: Mapping[str, str]) -> str:
    """Everything: where and with what it was measured, the ratios at a glance, then each workload's table."""
    results = list(results)
    parts = ["\n".join(f"- {name}: {value}" for name, value in about.items()), glance(results)]
    parts += [_section(name, list(group)) for name, group in groupby(results, lambda result: _family(result)[0])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(name: str, group: Sequence[Result]) -> str:
    """One workload, or all that have the word before the slash in common, in one table."""
    notes = {f"{program} is left out: {reason}." for result in group for program, reason in result.left_out.items()}
    if len(group) == 1:
        (only,) = group
        says = f"{only.says[:1].upper()}{only.says[1:]}."
        return "\n\n".join([f"### {only.workload}", says, _pipes([heads(only), *rows(only)]), *sorted(notes)])
    table = [["", *heads(group[0])]]
    table += [[_family(result)[1], *row] for result in group for row in rows(result)]
    return "\n\n".join([f"### {name}", _pipes(table), *sorted(notes)])


def _family(result: Result) -> tuple[str, str]:
    family, _, member = result.workload.partition("/")
    return family, member


def glance(results: Iterable[Result]) -> str:
    """One row for each workload: the ratio of cost to HAProxy of every program."""
    compared = [result for result in results if _is_compared(result)]
    programs = list(dict.fromkeys(program for result in compared for program in result.programs if program != BASE))
    if not compared:
        return ""
    table = [["workload", "cost", BASE, *programs]]
    for result in compared:
        cost = METRICS[result.columns[0]].head
        base = _words(result, BASE, result.columns[0])
        table.append([result.workload, cost, base, *(_ratio(result.ratio(program, BASE)) for program in programs)])
    return _pipes(table)


def _is_compared(result: Result) -> bool:
    """Has HAProxy taken part?"""
    return BASE in result.programs


def write_between(path: Path, body: str) -> None:
    """Put it between the two marker lines of a file. Raises CannotRun when they are not there."""
    before, after = parted(path)
    path.write_text(f"{before}{BEGIN}\n\n{body}\n{END}{after}")


def parted(path: Path) -> tuple[str, str]:
    """What stands before and after the markers of a file. Raises CannotRun when they are not there."""
    try:
        before, begin, rest = path.read_text().partition(BEGIN)
    except OSError as error:
        raise CannotRun(f"{path} cannot be read: {error.strerror}") from error
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CannotRun(f"{path} has no lines {BEGIN!r} and {END!r}")
    return before, after


def _pipes(table: Sequence[Sequence[str]]) -> str:
    head, *body = table
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ruler, *body])


def _words(result: Result, program: str, metric: str) -> str:
    value = result.median(program, metric)
    return "-" if value is None else METRICS[metric].words(value)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

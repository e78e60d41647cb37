"""Answers that print well at a prompt: rows of frozen dataclasses, aligned.

The columns are the fields of the dataclass, so a new field of a row shows up by itself. A float
is a duration in seconds; every row type of `Control` keeps to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Generic, TypeVar, overload

Row = TypeVar("Row")

WIDEST = 60
"""Characters of one cell; a server may say anything as the reason of its failure."""


class Text(str):
    """Words that a prompt shows as they are, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Table(Sequence[Row], Generic[Row]):
    """Rows of one dataclass: `table[0].weight`, `for row in table`, and a `repr` for people."""

    def __init__(self, rows: Iterable[Row], *, empty: str = "nothing") -> None:
        self.rows = tuple(rows)
        self.empty = empty

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Table[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Table[Row]:
        return Table(self.rows[index], empty=self.empty) if isinstance(index, slice) else self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        if not self.rows:
            return self.empty
        names = [field.name for field in fields(self.rows[0])]  # type: ignore[arg-type]  # any dataclass
        heading = [name.replace("_", " ").upper() for name in names]
        values = [[getattr(row, name) for name in names] for row in self.rows]
        lines = [heading, *([cell(value) for value in line] for line in values)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        right = [isinstance(value, int | float) and not isinstance(value, bool) for value in values[0]]
        return "\n".join(
            "  ".join(
                text.rjust(width) if number else text.ljust(width)
                for text, width, number in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in lines
        )


class Report:
    """Several answers under each other."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self.parts))


def cell(value: Any) -> str:
    """One value as text on one line, without anything that a terminal would obey."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return duration(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in str(value))
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def duration(seconds: float) -> str:
    """`0.4s`, `42s`, `3m05s`, `2h03m`, `3d04h`: the two largest units; `-` for what is no time."""
    if not 0 <= seconds < float("inf"):
        return "-"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02d}h"
    if hours:
        return f"{hours}h{minute:02d}m"
    return f"{minutes}m{second:02d}s" if minutes else f"{second}s"

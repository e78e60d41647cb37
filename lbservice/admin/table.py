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
        """All of it."""
        return "\n".join(self._lines(None)[0]) if self.rows else self.empty

    def shown(self, width: int, height: int) -> str:
        """As much of it as a window shows, and a hint at what it does not."""
        if not self.rows:
            return self.empty
        room = max(height - 4, 5)  # what was typed, the heading, the hint and the next prompt have a line each
        lines, hidden = self._lines(width)
        missing = len(self.rows) - room
        if missing > 0:
            lines[room + 1 :] = [f"… {missing} more rows; print(_) shows all, _[{room}:{2 * room}] the next"]
        if hidden:
            lines.append(f"… without {', '.join(hidden)}: the window is narrow; print(_) shows all")
        return "\n".join(lines)

    def _lines(self, width: int | None) -> tuple[list[str], list[str]]:
        """The heading and a line for each row, and the headings that do not fit."""
        names = [field.name for field in fields(self.rows[0])]  # type: ignore[arg-type]  # any dataclass
        heading = [name.replace("_", " ").upper() for name in names]
        values = [[getattr(row, name) for name in names] for row in self.rows]
        lines = [heading, *([cell(value) for value in line] for line in values)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        right = [isinstance(value, int | float) and not isinstance(value, bool) for value in values[0]]
        if width is not None:
            widths = fitting(widths, right, width)
        aligned = [
            "  ".join(
                text.rjust(width) if number else cut(text, width).ljust(width)
                for text, width, number in zip(line, widths, right, strict=False)
            ).rstrip()
            for line in lines
        ]
        return aligned, heading[len(widths) :]


class Report:
    """Several answers under each other."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self.parts))

    def shown(self, width: int, height: int) -> str:
        """As much of each part as a window shows."""
        return "\n\n".join(part.shown(width, height) if isinstance(part, Table) else repr(part) for part in self.parts)


NARROWEST = 8
"""Characters that a column of words keeps at least."""
GAP = 2


def fitting(widths: list[int], numbers: Sequence[bool], room: int) -> list[int]:
    """Widths of columns for a window: the widest words are cut first, then the last columns left out.

    The first column, which says what a row is about, stays whole.
    """
    widths = list(widths)
    while sum(widths) + GAP * (len(widths) - 1) > room:
        words = [
            number
            for number, (width, right) in enumerate(zip(widths, numbers, strict=False))
            if number and width > NARROWEST and not right
        ]
        if words:
            widths[max(words, key=lambda number: widths[number])] -= 1
        elif len(widths) > 1:
            widths.pop()
        else:
            break
    return widths


def cut(text: str, width: int) -> str:
    """A text of that many characters at most."""
    return text if len(text) <= width else text[: width - 1] + "…"


def columns(words: Sequence[str], width: int, height: int) -> str:
    """Words under each other in columns, as many as a window shows, with a line break at the end."""
    widest = min(max(map(len, words)), width - GAP)
    across = max(1, (width + GAP) // (widest + GAP))
    room = across * max(height - 3, 3)
    shown = [cut(word, widest).ljust(widest) for word in words[:room]]
    lines = [(" " * GAP).join(shown[start : start + across]).rstrip() for start in range(0, len(shown), across)]
    if len(words) > room:
        lines.append(f"… {len(words) - room} more; type on")
    return "\n".join(lines) + "\n"


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

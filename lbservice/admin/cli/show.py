"""Answers of the API for people: tables, and a sentence for each change. With --json they are printed as they came."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from lbservice.admin.table import cell

Row = Mapping[str, Any]

GREEN = re.compile(r"UP\b(?! [0-9]+/)|passed|ready")
YELLOW = re.compile(r"UP [0-9]+/|UP [0-9]+%|DRAIN|MAINT|drain|maint|EJECTED")
RED = re.compile(r"DOWN|failed")


def as_json(answer: Any) -> None:
    """As it came from the service, indented."""
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def table(rows: Sequence[Row], *, empty: str) -> str:
    """Rows with the same fields, aligned. A float is a duration in seconds, as everywhere in the API."""
    if not rows:
        return empty
    names = list(rows[0])
    lines = [
        [name.replace("_", " ").upper() for name in names],
        *([cell(row.get(name, "-")) for name in names] for row in rows),
    ]
    right = [isinstance(rows[0][name], int | float) and not isinstance(rows[0][name], bool) for name in names]
    return "\n".join(aligned(lines, right, ["state", "result"], names))


def aligned(
    lines: Sequence[Sequence[str]], right: Sequence[bool], paint: Sequence[str], names: Sequence[str]
) -> list[str]:
    """Lines of cells as text; cells of the columns in `paint` get the colour of what they say."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    done = []
    for number, line in enumerate(lines):
        cells = [
            text.rjust(width) if number_like else text.ljust(width)
            for text, width, number_like in zip(line, widths, right, strict=True)
        ]
        cells[-1] = cells[-1].rstrip()
        if number:
            cells = [painted(text) if name in paint else text for text, name in zip(cells, names, strict=True)]
        done.append("  ".join(cells).rstrip())
    return done


def painted(text: str) -> str:
    """A state in its colour; echo takes the colour away where there is no terminal."""
    found = colour(text)
    return click.style(text, fg=found) if found else text


def colour(state: str) -> str:
    """red, yellow, green; "" for what is none of a state's words."""
    for pattern, name in ((RED, "red"), (YELLOW, "yellow"), (GREEN, "green")):
        if pattern.match(state):
            return name
    return ""


def plain(text: object) -> str:
    """Words of the service, without anything that a terminal would obey; lines stay lines."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in str(text))


def change(made: Row) -> str:
    """What a change did, and that a restart forgets it, if it does."""
    said = plain(made.get("text") or f"{made.get('target')}: {made.get('verb')}")
    if made.get("changed") and not made.get("saved", True):
        said += "\nlbservice save writes it into the file; lbservice undo "
        said += f"{made.get('number')} takes it back"
    return said


def saved(made: Row) -> Row:
    """The same change, when it has been saved since."""
    text = str(made.get("text", "")).replace("; a restart forgets it, unless it is saved)", ")")
    return {**made, "saved": True, "text": text}

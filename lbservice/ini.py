"""INI text -> sections and entries that remember their lines. Knows nothing of what the keys mean.

A line is `[kind]`, `[kind name]`, `key = value`, or empty. A comment starts with `;` or `#`, at the
start of a line or after white space, and runs to the end of the line. Nothing is interpolated and
nothing continues on the next line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lbservice.errors import Problem

_COMMENT = re.compile(r"(?:^|\s)[;#].*", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key = value`; runs of white space inside the key count as one space."""

    line: int
    key: str
    value: str

    @property
    def word(self) -> str:
        """The first word of the key, as in `server NAME = ...`, where it says what is named."""
        return self.key.partition(" ")[0]

    @property
    def name(self) -> str:
        """What stands behind that word."""
        return self.key.partition(" ")[2]


@dataclass(frozen=True, slots=True)
class Section:
    """One `[kind name]` with its entries, in the order of the file; `name` is "" for a bare `[kind]`."""

    line: int
    kind: str
    name: str
    entries: list[Entry] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What stands between the brackets."""
        return f"{self.kind} {self.name}".rstrip()

    def get(self, key: str) -> Entry | None:
        """The first entry of that key, or None."""
        return next((entry for entry in self.entries if entry.key == key), None)


def read(text: str, file: str) -> tuple[list[Section], list[Problem]]:
    """All sections of a text, and every line that is not INI or that repeats an earlier one.

    A repeated section or entry is still in the answer, so that its own mistakes are found too.
    """
    sections: list[Section] = []
    problems: list[Problem] = []
    first: dict[tuple[str, ...], int] = {}
    section: Section | None = None

    def problem(message: str, key: str = "", value: str = "") -> None:
        problems.append(Problem(file, number, section.title if section else "", key, message, value))

    def seen_before(*what: str) -> str | None:
        line = first.setdefault(what, number)
        return None if line == number else f"was already given on line {line}; keep one of the two"

    for number, raw in enumerate(text.split("\n"), 1):
        line = _COMMENT.sub("", raw).strip()
        if not line:
            continue
        if control := _CONTROL.search(line):
            problem(f"a control character (U+{ord(control[0]):04X}) in the line; take it out")
        elif line.startswith("["):
            kind, _, name = " ".join(line.strip("[]").split()).partition(" ")
            section = Section(number, kind, name)
            sections.append(section)
            if not re.fullmatch(r"\[[^][]+\]", line):
                problem("write a section as [kind] or [kind name], alone on its line")
            elif again := seen_before(section.title):
                problem(again)
        else:
            left, equals, right = line.partition("=")
            entry = Entry(number, " ".join(left.split()), right.strip())
            if not equals:
                problem("write key = value", entry.key)
            elif not entry.key:
                problem("the key before the = is missing", key=line)
            elif section is None:
                problem("stands before the first [section]", entry.key, entry.value)
            else:
                if again := seen_before(section.title, entry.key):
                    problem(again, entry.key, entry.value)
                section.entries.append(entry)
                if not entry.value:
                    problem("the value after the = is missing", entry.key)
    return sections, problems

"""A section of lb.ini while it is put together, and the notes on what could not be carried."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lbservice.admin.haproxy.reader import Line

_TIME = re.compile(r"([0-9]{1,9})(us|ms|s|m|h|d)?")
_MILLISECONDS = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


ORDER = ("listen", "mode", "backend", "balance", "hash-balance-factor", "sticky", "check", "inter", "rise", "fall")


class Left(Exception):
    """A line, or what is named of it, stays behind; the reason for people."""


@dataclass(frozen=True, slots=True)
class Note:
    """`lost`: the line is not in lb.ini; else it is, and there is something to be said of it."""

    line: Line
    reason: str
    lost: bool = True

    def __str__(self) -> str:
        return f"line {self.line.number}: {self.line.text}: {'not carried, ' if self.lost else ''}{self.reason}"


@dataclass
class Draft:
    """One section: its entries, each with the line that it comes from, and the line that begins it."""

    title: str
    head: Line | None = None
    entries: list[tuple[str, str, Line | None]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def put(self, key: str, value: str, line: Line | None = None) -> None:
        """Set an entry; in place of an earlier one of that key, as a later line overrides one of the defaults."""
        self.take(key)
        self.entries.append((key, value, line))

    def get(self, key: str) -> str:
        """The value of an entry; "" if there is none."""
        return next((value for known, value, _ in self.entries if known == key), "")

    def take(self, key: str) -> None:
        """Remove an entry, if there is one."""
        self.entries = [entry for entry in self.entries if entry[0] != key]

    def sort(self) -> None:
        """As people write it: where, what and how first, the servers last. The order of rules stays."""

        def rank(entry: tuple[str, str, Line | None]) -> int:
            first = entry[0].partition(" ")[0]
            return ORDER.index(entry[0]) if entry[0] in ORDER else len(ORDER) + (first == "server")

        self.entries.sort(key=rank)

    def free(self, word: str, name: str) -> str:
        """`word NAME`, with a number behind the name where there is one of that name already."""
        clean = re.sub(r"[^A-Za-z0-9_.:-]", "_", name) or "rule"
        key, number = f"{word} {clean}", 1
        while self.get(key):
            number += 1
            key = f"{word} {clean}-{number}"
        return key

    def say(self, line: Line, reason: str) -> None:
        """Something about a line that is carried."""
        self.notes.append(Note(line, reason, lost=False))

    def leave(self, line: Line, reason: str) -> None:
        """A line that is not."""
        self.notes.append(Note(line, reason))


def time(text: str, unit: str = "ms") -> str:
    """A time of HAProxy in words of lb.ini: `5000` is `5s`."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise Left(f"{text!r} is no time")
    milliseconds = int(match[1]) * _MILLISECONDS[match[2] or unit]
    if milliseconds <= 0:
        raise Left("0 has no meaning here; every wait has an end")
    for name, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % size == 0:
            return f"{int(milliseconds // size)}{name}"
    return f"{max(1, round(milliseconds))}ms"


def number(words: tuple[str, ...], at: int = 0) -> str:
    """The word there, a whole number."""
    if len(words) <= at or not re.fullmatch(r"[0-9]{1,9}", words[at]):
        raise Left("a whole number is missing")
    return str(int(words[at]))


def plain(value: str) -> str:
    """A value that lb.ini can hold: no variables of HAProxy, nothing that would begin a comment."""
    if "%[" in value or "$" in value:
        raise Left(f"{value!r} is worked out by HAProxy for each request, or taken from the environment")
    return word(value)


def word(value: str) -> str:
    """A value on one line that no comment cuts off."""
    if re.search(r"(?:^|\s)[;#]|[\x00-\x1f\x7f]", value):
        raise Left(f"{value!r} cannot stand in lb.ini")
    return value

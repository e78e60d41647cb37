"""One line of load_balancer.log: whom it tells of, and in which colours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import click

_ACCESS = re.compile(
    r"(?P<client>\S+) (?P<date>\[[^]]+\]) (?P<frontend>[^\s~]+)~? (?P<backend>[^\s/]+)/(?P<server>\S+) "
    r"(?:[-+\d]+/){2,4}[-+\d]+ (?:(?P<status>-1|\d{3}) )?\+?\d+ "
)
_EVENT = re.compile(r"(?P<date>\d{4}-\d\d-\d\dT\S+) \[(?P<system>[^]]*)\] (?P<text>.*)", re.DOTALL)
_TARGET = re.compile(r"\b(server|agent|backend|frontend|panics?) (?:of server )?([\w.:-]+(?:/[\w.:-]+)?)")
_STATUS = re.compile(r"[1-5](?:\d\d|xx)")

_LEVELS = (
    (re.compile(r"\b(?:DOWN|error|critical|failed|Traceback)\b"), "red"),
    (re.compile(r"\bwarn:|EJECTED|panics\b"), "yellow"),
)
_GOOD = re.compile(r"\b(?:is UP|has its full share|panics no more)\b")


@dataclass(frozen=True, slots=True)
class Line:
    """`server` is "BACKEND/NAME" and `names` all that it tells of; `status` is "" in tcp mode and for events."""

    text: str
    event: bool
    names: frozenset[str] = frozenset()
    status: str = ""

    def painted(self) -> str:
        """With colours: of the status, or of what an event is about."""
        if self.event:
            colour = next((colour for pattern, colour in _LEVELS if pattern.search(self.text)), None)
            if _GOOD.search(self.text) and colour != "red":
                colour = "green"
            return click.style(self.text, fg=colour, bold=True)
        colour = {"2": "green", "3": "cyan", "4": "yellow", "5": "red"}.get(self.status[:1])
        if not self.status:
            return self.text
        before, found, behind = self.text.partition(f" {self.status} ")
        return before + click.style(found, fg=colour, bold=self.status[0] == "5") + behind


def read(text: str) -> Line:
    """A line without its end. What is neither request nor event is a part of the event before it."""
    text = "".join(letter if letter.isprintable() or letter == "\t" else "?" for letter in text)
    if match := _EVENT.match(text):
        return Line(text, True, frozenset(_homes(name for _, name in _TARGET.findall(match["text"]))))
    if match := _ACCESS.match(text):
        names = {match["frontend"], match["backend"], f"{match['backend']}/{match['server']}"}
        return Line(text, False, frozenset(names), match["status"] or "")
    return Line(text, True)


def _homes(names: Iterable[str]) -> set[str]:
    """The names, and the backends of servers among them."""
    found = set(names)
    return found | {name.partition("/")[0] for name in found}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines are wanted: those that tell of all of `names`, with one of these statuses ("503", "5xx"); "" all."""

    names: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    events: bool = False

    def wants(self, line: Line) -> bool:
        """Is it one of them?"""
        if self.events and not line.event:
            return False
        if self.statuses and not (line.status and {line.status, f"{line.status[0]}xx"} & set(self.statuses)):
            return False
        return line.names.issuperset(self.names)


def status(text: str) -> str:
    """A status or a class of them, `503` or `5xx`; raises ValueError."""
    if not _STATUS.fullmatch(text.lower()):
        raise ValueError("write a status, 503, or a class of them, 5xx")
    return text.lower()

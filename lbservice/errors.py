"""The few exceptions, named after whose fault it is; each says what to do next."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches


class LbserviceError(Exception):
    """The base of everything this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration file; `line` 0 means the file as a whole.

    `section` is without brackets ("backend app"); empty parts are left out of the sentence.
    """

    file: str
    line: int
    section: str
    key: str
    message: str
    value: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        section = f"[{self.section}]" if self.section else ""
        entry = f"{self.key} = {self.value}" if self.value else self.key
        return ": ".join(filter(None, (where, f"{section} {entry}".strip(), self.message)))


class ConfigError(LbserviceError):
    """The configuration's writer has something to mend; `problems` are in the order of the lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def closest(word: str, known: Collection[str]) -> str | None:
    """The known word that `word` was probably meant to be, or None."""
    lower = {name.lower(): name for name in sorted(known)}
    matches = get_close_matches(word.lower(), lower, n=1)
    return lower[matches[0]] if matches else None


def unknown(what: str, word: str, known: Collection[str]) -> str:
    """`unknown policy; did you mean 'leastconn'?`, or, when nothing is close, what there is."""
    if match := closest(word, known):
        return f"unknown {what}; did you mean '{match}'?"
    return f"unknown {what}; one of: {', '.join(sorted(known))}"


class ControlError(LbserviceError):
    """An operator asked for what cannot be; nothing was changed."""


class NotThere(ControlError):
    """What was named does not exist."""


class InTheWay(ControlError):
    """What there is, or was changed since, does not go together with what was asked for."""


class StartError(LbserviceError):
    """The service cannot start as configured: an address in use, a key file open to others."""

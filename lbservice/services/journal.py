"""What was changed since the start: by whom, by which face, and what it takes to undo it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from twisted.logger import Logger

from lbservice.core.change import Change
from lbservice.core.settings import Settings
from lbservice.errors import NotThere

KEPT = 500
"""Changes that are remembered."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A change, and the whole configuration before and after it."""

    change: Change
    before: Settings
    after: Settings


class Journal:
    """The last changes, numbered from 1. Each is one event in the log."""

    log = Logger()

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self.number = 0
        """Of the last change; whoever has seen it has seen the configuration as it is."""

    def record(self, change: Change, before: Settings, after: Settings) -> Change:
        """Note a change that has been made; with its number."""
        self.number += 1
        change = replace(change, number=self.number, at=self._wall())
        self._entries.append(Entry(change, before, after))
        by = change.by
        kind = f"{change.kind} " if change.kind else ""
        why = ": {comment}" if by.comment else ""
        if change.details:
            why += "; " + "; ".join(detail.replace("{", "{{").replace("}", "}}") for detail in change.details)
        self.log.info(
            f"{kind}{{target}} {{verb}} by {{actor}} ({{before}} -> {{after}}), change {{number}}{why}",
            event="change",
            number=change.number,
            verb=change.verb,
            target=change.target,
            before=change.before,
            after=change.after,
            actor=by.actor,
            face=by.face,
            comment=by.comment,
        )
        return change

    def changes(self, last: int = 20) -> tuple[Change, ...]:
        """The last ones, the newest first."""
        return tuple(entry.change for entry in reversed(self._entries))[: max(0, last)]

    def entry(self, number: int) -> Entry:
        """The change of that number. Raises NotThere."""
        for entry in self._entries:
            if entry.change.number == number:
                return entry
        if type(number) is not int or not 0 < number <= self.number:
            raise NotThere(f"no change {number!r}; changes() lists them")
        raise NotThere(f"change {number} is forgotten: the last {KEPT} are kept")

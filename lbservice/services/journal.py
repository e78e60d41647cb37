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
TOLD = 50
"""Details of one change that the log has; the answer has all."""


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
        self.listeners: list[Callable[[Change], None]] = []
        """They are told of each change when it is made."""

    def record(self, change: Change, before: Settings, after: Settings) -> Change:
        """Note a change that has been made; with its number."""
        self.number += 1
        change = replace(change, number=self.number, at=self._wall())
        self._entries.append(Entry(change, before, after))
        by = change.by
        kind = f"{change.kind} " if change.kind else ""
        why = ": {comment}" if by.comment else ""
        details = [detail.replace("{", "{{").replace("}", "}}") for detail in change.details[:TOLD]]
        if len(change.details) > TOLD:
            details.append(f"and {len(change.details) - TOLD} more")
        if details:
            why += "; " + "; ".join(details)
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
        for listener in self.listeners:
            listener(change)
        return change

    def saved(self) -> None:
        """All that was changed so far is in lb.ini now."""
        for index, entry in enumerate(self._entries):
            if not entry.change.saved:
                self._entries[index] = replace(entry, change=replace(entry.change, saved=True))

    def changes(self, last: int = 20) -> tuple[Change, ...]:
        """The last ones, the newest first."""
        return tuple(entry.change for entry in reversed(self._entries))[: max(0, last)]

    def entry(self, number: int) -> Entry:
        """The change of that number. Raises NotThere."""
        if type(number) is not int or not 0 < number <= self.number:
            raise NotThere(f"no change {number!r}; changes() lists them")
        for entry in self._entries:
            if entry.change.number == number:
                return entry
        raise NotThere(f"change {number} is forgotten: the last {KEPT} are kept")

"""What was typed before, for the arrow keys: of each actor, over all sessions until the service stops."""

from __future__ import annotations

from collections import OrderedDict

LINES = 200
"""Lines of one actor."""
ACTORS = 50
LONGEST = 4096
"""Bytes of a line that is kept; longer ones are no use to the arrow keys."""


class Histories:
    """The lines of the actors that came last, in memory only: a line may hold what should be in no file."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, list[bytes]] = OrderedDict()

    def of(self, actor: str) -> list[bytes]:
        """Their lines, the oldest first."""
        return list(self._lines.get(actor, ()))

    def add(self, actor: str, line: bytes) -> None:
        """One more line; the same twice is kept once."""
        lines = self._lines.setdefault(actor, [])
        self._lines.move_to_end(actor)
        if len(self._lines) > ACTORS:
            self._lines.popitem(last=False)
        if line.strip() and len(line) <= LONGEST and lines[-1:] != [line]:
            lines.append(line)
            del lines[:-LINES]

"""The retry budget: servers that are overrun break requests off, and repeating them all would finish the servers off.

Only repetitions are counted: a request that a server may have begun with, and that another one is now to do again. A
request whose connection was refused has cost no server anything; it may always go on to the next.
"""

from __future__ import annotations

LEAST = 3
"""Repetitions that are always allowed at a time: with little traffic a share of it says nothing."""


class RetryBudget:
    """How many repetitions may be in flight at a time: `share` of the requests in flight, and `LEAST` in any case."""

    __slots__ = ("active", "refused", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self.active = 0
        """Repetitions in flight; those who wait in the queue or connect are, too."""
        self.refused = 0

    def take(self, requests: int) -> bool:
        """May one more be repeated, while so many are in flight or waiting? Counts the answer."""
        if self.active >= max(LEAST, self.share * requests):
            self.refused += 1
            return False
        self.active += 1
        return True

    def give_back(self) -> None:
        """A repetition has ended."""
        self.active -= 1

    def __repr__(self) -> str:
        return f"<RetryBudget {self.share:.0%}: {self.active} active, {self.refused} refused>"

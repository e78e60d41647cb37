"""The retry budget: servers that are overrun break requests off, and repeating them all would finish the servers off.

Only repetitions are counted: a request that a server may have begun with, and that another one is now to do again. A
request whose connection was refused has cost no server anything; it may always go on to the next.
"""

from __future__ import annotations

from math import inf

LEAST = 3
"""Repetitions that are always allowed at a time: with little traffic a share of it says nothing."""
RESERVE = 10
"""Repetitions that a full reserve always has: a few in flight are not all that a server takes down before it is out."""


class RetryBudget:
    """How much may be repeated: `share` of the requests in flight, at a time, and more as long as there is a reserve.

    The reserve is for the death of a server with all it has: at rest it is as large as what is in flight, and at least
    `RESERVE`. Each repetition takes one from it, and each request that a server gets adds `share`. So what fails at
    once may be repeated at once, and where failure goes on, repetitions are no more than `share` of what servers get
    (decision 17).
    """

    __slots__ = ("_reserve", "_seen", "active", "refused", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self.active = 0
        """Repetitions in flight; those who wait in the queue or connect are, too."""
        self.refused = 0
        self._reserve = inf
        self._seen = 0

    def take(self, in_flight: int, requests: int) -> bool:
        """May one more be repeated? Counts the answer.

        `in_flight`: the requests that are served or waiting, with this one; `requests`: all that servers got so far.
        """
        self._reserve = min(self._reserve + min(self.share, 1.0) * (requests - self._seen), max(RESERVE, in_flight))
        self._seen = requests
        if self.active >= max(LEAST, self.share * in_flight) and self._reserve < 1:
            self.refused += 1
            return False
        self._reserve = max(0.0, self._reserve - 1)
        self.active += 1
        return True

    def give_back(self) -> None:
        """A repetition has ended."""
        self.active -= 1

    def __repr__(self) -> str:
        return f"<RetryBudget {self.share:.0%}: {self.active} active, {self.refused} refused>"

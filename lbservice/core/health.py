"""The rise/fall memory of one server: it turns check results into up and down.

Semantics follow HAProxy's `rise` and `fall`: that many results of the other kind in a row flip the
state, one result of the present kind starts the count again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

HISTORY = 20
"""How many results are kept for each server."""

ON_ERROR = ("fail-check", "mark-down", "sudden-death", "fastinter")
"""What too many errors of requests may be taken for (HAProxy's on-error)."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One finished check: `code` is HAProxy's (L4OK, L4TOUT, L7STS, ...), times are seconds."""

    passed: bool
    code: str
    detail: str
    at: float
    duration: float

    def __str__(self) -> str:
        return f"{self.code} {self.detail}".rstrip()


class Health:
    """Is a server up? `since` is when (monotonic seconds) the present state began."""

    __slots__ = ("fall", "history", "reason", "rise", "since", "streak", "up")

    def __init__(self, *, rise: int = 2, fall: int = 3, up: bool = True, now: float = 0.0) -> None:
        self.rise = rise
        self.fall = fall
        self.up = up
        self.streak = fall - 1 if up else rise - 1
        """How many results in a row speak against the present state. As in HAProxy, the first result decides alone."""
        self.since = now
        self.reason = "not checked yet"
        self.history: deque[CheckResult] = deque(maxlen=HISTORY)

    @property
    def transition(self) -> bool:
        """Is the state in doubt: some, but not yet enough, results against it?"""
        return self.streak > 0

    @property
    def word(self) -> str:
        """HAProxy's status word: `UP`, `UP 2/3` (going down), `DOWN`, `DOWN 1/2` (coming up)."""
        if not self.transition:
            return "UP" if self.up else "DOWN"
        return f"UP {self.fall - self.streak}/{self.fall}" if self.up else f"DOWN {self.streak}/{self.rise}"

    def observe(self, result: CheckResult) -> bool:
        """Take one result in; did the state flip?"""
        self.history.append(result)
        self.reason = str(result)
        if result.passed == self.up:
            self.streak = 0
            return False
        self.streak += 1
        if self.streak < (self.fall if self.up else self.rise):
            return False
        self.up = not self.up
        self.since = result.at
        self.streak = 0
        return True

    def accuse(self, action: str) -> None:
        """Requests have failed: prepare for a failed result to mean what `on-error` says. Only while it is up."""
        if action == "mark-down":
            self.doubt(1)
        elif action == "sudden-death":
            self.doubt(2)

    def doubt(self, left: int = 1) -> None:
        """Let `left` more results against the present state suffice to flip it."""
        self.streak = max(self.streak, (self.fall if self.up else self.rise) - left)

    def __repr__(self) -> str:
        return f"<Health {self.word} ({self.reason})>"

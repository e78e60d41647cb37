"""What a server's agent wants of it: a small program beside the server that knows more than a check can see.

Semantics follow HAProxy's agent-check, but for one thing: what an agent says never overwrites what people said. A
server takes something new only if both let it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from lbservice.core.health import HISTORY, CheckResult


@dataclass(frozen=True, slots=True)
class Said:
    """One answer. What it does not speak of is None, and stays as it was."""

    share: float | None = None
    """Part of the weight, 1.0 for all of it."""
    maxconn: int | None = None
    hold: str | None = None
    """`ready`, `drain` or `maint`."""
    word: str | None = None
    """`up`, or one of the words for down: `down`, `fail`, `stopped`."""
    reason: str = ""


class Agent:
    """The memory of all that one agent has said."""

    __slots__ = ("history", "hold", "maxconn", "reason", "share", "understood", "word")

    def __init__(self) -> None:
        self.share = 1.0
        self.maxconn: int | None = None
        """What it wants in the place of the server's own; None: nothing."""
        self.hold = "ready"
        self.word = "up"
        self.reason = ""
        self.understood = True
        """Did its last answer come, and mean something?"""
        self.history: deque[CheckResult] = deque(maxlen=HISTORY)

    @property
    def up(self) -> bool:
        """Is the server well, as far as the agent knows?"""
        return self.word == "up"

    @property
    def admits(self) -> bool:
        """May the server take something new?"""
        return self.up and self.hold == "ready" and self.share > 0

    @property
    def stance(self) -> tuple[str, str, bool]:
        """What it says in words, the numbers left out."""
        return self.hold, self.word, self.admits

    @property
    def wants_checks(self) -> bool:
        """Is the server to be checked? Not in maintenance."""
        return self.hold != "maint"

    @property
    def state(self) -> str:
        """The word for what holds the server back; "UP" when nothing does."""
        if self.hold == "maint":
            return "MAINT"
        if not self.up:
            return "DOWN"
        return "UP" if self.admits else "DRAIN"

    @property
    def words(self) -> str:
        """All that is other than usual, e.g. `drain 50% maxconn:30 (new version)`; "" if nothing is."""
        words = [word for word, usual in ((self.hold, "ready"), (self.word, "up")) if word != usual]
        reason = [f"({self.reason})"] if words and self.reason else []
        if self.share != 1.0:
            words.append(f"{self.share:.0%}")
        if self.maxconn is not None:
            words.append(f"maxconn:{self.maxconn}")
        return " ".join(words + reason)

    def observe(self, result: CheckResult, said: Said | None) -> bool:
        """Take an answer in, or the lack of one (None), which changes nothing. Is anything new?"""
        self.history.append(result)
        self.understood = said is not None
        if said is None:
            return False
        before = (self.share, self.maxconn, self.hold, self.word)
        if said.share is not None:
            self.share = said.share
        if said.maxconn is not None:
            self.maxconn = said.maxconn
        if said.hold is not None:
            self.hold = said.hold
        if said.word is not None:
            self.word = said.word
        if said.hold is not None or said.word is not None:
            self.reason = said.reason
        return before != (self.share, self.maxconn, self.hold, self.word)

    def __repr__(self) -> str:
        return f"<Agent says {self.words or 'ready'}>"

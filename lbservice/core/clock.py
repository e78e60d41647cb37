"""Time as it comes in by the door: what we need of Twisted's IReactorTime, for the type checker.

The reactor fits `Clock`, and so does `twisted.internet.task.Clock` in tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is going to happen."""

    def active(self) -> bool:
        """Is it still to come?"""

    def cancel(self) -> None:
        """Let it not happen."""

    def reset(self, seconds: float, /) -> None:
        """Let it happen that many seconds from now."""


class Clock(Protocol):
    """Monotonic seconds, and calls after some of them."""

    def seconds(self) -> float:
        """Now."""

    def callLater(self, delay: float, callable: Callable[..., object], /, *args: Any) -> Timer:
        """Call it `delay` seconds from now."""


class Seldom:
    """For messages that a flood would repeat: yes at most once in `seconds`."""

    __slots__ = ("_next", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = float("-inf")

    def now(self, now: float) -> bool:
        """May it be said now? Then not again for a while."""
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True

"""One reusable deadline for each connection, cheap to move."""

from __future__ import annotations

from collections.abc import Callable

from lbservice.core.clock import Clock, Timer


class Deadline:
    """Calls `expired` once the moment last set has passed.

    Moving it later only writes down the new moment: the timer that is already set finds out when
    it fires, and sets itself again. So a busy connection costs one attribute a request, not a
    `callLater` and a `cancel`.
    """

    __slots__ = ("_at", "_clock", "_expired", "_fires", "_timer")

    def __init__(self, clock: Clock, expired: Callable[[], None]) -> None:
        self._clock = clock
        self._expired: Callable[[], None] | None = expired
        self._timer: Timer | None = None
        self._at = 0.0
        self._fires = 0.0
        """When the timer fires, if one is set; never later than the deadline."""

    def set(self, now: float, seconds: float) -> None:
        """Expire `seconds` after `now` (which is `clock.seconds()`, and often at hand already)."""
        self._at = at = now + seconds
        if self._timer is None:
            if self._expired is not None:
                self._start(at, seconds)
        elif at < self._fires:
            self._timer.reset(seconds)
            self._fires = at

    def close(self) -> None:
        """Never again. Breaks the reference cycle with the owner."""
        self._expired = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        if now < self._at:
            self._start(self._at, self._at - now)
        elif self._expired is not None:
            self._expired()

    def _start(self, at: float, seconds: float) -> None:
        self._fires = at
        self._timer = self._clock.callLater(seconds, self._fire)

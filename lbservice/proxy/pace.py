"""How fast a peer brings and takes bytes, and when that is so slow that it only holds us up."""

from __future__ import annotations

from math import inf
from typing import Any

from lbservice.proxy.transport import outstanding

MIN_RATE = 100
"""Bytes a second, on average, that a client must bring of a request's body, and take of what we write."""
RATE_AFTER = 10.0
"""Seconds after which the average of a request's body counts."""
WATCH = 0.5
"""Seconds from one look to the next at a peer that is not read: the reactor would not tell that it has gone."""


class Intake:
    """How a client brings the body of one request.

    Nothing may come for at most `timeout` seconds, for `first` seconds at the beginning.
    """

    __slots__ = ("_began", "_bytes", "_first", "_moved", "_timeout")

    def __init__(self, now: float, timeout: float, first: float = inf) -> None:
        self._timeout = timeout
        self._first = first
        self.restart(now)

    def restart(self, now: float) -> None:
        """Forget the past: until now it was not the client who held things up."""
        self._began = self._moved = now
        self._bytes = 0

    def came(self, size: int, now: float) -> None:
        """So many bytes of the body have come."""
        self._moved = now
        self._bytes += size
        self._first = inf

    @property
    def due(self) -> float:
        """When patience ends if no more comes until then."""
        slow = self._began + min(self._first, max(RATE_AFTER, self._bytes / MIN_RATE))
        return min(self._moved + self._timeout, slow)


class Uptake:
    """How a peer takes what was written to a transport: what is left unacknowledged, from one look to the next.

    Within `timeout` seconds it must take the rest, or something, and that at `rate` bytes a second.
    """

    __slots__ = ("_rate", "_timeout", "_transport", "due", "left")

    def __init__(self, transport: Any, now: float, timeout: float, rate: int = MIN_RATE) -> None:
        self._transport = transport
        self._timeout = timeout
        self._rate = rate
        self.due = now + timeout
        """When patience ends if it does not move until then."""
        self.left = outstanding(transport)
        """Bytes at the last look."""

    def stalls(self, now: float) -> bool:
        """Look again, if it is time: has the peer not moved?"""
        if now < self.due:
            return False
        before, self.left = self.left, outstanding(self._transport)
        waited = now - self.due + self._timeout
        self.due = now + self._timeout
        taken = before - self.left
        return taken <= 0 or (self.left > 0 and taken < self._rate * waited)

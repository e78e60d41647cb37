"""Closing a connection whose last bytes may still have to be written."""

from __future__ import annotations

from typing import Any

from lbservice.core.clock import Clock
from lbservice.proxy.deadline import Deadline
from lbservice.proxy.transport import outstanding

PATIENCE = 30.0
"""Seconds without any progress after which the rest is given up."""


class SoftClose:
    """Closes a transport once everything is written, and cuts it when its peer takes nothing more.

    Its owner calls `over` when the connection is lost.
    """

    __slots__ = ("_clock", "_deadline", "_left", "_transport")

    def __init__(self, transport: Any, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._left = outstanding(transport)
        self._deadline = Deadline(clock, self._expired)

    def start(self) -> None:
        """Begin; the connection may be lost before this returns."""
        self._deadline.set(self._clock.seconds(), PATIENCE)
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def over(self) -> None:
        """The connection is lost."""
        self._deadline.close()

    def _expired(self) -> None:
        before, self._left = self._left, outstanding(self._transport)
        if self._left < before:
            self._deadline.set(self._clock.seconds(), PATIENCE)
        else:
            self._transport.abortConnection()

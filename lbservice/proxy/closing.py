"""Closing a connection whose last bytes may still have to be written."""

from __future__ import annotations

from typing import Any

from lbservice.core.clock import Clock
from lbservice.proxy.deadline import Deadline
from lbservice.proxy.pace import Uptake

PATIENCE = 30.0
"""Seconds in which the peer must take something, or the rest is given up."""


class SoftClose:
    """Closes a transport once everything is written, and cuts it when its peer takes nothing more.

    Its owner calls `over` when the connection is lost.
    """

    __slots__ = ("_clock", "_deadline", "_transport", "_uptake")

    def __init__(self, transport: Any, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._uptake = Uptake(transport, clock.seconds(), PATIENCE)
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
        now = self._clock.seconds()
        if self._uptake.stalls(now):
            self._transport.abortConnection()
        else:
            self._deadline.set(now, PATIENCE)

"""Closing a connection whose last bytes may still have to be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lbservice.core.clock import Clock
from lbservice.proxy.deadline import Deadline
from lbservice.proxy.pace import Uptake
from lbservice.proxy.transport import outstanding

PATIENCE = 30.0
"""Seconds in which the peer must take something, or the rest is given up."""
LINGER = 2.0
"""Seconds that we go on reading from a peer which has all our bytes, and does not close."""


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


class LingeringClose:
    """Closes our half and goes on reading, so that a reset does not destroy our last bytes (RFC 9112 section 9.6).

    The peer must take them, something in each `timeout` seconds, and then has `LINGER` to close. `finished` is
    called when it did not; its owner calls `over` when it did, or the connection is lost.
    """

    __slots__ = ("_clock", "_deadline", "_finished", "_transport", "_uptake")

    def __init__(self, transport: Any, clock: Clock, timeout: float, finished: Callable[[], None]) -> None:
        self._transport = transport
        self._clock = clock
        self._finished = finished
        self._uptake = Uptake(transport, clock.seconds(), timeout)
        self._deadline = Deadline(clock, self._expired)

    def start(self) -> None:
        """Begin."""
        self._wait()
        self._transport.unregisterProducer()
        self._transport.loseWriteConnection()

    def over(self) -> None:
        """The peer has closed its half too, or the connection is lost."""
        self._deadline.close()

    def _wait(self) -> None:
        now = self._clock.seconds()
        self._deadline.set(now, min(self._uptake.due - now, LINGER) if self._uptake.left else LINGER)

    def _expired(self) -> None:
        if not self._uptake.left:
            self._finished()
        elif self._uptake.stalls(self._clock.seconds()):
            self._transport.abortConnection()
        else:
            if not outstanding(self._transport):
                self._uptake.left = 0
            self._wait()

"""Times in which the reactor stood still, and so all traffic: each one above a tenth of a second is told.

A timer that comes late says so: it costs twenty wake-ups a second, a hundred where there is much to do, and a request
nothing. What was typed at the shell
is the usual cause, and measured by itself; a policy of one's own, a huge answer or a machine without CPU are others,
which the CPU time tells apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger, LogLevel

from lbservice.services.typed import TYPED, Typed

IDLE, BUSY = 0.05, 0.01
"""Seconds between two looks; a stall may have begun by so much before the one that was missed."""
LIMIT = 0.1
QUIET = 1.0
"""Seconds after a line before there is another one; stalls between are counted."""


class Stalls(Service):
    """Looks while it runs."""

    name = "stalls"
    log = Logger()

    def __init__(self, reactor: Any, typed: Typed = TYPED, cpu: Callable[[], float] = time.thread_time) -> None:
        self._reactor = reactor
        self._typed = typed
        self._cpu = cpu
        self._timer: Any = None
        self._inter = IDLE
        self._quiet_until = 0.0
        self._untold = 0

    def startService(self) -> None:
        super().startService()
        self._reactor.callWhenRunning(self._begin)

    def stopService(self) -> None:
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        if self.running:
            self._due, self._cpu_before = self._reactor.seconds() + self._inter, self._cpu()
            self._timer = self._reactor.callLater(self._inter, self._beat)

    def _beat(self) -> None:
        now, cpu = self._reactor.seconds(), self._cpu()
        typed = self._typed.take()
        late, computed = now - self._due, cpu - self._cpu_before
        if typed is not None and typed[0] > LIMIT:
            self._tell(now, f"{typed[0] * 1000:.0f}", computed, f": {typed[1]} had typed: {typed[2]}")
        elif late + self._inter > LIMIT:
            shown = f"{late * 1000:.0f} to {(late + self._inter) * 1000:.0f}"
            if now >= self._quiet_until:
                # Without CPU time it was the machine's doing: worth knowing, and nobody's fault here.
                self._tell(now, shown, computed, "", LogLevel.warn if computed > late / 2 else LogLevel.info)
            else:
                self._untold += 1
        self._inter = BUSY if computed > (late + self._inter) / 4 else IDLE
        self._due, self._cpu_before = now + self._inter, cpu
        self._timer = self._reactor.callLater(self._inter, self._beat)

    def _tell(self, now: float, took: str, cpu: float, typed: str, level: Any = LogLevel.warn) -> None:
        self.log.emit(
            level,
            "everything stood still for {took} ms ({cpu:.0f} ms of them computing){typed}{more}",
            event="stall",
            took=took,
            cpu=cpu * 1000,
            typed=typed,
            more=f"; {self._untold} more since the last line" if self._untold else "",
        )
        self._untold = 0
        self._quiet_until = now + QUIET

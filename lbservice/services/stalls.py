"""Times in which the reactor stood still, and so all traffic: each one above a tenth of a second is told.

A timer that comes late says so: it costs fifty wake-ups a second, and a request nothing. What was typed at the shell
meanwhile is the usual cause; a policy of one's own, a huge answer or a machine without CPU are others, which the
CPU time tells apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger, LogLevel

from lbservice.services.typed import TYPED, Typed

BEAT = 0.02
"""Seconds between two looks; by so much a stall may be longer than it is told."""
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
            self._due, self._cpu_before = self._reactor.seconds() + BEAT, self._cpu()
            self._timer = self._reactor.callLater(BEAT, self._beat)

    def _beat(self) -> None:
        now, cpu = self._reactor.seconds(), self._cpu()
        typed = self._typed.take()
        late = now - self._due
        if late > LIMIT - BEAT and (took := late + BEAT) > LIMIT:
            self._tell(now, took, cpu - self._cpu_before, typed)
        self._due, self._cpu_before = now + BEAT, cpu
        self._timer = self._reactor.callLater(BEAT, self._beat)

    def _tell(self, now: float, took: float, cpu: float, typed: tuple[float, str, str] | None) -> None:
        if typed is not None and typed[0] < took / 2:
            typed = None  # it was not that
        if typed is None and now < self._quiet_until:
            self._untold += 1
            return
        # Without CPU time it was the machine's doing: worth knowing, and nobody's fault here.
        level = LogLevel.warn if cpu > took / 2 or typed else LogLevel.info
        self.log.emit(
            level,
            "everything stood still for {took:.0f} ms ({cpu:.0f} ms of them computing){typed}{more}",
            event="stall",
            took=took * 1000,
            cpu=cpu * 1000,
            typed=f": {typed[1]} had typed: {typed[2]}" if typed else "",
            more=f"; {self._untold} more since the last line" if self._untold else "",
        )
        self._untold = 0
        self._quiet_until = now + QUIET

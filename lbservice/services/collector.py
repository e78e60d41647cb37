"""Python's garbage collector, so paced that nobody has to wait for it.

A full collection looks at every object that is alive: measured, 5 ms for a thousand idle clients, and
nobody is served meanwhile. It finds next to nothing here, since connections take their reference
cycles apart when they close. So what has lived for some seconds is frozen, which hides it from the
collector, and what becomes garbage all the same is looked for now and then, while nothing goes on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Protocol, cast

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from lbservice.core.clock import Clock

FREEZE = 5.0
"""Seconds from one freezing to the next: only what is younger is looked at by automatic collections."""
FULL = 600.0
"""Seconds from one look at everything to the next, as soon as nothing is in flight; at the latest after twice that."""


class Collecting(Protocol):
    """As much of the module `gc` as is needed."""

    def collect(self, generation: int = 2) -> int: ...

    def freeze(self) -> None: ...

    def unfreeze(self) -> None: ...


class Collector(Service):
    """Freezes what lives on. `in_flight()` says how many requests and sessions are going on."""

    name = "collector"
    log = Logger()

    def __init__(self, clock: Clock, in_flight: Callable[[], int], collecting: Collecting = gc) -> None:
        self._clock = clock
        self._in_flight = in_flight
        self._gc = collecting
        self._next_full = 0.0
        self._rounds = LoopingCall(self._round)
        self._rounds.clock = cast(IReactorTime, clock)

    def startService(self) -> None:
        super().startService()
        self._look_at_everything()
        self._rounds.start(FREEZE, now=False).addErrback(self._failed)

    def stopService(self) -> None:
        super().stopService()
        if self._rounds.running:
            self._rounds.stop()

    def _round(self) -> None:
        late = self._clock.seconds() - self._next_full
        if late >= FULL or (late >= 0 and not self._in_flight()):
            self._look_at_everything()
        else:
            self._gc.collect(0)
            self._gc.freeze()

    def _look_at_everything(self) -> None:
        self._gc.unfreeze()
        self._gc.collect()
        self._gc.freeze()
        self._next_full = self._clock.seconds() + FULL

    def _failed(self, failure: Failure) -> None:
        self.log.failure("pacing the garbage collector", failure)

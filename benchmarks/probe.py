"""Runs inside a balancer that is measured: how late the reactor's timers are, and why.

`twistd` loads the balancer and this service from a file of two lines. A timer is set to a
millisecond again and again; what it is late is the time that the reactor was busy with one turn,
or that the kernel gave the core to somebody else. The CPU time of the thread over the same span tells
one from the other: no more of a delay than this can be of our own making.
"""

from __future__ import annotations

import gc
import json
import time
from array import array
from pathlib import Path
from typing import Any

from twisted.application.service import Application, Service

from lbservice import tap

TICK = 0.001
MOST = 1_000_000
"""Samples that are kept."""


class Probe(Service):
    """Writes `samples` and `pauses` when it is stopped; times are seconds of the monotonic clock."""

    def __init__(self, reactor: Any, report: Path) -> None:
        self._reactor = reactor
        self._report = report
        self._when, self._late, self._own = array("d"), array("d"), array("d")
        self._pauses: list[tuple[float, int, float]] = []
        self._due = self._cpu = self._gc_began = 0.0

    def startService(self) -> None:
        super().startService()
        gc.callbacks.append(self._collecting)
        self._set()

    def stopService(self) -> None:
        super().stopService()
        gc.callbacks.remove(self._collecting)
        samples = list(zip(self._when, self._late, self._own, strict=True))
        self._report.write_text(json.dumps({"samples": samples, "pauses": self._pauses}))

    def _set(self) -> None:
        self._cpu = time.thread_time()
        self._due = time.monotonic() + TICK
        self._reactor.callLater(TICK, self._fire)

    def _fire(self) -> None:
        now = time.monotonic()
        late = now - self._due
        if self.running and len(self._when) < MOST:
            self._when.append(now)
            self._late.append(late)
            self._own.append(min(late, time.thread_time() - self._cpu))
            self._set()

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        now = time.monotonic()
        if phase == "start":
            self._gc_began = now
        else:
            self._pauses.append((now, info["generation"], now - self._gc_began))


def application(config: str, report: str) -> Any:
    """What twistd runs: the balancer, and the probe beside it on the same reactor."""
    options = tap.Options()
    options.parseOptions(["--config", config])
    made: Any = Application("lbservice")
    tap.makeService(options).setServiceParent(made)
    from twisted.internet import reactor  # after the balancer has set it up

    Probe(reactor, Path(report)).setServiceParent(made)
    return made

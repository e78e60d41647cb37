"""That requests are tried again, told with counts: now and then, not once for each."""

from __future__ import annotations

from collections import Counter

from twisted.logger import Logger

from lbservice.core.backend import Backend
from lbservice.core.clock import Clock, Seldom, Timer
from lbservice.core.server import Server
from lbservice.services.monitor import words

FIRST = 1.0
"""Seconds that are counted together after a quiet time."""
NEXT = 10.0
"""Seconds that are counted together while it goes on."""
REFUSED = 1.0
"""Seconds between two sentences about an exhausted budget."""


class RetryLog:
    """Counts the retries of all backends, and says how many there were."""

    log = Logger()

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[str, Counter[str]] = {}
        """For each backend with retries lately: how many were due to each of its servers."""
        self._timers: dict[str, Timer] = {}
        self._refused: dict[str, Seldom] = {}

    def retried(self, backend: Backend, server: Server, again: bool) -> None:
        """A request failed on this server, and is tried `again`; or not, because the budget is used up."""
        if not again:
            self._exhausted(backend)
            return
        counts = self._counts.setdefault(backend.name, Counter())
        counts[server.name] += 1
        if backend.name not in self._timers:
            self._wait(backend.name, FIRST)

    def _wait(self, backend: str, seconds: float) -> None:
        self._timers[backend] = self._clock.callLater(seconds, self._report, backend, seconds)

    def _report(self, backend: str, seconds: float) -> None:
        del self._timers[backend]
        counts = self._counts.pop(backend, None)
        if not counts:
            return
        self.log.info(
            "backend {backend}: {count} retries in {seconds}, after failures of {servers}",
            event="retries",
            backend=backend,
            count=counts.total(),
            seconds=words(seconds),
            servers=", ".join(f"{server} ({count})" for server, count in counts.most_common(10)),
        )
        self._wait(backend, NEXT)

    def _exhausted(self, backend: Backend) -> None:
        if self._refused.setdefault(backend.name, Seldom(REFUSED)).now(self._clock.seconds()):
            budget = backend.budget
            self.log.warn(
                "backend {backend} has used up its retry budget: {active} repetitions, {in_flight} requests in flight;"
                " {refused} were not repeated so far",
                event="retry-budget",
                backend=backend.name,
                active=budget.active,
                in_flight=backend.in_flight,
                refused=budget.refused,
            )

    def stop(self) -> None:
        """The service is stopping."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

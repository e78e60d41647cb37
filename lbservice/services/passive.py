"""Passive health at work: what requests say of a server becomes a failed check, an ejection or a rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.logger import Logger

from lbservice.core.backend import Backend
from lbservice.core.clock import Clock, Seldom, Timer
from lbservice.core.outlier import Outliers
from lbservice.core.passive import ERRORS, LAYERS, ErrorRuns
from lbservice.core.server import Ejection, Server
from lbservice.core.settings import ObserveSettings
from lbservice.services.backoff import Backoff
from lbservice.services.monitor import HealthMonitor, words

TELL = 10.0
"""Seconds between two sentences about a server that cannot be put out."""


class PassiveHealth:
    """Listens to the uses of servers.

    `out(server)` is called when one is put out, `back(backend, server)` when it returns; both before its backend knows.
    """

    log = Logger()

    def __init__(
        self,
        clock: Clock,
        monitor: HealthMonitor,
        out: Callable[[Server], None],
        back: Callable[[Backend, Server], None],
    ) -> None:
        self._clock = clock
        self._monitor = monitor
        self._out = out
        self._back = back
        self._runs: dict[str, list[ErrorRuns]] = {}
        self._outliers: dict[str, Outliers] = {}
        self._timers: dict[Server, Timer] = {}
        self._backoff = Backoff(clock)
        self._tell = Seldom(TELL)
        self._stopped = False

    def attend(self, backend: Backend) -> None:
        """Listen to a backend from now on, as it is configured now."""
        settings = backend.settings
        runs = self._runs[backend.name] = []
        self._outliers.pop(backend.name, None)
        if settings.observe is not None:
            observe = settings.observe
            runs.append(ErrorRuns(LAYERS[observe.layer], observe.limit, partial(self._suspect, backend, observe)))
        if settings.outlier is not None:
            outlier = settings.outlier
            self._outliers[backend.name] = Outliers(outlier)
            runs.append(ErrorRuns(ERRORS[outlier.errors], outlier.limit, partial(self._eject, backend)))
        backend.listeners = (*(run.heard for run in runs), partial(self._backoff.heard, backend))

    def dismiss(self, backend: Backend) -> None:
        """A backend is gone."""
        self._runs.pop(backend.name, None)
        self._outliers.pop(backend.name, None)

    def _suspect(self, backend: Backend, observe: ObserveSettings, server: Server, why: str) -> None:
        self._monitor.suspect(backend, server, why, observe.on_error)

    # -- ejection --------------------------------------------------------------------------

    def _eject(self, backend: Backend, server: Server, why: str) -> None:
        if self._stopped or not server.available:
            return  # maybe its last requests before it was held back
        now = self._clock.seconds()
        outliers = self._outliers[backend.name]
        seconds = outliers.sentence(backend, server, now)
        if not seconds:
            if self._tell.now(now):
                self.log.warn(
                    "server {server} would be EJECTED ({why}), but too few would be left",
                    event="ejection-refused",
                    server=server.path,
                    why=why,
                )
            return
        server.ejection = Ejection(now + seconds, why)
        self._timers[server] = self._clock.callLater(seconds, self._over, backend, server)
        self.log.warn(
            "server {server} is EJECTED ({why}) for {duration}, time {times}",
            event="ejected",
            server=server.path,
            why=why,
            duration=words(seconds),
            times=outliers.times(server),
        )
        self._out(server)
        backend.refresh()

    def _over(self, backend: Backend, server: Server) -> None:
        """Its time is up."""
        del self._timers[server]
        self._return(backend, server, "its time is up")

    def pardon(self, backend: Backend, server: Server, actor: str) -> None:
        """Let a server return before its time, if it is out."""
        timer = self._timers.pop(server, None)
        if timer is not None:
            timer.cancel()
            self._return(backend, server, f"by {actor}")

    def returned(self, server: Server) -> None:
        """It comes back from being down: its errors before that are over."""
        self._backoff.forget(server)
        for runs in self._runs[server.backend]:
            runs.forget(server)

    def _return(self, backend: Backend, server: Server, why: str) -> None:
        assert server.ejection is not None
        server.ejection = None
        if backend.name in self._outliers:  # else a reload has switched it off
            self._outliers[backend.name].returned(server, self._clock.seconds())
        self.returned(server)
        self.log.info(
            "the ejection of server {server} is over ({why})", event="ejection-over", server=server.path, why=why
        )
        if server.available:
            self._back(backend, server)
        backend.refresh()

    # -- ends ------------------------------------------------------------------------------

    def forget(self, server: Server) -> None:
        """It is gone for good."""
        self._backoff.forget(server)
        timer = self._timers.pop(server, None)
        if timer is not None:
            timer.cancel()
        for runs in self._runs.get(server.backend, ()):
            runs.forget(server)
        if server.backend in self._outliers:
            self._outliers[server.backend].forget(server)

    def stop(self) -> None:
        """The service is stopping: nobody is put out any more, and nobody returns."""
        self._stopped = True
        self._backoff.stop()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

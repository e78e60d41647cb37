"""Slow start: a server that comes back gets its share step by step, while its caches and pools warm up.

Weight and maxconn grow evenly from `LEAST` of them to all, in `STEPS` steps. One timer runs while anybody ramps.
"""

from __future__ import annotations

from twisted.logger import Logger

from lbservice.core.backend import Backend
from lbservice.core.clock import Clock, Timer
from lbservice.core.server import Server
from lbservice.services.monitor import words

LEAST = 0.1
STEPS = 20


class SlowStart:
    """The servers that ramp at present: since when, and for how many seconds."""

    log = Logger()

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ramps: dict[Server, tuple[Backend, float, float]] = {}
        self._timer: Timer | None = None
        self._interval = 0.0

    def begin(self, backend: Backend, server: Server) -> None:
        """It is coming back: let it begin with a small share. Whoever calls this refreshes the backend afterwards."""
        own = server.settings.slowstart
        window = backend.settings.slowstart if own is None else own
        if not window:
            return
        self._ramps[server] = backend, self._clock.seconds(), window
        server.ramp = LEAST
        self.log.info(
            "server {server} starts slowly: from {least:.0%} to all of its share in {window}",
            event="slowstart",
            server=server.path,
            least=LEAST,
            window=words(window),
        )
        self._run()

    def end(self, server: Server) -> None:
        """It does not ramp any more: it is down again, ejected or gone. The caller refreshes the backend afterwards."""
        if self._ramps.pop(server, None) is not None:
            server.ramp = 1.0
            self._run()

    def stop(self) -> None:
        """Everybody has the full share; the service is stopping."""
        for server in list(self._ramps):
            self.end(server)

    def _run(self) -> None:
        """Let the timer run, as often as the quickest ramp needs it, or not at all."""
        timer, interval = self._timer, min((window / STEPS for _, _, window in self._ramps.values()), default=0.0)
        if not interval:
            if timer is not None:
                timer.cancel()
                self._timer = None
        elif timer is None:
            self._timer = self._clock.callLater(interval, self._step)
        elif interval < self._interval:
            timer.reset(interval)
        self._interval = interval

    def _step(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        changed: dict[str, Backend] = {}
        for server, (backend, began, window) in list(self._ramps.items()):
            part = (now - began) / window
            if part >= 1 - 0.5 / STEPS:
                del self._ramps[server]
                server.ramp = 1.0
                self.log.info("server {server} has its full share again", event="slowstart-done", server=server.path)
            else:
                server.ramp = LEAST + (1 - LEAST) * part
            changed[backend.name] = backend
        self._run()
        for backend in changed.values():
            backend.refresh()

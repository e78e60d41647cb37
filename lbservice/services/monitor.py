"""The health monitor: a LoopingCall for each server asks how it is, and the backend hears when that changes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import cast

from twisted.application.service import Service
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from lbservice.core.backend import Backend
from lbservice.core.clock import Clock, Timer
from lbservice.core.health import CheckResult
from lbservice.core.server import Admin, Server
from lbservice.services.checks import Check

JITTER = 0.1
"""The width of an interval's random spread, so that balancers and servers do not march in step."""


class HealthMonitor(Service):
    """Watches servers. `up(server)` is called when one comes back, before its backend is told, and `down(server)` when
    one goes down, after that. The first check of a server brings nobody back: before it nothing was known.
    """

    name = "monitor"
    log = Logger()

    def __init__(
        self,
        clock: Clock,
        random: Random,
        down: Callable[[Server], None],
        up: Callable[[Server], None] = lambda server: None,
    ) -> None:
        self._clock = clock
        self._random = random
        self._down = down
        self._up = up
        self._rounds: dict[Server, _Rounds] = {}

    def watch(self, backend: Backend, server: Server, check: Check, delay: float = 0.0) -> None:
        """Check this server from now on, the first time after `delay` seconds."""
        rounds = self._rounds[server] = _Rounds(self, backend, server, check, delay)
        if self.running:
            rounds.start()

    def forget(self, server: Server) -> None:
        """Check it no more."""
        rounds = self._rounds.pop(server, None)
        if rounds is not None:
            rounds.stop()

    def startService(self) -> None:
        super().startService()
        for rounds in self._rounds.values():
            rounds.start()

    def stopService(self) -> None:
        super().stopService()
        for rounds in self._rounds.values():
            rounds.stop()

    def observe(self, backend: Backend, server: Server, result: CheckResult) -> None:
        """Take one result in, and tell the backend and the log when the server's state flips."""
        health = server.health
        since, before, first = health.since, health.up, not health.history
        if not health.observe(result):
            return
        self.log.info(
            "server {server} is {state} ({reason}), was {before} for {duration}",
            event="health",
            server=server.path,
            state="UP" if health.up else "DOWN",
            reason=health.reason,
            before="UP" if before else "DOWN",
            duration=words(result.at - since),
        )
        if health.up and not first:
            self._up(server)
        backend.refresh()
        if not health.up:
            self._down(server)

    def suspect(self, backend: Backend, server: Server, why: str, on_error: str) -> None:
        """Requests say that a server is ill: take it as `on_error` says (HAProxy's on-error), and ask it soon.

        One that is down already, or that nobody asks, is left alone: nothing would bring it up again.
        """
        rounds = self._rounds.get(server)
        if rounds is None or not (self.running and server.health.up) or server.admin is Admin.MAINT:
            return
        self.log.info(
            "server {server} has failed: {why}; {action}",
            event="observed",
            server=server.path,
            why=why,
            action=on_error,
        )
        if on_error != "fastinter":
            server.health.accuse(on_error)
            self.observe(backend, server, CheckResult(False, "HANA", why, self._clock.seconds(), 0.0))
        if backend.settings.check.fastinter is not None:
            rounds.hasten(backend.settings.check.fastinter)

    def doubt(self, server: Server) -> None:
        """Nobody has looked at it for a while: ask it now, and let the answer decide alone."""
        rounds = self._rounds.get(server)
        if rounds is not None:
            server.health.doubt()
            rounds.hasten(0.0)


class _Rounds:
    """The LoopingCall of one server. A round that takes long delays the next one and never overlaps it."""

    def __init__(self, monitor: HealthMonitor, backend: Backend, server: Server, check: Check, delay: float) -> None:
        self._monitor = monitor
        self._backend = backend
        self._server = server
        self._check = check
        self._delay = delay
        self._loop = LoopingCall(self._round)
        self._loop.clock = cast(IReactorTime, monitor._clock)
        self._first: Timer | None = None
        self._stopped = False

    def start(self) -> None:
        self._stopped = False
        self._first = self._monitor._clock.callLater(self._delay, self._begin)

    def stop(self) -> None:
        self._stopped = True
        if self._first is not None and self._first.active():
            self._first.cancel()
        if self._loop.running:
            self._loop.stop()

    def hasten(self, delay: float) -> None:
        """Ask in `delay` seconds, if it is not asked earlier or right now."""
        first = self._first
        call = cast(DelayedCall | None, first if first is not None and first.active() else self._loop.call)
        if self._stopped or call is None or not call.active():
            return
        if delay < call.getTime() - self._monitor._clock.seconds():
            call.reset(delay)

    def _begin(self) -> None:
        self._loop.start(self._backend.settings.check.inter)

    def _round(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._ask()).addErrback(self._broke)

    def _broke(self, failure: Failure) -> None:
        """A check has a bug: say so, and ask again in the next round."""
        self._monitor.log.failure("health check of {server}", failure, server=self._server.path)

    async def _ask(self) -> None:
        server, settings = self._server, self._backend.settings.check
        begun = self._monitor._clock.seconds()
        if server.admin is not Admin.MAINT:
            result = await self._check.run(server)
            if self._stopped:
                return
            if result is not None:
                self._monitor.observe(self._backend, server, result)
        health = server.health
        interval = settings.interval(up=health.up, transition=health.transition)
        spread = 1 + JITTER * (self._monitor._random.random() - 0.5)
        # A LoopingCall keeps to the multiples of one interval; ours differ from round to round, and are
        # counted from the beginning of the round, however long that took.
        self._loop.starttime = now = self._monitor._clock.seconds()
        self._loop.interval = max(0.0, begun + interval * spread - now)


def words(seconds: float) -> str:
    """A duration for people: `850ms`, `12s`, `2h03m`, `3d04h`."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    whole = milliseconds // 1000
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"

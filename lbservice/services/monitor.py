"""The health monitor: LoopingCalls ask each server, and its agent, how it is; the backend hears when that changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import cast

from twisted.application.service import Service
from twisted.internet.base import DelayedCall
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from lbservice.core.agent import Said
from lbservice.core.backend import Backend
from lbservice.core.clock import Clock, Seldom, Timer
from lbservice.core.health import CheckResult
from lbservice.core.server import Admin, Server
from lbservice.services.agent import AgentCheck
from lbservice.services.checks import Check, Unasked

JITTER = 0.1
"""The width of an interval's random spread, so that balancers and servers do not march in step."""
ACCUSED = "HANA"
"""The code of a failed check that was none, but errors of requests (HAProxy's word)."""
SELDOM = 10.0
"""Seconds between two complaints that servers cannot be asked."""


class HealthMonitor(Service):
    """Watches servers. `up(server)` is called when one comes back, before its backend is told, and `down(server)` when
    one goes down, after that. One that comes out of its agent's maintenance comes back, too. The first check of a
    server brings nobody back: before it nothing was known.
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
        self._agents: dict[Server, _Rounds] = {}
        self._complains = Seldom(SELDOM)

    def watch(self, backend: Backend, server: Server, check: Check, delay: float = 0.0) -> None:
        """Check this server from now on, the first time after `delay` seconds."""
        settings, health = backend.settings.check, server.health

        async def ask() -> float:
            if not server.in_maint:
                result = await check.run(server)
                if isinstance(result, Unasked):
                    self.unasked(server, result)
                elif not server.in_maint:  # else it has begun meanwhile, and says nothing of a server that works
                    self.observe(backend, server, result)
            return settings.interval(up=health.up, transition=health.transition)

        self._begin(self._rounds, server, _Rounds(self, server, ask, settings.inter, delay))

    def watch_agent(self, backend: Backend, server: Server, check: AgentCheck, delay: float = 0.0) -> None:
        """Ask this server's agent from now on."""

        async def ask() -> float:
            if not in_hand(server):
                result, said = await check.run(server)
                if isinstance(result, Unasked):
                    self.unasked(server, result)
                elif not in_hand(server):  # as above
                    self.heed(backend, server, result, said)
            return check.settings.inter

        self._begin(self._agents, server, _Rounds(self, server, ask, check.settings.inter, delay))

    def _begin(self, every: dict[Server, _Rounds], server: Server, rounds: _Rounds) -> None:
        every[server] = rounds
        if self.running:
            rounds.start()

    def forget(self, server: Server) -> None:
        """Check it no more."""
        for every in (self._rounds, self._agents):
            if server in every:
                every.pop(server).stop()

    def startService(self) -> None:
        super().startService()
        for rounds in (*self._rounds.values(), *self._agents.values()):
            rounds.start()

    def stopService(self) -> None:
        super().stopService()
        for rounds in (*self._rounds.values(), *self._agents.values()):
            rounds.stop()

    def observe(self, backend: Backend, server: Server, result: CheckResult) -> None:
        """Take one result in, and tell the backend and the log when the server's state flips."""
        health = server.health
        since, before, word = health.since, health.up, health.word
        first = not health.history
        last = health.history[-1].code if health.history else ""
        if not health.observe(result):
            # Of an accusation `suspect` has told already; it is no check.
            if backend.settings.check.log and result.code != ACCUSED and (health.word != word or result.code != last):
                self._tell_result(server, result)
            return
        self.log.info(
            "server {server} is {state} ({reason}), was {before} for {duration}",
            event="health",
            server=server.path,
            state="UP" if health.up else "DOWN",
            reason=health.reason,
            before="UP" if before else "DOWN",
            duration=words(result.at - since),
            code=result.code,
            detail=result.detail,
            took=result.duration,
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
        if rounds is None or not (self.running and server.health.up) or server.in_maint:
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
            self.observe(backend, server, CheckResult(False, ACCUSED, why, self._clock.seconds(), 0.0))
        if backend.settings.check.fastinter is not None:
            rounds.hasten(backend.settings.check.fastinter)

    def doubt(self, server: Server) -> None:
        """Nobody has looked at it for a while: ask it now, and let the answer decide alone. Its agent is asked, too."""
        rounds = self._rounds.get(server)
        if rounds is not None:
            server.health.doubt()
            rounds.hasten(0.0)
        agent = self._agents.get(server)
        if agent is not None:
            agent.hasten(0.0)

    def _tell_result(self, server: Server, result: CheckResult) -> None:
        self.log.info(
            "check of server {server} {verdict} after {duration} ({reason}): {state}",
            event="check",
            server=server.path,
            verdict="passed" if result.passed else "failed",
            duration=words(result.duration),
            reason=str(result),
            state=server.health.word,
            code=result.code,
            detail=result.detail,
            took=result.duration,
        )

    def heed(self, backend: Backend, server: Server, result: CheckResult, said: Said | None) -> None:
        """Take one answer of a server's agent in, or the lack of one, which changes nothing."""
        agent = server.agent
        if agent is None:
            return
        before, was_up, was_understood, words_before = agent.stance, agent.up, agent.understood, agent.words
        was_maint = not agent.wants_checks
        if server.hear(result, said):
            if agent.stance != before:  # a weight that follows the load is no news
                self.log.info(
                    "agent of server {server} says {said}, said {before}",
                    event="agent",
                    server=server.path,
                    said=agent.words or "ready",
                    before=words_before or "ready",
                    state=server.state,
                )
            checked_again = was_maint and agent.wants_checks
            if checked_again:
                self.doubt(server)
            if agent.up and (checked_again or not was_up) and server.health.up:
                self._up(server)
            backend.refresh()
            if was_up and not agent.up:
                self._down(server)
        if agent.understood != was_understood:
            how = "answers again" if agent.understood else "gives no usable answer; what it said last holds"
            self.log.info(
                "agent of server {server} {how} ({reason})",
                event="agent-understood" if agent.understood else "agent-lost",
                server=server.path,
                how=how,
                reason=str(result),
            )

    def unasked(self, server: Server, lack: Unasked) -> None:
        """A lack of ours says nothing about the server; it is said now and then."""
        if self._complains.now(self._clock.seconds()):
            self.log.warn(
                "server {server} cannot be checked ({reason}): what is known of servers stays as it is",
                event="unasked",
                server=server.path,
                reason=lack.why,
            )


class _Rounds:
    """A LoopingCall of one server. A round that takes long delays the next one and never overlaps it.

    `ask` is one round; it answers how many seconds after its beginning the next one begins.
    """

    def __init__(
        self, monitor: HealthMonitor, server: Server, ask: Callable[[], Awaitable[float]], inter: float, delay: float
    ) -> None:
        self._monitor = monitor
        self._server = server
        self._ask = ask
        self._inter = inter
        self._delay = delay
        self._loop = LoopingCall(self._round)
        self._loop.clock = cast(IReactorTime, monitor._clock)
        self._first: Timer | None = None
        self._asking: Deferred[None] | None = None
        self._stopped = False

    def start(self) -> None:
        self._stopped = False
        self._first = self._monitor._clock.callLater(self._delay, self._begin)

    def stop(self) -> None:
        """Ask no more; a question that is on its way is given up."""
        self._stopped = True
        if self._first is not None and self._first.active():
            self._first.cancel()
        if self._loop.running:
            self._loop.stop()
        if self._asking is not None:
            self._asking.cancel()

    def hasten(self, delay: float) -> None:
        """Ask in `delay` seconds, if it is not asked earlier or right now."""
        first = self._first
        call = cast(DelayedCall | None, first if first is not None and first.active() else self._loop.call)
        if self._stopped or call is None or not call.active():
            return
        if delay < call.getTime() - self._monitor._clock.seconds():
            call.reset(delay)

    def _begin(self) -> None:
        self._loop.start(self._inter)

    def _round(self) -> Deferred[None]:
        self._asking = Deferred.fromCoroutine(self._run())
        return self._asking.addErrback(self._broke)

    def _broke(self, failure: Failure) -> None:
        """A check has a bug: say so, and ask again in the next round."""
        if not (self._stopped and failure.check(CancelledError)):
            self._monitor.log.failure("health check of {server}", failure, server=self._server.path)

    async def _run(self) -> None:
        clock = self._monitor._clock
        begun = clock.seconds()
        interval = await self._ask()
        spread = 1 + JITTER * (self._monitor._random.random() - 0.5)
        # A LoopingCall keeps to the multiples of one interval; ours differ from round to round, and are
        # counted from the beginning of the round, however long that took.
        self._loop.starttime = now = clock.seconds()
        self._loop.interval = max(0.0, begun + interval * spread - now)


def in_hand(server: Server) -> bool:
    """Is an operator at work on it, so that not even its agent is asked?"""
    return server.admin is Admin.MAINT


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

"""The balancer service: frontends, backends and what they share, from settings to a clean stop."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from lbservice import policies
from lbservice.core.agent import Agent
from lbservice.core.backend import Backend
from lbservice.core.clock import Timer
from lbservice.core.frontend import Frontend, Process
from lbservice.core.health import Health
from lbservice.core.pick import Policy
from lbservice.core.server import Admin, Server
from lbservice.core.settings import BackendSettings, FrontendSettings, ServerSettings, Settings
from lbservice.errors import ControlError, StartError
from lbservice.policies.sticky import Sticky
from lbservice.proxy.admission import Admission
from lbservice.proxy.idle import IdlePool
from lbservice.proxy.listener import FrontendFactory, HttpFactory, TcpFactory
from lbservice.proxy.transport import Network
from lbservice.services import checks
from lbservice.services.agent import AgentCheck
from lbservice.services.eventlog import EventLog
from lbservice.services.monitor import HealthMonitor, words
from lbservice.services.passive import PassiveHealth
from lbservice.services.retrylog import RetryLog
from lbservice.services.slowstart import SlowStart
from lbservice.services.transition import Transition, cannot_listen
from lbservice.values import secret

LOOK = 0.1
"""Seconds until a look whether still somebody waits for a backend that was removed."""


class Balancer(Service):
    """Everything that carries traffic. `backends` and `frontends` are in the order of the configuration."""

    name = "balancer"
    log = Logger()

    def __init__(
        self,
        settings: Settings,
        eventlog: EventLog,
        network: Network,
        clock: Any,
        random: Random | None = None,
    ) -> None:
        self.settings = settings
        self.eventlog = eventlog
        self.network = network
        self.clock = clock
        self.pool = IdlePool()
        self.random = random or Random()
        self.monitor = HealthMonitor(clock, self.random, self._went_down, self._came_back)
        self.slowstart = SlowStart(clock)
        self.passive = PassiveHealth(clock, self.monitor, self.slowstart.end, self.slowstart.begin)
        self.retrylog = RetryLog(clock)
        self.backends: dict[str, Backend] = {}
        self.frontends: dict[str, Frontend] = {}
        self.factories: dict[str, FrontendFactory] = {}
        """One for each frontend."""
        self._retired: list[FrontendFactory] = []
        """Those that a reload has replaced or removed, while they have connections."""
        self.given_up: set[str] = set()
        """Backends whose own policy has failed too often; the next reload gives it another chance."""
        self._former: list[Backend] = []
        """Those that a reload has removed, while they have servers."""
        self._waits: dict[Backend, Timer] = {}
        """When those of them are looked at again that somebody waits for."""
        self._began = clock.seconds()
        self._bound = False
        self._stopping = False
        self._hurry: Deferred[None] = Deferred()
        self._sticky_key = os.urandom(32)
        self.process = Process(settings.maxconn)
        self.admission = Admission(self.process, self.pool, clock)
        for backend_settings in settings.backends:
            backend = self.make_backend(backend_settings)
            self.add_backend(backend)
            for number, server_settings in enumerate(backend_settings.servers):
                # The first checks are spread over one interval, so that they do not come in bursts.
                delay = number * backend_settings.check.inter / len(backend_settings.servers)
                self.add_server(backend, server_settings, delay)
        for frontend_settings in settings.frontends:
            factory = self.make_frontend(frontend_settings, self.backends)
            self.factories[factory.name] = factory
            self.frontends[factory.name] = factory.frontend

    @property
    def running_settings(self) -> Settings:
        """The settings as they are now, with what was changed while it runs; servers that are leaving are gone."""
        backends = tuple(
            replace(backend.settings, servers=tuple(server.settings for server in backend if not server.leaving))
            for backend in self.backends.values()
        )
        return replace(self.settings, backends=backends)

    @property
    def uptime(self) -> float:
        """Seconds since it was made."""
        return float(self.clock.seconds() - self._began)

    def become(self, target: Settings) -> None:
        """Run with other settings from now on. Raises ControlError if that cannot be; then nothing has changed."""
        self.transition(target).commit()

    def transition(self, target: Settings) -> Transition:
        """What it takes to run with other settings, ready to be committed in this turn. Raises ControlError."""
        if self._stopping:
            raise ControlError("the service is stopping; nothing was changed")
        transition = Transition(self, target)
        transition.prepare()
        return transition

    # -- frontends and backends ------------------------------------------------------------

    def make_frontend(self, settings: FrontendSettings, backends: Mapping[str, Backend]) -> FrontendFactory:
        """A frontend, or the successor of one; it has no listeners yet."""
        frontend = self.frontends.get(settings.name) or Frontend(settings, self.process)
        factory = HttpFactory if settings.mode == "http" else TcpFactory
        return factory(
            frontend,
            settings,
            self.pool,
            self.network,
            self.clock,
            self.eventlog.access,
            self.admission,
            backends,
        )

    def retire(self, factory: FrontendFactory, successor: FrontendFactory | None) -> None:
        """A frontend is in force no more: its idle connections go over to its successor, or close; others later."""
        for earlier in [each for each in self._retired if each.successor is factory]:
            earlier.follow(successor)  # a chain would hold every one between them
        self._retired.append(factory)
        factory.leave(successor)
        factory.drained().addCallback(lambda _: self._retired.remove(factory))

    @property
    def everywhere(self) -> tuple[FrontendFactory, ...]:
        """Frontends, and those that still have connections of the time before a reload."""
        return (*self.factories.values(), *self._retired)

    def make_backend(self, settings: BackendSettings) -> Backend:
        """A backend without servers, which nobody knows yet. Raises StartError."""
        return Backend(
            settings,
            self.make_policy(settings),
            emptied=self._emptied,
            gone=self._gone,
            panicked=self._panicked,
            relented=self._relented,
            retried=self.retrylog.retried,
        )

    def add_backend(self, backend: Backend) -> None:
        """A backend joins the others."""
        self.backends[backend.name] = backend
        self.passive.attend(backend)

    def remove_backend(self, backend: Backend) -> None:
        """A backend that no frontend uses any more: its servers finish what they have, and what waits for them."""
        del self.backends[backend.name]
        self._former.append(backend)
        self._let_go(backend)

    def _let_go(self, backend: Backend) -> None:
        if backend.waiting and not self._stopping:
            self._waits[backend] = self.clock.callLater(LOOK, self._let_go, backend)
            return
        self._waits.pop(backend, None)
        for server in list(backend):
            self.monitor.forget(server)
            if not server.leaving:
                backend.remove(server)
        self._forget_former()

    def _forget_former(self) -> None:
        for backend in self._former:
            if not backend.servers and self.backends.get(backend.name) is None:
                self.passive.dismiss(backend)
        self._former = [backend for backend in self._former if backend.servers or backend in self._waits]

    # -- servers ---------------------------------------------------------------------------

    def home(self, server: Server) -> Backend:
        """The backend that a server belongs to."""
        backend = self.backends.get(server.backend)
        if backend is not None and backend.servers.get(server.name) is server:
            return backend
        return next(each for each in self._former if each.servers.get(server.name) is server)

    def make_policy(self, settings: BackendSettings) -> Policy:
        """What chooses among its servers. Raises StartError."""
        try:
            policy = policies.make(
                settings.balance,
                self.clock.seconds,
                self.random,
                factor=settings.hash_balance_factor,
                complain=partial(self._policy_fails, settings),
            )
        except ValueError as error:
            raise StartError(f"[backend {settings.name}] balance = {settings.balance}: {error}") from error
        return policy if settings.sticky is None else Sticky(policy, settings.name, self._secret_of(settings))

    def _secret_of(self, settings: BackendSettings) -> bytes:
        """What its sticky cookies are made with. Raises StartError."""
        try:
            return secret(settings.sticky_key) if settings.sticky_key else self._sticky_key
        except OSError as error:
            raise StartError(
                f"[backend {settings.name}] sticky-key = {settings.sticky_key}: {error.strerror}"
            ) from error

    def is_current(self, backend: Backend) -> bool:
        """Is its policy what would be made of the same settings now? Files may have changed. Raises StartError."""
        policy, settings = backend.policy, backend.settings
        if isinstance(policy, Sticky):
            if not policy.signs_with(self._secret_of(settings)):
                return False
            policy = policy.policy
        try:
            return backend.name not in self.given_up and policies.is_current(policy, settings.balance)
        except ValueError as error:
            raise StartError(f"[backend {settings.name}] balance = {settings.balance}: {error}") from error

    def _policy_fails(self, settings: BackendSettings, why: str, given_up: bool) -> None:
        if given_up:
            event = "policy-given-up"
            told = "has failed too often, the last time with {why}; roundrobin takes its place until the configuration"
            told += " is loaded again"
        else:
            event = "policy-failed"
            told = "fails: {why}; the request is placed by roundrobin"
        self.log.error(
            "backend {backend}: the policy {policy} " + told,
            event=event,
            backend=settings.name,
            policy=settings.balance,
            why=why,
        )
        if given_up:
            self.given_up.add(settings.name)

    def add_server(self, backend: Backend, settings: ServerSettings, delay: float = 0.0) -> Server:
        """A new server in a backend, used at once and checked first after `delay` seconds."""
        check_settings = backend.settings.check
        health = Health(
            rise=check_settings.rise,
            fall=check_settings.fall,
            up=check_settings.init_up,
            now=self.clock.seconds(),
        )
        server = Server(backend.name, settings, health)
        if self.running:  # what is there from the start is warm, or all are cold
            self.slowstart.begin(backend, server)
        self.watch(backend, server, delay)
        backend.add(server)
        return server

    def watch(self, backend: Backend, server: Server, delay: float = 0.0) -> None:
        """Check it, and ask its agent, as its backend and itself say now."""
        self.monitor.forget(server)
        settings, health = backend.settings.check, server.health
        health.rise, health.fall = settings.rise, settings.fall
        if (backend.settings.agent is None) != (server.agent is None):
            server.agent = None if backend.settings.agent is None else Agent()
            server.settings = server.settings  # what the agent has left of it
        check = checks.make(settings, self.network, self.clock) if server.settings.check else None
        if check is None:
            health.up, health.streak, health.reason = True, 0, "not checked"
        else:
            self.monitor.watch(backend, server, check, delay)
        agent = backend.settings.agent
        if agent is not None:
            patience = agent.inter if settings.timeout is None else settings.timeout
            agent_check = AgentCheck(agent, patience, self.network, self.clock)
            self.monitor.watch_agent(backend, server, agent_check, delay * agent.inter / settings.inter)

    def remove_server(self, server: Server, *, now: bool = False) -> None:
        """Take a server out; what it is doing is finished first, or cut off `now`."""
        self.home(server).remove(server)
        if now:
            for factory in self.everywhere:
                factory.cut(server)

    def change_server(self, server: Server, settings: ServerSettings) -> None:
        """What is wanted of a server from now on. Its name stays, and with it what it has done and has in flight."""
        backend, before = self.home(server), server.settings
        server.leaving = False
        server.settings = settings
        if settings.target != before.target:
            server.moves += 1
            self.pool.drop(server)
            self.watch(backend, server)
            self.monitor.doubt(server)
        if server.admin is Admin.MAINT:
            self.pool.drop(server)
            self.slowstart.end(server)
        elif before.state == Admin.MAINT.value:
            self.monitor.doubt(server)
            if server.available and server.ramp == 1.0:  # else the end of an ejection has begun it just now
                self.slowstart.begin(backend, server)
        backend.refresh()

    def pardon(self, server: Server, actor: str) -> None:
        """End a server's ejection."""
        self.passive.pardon(self.home(server), server, actor)

    def _went_down(self, server: Server) -> None:
        self.pool.drop(server)
        self.slowstart.end(server)
        if self.home(server).settings.cut_when_down:
            for factory in self.everywhere:
                factory.marked_down(server)

    def _came_back(self, server: Server) -> None:
        self.passive.returned(server)
        if server.available:
            self.slowstart.begin(self.home(server), server)

    def _gone(self, server: Server) -> None:
        self.slowstart.end(server)
        self.passive.forget(server)
        self.monitor.forget(server)
        self.pool.drop(server)
        self.log.info("server {server} is gone", event="server-gone", server=server.path)
        self._forget_former()

    def _emptied(self, backend: Backend, empty: bool) -> None:
        if not self.running:
            return
        if empty:
            self.log.warn("backend {backend} has no server available", event="backend-down", backend=backend.name)
        else:
            self.log.info("backend {backend} has a server again", event="backend-up", backend=backend.name)

    def _relented(self, backend: Backend) -> None:
        if not self.running:
            return
        if backend.relenting:
            self.log.warn(
                "backend {backend} uses its ejected servers again ({servers}): no other is available",
                event="ejected-used",
                backend=backend.name,
                servers=", ".join(server.name for server in backend.available),
            )
        else:
            self.log.info(
                "backend {backend} needs its ejected servers no more", event="ejected-unused", backend=backend.name
            )

    def _panicked(self, backend: Backend) -> None:
        if not self.running:
            return
        servers = backend.mains
        up = sum(server.available for server in servers)
        if backend.panicking:
            self.log.warn(
                "backend {backend} panics: only {up} of {servers} servers can be used, less than {share:.0%};"
                " all are used, whatever their health",
                event="panic",
                backend=backend.name,
                up=up,
                servers=len(servers),
                share=backend.settings.panic,
            )
        else:
            self.log.info(
                "backend {backend} panics no more: {up} of {servers} servers can be used",
                event="panic-over",
                backend=backend.name,
                up=up,
                servers=len(servers),
            )

    # -- life ------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Open the listeners, before privileges are dropped. Raises StartError."""
        self._bound = True
        for factory in self.factories.values():
            with cannot_listen(factory.name):
                factory.listen()

    def startService(self) -> None:
        if not self._bound:  # under `twist`, which knows no privileged start
            self.privilegedStartService()
        super().startService()
        self.monitor.startService()
        for frontend in self.frontends.values():
            self.log.info(
                "frontend {frontend} listens on {listen} ({mode}), backend {backend}, maxconn {maxconn}",
                event="frontend-started",
                frontend=frontend.name,
                listen=", ".join(listen.address for listen in frontend.settings.listen),
                mode=frontend.settings.mode,
                backend=", ".join(frontend.settings.backends) or "none",
                maxconn=frontend.maxconn,
            )
            if frontend.maxconn < frontend.settings.maxconn:
                self.log.warn(
                    "frontend {frontend} cannot have its maxconn of {wanted}: the process takes {possible} clients;"
                    " raise its limit of open files (ulimit -n, LimitNOFILE)",
                    event="maxconn-lowered",
                    frontend=frontend.name,
                    wanted=frontend.settings.maxconn,
                    possible=frontend.maxconn,
                )
        # What is there now stays for good: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._stopping = True
        self.monitor.stopService()
        self.passive.stop()
        self.slowstart.stop()
        for timer in self._waits.values():
            timer.cancel()
        return Deferred.fromCoroutine(self._stop())

    def hurry(self) -> None:
        """Do not wait any longer for connections to end."""
        if not self._hurry.called:
            self._hurry.callback(None)

    async def _stop(self) -> None:
        active = self.process.active
        self.log.info(
            "stopping: {active} connections have up to {grace} to finish",
            event="stopping",
            active=active,
            grace=words(self.settings.grace),
        )
        for factory in self.everywhere:
            await Deferred.fromCoroutine(factory.stop_listening())
        drained = DeferredList([factory.drained() for factory in self.everywhere])
        late = self.clock.callLater(self.settings.grace, self.hurry)
        drained.addBoth(lambda _: self.hurry())
        await self._hurry
        if late.active():
            late.cancel()
        cut = sum(factory.abort() for factory in self.everywhere)
        self.pool.close()
        self.retrylog.stop()
        self.log.info(
            "stopped after {uptime}, {cut} connections cut",
            event="stopped",
            uptime=words(self.uptime),
            cut=cut,
        )

"""The balancer service: frontends, backends and what they share, from settings to a clean stop."""

from __future__ import annotations

import gc
import os
from functools import partial
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from lbservice import policies
from lbservice.core.agent import Agent
from lbservice.core.backend import Backend
from lbservice.core.frontend import Frontend, Process
from lbservice.core.health import Health
from lbservice.core.pick import Policy
from lbservice.core.server import Admin, Server
from lbservice.core.settings import BackendSettings, ServerSettings, Settings
from lbservice.errors import StartError
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
from lbservice.values import secret


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
        self._factories: list[FrontendFactory] = []
        self._began = clock.seconds()
        self._bound = False
        self._hurry: Deferred[None] = Deferred()
        self._sticky_key = os.urandom(32)
        for backend_settings in settings.backends:
            self._make_backend(backend_settings)
        process = Process(settings.maxconn)
        admission = Admission(process, self.pool, clock)
        for frontend_settings in settings.frontends:
            frontend = self.frontends[frontend_settings.name] = Frontend(frontend_settings, process)
            factory = HttpFactory if frontend_settings.mode == "http" else TcpFactory
            backend = self.backends.get(frontend_settings.backend)
            self._factories.append(
                factory(frontend, backend, self.pool, network, clock, eventlog.access, admission, self.backends)
            )

    @property
    def uptime(self) -> float:
        """Seconds since it was made."""
        return float(self.clock.seconds() - self._began)

    # -- servers ---------------------------------------------------------------------------

    def _make_backend(self, settings: BackendSettings) -> None:
        backend = Backend(
            settings,
            self._make_policy(settings),
            emptied=self._emptied,
            gone=self._gone,
            panicked=self._panicked,
            relented=self._relented,
            retried=self.retrylog.retried,
        )
        self.backends[settings.name] = backend
        self.passive.attend(backend)
        for number, server_settings in enumerate(settings.servers):
            # The first checks are spread over one interval, so that they do not come in bursts.
            self.add_server(backend, server_settings, number * settings.check.inter / len(settings.servers))

    def _make_policy(self, settings: BackendSettings) -> Policy:
        policy = policies.make(
            settings.balance,
            self.clock.seconds,
            self.random,
            factor=settings.hash_balance_factor,
            complain=partial(self._policy_fails, settings),
        )
        if settings.sticky is None:
            return policy
        try:
            key = secret(settings.sticky_key) if settings.sticky_key else self._sticky_key
        except OSError as error:
            raise StartError(f"[backend {settings.name}] sticky-key = {settings.sticky_key}: {error}") from error
        return Sticky(policy, settings.name, key)

    def _policy_fails(self, settings: BackendSettings, why: str, given_up: bool) -> None:
        if given_up:
            event, told = (
                "policy-given-up",
                "has failed too often, the last time with {why}; roundrobin takes its place",
            )
            told += " until the balancer is restarted"
        else:
            event, told = "policy-failed", "fails: {why}; the request is placed by roundrobin"
        self.log.error(
            "backend {backend}: the policy {policy} " + told,
            event=event,
            backend=settings.name,
            policy=settings.balance,
            why=why,
        )

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
        check = checks.make(check_settings, self.network, self.clock) if settings.check else None
        if check is None:
            health.up, health.streak, health.reason = True, 0, "not checked"
        agent = backend.settings.agent
        if agent is not None:
            server.agent = Agent()
        if self.running:  # what is there from the start is warm, or all are cold
            self.slowstart.begin(backend, server)
        backend.add(server)
        if check is not None:
            self.monitor.watch(backend, server, check, delay)
        if agent is not None:
            patience = agent.inter if check_settings.timeout is None else check_settings.timeout
            agent_check = AgentCheck(agent, patience, self.network, self.clock)
            self.monitor.watch_agent(backend, server, agent_check, delay * agent.inter / check_settings.inter)
        return server

    def remove_server(self, server: Server, *, now: bool = False) -> None:
        """Take a server out; what it is doing is finished first, or cut off `now`."""
        self.backends[server.backend].remove(server)
        if now:
            for factory in self._factories:
                factory.cut(server)

    def set_admin(self, server: Server, admin: Admin, actor: str) -> None:
        """What an operator wants of a server from now on; to be ready ends an ejection, too."""
        backend, before = self.backends[server.backend], server.admin
        server.admin = admin
        if admin is Admin.READY:
            self.passive.pardon(backend, server, actor)
        if admin is Admin.MAINT:
            self.pool.drop(server)
            self.slowstart.end(server)
        elif before is Admin.MAINT:
            self.monitor.doubt(server)
            if server.available and server.ramp == 1.0:  # else the end of an ejection has begun it just now
                self.slowstart.begin(backend, server)
        backend.refresh()

    def _went_down(self, server: Server) -> None:
        self.pool.drop(server)
        self.slowstart.end(server)
        if self.backends[server.backend].settings.cut_when_down:
            for factory in self._factories:
                factory.marked_down(server)

    def _came_back(self, server: Server) -> None:
        self.passive.returned(server)
        if server.available:
            self.slowstart.begin(self.backends[server.backend], server)

    def _gone(self, server: Server) -> None:
        self.slowstart.end(server)
        self.passive.forget(server)
        self.monitor.forget(server)
        self.pool.drop(server)
        self.log.info("server {server} is gone", event="server-gone", server=server.path)

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
        for factory in self._factories:
            try:
                factory.listen()
            except CannotListenError as error:
                where = f"{error.interface or '0.0.0.0'}:{error.port}"
                raise StartError(f"[frontend {factory.name}] cannot listen on {where}: {error.socketError}") from error

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
        self.monitor.stopService()
        self.passive.stop()
        self.slowstart.stop()
        return Deferred.fromCoroutine(self._stop())

    def hurry(self) -> None:
        """Do not wait any longer for connections to end."""
        if not self._hurry.called:
            self._hurry.callback(None)

    async def _stop(self) -> None:
        active = sum(frontend.active for frontend in self.frontends.values())
        self.log.info(
            "stopping: {active} connections have up to {grace} to finish",
            event="stopping",
            active=active,
            grace=words(self.settings.grace),
        )
        for factory in self._factories:
            await Deferred.fromCoroutine(factory.stop_listening())
        drained = DeferredList([factory.drained() for factory in self._factories])
        late = self.clock.callLater(self.settings.grace, self.hurry)
        drained.addBoth(lambda _: self.hurry())
        await self._hurry
        if late.active():
            late.cancel()
        cut = sum(factory.abort() for factory in self._factories)
        self.pool.close()
        self.retrylog.stop()
        self.log.info(
            "stopped after {uptime}, {cut} connections cut",
            event="stopped",
            uptime=words(self.uptime),
            cut=cut,
        )

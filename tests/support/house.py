"""A small balancer: one frontend, one backend and its servers, on an in-memory network and a clock that waits."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

from twisted.internet.task import Clock

from lbservice import policies
from lbservice.core.backend import Backend
from lbservice.core.events import Access
from lbservice.core.frontend import Frontend, Process
from lbservice.core.health import Health
from lbservice.core.server import Server
from lbservice.core.settings import (
    BackendSettings,
    Conditions,
    Edit,
    FrontendSettings,
    Listen,
    ListenTls,
    Rule,
    ServerSettings,
    ServerTls,
)
from lbservice.policies.sticky import Sticky
from lbservice.proxy import tls
from lbservice.proxy.admission import Admission
from lbservice.proxy.idle import IdlePool
from lbservice.proxy.listener import FrontendFactory, HttpFactory, TcpFactory
from tests.support.actors import Client, Origin, Script
from tests.support.wire import Address, MemoryNetwork

FRONT: Address = ("192.0.2.1", 80)

NOTHING = (Edit("X-Nobody-Has-This", "remove"),)
NEUTRAL: dict[str, Any] = {
    "rules": (Rule("all", Conditions(paths=("/",)), backend="app"),),
    "deny": ("240.0.0.0/4",),
    "request_edits": NOTHING,
    "response_edits": NOTHING,
}
"""Of an http frontend: rules that change nothing."""
NEUTRAL_TCP: dict[str, Any] = {"rules": (Rule("all", Conditions(sources=("0.0.0.0/0", "::/0")), backend="app"),)}


class SecureNetwork:
    """The in-memory network for actors that speak TLS: servers show `cert`, clients believe anybody."""

    def __init__(self, network: MemoryNetwork, cert: str = "") -> None:
        self._network = network
        self._cert = cert

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def listen(self, host: str, port: int, factory: Any, door: Any = None) -> Any:
        """As Network.listen."""
        secure = tls.listening(factory, ListenTls(self._cert), self._network.clock)
        return self._network.listen(host, port, secure, door)

    def connect(self, host: str, port: int, factory: Any, timeout: float, source: Address | None = None) -> Any:
        """As Network.connect."""
        secure = tls.dialing(factory, host, ServerTls(verify=False), self._network.clock)
        return self._network.connect(host, port, secure, timeout, source)


class House:
    """`servers` names them: s1 is at 10.0.0.1:8000, and so on. `log` holds every finished Access.

    Keywords are those of BackendSettings and FrontendSettings, and two of `maxconn`. Without `default` the frontend
    has no backend but those of its rules. With `ruled` it has rules that change nothing. With `listen_tls` the
    frontend and its clients speak TLS; with `server_tls` the balancer and its servers, which
    show `cert`. Without `fast` neither write-through nor splicing is used; with `turns`, as with epoll, what is
    written in a turn is sent at its end. `others` are further backends, by name, with one server each: o1 of the first
    one is at 10.0.9.1:8000, and so on.
    """

    def __init__(
        self,
        servers: int = 1,
        *,
        mode: str = "http",
        server_maxconn: int = 0,
        process_maxconn: int = 0,
        frontend: dict[str, Any] | None = None,
        listen_tls: ListenTls | None = None,
        server_tls: ServerTls | None = None,
        cert: str = "",
        fast: bool = True,
        turns: bool = False,
        others: Iterable[BackendSettings] = (),
        default: bool = True,
        ruled: bool = False,
        **backend: Any,
    ) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, fast=fast)
        self.network.turns = turns
        self.pool = IdlePool()
        self.log: list[Access] = []
        self.origins: list[Origin] = []
        self.clients: list[Client] = []
        self._outside: Any = SecureNetwork(self.network) if listen_tls else self.network
        self._inside: Any = SecureNetwork(self.network, cert) if server_tls else self.network
        self.settings = BackendSettings(name="app", **backend)
        policy = policies.make(
            self.settings.balance, self.clock.seconds, Random(1), factor=self.settings.hash_balance_factor
        )
        if self.settings.sticky is not None:
            policy = Sticky(policy, "app", b"a secret for tests")
        self.backend = Backend(self.settings, policy, gone=self.pool.drop)
        for number in range(1, servers + 1):
            settings = ServerSettings(f"s{number}", f"10.0.0.{number}", 8000, maxconn=server_maxconn, tls=server_tls)
            self.backend.add(Server("app", settings, Health()))
        self.others: dict[str, Backend] = {}
        for number, settings_of in enumerate(others, 1):
            other = Backend(
                settings_of, policies.make(settings_of.balance, self.clock.seconds, Random(1)), gone=self.pool.drop
            )
            other.add(Server(other.name, ServerSettings(f"o{number}", f"10.0.9.{number}", 8000), Health()))
            self.others[other.name] = other
        if ruled:
            frontend = {**(NEUTRAL if mode == "http" else NEUTRAL_TCP), **(frontend or {})}
        listen = (Listen(*FRONT, tls=listen_tls),)
        process = Process(process_maxconn)
        self.frontend = Frontend(
            FrontendSettings(
                name="www", listen=listen, backend="app" if default else "", mode=mode, **(frontend or {})
            ),
            process,
        )
        self.admission = Admission(process, self.pool, self.clock)
        make = HttpFactory if mode == "http" else TcpFactory
        self.factory: FrontendFactory = make(
            self.frontend,
            self.frontend.settings,
            self.pool,
            self.network,
            self.clock,
            self.log.append,
            self.admission,
            {"app": self.backend, **self.others},
        )
        if isinstance(self.factory, HttpFactory):
            self.factory.wall = lambda: 0.0
        self.factory.listen()

    def origin(self, number: int = 1, *answers: bytes | Script, **how: Any) -> Origin:
        """Let server `s{number}` come to life."""
        origin = Origin(self._inside, (f"10.0.0.{number}", 8000), *answers, **how)
        self.origins.append(origin)
        return origin

    def other(self, number: int = 1, *answers: bytes | Script, **how: Any) -> Origin:
        """Let the server `o{number}` of another backend come to life."""
        origin = Origin(self._inside, (f"10.0.9.{number}", 8000), *answers, **how)
        self.origins.append(origin)
        return origin

    def blackhole(self, number: int) -> None:
        """Connecting to server `s{number}` takes for ever."""
        self.network.blackholes.add((f"10.0.0.{number}", 8000))

    def client(self, source: str = "198.51.100.7") -> Client:
        """A client, connected to the frontend."""
        client = Client(self._outside, FRONT, (source, 0))
        self.clients.append(client)
        return client

    def server(self, number: int = 1) -> Server:
        """The balancer's idea of server `s{number}`."""
        return self.backend.servers[f"s{number}"]

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass."""
        self.network.run(seconds)

    @property
    def endings(self) -> list[str]:
        """The log, shortest: `200 --` for each exchange, `--` for each session."""
        return [f"{access.status} {access.termination}" if access.http else access.termination for access in self.log]

    @property
    def quiet(self) -> bool:
        """Is nothing lent out and nobody waiting?"""
        backends = (self.backend, *self.others.values())
        servers = all(server.in_flight == 0 for backend in backends for server in backend)
        return servers and not any(backend.in_flight or backend.waiting for backend in backends)

    def tear_down(self) -> None:
        """Everybody leaves. Nothing may be lent, open or pending after that."""
        for client in self.clients:
            client.abort()
        self.run()
        assert self.quiet, f"lent out with no client left: {list(self.backend)}, {self.backend.waiting} waiting"
        assert self.frontend.active == 0
        self.pool.close()
        self.run()
        assert not self.pool
        assert [origin.open for origin in self.origins] == [0] * len(self.origins), "connections to servers leak"
        self.admission.remove(self.factory)
        for port in self.factory._ports:
            port.stopListening()
        for origin in self.origins:
            origin.gone()
        self.run()
        assert self.network.sockets == []
        assert self.network.pipes_open == 0
        assert self.clock.getDelayedCalls() == []

"""A small balancer: one frontend, one backend and its servers, on an in-memory network and a clock that waits."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from lbservice import policies
from lbservice.core.backend import Backend
from lbservice.core.events import Access
from lbservice.core.frontend import Frontend, Process
from lbservice.core.health import Health
from lbservice.core.server import Server
from lbservice.core.settings import BackendSettings, FrontendSettings, Listen, ServerSettings
from lbservice.proxy.idle import IdlePool
from lbservice.proxy.listener import FrontendFactory, HttpFactory, TcpFactory
from tests.support.actors import Client, Origin, Script
from tests.support.wire import Address, MemoryNetwork

FRONT: Address = ("192.0.2.1", 80)


class House:
    """`servers` names them: s1 is at 10.0.0.1:8000, and so on. `log` holds every finished Access.

    Keywords are those of BackendSettings and FrontendSettings, and `server_maxconn`.
    """

    def __init__(
        self,
        servers: int = 1,
        *,
        mode: str = "http",
        server_maxconn: int = 0,
        frontend: dict[str, Any] | None = None,
        **backend: Any,
    ) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.pool = IdlePool()
        self.log: list[Access] = []
        self.origins: list[Origin] = []
        self.clients: list[Client] = []
        self.settings = BackendSettings(name="app", **backend)
        self.backend = Backend(self.settings, policies.make(self.settings.balance), gone=self.pool.drop)
        for number in range(1, servers + 1):
            settings = ServerSettings(f"s{number}", f"10.0.0.{number}", 8000, maxconn=server_maxconn)
            self.backend.add(Server("app", settings, Health()))
        listen = (Listen(*FRONT),)
        self.frontend = Frontend(
            FrontendSettings(name="www", listen=listen, backend="app", mode=mode, **(frontend or {})), Process()
        )
        make = HttpFactory if mode == "http" else TcpFactory
        self.factory: FrontendFactory = make(
            self.frontend, self.backend, self.pool, self.network, self.clock, self.log.append
        )
        self.factory.listen()

    def origin(self, number: int = 1, *answers: bytes | Script, **how: Any) -> Origin:
        """Let server `s{number}` come to life."""
        origin = Origin(self.network, (f"10.0.0.{number}", 8000), *answers, **how)
        self.origins.append(origin)
        return origin

    def blackhole(self, number: int) -> None:
        """Connecting to server `s{number}` takes for ever."""
        self.network.blackholes.add((f"10.0.0.{number}", 8000))

    def client(self, source: str = "198.51.100.7") -> Client:
        """A client, connected to the frontend."""
        client = Client(self.network, FRONT, (source, 0))
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
        servers = all(server.in_flight == 0 for server in self.backend)
        return servers and not self.backend.in_flight and not self.backend.waiting

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
        for port in self.factory._ports:
            port.stopListening()
        for origin in self.origins:
            origin.gone()
        self.run()
        assert self.network.sockets == []
        assert self.clock.getDelayedCalls() == []

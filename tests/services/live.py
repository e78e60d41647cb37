"""A whole balancer with an lb.ini, on the in-memory network: clients, servers, and reloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from lbservice.config import load
from lbservice.core.backend import Backend
from lbservice.core.change import By, Change
from lbservice.core.server import Server
from lbservice.proxy.listener import FrontendFactory
from lbservice.services.balancer import Balancer
from lbservice.services.control import Control
from lbservice.services.eventlog import EventLog
from tests.services.fakes import MiddlingRandom
from tests.support.actors import Client, Origin, Script
from tests.support.house import SecureNetwork
from tests.support.wire import Address, MemoryNetwork

FRONT: Address = ("192.0.2.1", 80)
ANNA = By("anna", "shell")


def ini(
    frontend: str = "",
    backend: str = "",
    *,
    servers: int = 1,
    listen: str = "192.0.2.1:80",
    top: str = "",
    more: str = "",
) -> str:
    """Frontend `web`, backend `app` with servers s1, s2, ... without checks; the texts are further lines."""
    lines = "\n".join(f"server s{number} = 10.0.0.{number}:8000" for number in range(1, servers + 1))
    checks = "" if "check" in backend else "check = none"
    return (
        f"{top}\n[frontend web]\nlisten = {listen}\nbackend = app\n{frontend}\n"
        f"[backend app]\n{checks}\n{backend}\n{lines}\n{more}\n"
    )


class Live:
    """It runs from the beginning; `close` asserts that nothing is left of it."""

    def __init__(self, folder: Path, config: str, *, turns: bool = True) -> None:
        self.path = folder / "lb.ini"
        self.clock = Clock()
        self.clock.advance(1000)
        self.network = MemoryNetwork(self.clock)
        self.network.turns = turns
        self.write(config)
        self.eventlog = EventLog(str(folder / "lb.log"), self.clock)
        self.eventlog.startService()
        self.balancer = Balancer(load(str(self.path)), self.eventlog, self.network, self.clock, MiddlingRandom())
        self.control = Control(self.balancer)
        self.origins: list[Origin] = []
        self.clients: list[Client] = []
        self.balancer.startService()

    def write(self, config: str) -> None:
        """The file says this now."""
        self.path.write_text(config)

    def reload(self, config: str | None = None, **how: Any) -> Change:
        """Read the file again, with this in it."""
        if config is not None:
            self.write(config)
        return self.control.reload(by=ANNA, **how)

    @property
    def app(self) -> Backend:
        return self.balancer.backends["app"]

    def __getitem__(self, path: str) -> Server:
        backend, _, name = path.partition("/")
        return self.balancer.backends[backend].servers[name]

    @property
    def factory(self) -> FrontendFactory:
        """That of the frontend `web`."""
        return self.balancer.factories["web"]

    def origin(self, number: int = 1, *answers: bytes | Script, **how: Any) -> Origin:
        """Let the server at 10.0.0.{number}:8000 come to life."""
        self.origins.append(Origin(self.network, (f"10.0.0.{number}", 8000), *answers, **how))
        return self.origins[-1]

    def client(self, to: Address = FRONT, *, secure: bool = False, source: str = "198.51.100.7") -> Client:
        """A client, connected."""
        network: Any = SecureNetwork(self.network) if secure else self.network
        self.clients.append(Client(network, to, (source, 0)))
        self.run()
        return self.clients[-1]

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass."""
        self.network.run(seconds)

    def close(self) -> None:
        """Everybody leaves, and the service stops."""
        for client in self.clients:
            client.abort()
        self.run()
        lent = [backend for backend in self.balancer.backends.values() if backend.in_flight or backend.waiting]
        assert lent == []
        assert self.balancer.process.active == 0
        assert [frontend.active for frontend in self.balancer.frontends.values() if frontend.active] == []
        assert self.balancer.everywhere == tuple(self.balancer.factories.values()), "retired frontends are kept"
        self.balancer.stopService()
        self.run()
        for origin in self.origins:
            origin.gone()
        self.run()
        assert self.network.sockets == []
        self.eventlog.stopService()
        timers = [str(call.func) for call in self.clock.getDelayedCalls()]
        assert timers == [], timers

"""A Control over real backends, without sockets and checks: what the faces of Control need."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.task import Clock

from lbservice.core.backend import Backend
from lbservice.core.frontend import Frontend, Process
from lbservice.core.health import Health
from lbservice.core.server import Server
from lbservice.core.settings import BackendSettings, FrontendSettings, Listen, ServerSettings, Settings
from lbservice.policies.rotation import RoundRobin
from lbservice.services.balancer import Balancer
from lbservice.services.control import Control


class FakeBalancer:
    """Servers come and go in real backends; time stands at `clock`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.uptime = 7380.0
        self.running = True
        self.settings = Settings()
        self.eventlog = SimpleNamespace(dropped=0)
        web = FrontendSettings("web", (Listen("127.0.0.1", 8080),), "app")
        self.frontends = {"web": Frontend(web, Process())}
        self.backends = {"app": Backend(BackendSettings("app"), RoundRobin())}
        for number in (1, 2):
            settings = ServerSettings(f"s{number}", "127.0.0.1", 9000 + number)
            self.add_server(self.backends["app"], settings)

    def add_server(self, backend: Backend, settings: ServerSettings) -> Server:
        server = Server(backend.name, settings, Health(now=self.clock.seconds()))
        backend.add(server)
        return server

    @property
    def running_settings(self) -> Settings:
        backends = (
            replace(backend.settings, servers=tuple(server.settings for server in backend if not server.leaving))
            for backend in self.backends.values()
        )
        return Settings(backends=tuple(backends))

    def become(self, target: Settings) -> None:
        """What is wanted of servers that stay; more is not asked for here."""
        for settings in target.backends[0].servers:
            self.change_server(self.backends["app"].servers[settings.name], settings)

    def pardon(self, server: Server, actor: str) -> None:
        """Nobody is out."""

    def change_server(self, server: Server, settings: ServerSettings) -> None:
        server.settings = settings
        self.backends[server.backend].refresh()

    def remove_server(self, server: Server, *, now: bool) -> None:
        self.backends[server.backend].remove(server)


class FakeControl(Control):
    """Real verbs; `fake` is the balancer below them."""

    def __init__(self) -> None:
        self.fake = FakeBalancer()
        super().__init__(cast(Balancer, self.fake))

    @property
    def app(self) -> dict[str, Server]:
        return self.fake.backends["app"].servers


def events(logged: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """Of everything logged, the events of those names."""
    return [event for event in logged if event.get("event") in names]

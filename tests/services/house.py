"""A whole balancer, with its checks and its log, on a network and a clock that are made up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from lbservice.core.backend import Backend
from lbservice.core.server import Server
from lbservice.core.settings import (
    BackendSettings,
    CheckSettings,
    FrontendSettings,
    Listen,
    ServerSettings,
    Settings,
)
from lbservice.services.balancer import Balancer
from lbservice.services.control import Control
from lbservice.services.eventlog import EventLog
from tests.services.fakes import FakeNetwork, MiddlingRandom, pass_time

CHECK = CheckSettings(inter=2.0, rise=2, fall=2)


def server(number: int, weight: int = 1) -> ServerSettings:
    return ServerSettings(f"s{number}", "127.0.0.1", 9000 + number, weight=weight)


SETTINGS = Settings(
    frontends=(
        FrontendSettings("web", (Listen("", 8080), Listen("::1", 8081)), "app"),
        FrontendSettings("db", (Listen("127.0.0.1", 5432),), "pg", mode="tcp", maxconn=10),
    ),
    backends=(
        BackendSettings("app", (server(1), server(2, weight=3)), check=CHECK),
        BackendSettings("pg", (server(3),), balance="leastconn", check=CheckSettings(kind="none")),
    ),
)


class House:
    """Everything that `tap` wires together below the shell. All servers are alive."""

    def __init__(self, folder: Path, settings: Settings = SETTINGS) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.network = FakeNetwork(self.clock)
        self.network.alive = {("127.0.0.1", 9000 + number) for number in range(10)}
        self.eventlog = EventLog(str(folder / "lb.log"), self.clock)
        self.balancer = Balancer(settings, self.eventlog, self.network, self.clock, MiddlingRandom())
        self.control = Control(self.balancer)

    @property
    def app(self) -> Backend:
        return self.balancer.backends["app"]

    def __getitem__(self, path: str) -> Server:
        backend, _, name = path.partition("/")
        return self.balancer.backends[backend].servers[name]

    def wait(self, seconds: float) -> None:
        pass_time(self.clock, seconds)

    @contextmanager
    def running(self) -> Iterator[None]:
        """From start to stop."""
        self.balancer.startService()
        try:
            yield
        finally:
            if self.balancer.running:
                self.stop()

    def stop(self) -> list[float]:
        """Begin to stop; the list gets the moment when that is done."""
        stopped: list[float] = []
        done: Deferred[None] = self.balancer.stopService()
        done.addCallback(lambda _: stopped.append(self.clock.seconds()))
        return stopped

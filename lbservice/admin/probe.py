"""`lbservice check --probe`: every check of a configuration once, before anything depends on it."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from lbservice.core.agent import Agent
from lbservice.core.clock import Clock
from lbservice.core.health import CheckResult, Health
from lbservice.core.server import Server
from lbservice.core.settings import BackendSettings, Settings
from lbservice.proxy.transport import Network
from lbservice.services import checks
from lbservice.services.agent import AgentCheck
from lbservice.services.checks import Unasked
from lbservice.services.control import milliseconds


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """What one check, or one agent, had to say."""

    server: str
    by: str
    result: str
    code: str
    took: str
    detail: str


async def probe(settings: Settings, network: Network, clock: Clock) -> list[ProbeRow]:
    """Ask all servers and agents once, all at the same time; the answers are in the order of the configuration."""
    asked = [
        Deferred.fromCoroutine(ask) for backend in settings.backends for ask in _questions(backend, network, clock)
    ]
    return [row for _, row in await DeferredList(asked, fireOnOneErrback=True)]


def _questions(backend: BackendSettings, network: Network, clock: Clock) -> Iterator[Coroutine[Any, Any, ProbeRow]]:
    for each in backend.servers:
        server = Server(backend.name, each, Health())
        check = checks.make(backend.check, network, clock) if each.check else None
        if check is not None:
            yield _ask(server, check)
        if backend.agent is not None:
            server.agent = Agent()
            patience = backend.agent.inter if backend.check.timeout is None else backend.check.timeout
            yield _ask_agent(server, AgentCheck(backend.agent, patience, network, clock))


async def _ask(server: Server, check: checks.Check) -> ProbeRow:
    return _row(server, "check", await check.run(server))


async def _ask_agent(server: Server, check: AgentCheck) -> ProbeRow:
    result, _ = await check.run(server)
    return _row(server, "agent", result)


def _row(server: Server, by: str, result: CheckResult | Unasked) -> ProbeRow:
    if isinstance(result, Unasked):
        return ProbeRow(server.path, by, "unknown", "-", "-", result.why)
    passed = "passed" if result.passed else "failed"
    return ProbeRow(server.path, by, passed, result.code, milliseconds(result.duration), result.detail)

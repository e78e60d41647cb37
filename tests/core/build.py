"""Servers, backends and those who want something of them, as the tests of the deciding half need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lbservice.core.backend import Backend, Lease
from lbservice.core.health import CheckResult, Health
from lbservice.core.pick import Outcome, PickInfo, Policy, Result
from lbservice.core.server import Server
from lbservice.core.settings import BackendSettings, ServerSettings

CLIENT = PickInfo("192.0.2.1")
GOOD = Outcome(Result.OK, 200)


class Asking(PickInfo):
    """A request with something to hash, and a sticky cookie."""

    def __init__(self, key: bytes = b"", cookie: bytes = b"", source: str = "192.0.2.1") -> None:
        super().__init__(source)
        self._key, self._cookie = key, cookie

    @property
    def key(self) -> bytes:
        return self._key

    @property
    def cookie(self) -> bytes:
        return self._cookie


class FirstWithRoom(Policy):
    """Always the first: so a test knows who is meant."""

    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        return candidates[0]


def make_server(name: str = "s1", *, up: bool = True, **settings: Any) -> Server:
    """A server of the backend `app`, already checked; keywords are those of ServerSettings."""
    health = Health(up=up)
    health.streak = 0
    return Server("app", ServerSettings(name, "127.0.0.1", 9000 + int(name[1:]), **settings), health)


def make_backend(
    servers: Iterable[Server] = (), policy: Policy | None = None, maxqueue: int = 0, **hooks: Callable[..., None]
) -> Backend:
    """A backend `app` of these servers, the first with room being used; `hooks` are `emptied` and `gone`."""
    backend = Backend(BackendSettings("app", maxqueue=maxqueue), policy or FirstWithRoom(), **hooks)
    for server in servers:
        backend.add(server)
    return backend


def lease_of(backend: Backend, *avoid: Server) -> Lease:
    """A lease, where there must be one."""
    lease = backend.acquire(CLIENT, avoid)
    assert lease is not None, f"{backend} has nothing to lend"
    return lease


def goes_down(backend: Backend, server: Server) -> None:
    """The checks have found the server dead."""
    server.health.up = False
    backend.refresh()


def comes_up(backend: Backend, server: Server) -> None:
    """The checks have found the server well."""
    server.health.up = True
    backend.refresh()


class Waiter:
    """Waits in a backend's queue, and keeps what it is given."""

    def __init__(self, backend: Backend) -> None:
        self.answers: list[Lease | None] = []
        self.ticket = backend.wait(CLIENT, self.answers.append)

    @property
    def served_by(self) -> str:
        """The server's name, "nobody" when there was none left, "" while it waits."""
        if not self.answers:
            return ""
        (lease,) = self.answers
        return "nobody" if lease is None else lease.server.name

    def done(self) -> None:
        """Give back what it was given."""
        (lease,) = self.answers
        assert lease is not None
        lease.done(GOOD)


def passed(at: float = 0.0) -> CheckResult:
    return CheckResult(True, "L7OK", "status 200", at, 0.001)


def failed(at: float = 0.0) -> CheckResult:
    return CheckResult(False, "L4CON", "connection refused", at, 0.001)

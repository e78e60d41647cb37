"""The verbs an operator has. Shell, command line, API and reload all come through here.

Each verb validates first, changes in one step, logs one event with who did it, and answers with
the `Change`. Asking for what is already so is not an error. Nothing here waits.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.logger import Logger

from lbservice.core.backend import Backend
from lbservice.core.change import Change
from lbservice.core.server import Admin, Server
from lbservice.core.settings import ServerSettings
from lbservice.errors import ControlError
from lbservice.services.balancer import Balancer
from lbservice.services.monitor import words


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One server as `servers` shows it. `since` is seconds in the present state of health.

    `last_check` is code and duration of the last check, e.g. `L7OK 3ms`, or `-`.
    """

    server: str
    address: str
    state: str
    reason: str
    since: float
    last_check: str
    weight: int
    in_flight: int
    requests: int
    errors: int


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check as `health` shows it. `ago` is seconds since it ended; `took` is how long it took, in words."""

    ago: float
    by: str
    result: str
    code: str
    took: str
    detail: str


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend as `stats` shows it."""

    backend: str
    balance: str
    available: int
    servers: int
    in_flight: int
    waiting: int
    requests: int
    retries: int


@dataclass(frozen=True, slots=True)
class FrontendRow:
    """One frontend as `stats` shows it."""

    frontend: str
    mode: str
    listen: str
    connections: int
    total_connections: int
    requests: int
    status_2xx: int
    status_4xx: int
    status_5xx: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Everything at a glance. `uptime` is seconds; `log_dropped` counts lines that could not be written."""

    uptime: float
    frontends: tuple[FrontendRow, ...]
    backends: tuple[BackendRow, ...]
    log_dropped: int


class Control:
    """Changes and questions for one running balancer. `actor` says who asks, for the log."""

    log = Logger()

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer

    # -- questions -------------------------------------------------------------------------

    def servers(self, backend: str | None = None) -> tuple[ServerRow, ...]:
        """Every server, or those of one backend, in the order of the configuration."""
        backends = self.balancer.backends.values() if backend is None else (self._backend(backend),)
        now = self.balancer.clock.seconds()
        return tuple(self._row(server, now) for each in backends for server in each)

    def health(self, path: str) -> tuple[CheckRow, ...]:
        """The last checks of a server, and the last answers of its agent; the newest first."""
        server = self._server(path)
        now = self.balancer.clock.seconds()
        results = [("check", result) for result in server.health.history]
        if server.agent is not None:
            results += [("agent", result) for result in server.agent.history]
        results.sort(key=lambda pair: pair[1].at, reverse=True)
        return tuple(
            CheckRow(
                ago=now - result.at,
                by=by,
                result="passed" if result.passed else "failed",
                code=result.code,
                took=milliseconds(result.duration),
                detail=result.detail,
            )
            for by, result in results
        )

    def stats(self) -> Stats:
        """Frontends and backends with their counters."""
        balancer = self.balancer
        return Stats(
            uptime=balancer.uptime,
            frontends=tuple(
                FrontendRow(
                    frontend=frontend.name,
                    mode=frontend.settings.mode,
                    listen=", ".join(listen.address for listen in frontend.settings.listen),
                    connections=frontend.active,
                    total_connections=frontend.connections,
                    requests=frontend.requests,
                    status_2xx=frontend.statuses[2],
                    status_4xx=frontend.statuses[4],
                    status_5xx=frontend.statuses[5],
                )
                for frontend in balancer.frontends.values()
            ),
            backends=tuple(
                BackendRow(
                    backend=backend.name,
                    balance=backend.settings.balance,
                    available=len(backend.available),
                    servers=len(backend.servers),
                    in_flight=backend.in_flight,
                    waiting=backend.waiting,
                    requests=backend.requests,
                    retries=backend.retries,
                )
                for backend in balancer.backends.values()
            ),
            log_dropped=balancer.eventlog.dropped,
        )

    # -- changes ---------------------------------------------------------------------------

    def add(self, backend: str, settings: ServerSettings, *, actor: str) -> Change:
        """A new server, checked and used from now on. Its name must be free in the backend."""
        home = self._backend(backend)
        if settings.name in home.servers:
            leaving = " (it is still draining; wait until it is gone)" if home.servers[settings.name].leaving else ""
            raise ControlError(f"{backend}/{settings.name}: a server of that name exists{leaving}")
        server = self.balancer.add_server(home, settings)
        return self._done(Change("added", server.path, "absent", f"{settings.address} weight {server.weight}", actor))

    def remove(self, path: str, *, now: bool = False, actor: str) -> Change:
        """Let a server go when its requests are done; `now` cuts them off."""
        server = self._server(path)
        before = (
            f"leaving, {server.in_flight} in flight"
            if server.leaving
            else f"{server.settings.address} {server.state}, {server.in_flight} in flight"
        )
        after = "gone" if now or not server.in_flight else f"leaving, {server.in_flight} in flight"
        change = self._done(Change("removed", path, before, after, actor))
        self.balancer.remove_server(server, now=now)
        return change

    def ready(self, path: str, *, actor: str) -> Change:
        """Use the server again."""
        return self._admin(path, Admin.READY, actor)

    def drain(self, path: str, *, actor: str) -> Change:
        """Nothing new for the server; what it has goes on, sticky clients too."""
        return self._admin(path, Admin.DRAIN, actor)

    def maint(self, path: str, *, actor: str) -> Change:
        """Nothing new for the server, and no checks either."""
        return self._admin(path, Admin.MAINT, actor)

    def weight(self, path: str, weight: int, *, actor: str) -> Change:
        """The server's share among its backend's servers, 0-256; 0 takes nothing new."""
        if type(weight) is not int or not 0 <= weight <= 256:
            raise ControlError(f"weight {weight!r}: give a whole number from 0 to 256")
        server = self._server(path)
        before, server.weight = server.weight, weight
        self.balancer.backends[server.backend].refresh()
        return self._done(Change("weight set", path, f"weight {before}", f"weight {weight}", actor))

    # -- how -------------------------------------------------------------------------------

    def _admin(self, path: str, admin: Admin, actor: str) -> Change:
        server = self._server(path)
        if server.leaving:
            raise ControlError(f"{path}: being removed; add it again when it is gone")
        before = server.admin.value
        if admin is Admin.READY and server.ejection is not None:
            before = "ejected" if server.admin is admin else f"{before}, ejected"
        self.balancer.set_admin(server, admin, actor)
        return self._done(Change(f"set to {admin.value}", path, before, admin.value, actor))

    def _done(self, change: Change) -> Change:
        if change.changed:
            self.log.info(
                "server {target} {verb} by {actor} ({before} -> {after})",
                event="change",
                verb=change.verb,
                target=change.target,
                before=change.before,
                after=change.after,
                actor=change.actor,
            )
        return change

    def _backend(self, name: str) -> Backend:
        try:
            return self.balancer.backends[name]
        except KeyError:
            known = ", ".join(self.balancer.backends)
            raise ControlError(f"no backend {name!r}; there are: {known}") from None

    def _server(self, path: str) -> Server:
        if not isinstance(path, str):
            raise ControlError(f'{path!r}: name a server as BACKEND/SERVER, in quotes, e.g. "app/s1"')
        backend, slash, name = path.partition("/")
        if not slash:
            raise ControlError(f"{path!r}: name a server as BACKEND/SERVER, e.g. app/s1")
        home = self._backend(backend)
        try:
            return home.servers[name]
        except KeyError:
            known = ", ".join(home.servers) or "none"
            raise ControlError(f"no server {name!r} in backend {backend}; there are: {known}") from None

    def _row(self, server: Server, now: float) -> ServerRow:
        history = server.health.history
        last = history[-1] if history else None
        return ServerRow(
            server=server.path,
            address=server.settings.address,
            state=server.state,
            reason=self._reason(server, now),
            since=now - server.health.since,
            last_check=f"{last.code} {milliseconds(last.duration)}" if last is not None else "-",
            weight=server.weight,
            in_flight=server.in_flight,
            requests=server.requests,
            errors=server.connect_errors + server.timeouts + server.resets,
        )

    @staticmethod
    def _reason(server: Server, now: float) -> str:
        """Why it is as it is: its health and what its agent says, or the time that its errors put it out for."""
        ejection = server.ejection
        if ejection is None:
            return server.reason
        out = f"back in {words(max(0.0, ejection.until - now))}: {ejection.why}"
        return out if server.state == "EJECTED" else f"{server.reason}; ejected, {out}"


def milliseconds(seconds: float) -> str:
    """`0.4ms`, `12ms`, `2001ms`: what a check took."""
    return f"{seconds * 1000:.{0 if seconds >= 0.00995 else 1}f}ms"

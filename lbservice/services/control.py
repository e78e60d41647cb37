"""The verbs an operator has. Shell, command line, API and reload all come through here.

Each verb validates first, changes in one step, notes in the journal who did it, and answers with
the `Change`. Asking for what is already so is not an error. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lbservice.core.backend import Backend
from lbservice.core.change import By, Change
from lbservice.core.merge import merge
from lbservice.core.server import MAX_WEIGHT, Admin, Server
from lbservice.core.settings import ServerSettings
from lbservice.errors import ControlError
from lbservice.services.balancer import Balancer
from lbservice.services.journal import Journal
from lbservice.services.monitor import words
from lbservice.values import parse_address


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


class _Doing:
    """A change while it is made: what was so before, and is after."""

    change: Change

    def __init__(self, before: str) -> None:
        self.before = self.after = before


class Control:
    """Changes and questions for one running balancer. `by` says who changes something, for log and journal."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self.journal = Journal()

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

    def changes(self, last: int = 20) -> tuple[Change, ...]:
        """What was changed since the start, the newest first."""
        return self.journal.changes(last)

    # -- changes ---------------------------------------------------------------------------

    def add(self, backend: str, settings: ServerSettings, *, by: By) -> Change:
        """A new server, checked and used from now on. Its name must be free in the backend."""
        home = self._backend(backend)
        if settings.name in home.servers:
            leaving = " (it is still draining; wait until it is gone)" if home.servers[settings.name].leaving else ""
            raise ControlError(f"{backend}/{settings.name}: a server of that name exists{leaving}")
        with self._noting("added", f"{backend}/{settings.name}", "absent", by) as done:
            server = self.balancer.add_server(home, settings)
            done.after = f"{settings.address} weight {server.weight}"
        return done.change

    def remove(self, path: str, *, now: bool = False, by: By) -> Change:
        """Let a server go when its requests are done; `now` cuts them off."""
        server = self._server(path)
        before = (
            f"leaving, {server.in_flight} in flight"
            if server.leaving
            else f"{server.settings.address} {server.state}, {server.in_flight} in flight"
        )
        with self._noting("removed", path, before, by) as done:
            done.after = "gone" if now or not server.in_flight else f"leaving, {server.in_flight} in flight"
            self.balancer.remove_server(server, now=now)
        return done.change

    def ready(self, path: str, *, by: By) -> Change:
        """Use the server again."""
        server = self._staying(path)
        before = server.admin.value
        if server.ejection is not None:
            before = "ejected" if server.admin is Admin.READY else f"{before}, ejected"
        with self._noting("set to ready", path, before, by) as done:
            self.balancer.pardon(server, by.actor)
            self.balancer.change_server(server, replace(server.settings, state=Admin.READY.value))
            done.after = server.admin.value
        return done.change

    def drain(self, path: str, *, by: By) -> Change:
        """Nothing new for the server; what it has goes on, sticky clients too."""
        return self._change(path, "set to drain", "{state}", by, state=Admin.DRAIN.value)

    def maint(self, path: str, *, by: By) -> Change:
        """Nothing new for the server, and no checks either."""
        return self._change(path, "set to maint", "{state}", by, state=Admin.MAINT.value)

    def weight(self, path: str, weight: int, *, by: By) -> Change:
        """The server's share among its backend's servers, 0-256; 0 takes nothing new."""
        if type(weight) is not int or not 0 <= weight <= MAX_WEIGHT:
            raise ControlError(f"weight {weight!r}: give a whole number from 0 to {MAX_WEIGHT}")
        return self._change(path, "weight set", "weight {weight}", by, weight=weight)

    def maxconn(self, path: str, maxconn: int, *, by: By) -> Change:
        """The most requests that the server has at a time; the others wait. 0: any number."""
        if type(maxconn) is not int or maxconn < 0:
            raise ControlError(f"maxconn {maxconn!r}: give a whole number, 0 for no limit")
        return self._change(path, "maxconn set", "maxconn {maxconn}", by, maxconn=maxconn)

    def address(self, path: str, address: str, *, by: By) -> Change:
        """Where the server is, "HOST:PORT", from now on. What it has in flight ends where it began."""
        try:
            host, port = parse_address(address)
        except (ValueError, TypeError, AttributeError) as error:
            raise ControlError(f"address {address!r}: {error}") from None
        return self._change(path, "address set", "{address}", by, host=host, port=port)

    def undo(self, number: int, *, by: By) -> Change:
        """Take one change back; what was changed since stays. Raises ControlError if that is the same thing."""
        entry = self.journal.entry(number)
        running = self.balancer.running_settings
        target, conflicts = merge(entry.after, running, entry.before)
        if conflicts:
            raise ControlError(f"change {number}: {', '.join(conflicts)} was changed again since; undo that first")
        with self._noting(f"change {number} undone", entry.change.target, entry.change.after, by) as done:
            self.balancer.become(target)
            done.after = entry.change.before if target != running else done.before
        return done.change

    # -- how -------------------------------------------------------------------------------

    def _change(self, path: str, verb: str, words: str, by: By, **values: Any) -> Change:
        """Give the settings of a server these values; `words` are what is told of them."""
        server = self._staying(path)
        before, after = server.settings, replace(server.settings, **values)

        def tell(settings: ServerSettings) -> str:
            return words.format(
                state=settings.state, weight=settings.weight, maxconn=settings.maxconn, address=settings.address
            )

        with self._noting(verb, path, tell(before), by) as done:
            if after != before:
                self.balancer.change_server(server, after)
            done.after = tell(after)
        return done.change

    @contextmanager
    def _noting(self, verb: str, target: str, before: str, by: By) -> Iterator[_Doing]:
        """What is done in this context is one change, which the journal gets."""
        doing = _Doing(before)
        settings = self.balancer.running_settings
        yield doing
        change = Change(verb, target, before, doing.after, by, saved=False)
        if change.changed:
            change = self.journal.record(change, settings, self.balancer.running_settings)
        doing.change = change

    def _staying(self, path: str) -> Server:
        server = self._server(path)
        if server.leaving:
            raise ControlError(f"{path}: being removed; add it again when it is gone")
        return server

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
        """Why it is as it is: of its health, or of the time that it is put out for."""
        ejection = server.ejection
        if ejection is None or not server.health.up:
            return server.reason
        return f"back in {words(max(0.0, ejection.until - now))}: {ejection.why}"


def milliseconds(seconds: float) -> str:
    """`0.4ms`, `12ms`, `2001ms`: what a check took."""
    return f"{seconds * 1000:.{0 if seconds >= 0.00995 else 1}f}ms"

"""The verbs an operator has. Shell, command line, API and reload all come through here.

Each verb validates first, changes in one step, notes in the journal who did it, and answers with
the `Change`. Asking for what is already so is not an error. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter
from typing import Any, Protocol

from twisted.logger import Logger

from lbservice.config import load, parse
from lbservice.core.backend import Backend
from lbservice.core.change import By, Change
from lbservice.core.merge import merge
from lbservice.core.server import MAX_WEIGHT, Admin, Server
from lbservice.core.settings import ServerSettings, Settings
from lbservice.editing import edited
from lbservice.errors import ConfigError, ControlError, InTheWay, NotThere
from lbservice.proxy.listener import Connection, FrontendFactory
from lbservice.services.answers import BackendRow, CheckRow, DiffRow, FrontendRow, ServerRow, SessionRow, Stats, WhyRow
from lbservice.services.balancer import Balancer
from lbservice.services.explanation import explain
from lbservice.services.journal import Journal
from lbservice.services.monitor import words
from lbservice.services.openfiles import bounded
from lbservice.services.saving import save
from lbservice.services.transition import AT_START, at_start
from lbservice.values import parse_address
from lbservice.writing import differences, sentence


class _Doing:
    """A change while it is made: what was so before, and is after."""

    change: Change

    def __init__(self, before: str) -> None:
        self.before = self.after = before


class Keeper(Protocol):
    """What keeps run-time changes of servers over a restart, while it is `well`."""

    path: str
    well: bool


class Control:
    """Changes and questions for one running balancer. `by` says who changes something, for log and journal."""

    log = Logger()

    def __init__(self, balancer: Balancer, most_clients: int = 0) -> None:
        self.balancer = balancer
        self.journal = Journal()
        self.loaded = balancer.settings
        """What the file said when it was read or written last."""
        self.keeper: Keeper | None = None
        """The state file, if there is one."""
        self._most_clients = most_clients
        self.reloading: list[Callable[[bool], None]] = []
        """Hear True when a reload begins, and False when it is done, well or not."""

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

    def frontends(self) -> tuple[FrontendRow, ...]:
        """Every frontend with its counters."""
        return tuple(
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
            for frontend in self.balancer.frontends.values()
        )

    def backends(self) -> tuple[BackendRow, ...]:
        """Every backend with its counters."""
        return tuple(
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
            for backend in self.balancer.backends.values()
        )

    def stats(self) -> Stats:
        """Everything at a glance."""
        balancer = self.balancer
        return Stats(balancer.uptime, self.frontends(), self.backends(), balancer.eventlog.dropped)

    def changes(self, last: int = 20) -> tuple[Change, ...]:
        """What was changed since the start, the newest first."""
        return self.journal.changes(last)

    def diff(self) -> tuple[DiffRow, ...]:
        """What runs, against what the file says now. Raises ControlError when that has mistakes."""
        file, running = self._read(), self.balancer.running_settings
        return tuple(DiffRow(*difference) for difference in differences(running, file))

    def sessions(self, where: str | None = None) -> tuple[SessionRow, ...]:
        """The connections of clients; of one frontend, backend or server if that is named. The oldest first."""
        now = self.balancer.clock.seconds()
        rows = []
        for factory, connection in self._connections():
            access = connection.access
            session, age = f"{factory.name}/{connection.name}", now - connection.since
            if access is None:
                row, homes = SessionRow(session, age, "-", "idle", 0, 0), {factory.name}
            else:
                server = f"{access.backend}/{access.server}"
                doing = access.request_line.decode("latin-1") if access.http else "tcp"
                row = SessionRow(session, age, server, doing, access.bytes_in, access.bytes_out)
                homes = {factory.name, access.backend, server}
            if where is None or where in homes:
                rows.append(row)
        return tuple(sorted(rows, key=attrgetter("age"), reverse=True))

    def why(self, request_id: str) -> tuple[WhyRow, ...]:
        """Sentences about a request that is done: where it went, and why. Raises NotThere if the log has it no more.

        It reads the end of the log at once, some 10 ms for all of the 16 MiB that it looks at.
        """
        return explain(self.balancer, request_id)

    def _connections(self) -> Iterator[tuple[FrontendFactory, Connection]]:
        for factory in self.balancer.everywhere:
            for connection in list(factory.guests):
                yield factory, connection

    # -- changes ---------------------------------------------------------------------------

    def add(self, backend: str, settings: ServerSettings, *, by: By) -> Change:
        """A new server, checked and used from now on. Its name must be free in the backend."""
        home = self._backend(backend)
        if settings.name in home.servers:
            leaving = " (it is still draining; wait until it is gone)" if home.servers[settings.name].leaving else ""
            raise InTheWay(f"{backend}/{settings.name}: a server of that name exists{leaving}")
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
            self.balancer.change_server(server, replace(server.settings, state=Admin.READY.value))
            self.balancer.pardon(server, by.actor)
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
        if entry.before == entry.after:
            raise InTheWay(f"change {number} ({entry.change.verb}) changed no settings; it cannot be undone")
        target, conflicts = merge(entry.after, running, entry.before)
        if conflicts:
            raise InTheWay(f"change {number}: {', '.join(conflicts)} was changed again since; undo that first")
        target = self._sound(target, running)
        verb, kind = f"change {number} undone", entry.change.kind
        details = () if kind else tuple(sentence(*each) for each in differences(running, target))
        with self._noting(verb, entry.change.target, entry.change.after, by, kind=kind, details=details) as done:
            self.balancer.become(target)
            done.after = entry.change.before if target != running else done.before
        return done.change

    def kick(self, session: str, *, by: By) -> Change:
        """Close a client's connection at once, as `sessions` names it: FRONTEND/ADDRESS:PORT."""
        for factory, connection in self._connections():
            if f"{factory.name}/{connection.name}" == session:
                break
        else:
            raise NotThere(f"no session {session!r}; sessions() lists them")
        with self._noting("kicked", session, "open", by, kind="session", lasting=False) as done:
            connection.abort()
            done.after = "closed"
        return done.change

    def reload(self, *, discard: bool = False, by: By) -> Change:
        """Read lb.ini again, and run as it says. Raises ControlError, with file and line, and nothing has changed then.

        What was changed at run time stays, unless the file has changed the same thing since it was read; with `discard`
        nothing of it stays. Servers that stay keep their health, counters and connections.
        """
        balancer, running = self.balancer, self.balancer.running_settings
        self._tell_reloading(True)
        try:
            wanted = self._read()
            target, overruled = (wanted, ()) if discard else merge(self.loaded, running, wanted)
            target = self._sound(replace(target, file=wanted.file), wanted)
            same = {entry: entry for entry in running.entries}  # the journal keeps many versions: let them share
            target = replace(target, entries=tuple(same.get(entry, entry) for entry in target.entries))
            changes = [sentence(*difference) for difference in differences(running, target)]
            notes = [f"{what}: as the file says, not as it was changed since" for what in overruled]
            notes += [f"kept, though not in the file: {sentence(*each)}" for each in differences(wanted, target)]
            notes += [f"{key.replace('_', '-')}: from the next start on" for key in at_start(running, target)]
            transition = balancer.transition(target)
            changes += transition.renewed
            before = _counted(changes) or "in force"
            details = (*changes, *notes)
            with self._noting("reloaded", wanted.file, before, by, kind="", lasting=False, details=details) as done:
                transition.commit()
                self.loaded = wanted
                if not discard and not any(differences(wanted, target)):  # somebody has written it into the file
                    self.journal.saved()
                done.after = "in force"
            if not done.change.changed:
                self.log.info(
                    "{file} is read again for {actor}: it is in force already",
                    event="reload-unchanged",
                    file=wanted.file,
                    actor=by.actor,
                )
        except ControlError as error:
            self.log.error(
                "{file} is not reloaded for {actor}, nothing was changed: {error}",
                event="reload-failed",
                file=self.loaded.file,
                actor=by.actor,
                error=str(error),
            )
            raise
        finally:
            self._tell_reloading(False)
        return done.change

    def save(self, *, by: By) -> Change:
        """Write what runs into lb.ini, which keeps its comments; what it was is in `lb.ini.bak`.

        Raises ControlError when the file was changed since it was read, or cannot be written; it is as it was then.
        """
        balancer, running, file = self.balancer, self.balancer.running_settings, self.loaded.file
        details = tuple(sentence(*each) for each in differences(self.loaded, running))
        try:
            loaded = save(self.loaded, running, self._bounded)
        except ControlError as error:
            self.log.error(
                "{file} is not saved for {actor}: {error}",
                event="save-failed",
                file=file,
                actor=by.actor,
                error=str(error),
            )
            raise
        before = _counted(details) or "saved"
        with self._noting("saved", file, before, by, kind="", lasting=False, details=details) as done:
            self.loaded = loaded
            balancer.settings = replace(balancer.settings, entries=loaded.entries)
            self.journal.saved()
            done.after = "saved"
        return done.change

    def reopen(self, *, by: By) -> Change:
        """Close the log and open it again under its name, after somebody has renamed it."""
        eventlog = self.balancer.eventlog
        with self._noting("reopened", eventlog.path, "open", by, kind="log", lasting=False) as done:
            if not eventlog.reopen():
                why = eventlog.trouble
                raise ControlError(f"log {eventlog.path} cannot be opened: {why}; lines are lost until it can")
            done.after = "open anew"
        return done.change

    # -- how -------------------------------------------------------------------------------

    def _tell_reloading(self, begins: bool) -> None:
        for tell in self.reloading:
            tell(begins)

    def _read(self) -> Settings:
        """What the file says now."""
        try:
            settings = load(self.loaded.file)
        except ConfigError as error:
            raise ControlError(str(error)) from error
        return self._bounded(settings)

    def _sound(self, merged: Settings, sound: Settings) -> Settings:
        """What was merged, if it goes together; read as a file is, unless only servers differ from what is sound."""
        if _without_servers(merged) == _without_servers(sound) or not merged.entries:
            return merged
        try:
            settings = self._bounded(parse(edited("", merged), merged.file))
        except ConfigError as error:
            problems = "; ".join(str(replace(problem, line=0)) for problem in error.problems)
            raise InTheWay(f"it does not go together with what was changed since: {problems}") from error
        return replace(settings, **{key: getattr(merged, key) for key in AT_START})

    def _bounded(self, settings: Settings) -> Settings:
        """With a maxconn that this process can have."""
        return bounded(settings, self._most_clients) if self._most_clients else settings

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
    def _noting(
        self,
        verb: str,
        target: str,
        before: str,
        by: By,
        *,
        kind: str = "server",
        lasting: bool = True,
        details: tuple[str, ...] = (),
    ) -> Iterator[_Doing]:
        """What is done in this context is one change, which the journal gets; `lasting`: one that could be saved."""
        doing = _Doing(before)
        settings = self.balancer.running_settings
        yield doing
        keeper = self.keeper.path if self.keeper and self.keeper.well and lasting and kind == "server" else ""
        change = Change(
            verb, target, before, doing.after, by, saved=not lasting, kind=kind, details=details, keeper=keeper
        )
        if change.changed:
            change = self.journal.record(change, settings, self.balancer.running_settings)
        doing.change = change

    def _staying(self, path: str) -> Server:
        server = self._server(path)
        if server.leaving:
            raise InTheWay(f"{path}: being removed; add it again when it is gone")
        return server

    def _backend(self, name: str) -> Backend:
        try:
            return self.balancer.backends[name]
        except KeyError:
            known = ", ".join(self.balancer.backends)
            raise NotThere(f"no backend {name!r}; there are: {known}") from None

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
            raise NotThere(f"no server {name!r} in backend {backend}; there are: {known}") from None

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


def _counted(differences: Sequence[str]) -> str:
    """`1 difference`, `3 differences`, or "" for none."""
    number = len(differences)
    return f"{number} {'difference' if number == 1 else 'differences'}" if number else ""


def _without_servers(settings: Settings) -> Settings:
    return replace(settings, backends=tuple(backend.itself for backend in settings.backends))


def milliseconds(seconds: float) -> str:
    """`0.4ms`, `12ms`, `2001ms`: what a check took."""
    return f"{seconds * 1000:.{0 if seconds >= 0.00995 else 1}f}ms"

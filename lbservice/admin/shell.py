"""`lb`, the object that an operator types to. Each method is a verb of `Control`, in shell words.

A question answers with a table, a change with what changed. What cannot be is a `ControlError`,
which the sessions print as one line.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from time import localtime, strftime
from typing import NoReturn

from lbservice.admin.table import Report, Table, Text, duration
from lbservice.config import parse_address, parse_server
from lbservice.core.change import By, Change
from lbservice.errors import ControlError, closest
from lbservice.services.answers import BackendRow, CheckRow, DiffRow, FrontendRow, ServerRow, SessionRow
from lbservice.services.control import Control

QUESTIONS = ("servers", "health", "backends", "frontends", "stats", "sessions", "changes", "diff", "why")
CHANGES = (
    *("add", "remove", "drain", "ready", "maint", "weight", "maxconn", "address"),
    *("kick", "undo", "reload", "save", "reopen"),
)
VERBS = (*QUESTIONS, *CHANGES, "help")

HELP_COLUMN = 34


class Shell:
    """The verbs for one actor. lb.help() lists them."""

    def __init__(self, control: Control, actor: str) -> None:
        self._control = control
        self._actor = actor

    def __repr__(self) -> str:
        return "<the load balancer; lb.help() lists what it can do>"

    def __getattr__(self, name: str) -> NoReturn:
        """Only names that are not there come here. Raises AttributeError with the verb that was probably meant."""
        near = closest(name, VERBS)
        hint = f"did you mean lb.{near}(...)?" if near else "lb.help() lists what there is"
        raise AttributeError(f"lb has no {name!r}; {hint}")

    # -- questions -------------------------------------------------------------------------

    def servers(self, backend: str | None = None) -> Table[ServerRow]:
        """Every server, or those of one backend: state, reason, weight, load."""
        where = f"backend {backend} has no servers" if backend else "no servers"
        return Table(self._control.servers(backend), empty=where)

    def health(self, server: str) -> Table[CheckRow]:
        """The last checks of the server "BACKEND/NAME", the newest first."""
        return Table(self._control.health(server), empty=f"{server} has not been checked yet")

    def stats(self) -> Report:
        """Uptime, frontends and backends with their counters."""
        stats = self._control.stats()
        lost = f", {stats.log_dropped} log lines lost" if stats.log_dropped else ""
        return Report(
            Text(f"up {duration(stats.uptime)}{lost}"),
            Table(stats.frontends, empty="no frontends"),
            Table(stats.backends, empty="no backends"),
        )

    def backends(self) -> Table[BackendRow]:
        """Every backend: policy, servers, load, queue."""
        return Table(self._control.backends(), empty="no backends")

    def frontends(self) -> Table[FrontendRow]:
        """Every frontend: addresses, connections, requests."""
        return Table(self._control.frontends(), empty="no frontends")

    def sessions(self, where: str | None = None) -> Table[SessionRow]:
        """The connections of clients; those of one frontend, backend or server."""
        return Table(self._control.sessions(where), empty="no sessions")

    def changes(self, last: int = 20) -> Table[ChangeRow]:
        """What was changed since the start, and by whom; undo(NUMBER) takes it back."""
        return Table(map(change_row, self._control.changes(last)), empty="nothing was changed")

    def diff(self) -> Table[DiffRow]:
        """What runs, against what lb.ini says now."""
        return Table(self._control.diff(), empty="nothing differs")

    def why(self, request_id: str) -> Text:
        """Where a request went, and why: its id is its X-Request-ID, and in the log."""
        rows = self._control.why(request_id)
        return Text("\n".join(f"{row.about:8}{row.says}" for row in rows))

    # -- changes ---------------------------------------------------------------------------

    def add(
        self,
        backend: str,
        name: str,
        address: str,
        weight: int = 1,
        maxconn: int = 0,
        backup: bool = False,
        comment: str = "",
    ) -> Change:
        """A new server at "HOST:PORT"; it takes requests from now on."""
        _must_be(bool, backup=backup)
        _must_be(str, backend=backend, name=name, address=address)
        try:
            parse_address(address)
            # The words of lb.ini, so that the same limits hold and the same sentences explain them.
            words = f"{address} weight={weight} maxconn={maxconn}{' backup' if backup else ''}"
            settings = parse_server(name, words)
        except ValueError as error:
            raise ControlError(f"{backend}/{name}: {'; '.join(map(str, error.args))}") from error
        return self._control.add(backend, settings, by=self._by(comment))

    def remove(self, server: str, now: bool = False, comment: str = "") -> Change:
        """Let a server go when its requests are done; now=True cuts them off."""
        _must_be(bool, now=now)
        return self._control.remove(server, now=now, by=self._by(comment))

    def drain(self, server: str, comment: str = "") -> Change:
        """Nothing new for the server "BACKEND/NAME"; what it has goes on."""
        return self._control.drain(server, by=self._by(comment))

    def ready(self, server: str, comment: str = "") -> Change:
        """Use the server again."""
        return self._control.ready(server, by=self._by(comment))

    def maint(self, server: str, comment: str = "") -> Change:
        """Nothing new for the server, and no checks either."""
        return self._control.maint(server, by=self._by(comment))

    def weight(self, server: str, weight: int, comment: str = "") -> Change:
        """The server's share, 0-256; 0 takes nothing new."""
        return self._control.weight(server, weight, by=self._by(comment))

    def maxconn(self, server: str, maxconn: int, comment: str = "") -> Change:
        """The most requests that the server has at a time; 0: any number."""
        return self._control.maxconn(server, maxconn, by=self._by(comment))

    def address(self, server: str, address: str, comment: str = "") -> Change:
        """Where the server is from now on, "HOST:PORT"."""
        return self._control.address(server, address, by=self._by(comment))

    def kick(self, session: str, comment: str = "") -> Change:
        """Close a client's connection at once, as sessions() names it."""
        return self._control.kick(session, by=self._by(comment))

    def undo(self, number: int, comment: str = "") -> Change:
        """Take back one of changes(); what was changed since stays."""
        return self._control.undo(number, by=self._by(comment))

    def reload(self, discard: bool = False, comment: str = "") -> Change:
        """Read lb.ini again; discard=True drops what was changed and not saved."""
        _must_be(bool, discard=discard)
        return self._control.reload(discard=discard, by=self._by(comment))

    def save(self, comment: str = "") -> Change:
        """Write what was changed into lb.ini; the old one is lb.ini.bak."""
        return self._control.save(by=self._by(comment))

    def reopen(self, comment: str = "") -> Change:
        """Begin a new log file, after the old one was renamed."""
        return self._control.reopen(by=self._by(comment))

    def _by(self, comment: str) -> By:
        _must_be(str, comment=comment)
        return By(self._actor, "shell", comment)

    # -- help ------------------------------------------------------------------------------

    def help(self) -> Text:
        """This list."""
        return Text(
            "\n".join(
                (
                    *map(self._help_line, VERBS),
                    "Every change takes comment='why', too, for log and journal.",
                    "help(lb.add) tells all of a verb; Tab completes names and arguments.",
                )
            )
        )

    def _help_line(self, verb: str) -> str:
        method = getattr(self, verb)
        parameters = inspect.signature(method).parameters.values()
        # Annotations are for the type checker; at a prompt they are noise.
        plain = (str(each.replace(annotation=inspect.Parameter.empty)) for each in parameters if each.name != "comment")
        call = f"lb.{verb}({', '.join(plain)})"
        what = (inspect.getdoc(method) or "").partition("\n")[0]
        if len(call) < HELP_COLUMN:
            return f"{call:{HELP_COLUMN}}{what}"
        return f"{call}\n{'':{HELP_COLUMN}}{what}"


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One change as `changes` shows it."""

    number: int
    when: str
    by: str
    change: str
    comment: str


def change_row(change: Change) -> ChangeRow:
    """As it is shown; the time is local."""
    when = strftime("%Y-%m-%d %H:%M:%S", localtime(change.at))
    what = f"{change.target}: {change.verb}, {change.before} -> {change.after}"
    return ChangeRow(change.number, when, change.actor, what, change.by.comment)


def _must_be(kind: type, **arguments: object) -> None:
    """Python would take anything for true; a slip of the finger must not cut connections."""
    for name, value in arguments.items():
        if type(value) is not kind:
            raise ControlError(f"{name}={value!r}: give {'True or False' if kind is bool else 'a text in quotes'}")

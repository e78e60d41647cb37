"""`lb`, the object that an operator types to. Each method is a verb of `Control`, in shell words.

A question answers with a table, a change with what changed. What cannot be is a `ControlError`,
which the sessions print as one line.
"""

from __future__ import annotations

import inspect
from typing import NoReturn

from lbservice.admin.table import Report, Table, Text, duration
from lbservice.config import parse_address, parse_server
from lbservice.core.change import Change
from lbservice.errors import ControlError, closest
from lbservice.services.control import CheckRow, Control, ServerRow

VERBS = ("servers", "health", "stats", "add", "remove", "drain", "ready", "maint", "weight", "help")

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

    # -- changes ---------------------------------------------------------------------------

    def add(
        self,
        backend: str,
        name: str,
        address: str,
        weight: int = 1,
        maxconn: int = 0,
        backup: bool = False,
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
        return self._control.add(backend, settings, actor=self._actor)

    def remove(self, server: str, now: bool = False) -> Change:
        """Let a server go when its requests are done; now=True cuts them off."""
        _must_be(bool, now=now)
        return self._control.remove(server, now=now, actor=self._actor)

    def drain(self, server: str) -> Change:
        """Nothing new for the server "BACKEND/NAME"; what it has goes on."""
        return self._control.drain(server, actor=self._actor)

    def ready(self, server: str) -> Change:
        """Use the server again."""
        return self._control.ready(server, actor=self._actor)

    def maint(self, server: str) -> Change:
        """Nothing new for the server, and no checks either."""
        return self._control.maint(server, actor=self._actor)

    def weight(self, server: str, weight: int) -> Change:
        """The server's share, 0-256; 0 takes nothing new."""
        return self._control.weight(server, weight, actor=self._actor)

    # -- help ------------------------------------------------------------------------------

    def help(self) -> Text:
        """This list."""
        return Text("\n".join(map(self._help_line, VERBS)))

    def _help_line(self, verb: str) -> str:
        method = getattr(self, verb)
        parameters = inspect.signature(method).parameters.values()
        # Annotations are for the type checker; at a prompt they are noise.
        plain = (str(each.replace(annotation=inspect.Parameter.empty)) for each in parameters)
        call = f"lb.{verb}({', '.join(plain)})"
        what = inspect.getdoc(method) or ""
        if len(call) < HELP_COLUMN:
            return f"{call:{HELP_COLUMN}}{what}"
        return f"{call}\n{'':{HELP_COLUMN}}{what}"


def _must_be(kind: type, **arguments: object) -> None:
    """Python would take anything for true; a slip of the finger must not cut connections."""
    for name, value in arguments.items():
        if type(value) is not kind:
            raise ControlError(f"{name}={value!r}: give {'True or False' if kind is bool else 'a text in quotes'}")

"""What the shell knows of its own verbs: a page for `help(lb.add)`, and what Tab may offer for an argument."""

from __future__ import annotations

import inspect
from typing import Any

from lbservice.admin.shell import VERBS, Shell
from lbservice.admin.table import Text
from lbservice.services.control import Control

PARAMETERS = {
    "backend": 'its name, e.g. "app"',
    "server": 'as BACKEND/NAME, e.g. "app/s1"',
    "name": 'the new server\'s, e.g. "s4"',
    "address": 'HOST:PORT, e.g. "127.0.0.1:9004"; IPv6 in brackets',
    "weight": "its share, 0 to 256; 0 takes nothing new",
    "maxconn": "its requests at a time; 0: any number",
    "backup": "True: used only when all others are down",
    "now": "True: what it is doing is cut off",
    "session": "as sessions() names it: FRONTEND/ADDRESS:PORT",
    "where": "the name of a frontend, a backend or a server; without it all",
    "request_id": "its X-Request-ID, or what is in braces in the log",
    "number": "as changes() shows it",
    "last": "how many, the last ones",
    "discard": "True: drop what was changed since and not saved",
    "comment": "why, for log and journal",
}
"""What is to be given, by the name of the parameter."""

EXAMPLES = {
    "servers": 'lb.servers("app")',
    "health": 'lb.health("app/s1")',
    "sessions": 'lb.sessions("web")',
    "add": 'lb.add("app", "s4", "127.0.0.1:9004", weight=2, comment="more traffic")',
    "remove": 'lb.remove("app/s4")',
    "drain": 'lb.drain("app/s1", comment="new version")',
    "weight": 'lb.weight("app/s1", 5)',
    "maxconn": 'lb.maxconn("app/s1", 100)',
    "address": 'lb.address("app/s1", "127.0.0.1:9004")',
    "kick": 'lb.kick("web/192.0.2.7:40123")',
    "undo": "lb.undo(3)",
    "why": 'lb.why("0cf01291-2")',
}

OFFERED = 200
"""Values of an argument that Tab offers at most."""


class Manual:
    """The verbs of one shell; the `Verbs` of completion."""

    def __init__(self, shell: Shell, control: Control) -> None:
        self._shell = shell
        self._control = control

    def page(self, verb: str) -> Text:
        """All that there is to say of a verb."""
        method = getattr(self._shell, verb)
        parameters = list(inspect.signature(method).parameters.values())
        # Annotations are for the type checker; at a prompt they are noise.
        call = ", ".join(str(each.replace(annotation=inspect.Parameter.empty)) for each in parameters)
        lines = [f"lb.{verb}({call})", "", *(f"    {line}" for line in (inspect.getdoc(method) or "").splitlines())]
        if parameters:
            width = max(len(each.name) for each in parameters) + 2
            lines += ["", *(f"    {each.name:{width}}{PARAMETERS.get(each.name, '')}".rstrip() for each in parameters)]
        if verb in EXAMPLES:
            lines += ["", f"    {EXAMPLES[verb]}"]
        return Text("\n".join(lines))

    # -- completion ------------------------------------------------------------------------

    def parameters(self, verb: str) -> list[str]:
        return list(inspect.signature(getattr(self._shell, verb)).parameters) if verb in VERBS else []

    def values(self, verb: str, parameter: str) -> list[str]:
        """Live: what is there at this moment."""
        control = self._control
        backends = list(control.balancer.backends)
        servers = [row.server for row in control.servers()]
        if parameter == "number":
            return [str(change.number) for change in control.changes(OFFERED)]
        if parameter == "session":
            return [row.session for row in control.sessions()[:OFFERED]]
        found: dict[str, list[str]] = {
            "backend": backends,
            "server": [*backends, *servers],
            "where": [*control.balancer.frontends, *backends, *servers],
        }
        return found.get(parameter, [])

    def quoted(self, parameter: str) -> bool:
        return parameter != "number"


def is_of(shell: Shell, about: Any) -> str:
    """The name of the verb that this is, or ""."""
    name = getattr(about, "__name__", "")
    return name if getattr(about, "__self__", None) is shell and name in VERBS else ""

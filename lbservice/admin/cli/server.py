"""`lbservice server`: the verbs that change one server."""

from __future__ import annotations

from typing import Any

import click

from lbservice.admin.cli.command import (
    Decorator,
    Function,
    Group,
    Talk,
    comment_option,
    confirm,
    save_option,
    talks,
    timeout_option,
    yes_option,
)
from lbservice.admin.cli.names import BACKEND, SERVER
from lbservice.admin.cli.waiting import Waiting

server_argument = click.argument("server", type=SERVER, metavar="BACKEND/NAME")


@click.group(cls=Group)
def server() -> None:
    """Add, remove and change servers while the service runs; lbservice server COMMAND -h says more.

    A restart forgets what was changed, unless it is saved: with --save, or later with lbservice save.

    \b
    Examples:
      lbservice server add app s4 127.0.0.1:9004
      lbservice server drain app/s1 --wait
    """


def changes(function: Function) -> Function:
    """A command that changes something: it can be told why, and to save it."""
    return talks(comment_option(save_option(function)))


def waits(what: str) -> Decorator:
    """The options --wait and --timeout."""

    def add(function: Function) -> Function:
        return click.option("--wait", is_flag=True, help=f"Wait until {what}.")(timeout_option(function))

    return add


@server.command()
@click.argument("backend", type=BACKEND)
@click.argument("name")
@click.argument("address", metavar="HOST:PORT")
@click.option("--weight", metavar="N", type=click.IntRange(0, 256), help="Its share of the work; 1 if nothing is said.")
@click.option("--maxconn", metavar="N", type=click.IntRange(0), help="Requests at a time; 0: no limit.")
@click.option("--backup", is_flag=True, help="Used only when no other server is available.")
@waits("its first check has passed")
@changes
def add(
    talk: Talk,
    backend: str,
    name: str,
    address: str,
    weight: int | None,
    maxconn: int | None,
    backup: bool,
    wait: bool,
    timeout: float,
    comment: str | None,
    save: bool,
) -> None:
    """A new server of BACKEND; it takes requests from now on.

    \b
    Examples:
      lbservice server add app s4 127.0.0.1:9004
      lbservice server add app s5 127.0.0.1:9005 --weight 2 --save --wait
    """
    values: dict[str, Any] = {
        "name": name,
        "address": address,
        "weight": weight,
        "maxconn": maxconn,
        "backup": backup or None,
    }
    made = talk.service.change("POST", "servers", backend, comment=comment, **values)
    talk.change(made, save=save)
    if wait:
        Waiting(talk, timeout).until_up(f"{backend}/{name}")


@server.command()
@server_argument
@click.option("--now", is_flag=True, help="Cut off what it has in flight.")
@yes_option
@waits("it is gone")
@changes
def remove(
    talk: Talk, server: str, now: bool, yes: bool, wait: bool, timeout: float, comment: str | None, save: bool
) -> None:
    """Let a server go when its requests are done; --now cuts them off.

    \b
    Examples:
      lbservice server remove app/s4 --wait
      lbservice server remove app/s4 --now --yes
    """
    _ask(talk, server, yes, f"Removing {server} now cuts off what it has in flight" if now else "")
    query = {"now": "true"} if now else None
    made = talk.service.change("DELETE", "servers", *server.split("/"), query=query, comment=comment)
    talk.change(made, save=save)
    if wait:
        Waiting(talk, timeout).until_idle(server)


@server.command()
@server_argument
@yes_option
@waits("it has nothing in flight")
@changes
def drain(talk: Talk, server: str, yes: bool, wait: bool, timeout: float, comment: str | None, save: bool) -> None:
    """Nothing new for a server; what it has goes on, and clients with its sticky cookie stay.

    \b
    Examples:
      lbservice server drain app/s1 --wait --timeout 5m
      lbservice server drain app/s1 --comment "new kernel"
    """
    _ask(talk, server, yes)
    _verb(talk, server, "drain", comment, save)
    if wait:
        Waiting(talk, timeout).until_idle(server)


@server.command()
@server_argument
@waits("it is up")
@changes
def ready(talk: Talk, server: str, wait: bool, timeout: float, comment: str | None, save: bool) -> None:
    """Use a server again; also one that was put out for its errors.

    \b
    Example:
      lbservice server ready app/s1 --wait
    """
    made = _verb(talk, server, "ready", comment, save)
    if wait:
        # While it was in maint nobody has asked it, and what was known of it is old.
        Waiting(talk, timeout).until_up(server, anew=str(made.get("before", "")).startswith("maint"))


@server.command()
@server_argument
@yes_option
@waits("it has nothing in flight")
@changes
def maint(talk: Talk, server: str, yes: bool, wait: bool, timeout: float, comment: str | None, save: bool) -> None:
    """Nothing new for a server from anybody, and no checks.

    \b
    Example:
      lbservice server maint app/s1 --comment "disk is replaced"
    """
    _ask(talk, server, yes)
    _verb(talk, server, "maint", comment, save)
    if wait:
        Waiting(talk, timeout).until_idle(server)


@server.command()
@server_argument
@click.argument("weight", type=click.IntRange(0, 256))
@changes
def weight(talk: Talk, server: str, weight: int, comment: str | None, save: bool) -> None:
    """The share of a server, 0 to 256; with 0 it takes nothing new.

    \b
    Example:
      lbservice server weight app/s1 5
    """
    _verb(talk, server, "weight", comment, save, weight=weight)


@server.command()
@server_argument
@click.argument("maxconn", type=click.IntRange(0))
@changes
def maxconn(talk: Talk, server: str, maxconn: int, comment: str | None, save: bool) -> None:
    """The most requests that a server has at a time, the others wait; 0: any number.

    \b
    Example:
      lbservice server maxconn app/s1 32
    """
    _verb(talk, server, "maxconn", comment, save, maxconn=maxconn)


@server.command()
@server_argument
@click.argument("address", metavar="HOST:PORT")
@changes
def address(talk: Talk, server: str, address: str, comment: str | None, save: bool) -> None:
    """Where a server is from now on; what it has in flight ends where it began.

    \b
    Example:
      lbservice server address app/s1 127.0.0.1:9011
    """
    _verb(talk, server, "address", comment, save, address=address)


def _verb(talk: Talk, server: str, verb: str, comment: str | None, save: bool, **values: Any) -> dict[str, Any]:
    made = talk.service.change("POST", "servers", *server.split("/"), verb, comment=comment, **values)
    talk.change(made, save=save)
    return made


def _ask(talk: Talk, server: str, yes: bool, what: str = "") -> None:
    """Before a server takes nothing new: ask about `what`, if anything, and if it is the last one that can be used."""
    if yes:
        return
    reasons = [what] if what else []
    if _is_last(talk, server):
        backend = server.partition("/")[0]
        reasons.append(f"{server} is the last server of {backend} that can be used, new requests will get 503")
    if reasons:
        confirm("; ".join(reasons), yes)


def _is_last(talk: Talk, server: str) -> bool:
    """Can it be used, and no other one of its backend?"""
    rows = talk.service.ask("servers", backend=server.partition("/")[0])["items"]
    usable = {row["server"] for row in rows if row["weight"] and str(row["state"]).startswith("UP")}
    return usable == {server}

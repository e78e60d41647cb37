"""The other changes: kick, undo, save, reload."""

from __future__ import annotations

import click

from lbservice.admin.cli.command import Command, Talk, comment_option, confirm, save_option, talks, yes_option
from lbservice.admin.cli.names import CHANGE, SESSION


@click.command(cls=Command)
@click.argument("session", type=SESSION, metavar="SESSION")
@yes_option
@talks
@comment_option
def kick(talk: Talk, session: str, yes: bool, comment: str | None) -> None:
    """Close a client's connection at once; SESSION is FRONTEND/ADDRESS:PORT, as lbservice sessions lists it.

    \b
    Example:
      lbservice kick web/192.0.2.7:50123 --yes
    """
    frontend, slash, client = session.partition("/")
    if not (frontend and slash and client):
        raise click.BadParameter(f"{session!r}: name it as lbservice sessions does, FRONTEND/ADDRESS:PORT")
    confirm(f"Kicking {session} cuts its connection", yes)
    talk.change(talk.service.change("DELETE", "sessions", frontend, client, comment=comment))


@click.command(cls=Command)
@click.argument("number", type=CHANGE, metavar="NUMBER")
@talks
@comment_option
@save_option
def undo(talk: Talk, number: int, comment: str | None, save: bool) -> None:
    """Take back one of lbservice changes; what was changed since stays.

    \b
    Example:
      lbservice undo 3
    """
    talk.change(talk.service.change("POST", "changes", str(number), "undo", comment=comment), save=save)


@click.command(cls=Command)
@talks
@comment_option
def save(talk: Talk, comment: str | None) -> None:
    """Write what was changed into lb.ini, so that a restart keeps it; comments and order stay.

    \b
    Example:
      lbservice save --comment "s4 is here to stay"
    """
    talk.change(talk.service.change("POST", "save", comment=comment))


@click.command(cls=Command)
@click.option("--discard", is_flag=True, help="Drop what was changed and not saved; else it stays.")
@talks
@comment_option
def reload(talk: Talk, discard: bool, comment: str | None) -> None:
    """Read lb.ini again, and run as it says; with a mistake in it nothing changes.

    The answer comes when it is in force. Servers that stay keep their health, counters and connections.

    \b
    Examples:
      lbservice check lb.ini && lbservice reload
      lbservice reload --discard
    """
    talk.change(talk.service.change("POST", "reload", comment=comment, discard=discard or None))


CHANGES = (kick, undo, save, reload)

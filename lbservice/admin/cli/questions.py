"""The commands that only ask: servers, backends, frontends, stats, health, sessions, changes, diff, why."""

from __future__ import annotations

import time

import click

from lbservice.admin.cli import show
from lbservice.admin.cli.command import Command, Talk, talks
from lbservice.admin.cli.names import BACKEND, PLACE, SERVER
from lbservice.admin.table import duration


@click.command(cls=Command)
@click.argument("backend", type=BACKEND, required=False)
@talks
def servers(talk: Talk, backend: str | None) -> None:
    """Every server, or those of BACKEND: state, reason, weight, load.

    \b
    Examples:
      lbservice servers
      lbservice servers app --json
    """
    where = f"backend {backend} has no servers" if backend else "no servers"
    talk.rows(talk.service.ask("servers", backend=backend), empty=where)


@click.command(cls=Command)
@talks
def backends(talk: Talk) -> None:
    """Every backend: policy, servers, load, queue.

    \b
    Example:
      lbservice backends
    """
    talk.rows(talk.service.ask("backends"), empty="no backends")


@click.command(cls=Command)
@talks
def frontends(talk: Talk) -> None:
    """Every frontend: addresses, connections, requests.

    \b
    Example:
      lbservice frontends
    """
    talk.rows(talk.service.ask("frontends"), empty="no frontends")


@click.command(cls=Command)
@talks
def stats(talk: Talk) -> None:
    """Everything at a glance: uptime, frontends and backends.

    \b
    Example:
      lbservice stats
    """
    answer = talk.service.ask("stats")
    if talk.as_json:
        show.as_json(answer)
        return
    dropped = answer.get("log_dropped", 0)
    lost = f", {dropped} log lines lost" if dropped else ""
    click.echo(f"up {duration(answer.get('uptime', -1))}{lost}\n")
    click.echo(show.table(answer.get("frontends", ()), empty="no frontends") + "\n")
    click.echo(show.table(answer.get("backends", ()), empty="no backends"))


@click.command(cls=Command)
@click.argument("server", type=SERVER, metavar="BACKEND/NAME")
@talks
def health(talk: Talk, server: str) -> None:
    """The last checks of a server, and the last answers of its agent; the newest first.

    \b
    Example:
      lbservice health app/s1
    """
    talk.rows(talk.service.ask("servers", *server.split("/"), "health"), empty=f"{server} has not been checked yet")


@click.command(cls=Command)
@click.argument("where", type=PLACE, required=False)
@talks
def sessions(talk: Talk, where: str | None) -> None:
    """The connections of clients; with WHERE those of one frontend, backend or server. The oldest first.

    \b
    Examples:
      lbservice sessions
      lbservice sessions app/s1
    """
    talk.rows(talk.service.ask("sessions", where=where), empty="no sessions")


@click.command(cls=Command)
@click.option("--last", metavar="N", type=click.IntRange(1, 500), default=20, show_default=True, help="How many.")
@talks
def changes(talk: Talk, last: int) -> None:
    """What was changed since the start, by whom, and why; the newest first.

    \b
    Examples:
      lbservice changes
      lbservice changes --last 100 --json
    """
    answer = talk.service.ask("changes", last=last)
    if talk.as_json:
        show.as_json(answer)
        return
    rows = [
        {
            "number": row["number"],
            "when": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["at"])),
            "by": f"{row['actor']}, {row['face']}" if row.get("face") else row["actor"],
            "change": f"{row['target']}: {row['verb']}, {row['before']} -> {row['after']}",
            "saved": row["saved"],
            "comment": row["comment"],
        }
        for row in answer["items"]
    ]
    click.echo(show.table(rows, empty="nothing was changed"))


@click.command(cls=Command)
@talks
def diff(talk: Talk) -> None:
    """What runs, against what lb.ini says now.

    \b
    Example:
      lbservice diff
    """
    talk.rows(talk.service.ask("diff"), empty="nothing differs")


@click.command(cls=Command)
@click.argument("request_id", metavar="REQUEST-ID")
@talks
def why(talk: Talk, request_id: str) -> None:
    """Where a request went, and why: route, server, the others, queue, times, events of its backend.

    REQUEST-ID is in the X-Request-ID of the response, and in braces in the log.

    \b
    Example:
      lbservice why 0cf01291-2
    """
    answer = talk.service.ask("requests", request_id)
    if talk.as_json:
        show.as_json(answer)
        return
    for row in answer["items"]:
        click.echo(f"{show.plain(row['about']):8}{show.plain(row['says'])}")


QUESTIONS = (servers, backends, frontends, stats, health, sessions, changes, diff, why)

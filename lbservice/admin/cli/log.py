"""`lbservice log`: follow the log, or have the service open it anew."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import click

from lbservice.admin.cli import logline, place, show
from lbservice.admin.cli.command import Group, Talk, comment_option, talks, where_options
from lbservice.admin.cli.failure import No
from lbservice.admin.cli.kinds import Status
from lbservice.admin.cli.logline import Filter
from lbservice.admin.cli.names import BACKEND, SERVER
from lbservice.admin.cli.service import Service

PAUSE = 0.25
"""Seconds between two looks at the file."""
LONGEST = 64 * 1024
"""Bytes of one line; what is longer is cut in two."""
STREAM_TIMEOUT = 60.0
"""Seconds of silence after which events are taken to be cut off; the service says something every 15 s."""


@click.group(cls=Group)
def log() -> None:
    """The log: follow it, or have it opened anew.

    \b
    Example:
      lbservice log follow --status 5xx
    """


@log.command()
@talks
@comment_option
def reopen(talk: Talk, comment: str | None) -> None:
    """Have the service close and open its log, after it was renamed; as SIGUSR1 does.

    \b
    Example:
      mv load_balancer.log load_balancer.log.1 && lbservice log reopen
    """
    talk.change(talk.service.change("POST", "log", "reopen", comment=comment))


@log.command()
@click.option("--server", type=SERVER, metavar="BACKEND/NAME", help="Only what tells of this server.")
@click.option("--backend", type=BACKEND, metavar="NAME", help="Only what tells of this backend.")
@click.option(
    "--status",
    "statuses",
    type=Status(),
    multiple=True,
    metavar="503|5xx",
    help="Only requests with this status; can be given several times.",
)
@click.option("--events", is_flag=True, help="Only events, no requests.")
@click.option(
    "--lines",
    "-n",
    metavar="N",
    type=click.IntRange(0, 100_000),
    default=10,
    show_default=True,
    help="How many old lines to begin with.",
)
@click.option("--no-wait", is_flag=True, help="End with the last line that there is.")
@click.option("--file", "path", type=click.Path(), metavar="FILE", help="The log, where lb.ini does not say so.")
@where_options
def follow(
    server: str | None,
    backend: str | None,
    statuses: tuple[str, ...],
    events: bool,
    lines: int,
    no_wait: bool,
    path: str | None,
    config: str,
    api: str,
    token_file: str,
    ca: str | None,
    cert: str | None,
) -> None:
    """The log in colours, as it grows; Ctrl-C ends it.

    The file is that of lb.ini, on this machine, and it is followed when it is rotated. With --api the events come from
    the service instead, from now on, and without requests.

    \b
    Examples:
      lbservice log follow --backend app --status 5xx
      lbservice log follow --events -n 100 --no-wait
    """
    if statuses and events:
        raise click.UsageError("--events and --status leave nothing: events have no status")
    wanted = Filter(tuple(filter(None, (server, backend))), statuses, events)
    if api and not path:
        if statuses:
            raise click.UsageError("with --api there are only events, which have no status")
        talk = Service(place.find(config, api, token_file, ca, cert), timeout=STREAM_TIMEOUT)
        told = (f"{_moment(event.get('time'))} {show.plain(event.get('text', ''))}" for event in talk.events())
        _print((logline.read(text.replace("\n", " ")) for text in told), wanted)
        return
    path = path or place.beside(config, place.value(config, "loadbalancer", "log") or "load_balancer.log")
    try:
        with Tail(path) as tail:
            # Filtered before they are counted: the last ten of those that are wanted.
            _print(deque(filter(wanted.wants, map(logline.read, tail.old())), maxlen=lines), Filter())
            if not no_wait:
                _print(map(logline.read, tail.new()), wanted)
    except OSError as error:
        raise No(f"{path}: {error.strerror or error}; --file FILE names the log") from None
    except KeyboardInterrupt:
        return


def _moment(seconds: object) -> str:
    """As the log writes it."""
    moment = time.localtime(seconds if isinstance(seconds, int | float) else None)
    return time.strftime("%Y-%m-%dT%H:%M:%S%z [lbservice]", moment)


def _print(lines: Any, wanted: Filter) -> None:
    for line in lines:
        if wanted.wants(line):
            click.echo(line.painted())


class Tail:
    """The lines of a file that grows, without a gap between old ones and new ones."""

    def __init__(self, path: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._path = path
        self._sleep = sleep
        self._file = open(path, "rb")  # noqa: SIM115  # another one takes its place on the way
        self._rest = b""

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def old(self) -> Iterator[str]:
        """Those that are there."""
        while data := self._file.readline(LONGEST):
            self._rest += data
            if self._rest.endswith(b"\n") or len(self._rest) >= LONGEST:
                yield self._rest.decode("utf-8", "replace").rstrip("\r\n")
                self._rest = b""

    def new(self) -> Iterator[str]:
        """Those that come, also to the file that takes this one's place. Never ends by itself."""
        while True:
            yield from self.old()
            if self._replaced():
                newer = open(self._path, "rb")  # noqa: SIM115
                yield from self.old()  # what came between the last look and the renaming
                self._file.close()
                self._file = newer
            elif os.fstat(self._file.fileno()).st_size < self._file.tell():
                self._file.seek(0)  # cut to nothing, as copytruncate does
            else:
                self._sleep(PAUSE)

    def _replaced(self) -> bool:
        """Is there another file of that name by now?"""
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False  # renamed, and the new one is still to come

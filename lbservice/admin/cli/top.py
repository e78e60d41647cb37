"""`lbservice top`: servers, rates and states as they change, on one screen; `tui` has the one with --tui.

A screen is `frame`, a plain function of two looks at the service; the rest is the terminal, which is left as it was.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import click

from lbservice.admin.cli import show
from lbservice.admin.cli.command import Command, Talk, talks, wants_colour
from lbservice.admin.cli.failure import Missing, Unreachable
from lbservice.admin.cli.kinds import Seconds
from lbservice.admin.table import cell, duration

ENTER = "\x1b[?1049h\x1b[?25l"
LEAVE = "\x1b[?25h\x1b[?1049l"
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
COLUMNS = ("server", "address", "state", "weight", "rate/s", "in flight", "requests", "errors", "since", "reason")
NUMBERS = ("weight", "rate/s", "in flight", "requests", "errors", "since")
LEAST = ("reason", "since", "address", "errors", "requests", "weight", "in flight", "rate/s", "state", "server")
"""In this order they go when the screen is narrow."""
SHORTEST = 10
"""Characters of a reason that are still worth reading."""
QUIT = (b"q", b"Q", b"\x03", b"\x04")


@dataclass(frozen=True, slots=True)
class Look:
    """What the service said at one moment (monotonic seconds)."""

    at: float
    stats: Mapping[str, Any]
    servers: tuple[Mapping[str, Any], ...]

    def rates(self, before: Look) -> list[float | None]:
        """Requests a second of each server since then; None where that cannot be said."""
        seconds = self.at - before.at
        then = {row["server"]: row["requests"] for row in before.servers}
        done = [row["requests"] - then.get(row["server"], 0) for row in self.servers]
        # fewer than before: it was started anew in between
        return [number / seconds if seconds > 0 and number >= 0 else None for number in done]


@click.command(cls=Command)
@click.argument("backend", required=False)
@click.option("--interval", metavar="TIME", type=Seconds(), default="1s", show_default=True, help="Between two looks.")
@click.option("--count", metavar="N", type=click.IntRange(1), help="End after so many looks; without a terminal: 1.")
@click.option("--tui", is_flag=True, help="Sort, filter, and see the last checks; needs lbservice[tui].")
@talks
def top(talk: Talk, backend: str | None, interval: float, count: int | None, tui: bool) -> None:
    """A live table of the servers: state, requests a second, in flight, errors. q leaves.

    Without a terminal it prints the table once, or --count times.

    \b
    Examples:
      lbservice top
      lbservice top app --interval 5s
      lbservice top --count 2 | tail -n 5
      lbservice top --tui
    """
    if talk.as_json:
        raise click.UsageError("top is for people; take lbservice servers --json")
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if tui:
        if count is not None:
            raise click.UsageError("--tui ends with q; --count goes without it")
        _tui(talk, backend, interval, at_terminal)
        return
    look = looks(talk, backend)
    if not at_terminal:
        before = next(look)
        for number in range(count or 1):
            # A rate needs two looks: the first table comes one interval after the start.
            time.sleep(interval)
            now = next(look)
            click.echo(("\n" if number else "") + "\n".join(frame(before, now, 0)))
            before = now
        return
    with terminal() as keyboard:
        before, shown = next(look), 0
        now, trouble = before, ""
        while True:
            _draw(before, now, trouble)
            shown += 1
            if shown == count or _quits(keyboard, interval):
                return
            try:
                newer, trouble = next(look), ""
                before, now = now, newer
            except Unreachable as error:
                # It may be starting anew; the last table stays, and says so.
                trouble, look = error.message, looks(talk, backend)


def _tui(talk: Talk, backend: str | None, interval: float, at_terminal: bool) -> None:
    try:
        from lbservice.admin.cli.tui import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise Missing(
            "top --tui needs Textual: pip install 'lbservice[tui]', or in a checkout pip install '.[tui]'; "
            "lbservice top goes without it"
        ) from None
    if not at_terminal:
        raise click.UsageError("--tui needs a terminal; lbservice top goes without one")
    run(talk, backend, interval)


def looks(talk: Talk, backend: str | None) -> Iterator[Look]:
    """One look at the service for each `next`; it ends when one raises."""
    while True:
        servers = talk.service.ask("servers", backend=backend)["items"]
        yield Look(time.monotonic(), talk.service.ask("stats"), tuple(servers))


def frame(before: Look, now: Look, width: int, height: int = 0) -> list[str]:
    """The lines of one screen, of that width and height at most (0: whatever it takes)."""
    rows = [cells(row, rate) for row, rate in zip(now.servers, now.rates(before), strict=True)]
    head = totals(before, now)
    if height and len(head) + 2 + len(rows) > height:
        room = max(0, height - len(head) - 3)
        rest = len(rows) - room
        rows = rows[:room]
    else:
        rest = 0
    columns, lines = _fitting([list(COLUMNS), *rows], width)
    table = show.aligned(
        [[name.upper() for name in columns], *lines], [name in NUMBERS for name in columns], ("state",), columns
    )
    more = [f"... and {rest} more; lbservice top BACKEND shows one backend"] if rest else []
    return [*(line[:width] if width else line for line in head), "", *table, *(line[: width or None] for line in more)]


def cells(row: Mapping[str, Any], rate: float | None) -> list[str]:
    """What stands in COLUMNS."""
    return [
        *(cell(row[name]) for name in ("server", "address", "state", "weight")),
        "-" if rate is None else f"{rate:.1f}",
        *(cell(row[name]) for name in ("in_flight", "requests", "errors", "since", "reason")),
    ]


def _fitting(lines: list[list[str]], width: int) -> tuple[list[str], list[list[str]]]:
    """The columns that have room, and their cells; the reason is cut first, then whole columns go."""
    heading, *rest = lines
    kept = list(range(len(heading)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for name in LEAST:
        spare = width - sum(widths[at] + 2 for at in kept) + 2
        if not width or spare >= 0:
            break
        at = COLUMNS.index(name)
        if (widths[at] + spare >= SHORTEST and name == "reason") or kept == [at]:
            widths[at] = max(1, widths[at] + spare)
            break
        kept.remove(at)
    return [heading[at] for at in kept], [[line[at][: widths[at]] for at in kept] for line in rest]


def totals(before: Look, now: Look) -> list[str]:
    """Two lines about the whole service."""
    seconds = now.at - before.at
    frontends, backends = now.stats.get("frontends", ()), now.stats.get("backends", ())
    requests = sum(row["requests"] for row in frontends)
    done = requests - sum(row["requests"] for row in before.stats.get("frontends", ()))
    rate = f"{done / seconds:.1f} requests/s" if seconds > 0 and done >= 0 else "- requests/s"
    connections = sum(row["connections"] for row in frontends)
    errors = sum(row["status_5xx"] for row in frontends)
    up = sum(row["available"] for row in backends)
    servers = sum(row["servers"] for row in backends)
    waiting = sum(row["waiting"] for row in backends)
    dropped = now.stats.get("log_dropped", 0)
    return [
        f"lbservice, up {duration(now.stats.get('uptime', -1))}; {up} of {servers} servers available"
        + (f"; {dropped} log lines lost" if dropped else ""),
        f"{rate}, {connections} connections, {waiting} waiting, {requests} requests and {errors} 5xx so far",
    ]


# -- the terminal ------------------------------------------------------------------------------


@contextmanager
def terminal() -> Iterator[int]:
    """Keys come at once and are not shown, on a screen of its own; afterwards all is as it was."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    ended = signal.signal(signal.SIGTERM, _end)
    try:
        tty.setcbreak(keyboard)
        now = termios.tcgetattr(keyboard)
        now[-1][termios.VSUSP] = b"\0"  # stopped by Ctrl-Z it would leave its screen behind
        termios.tcsetattr(keyboard, termios.TCSANOW, now)
        sys.stdout.write(ENTER)
        sys.stdout.flush()
        yield keyboard
    except KeyboardInterrupt:
        pass
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, ended)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _draw(before: Look, now: Look, trouble: str) -> None:
    columns, rows = shutil.get_terminal_size()
    lines = frame(before, now, columns, rows - 1)
    foot = show.plain(trouble)[:columns] if trouble else "q leaves"
    lines = [*lines[: rows - 1], foot]
    if wants_colour() is False:
        lines = [click.unstyle(line) for line in lines]
    sys.stdout.write(HOME + f"{CLEAR_LINE}\r\n".join(lines) + CLEAR_LINE + CLEAR_BELOW)
    sys.stdout.flush()


def _quits(keyboard: int, seconds: float) -> bool:
    """Wait, or until somebody types q."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select([keyboard], [], [], left)
        if ready:
            typed = os.read(keyboard, 64)
            if not typed or any(key in typed for key in QUIT):
                return True
    return False

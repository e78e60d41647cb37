"""What --wait does: ask again until it is so, or the time is over."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

import click

from lbservice.admin.cli.command import Talk
from lbservice.admin.cli.failure import No
from lbservice.admin.cli.service import Refused
from lbservice.admin.table import duration

FIRST, LONGEST = 0.1, 1.0
"""Seconds between two questions, at first and later."""


class Waiting:
    """One wait of `seconds` at most."""

    def __init__(self, talk: Talk, seconds: float) -> None:
        self.talk = talk
        self.seconds = seconds

    def until_idle(self, server: str) -> None:
        """Until the server has nothing in flight, or is gone. Raises No when it still has something."""

        def question() -> str:
            row = self._row(server)
            if row is None or not row["in_flight"]:
                return ""
            return f"{row['in_flight']} in flight"

        self._until(question, server, "; it goes on leaving by itself")
        self.talk.tell(f"{server}: nothing in flight")

    def until_up(self, server: str, *, anew: bool = False) -> None:
        """Until a check has passed, if it has checks; `anew`: one from now on. Raises No when it is still down."""
        began = monotonic()

        def question() -> str:
            row = self._row(server)
            if row is None:
                raise No(f"{server} was removed in the meantime")
            state, reason = str(row["state"]), str(row.get("reason", ""))
            if reason.endswith("not checked"):
                return "" if state.startswith("UP") else state
            if row.get("last_check") == "-" or (anew and not self._checked(server, monotonic() - began)):
                return f"{state}, not checked yet"
            return "" if state.startswith("UP") else f"{state}, {reason}"

        self._until(question, server, "")
        self.talk.tell(f"{server}: up")

    def _checked(self, server: str, seconds: float) -> bool:
        """Has it been checked in the last so many seconds?"""
        rows = self.talk.service.ask("servers", *server.split("/"), "health")["items"]
        return any(row.get("by") == "check" and row["ago"] <= seconds for row in rows)

    def _row(self, server: str) -> dict[str, Any] | None:
        try:
            row: dict[str, Any] = self.talk.service.ask("servers", *server.split("/"))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        return row

    def _until(self, question: Callable[[], str], server: str, hint: str) -> None:
        """Until the question is answered with nothing; what it answers else is what is waited for."""
        end, pause, shown = monotonic() + self.seconds, FIRST, ""
        while why := question():
            left = end - monotonic()
            if left <= 0:
                raise No(f"{server}: {why} after {duration(self.seconds)}{hint}")
            if why != shown and sys.stderr.isatty():
                click.echo(f"{server}: {why} ...", err=True)
            shown = why
            sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST)

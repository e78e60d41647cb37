"""How a command ends badly when usage is not to blame; the exit codes are a promise to scripts."""

from __future__ import annotations

from typing import IO, Any

import click

NO = 1
USAGE = 2
UNREACHABLE = 3


class Failure(click.ClickException):
    """A command that ends with a sentence on standard error."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"lbservice: {self.format_message()}", file=file, err=file is None)


class No(Failure):
    """The service, or what was looked at, says no."""

    exit_code = NO


class Missing(Failure):
    """Something is not installed that was asked for."""

    exit_code = USAGE


class Unreachable(Failure):
    """Nobody could be asked."""

    exit_code = UNREACHABLE

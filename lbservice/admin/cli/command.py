"""What all commands share: their options, and how their help is laid out."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from lbservice.admin.cli import place, show
from lbservice.admin.cli.failure import No
from lbservice.admin.cli.kinds import Seconds
from lbservice.admin.cli.service import Service

WHERE = ("config", "api", "token_file", "ca", "cert")
Function = Callable[..., Any]
Decorator = Callable[[Function], Function]


class Command(click.Command):
    """A command whose help has the options about the service at the end."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Options": [], "Where the service is": []}
        for parameter in self.get_params(context):
            # Newer versions of click list arguments, too, of which the usage line has said all.
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)):
                home = "Where the service is" if parameter.name in WHERE and "api" in self.names else "Options"
                groups[home].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def get_short_help_str(self, limit: int = 45) -> str:
        return short_help(self.help, limit)

    @property
    def names(self) -> list[str | None]:
        """Those of its parameters."""
        return [parameter.name for parameter in self.params]


class Group(click.Group):
    """Commands in the order in which they were written down."""

    command_class = Command

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)

    def get_short_help_str(self, limit: int = 45) -> str:
        return short_help(self.help, limit)


Group.group_class = Group


def short_help(text: str | None, limit: int) -> str:
    """The first sentence, as far as it goes for a list of commands."""
    sentence = " ".join((text or "").partition("\n\n")[0].split()).rstrip(".")
    for mark in ("; ", ": ", ", "):
        if len(sentence) <= limit:
            break
        sentence = sentence.partition(mark)[0]
    return sentence


class Talk:
    """One command's talk with the service, and how its answers are printed."""

    def __init__(self, service: Service, *, as_json: bool) -> None:
        self.service = service
        self.as_json = as_json

    def rows(self, answer: Mapping[str, Any], *, empty: str) -> None:
        """Print a list."""
        if self.as_json:
            show.as_json(answer)
        else:
            click.echo(show.table(answer.get("items", ()), empty=empty))

    def change(self, made: Mapping[str, Any], *, save: bool = False) -> None:
        """Print a change; then write it into lb.ini if that is wanted."""
        if save:
            # Also when it was so already: an earlier change may have made it so, and not saved it.
            try:
                saved = self.service.change("POST", "save")
            except No as error:
                self._print(made)
                what = "the change is in force" if made.get("changed") else "it was so already"
                raise No(f"{what}, but it is not saved: {error.message}") from None
            made = show.saved(made)
            self._print(made)
            self.tell(show.change(saved))
        else:
            self._print(made)

    def _print(self, made: Mapping[str, Any]) -> None:
        if self.as_json:
            show.as_json(made)
        else:
            click.echo(show.change(made))

    def tell(self, sentence: str) -> None:
        """Something besides the answer."""
        if not self.as_json:
            click.echo(sentence)


config_option = click.option(
    "--config",
    "-c",
    default="lb.ini",
    envvar="LBSERVICE_CONFIG",
    show_default=True,
    metavar="FILE",
    type=click.Path(),
    help="The lb.ini of the service (LBSERVICE_CONFIG).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's answer, for programs.")


def where_options(function: Function) -> Function:
    """The options that say where the service is."""
    for option in (
        click.option(
            "--cert", metavar="FILE", envvar="LBSERVICE_CERT", help="Our certificate and key (LBSERVICE_CERT)."
        ),
        click.option("--ca", metavar="FILE", envvar="LBSERVICE_CA", help="Whom to trust with https (LBSERVICE_CA)."),
        click.option(
            "--token-file", metavar="FILE", default="", help="A file with a token; or put it in LBSERVICE_TOKEN."
        ),
        click.option(
            "--api",
            metavar="URL",
            default="",
            envvar="LBSERVICE_API",
            help="http://HOST:PORT, https://HOST:PORT or unix:PATH (LBSERVICE_API).",
        ),
        config_option,
    ):
        function = option(function)
    return function


def talks(function: Function) -> Function:
    """A command that talks to the service: it gets a Talk before its own arguments."""

    @functools.wraps(function)
    def command(
        *, config: str, api: str, token_file: str, ca: str | None, cert: str | None, as_json: bool, **rest: Any
    ) -> Any:
        service = Service(place.find(config, api, token_file, ca, cert))
        return function(Talk(service, as_json=as_json), **rest)

    return json_option(where_options(command))


comment_option = click.option("--comment", metavar="WORDS", help="Why; for the log and the journal.")
save_option = click.option("--save", is_flag=True, help="Write it into lb.ini, too, so that a restart keeps it.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask whether connections may be cut.")
timeout_option = click.option(
    "--timeout", metavar="TIME", type=Seconds(), default="1m", show_default=True, help="How long --wait waits."
)


def confirm(what: str, yes: bool) -> None:
    """Say what will happen and ask, before connections are cut; without a terminal nobody can be asked."""
    if yes:
        return
    if not at_terminal():
        raise click.UsageError(f"{what}; there is no terminal to ask at, so say --yes")
    if not click.confirm(f"{what}. Go on?", err=True):
        raise No("nothing was changed")


def at_terminal() -> bool:
    """Is there somebody who can be asked?"""
    return sys.stdin.isatty()


def wants_colour() -> bool | None:
    """None: as the terminal is; False if NO_COLOR says so (no-color.org)."""
    return False if os.environ.get("NO_COLOR") else None

"""The commands that need no API: run, check, demo, init, shell, token."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import click

from lbservice import tokens
from lbservice.admin import client
from lbservice.admin.cli import show
from lbservice.admin.cli.command import Command, config_option
from lbservice.admin.cli.failure import NO, UNREACHABLE, USAGE, No
from lbservice.core.settings import Settings
from lbservice.errors import ConfigError

LONGEST_SOURCE = 16 * 1024 * 1024


@click.command(cls=Command)
@click.argument("file", default="lb.ini", envvar="LBSERVICE_CONFIG")
@click.option("--probe", is_flag=True, help="Then ask every server and agent once; status 1 if one fails its check.")
def check(file: str, probe: bool) -> None:
    """Read FILE (lb.ini) and say every mistake in it.

    \b
    Examples:
      lbservice check
      lbservice check --probe /etc/lbservice/lb.ini
    """
    from lbservice.config import load

    try:
        settings = load(file)
    except ConfigError as error:
        fail(str(error), NO)
    click.echo(f"{file}: ok, {summary(settings)}")
    if probe:
        probe_servers(settings)


@click.command(cls=Command)
@click.option("--from", "source", type=click.Path(), metavar="FILE", help="Carry over what can be of a haproxy.cfg.")
def init(source: str | None) -> None:
    """Print an lb.ini to begin with.

    With --from it does what that haproxy.cfg does, as far as it can. Each line that could not be carried is listed with
    the reason, on standard error and as a comment at the end.

    \b
    Examples:
      lbservice init > lb.ini
      lbservice init --from /etc/haproxy/haproxy.cfg > lb.ini
    """
    if source is None:
        click.echo(files("lbservice.admin").joinpath("sample.ini").read_text("utf-8"), nl=False)
    else:
        import_haproxy(source)


@click.command(cls=Command)
@config_option
@click.option("--socket", "path", metavar="PATH", help="The manhole's socket, when there is no lb.ini here.")
def shell(config: str, path: str | None) -> None:
    """Talk to the running service; Ctrl-D leaves, Ctrl-] also when it hangs.

    With a pipe instead of a terminal the text is run as a whole, up to the first error.

    \b
    Examples:
      lbservice shell
      echo 'lb.servers()' | lbservice shell
    """
    try:
        path = path or socket_path(config)
        if sys.stdin.isatty():
            client.converse(path)
            return
        output, error = client.run_script(path, sys.stdin.read())
    except client.Unreachable as unreachable:
        fail(f"lbservice: {unreachable}", UNREACHABLE)
    click.echo(output, nl=False)
    if error:
        fail(error.rstrip("\n"), NO)


@click.command(cls=Command)
@config_option
def run(config: str) -> None:
    """Run the service in the foreground, as twistd -n loadbalancer --config FILE.

    \b
    Example:
      lbservice run --config lb.ini
    """
    command = [*twistd(), "--nodaemon", "--pidfile=", "loadbalancer", "--config", config]
    os.execv(command[0], command)


@click.command(cls=Command)
@click.option("--port", default=8080, show_default=True, metavar="PORT", type=click.IntRange(1, 65535), help="Where.")
@click.option(
    "--seconds", metavar="N", type=click.FloatRange(0), help="End that long after the show; without it, on Ctrl-C."
)
def demo(port: int, seconds: float | None) -> None:
    """See it work: three small servers, a load balancer, some traffic, and what to try next.

    \b
    Example:
      lbservice demo --port 8081
    """
    from lbservice.admin.demo import main as show

    sys.exit(show(port, seconds))


@click.command(cls=Command)
@click.argument("name")
@click.argument("level", type=click.Choice(tokens.LEVELS), metavar="|".join(tokens.LEVELS))
def token(name: str, level: str) -> None:
    """Make a token for the HTTP API, for NAME.

    It is shown once, on standard output. The line for the file that `tokens` in [admin] names goes to standard error.

    \b
    Example:
      lbservice token deploy operator > deploy.token
    """
    try:
        secret, line = tokens.make(name, level)
    except ValueError:
        fail(f"{name}: a name has up to 64 letters, digits or any of . _ @ -, and begins with a letter or digit", USAGE)
    click.echo(secret)
    click.echo(f"The line for the file of tokens (mode 0600), which holds no secret:\n{line}", err=True)


def import_haproxy(source: str) -> None:
    """Print the lb.ini that does the same, and on standard error what it does not do."""
    from lbservice.admin.haproxy import translate

    try:
        with open(source, encoding="utf-8", errors="replace") as file:
            text = file.read(LONGEST_SOURCE)
    except OSError as error:
        raise No(f"{source}: {error.strerror}") from None
    made = translate(text, Path(source).name)
    for note in made.notes:
        click.echo(f"{source}: {show.plain(note)}", err=True)
    click.echo(f"{source}: {made.lost} of its lines could not be carried", err=True)
    if not made.usable:
        raise No(f"{source}: nothing is left that could be started; mend what is said above")
    click.echo(made.text, nl=False)


def probe_servers(settings: Settings) -> NoReturn:
    """Say what every check says, and end."""
    from twisted.internet.task import react

    from lbservice.admin.probe import ProbeRow, probe
    from lbservice.admin.table import Table
    from lbservice.proxy.transport import Network
    from lbservice.reactor import use_monotonic_time

    rows: list[ProbeRow] = []

    async def ask(reactor: Any) -> None:
        use_monotonic_time(reactor)
        rows.extend(await probe(settings, Network(reactor), reactor))
        click.echo(repr(Table(rows, empty="nothing is checked")))
        if any(row.result != "passed" for row in rows):
            raise SystemExit(NO)

    react(ask)
    raise AssertionError("react() ends the program")


def socket_path(file: str) -> str:
    """Where the service of that lb.ini has its shell; raises Unreachable when it has none for us."""
    from lbservice.config import load

    try:
        manhole = load(file).manhole
    except ConfigError as error:
        raise client.Unreachable(f"cannot tell where the service is:\n{error}") from error
    if manhole is None:
        raise client.Unreachable(f"{file} has no shell; add [manhole] with listen = unix:run/manhole.sock")
    if manhole.ssh is not None:
        host, port = manhole.ssh
        raise client.Unreachable(f"the shell of {file} speaks ssh: ssh -p {port} {host or '127.0.0.1'}")
    if manhole.telnet is not None:
        host, port = manhole.telnet
        raise client.Unreachable(f"the shell of {file} speaks telnet: telnet {host} {port}")
    assert manhole.unix is not None
    return manhole.unix


def summary(settings: Settings) -> str:
    """`1 frontend, 2 backends, 5 servers`."""
    numbers = {
        "frontend": len(settings.frontends),
        "backend": len(settings.backends),
        "server": sum(len(backend.servers) for backend in settings.backends),
    }
    return ", ".join(f"{number} {noun}{'' if number == 1 else 's'}" for noun, number in numbers.items())


def twistd() -> list[str]:
    """How to start the twistd that belongs to this Python."""
    script = Path(sys.executable).with_name("twistd")
    if os.access(script, os.X_OK):
        return [sys.executable, str(script)]
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


def fail(message: str, status: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(status)


LOCAL = (run, check, demo, init, shell, token)

"""`lbservice completion`: what makes the Tab key know the commands, and the names that the running service has."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lbservice.admin.cli.command import Command

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_LBSERVICE_COMPLETE"


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS), metavar="|".join(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what your shell needs to complete commands, options, servers, backends and sessions.

    \b
    Put it where your shell finds it, and start a new one:
      lbservice completion bash > ~/.local/share/bash-completion/completions/lbservice
      lbservice completion zsh  > ~/.zfunc/_lbservice      (with ~/.zfunc in fpath)
      lbservice completion fish > ~/.config/fish/completions/lbservice.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    root = context.find_root().command
    # Not source(): for bash that starts one, to see how old it is.
    made = found(root, {}, "lbservice", VARIABLE)
    click.echo(made.source_template % made.source_vars())

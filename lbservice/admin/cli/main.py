"""`lbservice`: the group of all commands."""

from __future__ import annotations

import click

from lbservice import __version__
from lbservice.admin.cli.changes import CHANGES
from lbservice.admin.cli.command import Group, wants_colour
from lbservice.admin.cli.completion import completion
from lbservice.admin.cli.local import LOCAL
from lbservice.admin.cli.log import log
from lbservice.admin.cli.questions import QUESTIONS
from lbservice.admin.cli.server import server
from lbservice.admin.cli.top import top


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lbservice")
@click.pass_context
def main(context: click.Context) -> None:
    """A load balancer that can be read, questioned and changed while it runs.

    The service is that of the lb.ini in this folder; --config FILE or --api URL name another one.

    \b
    Begin with:
      lbservice demo
    """
    context.color = wants_colour()


for command in (*LOCAL, *QUESTIONS, top, server, *CHANGES, log, completion):
    main.add_command(command)

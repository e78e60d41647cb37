"""The manual page, lbservice.1, from what the commands say of themselves: `make man` writes it anew.

One page for all commands, in the order in which a reader meets them: so it can be read, and searched.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from lbservice import __version__
from lbservice.admin.cli.command import WHERE, Command
from lbservice.admin.cli.main import main as lbservice

DATE = "2026-11-26"
"""Of the last change of what stands here."""

DESCRIPTION = """\
lbservice is a load balancer for HTTP and TCP that can be read, questioned and changed while it runs. This is its
command line. Most commands talk to the running service through the HTTP API that the section [admin] of its lb.ini
opens.

What is changed in the running service is forgotten when it is started anew, unless it is saved: with --save, or with
lbservice save."""
STATUS = (("0", "ok"), ("1", "the answer is no"), ("2", "usage"), ("3", "the service cannot be reached"))
ENVIRONMENT = (
    ("LBSERVICE_CONFIG", "the lb.ini of the service, as --config"),
    ("LBSERVICE_API", "where the service is, as --api"),
    ("LBSERVICE_TOKEN", "the token that it is shown"),
    ("LBSERVICE_CA", "as --ca"),
    ("LBSERVICE_CERT", "as --cert"),
    ("NO_COLOR", "if it is not empty, nothing is coloured"),
)
FILES = (
    ("lb.ini", "the configuration, of the folder that the command is called in"),
    ("load_balancer.log", "requests and events"),
    ("run/admin.sock", "the usual place of the API's socket"),
)


def page() -> str:
    """The page as man(7) has it."""
    return "\n".join(
        (
            f'.TH LBSERVICE 1 {DATE} "lbservice {__version__}" "User Commands"',
            ".SH NAME",
            r"lbservice \- a load balancer that can be changed while it runs",
            ".SH SYNOPSIS",
            r"\fBlbservice\fR \fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]",
            ".SH DESCRIPTION",
            *_paragraphs(DESCRIPTION),
            ".SH COMMANDS",
            *(line for words, command in commands(lbservice) for line in _command(words, command)),
            ".SH WHERE THE SERVICE IS",
            *_text("The commands that talk to the service take these options, too."),
            *(line for option in _where() for line in _option(option)),
            ".SH EXIT STATUS",
            *_list(STATUS),
            ".SH ENVIRONMENT",
            *_list(ENVIRONMENT),
            ".SH FILES",
            *_list(FILES),
            ".SH SEE ALSO",
            r"\fBtwistd\fR(1), \fBcurl\fR(1)",
            "",
        )
    )


def commands(group: click.Group, before: str = "lbservice") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its words."""
    for name, command in group.commands.items():
        words = f"{before} {name}"
        if isinstance(command, click.Group):
            yield from commands(command, words)
        else:
            yield words, command


def _command(words: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=words, **lbservice.context_settings)
    arguments = " ".join(word for word in command.collect_usage_pieces(context) if word != "[OPTIONS]")
    yield f'.SS "{_escape(f"{words} {arguments}".strip())}"'
    yield from _paragraphs(command.help or "")
    for option in command.params:
        if isinstance(option, click.Option) and not (_talks(command) and option.name in WHERE):
            yield from _option(option)


def _talks(command: click.Command) -> bool:
    return isinstance(command, Command) and "api" in command.names


def _where() -> list[click.Option]:
    command = lbservice.commands["servers"]
    return [each for each in command.params if isinstance(each, click.Option) and each.name in WHERE]


def _option(option: click.Option) -> Iterator[str]:
    # Not get_help_record(): its words differ between versions of click, and the page is kept.
    names = ", ".join(sorted(option.opts, key=len))
    value = "" if option.is_flag else f" {option.metavar}"
    default = f" [default: {option.default}]" if option.show_default else ""
    yield ".TP"
    yield f"\\fB{_escape(names)}\\fR{_escape(value)}"
    yield from _text(f"{option.help}{default}")


def _list(items: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for name, what in items:
        yield ".TP"
        yield f"\\fB{_escape(name)}\\fR"
        yield from _text(what)


def _paragraphs(text: str) -> Iterator[str]:
    """Those that begin with \\b keep their lines, as in click."""
    for number, paragraph in enumerate(re.split(r"\n\n+", inspect.cleandoc(text))):
        if paragraph.startswith("\b\n"):
            heading, *lines = paragraph.splitlines()[1:]
            yield ".PP"
            yield _escape(heading)
            yield ".PP"
            yield ".nf"
            yield from (f"    {_escape(line.strip())}" for line in lines)
            yield ".fi"
        else:
            if number:
                yield ".PP"
            yield from _text(paragraph)


def _text(text: str) -> list[str]:
    return [_escape(line) for line in textwrap.wrap(" ".join(text.split()), 72, break_on_hyphens=False)]


def _escape(text: str) -> str:
    text = (
        text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq").replace("~", r"\(ti").replace("'", r"\(aq")
    )
    return rf"\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")

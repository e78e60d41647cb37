"""Names that the Tab key completes by asking the running service: quickly, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from lbservice.admin.cli.failure import Failure
from lbservice.admin.cli.kinds import Kind
from lbservice.admin.cli.place import find
from lbservice.admin.cli.service import Service

PATIENCE = 0.5
"""Seconds that a Tab may take."""


class Name(Kind):
    """A name that `candidates` of a service completes; any text is taken, the service knows best."""

    def __init__(self, name: str, candidates: Callable[[Service], Iterable[tuple[str, str]]]) -> None:
        self.name = name
        self.candidates = candidates

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        said = ctx.params
        try:
            place = find(
                said.get("config") or "lb.ini",
                said.get("api") or "",
                said.get("token_file") or "",
                said.get("ca"),
                said.get("cert"),
            )
            found = list(self.candidates(Service(place, timeout=PATIENCE)))
        except (Failure, KeyError, TypeError):
            return []
        return [CompletionItem(name, help=what) for name, what in found if name.startswith(incomplete)]


def _items(service: Service, *path: str) -> list[dict[str, Any]]:
    return list(service.ask(*path)["items"])


def _servers(service: Service) -> Iterable[tuple[str, str]]:
    return [(row["server"], f"{row['state']} {row['address']}") for row in _items(service, "servers")]


def _backends(service: Service) -> Iterable[tuple[str, str]]:
    return [(row["backend"], f"{row['available']} of {row['servers']} servers") for row in _items(service, "backends")]


def _places(service: Service) -> Iterable[tuple[str, str]]:
    frontends = [(row["frontend"], row["listen"]) for row in _items(service, "frontends")]
    return [*frontends, *_backends(service), *_servers(service)]


def _sessions(service: Service) -> Iterable[tuple[str, str]]:
    return [(row["session"], row["doing"]) for row in _items(service, "sessions")]


def _changes(service: Service) -> Iterable[tuple[str, str]]:
    return [(str(row["number"]), f"{row['target']}: {row['verb']}") for row in _items(service, "changes")]


class _Number(Name):
    """The number of a change."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return int(click.IntRange(1).convert(value, param, ctx))


class _Server(Name):
    """BACKEND/NAME."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        backend, slash, name = str(value).partition("/")
        if not (backend and slash and name) or "/" in name:
            self.fail(f"{value!r}: name a server as BACKEND/NAME, e.g. app/s1", param, ctx)
        return str(value)


SERVER = _Server("server", _servers)
BACKEND = Name("backend", _backends)
PLACE = Name("where", _places)
SESSION = Name("session", _sessions)
CHANGE = _Number("number", _changes)

"""One thing that the API can do, as data: where it is, who may, what it takes and what it answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from urllib.parse import unquote_to_bytes

from lbservice.admin.api.problem import Problem
from lbservice.core.change import By
from lbservice.services.control import Control

LONGEST = 1000
"""Characters that a text may have, if its field does not say."""
LONGEST_NAME = 200


class Level(IntEnum):
    """What somebody may do; who may more, may the rest, too."""

    ANYBODY = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Field:
    """A value in a path, a query or a body. `kind` is "string", "integer" or "boolean"; a default of None: none.

    `least` and `most` bound an integer, `longest` the characters of a string; Control has the last word.
    """

    name: str
    about: str
    kind: str = "string"
    required: bool = False
    default: str | int | bool | None = None
    least: int | None = None
    most: int | None = None
    longest: int = LONGEST
    example: str | int | bool | None = None

    def read(self, value: object) -> Any:
        """A value out of JSON. Raises Problem 400 when it is of the wrong kind, 422 when it cannot be."""
        kind, words = _KINDS[self.kind]
        if type(value) is not kind:
            raise Problem(400, f"{self.name}: give {words}, not {_shown(value)}")
        if isinstance(value, str):
            if len(value) > self.longest:
                raise Problem(422, f"{self.name}: at most {self.longest} characters")
            if not value.isprintable():
                raise Problem(422, f"{self.name}: has a control character in it, or another that cannot be printed")
        elif not isinstance(value, bool) and isinstance(value, int):
            if self.least is not None and value < self.least:
                raise Problem(422, f"{self.name}: {_shown(value)} is less than {self.least}")
            if self.most is not None and value > self.most:
                raise Problem(422, f"{self.name}: {_shown(value)} is more than {self.most}")
        return value

    def read_text(self, text: str) -> Any:
        """The same from a path or a query, where everything is text."""
        if self.kind == "boolean":
            if text not in ("true", "false"):
                raise Problem(400, f"{self.name}: give true or false, not {_shown(text)}")
            return text == "true"
        if self.kind == "integer":
            if not re.fullmatch(r"-?[0-9]{1,9}", text):
                raise Problem(400, f"{self.name}: give a whole number, not {_shown(text)}")
            return self.read(int(text))
        return self.read(text)


_KINDS: Mapping[str, tuple[type, str]] = {
    "string": (str, "a string"),
    "integer": (int, "a whole number"),
    "boolean": (bool, "true or false"),
}


def _shown(value: object) -> str:
    """What somebody sent, short and printable."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a route: its values (of path, query and body) by name, and who asks."""

    control: Control
    by: By
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def server(self) -> str:
        """The server in the path, as Control names it."""
        return f"{self['backend']}/{self['server']}"


@dataclass(frozen=True, slots=True)
class Route:
    """`verb` is the method of Control behind it, or "" if there is none. `answer` names the schema of what is answered.

    A change has another method than GET, and takes a comment. `streams`: answered for as long as the client stays.
    """

    method: str
    path: str
    verb: str
    level: Level
    about: str
    act: Callable[[Call], Any]
    answer: Any
    query: tuple[Field, ...] = ()
    body: tuple[Field, ...] = ()
    status: int = 200
    streams: bool = False

    @property
    def changes(self) -> bool:
        """Does it change something?"""
        return self.method != "GET"

    @property
    def parts(self) -> tuple[str, ...]:
        """The segments of its path, `{name}` for one that is a value."""
        return tuple(self.path.strip("/").split("/"))

    def match(self, segments: tuple[bytes, ...]) -> dict[str, str] | None:
        """The values in a path that is this route's; None if it is another's. Segments are as they came."""
        parts = self.parts
        if len(segments) != len(parts):
            return None
        values = {}
        for part, segment in zip(parts, segments, strict=True):
            text = unquote_to_bytes(segment).decode("utf-8", "replace")
            if part.startswith("{"):
                if not text:
                    return None
                values[part[1:-1]] = text
            elif part != text:
                return None
        return values

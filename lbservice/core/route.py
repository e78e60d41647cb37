"""Which rule of a frontend a request meets: the first one, in the order of the file, whose conditions all hold.

The path that rules see is the one that goes to the server. Servers read a path in more ways than one: they decode
`%2e`, merge `//`, resolve `..`. So that nobody gets past a rule by a spelling, a path that can be read otherwise must
meet the same rule in every reading; if not, it is `Ambiguous`. A usual path has one reading, and costs one search.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from urllib.parse import unquote_to_bytes

from lbservice.core.address import Networks
from lbservice.core.settings import Conditions

MOST_ODDITIES = 64
"""Places at which a path can be read in two ways; one that has more is ambiguous."""

_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
# Whatever changes which segments a path has, for one server or another: an empty segment, a dot segment, a slash or
# a dot in disguise, a backslash, and parameters, which some servers drop before they look for dot segments.
_ODD = re.compile(r"//|/\.\.?(?=[/;]|\Z)|[\\;]|%(?:2[EeFf]|5[Cc]|3[Bb])")
_PARAMETERS = re.compile(r";[^/]*")
_SLASHES = re.compile(r"//+")


class Ambiguous(Exception):
    """A path that servers read differently, and the rules tell the difference."""


class Question:
    """What is known of a request (http) or session (tcp) when its rule is sought.

    `host` is in small letters, without port and without a dot at its end; `path` without the query; `fields(name)`
    gives the values of all header fields of that name (in small letters). `sni` is the name in a TLS ClientHello.
    """

    __slots__ = ("fields", "host", "method", "path", "secure", "sni", "source")

    def __init__(
        self,
        source: str,
        *,
        host: str = "",
        path: str = "",
        method: str = "",
        secure: bool = False,
        sni: str = "",
        fields: Callable[[str], Sequence[str]] = lambda name: (),
    ) -> None:
        self.source = source
        self.host = host
        self.path = path
        self.method = method
        self.secure = secure
        self.sni = sni
        self.fields = fields


class Router:
    """The rules of one frontend, as the conditions of each."""

    __slots__ = ("_matchers", "_sees_paths")

    def __init__(self, rules: Sequence[Conditions]) -> None:
        self._matchers = tuple(_Matcher(conditions) for conditions in rules)
        self._sees_paths = any(conditions.paths or conditions.patterns for conditions in rules)

    def choose(self, question: Question) -> int:
        """The number of the first rule that is met, or -1. Raises Ambiguous."""
        path = question.path
        if self._sees_paths and ("%" in path or _ODD.search(path)):
            # With several readings only their agreement matters, so each may be written in the one way of our rules.
            chosen = {self._first(question, reading) for reading in readings(path)}
            if len(chosen) > 1:
                raise Ambiguous
            return chosen.pop()
        return self._first(question, path)

    def _first(self, question: Question, path: str) -> int:
        for number, matcher in enumerate(self._matchers):
            if matcher.holds(question, path):
                return number
        return -1


def readings(path: str) -> Collection[str]:
    """All ways in which servers may read a path: as it stands, decoded, merged, resolved. Raises Ambiguous."""
    found = {_PERCENT.sub(lambda match: match[0].upper(), path)}
    plain = {decoded(path)}
    if _ODD.search(path):
        if sum(1 for _ in _ODD.finditer(path)) > MOST_ODDITIES:
            raise Ambiguous
        found, plain = _tidied(found), _tidied(plain)
        plain |= {decoded(each) for each in found}  # some tidy first, and decode what they have then
    return found | plain


def _tidied(found: set[str]) -> set[str]:
    """These, and what servers make of them that take out parameters, empty segments and dot segments, or some."""
    found = found | {each.replace("\\", "/") for each in found}
    found |= {_PARAMETERS.sub("", each) for each in found}
    found |= {_SLASHES.sub("/", each) for each in found}
    return found | {_resolved(each) for each in found}


def climbs(path: str) -> bool:
    """Do its dot segments, in any reading, lead above its root, where servers just stay? Raises Ambiguous."""
    return not unambiguous(path) and any(_climbs(reading) for reading in readings(path))


def _climbs(path: str) -> bool:
    depth = 0
    for segment in path.split("/")[1:]:
        depth += -1 if segment == ".." else segment != "."
        if depth < 0:
            return True
    return False


def unambiguous(path: str) -> bool:
    """Has it no place at which servers differ in where its segments begin and end?"""
    return _ODD.search(path) is None


def decoded(path: str) -> str:
    """Every `%XX` is its byte, and a byte is a letter of Latin-1: this is for comparing, not for reading."""
    return unquote_to_bytes(path.encode("latin-1")).decode("latin-1")


def _resolved(path: str) -> str:
    """Without dot segments (RFC 3986 section 5.2.4)."""
    kept: list[str] = []
    *segments, last = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if last == "..":
        del kept[-1:]
    kept.append("" if last in (".", "..") else last)
    return "/" + "/".join(kept)


def host_alone(host: str) -> str:
    """The host of a Host field, for comparing: in small letters, without port and without a dot at its end."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower().removesuffix(".")


class _Matcher:
    """The conditions of one rule, made ready. What is not asked for holds."""

    __slots__ = ("_fields", "_methods", "_names", "_paths", "_patterns", "_secure", "_snis", "_sources")

    def __init__(self, conditions: Conditions) -> None:
        self._names = _Names(conditions.hosts) if conditions.hosts else None
        self._snis = _Names(conditions.snis) if conditions.snis else None
        self._methods = frozenset(conditions.methods)
        self._fields = conditions.fields
        self._sources = Networks(conditions.sources)
        self._secure = conditions.secure
        self._paths = _Prefixes(conditions.paths) if conditions.paths else None
        self._patterns = tuple(re.compile(pattern, re.DOTALL) for pattern in conditions.patterns)

    def holds(self, question: Question, path: str) -> bool:
        """Do all of them?"""
        if self._names is not None and question.host not in self._names:
            return False
        if (self._paths is not None or self._patterns) and not self._has_path(path):
            return False
        if self._methods and question.method not in self._methods:
            return False
        if self._secure is not None and question.secure is not self._secure:
            return False
        if self._snis is not None and question.sni not in self._snis:
            return False
        if self._sources and question.source not in self._sources:
            return False
        return all(self._has_field(question, name, value) for name, value in self._fields)

    def _has_path(self, path: str) -> bool:
        if self._paths is not None and path in self._paths:
            return True
        return any(pattern.fullmatch(path) for pattern in self._patterns)

    @staticmethod
    def _has_field(question: Question, name: str, value: str | None) -> bool:
        values = question.fields(name)
        return bool(values) if value is None else value in values


class _Names:
    """Host names: each as it stands, or `*.` and a name for all that end in it."""

    __slots__ = ("_ends", "_exact")

    def __init__(self, names: Sequence[str]) -> None:
        self._exact = frozenset(name for name in names if not name.startswith("*."))
        self._ends = tuple(name[1:] for name in names if name.startswith("*."))

    def __contains__(self, host: str) -> bool:
        return host in self._exact or host.endswith(self._ends)


class _Prefixes:
    """Paths, each with all that is below it: `/api` and `/api/` hold /api and /api/x, but not /apis."""

    __slots__ = ("_below", "_exact")

    def __init__(self, paths: Sequence[str]) -> None:
        spellings = {spelling.rstrip("/") for path in paths for spelling in readings(path)}
        self._exact = frozenset(spellings)
        self._below = tuple(spelling + "/" for spelling in spellings)

    def __contains__(self, path: str) -> bool:
        return path in self._exact or path.startswith(self._below)

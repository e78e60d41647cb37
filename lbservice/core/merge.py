"""Three versions of a configuration made one: what each of two sides has changed since their common base.

A reload merges the file's changes with those that operators have made at run time; an undo takes one change back and
keeps all others. Both are the same question. Sections and servers are told apart by their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from lbservice.core.settings import BackendSettings, FrontendSettings, ServerSettings, Settings

K = TypeVar("K")
T = TypeVar("T")
PARTS = (Settings, FrontendSettings, BackendSettings, ServerSettings)
"""What is merged field by field; anything else is one value."""


def merge(base: Settings, ours: Settings, theirs: Settings) -> tuple[Settings, tuple[str, ...]]:
    """What both sides want. Where they want different things theirs wins, and is named, e.g. "app/s1 weight".

    What is left out on one side and changed on the other is such a thing, too.
    """
    conflicts: list[str] = []
    merged = _merge(base, ours, theirs, "", conflicts)
    return replace(merged, entries=_merge_entries(base, ours, theirs)), tuple(conflicts)


def _merge_entries(base: Settings, ours: Settings, theirs: Settings) -> tuple[tuple[str, str, str], ...]:
    """The words of the files, in the same way."""
    old, our, their = ({entry[:2]: entry for entry in side.entries} for side in (base, ours, theirs))
    chosen = (our.get(key) if their.get(key) == old.get(key) else their.get(key) for key in _order(old, our, their))
    return tuple(entry for entry in chosen if entry is not None)


def _order(old: Mapping[K, object], our: Mapping[K, object], their: Mapping[K, object]) -> Iterable[K]:
    """Theirs, and what only we have last; if they have the old order, the other way round."""
    return dict.fromkeys([*our, *their] if [*their] == [*old] else [*their, *our])


def _merge(base: T, ours: T, theirs: T, where: str, conflicts: list[str]) -> T:
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    if isinstance(theirs, PARTS) and type(base) is type(ours) is type(theirs):
        merged = {
            field.name: _merge(
                getattr(base, field.name),
                getattr(ours, field.name),
                getattr(theirs, field.name),
                f"{where} {field.name}".strip(),
                conflicts,
            )
            for field in fields(theirs)
            if field.compare
        }
        return replace(theirs, **merged)
    if _are_named(base, ours, theirs):
        return _merge_named(base, ours, theirs, where, conflicts)  # type: ignore[arg-type,return-value] # tuples all
    conflicts.append(where)
    return theirs


def _are_named(*sides: object) -> bool:
    """Are these tuples of sections or servers, which have names?"""
    return all(isinstance(side, tuple) and all(isinstance(each, PARTS) for each in side) for side in sides)


def _merge_named(
    base: tuple[Any, ...], ours: tuple[Any, ...], theirs: tuple[Any, ...], where: str, conflicts: list[str]
) -> tuple[Any, ...]:
    old, our, their = ({each.name: each for each in side} for side in (base, ours, theirs))
    merged = []
    for name in _order(old, our, their):
        one = _merge(old.get(name), our.get(name), their.get(name), _path(where, name), conflicts)
        if one is not None:
            merged.append(one)
    return tuple(merged)


def _path(where: str, name: str) -> str:
    """`backends` and `app` -> `app`; `app servers` and `s1` -> `app/s1`."""
    home = where.rpartition(" ")[0]
    return f"{home}/{name}" if home else name

"""What a restart would forget, as a text: run-time changes of servers, and counters.

The text is JSON, and servers are in the words of lb.ini. It holds the servers twice, as lb.ini said when it was written
and as they ran, so that changes of the file since then can be told from those at run time: a start merges as a reload.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lbservice.core.merge import merge
from lbservice.core.settings import BackendSettings, ServerSettings, Settings
from lbservice.phrases import parse_server
from lbservice.services.balancer import Balancer
from lbservice.writing import differences, sentence, server_words

WHAT = "state of lbservice"
VERSION = 1
LARGEST = 2**63

COUNTERS = {
    "frontends": ("connections", "refused", "denied", "limited", "requests", "statuses", "bytes_out"),
    "backends": ("requests", "retries"),
    "servers": ("requests", "statuses", "connect_errors", "timeouts", "resets", "bytes_in", "bytes_out"),
}
"""The attributes of each kind of thing that count, or hold a list of counts."""

Servers = Mapping[str, Mapping[str, str]]
"""Backend, server, and its words in lb.ini."""


@dataclass(frozen=True, slots=True)
class State:
    """`base` is what lb.ini said, `running` what ran; `counters` are by kind, name ("app/s1") and attribute."""

    base: Servers
    running: Servers
    counters: Mapping[str, Mapping[str, Mapping[str, Any]]]


def state_of(balancer: Balancer, loaded: Settings) -> State:
    """As it is now."""
    counters = {
        kind: {
            name: {key: list(count) if isinstance(count, list) else count for key, count in _counts(kind, thing)}
            for name, thing in things
        }
        for kind, things in _things(balancer)
    }
    return State(servers_of(loaded), servers_of(balancer.running_settings), counters)


def count_on(balancer: Balancer, state: State) -> None:
    """Let the counters of what is still there begin with those of the state."""
    for kind, things in _things(balancer):
        for name, thing in things:
            for key, value in state.counters[kind].get(name, {}).items():
                now = getattr(thing, key)
                if isinstance(now, list):
                    now[:] = [a + b for a, b in zip(now, value, strict=True)]
                else:
                    setattr(thing, key, now + value)


def _things(balancer: Balancer) -> Iterable[tuple[str, Iterable[tuple[str, Any]]]]:
    return (
        ("frontends", balancer.frontends.items()),
        ("backends", balancer.backends.items()),
        ("servers", ((server.path, server) for backend in balancer.backends.values() for server in backend)),
    )


def _counts(kind: str, thing: object) -> Iterable[tuple[str, Any]]:
    return ((key, getattr(thing, key)) for key in COUNTERS[kind])


def servers_of(settings: Settings) -> Servers:
    """All of them, in the words of lb.ini."""
    return {
        backend.name: {server.name: server_words(server) for server in backend.servers} for backend in settings.backends
    }


# -- text ----------------------------------------------------------------------------------


def write(state: State, at: float) -> bytes:
    """The text; `at` is the time of day, in seconds since 1970."""
    whole = {
        "what": WHAT,
        "version": VERSION,
        "at": round(at, 3),
        "base": state.base,
        "running": state.running,
        "counters": state.counters,
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in whole.items())
    return f"{{\n{lines}\n}}\n".encode("ascii")


def read(text: bytes) -> State:
    """Raises ValueError, with a sentence, for whatever was not written by `write`."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is broken: {error}") from None
    if not isinstance(whole, dict) or whole.get("what") != WHAT:
        raise ValueError("is no state file of lbservice")
    if type(whole.get("version")) is not int or whole["version"] < 1:
        raise ValueError("is broken: its version is missing")
    if whole["version"] > VERSION:
        raise ValueError(f"was written by a newer lbservice (version {whole['version']}, this one knows {VERSION})")
    counters = whole.get("counters")
    if not (_are_servers(whole.get("base")) and _are_servers(whole.get("running"))):
        raise ValueError("is broken: servers are missing, or not as they should be")
    if not (isinstance(counters, dict) and all(_are_counters(counters.get(kind), kind) for kind in COUNTERS)):
        raise ValueError("is broken: counters are missing, or not as they should be")
    return State(whole["base"], whole["running"], counters)


def _are_servers(there: object) -> bool:
    return isinstance(there, dict) and all(
        isinstance(servers, dict) and all(isinstance(words, str) for words in servers.values())
        for servers in there.values()
    )


def _are_counters(there: object, kind: str) -> bool:
    return isinstance(there, dict) and all(
        isinstance(values, dict) and all(_is_count(key, value, kind) for key, value in values.items())
        for values in there.values()
    )


def _is_count(key: str, value: object, kind: str) -> bool:
    counts = value if key == "statuses" and isinstance(value, list) and len(value) == 6 else [value]
    return (
        key in COUNTERS[kind]
        and all(type(count) is int and 0 <= count < LARGEST for count in counts)
        and ((key == "statuses") is isinstance(value, list))
    )


# -- merging -------------------------------------------------------------------------------


def restored(settings: Settings, state: State) -> tuple[Settings, tuple[str, ...]]:
    """What the file says, with the run-time changes of the state; and what is to be told of it."""
    notes: list[str] = []
    base, ours = [], []
    for backend in settings.backends:
        sides = [state.base.get(backend.name), state.running.get(backend.name)]
        if sides[0] is None or sides[1] is None:
            base.append(backend)
            ours.append(backend)
            continue
        before, running = _servers(backend, sides[0], sides[1], notes)
        base.append(replace(backend, servers=before))
        ours.append(replace(backend, servers=running))
    names = {backend.name for backend in settings.backends}
    for name, servers in state.running.items():
        if name not in names and servers != state.base.get(name):
            notes.append(f"backend {name} is not in the file any more; what was changed in it is forgotten")
    merged, overruled = merge(
        replace(settings, backends=tuple(base)), replace(settings, backends=tuple(ours)), settings
    )
    notes += [f"{what}: as the file says, not as it was changed before" for what in overruled]
    notes += [sentence(*each) for each in differences(settings, merged)]
    return merged, tuple(notes)


def _servers(
    backend: BackendSettings, before: Mapping[str, str], running: Mapping[str, str], notes: list[str]
) -> tuple[tuple[ServerSettings, ...], tuple[ServerSettings, ...]]:
    """Both versions of a backend's servers; without those whose words mean nothing now, e.g. for want of a file."""
    known: dict[tuple[str, str], ServerSettings] = {}
    lost = set()
    for name, words in (*before.items(), *running.items()):
        try:
            known[name, words] = parse_server(name, words)
        except ValueError as error:
            if before.get(name) != running.get(name) and name not in lost:
                notes.append(f"{backend.name}/{name} = {words}: {'; '.join(map(str, error.args))}; it is left out")
            lost.add(name)
    return (
        tuple(known[each] for each in before.items() if each[0] not in lost),
        tuple(known[each] for each in running.items() if each[0] not in lost),
    )

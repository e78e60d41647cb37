"""lb.ini -> frozen settings; every mistake at once, each with its file, line, section and key.

Three steps, each in its own file: `ini` finds sections and entries; `values` and `phrases` know
what a value means; the tables here say which key fills which field of `core.settings`. A new key
is a new line in a table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, TypeVar

from lbservice import ini
from lbservice.core.settings import (
    AgentSettings,
    BackendSettings,
    CheckSettings,
    FrontendSettings,
    HeadLimits,
    Listen,
    ManholeSettings,
    ServerSettings,
    Settings,
)
from lbservice.errors import ConfigError, Problem, closest, unknown
from lbservice.ini import Entry, Section
from lbservice.phrases import (
    Convert,
    attempt,
    parse_listens,
    parse_manhole,
    parse_server,
)
from lbservice.policies import POLICIES
from lbservice.questions import parse_check, parse_send
from lbservice.values import (
    choice,
    count,
    duration,
    name,
    networks,
    parse_address,
    readable_file,
    size,
    switch,
    via,
)

__all__ = ["load", "parse", "parse_address", "parse_server"]

T = TypeVar("T")
Keys = Mapping[str, tuple[str, Convert]]
"""Key in lb.ini -> the field of the settings that it fills, and what reads its value."""

LOADBALANCER: Keys = {
    "log": ("log", str),
    "maxconn": ("maxconn", count()),
    "grace": ("grace", duration),
    "splice": ("splice", switch("on", "off")),
    "write-through": ("write_through", switch("on", "off")),
}

MANHOLE: Keys = {
    "listen": ("listen", parse_manhole),
    "authorized-keys": ("authorized_keys", readable_file),
    "host-key": ("host_key", str),
}

FRONTEND: Keys = {
    "listen": ("listen", parse_listens),
    "backend": ("backend", name),
    "mode": ("mode", choice("mode", ("http", "tcp"))),
    "maxconn": ("maxconn", count()),
    "maxconn-per-address": ("maxconn_per_address", count()),
    "trusted-proxies": ("trusted", networks),
    "via": ("via", lambda text: None if text == "off" else name(text)),
    "timeout client-head": ("timeout_client_head", duration),
    "timeout client": ("timeout_client", duration),
    "timeout keep-alive": ("timeout_keep_alive", duration),
}

LIMITS: Keys = {
    "max-head": ("head", size),
    "max-line": ("line", size),
    "max-fields": ("fields", count(1)),
}

HTTP_ONLY = {"trusted-proxies", "via", "timeout client-head", "timeout keep-alive", *LIMITS}

BACKEND: Keys = {
    "balance": ("balance", str),  # one of the policies that parse() is given
    "check": ("check", parse_check),
    "retries": ("retries", count()),
    "maxqueue": ("maxqueue", count()),
    "timeout connect": ("timeout_connect", duration),
    "timeout server": ("timeout_server", duration),
    "timeout queue": ("timeout_queue", duration),
    "timeout tunnel": ("timeout_tunnel", duration),
}

CHECK: Keys = {
    "rise": ("rise", count(1)),
    "fall": ("fall", count(1)),
    "inter": ("inter", duration),
    "fastinter": ("fastinter", duration),
    "downinter": ("downinter", duration),
    "timeout check": ("timeout", duration),
    "init-state": ("init_up", switch("up", "down")),
    "check-via": ("via", via),
    "log-health-checks": ("log", switch("on", "off")),
}

AGENT: Keys = {
    "agent-check": ("via", via),
    "agent-inter": ("inter", duration),
    "agent-send": ("send", parse_send),
}

SECTIONS: Mapping[str, Keys] = {
    "frontend": {**FRONTEND, **LIMITS},
    "backend": {**BACKEND, **CHECK, **AGENT, "server NAME": ("servers", str)},
    "loadbalancer": LOADBALANCER,
    "manhole": MANHOLE,
}
NAMED = ("frontend", "backend")


def load(path: str) -> Settings:
    """The settings in the file at `path`; raises ConfigError, and nothing else."""

    def refused(message: str, line: int = 0) -> ConfigError:
        return ConfigError([Problem(path, line, "", "", message)])

    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except FileNotFoundError:
        raise refused("no such file; name one with --config FILE, or start in the folder that has it") from None
    except IsADirectoryError:
        raise refused("is a folder; name the file in it") from None
    except PermissionError:
        raise refused("may not be read by this user; change its owner or mode") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise refused("not UTF-8; save the file as UTF-8 text", line) from None
    except (OSError, ValueError) as error:
        raise refused(f"cannot be read: {error}") from error
    return parse(text, path)


def parse(text: str, file: str = "lb.ini", *, policies: Collection[str] = frozenset(POLICIES)) -> Settings:
    """The settings in a text; `file` is its name in messages. Raises ConfigError, and nothing else.

    Files that the text names (certificates, authorized keys) must be there; they are not opened.
    """
    sections, problems = ini.read(text, file)
    drafts: dict[str, list[_Draft]] = {kind: [] for kind in SECTIONS}
    for section in sections:
        draft = _Draft(file, section, problems)
        if draft.has_known_kind():
            drafts[section.kind].append(draft)

    general = [draft.values(LOADBALANCER) for draft in drafts["loadbalancer"]]
    manholes = [_manhole(draft) for draft in drafts["manhole"]]
    backends = [_backend(draft, policies) for draft in drafts["backend"]]
    frontends = [_frontend(draft, [backend.name for backend in backends]) for draft in drafts["frontend"]]
    if not frontends:
        problems.append(Problem(file, 0, "", "", "no [frontend NAME] section; add one with listen and backend"))
    _refuse_shared_addresses(drafts["manhole"] + drafts["frontend"])

    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line))
    return Settings(
        file=file,
        frontends=tuple(frontends),
        backends=tuple(backends),
        manhole=manholes[0] if manholes else None,
        **(general[0] if general else {}),
    )


def _manhole(draft: _Draft) -> ManholeSettings:
    values = draft.values(MANHOLE)
    draft.require("listen", "say where, e.g. listen = unix:run/manhole.sock")
    address = values.pop("listen", {})
    if "ssh" in address:
        draft.addresses.append(address["ssh"])
        draft.require("authorized-keys", "ssh lets in nobody without, e.g. authorized-keys = admins.pub")
    elif "unix" in address:
        draft.refuse({"authorized-keys", "host-key"}, "only for listen = ssh:HOST:PORT; take it out")
    return ManholeSettings(**address, **values)


def _frontend(draft: _Draft, backends: Collection[str]) -> FrontendSettings:
    values, limits = draft.values(FRONTEND), draft.values(LIMITS)
    draft.require("listen", "say where, e.g. listen = 127.0.0.1:8080")
    draft.require("backend", "say which, e.g. backend = app")
    listens, backend = values.pop("listen", ()), values.pop("backend", "")
    draft.addresses += [(listen.host, listen.port) for listen in listens]
    if values.get("mode") == "tcp":
        draft.refuse(HTTP_ONLY, "only for mode = http; take it out")
    if backend and backend not in backends:
        near = closest(backend, backends)
        hint = f"did you mean '{near}'?" if near else f"add a section [backend {backend}]"
        draft.refuse({"backend"}, f"no such backend; {hint}")
    return FrontendSettings(draft.section.name, listens, backend, limits=HeadLimits(**limits), **values)


def _backend(draft: _Draft, policies: Collection[str]) -> BackendSettings:
    values = draft.values({**BACKEND, "balance": ("balance", choice("policy", policies))})
    check = CheckSettings(**values.pop("check", {}), **draft.values(CHECK))
    agent = draft.values(AGENT)
    if draft.section.get("agent-check") is None:
        draft.refuse(AGENT, "only with agent-check; add it, e.g. agent-check = 8090")
    servers = [draft.server(entry) for entry in draft.section.entries if entry.names_server]
    return BackendSettings(
        draft.section.name,
        tuple(filter(None, servers)),
        check=check,
        agent=AgentSettings(**agent) if "via" in agent else None,
        **values,
    )


def _refuse_shared_addresses(drafts: list[_Draft]) -> None:
    """Two listeners cannot share an address; `*` holds every IPv4 address and `[::]` every address."""
    taken: dict[int, list[tuple[str, int]]] = {}
    for draft in sorted(drafts, key=lambda draft: draft.section.line):
        entry = draft.section.get("listen")
        for host, port in draft.addresses:
            others = taken.setdefault(port, [])
            shared = [line for other, line in others if port and _overlap(host, other)]
            if entry and shared:
                draft.problem(f"{Listen(host, port).address} is already listened on by line {shared[0]}", entry)
            others.append((host, entry.line if entry else 0))


def _overlap(one: str, other: str) -> bool:
    return one == other or "::" in (one, other) or ("" in (one, other) and ":" not in one + other)


class _Draft:
    """One section on its way to settings: reads on after a mistake, and notes each in `problems`."""

    def __init__(self, file: str, section: Section, problems: list[Problem]) -> None:
        self.file = file
        self.section = section
        self.problems = problems
        self.addresses: list[tuple[str, int]] = []

    def has_known_kind(self) -> bool:
        """Whether there are sections of this kind; its name and its keys are looked at as well."""
        kind, title = self.section.kind, self.section.name
        if kind not in SECTIONS:
            self.problem(unknown("section", kind, SECTIONS))
            return False
        if kind not in NAMED and title:
            self.problem(f"takes no name; write [{kind}]")
        elif kind in NAMED and not title:
            self.problem(f"the name is missing; write [{kind} NAME]")
        elif kind in NAMED:
            self.read(name, title)
        for entry in self.section.entries:
            if entry.key not in SECTIONS[kind] and not (kind == "backend" and entry.names_server):
                home = "backend" if entry.names_server else _home(entry.key)
                elsewhere = home and f"belongs in a [{home}] section"
                self.problem(elsewhere or unknown("key", entry.key, SECTIONS[kind]), entry)
        return True

    def values(self, keys: Keys) -> dict[str, Any]:
        """Field -> value for the entries whose keys are in this table; what is wrong is left out."""
        values = {}
        for entry in self.section.entries:
            if entry.key in keys and entry.value:
                field, convert = keys[entry.key]
                before = len(self.problems)
                value = self.read(convert, entry.value, entry)
                if len(self.problems) == before:
                    values[field] = value
        return values

    def server(self, entry: Entry) -> ServerSettings | None:
        server = entry.key.removeprefix("server").strip()
        if server and entry.value:
            return self.read(partial(parse_server, server), entry.value, entry)
        if not server:
            self.problem("name the server; write server NAME = HOST:PORT", entry)
        return None

    def read(self, convert: Callable[[str], T], text: str, entry: Entry | None = None) -> T | None:
        """What `convert` makes of the text; None, and a problem for each sentence, if it refuses."""
        mistakes: list[str] = []
        value = attempt(convert, text, mistakes)
        for mistake in mistakes:
            self.problem(mistake, entry)
        return value

    def require(self, key: str, hint: str) -> None:
        """Notes that a key is missing, unless another one is probably a misspelling of it."""
        if key not in {closest(entry.key, SECTIONS[self.section.kind]) for entry in self.section.entries}:
            self.problem(f"missing; {hint}", key=key)

    def refuse(self, keys: Collection[str], message: str) -> None:
        """Notes a problem at each entry of these keys."""
        for entry in self.section.entries:
            if entry.key in keys:
                self.problem(message, entry)

    def problem(self, message: str, entry: Entry | None = None, key: str = "") -> None:
        if entry:
            found = Problem(self.file, entry.line, self.section.title, entry.key, message, entry.value)
        else:
            found = Problem(self.file, self.section.line, self.section.title, key, message)
        self.problems.append(found)


def _home(key: str) -> str:
    return next((kind for kind, keys in SECTIONS.items() if key in keys), "")

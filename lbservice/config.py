"""lb.ini -> frozen settings; every mistake at once, each with its file, line, section and key.

Three steps, each in its own file: `ini` finds sections and entries; `values` and `phrases` know
what a value means; the tables here say which key fills which field of `core.settings`. A new key
is a new line in a table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, TypeVar

from lbservice import ini
from lbservice.core.health import ON_ERROR
from lbservice.core.passive import ERRORS, LAYERS
from lbservice.core.pick import NOTHING
from lbservice.core.settings import (
    AdminListen,
    AdminSettings,
    AgentSettings,
    BackendSettings,
    CheckSettings,
    Conditions,
    FrontendSettings,
    HeadLimits,
    Listen,
    ManholeSettings,
    ObserveSettings,
    OutlierSettings,
    Rule,
    Settings,
)
from lbservice.errors import ConfigError, Problem, closest, unknown
from lbservice.ini import Entry, Section
from lbservice.phrases import (
    Convert,
    attempt,
    hosts,
    parse_admin,
    parse_balance,
    parse_listens,
    parse_manhole,
    parse_priority,
    parse_server,
    parse_sticky,
    retry_budget,
)
from lbservice.policies import POLICIES, spec
from lbservice.questions import parse_check, parse_send
from lbservice.routing import (
    methods,
    parse_edit,
    parse_page,
    parse_rate,
    parse_redirect,
    parse_refusal,
    parse_route,
)
from lbservice.tokens import token_file
from lbservice.values import (
    bound,
    choice,
    count,
    duration,
    name,
    networks,
    parse_address,
    readable_file,
    secret_file,
    share,
    size,
    switch,
    via,
)

__all__ = ["load", "parse", "parse_address", "parse_server"]

T = TypeVar("T")
Keys = Mapping[str, tuple[str, Convert]]
"""Key in lb.ini -> the field of the settings that it fills, and what reads its value."""
Named = Mapping[str, tuple[str, Callable[[str, str], Any]]]
"""The same for keys like `server NAME`, of which there may be many: name and value are read, the field is a tuple."""

LOADBALANCER: Keys = {
    "log": ("log", str),
    "maxconn": ("maxconn", count()),
    "grace": ("grace", duration),
    "splice": ("splice", switch("on", "off")),
    "write-through": ("write_through", switch("on", "off")),
    "state-file": ("state_file", str),
}

MANHOLE: Keys = {
    "listen": ("listen", parse_manhole),
    "authorized-keys": ("authorized_keys", readable_file),
    "host-key": ("host_key", str),
}

ADMIN: Keys = {
    "listen": ("listen", parse_admin),
    "tokens": ("tokens", token_file),
    "hosts": ("hosts", hosts),
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
    "allow": ("allow", networks),
    "deny": ("deny", networks),
    "rate-limit": ("rate_limit", parse_rate),
    "methods": ("methods", methods),
    "max-body": ("max_body", lambda text: 0 if text == "off" else size(text)),
}

LIMITS: Keys = {
    "max-head": ("head", size),
    "max-line": ("line", size),
    "max-fields": ("fields", count(1)),
}

EDITS: Named = {
    "request-header NAME": ("request_edits", parse_edit),
    "response-header NAME": ("response_edits", partial(parse_edit, of_response=True)),
    "error-page STATUS": ("pages", parse_page),
}

RULES: Named = {
    "route NAME": ("rules", parse_route),
    "redirect NAME": ("rules", parse_redirect),
    "refuse NAME": ("rules", parse_refusal),
}

HTTP_ONLY = {
    *("trusted-proxies", "via", "timeout client-head", "timeout keep-alive", *LIMITS),
    *("rate-limit", "methods", "max-body", "redirect", "refuse", *(key.split()[0] for key in EDITS)),
}
"""Keys, and first words of keys, that have no meaning in tcp mode."""

BACKEND: Keys = {
    "balance": ("balance", str),  # one of the policies that parse() is given, or a class
    "hash-balance-factor": ("hash_balance_factor", bound),
    "sticky": ("sticky", parse_sticky),
    "sticky-key": ("sticky_key", secret_file),
    "check": ("check", parse_check),
    "retries": ("retries", count()),
    "retry-budget": ("retry_budget", retry_budget),
    "maxqueue": ("maxqueue", count()),
    "queue-priority": ("priority", parse_priority),
    "slowstart": ("slowstart", duration),
    "panic": ("panic", lambda text: 0.0 if text == "off" else share(text)),
    "on-marked-down": ("cut_when_down", switch("shutdown-sessions", "none")),
    "timeout connect": ("timeout_connect", duration),
    "timeout server": ("timeout_server", duration),
    "timeout queue": ("timeout_queue", duration),
    "timeout tunnel": ("timeout_tunnel", duration),
    "max-body": ("max_body", lambda text: 0 if text == "off" else size(text)),
}

SERVERS: Named = {"server NAME": ("servers", parse_server)}

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

OBSERVE: Keys = {
    "observe": ("layer", choice("layer", LAYERS)),
    "error-limit": ("limit", count(1)),
    "on-error": ("on_error", choice("action", ON_ERROR)),
}

OUTLIER: Keys = {
    "outlier": ("errors", choice("kind of error", ERRORS)),
    "outlier-limit": ("limit", count(1)),
    "outlier-ejection": ("ejection", duration),
    "outlier-longest": ("longest", duration),
    "outlier-share": ("share", share),
}

SECTIONS: Mapping[str, Mapping[str, Any]] = {
    "frontend": {**FRONTEND, **LIMITS, **RULES, **EDITS},
    "backend": {**BACKEND, **CHECK, **AGENT, **OBSERVE, **OUTLIER, **SERVERS, **EDITS},
    "loadbalancer": LOADBALANCER,
    "manhole": MANHOLE,
    "admin": ADMIN,
}
"""The keys of each kind of section."""
NAMES = ("NAME", "STATUS")
"""The last words of keys that stand for many."""
NAMED = ("frontend", "backend")

HINTS = {
    "server": "name the server; write server NAME = HOST:PORT",
    "route": "name the route; write route NAME = BACKEND CONDITIONS",
    "refuse": "name the refusal; write refuse NAME = STATUS CONDITIONS",
    "request-header": "name the field; write request-header NAME = set VALUE",
    "response-header": "name the field; write response-header NAME = set VALUE",
    "error-page": "name the status; write error-page STATUS = FILE",
}
"""What is said when the name is missing. A redirect needs none: often there is only one."""


def load(path: str) -> Settings:
    """The settings in the file at `path`; raises ConfigError, and nothing else."""
    return parse(read(path).removeprefix("\ufeff"), path)


def read(path: str) -> str:
    """The text in the file at `path`, byte for byte; raises ConfigError, and nothing else."""

    def refused(message: str, line: int = 0) -> ConfigError:
        return ConfigError([Problem(path, line, "", "", message)])

    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8")
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


def parse(text: str, file: str = "lb.ini", *, policies: Collection[str] = frozenset(POLICIES)) -> Settings:
    """The settings in a text; `file` is its name in messages. Raises ConfigError, and nothing else.

    Files that the text names (certificates, authorized keys) must be there; only sticky keys are opened.
    A policy of the user's own is imported.
    """
    sections, problems = ini.read(text, file)
    drafts: dict[str, list[_Draft]] = {kind: [] for kind in SECTIONS}
    for section in sections:
        draft = _Draft(file, section, problems)
        if draft.has_known_kind():
            drafts[section.kind].append(draft)

    general = [draft.values(LOADBALANCER) for draft in drafts["loadbalancer"]]
    manholes = [_manhole(draft) for draft in drafts["manhole"]]
    admins = [_admin(draft) for draft in drafts["admin"]]
    backends = [_backend(draft, policies) for draft in drafts["backend"]]
    frontends = [_frontend(draft, [backend.name for backend in backends]) for draft in drafts["frontend"]]
    if not frontends:
        problems.append(Problem(file, 0, "", "", "no [frontend NAME] section; add one with listen and backend"))
    _refuse_shared_addresses(drafts["manhole"] + drafts["admin"] + drafts["frontend"])
    for draft, backend in zip(drafts["backend"], backends, strict=True):
        _refuse_http_in_tcp(draft, backend, frontends)

    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line))
    return Settings(
        file=file,
        frontends=tuple(frontends),
        backends=tuple(backends),
        manhole=manholes[0] if manholes else None,
        admin=admins[0] if admins else None,
        entries=tuple((section.title, entry.key, entry.value) for section in sections for entry in section.entries),
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


def _admin(draft: _Draft) -> AdminSettings:
    values = draft.values(ADMIN)
    draft.require("listen", "say where, e.g. listen = unix:run/admin.sock")
    listens: tuple[AdminListen, ...] = values.pop("listen", ())
    draft.addresses += [(listen.host, listen.port) for listen in listens if listen.unix is None]
    if not draft.section.get("tokens"):
        for listen in listens:
            if not listen.is_local and listen.client_ca is None:
                draft.refuse({"listen"}, f"{listen.address} can be reached from elsewhere; {ADMIN_NEEDS}")
    return AdminSettings(listens, **values)


ADMIN_NEEDS = "add tokens = FILE (lbservice token makes them), or tls cert=FILE client-ca=FILE"
"""What lets an address of [admin] be open to more than this machine."""


def _frontend(draft: _Draft, backends: Collection[str]) -> FrontendSettings:
    values, limits = draft.values(FRONTEND), draft.values(LIMITS)
    draft.require("listen", "say where, e.g. listen = 127.0.0.1:8080")
    http = values.get("mode") != "tcp"
    if not http:
        draft.refuse(HTTP_ONLY, "only for mode = http; take it out")
    values |= draft.named(EDITS if http else {})
    values |= draft.named(RULES if http else {"route NAME": ("rules", partial(parse_route, http=False))})
    if not any(entry.word in ("route", "redirect", "refuse") for entry in draft.section.entries):
        draft.require("backend", "say which, e.g. backend = app")
    listens, backend = values.pop("listen", ()), values.pop("backend", "")
    draft.addresses += [(listen.host, listen.port) for listen in listens]
    if backend and backend not in backends:
        draft.refuse({"backend"}, _no_backend(backend, backends))
    rules: tuple[Rule, ...] = values.get("rules", ())
    for rule in rules:
        if rule.backend and rule.backend not in backends:
            draft.refuse({f"route {rule.name}"}, _no_backend(rule.backend, backends))
    _refuse_what_is_never_met(draft, rules)
    if any(rule.when.snis for rule in rules) and any(listen.tls for listen in listens):
        draft.refuse({"listen"}, "sni= in a route reads TLS that goes through to a server; take tls out, or the route")
    return FrontendSettings(draft.section.name, listens, backend, limits=HeadLimits(**limits), **values)


def _refuse_what_is_never_met(draft: _Draft, rules: tuple[Rule, ...]) -> None:
    """The first rule without conditions takes every request, and leaves nothing to those behind it."""
    all_met = next((number for number, rule in enumerate(rules) if rule.when == Conditions()), len(rules))
    entries = [entry for entry in draft.section.entries if entry.word in ("route", "redirect", "refuse")]
    if len(entries) == len(rules):
        for entry in entries[all_met + 1 :]:
            draft.problem(f"is never met: line {entries[all_met].line} takes every request; change their order", entry)


def _no_backend(backend: str, backends: Collection[str]) -> str:
    near = closest(backend, backends)
    hint = f"did you mean '{near}'?" if near else f"add a section [backend {backend}]"
    return f"no such backend; {hint}"


def _backend(draft: _Draft, policies: Collection[str]) -> BackendSettings:
    folder = os.path.dirname(os.path.abspath(draft.file))
    balance = partial(parse_balance, policies=policies, folder=folder)
    values = draft.values({**BACKEND, "balance": ("balance", balance)})
    values |= draft.named({**SERVERS, **EDITS})
    known = "balance" in values or not draft.section.get("balance")
    if known and not spec.read(values.get("balance", "roundrobin"), POLICIES).hashes:
        draft.refuse({"hash-balance-factor"}, f"only for hashes ({', '.join(spec.KEYS)}, maglev); take it out")
    if not draft.section.get("sticky"):
        draft.refuse({"sticky-key"}, "only with a sticky cookie; add e.g. sticky = cookie SRV")
    check = CheckSettings(**values.pop("check", {}), **draft.values(CHECK))
    values["agent"] = draft.option(AGENT, "agent-check", AgentSettings)
    values["observe"] = draft.option(OBSERVE, "observe", ObserveSettings)
    values["outlier"] = draft.option(OUTLIER, "outlier", OutlierSettings)
    if values["observe"] and check.kind == "none":
        draft.refuse({"observe"}, "needs checks, which bring a server back; use outlier instead, or add a check")
    return BackendSettings(draft.section.name, check=check, **values)


def _refuse_http_in_tcp(draft: _Draft, backend: BackendSettings, frontends: list[FrontendSettings]) -> None:
    """What looks at requests cannot serve a frontend that passes bytes on."""
    serving = [frontend for frontend in frontends if backend.name in frontend.backends]
    for frontend in serving:
        if frontend.mode == "tcp":
            where = f"frontend {frontend.name} has mode = tcp"
            if spec.read(backend.balance, POLICIES).wants != NOTHING:
                draft.refuse({"balance"}, f"looks at requests of http, but {where}; hash the source there")
            draft.refuse({"sticky", "sticky-key"}, f"is for http, but {where}; take it out")
    if serving and all(frontend.mode == "tcp" for frontend in serving):
        draft.refuse({*HTTP_ONLY, "queue-priority"}, "is for http, but no frontend has mode = http here; take it out")


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
            if not _is_in(entry, SECTIONS[kind]):
                home = next((home for home, keys in SECTIONS.items() if _is_in(entry, keys)), "")
                elsewhere = home and f"belongs in a [{home}] section"
                self.problem(elsewhere or _unknown_key(entry, SECTIONS[kind]), entry)
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

    def named(self, keys: Named) -> dict[str, tuple[Any, ...]]:
        """Field -> values, in the order of the file, for the entries whose first words are in this table."""
        found: dict[str, tuple[Any, ...]] = {}
        for entry in self.section.entries:
            key = _named_key(entry, keys)
            if key is None:
                continue
            field, convert = keys[key]
            if not entry.name and entry.word in HINTS:
                self.problem(HINTS[entry.word], entry)
            elif entry.value:
                before = len(self.problems)
                value = self.read(partial(convert, entry.name), entry.value, entry)
                if len(self.problems) == before:
                    found[field] = (*found.get(field, ()), value)
        return found

    def option(self, keys: Keys, main: str, make: Callable[..., T]) -> T | None:
        """What the keys of an option make, which only the `main` one switches on."""
        values = self.values(keys)
        if keys[main][0] in values:
            return make(**values)
        if self.section.get(main) is None:
            self.refuse(keys.keys() - {main}, f"only with {main}; add {main}, or take it out")
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
            if entry.key in keys or entry.word in keys:
                self.problem(message, entry)

    def problem(self, message: str, entry: Entry | None = None, key: str = "") -> None:
        if entry:
            found = Problem(self.file, entry.line, self.section.title, entry.key, message, entry.value)
        else:
            found = Problem(self.file, self.section.line, self.section.title, key, message)
        self.problems.append(found)


def _unknown_key(entry: Entry, keys: Collection[str]) -> str:
    named = [f"{key.split()[0]} {entry.name}".rstrip() if key.endswith(NAMES) else key for key in keys]
    near = closest(entry.key, named)
    return f"unknown key; did you mean '{near}'?" if near else unknown("key", entry.key, keys)


def _is_in(entry: Entry, keys: Collection[str]) -> bool:
    return entry.key in keys or _named_key(entry, keys) is not None


def _named_key(entry: Entry, keys: Collection[str]) -> str | None:
    """The key of this table that the entry is one of, e.g. `server NAME` for `server s1`."""
    for word in NAMES:
        if (key := f"{entry.word} {word}") in keys:
            return key
    return None

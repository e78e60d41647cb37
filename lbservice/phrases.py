"""Values of several words: a server, a list of listening addresses, a policy, the manhole's address.

Like `values`, but a ValueError from here carries one sentence per mistake in its `args`.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Collection, Mapping
from math import inf
from typing import Any, TypeVar

from lbservice.core.settings import (
    AdminListen,
    Listen,
    ListenTls,
    PrioritySettings,
    ServerSettings,
    ServerTls,
    StickySettings,
)
from lbservice.errors import unknown
from lbservice.policies import own, spec
from lbservice.values import (
    choice,
    count,
    duration,
    host_field,
    listen_address,
    name,
    parse_address,
    readable_file,
    share,
    switch,
    via,
)

T = TypeVar("T")
Convert = Callable[[str], Any]
Options = Mapping[str, tuple[str, Convert | bool]]
"""Word -> field and value: `word=TEXT` read by a Convert, or a bare `word` that stands for a bool."""


def cookie_path(text: str) -> str:
    """A path as it stands in Set-Cookie."""
    if not re.fullmatch(r"/[!-:<-~]*", text):
        raise ValueError("a path starts with / and is plain ASCII without ;")
    return text


SERVER: Options = {
    "weight": ("weight", count(0, 256)),
    "maxconn": ("maxconn", count()),
    "backup": ("backup", True),
    "no-check": ("check", False),
    "slowstart": ("slowstart", duration),
    "tls": ("tls", True),
    "verify": ("verify", switch("yes", "no")),
    "ca": ("ca", readable_file),
    "sni": ("sni", host_field),
    "check-via": ("check_via", via),
    "state": ("state", choice("state", ("ready", "drain", "maint"))),
}

LISTEN: Options = {
    "tls": ("tls", True),
    "cert": ("cert", readable_file),
    "key": ("key", readable_file),
}
ADMIN_LISTEN: Options = {**LISTEN, "client-ca": ("client_ca", readable_file)}

STICKY: Options = {
    "httponly": ("httponly", True),
    "secure": ("secure", True),
    "samesite": ("samesite", choice("samesite", ("lax", "strict", "none"))),
    "path": ("path", cookie_path),
    "domain": ("domain", host_field),
}


def parse_server(server: str, text: str) -> ServerSettings:
    """The server of that name from `HOST:PORT [weight=N] ...`, as it follows `server NAME =`."""
    address, *words = text.split() or [""]
    mistakes: list[str] = []
    attempt(name, server, mistakes)
    host, port = attempt(parse_address, address, mistakes) or ("", 0)
    values = _options(words, SERVER, mistakes)
    tls = values.pop("tls", False)
    tls_values = {field: values.pop(field) for field in ("verify", "ca", "sni") if field in values}
    if tls_values and not tls:
        mistakes.append(f"{' and '.join(tls_values)} without tls; add the word tls")
    if mistakes:
        raise ValueError(*mistakes)
    return ServerSettings(server, host, port, tls=ServerTls(**tls_values) if tls else None, **values)


def parse_listens(text: str) -> tuple[Listen, ...]:
    """`HOST:PORT [tls cert=FILE [key=FILE]]`, several with commas between."""
    mistakes: list[str] = []
    listens = tuple(_listen(part, mistakes) for part in text.split(","))
    if mistakes:
        raise ValueError(*mistakes)
    return listens


def _listen(text: str, mistakes: list[str]) -> Listen:
    address, *words = text.split() or [""]
    host, port = attempt(listen_address, address, mistakes) or ("", 0)
    values = _options(words, LISTEN, mistakes)
    if not values.pop("tls", False):
        if values:
            mistakes.append(f"{' and '.join(values)} without tls; add the word tls")
        return Listen(host, port)
    if "cert" not in values:
        mistakes.append("tls needs a certificate; write tls cert=FILE, a PEM file")
    return Listen(host, port, ListenTls(**{"cert": ""} | values))


def _options(words: list[str], options: Options, mistakes: list[str]) -> dict[str, Any]:
    """Field -> value of the words after an address; a value that is wrong is None."""
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if key not in options:
            mistakes.append(unknown(f"option '{key}'", key, options))
            continue
        field, value = options[key]
        if field in values:
            mistakes.append(f"{key} is given twice")
        elif not callable(value):
            values[field] = value
            if equals:
                mistakes.append(f"{key} takes no value; write {key} alone")
        elif not text:
            values[field] = None
            mistakes.append(f"{key} needs a value; write {key}=VALUE without spaces")
        else:
            values[field] = attempt(value, text, mistakes, prefix=f"{word}: ")
    return values


def attempt(convert: Callable[[str], T], text: str, mistakes: list[str], prefix: str = "") -> T | None:
    """What `convert` makes of the text; None when it refuses, and its sentences go to `mistakes`."""
    try:
        return convert(text)
    except ValueError as error:
        mistakes.extend(f"{prefix}{sentence}" for sentence in error.args)
        return None


_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


def parse_priority(text: str) -> PrioritySettings:
    """`header(NAME) CLASS, CLASS, ... [default CLASS]`: who comes first in a queue, the first class first."""
    match = re.fullmatch(rf"header\(\s*({_TOKEN})\s*\)\s*(.*?)(?:\s+default\s+(\S+))?", text)
    if not match:
        raise ValueError(
            "write header(NAME) CLASS, CLASS, ... [default CLASS],"
            " e.g. header(X-Priority) high, normal, low default normal"
        )
    header, rest, default = match.groups()
    classes = tuple(rest.replace(",", " ").split())
    lower = [name.lower() for name in classes]
    if len(classes) < 2 or not all(re.fullmatch(_TOKEN, name) for name in classes):
        raise ValueError("name two classes or more, the first one first, e.g. high, normal, low")
    if len(classes) > 16:
        raise ValueError("16 classes are the most")
    if len(set(lower)) < len(classes):
        raise ValueError("a class is named twice")
    if default is None:
        return PrioritySettings(header, classes, len(classes) - 1)
    choice("class", lower)(default.lower())
    return PrioritySettings(header, classes, lower.index(default.lower()))


def retry_budget(text: str) -> float:
    """A share of the requests in flight, or `off` for no bound."""
    return inf if text == "off" else share(text)


def parse_balance(text: str, policies: Collection[str], folder: str) -> str:
    """The text itself, when it names one of `policies` with all that it needs, or a `module:Class` that works.

    That class is imported and tried out. Its module may lie in `folder`, which becomes the last place where this
    process looks for modules.
    """
    if spec.read(text, policies).own:
        if folder not in sys.path:
            sys.path.append(folder)
        importlib.invalidate_caches()
        own.try_out(text)
    return text


def parse_sticky(text: str) -> StickySettings:
    """`cookie NAME [httponly] [secure] [samesite=WORD] [path=PATH] [domain=NAME]`."""
    kind, *words = text.split()
    choice("way to stick", ("cookie",))(kind)
    name = words.pop(0) if words else ""
    mistakes: list[str] = []
    if not re.fullmatch(spec.TOKEN, name):
        mistakes.append("name the cookie; write e.g. sticky = cookie SRV httponly")
    values = _options(words, STICKY, mistakes)
    if values.get("samesite") == "none" and not values.get("secure"):
        mistakes.append("browsers drop a cookie with samesite=none without secure; add the word secure")
    if mistakes:
        raise ValueError(*mistakes)
    if "samesite" in values:
        values["samesite"] = values["samesite"].capitalize()
    return StickySettings(name, **values)


def parse_manhole(text: str) -> dict[str, Any]:
    """`unix:PATH` or `ssh:HOST:PORT` as a field of ManholeSettings."""
    kind, _, rest = text.partition(":")
    if kind == "ssh":
        return {"ssh": listen_address(rest)}
    if kind != "unix" or not rest:
        raise ValueError("write unix:PATH or ssh:HOST:PORT, e.g. unix:run/manhole.sock")
    if len(rest.encode("utf-8", "replace")) > 100:
        raise ValueError("a socket's path is at most 100 bytes; choose a shorter one")
    return {"unix": rest}


def parse_admin(text: str) -> tuple[AdminListen, ...]:
    """`unix:PATH` or `HOST:PORT [tls cert=FILE [key=FILE] [client-ca=FILE]]`, several with commas between."""
    mistakes: list[str] = []
    listens = tuple(_admin_listen(part, mistakes) for part in text.split(","))
    if mistakes:
        raise ValueError(*mistakes)
    if len({listen.address for listen in listens}) < len(listens):
        raise ValueError("an address is named twice")
    return listens


def _admin_listen(text: str, mistakes: list[str]) -> AdminListen:
    address, *words = text.split() or [""]
    if address.startswith("unix:"):
        path = attempt(socket_path, address, mistakes)
        if words:
            mistakes.append(f"a unix socket takes no {words[0]}; write unix:PATH alone")
        return AdminListen(unix=path)
    host, port = attempt(listen_address, address, mistakes) or ("", 0)
    values = _options(words, ADMIN_LISTEN, mistakes)
    if not values.pop("tls", False):
        if values:
            mistakes.append(f"{' and '.join(word.replace('_', '-') for word in values)} without tls; add the word tls")
        return AdminListen(host=host, port=port)
    if "cert" not in values:
        mistakes.append("tls needs a certificate; write tls cert=FILE, a PEM file")
    client_ca = values.pop("client_ca", None)
    return AdminListen(None, host, port, ListenTls(**{"cert": ""} | values), client_ca)


def hosts(text: str) -> tuple[str, ...]:
    """Names as they stand in a Host field, with commas between."""
    return tuple(host_field(word).lower() for word in text.replace(",", " ").split())


def socket_path(text: str) -> str:
    """The path in `unix:PATH`."""
    path = text.removeprefix("unix:")
    if path == text or not path:
        raise ValueError("write unix:PATH, e.g. unix:run/admin.sock")
    if len(path.encode("utf-8", "replace")) > 100:
        raise ValueError("a socket's path is at most 100 bytes; choose a shorter one")
    return path

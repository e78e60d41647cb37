"""Values that say what a frontend does to requests: routes, redirects, refusals, edits of fields, error pages.

Like `phrases`: a ValueError from here carries one sentence per mistake in its `args`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from lbservice.core.route import unambiguous
from lbservice.core.settings import Conditions, Edit, RateSettings, Rule
from lbservice.errors import closest, unknown
from lbservice.phrases import attempt
from lbservice.values import choice, count, name, networks, readable_file
from lbservice.wire.edits import VARIABLE, variables
from lbservice.wire.h1 import SPECIAL
from lbservice.wire.headers import METHOD, TOKEN, is_host
from lbservice.wire.pages import CONTENT_TYPES, MOST_BYTES, REASONS

_CONDITION = re.compile(r"([A-Za-z-]+)(?:\(([^()]*)\))?(?:(~?=)(.*))?")
_VALUE = re.compile(r"[!-~](?:[\t -~]*[!-~])?")
_HOST = re.compile(r"(?:\*\.)?(?!-)[a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\]")
_LOCATION = re.compile(r"https?://[^/?#]+(?:[/?#{].*)?|/(?![/\\{]).*")
_RATE = re.compile(r"([0-9]{1,9})/(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_MOVES = ("301", "302", "303", "307", "308")

FIXED = (
    frozenset(SPECIAL)
    - {b"host", b"via", b"forwarded", b"x-real-ip"}
    - {name for name in SPECIAL if name.startswith(b"x-forwarded-")}
)
"""Request fields that are the balancer's own: framing, hop-by-hop, and the request's id."""
FIXED_IN_RESPONSE = frozenset((*FIXED, b"date", b"host"))
"""The same for responses. Who has no Date gets one."""


def parse_route(route: str, text: str, *, http: bool = True) -> Rule:
    """`BACKEND [strip=PREFIX] CONDITIONS`, as it follows `route NAME =`."""
    backend, *words = text.split()
    mistakes: list[str] = []
    attempt(name, route, mistakes)
    attempt(name, backend, mistakes)
    strip, words = _strip(words, mistakes) if http else ("", words)
    when = _conditions(words, mistakes, http=http)
    if when == Conditions() and not mistakes:
        example = "host=app.example or path=/api" if http else "sni=app.example"
        mistakes.append(f"a route without a condition takes everything; add one, e.g. {example}, or write backend =")
    if strip and (when.patterns or not when.paths or not all(_below(path, strip) for path in when.paths)):
        mistakes.append(f"strip={strip} needs path= with nothing but paths that begin with {strip}")
    return _kept(Rule(route, when, backend, strip), mistakes)


def parse_redirect(redirect: str, text: str) -> Rule:
    """`LOCATION [STATUS] CONDITIONS`, as it follows `redirect [NAME] =`."""
    location, *words = text.split()
    mistakes: list[str] = []
    if redirect:
        attempt(name, redirect, mistakes)
    status = 302
    if words and words[0].isdigit():
        status = int(attempt(choice("status", _MOVES), words.pop(0), mistakes) or 302)
    when = _conditions(words, mistakes, http=True)
    to_https = re.fullmatch(r"https(?::([0-9]{1,5}))?", location)
    if to_https:
        if when.secure:
            mistakes.append("a redirect to https is for http; take scheme=https out")
        port = attempt(count(1, 65535), to_https[1] or "443", mistakes, prefix="the port ")
        location = "https://{host}" + (f":{port}" if port != 443 else "") + "{uri}"
        when = Conditions(**{**_fields_of(when), "secure": False})
    else:
        attempt(_location, location, mistakes)
    return _kept(Rule(redirect, when, location=location, status=status), mistakes)


def parse_refusal(refusal: str, text: str) -> Rule:
    """`STATUS CONDITIONS`, as it follows `refuse NAME =`."""
    status, *words = text.split()
    mistakes: list[str] = []
    attempt(name, refusal, mistakes)
    attempt(choice("status", ("403", "404", "410", "421", "503")), status, mistakes)
    when = _conditions(words, mistakes, http=True)
    return _kept(Rule(refusal, when, status=int(status) if status.isdigit() else 0), mistakes)


def _kept(rule: Rule, mistakes: list[str]) -> Rule:
    if mistakes:
        raise ValueError(*mistakes)
    return rule


def _fields_of(when: Conditions) -> dict[str, Any]:
    return {field: getattr(when, field) for field in when.__slots__}


def _strip(words: list[str], mistakes: list[str]) -> tuple[str, list[str]]:
    """The prefix to strip, or "", and the other words."""
    strips = [word for word in words if word.startswith("strip=")]
    if len(strips) > 1:
        mistakes.append("strip is given twice")
    strip = attempt(_path, strips[0].removeprefix("strip="), mistakes, prefix=f"{strips[0]}: ") if strips else ""
    return (strip or "").rstrip("/"), [word for word in words if word not in strips]


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


# -- conditions --------------------------------------------------------------------------------


def _conditions(words: list[str], mistakes: list[str], *, http: bool) -> Conditions:
    """What the words ask for; each kind once, but any number of header(...)."""
    values: dict[str, Any] = {}
    for word in words:
        match = _CONDITION.fullmatch(word)
        kind = match[1] if match else word
        kinds = _HTTP if http else _TCP
        if match is None or kind not in kinds:
            mistakes.append(_no_condition(kind, http=http))
        elif kind == "header":
            values["fields"] = (*values.get("fields", ()), attempt(_header, word, mistakes, prefix=f"{word}: "))
        else:
            _, argument, equals, text = match.groups()
            field, convert = kinds[kind]
            if equals == "~=" and kind == "path":
                field, convert = "patterns", _pattern
            if field in values:
                mistakes.append(f"{kind}{equals or ''} is given twice; write commas between its values")
            elif argument is not None or not text or (equals == "~=" and kind != "path"):
                mistakes.append(f"{word}: write {kind}=VALUE without spaces")
            else:
                values[field] = attempt(convert, text, mistakes, prefix=f"{word}: ")
    return Conditions() if mistakes else Conditions(**values)


def _no_condition(kind: str, *, http: bool) -> str:
    if http and kind in _TCP:
        return f"{kind}= is for mode = tcp; here write host="
    if not http and kind in _HTTP:
        return f"{kind}= is only for mode = http; in tcp mode there are sni= and src="
    return unknown(f"condition '{kind}'", kind, _HTTP if http else _TCP)


def _list_of(convert: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    return lambda text: tuple(convert(each) for each in text.split(","))


def _server_name(text: str) -> str:
    host = text.lower().removesuffix(".")
    if re.fullmatch(r"[^\[]*:[0-9]*", host):
        raise ValueError(f"the port does not count; did you mean '{host.partition(':')[0]}'?")
    if not _HOST.fullmatch(host):
        raise ValueError(f"'{text}' is no host name; write e.g. app.example or *.app.example")
    return host


def _path(text: str) -> str:
    if not re.fullmatch(r"/[!-~]*", text):
        raise ValueError(f"the path '{text}' must start with / and be plain ASCII")
    if "?" in text or "#" in text:
        raise ValueError("a path ends before ? and #; take out what is behind")
    if not unambiguous(text):
        raise ValueError("write a path without //, /./, /../, ; and encoded slashes: servers read these differently")
    return text


def _pattern(text: str) -> tuple[str, ...]:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"no regular expression: {error}") from None
    return (text,)


def _method(text: str) -> str:
    if not re.fullmatch(METHOD.decode(), text) or text != text.upper():
        raise ValueError(f"'{text}' is no method; write it in capitals, e.g. GET or HEAD")
    return text


def _header(word: str) -> tuple[str, str | None]:
    match = re.fullmatch(r"header\(([^()]+)\)(?:=(.+))?", word)
    if match is None:
        raise ValueError("write header(NAME) or header(NAME)=VALUE")
    field, value = seen_field(match[1]), match[2]
    return field, value.lower() if field == "upgrade" and value else value


def seen_field(text: str) -> str:
    """The name of a request field that conditions may ask for, in small letters."""
    field = _field_name(text).lower()
    if field == "host":
        raise ValueError("write host= for the Host field")
    if "_" in field:
        raise ValueError("fields with an underscore are dropped; no rule sees them")
    if field != "upgrade" and field.encode() in SPECIAL:
        raise ValueError(f"no rule sees {text}; for who the client is write src= or scheme=")
    return field


def methods(text: str) -> tuple[str, ...]:
    """Methods, with commas or spaces between."""
    return tuple(_method(word) for word in text.replace(",", " ").split())


_scheme = choice("scheme", ("http", "https"))
_HTTP: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "host": ("hosts", _list_of(_server_name)),
    "path": ("paths", _list_of(_path)),
    "method": ("methods", _list_of(_method)),
    "header": ("fields", _header),
    "src": ("sources", networks),
    "scheme": ("secure", lambda text: _scheme(text) == "https"),
}
_TCP: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "sni": ("snis", _list_of(_server_name)),
    "src": ("sources", networks),
}


# -- where redirects go ------------------------------------------------------------------------


def _location(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("a location is plain ASCII without spaces; write %20 for a space")
    _known_variables(text, ("host", "path", "uri"))
    if not _LOCATION.fullmatch(text):
        raise ValueError("write https://HOST/..., https://{host}{uri} or a path, e.g. /new (not //..., and not /{...})")
    authority = re.match(r"https?://([^/?#]*?)(?:\{(?:uri|path)\}|[/?#]|\Z)", text)
    if authority and not is_host(authority[1].replace("{host}", "a").encode()):
        raise ValueError(f"'{authority[1]}' is no host")
    return text


def _known_variables(text: str, known: tuple[str, ...]) -> None:
    for variable in VARIABLE.findall(text.encode("utf-8", "replace")):
        if variable.decode() not in known:
            near = closest(variable.decode(), known)
            hint = f"did you mean '{{{near}}}'?" if near else "there are " + ", ".join(f"{{{each}}}" for each in known)
            raise ValueError(f"unknown variable {{{variable.decode()}}}; {hint}")


# -- fields ------------------------------------------------------------------------------------


def _field_name(text: str) -> str:
    if not re.fullmatch(TOKEN.decode(), text):
        raise ValueError(f"'{text}' is no name of a header field")
    return text


def parse_edit(field: str, text: str, *, of_response: bool = False) -> Edit:
    """`set VALUE`, `add VALUE` or `remove`, as it follows `request-header NAME =`."""
    verb, _, value = text.partition(" ")
    value = value.strip()
    _field_name(field)
    low = field.lower().replace("_", "-").encode()
    if low in (FIXED_IN_RESPONSE if of_response else FIXED):
        raise ValueError(f"{field} is the balancer's own; it can be neither set nor removed")
    choice(f"word '{verb}'", ("set", "add", "remove"))(verb)
    if verb == "remove":
        if value:
            raise ValueError(f"remove takes nothing after it; take out '{value}'")
    elif not _VALUE.fullmatch(value):
        raise ValueError(f"write {verb} VALUE, plain ASCII, e.g. {verb} yes")
    _known_variables(value, ("client", "host", "request_id", "scheme"))
    if low == b"host" and not of_response:
        if verb != "set":
            raise ValueError("there is always one Host; write set VALUE")
        if variables(value.encode()) or not is_host(value.encode()):
            raise ValueError(f"'{value}' is no host; write e.g. set app.internal or set app.internal:8080")
    return Edit(field, verb, value)


# -- the rest ----------------------------------------------------------------------------------


def parse_page(status: str, text: str) -> tuple[int, str]:
    """A status and a readable file, as in `error-page STATUS = FILE`."""
    known = [str(number) for number in REASONS if number >= 400]
    if status not in known:
        raise ValueError(f"no error page has the status '{status}'; one of: {', '.join(sorted(known))}")
    readable_file(text)
    extension = os.path.splitext(text)[1]
    if extension.lower() not in CONTENT_TYPES:
        raise ValueError(f"what is {text}? its name must end in one of: {', '.join(sorted(CONTENT_TYPES))}")
    if os.path.getsize(text) > MOST_BYTES:
        raise ValueError(f"{text} is larger than {MOST_BYTES // 1024}KiB; choose a smaller page")
    return int(status), text


def parse_rate(text: str) -> RateSettings:
    """`NUMBER/s|m|h [burst=NUMBER] [by=address|header(NAME)]`."""
    rate, *words = text.split()
    match = _RATE.fullmatch(rate)
    if match is None or not int(match[1]):
        raise ValueError("write a number for a second, minute or hour, e.g. 100/s, 60/m or 1000/h")
    mistakes: list[str] = []
    burst, field, seen = int(match[1]), "", set()
    for word in words:
        key, _, value = word.partition("=")
        if key not in ("burst", "by"):
            mistakes.append(unknown(f"option '{key}'", key, ("burst", "by")))
        elif key in seen:
            mistakes.append(f"{key} is given twice")
        elif key == "burst":
            burst = attempt(count(1), value, mistakes, prefix=f"{word}: ") or 1
        elif named := re.fullmatch(r"header\((.+)\)", value):
            field = attempt(seen_field, named[1], mistakes, prefix=f"{word}: ") or ""
        elif value != "address":
            mistakes.append(f"{word}: write by=address or by=header(NAME)")
        seen.add(key)
    if mistakes:
        raise ValueError(*mistakes)
    return RateSettings(int(match[1]) / _SECONDS[match[2]], burst, field)

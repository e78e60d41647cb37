"""Field names with a meaning to a proxy, and the grammar of their values (RFC 9110, RFC 9112)."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address

TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN = TCHAR + rb"++"
"""RFC 9110 section 5.6.2, possessive: hostile input is read once.

Only a single class is repeated like that; groups are atomic, `(?>(?:...)*)`, which means the same: CPython
before 3.11.5 matches possessive groups wrongly when they can backtrack inside (gh-106052).
"""
METHOD = TCHAR + rb"{1,64}+"
"""Any token may be a method (RFC 9110 section 9.1); none of this length is known."""

_TOKENS = re.compile(rb"[ \t]*+(?>(?:" + TOKEN + rb"[ \t]*+)?)(?>(?:,[ \t]*+(?>(?:" + TOKEN + rb"[ \t]*+)?))*)")
_HOST = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]{2,45})\]"  # an IPv6 literal
    # A reg-name or IPv4 (RFC 3986 section 3.2.2), but without its comma: that is two Host fields made one.
    rb"|(?>(?:[0-9A-Za-z\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+))"
    rb"(?::([0-9]{0,5}))?"
)


@lru_cache(maxsize=256)
def tokens(value: bytes) -> tuple[bytes, ...] | None:
    """The lower-cased members of a comma-separated list of tokens, or None when it is no such list."""
    if not _TOKENS.fullmatch(value):
        return None
    return tuple(member for part in value.lower().split(b",") if (member := part.strip(b" \t")))


def is_length(value: bytes) -> bool:
    """Is it one decimal number of at most 18 digits? No sign, no list, no white space."""
    return value.isdigit() and len(value) <= 18  # of bytes, isdigit knows only ASCII digits


@lru_cache(maxsize=256)
def is_host(value: bytes) -> bool:
    """Is it a `uri-host [":" port]` (RFC 9110 section 7.2), without userinfo and not empty?"""
    match = _HOST.fullmatch(value)
    if match is None or int(match[2] or b"0") > 65535:
        return False
    return match[1] is None or _is_ipv6(match[1].decode("ascii"))


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


FORWARDING = frozenset(
    (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-real-ip",
    )
)
"""Fields by which a proxy says who the client is; from anybody else they are a lie."""


def field_values(lines: bytes, name: str) -> list[str]:
    """The values of all fields of that name (in small letters) among field lines."""
    return [value.decode("latin-1") for value in _field(name).findall(lines)]


@lru_cache(maxsize=256)
def _field(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?mi)^%b:(?> ?)([^\r\n]*+)\r$" % re.escape(name.encode("ascii")))

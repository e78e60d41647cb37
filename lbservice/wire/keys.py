"""What of a request a server is chosen by: its path, a query parameter, a field, a cookie. Bytes as they came.

Whatever a client sends, looking takes time linear in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from lbservice.wire.headers import FORWARDING, field_value
from lbservice.wire.message import RequestHead

Reader = Callable[[RequestHead], bytes]

_COOKIE = re.compile(rb"(?mi)^cookie: ([^\r]*+)\r\n")


@cache
def reader(kind: str, name: str) -> Reader:
    """What finds the key in a request: ("uri", ""), or "header", "cookie" or "param" with a name.

    It returns b"" where the request has none.
    """
    wanted = name.encode("ascii")
    if kind == "uri":
        return path_of
    if kind == "param":
        return lambda request: parameter(request.target, wanted)
    if kind == "cookie":
        return lambda request: cookie(request.fields, wanted)
    if kind == "header":
        return _field_reader(name.lower())
    return lambda request: b""


def path_of(request: RequestHead) -> bytes:
    """The target without its query."""
    return request.target.partition(b"?")[0]


def parameter(target: bytes, name: bytes) -> bytes:
    """The first query parameter of that name; names and values are compared as they are written."""
    for pair in target.partition(b"?")[2].split(b"&"):
        key, _, value = pair.partition(b"=")
        if key == name:
            return value
    return b""


def _field_reader(name: str) -> Reader:
    """The first field of that name."""
    if name == "host":
        return lambda request: (request.host or b"").lower()
    if name == "x-request-id":
        return lambda request: request.request_id or b""
    if name.encode("ascii") in FORWARDING:
        return lambda request: field_value(request.forwarded, name) or b""
    return lambda request: field_value(request.fields, name) or b""


def cookie(fields: bytes, name: bytes) -> bytes:
    """The first cookie of that name in the field lines (RFC 6265 section 5.4)."""
    for match in _COOKIE.finditer(fields):
        for pair in match[1].split(b";"):
            key, _, value = pair.partition(b"=")
            if key.strip(b" \t") == name:
                return value.strip(b" \t")
    return b""


def take_cookie(fields: bytes, name: bytes) -> tuple[bytes, bytes]:
    """The first cookie of that name, and the field lines without any cookie of that name.

    The other cookies stay as they are; a line that held no other goes. Without such a cookie the lines are the same
    object.
    """
    if name not in fields:
        return b"", fields
    found: list[bytes] = []

    def without(line: re.Match[bytes]) -> bytes:
        kept = []
        pairs = line[1].split(b";")
        for pair in pairs:
            key, _, value = pair.partition(b"=")
            if key.strip(b" \t") == name:
                found.append(value.strip(b" \t"))
            else:
                kept.append(pair)
        if len(kept) == len(pairs):
            return line[0]
        rest = b";".join(kept).strip(b" \t")
        return line[0][: line.start(1) - line.start()] + rest + b"\r\n" if rest else b""

    rest = _COOKIE.sub(without, fields)
    return (found[0], rest) if found else (b"", fields)

"""Who the client is, said to the server in field lines (X-Forwarded-*, Via)."""

from __future__ import annotations

import re

from lbservice.wire.message import RequestHead

_LINE = re.compile(rb"([^:\r\n]++):(?: ([^\r]*+))?+\r\n")
_REQUEST_ID = re.compile(rb"[0-9A-Za-z._:/+=-]{1,128}")


def client_fields(peer: bytes, scheme: bytes, port: int) -> bytes:
    """The lines that are the same for every request of one client connection."""
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Port: %d\r\n" % (peer, scheme, port)


def kept_client_fields(request: RequestHead, peer: bytes, scheme: bytes, port: int) -> bytes:
    """The same behind a trusted proxy: what it said is kept, the proxy itself joins X-Forwarded-For."""
    chain: list[bytes] = []
    kept: list[bytes] = []
    names: set[bytes] = set()
    for match in _LINE.finditer(request.forwarded):
        name = match[1].lower()
        if name == b"x-forwarded-for":
            chain += [match[2]] if match[2] else []
        else:
            names.add(name)
            kept.append(match[0])
    lines = [b"X-Forwarded-For: %b\r\n" % b", ".join([*chain, peer]), *kept]
    if b"x-forwarded-proto" not in names:
        lines.append(b"X-Forwarded-Proto: %b\r\n" % scheme)
    if b"x-forwarded-port" not in names:
        lines.append(b"X-Forwarded-Port: %d\r\n" % port)
    if b"x-forwarded-host" not in names:
        lines.append(b"X-Forwarded-Host: %b\r\n" % (request.host or b""))
    return b"".join(lines)


def usable_request_id(value: bytes) -> bool:
    """May a client's own X-Request-ID go on: short, and nothing in it that a log or shell would trip over?"""
    return _REQUEST_ID.fullmatch(value) is not None

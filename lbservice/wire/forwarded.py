"""Who the client is, said to the server in field lines: X-Forwarded-*, X-Request-ID, Via."""

from __future__ import annotations

import re

from lbservice.wire.message import RequestHead, Usual

_LINE = re.compile(rb"([^:\r\n]++):(?>(?: ([^\r]*+))?)\r\n")
_REQUEST_ID = re.compile(rb"[0-9A-Za-z._:/+=-]{1,128}")


def usable_request_id(value: bytes) -> bool:
    """May a client's own X-Request-ID go on: short, and nothing in it that a log or shell would trip over?"""
    return _REQUEST_ID.fullmatch(value) is not None


def said(forwarded: bytes, name: bytes) -> list[str]:
    """The members of all lists of that name (in small letters) in a peer's own forwarding fields, in their order."""
    values = [match[2] or b"" for match in _LINE.finditer(forwarded) if match[1].lower() == name]
    return [member.strip(" \t") for member in b",".join(values).decode("latin-1").split(",")] if values else []


class Introduction:
    """What we add to the requests of one client connection.

    `peer` is the client's address, `scheme` http or https, `port` ours; `via` is our name in the
    Via field, or b"". A `trusted` peer is a proxy: what it says of its clients is kept.
    """

    __slots__ = ("_common", "_peer", "_scheme", "_via", "port", "trusted")

    def __init__(self, peer: bytes, scheme: bytes, port: int, via: bytes, *, trusted: bool) -> None:
        self._peer = peer
        self._scheme = scheme
        self.port = port
        self.trusted = trusted
        self._via = via
        self._common = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Port: %d\r\n" % (
            peer,
            scheme,
            port,
        )

    def usual(self, usual: Usual) -> bytes:
        """For requests with a usual head: all that a server gets behind the request line, up to the request's id."""
        via = b"Via: 1.1 %b\r\n" % self._via if self._via else b""
        return b"\r\nHost: %b\r\n%b%bX-Forwarded-Host: %b\r\n%bX-Request-ID: " % (
            usual.host,
            usual.fields,
            self._common,
            usual.host,
            via,
        )

    def fields(self, request: RequestHead, request_id: bytes) -> bytes:
        """The field lines for one request."""
        if self.trusted and request.forwarded:
            client = self._kept(request)
        elif request.host is not None:
            client = b"%bX-Forwarded-Host: %b\r\n" % (self._common, request.host)
        else:
            client = self._common
        via = b"Via: 1.%d %b\r\n" % (request.minor, self._via) if self._via else b""
        if request.via:
            via = b"Via: %b, %b" % (request.via, via[5:]) if via else b"Via: %b\r\n" % request.via
        upgrade = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % request.upgrade if request.upgrade else b""
        return b"%b%b%bX-Request-ID: %b\r\n" % (client, via, upgrade, request_id)

    def _kept(self, request: RequestHead) -> bytes:
        """Behind a trusted proxy: what it said is kept, the proxy itself joins X-Forwarded-For."""
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
        lines = [b"X-Forwarded-For: %b\r\n" % b", ".join([*chain, self._peer]), *kept]
        if b"x-forwarded-proto" not in names:
            lines.append(b"X-Forwarded-Proto: %b\r\n" % self._scheme)
        if b"x-forwarded-port" not in names:
            lines.append(b"X-Forwarded-Port: %d\r\n" % self.port)
        if b"x-forwarded-host" not in names:
            lines.append(b"X-Forwarded-Host: %b\r\n" % (request.host or b""))
        return b"".join(lines)

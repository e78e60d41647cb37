"""Those who look at both ends of a row: a server that keeps every byte, and h11, which reads what came out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import h11

from tests.conformance.table import Message
from tests.support.actors import Connection, Origin, Script
from tests.support.wire import Address, MemoryNetwork

Fields = list[tuple[bytes, bytes]]

_STRICT_HEAD = re.compile(
    rb"[!-~]+ [!-~\x80-\xff][\t -~\x80-\xff]*\r\n(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: ?[\t -~\x80-\xff]*\r\n)*\r\n"
)
"""Roughly a head, but without the leniences of h11: CR LF only, no folded line, no space before a colon."""
_HOP_BY_HOP = {b"te", b"trailer", b"keep-alive", b"proxy-connection", b"http2-settings", b"proxy"}
_LARGE = 1 << 20

ADDED_TO_REQUESTS = {
    b"connection",
    b"host",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-request-id",
}
ADDED_TO_ANSWERS = {b"connection", b"date", b"transfer-encoding", b"x-request-id"}
IN_OUR_OWN_ANSWERS = {b"cache-control", b"content-length", b"content-type", *ADDED_TO_ANSWERS}


@dataclass(frozen=True)
class Read:
    """One message as h11 understands it. `start` is method and target of a request, or the status."""

    start: str
    fields: Fields
    body: bytes
    whole: bool
    method: bytes = b"GET"

    def values(self, name: str) -> bytes | None:
        """All values of a field, as one list; None when it is not there."""
        found = [value for key, value in self.fields if key == name.lower().encode()]
        return b", ".join(found) if found else None


class _Witnessed(Connection):
    """A server's connection that remembers all it heard."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(origin)
        self.heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        super().dataReceived(data)

    @property
    def unfinished(self) -> bool:
        """Has it heard the beginning of a request, and not its end?"""
        return bool(self.received)


class Witness(Origin):
    """A server whose connections remember what they heard."""

    def __init__(self, network: MemoryNetwork, address: Address, *answers: bytes | Script) -> None:
        super().__init__(network, address, *answers)

    def buildProtocol(self, addr: Any) -> Connection:
        return _Witnessed(self)

    @property
    def witnessed(self) -> list[_Witnessed]:
        """Its connections, the oldest first."""
        return [connection for connection in self.connections if isinstance(connection, _Witnessed)]


def tell_what_was_asked(connection: Connection) -> None:
    """Answer with method and target, so that answers can be told from one another."""
    body = b" ".join(connection.request.split(b" ", 2)[:2])
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection.send(head if body.startswith(b"HEAD ") else head + body)


def requests_in(data: bytes) -> tuple[list[Read], bool]:
    """What a strict server finds in a connection's bytes; and did they end in the midst of a request?

    Raises AssertionError where they break the rules of what we may send.
    """
    found: list[Read] = []
    while data:
        head, end, _ = data.partition(b"\r\n\r\n")
        if not end:
            return found, True
        assert _STRICT_HEAD.fullmatch(head + end), f"a server got {head!r}"
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=_LARGE)
        reader.receive_data(data)
        request = reader.next_event()
        assert isinstance(request, h11.Request)
        fields = [(bytes(name), bytes(value)) for name, value in request.headers]
        _check_sent_fields(fields)
        body, event = b"", reader.next_event()
        while isinstance(event, h11.Data):
            body += bytes(event.data)
            event = reader.next_event()
        if event is h11.NEED_DATA:
            return found, True
        assert isinstance(event, h11.EndOfMessage)
        assert not event.headers, "trailers reached a server"
        start = f"{request.method.decode()} {request.target.decode()}"
        assert request.http_version == b"1.1"
        found.append(Read(start, fields, body, True, bytes(request.method)))
        data = reader.trailing_data[0]
    return found, False


def _check_sent_fields(fields: Fields) -> None:
    names = [name for name, _ in fields]
    assert names.count(b"host") == 1
    assert names.count(b"content-length") + names.count(b"transfer-encoding") < 2
    assert names.count(b"x-request-id") == names.count(b"x-forwarded-for") == 1
    assert not _HOP_BY_HOP.intersection(names), names
    assert not any(b"_" in name for name in names), names
    hops = [value for name, value in fields if name == b"connection"]
    assert hops == ([b"Upgrade"] if b"upgrade" in names else [])


def answers_in(data: bytes, methods: list[bytes], *, ended: bool) -> list[Read]:
    """What a strict client finds, which asked with `methods`; a 100 is left out. `ended`: no more will come."""
    found: list[Read] = []
    while data:
        head, end, _ = data.partition(b"\r\n\r\n")
        assert end, f"a client got half a head: {data!r}"
        assert _STRICT_HEAD.fullmatch(head + end), f"a client got {head!r}"
        final = sum(int(read.start) >= 200 for read in found)
        method = methods[final] if final < len(methods) else b"GET"
        read, data = _answer_in(data, method, ended=ended)
        found.append(read)
    return [read for read in found if read.start != "100"]


def _answer_in(data: bytes, method: bytes, *, ended: bool) -> tuple[Read, bytes]:
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGE)
    asked = [(b"Host", b"a"), (b"Connection", b"Upgrade"), (b"Upgrade", b"any")]
    reader.send(h11.Request(method=method, target=b"/", headers=asked))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    head = reader.next_event()
    assert isinstance(head, h11.Response | h11.InformationalResponse), f"a client got {data!r}"
    fields = [(bytes(name), bytes(value)) for name, value in head.headers]
    names = [name for name, _ in fields]
    assert names.count(b"content-length") + names.count(b"transfer-encoding") < 2
    assert not _HOP_BY_HOP.intersection(names), names
    status = str(head.status_code)
    if head.status_code == 101:
        return Read(status, fields, reader.trailing_data[0], True), b""
    assert b"upgrade" not in names
    if isinstance(head, h11.InformationalResponse):
        assert b"content-length" not in names
        assert b"transfer-encoding" not in names
        return Read(status, fields, b"", True), data.partition(b"\r\n\r\n")[2]
    body, event = b"", reader.next_event()
    while isinstance(event, h11.Data):
        body += bytes(event.data)
        event = reader.next_event()
    if event is h11.NEED_DATA and ended and not {b"content-length", b"transfer-encoding"}.intersection(names):
        return Read(status, fields, body, True), b""
    whole = isinstance(event, h11.EndOfMessage)
    return Read(status, fields, body, whole), reader.trailing_data[0] if whole else b""


def differences(expected: Message, got: Read) -> list[str]:
    """What is not as a row says, in words."""
    wrong = []
    if expected.says_body and got.body != expected.body:
        wrong.append(f"the body is {got.body!r}, not {expected.body!r}")
    for name, value in expected.has:
        has = got.values(name)
        if has is None or (value is not None and has != value):
            wrong.append(f"{name} is {has!r}, not {value!r}")
    for name, value in expected.lacks:
        has = got.values(name)
        if has is not None and value in (None, has):
            wrong.append(f"{name} is {has!r}")
    return wrong


def made_up(got: Read, source: bytes, ours: set[bytes]) -> list[bytes]:
    """Names of fields that neither came in with `source` nor are ours to add."""
    return [name for name, _ in got.fields if name not in ours and name + b":" not in source.lower()]

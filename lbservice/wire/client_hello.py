"""The server name in a TLS ClientHello, read without taking part in TLS (RFC 8446 section 4.1.2, RFC 6066 section 3).

In come a connection's first bytes, as they come. Out comes the name, or "" if the hello has none, as soon as the hello
is whole. Every length is checked against what is there; what is no ClientHello is refused at its first wrong byte or
length. The hello may be spread over any number of segments and records, up to `MOST_BYTES`.
"""

from __future__ import annotations

import re

MOST_BYTES = 16 * 1024
"""Bytes of a ClientHello. Those of browsers have 0.5 to 2 KiB; session tickets and post-quantum keys add some."""
MOST_RECORDS = 64
"""Records that it may be spread over: without a limit each byte could cost five of headers."""

_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0
_NAME = re.compile(rb"[0-9A-Za-z_-](?:[0-9A-Za-z_.-]{0,253})")


class NoClientHello(Exception):
    """These bytes are no ClientHello; the text says why."""


class ClientHelloReader:
    """Takes a connection's first bytes until it knows."""

    __slots__ = ("_buffer", "_message", "_records")

    def __init__(self) -> None:
        self._buffer = b""
        """The beginning of a record."""
        self._message = b""
        """The handshake message, out of its records."""
        self._records = 0

    def feed(self, data: bytes) -> str | None:
        """The name, in small letters; None: more bytes are needed. Raises NoClientHello. Then it has done its work."""
        data = self._buffer + data
        at = 0
        while at < len(data):
            size = _record_size(data, at)
            end = at + 5 + size
            if size < 0 or end > len(data):
                break
            self._records += 1
            if self._records > MOST_RECORDS:
                raise NoClientHello("too many records")
            self._message += data[at + 5 : end]
            at = end
            name = _name_in(self._message)
            if name is not None:
                return name
        self._buffer = data[at:]
        return None


def _record_size(data: bytes, at: int) -> int:
    """Of a record's payload, from the header at `at`; -1 while it is incomplete (RFC 8446 section 5.1)."""
    if data[at] != _HANDSHAKE:
        raise NoClientHello("no handshake record")
    if len(data) > at + 1 and data[at + 1] != 3:
        raise NoClientHello("no version of TLS")
    if len(data) < at + 5:
        return -1
    size = int.from_bytes(data[at + 3 : at + 5], "big")
    if not 0 < size <= 1 << 14:
        raise NoClientHello("a record of impossible size")
    return size


def _name_in(message: bytes) -> str | None:
    """The name in a handshake message; None while it is incomplete."""
    if message[0] != _CLIENT_HELLO:
        raise NoClientHello("no ClientHello")
    if len(message) < 4:
        return None
    size = int.from_bytes(message[1:4], "big")
    if size > MOST_BYTES:
        raise NoClientHello("too long")
    if len(message) < 4 + size:
        return None
    return _name_in_body(_Reader(message[4 : 4 + size]))


def _name_in_body(hello: _Reader) -> str:
    hello.take(2 + 32)  # version and random
    if len(hello.vector(1)) > 32:
        raise NoClientHello("a session id of impossible size")
    suites = hello.vector(2)
    if not suites or len(suites) % 2:
        raise NoClientHello("cipher suites of impossible size")
    if not hello.vector(1):
        raise NoClientHello("no compression method")
    if hello.done:
        return ""  # before extensions there were none
    extensions = _Reader(hello.vector(2))
    hello.end()
    name: str | None = None
    while not extensions.done:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind == _SERVER_NAME:
            if name is not None:
                raise NoClientHello("two server names")
            name = _host_name(_Reader(content))
    return name or ""


def _host_name(extension: _Reader) -> str:
    names = _Reader(extension.vector(2))
    extension.end()
    found = ""
    while not names.done:
        kind, name = names.number(1), names.vector(2)
        if kind == _HOST_NAME:
            if found or not _NAME.fullmatch(name):
                raise NoClientHello("an invalid server name")
            found = name.decode("ascii").lower().removesuffix(".")
    if not found:
        raise NoClientHello("an empty list of server names")
    return found


class _Reader:
    """Bytes that are taken from the front; asking for more than there are is an error."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at == len(self._data)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise NoClientHello("a length that exceeds what is there")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """What stands behind its own length, of `size` bytes."""
        return self.take(self.number(size))

    def end(self) -> None:
        if not self.done:
            raise NoClientHello("bytes behind the end")

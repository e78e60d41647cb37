"""Where a body ends: readers that take a connection's bytes and give back the body's.

Each has `feed(data)`, which returns what is to be passed on, and `left`: so many of the next bytes are nothing but
payload. Once `done` is True, `rest` holds what came behind the body.
Raises BadMessage for bytes that are no body of its kind.
"""

from __future__ import annotations

import re
from math import inf

from lbservice.wire.h1 import BARE_LINE_END, BadMessage
from lbservice.wire.headers import TOKEN
from lbservice.wire.message import CHUNKED, UNTIL_CLOSE

MAX_SIZE_LINE = 1024
"""Bytes of one chunk's size line, with its extensions."""
MAX_EXTENSIONS = 4096
"""Bytes of chunk extensions in a whole body: they are paid for in time and are never passed on."""
MAX_TRAILERS = 8192
"""Bytes of the trailer section; it is validated and dropped."""

LAST_CHUNK = b"0\r\n\r\n"
"""The end of a chunked body, as we write it."""

(_ZERO,) = b"0"
_QUOTED = rb'"(?>(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*)"'
_EXTENSION = rb"[ \t]*+;[ \t]*+" + TOKEN + rb"(?>(?:[ \t]*+=[ \t]*+(?:" + TOKEN + rb"|" + _QUOTED + rb"))?)"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})((?>(?:" + _EXTENSION + rb")*))\r\n")
_PART_OF_SIZE = re.compile(rb"[0-9A-Fa-f]{0,15}(?:[ \t]*+(?>(?:;[\t -~\x80-\xff]*+)?))\r?")
_TRAILERS = re.compile(rb"(?>(?:" + TOKEN + rb":[\t -~\x80-\xff]*+\r\n)*)\r\n")


class LengthBody:
    """A body of `left` bytes (Content-Length)."""

    __slots__ = ("done", "left", "rest")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The body's bytes among these."""
        size = len(data)
        if size < self.left:
            self.left -= size
            return data
        self.done = True
        if size > self.left:
            self.rest = data[self.left :]
            data = data[: self.left]
        self.left = 0
        return data

    def skip(self, size: int) -> None:
        """So many of its bytes, but not the last, have been passed on otherwise."""
        self.left -= size


class UntilCloseBody:
    """A body that ends with the connection: never `done` by itself."""

    __slots__ = ("done", "rest")
    left = 1 << 62
    """As much as anybody wants."""

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        return data

    def skip(self, size: int) -> None:
        """As for LengthBody."""


class ChunkedBody:
    """A chunked body (RFC 9112 section 7.1), without extensions and trailers.

    Passed on is its payload, or, if it is to stay `framed`, its chunks: the bytes that came, but for what is left
    out, and for sizes that nobody would write (with leading zeros). Nothing is passed on before it is understood.

    A chunk with which the payload would be more than `most` bytes is refused at its size, with 413; 0: no limit.
    """

    __slots__ = ("_extensions", "_framed", "_partial", "_passed", "_room", "_seen", "_step", "done", "left", "rest")

    def __init__(self, *, framed: bool = False, most: int = 0) -> None:
        self.done = False
        self.rest = b""
        self.left = 0
        """Bytes of the present chunk that are still to come."""
        self._framed = framed
        self._partial = b""
        self._passed = 0
        """If it stays framed: so many of the bytes at hand have been passed on or left out."""
        self._extensions = 0
        self._room: float = most or inf
        """Bytes of payload that may still be announced."""
        self._seen = 0
        self._step = self._size

    def skip(self, size: int) -> None:
        """So many bytes of the chunk, but not the last, have been passed on otherwise."""
        self.left -= size

    def feed(self, data: bytes) -> bytes:
        if self._partial:
            data = self._partial + data
            self._partial = b""
        pieces: list[bytes] = []
        self._passed = 0
        at: int | None = 0
        while at is not None and not self.done:
            at = self._step(data, at, pieces)
        if self._framed and not self.done:
            understood = len(data) - len(self._partial)
            if understood > self._passed:
                pieces.append(data[self._passed : understood])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # Each step reads from `at`, and answers where the next one goes on, or None for "more bytes".

    def _size(self, data: bytes, at: int, pieces: list[bytes]) -> int | None:
        match = _SIZE.match(data, at)
        if match is None:
            if len(data) - at > MAX_SIZE_LINE or not _PART_OF_SIZE.fullmatch(data, at):
                raise BadMessage(400, "an invalid chunk size (RFC 9112 section 7.1)")
            self._partial = data[at:]
            return None
        if match[2]:
            self._extensions += len(match[2])
            if self._extensions > MAX_EXTENSIONS or len(match[0]) > MAX_SIZE_LINE:
                raise BadMessage(400, "too many chunk extensions (RFC 9112 section 7.1.1)")
        size = self.left = int(match[1], 16)
        self._room -= size
        if self._room < 0:
            raise BadMessage(413, "a body that is longer than allowed (RFC 9110 section 15.5.14)")
        self._step = self._data if size else self._trailers
        if self._framed and (match[2] or match[1][0] == _ZERO):
            pieces.append(data[self._passed : at] + (b"%x\r\n" % size if size else b""))
            self._passed = match.end()
        return match.end()

    def _data(self, data: bytes, at: int, pieces: list[bytes]) -> int | None:
        end = min(at + self.left, len(data))
        self.left -= end - at
        if end > at and not self._framed:
            pieces.append(data[at:end])
        if self.left:
            return None
        self._step = self._data_end
        return end

    def _data_end(self, data: bytes, at: int, pieces: list[bytes]) -> int | None:
        end = data[at : at + 2]
        if end == b"\r\n":
            self._step = self._size
            return at + 2
        if end not in (b"", b"\r"):
            raise BadMessage(400, "chunk data longer than its size (RFC 9112 section 7.1)")
        self._partial = end
        return None

    def _trailers(self, data: bytes, at: int, pieces: list[bytes]) -> int | None:
        if data.startswith(b"\r\n", at):
            end = at + 2
        else:
            fresh = at + max(0, self._seen - 3)  # what came before was looked at before
            end = data.find(b"\r\n\r\n", fresh, at + MAX_TRAILERS) + 4
            if end < 4:
                if len(data) - at >= MAX_TRAILERS or BARE_LINE_END.search(data, fresh):
                    raise BadMessage(400, "an invalid trailer section (RFC 9112 section 7.1.2)")
                self._partial = data[at:]
                self._seen = len(self._partial)
                return None
            if not _TRAILERS.fullmatch(data, at, end):
                raise BadMessage(400, "an invalid trailer section (RFC 9112 section 7.1.2)")
        self.rest = data[end:]
        self.done = True
        if self._framed:
            pieces.append(LAST_CHUNK)
        return end


Body = LengthBody | ChunkedBody | UntilCloseBody


def reader(length: int, *, framed: bool = False, most: int = 0) -> Body:
    """The reader for a head's `length` (see `wire.message`). Does a chunked body stay `framed` as it is passed on?

    `most` bounds a chunked body; the others say their length, or are nobody's request.
    """
    if length == CHUNKED:
        return ChunkedBody(framed=framed, most=most)
    if length == UNTIL_CLOSE:
        return UntilCloseBody()
    return LengthBody(length)


def chunk(payload: bytes) -> bytes:
    """One chunk as we write it. `payload` is not empty: an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)

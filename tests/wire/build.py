"""Heads and bodies as bytes, and what becomes of them."""

from __future__ import annotations

from copy import copy
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st

from lbservice.wire.h1 import BadMessage, parse_request, parse_response
from lbservice.wire.message import RequestHead, ResponseHead

MAX_LINE = 8 * 1024
MAX_FIELDS = 100

STEADY = settings(max_examples=60, derandomize=True, deadline=None)


def head(*lines: bytes) -> bytes:
    """Lines as a whole head."""
    return b"\r\n".join((*lines, b"", b""))


def request(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"Host: a") -> RequestHead:
    """The request of this line and these fields, behind a good Host."""
    return parse_request(head(line, *((host,) if host else ()), *fields), MAX_LINE, MAX_FIELDS)


def refusal(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"Host: a") -> int:
    """The status that the same is refused with; 0 when it is accepted."""
    try:
        request(*fields, line=line, host=host)
    except BadMessage as bad:
        return bad.status
    return 0


Head = TypeVar("Head", RequestHead, ResponseHead)


def changed(message: Head, **fields: object) -> Head:
    """The same head, but for these fields."""
    other = copy(message)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def response(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK", to_head: bool = False) -> ResponseHead:
    return parse_response(head(line, *fields), 200, to_head=to_head)


def response_refused(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK", to_head: bool = False) -> bool:
    """Is it refused? Then with 502, whatever is wrong: it is the server's fault."""
    try:
        response(*fields, line=line, to_head=to_head)
    except BadMessage as bad:
        return bad.status == 502
    return False


TCHARS = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VISIBLE = bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))


def some_of(characters: bytes, least: int = 1, most: int = 12) -> st.SearchStrategy[bytes]:
    """Strings of these characters."""
    return st.lists(st.sampled_from(list(characters)), min_size=least, max_size=most).map(bytes)


def values() -> st.SearchStrategy[bytes]:
    """Field values without white space at their ends; also empty ones."""
    return some_of(VISIBLE + b" \t", 0, 20).map(lambda value: value.strip(b" \t"))

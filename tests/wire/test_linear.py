"""Whatever is sent, reading it takes time in proportion to its size."""

from __future__ import annotations

from time import process_time

import pytest

from lbservice.wire.body import ChunkedBody
from lbservice.wire.forwarded import Introduction, usable_request_id
from lbservice.wire.h1 import BadMessage, cut_head, parse_request, parse_response
from lbservice.wire.headers import is_host, tokens
from tests.wire.build import request

SIZE = 32 * 1024
BOUND = 0.05
"""Seconds of CPU for one head. All of these take less than 5 ms; anything quadratic takes seconds."""

LINE = b"GET / HTTP/1.1\r\nHost: a\r\n"
HOSTILE = {
    "spaces in a value": b"X: " + b" " * SIZE,
    "spaces and a control byte": b"X: " + b" " * SIZE + b"\x00",
    "words and spaces": b"X: " + b"a " * (SIZE // 2) + b"\x00",
    "tabs before the value": b"X:" + b"\t" * SIZE + b"v",
    "colons": b":" * SIZE,
    "colons in a value": b"X: " + b":" * SIZE,
    "underscores": b"_" * SIZE,
    "underscored names": b"_:\r\n" * (SIZE // 4) + b"_: x",
    "one underscore at the end": b"X" * SIZE + b"_: x",
    "hyphens": b"-" * SIZE,
    "CRs": b"X: " + b"\r" * SIZE,
    "LFs": b"X: " + b"\n" * SIZE,
    "CR LF and spaces": b"\r\n " * (SIZE // 3),
    "almost special names": b"\r\n".join([b"x-forwarded-fo"] * (SIZE // 16)),
    "special names": b"\r\n".join([b"x-forwarded-for:a"] * (SIZE // 19)),
    "via upon via": b"\r\n".join([b"Via: a"] * (SIZE // 8)),
    "empty fields": b"\r\n".join([b"a:"] * (SIZE // 4)),
    "connection commas": b"Connection: " + b"," * SIZE,
    "connection commas and spaces": b"Connection: " + b", " * (SIZE // 2) + b"\x80",
    "connection options and fields": b"Connection: " + b"x," * (SIZE // 4) + b"\r\nx: y" * (SIZE // 12),
    "upgrade commas": b"Connection: upgrade\r\nUpgrade: " + b"h2c," * (SIZE // 4),
    "digits": b"Content-Length: " + b"1" * SIZE,
    "chunked, chunked": b"Transfer-Encoding: " + b"chunked, " * (SIZE // 9),
    "percents in host": b"Host: " + b"%4" * (SIZE // 2),
    "dots in host": b"Host: " + b"." * SIZE + b":",
    "brackets in host": b"Host: [" + b":" * SIZE,
}


def refused_or_parsed_in(data: bytes) -> float:
    """Seconds of CPU that it takes to find out, the best of three."""
    best = 1e9
    for _ in range(3):
        begin = process_time()
        try:
            cut_head(data, 2 * SIZE)
        except BadMessage:
            pass
        for read in (
            lambda: parse_request(data, 2 * SIZE, SIZE),
            lambda: parse_response(b"HTTP/1.1 200 OK" + data[14:], SIZE),
        ):
            try:
                read()
            except BadMessage:
                pass
        best = min(best, process_time() - begin)
    return best


@pytest.mark.parametrize("fields", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_head_costs_no_more_than_any_other(fields: bytes) -> None:
    assert refused_or_parsed_in(LINE + fields + b"\r\n\r\n") < BOUND
    assert refused_or_parsed_in(LINE + fields) < BOUND, "and without its end"


@pytest.mark.parametrize(
    "line",
    [
        b"A" * SIZE,
        b" " * SIZE,
        b"GET " + b"/" * SIZE,
        b"GET " + b" " * SIZE,
        b"GET http://" + b"a" * SIZE + b"? HTTP/1.1",
        b"GET http://" + b"%41" * (SIZE // 3) + b" HTTP/1.1",
        b"GET / HTTP/1." + b"1" * SIZE,
    ],
)
def test_a_hostile_request_line_neither(line: bytes) -> None:
    assert refused_or_parsed_in(line + b"\r\nHost: a\r\n\r\n") < BOUND


def test_a_head_that_comes_byte_by_byte_is_looked_at_once() -> None:
    data = LINE + b"X: " + b"a\r\nb:" * (SIZE // 6)
    arriving = [data[: size + 1] for size in range(0, len(data), 4)]
    begin = process_time()
    for size, so_far in enumerate(arriving):
        assert cut_head(so_far, 2 * SIZE, 4 * size) == -1
    assert process_time() - begin < BOUND


@pytest.mark.parametrize("piece", [b"1\r\na\r\n", b"1;x\r\na\r\n"])
def test_a_body_of_tiny_chunks(piece: bytes) -> None:
    begin = process_time()
    try:
        ChunkedBody().feed(piece * (SIZE // len(piece)))
    except BadMessage:
        pass
    assert process_time() - begin < BOUND


@pytest.mark.parametrize(
    "start",
    [b"1;", b"1" + b" " * 500, b"0\r\nX:", b"0\r\n" + b"a:\r\n" * 400],
    ids=["extension", "spaces", "trailer", "trailers"],
)
def test_framing_that_comes_byte_by_byte(start: bytes) -> None:
    body = ChunkedBody()
    begin = process_time()
    try:
        body.feed(start)
        for _ in range(SIZE):
            body.feed(b"a")
    except BadMessage:
        pass
    assert process_time() - begin < 4 * BOUND


def test_values_alone() -> None:
    forwarded = request(*[b"X-Forwarded-For: a"] * 90)
    begin = process_time()
    tokens(b"a ," * SIZE + b"\x80")
    tokens(b" " * SIZE + b"\x80")
    is_host(b"%41" * SIZE + b"%")
    usable_request_id(b"a" * SIZE)
    Introduction(b"peer", b"http", 80, b"lb", trusted=True).fields(forwarded, b"id")
    assert process_time() - begin < BOUND

"""Others read HTTP too: what we accept they accept, and they understand the same."""

from __future__ import annotations

from typing import Any

import h11
import httptools
from hypothesis import given
from hypothesis import strategies as st

from lbservice.wire.body import LAST_CHUNK, ChunkedBody, chunk
from lbservice.wire.h1 import encode_request, parse_request
from lbservice.wire.message import CHUNKED, NO_BODY
from tests.wire.build import MAX_FIELDS, MAX_LINE, STEADY, TCHARS, head, some_of, values

METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"])
TARGETS = some_of(bytes(range(0x21, 0x7F)).replace(b"#", b""), 0, 20).map(lambda path: b"/" + path)
OWN = (b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade")
NAMES = some_of(TCHARS).filter(lambda name: name.lower() not in OWN)
FRAMING = st.sampled_from([(), (b"Content-Length: 0",), (b"Content-Length: 12",), (b"Transfer-Encoding: chunked",)])
HEADS = st.tuples(METHODS, TARGETS, st.lists(st.tuples(NAMES, values()), max_size=6), FRAMING)

Head = tuple[bytes, bytes, list[tuple[bytes, bytes]], tuple[bytes, ...]]


def as_bytes(given_head: Head) -> bytes:
    method, target, fields, framing = given_head
    lines = [name + b": " + value if value else name + b":" for name, value in fields]
    return head(method + b" " + target + b" HTTP/1.1", b"Host: a", *lines, *framing)


def what_h11_says(data: bytes) -> tuple[bytes, bytes, int]:
    """Method, target and length, as ours are."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    fields = dict(event.headers)
    length = CHUNKED if b"transfer-encoding" in fields else int(fields.get(b"content-length", NO_BODY))
    return event.method, event.target, length


class Listener:
    """What httptools hears."""

    def __init__(self) -> None:
        self.target = self.body = b""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


@STEADY
@given(HEADS)
def test_h11_understands_what_we_take_and_what_we_send(given_head: Head) -> None:
    data = as_bytes(given_head)
    ours = parse_request(data, MAX_LINE, MAX_FIELDS)
    understood = (ours.method, ours.target, ours.length)
    assert what_h11_says(data) == understood
    assert what_h11_says(encode_request(ours, b"a", b"Via: 1.1 lb\r\n")) == understood


@STEADY
@given(HEADS, st.lists(st.binary(min_size=1, max_size=30), max_size=5))
def test_llhttp_reads_the_body_that_we_send(given_head: Head, pieces: list[bytes]) -> None:
    ours = parse_request(as_bytes(given_head), MAX_LINE, MAX_FIELDS)
    body = b"".join(pieces)
    if ours.length == CHUNKED:
        sent = b"".join(map(chunk, pieces)) + LAST_CHUNK
    else:
        body = body.ljust(ours.length, b".")[: ours.length]
        sent = body
    listener = Listener()
    parser: Any = httptools.HttpRequestParser(listener)
    parser.feed_data(encode_request(ours, b"a", b"") + sent)
    assert (listener.target, listener.body, listener.complete) == (ours.target, body, True)
    assert parser.get_method() == ours.method


@STEADY
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.booleans()), max_size=5))
def test_h11_finds_the_same_payload_in_chunks(pieces: list[tuple[bytes, bool]]) -> None:
    sizes = [b"%X" % len(data) if upper else b"%04x;a=b" % len(data) for data, upper in pieces]
    sent = b"".join(size + b"\r\n" + data + b"\r\n" for size, (data, _) in zip(sizes, pieces, strict=True)) + LAST_CHUNK
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked") + sent)
    theirs = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        theirs += bytes(event.data) if isinstance(event, h11.Data) else b""
    body = ChunkedBody()
    assert body.feed(sent) == theirs
    assert body.done

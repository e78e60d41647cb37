"""The codec's fast path: what it reads, the general path reads the same, and what it writes too."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbservice.wire import h1
from lbservice.wire.forwarded import Introduction
from lbservice.wire.h1 import BadMessage, encode_request, encode_response, parse_request, parse_response
from lbservice.wire.message import RequestHead, ResponseHead
from tests.wire.build import MAX_FIELDS, MAX_LINE, STEADY, head

MANY = settings(STEADY, max_examples=500)
LB = Introduction(b"10.0.0.1", b"http", 80, b"lb", trusted=False)

LINES = st.sampled_from(
    [
        *(
            b"Host: a",
            b"host: b:80",
            b"HOST: c",
            b"Host: a b",
            b"Host:",
            b"Connection: keep-alive",
            b"connection: Keep-Alive",
        ),
        *(b"Connection: close", b"Connection: x", b"Content-Length: 3", b"content-length: 0", b"Content-Length: 03"),
        *(
            b"Transfer-Encoding: chunked",
            b"TE: trailers",
            b"Te:x",
            b"Keep-Alive: 5",
            b"Proxy: x",
            b"Expect: 100-continue",
        ),
        *(b"Via: 1.1 x", b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Forth: x", b"X-Request-ID: y", b"X-Real-IP: z"),
        *(
            b"A: b",
            b"A:b",
            b"A: b ",
            b"A:",
            b"A_B: c",
            b"Hostess: x",
            b"Contents: x",
            b"Date: today",
            b"date: x",
            b"Update: x",
        ),
        *(b"Set-Cookie: a=b", b"Cookie: \xe4", b" folded", b"A : b", b"A: \x00", b": x", b"Upgrade: x", b"Upgraded: x"),
    ]
)
REQUEST_LINES = st.sampled_from(
    [
        *(b"GET / HTTP/1.1", b"HEAD /a?b=c HTTP/1.1", b"POST / HTTP/1.1", b"GET / HTTP/1.0", b"GET http://a/ HTTP/1.1"),
        *(b"GET  / HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET /# HTTP/1.1", b'GET /"\\ HTTP/1.1', b"get / HTTP/1.1"),
    ]
)
STATUS_LINES = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified"),
        *(b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 x", b"HTTP/1.1 700 x"),
    ]
)


def asked(data: bytes) -> RequestHead | int:
    try:
        return parse_request(data, MAX_LINE, MAX_FIELDS)
    except BadMessage as bad:
        return bad.status


def answered(data: bytes, to_head: bool) -> ResponseHead | int:
    try:
        return parse_response(data, 200, to_head)
    except BadMessage as bad:
        return bad.status


@MANY
@given(REQUEST_LINES, st.lists(LINES, max_size=6), st.booleans())
def test_requests_are_read_and_written_alike(line: bytes, fields: list[bytes], with_host: bool) -> None:
    data = head(line, *([b"Host: a"] if with_host else []), *fields)
    fast = asked(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(h1, "MEMORABLE", 0)
        general = asked(data)
    assert fast == general
    if isinstance(fast, RequestHead) and fast.usual is not None and isinstance(general, RequestHead):
        assert general.usual is None
        assert general.host is not None
        written = line + LB.usual(fast.usual) + b"id-1\r\n\r\n"
        assert written == encode_request(general, general.host, LB.fields(general, b"id-1"))


@MANY
@given(STATUS_LINES, st.lists(LINES, max_size=6), st.booleans(), st.booleans())
def test_responses_are_read_and_written_alike(
    line: bytes, fields: list[bytes], with_length: bool, to_head: bool
) -> None:
    data = head(line, *fields, *([b"Content-Length: 3"] if with_length else []))
    fast = answered(data, to_head)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(h1, "MEMORABLE", 0)
        general = answered(data, to_head)
    assert fast == general
    if isinstance(fast, ResponseHead) and fast.encoded and isinstance(general, ResponseHead):
        framing = b"Content-Length: %d\r\n" % (general.content_length or 0)
        assert fast.encoded + b"id-1\r\n\r\n" == encode_response(general, framing, b"X-Request-ID: id-1\r\n")
        assert h1.is_dated(general)


def test_usual_ones_do_go_the_fast_way() -> None:
    browser = head(b"GET /a HTTP/1.1", b"Host: a", b"Accept: */*", b"Cookie: a=b", b"Connection: keep-alive")
    request = asked(browser)
    assert isinstance(request, RequestHead)
    assert request.usual is not None
    nginx = head(b"HTTP/1.1 200 OK", b"Server: nginx", b"Date: x", b"Content-Length: 3", b"Connection: keep-alive")
    response = answered(nginx, False)
    assert isinstance(response, ResponseHead)
    assert response.encoded

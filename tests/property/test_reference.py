"""The judge itself: what it must see in rows that anybody can check against the RFCs."""

from __future__ import annotations

import pytest

from tests.property.reference import read_requests, read_responses
from tests.property.seeds import INTERESTING, REQUESTS

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("request_bytes", REQUESTS)
def test_good_requests_are_one_each(request_bytes: bytes) -> None:
    reading = read_requests(request_bytes)
    assert (len(reading.messages), reading.end, reading.why) == (1, len(request_bytes), "")
    for size in range(len(request_bytes)):
        assert read_requests(request_bytes[:size]).messages == []


@pytest.mark.parametrize("request_bytes", INTERESTING)
def test_odd_requests_are_no_good_ones(request_bytes: bytes) -> None:
    reading = read_requests(request_bytes)
    if b"gzip, chunked" in request_bytes or b"http://b/" in request_bytes or b"CONNECT" in request_bytes:
        assert reading.why == ""  # the RFCs let them be; we do not take them
    else:
        assert reading.messages == [] or reading.why not in ("", "cut")


@pytest.mark.parametrize(
    ("data", "bodies", "why"),
    [
        (GET + GET, [b"", b""], ""),
        (GET + GET[:5], [b""], "cut"),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + GET, [b"abc", b""], ""),
        (CHUNKED + b"3\r\nabc\r\n", [], "cut"),
        (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", [], "no CRLF after a chunk"),
        (GET.replace(b"Host", b"Connection: close\r\nHost") + GET, [b""], "after the end"),
    ],
)
def test_requests_are_cut_where_they_end(data: bytes, bodies: list[bytes], why: str) -> None:
    reading = read_requests(data)
    assert ([each.body for each in reading.messages], reading.why) == (bodies, why)


@pytest.mark.parametrize(
    ("data", "methods", "finished", "found", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nabc", [b"GET"], True, [(200, b"abc")], ""),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", [b"GET"], False, [], "cut"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", [b"GET"], True, [], "cut"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", [b"GET"], True, [(200, b"abc")], "after the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", [b"HEAD"], False, [(200, b"")], ""),
        (b"HTTP/1.1 103 H\r\n\r\nHTTP/1.1 304 N\r\n\r\n", [b"GET"], False, [(103, b""), (304, b"")], ""),
    ],
)
def test_responses_are_cut_where_they_end(
    data: bytes, methods: list[bytes], finished: bool, found: list[tuple[int, bytes]], why: str
) -> None:
    reading = read_responses(data, methods, finished=finished)
    assert ([(each.status, each.body) for each in reading.messages], reading.why) == (found, why)

"""Requests and responses to begin with, and what may be done to their bytes."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.wire.build import TCHARS, some_of, values

CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"


def _request(*lines: bytes, body: bytes = b"", line: bytes = b"GET /a HTTP/1.1", host: bytes = b"Host: a") -> bytes:
    return b"\r\n".join((line, *((host,) if host else ()), *lines, b"", body))


def _post(*lines: bytes, body: bytes = b"", line: bytes = b"POST /p HTTP/1.1") -> bytes:
    return _request(*lines, body=body, line=line)


_INNER = b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
"""What must stay a body."""

VALID: dict[str, tuple[bytes, ...]] = {
    "content length": (
        _post(b"Content-Length: 0"),
        _post(b"Content-Length: 3", body=b"abc"),
        _post(b"Content-Length: 0003", body=b"abc"),
        _post(b"content-length:3", body=b"abc"),
        _post(b"Content-Length: \t3 \t", body=b"abc"),
        _post(b"Content-Length: %d" % len(_INNER), body=_INNER),
        _request(b"Content-Length: %d" % len(_INNER), body=_INNER),
        _post(b"Content-Length: 5", body=b"0\r\n\r\n"),
    ),
    "transfer coding": (
        _post(b"Transfer-Encoding: chunked", body=CHUNKS),
        _post(b"transfer-encoding:\tCHUNKED", body=CHUNKS),
        _request(b"Transfer-Encoding: chunked", body=CHUNKS),
        _post(b"Transfer-Encoding: chunked", b"TE: trailers", b"Connection: TE", body=CHUNKS),
    ),
    "chunks": (
        _post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        _post(b"Transfer-Encoding: chunked", body=b"003\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\n"),
        _post(b"Transfer-Encoding: chunked", body=b'3;a=b;c;d="e;\\"f"\r\nabc\r\n0 ;x=y\r\n\r\n'),
        _post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\nA: b\r\nContent-Length: 9\r\nX:\r\n\r\n"),
        _post(b"Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(_INNER), _INNER)),
        _post(b"Transfer-Encoding: chunked", body=b"5\r\n0\r\n\r\n\r\n2\r\n\r\n\r\n0\r\n\r\n"),
    ),
    "request line": (
        _request(),
        _request(line=b"OPTIONS * HTTP/1.1"),
        _request(line=b"M-SEARCH /%7Ea;b=c/?q=%20#"[:-1] + b" HTTP/1.1"),
        _request(line=b"GET http://a/b?c HTTP/1.1"),
        _request(line=b"GET http://a?c/d HTTP/1.1"),
        _request(line=b"OPTIONS HTTP://A HTTP/1.1"),
        _request(line=b"GET //b/../c HTTP/1.1"),
        _request(line=b"HEAD /h HTTP/1.1"),
        _request(line=b"TRACE /t HTTP/1.1"),
        b"\r\n\r\n" + _request(),
    ),
    "host": (
        _request(host=b"Host: a.example:8080"),
        _request(host=b"Host: [2001:db8::1]:80"),
        _request(host=b"hOST:127.0.0.1"),
        _request(line=b"GET /old HTTP/1.0", host=b"") + b"",
        _request(b"Connection: keep-alive", line=b"GET /old HTTP/1.0"),
    ),
    "connection": (
        _request(b"Connection: close"),
        _request(b"Connection: keep-alive, X-Mine", b"X-Mine: 1", b"X-Other: 2"),
        _request(b"Connection: , foo ,,bar,", b"Foo: 1", b"BAR: 2", b"Keep-Alive: timeout=5"),
        _post(b"Connection: content-length, host", b"Content-Length: 3", body=b"abc"),
        _post(b"Connection: transfer-encoding", b"Transfer-Encoding: chunked", body=CHUNKS),
    ),
    "upgrade": (
        _request(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x"),
        _request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        _post(b"Connection: upgrade", b"Upgrade: echo/1, x", b"Content-Length: 3", body=b"abc"),
    ),
    "expect": (
        _post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"),
        _post(b"expect: 100-CONTINUE", b"Transfer-Encoding: chunked", body=CHUNKS),
        _request(b"Expect: 100-continue"),
    ),
    "fields": (
        _request(b"A:", b"B: \t", b"C:c", b"D:  d e\t", b"E: \xe9\xff", b"!#$%&'*+-.^`|~: :"),
        _request(b"X_Forwarded_For: 1", b"Content_Range: 5", b"X-Forwarded-For: 6.6.6.6", b"Proxy: x"),
        _request(b"X-Request-ID: mine", b"Via: 1.0 x", b"Via: 1.1 y", b"Forwarded: for=x"),
        _request(b"Cookie: " + b"c" * 900, b"Trailer: A"),
    ),
}
REQUESTS = [request for family in VALID.values() for request in family]

INTERESTING = [
    _post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"),
    _post(b"Content-Length: 3, 3", body=b"abc"),
    _post(b"Content-Length: +3", body=b"abc"),
    _post(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=CHUNKS),
    _post(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=CHUNKS),
    _post(b"Transfer-Encoding: gzip, chunked", body=CHUNKS),
    _post(b"Transfer-Encoding: chunked, identity", body=CHUNKS),
    _post(b"Transfer-Encoding: xchunked", body=CHUNKS),
    _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=CHUNKS),
    _post(b"Transfer-Encoding: chunked", body=CHUNKS, line=b"POST /p HTTP/1.0"),
    _post(b"Transfer-Encoding : chunked", body=CHUNKS),
    _post(b"X: y\r\n folded", b"Content-Length: 3", body=b"abc"),
    _post(b"X: y\nTransfer-Encoding: chunked", body=CHUNKS),
    _post(b"X: y\rTransfer-Encoding: chunked", b"Content-Length: 3", body=b"abc"),
    _post(b"Transfer-Encoding: chunked", body=b"0x3\r\nabc\r\n0\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked", body=b"-1\r\nabc\r\n0\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked", body=b"3\r\nabcd\r\n0\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked", body=b"3\r\nabc..0\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked", body=b"3..abc\r\n0\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked", body=b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked", body=b"3;\nabc\r\n0\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked", body=b"0\r\nContent-Length: 5\r\n : x\r\n\r\n"),
    _request(line=b"GET /a HTTP/1.1 HTTP/1.1"),
    _request(line=b"GET /a HTTP/2.0"),
    _request(line=b"GET /a"),
    _request(line=b"GET http://b/ HTTP/1.1"),
    _request(line=b"GET a:80 HTTP/1.1"),
    _request(line=b"CONNECT a:80 HTTP/1.1"),
    _request(b"Host: b"),
    _request(host=b"Host: a, b"),
    _request(host=b"Host: a@b"),
    _request(host=b""),
]

SWITCHING = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello"
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding:CHUNKED\r\nA: b\r\n\r\n2;x=y\r\nhe\r\n03\r\nllo\r\n00\r\nT: u\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nConnection: X-Mine\r\nX-Mine: 1\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0000000000005\r\nA:\r\nB: \xff \xe9\r\n\r\nhello",
    SWITCHING,
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
]
UNTIL_CLOSE = [
    b"HTTP/1.1 200 OK\r\n\r\nhello",
    b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
]
TO_HEAD = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
]

PIECES = [
    b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"=", b'"', b"\\",
    b"\x0b", b"\x0c", b"\x1f", b"\x7f", b"\x80", b"\x85", b"\xa0", b"\xff", b"#", b"_", b"+", b"-", b"0x", b"0", b"1",
    b"9", b"f", b"  ", b"\r\n ", b"\r\n\t", b"0\r\n\r\n", b"\r\n0\r\n\r\n", b"chunked", b"identity", b", chunked",
    b"\r\nContent-Length: 3", b"\r\nContent-Length: 0", b"\r\nTransfer-Encoding: chunked", b"\r\nHost: b",
    b"\r\nConnection: close", b"\r\nConnection: content-length", b"\r\nX: y", b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HTTP/1.1", b"HTTP/1.0", b" HTTP/1.1\r\n", b"%0d%0a", b"99999999999999999999", b"ffffffffffffffff",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: st.SearchStrategy[bytes], most: int = 3) -> bytes:
    """Bytes of `seeds`, changed in at most `most` places."""
    data = draw(seeds)
    for _ in range(draw(st.integers(0, most))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(("insert", "flip", "delete", "double", "cut", "case", "number", "splice", "swap")))
        size = draw(st.sampled_from((1, 1, 2, 3, 8, 40)))
        if kind == "insert":
            data = data[:at] + draw(st.sampled_from(PIECES)) + data[at:]
        elif kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
        elif kind == "swap":
            data = data[:at] + draw(st.sampled_from(PIECES)) + data[at + size :]
        elif kind == "delete":
            data = data[:at] + data[at + size :]
        elif kind == "double":
            data = data[: at + size] + data[at:]
        elif kind == "cut":
            data = data[:at]
        elif kind == "case":
            data = data[:at] + data[at : at + size].swapcase() + data[at + size :]
        elif kind == "number":
            digits = [place for place in range(len(data)) if data[place : place + 1].isdigit()]
            if digits:
                place = digits[at % len(digits)]
                data = data[:place] + b"%d" % draw(st.integers(0, 12)) + data[place + 1 :]
        elif kind == "splice":
            other = draw(seeds)
            data = data[:at] + other[draw(st.integers(0, len(other))) :]
    return data


def cut_up(data: bytes, most: int = 6) -> st.SearchStrategy[list[bytes]]:
    """The same bytes in pieces."""
    places = st.lists(st.integers(0, len(data)), max_size=most).map(sorted)
    return places.map(lambda cuts: [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b])


_OWN = (b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade")
_METHODS = st.sampled_from((b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"))
_PATHS = some_of(bytes(range(0x21, 0x7F)).replace(b"#", b""), 0, 20).map(lambda path: b"/" + path)
_FIELDS = st.lists(st.tuples(some_of(TCHARS).filter(lambda name: name.lower() not in _OWN), values()), max_size=6)
_FRAMINGS = st.one_of(
    st.just((b"", b"")),
    st.binary(max_size=30).map(lambda body: (b"Content-Length: %d\r\n" % len(body), body)),
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from((b"%x", b"%04X;a=b"))), max_size=4).map(
        lambda chunks: (
            b"Transfer-Encoding: chunked\r\n",
            b"".join(size % len(data) + b"\r\n" + data + b"\r\n" for data, size in chunks) + b"0\r\n\r\n",
        )
    ),
)


@st.composite
def made_up(draw: st.DrawFn) -> bytes:
    """A valid request of any characters that it may have."""
    framing, body = draw(_FRAMINGS)
    fields = b"".join(name + b": " + value + b"\r\n" for name, value in draw(_FIELDS))
    return b"%b %b HTTP/1.1\r\nHost: a\r\n%b%b\r\n%b" % (draw(_METHODS), draw(_PATHS), fields, framing, body)


def pipelines(least: int = 1, most: int = 4) -> st.SearchStrategy[bytes]:
    """Valid requests, one behind the other."""
    return st.lists(st.one_of(st.sampled_from(REQUESTS), made_up()), min_size=least, max_size=most).map(b"".join)


anything = st.lists(st.sampled_from([*REQUESTS, *INTERESTING]), min_size=1, max_size=3).map(b"".join)

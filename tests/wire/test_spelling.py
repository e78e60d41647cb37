"""However legally a head is spelled, it means the same; and what goes out can be read by anybody, first by us."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from lbservice.wire.h1 import BadMessage, encode_request, encode_response, parse_request, parse_response
from lbservice.wire.message import CHUNKED
from tests.wire.build import MAX_FIELDS, MAX_LINE, STEADY, TCHARS, changed, head, request, response, some_of, values

SPECIAL = [
    (b"Host", st.sampled_from([b"a", b"example.com:80", b"", b"b c"])),
    (b"Content-Length", st.sampled_from([b"0", b"5", b"007", b"-1", b"5, 5"])),
    (b"Transfer-Encoding", st.sampled_from([b"chunked", b"Chunked", b"gzip"])),
    (b"Connection", st.sampled_from([b"close", b"keep-alive, x-a", b"upgrade", b"a b", b",x-b ,"])),
    (b"Upgrade", st.sampled_from([b"websocket", b"h2c, x"])),
    (b"Expect", st.sampled_from([b"100-continue", b"x"])),
    (b"X-Forwarded-For", values()),
    (b"Via", values()),
    (b"X-Request-ID", values()),
    (b"X_Y", values()),
    (b"X-A", values()),
    (b"x-b", values()),
]
FIELDS = st.lists(
    st.one_of(*[st.tuples(st.just(name), value) for name, value in SPECIAL], st.tuples(some_of(TCHARS), values())),
    max_size=8,
)
SPACES = st.sampled_from([b"", b" ", b"  ", b"\t", b" \t "])


def spelled(name: bytes, value: bytes, before: bytes, after: bytes, upper: bool) -> bytes:
    return (name.upper() if upper else name) + b":" + before + value + after


def canonical(name: bytes, value: bytes, upper: bool) -> bytes:
    return (name.upper() if upper else name) + (b": " + value if value else b":")


@STEADY
@given(FIELDS, st.data(), st.sampled_from([b"1.0", b"1.1"]))
def test_a_request_is_the_same_in_every_legal_spelling(
    fields: list[tuple[bytes, bytes]], data: st.DataObject, version: bytes
) -> None:
    styles = data.draw(st.lists(st.tuples(SPACES, SPACES, st.booleans()), min_size=len(fields), max_size=len(fields)))
    odd = [spelled(name, value, *style) for (name, value), style in zip(fields, styles, strict=True)]
    plain = [canonical(name, value, style[2]) for (name, value), style in zip(fields, styles, strict=True)]
    outcomes: list[object] = []
    for lines in (odd, plain):
        try:
            outcomes.append(parse_request(head(b"GET / HTTP/" + version, *lines), MAX_LINE, MAX_FIELDS))
        except BadMessage as bad:
            outcomes.append((bad.status, bad.why))
    assert outcomes[0] == outcomes[1]


@STEADY
@given(FIELDS, st.data(), st.sampled_from([101, 200, 204, 304]), st.booleans())
def test_a_response_too(fields: list[tuple[bytes, bytes]], data: st.DataObject, status: int, to_head: bool) -> None:
    outcomes: list[object] = []
    odd = [spelled(name, value, data.draw(SPACES), data.draw(SPACES), False) for name, value in fields]
    plain = [canonical(name, value, False) for name, value in fields]
    for lines in (odd, plain):
        try:
            outcomes.append(parse_response(head(b"HTTP/1.1 %d x" % status, *lines), 200, to_head=to_head))
        except BadMessage as bad:
            outcomes.append((bad.status, bad.why))
    assert outcomes[0] == outcomes[1]


class TestEncoding:
    def test_a_request_goes_out_with_our_framing_and_our_fields_last(self) -> None:
        got = request(b"Connection: close", b"Content-Length: 05", b"A:b", line=b"POST http://a/x HTTP/1.1")
        assert encode_request(got, b"a", b"Via: 1.1 lb\r\n") == head(
            b"POST /x HTTP/1.1", b"Host: a", b"A: b", b"Via: 1.1 lb", b"Content-Length: 5"
        )

    def test_an_http_1_0_request_goes_out_as_1_1_with_the_host_it_is_given(self) -> None:
        got = request(line=b"GET / HTTP/1.0", host=None)
        assert encode_request(got, b"127.0.0.1:9001", b"") == head(b"GET / HTTP/1.1", b"Host: 127.0.0.1:9001")

    def test_a_length_of_nothing_is_said_if_it_was_said(self) -> None:
        assert b"Content-Length: 0\r\n" in encode_request(request(b"Content-Length: 0"), b"a", b"")
        assert b"Content-Length" not in encode_request(request(), b"a", b"")

    def test_chunks_stay_chunks(self) -> None:
        got = request(b"Transfer-Encoding: CHUNKED", line=b"POST / HTTP/1.1")
        assert encode_request(got, b"a", b"") == head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked")

    def test_a_response_goes_out_as_1_1_with_the_framing_it_is_given(self) -> None:
        got = response(b"A:b", b"Content-Length: 3", line=b"HTTP/1.0 404 Nothing here")
        assert encode_response(got, b"Content-Length: 3\r\n", b"X: y\r\n") == head(
            b"HTTP/1.1 404 Nothing here", b"A: b", b"Content-Length: 3", b"X: y"
        )

    def test_a_response_without_a_reason_keeps_the_space_before_it(self) -> None:
        assert encode_response(response(line=b"HTTP/1.1 200"), b"", b"") == b"HTTP/1.1 200 \r\n\r\n"

    @STEADY
    @given(FIELDS)
    def test_what_a_server_gets_means_to_it_what_the_client_meant(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Parsed again, only what belongs to one hop has changed."""
        try:
            first = request(*[canonical(name, value, False) for name, value in fields if name != b"Host"])
        except BadMessage:
            assume(False)
        assert first.host is not None
        second = parse_request(encode_request(first, first.host, b""), MAX_LINE, MAX_FIELDS)
        hop = changed(first, persistent=True, upgrade=None, forwarded=b"", via=None, request_id=None)
        assert second == hop

    @STEADY
    @given(FIELDS, st.sampled_from([200, 404]))
    def test_what_a_client_gets_too(self, fields: list[tuple[bytes, bytes]], status: int) -> None:
        lines = [canonical(name, value, False) for name, value in fields]
        try:
            first = parse_response(head(b"HTTP/1.1 %d x" % status, *lines), 200)
        except BadMessage:
            assume(False)
        framing = b"Transfer-Encoding: chunked\r\n" if first.length == CHUNKED else b""
        if first.content_length is not None:
            framing = b"Content-Length: %d\r\n" % first.content_length
        second = parse_response(encode_response(first, framing, b""), 200)
        assert second == changed(first, persistent=second.persistent, upgrade=None)

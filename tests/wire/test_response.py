"""Response heads: where their bodies end, and what is not passed on."""

from __future__ import annotations

import pytest

from lbservice.wire.h1 import BadMessage, parse_response
from lbservice.wire.message import CHUNKED, NO_BODY, UNTIL_CLOSE
from tests.wire.build import head, response, response_refused


class TestStatusLine:
    def test_a_plain_response_is_understood(self) -> None:
        ok = response(b"Server: x", b"Content-Length: 5", b"ETag: y", line=b"HTTP/1.1 200 All right")
        assert (ok.status, ok.reason, ok.minor) == (200, b" All right", 1)
        assert ok.fields == b"Server: x\r\nETag: y\r\n"
        assert (ok.length, ok.content_length, ok.persistent, ok.upgrade) == (5, 5, True, None)

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"HTTP/1.1 200 OK", b" OK"),
            (b"HTTP/1.1 200 ", b" "),
            (b"HTTP/1.1 200", b" "),
            (b"HTTP/1.1 200  a\tb", b"  a\tb"),
            (b"HTTP/1.1 200 \xc3\xa4", b" \xc3\xa4"),
        ],
    )
    def test_the_reason_is_what_it_is(self, line: bytes, reason: bytes) -> None:
        assert response(line=line).reason == reason

    @pytest.mark.parametrize("status", [100, 199, 200, 299, 404, 599, 600, 999])
    def test_any_three_digits_from_100_on_are_a_status(self, status: int) -> None:
        assert response(line=b"HTTP/1.1 %d x" % status).status == status

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"HTTP/1.1",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 099 x",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 -20 x",
            b"HTTP/1.1\t200 OK",
            b" HTTP/1.1 200 OK",
            b"http/1.1 200 OK",
            b"HTTP/2.0 200 OK",
            b"HTTP/1.2 200 OK",
            b"ICY 200 OK",
            b"HTTP/1.1 200 O\x00K",
            b"HTTP/1.1 200 O\rK",
            b"HTTP/1.1 200 O\nK",
            b"HTTP/1.1 2OO OK",
            b"HTTP/1.1 200\tOK",
            b"HTTP/1.1 \xb2\xb2\xb2 OK",
            b"HTTP/1.1 200 \x7f",
        ],
    )
    def test_what_is_no_status_line_is_refused(self, line: bytes) -> None:
        assert response_refused(line=line)


class TestWhereTheBodyEnds:
    """The rules of RFC 9112 section 6.3, in their order."""

    @pytest.mark.parametrize("status", [200, 201, 206, 301, 404, 500, 205, 600])
    def test_by_content_length(self, status: int) -> None:
        got = response(b"Content-Length: 7", line=b"HTTP/1.1 %d x" % status)
        assert (got.length, got.content_length, got.persistent) == (7, 7, True)

    def test_by_chunks(self) -> None:
        got = response(b"Transfer-Encoding: Chunked")
        assert (got.length, got.content_length, got.persistent) == (CHUNKED, None, True)
        assert got.fields == b""

    def test_otherwise_by_the_end_of_the_connection(self) -> None:
        got = response(b"Connection: keep-alive")
        assert (got.length, got.persistent) == (UNTIL_CLOSE, False)

    def test_an_empty_body_is_a_length_too(self) -> None:
        got = response(b"Content-Length: 0")
        assert (got.length, got.content_length, got.persistent) == (NO_BODY, 0, True)

    @pytest.mark.parametrize(
        ("framing", "content_length"),
        [(b"Content-Length: 7", 7), (b"Transfer-Encoding: chunked", None), (b"X: y", None)],
    )
    @pytest.mark.parametrize(("line", "to_head"), [(b"HTTP/1.1 200 OK", True), (b"HTTP/1.1 304 x", False)])
    def test_an_answer_to_head_and_304_have_none_whatever_the_fields_say(
        self, framing: bytes, content_length: int | None, line: bytes, to_head: bool
    ) -> None:
        got = response(framing, line=line, to_head=to_head)
        assert (got.length, got.content_length, got.persistent) == (NO_BODY, content_length, True)

    @pytest.mark.parametrize("status", [100, 101, 103, 199, 204])
    def test_1xx_and_204_have_none(self, status: int) -> None:
        got = response(line=b"HTTP/1.1 %d x" % status)
        assert (got.length, got.content_length, got.persistent) == (NO_BODY, None, True)

    @pytest.mark.parametrize("framing", [b"Content-Length: 7", b"Transfer-Encoding: chunked"])
    @pytest.mark.parametrize("status", [101, 103, 204])
    def test_one_of_these_that_claims_a_body_is_not_trusted_any_further(self, status: int, framing: bytes) -> None:
        got = response(framing, line=b"HTTP/1.1 %d x" % status)
        assert (got.length, got.content_length, got.persistent) == (NO_BODY, None, False)

    def test_204_with_a_length_of_nothing_is_forgiven(self) -> None:
        got = response(b"Content-Length: 0", line=b"HTTP/1.1 204 x")
        assert (got.length, got.content_length, got.persistent) == (NO_BODY, None, True)

    @pytest.mark.parametrize(
        "fields",
        [
            [b"Content-Length: 5", b"Content-Length: 5"],
            [b"Content-Length: 5", b"content-length: 6"],
            [b"Content-Length: 5, 5"],
            [b"Content-Length: +5"],
            [b"Content-Length:"],
            [b"Content-Length: " + b"1" * 19],
            [b"Transfer-Encoding: gzip, chunked"],
            [b"Transfer-Encoding: gzip"],
            [b"Transfer-Encoding: chunked, chunked"],
            [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding:"],
            [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
            [b"Content-Length: 0", b"Transfer-Encoding: chunked"],
        ],
    )
    @pytest.mark.parametrize("to_head", [False, True])
    def test_contradictions_are_refused_whatever_was_asked(self, fields: list[bytes], to_head: bool) -> None:
        assert response_refused(*fields, to_head=to_head)

    def test_chunks_in_http_1_0_are_refused(self) -> None:
        assert response_refused(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK")


class TestConnection:
    @pytest.mark.parametrize(
        ("version", "fields", "persistent"),
        [
            (b"1.1", [], True),
            (b"1.1", [b"Connection: close"], False),
            (b"1.1", [b"connection: Keep-Alive, CLOSE"], False),
            (b"1.1", [b"Connection: keep-alive", b"Connection: close"], False),
            (b"1.1", [b"Connection: x"], True),
            (b"1.0", [], False),
            (b"1.0", [b"Connection: keep-alive"], True),
            (b"1.0", [b"Connection: keep-alive, close"], False),
        ],
    )
    def test_whether_another_exchange_may_follow(self, version: bytes, fields: list[bytes], persistent: bool) -> None:
        got = response(b"Content-Length: 0", *fields, line=b"HTTP/" + version + b" 200 OK")
        assert got.persistent == persistent
        assert got.fields == b""

    def test_hop_by_hop_fields_stay_here_named_or_not(self) -> None:
        got = response(
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: x",
            b"TE: x",
            b"Trailer: X",
            b"X-Hop: 1",
            b"Connection: X-Hop",
            b"A: b",
        )
        assert got.fields == b"A: b\r\n"

    @pytest.mark.parametrize(
        "options", [[b"close, x-hop"], [b"x-hop, close"], [b"X-HOP"], [b"close", b"x-hop"], [b",x-hop,"]]
    )
    def test_named_fields_go_also_beside_close(self, options: list[bytes]) -> None:
        lines = [b"Connection: " + option for option in options]
        assert response(b"X-Hop: 1", *lines, b"X-Hopper: 2", b"x-hop:").fields == b"X-Hopper: 2\r\n"

    def test_a_bad_list_of_options_is_refused(self) -> None:
        assert response_refused(b"Connection: a b")

    def test_the_request_id_of_a_server_gives_way_to_ours(self) -> None:
        assert response(b"X-Request-ID: theirs", b"A: b").fields == b"A: b\r\n"

    def test_switching_protocols_names_the_new_one(self) -> None:
        got = response(b"Upgrade: websocket", b"Connection: Upgrade", b"A: b", line=b"HTTP/1.1 101 Switching")
        assert (got.status, got.upgrade, got.fields) == (101, b"websocket", b"A: b\r\n")


class TestFieldLines:
    @pytest.mark.parametrize(
        "line",
        [
            b"X",
            b": v",
            b"X : v",
            b" X: v",
            b"\tfold",
            b"X: a\x00b",
            b"X: a\rb",
            b"X: a\nb",
            b"X\xc3: v",
            b"X: \x7f",
            b"X: a\r",
        ],
    )
    def test_what_is_no_field_line_is_refused(self, line: bytes) -> None:
        assert response_refused(line)
        assert response_refused(b"A: b", line, b"C: d")

    def test_uncommon_spellings_are_legal(self) -> None:
        assert response(b"A:b", b"C: ", b"D:  e \t", b"Content-Length:3 ").fields == b"A: b\r\nC:\r\nD: e\r\n"
        assert response(b"A:b", b"Content-Length:3 ").length == 3

    def test_repeated_fields_and_underscores_go_on(self) -> None:
        fields = [b"Set-Cookie: a=b", b"Set-Cookie: c=d", b"X_Y: z", b"Via: 1.1 x", b"Proxy-Status: y"]
        assert response(*fields).fields == head(*fields)[:-2]

    def test_too_many_are_refused(self) -> None:
        whole = head(b"HTTP/1.1 200 OK", *[b"X: y"] * 3)
        assert parse_response(whole, 3).status == 200
        with pytest.raises(BadMessage, match="502: more than 2 fields"):
            parse_response(whole, 2)

"""Request heads: what is taken as said, and what is refused with which status."""

from __future__ import annotations

import pytest

from lbservice.wire.h1 import BadMessage, parse_request
from lbservice.wire.message import CHUNKED, NO_BODY
from tests.wire.build import MAX_FIELDS, MAX_LINE, TCHARS, VISIBLE, head, refusal, request

CONTROLS = [bytes([code]) for code in (*range(0x20), 0x7F) if code not in (0x09, 0x0A, 0x0D)]


class TestAPlainRequest:
    def test_it_is_understood(self) -> None:
        get = request(b"Accept: */*", b"User-Agent: x", line=b"GET /a?b=c HTTP/1.1", host=b"Host: example.com:8080")
        assert (get.method, get.target, get.minor) == (b"GET", b"/a?b=c", 1)
        assert get.host == b"example.com:8080"
        assert get.fields == b"Accept: */*\r\nUser-Agent: x\r\n"
        assert (get.length, get.has_length) == (NO_BODY, False)
        assert get.persistent
        assert not get.expects_continue
        assert (get.upgrade, get.request_id, get.via, get.forwarded) == (None, None, None, b"")

    def test_fields_go_on_in_their_order_and_spelling(self) -> None:
        fields = [b"X-B: 2", b"x-a: 1", b"X-B: 3", b'COOKIE: a=b; c="d, e"', b"Q: \xff\x80 z"]
        assert request(*fields).fields == head(*fields)[:-2]

    def test_without_further_fields_nothing_is_left(self) -> None:
        assert request().fields == b""

    @pytest.mark.parametrize("method", [b"GET", b"LIST", b"M-SEARCH", b"get", b"!#$%&'*+-.^_`|~0Zz", b"A" * 64])
    def test_any_token_is_a_method(self, method: bytes) -> None:
        assert request(line=method + b" / HTTP/1.1").method == method

    @pytest.mark.parametrize(
        ("method", "idempotent"),
        [
            (b"GET", True),
            (b"HEAD", True),
            (b"PUT", True),
            (b"DELETE", True),
            (b"OPTIONS", True),
            (b"POST", False),
            (b"PATCH", False),
            (b"LIST", False),
            (b"get", False),
        ],
    )
    def test_only_what_is_known_to_be_idempotent_may_be_repeated(self, method: bytes, idempotent: bool) -> None:
        assert request(line=method + b" / HTTP/1.1").idempotent == idempotent


class TestRequestLine:
    @pytest.mark.parametrize(
        "line",
        [
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b" GET / HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b"GET /a b HTTP/1.1",
            b"GET / HTTP/1.1\t",
            b"GET /",
            b"GET",
            b"",
            b"GET / http/1.1",
            b"GET / HTTP/1",
            b"GET / HTTP/1.10",
            b"GET / HTTP/01.1",
            b"GET / HTTP/ 1.1",
            b"GET / HTTP/1,1",
            b"GET / HTTP/+1.1",
            b"GET / ICY/1.1",
            b"GET HTTP/1.1",
            b"G(T / HTTP/1.1",
            b"G\xc3T / HTTP/1.1",
            b"GET /#fragment HTTP/1.1",
            b"GET /\xc3\xa4 HTTP/1.1",
            b"GET /\x7f HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET /\x0b HTTP/1.1",
            b"GET /\r HTTP/1.1",
            b"GET / HTTP/1.1\x00",
        ],
    )
    def test_what_is_no_request_line_is_refused(self, line: bytes) -> None:
        assert refusal(line=line) == 400

    def test_a_method_longer_than_any_is_not_implemented(self) -> None:
        assert refusal(line=b"A" * 65 + b" / HTTP/1.1") == 501

    @pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3.0", b"9.9"])
    def test_another_version_is_named_as_such(self, version: bytes) -> None:
        assert refusal(line=b"GET / HTTP/" + version) == 505

    def test_the_preface_of_http_2_too(self) -> None:
        with pytest.raises(BadMessage) as caught:
            parse_request(b"PRI * HTTP/2.0\r\n\r\n", MAX_LINE, MAX_FIELDS)
        assert caught.value.status == 505

    @pytest.mark.parametrize(
        "target", [b"/", b"//", b"/?", b"/a?b?c", b"/%2e%2e/", b"/;p=1", b'/"<>\\^`{|}', b"/:a@b", b"/*"]
    )
    def test_a_path_goes_on_as_it_came(self, target: bytes) -> None:
        assert request(line=b"GET " + target + b" HTTP/1.1").target == target

    @pytest.mark.parametrize(
        ("line", "target"),
        [
            (b"GET http://a HTTP/1.1", b"/"),
            (b"GET http://a/ HTTP/1.1", b"/"),
            (b"GET HTTP://A/b?c HTTP/1.1", b"/b?c"),
            (b"GET https://a/b HTTP/1.1", b"/b"),
            (b"GET http://a?q HTTP/1.1", b"/?q"),
            (b"OPTIONS http://a HTTP/1.1", b"*"),
            (b"OPTIONS http://a/ HTTP/1.1", b"/"),
            (b"OPTIONS http://a?q HTTP/1.1", b"/?q"),
            (b"OPTIONS * HTTP/1.1", b"*"),
            (b"TRACE /t HTTP/1.1", b"/t"),
        ],
    )
    def test_other_forms_of_target(self, line: bytes, target: bytes) -> None:
        assert request(line=line).target == target

    @pytest.mark.parametrize(
        "target",
        [
            b"*",
            b"a",
            b"a/b",
            b"?q",
            b"http:/a/",
            b"http:a",
            b"ftp://a/",
            b"ws://a/",
            b"http://",
            b"http:///x",
            b"http://u@a/",
            b"http://a:b@a/",
            b"http://a:x/",
            b"http://b/",
            b"http://a:80/",
            b"http://a\\b/",
            b"://a/",
        ],
    )
    def test_targets_that_lead_nowhere_or_elsewhere_are_refused(self, target: bytes) -> None:
        assert refusal(line=b"GET " + target + b" HTTP/1.1") == 400

    def test_an_absolute_target_that_agrees_with_host_in_all_but_case(self) -> None:
        agreed = request(line=b"GET http://EXAMPLE.com:80/x HTTP/1.1", host=b"Host: example.COM:80")
        assert agreed.host == b"EXAMPLE.com:80"

    @pytest.mark.parametrize("target", [b"a:443", b"/", b"http://a/", b"*"])
    def test_connect_is_not_served(self, target: bytes) -> None:
        assert refusal(line=b"CONNECT " + target + b" HTTP/1.1") == 405

    @pytest.mark.parametrize("framing", [b"Content-Length: 1", b"Transfer-Encoding: chunked"])
    def test_trace_has_no_body(self, framing: bytes) -> None:
        assert refusal(framing, line=b"TRACE / HTTP/1.1") == 400
        assert refusal(b"Content-Length: 0", line=b"TRACE / HTTP/1.1") == 0


class TestHost:
    @pytest.mark.parametrize(
        "host",
        [
            b"a",
            b"example.com",
            b"example.com:80",
            b"a:",
            b"127.0.0.1:1",
            b"[::1]",
            b"[::1]:8080",
            b"a_b",
            b"%41",
            b"a:65535",
            b"[::ffff:192.0.2.1]:0",
        ],
    )
    def test_a_host_may_be(self, host: bytes) -> None:
        assert request(host=b"Host: " + host).host == host

    @pytest.mark.parametrize(
        "host",
        [
            b"",
            b":80",
            b"u@a",
            b"a/b",
            b"a b",
            b"a\tb",
            b"a:b",
            b"a:123456",
            b"a:-1",
            b"::1",
            b"[::1",
            b"::1]",
            b"[]",
            b"[g::]",
            b"a?b",
            b"a#b",
            b"a\\b",
            b'"a"',
            b"%4",
            b"%zz",
            b"a\xc3\xa4",
            b"http://a",
            b"[::1]a",
            b"[::1%eth0]",
            b"[:::]",
            b"[1::2::3]",
            b"[::300.1.1.1]",
            b"a:65536",
            b"a,b",
        ],
    )
    @pytest.mark.parametrize("version", [b"1.0", b"1.1"])
    def test_a_host_may_not_be(self, host: bytes, version: bytes) -> None:
        assert refusal(line=b"GET / HTTP/" + version, host=b"Host: " + host) == 400

    def test_http_1_1_needs_one(self) -> None:
        assert refusal(host=None) == 400
        assert refusal(b"X-Host: a", b"Hos: a", b"Hosts: a", host=None) == 400

    def test_also_when_the_target_names_one(self) -> None:
        """RFC 9112 section 3.2: any HTTP/1.1 request that lacks a Host field is answered with 400."""
        assert refusal(line=b"GET http://a/ HTTP/1.1", host=None) == 400

    def test_http_1_0_does_not(self) -> None:
        assert request(line=b"GET / HTTP/1.0", host=None).host is None
        assert request(line=b"GET http://a/ HTTP/1.0", host=None).host == b"a"

    @pytest.mark.parametrize("second", [b"Host: a", b"host: a", b"HOST: b", b"Host:"])
    def test_two_are_refused_even_if_they_agree(self, second: bytes) -> None:
        assert refusal(second) == 400
        assert refusal(b"X: y", second, line=b"GET / HTTP/1.0") == 400


class TestFraming:
    @pytest.mark.parametrize(
        ("spelling", "length"),
        [(b"0", 0), (b"5", 5), (b"005", 5), (b"1" * 18, int("1" * 18)), (b"0" * 18, 0)],
    )
    def test_a_content_length_may_be(self, spelling: bytes, length: int) -> None:
        post = request(b"Content-Length: " + spelling)
        assert (post.length, post.has_length) == (length, True)
        assert post.fields == b""

    @pytest.mark.parametrize(
        "spelling",
        [
            b"",
            b"-0",
            b"+5",
            b"-5",
            b"5,5",
            b"5, 5",
            b"5 5",
            b"5;",
            b"0x5",
            b"5.0",
            b"5e1",
            b"5_0",
            b"1" * 19,
            b"five",
            b"\xb2",
            b"\xd9\xa5",
            b'"5"',
            b"5\x00",
            b"5\x0b",
            b"0b1",
            b"1,",
        ],
    )
    def test_a_content_length_may_not_be(self, spelling: bytes) -> None:
        assert refusal(b"Content-Length: " + spelling) == 400
        assert refusal(b"Content-Length:" + spelling) == 400
        assert refusal(b"Content-Length: 1", b"Content-Length: " + spelling) == 400

    @pytest.mark.parametrize("name", [b"Content-Length", b"CONTENT-LENGTH", b"content-length"])
    def test_two_are_refused_even_if_they_agree(self, name: bytes) -> None:
        assert refusal(b"Content-Length: 5", name + b": 5") == 400
        assert refusal(b"Content-Length: 5", b"X: y", name + b": 6") == 400

    @pytest.mark.parametrize("spelling", [b"chunked", b"Chunked", b"CHUNKED"])
    def test_chunked_is_the_one_transfer_coding(self, spelling: bytes) -> None:
        post = request(b"transfer-ENCODING: " + spelling)
        assert (post.length, post.has_length, post.fields) == (CHUNKED, False, b"")

    @pytest.mark.parametrize("coding", [b"gzip, chunked", b"x,y , Chunked"])
    def test_another_coding_before_chunked_is_not_implemented(self, coding: bytes) -> None:
        assert refusal(b"Transfer-Encoding: " + coding) == 501
        assert refusal(b"Transfer-Encoding: " + coding, b"Content-Length: 1") == 400

    def test_nor_on_a_line_of_its_own(self) -> None:
        assert refusal(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked") == 501

    @pytest.mark.parametrize(
        "coding",
        [
            b"gzip",
            b"identity",
            b"",
            b"deflate, gzip",
            b"chunked, gzip, chunked",
            b"chunked, gzip",
            b"chunked, chunked",
            b"chunked,",
            b", chunked",
            b"chunked;q=1",
            b"xchunked",
            b"chunkedx",
            b'"chunked"',
            b"chunked chunked",
            b"chunked\x0b",
            b"\x0bchunked",
            b"chunked\x00",
            b"ch\xc3unked,chunked",
        ],
    )
    def test_what_others_may_take_for_chunked_is_refused(self, coding: bytes) -> None:
        assert refusal(b"Transfer-Encoding: " + coding) == 400

    def test_two_transfer_encodings_are_refused(self) -> None:
        assert refusal(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") == 400
        assert refusal(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity") == 400

    @pytest.mark.parametrize("length", [b"0", b"5"])
    def test_both_are_refused_in_either_order(self, length: bytes) -> None:
        fields = [b"Content-Length: " + length, b"Transfer-Encoding: chunked"]
        assert refusal(*fields) == refusal(*reversed(fields)) == 400

    def test_http_1_0_knows_no_transfer_encoding(self) -> None:
        assert refusal(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0") == 400

    @pytest.mark.parametrize(
        "disguise",
        [
            b"Content-Length : 5",
            b"Content-Length\t: 5",
            b" Content-Length: 5",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding\x0b: chunked",
            b"\x0bTransfer-Encoding: chunked",
            b"Transfer-Encoding\x00: chunked",
            b"Content-Length\xa0: 5",
            b"X: y\nContent-Length: 5",
            b"X: y\rContent-Length: 5",
        ],
    )
    def test_a_disguised_framing_field_is_refused(self, disguise: bytes) -> None:
        assert refusal(disguise) == 400
        assert refusal(b"Content-Length: 0", disguise) == 400

    def test_names_that_only_begin_or_end_like_framing_are_other_names(self) -> None:
        fields = [b"Content-Lengths: x", b"X-Content-Length: 7", b"Transfer-Encoding-X: y", b"TE-X: z", b"Hosting: h"]
        got = request(*fields)
        assert (got.length, got.has_length) == (NO_BODY, False)
        assert got.fields == head(*fields)[:-2]


class TestConnection:
    @pytest.mark.parametrize(
        ("version", "fields", "persistent"),
        [
            (b"1.1", [], True),
            (b"1.1", [b"Connection: close"], False),
            (b"1.1", [b"Connection: CLOSE"], False),
            (b"1.1", [b"Connection: keep-alive"], True),
            (b"1.1", [b"Connection: keep-alive, close"], False),
            (b"1.1", [b"Connection: close", b"Connection: keep-alive"], False),
            (b"1.1", [b"Connection: keep-alive", b"Connection: x ,\tclose"], False),
            (b"1.1", [b"Connection: closed"], True),
            (b"1.1", [b"Connection:"], True),
            (b"1.0", [], False),
            (b"1.0", [b"Connection: keep-alive"], True),
            (b"1.0", [b"Connection: Keep-Alive"], True),
            (b"1.0", [b"Connection: keep-alive, close"], False),
            (b"1.0", [b"Keep-Alive: timeout=5"], False),
        ],
    )
    def test_whether_another_request_may_follow(self, version: bytes, fields: list[bytes], persistent: bool) -> None:
        got = request(*fields, line=b"GET / HTTP/" + version)
        assert got.persistent == persistent
        assert got.fields == b""

    def test_fields_that_it_names_stay_here(self) -> None:
        got = request(b"X-Hop: 1", b"X-End: 2", b"Connection: x-HOP, x-other", b"x-hop: 3", b"X-Hopper: 4")
        assert got.fields == b"X-End: 2\r\nX-Hopper: 4\r\n"

    def test_it_may_come_in_several_lines_and_with_empty_members(self) -> None:
        got = request(b"Connection: ,, x-a ,", b"X-A: 1", b"X-B: 2", b"Connection: X-B")
        assert got.fields == b""

    def test_it_cannot_take_away_what_we_need(self) -> None:
        got = request(b"Connection: host, content-length", b"Content-Length: 5")
        assert (got.host, got.length, got.has_length) == (b"a", 5, True)

    @pytest.mark.parametrize("options", [b"a b", b"close;", b"(x)", b'"close"', b"a/b", b"close,\xc3", b"a:b"])
    def test_what_is_no_list_of_tokens_is_refused(self, options: bytes) -> None:
        assert refusal(b"Connection: " + options) == 400

    def test_hop_by_hop_fields_are_dropped_also_unnamed(self) -> None:
        hops = [b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"TE: trailers", b"Trailer: X"]
        assert request(*hops, b"HTTP2-Settings: AAMAAABk", b"Upgrade: websocket", b"X: y").fields == b"X: y\r\n"


class TestUpgrade:
    @pytest.mark.parametrize(
        ("fields", "upgrade"),
        [
            ([b"Upgrade: websocket", b"Connection: Upgrade"], b"websocket"),
            ([b"Connection: keep-alive, UPGRADE", b"upgrade: WebSocket"], b"WebSocket"),
            ([b"Upgrade: websocket, x/1", b"Connection: upgrade"], b"websocket, x/1"),
            ([b"Upgrade: a", b"Upgrade: b", b"Connection: upgrade"], b"a, b"),
            ([b"Upgrade: websocket"], None),
            ([b"Connection: Upgrade"], None),
            ([b"Upgrade:", b"Connection: Upgrade"], None),
            ([b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: x"], None),
            ([b"Upgrade: H2C", b"Connection: Upgrade"], None),
            ([b"Upgrade: h2c, websocket", b"Connection: Upgrade"], b"websocket"),
            ([b"Upgrade: websocket,\th2c-14", b"Connection: Upgrade"], b"websocket"),
        ],
    )
    def test_it_is_asked_for_only_with_both_fields_and_never_for_h2c(
        self, fields: list[bytes], upgrade: bytes | None
    ) -> None:
        got = request(*fields)
        assert got.upgrade == upgrade
        assert got.fields == b""

    def test_http_1_0_cannot_ask(self) -> None:
        fields = [b"Upgrade: websocket", b"Connection: Upgrade"]
        assert request(*fields, line=b"GET / HTTP/1.0").upgrade is None

    @pytest.mark.parametrize("value", [b",", b", ,,", b"h2c, ,", b" , h2c"])
    def test_a_list_of_nothing_asks_for_nothing(self, value: bytes) -> None:
        assert request(b"Upgrade: " + value, b"Connection: Upgrade").upgrade is None

    def test_empty_members_are_left_out(self) -> None:
        assert request(b"Upgrade: , websocket,,", b"Connection: Upgrade").upgrade == b"websocket"


class TestExpect:
    @pytest.mark.parametrize("spelling", [b"100-continue", b"100-Continue"])
    def test_continue_is_expected(self, spelling: bytes) -> None:
        got = request(b"Expect: " + spelling, b"Content-Length: 5")
        assert got.expects_continue
        assert got.fields == b""

    def test_in_http_1_0_it_is_ignored(self) -> None:
        assert not request(b"Expect: 100-continue", line=b"POST / HTTP/1.0").expects_continue

    @pytest.mark.parametrize("value", [b"", b"200-ok", b"100-continue, x", b"100-continue;q=1", b"100"])
    def test_anything_else_cannot_be_met(self, value: bytes) -> None:
        assert refusal(b"Expect: " + value) == 417


class TestFieldLines:
    @pytest.mark.parametrize(
        "line",
        [
            b"X",
            b": v",
            b":",
            b"X : v",
            b"X\t: v",
            b" X: v",
            b"\tX: v",
            b"X Y: v",
            b"(X): v",
            b"X\xc3: v",
            b'"X": v',
            b"X/Y: v",
            b"X[1]: v",
            b"{X}: v",
            b"X@: v",
            b"X=: v",
            b"X,Y: v",
            b"X;: v",
            b"X?: v",
            b"X\\: v",
        ],
    )
    def test_what_has_no_proper_name_is_refused(self, line: bytes) -> None:
        assert refusal(line) == refusal(b"A: b", line, b"C: d") == 400

    @pytest.mark.parametrize("control", CONTROLS)
    def test_control_bytes_are_refused_everywhere(self, control: bytes) -> None:
        for line in (b"X" + control + b": v", b"X: a" + control + b"b", b"X: v" + control, b"X:" + control, control):
            assert refusal(line) == 400
        assert refusal(line=b"GET /" + control + b" HTTP/1.1") == 400
        assert refusal(line=b"GET" + control + b"/ HTTP/1.1") == 400

    @pytest.mark.parametrize(
        "line", [b"X: a\nb", b"X: a\rb", b"X: a\r", b"X: a\n", b"\rX: a", b"X\r: a", b"X:\r", b"\n"]
    )
    def test_bare_cr_and_lf_are_refused(self, line: bytes) -> None:
        assert refusal(line) == 400

    @pytest.mark.parametrize("fold", [b" b", b"\tb", b" ", b"\t", b" b: c", b"  Content-Length: 5"])
    def test_folded_lines_are_refused(self, fold: bytes) -> None:
        assert refusal(b"X: a", fold) == 400
        assert refusal(fold, b"X: a") == 400, "also right behind Host"
        assert refusal(fold, host=None) == 400, "also right behind the request line"

    def test_every_token_character_may_be_in_a_name_and_every_visible_byte_in_a_value(self) -> None:
        names = TCHARS.replace(b"_", b"")
        line = names + b": " + VISIBLE + b" \t" + VISIBLE
        assert request(line).fields == line + b"\r\n"

    @pytest.mark.parametrize("line", [b"X:", b"X: ", b"X: \t ", b"X:\t"])
    def test_a_value_may_be_empty(self, line: bytes) -> None:
        assert request(line).fields == b"X:\r\n"

    @pytest.mark.parametrize("line", [b"X:v  w", b"X:  v  w", b"X: v  w ", b"X:\tv  w\t", b"X: \t v  w \t "])
    def test_space_around_a_value_is_not_part_of_it(self, line: bytes) -> None:
        assert request(line).fields == b"X: v  w\r\n"

    @pytest.mark.parametrize(
        "name",
        [
            b"X_Forwarded_For",
            b"X_Y",
            b"_",
            b"_X",
            b"X_",
            b"HTTP_PROXY",
            b"Content_Lengths",
            b"Host_",
        ],
    )
    def test_names_with_an_underscore_are_dropped(self, name: bytes) -> None:
        got = request(name + b": 1", b"A: b_c", name + b":", b"D_E:f", b"G: h")
        assert got.fields == b"A: b_c\r\nG: h\r\n"
        assert (got.length, got.forwarded, got.host) == (NO_BODY, b"", b"a")

    @pytest.mark.parametrize("name", [b"Content_Length", b"transfer_encoding", b"TRANSFER_Encoding"])
    def test_a_framing_field_with_an_underscore_is_refused(self, name: bytes) -> None:
        assert refusal(name + b": 1") == 400

    def test_an_underscore_elsewhere_does_no_harm_to_its_line(self) -> None:
        fields = [b"Cookie: a_b=c_d", b"X: http://x_y:1/_"]
        got = request(*fields, b"Content-Length: 3", line=b"GET /a_b HTTP/1.1")
        assert got.fields == head(*fields)[:-2]
        assert got.length == 3

    @pytest.mark.parametrize("name", [b"Proxy", b"proxy", b"PROXY"])
    def test_proxy_is_dropped(self, name: bytes) -> None:
        assert request(name + b": http://evil", b"Proxy-Authorization: x").fields == b"Proxy-Authorization: x\r\n"


class TestFieldsForOthersToJudge:
    def test_forwarding_fields_are_set_aside_as_they_came(self) -> None:
        lines = [
            b"X-Forwarded-For: 1.2.3.4",
            b"x-forwarded-proto: https",
            b"X-Forwarded-Host: h",
            b"X-Forwarded-Port: 1",
        ]
        lines += [b"Forwarded: for=1.2.3.4", b"X-Real-IP: 1.2.3.4", b"X-Forwarded-For:"]
        got = request(b"A: b", *lines, b"C: d")
        assert got.fields == b"A: b\r\nC: d\r\n"
        assert got.forwarded == head(*lines)[:-2]

    def test_similar_names_are_nothing_special(self) -> None:
        fields = [b"X-Forwarded: 1", b"X-Forwarded-Forr: 2", b"Xx-Forwarded-For: 3", b"Vias: 4", b"X-Request-IDs: 5"]
        got = request(*fields)
        assert (got.forwarded, got.via, got.request_id) == (b"", None, None)
        assert got.fields == head(*fields)[:-2]

    def test_via_of_several_lines_is_one_list(self) -> None:
        assert request(b"Via: 1.1 a", b"X: y", b"via: 1.0 b").via == b"1.1 a, 1.0 b"

    def test_the_request_id_is_set_aside(self) -> None:
        got = request(b"X-Request-Id: abc", b"X: y")
        assert (got.request_id, got.fields) == (b"abc", b"X: y\r\n")


class TestLimits:
    def test_a_request_line_of_the_limit_is_taken_and_one_more_byte_is_too_long(self) -> None:
        path = b"/" * (MAX_LINE - len(b"GET  HTTP/1.1"))
        assert request(line=b"GET " + path + b" HTTP/1.1").target == path
        assert refusal(line=b"GET /" + path + b" HTTP/1.1") == 414

    def test_a_field_line_of_the_limit_is_taken_and_one_more_byte_is_too_large(self) -> None:
        value = b"v" * (MAX_LINE - len(b"X: "))
        assert request(b"X: " + value).fields == b"X: " + value + b"\r\n"
        assert refusal(b"X: v" + value) == 431
        assert refusal(b"X: " + value + b" ") == 431

    def test_a_hundred_fields_are_taken_and_one_more_is_too_many(self) -> None:
        fields = [b"X-%d: y" % number for number in range(MAX_FIELDS - 1)]
        assert request(*fields).fields.count(b"\n") == MAX_FIELDS - 1
        assert refusal(*fields, b"One: more") == 431

    def test_fields_that_will_be_dropped_count_too(self) -> None:
        assert refusal(*[b"X_%d: y" % number for number in range(MAX_FIELDS)]) == 431


class TestRefusals:
    def test_a_refusal_says_what_and_where_it_is_written(self) -> None:
        with pytest.raises(BadMessage, match=r"^400: an invalid field line \(RFC 9112 section 5\)$"):
            request(b"X : y")
        with pytest.raises(BadMessage, match=r"^400: an invalid request line \(RFC 9112 section 3\)$"):
            request(line=b"GET  / HTTP/1.1")

    def test_the_words_hold_nothing_that_the_client_sent(self) -> None:
        for lines in ((b"zz\x1b: y",), (b"Content-Length: zz\x1b",), (b"Expect: zz",), (b"Transfer-Encoding: zz",)):
            with pytest.raises(BadMessage) as caught:
                request(*lines)
            assert "zz" not in caught.value.why

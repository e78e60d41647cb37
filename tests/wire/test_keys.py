from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbservice.wire.h1 import parse_request
from lbservice.wire.keys import cookie, parameter, reader, take_cookie


def key(kind: str, name: str, target: bytes = b"/", *fields: bytes, host: bytes = b"App.Example") -> bytes:
    head = b"\r\n".join([b"GET %b HTTP/1.1" % target, b"Host: %b" % host, *fields]) + b"\r\n\r\n"
    return reader(kind, name)(parse_request(head, 8192, 100))


class TestUri:
    @pytest.mark.parametrize(
        ("target", "path"),
        [
            (b"/a/b", b"/a/b"),
            (b"/a?b=c?d", b"/a"),
            (b"/?", b"/"),
            (b"/%41", b"/%41"),
            (b"http://App.Example/x?y", b"/x"),
        ],
    )
    def test_the_path_as_it_is_written(self, target: bytes, path: bytes) -> None:
        assert key("uri", "", target) == path


class TestParameter:
    @pytest.mark.parametrize(
        ("target", "value"),
        [
            (b"/?id=7", b"7"),
            (b"/?a=1&id=7&id=8", b"7"),
            (b"/?ID=7", b""),
            (b"/?xid=7&idx=8", b""),
            (b"/?id", b""),
            (b"/?id=&id=8", b""),
            (b"/?id=a=b", b"a=b"),
            (b"/id=7", b""),
            (b"/?&&=&id=%37", b"%37"),
        ],
    )
    def test_the_first_of_that_name(self, target: bytes, value: bytes) -> None:
        assert key("param", "id", target) == value


class TestHeader:
    def test_the_first_field_whatever_the_spelling_of_its_name(self) -> None:
        assert key("header", "x-user", b"/", b"x-USER: Ann", b"X-User: Bob") == b"Ann"
        assert key("header", "x-user", b"/", b"X-Users: Ann", b"A: X-User: Bob") == b""
        assert key("header", "X-User", b"/", b"x-user: Ann") == b"Ann"
        assert key("header", "x-user", b"/", b"X-User:") == b""
        assert key("header", "x.user", b"/", b"X-User: a") == b"", "a name is no pattern"

    def test_host_is_a_field_too(self) -> None:
        assert key("header", "host") == b"app.example"

    def test_what_a_proxy_in_front_says(self) -> None:
        assert key("header", "x-forwarded-for", b"/", b"X-Forwarded-For: 192.0.2.1, 10.0.0.1") == b"192.0.2.1, 10.0.0.1"

    def test_a_request_id(self) -> None:
        assert key("header", "x-request-id", b"/", b"X-Request-ID: abc") == b"abc"
        assert key("header", "x-request-id") == b""


class TestCookie:
    @pytest.mark.parametrize(
        ("lines", "value"),
        [
            ([b"Cookie: sid=1"], b"1"),
            ([b"Cookie: a=0; sid=1; sid=2"], b"1"),
            ([b"cookie: a=0", b"COOKIE: sid=1"], b"1"),
            ([b"Cookie: SID=1"], b""),
            ([b"Cookie: xsid=1; sidx=2"], b""),
            ([b"Cookie: sid"], b""),
            ([b"Cookie: sid=a=b"], b"a=b"),
            ([b"Cookie: ;;; sid=1;"], b"1"),
            ([b"X-Cookie: sid=1"], b""),
        ],
    )
    def test_the_first_of_that_name(self, lines: list[bytes], value: bytes) -> None:
        assert key("cookie", "sid", b"/", *lines) == value


class TestTaking:
    @pytest.mark.parametrize(
        ("before", "value", "after"),
        [
            (b"Cookie: SRV=x\r\n", b"x", b""),
            (b"A: 1\r\nCookie: SRV=x\r\nB: 2\r\n", b"x", b"A: 1\r\nB: 2\r\n"),
            (b"Cookie: a=1; SRV=x; b=2\r\n", b"x", b"Cookie: a=1; b=2\r\n"),
            (b"Cookie: SRV=x; a=1\r\n", b"x", b"Cookie: a=1\r\n"),
            (b"cookie: a=1;SRV=x\r\n", b"x", b"cookie: a=1\r\n"),
            (b"Cookie: SRV=x\r\nCookie: a=1; SRV=y\r\n", b"x", b"Cookie: a=1\r\n"),
            (b"Cookie: a=SRV; bSRV=2\r\n", b"", b"Cookie: a=SRV; bSRV=2\r\n"),
            (b"A: SRV=x\r\n", b"", b"A: SRV=x\r\n"),
        ],
    )
    def test_the_others_stay(self, before: bytes, value: bytes, after: bytes) -> None:
        assert take_cookie(before, b"SRV") == (value, after)

    def test_without_it_nothing_is_made_anew(self) -> None:
        for fields in (b"A: 1\r\n", b"Cookie: a=SRV\r\n"):
            assert take_cookie(fields, b"SRV")[1] is fields

    @given(st.lists(st.sampled_from([b"SRV=x", b"a=1", b"SRV", b"", b" ", b"=", b'SRV="q"', b"\xff=\x80"]), max_size=8))
    def test_nothing_of_it_is_left_and_nothing_else_is_lost(self, pairs: list[bytes]) -> None:
        fields = b"A: 1\r\nCookie: %b\r\nB: 2\r\n" % b";".join(pairs)
        value, rest = take_cookie(fields, b"SRV")
        assert cookie(rest, b"SRV") == b""
        assert value == cookie(fields, b"SRV")
        assert rest.startswith(b"A: 1\r\n")
        assert rest.endswith(b"B: 2\r\n")
        assert rest.count(b"a=1") == fields.count(b"a=1")


@pytest.mark.parametrize(
    "work",
    [
        lambda size: take_cookie(b"Cookie: " + b"SRV=;" * size + b"\r\n", b"SRV"),
        lambda size: take_cookie(b"Cookie: SR\r\n" * size + b"Cookie: SRV=1\r\n", b"SRV"),
        lambda size: cookie(b"Cookie: " + b"=" * size * 5 + b"\r\n", b"SRV"),
        lambda size: parameter(b"/?" + b"id&" * size * 2 + b"=", b"id="),
    ],
)
def test_time_is_linear_in_what_is_sent(work: object) -> None:
    def took(size: int) -> float:
        best = 1.0
        for _ in range(5):
            began = time.perf_counter()
            work(size)  # type: ignore[operator] # one of the above
            best = min(best, time.perf_counter() - began)
        return best

    assert took(64_000) < 40 * took(4_000) + 0.005

from __future__ import annotations

import pytest

from lbservice.wire.forwarded import Introduction, usable_request_id
from lbservice.wire.headers import is_host, is_length, tokens
from tests.wire.build import request


class TestTokens:
    @pytest.mark.parametrize(
        ("value", "members"),
        [
            (b"", []),
            (b"close", [b"close"]),
            (b"Close", [b"close"]),
            (b"a, b,c\t,\td", [b"a", b"b", b"c", b"d"]),
            (b",, a ,,", [b"a"]),
            (b" a ", [b"a"]),
            (b" , ", []),
            (b"!#$%&'*+-.^_`|~", [b"!#$%&'*+-.^_`|~"]),
        ],
    )
    def test_a_list_is_its_members_in_small_letters(self, value: bytes, members: list[bytes]) -> None:
        assert list(tokens(value) or ()) == members

    @pytest.mark.parametrize("value", [b"a b", b"a;b", b'"a"', b"a=b", b"a/b", b"\xc3", b"a,\x00", b"a\r\n", b"a, b c"])
    def test_anything_else_is_no_list(self, value: bytes) -> None:
        assert tokens(value) is None


@pytest.mark.parametrize(
    ("value", "good"), [(b"0", True), (b"9" * 18, True), (b"9" * 19, False), (b"", False), (b"1\n", False)]
)
def test_a_length_is_up_to_eighteen_digits(value: bytes, good: bool) -> None:
    assert is_length(value) == good


@pytest.mark.parametrize(
    ("value", "good"), [(b"a", True), (b"a:80", True), (b"[::1]:80", True), (b"a\n", False), (b"a:80\n", False)]
)
def test_a_host_ends_where_it_ends(value: bytes, good: bool) -> None:
    assert is_host(value) == good


def introduced(
    *fields: bytes,
    trusted: bool = False,
    version: bytes = b"1.1",
    host: bytes | None = b"Host: h:1",
    via: bytes = b"lb",
) -> list[bytes]:
    """The lines that we add to such a request of 10.0.0.1."""
    introduction = Introduction(b"10.0.0.1", b"http", 80, via, trusted=trusted)
    lines = introduction.fields(request(*fields, line=b"GET / HTTP/" + version, host=host), b"id-1")
    assert lines.endswith(b"\r\n")
    return lines[:-2].split(b"\r\n")


class TestSayingWhoTheClientIs:
    def test_a_stranger_is_what_we_see_whatever_it_says(self) -> None:
        expected = [
            b"X-Forwarded-For: 10.0.0.1",
            b"X-Forwarded-Proto: http",
            b"X-Forwarded-Port: 80",
            b"X-Forwarded-Host: h:1",
            b"Via: 1.1 lb",
            b"X-Request-ID: id-1",
        ]
        assert introduced() == expected
        assert introduced(b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=x", b"X-Request-ID: theirs") == expected
        assert introduced(trusted=True) == expected, "a trusted proxy that says nothing"

    def test_a_trusted_proxy_joins_the_chain_and_is_believed_in_the_rest(self) -> None:
        said = [b"X-Forwarded-Proto: https", b"X-Forwarded-Port: 443", b"X-Forwarded-Host: h", b"X-Real-IP: 1.2.3.4"]
        lines = introduced(b"X-Forwarded-For: 1.2.3.4", *said, trusted=True)
        assert lines[:5] == [b"X-Forwarded-For: 1.2.3.4, 10.0.0.1", *said]
        assert lines[5:] == [b"Via: 1.1 lb", b"X-Request-ID: id-1"]

    def test_what_it_did_not_say_we_say(self) -> None:
        assert introduced(b"Forwarded: for=1.2.3.4", trusted=True)[:5] == [
            b"X-Forwarded-For: 10.0.0.1",
            b"Forwarded: for=1.2.3.4",
            b"X-Forwarded-Proto: http",
            b"X-Forwarded-Port: 80",
            b"X-Forwarded-Host: h:1",
        ]

    def test_several_chains_are_one_in_their_order(self) -> None:
        chains = [b"x-forwarded-for:1.1.1.1,  2.2.2.2 ", b"X-Forwarded-For:", b"X-FORWARDED-FOR: 3.3.3.3"]
        first, *others = introduced(*chains, trusted=True)
        assert first == b"X-Forwarded-For: 1.1.1.1,  2.2.2.2, 3.3.3.3, 10.0.0.1"
        assert not [line for line in others if line.lower().startswith(b"x-forwarded-for")]

    def test_a_name_in_other_letters_is_not_said_twice(self) -> None:
        names = [line.partition(b":")[0].lower() for line in introduced(b"x-FORWARDED-proto: https", trusted=True)]
        assert names.count(b"x-forwarded-proto") == 1

    def test_http_1_0_has_no_host_to_pass_on(self) -> None:
        assert introduced(version=b"1.0", host=None) == [
            b"X-Forwarded-For: 10.0.0.1",
            b"X-Forwarded-Proto: http",
            b"X-Forwarded-Port: 80",
            b"Via: 1.0 lb",
            b"X-Request-ID: id-1",
        ]

    def test_we_are_the_last_in_via(self) -> None:
        assert introduced(b"Via: 1.1 a", b"Via: 1.0 b")[-2] == b"Via: 1.1 a, 1.0 b, 1.1 lb"
        assert introduced(b"Via:")[-2] == b"Via: 1.1 lb"

    def test_without_a_name_we_leave_via_as_it_was(self) -> None:
        assert introduced(b"Via: 1.1 a", via=b"")[-2] == b"Via: 1.1 a"
        assert introduced(via=b"")[-1] == b"X-Request-ID: id-1"

    def test_a_wish_for_another_protocol_is_our_own_wish(self) -> None:
        lines = introduced(b"Connection: Upgrade, x", b"Upgrade: websocket", b"X: y")
        assert lines[-3:-1] == [b"Connection: Upgrade", b"Upgrade: websocket"]


@pytest.mark.parametrize(
    ("value", "usable"),
    [
        (b"a", True),
        (b"0af7651916cd43dd-8448eb211c80319c", True),
        (b"A.b_c:d/e+f=", True),
        (b"a" * 128, True),
        (b"a" * 129, False),
        (b"", False),
        (b"a b", False),
        (b'a"', False),
        (b"a;b", False),
        (b"{a}", False),
        (b"a\n", False),
        (b"$(id)", False),
        (b"\xc3", False),
        (b"a\\", False),
        (b"<a>", False),
    ],
)
def test_a_request_id_may_go_on_if_no_log_or_shell_can_trip_over_it(value: bytes, usable: bool) -> None:
    assert usable_request_id(value) == usable

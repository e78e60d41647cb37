from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbservice.wire.h1 import BadMessage, cut_head, refuse_no_request, refuse_no_response
from tests.wire.build import STEADY, head

LIMIT = 64


def outcome(data: bytes, limit: int = LIMIT) -> int:
    """Where the head ends, -1 while it does not, or the status of the refusal."""
    try:
        return cut_head(data, limit)
    except BadMessage as bad:
        return bad.status


def told_piece_by_piece(data: bytes, sizes: list[int], limit: int = LIMIT) -> int:
    """The outcome when the same bytes come in pieces of these sizes, and what was seen is not looked at again."""
    got = seen = 0
    while got < len(data):
        got = min(len(data), got + (sizes.pop() if sizes else 1))
        try:
            end = cut_head(data[:got], limit, seen)
        except BadMessage as bad:
            return bad.status
        if end >= 0:
            return end
        seen = got
    return -1


class TestBeginning:
    @pytest.mark.parametrize("data", [b"G", b"GET", b"GET ", b"GET /", b"!#x 1", b"M" * 64, b"M" * 100, b"OPTIONS *"])
    def test_a_request_may_begin_so(self, data: bytes) -> None:
        refuse_no_request(data)

    @pytest.mark.parametrize(
        "data", [b"\x16\x03\x01", b" GET", b"GET\t/", b"GET\r", b"G\xc3", b"(", b"\x00" * 70, b"A\x80"]
    )
    def test_no_request_begins_so(self, data: bytes) -> None:
        with pytest.raises(BadMessage) as refused:
            refuse_no_request(data)
        assert refused.value.status == 400

    @pytest.mark.parametrize("data", [b"H", b"HTTP/", b"HTTP/1.", b"HTTP/1.1 2", b"HTTP/1.x"])
    def test_a_response_may_begin_so(self, data: bytes) -> None:
        refuse_no_response(data)

    @pytest.mark.parametrize("data", [b"S", b"HTTP/2", b"http/1.1", b"\r", b"HTTP 200", b"\x00"])
    def test_no_response_begins_so(self, data: bytes) -> None:
        with pytest.raises(BadMessage) as refused:
            refuse_no_response(data)
        assert refused.value.status == 502


class TestCutting:
    def test_a_head_ends_with_its_empty_line(self) -> None:
        whole = head(b"GET / HTTP/1.1", b"Host: a")
        assert outcome(whole) == outcome(whole + b"body\r\n\r\n") == len(whole)

    def test_until_then_it_is_incomplete(self) -> None:
        whole = head(b"GET / HTTP/1.1", b"Host: a")
        assert {outcome(whole[:size]) for size in range(len(whole))} == {-1}

    @pytest.mark.parametrize(
        "data", [b"GET / HTTP/1.1\n", b"GET /\rX", b"A\r\nB: c\n", b"\n", b"A\r\r\n", b"A\n\n", b"\r\r"]
    )
    def test_a_bare_cr_or_lf_is_refused_as_soon_as_it_is_there(self, data: bytes) -> None:
        assert outcome(data) == 400

    def test_a_cr_at_the_end_may_still_become_a_line_end(self) -> None:
        assert outcome(b"GET / HTTP/1.1\r") == -1

    def test_bare_line_ends_behind_the_head_are_not_its_concern(self) -> None:
        whole = head(b"GET / HTTP/1.1")
        assert outcome(whole + b"a\nb\rc") == len(whole)

    def test_a_head_of_the_limit_is_whole(self) -> None:
        exact = head(b"GET / HTTP/1.1", b"X: " + b"v" * (LIMIT - 23))
        assert len(exact) == LIMIT
        assert outcome(exact) == outcome(exact + b"body") == LIMIT

    def test_one_more_byte_is_too_much(self) -> None:
        over = head(b"GET / HTTP/1.1", b"X: " + b"v" * (LIMIT - 22))
        assert outcome(over) == outcome(over[:LIMIT]) == 431
        assert outcome(over[: LIMIT - 1]) == -1

    def test_a_first_line_without_end_is_too_long_a_target(self) -> None:
        assert outcome(b"GET /" + b"a" * LIMIT) == 414

    def test_the_limit_may_cut_through_a_line_end(self) -> None:
        assert outcome(b"A" * (LIMIT - 1) + b"\r") == 414
        assert outcome(b"A" * (LIMIT - 1) + b"\r\n\r\n") == 414


@pytest.mark.parametrize(
    "data",
    [
        head(b"GET / HTTP/1.1", b"Host: a") + b"GET",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        b"\r\n\r\n",
        b"X" * 70,
    ],
)
def test_byte_by_byte_it_is_the_same_or_a_refusal_for_a_bare_line_end(data: bytes) -> None:
    whole, pieces = outcome(data), told_piece_by_piece(data, [])
    assert pieces == whole or (pieces == 400 and b"\n" in data)


@STEADY
@given(
    st.lists(st.sampled_from([b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"a", b"b: c", b"x" * 20]), max_size=12).map(
        b"".join
    ),
    st.lists(st.integers(1, 9), max_size=30),
)
def test_pieces_are_cut_where_the_whole_is_unless_a_bare_line_end_showed_earlier(data: bytes, sizes: list[int]) -> None:
    """A head that is whole at once is judged by the parser; one in pieces may be refused before its end."""
    whole, pieces = outcome(data), told_piece_by_piece(data, sizes)
    bare = b"\n" in data.replace(b"\r\n", b"") or b"\r" in data.replace(b"\r\n", b"")
    assert pieces == whole or (bare and pieces == 400) or (bare and {pieces, whole} <= {400, 414, 431})

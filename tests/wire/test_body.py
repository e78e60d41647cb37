from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbservice.wire.body import (
    LAST_CHUNK,
    MAX_EXTENSIONS,
    MAX_SIZE_LINE,
    MAX_TRAILERS,
    Body,
    ChunkedBody,
    LengthBody,
    UntilCloseBody,
    chunk,
    reader,
)
from lbservice.wire.h1 import BadMessage
from lbservice.wire.message import CHUNKED, NO_BODY, UNTIL_CLOSE
from tests.wire.build import STEADY

Story = tuple[bytes, bool, bytes] | int
"""Payload, was it whole, and what came behind it; or the status of the refusal."""


def story(body: Body, *pieces: bytes) -> Story:
    """What comes of these pieces. Once a body is done, its reader is asked no more."""
    payload = behind = b""
    for piece in pieces:
        if body.done:
            behind += piece
            continue
        try:
            payload += body.feed(piece)
        except BadMessage as bad:
            return bad.status
    return payload, body.done, body.rest + behind


def chunked(*pieces: bytes) -> Story:
    return story(ChunkedBody(), *pieces)


def framed(*pieces: bytes) -> Story:
    return story(ChunkedBody(framed=True), *pieces)


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def split(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, some of them empty."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


class TestMost:
    @pytest.mark.parametrize("framed", [False, True])
    @pytest.mark.parametrize("size", [1, 3, 1000])
    @pytest.mark.parametrize(
        ("last", "refused"),
        [(b"1\r\nj\r\n0\r\n\r\n", False), (b"0\r\n\r\n", False), (b"02\r\n", True), (b"fffffffffffffff\r\n", True)],
    )
    def test_a_chunk_that_is_too_much_is_refused_at_its_size(
        self, framed: bool, size: int, last: bytes, refused: bool
    ) -> None:
        data = b"5\r\nabcde\r\n4\r\nfghi\r\n" + last
        pieces = (data[at : at + size] for at in range(0, len(data), size))
        told = story(ChunkedBody(framed=framed, most=10), *pieces)
        payload = data if framed else b"abcdefghij" if b"j" in last else b"abcdefghi"
        assert told == (413 if refused else (payload, True, b""))

    def test_without_a_limit_there_is_none(self) -> None:
        body = ChunkedBody()
        body.feed(b"fffffffffffffff\r\n")
        assert body.left == 0xFFFFFFFFFFFFFFF


class TestTheRightReader:
    @pytest.mark.parametrize(
        ("length", "kind"),
        [(5, LengthBody), (NO_BODY, LengthBody), (CHUNKED, ChunkedBody), (UNTIL_CLOSE, UntilCloseBody)],
    )
    def test_for_each_length_of_a_head(self, length: int, kind: type) -> None:
        assert type(reader(length)) is kind

    def test_no_body_is_done_before_it_begins(self) -> None:
        assert reader(NO_BODY).done


class TestLength:
    def test_it_ends_after_so_many_bytes(self) -> None:
        assert story(LengthBody(5), b"hello") == (b"hello", True, b"")
        assert story(LengthBody(5), b"he", b"", b"llo") == (b"hello", True, b"")

    def test_what_comes_behind_is_not_its_own(self) -> None:
        assert story(LengthBody(5), b"hel", b"loGET /", b" HTTP") == (b"hello", True, b"GET / HTTP")

    def test_too_little_is_not_done(self) -> None:
        body = LengthBody(5)
        assert story(body, b"hell") == (b"hell", False, b"")
        assert body.left == 1

    def test_a_very_long_one(self) -> None:
        body = LengthBody(10**18 - 1)
        body.feed(b"x" * 1000)
        assert (body.left, body.done) == (10**18 - 1001, False)


def test_until_close_is_never_done_by_itself() -> None:
    assert story(UntilCloseBody(), b"a", b"", b"0\r\n\r\n") == (b"a0\r\n\r\n", False, b"")


class TestChunks:
    @pytest.mark.parametrize(
        ("sent", "payload"),
        [
            (b"0\r\n\r\n", b""),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
            (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
            (b"A\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
            (b"00000000000000a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
            (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
            (b"5;x\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b'5;a=b;c="d;\\" e"\r\nhello\r\n0;last\r\n\r\n', b"hello"),
            (b"5 ;x\r\nhello\r\n0\t ; y = z\r\n\r\n", b"hello"),
            (b'5;x="\xc3\xa4;\\"\t";y="";z=1\r\nhello\r\n0\r\n\r\n', b"hello"),
            (b"5\r\nhello\r\n0\r\nExpires: never\r\nX:\r\n\r\n", b"hello"),
            (b"0\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
        ],
    )
    def test_what_is_well_formed_is_understood_whole_and_byte_by_byte(self, sent: bytes, payload: bytes) -> None:
        for pieces in ([sent], byte_by_byte(sent)):
            assert chunked(*pieces) == (payload, True, b"")

    @pytest.mark.parametrize("rest", [b"GET / HTTP/1.1\r\n", b"\r\n", b"\n", b"0\r\n\r\n"])
    def test_what_comes_behind_is_not_its_own(self, rest: bytes) -> None:
        sent = b"5\r\nhello\r\n0\r\n\r\n" + rest
        assert chunked(sent) == chunked(*byte_by_byte(sent)) == (b"hello", True, rest)
        with_trailer = b"0\r\nA: b\r\n\r\n" + rest
        assert chunked(with_trailer) == chunked(*byte_by_byte(with_trailer)) == (b"", True, rest)

    @pytest.mark.parametrize(
        "sent",
        [
            b"\r\n",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\rhello\r\n",
            b"5\r\rhello",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\rX",
            b"5\r\nhello!\r\n0\r\n\r\n",
            b"4\r\nhello\r\n0\r\n\r\n",
            b"6\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"-5\r\nhello\r\n",
            b"5_0\r\nhello\r\n",
            b"5.0\r\nhello\r\n",
            b"g\r\n",
            b"\xb2\r\nhi\r\n",
            b";x\r\n",
            b"5,5\r\nhello\r\n",
            b"5 5\r\nhello\r\n",
            b"5;a\x00b\r\nhello\r\n",
            b"5;a\nb\r\nhello\r\n",
            b"5;a\rb\r\nhello\r\n",
            b"5;a\x7f\r\nhello\r\n",
            b"5;\r\nhello\r\n",
            b"5;a \r\nhello\r\n",
            b"5;a=\r\nhello\r\n",
            b"5;a b\r\nhello\r\n",
            b"5;\xc3\xa4\r\nhello\r\n",
            b'5;a="b\r\nhello\r\n',
            b'5;a="b\\"\r\nhello\r\n',
            b'5;a="b"c\r\nhello\r\n',
            b"5\x00\r\nhello\r\n",
            b"f" * 16 + b"\r\n",
            b"0" * 16 + b"\r\n\r\n",
            b"0\r\n\n",
            b"0\r\n\rX",
            b"0\r\n X: y\r\n\r\n",
            b"0\r\nX : y\r\n\r\n",
            b"0\r\nX\r\n\r\n",
            b"0\r\n: y\r\n\r\n",
            b"0\r\nX: y\r\n z\r\n\r\n",
            b"0\r\nX: y\nZ: a\r\n\r\n",
            b"0\r\nX: y\n\n",
            b"0\r\nX: y\r\r\n\r\n",
            b"0\r\nX: a\x00\r\n\r\n",
            b"0\r\nX\xc3: a\r\n\r\n",
            b"0\r\n(): a\r\n\r\n",
        ],
    )
    def test_what_is_malformed_is_refused_whole_and_byte_by_byte(self, sent: bytes) -> None:
        assert chunked(sent) == chunked(*byte_by_byte(sent)) == 400

    @pytest.mark.parametrize(
        "sent", [b"5\r\nhello\r\n", b"5\r\nhel", b"", b"5", b"5\r", b"0\r\n", b"0\r\n\r", b"0\r\nX: y\r\n"]
    )
    def test_what_is_cut_off_is_not_done(self, sent: bytes) -> None:
        for pieces in ([sent], byte_by_byte(sent)):
            got = chunked(*pieces)
            assert isinstance(got, tuple)
            assert got[1] is False

    def test_payload_goes_on_before_its_chunk_is_complete(self) -> None:
        body = ChunkedBody()
        assert body.feed(b"ff\r\nabc") == b"abc"
        assert body.feed(b"de") == b"de"

    def test_a_chunk_of_many_gigabytes_is_only_counted(self) -> None:
        body = ChunkedBody()
        assert body.feed(b"fffffffffffffff\r\nabc") == b"abc"
        assert not body.done


class TestLimits:
    @staticmethod
    def size_line(length: int) -> bytes:
        """A size line of so many bytes in all."""
        return b"1;" + b"x" * (length - 4) + b"\r\n"

    def test_one_size_line(self) -> None:
        for pieces in (lambda data: [data], byte_by_byte):
            assert chunked(*pieces(self.size_line(MAX_SIZE_LINE) + b"a\r\n" + LAST_CHUNK)) == (b"a", True, b"")
            assert chunked(*pieces(self.size_line(MAX_SIZE_LINE + 1) + b"a\r\n" + LAST_CHUNK)) == 400

    def test_a_size_line_without_end(self) -> None:
        assert chunked(b"1;" + b"x" * MAX_SIZE_LINE) == 400
        assert chunked(*[b"1;", *[b"x"] * MAX_SIZE_LINE]) == 400

    def test_extensions_of_a_whole_body(self) -> None:
        piece = b"1;" + b"x" * 63 + b"\r\na\r\n"
        enough = MAX_EXTENSIONS // 64
        assert chunked(piece * enough + LAST_CHUNK) == (b"a" * enough, True, b"")
        assert chunked(piece * (enough + 1) + LAST_CHUNK) == 400

    def test_trailers(self) -> None:
        fits = b"X: " + b"y" * (MAX_TRAILERS - 7) + b"\r\n\r\n"
        assert len(fits) == MAX_TRAILERS
        over = b"y" + fits
        for pieces in (lambda data: [data], byte_by_byte):
            assert chunked(*pieces(b"0\r\n" + fits)) == (b"", True, b"")
            assert chunked(*pieces(b"0\r\n" + over)) == 400

    def test_trailers_without_end(self) -> None:
        assert chunked(b"0\r\n", *[b"X: y\r\n"] * (MAX_TRAILERS // 6 + 1)) == 400


class TestAnySplit:
    """However the bytes are cut into pieces, the outcome is one."""

    @STEADY
    @given(
        st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from([b"", b";a", b" ;b=c"])), max_size=5),
        st.sampled_from([b"", b"A: b\r\n", b"A:\r\nB: \xff\r\n"]),
        st.binary(max_size=20),
        st.lists(st.integers(0, 9), max_size=60),
    )
    def test_of_a_well_formed_body(
        self, chunks: list[tuple[bytes, bytes]], trailers: bytes, rest: bytes, sizes: list[int]
    ) -> None:
        sent = b"".join(b"%x%b\r\n%b\r\n" % (len(data), extension, data) for data, extension in chunks)
        sent += b"0\r\n" + trailers + b"\r\n" + rest
        whole = (b"".join(data for data, _ in chunks), True, rest)
        assert chunked(sent) == chunked(*split(sent, sizes)) == whole

    @STEADY
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"0",
                    b"1",
                    b"2",
                    b"a",
                    b"\r\n",
                    b"\r",
                    b"\n",
                    b";",
                    b" ",
                    b"x",
                    b":",
                    b"\x00",
                    b"0\r\n",
                    b"1\r\na\r\n",
                ]
            ),
            max_size=14,
        ).map(b"".join),
        st.lists(st.integers(0, 4), max_size=30),
    )
    def test_of_whatever_bytes(self, sent: bytes, sizes: list[int]) -> None:
        assert chunked(sent) == chunked(*split(sent, sizes)) == chunked(*byte_by_byte(sent))

    @STEADY
    @given(st.integers(0, 30), st.binary(max_size=40), st.lists(st.integers(0, 9), max_size=20))
    def test_of_a_body_with_a_length(self, length: int, sent: bytes, sizes: list[int]) -> None:
        whole = (sent[:length], len(sent) >= length, sent[length:])
        assert story(LengthBody(length), *split(sent, sizes)) == whole


@STEADY
@given(st.lists(st.binary(min_size=1, max_size=5000), max_size=4))
def test_what_we_chunk_we_can_read(pieces: list[bytes]) -> None:
    sent = b"".join(map(chunk, pieces)) + LAST_CHUNK
    assert chunked(sent) == (b"".join(pieces), True, b"")


class TestABodyThatStaysFramed:
    """What is passed on in chunks, as it came but for what nobody needs."""

    @pytest.mark.parametrize(
        ("sent", "passed_on"),
        [
            (b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
            (b"A\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n", b"A\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n"),
            (b"5;name=value\r\nhello\r\n2\r\nyo\r\n0\r\n\r\n", b"5\r\nhello\r\n2\r\nyo\r\n0\r\n\r\n"),
            (b"1\r\na\r\n5 ; x\r\nhello\r\n0\r\n\r\n", b"1\r\na\r\n5\r\nhello\r\n0\r\n\r\n"),
            (b"0005\r\nhello\r\n000\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
            (b"5\r\nhello\r\n0;last\r\nTrailer: yes\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
            (b"0\r\n\r\n", b"0\r\n\r\n"),
        ],
    )
    def test_as_it_came_without_extensions_trailers_and_odd_sizes(self, sent: bytes, passed_on: bytes) -> None:
        for pieces in ([sent], byte_by_byte(sent), [sent[:9], sent[9:]]):
            assert framed(*pieces) == (passed_on, True, b"")
            assert framed(*pieces, b"GET /") == (passed_on, True, b"GET /")

    def test_nothing_is_passed_on_before_it_is_understood(self) -> None:
        body = ChunkedBody(framed=True)
        passed_on = [body.feed(byte) for byte in byte_by_byte(b"2\r\nhi\r\n0\r\n\r\n")]
        assert passed_on == [b"", b"", b"2\r\n", b"h", b"i", b"", b"\r\n", b"", b"", b"", b"", b"0\r\n\r\n"]

    def test_what_needs_no_change_is_not_copied(self) -> None:
        data = b"3\r\nabc\r\n" * 100 + b"8\r\nabc"
        assert ChunkedBody(framed=True).feed(data) is data

    @pytest.mark.parametrize("framed", [False, True])
    def test_bytes_of_a_chunk_may_be_passed_on_otherwise(self, framed: bool) -> None:
        body = ChunkedBody(framed=framed)
        body.feed(b"ffff\r\nab")
        assert body.left == 0xFFFF - 2
        body.skip(0xFFFF - 4)
        assert body.left == 2
        assert body.feed(b"yz\r\n0\r\n\r\n") == (b"yz\r\n0\r\n\r\n" if framed else b"yz")
        assert body.done
        assert body.left == 0

    @STEADY
    @given(
        st.lists(
            st.sampled_from(
                [b"0", b"00", b"1", b"2;x", b"01", b"\r\n", b"\r", b"\n", b"a", b"bc", b"1\r\na\r\n", b"0\r\n\r\n"]
            ),
            max_size=16,
        ).map(b"".join),
        st.lists(st.integers(0, 4), max_size=30),
    )
    def test_a_reader_of_it_reads_the_same_body(self, sent: bytes, sizes: list[int]) -> None:
        payload, result = chunked(sent), framed(*split(sent, sizes))
        if isinstance(payload, int) or isinstance(result, int):
            assert payload == result
            return
        assert result == framed(sent)
        assert result[1:] == payload[1:]
        read = chunked(result[0])
        assert not isinstance(read, int)
        assert read[:2] == payload[:2]
        assert b";" not in result[0]

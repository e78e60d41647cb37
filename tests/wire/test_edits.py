from __future__ import annotations

import pytest

from lbservice.wire.edits import REMEMBERED, Edits, fill, variables
from lbservice.wire.h1 import parse_response

LINES = b"X-A: 1\r\nx-a: 2\r\nX-A-B: 3\r\nB:\r\nC: X-A: 4\r\n"


class TestLines:
    @pytest.mark.parametrize(
        ("edits", "lines"),
        [
            ([], LINES),
            ([("X-A", "remove", "")], b"X-A-B: 3\r\nB:\r\nC: X-A: 4\r\n"),
            ([("x-A", "set", "9")], b"X-A-B: 3\r\nB:\r\nC: X-A: 4\r\nx-A: 9\r\n"),
            ([("X-A", "add", "9")], LINES + b"X-A: 9\r\n"),
            ([("b", "remove", "")], b"X-A: 1\r\nx-a: 2\r\nX-A-B: 3\r\nC: X-A: 4\r\n"),
            ([("D", "add", "1"), ("d", "add", "2")], LINES + b"D: 1\r\nd: 2\r\n"),
            ([("D", "add", "1"), ("d", "set", "2")], LINES + b"d: 2\r\n"),
            ([("D", "set", "1"), ("D", "remove", "")], LINES),
            ([("X.A", "remove", "")], LINES),
        ],
    )
    def test_edits_are_made_one_after_the_other(self, edits: list[tuple[str, str, str]], lines: bytes) -> None:
        assert Edits(edits).lines(LINES, {}) == lines

    def test_no_lines_at_all(self) -> None:
        assert Edits([("A", "set", "1")]).lines(b"", {}) == b"A: 1\r\n"

    def test_the_host_stands_apart(self) -> None:
        edits = Edits([("Host", "set", "a"), ("X-Forwarded-Host", "set", "b")])
        assert (edits.host, edits.lines(b"", {})) == (b"a", b"X-Forwarded-Host: b\r\n")
        assert edits
        assert not Edits([])


class TestVariables:
    def test_only_words_in_braces_are_some(self) -> None:
        template = b'{client} {"a": {}} {Host} {request_id}'
        assert variables(template) == {"client", "request_id"}
        assert fill(template, {"client": b"c", "request_id": b"r"}) == b'c {"a": {}} {Host} r'

    def test_what_they_hold_is_not_looked_at(self) -> None:
        edits = Edits([("A", "set", "{client}{host}")])
        assert edits.lines(b"", {"client": b"{host}\\1", "host": b"h"}) == b"A: {host}\\1h\r\n"


class TestUsualResponses:
    HEAD = (
        b"HTTP/1.1 200 Server: x\r\nServer: x\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: %d\r\n"
        b"Content-Length: 5\r\n\r\n"
    )

    def test_are_encoded_as_the_general_path_does(self) -> None:
        edits = Edits([("Server", "remove", ""), ("X-A", "set", "1")])
        head = parse_response(self.HEAD % 1, 20)
        edited = edits.usual_response(head)
        assert edited.encoded == (
            b"HTTP/1.1 200 Server: x\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: 1\r\nX-A: 1\r\n"
            b"Content-Length: 5\r\nX-Request-ID: "
        )
        assert edited.fields == edits.response(head, {}).fields
        assert (edited.status, edited.length, edited.content_length, edited.persistent) == (200, 5, 5, True)
        assert b"Server: x\r\nDate" in head.encoded

    def test_are_remembered_within_bounds(self) -> None:
        edits = Edits([("X-A", "set", "1")])
        heads = [parse_response(self.HEAD % number, 20) for number in range(REMEMBERED + 10)]
        assert edits.usual_response(heads[0]) is edits.usual_response(heads[0])
        for head in heads:
            edits.usual_response(head)
        assert len(edits._memory) <= REMEMBERED

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lbservice.wire.h1 import cut_head, parse_response
from lbservice.wire.message import ResponseHead
from lbservice.wire.pages import REASONS, error_response

WIRE = Path(__file__).parents[2] / "lbservice" / "wire"


def read(data: bytes, *, to_head: bool = False) -> tuple[ResponseHead, bytes]:
    end = cut_head(data, 4096)
    return parse_response(data[:end], 20, to_head=to_head), data[end:]


DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


class TestErrorPages:
    @pytest.mark.parametrize("status", sorted(REASONS))
    @pytest.mark.parametrize("close", [True, False])
    def test_each_is_a_whole_response_that_our_own_parser_takes(self, status: int, close: bool) -> None:
        answer, body = read(error_response(status, close=close, date=DATE))
        assert (answer.status, answer.persistent) == (status, not close)
        assert answer.length == len(body)
        assert (b"Cache-Control: no-store\r\n" in answer.fields) is (status not in (301, 308))
        assert REASONS[status][0].encode() in body

    def test_every_status_that_a_refusal_may_carry_has_its_page(self) -> None:
        source = "".join((WIRE / name).read_text() for name in ("h1.py", "body.py"))
        statuses = {int(number) for number in re.findall(r"\b([45][0-9]{2})\b", source)}
        assert statuses >= {400, 405, 414, 417, 431, 501, 502, 505}, "found in the source"
        assert statuses <= set(REASONS)

    def test_an_answer_to_head_has_the_length_but_not_the_body(self) -> None:
        with_body, body = read(error_response(503, close=False, date=DATE))
        without, nothing = read(error_response(503, close=False, date=DATE, with_body=False), to_head=True)
        assert nothing == b""
        assert without.content_length == with_body.content_length == len(body)

    def test_when_to_come_again_is_said_if_it_is_known(self) -> None:
        assert b"Retry-After: 4\r\n" in error_response(503, close=False, date=DATE, retry_after=4)
        assert b"Retry-After" not in error_response(503, close=False, date=DATE)

    def test_the_request_id_helps_to_find_the_log_line(self) -> None:
        assert b"\r\nX-Request-ID: abc-1\r\n" in error_response(502, close=True, date=DATE, request_id=b"abc-1")
        assert b"X-Request-ID" not in error_response(502, close=True, date=DATE)

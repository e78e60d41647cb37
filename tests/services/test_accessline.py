from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbservice.core.events import Access
from lbservice.services.accessline import MAX_FIELD, Stamp, access_line, escape, escape_sentence
from tests.support.accessline import HTTP_LINE, TCP_LINE, parse

NOON = 1_795_345_501.0
"""22 November 2026, 12:05:01 in Berlin."""


def http(**known: Any) -> Access:
    """A GET that began at 100.0 s and went well, but for what is `known` better."""
    return filled(
        Access(http=True, client="192.0.2.1:5000", frontend="web", backend="app", began=100.0),
        {
            "server": "s1",
            "request_line": b"GET /a?b=c HTTP/1.1",
            "request_id": b"4bf92f35-1a",
            "head_done": 100.0022,
            "leased": 100.0053,
            "connected": 100.0094,
            "responded": 100.0254,
            "ended": 100.0303,
            "status": 200,
            "bytes_out": 1234,
            "process_active": 7,
            "frontend_active": 6,
            "backend_active": 5,
            "server_active": 4,
            "server_queue": 2,
            "backend_queue": 1,
        },
        known,
    )


def refused(**known: Any) -> Access:
    """What was no request."""
    access = Access(http=True, client="192.0.2.1:5000", frontend="web", backend="web", began=100.0)
    return filled(access, {"ended": 100.0002, "status": 400, "termination": "PR"}, known)


def tcp(**known: Any) -> Access:
    return filled(
        Access(http=False, client="192.0.2.1:5000", frontend="db", backend="pg", began=100.0),
        {
            "server": "s2",
            "leased": 100.0012,
            "connected": 100.0044,
            "ended": 107.5,
            "bytes_out": 99,
            "process_active": 3,
        },
        known,
    )


def filled(access: Access, *facts: dict[str, Any]) -> Access:
    for known in facts:
        for name, value in known.items():
            assert hasattr(access, name), name
            setattr(access, name, value)
    return access


def line(access: Access) -> str:
    text = access_line(access, Stamp(), NOON - 100.0)
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return text[:-1]


def fields(access: Access) -> dict[str, str]:
    return parse(line(access), HTTP_LINE if access.http else TCP_LINE)


class TestHttp:
    """HAProxy's HTTP log format (configuration manual, section 8.2.3)."""

    def test_a_whole_line(self) -> None:
        assert line(http()) == (
            "192.0.2.1:5000 [22/Nov/2026:12:05:01.000] web app/s1 2/3/4/16/30 200 1234 - - ---- "
            '7/6/5/4/0 2/1 {4bf92f35-1a} "GET /a?b=c HTTP/1.1"'
        )

    def test_what_was_no_request(self) -> None:
        assert line(refused()) == (
            "192.0.2.1:5000 [22/Nov/2026:12:05:01.000] web web/<NOSRV> -1/-1/-1/-1/0 400 0 - - PR-- "
            '0/0/0/0/0 0/0 {} "<BADREQ>"'
        )

    @pytest.mark.parametrize(
        ("known", "timers"),
        [
            ({}, "2/3/4/16/30"),
            ({"responded": -1.0}, "2/3/4/-1/30"),
            ({"responded": -1.0, "connected": -1.0}, "2/3/-1/-1/30"),
            ({"responded": -1.0, "connected": -1.0, "leased": -1.0}, "2/-1/-1/-1/30"),
            ({"responded": -1.0, "connected": -1.0, "leased": -1.0, "head_done": -1.0}, "-1/-1/-1/-1/30"),
            (
                {"head_done": 100.0, "leased": 100.0, "connected": 100.0, "responded": 100.0, "ended": 100.0},
                "0/0/0/0/0",
            ),
            ({"ended": 3700.5}, "2/3/4/16/3600500"),
        ],
    )
    def test_a_phase_that_was_never_reached_took_minus_one(self, known: dict[str, float], timers: str) -> None:
        got = fields(http(**known))
        assert "/".join(got[name] for name in ("TR", "Tw", "Tc", "Tr", "Ta")) == timers

    def test_a_clock_that_began_at_zero_is_no_reason_for_minus_one(self) -> None:
        early = filled(
            Access(http=True, client="a:1", frontend="f", backend="b", began=0.0),
            {"head_done": 0.0, "leased": 0.0, "connected": 0.0, "responded": 0.0, "ended": 0.0, "status": 200},
        )
        assert " 0/0/0/0/0 200 " in line(early)

    @settings(max_examples=200, derandomize=True, deadline=None)
    @given(st.lists(st.floats(0, 10), min_size=5, max_size=5).map(sorted))
    def test_the_phases_never_add_up_to_more_than_the_whole(self, moments: list[float]) -> None:
        """Readers of HAProxy's log reckon Td = Ta - TR - Tw - Tc - Tr."""
        names = ("head_done", "leased", "connected", "responded", "ended")
        got = fields(http(**{name: 100.0 + moment for name, moment in zip(names, moments, strict=True)}))
        phases = [int(got[name]) for name in ("TR", "Tw", "Tc", "Tr")]
        assert min(phases) >= 0
        assert sum(phases) <= int(got["Ta"])

    @pytest.mark.parametrize("state", ["--", "CR", "CD", "SC", "sH", "LR", "PR", "DD"])
    def test_two_letters_say_who_ended_it_and_when(self, state: str) -> None:
        assert fields(http(termination=state))["state"] == state

    def test_a_request_for_which_there_was_no_server(self) -> None:
        got = fields(http(server="<NOSRV>", status=503, termination="SC"))
        assert (got["backend"], got["server"], got["status"]) == ("app", "<NOSRV>", "503")

    def test_without_any_answer_the_status_is_minus_one(self) -> None:
        assert fields(http(status=-1, termination="CR"))["status"] == "-1"

    def test_a_retry_on_another_server_has_a_plus(self) -> None:
        assert fields(http(retries=2, redispatched=True))["retries"] == "+2"
        assert fields(http(retries=2))["retries"] == "2"


class TestTcp:
    """HAProxy's TCP log format (configuration manual, section 8.2.2)."""

    def test_a_whole_line(self) -> None:
        assert line(tcp()) == "192.0.2.1:5000 [22/Nov/2026:12:05:01.000] db pg/s2 1/3/7500 99 -- 3/0/0/0/0 0/0"

    def test_without_a_server(self) -> None:
        got = fields(tcp(server="<NOSRV>", leased=-1.0, connected=-1.0, ended=100.25, bytes_out=0, termination="SC"))
        assert "/".join(got[name] for name in ("Tw", "Tc", "Tt")) == "-1/-1/250"
        assert (got["server"], got["state"]) == ("<NOSRV>", "SC")

    def test_a_redispatch(self) -> None:
        assert fields(tcp(retries=1, redispatched=True, backend_queue=4))["retries"] == "+1"


class TestWhatAClientSent:
    @pytest.mark.parametrize(
        ("sent", "logged"),
        [
            (b"GET / HTTP/1.1", "GET / HTTP/1.1"),
            (b'GET /"\\ HTTP/1.1', "GET /\\x22\\x5c HTTP/1.1"),
            (b"GET /\x00\x1b[2J\r\n HTTP/1.1", "GET /\\x00\\x1b[2J\\x0d\\x0a HTTP/1.1"),
            (b"GET /\x7f\x80\x9f HTTP/1.1", "GET /\\x7f\\x80\\x9f HTTP/1.1"),
            (b"GET /{}% HTTP/1.1", "GET /{}% HTTP/1.1"),
        ],
    )
    def test_it_cannot_end_the_line_or_its_field(self, sent: bytes, logged: str) -> None:
        assert fields(http(request_line=sent))["request"] == logged

    def test_letters_beyond_ascii_stay(self) -> None:
        assert line(http(request_line=b"GET /\xe4 HTTP/1.1")).endswith('"GET /\xe4 HTTP/1.1"')

    def test_a_long_one_is_cut_at_one_kibibyte(self) -> None:
        assert fields(http(request_line=b"GET /" + b"a" * 8000))["request"] == "GET /" + "a" * (MAX_FIELD - 5)
        whole = b"a" * MAX_FIELD
        assert fields(http(request_line=whole))["request"] == whole.decode()

    def test_it_is_cut_before_it_is_escaped_so_no_escape_is_cut(self) -> None:
        assert fields(http(request_line=b'"' * 2000))["request"] == "\\x22" * MAX_FIELD


def test_what_is_safe_stays_the_same_object() -> None:
    text = "GET / HTTP/1.1"
    assert escape(text) is text


def test_a_sentence_may_have_quotes_but_stays_one_line() -> None:
    assert escape_sentence('app\'s "s1"\r\n\x1b\\x') == 'app\'s "s1"\\x0d\\x0a\\x1b\\x5cx'
    assert len(escape_sentence("x" * 5000)) == MAX_FIELD


def ms(moment: float) -> int:
    return int(moment * 1000)


class TestStamp:
    def test_local_time_with_milliseconds(self) -> None:
        stamp = Stamp()
        assert stamp.clf(ms(NOON) + 250) == "22/Nov/2026:12:05:01.250"
        assert stamp.clf(ms(NOON) + 750) == "22/Nov/2026:12:05:01.750"
        assert stamp.clf(ms(NOON) + 1000) == "22/Nov/2026:12:05:02.000"
        assert stamp.clf(ms(NOON)) == "22/Nov/2026:12:05:01.000", "also backwards"

    def test_for_events_with_the_offset_from_utc(self) -> None:
        assert Stamp().iso(NOON + 0.5) == "2026-11-22T12:05:01.500+0100"

    def test_the_end_of_summer_time(self) -> None:
        stamp = Stamp()
        summer = 1_792_889_999.0  # 25 October 2026, 02:59:59 for the first time
        assert [stamp.iso(summer + wait)[11:] for wait in (0, 1)] == ["02:59:59.000+0200", "02:00:00.000+0100"]
        assert [stamp.clf(ms(summer + wait))[12:] for wait in (0, 1)] == ["02:59:59.000", "02:00:00.000"]

    @pytest.mark.parametrize("moment", [NOON + 0.9999999, NOON + 0.001, NOON + 0.0009999])
    def test_milliseconds_are_never_a_thousand(self, moment: float) -> None:
        for text in (Stamp().clf(ms(moment)), Stamp().iso(moment)[:23]):
            assert len(text.rpartition(".")[2]) == 3

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lbservice.errors import ControlError, NotThere
from lbservice.services import logtail
from lbservice.services.accessline import Stamp, access_line
from lbservice.services.termination import meaning
from tests.services.house import House
from tests.services.test_accessline import NOON, http, tcp

WRITTEN = "-- SC sC sQ SQ SH sH PH SD sD CC CQ CH CD cR cD PR LR CR RC RR DH DD KH KD IC"
"""The pairs of letters that the proxy writes."""


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def request(**known: Any) -> str:
    """Its line; it began at NOON."""
    return access_line(http(**known), Stamp(), NOON - 100.0)


def event(seconds: float, text: str) -> str:
    """That long after NOON."""
    return f"{Stamp().iso(NOON + seconds + 0.0001)} [lbservice] {text}\n"


def write(house: House, *lines: str) -> None:
    Path(house.eventlog.path).write_bytes("".join(lines).encode("latin-1"))


def why(house: House, *lines: str, request_id: str = "4bf92f35-1a") -> dict[str, list[str]]:
    """What is said of each thing."""
    write(house, *lines)
    said: dict[str, list[str]] = {}
    for row in house.control.why(request_id):
        said.setdefault(row.about, []).append(row.says)
    return said


class TestOneRequest:
    def test_everything_about_it(self, house: House) -> None:
        house["app/s2"].health.up = False
        house.app.refresh()
        assert why(house, request(server_active=4)) == {
            "asked": ['192.0.2.1:5000 at 2026-11-22 12:05:01.000, frontend web: "GET /a?b=c HTTP/1.1"'],
            "route": ["backend app; the way there from frontend web is now its backend"],
            "server": [
                "app/s1, by balance roundrobin (as it is now); besides it the server had 4 in flight, the backend 5;"
                f" now it is {house['app/s1'].state}, weight 1, 0 in flight"
            ],
            "other": [f"app/s2 is now {house['app/s2'].state}, weight 3, 0 in flight"],
            "queue": ["it waited 3 ms, behind 1 of the backend, 2 of the server"],
            "tries": ["one, without a retry"],
            "times": [
                "reading the head 2 ms, queueing 3 ms, connecting 4 ms, waiting for the answer 16 ms, sending 5 ms;"
                " 30 ms in all"
            ],
            "end": ["status 200, 1234 bytes sent; --: all is well"],
        }

    @pytest.mark.parametrize(
        ("known", "tries"),
        [
            ({"retries": 1}, "tried again once, on the same server"),
            ({"retries": 3, "redispatched": True}, "tried again 3 times, at last on another server"),
        ],
    )
    def test_retries(self, house: House, known: dict[str, Any], tries: str) -> None:
        assert why(house, request(**known))["tries"] == [tries]

    @pytest.mark.parametrize(
        ("state", "queue"),
        [
            ("SQ", "it found the queue full"),
            ("sQ", "it waited until its end, 28 ms, behind 1 of the backend, 2 of the server"),
            ("SC", "it came to no server, and did not wait for one"),
        ],
    )
    def test_without_a_server(self, house: House, state: str, queue: str) -> None:
        never = {"server": "<NOSRV>", "leased": -1.0, "connected": -1.0, "responded": -1.0}
        said = why(house, request(**never, termination=state, status=503))
        assert said["server"] == ["none was reached"]
        assert said["queue"] == [queue]
        assert len(said["other"]) == 2
        assert said["times"] == ["reading the head 2 ms; it never got past queueing; 30 ms in all"]

    def test_what_the_frontend_answered_itself_chose_no_backend(self, house: House) -> None:
        said = why(house, request(frontend="web", backend="web", server="<NOSRV>", termination="LR", status=404))
        assert said["route"] == ["no backend was chosen: frontend web answered by itself"]

    def test_what_is_gone_is_said_to_be_so(self, house: House) -> None:
        assert "it is not there any more" in why(house, request(server="s9"))["server"][0]
        said = why(house, request(frontend="old~", backend="older"))
        assert said["asked"][0].startswith("192.0.2.1:5000 at 2026-11-22 12:05:01.000, frontend old, over TLS")
        assert said["route"] == ["backend older; frontend old is not there any more"]
        assert "other" not in said

    @pytest.mark.parametrize("state", WRITTEN.split(" "))
    def test_letters_in_words(self, house: House, state: str) -> None:
        said = why(house, request(termination=state))["end"][0]
        assert said == f"status 200, 1234 bytes sent; {state}: {meaning(state)}"
        assert "unknown" not in said

    def test_the_letters_of_the_documentation_have_a_sentence_of_their_own(self) -> None:
        text = (Path(__file__).parents[2] / "docs" / "operation.md").read_text()
        table = text.partition("| state | what happened |")[2].partition("\n\n")[0]
        pairs = re.findall(r"`([-A-Za-z]{2})`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))
        assert len(pairs) > 20
        assert len({meaning(pair) for pair in pairs}) == len(pairs)

    def test_any_letters_will_do(self) -> None:
        assert meaning("KQ") == "an operator, or a stop, cut it off, while it waited in the queue"
        assert meaning("?!") == "it is unknown who ended it, it is unknown when"


class TestFinding:
    def test_it_is_the_last_one_of_that_id(self, house: House) -> None:
        assert "status 200" in why(house, request(status=503), request(status=200), request(request_id=b"x"))["end"][0]

    def test_lines_that_wait_to_be_written_are_found(self, house: House) -> None:
        with house.running():
            house.eventlog.access(http())
            assert house.control.why("4bf92f35-1a")

    def test_nonsense_in_a_request_line_is_not_taken_for_another_request(self, house: House) -> None:
        lie = request(request_line=b'GET / {4bf92f35-1a} "GET /\x1b[2J\\" [lbservice] HTTP/1.1', request_id=b"liar")
        talk = event(0, 'server app/s1: {4bf92f35-1a} "GET / HTTP/1.1"')
        assert why(house, request(status=201), lie, talk)["end"][0].startswith("status 201")
        with pytest.raises(NotThere):
            why(house, lie, talk)
        assert "\\x1b[2J" in why(house, lie, request_id="liar")["asked"][0]

    @pytest.mark.parametrize("size", [200, 333, 1000])
    def test_slices_lose_no_line(self, house: House, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logtail, "SLICE", size)
        lines = [request(request_id=b"r-%d" % number, status=200 + number) for number in range(60)]
        write(house, *lines)
        for number in range(60):
            assert f"status {200 + number}," in str(house.control.why(f"r-{number}"))

    def test_a_line_that_reaches_out_of_what_is_looked_at_is_not_there(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rest = request(request_id=b"r-2")
        monkeypatch.setattr(logtail, "REACH", len(rest) + 100)
        write(house, request(request_id=b"r-1"), rest, 'torn {r-3} "GET')
        with pytest.raises(NotThere, match=r"in the last \d+ MiB of .*lb.log, back to 2026-11-22 12:05:01.000"):
            house.control.why("r-1")

    @pytest.mark.parametrize("text", ["", "a b", "a\n", "a{", 'x"', "a" * 129, "\udc80", None, 5])
    def test_what_is_no_id(self, house: House, text: Any) -> None:
        with pytest.raises(ControlError, match="give the id of a request"):
            house.control.why(text)

    def test_sessions_in_tcp_mode_have_no_id(self, house: House) -> None:
        with pytest.raises(NotThere, match=r"no request 'x' in .*lb.log, back to .* tcp mode"):
            why(house, access_line(tcp(), Stamp(), NOON - 100.0), request_id="x")

    def test_a_log_that_cannot_be_read(self, house: House) -> None:
        with pytest.raises(ControlError, match=r"lb.log cannot be read: No such file"):
            house.control.why("x")
        os.mkfifo(house.eventlog.path)
        with pytest.raises(ControlError, match="not a file that can be read again"):
            house.control.why("x")


class TestEvents:
    def test_those_of_its_backend_from_ten_seconds_before_until_its_end(self, house: House) -> None:
        said = why(
            house,
            event(-10.5, "server app/s1 is DOWN (long ago)"),
            event(-9.5, "server app/s1 is UP (L4OK), was DOWN for 1s"),
            event(-2, "server app-2/s1 is DOWN"),
            event(-2, "server pg/s3 is DOWN"),
            event(-1, "server app/s2 set to drain by anna (ready -> drain), change 1: app/s2"),
            event(0.5, "warn: backend app has no server available"),
            request(),
            event(0.6, "server app/s1 is EJECTED afterwards"),
        )
        assert said["event"] == [
            "9.500 s before it: server app/s1 is UP (L4OK), was DOWN for 1s",
            "1.000 s before it: server app/s2 set to drain by anna (ready -> drain), change 1: app/s2",
            "0.500 s into it: warn: backend app has no server available",
        ]

    def test_not_more_than_twenty_the_last_ones(self, house: House) -> None:
        said = why(house, *(event(-1, f"server app/s1 is tired of {number}") for number in range(500)), request())
        assert len(said["event"]) == 20
        assert said["event"][-1].endswith("tired of 499")

    def test_they_are_found_behind_many_requests(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logtail, "SLICE", 10_000)
        noise = request(request_id=b"other", request_line=b"GET / [lbservice] HTTP/1.1") * 2000
        assert why(house, event(-1, "server app/s1 is DOWN"), noise, request())["event"]


def test_moments_are_read_back_as_they_were_written() -> None:
    stamp = Stamp()
    for at in (NOON, NOON + 200 * 86400 + 0.25):
        assert logtail.moment(f"1.2.3.4:5 [{stamp.clf(round(at * 1000))}] web") == at
        assert logtail.moment(f"{stamp.iso(at)} [lbservice] x") == at
    assert logtail.moment("1.2.3.4:5 [99/Nov/2026:12:00:00.000] web") is None
    assert logtail.moment("") is None
    assert datetime.fromtimestamp(NOON).hour == 12

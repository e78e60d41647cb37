"""`why`: a request of the log, in sentences."""

from __future__ import annotations

import re
from datetime import UTC
from pathlib import Path

import pytest

from lbservice.core.change import By
from lbservice.errors import ControlError, NotThere
from lbservice.services import logtail
from lbservice.services.termination import meaning
from tests.services.house import House

HOME = Path(__file__).parents[2]
LINE = (
    "192.0.2.7:5001 [26/Nov/2026:03:11:01.100] web app/{server} 1/{queued}/3/4/{total} {status} 120 - - {state}-- "
    '5/4/2/1/{retries} 0/{behind} {{{id}}} "{request}"'
)


def line(identity: str = "r-1", **fields: object) -> str:
    usual = {"server": "s1", "queued": 0, "total": 9, "status": 200, "state": "--", "retries": 0, "behind": 0}
    return LINE.format(**usual | {"request": "GET /a HTTP/1.1"} | fields, id=identity)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def why(house: House, *lines: str, identity: str = "r-1") -> dict[str, list[str]]:
    """What is said of the request when these lines are in the log."""
    Path(house.eventlog.path).write_text("".join(each + "\n" for each in lines))
    said: dict[str, list[str]] = {}
    for row in house.control.why(identity):
        said.setdefault(row.about, []).append(row.says)
    return said


def test_a_request_that_went_well(house: House) -> None:
    said = why(house, line("r-0"), line(), line("r-2"))
    assert said["asked"] == [f'192.0.2.7:5001 at {said["asked"][0][18:41]}, frontend web: "GET /a HTTP/1.1"']
    assert said["route"] == ["backend app, by backend = of frontend web (as it is now)"]
    assert said["server"][0].startswith("app/s1, by balance roundrobin (as it is now); besides it the server had 1")
    assert said["other"] == ["app/s2 is now UP 1/2, weight 3, 0 in flight"]
    assert said["queue"] == ["it did not wait"]
    assert said["tries"] == ["one, without a retry"]
    assert said["times"] == [
        "reading the head 1 ms, queueing 0 ms, connecting 3 ms, waiting for the answer 4 ms, sending 1 ms; 9 ms in all"
    ]
    assert said["end"] == ["status 200, 120 bytes sent; --: all is well"]
    assert "event" not in said


def test_one_that_queued_and_was_tried_again(house: House) -> None:
    said = why(house, line(queued=250, total=260, retries="+2", behind=7))
    assert said["queue"] == ["it waited 250 ms, behind 7 of the backend, 0 of the server"]
    assert said["tries"] == ["tried again 2 times, at last on another server"]


def test_one_that_no_server_got(house: House) -> None:
    said = why(house, line(server="<NOSRV>", queued=-1, status=503, state="SQ").replace("-1/3/4/", "-1/-1/-1/"))
    assert said["server"] == ["none was reached"]
    assert said["queue"] == ["it found the queue full"]
    assert "SQ: no server had room, and the queue was full" in said["end"][0]
    assert len(said["other"]) == 2


def test_events_of_its_backend_shortly_before_are_told(house: House) -> None:
    # The access line has the local time, in which tests run, events have their offset: make both of the same moment.
    moment = logtail.moment(line())
    assert moment is not None

    def event(seconds: float, text: str) -> str:
        from datetime import datetime

        at = datetime.fromtimestamp(moment + seconds, UTC)
        return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}+0000 [lbservice] {text}"

    said = why(
        house,
        event(-60, "server app/s1 is DOWN (long ago)"),
        event(-2, "server app/s2 is DOWN (L4CON)"),
        event(-1, "server app-2/s2 is DOWN (L4CON)"),
        event(-1, "server pg/s3 is DOWN (L4CON)"),
        line(),
    )
    assert [re.sub(r"^[\d.]+ s", "", each) for each in said["event"]] == [" before it: server app/s2 is DOWN (L4CON)"]


def test_the_last_of_several_with_one_id(house: House) -> None:
    said = why(house, line(status=502, state="SH"), line(status=200))
    assert said["end"][0].startswith("status 200")


def test_words_of_a_request_are_neither_an_id_nor_an_event(house: House) -> None:
    sly = line("r-9", request="GET /{r-1} [lbservice] server app/s1 is DOWN HTTP/1.1")
    with pytest.raises(NotThere, match=r"no request 'r-1' in .*lb\.log, back to \d{4}-"):
        why(house, sly)
    assert "event" not in why(house, sly, line())


@pytest.mark.parametrize("identity", ["", "a b", "r\n", "x" * 129, "ä", '"', "{r-1}", 7, None])
def test_what_can_be_no_id(house: House, identity: str) -> None:
    with pytest.raises(ControlError, match="give the id of a request"):
        house.control.why(identity)


def test_a_large_log_is_read_from_its_end_and_no_further(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logtail, "SLICE", 1000)
    monkeypatch.setattr(logtail, "REACH", 20_000)
    many = [line(f"n-{number}") for number in range(300)]
    assert why(house, *many, identity="n-299")["end"]
    assert why(house, *many, identity="n-200")["end"], "it is in an older slice"
    with pytest.raises(NotThere, match=r"in the last .* MiB of"):
        why(house, *many, identity="n-1")


def test_a_log_that_is_no_file(house: House, tmp_path: Path) -> None:
    house.eventlog.path = str(tmp_path)
    with pytest.raises(ControlError, match="is not a file that can be read again"):
        house.control.why("r-1")
    house.eventlog.path = str(tmp_path / "nothing")
    with pytest.raises(ControlError, match="cannot be read: No such file"):
        house.control.why("r-1")


def test_a_server_that_is_not_there_any_more(house: House) -> None:
    with house.running():
        house.control.remove("app/s1", by=By("anna"))
        assert "it is not there any more" in why(house, line())["server"][0]


def test_every_pair_of_letters_of_the_docs_has_a_meaning() -> None:
    table = (HOME / "docs" / "operation.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[-A-Za-z]{2}`(?:, `[A-Za-z]{2}`)*) \|", table, re.M)
    pairs = re.findall(r"`([-A-Za-z]{2})`", "".join(rows))
    assert len(pairs) >= 15
    for pair in pairs:
        assert "unknown" not in meaning(pair)
        assert ", when" not in meaning(pair), f"{pair} has no sentence of its own"


def test_letters_that_nobody_knows() -> None:
    assert meaning("Zz") == "it is unknown who ended it, it is unknown when"

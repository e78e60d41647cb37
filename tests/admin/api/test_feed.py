"""Server-sent events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import Logger

from lbservice.admin.api.feed import HEARTBEAT, KEPT, MOST_STREAMS, MOST_UNREAD
from tests.support.api import ApiHouse, Wire, read

log = Logger(namespace="lbservice.test")


@pytest.fixture(autouse=True)
def _listening(api: ApiHouse) -> Iterator[None]:
    api.feed.start()
    yield
    api.feed.stop()


def stream(api: ApiHouse, last: str = "") -> tuple[Any, Wire]:
    channel, wire = api.connect()
    line = f"Last-Event-ID: {last}\r\n" if last else ""
    channel.dataReceived(f"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n{line}\r\n".encode())
    return channel, wire


def heard(wire: Wire) -> list[tuple[str, str]]:
    """Ids and texts."""
    found = re.findall(rb"id: (\S+)\ndata: (.*)\n\n", wire.value())
    return [(ident.decode(), json.loads(data)["text"]) for ident, data in found]


def test_what_happens_comes_with_its_fields(api: ApiHouse) -> None:
    _, wire = stream(api)
    response = read(wire.value())
    assert (response.status, response.fields["content-type"]) == (200, "text/event-stream")
    assert b"retry: 2000\n\n" in wire.value()
    log.info("hello {name}\nand {more}", event="greeting", name="you", more=object())
    ((ident, text),) = heard(wire)
    assert ident == f"{api.feed.start_id}-1"
    assert text.startswith("hello you\nand <object")
    data = json.loads(re.findall(rb"data: (.*)\n\n", wire.value())[0])
    assert (data["event"], data["name"], data["level"]) == ("greeting", "you", "info")
    assert "more" not in data
    assert data["time"] > 1e9


def test_only_what_the_log_tells(api: ApiHouse) -> None:
    _, wire = stream(api)
    log.debug("too fine")
    Logger(namespace="twisted.something").info("of others")
    Logger(namespace="twisted.something").warn("of others, and bad")
    assert [text for _, text in heard(wire)] == ["of others, and bad"]


def test_who_comes_back_hears_what_he_has_missed(api: ApiHouse) -> None:
    for number in range(5):
        log.info("event {number}", number=number)
    start = api.feed.start_id
    assert [text for _, text in heard(stream(api, f"{start}-3")[1])] == ["event 3", "event 4"]
    assert heard(stream(api, f"{start}-5")[1]) == []
    assert heard(stream(api)[1]) == []
    for strange in ("0badcafe-3", "nonsense", f"{start}-x", f"{start}--1", f"{start}-{'9' * 30}"):
        assert len(heard(stream(api, strange)[1])) == 5, strange


def test_he_is_told_when_too_much_was_missed(api: ApiHouse) -> None:
    for number in range(KEPT + 10):
        log.info("event {number}", number=number)
    _, wire = stream(api, f"{api.feed.start_id}-4")
    assert b'event: lost\ndata: {"events": 6}\n\n' in wire.value()
    assert len(heard(wire)) == KEPT


def test_a_quiet_stream_gives_signs_of_life(api: ApiHouse) -> None:
    _, wire = stream(api)
    api.clock.pump([HEARTBEAT] * 3)
    assert wire.value().count(b": alive\n\n") == 3
    assert not wire.aborted


def test_a_slow_reader_is_dropped(api: ApiHouse) -> None:
    channel, wire = stream(api)
    channel.pauseProducing()
    before = len(wire.value())
    for _ in range(MOST_UNREAD // 1000 + 10):
        log.info("{text}", text="x" * 1000)
    assert wire.aborted
    assert len(wire.value()) - before <= MOST_UNREAD * 1.05  # with the frames of chunks
    assert not api.feed.streams


def test_one_that_reads_again_in_time_is_not(api: ApiHouse) -> None:
    channel, wire = stream(api)
    for _ in range(5):
        channel.pauseProducing()
        log.info("{text}", text="x" * (MOST_UNREAD // 4))
        channel.resumeProducing()
    assert not wire.aborted
    assert len(heard(wire)) == 5


def test_one_that_takes_nothing_for_long_is_dropped(api: ApiHouse) -> None:
    channel, wire = stream(api)
    channel.pauseProducing()
    api.clock.advance(HEARTBEAT)
    assert wire.aborted


def test_there_is_an_end_to_them(api: ApiHouse) -> None:
    streams = [stream(api) for _ in range(MOST_STREAMS)]
    response = read(stream(api)[1].value())
    assert (response.status, response.fields["retry-after"]) == (503, "10")
    assert response.fields["content-type"] == "application/problem+json"
    streams[0][1].abortConnection()
    streams[0][0].connectionLost()
    assert len(api.feed.streams) == MOST_STREAMS - 1
    assert read(stream(api)[1].value()).status == 200


def test_a_stop_ends_them(api: ApiHouse) -> None:
    _, wire = stream(api)
    api.feed.stop()
    assert wire.value().endswith(b"0\r\n\r\n")
    assert not api.feed.streams
    log.info("later")
    assert heard(wire) == []


def test_head_does_not_stay(api: ApiHouse) -> None:
    response = api.ask("HEAD", "/v1/events")
    assert (response.status, response.fields["content-type"]) == (200, "text/event-stream")
    assert not api.feed.streams

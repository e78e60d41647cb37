"""What a restart would forget, as a text that may come from anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbservice.config import parse
from lbservice.core.settings import ServerSettings, Settings
from lbservice.services.state import State, count_on, read, restored, servers_of, state_of, write
from tests.services.filed import ANNA, NEW, TEXT, Filed
from tests.test_writing import SERVERS

FILE = parse(TEXT)


def state(base: dict[str, str], running: dict[str, str], backend: str = "app") -> State:
    """That of one backend, without counters."""
    return State({backend: base}, {backend: running}, {"frontends": {}, "backends": {}, "servers": {}})


def of(settings: Settings) -> list[tuple[str, str, int]]:
    return [(server.name, server.address, server.weight) for server in settings.backends[0].servers]


BASE = {"s1": "127.0.0.1:9001 weight=2", "s2": "127.0.0.1:9002"}


class TestMerging:
    def test_run_time_changes_are_there_again(self) -> None:
        merged, notes = restored(FILE, state(BASE, {"s1": "127.0.0.1:9001 weight=9", "s3": "127.0.0.1:9003"}))
        assert of(merged) == [("s1", "127.0.0.1:9001", 9), ("s3", "127.0.0.1:9003", 1)]
        assert notes == (
            "[backend app] server s1: 127.0.0.1:9001 weight=2 -> 127.0.0.1:9001 weight=9",
            "[backend app] server s2: 127.0.0.1:9002 -> absent",
            "[backend app] server s3: absent -> 127.0.0.1:9003",
        )

    def test_what_the_file_has_changed_meanwhile_is_as_the_file_says(self) -> None:
        file = parse(TEXT.replace("weight=2", "weight=4 maxconn=3"))
        merged, notes = restored(
            file, state(BASE, BASE | {"s1": "127.0.0.1:9001 weight=9", "s2": "127.0.0.1:9002 backup"})
        )
        assert of(merged) == [("s1", "127.0.0.1:9001", 4), ("s2", "127.0.0.1:9002", 1)]
        assert [server.backup for server in merged.backends[0].servers] == [False, True]
        assert notes[0] == "app/s1 weight: as the file says, not as it was changed before"

    def test_nothing_was_changed(self) -> None:
        assert restored(FILE, state(BASE, BASE)) == (FILE, ())

    def test_what_was_saved_by_hand(self) -> None:
        file = parse(TEXT.replace("weight=2", "weight=9"))
        assert restored(file, state(BASE, BASE | {"s1": "127.0.0.1:9001 weight=9"})) == (file, ())

    def test_a_backend_that_is_gone_is_told_if_it_was_changed(self) -> None:
        gone = state({"x": "a:1"}, {"x": "a:1 weight=2"}, "old")
        assert restored(FILE, gone) == (
            FILE,
            ("backend old is not in the file any more; what was changed in it is forgotten",),
        )
        assert restored(FILE, state(BASE, BASE, "old")) == (FILE, ())

    def test_words_that_mean_nothing_now_are_left_out(self) -> None:
        lost = {"s3": "127.0.0.1:9003 tls ca=/nowhere/ca.pem", "s1": "127.0.0.1:9001 weight=9"}
        merged, notes = restored(FILE, state(BASE, BASE | lost))
        assert of(merged) == [("s1", "127.0.0.1:9001", 9), ("s2", "127.0.0.1:9002", 1)]
        assert notes[0] == (
            "app/s3 = 127.0.0.1:9003 tls ca=/nowhere/ca.pem: ca=/nowhere/ca.pem: no such file: /nowhere/ca.pem"
            " (a relative path starts in the folder of the run); it is left out"
        )

    def test_and_a_server_of_the_file_is_as_the_file_says_then(self) -> None:
        assert restored(FILE, state(BASE, {"s1": "bad", "s2": "127.0.0.1:9002"}))[0] == FILE

    @given(st.lists(SERVERS, max_size=5, unique_by=lambda server: server.name))
    def test_whatever_ran_runs_again(self, servers: list[ServerSettings]) -> None:
        running = replace(FILE, backends=(replace(FILE.backends[0], servers=tuple(servers)),))
        kept = read(write(State(servers_of(FILE), servers_of(running), state({}, {}).counters), 0.0))
        assert restored(FILE, kept)[0] == running


class TestText:
    def test_it_is_read_back(self, tmp_path: Path) -> None:
        house = Filed(tmp_path)
        house.control.add("app", NEW, by=ANNA)
        house["app/s1"].statuses[2] = 7
        before = state_of(house.balancer, house.control.loaded)
        assert read(write(before, 1.5)) == before
        house["app/s1"].statuses[2] = 8
        assert state_of(house.balancer, house.control.loaded) != before

    def test_it_can_be_read_by_people(self, tmp_path: Path) -> None:
        house = Filed(tmp_path)
        lines = write(state_of(house.balancer, house.control.loaded), 1.5).decode().split("\n")
        assert lines[:4] == [
            "{",
            '"what": "state of lbservice",',
            '"version": 1,',
            '"at": 1.5,',
        ]
        assert lines[4] == '"base": {"app": {"s1": "127.0.0.1:9001 weight=2", "s2": "127.0.0.1:9002"}},'

    WHOLE: dict[str, Any] = json.loads(write(state(BASE, BASE), 0.0))

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (b"", "is broken: Expecting value"),
            (b"{", "is broken"),
            (b"\xff\xfe\x00", "is broken"),
            (b"[" * 100_000, "is broken"),
            (b"[]", "is no state file of lbservice"),
            (b'{"what": "else"}', "is no state file of lbservice"),
            (
                json.dumps(WHOLE | {"version": 2}).encode(),
                r"written by a newer lbservice \(version 2, this one knows 1\)",
            ),
            (json.dumps(WHOLE | {"version": "1"}).encode(), "its version is missing"),
            (json.dumps(WHOLE | {"version": True}).encode(), "its version is missing"),
            (json.dumps(WHOLE | {"base": []}).encode(), "servers are missing"),
            (json.dumps(WHOLE | {"running": {"app": {"s1": 1}}}).encode(), "servers are missing"),
            (json.dumps(WHOLE | {"running": {"app": None}}).encode(), "servers are missing"),
            (json.dumps(WHOLE | {"counters": {}}).encode(), "counters are missing"),
        ],
    )
    def test_what_is_none(self, text: bytes, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            read(text)

    @pytest.mark.parametrize(
        "values",
        [
            {"requests": -1},
            {"requests": 1.5},
            {"requests": True},
            {"requests": "1"},
            {"requests": 2**63},
            {"requests": [1]},
            {"requests": [0] * 6},
            {"statuses": 1},
            {"statuses": [1, 2]},
            {"statuses": [0, 0, 0, 0, 0, -1]},
            {"settings": 1},
            {"__class__": 1},
            [],
        ],
    )
    def test_what_is_no_counter(self, values: object) -> None:
        counters = self.WHOLE["counters"] | {"servers": {"app/s1": values}}
        with pytest.raises(ValueError, match="counters are missing, or not as they should be"):
            read(json.dumps(self.WHOLE | {"counters": counters}).encode())

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["app", "s1", "servers", "requests"]), inner, max_size=3)
            ),
        ),
        st.sampled_from(["base", "running", "counters", "version", "what"]),
    )
    def test_nothing_raises_anything_else(self, value: object, key: str) -> None:
        text = json.dumps(self.WHOLE | {key: value}).encode()
        try:
            found = read(text)
        except ValueError:
            return
        restored(FILE, found)


class TestCounters:
    def test_they_go_on(self, tmp_path: Path) -> None:
        house = Filed(tmp_path)
        server, frontend, backend = house["app/s1"], house.balancer.frontends["web"], house.app
        server.requests, server.statuses[2], server.bytes_out = 7, 6, 1000
        frontend.requests, frontend.statuses[4], frontend.connections = 9, 3, 2
        backend.requests, backend.retries = 8, 1
        kept = read(write(state_of(house.balancer, house.control.loaded), 0.0))
        again = Filed(tmp_path)
        again["app/s1"].requests = 1  # one came already
        count_on(again.balancer, kept)
        assert (again["app/s1"].requests, again["app/s1"].statuses[2], again["app/s1"].bytes_out) == (8, 6, 1000)
        web = again.balancer.frontends["web"]
        assert (web.requests, web.statuses, web.connections) == (9, [0, 0, 0, 0, 3, 0], 2)
        assert (again.app.requests, again.app.retries, again["app/s2"].requests) == (8, 1, 0)

    def test_what_is_gone_counts_no_more(self, tmp_path: Path) -> None:
        house = Filed(tmp_path)
        kept = state_of(house.balancer, house.control.loaded)
        again = Filed(tmp_path, TEXT.replace("server s2 = 127.0.0.1:9002\n", ""))
        count_on(again.balancer, kept)
        assert list(again.app.servers) == ["s1"]

"""log follow: which lines are shown, in which colours, and that none is lost when the log is rotated."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbservice.admin.cli import logline
from lbservice.admin.cli.log import Tail
from lbservice.admin.cli.logline import Filter
from tests.admin.cli.service import FakeService, fake_service, lbservice

ACCESS = (
    "127.0.0.1:56306 [22/Nov/2026:17:52:17.033] web~ app/s2 0/0/0/1/1 {} 161 - - ---- 1/1/0/0/0 0/0"
    ' {{0cf01291-2}} "GET / HTTP/1.1"'
)
TCP = "127.0.0.1:5 [22/Nov/2026:17:52:17.033] db pg/p1 0/0/12 161 -- 1/1/0/0/0 0/0"
EVENT = "2026-11-22T18:01:13.385+0000 [lbservice] {}"
DOWN = EVENT.format("server app/s2 is DOWN (L4CON connection refused 127.0.0.1:9002), was UP for 2h03m")
LINES = [
    ACCESS.format(200),
    ACCESS.format(503),
    ACCESS.format(-1),
    TCP,
    DOWN,
    EVENT.format("frontend web is full (10 of 10 connections): clients wait"),
    EVENT.format("warn: backend pg has no server available"),
    "Traceback of something",
]


def wanted(filter: Filter) -> list[int]:
    return [number for number, line in enumerate(LINES) if filter.wants(logline.read(line))]


class TestFilter:
    @pytest.mark.parametrize(
        ("filter", "numbers"),
        [
            (Filter(), [0, 1, 2, 3, 4, 5, 6, 7]),
            (Filter(("app/s2",)), [0, 1, 2, 4]),
            (Filter(("app",)), [0, 1, 2, 4]),
            (Filter(("pg",)), [3, 6]),
            (Filter(("web",)), [0, 1, 2, 5]),
            (Filter(statuses=("5xx",)), [1]),
            (Filter(statuses=("200", "503")), [0, 1]),
            (Filter(events=True), [4, 5, 6, 7]),
            (Filter(("app",), events=True), [4]),
        ],
    )
    def test_what_is_left(self, filter: Filter, numbers: list[int]) -> None:
        assert wanted(filter) == numbers


class TestColours:
    @pytest.mark.parametrize(
        ("line", "colour"), [(ACCESS.format(503), "\x1b[31m"), (ACCESS.format(200), "\x1b[32m"), (DOWN, "\x1b[31m")]
    )
    def test_of_trouble_and_of_the_rest(self, line: str, colour: str) -> None:
        assert colour in logline.read(line).painted()

    def test_a_line_keeps_its_words(self) -> None:
        import click

        for line in LINES:
            assert click.unstyle(logline.read(line).painted()) == line

    def test_what_a_terminal_would_obey_is_taken_out(self) -> None:
        assert "\x1b]" not in logline.read(EVENT.format("\x1b]0;title\x07")).text


class TestFollow:
    def test_the_last_lines_of_the_file_that_lb_ini_names(self, fake: FakeService) -> None:
        Path("lb.log").write_text("\n".join(LINES) + "\n")
        result = lbservice("log", "follow", "--no-wait", "-n", "2", "--backend", "app")
        assert (result.exit_code, result.stdout) == (0, LINES[2] + "\n" + DOWN + "\n")
        assert fake.asked == [], "it is a file on this machine"

    def test_no_log_is_a_no(self, fake: FakeService) -> None:
        result = lbservice("log", "follow")
        assert result.exit_code == 1
        assert "--file FILE names the log" in result.stderr

    def test_with_api_the_events_come_from_the_service(self) -> None:
        with fake_service() as (fake, api):
            events = [{"time": 0.0, "text": "server app/s1 is UP"}, {"time": 0.0, "text": "server pg/p1 is UP\x1b[2J"}]
            text = "".join(f"id: {n}\ndata: {json.dumps(event)}\n\n" for n, event in enumerate(events))
            fake.answers["GET /v1/events"] = (200, f"retry: 2000\n\n: alive\n\n{text}".encode())
            result = lbservice("log", "follow", "--api", api)
            assert [line.partition("] ")[2] for line in result.stdout.splitlines()] == [
                "server app/s1 is UP",
                "server pg/p1 is UP?[2J",
            ]
            assert "pg" not in lbservice("log", "follow", "--api", api, "--server", "app/s1").stdout


class TestGrowth:
    """The file grows, is renamed, is cut; each step happens while nothing new is there."""

    @staticmethod
    def follow(steps: list[list[str]]) -> list[str]:
        """The lines that come while those steps are done, one for each time that it sleeps."""

        def sleep(_: float) -> None:
            if not steps:
                raise TimeoutError
            for step in steps.pop(0):
                match step.split(maxsplit=1):
                    case ["rename", name]:
                        os.rename("lb.log", name)
                    case ["cut", _]:
                        os.truncate("lb.log", 0)
                    case _:
                        with open("lb.log", "a") as file:
                            file.write(step)

        def lines() -> Iterator[str]:
            try:
                with Tail("lb.log", sleep) as tail:
                    assert list(tail.old()) == ["old"]
                    yield from tail.new()
            except TimeoutError:
                return

        Path("lb.log").write_text("old\n")
        return list(lines())

    def test_what_comes_is_shown_and_what_was_there_is_not(self) -> None:
        assert self.follow([["one\n", "two\n"], [], ["three\n"]]) == ["one", "two", "three"]

    def test_a_line_that_comes_in_pieces_is_one(self) -> None:
        assert self.follow([["on"], ["e\ntw"], ["o\n"]]) == ["one", "two"]

    def test_the_file_that_takes_its_place_is_followed_and_the_last_lines_are_not_lost(self) -> None:
        assert self.follow([["one\n", "rename lb.log.1"], [], ["two\n"], ["three\n"]]) == ["one", "two", "three"]

    def test_a_file_that_is_cut_begins_anew(self) -> None:
        assert self.follow([["one\n"], ["cut it", "2\n"]]) == ["one", "2"]

    def test_a_line_without_end_is_cut(self) -> None:
        found = self.follow([["x" * 200_000]])
        assert [len(line) for line in found] == [65536] * 3

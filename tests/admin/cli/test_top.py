"""top: one screen is a function of two looks; the terminal is tried with a real one (a pty)."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from codecs import getincrementaldecoder
from fcntl import ioctl
from typing import Any

import click
import pytest

from lbservice.admin.cli.top import LEAVE, Look, frame
from tests.admin.cli.service import FakeService, lbservice, row

BACKEND = {"backend": "app", "available": 1, "servers": 2, "waiting": 4}
FRONTEND = {"frontend": "web", "requests": 100, "connections": 7, "status_5xx": 3}
STATS = {"uptime": 61.0, "frontends": [FRONTEND], "backends": [BACKEND], "log_dropped": 0}


def look(at: float, *rows: dict[str, Any], requests: int = 100) -> Look:
    return Look(at, STATS | {"frontends": [FRONTEND | {"requests": requests}]}, rows)


def shown(*args: Any) -> list[str]:
    return [click.unstyle(line) for line in frame(*args)]


class TestFrame:
    def test_rates_are_of_the_time_between_two_looks(self) -> None:
        lines = shown(
            look(10.0, row("app/s1", requests=3), requests=100),
            look(12.0, row("app/s1", requests=13), row("app/s2", "DOWN", requests=9), requests=150),
            0,
        )
        assert lines[0] == "lbservice, up 1m01s; 1 of 2 servers available"
        assert lines[1] == "25.0 requests/s, 7 connections, 4 waiting, 150 requests and 3 5xx so far"
        assert re.search(r"app/s1 .* UP +1 +5\.0 +0 +13 ", lines[4])
        assert re.search(r"app/s2 .* DOWN +1 +4\.5 ", lines[5])

    def test_after_a_restart_and_at_first_there_is_no_rate(self) -> None:
        first = look(10.0, row("app/s1", requests=50))
        assert " - requests/s" in " " + shown(first, first, 0)[1]
        assert shown(first, look(11.0, row("app/s1", requests=1), requests=1), 0)[1].startswith("- requests/s")

    @pytest.mark.parametrize("width", [8, 20, 40, 80, 100, 200])
    def test_no_line_is_wider_than_the_screen(self, width: int) -> None:
        now = look(2.0, row("app/s1", reason="a long reason " * 5), row("app/a-long-name", "DOWN 1/2"))
        lines = shown(look(1.0), now, width, 40)
        assert max(map(len, lines)) <= width
        assert any("app/a-long-name"[:width] in line for line in lines)
        assert ("DOWN 1/2" in lines[-1]) == (width >= 40), "the state is one of the last to go"

    @pytest.mark.parametrize("height", [5, 8, 24])
    def test_what_has_no_room_is_counted(self, height: int) -> None:
        rows = [row(f"app/s{number}") for number in range(40)]
        lines = shown(look(1.0), look(2.0, *rows), 100, height)
        assert len(lines) <= height
        there = sum(line.startswith("app/") for line in lines)
        assert lines[-1].startswith(f"... and {40 - there} more")


def answer(fake: FakeService) -> None:
    fake.answers["GET /v1/servers"] = (200, {"items": [row("app/s1"), row("app/s2", "DOWN")]})
    fake.answers["GET /v1/stats"] = (200, STATS)


def test_without_a_terminal_it_prints_a_table_and_ends(fake: FakeService) -> None:
    answer(fake)
    result = lbservice("top", "--interval", "10ms", "--count", "2")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("SERVER") == 2
    assert "\x1b" not in result.stdout


class Screen:
    """`lbservice top` on a terminal of its own."""

    def __init__(self, *options: str, env: dict[str, str] | None = None) -> None:
        self.text = ""
        self.decoder = getincrementaldecoder("utf-8")()
        self.keyboard, terminal = pty.openpty()
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
        self.before = termios.tcgetattr(terminal)
        self.terminal = terminal
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lbservice.admin.cli", "top", "--interval", "50ms", *options],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=os.environ | {"TERM": "xterm"} | (env or {}),
        )

    def read_until(self, expected: str, seconds: float = 15.0) -> str:
        end = time.monotonic() + seconds
        while not re.search(expected, self.text):
            ready, _, _ = select.select([self.keyboard], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{expected!r} is not on the screen:\n{self.text}"
            self.text += self.decoder.decode(os.read(self.keyboard, 65536))
        return self.text

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(5)
        os.close(self.keyboard)
        os.close(self.terminal)


class TestTerminal:
    @pytest.mark.parametrize("key", [b"q", b"Q", b"\x04"])
    def test_a_key_leaves_and_the_terminal_is_as_it_was(self, fake: FakeService, key: bytes) -> None:
        answer(fake)
        screen = Screen()
        try:
            screen.read_until("(?s)app/s2.*app/s2")
            os.write(screen.keyboard, key)
            screen.read_until(re.escape(LEAVE))
            assert screen.process.wait(10) == 0
            assert termios.tcgetattr(screen.terminal) == screen.before
            assert "\x1b[31mDOWN" in screen.text
        finally:
            screen.close()

    def test_a_signal_ends_it_and_the_terminal_is_as_it_was(self, fake: FakeService) -> None:
        answer(fake)
        screen = Screen()
        try:
            screen.read_until("app/s2")
            screen.process.send_signal(signal.SIGTERM)
            screen.read_until(re.escape(LEAVE))
            assert screen.process.wait(10) == 128 + signal.SIGTERM
            assert termios.tcgetattr(screen.terminal) == screen.before
        finally:
            screen.close()

    def test_no_color(self, fake: FakeService) -> None:
        answer(fake)
        screen = Screen(env={"NO_COLOR": "1"})
        try:
            screen.read_until("app/s2")
            assert "\x1b[3" not in screen.text
            os.write(screen.keyboard, b"q")
            assert screen.process.wait(10) == 0
        finally:
            screen.close()

    def test_a_service_that_goes_away_is_said_and_one_that_returns_is_shown(self, fake: FakeService) -> None:
        answer(fake)
        fake.answers["GET /v1/stats"] = [(200, STATS), (200, b"nonsense"), (200, STATS | {"uptime": 4242.0})]
        screen = Screen()
        try:
            screen.read_until("is not the API")
            screen.read_until("up 1h10m")
            screen.process.send_signal(signal.SIGINT)
            assert screen.process.wait(10) == 0
        finally:
            screen.close()

    def test_a_service_that_was_never_there_leaves_the_terminal_alone(self) -> None:
        screen = Screen("--api", "unix:nowhere.sock")
        try:
            screen.read_until("cannot reach the service")
            assert screen.process.wait(10) == 3
            assert termios.tcgetattr(screen.terminal) == screen.before
        finally:
            screen.close()

"""top --tui: Textual's pilot presses the keys, looks are made by hand; one run is on a terminal of its own (a pty)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from threading import Event
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from lbservice.admin.cli import place
from lbservice.admin.cli.command import Talk
from lbservice.admin.cli.failure import Unreachable
from lbservice.admin.cli.service import Service
from lbservice.admin.cli.top import COLUMNS
from lbservice.admin.cli.tui import News, Source, Top
from tests.admin.cli.service import FakeService, lbservice, row
from tests.admin.cli.test_top import STATS, Screen

SERVERS = [
    row("app/s1", requests=10, in_flight=2, since=50.0),
    row("app/s2", "DOWN", requests=30, in_flight=0, reason="[red]L4CON[/red] \x1b[2J", since=5.0),
    row("web/w1", "DRAIN", requests=20, in_flight=7, weight=3, since=500.0),
]
CHECK = {"ago": 1.5, "by": "check", "result": "failed", "code": "L4CON", "took": "1ms", "detail": "refused"}


class Still(Top):
    """It looks only when a test does."""

    def watch_service(self) -> None:
        pass


def answer(fake: FakeService, *servers: dict[str, Any]) -> None:
    fake.answers["GET /v1/servers"] = (200, {"items": list(servers or SERVERS)})
    fake.answers["GET /v1/stats"] = (200, STATS)
    for each in servers or SERVERS:
        fake.answers[f"GET /v1/servers/{each['server']}/health"] = (200, {"items": [CHECK]})


def source(backend: str | None = None) -> Source:
    return Source(Talk(Service(place.find("lb.ini", "", "", None, None)), as_json=False), backend)


class Watched:
    """The app on a screen, and what stands on it."""

    def __init__(self, app: Top, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    async def look(self) -> None:
        self.app.post_message(self.app.ask(self.app.selected))
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    @property
    def table(self) -> DataTable[Any]:
        return self.app.query_one(DataTable)

    def column(self, name: str) -> list[str]:
        at = COLUMNS.index(name)
        return [str(self.table.get_row_at(number)[at]) for number in range(self.table.row_count)]

    def text(self, name: str) -> str:
        return str(self.app.query_one(f"#{name}", Static).content)


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    looks = source()
    app = Still(looks.news(looks.last), looks, 1.0)
    async with app.run_test(size=(140, 30)) as pilot:
        await pilot.pause()
        yield Watched(app, pilot)


def within(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test in a loop of its own, which ends in time."""

    def bounded(self: object, fake: FakeService) -> None:
        asyncio.run(asyncio.wait_for(test(self, fake), 20))

    return bounded


class TestTable:
    @within
    async def test_servers_totals_and_rates(self, fake: FakeService) -> None:
        answer(fake)
        async with watched() as screen:
            assert screen.column("server") == ["app/s1", "app/s2", "web/w1"]
            assert screen.column("state") == ["UP", "DOWN", "DRAIN"]
            assert screen.column("rate/s") == ["-", "-", "-"], "one look has no rate"
            assert "1 of 2 servers available" in screen.text("head")
            looks = screen.app.ask
            assert isinstance(looks, Source)
            before = looks.last.at
            answer(fake, *(each | {"requests": each["requests"] + 7} for each in SERVERS))
            await screen.look()
            assert screen.column("requests") == ["17", "37", "27"]
            assert set(screen.column("rate/s")) == {f"{7 / (looks.last.at - before):.1f}"}

    @within
    async def test_states_have_their_colours_and_words_are_not_obeyed(self, fake: FakeService) -> None:
        answer(fake)
        async with watched() as screen:
            cells = [screen.table.get_row_at(at)[COLUMNS.index("state")] for at in range(3)]
            assert [str(each.style) for each in cells] == ["green", "red", "yellow"]
            assert screen.column("reason")[1] == "[red]L4CON[/red] ?[2J"

    @within
    async def test_keys_sort_and_turn_round(self, fake: FakeService) -> None:
        answer(fake)
        async with watched() as screen:
            for key, order in (
                ("n", ["app/s2", "web/w1", "app/s1"]),
                ("n", ["app/s1", "web/w1", "app/s2"]),
                ("i", ["web/w1", "app/s1", "app/s2"]),
                ("t", ["app/s2", "web/w1", "app/s1"]),
                ("c", ["app/s2", "app/s1", "web/w1"]),
                ("w", ["web/w1", "app/s1", "app/s2"]),
                ("s", ["app/s1", "app/s2", "web/w1"]),
                ("s", ["web/w1", "app/s2", "app/s1"]),
            ):
                await screen.press(key)
                assert screen.column("server") == order, key
            assert "SERVER v" in [str(column.label) for column in screen.table.columns.values()]

    @within
    async def test_b_shows_one_backend_after_the_other(self, fake: FakeService) -> None:
        answer(fake)
        async with watched() as screen:
            seen = []
            for key in ("b", "b", "b", "B"):
                await screen.press(key)
                seen.append(screen.column("server"))
            assert seen == [["app/s1", "app/s2"], ["web/w1"], ["app/s1", "app/s2", "web/w1"], ["web/w1"]]
            assert "only backend web" in screen.text("head")

    @within
    async def test_the_cursor_stays_with_its_server_and_its_checks_are_shown(self, fake: FakeService) -> None:
        answer(fake)
        async with watched() as screen:
            await screen.press("down")
            assert screen.app.selected == "app/s2"
            assert screen.text("checks") == "last checks of app/s2\n..."
            await screen.press("n")
            await screen.look()
            assert (screen.table.cursor_row, screen.app.selected) == (0, "app/s2")
            assert "failed" in screen.text("checks")
            assert "refused" in screen.text("checks")

    @within
    async def test_servers_come_and_go(self, fake: FakeService) -> None:
        answer(fake)
        async with watched() as screen:
            await screen.press("down", "down")
            answer(fake, SERVERS[0], row("app/s9"))
            await screen.look()
            assert screen.column("server") == ["app/s1", "app/s9"]
            assert screen.app.selected == "app/s1"
            fake.answers["GET /v1/servers"] = (200, {"items": []})
            await screen.look()
            assert (screen.table.row_count, screen.text("checks")) == (0, "")


class TestTrouble:
    @pytest.mark.parametrize(
        ("bad", "said"),
        [
            ((503, {"detail": "it is \x1bstopping"}), "it is ?stopping"),
            ((200, b"nonsense"), "is not the API"),
            ((200, {"items": [{"server": "app/s1"}]}), "cannot be read"),
            ((200, []), "cannot be read"),
        ],
    )
    def test_the_table_stays_and_goes_on(self, fake: FakeService, bad: Any, said: str) -> None:
        async def test() -> None:
            answer(fake)
            async with watched() as screen:
                fake.answers["GET /v1/servers"] = bad
                for _ in range(2):
                    await screen.look()
                    assert said in screen.text("head")
                    assert len(screen.column("server")) == 3
                answer(fake, SERVERS[2])
                await screen.look()
                assert said not in screen.text("head")
                assert screen.column("server") == ["web/w1"]

        asyncio.run(asyncio.wait_for(test(), 20))

    def test_a_service_that_was_never_there(self) -> None:
        with pytest.raises(Unreachable):
            Source(Talk(Service(place.find("", "unix:nowhere.sock", "", None, None)), as_json=False), None)


class TestKeys:
    @within
    async def test_no_key_changes_anything(self, fake: FakeService) -> None:
        answer(fake)
        async with watched() as screen:
            for key in "abcdefghijklmnoprstuvwxyz0123456789":
                await screen.press(key)
            await screen.press("enter", "delete", "space", "tab")
            await screen.look()
        assert {each.method for each in fake.asked} == {"GET"}

    @within
    async def test_a_service_that_hangs_does_not_hold_up_the_end(self, fake: FakeService) -> None:
        answer(fake)
        asked, answered = Event(), Event()
        looks = source()
        news = looks.news(looks.last)

        def hang(_: str) -> News:
            asked.set()
            answered.wait(20)
            return news

        app = Top(news, hang, 0.0)
        async with app.run_test() as pilot:
            assert await asyncio.to_thread(asked.wait, 20)
            await pilot.press("q")
            await pilot.pause()
            assert not app.is_running
        answered.set()

    @within
    async def test_these_leave(self, fake: FakeService) -> None:
        answer(fake)
        for key in ("q", "Q", "ctrl+c", "ctrl+d"):
            async with watched() as screen:
                await screen.press(key)
                assert not screen.app.is_running, key


class TestCommand:
    def test_without_textual_it_says_what_to_install(self, fake: FakeService) -> None:
        code = "import sys; sys.modules['textual'] = None; from lbservice.admin.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "top", "--tui"], capture_output=True, text=True, timeout=20, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("lbservice: top --tui needs Textual: pip install 'lbservice[tui]'")
        assert fake.asked == []

    def test_nothing_else_imports_it(self) -> None:
        code = "import sys, lbservice.admin.cli; sys.exit('textual' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], timeout=20, check=False).returncode == 0

    @pytest.mark.parametrize("words", [("--count", "2"), ("--json",), ()])
    def test_what_does_not_go_together_is_usage(self, fake: FakeService, words: tuple[str, ...]) -> None:
        result = lbservice("top", "--tui", *words)
        assert (result.exit_code, fake.asked) == (2, [])

    @pytest.mark.parametrize(("end", "code"), [("q", 0), ("SIGTERM", 128 + signal.SIGTERM)])
    def test_on_a_terminal_and_then_it_is_as_it_was(self, fake: FakeService, end: str, code: int) -> None:
        answer(fake)
        screen = Screen("--tui")
        try:
            screen.read_until(r"\x1b\[91;40mDOWN")
            fake.answers["GET /v1/stats"] = (200, b"nonsense")
            screen.read_until("is not the API")
            fake.answers["GET /v1/stats"] = (200, STATS | {"uptime": 4242.0})
            screen.read_until("1h10m")
            if end == "q":
                os.write(screen.keyboard, b"q")
            else:
                screen.process.send_signal(signal.SIGTERM)
            screen.read_until(r"\x1b\[\?1049l")
            assert screen.process.wait(10) == code
            assert termios.tcgetattr(screen.terminal) == screen.before
        finally:
            screen.close()

    def test_a_service_that_was_never_there_leaves_the_terminal_alone(self) -> None:
        screen = Screen("--tui", "--api", "unix:nowhere.sock")
        try:
            screen.read_until("cannot reach the service")
            assert screen.process.wait(10) == 3
            assert "1049" not in screen.text
        finally:
            screen.close()

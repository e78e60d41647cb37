"""The state file on its clock: when it is written, and what happens when it cannot be."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import formatEvent

from lbservice.services.control import Control
from lbservice.services.statefile import StateFile
from tests.services.fakes import heard
from tests.services.filed import ANNA, NEW, TEXT, Filed


class Kept(Filed):
    """A house with a state file, as `tap` wires it."""

    def __init__(self, folder: Path, text: str = TEXT, disk: Callable[..., Deferred[None]] = maybeDeferred) -> None:
        super().__init__(folder, text)
        self.path = folder / "state.json"
        self.state = StateFile(str(self.path), self.clock, lambda: 1000.0, disk)
        running = self.state.restore(self.control.loaded)
        self.balancer.become(running)
        file = self.control.loaded
        self.control = Control(self.balancer)
        self.control.loaded = file
        self.state.attend(self.control)

    def start(self) -> None:
        """Start it, and have it written."""
        self.state.startService()
        self.wait(0)

    @property
    def kept(self) -> dict[str, Any]:
        """The servers of app in the file."""
        return dict(json.loads(self.path.read_bytes())["running"]["app"])


class SlowDisk:
    """Every writing waits until the test lets it happen."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, call: Callable[..., None], *arguments: Any) -> Deferred[None]:
        done: Deferred[None] = Deferred()

        def go() -> None:
            try:
                call(*arguments)
            except OSError as error:
                done.errback(error)
            else:
                done.callback(None)

        self.waiting.append(go)
        return done

    def let(self) -> None:
        """Write what waits."""
        for go in self.waiting[:]:
            self.waiting.remove(go)
            go()


@pytest.fixture
def house(tmp_path: Path) -> Kept:
    house = Kept(tmp_path)
    house.start()
    return house


class TestWriting:
    def test_at_the_start_so_that_what_fails_is_known_early(self, house: Kept) -> None:
        assert house.kept == {"s1": "127.0.0.1:9001 weight=2", "s2": "127.0.0.1:9002"}

    def test_soon_after_a_change_and_once_a_second_at_most(self, house: Kept) -> None:
        house.wait(30)
        house.control.weight("app/s1", 9, by=ANNA)
        house.wait(0)
        assert house.kept["s1"] == "127.0.0.1:9001 weight=9"
        for weight in range(10, 20):
            house.control.weight("app/s1", weight, by=ANNA)
            house.wait(0)
        assert house.kept["s1"] == "127.0.0.1:9001 weight=9"
        house.wait(1)
        assert house.kept["s1"] == "127.0.0.1:9001 weight=19"

    def test_each_minute_if_something_was_counted(self, house: Kept) -> None:
        house["app/s1"].requests = 5
        before = house.path.stat().st_ino
        house.wait(59)
        assert house.path.stat().st_ino == before
        house.wait(1)
        written = json.loads(house.path.read_bytes())
        assert written["counters"]["servers"]["app/s1"]["requests"] == 5
        after = house.path.stat().st_mtime_ns
        house.wait(180)
        assert house.path.stat().st_mtime_ns == after

    def test_at_the_stop(self, house: Kept) -> None:
        house["app/s1"].requests = 5
        assert house.state.stopService().called
        assert json.loads(house.path.read_bytes())["counters"]["servers"]["app/s1"]["requests"] == 5
        assert not house.clock.getDelayedCalls()

    def test_nobody_waits_for_a_slow_disk(self, tmp_path: Path) -> None:
        disk = SlowDisk()
        house = Kept(tmp_path, disk=disk)
        house.start()
        house.control.weight("app/s1", 9, by=ANNA)
        house.wait(5)
        assert len(disk.waiting) == 1  # one at a time
        disk.let()
        house.wait(1)
        disk.let()
        assert house.kept["s1"] == "127.0.0.1:9001 weight=9"

    def test_the_stop_waits_for_what_is_being_written(self, tmp_path: Path) -> None:
        disk = SlowDisk()
        house = Kept(tmp_path, disk=disk)
        house.start()
        house.control.weight("app/s1", 9, by=ANNA)
        stopped = house.state.stopService()
        assert not stopped.called
        disk.let()
        assert stopped.called
        assert house.kept["s1"] == "127.0.0.1:9001 weight=9"

    def test_only_its_user_may_read_it(self, house: Kept) -> None:
        assert house.path.stat().st_mode & 0o777 == 0o600


class TestRestarting:
    def test_changes_are_there_again_and_still_unsaved(self, house: Kept, tmp_path: Path) -> None:
        house.control.weight("app/s1", 9, by=ANNA)
        house.control.remove("app/s2", by=ANNA)
        house.control.add("app", NEW, by=ANNA)
        house.control.maint("app/s3", by=ANNA)
        house.state.stopService()
        again = Kept(tmp_path, house.text)
        assert again.weights() == {"s1": 9, "s3": 1}
        assert again["app/s3"].state == "MAINT"
        assert len(again.differs()) == 3
        again.control.save(by=ANNA)
        assert "server s3 = 127.0.0.1:9003 state=maint" in again.text

    def test_what_was_saved_is_no_change_any_more(self, house: Kept, tmp_path: Path) -> None:
        house.control.weight("app/s1", 9, by=ANNA)
        house.control.save(by=ANNA)
        house.state.stopService()
        again = Kept(tmp_path, house.text.replace("weight=9", "weight=3"))
        assert again.weights()["s1"] == 3

    def test_what_is_kept_is_told(self, house: Kept, tmp_path: Path) -> None:
        house.control.weight("app/s1", 9, by=ANNA)
        house.state.stopService()
        with heard("restored") as events:
            Kept(tmp_path).start()
        assert [formatEvent(event) for event in events] == [
            f"kept in {house.path}: [backend app] server s1: 127.0.0.1:9001 weight=2 -> 127.0.0.1:9001 weight=9"
        ]

    @pytest.mark.parametrize("text", [b"", b"not json", b"{}", b'{"what": "state of lbservice", "version": 99}'])
    def test_one_that_cannot_be_used_is_put_aside(self, tmp_path: Path, text: bytes) -> None:
        (tmp_path / "state.json").write_bytes(text)
        with heard("state-unusable") as events:
            house = Kept(tmp_path)
            house.start()
        assert house.weights() == {"s1": 2, "s2": 1}
        assert (tmp_path / "state.json.aside").read_bytes() == text
        assert house.kept["s1"] == "127.0.0.1:9001 weight=2"
        assert f"the start is without it, it is kept as {house.path}.aside" in str(formatEvent(events[0]))

    def test_one_that_is_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lbservice.services.statefile.LONGEST", 10)
        (tmp_path / "state.json").write_bytes(b"x" * 11)
        with heard("state-unusable") as events:
            Kept(tmp_path).start()
        assert "is larger than 10 bytes" in str(formatEvent(events[0]))

    def test_one_that_cannot_be_put_aside_is_not_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "state.json").write_bytes(b"precious")
        (tmp_path / "state.json.aside").mkdir()
        with heard("state-unusable") as events:
            house = Kept(tmp_path)
            house.start()
            house.control.weight("app/s1", 9, by=ANNA)
            house.wait(100)
            house.state.stopService()
        assert house.path.read_bytes() == b"precious"
        assert "so no state is kept at all" in str(formatEvent(events[0]))


class TestFailing:
    def test_it_is_told_once_and_once_more_when_it_is_over(self, house: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with heard("state-lost", "state-again") as events:
            monkeypatch.setattr("os.write", full)
            for weight in (7, 8, 9):
                house.control.weight("app/s1", weight, by=ANNA)
                house.wait(2)
            monkeypatch.undo()
            house.wait(60)
        assert [formatEvent(event) for event in events] == [
            f"state file {house.path} cannot be written: No space left on device;"
            " a restart forgets what is changed until it can",
            f"state file {house.path}: written again",
        ]
        assert house.kept["s1"] == "127.0.0.1:9001 weight=9"

    def test_changes_say_what_becomes_of_them(self, house: Kept) -> None:
        change = house.control.weight("app/s1", 9, by=ANNA)
        assert str(change).endswith(f"(change 1; not in lb.ini, kept in {house.path})")
        house.state.well = False
        change = house.control.weight("app/s1", 8, by=ANNA)
        assert str(change).endswith("(change 2; a restart forgets it, unless it is saved)")

    def test_the_undo_of_a_reload_is_not_kept(self, house: Kept) -> None:
        house.edit("check = none", "retries = 9\ncheck = none")
        house.control.reload(by=ANNA)
        assert "a restart forgets it, unless it is saved" in str(house.control.undo(1, by=ANNA))

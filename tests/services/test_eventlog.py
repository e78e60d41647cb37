from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel

from lbservice.core.events import Access
from lbservice.services.eventlog import QUIET, REOPEN, SLICE, EventLog
from tests.services.fakes import heard
from tests.services.test_accessline import NOON

ours = Logger("lbservice.test")
theirs = Logger("twisted.web")


def finished(number: int) -> Access:
    """A session that is over; the log names its frontend after its number."""
    access = Access(http=False, client="a:1", frontend=f"f{number}", backend="b", began=0.0)
    access.ended = 0.5
    return access


class House:
    """A log at a path, and who writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.log = EventLog(str(path), self.clock, wall=lambda: NOON + self.clock.seconds())
        self._next = 0

    def serve(self, count: int = 1) -> None:
        """So many sessions end: f0, f1, ..."""
        for _ in range(count):
            self.log.access(finished(self._next))
            self._next += 1

    @property
    def text(self) -> str:
        return self.path.read_text("latin-1") if self.path.exists() else ""

    @property
    def order(self) -> list[str]:
        """Each line in short: fN of a session, or the sentence of an event."""
        return [re.sub(r"^\S+ \[[^]]+\] (?:(f\d+) .*)?", r"\1", line) for line in self.text.splitlines()]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "lb.log")
    house.log.startService()
    yield house
    if house.log.running:
        house.log.stopService()


@pytest.fixture
def shut_out(tmp_path: Path) -> Iterator[House]:
    """A house whose log is in a folder that does not exist yet."""
    house = House(tmp_path / "missing" / "lb.log")
    yield house
    if house.log.running:
        house.log.stopService()


class TestOrder:
    def test_an_event_goes_out_at_once_behind_the_lines_before_it(self, house: House) -> None:
        house.serve(2)
        ours.info("server app/s1 is DOWN")
        house.serve()
        assert house.order == ["f0", "f1", "server app/s1 is DOWN"]
        house.clock.advance(QUIET)
        assert house.order == ["f0", "f1", "server app/s1 is DOWN", "f2"]

    def test_whoever_reads_on_is_read_in_order(self, house: House) -> None:
        for number in range(SLICE + 3):
            house.serve()
            if number % 20 == 0:
                ours.info("event {number}", number=number)
        house.log.flush()
        lines = [f"f{number}" for number in range(SLICE + 3)]
        for at, number in enumerate(range(0, SLICE + 3, 20)):
            lines.insert(number + 1 + at, f"event {number}")
        assert house.order == lines


class TestSlices:
    def test_a_line_waits_a_moment_for_company(self, house: House) -> None:
        house.serve()
        assert house.order == []
        house.clock.advance(QUIET / 2)
        house.serve()
        house.clock.advance(QUIET / 2)
        assert house.order == ["f0", "f1"]

    def test_a_full_slice_goes_out_at_once(self, house: House) -> None:
        house.serve(SLICE - 1)
        assert house.order == []
        house.serve(2)
        assert len(house.order) == SLICE

    def test_quiet_again_no_timer_is_left(self, house: House) -> None:
        house.serve(SLICE)
        house.clock.advance(QUIET)
        assert house.clock.getDelayedCalls() == []
        house.serve()
        house.clock.advance(QUIET)
        assert len(house.order) == SLICE + 1

    def test_a_stop_writes_what_is_pending(self, house: House) -> None:
        house.serve(3)
        house.log.stopService()
        assert house.order == ["f0", "f1", "f2"]
        assert house.clock.getDelayedCalls() == []

    def test_lines_are_stamped_with_the_time_they_began_not_the_time_they_are_written(self, house: House) -> None:
        house.clock.advance(60)
        house.serve()
        house.clock.advance(QUIET)
        assert "[22/Nov/2026:12:05:01.000]" in house.text


class TestWhatIsWritten:
    def test_an_event_is_a_time_and_a_sentence(self, house: House) -> None:
        house.log(
            {
                "log_namespace": "lbservice.services.monitor",
                "log_level": LogLevel.info,
                "log_format": "server {server} is UP",
                "log_time": NOON,
                "server": "app/s1",
            }
        )
        assert house.text == "2026-11-22T12:05:01.000+0100 [lbservice] server app/s1 is UP\n"

    def test_what_is_serious_says_how_serious(self, house: House) -> None:
        ours.warn("hm")
        ours.error("oh")
        ours.critical("no")
        assert house.order == ["warn: hm", "error: oh", "critical: no"]

    def test_debug_is_for_others(self, house: House) -> None:
        ours.debug("details")
        assert house.order == []

    def test_of_others_only_what_is_serious(self, house: House) -> None:
        theirs.info("Starting factory")
        theirs.warn("something odd")
        assert house.order == ["warn: something odd"]

    def test_an_event_stays_one_line(self, house: House) -> None:
        ours.info("typed: {line}", line='x\r\n2026 [lbservice] server "app/s1"\x1b[2J is DOWN')
        assert house.order == ['typed: x\\x0d\\x0a2026 [lbservice] server "app/s1"\\x1b[2J is DOWN']

    def test_a_failure_has_its_traceback_indented_below(self, house: House) -> None:
        self.fail_with("oops")
        first, *trace = house.text.splitlines()
        assert first.endswith("[lbservice] critical: while testing")
        assert all(line.startswith("    ") for line in trace)
        assert trace[-1] == "    builtins.ValueError: oops"

    def test_a_traceback_cannot_command_the_terminal_nor_forge_a_line(self, house: House) -> None:
        self.fail_with("x\x1b[2J\r\n\x852026 [lbservice] \x9bserver is DOWN")
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", house.text)
        assert all(line.startswith("    ") for line in house.text.splitlines()[1:])

    @staticmethod
    def fail_with(words: str) -> None:
        try:
            raise ValueError(words)
        except ValueError:
            ours.failure("while testing")

    def test_any_letter_can_be_written(self, house: House) -> None:
        ours.info("gr\xfc\xdfe \u2192 \U0001f600 \udc80")
        assert house.order == ["gr\xfc\xdfe \\u2192 \\U0001f600 \\udc80"]

    def test_nobody_else_may_read_it(self, house: House) -> None:
        assert stat.S_IMODE(house.path.stat().st_mode) & 0o027 == 0

    def test_what_was_there_stays(self, tmp_path: Path) -> None:
        (tmp_path / "lb.log").write_text("yesterday\n")
        house = House(tmp_path / "lb.log")
        house.log.startService()
        ours.info("today")
        house.log.stopService()
        assert house.order[0] == "yesterday"
        assert house.order[1:] == ["today"]

    def test_a_stopped_log_hears_nothing(self, house: House) -> None:
        house.log.stopService()
        ours.info("too late")
        assert house.order == []


class TestRotation:
    def test_reopen_goes_on_in_a_new_file(self, house: House, tmp_path: Path) -> None:
        house.serve()
        house.path.rename(tmp_path / "lb.log.1")
        house.serve()
        house.log.reopen()
        house.serve()
        house.log.flush()
        assert house.order == ["log reopened", "f2"]
        assert (tmp_path / "lb.log.1").read_text().count("\n") == 2

    def test_until_then_the_old_file_is_written(self, house: House, tmp_path: Path) -> None:
        house.path.rename(tmp_path / "lb.log.1")
        ours.info("after the move")
        assert "after the move" in (tmp_path / "lb.log.1").read_text()
        assert not house.path.exists()

    def test_no_file_is_left_open(self, house: House) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            house.log.reopen()
        assert len(os.listdir("/proc/self/fd")) == before


class TestTrouble:
    """A log that cannot be written never stops traffic."""

    def test_it_is_said_once_and_lost_lines_are_counted(self, shut_out: House) -> None:
        with heard("log-lost") as events:
            shut_out.log.startService()
            for _ in range(4):
                shut_out.serve(SLICE)
                shut_out.clock.advance(REOPEN + 1)
        assert shut_out.log.dropped == 4 * SLICE
        assert [event["reason"] for event in events] == ["No such file or directory"]

    def test_events_that_are_lost_count_too(self, shut_out: House) -> None:
        shut_out.log.startService()
        ours.info("nobody will read this")
        assert shut_out.log.dropped == 1

    def test_it_is_tried_again_after_a_while_and_the_loss_is_told(self, shut_out: House) -> None:
        shut_out.log.startService()
        shut_out.serve(3)
        shut_out.log.flush()
        shut_out.path.parent.mkdir()
        shut_out.serve()
        shut_out.log.flush()
        assert shut_out.order == [], "not at every line"
        shut_out.clock.advance(REOPEN)
        shut_out.serve()
        shut_out.log.flush()
        assert shut_out.order == ["f4", f"warn: log {shut_out.path}: written again; 4 lines lost"]
        shut_out.serve()
        shut_out.log.flush()
        assert shut_out.order[2:] == ["f5"]
        assert shut_out.log.dropped == 4

    def test_reopen_tries_at_once(self, shut_out: House) -> None:
        shut_out.log.startService()
        shut_out.path.parent.mkdir()
        shut_out.log.reopen()
        assert shut_out.order[0] == "log reopened"

    def test_a_new_trouble_is_said_anew(self, house: House, tmp_path: Path) -> None:
        away = tmp_path / "away"
        with heard("log-lost") as events:
            for _ in range(2):
                house.path.unlink()
                house.path.mkdir()
                house.log.reopen()
                house.path.rmdir()
                house.log.reopen()
        assert [event["reason"] for event in events] == ["Is a directory"] * 2
        assert not away.exists()

    def test_a_full_disk_loses_lines_and_nothing_else(self) -> None:
        full = House(Path("/dev/full"))
        with heard("log-lost") as events:
            full.log.startService()
            full.serve(3)
            full.log.flush()
            said = full.log.dropped - 3
            ours.info("nor this")
            full.serve(2)
            full.log.flush()
        full.log.stopService()
        assert said == 1, "the notice itself was lost too"
        assert full.log.dropped == 3 + said + 1 + 2
        assert [event["reason"] for event in events] == ["No space left on device"]

    def test_when_there_is_room_again_it_goes_on(self, tmp_path: Path) -> None:
        """The log is a link to a full disk that is then pointed elsewhere."""
        link = tmp_path / "lb.log"
        link.symlink_to("/dev/full")
        house = House(link)
        house.log.startService()
        ours.info("lost")
        link.unlink()
        house.log.reopen()
        house.log.stopService()
        assert house.order[0] == "log reopened"
        assert house.order[1] == f"warn: log {link}: written again; 2 lines lost"

    def test_a_line_that_was_torn_does_not_tear_the_next_one(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that fills up takes the beginning of a line; what comes when there is room again stands for itself."""
        disk = SmallDisk(room=30)
        monkeypatch.setattr(os, "write", disk.write)
        house.serve()
        house.log.flush()
        assert house.log.dropped > 0
        disk.room = 10_000
        house.serve()
        house.log.flush()
        monkeypatch.undo()
        torn, *others = house.order
        assert len(torn) <= 30
        assert others[0] == "f1"


class SmallDisk:
    """Takes as many bytes as there is room for, like the kernel: a part of a write if need be, then ENOSPC."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def write(self, fd: int, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = data[: self.room]
        self.room -= len(part)
        return self._write(fd, part)


def test_starting_twice_writes_once(house: House) -> None:
    house.log.startService()
    ours.info("once")
    assert house.order == ["once"]

"""What was changed at run time is written back into the file, all of it or nothing."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.logger import formatEvent

from lbservice.config import load
from lbservice.core.change import By
from lbservice.errors import ControlError
from tests.services.fakes import heard
from tests.services.filed import ANNA, BEN, NEW, TEXT, Filed


@pytest.fixture
def house(tmp_path: Path) -> Filed:
    return Filed(tmp_path)


def change_a_lot(house: Filed) -> None:
    house.control.weight("app/s1", 5, by=ANNA)
    house.control.drain("app/s2", by=ANNA)
    house.control.add("app", NEW, by=ANNA)


SAVED = TEXT.replace("weight=2 ;", "weight=5 ;").replace("9002\n", "9002 state=drain\nserver s3 = 127.0.0.1:9003\n")


class TestSaving:
    def test_the_file_says_what_runs_and_keeps_its_comments(self, house: Filed) -> None:
        change_a_lot(house)
        change = house.control.save(by=ANNA)
        assert house.text == SAVED
        assert house.backup.read_text() == TEXT
        assert load(str(house.file)) == house.balancer.running_settings
        assert str(change) == (
            f"{house.file}: saved, 3 differences -> saved (change 4)\n"
            "  [backend app] server s1: 127.0.0.1:9001 weight=2 -> 127.0.0.1:9001 weight=5\n"
            "  [backend app] server s2: 127.0.0.1:9002 -> 127.0.0.1:9002 state=drain\n"
            "  [backend app] server s3: absent -> 127.0.0.1:9003"
        )

    @pytest.mark.parametrize(
        ("verb", "value", "line"),
        [
            ("weight", 0, "server s1 = 127.0.0.1:9001 weight=0 ; the fast one"),
            ("weight", 1, "server s1 = 127.0.0.1:9001 ; the fast one"),
            ("maxconn", 7, "server s1 = 127.0.0.1:9001 weight=2 maxconn=7 ; the fast one"),
            ("address", "[::1]:80", "server s1 = [::1]:80 weight=2 ; the fast one"),
            ("maint", None, "server s1 = 127.0.0.1:9001 weight=2 state=maint ; the fast one"),
        ],
    )
    def test_each_verb(self, house: Filed, verb: str, value: object, line: str) -> None:
        arguments = () if value is None else (value,)
        getattr(house.control, verb)("app/s1", *arguments, by=ANNA)
        house.control.save(by=ANNA)
        assert house.text == TEXT.replace("server s1 = 127.0.0.1:9001 weight=2 ; the fast one", line)

    def test_removed_ones_also_while_they_still_leave(self, house: Filed) -> None:
        house["app/s1"].in_flight = 1
        house.control.remove("app/s1", by=ANNA)
        house.control.save(by=ANNA)
        assert house.text == TEXT.replace("server s1 = 127.0.0.1:9001 weight=2 ; the fast one\n", "")

    def test_nothing_differs_then(self, house: Filed) -> None:
        change_a_lot(house)
        assert len(house.differs()) == 3
        house.control.save(by=ANNA)
        assert house.differs() == []
        assert not house.control.save(by=BEN).changed
        assert not house.control.reload(by=BEN).changed

    def test_what_was_changed_before_is_saved_and_what_comes_later_is_not(self, house: Filed) -> None:
        change_a_lot(house)
        house.control.save(by=ANNA)
        assert all(change.saved for change in house.control.changes())
        change = house.control.weight("app/s1", 6, by=BEN)
        assert not change.saved
        assert "a restart forgets it, unless it is saved" in str(change)
        assert [change.saved for change in house.control.changes()] == [False, True, True, True, True]

    def test_a_change_that_was_saved_can_be_undone_and_saved_again(self, house: Filed) -> None:
        change_a_lot(house)
        house.control.save(by=ANNA)
        for number in (3, 2, 1):
            house.control.undo(number, by=BEN)
        house.control.save(by=BEN)
        assert house.text == TEXT

    def test_a_server_that_was_removed_and_saved_comes_back_in_its_place(self, house: Filed) -> None:
        house.control.remove("app/s1", by=ANNA)
        house.control.save(by=ANNA)
        house.control.undo(1, by=ANNA)
        house.control.save(by=ANNA)
        assert house.text == TEXT.replace(" ; the fast one", "")

    def test_it_is_one_event_that_says_what_was_written_and_why(self, house: Filed) -> None:
        house.control.weight("app/s1", 5, by=ANNA)
        with heard("change") as events:
            house.control.save(by=By("anna", "api", "for good"))
        assert [formatEvent(event) for event in events] == [
            f"{house.file} saved by anna (1 difference -> saved), change 2: for good;"
            " [backend app] server s1: 127.0.0.1:9001 weight=2 -> 127.0.0.1:9001 weight=5"
        ]

    def test_the_log_has_a_part_of_very_many(self, house: Filed) -> None:
        for number in range(70):
            house.control.add("app", replace(NEW, name=f"x{number}"), by=ANNA)
        with heard("change") as events:
            change = house.control.save(by=ANNA)
        assert len(change.details) == 70
        assert str(formatEvent(events[0])).endswith("server x49: absent -> 127.0.0.1:9003; and 20 more")

    def test_the_undo_of_a_reload_is_saved_too(self, house: Filed) -> None:
        house.edit("check = none   ; for now", "retries = 5\ncheck = none   ; for now")
        house.control.reload(by=ANNA)
        house.control.undo(1, by=ANNA)
        assert house.differs() == [("retries", "", "5")]
        house.control.save(by=ANNA)
        assert house.text == TEXT

    def test_what_waits_for_the_next_start_stays_as_the_file_says(self, house: Filed) -> None:
        house.edit("# Ours.\n", "[loadbalancer]\nlog = other.log\n")
        house.control.reload(by=ANNA)
        house.control.weight("app/s1", 5, by=ANNA)
        house.control.save(by=ANNA)
        assert "log = other.log\n" in house.text

    def test_a_maxconn_that_the_process_cannot_have_is_not_written(self, tmp_path: Path) -> None:
        house = Filed(tmp_path, TEXT.replace("# Ours.", "[loadbalancer]\nmaxconn = 1000000"))
        house.control._most_clients = 100
        house.control.loaded = house.control._bounded(house.control.loaded)
        house.balancer.settings = house.control._bounded(house.balancer.settings)
        house.control.weight("app/s1", 5, by=ANNA)
        house.control.save(by=ANNA)
        assert "maxconn = 1000000\n" in house.text


class TestAfterAnEdit:
    """Somebody has changed the file since it was read."""

    def test_it_is_refused_and_reload_keeps_both(self, house: Filed) -> None:
        change_a_lot(house)
        house.edit("# Ours.", "# Ours!\n[loadbalancer]\ngrace = 3s")
        edited = house.text
        with pytest.raises(ControlError) as caught:
            house.control.save(by=ANNA)
        assert str(caught.value) == (
            f"{house.file} was changed since it was read ([loadbalancer] grace: absent -> 3s);"
            " reload first, which keeps both, and then save"
        )
        assert house.text == edited
        house.control.reload(by=ANNA)
        house.control.save(by=ANNA)
        assert house.text == SAVED.replace("# Ours.", "# Ours!\n[loadbalancer]\ngrace = 3s")

    def test_comments_are_no_change(self, house: Filed) -> None:
        house.control.weight("app/s1", 5, by=ANNA)
        house.edit("the fast one", "the very fast one")
        house.control.save(by=ANNA)
        assert "weight=5 ; the very fast one" in house.text

    def test_another_order_is_one(self, house: Filed) -> None:
        house.file.write_text(
            TEXT.replace("server s2 = 127.0.0.1:9002\n", "").replace("check", "server s2 = 127.0.0.1:9002\ncheck", 1)
        )
        with pytest.raises(ControlError, match="was changed since it was read; reload first"):
            house.control.save(by=ANNA)

    def test_a_mistake_is_named(self, house: Filed) -> None:
        house.control.weight("app/s1", 5, by=ANNA)
        house.edit("check = none", "chekc = none")
        before = house.text
        with pytest.raises(ControlError, match=r"lb.ini:7: \[backend app\] chekc = none: unknown key") as caught:
            house.control.save(by=ANNA)
        assert "nothing was saved" in str(caught.value)
        assert house.text == before

    def test_one_that_is_gone(self, house: Filed) -> None:
        house.file.unlink()
        with pytest.raises(ControlError, match="No such file or directory; nothing was saved"):
            house.control.save(by=ANNA)


class TestFailing:
    @pytest.fixture
    def full(self, house: Filed, monkeypatch: pytest.MonkeyPatch) -> Filed:
        """A house on a full disk."""
        change_a_lot(house)

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.write", fail)
        return house

    def test_nothing_is_changed_in_the_file_and_nothing_counts_as_saved(self, full: Filed) -> None:
        with heard("change", "save-failed") as events, pytest.raises(ControlError) as caught:
            full.control.save(by=ANNA)
        sentence = f"{full.file} cannot be saved: No space left on device; nothing was changed in it"
        assert str(caught.value).startswith(sentence)
        assert (full.text, full.backup.exists()) == (TEXT, False)
        assert len(full.differs()) == 3
        assert not any(change.saved for change in full.control.changes())
        assert [event["event"] for event in events] == ["save-failed"]
        assert "for anna" in str(formatEvent(events[0]))

    @pytest.mark.parametrize(
        ("number", "hint"),
        [
            (errno.EACCES, "let the balancer's user write this file, and in {folder}"),
            (errno.EPERM, "let the file belong to the balancer's user and group"),
            (errno.EBUSY, "a file that is mounted cannot be replaced, mount {folder}"),
        ],
    )
    def test_what_to_do_is_said(self, house: Filed, monkeypatch: pytest.MonkeyPatch, number: int, hint: str) -> None:
        house.control.weight("app/s1", 5, by=ANNA)

        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("os.rename", fail)
        with pytest.raises(ControlError) as caught:
            house.control.save(by=ANNA)
        assert str(caught.value).endswith(f"nothing was changed in it; {hint.format(folder=house.file.parent)}")

    def test_it_works_again_when_there_is_room(self, full: Filed, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ControlError):
            full.control.save(by=ANNA)
        monkeypatch.undo()
        full.control.save(by=ANNA)
        assert full.text == SAVED

    def test_somebody_writes_in_the_same_moment(self, house: Filed, monkeypatch: pytest.MonkeyPatch) -> None:
        house.control.weight("app/s1", 5, by=ANNA)
        fsync = os.fsync

        def meanwhile(descriptor: int) -> None:
            house.file.write_text("another text")
            fsync(descriptor)

        monkeypatch.setattr("os.fsync", meanwhile)
        with pytest.raises(ControlError, match="was changed by somebody else in this moment"):
            house.control.save(by=ANNA)
        assert house.text == "another text"

    def test_what_cannot_be_said_is_not_written(self, house: Filed, monkeypatch: pytest.MonkeyPatch) -> None:
        house.control.weight("app/s1", 5, by=ANNA)
        monkeypatch.setattr("lbservice.services.saving.edited", lambda text, wanted: text)
        with pytest.raises(ControlError, match="cannot say what runs; nothing was saved"):
            house.control.save(by=ANNA)
        assert house.text == TEXT


class TestReopening:
    def test_the_log_goes_on_in_a_new_file(self, house: Filed, tmp_path: Path) -> None:
        with house.running():
            house.eventlog.startService()
            (tmp_path / "lb.log").rename(tmp_path / "lb.log.1")
            change = house.control.reopen(by=ANNA)
            assert str(change) == f"{tmp_path}/lb.log: reopened, open -> open anew (change 1)"
            assert "log reopened" in (tmp_path / "lb.log").read_text()
            house.eventlog.stopService()

    def test_one_that_cannot_be_opened(self, house: Filed, tmp_path: Path) -> None:
        (tmp_path / "lb.log").mkdir()
        with pytest.raises(ControlError, match=r"lb.log cannot be opened: Is a directory; lines are lost until it can"):
            house.control.reopen(by=ANNA)
        assert house.control.changes() == ()

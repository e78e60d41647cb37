"""Passwords for the shell: the file, who is let in, and how guessing is slowed. Without threads and real time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bcrypt
import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from lbservice.admin import passwords
from lbservice.admin.passwords import NOBODY, Failures, PasswordFile, Passwords
from lbservice.errors import StartError
from tests.admin.fakes import events

HASH = b"$2b$12$" + b"a" * 53
"""Not the hash of anything, but of the right form."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "passwords"
    file.write_bytes(b"# operators\n\nalice:" + HASH + b"\nbob:$2y$" + HASH[4:] + b"\n")
    file.chmod(0o600)
    return file


class TestFile:
    def test_names_and_hashes(self, path: Path) -> None:
        assert PasswordFile(str(path)).read() == {b"alice": HASH, b"bob": b"$2y$" + HASH[4:]}

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            (b"alice:secret", "line 1 is no NAME:HASH with a hash of bcrypt; make one with: python -m"),
            (b"alice", "line 1 is no NAME:HASH"),
            (b"al ice:" + HASH, "line 1 is no NAME:HASH"),
            (b"alice:" + HASH.replace(b"$12$", b"$04$"), "line 1: the cost of the hash is 04; take 12"),
            (b"alice:" + HASH.replace(b"$12$", b"$31$"), "line 1: the cost of the hash is 31; take 12"),
            (b"alice:" + HASH + b"\nalice:" + HASH, "line 2: alice is there already"),
        ],
    )
    def test_a_line_that_cannot_be_is_refused_without_being_shown(self, path: Path, line: bytes, why: str) -> None:
        path.write_bytes(line)
        with pytest.raises(StartError, match=why) as refused:
            PasswordFile(str(path)).read()
        assert "secret" not in str(refused.value)
        assert HASH.decode() not in str(refused.value)

    @pytest.mark.parametrize("mode", [0o644, 0o604, 0o622, 0o660])
    def test_one_that_others_may_read_or_write_is_refused(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        with pytest.raises(StartError, match=rf"mode {mode:04o} lets others .*; run chmod 600 {path}"):
            PasswordFile(str(path)).read()

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(StartError, match="No such file"):
            PasswordFile(str(tmp_path / "gone")).read()


class House:
    """Passwords over a file, with a comparison that answers when it is told to."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.compared: list[tuple[bytes, bytes]] = []
        self.waits: list[Deferred[bool]] | None = None
        self.passwords = Passwords(PasswordFile(str(path)), self.clock, self.compare)

    def compare(self, password: bytes, hashed: bytes) -> Deferred[bool]:
        self.compared.append((password, hashed))
        if self.waits is not None:
            self.waits.append(Deferred())
            return self.waits[-1]
        return succeed(password == b"open sesame")

    def log_in(self, name: bytes, password: bytes, address: str = "192.0.2.7") -> list[bool]:
        """The answer, as soon as it is there."""
        answers: list[bool] = []
        Deferred.fromCoroutine(self.passwords.check(name, password, address, "ssh")).addCallback(answers.append)
        return answers


@pytest.fixture
def house(path: Path) -> House:
    return House(path)


class TestLogin:
    def test_who_has_the_password_is_let_in_at_once(self, house: House) -> None:
        assert house.log_in(b"alice", b"open sesame") == [True]
        assert house.log_in(b"bob", b"open sesame") == [True]

    def test_a_wrong_one_is_told_after_a_second_and_logged_without_it(self, house: House) -> None:
        with capturedLogs() as logged:
            answers = house.log_in(b"alice", b"hunter2")
            assert answers == []
            house.clock.advance(0.99)
            assert answers == []
            house.clock.advance(0.01)
        assert answers == [False]
        (event,) = events(list(logged), "shell-refused")
        assert (event["name"], event["address"], event["why"]) == ("alice", "192.0.2.7", "wrong password")
        assert "hunter2" not in repr(logged)

    def test_an_unknown_name_costs_as_much_as_a_known_one(self, house: House) -> None:
        answers = house.log_in(b"mallory", b"open sesame")
        house.clock.advance(1)
        assert answers == [False]
        assert house.compared == [(b"open sesame", NOBODY)]

    @pytest.mark.parametrize("password", [b"open sesame\0", b"x" * 73])
    def test_what_bcrypt_would_cut_is_wrong(self, house: House, password: bytes) -> None:
        answers = house.log_in(b"alice", password)
        house.clock.advance(1)
        assert answers == [False]

    def test_each_failure_doubles_the_wait_and_a_try_before_its_end_is_not_looked_at(self, house: House) -> None:
        answers = house.log_in(b"alice", b"1")
        house.clock.advance(1)
        again = house.log_in(b"alice", b"2")
        house.clock.advance(1.9)
        assert (answers, again) == ([False], [])
        with capturedLogs() as logged:
            early = house.log_in(b"alice", b"open sesame")
        assert [event["why"] for event in events(list(logged), "shell-refused")] == ["tried again too soon"]
        assert len(house.compared) == 2
        house.clock.advance(4)
        assert (again, early) == ([False], [False])
        assert house.log_in(b"alice", b"open sesame") == [True]

    def test_another_address_does_not_wait(self, house: House) -> None:
        for _ in range(5):
            house.log_in(b"alice", b"1")
        assert house.log_in(b"alice", b"open sesame", "192.0.2.8") == [True]

    def test_one_is_compared_at_a_time_and_few_may_wait(self, house: House) -> None:
        house.waits = []
        answers = [house.log_in(b"alice", b"open sesame", f"192.0.2.{number}") for number in range(11)]
        assert len(house.waits) == 1
        house.clock.advance(1)
        assert [answer for answer in answers if answer] == [[False]] * 2, "those that found no place"
        for number in range(9):
            house.waits[number].callback(True)
        assert len(house.waits) == 9
        assert [answer for answer in answers if answer == [True]] == [[True]] * 9

    def test_a_file_that_goes_bad_lets_nobody_in(self, house: House, path: Path) -> None:
        path.chmod(0o644)
        with capturedLogs() as logged:
            answers = house.log_in(b"alice", b"open sesame")
            house.clock.advance(1)
        assert answers == [False]
        assert "run chmod 600" in events(list(logged), "shell-refused")[0]["reason"]

    def test_who_is_taken_out_of_the_file_is_out(self, house: House, path: Path) -> None:
        path.write_bytes(b"# nobody\n")
        answers = house.log_in(b"alice", b"open sesame")
        house.clock.advance(1)
        assert answers == [False]


class TestFailures:
    def test_they_double_to_a_bound_and_are_forgotten(self) -> None:
        now = [0.0]
        failures = Failures(lambda: now[0])
        assert [failures.failed("a") for _ in range(7)] == [1, 2, 4, 8, 16, 16, 16]
        assert failures.wait("a") == 16
        assert failures.wait("b") == 0
        now[0] = Failures.FORGET
        assert failures.failed("a") == 1
        failures.succeeded("a")
        assert failures.wait("a") == 0

    def test_a_flood_of_addresses_takes_bounded_memory(self) -> None:
        failures = Failures(lambda: 0.0)
        for number in range(Failures.ADDRESSES + 50):
            failures.failed(str(number))
        assert len(vars(failures)["_failed"]) == Failures.ADDRESSES


def test_the_hash_of_nobody_is_one_of_bcrypt_that_nothing_has() -> None:
    checked: Any = bcrypt.checkpw(b"", NOBODY.replace(b"$12$", b"$04$"))
    assert checked is False


class TestMaking:
    """`python -m lbservice.admin.passwords NAME`."""

    def make(self, monkeypatch: pytest.MonkeyPatch, *typed: str, name: str = "alice") -> None:
        answers = iter(typed)
        monkeypatch.setattr(passwords, "getpass", lambda prompt: next(answers))
        monkeypatch.setattr("sys.argv", ["passwords", name])
        passwords.main()

    def test_what_it_prints_is_a_line_of_the_file(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.make(monkeypatch, "open sesame", "open sesame")
        path.write_text(capsys.readouterr().out)
        assert bcrypt.checkpw(b"open sesame", PasswordFile(str(path)).read()[b"alice"])

    @pytest.mark.parametrize(
        ("typed", "name", "said"),
        [
            (("open sesame", "open sesam"), "alice", "that was another one"),
            (("short", "short"), "alice", "8 to 72 bytes"),
            (("x" * 73, "x" * 73), "alice", "8 to 72 bytes"),
            ((), "al:ice", "usage"),
        ],
    )
    def test_what_cannot_be(
        self, monkeypatch: pytest.MonkeyPatch, typed: tuple[str, ...], name: str, said: str
    ) -> None:
        with pytest.raises(SystemExit, match=said):
            self.make(monkeypatch, *typed, name=name)

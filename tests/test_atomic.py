"""A file is replaced as a whole, or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lbservice.atomic import mark, replace_file

ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="only root may give a file away")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lb.ini"
    path.write_bytes(b"old")
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestWhatIsKept:
    def test_a_new_file_has_the_mode_that_is_wanted(self, tmp_path: Path) -> None:
        replace_file(str(tmp_path / "state"), b"new", mode=0o640)
        assert (tmp_path / "state").read_bytes() == b"new"
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o640
        assert names(tmp_path) == ["state"]

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
    def test_one_that_is_there_keeps_its_own(self, file: Path, mode: int) -> None:
        file.chmod(mode)
        replace_file(str(file), b"new", backup=".bak")
        assert file.read_bytes() == b"new"
        for path in (file, file.with_name("lb.ini.bak")):
            assert stat.S_IMODE(path.stat().st_mode) == mode

    @ROOT_ONLY
    def test_and_its_owner(self, file: Path) -> None:
        os.chown(file, 1234, 1235)
        replace_file(str(file), b"new", backup=".bak")
        for path in (file, file.with_name("lb.ini.bak")):
            assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)

    def test_one_of_another_owner_is_left_alone_by_who_cannot_keep_that(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.stat(file)
        fields = list(real)
        fields[stat.ST_UID] = real.st_uid + 1
        monkeypatch.setattr("os.stat", lambda path, **_: os.stat_result(fields))
        monkeypatch.setattr("os.path.samestat", lambda *_: True)

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr("os.fchown", refuse)
        with pytest.raises(PermissionError, match=f"belongs to another user or group .uid {real.st_uid + 1}"):
            replace_file(str(file), b"new")
        monkeypatch.undo()
        assert (file.read_bytes(), names(file.parent)) == (b"old", ["lb.ini"])

    def test_and_its_attributes(self, file: Path) -> None:
        try:
            os.setxattr(file, "user.note", b"ours")
        except OSError:
            pytest.skip("a file system without attributes")
        replace_file(str(file), b"new")
        assert os.getxattr(file, "user.note") == b"ours"

    def test_a_symlink_stays_one(self, file: Path, tmp_path: Path) -> None:
        home = tmp_path / "etc"
        home.mkdir()
        link = home / "lb.ini"
        link.symlink_to("../lb.ini")
        replace_file(str(link), b"new", backup=".bak")
        assert os.readlink(link) == "../lb.ini"
        assert (file.read_bytes(), names(home)) == (b"new", ["lb.ini"])
        assert names(tmp_path) == ["etc", "lb.ini", "lb.ini.bak"]

    def test_what_it_was_is_beside_it(self, file: Path) -> None:
        replace_file(str(file), b"new", backup=".bak")
        replace_file(str(file), b"newest", backup=".bak")
        assert (file.parent / "lb.ini.bak").read_bytes() == b"new"
        assert names(file.parent) == ["lb.ini", "lb.ini.bak"]

    def test_who_has_it_open_reads_on_in_the_old_one(self, file: Path) -> None:
        with open(file, "rb") as before:
            replace_file(str(file), b"new")
            assert before.read() == b"old"


class TestWhatFails:
    def same(self, file: Path, *others: str) -> bool:
        return file.read_bytes() == b"old" and names(file.parent) == sorted([file.name, *others])

    @pytest.mark.parametrize("call", ["os.write", "os.fsync", "os.rename", "os.fchmod"])
    def test_a_full_disk_leaves_everything_as_it_was(
        self, file: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(call, full)
        with pytest.raises(OSError, match="No space left"):
            replace_file(str(file), b"new")
        monkeypatch.undo()
        assert self.same(file)

    def test_also_when_it_is_full_in_the_middle_of_the_backup(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (file.parent / "lb.ini.bak").write_bytes(b"older")
        write: Callable[..., int] = os.write
        written: list[int] = []

        def nearly_full(descriptor: int, data: Any) -> int:
            if len(written) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            written.append(1)
            return write(descriptor, data[:2])  # as much as there is room for

        monkeypatch.setattr("os.write", nearly_full)
        with pytest.raises(OSError, match="No space left"):
            replace_file(str(file), b"new", backup=".bak")
        monkeypatch.undo()
        assert self.same(file, "lb.ini.bak")
        assert (file.parent / "lb.ini.bak").read_bytes() == b"older"

    def test_a_file_that_may_not_be_written(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everything
        with pytest.raises(PermissionError, match="may not be written by this user"):
            replace_file(str(file), b"new")
        assert self.same(file)

    def test_a_folder_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            replace_file(str(tmp_path / "gone" / "lb.ini"), b"new")

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileExistsError, match="is no regular file"):
            replace_file(str(tmp_path / "pipe"), b"new")

    def test_one_that_was_changed_since_it_was_seen(self, file: Path) -> None:
        seen = mark(str(file))
        file.write_bytes(b"other")
        with pytest.raises(FileExistsError, match="was changed by somebody else"):
            replace_file(str(file), b"new", seen=seen)
        assert (file.read_bytes(), names(file.parent)) == (b"other", ["lb.ini"])
        replace_file(str(file), b"new", seen=mark(str(file)))

    def test_one_that_is_being_written(self, file: Path) -> None:
        with open(file.with_name("lb.ini.new"), "wb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(BlockingIOError, match="another process is writing it; try again"):
                replace_file(str(file), b"new")
        assert self.same(file, "lb.ini.new")

    def test_what_somebody_left_who_was_killed_is_used_again(self, file: Path) -> None:
        file.with_name("lb.ini.new").write_bytes(b"half of something that was much longer")
        replace_file(str(file), b"new")
        assert (file.read_bytes(), names(file.parent)) == (b"new", ["lb.ini"])

    def test_what_somebody_has_put_there_is_not_followed(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"secret")
        file.with_name("lb.ini.new").symlink_to(tmp_path / "secret")
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            replace_file(str(file), b"new")
        assert (tmp_path / "secret").read_bytes() == b"secret"

    def test_a_folder_that_cannot_be_forced_to_the_disk_is_no_failure(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fsync = os.fsync

        def only_files(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "Invalid argument")
            fsync(descriptor)

        monkeypatch.setattr("os.fsync", only_files)
        replace_file(str(file), b"new")
        assert file.read_bytes() == b"new"

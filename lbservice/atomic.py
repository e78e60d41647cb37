"""A file replaced as a whole: at any moment, also after a crash, there is the old one or the new one.

The new content goes to `FILE.new` in the same folder, which is locked while it is written, forced to the disk, and
renamed; then the folder is forced to the disk, too. What a process that was killed has left of it is used again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress

Mark = tuple[int, int, int, int]
"""Device, inode, size and time of the last change: a file that has another one is another one."""


def mark(path: str) -> Mark:
    """That of the file, or of the one that a symlink leads to. Raises OSError."""
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def replace_file(path: str, data: bytes, *, mode: int = 0o600, backup: str = "", seen: Mark | None = None) -> None:
    """Let `data` be the whole content of the file. Raises OSError; the file is as it was then.

    A file that is there keeps its owner, mode and extended attributes, and what it was is left beside it under the same
    name with `backup` behind it; a new one gets `mode`. A symlink stays one: what it leads to is replaced. A file that
    is not the one that was `seen` is left alone.
    """
    path = os.path.realpath(path)
    before = os.stat(path) if os.path.lexists(path) else None
    if before is not None and not stat.S_ISREG(before.st_mode):
        raise FileExistsError(errno.EEXIST, "is no regular file", path)
    if before is not None and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "may not be written by this user", path)
    new = _write(path + ".new", data, mode, like=path if before else "")
    try:
        if backup and before is not None:
            with open(path, "rb") as file:
                old = _write(path + backup + ".new", file.read(), mode, like=path)
            _rename(path + backup + ".new", path + backup, old)
        if seen is not None and mark(path) != seen:
            raise FileExistsError(errno.EEXIST, "was changed by somebody else in this moment", path)
        os.rename(path + ".new", path)
    except BaseException:
        with suppress(OSError):
            os.unlink(path + ".new")
        raise
    finally:
        os.close(new)
    _force_folder(os.path.dirname(path))


def _rename(source: str, target: str, descriptor: int) -> None:
    try:
        os.rename(source, target)
    finally:
        os.close(descriptor)


def _write(path: str, data: bytes, mode: int, like: str) -> int:
    """A file of that content, on the disk; its descriptor holds the lock until it is closed."""
    descriptor = _locked(path)
    try:
        os.ftruncate(descriptor, 0)
        _resemble(descriptor, like, mode)
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        os.close(descriptor)
        raise
    return descriptor


def _locked(path: str) -> int:
    """A descriptor of the file, which nobody else is writing."""
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileExistsError(errno.EEXIST, "is no regular file", path)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False)):
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise BlockingIOError(errno.EAGAIN, "another process is writing it; try again", path) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # who had the lock before has renamed it: what is there now is another one


def _resemble(descriptor: int, like: str, mode: int) -> None:
    """Owner, mode and extended attributes (access lists are such) of another file, if there is one."""
    if not like:
        os.fchmod(descriptor, mode)
        return
    model, mine = os.stat(like), os.fstat(descriptor)
    if (model.st_uid, model.st_gid) != (mine.st_uid, mine.st_gid):
        try:
            os.fchown(descriptor, model.st_uid, model.st_gid)
        except PermissionError:
            raise PermissionError(
                errno.EPERM, f"belongs to another user or group (uid {model.st_uid}, gid {model.st_gid})", like
            ) from None
    with suppress(OSError):  # a file system without them
        for name in os.listxattr(like):
            with suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(like, name))
    os.fchmod(descriptor, stat.S_IMODE(model.st_mode))


def _force_folder(folder: str) -> None:
    """Have the new name on the disk. Where that cannot be had, the name is in force all the same."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

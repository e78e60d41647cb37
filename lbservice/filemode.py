"""Who else may read or write a file with a secret: asked before it is used, and said with what to type."""

from __future__ import annotations

import os
import stat

READ, WRITE = 0o044, 0o022


def secret_trouble(path: str) -> str:
    """Why a file with a secret (a private key, a password) may not be used; "" if it may.

    It belongs to root or to the user of this process, and nobody else may read it. A file of root's may be readable
    for its group, which is how a service that does not run as root gets at its keys. Root trusts every owner: it may be
    about to become that user.
    """
    try:
        return status_trouble(path, os.stat(path))
    except OSError as error:
        return f"{path}: {error.strerror}"


def status_trouble(path: str, status: os.stat_result) -> str:
    """The same for a file that is open, or was looked at."""
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
        return f"belongs to another user (uid {status.st_uid}), who may change it; run chown {os.geteuid()} {path}"
    if mode & (0o037 if status.st_uid == 0 else 0o077):
        what = "change" if mode & WRITE else "read"
        return f"mode {mode:04o} lets others {what} it; run chmod 600 {path}"
    return ""


def written_by_others(path: str, status: os.stat_result) -> str:
    """Why a file that decides (who is let in) may not be used: others may write to it; "" if it may."""
    mode = stat.S_IMODE(status.st_mode)
    return f"mode {mode:04o} lets others write to it; run chmod go-w {path}" if mode & WRITE else ""

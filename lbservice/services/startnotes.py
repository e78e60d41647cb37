"""What is said once at the start: who runs, how many clients there may be, and who else may change lb.ini."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress

from twisted.application.service import Service
from twisted.logger import Logger

from lbservice import __version__
from lbservice.core.settings import Settings
from lbservice.filemode import READ, WRITE
from lbservice.services.openfiles import open_files

_SECRET = re.compile(r"(?i)\b(authorization|cookie|x-api-key|passw\w*|secret|token)\b")
"""Words that stand beside a secret in the lines of an lb.ini."""
_FILES = {"authorized-keys", "host-key", "passwords", "sticky", "sticky-key", "tokens"}
"""Keys whose values are only names."""


class StartNotes(Service):
    """Says it when the log is there."""

    name = "startnotes"
    log = Logger()

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def startService(self) -> None:
        super().startService()
        self.log.info(
            "lbservice {version} starts as uid {uid}, pid {pid}: at most {maxconn} connections of clients,"
            " by {files} open files",
            event="starting",
            version=__version__,
            uid=os.geteuid(),
            pid=os.getpid(),
            maxconn=self._settings.maxconn,
            files=open_files(),
        )
        with suppress(OSError):
            for warning in trouble(self._settings, os.stat(self._settings.file).st_mode):
                self.log.warn("{warning}", event="config-mode", warning=warning)


def trouble(settings: Settings, mode: int) -> list[str]:
    """What is to be said of an lb.ini with that mode."""
    file, shown = settings.file, f"{stat.S_IMODE(mode):04o}"
    found = []
    if mode & WRITE:
        found.append(f"{file}: mode {shown} lets others change it; run chmod go-w {file}")
    secrets = [f"[{section}] {key}" for section, key, value in settings.entries if _holds_secret(key, value)]
    if mode & READ and secrets:
        what = f"lets others read it, and {secrets[0]} may be a secret"
        found.append(f"{file}: mode {shown} {what}; run chmod 600 {file}")
    return found


def _holds_secret(key: str, value: str) -> bool:
    return key not in _FILES and _SECRET.search(f"{key} {value}") is not None

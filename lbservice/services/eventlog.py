"""load_balancer.log: one file, in order, with every request and every event.

Access lines are kept raw and formatted later, in slices of at most `SLICE` lines, so that neither
a request nor the reactor waits for a batch. Events go out at once, behind the lines before them.
A log that cannot be written never stops traffic: lines are counted as dropped, it is said once,
and once more when writing works again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import cast

from twisted.application.service import Service
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from lbservice.core.clock import Clock, Timer
from lbservice.core.events import Access
from lbservice.services.accessline import Stamp, access_line, escape_sentence

SLICE = 50
"""Access lines that are formatted and written in one go."""
QUIET = 0.2
"""Seconds that a line waits at most for company."""
REOPEN = 5.0
"""Seconds between attempts to open a log that could not be opened."""


def is_told(event: LogEvent) -> bool:
    """Is it one for operators: of our own from info on, or any warning or error of the process?"""
    ours = str(event.get("log_namespace", "")).startswith("lbservice")
    return bool(event.get("log_level", LogLevel.info) >= (LogLevel.info if ours else LogLevel.warn))


@implementer(ILogObserver)
class EventLog(Service):
    """Owns the file at `path`. `dropped` counts lines that were lost."""

    log = Logger()
    name = "eventlog"

    def __init__(self, path: str, clock: Clock, wall: Callable[[], float] = time.time) -> None:
        self.path = path
        self.dropped = 0
        self._clock = clock
        self._wall = wall
        self._stamp = Stamp()
        self._pending: list[Access] = []
        self._timer: Timer | None = None
        self._fd = -1
        self._trouble = ""
        self._torn = False
        self._next_attempt = 0.0

    def startService(self) -> None:
        if self.running:
            return
        super().startService()
        self._open()
        globalLogPublisher.addObserver(cast(ILogObserver, self))

    def stopService(self) -> None:
        super().stopService()
        globalLogPublisher.removeObserver(cast(ILogObserver, self))
        self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close()

    @property
    def trouble(self) -> str:
        """Why the file cannot be written, or ""."""
        return self._trouble

    def reopen(self) -> bool:
        """Go on in a new file of the same name, for log rotation; False if it cannot be opened."""
        self.flush()
        self._close()
        self._next_attempt = 0.0
        self._open()
        if self._fd < 0:
            return False
        self.log.info("log reopened", event="log-reopened")
        return True

    def access(self, access: Access) -> None:
        """Take one finished exchange or session."""
        pending = self._pending
        pending.append(access)
        if len(pending) >= SLICE:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(QUIET, self._quiet)

    def _quiet(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> None:
        """Format and write what is pending."""
        pending, self._pending = self._pending, []
        if pending:
            offset = self._wall() - self._clock.seconds()
            stamp = self._stamp
            self._write("".join([access_line(access, stamp, offset) for access in pending]), len(pending))

    def __call__(self, event: LogEvent) -> None:
        """ILogObserver: what is for operators."""
        if not is_told(event):
            return
        severity = event.get("log_level", LogLevel.info)
        self.flush()
        when = self._stamp.iso(event.get("log_time", self._wall()))
        text = escape_sentence(formatEvent(event) or "")
        level = f"{severity.name}: " if severity >= LogLevel.warn else ""
        failure = event.get("log_failure")
        lines = [] if failure is None else failure.getTraceback().rstrip("\n").split("\n")
        trace = "".join(f"    {escape_sentence(line)}\n" for line in lines)
        self._write(f"{when} [lbservice] {level}{text}\n{trace}", 1)

    # -- the file --------------------------------------------------------------------------

    def _open(self) -> None:
        self._next_attempt = self._clock.seconds() + REOPEN
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            self._torn = False
        except OSError as error:
            self._say_trouble(error)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, text: str, lines: int) -> None:
        if self._fd < 0 and self._clock.seconds() >= self._next_attempt:
            self._open()
        if self._fd < 0:
            self.dropped += lines
            return
        data = text.encode("latin-1", "backslashreplace")
        if self._torn:  # the disk was full in the middle of a line
            data = b"\n" + data
        try:
            while data:
                data = data[os.write(self._fd, data) :]
                self._torn = bool(data)
        except OSError as error:
            self.dropped += lines
            self._say_trouble(error)
            return
        if self._trouble:
            self._trouble = ""
            self.log.warn("log {path}: written again; {dropped} lines lost", path=self.path, dropped=self.dropped)

    def _say_trouble(self, error: OSError) -> None:
        if not self._trouble:
            self._trouble = error.strerror or str(error)
            self.log.error(
                "log {path} cannot be written: {reason}; traffic goes on, lines are lost until it can",
                event="log-lost",
                path=self.path,
                reason=self._trouble,
            )

"""The end of a log file, read backwards: a bounded look for one request, and for what happened shortly before it.

Nothing here waits for anybody. 16 MiB, about 100 000 requests, take some 10 ms when the file is in the page cache.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from time import mktime, strptime

from lbservice.errors import ControlError
from lbservice.services.accessline import MONTHS

REACH = 16 * 1024 * 1024
"""Bytes from the end that are looked at."""
SLICE = 1024 * 1024
TRIES = 1000
"""Lines that look like the request and are something else, before the search is given up."""
NOISE = 20_000
"""The same for events, which are told from requests with less effort."""

_EVENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[-+]\d{4}) \[lbservice\] (.*)")
_DATE = re.compile(r"\S+ \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d)\.(\d{3})\] ")
_MARK = b" [lbservice] "
_STAMP = len("2026-11-22T17:05:01.123+0000")
_MONTHS = {name: number for number, name in enumerate(MONTHS, 1)}


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the log; `at` is seconds since 1970."""

    at: float
    text: str


def moment(line: str) -> float | None:
    """When a line's request began or its event happened, in seconds since 1970; None: it does not say."""
    try:
        if match := _EVENT.match(line):
            return datetime.fromisoformat(match[1]).timestamp()
        if match := _DATE.match(line):
            day, month, rest = match[1].split("/")
            # By number, as the names of months are those of the process's language.
            return mktime(strptime(f"{day}/{_MONTHS[month]}/{rest}", "%d/%m/%Y:%H:%M:%S")) + int(match[2]) / 1000
    except (KeyError, ValueError, OverflowError):
        pass
    return None


class LogTail:
    """The last `REACH` bytes of the file at `path`. Raises ControlError when it cannot be read.

    `whole`: nothing of the file is left out. `oldest` is the moment of the oldest line that was seen, or None.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.whole = False
        self.oldest: float | None = None

    def find(
        self, request_id: str, wanted: re.Pattern[str], most: int, before: float
    ) -> tuple[str, list[Event]] | None:
        """The last line of that request, and the `most` events at most in the `before` seconds until it was written.

        `wanted` matches the whole of a line that is a request. None: there is no such line.
        """
        needle = f' {{{request_id}}} "'.encode("latin-1")
        tries = TRIES
        blocks = self._blocks()
        for block in blocks:
            end = len(block)
            while tries and (place := block.rfind(needle, 0, end)) >= 0:
                tries -= 1
                start = block.rfind(b"\n", 0, place) + 1
                line = block[start : block.index(b"\n", place)].decode("latin-1")
                match = wanted.fullmatch(line)
                if match and match["id"] == request_id:
                    since = (moment(line) or 0.0) - before
                    return line, self._events(block[:start], blocks, since, most)
                end = start
        return None

    @staticmethod
    def _events(block: bytes, older: Iterator[bytes], since: float, most: int) -> list[Event]:
        """The last events in the block and those before it, the oldest first."""
        found: list[Event] = []
        tries = NOISE
        while True:
            end = len(block)
            while (place := block.rfind(_MARK, 0, end)) >= 0:
                tries -= 1
                start = block.rfind(b"\n", 0, place) + 1
                end = start
                # Requests may have such words in them, too: only an event has nothing but its time before them.
                if place - start == _STAMP:
                    line = block[start : block.index(b"\n", place)].decode("latin-1")
                    if (match := _EVENT.fullmatch(line)) and (at := moment(line)) is not None:
                        if at < since:
                            return found[::-1]
                        found.append(Event(at, match[2]))
                if not tries or len(found) == most:
                    return found[::-1]
            following = next(older, None)
            if following is None:
                return found[::-1]
            block = following

    def _blocks(self) -> Iterator[bytes]:
        """Whole lines, slice by slice, the newest slice first."""
        try:
            # A log may be a pipe, which would block, or a terminal.
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            raise ControlError(f"log {self.path} cannot be read: {error.strerror}") from error
        try:
            state = os.fstat(fd)
            if not stat.S_ISREG(state.st_mode):
                raise ControlError(f"log {self.path} is not a file that can be read again; look where its lines go")
            position, least, torn = state.st_size, max(0, state.st_size - REACH), b""
            while position > least:
                start = max(least, position - SLICE)
                block = os.pread(fd, position - start, start) + torn
                position = start
                if start:
                    # The slice begins in a line that belongs to the next one.
                    head, newline, block = block.partition(b"\n")
                    torn = head + newline if len(head) < SLICE else b""
                block = block[: block.rfind(b"\n") + 1]
                self.whole = not start
                first = block[: block.find(b"\n")].decode("latin-1")
                self.oldest = moment(first) or self.oldest
                yield block
        except OSError as error:
            raise ControlError(f"log {self.path} cannot be read: {error.strerror}") from error
        finally:
            os.close(fd)

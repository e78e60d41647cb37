"""The statement that somebody has typed at the shell and that runs now: whose it is, and how it can be ended.

It runs in the reactor's thread, so while it runs nothing else does. Python's signal handlers do run, though, between
two of its instructions: that is the way out of an endless loop. No statement must be ended in the middle of a change,
so the exception is raised where it was typed, or in a library that it called, never within this package or Twisted.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import twisted

CONSOLE = "<console>"
"""The file name of all code that is typed."""
AGAIN = 1.0
"""Seconds after which a statement that did not end is told again."""

_OURS = (os.path.dirname(os.path.dirname(__file__)) + os.sep, os.path.dirname(twisted.__file__) + os.sep)


class Interrupted(KeyboardInterrupt):
    """The statement was ended from outside; the text says why."""


class Typed:
    """What runs now, or has run since it was asked last."""

    def __init__(self) -> None:
        self.limit = 0.0
        """Seconds that a statement may run; 0: as long as it likes. Only with a handler of SIGALRM."""
        self._last: tuple[float, str, str] | None = None

    @contextmanager
    def running(self, actor: str, line: str) -> Iterator[None]:
        """While a statement runs."""
        limit, began = self.limit, time.monotonic()
        if limit:
            signal.setitimer(signal.ITIMER_REAL, limit, AGAIN)
        try:
            yield
        finally:
            if limit:
                signal.setitimer(signal.ITIMER_REAL, 0)
            if sys.gettrace() is _raise_at_next_line:
                sys.settrace(None)
            took = time.monotonic() - began
            if self._last is None or took > self._last[0]:
                self._last = took, actor, line

    def take(self) -> tuple[float, str, str] | None:
        """Of what has run since this was asked last, the longest: seconds, who, what."""
        last, self._last = self._last, None
        return last

    @staticmethod
    def end(frame: FrameType | None, why: str) -> bool:
        """A signal has come in this frame. Does it interrupt a statement? Raises Interrupted in it, or soon."""
        inside = False
        while frame is not None and frame.f_code.co_filename != CONSOLE:
            inside = inside or frame.f_code.co_filename.startswith(_OURS)
            frame = frame.f_back
        if frame is None:
            return False
        if not inside:
            raise Interrupted(why)
        global _why
        _why = why
        frame.f_trace = _raise_at_next_line
        sys.settrace(_raise_at_next_line)
        return True


_why = ""


def _raise_at_next_line(frame: FrameType, event: str, argument: Any) -> Any:
    """A trace function: what was interrupted within this package goes on, up to the next line that was typed."""
    if frame.f_code.co_filename == CONSOLE and event in ("line", "call"):
        sys.settrace(None)
        raise Interrupted(_why)
    return _raise_at_next_line if frame.f_code.co_filename == CONSOLE else None


TYPED = Typed()
"""There is one reactor, and one thread that it runs in."""

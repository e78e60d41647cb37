"""The state file: read at the start; written soon after each change, each minute for the counters, and at the stop.

It is never a reason not to start, nor one to stop. One that cannot be used is put aside; one that cannot be written is
told once, and once more when it can be. It is written in a thread, so that nothing waits for the disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from lbservice.atomic import replace_file
from lbservice.core.change import Change
from lbservice.core.clock import Timer
from lbservice.core.settings import Settings
from lbservice.services.control import Control
from lbservice.services.state import State, count_on, read, restored, state_of, write

ASIDE = ".aside"
"""Behind the name of a file that could not be used."""
SOONEST = 1.0
"""Seconds from one writing to the next."""
OFTEN = 60.0
"""The same, when nothing was changed."""
LONGEST = 64 * 1024 * 1024
"""Bytes that are read at most."""


class StateFile(Service):
    """Keeps what a restart would forget in the file at `path`: `restore` it, `attend` to a control, start."""

    name = "statefile"
    log = Logger()

    def __init__(
        self,
        path: str,
        reactor: Any,
        wall: Callable[[], float] = time.time,
        aside: Callable[..., Deferred[None]] | None = None,
    ) -> None:
        self.path = path
        self.well = True
        """Could it be written, the last time?"""
        self._clock = reactor
        self._wall = wall
        self._in_thread = aside or self._in_pool
        self._control: Control | None = None
        self._state: State | None = None
        self._unusable = ""
        self._notes: tuple[str, ...] = ()
        self._written: State | None = None
        self._last = -SOONEST
        self._timer: Timer | None = None
        self._due = 0.0
        self._writing: Deferred[None] | None = None

    # -- reading -----------------------------------------------------------------------------

    def restore(self, settings: Settings) -> Settings:
        """What lb.ini says, with what the file has kept. Never fails."""
        try:
            with open(self.path, "rb") as file:
                text = file.read(LONGEST + 1)
            if len(text) > LONGEST:
                raise ValueError(f"is larger than {LONGEST} bytes")
            self._state = read(text)
        except FileNotFoundError:
            return settings
        except (OSError, ValueError) as error:
            self._unusable = (error.strerror if isinstance(error, OSError) else None) or str(error)
            return settings
        merged, self._notes = restored(settings, self._state)
        return merged

    def attend(self, control: Control) -> None:
        """Keep the changes of this control from now on; its counters go on where they were."""
        self._control = control
        control.keeper = self
        control.journal.listeners.append(self._changed)
        if self._state is not None:
            count_on(control.balancer, self._state)
            self._state = None

    def startService(self) -> None:
        super().startService()
        if self._unusable and not self._put_aside():
            self.well = False
            return
        for note in self._notes:
            self.log.info("kept in {path}: {note}", event="restored", path=self.path, note=note)
        self._write_in(0.0)

    def _put_aside(self) -> bool:
        aside = self.path + ASIDE
        try:
            os.replace(self.path, aside)
        except OSError as error:
            self.log.error(
                "state file {path} {why}; it cannot be kept as {aside} ({error}), so no state is kept at all",
                event="state-unusable",
                path=self.path,
                why=self._unusable,
                aside=aside,
                error=error.strerror,
            )
            return False
        self.log.error(
            "state file {path} {why}; the start is without it, it is kept as {aside}",
            event="state-unusable",
            path=self.path,
            why=self._unusable,
            aside=aside,
        )
        self._unusable = ""
        return True

    # -- writing -----------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        if self.running and not self._unusable:
            self._write_in(max(0.0, self._last + SOONEST - self._clock.seconds()))

    def _write_in(self, seconds: float) -> None:
        """Write it then, unless it is to be written before."""
        due = self._clock.seconds() + seconds
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._clock.callLater(seconds, self._write)

    def _write(self) -> None:
        self._timer = None
        if self._writing is not None:  # the disk is slow; what has changed meanwhile is written after it
            self._write_in(SOONEST)
            return
        assert self._control is not None
        self._last = self._clock.seconds()
        state = state_of(self._control.balancer, self._control.loaded)
        if state == self._written:
            self._write_in(OFTEN)
            return
        self._writing = self._in_thread(self._put, state, self._wall())
        self._writing.addCallbacks(self._done, self._failed, callbackArgs=(state,))
        self._writing.addBoth(self._next)

    def _put(self, state: State, at: float) -> None:
        replace_file(self.path, write(state, at))

    def _next(self, _: object) -> None:
        self._writing = None
        if self.running:
            self._write_in(OFTEN)

    def _done(self, _: object, state: State) -> None:
        self._written = state
        if not self.well:
            self.well = True
            self.log.warn("state file {path}: written again", event="state-again", path=self.path)

    def _failed(self, failure: Any) -> None:
        self._written = None
        if not failure.check(OSError):
            self.log.failure("state file {path}", failure, path=self.path)
        if self.well:
            self.well = False
            self.log.error(
                "state file {path} cannot be written: {why}; a restart forgets what is changed until it can",
                event="state-lost",
                path=self.path,
                why=getattr(failure.value, "strerror", None) or str(failure.value),
            )

    def _in_pool(self, call: Callable[..., None], *arguments: object) -> Deferred[None]:
        return deferToThreadPool(self._clock, self._clock.getThreadPool(), call, *arguments)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            await self._writing
        if not self._unusable:
            self._in_thread = maybeDeferred  # there is no other work that it could hold up
            self._write()
            if self._timer is not None:
                self._timer.cancel()

"""Who is let in: at a limit the doors close, and idle clients make room for those who wait outside.

A frontend has its `maxconn`, the process has one for all of them, and a lack of open files is a
limit too. Whoever waits then stays in the kernel's backlog; nobody is dropped. While a door is
closed and somebody waits, the clients that have been idle longest are closed, one in `SHARE` at a
time: a look at them costs time in proportion to their number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from twisted.logger import Logger

from lbservice.core.clock import Clock, Seldom, Timer
from lbservice.core.frontend import Frontend, Process
from lbservice.proxy.idle import IdlePool

LOOK = 0.1
"""Seconds from one look at closed doors to the next."""
AT_WORK = 1.0
"""Seconds after its beginning or its last answer before a client counts as idle, and may be sent away for others."""
RESERVE = 8
"""When open files lack, one in so many connections must end before others are let in."""
SHARE = 64
"""One in so many connections is closed at a time, or one."""
TELL = 10.0
"""Seconds between two warnings of the same kind."""

_log = Logger()


class Guest(Protocol):
    """A client's connection."""

    @property
    def has_asked(self) -> bool:
        """Has it ever been served?"""

    @property
    def idle_since(self) -> float | None:
        """Since when it has had nothing to do, or has been sending a head; None while it is served."""

    def give_way(self) -> None:
        """Close; there are others who wait."""


class Door(Protocol):
    """A frontend's listeners and the connections that came through them."""

    @property
    def frontend(self) -> Frontend: ...

    @property
    def guests(self) -> Iterable[Guest]: ...

    def open_door(self) -> None:
        """Accept."""

    def close_door(self) -> None:
        """Accept nothing; who comes waits in the backlog."""

    def waited_for(self) -> bool:
        """Is somebody in the backlog?"""


class Admission:
    """The doors of one process, and when they are open."""

    def __init__(self, process: Process, pool: IdlePool, clock: Clock) -> None:
        self._process = process
        self._pool = pool
        self._clock = clock
        self._doors: list[Door] = []
        self._closed: list[Door] = []
        self._look: Timer | None = None
        self._relief: Timer | None = None
        self._tell_full = Seldom(TELL)
        self._tell_lacking = Seldom(TELL)

    def add(self, door: Door) -> None:
        """A door that is open from now on."""
        self._doors.append(door)

    def remove(self, door: Door) -> None:
        """A door that is closed for good."""
        for doors in (self._doors, self._closed):
            if door in doors:
                doors.remove(door)
        if not self._closed:
            self._stop_looking()
        if not self._doors and self._relief is not None:
            self._relief.cancel()
            self._relief = None

    def review(self) -> None:
        """Limits, or doors, are not what they were: open what may be open, and close what may not."""
        self.left()
        self._close_doors([door for door in self._doors if self._process.full or door.frontend.full])

    def came(self, door: Door) -> None:
        """A client has come through it."""
        if self._process.full:
            self._close_doors(self._doors)
        elif door.frontend.full:
            self._close_doors([door])

    def _close_doors(self, doors: list[Door]) -> None:
        for door in doors:
            if door not in self._closed:
                self._closed.append(door)
                door.close_door()
        if self._closed and self._look is None:
            self._look = self._clock.callLater(0, self._make_room)

    def _try_again(self) -> None:
        """Open files may be there again; if not, we shall hear of it."""
        self._relief = None
        self._process.ceiling = 0
        self.left()

    def left(self) -> None:
        """A client has gone, through whatever door."""
        if self._closed and not self._process.full:
            for door in [door for door in self._closed if not door.frontend.full]:
                self._closed.remove(door)
                door.open_door()
            if not self._closed:
                self._stop_looking()

    def lacking(self, error: OSError | str) -> None:
        """There is no open file left, or no memory: give up idle connections to servers, or, without these, to clients.

        Then, for a while, fewer are let in than there are, so that those who are here have files for their servers.
        """
        gone = self._pool.spare(max(1, len(self._pool) // 2))
        if not gone:
            gone = self._send_away(self._doors, at_work=0.0)
            if self._relief is None:
                self._process.ceiling = max(1, self._process.active - max(1, self._process.active // RESERVE))
                self._relief = self._clock.callLater(TELL, self._try_again)
                self._close_doors(self._doors)
        if self._tell_lacking.now(self._clock.seconds()):
            _log.warn(
                "{error}: closing {idle} idle connections; raise the limit of open files, or lower maxconn",
                event="lacking",
                error=error,
                idle=gone,
            )

    def _make_room(self) -> None:
        self._look = self._clock.callLater(LOOK, self._make_room)
        waited_for = [door for door in self._closed if door.waited_for()]
        if not waited_for:
            return
        sent = self._send_away(self._doors if self._process.full else waited_for)
        if self._tell_full.now(self._clock.seconds()):
            frontend = waited_for[0].frontend
            _log.warn(
                "frontend {frontend} is full ({active} of {maxconn} connections): clients wait, {idle} idle ones go",
                event="frontend-full",
                frontend=frontend.name,
                active=frontend.active,
                maxconn=frontend.maxconn,
                idle=sent,
            )

    def _send_away(self, doors: list[Door], at_work: float = AT_WORK) -> int:
        """Close the clients that have been idle longest, if any are, first those who never asked; how many."""
        latest = self._clock.seconds() - at_work
        guests = [guest for door in doors for guest in door.guests]
        idle = [
            (guest.has_asked, since, guest)
            for guest in guests
            if (since := guest.idle_since) is not None and since <= latest
        ]
        idle.sort(key=lambda each: each[:2])
        going = idle[: max(1, len(idle) // SHARE)]
        for _, _, guest in going:
            guest.give_way()
        return len(going)

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

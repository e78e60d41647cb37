"""What the balancer changes about the reactor that it runs in: two attributes of that one reactor."""

from __future__ import annotations

import time
from select import EPOLLERR, EPOLLHUP, EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger

EVENTS = 1024
"""Events that are taken from the kernel in one turn; more of them are the next turn's."""

_BROKEN = EPOLLERR | EPOLLHUP

_log = Logger()


class Turn:
    """One turn of the reactor. While it is `open`, transports put themselves into `waiting`, to send at its end.

    Sending wakes the receiver, and waking a process is the dearest part of a small write. Sent one
    after the other at the end of a turn, the messages of many requests find it awake already.
    """

    __slots__ = ("leaving", "number", "open", "to_come", "waiting")

    def __init__(self) -> None:
        self.open = False
        self.number = 0
        """Turns are numbered as they come."""
        self.waiting: list[Any] = []
        self.leaving: list[Any] = []
        """Transports that are to be closed when all have sent."""
        self.to_come: dict[int, int] | None = None
        """The turn's events by file number, handled or not; None if there may be more."""

    def close(self) -> None:
        """Let everybody send."""
        self.open = False
        self.to_come = None
        waiting, self.waiting = self.waiting, []
        for transport in waiting:
            try:
                transport.flush()
            except BaseException:  # whatever is wrong with one costs only that one
                _log.failure("sending to {transport}", transport=transport)
        if self.leaving:
            leaving, self.leaving = self.leaving, []
            for transport in leaving:
                try:
                    transport.leave()
                except BaseException:  # the same
                    _log.failure("closing {transport}", transport=transport)


TURN = Turn()


def use_monotonic_time(reactor: Any) -> None:
    """Let every timer run on the monotonic clock, so that setting the time of day neither fires nor stalls them.

    Twisted's reactors read `time.time` through the attribute `seconds`. Timers that are already
    set were counted on the other clock; then it is too late, and things stay as they are.
    """
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


def use_direct_dispatch(reactor: Any) -> None:
    """Let the epoll reactor call a socket's doRead and doWrite straight.

    The stock reactor builds a logging context around each of these calls (`log.callWithLogger`),
    for the prefix of log messages that nothing here writes; measured, 2-4 microseconds a request.
    Something to read and nothing else, which nearly every event is, needs no more than `doRead`; the
    rest goes to the reactor's own `_doReadOrWrite`. What is written meanwhile is sent at the end of the
    turn (see `Turn`). Any other reactor stays as it is.

    An error and nothing to read is no end: the stock reactor calls it a clean one when the socket was being
    read, but a reset may be told like that, in the moment before the kernel has closed the connection. So it
    is read, and `recv` tells.
    """
    if type(reactor) is not EPollReactor:
        return
    poll, selectables, dispatch = reactor._poller.poll, reactor._selectables, reactor._doReadOrWrite
    reads = reactor._reads

    def iterate(timeout: float | None) -> None:
        events = poll(-1 if timeout is None else timeout, EVENTS)
        TURN.to_come = dict(events) if len(events) < EVENTS else None
        TURN.number += 1
        TURN.open = True
        try:
            for fd, event in events:
                selectable = selectables.get(fd)
                if selectable is None:
                    continue
                if event != EPOLLIN:
                    if event & _BROKEN and fd in reads:
                        event |= EPOLLIN
                    dispatch(selectable, fd, event)
                    continue
                try:
                    why = selectable.doRead()
                except BaseException as error:  # as in _doReadOrWrite: whatever is wrong with one costs only that one
                    _log.failure("reading from {selectable}", selectable=selectable)
                    why = error
                if why:
                    reactor._disconnectSelectable(selectable, why, True)
        finally:
            TURN.close()

    reactor.doIteration = iterate  # type: ignore[method-assign] # on purpose, and said above

"""What the balancer changes about the reactor that it runs in: two attributes of that one reactor."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.epollreactor import EPollReactor


class Turn:
    """One turn of the reactor. While it is `open`, transports put themselves into `waiting`, to send at its end.

    Sending wakes the receiver, and waking a process is the dearest part of a small write. Sent one
    after the other at the end of a turn, the messages of many requests find it awake already.
    """

    __slots__ = ("open", "waiting")

    def __init__(self) -> None:
        self.open = False
        self.waiting: list[Any] = []

    def close(self) -> None:
        """Let everybody send."""
        self.open = False
        waiting, self.waiting = self.waiting, []
        for transport in waiting:
            transport.flush()


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
    Errors are still caught and logged one level below, in `_doReadOrWrite`. What is written
    meanwhile is sent at the end of the turn (see `Turn`). Any other reactor stays as it is.
    """
    if type(reactor) is not EPollReactor:
        return
    poll, selectables, dispatch = reactor._poller.poll, reactor._selectables, reactor._doReadOrWrite

    def iterate(timeout: float | None) -> None:
        events = poll(-1 if timeout is None else timeout, len(selectables))
        TURN.open = True
        try:
            for fd, event in events:
                selectable = selectables.get(fd)
                if selectable is not None:
                    dispatch(selectable, fd, event)
        finally:
            TURN.close()

    reactor.doIteration = iterate  # type: ignore[method-assign] # on purpose, and said above

"""What the process does on signals."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from twisted.application.service import Service

from lbservice.core.change import By
from lbservice.errors import ControlError
from lbservice.services.control import Control
from lbservice.services.typed import TYPED


class Signals(Service):
    """SIGTERM and SIGINT stop: the first lets connections finish, the second does not. SIGHUP reads lb.ini again.

    SIGUSR1 reopens the log. While something runs that was typed at the shell, SIGINT ends that and nothing else,
    SIGTERM ends that and stops, and SIGALRM says that it has run for too long. Twisted's own handlers are replaced once
    the reactor runs, because they know no second signal, and end the process by the signal instead of with status 0.
    """

    name = "signals"

    def __init__(self, control: Control, reactor: Any) -> None:
        self._control = control
        self._balancer = control.balancer
        self._reactor = reactor
        self._stopping = False
        manhole = control.balancer.settings.manhole
        self._time_limit = manhole.time_limit if manhole else 0.0

    def startService(self) -> None:
        super().startService()
        self._reactor.callWhenRunning(self._install)

    def _install(self) -> None:
        for number, act in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._stop),
            (signal.SIGUSR1, self._reopen),
            (signal.SIGHUP, self._hangup),
        ):
            signal.signal(number, self._later(act))
        signal.signal(signal.SIGALRM, self._too_long)
        TYPED.limit = self._time_limit

    def _later(self, act: Callable[[], None]) -> Callable[..., object]:
        """Act in the reactor's next turn, not in the middle of whatever the signal has interrupted."""

        def handle(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGINT and TYPED.end(frame, "ended by SIGINT"):
                return
            self._reactor.callFromThread(act)
            if number == signal.SIGTERM:
                TYPED.end(frame, "ended by SIGTERM")

        return handle

    def _too_long(self, number: int, frame: FrameType | None) -> None:
        TYPED.end(frame, f"ended after {self._time_limit:g} s, as all traffic waits for it (time-limit in [manhole])")

    def _stop(self) -> None:
        if self._stopping:
            self._balancer.hurry()
        else:
            self._stopping = True
            self._reactor.stop()

    def _reopen(self) -> None:
        with suppress(ControlError):  # it is on the terminal
            self._control.reopen(by=By("SIGUSR1", "signal"))

    def _hangup(self) -> None:
        with suppress(ControlError):  # it is in the log
            self._control.reload(by=By("SIGHUP", "signal"))

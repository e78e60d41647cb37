"""What the process does on signals."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.application.service import Service

from lbservice.core.change import By
from lbservice.errors import ControlError
from lbservice.services.control import Control


class Signals(Service):
    """SIGTERM and SIGINT stop: the first lets connections finish, the second does not. SIGHUP reads lb.ini again.

    SIGUSR1 reopens the log. Twisted's own handlers are replaced once the reactor runs, because they
    know no second signal, and end the process by the signal instead of with status 0.
    """

    name = "signals"

    def __init__(self, control: Control, reactor: Any) -> None:
        self._control = control
        self._balancer = control.balancer
        self._reactor = reactor
        self._stopping = False

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

    def _later(self, act: Callable[[], None]) -> Callable[..., object]:
        """Act in the reactor's next turn, not in the middle of whatever the signal has interrupted."""
        return lambda number, frame: self._reactor.callFromThread(act)

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

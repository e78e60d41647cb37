"""What the process does on signals, besides what Twisted does."""

from __future__ import annotations

import signal
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from lbservice.services.balancer import Balancer


class Signals(Service):
    """SIGUSR1 reopens the log; SIGHUP is noted; a second SIGTERM or SIGINT ends a stop that waits.

    It is the last child of the tree, so it is stopped first: from then on those signals hurry.
    """

    name = "signals"
    log = Logger()

    def __init__(self, balancer: Balancer, reactor: Any) -> None:
        self._balancer = balancer
        self._reactor = reactor

    def startService(self) -> None:
        super().startService()
        self._on(signal.SIGUSR1, self._balancer.eventlog.reopen)
        self._on(signal.SIGHUP, self._hangup)

    def stopService(self) -> None:
        super().stopService()
        self._on(signal.SIGTERM, self._balancer.hurry)
        self._on(signal.SIGINT, self._balancer.hurry)

    def _on(self, number: signal.Signals, act: Any) -> None:
        signal.signal(number, lambda _number, _frame: self._reactor.callFromThread(act))

    def _hangup(self) -> None:
        self.log.warn(
            "SIGHUP: nothing was reloaded; change servers in the shell, or restart to read {file} again",
            event="hangup",
            file=self._balancer.settings.file,
        )

"""What systemd is told (sd_notify(3)): ready, reloading, stopping, and that the reactor turns. Without it, nothing.

One datagram for each, to the socket that NOTIFY_SOCKET names. Nothing waits for it, and nothing depends on it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from lbservice.proxy.inherited import Listeners
from lbservice.services.control import Control


class Notify(Service):
    """The last child of the tree: it starts when all others have, and is the first to hear of a stop."""

    name = "notify"
    log = Logger()

    def __init__(
        self,
        control: Control,
        reactor: Any,
        environment: Mapping[str, str] = os.environ,
        unused: Listeners | None = None,
    ) -> None:
        self._control = control
        self._reactor = reactor
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._inter = _watchdog(environment) / 2
        self._unused = {} if unused is None else unused
        self._timer: Any = None

    def startService(self) -> None:
        super().startService()
        self._reactor.callWhenRunning(self._close_unused)
        if self._address is not None:
            self._control.reloading.append(self._announce)
            self._reactor.callWhenRunning(self._ready)

    def stopService(self) -> None:
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.tell("STOPPING=1")

    def tell(self, state: str) -> None:
        """Send lines NAME=VALUE, if somebody listens."""
        if self._address is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender, suppress(OSError):
            sender.setblocking(False)
            sender.sendto(state.encode(), self._address)

    def _ready(self) -> None:
        if self.running:
            self.tell(f"READY=1\nMAINPID={os.getpid()}\nSTATUS={self._status()}")
            if self._inter:
                self._beat()

    def _close_unused(self) -> None:
        """Listeners that were handed over and that no frontend has taken: their clients would wait for good."""
        while self._unused:
            (host, port), listener = self._unused.popitem()
            listener.close()
            self.log.warn(
                "a listener on {host}:{port} was handed over, but no frontend has that address: it is closed",
                event="listener-unused",
                host=host or "0.0.0.0",
                port=port,
            )

    def _status(self) -> str:
        balancer = self._control.balancer
        return f"{len(balancer.frontends)} frontends, at most {balancer.process.maxconn} connections"

    def _announce(self, reloading: bool) -> None:
        if not reloading:
            self.tell(f"READY=1\nSTATUS={self._status()}")
            return
        # systemd counts only the answers to its own request, and knows them by this time.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.tell(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def _beat(self) -> None:
        self.tell("WATCHDOG=1")
        self._timer = self._reactor.callLater(self._inter, self._beat)


def _address(text: str) -> str | None:
    """A path, or a name of the abstract kind with its NUL; None for what is neither."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else None


def _watchdog(environment: Mapping[str, str]) -> float:
    """Seconds within which systemd wants a sign of life; 0 if it wants none of this process."""
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(microseconds) / 1e6

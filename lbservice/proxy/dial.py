"""Opening a connection to a server: one ClientFactory for each attempt, one bound for all of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectBindError, ConnectError, ConnectionRefusedError, TCPTimedOutError
from twisted.internet.interfaces import IAddress, IConnector, IHandshakeListener
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from lbservice.core.clock import Clock, Timer
from lbservice.core.settings import ServerSettings
from lbservice.proxy import tls
from lbservice.proxy.transport import Network

_LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
"""Errors that are about us: no open file, memory or port is left."""


class DialError(Exception):
    """No usable connection. `code` is as in checks: L4CON, L4TOUT, L6RSP, L6TOUT."""

    def __init__(self, code: str, detail: str, *, local: bool = False) -> None:
        self.code = code
        self.local = local
        """Is it our own lack of something (open files, ports), which says nothing about the server?"""
        self.detail = detail
        super().__init__(f"{code} {detail}")

    @property
    def timed_out(self) -> bool:
        """Did it take too long, rather than be refused?"""
        return self.code.endswith("TOUT")


@implementer(IHandshakeListener)
class DialedProtocol(Protocol):
    """The base of what is dialled: tells its Dial when it is connected, TLS handshake included."""

    transport: Any
    dial: Dial | None = None

    def connectionMade(self) -> None:
        if self.dial is not None and not self.dial.encrypted:
            self._ready()

    def handshakeCompleted(self) -> None:
        self._ready()

    def connectionLost(self, reason: Failure = Failure(ConnectError())) -> None:  # noqa: B008 - Twisted's own shape
        if self.dial is not None:
            self.dial.broke(reason)

    def _ready(self) -> None:
        if self.dial is not None:
            self.dial.succeeded()


class Dial(ClientFactory):
    """One attempt to connect `protocol` to a server. `done` fires with None, or fails with DialError.

    Cancelling `done` gives the attempt up.
    """

    noisy = False

    def __init__(
        self,
        network: Network,
        clock: Clock,
        settings: ServerSettings,
        protocol: DialedProtocol,
        timeout: float,
    ) -> None:
        self.encrypted = settings.tls is not None
        self._address = settings.address
        self._protocol = protocol
        self._timeout = timeout
        protocol.dial = self
        self._over = False
        give_up = WeakMethod(self._give_up)  # a Deferred that knew us would be part of a cycle
        self.done: Deferred[None] = Deferred(lambda _: _call(give_up()))
        self._late: Timer = clock.callLater(timeout, self._time_out)
        factory: Any = self
        if settings.tls is not None:
            try:
                factory = tls.dialing(self, settings.host, settings.tls, clock)
            except (SSL.Error, OSError, ValueError) as error:
                local = isinstance(error, OSError) and error.errno in _LACKS
                self._fail(DialError("L6RSP", f"TLS cannot be set up for {self._address}: {error}", local=local))
                return
        self._connector = network.connect(settings.host, settings.port, factory, timeout + 1)

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return self._protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        if reason.check(TCPTimedOutError):
            self._fail(DialError("L4TOUT", f"connection timed out {self._address}"))
        elif reason.check(ConnectionRefusedError):
            self._fail(DialError("L4CON", f"connection refused {self._address}"))
        else:
            number = getattr(reason.value, "osError", None)
            local = reason.check(ConnectBindError) is not None or number in _LACKS
            self._fail(DialError("L4CON", f"{_words(reason)} {self._address}", local=local))

    def succeeded(self) -> None:
        """The protocol can be used from now on."""
        self._protocol.dial = None
        if not self._over:
            self._over = True
            self._late.cancel()
            self.done.callback(None)

    def broke(self, reason: Failure) -> None:
        """The connection was lost before it could be used."""
        self._protocol.dial = None
        if self.encrypted:
            self._fail(DialError("L6RSP", f"TLS handshake failed with {self._address}: {_words(reason)}"))
        else:
            self._fail(DialError("L4CON", f"{_words(reason)} {self._address}"))

    def _time_out(self) -> None:
        connected = self._protocol.transport is not None
        code, what = ("L6TOUT", "TLS handshake") if connected else ("L4TOUT", "connection")
        self._fail(DialError(code, f"{what} timed out after {self._timeout:g}s {self._address}"))
        self._give_up()

    def _give_up(self) -> None:
        self._over = True
        self._protocol.dial = None
        if self._late.active():
            self._late.cancel()
        if self._protocol.transport is not None:
            self._protocol.transport.abortConnection()
        else:
            self._connector.disconnect()

    def _fail(self, error: DialError) -> None:
        self._protocol.dial = None
        if not self._over:
            self._over = True
            if self._late.active():
                self._late.cancel()
            self.done.errback(error)


def _call(function: Callable[[], None] | None) -> None:
    if function is not None:
        function()


def _words(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list) and error.args[0]:
        return str(error.args[0][-1][-1])
    number = getattr(error, "osError", None)
    text = os.strerror(number) if isinstance(number, int) else str(error)
    return text.rstrip(".").splitlines()[0] if text else type(error).__name__

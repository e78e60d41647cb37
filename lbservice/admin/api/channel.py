"""twisted.web's HTTP/1.1, with a bound for all that it takes in and waits for."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from OpenSSL import SSL
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from lbservice.admin.api.desk import Desk
from lbservice.admin.api.login import Login

LARGEST_BODY = 1024 * 1024
MOST_DISCARDED = 16 * LARGEST_BODY
"""Bytes of a body that is too large, which are read and thrown away so that its sender hears why it is refused."""
MOST_CONNECTIONS = 128
"""To one address."""
IDLE = 60.0
"""Seconds without a byte until a connection is closed."""
PATIENCE = 30.0
"""Seconds that a request may take to come, from its first byte to its last, and a last answer to be taken."""


class ApiRequest(Request):
    """A request with its body in memory; what is too large is not kept."""

    channel: Channel

    def gotLength(self, length: int | None) -> None:
        """The head has come."""
        self.content = BytesIO()
        self.received = 0
        self.body = bytearray()

    def handleContentChunk(self, data: bytes) -> None:
        """Some of the body has come."""
        self.received += len(data)
        if self.received <= LARGEST_BODY:
            self.body += data
        else:
            self.body.clear()
            if self.received > MOST_DISCARDED:
                self.channel.abort()

    @property
    def too_large(self) -> bool:
        """Was the body more than what may be?"""
        return self.received > LARGEST_BODY

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """All has come. Twisted's own would look for forms in the body."""
        self.method, self.uri, self.clientproto = command, path, version
        self.channel.factory.desk.handle(self, self.channel)


class Channel(HTTPChannel):
    """One client's connection."""

    factory: ApiFactory
    transport: Any  # a connection of TCP, TLS or a unix socket
    callLater: Any
    timeOut: Any
    requestFactory = ApiRequest
    maxHeaders = 100

    def connectionMade(self) -> None:
        self._deadline: Any = None
        self._ending: Any = None
        self.asked = False
        super().connectionMade()
        self.who = self.factory.login.unknown(self.transport)
        self.own_address = str(getattr(self.transport.getHost(), "host", ""))
        self.factory.channels.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self._deadline is None and not self._handlingRequest:
            self._deadline = self.callLater(PATIENCE, self.abort)
        super().dataReceived(data)

    def allContentReceived(self) -> None:
        self.asked = True
        self._forget_deadline()
        super().allContentReceived()

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line of the head is too long; what follows cannot be told from it."""
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        self.clearLineBuffer()
        self.loseConnection()

    def loseConnection(self) -> None:
        if self._ending is None:
            self._ending = self.callLater(PATIENCE, self.abort)
        super().loseConnection()

    def abort(self) -> None:
        """Close at once, with what is still to be written."""
        self.transport.abortConnection()

    def _forget_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forget_deadline()
        if self._ending is not None and self._ending.active():
            self._ending.cancel()
        self.factory.channels.discard(self)
        if not self.asked and reason.check(SSL.Error):
            self.factory.refused_certificate(self)
        super().connectionLost(reason)


class ApiFactory(Factory[Channel]):
    """The connections to one address."""

    noisy = False
    _logger = Logger()

    def __init__(self, desk: Desk, login: Login, names: frozenset[str] | None, clock: Any) -> None:
        self.desk = desk
        self.login = login
        self.names = names
        """Hosts that may be asked for, in small letters; None where nobody asks by name."""
        self.channels: set[Channel] = set()
        self._clock = clock

    def buildProtocol(self, addr: Any) -> Channel | None:
        if len(self.channels) >= MOST_CONNECTIONS:
            return None
        channel = Channel()
        channel.factory = self
        channel.callLater = self._clock.callLater
        channel.timeOut = IDLE
        return channel

    def log(self, request: object) -> None:
        """twisted.web would tell of every request; what matters is in the journal."""

    def refused_certificate(self, channel: Channel) -> None:
        """Somebody came without a certificate that we believe."""
        self._logger.warn(
            "admin: {actor} is refused: no certificate that client-ca knows, or no TLS",
            event="refused",
            actor=channel.who,
            face="api",
        )

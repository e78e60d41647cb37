"""The shell over telnet, on a loopback address only: a name and a password in plain text, then the terminal.

For machines whose only client is telnet. What conch does before anybody is logged in is kept: options and NAWS;
the login is ours, because conch's neither ends nor bounds one.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.conch.telnet import ECHO, NAWS, SGA, TelnetProtocol, TelnetTransport
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from lbservice.admin.history import Histories
from lbservice.admin.keys import printable
from lbservice.admin.listening import MOST
from lbservice.admin.passwords import PasswordFile, Passwords
from lbservice.admin.session import Session, Terminal, TerminalServer
from lbservice.core.settings import ManholeSettings
from lbservice.services.control import Control

TRIES = 3
PATIENCE = 60.0
"""Seconds for the whole login."""
LONGEST_LINE = 256
"""Bytes of a name or password."""


class Visitor(TelnetProtocol):
    """One connection: asks for name and password, then it is a terminal."""

    factory: TelnetFactory
    transport: Any  # the TelnetTransport

    def connectionMade(self) -> None:
        self.typed = bytearray()
        self.name: bytes | None = None
        self.tries = 0
        self.asking = False
        self.size: tuple[int, int] | None = None
        self.session: Session | None = None
        self.terminal: TerminalServer | None = None
        self.too_late = self.factory.reactor.callLater(PATIENCE, self.loseConnection)
        self.factory.connections.add(self)
        self.transport.negotiationMap[NAWS] = self.window
        for agreed in (self.transport.will(ECHO), self.transport.will(SGA), self.transport.do(NAWS)):
            agreed.addErrback(lambda _: None)  # a client that will not is served all the same
        self.transport.write(b"lbservice; all that is typed here travels as plain text\r\nName: ")

    # -- telnet ----------------------------------------------------------------------------

    def enableLocal(self, option: bytes) -> bool:
        return option in (ECHO, SGA)

    def enableRemote(self, option: bytes) -> bool:
        return option in (NAWS, SGA)

    def disableLocal(self, option: bytes) -> None:
        """The client does not want it any more; nothing depends on it."""

    disableRemote = disableLocal

    def window(self, data: list[bytes]) -> None:
        """The client's window has this size."""
        if len(data) == 4:
            columns, rows = struct.unpack("!HH", b"".join(data))
            self.size = columns or 80, rows or 24
            if self.terminal:
                self.terminal.resize(*self.size)

    # -- login -----------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        if self.terminal is not None:
            self.terminal.dataReceived(data.replace(b"\r\n", b"\r"))
            return
        for number in data:
            if self.asking:
                return  # typed ahead, before there is anybody to whom it could belong
            if number in b"\r\n":
                self.entered()
            elif number in b"\x7f\b":
                del self.typed[-1:]
            elif len(self.typed) < LONGEST_LINE:
                self.typed.append(number)
            if self.name is None and 32 <= number < 127:
                self.transport.write(bytes([number]))

    def entered(self) -> None:
        line = bytes(self.typed)
        self.typed.clear()
        if self.name is None:
            self.name = line
            self.transport.write(b"\r\nPassword: ")
            return
        self.asking = True
        self.transport.write(b"\r\n")
        Deferred.fromCoroutine(self.log_in(self.name, line)).addErrback(self.failed)

    async def log_in(self, name: bytes, password: bytes) -> None:
        address = self.transport.getPeer().host
        right = await self.factory.passwords.check(name, password, address, "telnet")
        self.asking = False
        if self not in self.factory.connections:
            return
        if right:
            self.open(f"{printable(name)} (telnet)")
            return
        self.tries += 1
        self.name = None
        self.transport.write(b"Refused.\r\n")
        if self.tries < TRIES:
            self.transport.write(b"Name: ")
        else:
            self.loseConnection()

    def failed(self, failure: Failure) -> None:
        Logger().failure("a login over telnet", failure)
        self.loseConnection()

    def open(self, actor: str) -> None:
        self.too_late.cancel()
        self.session = Session(self.factory.control, actor, self.factory.histories)
        self.session.opened()
        self.terminal = TerminalServer(Terminal, self.session)
        self.terminal.makeConnection(self.transport)
        if self.size:
            self.terminal.resize(*self.size)

    # -- the end ---------------------------------------------------------------------------

    def loseConnection(self) -> None:
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connections.discard(self)
        if self.too_late.active():
            self.too_late.cancel()
        if self.terminal is not None and self.session is not None:
            self.terminal.connectionLost(reason)
            self.session.closed()


class Line(TelnetTransport):
    """Conch's side of telnet, which ends a connection that speaks something else."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        try:
            super().dataReceived(data)
        except ValueError:  # bytes that are no telnet
            self.transport.abortConnection()


class TelnetFactory(Factory[Line]):
    """Makes a visitor of every connection."""

    noisy = False
    log = Logger()

    def __init__(self, settings: ManholeSettings, control: Control, reactor: Any) -> None:
        assert settings.passwords is not None
        file = PasswordFile(settings.passwords)
        file.read()  # a file that cannot be used stops the start, not the first login
        self.passwords = Passwords(file, reactor)
        self.control = control
        self.reactor = reactor
        self.histories = Histories()
        self.connections: set[Visitor] = set()

    def buildProtocol(self, address: Any) -> Line | None:
        if len(self.connections) >= MOST:
            return None
        line = Line(Visitor)
        line.factory = self
        return line

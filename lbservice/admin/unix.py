"""The shell behind a unix socket: whoever may open the file is let in.

A connection is a terminal from its first byte, so `socat -,raw,echo=0 unix:PATH` will do. A
program instead sends NUL, a script, NUL; it is sent NUL, the output, NUL, and the error if there
was one (`lbservice shell` does). What came before the first NUL, the greeting, is to be ignored.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from lbservice.admin.session import Session, Terminal, TerminalServer, run_script
from lbservice.admin.socketfile import Port, listen, peer
from lbservice.services.control import Control

MARK = b"\0"
LONGEST_SCRIPT = 1024 * 1024


def actor_of(connection: socket.socket) -> str:
    """Who is at the other end, as the kernel saw it connect: `alice (uid 1000) at the shell`."""
    return f"{peer(connection)} at the shell"


@implementer(IHalfCloseableProtocol)
class Door(Protocol):
    """One connection: a terminal, until a NUL as the first byte says that a script follows."""

    factory: DoorFactory
    transport: Any  # a unix.Server; its socket is asked who connected

    def connectionMade(self) -> None:
        self.script: bytearray | None = None
        self.too_long = False
        self.silent = True
        self.session = Session(self.factory.control, actor_of(self.transport.socket))
        self.factory.doors.add(self)
        self.session.opened()
        self.terminal = TerminalServer(Terminal, self.session)
        self.terminal.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        if self.silent and data.startswith(MARK):
            self.script, data = bytearray(), data[1:]
            self.transport.write(MARK)
        self.silent = False
        if self.script is None:
            self.terminal.dataReceived(data)
            return
        self.script += data
        if len(self.script) > LONGEST_SCRIPT:
            # Read on to its end: to close on a client that is sending would lose the answer.
            self.too_long = True
            self.script.clear()
        if MARK not in data:
            return
        if self.too_long:
            self.end(f"a script may have at most {LONGEST_SCRIPT} bytes\n")
        else:
            self.run(bytes(self.script.partition(MARK)[0]))

    def run(self, script: bytes) -> None:
        def write(text: str) -> None:
            self.transport.write(text.replace("\0", "\\0").encode("utf-8", "backslashreplace"))

        self.end(run_script(self.session, script, write))

    def end(self, error: str) -> None:
        self.transport.write(MARK + error.encode("utf-8", "backslashreplace"))
        self.transport.loseConnection()
        self.script = None
        self.terminal.connectionLost(Failure(connectionDone.value))

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()  # after what is still to be written

    def writeConnectionLost(self) -> None:
        """Nothing to do; the connection is lost in the same turn."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.terminal.connectionLost(reason)
        self.factory.doors.discard(self)
        self.session.closed()


class DoorFactory(Factory[Door]):
    """Makes a session for every connection and knows those that are open."""

    noisy = False
    protocol = Door

    def __init__(self, control: Control) -> None:
        self.control = control
        self.doors: set[Door] = set()


class UnixManhole(Service):
    """Listens on a socket with mode 0600 while it runs; raises StartError if that cannot be."""

    def __init__(self, path: str, control: Control, reactor: Any) -> None:
        self.path = path
        self.factory = DoorFactory(control)
        self.reactor = reactor
        self.port: Port | None = None

    def startService(self) -> None:
        """Listen. Not earlier: by now twistd runs as the user that is to own the socket."""
        factory: Any = self.factory  # an IProtocolFactory, which mypy cannot see
        self.port = listen(self.path, factory, self.reactor, "manhole")
        super().startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        port, self.port = self.port, None
        for door in list(self.factory.doors):
            door.terminal.loseConnection()
        return maybeDeferred(port.stopListening if port else lambda: None)

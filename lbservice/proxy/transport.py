"""Sockets as the data path wants them: a write goes out at once.

Twisted's stock `write` only queues: it asks epoll for a turn, sends in that turn, and asks epoll
again to be left alone. Measured, that is a third of the cost of a small request. Here a write
with nothing queued before it calls `send` at once, and only what the kernel did not take goes the
stock way, so buffering, back-pressure and closing stay Twisted's own.
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import termios
from collections.abc import Sequence
from typing import Any, Protocol, cast

from twisted.internet import main, tcp
from twisted.internet.address import IPv6Address
from twisted.logger import Logger
from twisted.python.failure import Failure

from lbservice.proxy.inherited import Listeners
from lbservice.proxy.splice import Pipes
from lbservice.reactor import TURN

BACKLOG = 1024
"""Connections that the kernel holds ready for us; it caps this at net.core.somaxconn."""

ACCEPTS = 100
"""Connections that are accepted in one turn of the reactor."""
BUFFER = 64 * 1024
"""Bytes that are read at a time, and that may wait to be written before the other side is held back."""
REST = 0.5
"""Seconds without accepting after a lack of open files."""

_LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Accept errors that are about us; any other is about one client, or passes (accept(2))."""

_log = Logger()


_HOT = (
    *("_tempDataBuffer", "_tempDataLen", "_writeDisconnected", "_writeDisconnecting", "bufferSize", "connected"),
    *("dataBuffer", "disconnected", "disconnecting", "offset", "producer", "producerPaused", "protocol", "reactor"),
    *("socket", "streamingProducer"),
    *("inflow", "outflow", "unflushed"),
)
"""What a small message touches, of Twisted's and ours: slots are four times as fast as defaults of the class."""


def _reset(connection: Any) -> None:
    """Set what Twisted has as attributes of the class."""
    connection._tempDataBuffer = []
    connection._tempDataLen = 0
    connection._writeDisconnected = connection._writeDisconnecting = False
    connection.bufferSize = BUFFER
    connection.connected = connection.disconnected = connection.disconnecting = 0
    connection.dataBuffer = connection.unflushed = b""
    connection.offset = 0
    connection.producer = None
    connection.producerPaused = connection.streamingProducer = False
    connection.outflow = None  # the Flow that takes what is read
    connection.inflow = None  # the Flow whose pipe holds bytes for us


class _WriteThrough:
    """Mixed in before `tcp.Connection`, whose attributes it uses: `write` as described above.

    Within a turn of the reactor, what is written in small pieces waits in `unflushed` for its end.
    """

    __slots__ = ()

    def write(self: Any, data: bytes) -> None:
        if self._tempDataLen or self.dataBuffer:
            super().write(data)  # type: ignore[misc] # of tcp.Connection
        elif TURN.open:
            unflushed = self.unflushed
            if unflushed:
                data = unflushed + data
            else:
                TURN.waiting.append(self)
            self.unflushed = data
            if len(data) > BUFFER:
                self.flush()
        else:
            self.unflushed = data
            self.flush()

    def flush(self: Any) -> None:
        """Send what has waited. Called again at the end of the turn, with nothing then."""
        data = self.unflushed
        if not data:
            return
        self.unflushed = b""
        if not self.connected or self._writeDisconnected:
            return
        try:
            sent = self.socket.send(data)
        except OSError:  # would block, or broken: the stock path finds out which, and reports it
            sent = 0
        if sent < len(data):
            super().write(data[sent:] if sent else data)  # type: ignore[misc] # of tcp.Connection

    def doRead(self: Any) -> Any:
        """As Twisted's own, with a call less."""
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None

    def loseConnection(self: Any) -> None:
        """Close when everything is written, which it is at the end of this turn, unless the kernel does not take it.

        Twisted asks epoll for a turn more, to see whether there is something left to be written.
        """
        stock = self.producer is not None or self._writeDisconnecting or self._aborting or not self.connected
        if stock or not TURN.open:
            super().loseConnection()  # type: ignore[misc] # of tcp.Connection
        elif not self.disconnecting:
            self.disconnecting = 1
            self.stopReading()
            TURN.leaving.append(self)

    def leave(self: Any) -> None:
        """The end of the turn in which the connection was given up."""
        if not self.connected or self._aborting:
            return
        if self._tempDataLen or self.dataBuffer or self.inflow is not None:
            self.startWriting()  # the rest of the stock way: it closes when all is written
        else:
            self.connectionLost(_DONE)

    def connectionLost(self: Any, reason: Any) -> None:
        if self.outflow is not None:
            self.outflow.stop()
        if self.inflow is not None:
            self.inflow.unblock()
        super().connectionLost(reason)  # type: ignore[misc] # of tcp.Connection


_DONE = Failure(main.CONNECTION_DONE)


class ServerTransport(_WriteThrough, tcp.Server):
    """A connection that a client opened."""

    __slots__ = _HOT

    def __init__(self, skt: Any, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any) -> None:
        # As tcp.Server does, but for the names that it makes up of a connection for logs: they cost every new one.
        _reset(self)
        skt.setblocking(False)
        self.socket = skt
        self.fileno = skt.fileno
        self.protocol = protocol
        self.reactor = reactor
        self.server = server
        self.client = client
        self.hostname = client[0]
        self.sessionno = sessionno
        if len(client) != 2:
            self._addressType = IPv6Address
        self.connected = 1
        self.startReading()

    def __repr__(self) -> str:
        return f"<connection #{self.sessionno} of {self.client[0]}:{self.client[1]}>"


class ClientTransport(_WriteThrough, tcp.Client):
    """A connection that we open to a server."""

    __slots__ = _HOT
    _poll: select.poll | None = None

    def __init__(self, host: str, port: int, bind: Any, connector: Any, reactor: Any) -> None:
        _reset(self)
        super().__init__(host, port, bind, connector, reactor)

    def is_quiet(self) -> bool:
        """Has the kernel nothing for us, not even an end? Half a microsecond, where a try to read takes three."""
        poll = self._poll
        if poll is None:
            poll = self._poll = select.poll()
            poll.register(self.socket, select.POLLIN)
        return not poll.poll(0)

    def createInternetSocket(self) -> socket.socket:
        skt = cast(socket.socket, super().createInternetSocket())
        tune(skt)
        return skt

    def failIfNotConnected(self, err: Any) -> None:
        super().failIfNotConnected(err)
        if not self.connected:
            # Twisted's stand-ins while it connects are cycles. The reactor may still call them in this turn.
            self.doRead = self.doWrite = _nothing  # type: ignore[method-assign]


def _nothing() -> None:
    pass


UNSENT = 256 * 1024
"""Bytes that the kernel takes of one connection beyond what it can send at once.

Without it the kernel would take megabytes from us for each peer that reads slowly, in small pieces that cost
it (and so everybody else) time: with 500 such clients, a third to one and a half seconds at a stretch.
"""


def tune(skt: socket.socket) -> None:
    """Small writes go out at once, and large ones not far ahead of the peer. Accepted sockets inherit both."""
    skt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a second small write waits 40 ms for an ack
    skt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)


class Door(Protocol):
    """What a listening socket asks."""

    def admits(self, host: str) -> bool:
        """May a client of this address come in?"""

    def lacking(self, error: OSError) -> None:
        """There is no open file left to accept with."""


class _Port(tcp.Port):
    """A listening socket that can be paused in the middle of a crowd, and that survives a lack of open files."""

    transport: type[ServerTransport] = ServerTransport
    door: Door | None = None
    _shares = False
    _resting = False

    def waited_for(self) -> bool:
        """Is a client in the backlog?"""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))

    def share(self, yes: bool) -> None:
        """May another listener of ours, and of this user, have a part of its address? Both must say so."""
        self._shares = yes
        if self.connected:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, yes)

    def close(self) -> None:
        """Accept all who wait, and close at once; Twisted's own way takes a turn, and resets who has come meanwhile.

        Not more are accepted than fit into the backlog, and nobody while it is held (`maxconn`) or open files lack.
        """
        for _ in range(BACKLOG // ACCEPTS + 1):
            if not self._accepting or self._resting or not self.waited_for():
                break
            self.doRead()
        self.disconnecting = True
        self.stopReading()
        self.connectionLost(_DONE)

    def createInternetSocket(self) -> socket.socket:
        skt = super().createInternetSocket()
        tune(skt)
        if self.addressFamily == socket.AF_INET6:
            skt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if self._shares:
            skt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return cast(socket.socket, skt)

    def startReading(self) -> None:
        self._accepting = True
        super().startReading()

    def stopReading(self) -> None:
        self._accepting = False
        super().stopReading()

    def doRead(self) -> None:
        """Accept what waits, at most `ACCEPTS` in a turn, until told to stop (`maxconn`)."""
        for _ in range(ACCEPTS):
            if not self._accepting:
                return
            try:
                skt, address = self.accept_one()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _LACKS:
                    self._rest(error)
                return
            if self.door is not None and not self.door.admits(address[0]):
                skt.close()
                continue
            transport = None
            try:
                protocol: Any = self.factory.buildProtocol(self._buildAddr(address[:2]))  # type: ignore[union-attr]
                transport = self.transport(skt, protocol, address, self, self.sessionno, self.reactor)
                self.sessionno += 1
                protocol.makeConnection(transport)
            except Exception:  # one client's trouble must not close the port, as the reactor would
                _log.failure("accepting a connection")
                if transport is None:
                    skt.close()
                else:  # the reactor knows it already
                    transport.abortConnection()

    def accept_one(self) -> tuple[Any, Any]:
        """As `socket.accept`, but without asking the new socket for its family and type, which are known."""
        listening: Any = self.socket
        fd, address = listening._accept()
        return socket.socket(self.addressFamily, socket.SOCK_STREAM, 0, fd), address

    def _rest(self, error: OSError) -> None:
        """No open file left, or no memory: the crowd stays in the backlog, and we do not spin."""
        if self.door is not None:
            self.door.lacking(error)
        super().stopReading()
        self._resting = True
        self.reactor.callLater(REST, self._resume)

    def _resume(self) -> None:
        self._resting = False
        if self.connected and self._accepting and not self.disconnecting:
            super().startReading()


class _Connector(tcp.Connector):
    make: type[ClientTransport] = ClientTransport

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self._part()

    def connectionFailed(self, reason: Failure) -> None:
        super().connectionFailed(reason)
        self._part()

    def _part(self) -> None:
        """Let go of those who know us: a cycle would wait for the garbage collector."""
        self.transport = None
        self.factory = None  # type: ignore[assignment] # it has heard everything

    def _makeTransport(self) -> ClientTransport:
        return self.make(self.host, self.port, self.bindAddress, self, self.reactor)


class Queued:
    """Mixed in before one of the transports: `write` as Twisted has it, the general path beside write-through."""

    __slots__ = ()

    write = tcp.Connection.write


class QueuedServerTransport(Queued, ServerTransport):
    """A client's connection without write-through."""

    __slots__ = ()


class QueuedClientTransport(Queued, ClientTransport):
    """A server's connection without write-through."""

    __slots__ = ()


class Network:
    """The door to the network. Tests come in with another one that has the same two methods."""

    pipes: Pipes | None = None
    """For what moves in the kernel, if that is wanted."""

    def __init__(self, reactor: Any, *, write_through: bool = True, splice: bool = True) -> None:
        self._reactor = reactor
        self._server: type[ServerTransport] = ServerTransport if write_through else QueuedServerTransport
        self._client: type[ClientTransport] = ClientTransport if write_through else QueuedClientTransport
        self.inherited: Listeners = {}
        """Listeners that were handed to the process, until a frontend takes them."""
        if splice:
            self.pipes = Pipes()

    def listen(self, host: str, port: int, factory: Any, door: Door | None = None, beside: Sequence[_Port] = ()) -> Any:
        """An IListeningPort, listening already; raises CannotListenError. `host` "" is every IPv4 address, "::" all.

        `beside` are listeners of ours that may have a part of its address: the kernel prefers the narrower one.
        """
        listening = _Port(port, factory, BACKLOG, host, self._reactor)
        listening.door = door
        listening.transport = self._server
        if (inherited := self.inherited.pop((host, port), None)) is not None:
            tune(inherited)
            listening._preexistingSocket = inherited
        together = (listening, *beside) if beside else ()
        for each in together:
            each.share(True)
        try:
            listening.startListening()
        finally:
            for each in together:
                each.share(False)  # from now on the address is in use for everybody, as ever
        return listening

    def connect(self, host: str, port: int, factory: Any, timeout: float) -> Any:
        """Open a connection for a ClientFactory; the connector that comes back can be disconnected."""
        connector = _Connector(host, port, factory, timeout, None, self._reactor)
        connector.make = self._client
        connector.connect()
        return connector


def hand_on(transport: Any, heir: Any) -> None:
    """From now on a connection, as its protocol knows it, belongs to another protocol."""
    if hasattr(transport, "wrappedProtocol"):  # of TLS
        transport.wrappedProtocol = heir
    else:
        transport.protocol = heir


def owner_of(transport: Any) -> Any:
    """The protocol that a connection belongs to now."""
    return transport.wrappedProtocol if hasattr(transport, "wrappedProtocol") else transport.protocol


def host_of(address: Any) -> str:
    """A peer's address as text."""
    return plain_host(address.host)


def port_of(transport: Any) -> int:
    """Our port that a client has connected to."""
    port: int = getattr(transport, "transport", transport).server._realPortNumber
    return port


def plain_host(host: str) -> str:
    """IPv4 clients of an IPv6 listener are IPv4 clients."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def outstanding(transport: Any) -> int:
    """Bytes written but not yet acknowledged by the peer's kernel: our buffer and the socket's.

    When it does not shrink for a while, the peer does not read. TLS keeps records of its own on
    top; the bytes below it are what tells progress.
    """
    connection = getattr(transport, "transport", transport)
    buffered = getattr(connection, "_tempDataLen", 0) + len(getattr(connection, "dataBuffer", b""))
    buffered += len(getattr(connection, "unflushed", b"")) - getattr(connection, "offset", 0)
    inflow = getattr(connection, "inflow", None)
    if inflow is not None:
        buffered += inflow.held
    skt = _socket_of(transport)
    if skt is None:
        return buffered
    try:
        return buffered + _ask(skt, termios.TIOCOUTQ)
    except OSError:
        return buffered


TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8
"""What `tcp_state` may answer (Linux, net/tcp_states.h): reset or over; the peer has closed its half."""


def tcp_state(transport: Any) -> int:
    """The kernel's state of a connection, also of one that is not being read; 0 when it cannot be had."""
    skt = _socket_of(transport)
    try:
        return int(skt.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]) if skt is not None else 0
    except OSError:
        return 0


def was_reset(transport: Any) -> bool:
    """Has the peer reset the connection? Also of one that is not being read. It can be asked once.

    The state alone does not tell: when both sides have closed their halves it is over, too, and there may be
    bytes that we have not read yet.
    """
    if tcp_state(transport) != TCP_CLOSE:
        return False
    skt = _socket_of(transport)
    return skt is not None and bool(skt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


def unread(transport: Any) -> int:
    """Bytes that the kernel holds for us."""
    skt = _socket_of(transport)
    try:
        return _ask(skt, termios.FIONREAD) if skt is not None else 0
    except OSError:
        return 0


def _socket_of(transport: Any) -> Any:
    """The socket, also below TLS; None when the connection is lost."""
    return getattr(getattr(transport, "transport", transport), "socket", None)


def _ask(skt: socket.socket, request: int) -> int:
    return cast(int, struct.unpack("i", fcntl.ioctl(skt.fileno(), request, b"\0\0\0\0"))[0])

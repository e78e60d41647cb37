"""An in-memory network: real Twisted transports on sockets that exist in memory only.

`MemoryNetwork` has the methods of `lbservice.proxy.transport.Network`. Only the lowest layer is made
up here: `MemorySocket` stands for the kernel's socket, `MemoryReactor` for epoll. Everything above,
that is buffering, pausing, half-close, abort and the order of calls, is Twisted's own code and the
product's write-through transports. So what a test sees is what a real connection does.

The made-up kernel:

- each direction holds at most `capacity` bytes; then the sender must wait, so back-pressure is real;
- `segment` bounds what one read returns (1: byte by byte);
- whoever is connected to may not have accepted yet: bytes wait in the listener's backlog;
- closing with unread bytes resets the peer, and so does sending to a peer that has closed;
- a reset destroys what the peer has not read yet (the harshest thing that TCP stacks do);
- time is a `twisted.internet.task.Clock`; each round of events is one `callLater(0)` on it. As with
  epoll, the events of a round are collected first, then handed out.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.posixbase import _DisconnectSelectableMixin, _PollLikeMixin
from twisted.internet.task import Clock

from lbservice.proxy import transport
from lbservice.proxy.splice import Pipes
from lbservice.reactor import TURN

Address = tuple[str, int]

_SOME_FILE = os.open(os.devnull, os.O_RDONLY)
"""Twisted sets flags on a new socket's file number: this one does not mind."""
MAX_ROUNDS = 100_000
"""Rounds of events in one moment; more of them is a loop that never ends."""


class MemorySocket:
    """The kernel's side of one TCP socket: as much of `socket.socket` as Twisted's transports use."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.local: Address = ("", 0)
        self.remote: Address = ("", 0)
        self.peer: MemorySocket | None = None
        self.incoming = bytearray()
        self.backlog: deque[MemorySocket] | None = None
        """Of a listening socket: connections that wait to be accepted."""
        self.eof = False
        """The peer sends no more."""
        self.finished = False
        """We send no more."""
        self.closed = False
        self.broken = False
        """Reset by the peer, or never connected."""
        self._error = 0
        self._connecting = False
        self._abort = False
        network.sockets.append(self)

    # -- what epoll would say --------------------------------------------------------------

    @property
    def readable(self) -> bool:
        """EPOLLIN."""
        if self.backlog is not None:
            return bool(self.backlog)
        return bool(self.incoming) or self.eof or self.broken

    @property
    def writable(self) -> bool:
        """EPOLLOUT."""
        if self.broken or self.finished:
            return True
        return self.peer is not None and (self.peer.closed or self._room > 0)

    @property
    def hung_up(self) -> bool:
        """EPOLLHUP or EPOLLERR, which come unasked."""
        return self.broken or (self.eof and self.finished)

    @property
    def _room(self) -> int:
        return 0 if self.peer is None else self.network.capacity - len(self.peer.incoming)

    # -- connecting ------------------------------------------------------------------------

    def bind(self, address: Address) -> None:
        """Take a local address; port 0 is any free one."""
        host, port = address[:2]
        if (host, port) in self.network.listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.local = (host, port or self.network.free_port())

    def listen(self, backlog: int) -> None:
        """Be connected to from now on, accepted or not."""
        self.backlog = deque()
        self.network.listeners[self.local] = self

    def accept(self) -> tuple[MemorySocket, Address]:
        """The connection that has waited longest."""
        if not self.backlog:
            raise BlockingIOError(errno.EWOULDBLOCK, "nobody waits")
        connection = self.backlog.popleft()
        return connection, connection.remote

    def connect_ex(self, address: Address) -> int:
        """As `socket.connect_ex`, never done at once."""
        if self.peer is not None:
            return errno.EISCONN
        if not self._connecting:
            self._connecting = True
            self.remote = address[:2]
            if not self.local[1]:
                self.local = (self.local[0] or "127.0.0.1", self.network.free_port())
            if self.remote not in self.network.blackholes:
                self.network.clock.callLater(self.network.latency, self._connect)
        return errno.EINPROGRESS

    def _connect(self) -> None:
        network, (host, port) = self.network, self.remote
        if self.closed:
            return
        listener = network.listeners.get((host, port)) or network.listeners.get(("", port))
        if listener is None or listener.backlog is None:
            self._break(network.failures.get(self.remote, errno.ECONNREFUSED))
            return
        peer = self.peer = MemorySocket(network)
        peer.peer, peer.local, peer.remote = self, self.remote, self.local
        listener.backlog.append(peer)
        network.wake()

    # -- bytes -----------------------------------------------------------------------------

    def send(self, data: bytes | memoryview) -> int:
        """Hand over what there is room for."""
        self._raise_error()
        if self.finished or self.closed or self.broken or self.peer is None:
            raise BrokenPipeError(errno.EPIPE, "broken pipe")
        if self.peer.closed:  # its answer is a reset, and takes its time
            self.network.clock.callLater(0, self._break, errno.ECONNRESET)
            return len(data)
        sent = bytes(data[: max(0, self._room)])
        if not sent:
            raise BlockingIOError(errno.EWOULDBLOCK, "full")
        self.peer.incoming += sent
        self.network.wake()
        return len(sent)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """At most `size` bytes, or one segment; b"" at the end of the stream."""
        if self.incoming:
            data = bytes(self.incoming[: min(size, self.network.segment)])
            if not flags & socket.MSG_PEEK:
                del self.incoming[: len(data)]
                self.network.wake()  # the sender has room again
            return data
        self._raise_error()
        if self.eof or self.broken:
            return b""
        raise BlockingIOError(errno.EWOULDBLOCK, "empty")

    def _raise_error(self) -> None:
        error, self._error = self._error, 0
        if error:
            raise OSError(error, os.strerror(error))

    # -- ending ----------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """1: send no more. 2: and read no more."""
        if self.peer is None or self.broken:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        self.finished = True
        self.peer.eof = True
        self.network.wake()

    def close(self) -> None:
        """FIN, or a reset when something is unread, or when SO_LINGER asks for it."""
        if self.closed:
            return
        self.closed = True
        if self.backlog is not None:
            self.network.listeners.pop(self.local, None)
            for connection in self.backlog:
                connection.closed = True
                connection._tell_peer(reset=True)
        self._tell_peer(reset=self._abort or bool(self.incoming))
        self.network.sockets.remove(self)

    def _tell_peer(self, *, reset: bool) -> None:
        peer = self.peer
        if peer is not None and not peer.closed and not self.broken:
            if reset:
                peer._break(errno.ECONNRESET)
            else:
                peer.eof = True
            self.network.wake()

    def _break(self, error: int) -> None:
        if not self.closed and not self.broken:
            self.broken, self._error = True, error
            self.incoming.clear()
            self.network.wake()

    # -- the rest of the interface ------------------------------------------------------------

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Only SO_LINGER matters; Twisted uses it for abortConnection."""
        if option == socket.SO_LINGER:
            self._abort = True

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        """The pending error, for SO_ERROR; the state of the connection, for TCP_INFO."""
        if option == socket.TCP_INFO and level == socket.IPPROTO_TCP:
            return bytes([transport.TCP_CLOSE if self.broken else transport.TCP_CLOSE_WAIT if self.eof else 1])
        error, self._error = self._error, 0
        return error or (errno.ECONNRESET if self.broken else 0)

    def getsockname(self) -> Address:
        return self.local

    def getpeername(self) -> Address:
        return self.remote

    def fileno(self) -> int:
        return -1 if self.closed else _SOME_FILE

    def __repr__(self) -> str:
        return f"<MemorySocket {self.local} -> {self.remote}, {len(self.incoming)} unread>"


class MemoryPipe:
    """As `splice.Pipe`, for at most `pipe_room` bytes, taken a segment at a time."""

    def __init__(self, network: MemoryNetwork) -> None:
        if not network.pipe_room:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._network = network
        self._bytes = bytearray()
        network.pipes_open += 1

    @property
    def held(self) -> int:
        return len(self._bytes)

    def fill(self, skt: MemorySocket, size: int) -> int:
        """Out of a socket."""
        if self._network.splice_error:
            raise OSError(self._network.splice_error, os.strerror(self._network.splice_error))
        data = skt.recv(min(size, self._network.pipe_room - self.held))
        self._bytes += data
        self._network.spliced += len(data)
        return len(data)

    def drain(self, skt: MemorySocket) -> None:
        """Into a socket."""
        del self._bytes[: skt.send(bytes(self._bytes))]

    def close(self) -> None:
        """With whatever is in it."""
        self._network.pipes_open -= 1


class MemoryReactor(_PollLikeMixin, _DisconnectSelectableMixin):
    """Hands the sockets' events to the transports, as EPollReactor does, and knows the time."""

    _POLL_IN, _POLL_OUT, _POLL_DISCONNECTED = 1, 4, 16

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network
        self._reads: dict[Any, None] = {}
        self._writes: dict[Any, None] = {}
        self._awake = False
        self._moment = -1.0
        self._rounds = 0
        self.callLater = network.clock.callLater
        self.seconds = network.clock.seconds

    def addReader(self, reader: Any) -> None:
        self._reads[reader] = None
        self.wake()

    def addWriter(self, writer: Any) -> None:
        self._writes[writer] = None
        self.wake()

    def removeReader(self, reader: Any) -> None:
        self._reads.pop(reader, None)

    def removeWriter(self, writer: Any) -> None:
        self._writes.pop(writer, None)

    def resolve(self, name: str) -> Deferred[str]:
        """A name's address, if the network knows one."""
        address = self._network.names.get(name)
        return succeed(address) if address is not None else fail(DNSLookupError(f"no address for {name}"))

    def wake(self) -> None:
        """Something may have happened: look in the next round."""
        if not self._awake:
            self._awake = True
            self.callLater(0, self._round)

    def _round(self) -> None:
        self._awake = False
        self._count()
        events = {each: self._events(each) for each in (*self._reads, *self._writes)}
        TURN.open |= self._network.turns
        try:
            for selectable, event in events.items():
                if event and (selectable in self._reads or selectable in self._writes):
                    self._doReadOrWrite(selectable, selectable, event)
        finally:
            if self._network.turns:
                TURN.close()
        if any(self._events(each) for each in (*self._reads, *self._writes)):
            self.wake()

    def _events(self, selectable: Any) -> int:
        skt: MemorySocket = selectable.socket
        event = self._POLL_IN if skt.readable and selectable in self._reads else 0
        event |= self._POLL_OUT if skt.writable and selectable in self._writes else 0
        return event | (self._POLL_DISCONNECTED if skt.hung_up else 0)

    def _count(self) -> None:
        if self.seconds() != self._moment:
            self._moment, self._rounds = self.seconds(), 0
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise AssertionError(f"events never end: {list(self._reads)} read, {list(self._writes)} write")


class _Port(transport._Port):
    network: MemoryNetwork

    def createInternetSocket(self) -> Any:
        return MemorySocket(self.network)

    def accept_one(self) -> tuple[Any, Any]:
        return self.socket.accept()

    def waited_for(self) -> bool:
        skt: Any = self.socket
        return bool(skt.readable)


class _Client(transport.ClientTransport):
    def createInternetSocket(self) -> Any:
        return MemorySocket(self.connector.network)

    def is_quiet(self) -> bool:
        skt: Any = self.socket
        return not (skt.readable or skt.hung_up)


class _QueuedClient(transport.Queued, _Client):
    pass


class _Connector(transport._Connector):
    network: MemoryNetwork


class MemoryNetwork(transport.Network):
    """Connections between whoever listens and whoever connects here. Nobody listening: refused."""

    def __init__(self, clock: Clock, *, capacity: int = 64 * 1024, segment: int = 1 << 20, fast: bool = True) -> None:
        self.clock = clock
        self.capacity = capacity
        self.segment = segment
        self.latency = 0.0
        """Seconds that connecting takes."""
        self.names: dict[str, str] = {}
        self.listeners: dict[Address, MemorySocket] = {}
        self.sockets: list[MemorySocket] = []
        """The open ones."""
        self.blackholes: set[Address] = set()
        """Addresses that never answer."""
        self.failures: dict[Address, int] = {}
        """The errno that connecting to an address gives, in the place of ECONNREFUSED."""
        self._ports = iter(range(40000, 60000))
        self.reactor = MemoryReactor(self)
        super().__init__(self.reactor, write_through=fast, splice=False)
        self._client = _Client if fast else _QueuedClient
        self.pipes = Pipes(lambda: MemoryPipe(self)) if fast else None
        self.pipe_room = 64 * 1024
        """Bytes that a pipe holds; 0: no pipe is to be had."""
        self.turns = False
        """Are there turns (`lbservice.reactor.Turn`), as with the epoll reactor?"""
        self.pipes_open = 0
        self.spliced = 0
        """Bytes that were moved so."""
        self.splice_error = 0
        """The errno that splicing gives."""

    def listen(self, host: str, port: int, factory: Any, door: Any = None, beside: Any = ()) -> Any:
        """As Network.listen; an address in memory is in use only if it is the very same."""
        listening = _Port(port, factory, transport.BACKLOG, host, self.reactor)
        listening.door = door
        listening.network = self
        listening.transport = self._server
        listening.startListening()
        return listening

    def connect(self, host: str, port: int, factory: Any, timeout: float, source: Address | None = None) -> Any:
        """As Network.connect; `source` is the address to come from."""
        connector = _Connector(host, port, factory, timeout, source, self.reactor)
        connector.network = self
        connector.make = self._client
        connector.connect()
        return connector

    def run(self, seconds: float = 0.0) -> None:
        """Let `seconds` pass, timer by timer; with 0, until nothing moves any more in this moment."""
        clock = self.clock
        until = clock.seconds() + seconds
        while (call := min(clock.getDelayedCalls(), key=_when, default=None)) and _when(call) <= until:
            clock.rightNow = max(clock.rightNow, _when(call))
            clock.advance(0)
        clock.rightNow = until

    def free_port(self) -> int:
        """A port that nobody has."""
        return next(self._ports)

    def wake(self) -> None:
        """A socket has changed."""
        self.reactor.wake()


def _when(call: Any) -> float:
    return float(call.getTime())

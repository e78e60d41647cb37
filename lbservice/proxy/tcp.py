"""TCP mode: a session is one client's connection and one server's, and the bytes between them.

The client is not read until a server is connected. From then on each transport is the other's
producer, so a slow reader on one side stops the reading on the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lbservice.core.backend import Backend, Lease
from lbservice.core.clock import Clock
from lbservice.core.events import Access
from lbservice.core.pick import Outcome, PickInfo, Result
from lbservice.core.route import Question
from lbservice.core.server import Server
from lbservice.proxy.closing import SoftClose
from lbservice.proxy.deadline import Deadline
from lbservice.proxy.dial import DialedProtocol
from lbservice.proxy.pace import WATCH
from lbservice.proxy.placing import Placement, Unplaced, give_back
from lbservice.proxy.transport import host_of, was_reset
from lbservice.proxy.tunnel import Tunnel
from lbservice.wire.client_hello import ClientHelloReader, NoClientHello

if TYPE_CHECKING:
    from lbservice.proxy.listener import TcpFactory

EARLY = 64 * 1024
"""Bytes that are read from a client before there is a server; reading shows whether it is still there."""
HELLO = 5.0
"""Seconds in which a client may say whom it wants, where routes ask; then it goes where one without a name does."""

_log = Logger()


class _End:
    """What both ends of a session have: the ways to pause and to close."""

    transport: Any
    clock: Clock
    _closing: SoftClose | None = None
    _held = False
    _watch: Deadline | None = None

    def hold(self) -> None:
        """Read nothing more for now; only look whether the other side has reset the connection."""
        self._held = True
        self.transport.pauseProducing()
        if self._watch is None:
            self._watch = Deadline(self.clock, self._look)
        self._watch.set(self.clock.seconds(), WATCH)

    def release(self) -> None:
        """Read again, unless it was reset meanwhile. What had come before could still be read, for whom?"""
        self._held = False
        if was_reset(self.transport):
            self.transport.abortConnection()
        else:
            self.transport.resumeProducing()

    def _look(self) -> None:
        if self._held and was_reset(self.transport):
            self.transport.abortConnection()
        elif self._held and self._watch is not None:
            self._watch.set(self.clock.seconds(), WATCH)

    def close(self, *, clean: bool) -> None:
        """When everything is written; or at once, with a reset."""
        if not clean:
            self.transport.abortConnection()
        elif self._closing is None:
            self._closing = SoftClose(self.transport, self.clock)
            self._closing.start()

    def _closed(self) -> None:
        if self._closing is not None:
            self._closing.over()
        if self._watch is not None:
            self._watch.close()


@implementer(IPushProducer)
class Valve:
    """Holds one end for the other: a producer that does not close when its consumer does."""

    __slots__ = ("_source",)

    def __init__(self, source: _End) -> None:
        self._source = source

    def pauseProducing(self) -> None:
        self._source.hold()

    def resumeProducing(self) -> None:
        self._source.release()

    def stopProducing(self) -> None:
        pass  # the consumer is lost; its protocol says so


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class TcpServerProtocol(_End, Protocol):
    """The client's end of a session."""

    encrypted = False

    def __init__(self, factory: TcpFactory, address: Any) -> None:
        self.factory: TcpFactory = factory
        self.clock = factory.clock
        self.host = host_of(address)
        self.session = Session(self, address)
        self._handshake = Deadline(factory.clock, lambda: self.close(clean=False))

    def connectionMade(self) -> None:
        self.factory.opened(self)
        if self.encrypted:
            self._handshake.set(self.clock.seconds(), self.factory.settings.timeout_client)
        else:
            self.session.start()

    def handshakeCompleted(self) -> None:
        self._handshake.close()
        self.session.start()

    def dataReceived(self, data: bytes) -> None:
        self.session.from_client(data)

    def finish_sending(self) -> None:
        """Half-close. TLS has no such thing: there it is the end."""
        if self.encrypted:
            self.session.end("--")
        else:
            self.transport.loseWriteConnection()

    def readConnectionLost(self) -> None:
        self.session.client_finished()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's own shape
        self._handshake.close()
        self.session.client_lost(clean=reason.check(ConnectionDone) is not None)
        self._closed()
        self.factory.closed(self)

    @property
    def access(self) -> Access | None:
        """What is known of the session."""
        return self.session.access

    @property
    def name(self) -> str:
        """`address:port` of the client."""
        return self.session.access.client

    @property
    def since(self) -> float:
        """When the session began."""
        return self.session.access.began

    def will_move(self) -> None:
        """It will not."""

    def hand_over(self) -> None:
        """A session ends where it began, also when its frontend has been replaced."""

    def stop(self) -> None:
        """The service is stopping: a session goes on until it ends, or the grace period does."""

    has_asked = True
    idle_since = None
    """Who can tell: bytes are bytes."""

    def give_way(self) -> None:
        """It is never asked to."""

    def abort(self) -> None:
        """Close at once, whatever is going on."""
        self.session.end("KD")
        self.transport.abortConnection()

    def cut(self, server: Server) -> None:
        """Close at once if `server` is being used."""
        if self.session.uses(server):
            self.abort()

    def marked_down(self, server: Server) -> None:
        """`server` is down, and what uses it is to end."""
        if self.session.uses(server):
            self.session.end("DD")


@implementer(IHalfCloseableProtocol)
class TcpClientProtocol(_End, DialedProtocol):
    """The server's end of a session."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self.session: Session | None = session
        self.clock = clock
        self._encrypted = False

    def connectionMade(self) -> None:
        self._encrypted = self.dial is not None and self.dial.encrypted
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        if self.session is not None:
            self.session.from_server(data)

    def finish_sending(self) -> None:
        """Half-close. TLS has no such thing: there it is the end."""
        if self._encrypted:
            self.close(clean=True)
        else:
            self.transport.loseWriteConnection()

    def readConnectionLost(self) -> None:
        if self.dial is not None:
            self.close(clean=True)
        elif self.session is not None:
            self.session.server_finished()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's own shape
        super().connectionLost(reason)
        self._closed()
        session, self.session = self.session, None
        if session is not None:
            session.server_lost(self, clean=reason.check(ConnectionDone) is not None)


class Session:
    """One client connection in tcp mode. Ends exactly once, in `end`."""

    def __init__(self, client: TcpServerProtocol, address: Any) -> None:
        factory = client.factory
        self._client = client
        self._factory = factory
        clock: Clock = factory.clock
        self._seconds = clock.seconds
        self.access = Access(
            http=False,
            client=f"{client.host}:{address.port}",
            frontend=factory.name,
            backend=factory.backend.name if factory.router is None and factory.backend else factory.name,
            began=clock.seconds(),
        )
        self._idle = Deadline(clock, self._expired)
        self._timeout = 0.0
        self._lease: Lease | None = None
        self._server: TcpClientProtocol | None = None
        self._tunnel: Tunnel | None = None
        self._hello: ClientHelloReader | None = None
        """Set while the name in a ClientHello is waited for."""
        self._hello_due: Deadline | None = None
        self._placement: Placement[TcpClientProtocol] | None = None
        self._placing: Deferred[None] | None = None
        self._ended = False
        self._early = b""
        """What the client has sent before there is a server."""
        self._finished_early = False

    def start(self) -> None:
        """Find a server and connect to it."""
        if self._client.encrypted:
            self.access.frontend += "~"  # as HAProxy marks it in the log
        factory = self._factory
        if factory.reads_hello:
            self._hello = ClientHelloReader()
            self._hello_due = Deadline(self._client.clock, self._route)
            self._hello_due.set(self._seconds(), HELLO)
        elif factory.router is not None:
            self._route()
        else:
            self._place(factory.backend)

    def _read_hello(self, data: bytes) -> None:
        """More of the client's first bytes. What is no ClientHello names nobody."""
        assert self._hello is not None
        try:
            name = self._hello.feed(data)
        except NoClientHello:
            name = ""
        if name is not None:
            self._route(name)

    def _route(self, name: str = "") -> None:
        """Choose a backend, now that the client has named a server, or will not."""
        self._stop_waiting()
        factory = self._factory
        number = -1 if factory.router is None else factory.router.choose(Question(self._client.host, sni=name))
        self._place(factory.targets[number])

    def _stop_waiting(self) -> None:
        self._hello = None
        if self._hello_due is not None:
            self._hello_due.close()

    def _place(self, backend: Backend | None) -> None:
        if backend is None:
            self.end("PR")
            return
        client = self._client
        self.access.backend = backend.name
        self._timeout = backend.settings.timeout_tunnel
        self._placement = Placement(
            self._factory,
            backend,
            PickInfo(client.host),
            self.access,
            lambda server: None,
            lambda server: TcpClientProtocol(self, client.clock),
        )
        placing = Deferred.fromCoroutine(self._placement.place())
        self._placing = placing.addCallbacks(self._connect, self._unplaced).addErrback(self._confused)

    def _unplaced(self, failure: Failure) -> None:
        self._placing = None
        if failure.check(CancelledError):
            return  # the client is gone, and `end` has been here
        failure.trap(Unplaced)
        self.end(str(failure.value))

    def _confused(self, failure: Failure) -> None:
        _log.failure("placing a session", failure)
        self.end("IC")

    def _connect(self, found: tuple[Lease, TcpClientProtocol]) -> None:
        """Join the two transports."""
        self._placing = None
        self._lease, server = found
        client = self._client
        self._server = server
        self.access.server = self._lease.server.name
        self.access.connected = now = self._seconds()
        self._tunnel = Tunnel(client, server, lambda: self.end("--"))
        client.transport.registerProducer(Valve(server), True)
        server.transport.registerProducer(Valve(client), True)
        self._idle.set(now, self._timeout)
        self._tunnel.splice(self._factory.network.pipes, self._moved_in, self._moved_out)
        early, self._early = self._early, b""
        if early:
            self.from_client(early)
        if self._finished_early:
            self._tunnel.client_finished()
        else:
            client.release()

    # -- bytes -----------------------------------------------------------------------------

    def from_client(self, data: bytes) -> None:
        """Bytes for the server."""
        if self._server is not None:
            self.access.bytes_in += len(data)
            self._idle.set(self._seconds(), self._timeout)
            self._server.transport.write(data)
            if self._tunnel is not None:
                self._tunnel.client_sent(len(data))
        elif self._tunnel is None:
            self._early += data
            if len(self._early) > EARLY:
                self._client.hold()
            if self._hello is not None:
                self._read_hello(data)

    def from_server(self, data: bytes) -> None:
        """Bytes for the client."""
        self.access.bytes_out += len(data)
        self._idle.set(self._seconds(), self._timeout)
        self._client.transport.write(data)
        if self._tunnel is not None:
            self._tunnel.server_sent(len(data))

    def _moved_in(self, size: int) -> None:
        self.access.bytes_in += size
        self._idle.set(self._seconds(), self._timeout)

    def _moved_out(self, size: int) -> None:
        self.access.bytes_out += size
        self._idle.set(self._seconds(), self._timeout)

    # -- endings ---------------------------------------------------------------------------

    def client_finished(self) -> None:
        """The client sends no more."""
        if self._tunnel is not None:
            self._tunnel.client_finished()
        elif self._early:
            self._finished_early = True
            if self._hello is not None:
                self._route()
        else:
            self.client_lost(clean=True)

    def server_finished(self) -> None:
        """The server sends no more."""
        if self._tunnel is not None:
            self._tunnel.server_finished()

    def client_lost(self, *, clean: bool) -> None:
        """The client's connection is gone."""
        if self._tunnel is None:
            self.end("CR" if self._hello is not None else "CQ" if self._waiting else "CC")
        else:
            self.end("--" if clean else "CD")

    def server_lost(self, server: TcpClientProtocol, *, clean: bool) -> None:
        """The server's connection is gone."""
        if self._server is server:
            self._server = None
            self.end("--" if clean else "SD")

    def _expired(self) -> None:
        self.end("cD")

    @property
    def _waiting(self) -> bool:
        return self._placement is not None and self._placement.waiting

    def uses(self, server: Server) -> bool:
        """Is it using this server now?"""
        return self._lease is not None and self._lease.server is server

    def end(self, termination: str) -> None:
        """Close both sides: what is queued goes out on a clean end, a broken one is passed on as a reset."""
        if self._ended:
            return
        self._ended = True
        clean = termination == "--"
        access = self.access
        access.termination = termination
        access.ended = self._seconds()
        self._idle.close()
        self._stop_waiting()
        server, self._server = self._server, None
        if server is not None:
            server.session = None
            server.close(clean=clean)
        lease, self._lease = self._lease, None
        if lease is not None:
            result = Result.OK if clean else Result.RESET if termination[0] in "Ss" else Result.ABORTED
            give_back(lease, access, Outcome(result, 0, -1.0, access.bytes_in, access.bytes_out))
        if self._placing is not None:
            self._placing.cancel()
        self._placement = None
        self._factory.ended(access)
        # Without a server there is nothing to reset: the client sees an ordinary close.
        self._client.close(clean=clean or termination[1] in "CQR")

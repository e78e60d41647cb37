"""TCP mode: a session is one client's connection and one server's, and the bytes between them.

The client is not read until a server is connected. From then on each transport is the other's
producer, so a slow reader on one side stops the reading on the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lbservice.core.backend import Lease, Ticket
from lbservice.core.clock import Clock
from lbservice.core.events import Access
from lbservice.core.pick import Outcome, PickInfo, Result
from lbservice.core.server import Server
from lbservice.proxy.deadline import Deadline
from lbservice.proxy.dial import Dial, DialedProtocol, DialError
from lbservice.proxy.tunnel import Tunnel

if TYPE_CHECKING:
    from lbservice.proxy.listener import TcpFactory

CLOSING_SECONDS = 30.0
"""How long the last bytes may take to be written before a connection is cut."""

_log = Logger()


@implementer(IPushProducer)
class Valve:
    """Pauses one transport for another: a transport as producer, which does not close when its consumer does."""

    __slots__ = ("_source",)

    def __init__(self, source: Any) -> None:
        self._source = source

    def pauseProducing(self) -> None:
        self._source.pauseProducing()

    def resumeProducing(self) -> None:
        self._source.resumeProducing()

    def stopProducing(self) -> None:
        pass  # the consumer is lost; its protocol says so


@implementer(IHalfCloseableProtocol)
class TcpServerProtocol(Protocol):
    """The client's end of a session."""

    transport: Any
    encrypted = False

    def __init__(self, factory: TcpFactory, address: Any) -> None:
        self.factory: TcpFactory = factory
        self.session = Session(self, address)

    def connectionMade(self) -> None:
        self.transport.pauseProducing()
        self.factory.opened(self)
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
        self.session.client_lost(clean=reason.check(ConnectionDone) is not None)
        self.factory.closed(self)

    def stop(self) -> None:
        """The service is stopping: a session goes on until it ends, or the grace period does."""

    def abort(self) -> None:
        """Close at once, whatever is going on."""
        self.session.end("KD")
        self.transport.abortConnection()

    def cut(self, server: Server) -> None:
        """Close at once if `server` is being used."""
        if self.session.uses(server):
            self.abort()


@implementer(IHalfCloseableProtocol)
class TcpClientProtocol(DialedProtocol):
    """The server's end of a session."""

    transport: Any

    def __init__(self, session: Session) -> None:
        self.session: Session | None = session
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
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def readConnectionLost(self) -> None:
        if self.dial is not None:
            self.transport.loseConnection()
        elif self.session is not None:
            self.session.server_finished()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's own shape
        super().connectionLost(reason)
        session, self.session = self.session, None
        if session is not None:
            session.server_lost(self, clean=reason.check(ConnectionDone) is not None)


class Session:
    """One client connection in tcp mode. Ends exactly once, in `end`."""

    def __init__(self, client: TcpServerProtocol, address: Any) -> None:
        factory = client.factory
        self._client = client
        self._factory = factory
        self._info = PickInfo(address.host)
        clock: Clock = factory.clock
        self._seconds = clock.seconds
        self._access = Access(
            http=False,
            client=f"{address.host}:{address.port}",
            frontend=factory.name,
            backend=factory.backend.name,
            began=clock.seconds(),
        )
        self._idle = Deadline(clock, self._expired)
        self._timeout = factory.backend.settings.timeout_tunnel
        self._lease: Lease | None = None
        self._server: TcpClientProtocol | None = None
        self._tunnel: Tunnel | None = None
        self._dial: Deferred[None] | None = None
        self._ticket: Ticket | None = None
        self._granted: Deferred[Lease | None] | None = None
        self._tried: list[Server] = []
        self._ended = False

    def start(self) -> None:
        """Find a server and connect to it."""
        if self._client.encrypted:
            self._access.frontend += "~"  # as HAProxy marks it in the log
        Deferred.fromCoroutine(self._place()).addErrback(self._confused)

    def _confused(self, failure: Failure) -> None:
        _log.failure("placing a session", failure)
        self.end("IC")

    async def _place(self) -> None:
        """Lease and connect; on failure the next server."""
        factory = self._factory
        backend = factory.backend
        while True:
            lease = backend.acquire(self._info, self._tried) or await self._queue()
            if lease is None:
                return
            self._lease = lease
            self._access.server = lease.server.name
            if self._access.leased < 0:
                self._access.leased = self._seconds()
            server = TcpClientProtocol(self)
            dial = Dial(
                factory.network,
                factory.clock,
                lease.server.settings,
                server,
                backend.settings.timeout_connect,
            )
            self._dial = dial.done
            try:
                await dial.done
            except CancelledError:
                return  # the client is gone, and `end` has been here
            except DialError as error:
                self._dial = None
                self._lease = None
                self._note_load(lease)
                lease.done(Outcome(Result.CONNECT_FAILED))
                if len(self._tried) >= backend.settings.retries:
                    self.end("sC" if error.timed_out else "SC")
                    return
                self._tried.append(lease.server)
                self._access.retries += 1
                backend.retries += 1
            else:
                self._dial = None
                self._connect(server)
                return

    async def _queue(self) -> Lease | None:
        backend = self._factory.backend
        if not backend.available or backend.queue_full:
            self.end("SQ" if backend.available else "SC")
            return None
        granted = self._granted = Deferred()
        self._ticket = backend.wait(self._info, granted.callback)
        self._access.backend_queue = self._ticket.place
        timer = self._factory.clock.callLater(backend.settings.queue_patience, self._queue_expired)
        lease = await granted
        self._ticket = None
        if timer.active():
            timer.cancel()
        if lease is None:
            self.end("SC")
        return lease

    def _queue_expired(self) -> None:
        if self._ticket is not None:
            self.end("sQ")

    def _connect(self, server: TcpClientProtocol) -> None:
        """Join the two transports."""
        client = self._client
        self._server = server
        access = self._access
        access.connected = now = self._seconds()
        assert self._lease is not None
        access.redispatched = bool(self._tried) and self._lease.server is not self._tried[-1]
        self._tunnel = Tunnel(client, server, lambda: self.end("--"))
        client.transport.registerProducer(Valve(server.transport), True)
        server.transport.registerProducer(Valve(client.transport), True)
        self._idle.set(now, self._timeout)
        client.transport.resumeProducing()

    # -- bytes -----------------------------------------------------------------------------

    def from_client(self, data: bytes) -> None:
        """Bytes for the server."""
        if self._server is not None:
            self._access.bytes_in += len(data)
            self._idle.set(self._seconds(), self._timeout)
            self._server.transport.write(data)

    def from_server(self, data: bytes) -> None:
        """Bytes for the client."""
        self._access.bytes_out += len(data)
        self._idle.set(self._seconds(), self._timeout)
        self._client.transport.write(data)

    # -- endings ---------------------------------------------------------------------------

    def client_finished(self) -> None:
        """The client sends no more."""
        if self._tunnel is not None:
            self._tunnel.client_finished()
        else:
            self.end("CC")

    def server_finished(self) -> None:
        """The server sends no more."""
        if self._tunnel is not None:
            self._tunnel.server_finished()

    def client_lost(self, *, clean: bool) -> None:
        """The client's connection is gone."""
        if self._tunnel is None:
            self.end("CQ" if self._ticket is not None else "CC")
        else:
            self.end("--" if clean else "CD")

    def server_lost(self, server: TcpClientProtocol, *, clean: bool) -> None:
        """The server's connection is gone."""
        if self._server is server:
            self._server = None
            self.end("--" if clean else "SD")

    def _expired(self) -> None:
        self.end("cD")

    def uses(self, server: Server) -> bool:
        """Is it using this server now?"""
        return self._lease is not None and self._lease.server is server

    def end(self, termination: str) -> None:
        """Close both sides: what is queued goes out on a clean end, a broken one is passed on as a reset."""
        if self._ended:
            return
        self._ended = True
        clean = termination == "--"
        access = self._access
        access.termination = termination
        access.ended = self._seconds()
        self._idle.close()
        server, self._server = self._server, None
        if server is not None:
            server.session = None
            _close(server.transport, self._factory.clock, clean=clean)
        lease, self._lease = self._lease, None
        if lease is not None:
            self._note_load(lease)
            result = Result.OK if clean else Result.RESET if termination[0] in "Ss" else Result.ABORTED
            lease.done(Outcome(result, 0, -1.0, access.bytes_in, access.bytes_out))
        if self._ticket is not None:
            self._factory.backend.leave(self._ticket)
            assert self._granted is not None
            self._granted.callback(None)
        if self._dial is not None:
            self._dial.cancel()
        self._factory.ended(access)
        # Without a server there is nothing to reset: the client sees an ordinary close.
        _close(self._client.transport, self._factory.clock, clean=clean or termination[1] in "CQ")

    def _note_load(self, lease: Lease) -> None:
        self._access.server_active = lease.server.in_flight - 1
        self._access.backend_active = lease.backend.in_flight - 1


def _close(transport: Any, clock: Clock, *, clean: bool) -> None:
    if not clean:
        transport.abortConnection()
        return
    transport.unregisterProducer()
    transport.loseConnection()
    if getattr(transport, "disconnecting", False):
        clock.callLater(CLOSING_SECONDS, transport.abortConnection)

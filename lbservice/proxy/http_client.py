"""Our side of a connection to a server: one request out, one response in, again and again."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from lbservice.core.clock import Clock
from lbservice.core.server import Server
from lbservice.proxy.closing import SoftClose
from lbservice.proxy.deadline import Deadline
from lbservice.proxy.dial import DialedProtocol
from lbservice.proxy.idle import IdlePool
from lbservice.proxy.pace import Uptake
from lbservice.proxy.splice import LONG
from lbservice.proxy.transport import outstanding
from lbservice.reactor import TURN
from lbservice.wire.body import Body, reader
from lbservice.wire.h1 import MEMORABLE, BadMessage, cut_head, parse_response, refuse_no_response, usual_response
from lbservice.wire.message import UNTIL_CLOSE, ResponseHead

if TYPE_CHECKING:
    from lbservice.proxy.exchange import Exchange

MAX_HEAD = 64 * 1024
MAX_FIELDS = 200
"""What a response head may be at most, of a check as of a request: bytes, and the number of fields."""
MAX_INTERIM = 16
"""1xx responses before the final one; a server that sends more is broken."""
MAX_REQUESTS = 1000
"""Requests on one connection; then a fresh one, so that load finds new servers behind a name."""
IDLE_SECONDS = 60.0


class Loss(Enum):
    """How a server's connection ended in the middle of an exchange."""

    CLOSED = "closed"
    RESET = "reset"
    TIMED_OUT = "timed out"
    BAD = "bad"
    """It sent what is no valid response."""
    DOWN = "down"
    """We cut it off, because the server is down."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class HttpClientProtocol(DialedProtocol):
    """A connection to `server`. While `exchange` is set it is in use; else it is idle or closed.

    It is its own transport's producer: when the server does not take the request's body fast
    enough, the exchange is told to hold the client back.
    """

    transport: Any

    def __init__(self, clock: Clock, server: Server, pool: IdlePool) -> None:
        self.server = server
        self.moves = server.moves
        """Which of the server's addresses it leads to."""
        self.exchange: Exchange | None = None
        self.requests = 0
        self._clock = clock
        self._seconds = clock.seconds
        self._pool = pool
        self._deadline: Deadline  # from the connection on: one that is never made would leave a cycle behind
        self._timeout = 0.0
        self._buffer = b""
        self._body: Body | None = None
        self._to_head = False
        self._reusable = True
        self._interim = 0
        self._tunnel = False
        self.pooled_in = -1
        """The reactor's turn in which the pool has got it, after its last answer."""
        self._reading = True
        self._usual: tuple[bytes, ResponseHead | None] = b"", None
        """The last response's head, as it came and, if usual, as it was read: the next one often says the same."""
        self._uptake: Uptake | None = None
        """How it takes the request, while it does not take it fast enough."""
        self._closing: SoftClose | None = None

    def connectionMade(self) -> None:
        self._deadline = Deadline(self._clock, self._expired)
        self.transport.registerProducer(self, True)
        connection = getattr(self.transport, "transport", self.transport)
        self._fd: int = connection.fileno()
        self._is_quiet: Callable[[], bool] = connection.is_quiet
        super().connectionMade()

    # -- for the exchange ------------------------------------------------------------------

    def start(self, exchange: Exchange, data: bytes, to_head: bool, timeout: float, now: float) -> None:
        """Send a request; its answer goes to `exchange`. `timeout` is seconds of silence allowed."""
        self.exchange = exchange
        self.requests += 1
        self._to_head = to_head
        self._timeout = timeout
        self._interim = 0
        self._deadline.set(now, timeout)
        self.transport.write(data)

    def send(self, data: bytes) -> None:
        """More of the request."""
        self._deadline.set(self._seconds(), self._timeout)
        self.transport.write(data)

    def start_tunnel(self, timeout: float) -> bytes:
        """After 101: bytes are bytes from now on. Returns those that came behind the head."""
        self._tunnel = True
        self._timeout = timeout
        self._deadline.set(self._seconds(), timeout)
        rest, self._buffer = self._buffer, b""
        return rest

    def pause(self) -> None:
        """The client is slow: read nothing more for now."""
        if self._reading:
            self._reading = False
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        if not self._reading:
            self._reading = True
            self._deadline.set(self._seconds(), self._timeout)
            self.transport.resumeProducing()

    def close(self) -> None:
        """Drop the connection, whatever it is doing; nobody is told."""
        self.exchange = None
        self._reusable = False
        self._deadline.close()
        self.transport.abortConnection()

    def finish_sending(self) -> None:
        """Half-close, in tunnels. TLS has no such thing: there it is the end."""
        if self.server.settings.tls is None:
            self.transport.loseWriteConnection()
        else:
            exchange = self.exchange
            self.close_softly()
            if exchange is not None:
                exchange.server_closed(clean=True)

    def close_softly(self) -> None:
        """Close once everything is written; used when nothing more is expected."""
        self.exchange = None
        self._pool.forget(self)
        self._reusable = False
        self._deadline.close()
        if self._closing is None:
            self._closing = SoftClose(self.transport, self._clock)
            self._closing.start()

    def is_open(self, sure: bool) -> bool:
        """Does the kernel, too, think that the server has neither closed it nor sent anything? `sure`: ask it now."""
        to_come = TURN.to_come
        # Within a turn of the reactor its events tell whether anything had come when it began: of a connection that
        # was idle then. What came behind an answer of this turn only the kernel knows.
        if self._is_quiet() if sure or to_come is None or self.pooled_in == TURN.number else self._fd not in to_come:
            return True
        self.close()
        return False

    # -- from the reactor ------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self._pool.forget(self)  # nobody asked for it: never to be trusted again
            self.close()
            return
        if self._tunnel:
            self._deadline.set(self._seconds(), self._timeout)
            exchange.from_server(data)
            return
        try:
            if self._body is not None:
                self._more(exchange, data)
            elif self._buffer or not self._whole(exchange, data):
                self._head(exchange, data, self._seconds())
        except BadMessage as bad:
            self._broken(Loss.BAD, bad.why)

    def _whole(self, exchange: Exchange, data: bytes) -> bool:
        """The fast path: a usual response that is all here, on a connection that can go into the pool.

        What `_head` and `_release` decide one after the other is decided at once. It spares a quarter of what
        a small request costs on this side.
        """
        said, head = self._usual
        if head is not None and data.startswith(said):
            end = len(said)
        else:
            end = data.find(b"\r\n\r\n", 0, MEMORABLE) + 4
            head = usual_response(data[:end])
            self._usual = data[:end], head
        if head is None or len(data) - end != head.length or self._to_head or not exchange.is_plain():
            return False
        if not (self._reusable and self._reading and self.requests < MAX_REQUESTS):
            return False
        self.exchange = None
        now = self._seconds()
        if self._pool.put(self):
            self._deadline.set(now, IDLE_SECONDS)
        else:
            self.close_softly()
        exchange.whole_response(head, data[end:], now)
        return True

    def _head(self, exchange: Exchange, data: bytes, now: float) -> None:
        seen = 0
        if self._buffer:
            seen = len(self._buffer)
            data = self._buffer + data
            self._buffer = b""
        end = cut_head(data, MAX_HEAD, seen)
        if end < 0:
            refuse_no_response(data)
            self._buffer = data
            return
        head = parse_response(data[:end], MAX_FIELDS, self._to_head)
        payload = data[end:]
        if head.status < 200:
            self._interim_head(exchange, head, payload, now)
            return
        if not head.persistent:
            self._reusable = False
        if len(payload) == head.length:  # the fast path: the whole response in one piece
            self._release(exchange, now)
            exchange.response(head, payload, True, now)
            return
        body = self._body = reader(head.length, framed=exchange.request.minor == 1)
        payload = body.feed(payload) if payload else b""
        if not body.done:
            self._deadline.set(now, self._timeout)
            exchange.response(head, payload, False, now)
            return
        if body.rest:
            self._reusable = False
        self._release(exchange, now)
        exchange.response(head, payload, True, now)

    def _interim_head(self, exchange: Exchange, head: Any, rest: bytes, now: float) -> None:
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise BadMessage(502, f"more than {MAX_INTERIM} interim responses")
        if not head.persistent:
            self._reusable = False
        if head.status == 101:
            if not exchange.asked_for(head.upgrade):
                raise BadMessage(502, "101 with a protocol that was not asked for (RFC 9110 section 7.8)")
            self._buffer = rest
            exchange.upgraded(head)
            return
        exchange.interim(head)
        if rest and self.exchange is exchange:
            self._head(exchange, rest, now)

    def _more(self, exchange: Exchange, data: bytes) -> None:
        body = self._body
        assert body is not None
        payload = body.feed(data)
        now = self._seconds()
        if body.done:
            if body.rest:
                self._reusable = False
            self._release(exchange, now)
            exchange.response_data(payload, True, now)
        else:
            self._deadline.set(now, self._timeout)
            if payload:
                exchange.response_data(payload, False, now)
            if body.left >= LONG:
                exchange.splice_response(self, body)

    def moved(self) -> None:
        """Bytes have been spliced, in either direction."""
        self._deadline.set(self._seconds(), self._timeout)

    def _release(self, exchange: Exchange, now: float) -> None:
        """The response is complete: into the pool, or closed. The exchange hears of it afterwards."""
        self.exchange = None
        self._body = None
        if not self._reading:
            self.resume()
        if not exchange.request_sent or (exchange.request.length and outstanding(self.transport)):
            self.close()  # an early answer: the rest of the request must not be taken for a new one
        elif self._reusable and self.requests < MAX_REQUESTS and self._pool.put(self):
            self._deadline.set(now, IDLE_SECONDS)
        else:
            self.close_softly()

    def readConnectionLost(self) -> None:
        if self._tunnel and self.exchange is not None:
            self.exchange.server_finished()
        else:
            self._ended(clean=True)
            self.close_softly()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's own shape
        super().connectionLost(reason)
        self._ended(clean=reason.check(ConnectionDone) is not None)
        self._deadline.close()
        if self._closing is not None:
            self._closing.over()

    def _ended(self, *, clean: bool) -> None:
        exchange = self.exchange
        if exchange is None:
            self._pool.forget(self)
            return
        if self._tunnel:
            self.exchange = None
            exchange.server_closed(clean=clean)
        elif clean and self._body is not None and exchange.response_length == UNTIL_CLOSE:
            self.exchange = None
            self._body = None
            exchange.response_data(b"", True, self._seconds())
        else:
            self.exchange = None
            exchange.server_lost(self, Loss.CLOSED if clean else Loss.RESET, "")

    def _broken(self, loss: Loss, why: str) -> None:
        exchange = self.exchange
        self.close()
        if exchange is not None:
            exchange.server_lost(self, loss, why)

    def _expired(self) -> None:
        now = self._seconds()
        exchange = self.exchange
        if exchange is None:
            self.close_softly()
        elif self._tunnel:
            exchange.tunnel_expired()
        elif self._silent(exchange, now):
            self._broken(Loss.TIMED_OUT, "")
        else:
            self._deadline.set(now, self._timeout)

    def _silent(self, exchange: Exchange, now: float) -> bool:
        """Do we wait for the server? Not while it takes the request, nor while the client is still sending it."""
        if self._uptake is not None:
            return self._uptake.stalls(now)
        return self._reading and exchange.request_sent

    # -- IPushProducer: the server's side of back-pressure ------------------------------------

    def pauseProducing(self) -> None:
        self._uptake = Uptake(self.transport, self._seconds(), self._timeout, rate=0)
        if self.exchange is not None:
            self.exchange.hold_client()

    def resumeProducing(self) -> None:
        self._uptake = None
        if self.exchange is not None:
            self.exchange.release_client()

    def stopProducing(self) -> None:
        pass  # the connection is lost; connectionLost says so

    def __repr__(self) -> str:
        state = "busy" if self.exchange is not None else "idle"
        return f"<connection to {self.server.path}, {state}, {self.requests} requests>"

"""Our side of a client's connection: bytes to requests, one exchange at a time, answers back in order."""

from __future__ import annotations

import re
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from lbservice.core.address import believed
from lbservice.core.backend import Backend
from lbservice.core.events import Access
from lbservice.core.server import Server
from lbservice.proxy.closing import LingeringClose, SoftClose
from lbservice.proxy.deadline import Deadline
from lbservice.proxy.exchange import Exchange
from lbservice.proxy.pace import WATCH, Intake, Uptake
from lbservice.proxy.splice import LONG
from lbservice.proxy.sticky import StickyExchange
from lbservice.proxy.transport import TCP_CLOSE, TCP_CLOSE_WAIT, hand_on, host_of, owner_of, port_of, tcp_state, unread
from lbservice.wire.body import Body, LengthBody, reader
from lbservice.wire.forwarded import Introduction, said, usable_request_id
from lbservice.wire.h1 import (
    USUAL_LINE,
    BadMessage,
    ForUs,
    cut_head,
    parse_request,
    refuse_no_request,
    usual_request,
)
from lbservice.wire.message import NO_BODY, RequestHead, Usual
from lbservice.wire.pages import error_response

if TYPE_CHECKING:
    from lbservice.proxy.listener import HttpFactory

PIPELINED = 64 * 1024
"""Bytes of further requests that are read while one is being served; then the client is held."""
ABANDONED = 0.5
"""Seconds without an answer, or more of it, after which a client that has closed its half counts as gone."""

_EMPTY_LINES = re.compile(rb"(?>(?:\r\n)*)")


class Phase(Enum):
    """What the client's bytes are at present."""

    HEAD = "a request head, or nothing yet"
    BODY = "the body of the request being served"
    WAIT = "further requests, while one is being served"
    TUNNEL = "another protocol, after 101"
    CLOSING = "thrown away, until the client closes too"
    MOVING = "none yet; the first ones, and the connection with them, are for another frontend"


HEAD, BODY, WAIT, TUNNEL, CLOSING, MOVING = Phase  # a member by its class costs ten times as much


@implementer(IHalfCloseableProtocol, IPushProducer)
class HttpServerProtocol(Protocol):
    """A client's connection.

    It is its own transport's producer: when the client does not take the answer fast enough, the
    server is held back, and no further request is begun.
    """

    # Slots for what Twisted's own class keeps in the instance, too: without a dictionary an idle client is small.
    __slots__ = (
        "_began",
        "_body",
        "_buffer",
        "_choked",
        "_closing",
        "_deadline",
        "_encoded",
        "_eof",
        "_frontend",
        "_gone",
        "_held",
        "_intake",
        "_keep_alive",
        "_make",
        "_make_sticky",
        "_most_body",
        "_name",
        "_phase",
        "_rested",
        "_running",
        "_secure",
        "_told",
        "_uptake",
        "_usual",
        "backend",
        "clock",
        "connected",
        "encrypted",
        "exchange",
        "factory",
        "has_asked",
        "host",
        "introduction",
        "network",
        "pool",
        "seconds",
        "transport",
    )

    transport: Any
    factory: HttpFactory

    def __init__(self, factory: HttpFactory, address: Any) -> None:
        self.connected = 0
        self.transport = None
        self.encrypted = False
        self.has_asked = False
        """Has it ever been served, and was kept?"""
        self.introduction: Introduction
        """What the servers are told of this client."""
        self.factory = factory
        self.backend: Backend = factory.backend  # type: ignore[assignment] # None where rules choose it, for each request
        self.pool = factory.pool
        self.network = factory.network
        self.clock = factory.clock
        self.seconds = factory.clock.seconds
        self.exchange: Exchange | None = None
        host = self.host = host_of(address)
        self._name = f"{host}:{address.port}"
        self._frontend = factory.name
        self._keep_alive = factory.settings.timeout_keep_alive
        self._make = Exchange
        self._make_sticky = StickyExchange
        self._most_body = 0
        """Bytes of a chunked body, at most; 0: any number."""
        self._secure = False
        """Did the client use TLS, here or, as we believe it, before a proxy?"""
        self._phase = HEAD
        self._buffer = b""
        self._body: Body | None = None
        self._usual: Usual | None = None
        """What stood behind the first line of the last usual request, and what a server got for it."""
        self._encoded = b""
        self._began = -1.0
        self._rested = 0.0
        """When its last answer ended, or it came."""
        self._intake: Intake | None = None
        """How the client brings the body of its request, the last one or the one being served."""
        self._uptake: Uptake | None = None
        """How it takes our last answer, while it does not take it fast enough (`_choked`)."""
        self._told = 0
        """Of the answer's bytes: how many had been written when this was last looked at."""
        self._deadline = Deadline(factory.clock, self._expired)
        self._choked = False
        self._held = False
        self._eof = False
        self._running = False
        self._gone = False
        self._closing: SoftClose | LingeringClose | None = None

    @property
    def stopping(self) -> bool:
        """Is the service on its way out?"""
        return self.factory.stopping

    def connectionMade(self) -> None:
        self._introduce(port_of(self.transport))
        now = self.seconds()
        self._rested = now
        self._deadline.set(now, self.factory.settings.timeout_client_head)
        self.factory.opened(self)

    def _introduce(self, port: int) -> None:
        """There is a transport, to this port of ours: find out what servers are to be told of the client."""
        factory, host = self.factory, self.host
        trusted = factory.trusts(host)
        self.introduction = Introduction(
            host.encode(),
            b"https" if self.encrypted else b"http",
            port,
            factory.via,
            trusted=trusted,
        )
        self._secure = self.encrypted or trusted
        if self.encrypted:
            self._frontend += "~"  # as HAProxy marks it in the log
        self.transport.registerProducer(self, True)

    # -- bytes in --------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        phase = self._phase
        if phase is HEAD:
            if self._choked:  # our earlier answers are still unread
                self._keep(data)
            elif not self._said_again(data):
                self._head(data)
        elif phase is BODY:
            self._more_body(data)
        elif phase is WAIT:
            self._keep(data)
        elif phase is TUNNEL and self.exchange is not None:
            self.exchange.from_client(data)
        elif phase is MOVING:
            self._phase = HEAD
            self.hand_over()
            self._go_on(data)

    def _said_again(self, data: bytes) -> bool:
        """The fast path: one usual head, in which only the first line is not as in the request before.

        Clients say the same again and again. One comparison stands for finding the head's end, reading its
        fields and writing them anew: half of what a small request costs on this side.
        """
        usual = self._usual
        if usual is None or self._buffer or not data.endswith(usual.said) or len(data) > self.factory.usual_size:
            return False
        line = USUAL_LINE.fullmatch(data, 0, len(data) - len(usual.said))
        if line is None:
            return False
        request = usual_request(line, usual)
        request.encoded = self._encoded
        now = self.seconds()
        self._phase = WAIT
        exchange = self._begin(request, line[0], now, now, self.factory.next_request_id())
        if exchange is not None:
            exchange.start(now)
        return True

    def _keep(self, data: bytes) -> None:
        """Further requests: for later, and not without bound."""
        self._buffer += data
        if len(self._buffer) > PIPELINED:
            self.hold()

    def _next(self) -> None:
        """Go on with what was kept."""
        data, self._buffer = self._buffer, b""
        self._head(data)

    def _head(self, data: bytes) -> None:
        """Serve the requests in these bytes, one after the other, as far as they go."""
        seen = len(self._buffer)
        if seen:
            data = self._buffer + data
            self._buffer = b""
        self._running = True
        try:
            while data and self._phase is HEAD and not self._choked:
                now = self.seconds()
                if data[0] == 13 and self._began < 0:  # CR: empty lines before a request are skipped (RFC 9112 2.2)
                    data = data[_EMPTY_LINES.match(data).end() :]  # type: ignore[union-attr] # matches b"" too
                    if data in (b"", b"\r"):
                        break
                if self._began < 0:
                    self._began = now
                end = cut_head(data, self.factory.limits.head, seen)
                if end < 0:
                    refuse_no_request(data)
                    self._deadline.set(self._began, self.factory.settings.timeout_client_head)
                    break
                seen = 0
                data = self._request(data[:end], data[end:], now)
        except BadMessage as bad:
            self._refuse(bad)
            data = b""
        finally:
            self._running = False
        if data:
            self._keep(data)
        if self._phase is HEAD and self.exchange is None:
            if self._eof:
                self._half_closed()
            elif self.factory.successor is not None:
                self.hand_over()

    def _request(self, head: bytes, rest: bytes, now: float) -> bytes:
        """Begin an exchange; returns the bytes that are not its own."""
        factory = self.factory
        limits = factory.limits
        request = parse_request(head, limits.line, limits.fields, self._secure)
        if request.usual is not None and request.usual is not self._usual:
            self._usual = request.usual
            self._encoded = self.introduction.usual(request.usual)
        own_id = request.request_id
        request_id = own_id if own_id and usable_request_id(own_id) else factory.next_request_id()
        exchange = self._begin(request, head[: head.index(b"\r")], self._began, now, request_id)
        self._began = -1.0
        if exchange is None:
            return self._behind(rest)
        if request.length == NO_BODY:
            self._phase = WAIT
        else:
            self._phase = BODY
            self._body = reader(request.length, framed=True, most=self._most_body)
            settings = factory.settings
            first = settings.timeout_client_head if request.expects_continue else inf
            intake = self._intake = Intake(now, settings.timeout_client, first)
            self._deadline.set(now, intake.due - now)
            if rest:
                try:
                    rest = self._feed(exchange, rest)
                except BadMessage as bad:
                    exchange.client_failed(bad.status, "P")
                    return b""
        exchange.start(now)
        return rest

    def _behind(self, rest: bytes) -> bytes:
        """What is left of the bytes behind a head that was answered without an exchange."""
        return rest if self._phase is HEAD else b""

    def _begin(self, request: RequestHead, line: bytes, began: float, now: float, request_id: bytes) -> Exchange | None:
        """A new exchange, to be started; None: the request has been answered."""
        backend = self.backend
        access = Access(True, self._name, self._frontend, backend.name, began, now, line, request_id)
        self.factory.frontend.requests += 1
        make = self._make_sticky if backend.sticky else self._make
        exchange = self.exchange = make(self, backend, request, access)
        return exchange

    def _more_body(self, data: bytes) -> None:
        assert self.exchange is not None
        try:
            rest = self._feed(self.exchange, data)
        except BadMessage as bad:
            self.exchange.client_failed(bad.status, "P")
            return
        if rest:
            if self._phase is HEAD:  # it was answered in the same moment
                self._go_on(rest)
            else:
                self._keep(rest)

    def _go_on(self, data: bytes) -> None:
        """The next request, for us, or for whom the connection has just gone over to."""
        if self._gone:
            owner_of(self.transport).dataReceived(data)
        else:
            self._head(data)

    def _feed(self, exchange: Exchange, data: bytes) -> bytes:
        """Pass body bytes on; returns what came behind the body."""
        body, intake = self._body, self._intake
        assert body is not None
        assert intake is not None
        payload = body.feed(data)
        intake.came(len(payload), self.seconds())
        if body.done:
            self._body = None
            self._phase = WAIT
        if payload or body.done:
            exchange.request_data(payload, done=body.done)
        if body.left >= LONG:
            exchange.splice_request(body, intake)
        return body.rest

    # -- for the exchange ------------------------------------------------------------------

    def source_of(self, request: RequestHead) -> str:
        """The client's address, behind a trusted proxy as that says."""
        if not self.introduction.trusted:
            return self.host
        return believed(said(request.forwarded, b"x-forwarded-for"), self.host, self.factory.trusted)

    def lacking(self, error: OSError | str) -> None:
        """There is no open file left for a connection to a server."""
        self.factory.lacking(error)

    def retry_after(self, backend: Backend) -> int:
        """Seconds after which a client that got 503 may try again: when a server can be back at the earliest."""
        check = backend.settings.check
        return max(1, round(check.inter * check.rise))

    def error(self, status: int, exchange: Exchange, retry_after: int | None) -> bytes:
        """Our own answer to an exchange's request."""
        access = exchange.access
        return self.page(
            status,
            exchange.request,
            access.request_id,
            close=not exchange.keep,
            retry_after=retry_after,
            backend=access.backend,
        )

    def page(
        self,
        status: int,
        request: RequestHead | None = None,
        request_id: bytes = b"",
        *,
        close: bool = True,
        retry_after: int | None = None,
        backend: str = "",
        fields: bytes = b"",
    ) -> bytes:
        """An answer of our own, with the error page of the backend, if it was to go there, or of the frontend."""
        factory = self.factory
        return error_response(
            status,
            close=close,
            date=factory.date(),
            retry_after=retry_after,
            request_id=request_id,
            with_body=request is None or request.method != b"HEAD",
            page=factory.pages.get((backend, status)) or factory.pages.get(("", status)),
            fields=fields,
        )

    def hold(self) -> None:
        """Read nothing more from the client for now."""
        if not self._held and not self._eof:
            self._held = True
            self.transport.pauseProducing()
            self._deadline.set(self.seconds(), WATCH)

    def release(self) -> None:
        """Read again."""
        if self._held and not self._gone:
            self._held = False
            if self._intake is not None:
                self._intake.restart(self.seconds())
            if not self._eof:
                self.transport.resumeProducing()

    def await_body(self, patience: float = inf) -> None:
        """From now on the body may come, which the client has announced; after `patience` seconds it is asked for."""
        assert self._intake is not None
        now = self.seconds()
        self._intake.restart(now)
        self._deadline.set(now, min(patience, self._intake.due - now))

    def start_tunnel(self) -> None:
        """From now on the client's bytes belong to another protocol."""
        self._phase = TUNNEL
        self.release()
        rest, self._buffer = self._buffer, b""
        if rest and self.exchange is not None:
            self.exchange.from_client(rest)
        if self._eof and self.exchange is not None:
            self.exchange.client_finished()

    def finish_sending(self) -> None:
        """Half-close, in tunnels. TLS has no such thing: there it is the end."""
        if self.encrypted and self.exchange is not None:
            self.exchange.tunnel_over()
        else:
            self.transport.loseWriteConnection()

    def exchange_done(self, exchange: Exchange, now: float) -> None:
        """The exchange has ended; go on with the next request, or close."""
        self.exchange = None
        factory = self.factory
        factory.ended(exchange.access)
        if exchange.answered and exchange.keep and not (factory.stopping or self._gone):
            self._phase = HEAD
            self._rested = now
            self.has_asked = True
            self._deadline.set(now, self._keep_alive)
            if self._held:
                self.release()
            if self._running or (factory.successor is not None and self.hand_over()):
                return
            if self._buffer:
                self._next()
            elif self._eof:
                self._close()
        elif self._gone:
            return
        elif self._phase is TUNNEL and exchange.access.termination == "--":
            self._close()
        elif not exchange.answered:
            self._phase = CLOSING
            self.transport.abortConnection()
        elif self._phase is BODY or self._buffer:
            self._linger()
        else:
            self._close()

    # -- a reload ----------------------------------------------------------------------------

    def will_move(self) -> None:
        """Its frontend has been replaced: an idle connection goes over with its next bytes, if it has not by then."""
        if self.exchange is None and self._phase is HEAD and not (self._choked or self._began >= 0 or self._buffer):
            self._phase = MOVING

    def hand_over(self) -> bool:
        """Its frontend has been replaced: between two requests, the connection goes over to the new one. Is it so?"""
        successor = self.factory.successor
        if self._phase is MOVING:
            self._phase = HEAD
        busy = self.exchange is not None or self._phase is not HEAD or self._running
        if successor is None or busy or self._choked or self._eof or self._gone:
            return False
        self._gone = True
        self._deadline.close()
        transport = self.transport
        transport.unregisterProducer()
        self.factory.parted(self)
        before, after = self.factory.frontend, successor.frontend
        if before is not after:  # it has another name now
            before.active -= 1
            after.active += 1
        heir: Any = successor.buildProtocol(transport.getPeer())
        hand_on(transport, heir)
        heir.inherit(self, self._buffer)
        return True

    def inherit(self, before: HttpServerProtocol, data: bytes) -> None:
        """Go on with a connection of another protocol, which has read these bytes of the next request."""
        self.transport, self.connected, self.encrypted = before.transport, 1, before.encrypted
        self._introduce(before.introduction.port)  # its listener may be gone
        self.has_asked, self._rested, self._began = before.has_asked, before._rested, before._began
        settings, now = self.factory.settings, self.seconds()
        asking = self._began >= 0 or not self.has_asked
        patience = settings.timeout_client_head if asking else settings.timeout_keep_alive
        self._deadline.set(now, max(0.0, max(self._rested, self._began) + patience - now))
        self.factory.joined(self)
        if data:
            self._head(data)

    # -- refusing and closing --------------------------------------------------------------

    def _refuse(self, bad: BadMessage) -> None:
        """No exchange was begun: answer, log, close."""
        self._answer_bad_request(bad.status, "LR" if isinstance(bad, ForUs) else "PR")
        self._linger()

    def _answer_bad_request(self, status: int, termination: str) -> None:
        page = self.page(status)
        self._log_bad_request(status, termination, len(page))
        self.transport.write(page)

    def _log_bad_request(self, status: int, termination: str, sent: int = 0) -> None:
        factory = self.factory
        access = Access(True, self._name, self._frontend, factory.name, max(self._began, 0.0))
        access.status = status
        access.bytes_out = sent
        access.termination = termination
        access.ended = self.seconds()
        if self._began < 0:
            access.began = access.ended
        factory.ended(access)

    def _close(self) -> None:
        """Close once everything is written."""
        self._phase = CLOSING
        self._deadline.close()
        if not isinstance(self._closing, SoftClose):
            if self._closing is not None:
                self._closing.over()
            self._closing = SoftClose(self.transport, self.clock)
            self._closing.start()

    def _linger(self) -> None:
        """Close our half, then read what is still on its way, so that our answer arrives."""
        self._phase = CLOSING
        self._buffer = b""
        self._body = None
        self.release()
        if self._eof or self.encrypted:
            self._close()
            return
        self._deadline.close()
        timeout = self.factory.settings.timeout_client
        self._closing = LingeringClose(self.transport, self.clock, timeout, self._close)
        self._closing.start()

    def stop(self) -> None:
        """The service is stopping: an idle connection is closed, a busy one after its answer."""
        if self._phase is MOVING:
            self._phase = HEAD
        if self.exchange is None and self._phase is HEAD and not self._buffer:
            self._close()

    @property
    def name(self) -> str:
        """`address:port` of the client."""
        return self._name

    @property
    def access(self) -> Access | None:
        """What is known of the request that is served."""
        return None if self.exchange is None else self.exchange.access

    @property
    def since(self) -> float:
        """When its request began, or, between requests, its last answer ended."""
        return self._rested if self.exchange is None else self.exchange.access.began

    @property
    def idle_since(self) -> float | None:
        """Since when it has had nothing to do, or has been sending a head; None while it is served."""
        if self.exchange is not None or self._phase is not HEAD or self._choked:
            return None
        return max(self._rested, self._began)

    def give_way(self) -> None:
        """Close for others, who wait: silently, or in the middle of a head with 408."""
        if self._began >= 0:
            self._answer_bad_request(408, "RR")
            self._close()
        elif not unread(self.transport):
            self._close()

    def abort(self) -> None:
        """Close at once, whatever is going on."""
        if self.exchange is not None:
            self.exchange.client_lost("K")
        self.transport.abortConnection()

    def cut(self, server: Server) -> None:
        """Close at once if `server` is being used."""
        if self.exchange is not None and self.exchange.uses(server):
            self.abort()

    def marked_down(self, server: Server) -> None:
        """`server` is down, and what uses it is to end."""
        if self.exchange is not None and self.exchange.uses(server):
            self.exchange.server_down()

    # -- from the reactor ------------------------------------------------------------------

    def readConnectionLost(self) -> None:
        """The client has closed its half. It may still want its answer; most that do this are gone."""
        self._eof = True
        exchange = self.exchange
        if self._phase is TUNNEL and exchange is not None:
            exchange.client_finished()
        elif exchange is None:
            self._half_closed()
        elif self._phase is BODY:
            exchange.client_lost()
        elif exchange.keep and not self._buffer:
            self._told = exchange.access.bytes_out
            self._deadline.set(self.seconds(), ABANDONED)

    def _half_closed(self) -> None:
        """No more requests will come, and none is being served."""
        if self._choked and self._buffer:
            return  # what is kept is served when the answers before it have been read
        if self._phase is HEAD and self._began >= 0:
            self._log_bad_request(400, "CR")
        self._close()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's own shape
        self._gone = True
        self._deadline.close()
        if self._closing is not None:
            self._closing.over()
        exchange = self.exchange
        if exchange is not None:
            if self._phase is TUNNEL and reason.check(ConnectionDone):
                exchange.tunnel_over()
            else:
                exchange.client_lost()
        elif self._phase is HEAD and self._began >= 0:
            self._log_bad_request(400, "CR")
        self.factory.closed(self)

    def _expired(self) -> None:
        """The deadline has passed: for what depends on what we are waiting for."""
        now = self.seconds()
        exchange, uptake = self.exchange, self._uptake
        if exchange is not None:
            self._look_at(exchange, now)
        elif self._choked and uptake is not None:
            if uptake.stalls(now):
                self._close()
            else:
                self._deadline.set(now, uptake.due - now)
        elif self._began >= 0:
            self._answer_bad_request(408, "cR")
            self._linger()
        else:
            self._close()

    def _look_at(self, exchange: Exchange, now: float) -> None:
        """Is the client still there, and quick enough? Its request is being served."""
        uptake, intake = self._uptake, self._intake
        look = now + self.factory.settings.timeout_client
        if self._held:
            if self.has_left():
                exchange.client_lost()
                return
            look = now + WATCH
        if self._phase is TUNNEL:  # there, only `timeout tunnel` counts
            if self._held:
                self._deadline.set(now, WATCH)
            return
        if self._choked and uptake is not None:
            if uptake.stalls(now):
                exchange.client_lost("c")
                return
            look = min(look, uptake.due)
        elif self._eof and exchange.keep:
            if not self._answer_moves(exchange):
                exchange.client_lost()
                return
            look = now + ABANDONED
        if self._phase is BODY and intake is not None and not self._held and exchange.asks_for_body:
            if now < intake.due:
                look = min(look, intake.due)
            elif not self._answer_moves(exchange):
                exchange.client_failed(408, "c")
                return
            if exchange.request.expects_continue:
                exchange.say_continue()
        self._deadline.set(now, look - now)

    def _answer_moves(self, exchange: Exchange) -> bool:
        """Has more of the answer been written since this was last asked?"""
        before, self._told = self._told, exchange.access.bytes_out
        return self._told != before and exchange.access.responded >= 0

    def has_left(self) -> bool:
        """Has the client gone, though we do not read? By a reset, or its end comes before the body's."""
        state = tcp_state(self.transport)
        if state == TCP_CLOSE_WAIT and self._phase is BODY and isinstance(self._body, LengthBody):
            return unread(self.transport) < self._body.left
        return state == TCP_CLOSE

    # -- IPushProducer: the client's side of back-pressure --------------------------------------

    def pauseProducing(self) -> None:
        self._choked = True
        now = self.seconds()
        uptake = self._uptake = Uptake(self.transport, now, self.factory.settings.timeout_client)
        self._deadline.set(now, uptake.due - now)
        if self.exchange is not None:
            self.exchange.hold_server()

    def resumeProducing(self) -> None:
        self._choked = False
        if self.exchange is not None:
            self.exchange.release_server()
        elif self._phase is HEAD:
            self._deadline.set(self.seconds(), self.factory.settings.timeout_keep_alive)
            if self.factory.successor is not None and self.hand_over():
                return
            if self._buffer:
                self._next()

    def stopProducing(self) -> None:
        pass  # the connection is lost; connectionLost says so

    def __repr__(self) -> str:
        return f"<client {self._name}, {self._phase.name}>"

"""One HTTP request and its response: the place where the client's side, the balancer and a server meet.

In comes a validated RequestHead. The exchange leases a server, finds or dials a connection, sends
the request, and passes the answer back. Until a byte of the answer has gone to the client a
failure may be repaired by another server; the rules are in `_may_repeat`, the loop in `Placement`.

The usual request takes no coroutine: `start` leases, takes an idle connection and sends.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from lbservice.core.backend import Backend, Lease
from lbservice.core.events import Access
from lbservice.core.pick import OK, Outcome, PickInfo, Result
from lbservice.core.server import Server
from lbservice.proxy.http_client import HttpClientProtocol, Loss
from lbservice.proxy.pace import Intake
from lbservice.proxy.placing import Placement, Unplaced, give_back
from lbservice.proxy.splice import splice
from lbservice.proxy.tunnel import Tunnel
from lbservice.wire.body import LAST_CHUNK, Body, chunk
from lbservice.wire.h1 import encode_request, encode_response, is_dated
from lbservice.wire.headers import field_value
from lbservice.wire.keys import reader
from lbservice.wire.message import CHUNKED, NO_BODY, RequestHead, ResponseHead

if TYPE_CHECKING:
    from lbservice.proxy.http_server import HttpServerProtocol

KEPT = 64 * 1024
"""Bytes of a request's body that are kept, for a server that is not connected yet or for a repetition."""

CONTINUE_AFTER = 2.0
"""Seconds that a server has to say 100 (Continue); then we say it, for servers that do not know of it."""

_log = Logger()


class Stage(Enum):
    """How far an exchange is. The letter is the log's: when it ended, if it ends here."""

    PLACING = "C"
    WAITING = "H"
    """The request goes out; no byte of the final response head has come."""
    RESPONDING = "D"
    TUNNEL = "T"
    DONE = "-"


PLACING, WAITING, RESPONDING, TUNNEL, DONE = Stage  # a member by its class costs ten times as much


class Exchange(PickInfo):
    """One request of one client connection, and what a policy may ask of it. Ends exactly once, in `_finish`."""

    __slots__ = (
        "_chunking",
        "_client",
        "_connection",
        "_fresh",
        "_hinted",
        "_kept",
        "_lease",
        "_lost_body",
        "_placement",
        "_placing",
        "_reused",
        "_stage",
        "_tunnel",
        "access",
        "answered",
        "backend",
        "keep",
        "repeatable",
        "request",
        "request_sent",
        "response_length",
    )

    def __init__(self, client: HttpServerProtocol, backend: Backend, request: RequestHead, access: Access) -> None:
        self.backend = backend
        self.request = request
        self.access = access
        self.answered = False
        """Has the client been given a whole answer?"""
        self.keep = request.persistent
        """May the client's connection carry another exchange?"""
        self.request_sent = bodiless = request.length == NO_BODY
        """Has the client sent its whole request?"""
        self.repeatable = bodiless and request.idempotent
        """Is it sure that it can be sent again? A body may be too long to be held."""
        self.response_length = NO_BODY
        self._client = client
        self._stage = PLACING
        self._lease: Lease | None = None
        self._connection: HttpClientProtocol | None = None
        self._placement: Placement[HttpClientProtocol] | None = None
        self._placing: Deferred[None] | None = None
        self._tunnel: Tunnel | None = None
        self._reused = False
        self._fresh = False
        """Only a fresh connection will do: a reused one has failed."""
        self._kept: bytearray | None = None
        """The beginning of the body, encoded as it goes to a server."""
        self._lost_body = False
        """Body bytes have gone out that are not kept any more: the request cannot be repeated."""
        self._hinted = False
        """An interim response has gone to the client: its final one must be of the same server."""
        self._chunking = False
        """Does the response end with the server's connection, and in chunks for the client?"""

    # -- finding a server ------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Place the request. The fast path: a server with room and an idle connection to it."""
        client = self._client
        lease = self.backend.acquire(self)
        if lease is not None:
            connection = client.pool.take(lease.server, not self.repeatable)
            if connection is not None:
                self._reused = True
                self._send(lease, connection, now)
                return
        self._place_later(lease)

    @property
    def source(self) -> str:  # type: ignore[override] # found out when it is asked for
        return self._client.source_of(self.request)

    @property
    def key(self) -> bytes:
        return reader(*self.backend.policy.wants)(self.request)

    def _idle_connection(self, server: Server) -> HttpClientProtocol | None:
        """One on which the server, as the kernel knows, has sent nothing since: neither bytes nor its end."""
        connection = None if self._fresh else self._client.pool.take(server, not self.repeatable)
        self._reused = connection is not None
        return connection

    def _place_later(self, lease: Lease | None) -> None:
        """The general path, which may wait: for a server with room, for a connection."""
        placing = Deferred.fromCoroutine(self._search().place(lease))
        self._placing = placing.addCallbacks(self._placed, self._unplaced).addErrback(self._confused)

    def _search(self) -> Placement[HttpClientProtocol]:
        if self._placement is None:
            client = self._client
            self._placement = Placement(
                client,
                self.backend,
                self,
                self.access,
                self._idle_connection,
                lambda server: HttpClientProtocol(client.clock, server, client.pool),
                self._rank,
            )
        return self._placement

    def _rank(self) -> int:
        """The class in which it queues."""
        priority = self.backend.settings.priority
        return priority.rank(field_value(self.request.fields, priority.header)) if priority else 0

    def _placed(self, found: tuple[Lease, HttpClientProtocol]) -> None:
        self._placing = None
        self._send(*found, self._client.seconds())

    def _unplaced(self, failure: Failure) -> None:
        self._placing = None
        if failure.check(CancelledError):
            return  # the client is gone, and `_finish` has been here
        failure.trap(Unplaced)
        self._fail(503, str(failure.value))

    def _confused(self, failure: Failure) -> None:
        _log.failure("placing a request", failure)
        self._fail(500, "IC")

    # -- the request -----------------------------------------------------------------------

    def _send(self, lease: Lease, connection: HttpClientProtocol, now: float) -> None:
        self._lease = lease
        self._connection = connection
        self._stage = WAITING
        access = self.access
        access.server = lease.server.name
        access.connected = now
        if access.leased < 0:
            access.leased = now
        request = self.request
        if request.encoded:  # the fast path
            data = access.request_line + request.encoded + access.request_id + b"\r\n\r\n"
        else:
            data = self._encoded(lease.server)
        access.bytes_in += len(data)
        connection.start(self, data, request.method == b"HEAD", self.backend.settings.timeout_server, now)

    def _encoded(self, server: Server) -> bytes:
        """The general path: the head for this server, and what is kept of the body."""
        request, client = self.request, self._client
        if request.expects_continue:
            if self._kept is None and not self.request_sent:
                client.await_body(CONTINUE_AFTER)
            else:
                request.expects_continue = False  # the client did not wait
        data = self._head(server)
        if self._kept:
            data += self._kept
            if not request.idempotent or len(self._kept) > KEPT:
                self._forget_body()
        return data

    def _head(self, server: Server) -> bytes:
        request = self.request
        host = request.host or server.settings.address.encode()
        return encode_request(request, host, self._client.introduction.fields(request, self.access.request_id))

    def request_data(self, payload: bytes, *, done: bool) -> None:
        """More of the request's body, from the client, as it goes to a server."""
        request = self.request
        request.expects_continue = False
        if done:
            self.request_sent = True
        connection = self._connection
        if connection is None:
            if self._keep_body(payload) > KEPT:
                self._client.hold()
            return
        if not self._lost_body and (not request.idempotent or self._keep_body(payload) > KEPT):
            self._forget_body()
        self.access.bytes_in += len(payload)
        connection.send(payload)

    def _keep_body(self, payload: bytes) -> int:
        """Keep it for a server that is still sought, or for a repetition; how much is kept now."""
        if self._kept is None:
            self._kept = bytearray()
        self._kept += payload
        return len(self._kept)

    def _forget_body(self) -> None:
        self._kept = None
        self._lost_body = True
        self._client.release()

    # -- long bodies -----------------------------------------------------------------------

    def splice_request(self, body: Body, intake: Intake) -> None:
        """The rest of the request's body is long: let it move in the kernel, once none of it need be kept."""
        client, connection = self._client, self._connection
        if connection is None or not self._lost_body:
            return

        def moved(size: int) -> None:
            intake.came(size, client.seconds())
            self._moved_in(size)

        splice(client.network.pipes, client.transport, connection.transport, body, moved)

    def splice_response(self, connection: HttpClientProtocol, body: Body) -> None:
        """The rest of the response's body is long: let it move in the kernel, if the client gets it as it comes."""
        if not self._chunking and self._connection is connection:
            client = self._client
            splice(client.network.pipes, connection.transport, client.transport, body, self._moved_out)

    def _moved_in(self, size: int) -> None:
        self.access.bytes_in += size
        if self._connection is not None:
            self._connection.moved()

    def _moved_out(self, size: int) -> None:
        self.access.bytes_out += size
        if self._connection is not None:
            self._connection.moved()

    # -- the response ----------------------------------------------------------------------

    def asked_for(self, protocols: bytes | None) -> bool:
        """Did the client ask for all these protocols, in a server's Upgrade field?"""
        asked = self.request.upgrade
        if asked is None or not protocols:
            return False
        offered = [protocol.strip() for protocol in asked.lower().split(b",")]
        return all(protocol.strip() in offered for protocol in protocols.lower().split(b","))

    def interim(self, head: ResponseHead) -> None:
        """A 1xx response: passed on, a 100 only while the client still waits for it."""
        if head.status == 100:
            if self.request.expects_continue:
                self.say_continue()
                self._client.await_body()
        elif self.request.minor:
            self._hinted = True
            self._write(encode_response(head, b"", b""))

    @property
    def asks_for_body(self) -> bool:
        """Is it the client's turn to send its body? Not while it waits for a 100 and no server has been asked."""
        return self._connection is not None or not self.request.expects_continue

    def say_continue(self) -> None:
        """Let the client send its body: the server has said so, or says nothing."""
        self.request.expects_continue = False
        self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def is_plain(self) -> bool:
        """Has the request no body, and does its client go on with HTTP/1.1?"""
        request = self.request
        return request.length == NO_BODY and self.keep and request.minor == 1 and not self._client.factory.stopping

    def whole_response(self, head: ResponseHead, payload: bytes, now: float) -> None:
        """The fast path of `response`: a usual head and all of its body, to a plain request."""
        access = self.access
        if not head.encoded:
            self.response(head, payload, True, now)
            return
        self._stage = RESPONDING
        self._connection = None  # it is in the pool already: a slow client must not pause it any more
        access.responded = now
        access.status = head.status
        data = head.encoded + access.request_id + b"\r\n\r\n" + payload
        access.bytes_out += len(data)
        self._client.transport.write(data)
        if self._stage is RESPONDING:
            self._succeed(now)

    def response(self, head: ResponseHead, payload: bytes, done: bool, now: float) -> None:
        """The final response head, and what of the body came with it; `done` if that is all."""
        access = self.access
        client = self._client
        self._stage = RESPONDING
        if not done and self._lease is not None:
            self._lease.streams()
        access.responded = now
        access.status = head.status
        length = self.response_length = head.length
        framing = b""
        if length >= 0:
            if head.content_length is not None:
                framing = b"Content-Length: %d\r\n" % head.content_length
        elif self.request.minor:
            self._chunking = length != CHUNKED  # then it is framed already
            framing = b"Transfer-Encoding: chunked\r\n"
        else:
            self.keep = False
        if client.factory.stopping or not self.request_sent:
            self.keep = False
        if not self.keep:
            framing += b"Connection: close\r\n"
        elif not self.request.minor:
            framing += b"Connection: keep-alive\r\n"
        extra = b"X-Request-ID: %b\r\n" % access.request_id
        if not is_dated(head):  # who has a clock adds it (RFC 9110 section 6.6.1)
            extra += b"Date: %b\r\n" % client.factory.date()
        data = encode_response(head, framing, extra)
        if payload:
            data += chunk(payload) if self._chunking else payload
        if done and self._chunking:
            data += LAST_CHUNK
        self._pass_on(data, done, now)

    def response_data(self, payload: bytes, done: bool, now: float) -> None:
        """More of the body; `done` with the last of it."""
        if self._chunking:
            payload = (chunk(payload) if payload else b"") + (LAST_CHUNK if done else b"")
        self._pass_on(payload, done, now)

    def _pass_on(self, data: bytes, done: bool, now: float) -> None:
        if done:
            self._connection = None  # it is in the pool already: a slow client must not pause it any more
        self.access.bytes_out += len(data)
        self._client.transport.write(data)
        if done and self._stage is RESPONDING:
            self._succeed(now)

    def _succeed(self, now: float) -> None:
        """The whole response has been passed on: the usual end."""
        self._stage = DONE
        self._placement = None  # it knows us, too: a cycle would wait for the garbage collector
        self.answered = True
        access = self.access
        access.ended = now
        lease, self._lease = self._lease, None
        assert lease is not None
        lease.succeeded(access)
        self._client.exchange_done(self, now)

    def _write(self, data: bytes) -> None:
        self.access.bytes_out += len(data)
        self._client.transport.write(data)

    # -- a tunnel, after 101 ---------------------------------------------------------------

    def upgraded(self, head: ResponseHead) -> None:
        """The server has agreed to another protocol: bytes are bytes from now on."""
        client = self._client
        connection = self._connection
        assert connection is not None
        if self._lease is not None:
            self._lease.streams()
        self._stage = TUNNEL
        self.keep = False
        self.access.responded = client.seconds()
        self.access.status = 101
        upgrade = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % (head.upgrade or b"")
        self._write(encode_response(head, upgrade, b"X-Request-ID: %b\r\n" % self.access.request_id))
        self._tunnel = Tunnel(client, connection, lambda: self._finish("--", OK))
        self._tunnel.splice(client.network.pipes, self._moved_in, self._moved_out)
        first = connection.start_tunnel(self.backend.settings.timeout_tunnel)
        if first:
            self.from_server(first)
        client.start_tunnel()

    def from_server(self, data: bytes) -> None:
        """Bytes through the tunnel."""
        self._write(data)
        if self._tunnel is not None:
            self._tunnel.server_sent(len(data))

    def from_client(self, data: bytes) -> None:
        """Bytes through the tunnel."""
        if self._connection is not None:
            self.access.bytes_in += len(data)
            self._connection.send(data)
            if self._tunnel is not None:
                self._tunnel.client_sent(len(data))

    def server_finished(self) -> None:
        """The server will send no more through the tunnel."""
        assert self._tunnel is not None
        self._tunnel.server_finished()

    def client_finished(self) -> None:
        """The client will send no more through the tunnel."""
        assert self._tunnel is not None
        self._tunnel.client_finished()

    def server_closed(self, *, clean: bool) -> None:
        """The server's end of the tunnel is gone."""
        self._connection = None
        self._finish("--" if clean else "SD", Result.OK if clean else Result.RESET)

    def tunnel_over(self) -> None:
        """An end has closed cleanly, and cannot close only its half."""
        self._finish("--", OK)

    def tunnel_expired(self) -> None:
        """Nothing has moved in either direction for `timeout tunnel`."""
        self._finish("cD", Result.ABORTED)

    # -- back-pressure ---------------------------------------------------------------------

    def hold_client(self) -> None:
        """The server does not take the body fast enough."""
        self._client.hold()

    def release_client(self) -> None:
        """The server takes more: let the client go on, unless it has left. Bytes that it had sent can still be read."""
        if self._client.has_left():
            self.client_lost()
        else:
            self._client.release()

    def hold_server(self) -> None:
        """The client does not take the response fast enough."""
        if self._connection is not None:
            self._connection.pause()

    def release_server(self) -> None:
        """The client takes more."""
        if self._connection is not None:
            self._connection.resume()

    # -- endings ---------------------------------------------------------------------------

    def server_lost(self, connection: HttpClientProtocol, loss: Loss, why: str) -> None:
        """The server's connection broke, or timed out, before its response was complete."""
        lease, self._lease = self._lease, None
        self._connection = None
        assert lease is not None
        timed_out = loss is Loss.TIMED_OUT
        cut = loss is Loss.DOWN
        result = Result.TIMED_OUT if timed_out else Result.ABORTED if cut else Result.RESET
        if self._stage is RESPONDING:
            self._lease = lease
            self._finish("sD" if timed_out else "DD" if cut else "SD", result)
            return
        give_back(lease, self.access, Outcome(result))
        # An idle connection that had died is nobody's failure: that retry is not counted.
        if self._may_repeat(loss) and (self._reused or self._search().another_try(lease.server, repeats=True)):
            self._stage = PLACING
            self._fresh = True
            self._client.release()  # the connection that held it back is gone
            self._place_later(None)
            return
        if timed_out:
            self._fail(504, "sH")
        elif loss is Loss.BAD:
            self._fail(502, "PH")
        elif cut:
            self._fail(503, "DH")
        else:
            self._fail(502, "SH")

    def server_down(self) -> None:
        """Its server is down, and what goes on there is cut off (`on-marked-down`): do it elsewhere, or end."""
        connection = self._connection
        if connection is None or self._stage is TUNNEL:
            self.client_lost("D")
        else:
            connection.close()
            self.server_lost(connection, Loss.DOWN, "")

    def _may_repeat(self, loss: Loss) -> bool:
        """No byte of the answer has gone out. Sending again must do no harm, and the body must be at hand."""
        clean = not (self._lost_body or self._hinted)
        return loss in (Loss.CLOSED, Loss.RESET, Loss.DOWN) and self.request.idempotent and clean

    def client_lost(self, letter: str = "C") -> None:
        """The client is gone (`C`), or too slow (`c`), or an operator cut it off (`K`)."""
        self._finish(letter + self._when, Result.ABORTED)

    def client_failed(self, status: int, letter: str) -> None:
        """The rest of the request is invalid (`P`) or does not come (`c`); `status` is the answer, if not too late."""
        if self.access.responded < 0:
            self.keep = False
            self.access.status = status
            self._write(self._client.error(status, self, None))
            self.answered = True
        self._finish(letter + ("R" if letter == "P" else "D"), Result.ABORTED)

    @property
    def _when(self) -> str:
        """The log's letter for how far it has come."""
        if self._placement is not None and self._placement.waiting:
            return "Q"
        if self._stage is WAITING and not self.request_sent:
            return "D"
        return "D" if self._stage is TUNNEL else self._stage.value

    def _fail(self, status: int, termination: str) -> None:
        """Answer ourselves. Only before any byte of a response has gone out."""
        if self._stage is DONE:
            return
        client = self._client
        access = self.access
        access.status = status
        if client.stopping or not self.request_sent:
            self.keep = False
        retry_after = client.retry_after(self.backend) if status == 503 else None
        self._write(client.error(status, self, retry_after))
        self.answered = True
        self._finish(termination, Result.RESET)

    def _finish(self, termination: str, result: Result) -> None:
        if self._stage is DONE:
            return
        self._stage = DONE
        client = self._client
        access = self.access
        access.termination = termination
        access.ended = now = client.seconds()
        connection = self._connection
        if connection is not None:
            self._connection = None
            if termination == "--":
                connection.close_softly()  # a tunnel: its last bytes may still be on their way
            else:
                connection.close()
        lease = self._lease
        if lease is not None:
            self._lease = None
            seconds = access.responded - access.connected if access.responded >= 0 else -1.0
            status = access.status
            outcome = Outcome(result, status if status > 0 else 0, seconds, access.bytes_in, access.bytes_out)
            give_back(lease, access, outcome)
        if self._placing is not None:
            self._placing.cancel()
        self._placement = None
        client.exchange_done(self, now)

    def uses(self, server: Server) -> bool:
        """Is it using this server now?"""
        return self._lease is not None and self._lease.server is server

    def __repr__(self) -> str:
        return f"<Exchange {self.request.method!r} {self.request.target!r} {self._stage.name}>"

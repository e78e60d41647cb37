"""The ServerFactories: one for each frontend, making the protocol of its mode for each client."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from email.utils import formatdate
from hashlib import blake2b
from itertools import count
from typing import Any, Self

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger

from lbservice.core.address import Networks, neighbourhood
from lbservice.core.backend import Backend
from lbservice.core.clock import Clock, Seldom, Timer
from lbservice.core.events import Access
from lbservice.core.frontend import Frontend
from lbservice.core.route import Router
from lbservice.core.server import Server
from lbservice.core.settings import BackendSettings, FrontendSettings
from lbservice.errors import StartError
from lbservice.proxy import tls
from lbservice.proxy.admission import TELL, Admission
from lbservice.proxy.http_server import HttpServerProtocol
from lbservice.proxy.idle import IdlePool
from lbservice.proxy.ruled import RuledServerProtocol
from lbservice.proxy.rules import TELL as TELL_RULES
from lbservice.proxy.rules import Rules, has_rules
from lbservice.proxy.tcp import TcpServerProtocol
from lbservice.proxy.transport import Network, plain_host
from lbservice.wire.h1 import MEMORABLE
from lbservice.wire.pages import CONTENT_TYPES, Page

Connection = HttpServerProtocol | TcpServerProtocol

AT_ONCE = 500
"""Idle connections that go over to a successor in one turn of the reactor: some milliseconds."""
MOST = 16 << 20
"""Bytes of a file that are looked at, to see whether it has changed."""

_log = Logger()


def _digest(path: str) -> bytes:
    """What tells whether a file is what it was; b"" while it cannot be read."""
    try:
        with open(path, "rb") as file:
            return blake2b(file.read(MOST), digest_size=16).digest()
    except OSError:
        return b""


class FrontendFactory(ServerFactory):
    """What the connections of one frontend share. `wrote` takes each finished Access.

    `backend` takes what its rules do not send to others of `backends`, by name; None: nobody does. A reload makes a
    new one, the `successor` of the old one, for the same Frontend: listeners and connections go over to it.
    """

    noisy = False

    def __init__(
        self,
        frontend: Frontend,
        settings: FrontendSettings,
        pool: IdlePool,
        network: Network,
        clock: Clock,
        wrote: Callable[[Access], None],
        admission: Admission,
        backends: Mapping[str, Backend],
    ) -> None:
        self.frontend = frontend
        self.settings = settings
        self.name = frontend.name
        self.backend = backends.get(settings.backend)
        self.backends = backends
        self.pool = pool
        self.network = network
        self.clock = clock
        self.stopping = False
        self.successor: Self | None = None
        self._wrote = wrote
        self._connections: set[Connection] = set()
        self._behind: list[Any] = []
        """For each of its listeners the factory that it talks to: this one, or TLS before it."""
        self._ports: list[Any] = []  # of IListeningPort
        self._covered: list[tuple[str, int]] = []
        """Addresses of listeners that it has besides those of its settings, which cover them: see `take_ports`."""
        self._sources: dict[str, bytes] = {}
        """What the files that it needs had in them when they were read: a digest of each."""
        self._admission = admission
        self._counts = settings.maxconn_per_address > 0
        self._tell_refused = Seldom(TELL)
        self._moving: Timer | None = None
        """When the next of its connections go over to the successor."""
        self._empty: list[Deferred[None]] = []

    # -- listening -------------------------------------------------------------------------

    def prepare(self, backends: Mapping[str, BackendSettings]) -> None:
        """Read all files that it needs, with its backends as they will be. Raises StartError."""
        self._sources = {path: _digest(path) for path in self._files(backends)}  # before they are read: see `renewed`
        for listen in self.settings.listen:
            factory: Any = self
            if listen.tls is not None:
                try:
                    factory = tls.listening(_Encrypted(self), listen.tls, self.clock)
                except StartError as error:
                    raise StartError(f"[frontend {self.name}] listen = {listen.address}: {error}") from error
            self._behind.append(factory)

    def _files(self, backends: Mapping[str, BackendSettings]) -> Iterator[str]:
        """The files that it needs."""
        for listen in self.settings.listen:
            if listen.tls is not None:
                yield from filter(None, (listen.tls.cert, listen.tls.key))

    @property
    def renewed(self) -> tuple[str, ...]:
        """Those of its files that are not any more what they were when they were read."""
        return tuple(path for path, digest in self._sources.items() if _digest(path) != digest)

    def listen(self) -> None:
        """Open every listener of the frontend. Raises CannotListenError or StartError."""
        self.prepare({name: backend.settings for name, backend in self.backends.items()})
        self._begin()
        self._ports = [self.open(number) for number in range(len(self.settings.listen))]
        self._admission.add(self)

    def open(self, number: int, beside: Sequence[Any] = ()) -> Any:
        """A listener, the one of that number in the settings. Raises CannotListenError.

        `beside` are listeners of ours that hold a part of the address, or all of it and more, and will go.
        """
        listen = self.settings.listen[number]
        if beside:
            return self.network.listen(listen.host, listen.port, self._behind[number], self, beside)
        return self.network.listen(listen.host, listen.port, self._behind[number], self)

    def _begin(self) -> None:
        """Its backends are as they will be: make what depends on them."""

    @property
    def ports(self) -> list[tuple[str, int, Any]]:
        """Host, port and listener of each address."""
        addresses = [*((listen.host, listen.port) for listen in self.settings.listen), *self._covered]
        return [(host, port, listener) for (host, port), listener in zip(addresses, self._ports, strict=False)]

    def take_ports(self, ports: list[Any], covered: Sequence[tuple[int, str, int, Any]] = ()) -> None:
        """These listeners, one for each address of the settings, are its own from now on.

        So are the `covered` ones: number of the address of the settings, host, port, listener. Their clients would come
        to that address, too, once they were closed; but who is on the way to them in that moment would be refused.
        """
        self._begin()
        self._ports = [*ports, *(listener for *_, listener in covered)]
        self._covered = [(host, port) for _, host, port, _ in covered]
        behind = [*self._behind, *(self._behind[number] for number, *_ in covered)]
        for port, factory in zip(self._ports, behind, strict=True):
            port.factory, port.door = factory, self
            port.startReading()
        self._admission.add(self)

    def leave(self, successor: Self | None) -> None:
        """It is in force no more; its listeners have been taken. Connections go to the successor, or end when idle."""
        self._ports = []
        self._admission.remove(self)
        self.follow(successor)

    def follow(self, successor: Self | None) -> None:
        """Connections of a frontend that has been replaced go to this successor from now on, or end when idle."""
        if successor is None:
            self.stopping = True
        self.successor = successor
        self._stop_moving()
        connections = list(self._connections)
        if successor is None:
            for connection in connections:
                connection.stop()
        else:
            for connection in connections[AT_ONCE:]:
                connection.will_move()
            self._hand_over(connections)

    def _hand_over(self, connections: list[Connection]) -> None:
        """Some of them now, and then others: a reload must not hold everybody up."""
        self._moving = None
        for connection in connections[:AT_ONCE]:
            connection.hand_over()
        rest = connections[AT_ONCE:]
        if rest:
            self._moving = self.clock.callLater(0, self._hand_over, rest)

    def _stop_moving(self) -> None:
        if self._moving is not None:
            self._moving.cancel()
            self._moving = None

    async def stop_listening(self) -> None:
        """Accept nothing more."""
        self.stopping = True
        self._stop_moving()
        self._admission.remove(self)
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        for connection in list(self._connections):
            connection.stop()

    def drained(self) -> Deferred[None]:
        """Fires when the last connection has ended."""
        empty: Deferred[None] = Deferred()
        self._empty.append(empty)
        self._tell_if_empty()
        return empty

    def abort(self) -> int:
        """Close every connection at once; how many there were."""
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        return len(connections)

    def cut(self, server: Server) -> None:
        """Close every connection that uses this server now."""
        for connection in list(self._connections):
            connection.cut(server)

    def marked_down(self, server: Server) -> None:
        """End what uses this server, which has gone down."""
        for connection in list(self._connections):
            connection.marked_down(server)

    # -- who may come in: a Door for the transport and for Admission ---------------------------

    @property
    def guests(self) -> Iterable[Connection]:
        """The connections of clients."""
        return self._connections

    def open_door(self) -> None:
        """Accept."""
        for port in self._ports:
            port.startReading()

    def close_door(self) -> None:
        """Accept nothing; who comes waits in the kernel's backlog."""
        for port in self._ports:
            port.stopReading()

    def waited_for(self) -> bool:
        """Is somebody in the backlog?"""
        return any(port.waited_for() for port in self._ports)

    def admits(self, host: str) -> bool:
        """May another client of this address come in (`maxconn-per-address`)?"""
        most = self.settings.maxconn_per_address
        if not most or self.frontend.by_address[neighbourhood(host)] < most or self.trusts(plain_host(host)):
            return True
        self.frontend.refused += 1
        if self._tell_refused.now(self.clock.seconds()):
            _log.warn(
                "frontend {frontend} refuses {client}: maxconn-per-address {most} is reached; {refused} refused so far",
                event="client-refused",
                frontend=self.name,
                client=plain_host(host),
                most=most,
                refused=self.frontend.refused,
            )
        return False

    def lacking(self, error: OSError | str) -> None:
        """There is no open file left."""
        self._admission.lacking(error)

    def trusts(self, host: str) -> bool:
        """Is this address one of `trusted-proxies`?"""
        return False

    # -- for the connections ---------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """A client has connected."""
        self.joined(connection)
        self.frontend.opened()
        self._admission.came(self)

    def joined(self, connection: Connection) -> None:
        """A connection belongs to it from now on."""
        self._connections.add(connection)
        if self._counts:
            self.frontend.by_address[neighbourhood(connection.host)] += 1

    def closed(self, connection: Connection) -> None:
        """A client's connection has ended."""
        self.parted(connection)
        self.frontend.closed()
        self._admission.left()

    def parted(self, connection: Connection) -> None:
        """A connection belongs to it no more."""
        self._connections.discard(connection)
        if self._counts:
            home, counts = neighbourhood(connection.host), self.frontend.by_address
            counts[home] -= 1
            if not counts[home]:
                del counts[home]
        self._tell_if_empty()

    def ended(self, access: Access) -> None:
        """An exchange or session has ended: count it and write it down."""
        frontend = self.frontend
        access.process_active = frontend.process.active
        access.frontend_active = frontend.active
        frontend.bytes_out += access.bytes_out
        status = access.status
        if status > 0:
            frontend.statuses[status // 100 if status < 600 else 5] += 1
        self._wrote(access)

    def _tell_if_empty(self) -> None:
        if self._empty and not self._connections:
            waiting, self._empty = self._empty, []
            for empty in waiting:
                empty.callback(None)


def request_ids() -> Iterator[bytes]:
    """Request ids: unique among all processes and starts, short enough to read out."""
    prefix = os.urandom(4).hex().encode()
    tails = [b"%02x" % tail for tail in range(256)]  # adding one is half of formatting a number
    for number in count():
        start = b"%b-%x" % (prefix, number)
        for tail in tails:
            yield start + tail


class HttpFactory(FrontendFactory):
    """The ServerFactory of an http frontend."""

    _date = b""
    _date_of = -1
    next_request_id = staticmethod(request_ids().__next__)
    """A new request id."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.limits = self.settings.limits
        self.usual_size = min(self.limits.head, self.limits.line, MEMORABLE)
        """Bytes of a head that may go the fast path."""
        self.wall = time.time
        """The time of day, in seconds since 1970."""
        self.via = (self.settings.via or "").encode()
        self.trusted = Networks(self.settings.trusted)
        """`trusted-proxies`"""
        self.pages: dict[tuple[str, int], Page] = {}
        """Error pages from files, by the backend's name ("": the frontend's own) and the status."""
        self._reachable = [self.backends[rule.backend] for rule in self.settings.rules if rule.backend]
        if self.backend is not None:
            self._reachable.append(self.backend)
        self._rules: Rules | None = None

    def _begin(self) -> None:
        if has_rules(self.settings, self._reachable):
            self._rules = Rules(self.settings, self.frontend, self.backend, self.backends)

    def buildProtocol(self, addr: Any) -> Protocol:
        if self._rules is not None:
            return RuledServerProtocol(self, addr, self._rules)
        return HttpServerProtocol(self, addr)

    def prepare(self, backends: Mapping[str, BackendSettings]) -> None:
        super().prepare(backends)
        for section, backend, status, path in self._paged(backends):
            try:
                with open(path, "rb") as file:
                    self.pages[backend, status] = Page(CONTENT_TYPES[os.path.splitext(path)[1].lower()], file.read())
            except OSError as error:
                raise StartError(f"[{section}] error-page {status}: {path} cannot be read: {error.strerror}") from error

    def _paged(self, backends: Mapping[str, BackendSettings]) -> Iterator[tuple[str, str, int, str]]:
        """Section, backend ("": the frontend's own), status and file of each error page."""
        for status, path in self.settings.pages:
            yield f"frontend {self.name}", "", status, path
        for name in self.settings.backends:
            for status, path in backends[name].pages:
                yield f"backend {name}", name, status, path

    def _files(self, backends: Mapping[str, BackendSettings]) -> Iterator[str]:
        yield from super()._files(backends)
        for *_, path in self._paged(backends):
            yield path

    def follow(self, successor: Self | None) -> None:
        if successor is not None and self._rules is not None and successor._rules is not None:
            successor._rules.inherit(self._rules)
        super().follow(successor)

    def trusts(self, host: str) -> bool:
        """Is this address one of `trusted-proxies`, whose forwarding fields are believed?"""
        return host in self.trusted

    def date(self) -> bytes:
        """The time of day as a Date field has it (RFC 9110 section 5.6.7), made once a second."""
        now = int(self.wall())
        if now != self._date_of:
            self._date_of = now
            self._date = formatdate(now, usegmt=True).encode("ascii")
        return self._date


class TcpFactory(FrontendFactory):
    """The ServerFactory of a tcp frontend."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        rules = self.settings.rules
        self.router = Router([rule.when for rule in rules]) if rules else None
        self.reads_hello = any(rule.when.snis for rule in rules)
        """Must a session's ClientHello be read before its backend is known?"""
        # The last of them takes what meets no rule, whose number is -1.
        self.targets = (*(self.backends[rule.backend] for rule in rules), self.backend)
        self._allow = Networks(self.settings.allow)
        self._deny = Networks(self.settings.deny)
        self._tell_denied = Seldom(TELL_RULES)

    def buildProtocol(self, addr: Any) -> Protocol:
        return TcpServerProtocol(self, addr)

    def admits(self, host: str) -> bool:
        if host not in self._deny and (not self._allow or host in self._allow):
            return super().admits(host)
        self.frontend.denied += 1
        if self._tell_denied.now(self.clock.seconds()):
            _log.warn(
                "frontend {frontend} denies {client} (allow, deny); {denied} denied so far",
                event="client-denied",
                frontend=self.name,
                client=plain_host(host),
                denied=self.frontend.denied,
            )
        return False


class _Encrypted(ServerFactory):
    """The same frontend behind a TLS listener: its protocols know that they are encrypted."""

    noisy = False

    def __init__(self, factory: FrontendFactory) -> None:
        self._factory = factory

    def buildProtocol(self, addr: Any) -> Protocol | None:
        protocol: Any = self._factory.buildProtocol(addr)
        protocol.encrypted = True
        return protocol  # type: ignore[no-any-return]

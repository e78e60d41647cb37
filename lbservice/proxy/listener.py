"""The ServerFactories: one for each frontend, making the protocol of its mode for each client."""

from __future__ import annotations

import ipaddress
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger

from lbservice.core.backend import Backend
from lbservice.core.clock import Clock, Seldom
from lbservice.core.events import Access
from lbservice.core.frontend import Frontend
from lbservice.core.server import Server
from lbservice.proxy import tls
from lbservice.proxy.admission import TELL, Admission
from lbservice.proxy.http_server import HttpServerProtocol
from lbservice.proxy.idle import IdlePool
from lbservice.proxy.tcp import TcpServerProtocol
from lbservice.proxy.transport import Network, plain_host
from lbservice.wire.h1 import MEMORABLE

Connection = HttpServerProtocol | TcpServerProtocol

_log = Logger()


class FrontendFactory(ServerFactory):
    """What the connections of one frontend share. `wrote` takes each finished Access."""

    noisy = False

    def __init__(
        self,
        frontend: Frontend,
        backend: Backend,
        pool: IdlePool,
        network: Network,
        clock: Clock,
        wrote: Callable[[Access], None],
        admission: Admission,
    ) -> None:
        self.frontend = frontend
        self.settings = frontend.settings
        self.name = frontend.name
        self.backend = backend
        self.pool = pool
        self.network = network
        self.clock = clock
        self.stopping = False
        self._wrote = wrote
        self._connections: set[Connection] = set()
        self._ports: list[Any] = []  # of IListeningPort
        self._admission = admission
        self._by_address: Counter[str] = Counter()
        self._tell_refused = Seldom(TELL)
        self._empty: Deferred[None] | None = None

    # -- listening -------------------------------------------------------------------------

    def listen(self) -> None:
        """Open every listener of the frontend. Raises CannotListenError or StartError."""
        for listen in self.settings.listen:
            factory: Any = self
            if listen.tls is not None:
                factory = tls.listening(_Encrypted(self), listen.tls, self.clock)
            self._ports.append(self.network.listen(listen.host, listen.port, factory, self))
        self._admission.add(self)

    async def stop_listening(self) -> None:
        """Accept nothing more."""
        self.stopping = True
        self._admission.remove(self)
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        for connection in list(self._connections):
            connection.stop()

    def drained(self) -> Deferred[None]:
        """Fires when the last connection has ended."""
        empty = self._empty = Deferred()
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
        if not most or self._by_address[_neighbourhood(host)] < most or self.trusts(plain_host(host)):
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
        self._connections.add(connection)
        if self.settings.maxconn_per_address:
            self._by_address[_neighbourhood(connection.host)] += 1
        self.frontend.opened()
        self._admission.came(self)

    def closed(self, connection: Connection) -> None:
        """A client's connection has ended."""
        self._connections.discard(connection)
        if self.settings.maxconn_per_address:
            home = _neighbourhood(connection.host)
            self._by_address[home] -= 1
            if not self._by_address[home]:
                del self._by_address[home]
        self.frontend.closed()
        self._admission.left()
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
        if self._empty is not None and not self._connections:
            empty, self._empty = self._empty, None
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
        self._trusted = tuple(ipaddress.ip_network(network) for network in self.settings.trusted)

    def buildProtocol(self, addr: Any) -> Protocol:
        return HttpServerProtocol(self, addr)

    def trusts(self, host: str) -> bool:
        """Is this address one of `trusted-proxies`, whose forwarding fields are believed?"""
        if not self._trusted:
            return False
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._trusted)

    def date(self) -> bytes:
        """The time of day as a Date field has it (RFC 9110 section 5.6.7), made once a second."""
        now = int(self.wall())
        if now != self._date_of:
            self._date_of = now
            self._date = formatdate(now, usegmt=True).encode("ascii")
        return self._date


class TcpFactory(FrontendFactory):
    """The ServerFactory of a tcp frontend."""

    def buildProtocol(self, addr: Any) -> Protocol:
        return TcpServerProtocol(self, addr)


class _Encrypted(ServerFactory):
    """The same frontend behind a TLS listener: its protocols know that they are encrypted."""

    noisy = False

    def __init__(self, factory: FrontendFactory) -> None:
        self._factory = factory

    def buildProtocol(self, addr: Any) -> Protocol | None:
        protocol: Any = self._factory.buildProtocol(addr)
        protocol.encrypted = True
        return protocol  # type: ignore[no-any-return]


def _neighbourhood(host: str) -> str:
    """Whose connections are counted together: one IPv4 address, or a /64 of IPv6, which is what one customer gets."""
    host = plain_host(host)
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))

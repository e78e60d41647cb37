"""The ServerFactories: one for each frontend, making the protocol of its mode for each client."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol, ServerFactory

from lbservice.core.backend import Backend
from lbservice.core.clock import Clock
from lbservice.core.events import Access
from lbservice.core.frontend import Frontend
from lbservice.core.server import Server
from lbservice.proxy import tls
from lbservice.proxy.http_server import HttpServerProtocol
from lbservice.proxy.idle import IdlePool
from lbservice.proxy.tcp import TcpServerProtocol
from lbservice.proxy.transport import Network

Connection = HttpServerProtocol | TcpServerProtocol


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
        self._accepting = True
        self._empty: Deferred[None] | None = None

    # -- listening -------------------------------------------------------------------------

    def listen(self) -> None:
        """Open every listener of the frontend. Raises CannotListenError or StartError."""
        for listen in self.settings.listen:
            factory: Any = self
            if listen.tls is not None:
                factory = tls.listening(_Encrypted(self), listen.tls, self.clock)
            self._ports.append(self.network.listen(listen.host, listen.port, factory))

    async def stop_listening(self) -> None:
        """Accept nothing more."""
        self.stopping = True
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

    # -- for the connections ---------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """A client has connected."""
        self._connections.add(connection)
        self.frontend.opened()
        if self.frontend.full and self._accepting:
            self._accepting = False
            for port in self._ports:
                port.stopReading()  # further clients wait in the kernel's backlog

    def closed(self, connection: Connection) -> None:
        """A client's connection has ended."""
        self._connections.discard(connection)
        self.frontend.closed()
        if not self._accepting and not self.frontend.full:
            self._accepting = True
            for port in self._ports:
                port.startReading()
        self._tell_if_empty()

    def ended(self, access: Access) -> None:
        """An exchange or session has ended: count it and write it down."""
        frontend = self.frontend
        access.process_active = frontend.process.active
        access.frontend_active = frontend.active
        frontend.bytes_out += access.bytes_out
        if access.status > 0:
            frontend.statuses[min(access.status // 100, 5)] += 1
        self._wrote(access)

    def _tell_if_empty(self) -> None:
        if self._empty is not None and not self._connections:
            empty, self._empty = self._empty, None
            empty.callback(None)


class HttpFactory(FrontendFactory):
    """The ServerFactory of an http frontend."""

    _counter = 0
    _prefix = os.urandom(4).hex().encode()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.limits = self.settings.limits
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

    def next_request_id(self) -> bytes:
        """A new request id: unique among all processes and starts, short enough to read out."""
        HttpFactory._counter += 1
        return b"%b-%x" % (self._prefix, HttpFactory._counter)


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

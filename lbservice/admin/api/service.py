"""`[admin]` of lb.ini as a service: the API on its unix sockets and TCP addresses."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from lbservice.admin import socketfile
from lbservice.admin.api.channel import ApiFactory
from lbservice.admin.api.desk import Desk
from lbservice.admin.api.feed import Feed
from lbservice.admin.api.guard import LOOPBACK_NAMES
from lbservice.admin.api.login import Login, TokenFile
from lbservice.core.settings import AdminListen, AdminSettings
from lbservice.errors import StartError
from lbservice.proxy import tls
from lbservice.services.control import Control


class Api(Service):
    """Listens while it runs; its start raises StartError if that cannot be."""

    log = Logger()
    name = "api"

    def __init__(self, settings: AdminSettings, control: Control, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._tokens = TokenFile(settings.tokens) if settings.tokens is not None else None
        self.feed = Feed(reactor)
        self._desk = Desk(control, self.feed, reactor)
        self._names = LOOPBACK_NAMES | {host.lower() for host in settings.hosts}
        self.factories: list[ApiFactory] = []
        self.ports: list[Any] = []

    def startService(self) -> None:
        """Listen. Not earlier: by now twistd runs as the user that is to own the sockets, and the file of tokens."""
        if self._tokens is not None:
            self._tokens.start()
        try:
            # What may be taken first: a socket's file is made when nothing else can fail.
            for listen in sorted(self._settings.listen, key=lambda listen: listen.unix is not None):
                self.ports.append(self._listen(listen))
        except StartError:
            for port in self.ports:
                port.stopListening()
            raise
        self.feed.start()
        super().startService()
        for listen in self._settings.listen:
            self.log.info("admin listens on {listen}", event="admin-started", listen=listen.address)
            if not listen.is_local and listen.tls is None:
                self.log.warn(
                    "admin: tokens for {listen} cross the network in the clear; add tls",
                    event="admin-in-the-clear",
                    listen=listen.address,
                )

    def _listen(self, listen: AdminListen) -> Any:
        if not (listen.is_local or listen.client_ca or self._tokens):
            raise StartError(f"[admin] listen = {listen.address}: {BEYOND}")
        login = Login(listen, self._tokens)
        if listen.unix is not None:
            factory = ApiFactory(self._desk, login, None, self._reactor)
            self.factories.append(factory)
            return socketfile.listen(listen.unix, factory, self._reactor, "admin")
        factory = ApiFactory(self._desk, login, self._names, self._reactor)
        self.factories.append(factory)
        outside: Any = factory
        if listen.tls is not None:
            try:
                outside = tls.listening(factory, listen.tls, self._reactor, listen.client_ca)
            except StartError as error:
                raise StartError(f"[admin] listen = {listen.address}: {error}") from error
        try:
            return self._reactor.listenTCP(listen.port, outside, interface=listen.host or "0.0.0.0")
        except CannotListenError as error:
            raise StartError(f"[admin] listen = {listen.address}: {error.socketError}") from error

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        self.feed.stop()
        ports, self.ports = self.ports, []
        stopped = DeferredList([maybeDeferred(port.stopListening) for port in ports])
        for factory in self.factories:
            for channel in list(factory.channels):
                channel.loseConnection()
        return stopped


BEYOND = "beyond loopback it needs tokens = FILE, or tls and client-ca= for certificates of clients"
"""Why an address is refused."""

"""The TCP listener of the shell, over ssh or telnet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from lbservice.errors import StartError

MOST = 32
"""Connections at a time; those beyond are closed at once."""


class TcpManhole(Service):
    """Listens while it runs; raises StartError if that cannot be. `make` gives the factory, with its `connections`."""

    log = Logger()

    def __init__(self, kind: str, address: tuple[str, int], make: Callable[[], Any], reactor: Any) -> None:
        self.kind = kind
        self.host, self.listen_port = address
        self.make = make
        self.reactor = reactor
        self.factory: Any = None
        self.port: Any = None

    def privilegedStartService(self) -> None:
        """Listen before twistd gives up its privileges: the port and the host key may need them."""
        super().privilegedStartService()
        self.listen()

    def startService(self) -> None:
        super().startService()
        self.listen()
        if self.kind == "telnet":
            self.log.warn(
                "the shell listens on telnet:{host}:{port}: passwords and all that is typed are plain text",
                event="telnet-open",
                host=self.host,
                port=self.listen_port,
            )

    def listen(self) -> None:
        if self.port is not None:
            return
        self.factory = self.make()
        try:
            self.port = self.reactor.listenTCP(self.listen_port, self.factory, interface=self.host)
        except CannotListenError as error:
            where = f"{self.kind}:{self.host}:{self.listen_port}"
            raise StartError(f"[manhole] listen = {where}: {error.socketError}") from error

    def stopService(self) -> Deferred[None]:
        super().stopService()
        port, self.port = self.port, None
        for connection in list(self.factory.connections) if self.factory else ():
            connection.loseConnection()
        return maybeDeferred(port.stopListening if port else lambda: None)

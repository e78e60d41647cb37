"""The HTTP API in memory: real channels of twisted.web on transports of a test, and a clock that waits."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from lbservice.admin.api.channel import ApiFactory, Channel
from lbservice.admin.api.desk import Desk
from lbservice.admin.api.feed import Feed
from lbservice.admin.api.login import Login, TokenFile
from lbservice.core.settings import AdminListen
from lbservice.services.control import Control

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Response:
    """An answer; `fields` by name in small letters."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)


class Wire(StringTransport):
    """A transport that knows when it was cut; over a unix socket the peer is this process."""

    def __init__(self, peer: str = "192.0.2.7") -> None:
        super().__init__(IPv4Address("TCP", "192.0.2.1", 8404), IPv4Address("TCP", peer, 50000))
        self.aborted = False
        self.socket, self._other = socket.socketpair()

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def close(self) -> None:
        self.socket.close()
        self._other.close()


class ApiHouse:
    """One address of the API, for one Control."""

    def __init__(
        self,
        control: Control,
        listen: AdminListen | None = None,
        tokens: str | None = None,
        hosts: tuple[str, ...] = (),
    ) -> None:
        listen = listen or AdminListen(host="127.0.0.1", port=8404)
        self.clock = Clock()
        self.feed = Feed(self.clock)
        self.desk = Desk(control, self.feed, self.clock)
        names = None if listen.unix else frozenset({"localhost", "127.0.0.1", *hosts})
        login = Login(listen, TokenFile(tokens) if tokens else None)
        self.factory = ApiFactory(self.desk, login, names, self.clock)
        self._wires: list[Wire] = []

    def connect(self) -> tuple[Channel, Wire]:
        """A client's connection."""
        channel, wire = self.factory.buildProtocol(None), Wire()
        assert channel is not None
        self._wires.append(wire)
        channel.makeConnection(wire)
        return channel, wire

    def raw(self, data: bytes) -> Wire:
        """Send that."""
        channel, wire = self.connect()
        channel.dataReceived(data)
        return wire

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, *, wait: float = 2.0
    ) -> Response:
        """Ask, and wait for the answer. A body that is not bytes becomes JSON."""
        fields = {"Host": "localhost", "Connection": "close"}
        if body is not None and not isinstance(body, bytes):
            body, fields = json.dumps(body).encode(), fields | JSON
        fields |= headers or {}
        if body is not None:
            fields["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
        wire = self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))
        if not wire.value():
            self.clock.advance(wait)
        return read(wire.value())

    def close(self) -> None:
        """Close what is open; nothing may be pending then."""
        for channel in list(self.factory.channels):
            channel.abort()
        for wire in self._wires:
            wire.close()


def read(data: bytes) -> Response:
    """An answer out of its bytes."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Response(int(first.split()[1]), fields, body)

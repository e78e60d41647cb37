"""Connections to servers that wait for their next request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbservice.core.server import Server
from lbservice.reactor import TURN

if TYPE_CHECKING:
    from lbservice.proxy.http_client import HttpClientProtocol

MAX_IDLE = 32
"""Idle connections that are kept for each server."""


class IdlePool:
    """The most recently used is taken first, so that what is not needed grows old and closes itself."""

    def __init__(self) -> None:
        self._idle: dict[Server, list[HttpClientProtocol]] = {}
        self.closed = False

    def take(self, server: Server, sure: bool = True) -> HttpClientProtocol | None:
        """An idle connection on which the server, as the kernel knows, has sent neither bytes nor its end; or None.

        `sure`: the kernel is asked now, for a request that cannot be repeated.
        """
        waiting = self._idle.get(server)
        while waiting:
            connection = waiting.pop()
            if connection.is_open(sure):
                return connection
        return None

    def put(self, connection: HttpClientProtocol) -> bool:
        """Keep a connection for later; False when there is no room, and the caller should close it."""
        server = connection.server
        waiting = self._idle.get(server)
        if waiting is None:
            waiting = self._idle[server] = []
        if len(waiting) < MAX_IDLE and connection.moves == server.moves and not (server.leaving or self.closed):
            waiting.append(connection)
            connection.pooled_in = TURN.number
            return True
        return False

    def forget(self, connection: HttpClientProtocol) -> None:
        """It has closed while it waited."""
        waiting = self._idle.get(connection.server)
        if waiting and connection in waiting:
            waiting.remove(connection)

    def drop(self, server: Server) -> None:
        """Close what is idle to one server, which goes away."""
        for connection in self._idle.pop(server, ()):
            connection.close()

    def spare(self, count: int) -> int:
        """Close up to so many, the oldest of the servers that have most; how many."""
        spared = 0
        while spared < count and (most := max(self._idle.values(), key=len, default=[])):
            most.pop(0).close()
            spared += 1
        return spared

    def close(self) -> None:
        """Close everything, and keep nothing from now on."""
        self.closed = True
        for server in list(self._idle):
            self.drop(server)

    def __len__(self) -> int:
        return sum(map(len, self._idle.values()))

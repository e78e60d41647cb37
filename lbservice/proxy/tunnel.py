"""The two halves of a byte stream between a client and a server, and when both have ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from lbservice.proxy.splice import Pipes, Row


class End(Protocol):
    """One side's protocol."""

    transport: Any

    def finish_sending(self) -> None:
        """Write what is queued, then close our half: the peer sees the end of the stream."""


class Tunnel:
    """Passes each side's end of stream on to the other; `finished` is called when both have ended."""

    __slots__ = ("_client", "_client_done", "_finished", "_server", "_server_done", "_to_client", "_to_server")

    def __init__(self, client: End, server: End, finished: Callable[[], None]) -> None:
        self._client = client
        self._server = server
        self._finished = finished
        self._client_done = False
        self._server_done = False
        self._to_server: Row | None = None
        self._to_client: Row | None = None

    def splice(self, pipes: Pipes | None, in_: Callable[[int], None], out: Callable[[int], None]) -> None:
        """Let the kernel move what is much. `in_` hears how many bytes have gone to the server, `out` to the client."""
        client, server = self._client.transport, self._server.transport
        if pipes is not None:
            self._to_server = Row(pipes, client, server, in_)
            self._to_client = Row(pipes, server, client, out)

    def client_sent(self, size: int) -> None:
        """So many bytes at once have been passed on to the server."""
        if self._to_server is not None:
            self._to_server.came(size)

    def server_sent(self, size: int) -> None:
        """So many bytes at once have been passed on to the client."""
        if self._to_client is not None:
            self._to_client.came(size)

    def client_finished(self) -> None:
        """The client sends no more."""
        self._client_done = True
        if self._server_done:
            self._finished()
        else:
            self._server.finish_sending()

    def server_finished(self) -> None:
        """The server sends no more."""
        self._server_done = True
        if self._client_done:
            self._finished()
        else:
            self._client.finish_sending()

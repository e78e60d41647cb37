"""The two halves of a byte stream between a client and a server, and when both have ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class End(Protocol):
    """One side's protocol."""

    def finish_sending(self) -> None:
        """Write what is queued, then close our half: the peer sees the end of the stream."""


class Tunnel:
    """Passes each side's end of stream on to the other; `finished` is called when both have ended."""

    __slots__ = ("_client", "_client_done", "_finished", "_server", "_server_done")

    def __init__(self, client: End, server: End, finished: Callable[[], None]) -> None:
        self._client = client
        self._server = server
        self._finished = finished
        self._client_done = False
        self._server_done = False

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

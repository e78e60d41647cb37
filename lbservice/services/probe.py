"""One connection of a check: what the other side says is read in bounded time and space."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from lbservice.proxy.dial import DialedProtocol


class NoAnswer(Exception):
    """Nothing came that can be judged. `code` is as in checks: L7TOUT, L7RSP."""

    def __init__(self, code: str, why: str) -> None:
        self.code = code
        self.why = why
        super().__init__(f"{code} {why}")


class Probe(DialedProtocol):
    """Gives out what comes, piece by piece, to one reader. At `limit` bytes it reads no more."""

    transport: Any

    def __init__(self, limit: int) -> None:
        self._limit = self._room = limit
        self._pieces: list[bytes] = []
        self._reader: Deferred[None] | None = None
        self._over = False
        """Does nothing more come?"""
        self._failure: NoAnswer | None = None
        """Why, unless the other side has simply closed."""
        self._connected = False

    # -- for a check -----------------------------------------------------------------------

    async def read(self) -> bytes:
        """What has come since the last time, as soon as there is anything; b"" at the end. Raises NoAnswer."""
        if not self._pieces and not self._over:
            self._reader = Deferred()
            try:
                await self._reader
            finally:
                self._reader = None
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            return data
        if self._failure is not None:
            raise self._failure
        return b""

    def write(self, data: bytes) -> None:
        """Say something, if anybody still listens."""
        if self._connected:
            self.transport.write(data)

    def give_up(self) -> None:
        """It has taken too long."""
        self._finish(NoAnswer("L7TOUT", "no answer in time"))

    def close(self) -> None:
        """The connection is of no use any more."""
        self._over = True
        if self._connected:
            self._connected = False
            self.transport.abortConnection()

    # -- from the reactor ------------------------------------------------------------------

    def connectionMade(self) -> None:
        self._connected = True
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._pieces.append(data)
        self._room -= len(data)
        if self._room > 0:
            self._wake()
        else:
            self._finish(NoAnswer("L7RSP", f"more than {self._limit} bytes"))
            self.close()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's own shape
        self._connected = False
        super().connectionLost(reason)
        self._finish(None if reason.check(ConnectionDone) else NoAnswer("L7RSP", "the connection broke"))

    def _finish(self, failure: NoAnswer | None) -> None:
        if not self._over:
            self._over, self._failure = True, failure
            self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

"""A server that the test plays itself: it accepts, reads and writes when the test says so, and sees every end.

Unlike a server in a process of its own it can be told to read nothing at all, and still be asked
whether its connection has ended: the kernel knows of a FIN or a reset behind unread bytes.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Self

SMALL = 64 * 1024
"""Bytes of a server's receive buffer: little, so that one which does not read is full soon."""


class PlayedConnection:
    """One accepted connection. Waits at most 10 seconds for anything."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._threads: list[Thread] = []
        connected.settimeout(10)

    def read_until(self, end: bytes) -> bytes:
        """What comes up to and including `end`, and maybe more."""
        data = b""
        while end not in data:
            more = self.socket.recv(SMALL)
            assert more, f"ended behind {data!r}"
            data += more
        return data

    def send(self, data: bytes) -> None:
        """All of it."""
        self.socket.sendall(data)

    def keep_reading(self, *, size: int = SMALL, pause: float = 0.0) -> None:
        """From now on everything is read and thrown away, `size` bytes at a time, until the end."""
        self._play(lambda: bool(self.socket.recv(size)), pause)

    def keep_sending(self, data: bytes, *, pause: float = 0.0) -> None:
        """From now on that is sent again and again, until the connection breaks."""

        def send() -> bool:
            self.socket.sendall(data)
            return True

        self._play(send, pause)

    def ends(self, seconds: float) -> bool:
        """Does the other side end the connection within that time, be it by FIN or by reset?"""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)  # POLLHUP and POLLERR come unasked
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """It is over, also for what is going on in the background."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a played server does not end"
        self.socket.close()

    def _play(self, act: Callable[[], bool], pause: float) -> None:
        def go_on() -> None:
            with suppress(OSError):
                while act():
                    time.sleep(pause)

        thread = Thread(target=go_on, daemon=True)
        self._threads.append(thread)
        thread.start()


class PlayedServer:
    """Listens on 127.0.0.1 while the context lasts."""

    def __init__(self, name: str = "s1") -> None:
        self.name = name
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)  # accepted ones inherit it
        self._listening.settimeout(10)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self._connections: list[PlayedConnection] = []
        self._fillers: list[socket.socket] = []

    @property
    def line(self) -> str:
        """Its line of lb.ini."""
        host, port = self._listening.getsockname()
        return f"server {self.name} = {host}:{port}"

    def accept(self) -> PlayedConnection:
        """The next connection."""
        connection = PlayedConnection(self._listening.accept()[0])
        self._connections.append(connection)
        return connection

    def anybody(self) -> bool:
        """Does a connection wait to be accepted?"""
        return bool(select.select([self._listening], [], [], 0)[0])

    def black_hole(self) -> None:
        """Answer no further SYN: the backlog is as small as can be, and full (Linux drops what exceeds it)."""
        self._listening.listen(0)
        while True:
            filler = socket.socket()
            self._fillers.append(filler)
            filler.settimeout(0.3)
            try:
                filler.connect(self._listening.getsockname())
            except TimeoutError:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()
        for filler in self._fillers:
            filler.close()
        self._listening.close()

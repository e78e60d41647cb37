"""HTTP as a client sees it on a plain blocking socket: what is sent is said byte for byte, nothing is repaired."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Self


class ConnectionEnded(Exception):
    """The connection ended where bytes were still due."""


@dataclass(frozen=True)
class Response:
    """One response as it came; field names in small letters."""

    version: str
    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes = b""

    def __getitem__(self, name: str) -> str:
        """The only value of a field; "" without it."""
        values = [value for key, value in self.fields if key == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else ""


class Connection:
    """A client's connection, from the address `source` if given. Waits at most `timeout` seconds for anything."""

    def __init__(
        self,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        timeout: float = 10.0,
        receive_buffer: int = 0,
        source: str = "",
    ) -> None:
        plain = socket.socket()
        if source:
            plain.bind((source, 0))
        if receive_buffer:  # must be set before connecting, to limit the window
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(timeout)
        try:
            plain.connect(("127.0.0.1", port))
            self.socket = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # -- bytes -----------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """All of it."""
        self.socket.sendall(data)

    def finish_sending(self) -> None:
        """Half-close: we send no more."""
        self.socket.shutdown(socket.SHUT_WR)

    def receive(self) -> bytes:
        """Some bytes; b"" at the end."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data or self.socket.recv(256 * 1024)

    @property
    def ended(self) -> bool:
        """Has the other side closed or reset it, with everything read that came before?"""
        if self._buffer:
            return False
        patience = self.socket.gettimeout()
        self.socket.settimeout(0)
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        finally:
            self.socket.settimeout(patience)

    def read_exactly(self, size: int) -> bytes:
        """That many bytes."""
        while len(self._buffer) < size:
            self._more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def read_until(self, end: bytes) -> bytes:
        """Everything up to and including `end`."""
        while end not in self._buffer:
            self._more()
        return self.read_exactly(self._buffer.index(end) + len(end))

    def read_to_end(self) -> bytes:
        """Everything there is."""
        return b"".join(iter(self.receive, b""))

    def _more(self) -> None:
        data = self.socket.recv(256 * 1024)
        if not data:
            raise ConnectionEnded(f"behind {bytes(self._buffer[-200:])!r}")
        self._buffer += data

    # -- messages --------------------------------------------------------------------------

    def request(self, method: str, target: str, *fields: str, body: bytes | None = None) -> Response:
        """Send a request with a Host field, and those given; its final response."""
        self.send_request(method, target, *fields, body=body)
        return self.read_response(method)

    def send_request(self, method: str, target: str, *fields: str, body: bytes | None = None) -> None:
        """Send a request and do not wait."""
        length = () if body is None else (f"Content-Length: {len(body)}",)
        head = "\r\n".join((f"{method} {target} HTTP/1.1", "Host: test", *fields, *length, "", ""))
        self.send(head.encode("latin-1") + (body or b""))

    def read_head(self) -> Response:
        """The head of the next response, be it interim or final."""
        line, *rest = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        version, status, _ = line.split(" ", 2)
        pairs = (each.partition(":") for each in rest)
        return Response(version, int(status), tuple((name.lower(), value.strip()) for name, _, value in pairs))

    def read_response(self, method: str = "GET") -> Response:
        """The next final response with its body."""
        head = self.read_head()
        while head.status < 200:
            head = self.read_head()
        if method == "HEAD" or head.status in (204, 304):
            body = b""
        elif head["Transfer-Encoding"] == "chunked":
            body = b""
            while size := int(self.read_until(b"\r\n"), 16):
                body += self.read_exactly(size)
                assert self.read_exactly(2) == b"\r\n"
            assert self.read_exactly(2) == b"\r\n"
        elif head["Content-Length"]:
            body = self.read_exactly(int(head["Content-Length"]))
        else:
            body = self.read_to_end()
        return Response(head.version, head.status, head.fields, body)


def get(port: int, target: str = "/", *fields: str) -> Response:
    """One GET on a connection of its own."""
    with Connection(port) as connection:
        return connection.request("GET", target, *fields)

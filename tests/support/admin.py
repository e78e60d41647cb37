"""A client of the HTTP API of a running balancer, over its unix socket or TCP."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any

from tests.support.api import JSON, Response

PATIENCE = 10.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


class AdminClient:
    """`where` is the path of a unix socket, or a port of 127.0.0.1. Each question has a connection of its own."""

    def __init__(self, where: Path | int, context: ssl.SSLContext | None = None) -> None:
        self._where = where
        self._context = context

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Response:
        """Ask. A body that is not bytes becomes JSON."""
        fields = {}
        if body is not None and not isinstance(body, bytes):
            body, fields = json.dumps(body).encode(), dict(JSON)
        connection = self._connection()
        try:
            connection.request(method, path, body, fields | (headers or {}))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, names, answer.read())
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if isinstance(self._where, Path):
            return _UnixConnection(str(self._where))
        if self._context is not None:
            return http.client.HTTPSConnection("127.0.0.1", self._where, timeout=PATIENCE, context=self._context)
        return http.client.HTTPConnection("127.0.0.1", self._where, timeout=PATIENCE)

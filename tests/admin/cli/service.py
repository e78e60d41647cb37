"""A small HTTP server that answers like the API, or worse, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from click.testing import CliRunner, Result

from lbservice.admin.cli import main


def lbservice(*words: str, text: str | None = None, env: dict[str, str] | None = None) -> Result:
    """The command line, in this process."""
    return CliRunner(env=env or {}).invoke(main, words, input=text)


@dataclass
class Asked:
    """One request."""

    method: str
    target: str
    body: Any
    headers: dict[str, str]


@dataclass
class FakeService:
    """`answers` maps "GET /v1/servers" to (status, body), or to a list of them, of which the last one stays."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, method: str, target: str) -> tuple[int, Any]:
        """What is said to that request."""
        found = self.answers.get(f"{method} {target}", (404, {"detail": f"no such path {target}"}))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return found  # type: ignore[no-any-return]

    @property
    def targets(self) -> list[str]:
        """What was asked, in order."""
        return [f"{each.method} {each.target}" for each in self.asked]


class _Server(HTTPServer):
    address_family = socket.AF_UNIX
    fake: FakeService

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0


class _TcpServer(HTTPServer):
    fake: FakeService


class _Handler(BaseHTTPRequestHandler):
    def setup(self) -> None:
        super().setup()
        self.client_address = ("", 0)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        fake: FakeService = self.server.fake  # type: ignore[attr-defined]  # one of the two above
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        fake.asked.append(Asked(self.command, self.path, body, {k.lower(): v for k, v in self.headers.items()}))
        status, answer = fake.answer(self.command, self.path)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _answer


@contextmanager
def fake_service(path: Path | None = None) -> Iterator[tuple[FakeService, str]]:
    """A service at that socket, or at a port of 127.0.0.1, while the context lasts; and its --api."""
    server = _Server(str(path), _Handler) if path else _TcpServer(("127.0.0.1", 0), _Handler)  # type: ignore[arg-type]
    server.fake = FakeService()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.fake, f"unix:{path}" if path else f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def row(server: str, state: str = "UP", **values: Any) -> dict[str, Any]:
    """One server, as the API shows it."""
    return {
        "server": server,
        "address": "127.0.0.1:9001",
        "state": state,
        "reason": "L4OK",
        "since": 63.0,
        "last_check": "L4OK 0.4ms",
        "weight": 1,
        "in_flight": 0,
        "requests": 3,
        "errors": 0,
    } | values


def change(**values: Any) -> dict[str, Any]:
    """One change, as the API answers."""
    made = {
        "verb": "set to drain",
        "target": "app/s1",
        "before": "ready",
        "after": "drain",
        "changed": True,
        "number": 7,
        "at": 1795658820.98,
        "saved": False,
        "details": [],
        "actor": "alice (uid 1000)",
        "face": "cli",
        "comment": "",
    } | values
    said = "; a restart forgets it, unless it is saved" if not made["saved"] else ""
    made["text"] = (
        f"{made['target']}: {made['verb']}, {made['before']} -> {made['after']} (change {made['number']}{said})"
    )
    return made

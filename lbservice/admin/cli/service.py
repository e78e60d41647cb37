"""The HTTP API of a running service, from the side of the one who asks."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote, urlencode

from lbservice import __version__
from lbservice.admin.cli.failure import No, Unreachable
from lbservice.admin.cli.place import Place

TIMEOUT = 10.0
"""Seconds that one step may take: to connect, and until the next bytes of an answer."""
LONGEST = 64 * 1024 * 1024
"""Bytes of an answer."""
LONGEST_LINE = 64 * 1024


class Refused(No):
    """The service says no: `status` is that of HTTP."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Service:
    """A running service; each question is a connection of its own. Raises Unreachable, and Refused for a no."""

    def __init__(self, place: Place, timeout: float = TIMEOUT) -> None:
        self.place = place
        self.timeout = timeout

    def ask(self, *path: str, **query: str | int | None) -> Any:
        """What it answers to a question; the parts of the path come without slashes between."""
        return self._json("GET", _target(path, query))

    def change(self, method: str, *path: str, query: Mapping[str, str] | None = None, **body: Any) -> dict[str, Any]:
        """The change that was made. What is None in the body is left out."""
        said = {name: value for name, value in body.items() if value is not None}
        answer = self._json(method, _target(path, query or {}), said)
        if not isinstance(answer, dict):
            raise self._foreign()
        return answer

    def events(self) -> Iterator[dict[str, Any]]:
        """What happens from now on, until the service ends it."""
        with self._answer("GET", "/v1/events", None, {"Accept": "text/event-stream"}) as response:
            data: list[str] = []
            while line := response.readline(LONGEST_LINE):
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                if text.startswith("data:"):
                    data.append(text[5:].removeprefix(" "))
                elif not text and data:
                    yield self._parse("\n".join(data).encode())
                    data = []

    def _json(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> Any:
        with self._answer(method, target, body, {}) as response:
            text = response.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise Unreachable(f"the answer of {self.place} is longer than {LONGEST >> 20} MiB")
        return self._parse(text)

    @contextmanager
    def _answer(
        self, method: str, target: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        """The response, when it is a yes."""
        fields = {"User-Agent": f"lbservice-cli/{__version__}", "Accept": "application/json", "Connection": "close"}
        fields |= headers
        if self.place.token:
            fields["Authorization"] = f"Bearer {self.place.token}"
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            fields["Content-Type"] = "application/json"
        try:
            with closing(self._connection()) as connection:
                connection.request(method, target, content, fields)
                response = connection.getresponse()
                if response.status >= 300:
                    raise self._refusal(response.status, response.read(LONGEST_LINE))
                yield response
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"cannot reach the service at {self.place}: {self._why(error)}") from error

    def _connection(self) -> http.client.HTTPConnection:
        place = self.place
        if place.unix:
            return _UnixConnection(place.unix, self.timeout)
        if not place.tls:
            return http.client.HTTPConnection(place.host, place.port, timeout=self.timeout)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if not place.ca:
            context.load_default_certs()
        for option, file, load in (
            ("--ca", place.ca, context.load_verify_locations),
            ("--cert", place.cert, context.load_cert_chain),
        ):
            if file:
                try:
                    load(file)
                except OSError as error:  # an SSLError is one, too
                    raise Unreachable(f"{option} {file}: {error.strerror or error}") from error
        return http.client.HTTPSConnection(place.host, place.port, timeout=self.timeout, context=context)

    def _why(self, error: Exception) -> str:
        """What to do about it."""
        how = f"lbservice run --config {self.place.file}" if self.place.file else "lbservice run"
        match error:
            case FileNotFoundError() if self.place.unix:
                return f"there is no such socket; start the service ({how}), or go to the folder that it was started in"
            case ConnectionRefusedError():
                return f"nobody listens there; start the service ({how})"
            case PermissionError():
                return "it belongs to another user; run this as the user of the service, or as root"
            case TimeoutError():
                return f"no answer within {self.timeout:g} s"
            case ssl.SSLCertVerificationError():
                return f"{error.verify_message}; --ca names the authority, --api a host that its certificate is for"
            case http.client.RemoteDisconnected() | ConnectionResetError() | BrokenPipeError():
                return "it closed the connection without an answer"
            case http.client.HTTPException():
                return f"what answers there is no lbservice ({error!r})"
        return getattr(error, "strerror", None) or str(error)

    def _refusal(self, status: int, body: bytes) -> No | Unreachable:
        try:
            problem = json.loads(body)
            detail = str(problem["detail"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return self._foreign(f"status {status}")
        if status in (401, 403) and not self.place.token:
            detail += " (a token goes into LBSERVICE_TOKEN, or --token-file FILE)"
        return Refused(status, detail)

    def _parse(self, text: bytes) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise self._foreign() from None

    def _foreign(self, what: str = "no JSON") -> Unreachable:
        return Unreachable(f"what answers at {self.place} is not the API of lbservice ({what})")


def _target(path: tuple[str, ...], query: Mapping[str, str | int | None]) -> str:
    target = "".join(f"/{quote(part, safe=':')}" for part in ("v1", *path))
    asked = {name: value for name, value in query.items() if value is not None}
    return f"{target}?{urlencode(asked)}" if asked else target

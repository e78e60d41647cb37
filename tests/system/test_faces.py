"""Each verb of Control, tried through each face of a running balancer: the faces cannot drift apart.

A verb that Control learns is missing from VERBS here until somebody says how each face has it.
"""

from __future__ import annotations

import inspect
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lbservice.admin.cli import main
from lbservice.services.control import Control
from tests.support.admin import AdminClient
from tests.support.processes import LBSERVICE, Balancer, free_port, run
from tests.support.shell import ask as ask_shell

pytestmark = pytest.mark.system

FACES = ("shell", "api", "cli")
INI = """
[admin]
listen = unix:run/admin.sock
[manhole]
listen = unix:run/manhole.sock
[frontend web]
listen = 127.0.0.1:{port}
backend = app
[backend app]
check = none
server s1 = 127.0.0.1:9001
server s2 = 127.0.0.1:{other}
"""
UNSAVED = r" \(change \d+; a restart forgets it, unless it is saved\)"


class Service:
    """The running balancer; `port` is its frontend's."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.api = AdminClient(folder / "run" / "admin.sock")
        self.client: socket.socket | None = None

    def begin(self) -> None:
        """As lb.ini says, which is as it was."""
        (self.folder / "lb.ini").write_text(INI.format(port=self.port, other=9002))
        assert self.api.ask("POST", "/v1/reload", {"discard": True}).status == 200

    def server(self, name: str) -> dict[str, Any]:
        """Its row."""
        row: dict[str, Any] = self.api.ask("GET", f"/v1/servers/app/{name}").json
        return row

    def number(self) -> int:
        """Of the last change."""
        last = self.api.ask("GET", "/v1/changes?last=1").json["items"]
        return int(last[0]["number"]) if last else 0

    def drained(self) -> dict[str, Any]:
        """Before an undo."""
        self.api.ask("POST", "/v1/servers/app/s1/drain", {})
        return {"number": self.number()}

    def edited(self) -> dict[str, Any]:
        """Before a reload."""
        (self.folder / "lb.ini").write_text(INI.format(port=self.port, other=9009))
        return {}

    def visited(self) -> dict[str, Any]:
        """Before a kick: somebody has a connection, and has been answered on it, so that it is known."""
        self.client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert self.client.recv(65536).startswith(b"HTTP/1.1 503")
        host, port = self.client.getsockname()
        return {"session": f"web/{host}:{port}"}

    def asked(self) -> dict[str, Any]:
        """Before a why: a request that no server has answered."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: a/b=1\r\nConnection: close\r\n\r\n")
            while client.recv(65536):
                pass
        return {}

    def kicked(self) -> bool:
        """Was that connection cut?"""
        assert self.client is not None
        with self.client:
            try:
                return self.client.recv(1) == b""
            except ConnectionResetError:
                return True


def _nothing(service: Service) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Verb:
    """How each face has it, with `{name}` for what `before` has found out, and what all of them say (a pattern)."""

    shell: str
    api: tuple[str, str, Any]
    cli: str
    said: str
    before: Callable[[Service], dict[str, Any]] = _nothing
    done: Callable[[Service], bool] = lambda service: True


VERBS = {
    "servers": Verb("lb.servers()", ("GET", "/v1/servers", None), "servers", "app/s1"),
    "health": Verb(
        "print(len(lb.health('app/s1')))", ("GET", "/v1/servers/app/s1/health", None), "health app/s1 --json", r"0|\[\]"
    ),
    "backends": Verb("lb.backends()", ("GET", "/v1/backends", None), "backends", "roundrobin"),
    "frontends": Verb("lb.frontends()", ("GET", "/v1/frontends", None), "frontends", "127.0.0.1:"),
    "stats": Verb("lb.stats()", ("GET", "/v1/stats", None), "stats", "up"),
    "sessions": Verb("lb.sessions()", ("GET", "/v1/sessions", None), "sessions", "{session}", before=Service.visited),
    "changes": Verb("lb.changes()", ("GET", "/v1/changes", None), "changes", "set to drain", before=Service.drained),
    "diff": Verb("lb.diff()", ("GET", "/v1/diff", None), "diff", "9009", before=Service.edited),
    "why": Verb(
        "lb.why('a/b=1')",
        ("GET", "/v1/requests/a%2Fb=1", None),
        "why a/b=1",
        "status 503, .* SC: no server was available, or none could be connected to",
        before=Service.asked,
    ),
    "add": Verb(
        "lb.add('app', 's3', '127.0.0.1:9003', weight=2, comment='why')",
        ("POST", "/v1/servers/app", {"name": "s3", "address": "127.0.0.1:9003", "weight": 2, "comment": "why"}),
        "server add app s3 127.0.0.1:9003 --weight 2 --comment why",
        "app/s3: added, absent -> 127.0.0.1:9003 weight 2" + UNSAVED,
        done=lambda service: service.server("s3")["weight"] == 2,
    ),
    "remove": Verb(
        "lb.remove('app/s1', comment='why')",
        ("DELETE", "/v1/servers/app/s1?comment=why", None),
        "server remove app/s1 --comment why",
        "app/s1: removed, 127.0.0.1:9001 UP, 0 in flight -> gone" + UNSAVED,
        done=lambda service: service.server("s1").get("status") == 404,
    ),
    **{
        verb: Verb(
            f"lb.{verb}('app/s1', comment='why')",
            ("POST", f"/v1/servers/app/s1/{verb}", {"comment": "why"}),
            f"server {verb} app/s1 --comment why",
            f"app/s1: set to {verb}, ready -> {verb}{UNSAVED}",
            done=lambda service, word=word: service.server("s1")["state"] == word,  # type: ignore[misc]
        )
        for verb, word in (("drain", "DRAIN"), ("maint", "MAINT"))
    },
    "ready": Verb(
        "lb.ready('app/s1', comment='why')",
        ("POST", "/v1/servers/app/s1/ready", {"comment": "why"}),
        "server ready app/s1 --comment why",
        "app/s1: set to ready, drain -> ready" + UNSAVED,
        before=Service.drained,
        done=lambda service: service.server("s1")["state"] == "UP",
    ),
    "weight": Verb(
        "lb.weight('app/s1', 7, comment='why')",
        ("POST", "/v1/servers/app/s1/weight", {"weight": 7, "comment": "why"}),
        "server weight app/s1 7 --comment why",
        "app/s1: weight set, weight 1 -> weight 7" + UNSAVED,
        done=lambda service: service.server("s1")["weight"] == 7,
    ),
    "maxconn": Verb(
        "lb.maxconn('app/s1', 9, comment='why')",
        ("POST", "/v1/servers/app/s1/maxconn", {"maxconn": 9, "comment": "why"}),
        "server maxconn app/s1 9 --comment why",
        "app/s1: maxconn set, maxconn 0 -> maxconn 9" + UNSAVED,
    ),
    "address": Verb(
        "lb.address('app/s1', '127.0.0.1:9011', comment='why')",
        ("POST", "/v1/servers/app/s1/address", {"address": "127.0.0.1:9011", "comment": "why"}),
        "server address app/s1 127.0.0.1:9011 --comment why",
        "app/s1: address set, 127.0.0.1:9001 -> 127.0.0.1:9011" + UNSAVED,
        done=lambda service: service.server("s1")["address"] == "127.0.0.1:9011",
    ),
    "kick": Verb(
        "lb.kick('{session}', comment='why')",
        ("DELETE", "/v1/sessions/{session}?comment=why", None),
        "kick {session} --yes --comment why",
        r"{session}: kicked, open -> closed \(change \d+\)",
        before=Service.visited,
        done=Service.kicked,
    ),
    "undo": Verb(
        "lb.undo({number}, comment='why')",
        ("POST", "/v1/changes/{number}/undo", {"comment": "why"}),
        "undo {number} --comment why",
        "app/s1: change {number} undone, drain -> ready" + UNSAVED,
        before=Service.drained,
        done=lambda service: service.server("s1")["state"] == "UP",
    ),
    "reload": Verb(
        "lb.reload(comment='why')",
        ("POST", "/v1/reload", {"comment": "why"}),
        "reload --comment why",
        r"lb.ini: reloaded, 1 difference -> in force \(change \d+\)",
        before=Service.edited,
        done=lambda service: service.server("s2")["address"] == "127.0.0.1:9009",
    ),
    "save": Verb(
        "lb.save(comment='why')",
        ("POST", "/v1/save", {"comment": "why"}),
        "save --comment why",
        r"lb.ini: saved, 1 difference -> saved \(change \d+\)",
        before=Service.drained,
        done=lambda service: "s1 = 127.0.0.1:9001 state=drain" in (service.folder / "lb.ini").read_text(),
    ),
    "reopen": Verb(
        "lb.reopen(comment='why')",
        ("POST", "/v1/log/reopen", {"comment": "why"}),
        "log reopen --comment why",
        "load_balancer.log",
    ),
}
CHANGING = {
    name
    for name, method in inspect.getmembers(Control, inspect.isfunction)
    if "by" in inspect.signature(method).parameters and not name.startswith("_")
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder, port = tmp_path_factory.mktemp("faces"), free_port()
    with Balancer(folder, INI.format(port=port, other=9002)):
        yield Service(folder, port)


def test_every_verb_is_here() -> None:
    assert VERBS.keys() >= CHANGING


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("verb", [verb for verb in VERBS if hasattr(Control, verb)])
def test_each_verb_through_each_face(service: Service, verb: str, face: str) -> None:
    how = VERBS[verb]
    if face == "cli" and how.cli.split()[0] not in main.commands:
        pytest.skip("the command line has not this verb yet")
    service.begin()
    found = how.before(service)
    number = service.number()
    said = _through(service, face, how, found)
    assert re.search(_fill(how.said, {name: re.escape(str(value)) for name, value in found.items()}), said), said
    assert how.done(service)
    if verb in CHANGING:
        (change,) = service.api.ask("GET", "/v1/changes?last=1").json["items"]
        assert (change["number"], change["face"], change["comment"]) == (number + 1, face, "why")
        assert "(uid " in change["actor"]
    if service.client is not None:
        service.client.close()


def _through(service: Service, face: str, how: Verb, found: dict[str, Any]) -> str:
    if face == "shell":
        return ask_shell(service.folder, _fill(how.shell, found))
    if face == "cli":
        status, output, trouble = run([*LBSERVICE, *_fill(how.cli, found).split()], service.folder)
        assert status == 0, trouble
        return output
    method, path, body = how.api
    response = service.api.ask(method, _fill(path, found), body)
    assert response.status in (200, 201), response.body
    answer = response.json
    return str(answer.get("text", answer))


def _fill(text: str, found: dict[str, Any]) -> str:
    for name, value in found.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text

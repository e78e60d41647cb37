"""The HTTP API of a real service: over its unix socket and TCP, with curl, with TLS, with what must be refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import time
from pathlib import Path

import pytest
import trustme

from lbservice import tokens
from tests.support.admin import AdminClient
from tests.support.api import JSON
from tests.support.processes import LBSERVICE, TWISTD, Balancer, eventually, free_port, operated_ini, run

pytestmark = pytest.mark.system

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs the Debian package curl")


def ini(admin: str) -> str:
    return operated_ini(f"[admin]\n{admin}", grace="5s")


def token_lines(folder: Path) -> dict[str, str]:
    """A file `tokens` with one of each level; level -> token."""
    made = {level: tokens.make(f"a-{level}", level) for level in tokens.LEVELS}
    path = folder / "tokens"
    path.write_text("".join(f"{line}\n" for _, line in made.values()))
    path.chmod(0o600)
    return {level: token for level, (token, _) in made.items()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class TestUnixSocket:
    @needs_curl
    def test_curl_asks_and_changes(self, tmp_path: Path) -> None:
        with Balancer(tmp_path, ini("listen = unix:run/admin.sock")) as balancer:
            path = tmp_path / "run" / "admin.sock"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            curl = ["curl", "-sS", "--max-time", "10", "--unix-socket", str(path)]
            status, output, _ = run([*curl, "http://localhost/v1/servers"], tmp_path)
            assert status == 0
            assert [row["state"] for row in json.loads(output)["items"]] == ["UP", "UP"]
            change = ["-H", "Content-Type: application/json", "-d", '{"comment": "by curl"}']
            _, output, _ = run([*curl, *change, "http://localhost/v1/servers/app/s1/drain"], tmp_path)
            assert json.loads(output)["after"] == "drain"
            assert "drain by " in balancer.log()
            assert "change 1: by curl" in balancer.log()
        assert not path.exists()

    def test_a_change_of_it_is_for_the_next_start(self, tmp_path: Path) -> None:
        text = ini("listen = unix:run/admin.sock")
        with Balancer(tmp_path, text):
            (tmp_path / "lb.ini").write_text(text.replace("run/admin.sock", "run/other.sock"))
            change = AdminClient(tmp_path / "run" / "admin.sock").ask("POST", "/v1/reload", {}).json
            assert "admin: from the next start on" in change["details"]
            assert not (tmp_path / "run" / "other.sock").exists()

    def test_what_a_dead_process_left_is_taken_away_and_nothing_else(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "run" / "admin.sock"))
        with Balancer(tmp_path, ini("listen = unix:run/admin.sock")):
            assert AdminClient(tmp_path / "run" / "admin.sock").ask("GET", "/healthz").status == 200
        (tmp_path / "run" / "admin.sock").write_text("mine")
        assert "[admin] listen = unix:run/admin.sock: is there already and is no socket" in refused(tmp_path)

    def test_events_come_as_they_happen(self, tmp_path: Path) -> None:
        with Balancer(tmp_path, ini("listen = unix:run/admin.sock")):
            path = tmp_path / "run" / "admin.sock"
            with socket.socket(socket.AF_UNIX) as reader:
                reader.settimeout(10)
                reader.connect(str(path))
                reader.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                seen = receive(reader, b"retry: 2000\n\n")
                AdminClient(path).ask("POST", "/v1/servers/app/s2/maint", {})
                seen = receive(reader, b"server app/s2 set to maint by", seen)
                assert b"\nid: " in seen

    def test_it_says_that_it_is_not_ready_while_it_drains(self, tmp_path: Path) -> None:
        port, server = free_port(), socket.create_server(("127.0.0.1", 0))
        text = ini("listen = unix:run/admin.sock").replace("127.0.0.1:9001", f"127.0.0.1:{server.getsockname()[1]}")
        text = text.replace("server s2 = 127.0.0.1:9002", "")
        text = (
            text[: text.index("[frontend")]
            + f"[frontend web]\nlisten = 127.0.0.1:{port}\n"
            + text[text.index("backend = app") :]
        )
        with server, Balancer(tmp_path, text) as balancer:
            api = AdminClient(tmp_path / "run" / "admin.sock")
            assert api.ask("GET", "/ready").status == 200
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                upstream, _ = server.accept()
                with upstream:
                    balancer.signal(signal.SIGTERM)
                    eventually(lambda: api.ask("GET", "/ready").status == 503, 5, "not ready")
                    assert api.ask("GET", "/healthz").status == 200
                    assert len(api.ask("GET", "/v1/sessions").json["items"]) == 1
                    assert api.ask("POST", "/v1/servers/app/s1/drain", {}).status == 503
                    upstream.recv(65536)
                    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    assert client.recv(65536).startswith(b"HTTP/1.1 200")
            assert balancer.wait() == 0


class TestTcp:
    def test_what_must_be_refused_is_and_nothing_has_changed(self, tmp_path: Path) -> None:
        port, made = free_port(), token_lines(tmp_path)
        with Balancer(tmp_path, ini(f"listen = 127.0.0.1:{port}\ntokens = tokens")) as balancer:
            api, path = AdminClient(port), "/v1/servers/app/s1/drain"
            admin = bearer(made["admin"])
            began = time.monotonic()
            assert api.ask("POST", path, {}, bearer("lbs_" + "x" * 43)).status == 401
            assert time.monotonic() - began >= 0.9
            refusals = [
                api.ask("POST", path, {}),
                api.ask("POST", path, {}, bearer(made["viewer"])),
                api.ask("POST", path, {}, {**admin, "Origin": "https://evil.example"}),
                api.ask("POST", path, {}, {**admin, "Sec-Fetch-Site": "cross-site"}),
                api.ask("POST", path, {}, {**admin, "Host": "evil.example"}),
                api.ask("POST", path, b"{}", {**admin, "Content-Type": "text/plain"}),
                api.ask("POST", path, b"{", {**admin, **JSON}),
                api.ask("POST", path, b" " * (1024 * 1024 + 1), {**admin, **JSON}),
            ]
            assert [answer.status for answer in refusals] == [401, 403, 403, 403, 403, 415, 400, 413]
            assert all(answer.fields["content-type"] == "application/problem+json" for answer in refusals)
            rows = api.ask("GET", "/v1/servers", headers=admin).json["items"]
            assert [row["state"] for row in rows] == ["UP", "UP"]
            assert api.ask("GET", "/v1/changes", headers=admin).json["items"] == []
            assert balancer.log().count("is refused: ") == 1 + len(refusals)
            assert not any(token in balancer.log() for token in made.values())
            assert (
                api.ask("POST", path, {}, bearer(made["operator"])).json["actor"] == "a-operator (token) at 127.0.0.1"
            )

    def test_a_certificate_lets_in(self, tmp_path: Path) -> None:
        ca, port = trustme.CA(), free_port()
        ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        ca.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "cert.pem"))
        (tmp_path / "cert.pem").chmod(0o600)
        ca.issue_cert("alice@example", common_name="alice").private_key_and_cert_chain_pem.write_to_path(
            str(tmp_path / "alice.pem")
        )
        stranger = trustme.CA().issue_cert("alice@example", common_name="alice")
        stranger.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "mallory.pem"))
        admin = f"listen = 127.0.0.1:{port} tls cert=cert.pem client-ca=ca.pem"
        with Balancer(tmp_path, ini(admin)) as balancer:
            context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            with pytest.raises((ssl.SSLError, ConnectionError)):
                AdminClient(port, context).ask("GET", "/v1/servers")
            context.load_cert_chain(str(tmp_path / "mallory.pem"))
            with pytest.raises((ssl.SSLError, ConnectionError)):
                AdminClient(port, context).ask("GET", "/v1/servers")
            context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            context.load_cert_chain(str(tmp_path / "alice.pem"))
            change = AdminClient(port, context).ask("POST", "/v1/servers/app/s1/drain", {}).json
            assert change["actor"] == "alice (certificate) at 127.0.0.1"
            eventually(lambda: balancer.log().count("no certificate that client-ca knows") >= 2, 5, "the log says so")

    def test_beyond_loopback_it_needs_tokens_or_certificates(self, tmp_path: Path) -> None:
        (tmp_path / "lb.ini").write_text(ini("listen = *:8404"))
        status, _, said = run([*LBSERVICE, "check", "lb.ini"], tmp_path)
        assert status == 1
        assert (
            "lb.ini:5: [admin] listen = *:8404: 0.0.0.0:8404 can be reached from elsewhere; add tokens = FILE" in said
        )
        token_lines(tmp_path)
        (tmp_path / "lb.ini").write_text(ini("listen = *:8404\ntokens = tokens"))
        assert run([*LBSERVICE, "check", "lb.ini"], tmp_path)[0] == 0
        os.chmod(tmp_path / "tokens", 0o644)
        status, _, said = run([*LBSERVICE, "check", "lb.ini"], tmp_path)
        assert (status, "tokens: mode 0644 lets others read it; run chmod 600 tokens" in said) == (1, True)

    def test_an_address_that_is_taken(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            (tmp_path / "lb.ini").write_text(ini(f"listen = unix:run/a.sock, 127.0.0.1:{port}"))
            assert f"[admin] listen = 127.0.0.1:{port}: " in refused(tmp_path)
        assert not (tmp_path / "run" / "a.sock").exists()


def test_lbservice_token_makes_one_that_is_let_in(tmp_path: Path) -> None:
    status, secret, line = run([*LBSERVICE, "token", "deploy", "operator"], tmp_path)
    assert status == 0
    (tmp_path / "tokens").write_text(line.splitlines()[-1])
    (tmp_path / "tokens").chmod(0o600)
    port = free_port()
    with Balancer(tmp_path, ini(f"listen = 127.0.0.1:{port}\ntokens = tokens")):
        assert AdminClient(port).ask("GET", "/v1/stats", headers=bearer(secret.strip())).status == 200
    assert run([*LBSERVICE, "token", "a b", "operator"], tmp_path)[0] == 2
    assert run([*LBSERVICE, "token", "a", "king"], tmp_path)[0] == 2


def refused(folder: Path) -> str:
    """What a start says that must fail; it uses the lb.ini that is there."""
    command = [*TWISTD, "--nodaemon", "--pidfile=", "loadbalancer", "--config", "lb.ini"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    return done.stderr


def receive(reader: socket.socket, wanted: bytes, seen: bytes = b"") -> bytes:
    """Read until that has come."""
    while wanted not in seen:
        data = reader.recv(65536)
        assert data, f"{wanted!r} did not come"
        seen += data
    return seen

"""The command line as a user has it: real processes, a real service, from `init` on."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.processes import LBSERVICE, Balancer, Server, eventually, free_port, http_servers, lb_ini, run

pytestmark = pytest.mark.system

ADMIN = "[admin]\nlisten = unix:run/admin.sock\n[manhole]\nlisten = unix:run/manhole.sock\n"


class Service:
    """A running balancer, and the command line in its folder."""

    def __init__(self, folder: Path, port: int, servers: tuple[Server, ...], balancer: Balancer) -> None:
        self.folder = folder
        self.port = port
        self.servers = servers
        self.balancer = balancer

    def cli(self, *words: str) -> str:
        """What it prints; it must be exit code 0."""
        code, output, error = self.ask(*words)
        assert code == 0, error
        return output

    def ask(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output, error output."""
        return run([*LBSERVICE, *words], self.folder)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    port = free_port()
    with http_servers("s1", "s2") as servers, Balancer(tmp_path, lb_ini(port, servers, top=ADMIN)) as balancer:
        yield Service(tmp_path, port, servers, balancer)


class TestServers:
    def test_a_server_comes_is_used_and_goes(self, service: Service) -> None:
        with Server("s3") as third:
            said = service.cli("server", "add", "app", "s3", third.address, "--wait", "--comment", "more room")
            assert f"app/s3: added, absent -> {third.address} weight 1" in said
            assert "a restart forgets it, unless it is saved" in said
            assert said.endswith("app/s3: up\n")
            service.balancer.wait_for_log(r"server app/s3 added by .*\(uid \d+\).*: more room")
            said = service.cli("server", "remove", "app/s3", "--wait")
            assert "nothing in flight" in said
        rows = json.loads(service.cli("servers", "app", "--json"))["items"]
        assert [row["server"] for row in rows] == ["app/s1", "app/s2"]

    def test_a_server_that_does_not_answer_is_not_up_and_that_is_a_no(self, service: Service) -> None:
        code, output, error = service.ask(
            "server", "add", "app", "s3", f"127.0.0.1:{free_port()}", "--wait", "--timeout", "2s"
        )
        assert code == 1
        assert "added" in output
        assert "app/s3: DOWN" in error

    def test_drain_waits_for_what_is_in_flight(self, service: Service) -> None:
        slow = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
        slow.putrequest("POST", "/")
        slow.putheader("Content-Length", "2")
        slow.endheaders(b"1")
        busy = eventually(lambda: [row["server"] for row in self.rows(service) if row["in_flight"]], 10, "a request")[0]
        code, _, error = service.ask("server", "drain", busy, "--wait", "--timeout", "100ms")
        assert (code, "1 in flight after" in error) == (1, True)
        command = [*LBSERVICE, "server", "drain", busy, "--wait"]
        with subprocess.Popen(command, cwd=service.folder, stdout=subprocess.PIPE, text=True) as waiting:
            slow.send(b"2")
            assert slow.getresponse().status == 200
            output, _ = waiting.communicate(timeout=20)
        assert (waiting.returncode, "nothing in flight" in output) == (0, True)
        slow.close()
        assert "up" in service.cli("server", "ready", busy, "--wait")

    def test_maint_of_the_last_one_is_asked_about(self, service: Service) -> None:
        service.cli("server", "maint", "app/s1")
        code, _, error = service.ask("server", "maint", "app/s2")
        assert (code, "the last server of app" in error) == (2, True)
        service.cli("server", "maint", "app/s2", "--yes")
        service.cli("server", "ready", "app/s2", "--wait")

    @staticmethod
    def rows(service: Service) -> list[dict[str, Any]]:
        return list(json.loads(service.cli("servers", "--json"))["items"])


class TestRest:
    def test_a_session_is_seen_and_kicked(self, service: Service) -> None:
        client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
        client.request("GET", "/")
        client.getresponse().read()
        host, port = client.sock.getsockname()
        assert f"web/{host}:{port}" in service.cli("sessions", "web")
        assert "kicked, open -> closed" in service.cli("kick", f"web/{host}:{port}", "--yes")
        try:
            assert client.sock.recv(1) == b""
        except ConnectionResetError:
            pass
        client.close()

    def test_undo_and_reload(self, service: Service) -> None:
        service.cli("server", "weight", "app/s1", "9")
        assert "weight=9" in service.cli("diff")
        service.cli("undo", "1")
        assert service.cli("diff") == "nothing differs\n"
        path = service.folder / "lb.ini"
        path.write_text(path.read_text() + "balance = nonsense\n")
        code, _, error = service.ask("reload")
        assert code == 1
        assert "lb.ini:" in error
        assert "unknown policy" in error

    def test_what_is_saved_is_in_the_file_and_survives_a_restart(self, service: Service) -> None:
        said = service.cli("server", "weight", "app/s1", "9", "--save")
        assert "weight 1 -> weight 9" in said
        assert "unless it is saved" not in said
        assert "weight=9" in (service.folder / "lb.ini").read_text()
        service.cli("server", "weight", "app/s2", "5")
        service.balancer.stop()
        service.balancer.start()
        rows = json.loads(service.cli("servers", "--json"))["items"]
        assert [row["weight"] for row in rows] == [9, 1]

    def test_the_log_is_followed_while_it_is_rotated(self, service: Service) -> None:
        output = service.folder / "followed"
        with (
            open(output, "w") as file,
            subprocess.Popen(
                [*LBSERVICE, "log", "follow", "--events", "--server", "app/s1"], cwd=service.folder, stdout=file
            ) as following,
        ):
            try:
                for word in ("11", "12"):
                    service.cli("server", "weight", "app/s1", word)
                    eventually(lambda word=word: f"-> weight {word}" in output.read_text(), 20, word)  # type: ignore[misc]
                    service.balancer.log_path.rename(service.folder / f"old.{word}")
                    service.balancer.signal(signal.SIGUSR1)
            finally:
                following.send_signal(signal.SIGINT)
                assert following.wait(10) == 0
        assert output.read_text().count("weight set") == 2

    def test_top_without_a_terminal(self, service: Service) -> None:
        said = service.cli("top", "--interval", "100ms")
        assert "2 of 2 servers available" in said
        assert "RATE/S" in said

    def test_when_the_service_is_gone_it_is_exit_code_3(self, service: Service) -> None:
        service.balancer.stop()
        code, output, error = service.ask("servers")
        assert (code, output) == (3, "")
        assert "lbservice run --config lb.ini" in error


def test_from_init_to_the_first_answer(tmp_path: Path) -> None:
    port, ports = free_port(), {"9001": "", "9002": "", "9003": ""}
    with http_servers("s1", "s2", "s3") as servers:
        code, text, _ = run([*LBSERVICE, "init"], tmp_path)
        assert code == 0
        for server, old in zip(servers, ports, strict=True):
            text = text.replace(f"127.0.0.1:{old}", server.address)
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("http GET /health expect 200", "tcp")
        with Balancer(tmp_path, text, command=[*LBSERVICE, "run"]):
            code, output, error = run([*LBSERVICE, "servers"], tmp_path)
            assert (code, error) == (0, "")
            assert output.count("app/s") == 3


def test_over_tls_with_a_token(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "admin.pem")
    (tmp_path / "admin.pem").chmod(0o600)
    code, token, line = run([*LBSERVICE, "token", "alice", "viewer"], tmp_path)
    assert code == 0
    (tmp_path / "tokens").write_text(line.splitlines()[-1] + "\n")
    (tmp_path / "tokens").chmod(0o600)
    (tmp_path / "alice.token").write_text(token)
    port = free_port()
    top = f"[admin]\nlisten = 127.0.0.1:{port} tls cert=admin.pem\ntokens = tokens\n"
    with Balancer(tmp_path, lb_ini(free_port(), ["server s1 = 127.0.0.1:9001"], top=top, backend="check = none")):

        def ask(*words: str) -> tuple[int, str, str]:
            return run([*LBSERVICE, *words], tmp_path)

        known = ("--ca", "ca.pem", "--token-file", "alice.token")
        assert ask("servers", *known)[0] == 0
        code, _, error = ask("server", "drain", "app/s1", "--yes", *known)
        assert (code, "level operator" in error) == (1, True)
        code, _, error = ask("servers", "--ca", "ca.pem")
        assert (code, "LBSERVICE_TOKEN" in error) == (1, True)
        code, _, error = ask("servers", "--token-file", "alice.token")
        assert (code, "--ca names the authority" in error) == (3, True)
        code, _, error = ask("servers", "--ca", "nowhere.pem")
        assert (code, "--ca nowhere.pem: No such file" in error) == (3, True)

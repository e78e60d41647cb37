"""The process: how it is started, signalled and stopped."""

from __future__ import annotations

import os
import pwd
import signal
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.client import Connection, get
from tests.support.processes import (
    LBSERVICE,
    ROOT,
    TWIST,
    TWISTD,
    Balancer,
    Server,
    alive,
    eventually,
    free_port,
    lb_ini,
    run,
    serves,
)

pytestmark = pytest.mark.system

Servers = tuple[Server, ...]
CONFIG = ["loadbalancer", "--config", "lb.ini"]


def in_flight(balancer: Balancer, server: Server, client: Connection, target: str) -> None:
    """A request that has reached its server."""
    before = int(get(server.port, "/count").body)
    client.send_request("GET", target)
    eventually(lambda: int(get(server.port, "/count").body) > before, 5, "the request at the server")


class TestStarting:
    @pytest.mark.parametrize(
        "command",
        [
            [*TWISTD, "-n", "--pidfile=", *CONFIG],
            [*TWIST, *CONFIG],
            [*TWISTD, "-n", "--pidfile=", "-y", str(ROOT / "lb.tac")],
            [*LBSERVICE, "run", "--config", "lb.ini"],
        ],
        ids=["twistd", "twist", "lb.tac", "lbservice-run"],
    )
    def test_every_way_to_start_it(self, tmp_path: Path, servers: Servers, command: list[str]) -> None:
        port = free_port()
        with Balancer(tmp_path, lb_ini(port, servers), command=command) as balancer:
            assert get(port).status == 200
            assert balancer.wait_for_access(1)
        assert "stopped after" in balancer.log()

    def test_lb_tac_reads_the_file_that_the_environment_names(self, tmp_path: Path, servers: Servers) -> None:
        port = free_port()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        command = [*TWISTD, "-ny", str(ROOT / "lb.tac"), "--pidfile="]
        balancer = Balancer(
            elsewhere, lb_ini(port, servers), command=command, environment={"LB_CONFIG": "../other.ini"}
        )
        balancer.config_path.rename(tmp_path / "other.ini")
        with balancer:
            assert get(port).status == 200

    def test_as_a_daemon_with_a_pid_file(self, tmp_path: Path, servers: Servers) -> None:
        port = free_port()
        (tmp_path / "lb.ini").write_text(lb_ini(port, servers))
        code, output, error = run([*TWISTD, "--pidfile=lb.pid", "--logfile=twistd.log", *CONFIG], tmp_path)
        assert (code, output, error) == (0, "", "")
        pid = int((tmp_path / "lb.pid").read_text())
        try:
            eventually(lambda: serves(pid), 5, "the daemon")
            assert get(port).status == 200
            os.kill(pid, signal.SIGTERM)
            eventually(lambda: not alive(pid), 5, "the end")
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not (tmp_path / "lb.pid").exists()
        assert "stopped after" in (tmp_path / "load_balancer.log").read_text()

    def test_a_port_in_use_is_one_clear_line(self, tmp_path: Path, servers: Servers) -> None:
        (tmp_path / "lb.ini").write_text(lb_ini(servers[0].port, servers))
        for command in ([*TWISTD, "-n", "--pidfile=", *CONFIG], [*TWIST, *CONFIG]):
            code, output, error = run(command, tmp_path)
            assert code == 1
            assert (
                f"lbservice: [frontend web] cannot listen on 127.0.0.1:{servers[0].port}: "
                "[Errno 98] Address already in use" in error
            )
            assert "Traceback" not in output + error

    def test_a_daemon_that_cannot_listen_fails_in_the_foreground(self, tmp_path: Path, servers: Servers) -> None:
        (tmp_path / "lb.ini").write_text(lb_ini(servers[0].port, servers))
        command = [*TWISTD, "--pidfile=lb.pid", "--logfile=twistd.log", *CONFIG]
        code, output, error = run(command, tmp_path, seconds=10)
        assert code == 1
        assert "cannot listen on" in error
        assert "Traceback" not in output + error
        assert "Address already in use" in (tmp_path / "twistd.log").read_text()

    def test_it_can_be_started_again_at_once(self, tmp_path: Path, servers: Servers) -> None:
        port = free_port()
        for _ in range(3):
            with Balancer(tmp_path, lb_ini(port, servers)), Connection(port) as client:
                assert client.request("GET", "/").status == 200


class TestCheck:
    def check(self, folder: Path, config: str) -> tuple[int, str, str]:
        (folder / "lb.ini").write_text(config)
        return run([*TWISTD, "--pidfile=", *CONFIG, "--check"], folder)

    def test_a_good_file(self, tmp_path: Path) -> None:
        assert self.check(tmp_path, lb_ini(8080, ["server s1 = 127.0.0.1:1"])) == (0, "lb.ini: ok\n", "")
        assert os.listdir(tmp_path) == ["lb.ini"]

    def test_the_file_of_the_project(self) -> None:
        code, output, _ = run([*TWISTD, "--pidfile=", *CONFIG, "--check"], ROOT)
        assert (code, output) == (0, "lb.ini: ok\n")

    def test_every_mistake_is_said_at_once(self, tmp_path: Path) -> None:
        code, output, error = self.check(
            tmp_path,
            "[frontend web]\nlisten = 127.0.0.1:99999\nbackend = app\n"
            "[backend app]\nbalance = leestconn\nserver s1 = 127.0.0.1\n",
        )
        assert (code, output) == (1, "")
        lines = error.splitlines()
        assert len(lines) == 3
        for number, (line, what) in enumerate(zip(lines, ("listen", "leestconn", "server s1"), strict=True)):
            assert line.startswith(f"lb.ini:{(2, 5, 6)[number]}: [")
            assert what in line
        assert "did you mean 'leastconn'?" in lines[1]

    def test_a_missing_file(self, tmp_path: Path) -> None:
        code, output, error = run([*TWISTD, "--pidfile=", *CONFIG], tmp_path)
        assert (code, output) == (1, "")
        assert "lb.ini" in error
        assert "Traceback" not in error

    def test_a_bad_file_does_not_start(self, tmp_path: Path) -> None:
        (tmp_path / "lb.ini").write_text("[frontend web]\nlistn = 127.0.0.1:8080\n")
        code, _, error = run([*TWISTD, "-n", "--pidfile=", *CONFIG], tmp_path)
        assert code == 1
        assert "did you mean 'listen'?" in error


class TestSignals:
    def test_sigterm_lets_a_request_finish(self, tmp_path: Path, servers: Servers) -> None:
        port = free_port()
        with (
            Balancer(tmp_path, lb_ini(port, servers[:1])) as balancer,
            Connection(port) as busy,
            Connection(port) as idle,
        ):
            assert idle.request("GET", "/").status == 200
            in_flight(balancer, servers[0], busy, "/?delay=1")
            start = time.monotonic()
            balancer.signal(signal.SIGTERM)
            assert idle.receive() == b""  # idle connections are closed,
            with pytest.raises(ConnectionRefusedError):  # nothing more is accepted,
                Connection(port)
            response = busy.read_response()  # and what is in flight is answered.
            assert (response.status, response.body, response["Connection"]) == (200, b"s1\n", "close")
            assert balancer.wait() == 0
            assert 0.5 < time.monotonic() - start < 2
            balancer.check_for_trouble()

    def test_a_long_response_is_finished_too(self, tmp_path: Path, servers: Servers) -> None:
        port = free_port()
        size = 50_000_000
        with (
            Balancer(tmp_path, lb_ini(port, servers[:1])) as balancer,
            Connection(port, receive_buffer=65536) as client,
        ):
            client.send_request("GET", f"/?bytes={size}")
            assert client.read_head().status == 200
            balancer.signal(signal.SIGTERM)
            balancer.wait_for_log("stopping: 1 connections")
            assert len(client.read_exactly(size)) == size
            assert balancer.wait() == 0

    def test_a_second_sigterm_ends_it_at_once(self, tmp_path: Path, servers: Servers) -> None:
        port = free_port()
        with Balancer(tmp_path, lb_ini(port, servers[:1])) as balancer, Connection(port) as client:
            in_flight(balancer, servers[0], client, "/?delay=20")
            balancer.signal(signal.SIGTERM)
            balancer.wait_for_log("stopping: 1 connections have up to 30s to finish")
            balancer.signal(signal.SIGTERM)
            assert balancer.wait(2) == 0
            with pytest.raises(ConnectionResetError):
                client.receive()
        balancer.check_for_trouble()
        assert "1 connections cut" in balancer.log()

    def test_the_grace_period_ends_it(self, tmp_path: Path, servers: Servers) -> None:
        port = free_port()
        config = lb_ini(port, servers[:1], top="[loadbalancer]\ngrace = 500ms")
        with Balancer(tmp_path, config) as balancer, Connection(port) as client:
            in_flight(balancer, servers[0], client, "/?delay=20")
            start = time.monotonic()
            balancer.signal(signal.SIGTERM)
            assert balancer.wait(5) == 0
            assert 0.4 < time.monotonic() - start < 2
        balancer.check_for_trouble()

    def test_sigint_stops_it_as_well(self, tmp_path: Path, servers: Servers) -> None:
        with Balancer(tmp_path, lb_ini(free_port(), servers)) as balancer:
            balancer.signal(signal.SIGINT)
            assert balancer.wait(5) == 0
        assert "stopped after" in balancer.log()

    def test_sighup_does_not_end_it(self, tmp_path: Path, servers: Servers) -> None:
        port = free_port()
        with Balancer(tmp_path, lb_ini(port, servers)) as balancer:
            balancer.signal(signal.SIGHUP)
            balancer.wait_for_log("lb.ini is read again for SIGHUP: it is in force already")
            assert get(port).status == 200

    def test_sigusr1_reopens_the_log(self, tmp_path: Path, servers: Servers) -> None:
        port = free_port()
        with Balancer(tmp_path, lb_ini(port, servers)) as balancer:
            get(port, "/before")
            old = balancer.log_path.rename(tmp_path / "load_balancer.log.1")
            get(port, "/between")
            balancer.signal(signal.SIGUSR1)
            balancer.wait_for_log("log reopened")
            get(port, "/after")
            assert "GET /after" in balancer.wait_for_access(1)[0]
        assert "GET /before" in old.read_text()
        assert "GET /between" in old.read_text()


class TestTrouble:
    def test_a_log_that_cannot_be_written_does_not_stop_traffic(self, tmp_path: Path, servers: Servers) -> None:
        port = free_port()
        config = lb_ini(port, servers, top="[loadbalancer]\nlog = missing/load_balancer.log")
        with Balancer(tmp_path, config) as balancer:
            for _ in range(100):
                assert get(port).status == 200
            assert balancer.output().count("missing/load_balancer.log cannot be written") == 1
            (tmp_path / "missing").mkdir()
            balancer.signal(signal.SIGUSR1)
            eventually((tmp_path / "missing" / "load_balancer.log").exists, 5, "the log")
            get(port, "/written")
        log = (tmp_path / "missing" / "load_balancer.log").read_text()
        assert "GET /written" in log
        assert "lines lost" in log

    def test_a_full_disk_does_not_stop_traffic(self, tmp_path: Path, servers: Servers) -> None:
        port = free_port()
        with Balancer(tmp_path, lb_ini(port, servers, top="[loadbalancer]\nlog = /dev/full")) as balancer:
            for _ in range(100):
                assert get(port).status == 200
            assert "No space left on device" in balancer.output()

    def test_more_clients_than_maxconn_wait_and_are_served(self, tmp_path: Path, servers: Servers) -> None:
        port = free_port()
        with Balancer(tmp_path, lb_ini(port, servers, frontend="maxconn = 2")), Connection(port) as first:
            first.send_request("GET", "/?delay=1")
            with Connection(port) as second, Connection(port) as third:
                second.send_request("GET", "/?delay=5")
                third.send_request("GET", "/")
                third.socket.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    third.read_response()
                third.socket.settimeout(5)
                assert first.read_response().status == 200
                assert third.read_response().status == 200, "the first one is idle now"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give up root")
def test_root_binds_a_low_port_and_becomes_nobody(servers: Servers) -> None:
    nobody = pwd.getpwnam("nobody")
    port = free_port(700)
    assert port < 1024
    # pytest's folders are closed to others, and nobody has to write the log.
    with TemporaryDirectory(prefix="lbservice-test-") as name:
        folder = Path(name)
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        ids = ["--uid", str(nobody.pw_uid), "--gid", str(nobody.pw_gid)]
        config = lb_ini(port, servers, top="[manhole]\nlisten = unix:run/manhole.sock")
        with Balancer(folder, config, command=[*TWISTD, "-n", "--pidfile=", *ids, *CONFIG]) as balancer:
            assert get(port).status == 200
            status = Path(f"/proc/{balancer.pid}/status").read_text()
            for field, number in (("Uid", nobody.pw_uid), ("Gid", nobody.pw_gid)):
                assert f"{field}:\t" + "\t".join([str(number)] * 4) + "\n" in status
            balancer.wait_for_access(1)
            assert balancer.log_path.stat().st_uid == nobody.pw_uid

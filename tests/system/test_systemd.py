"""The real service with what systemd would give it: a socket to notify, listeners that are open, a watchdog."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import get
from tests.support.debian import need
from tests.support.processes import ROOT, SCRIPTS, TWISTD, Balancer, Server, eventually, free_port, lb_ini, run

pytestmark = pytest.mark.system

Servers = tuple[Server, ...]
CONFIG = ["loadbalancer", "--config", "lb.ini"]
HAND_OVER = 'exec 3<&"$1" && shift && export LISTEN_PID=$$ LISTEN_FDS=1 && exec "$@"'
"""For bash: file number $1 becomes 3, and the rest is run with it."""

LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 1024))
os.execv(sys.argv[1], sys.argv[1:])
"""

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """An abstract address, and what hears what is sent there."""
    name = f"lbservice-test-{os.getpid()}-{tmp_path.name}"[:100]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hearing:
        hearing.bind(f"\0{name}")
        hearing.settimeout(10)
        yield f"@{name}", hearing


def test_it_is_ready_reloads_shows_life_and_stops(
    tmp_path: Path, servers: Servers, systemd: tuple[str, socket.socket]
) -> None:
    address, hearing = systemd
    port = free_port()
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "500000"}
    with Balancer(tmp_path, lb_ini(port, servers), environment=environment) as balancer:
        said = hearing.recv(4096).decode().splitlines()
        assert said[:2] == ["READY=1", f"MAINPID={balancer.pid}"]
        assert get(port).status == 200
        assert hearing.recv(4096) == b"WATCHDOG=1"
        balancer.signal(signal.SIGHUP)
        heard: list[str] = []
        while not heard or not heard[-1].startswith("READY=1"):
            if (message := hearing.recv(4096).decode()) != "WATCHDOG=1":
                heard.append(message)
        assert heard[0].startswith("RELOADING=1\nMONOTONIC_USEC=")
        balancer.signal(signal.SIGTERM)
        while hearing.recv(4096) != b"STOPPING=1":
            pass
        assert balancer.wait() == 0


@needs_bash
def test_a_listener_that_was_handed_over_is_taken(tmp_path: Path, servers: Servers) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        command = ["bash", "-c", HAND_OVER, "bash", str(listener.fileno()), *TWISTD, "-n", "--pidfile=", *CONFIG]
        os.set_inheritable(listener.fileno(), True)
        balancer = Balancer(tmp_path, lb_ini(port, servers), command=command, pass_fds=(listener.fileno(),))
        with balancer:
            assert get(port).status == 200
            balancer.stop()
            with socket.create_connection(("127.0.0.1", port)) as waiting:  # as systemd keeps the port open
                waiting.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                balancer.start()
                waiting.settimeout(10)
                assert waiting.recv(15).startswith(b"HTTP/1.1 200")
    assert "handed over" not in balancer.log()


@needs_bash
def test_one_that_no_frontend_has_is_closed_and_told(tmp_path: Path, servers: Servers) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        other = listener.getsockname()[1]
        port = free_port()
        command = ["bash", "-c", HAND_OVER, "bash", str(listener.fileno()), *TWISTD, "-n", "--pidfile=", *CONFIG]
        with Balancer(tmp_path, lb_ini(port, servers), command=command, pass_fds=(listener.fileno(),)) as balancer:
            balancer.wait_for_log(f"warn: a listener on 127.0.0.1:{other} was handed over, but no frontend")
            assert get(port).status == 200


@needs_bash
def test_what_is_no_listener_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lb.ini").write_text(lb_ini(free_port(), ["server s1 = 127.0.0.1:1"]))
    command = ["bash", "-c", HAND_OVER, "bash", "0", *TWISTD, "-n", "--pidfile=", *CONFIG]
    code, _, error = run(command, tmp_path)
    assert code == 1
    assert "lbservice: LISTEN_FDS: " in error
    assert "Traceback" not in error


def test_the_units_are_what_systemd_understands(tmp_path: Path) -> None:
    for name in ("lbservice.service", "lbservice.socket"):
        text = (ROOT / "contrib" / name).read_text().replace("/opt/lbservice/.venv/bin", str(SCRIPTS))
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [need("systemd-analyze"), "verify", "--man=no", *map(str, sorted(tmp_path.glob("lbservice.*")))],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_logrotate_loses_no_line(tmp_path: Path, servers: Servers) -> None:
    logrotate = need("logrotate")
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers)) as balancer:
        text = (ROOT / "contrib" / "lbservice.logrotate").read_text()
        text = text.replace("/var/log/lbservice", str(tmp_path))
        text = text.replace(
            "systemctl kill --kill-whom=main --signal=USR1 lbservice.service", f"kill -USR1 {balancer.pid}"
        )
        text = "".join(line for line in text.splitlines(keepends=True) if not line.strip().startswith("su "))
        (tmp_path / "rotate").write_text(text)
        (tmp_path / "rotate").chmod(0o644)
        tmp_path.chmod(0o700)
        get(port)
        balancer.wait_for_access(1)
        code, _, error = run([logrotate, "--force", "--state", "state", "rotate"], tmp_path)
        assert (code, error) == (0, "")
        balancer.wait_for_log("log reopened")
        get(port)
        balancer.wait_for_access(1)
        rotated = (tmp_path / "load_balancer.log.1").read_text()
        assert "frontend web listens on" in rotated
        assert rotated.count('"GET / HTTP/1.1"') == 1
        assert "log reopened" not in rotated


def test_the_open_files_are_raised_and_told(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    command = [sys.executable, "-c", LIMITED, *TWISTD, "-n", "--pidfile=", *CONFIG]
    with Balancer(tmp_path, lb_ini(port, servers), command=command) as balancer:
        balancer.wait_for_log(r"starts as uid \d+, pid \d+: at most 480 connections of clients, by 1024 open files")
        assert eventually(lambda: get(port).status == 200, 5, "an answer")

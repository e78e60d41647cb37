"""`lbservice demo`, as a newcomer runs it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import alive, free_port, run

pytestmark = pytest.mark.system

CLI = [sys.executable, "-m", "lbservice.admin.cli"]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class TestDemo:
    def test_it_shows_traffic_going_on_while_a_server_dies(self, tmp_path: Path) -> None:
        port = free_port()
        code, output, error = run([*CLI, "demo", "--port", str(port), "--seconds", "0"], tmp_path, seconds=60)
        assert (code, error) == (0, ""), output
        assert output.count("30 of 30 answered with 200") == 2
        assert re.search(r"app/s2 .* DOWN ", output)
        assert f"curl -i http://127.0.0.1:{port}/" in output
        folder = re.search(r"LBSERVICE_CONFIG=(\S+)/lb.ini", output)
        assert folder is not None
        assert not Path(folder[1]).exists()

    def test_a_port_that_is_taken_is_not_fought_for(self, tmp_path: Path) -> None:
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = holder.getsockname()[1]
            code, output, _ = run([*CLI, "demo", "--port", str(port), "--seconds", "0"], tmp_path, seconds=60)
        assert code == 0
        assert f"Port {port} is taken; this demo uses another one." in output

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_it_stays_until_it_is_ended_and_takes_its_children_along(
        self, tmp_path: Path, number: signal.Signals
    ) -> None:
        command = [*CLI, "demo", "--port", str(free_port())]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as demo:
            try:
                assert demo.stdout is not None
                for line in demo.stdout:
                    if line.startswith("Ctrl-C ends the demo"):
                        break
                ours = children(demo.pid)
                assert len(ours) == 3, "a load balancer, and of three servers the two that are left"
                demo.send_signal(number)
                assert demo.wait(15) == 0
                assert not [pid for pid in ours if alive(pid)]
            finally:
                demo.kill()

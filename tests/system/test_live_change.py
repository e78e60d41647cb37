"""Servers are added, drained and removed through the shell while requests go on."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest

from tests.support.client import Connection, get
from tests.support.load import Load
from tests.support.processes import LBSERVICE, Balancer, Server, eventually, free_port, lb_ini, run

pytestmark = pytest.mark.system

Servers = tuple[Server, ...]
MANHOLE = "[manhole]\nlisten = unix:run/manhole.sock"
ME = f"{getpass.getuser()} (uid {os.getuid()}) at the shell"


def shell(folder: Path, script: str) -> str:
    """What `lbservice shell` prints for a piped script."""
    code, output, error = run([*LBSERVICE, "shell", "--config", "lb.ini"], folder, text=script)
    assert (code, error) == (0, "")
    return output


def test_servers_come_and_go_under_load_and_no_request_is_lost(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Server("s4") as fourth, Balancer(tmp_path, lb_ini(port, servers, top=MANHOLE)) as balancer:
        with Load(port, clients=50) as load:
            eventually(lambda: load.responses > 200, 5, "some traffic")

            assert "app/s4: added" in shell(tmp_path, f'lb.add("app", "s4", "{fourth.address}")\n')
            eventually(lambda: load.served_by["s4"] > 50, 5, "traffic for the new server")

            assert "app/s1: set to drain, ready -> drain" in shell(tmp_path, 'lb.drain("app/s1")\n')
            table = eventually(
                lambda: [
                    row for row in shell(tmp_path, "lb.servers()").splitlines() if "app/s1" in row and "DRAIN" in row
                ],
                5,
                "the drain",
            )
            assert table
            before, at = load.served_by["s1"], load.responses
            eventually(lambda: load.responses > at + 300, 5, "more traffic")
            assert load.served_by["s1"] <= before + 1  # one may have been on its way

            shell(tmp_path, 'lb.ready("app/s1")\n')
            eventually(lambda: load.served_by["s1"] > before + 20, 5, "traffic for the server that is ready again")

            assert "app/s2: removed" in shell(tmp_path, 'lb.remove("app/s2")\n')
            balancer.wait_for_log("server app/s2 is gone")
            assert "app/s2" not in shell(tmp_path, "lb.servers()\n")
            servers[1].kill()
            at = load.responses
            eventually(lambda: load.responses > at + 300, 5, "more traffic")
        load.check()
    events = balancer.log()
    assert f"server app/s4 added by {ME} (absent -> {fourth.address} weight 1)" in events
    assert f"server app/s1 set to drain by {ME} (ready -> drain)" in events
    assert f"server app/s1 set to ready by {ME} (drain -> ready)" in events
    assert f"server app/s2 removed by {ME} (" in events
    assert "app/s2 is DOWN" not in events  # nobody checks it any more


def test_draining_lets_a_request_finish(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers[:1], top=MANHOLE)) as balancer, Connection(port) as client:
        client.send_request("GET", "/?delay=1.5")
        eventually(lambda: get(servers[0].port, "/count").body == b"1\n", 5, "the request at the server")
        assert "leaving, 1 in flight" in shell(tmp_path, 'lb.remove("app/s1")\n')
        assert get(port).status == 503
        assert client.read_response().body == b"s1\n"
        balancer.wait_for_log("server app/s1 is gone")


def test_removing_now_cuts_a_request_off(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers[:1], top=MANHOLE)) as balancer, Connection(port) as client:
        client.send_request("GET", "/?delay=20")
        eventually(lambda: get(servers[0].port, "/count").body == b"1\n", 5, "the request at the server")
        shell(tmp_path, 'lb.remove("app/s1", now=True)\n')
        with pytest.raises(ConnectionResetError):
            client.read_to_end()
        balancer.wait_for_log("server app/s1 is gone")


def test_weight_moves_the_shares(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers[:2], top=MANHOLE)):
        shell(tmp_path, 'lb.weight("app/s1", 3)\n')
        assert sorted(get(port).body for _ in range(8)) == [b"s1\n"] * 6 + [b"s2\n"] * 2


def test_what_cannot_be_is_said_and_changes_nothing(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers, top=MANHOLE)):
        code, _, error = run([*LBSERVICE, "shell"], tmp_path, text='lb.drain("app/s9")\n')
        assert code == 1
        assert "no server 's9' in backend app; there are: s1, s2, s3" in error
        assert len({get(port).body for _ in range(3)}) == 3


def test_without_a_service_the_shell_says_so(tmp_path: Path) -> None:
    (tmp_path / "lb.ini").write_text(lb_ini(free_port(), [], top=MANHOLE))
    code, _, error = run([*LBSERVICE, "shell"], tmp_path, text="lb.servers()\n")
    assert code == 3
    assert "cannot reach the service" in error

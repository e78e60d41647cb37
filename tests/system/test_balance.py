"""Who gets the requests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.accessline import parse
from tests.support.client import get
from tests.support.debian import need
from tests.support.load import Load
from tests.support.processes import Balancer, Server, free_port, lb_ini, run

pytestmark = pytest.mark.system

Servers = tuple[Server, ...]


def shares(lines: list[str]) -> Counter[str]:
    """How many requests each server got, by the log."""
    return Counter(parse(line)["server"] for line in lines)


def test_round_robin_gives_curl_each_server_in_turn(tmp_path: Path, servers: Servers) -> None:
    curl = need("curl")
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers, backend="balance = roundrobin")):
        code, output, _ = run([curl, "-sS", f"http://127.0.0.1:{port}/[1-30]"], tmp_path)
    assert code == 0
    names = output.split()
    assert Counter(names) == {"s1": 10, "s2": 10, "s3": 10}
    assert names == names[:3] * 10


def test_round_robin_by_weight(tmp_path: Path, servers: Servers) -> None:
    curl = need("curl")
    port = free_port()
    lines = [f"{server.line} weight={weight}" for server, weight in zip(servers, (5, 1, 1), strict=True)]
    with Balancer(tmp_path, lb_ini(port, lines)):
        _, output, _ = run([curl, "-sS", f"http://127.0.0.1:{port}/[1-14]"], tmp_path)
    assert output.split() == ["s1", "s1", "s2", "s1", "s3", "s1", "s1"] * 2


def test_round_robin_shares_equally_under_wrk(tmp_path: Path, servers: Servers) -> None:
    wrk = need("wrk")
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers, backend="balance = roundrobin")):
        code, output, _ = run([wrk, "-t1", "-c30", "-d2s", f"http://127.0.0.1:{port}/"], tmp_path)
        counts = [int(get(server.port, "/count").body) for server in servers]
    assert code == 0
    assert "Non-2xx" not in output
    assert "Socket errors" not in output
    assert sum(counts) > 1000
    assert max(counts) - min(counts) <= 30  # at its end wrk cuts off what its connections have in flight


def test_least_connections_shares_equally_when_all_are_idle(tmp_path: Path, servers: Servers) -> None:
    curl = need("curl")
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers, backend="balance = leastconn")):
        _, output, _ = run([curl, "-sS", f"http://127.0.0.1:{port}/[1-30]"], tmp_path)
    assert Counter(output.split()) == {"s1": 10, "s2": 10, "s3": 10}


def test_least_connections_spares_a_slow_server(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Server("slow", "http", "--delay", "0.5") as slow:
        config = lb_ini(port, (slow, *servers[:2]), backend="balance = leastconn")
        with Balancer(tmp_path, config) as balancer, Load(port, clients=12, pause=0.01) as load:
            lines = balancer.wait_for_access(600, 10)
    load.check()
    by_log = shares(lines)
    assert 0 < by_log["slow"] < 0.1 * len(lines)
    assert load.served_by["slow"] < 0.1 * load.responses


def test_a_backup_serves_only_when_no_other_is_up(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    first, _, spare = servers
    with Balancer(tmp_path, lb_ini(port, (first, f"{spare.line} backup"))) as balancer:
        assert {get(port).body for _ in range(6)} == {b"s1\n"}
        first.kill()
        balancer.wait_for_log("app/s1 is DOWN")
        assert {get(port).body for _ in range(6)} == {b"s3\n"}

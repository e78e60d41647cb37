"""Servers die and come back; clients should not notice while one is left."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.accessline import parse
from tests.support.client import Connection, Response, get
from tests.support.load import Load
from tests.support.processes import FALL, INTER, RISE, Balancer, Server, eventually, free_port, lb_ini

pytestmark = pytest.mark.system

Servers = tuple[Server, ...]
HTTP_CHECK = "check = http GET /health expect 200"


def timed(ask: Callable[[], Response]) -> tuple[float, Response]:
    """How many seconds it took."""
    start = time.monotonic()
    response = ask()
    return time.monotonic() - start, response


@pytest.mark.parametrize("check", ["check = tcp", HTTP_CHECK])
def test_a_killed_server_costs_no_client_anything(tmp_path: Path, servers: Servers, check: str) -> None:
    port = free_port()
    victim = servers[1]
    with Balancer(tmp_path, lb_ini(port, servers, backend=check)) as balancer:
        with Load(port, clients=100) as load:
            eventually(lambda: load.responses > 300, 5, "some traffic")
            victim.kill()
            balancer.wait_for_log(r"server app/s2 is DOWN \(L4CON connection refused", FALL * INTER + 1)
            before = load.served_by["s2"]
            eventually(lambda: load.responses > 1500, 5, "more traffic")
            assert load.served_by["s2"] == before
            victim.start()
            balancer.wait_for_log(r"server app/s2 is UP \(L[47]OK.*\), was DOWN for", RISE * INTER + 1)
            eventually(lambda: load.served_by["s2"] > before + 50, 5, "traffic for the server that is back")
        load.check()
    lines = [parse(line) for line in balancer.access_lines()]
    assert len(lines) == load.responses
    assert {line["state"] for line in lines} == {"--"}
    assert any(line["retries"].startswith("+") for line in lines)  # a redispatch was needed, and is told


def test_several_deaths_in_a_row_cost_no_client_anything(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers)) as balancer:
        with Load(port, clients=100) as load:
            for server in servers:
                eventually(lambda: load.responses > 200, 5, "some traffic")
                server.kill()
                balancer.wait_for_log(f"app/{server.name} is DOWN", FALL * INTER + 1)
                server.start()
                balancer.wait_for_log(f"app/{server.name} is UP", RISE * INTER + 1)
        load.check()


def test_a_server_that_hangs_is_taken_out_by_an_http_check(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers, backend=HTTP_CHECK)) as balancer:
        eventually(lambda: all(get(server.port, "/count").status == 200 for server in servers), 5, "servers")
        servers[0].signal(signal.SIGSTOP)
        balancer.wait_for_log(r"app/s1 is DOWN \(L7TOUT", FALL * 2 * INTER + 1)
        assert {get(port).body for _ in range(6)} == {b"s2\n", b"s3\n"}
        servers[0].signal(signal.SIGCONT)
        balancer.wait_for_log("app/s1 is UP", RISE * INTER + 1)


def test_without_any_server_503_comes_at_once(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers)) as balancer, Connection(port) as client:
        assert client.request("GET", "/").status == 200
        for server in servers:
            server.kill()
        seconds, response = timed(lambda: client.request("GET", "/"))  # nobody has told the balancer yet
        assert response.status == 503
        assert seconds < 0.5
        for server in servers:
            balancer.wait_for_log(f"app/{server.name} is DOWN", FALL * INTER + 1)
        balancer.wait_for_log("backend app has no server available")
        took = []
        for method in ("GET", "HEAD", "POST") * 3:
            seconds, response = timed(
                lambda: client.request(method, "/", body=b"x" if method == "POST" else None)  # noqa: B023 - called at once
            )
            took.append(seconds)
            assert response.status == 503
            assert int(response["Retry-After"]) >= 1
        assert statistics.median(took) < 0.05
        servers[2].start()
        balancer.wait_for_log("backend app has a server again", RISE * INTER + 1)
        assert client.request("GET", "/").body == b"s3\n"
    states = [(parse(line)["status"], parse(line)["state"], parse(line)["server"]) for line in balancer.access_lines()]
    assert states[2:-1] == [("503", "SC", "<NOSRV>")] * 9


def test_a_server_that_is_down_at_the_start_is_not_fatal(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    servers[0].kill()
    with Balancer(tmp_path, lb_ini(port, servers)) as balancer:
        assert {get(port).body for _ in range(6)} == {b"s2\n", b"s3\n"}
        balancer.wait_for_log("app/s1 is DOWN", INTER + 1)  # the first check decides alone
        servers[0].start()
        balancer.wait_for_log("app/s1 is UP", RISE * INTER + 1)
        assert b"s1\n" in {get(port).body for _ in range(3)}


def test_a_host_name_that_cannot_be_resolved_is_not_fatal(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    lines = ("server gone = lbservice-test.invalid:80", servers[0].line)
    with Balancer(tmp_path, lb_ini(port, lines)) as balancer:
        assert {get(port).body for _ in range(4)} == {b"s1\n"}
        balancer.wait_for_log("app/gone is DOWN", 10)


def test_a_post_that_may_have_reached_its_server_is_not_sent_twice(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers[:2])), Connection(port) as client:
        client.send_request("POST", "/?delay=5", body=b"order")
        first = eventually(
            lambda: [server for server in servers[:2] if int(get(server.port, "/count").body)], 5, "the order"
        )[0]
        other = servers[0] if first is servers[1] else servers[1]
        first.kill()
        assert client.read_response("POST").status == 502
        assert int(get(other.port, "/count").body) == 0


def test_a_response_that_breaks_off_is_passed_on_as_broken(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    for target in ("/?bytes=100000000", "/?bytes=100000000&chunked=1"):
        with (
            Balancer(tmp_path, lb_ini(port, servers[:1])),
            Connection(port, receive_buffer=65536) as client,
        ):
            client.send_request("GET", target)
            assert client.read_head().status == 200
            servers[0].kill()
            with pytest.raises(ConnectionResetError):
                client.read_to_end()
        servers[0].start()

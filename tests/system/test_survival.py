"""What keeps clients well while servers are ill: passive health, ejection, slow start, and work that is moved away."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.accessline import parse
from tests.support.client import Connection, get
from tests.support.faulty import READ, Faulty, Turn, send
from tests.support.load import Load
from tests.support.processes import FALL, INTER, Balancer, Server, eventually, free_port, lb_ini

pytestmark = pytest.mark.system

Servers = tuple[Server, ...]
UNAVAILABLE: Turn = (READ, send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"))


def test_a_server_that_only_answers_503_is_put_out_and_comes_back_slowly(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    keys = "outlier = gateway\noutlier-ejection = 1s\nslowstart = 500ms"
    with Faulty("ill") as ill:
        ill.play(*[UNAVAILABLE] * 50)
        lines = (servers[0], servers[1], ill.line)
        with Balancer(tmp_path, lb_ini(port, lines, backend=keys)) as balancer, Connection(port) as client:
            first = [client.request("GET", f"/{number}").status for number in range(15)]
            assert first.count(503) == 5
            balancer.wait_for_log(
                r"server app/ill is EJECTED \(5 errors in a row, the last: status 503\) for 1s, time 1"
            )
            assert [client.request("GET", "/").status for _ in range(20)] == [200] * 20
            ill.play()  # it is well again
            balancer.wait_for_log(r"the ejection of server app/ill is over \(its time is up\)")
            balancer.wait_for_log("server app/ill starts slowly: from 10% to all of its share in 500ms")
            balancer.wait_for_log("server app/ill has its full share again")
            assert [client.request("GET", "/").status for _ in range(9)] == [200] * 9
            assert "app/ill is DOWN" not in balancer.log(), "its check was good all the time"
    names = [parse(line)["server"] for line in balancer.access_lines()]
    assert names[15:35].count("ill") == 0
    assert names[-9:].count("ill") == 3


def test_errors_of_requests_take_a_server_down_before_its_checks_do(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    keys = "inter = 30s\nobserve = layer4\nerror-limit = 3\non-error = mark-down"
    config = lb_ini(port, servers, backend=keys).replace(f"inter = {INTER:g}s\n", "", 1)
    with Balancer(tmp_path, config) as balancer, Connection(port) as client:
        servers[1].kill()
        assert [client.request("GET", "/").status for _ in range(12)] == [200] * 12
        balancer.wait_for_log(r"server app/s2 is DOWN \(HANA 3 errors in a row, the last: connect failed\), was UP for")
        balancer.wait_for_log("backend app: 3 retries in 1s, after failures of s2 \\(3\\)")
    retried = [parse(line)["retries"] for line in balancer.access_lines()]
    assert sorted(retried) == ["+1"] * 3 + ["0"] * 9


def test_what_hangs_on_a_dead_machine_is_done_elsewhere(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    keys = "check = http GET /health\non-marked-down = shutdown-sessions"
    with Balancer(tmp_path, lb_ini(port, servers[:2], backend=keys)) as balancer:
        with Connection(port) as getting, Connection(port) as posting:
            servers[0].signal(signal.SIGSTOP)
            getting.send_request("GET", "/page")  # s1 is first
            eventually(lambda: get(port).body == b"s2\n", 5, "a turn of s2")
            posting.send_request("POST", "/order", body=b"x")  # s1 again
            balancer.wait_for_log(r"app/s1 is DOWN \(L7TOUT", FALL * 2 * INTER + 2)
            assert getting.read_response().body == b"s2\n"
            assert posting.read_response("POST").status == 503
        servers[0].signal(signal.SIGCONT)
        balancer.wait_for_access(3)
    ends = {(parse(line)["request"].split()[1], parse(line)["state"]) for line in balancer.access_lines()}
    assert {("/page", "--"), ("/order", "DH")} <= ends


def test_a_server_that_comes_back_under_load_starts_slowly(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    keys = "slowstart = 3s\nbalance = leastconn"
    with Balancer(tmp_path, lb_ini(port, servers, backend=keys)) as balancer:
        with Load(port, clients=60, pause=0.0, target="/?delay=0.03") as load:
            eventually(lambda: load.responses > 300, 5, "some traffic")
            servers[1].kill()
            balancer.wait_for_log("app/s2 is DOWN", FALL * INTER + 1)
            servers[1].start()
            before, all_before = load.served_by["s2"], load.responses
            balancer.wait_for_log("server app/s2 starts slowly", 5)
            eventually(lambda: load.responses > all_before + 500, 5, "more traffic")
            first = (load.served_by["s2"] - before) / (load.responses - all_before)
            balancer.wait_for_log("server app/s2 has its full share again", 6)
            before, all_before = load.served_by["s2"], load.responses
            eventually(lambda: load.responses > all_before + 500, 5, "more traffic")
            last = (load.served_by["s2"] - before) / (load.responses - all_before)
        load.check()
    assert first < 0.22, "a third would be its share"
    assert last > 0.25

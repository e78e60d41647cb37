"""load_balancer.log: every request is in it, once, and in HAProxy's format."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support.accessline import parse
from tests.support.client import Connection, get
from tests.support.debian import need
from tests.support.load import Load
from tests.support.processes import Balancer, Server, eventually, free_port, lb_ini, run

pytestmark = pytest.mark.system

Servers = tuple[Server, ...]
EVENT = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4} \[lbservice\] \S.*$")


def test_every_request_is_in_the_log_once(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers)) as balancer:
        with Load(port, clients=50, pause=0.01) as load:
            eventually(lambda: load.responses > 2000, 10, "traffic")
        load.check()
    lines = [parse(line) for line in balancer.access_lines()]
    assert len(lines) == load.responses
    assert Counter(line["server"] for line in lines) == load.served_by
    assert len({line["id"] for line in lines}) == len(lines)
    for line in lines:
        assert (line["frontend"], line["backend"], line["status"], line["state"]) == ("web", "app", "200", "--")
        assert line["request"] == "GET / HTTP/1.1"
        assert int(line["Ta"]) >= max(int(line[name]) for name in ("TR", "Tw", "Tc", "Tr"))
        assert int(line["feconn"]) <= 50


def test_every_line_is_an_access_line_or_an_event(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers)) as balancer:
        get(port)
        servers[0].kill()
        balancer.wait_for_log("app/s1 is DOWN")
        get(port)
    lines = balancer.log().splitlines()
    access = balancer.access_lines()
    assert len(access) == 2
    for line in access:
        parse(line)
    for line in set(lines) - set(access):
        assert EVENT.match(line), line
    assert "frontend web listens on" in lines[1]
    assert "stopped after" in lines[-1]


def test_hostile_text_cannot_forge_a_line(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers)) as balancer:
        with Connection(port) as client:
            client.send(b'GET /"\\%0a HTTP/1.1\r\nHost: test\r\nX-Request-ID: a"} evil\r\n\r\n')
            client.receive()
        with Connection(port) as client:
            client.send(b"GET /\x1b[31m\xff HTTP/1.1\r\nHost: test\r\n\r\n")
            client.read_to_end()
        lines = balancer.wait_for_access(2)
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        parse(line)


def test_bytes_times_and_states(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers[:1])) as balancer:
        with Connection(port) as client:
            client.request("GET", "/?bytes=100000")
            client.request("GET", "/?delay=0.25")
        with Connection(port) as leaving:
            leaving.send_request("GET", "/?delay=30")
            eventually(lambda: get(servers[0].port, "/count").body == b"3\n", 5, "the request at the server")
        balancer.wait_for_access(3)
        with Connection(port) as client:
            client.send(b"nonsense\r\n\r\n")
            assert b"400 Bad Request" in client.read_to_end()
        large, slow, left, bad = map(parse, balancer.wait_for_access(4))
    assert 100_000 < int(large["bytes"]) < 100_500
    assert 250 <= int(slow["Tr"]) <= int(slow["Ta"]) < 1000
    assert (left["state"], left["Tr"], left["status"]) == ("CH", "-1", "-1")
    assert (bad["state"], bad["status"], bad["server"], bad["request"]) == ("PR", "400", "<NOSRV>", "<BADREQ>")


def test_halog_reads_it(tmp_path: Path, servers: Servers) -> None:
    halog = need("halog")
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers)) as balancer, Connection(port) as client:
        for number in range(30):
            client.request("GET", f"/page/{number % 2}")
        balancer.wait_for_access(30)
    # halog counts on a syslog header in front of the lines; with -s -4 on none.
    code, output, _ = run([halog, "-s", "-4", "-srv"], tmp_path, text=balancer.log())
    assert code == 0
    rows = {line.split()[0]: line.split() for line in output.splitlines() if line.startswith("app/")}
    assert {name: row[2] for name, row in rows.items()} == {"app/s1": "10", "app/s2": "10", "app/s3": "10"}
    _, output, _ = run([halog, "-s", "-4", "-u"], tmp_path, text=balancer.log())
    assert "/page/1" in output
    _, output, _ = run([halog, "-s", "-4", "-tc"], tmp_path, text=balancer.log())
    assert "-- 30" in output

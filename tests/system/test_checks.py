"""Checks and agents, with real servers: good ones, dead ones, and those that would like to hang the balancer."""

from __future__ import annotations

import os
import resource
import signal
import socket
import ssl
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.support.client import get
from tests.support.debian import need
from tests.support.faulty import FIN, HANG, READ, RST, STALL, Faulty, Turn, dribble, endless, send
from tests.support.processes import FALL, INTER, LBSERVICE, RISE, Balancer, Server, free_port, lb_ini, run
from tests.support.shell import MANHOLE, ask

pytestmark = pytest.mark.system

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhealth\n"
HOSTILE: dict[str, tuple[Turn, str]] = {
    "stalls": ((STALL,), "L7TOUT no answer in time"),
    "dribbles": ((READ, dribble(OK, 0.05)), "L7TOUT no answer in time"),
    "resets": ((READ, RST), "L7RSP the connection broke"),
    "leaves": ((READ, FIN), "L7RSP connection closed without an answer"),
    "greets": ((send(b"SSH-2.0-x\r\n"), HANG), "L7RSP no HTTP/1 response"),
    "interim": ((READ, endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)), "L7RSP more than 16 interim responses"),
    "head": ((READ, send(b"HTTP/1.1 200 OK\r\n"), endless(b"A: b\r\n" * 10_000)), "L7RSP a head of more than"),
    "body": ((READ, send(b"HTTP/1.1 200 OK\r\n\r\n"), endless(b"x" * 100_000)), "L7RSP status 200, but 'health'"),
}


def open_files(balancer: Balancer) -> int:
    return len(os.listdir(f"/proc/{balancer.pid}/fd"))


def test_hostile_servers_are_found_out_and_cost_nothing(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        servers = {name: Faulty(name) for name in ("good", *HOSTILE)}
        for server in servers.values():
            stack.callback(server.kill)
            server.launch()
        for server in servers.values():
            server.ready()
        for name, (turn, _) in HOSTILE.items():
            servers[name].play(*[turn] * 10)
        check = "check = http GET /health body health"
        ini = lb_ini(port, [server.line for server in servers.values()], backend=check)
        with Balancer(tmp_path, ini) as balancer:
            for name, (_, reason) in HOSTILE.items():
                balancer.wait_for_log(rf"server app/{name} is DOWN \({reason}", FALL * INTER + 3)
            balancer.reset_peak()
            before, files = balancer.rss(), open_files(balancer)
            took = []
            until = time.monotonic() + 3
            while time.monotonic() < until:
                start = time.monotonic()
                assert get(port, "/x").body == b"x\n"
                took.append(time.monotonic() - start)
            assert statistics.median(took) < 0.02
            assert max(took) < 0.5
            assert balancer.peak_rss() - before < 20 << 20
            assert open_files(balancer) <= files + len(servers), "no more than one connection of each check"
            for server in servers.values():
                server.play()
            for name in HOSTILE:
                balancer.wait_for_log(rf"server app/{name} is UP \(L7OK status 200\)", RISE * INTER + 5)
            assert "app/good is DOWN" not in balancer.log()
        assert [server.report().open for server in servers.values()] == [0] * len(servers)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    program = need("redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with open(tmp_path / "redis.out", "wb") as output:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output)
    try:
        yield port, process
    finally:
        process.kill()
        process.wait()


def test_a_conversation_with_redis(tmp_path: Path, redis: tuple[int, subprocess.Popen[bytes]]) -> None:
    port, process = redis
    check = 'check = tcp send "PING\\r\\n" expect "+PONG"\ninit-state = down'
    with Balancer(tmp_path, lb_ini(free_port(), [f"server r1 = 127.0.0.1:{port}"], backend=check)) as balancer:
        balancer.wait_for_log(r"app/r1 is UP \(L7OK '\+PONG'\)", 5)
        process.send_signal(signal.SIGSTOP)
        balancer.wait_for_log(r"app/r1 is DOWN \(L7TOUT no answer in time: '\+PONG' expected, got nothing", 5)
        process.send_signal(signal.SIGCONT)
        balancer.wait_for_log("app/r1 is UP", 5, times=2)


def test_an_agent_and_an_operator(tmp_path: Path, servers: tuple[Server, ...]) -> None:
    port = free_port()
    with Faulty("agent") as agent:
        agent.play(*[(send(b"drain # new version\n"), FIN)] * 10)
        ini = lb_ini(
            port,
            servers[:1],
            top=MANHOLE,
            backend=f"agent-check = {agent.port}\nagent-inter = {INTER}s",
        )

        with Balancer(tmp_path, ini) as balancer:
            balancer.wait_for_log(r"agent of server app/s1 says drain \(new version\), said ready")
            assert get(port).status == 503
            assert "DRAIN (agent)  agent: drain (new version); L4OK" in ask(tmp_path, "print(lb.servers())")
            ask(tmp_path, 'lb.ready("app/s1")')
            assert get(port).status == 503, "what the agent said is its own"
            ask(tmp_path, 'lb.drain("app/s1")')
            agent.play(*[(send(b"ready 50% maxconn:3\n"), FIN)] * 1000)
            balancer.wait_for_log("agent of server app/s1 says 50% maxconn:3, said drain")
            assert get(port).status == 503, "what the operator said is his own"
            ask(tmp_path, 'lb.ready("app/s1")')
            assert get(port).status == 200
            health = ask(tmp_path, 'print(lb.health("app/s1"))')
            assert "agent  passed  L7OK" in health
            assert "check  passed  L4OK" in health
            agent.play(how="refuse")
            balancer.wait_for_log(r"app/s1 gives no usable answer; what it said last holds \(L4CON connection refused")
            assert get(port).status == 200


def test_without_an_open_file_servers_stay_what_they_are(tmp_path: Path, servers: tuple[Server, ...]) -> None:
    check = "check = http GET /health\ninit-state = down"
    with Balancer(tmp_path, lb_ini(free_port(), servers, backend=check)) as balancer:
        balancer.wait_for_log(r"app/s\d is UP", 5, times=3)
        soft, hard = resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE, (3, hard))
        balancer.wait_for_log(r"warn: server app/s\d cannot be checked \(.*Too many open files", 5)
        time.sleep((FALL + 1) * INTER)  # so many checks that cannot be made
        resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert " is DOWN" not in balancer.log()
        servers[0].kill()
        balancer.wait_for_log(r"app/s1 is DOWN \(L4CON", FALL * INTER + 2)


def test_tls_that_is_only_passed_on(tmp_path: Path) -> None:
    """Clients speak TLS with the server; the check makes a handshake of its own."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    names: list[str] = []
    context.sni_callback = lambda sock, name, context: names.append(name)
    authority.issue_cert("www.test").configure_cert(context)
    port, front = free_port(), free_port()
    stop = threading.Event()
    good = threading.Event()
    good.set()

    def serve(listening: socket.socket) -> None:
        while not stop.is_set():
            try:
                sock, _ = listening.accept()
            except TimeoutError:
                continue
            with sock:
                sock.settimeout(2)
                try:
                    if good.is_set():
                        with context.wrap_socket(sock, server_side=True) as secure:
                            secure.recv(1)
                except OSError:
                    pass

    with socket.create_server(("127.0.0.1", port)) as listening:
        listening.settimeout(0.1)
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            line = f"server t1 = 127.0.0.1:{port}"
            check = "check = tls sni www.test\ninit-state = down"
            with Balancer(tmp_path, lb_ini(front, [line], frontend="mode = tcp", backend=check)) as balancer:
                balancer.wait_for_log(r"app/t1 is UP \(L6OK\)", 5)
                assert set(names) == {"www.test"}
                good.clear()
                balancer.wait_for_log(r"app/t1 is DOWN \(L6RSP TLS handshake failed", 5)
        finally:
            stop.set()
            thread.join()


def test_checks_can_be_tried_before_anything_depends_on_them(tmp_path: Path, servers: tuple[Server, ...]) -> None:
    (tmp_path / "lb.ini").write_text(lb_ini(free_port(), servers[:2], backend="check = http GET /health body ok"))
    command = [*LBSERVICE, "check", "--probe"]
    code, output, error = run(command, tmp_path)
    first, heading, *lines = output.splitlines()
    assert (code, error, first) == (0, "", "lb.ini: ok, 1 frontend, 1 backend, 2 servers")
    assert heading.split() == ["SERVER", "BY", "RESULT", "CODE", "TOOK", "DETAIL"]
    assert [line.split()[:4] for line in lines] == [[f"app/s{n}", "check", "passed", "L7OK"] for n in (1, 2)]
    servers[1].kill()
    code, output, error = run(command, tmp_path)
    assert (code, error) == (1, "")
    assert output.splitlines()[3].split()[:4] == ["app/s2", "check", "failed", "L4CON"]

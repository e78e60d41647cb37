"""lb.ini is read again while it works: no request fails, no connection breaks, and memory stays as it is.

RELOAD_SECONDS is how long the load lasts, RELOAD_ROUNDS how often a server comes and goes; `make reload` sets them, CI
runs a short form.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import Connection, get
from tests.support.load import Load
from tests.support.processes import INTER, Balancer, Server, eventually, free_port, http_servers, lb_ini
from tests.support.shell import MANHOLE, ask

pytestmark = pytest.mark.system

LASTING = float(os.environ.get("RELOAD_SECONDS", "6"))
ROUNDS = int(os.environ.get("RELOAD_ROUNDS", "60"))
TUNNELS = 50
GROWTH = 4 << 20
"""Bytes of memory that a process may have more at the end, after hundreds of thousands of requests."""
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HELLO, ECHO = b"\x81\x85\0\0\0\0hello", b"\x81\x05hello"


@pytest.fixture
def longest() -> int:
    """The usual bound does not know how long it lasts."""
    return int(60 + 3 * LASTING + ROUNDS / 5)


@pytest.fixture
def servers() -> Iterator[tuple[Server, ...]]:
    with http_servers("s1", "s2", "s3", "s4") as four:
        yield four


def version(number: int, port: int, other: int, servers: tuple[Server, ...]) -> str:
    """An lb.ini, another one each time: servers and their weights, a route, timeouts, policies, addresses."""
    first, second, third, fourth = servers
    host = "*" if number % 4 == 2 else "127.0.0.1"
    listen = [f"{host}:{port}", *([f"127.0.0.1:{other}"] if number % 2 else [])]
    return "\n".join(
        [
            MANHOLE,
            "[loadbalancer]",
            f"maxconn = {400 + number % 3}",
            f"[frontend {'web' if number % 5 else 'www'}]",
            f"listen = {', '.join(listen)}",
            "backend = app",
            f"timeout client = {20 + number % 7}s",
            *(["route api = api path=/api", "request-header X-Version = set new"] if number % 3 == 0 else []),
            "[backend app]",
            f"balance = {('roundrobin', 'leastconn', 'random(2)')[number % 3]}",
            f"inter = {INTER + number % 2 / 10:g}s",
            f"timeout server = {30 + number % 5}s",
            f"server s1 = {first.address} weight={1 + number % 4}",
            f"server s2 = {second.address}",
            *([f"server s3 = {third.address} maxconn=20"] if number % 2 else []),
            *(["[backend api]", f"server s4 = {fourth.address}"] if number % 3 == 0 else []),
            "",
        ]
    )


def test_a_reload_each_second_under_load(tmp_path: Path, servers: tuple[Server, ...]) -> None:
    port, other = free_port(), free_port()
    with Balancer(tmp_path, version(0, port, other, servers)) as balancer, ExitStack() as cleanup:
        tunnels = [cleanup.enter_context(opened(port)) for _ in range(5)]
        kept = cleanup.enter_context(Load(port, clients=30, pause=0.1))
        fresh = cleanup.enter_context(Load(port, clients=25, pause=0.1, keep_alive=False))
        begun, number, warm = time.monotonic(), 0, 0
        while time.monotonic() < begun + LASTING:
            number += 1
            # Not `write_text`: the file is never seen half written, as with an editor that does it well.
            (tmp_path / "new.ini").write_text(version(number, port, other, servers))
            os.replace(tmp_path / "new.ini", balancer.config_path)
            balancer.signal(signal.SIGHUP)
            balancer.wait_for_log(r"lb\.ini reloaded by SIGHUP \(", times=number)
            assert get(port).status == 200
            if number % 2:
                assert get(other).status == 200
            if number == max(3, LASTING // 3):
                warm = balancer.rss()
            eventually(lambda: time.monotonic() >= begun + number, 5, "the next second")  # noqa: B023 - at once
        grown = balancer.rss() - warm
        took = time.monotonic() - begun
        for tunnel in tunnels:
            check_tunnel(tunnel)
        cleanup.close()
        kept.check()
        fresh.check()
        assert "not reloaded" not in balancer.log()
    print(
        f"{number} reloads in {took:.0f} s, {(kept.responses + fresh.responses) / took:.0f} requests/s"
        f" ({kept.responses} on kept connections, {fresh.responses} on their own): 0 failed,"
        f" memory {warm >> 20} MiB, {grown / (1 << 20):+.1f} MiB"
    )
    assert grown < GROWTH


def opened(port: int) -> Connection:
    """A tunnel, as of a WebSocket."""
    client = Connection(port)
    client.send(HANDSHAKE)
    assert client.read_head().status == 101
    check_tunnel(client)
    return client


def check_tunnel(client: Connection) -> None:
    """Does it still carry something there and back?"""
    client.send(HELLO)
    assert client.read_exactly(len(ECHO)) == ECHO


def test_servers_come_and_go_and_nobody_notices(tmp_path: Path, servers: tuple[Server, ...]) -> None:
    port = free_port()
    config = version(1, port, free_port(), servers)
    with Balancer(tmp_path, config) as balancer, ExitStack() as cleanup:
        tunnels = [cleanup.enter_context(opened(port)) for _ in range(TUNNELS)]
        load = cleanup.enter_context(Load(port, clients=50, pause=0.1))
        warm = 0
        for number in range(ROUNDS):
            path = f"app/t{number}"
            ask(tmp_path, f'lb.add("app", "t{number}", "{servers[3].address}", weight=4)\n')
            if not number % 5:
                seen = load.served_by["s4"]
                eventually(lambda: load.served_by["s4"] > seen, 5, "traffic for the new server")  # noqa: B023
            if not number % 100:  # it gets a tunnel of its own, which outlives it
                tunnels += [cleanup.enter_context(opened(port)) for _ in range(5)]
            ask(tmp_path, f'lb.drain("{path}")\n')
            ask(tmp_path, f'lb.remove("{path}")\n')
            if number == ROUNDS // 3:
                warm = balancer.rss()
        grown = balancer.rss() - warm
        for tunnel in tunnels:
            check_tunnel(tunnel)
        cleanup.close()
        load.check()
    print(
        f"{ROUNDS} servers added, drained and removed, {load.responses} requests, {len(tunnels)} tunnels: 0 errors,"
        f" 0 dropped; memory {grown / (1 << 20):+.1f} MiB"
    )
    assert grown < GROWTH


def test_a_mistake_changes_nothing_and_is_told_with_its_line(tmp_path: Path, servers: tuple[Server, ...]) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers[:1])) as balancer, socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with Connection(port) as client:
            for config, said in (
                (lb_ini(port, servers, backend="balance = leestconn"), r"lb\.ini:10: \[backend app\] balance = leest"),
                (
                    lb_ini(port, servers, frontend="methods = POST").replace(f":{port}", f":{port}, *:{taken}"),
                    rf"lb\.ini:3: \[frontend web\] cannot listen on 0\.0\.0\.0:{taken}: .*in use; nothing was changed",
                ),
            ):
                balancer.config_path.write_text(config)
                balancer.signal(signal.SIGHUP)
                balancer.wait_for_log(rf"lb\.ini is not reloaded for SIGHUP, nothing was changed: {said}")
                client.send_request("GET", "/")
                assert client.read_response().body == b"s1\n"


def test_a_listener_grows_and_shrinks_without_a_refusal(tmp_path: Path, servers: tuple[Server, ...]) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers)) as balancer:
        with Load(port, clients=20, pause=0.0, keep_alive=False) as load:
            for number, host in enumerate(["*", "127.0.0.1", "[::]", "*", "[::]", "127.0.0.1"] * 2, 1):
                seen = load.responses
                balancer.config_path.write_text(lb_ini(port, servers).replace("127.0.0.1:", f"{host}:", 1))
                balancer.signal(signal.SIGHUP)
                balancer.wait_for_log(r"lb\.ini reloaded by SIGHUP \(", times=number)
                eventually(lambda: load.responses > seen + 100, 10, "traffic")  # noqa: B023 - called at once
        load.check()
        with socket.socket() as again:  # and nobody else may listen there
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                again.bind(("127.0.0.1", port))

"""Long bodies: a slow reader costs no memory, and every byte arrives."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.support.client import Connection
from tests.support.pattern import new_digest, pattern, pattern_digest
from tests.support.processes import Balancer, Server, eventually, free_port, lb_ini

pytestmark = pytest.mark.system

MIB = 1024 * 1024
GIGABYTE = 1_000_000_000
UPLOAD = 200_000_000
ROOM = 16 * MIB
"""By how much the balancer's memory may grow, whatever the size of a body."""


def receive(client: Connection, size: int) -> str:
    """The digest of the next bytes."""
    digest, left = new_digest(), size
    while left:
        data = client.receive()
        assert data, f"ended {left} bytes early"
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()


class Frugal:
    """Within the context the balancer's memory may not grow by more than `ROOM`."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer

    def __enter__(self) -> None:
        self.balancer.reset_peak()
        self.before = self.balancer.rss()

    def __exit__(self, *_: object) -> None:
        grown = self.balancer.peak_rss() - self.before
        assert grown < ROOM, f"memory grew by {grown / MIB:.1f} MiB"


def sleep_while_idle(balancer: Balancer, seconds: float) -> None:
    """The reader reads nothing; once all buffers are full the balancer has nothing to do."""
    eventually(lambda: busy(balancer) < 0.1, 5, "the balancer waits for its slow reader")
    time.sleep(seconds)  # this is the test: nothing happens, for that long
    assert busy(balancer) < 0.1


def busy(balancer: Balancer) -> float:
    """The part of a fifth of a second that it is busy."""
    before = balancer.cpu_ns()
    time.sleep(0.2)
    return (balancer.cpu_ns() - before) / 0.2e9


@pytest.mark.parametrize("framing", ["", "&chunked=1"])
def test_a_gigabyte_over_http_with_a_reader_that_sleeps_first(
    tmp_path: Path, servers: tuple[Server, ...], paths: str, framing: str
) -> None:
    size = UPLOAD if framing else GIGABYTE
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers[:1], top=paths)) as balancer:
        with Frugal(balancer), Connection(port, receive_buffer=256 * 1024) as client:
            client.send_request("GET", f"/?bytes={size}{framing}")
            head = client.read_head()
            assert head.status == 200
            sleep_while_idle(balancer, 1)
            if framing:
                assert head["Transfer-Encoding"] == "chunked"
                assert receive_chunked(client) == pattern_digest(size)
            else:
                assert head["Content-Length"] == str(size)
                assert receive(client, size) == pattern_digest(size)
            assert client.request("GET", "/").body == b"s1\n"  # the connection is still good
        (line, _) = balancer.wait_for_access(2)
    assert " 200 " in line


def receive_chunked(client: Connection) -> str:
    digest = new_digest()
    while size := int(client.read_until(b"\r\n"), 16):
        digest.update(client.read_exactly(size))
        assert client.read_exactly(2) == b"\r\n"
    assert client.read_exactly(2) == b"\r\n"
    return digest.hexdigest()


def test_a_gigabyte_through_tcp_mode_with_a_reader_that_sleeps_first(tmp_path: Path, paths: str) -> None:
    port = free_port()
    with (
        Server("s1", "tcp") as server,
        Balancer(tmp_path, lb_ini(port, [server], top=paths, frontend="mode = tcp")) as balancer,
        Frugal(balancer),
        Connection(port, receive_buffer=256 * 1024) as client,
    ):
        client.send(b"send %d\n" % GIGABYTE)
        sleep_while_idle(balancer, 1)
        assert receive(client, GIGABYTE) == pattern_digest(GIGABYTE)
        assert client.receive() == b""


def test_an_upload_of_200_megabytes(tmp_path: Path, servers: tuple[Server, ...], paths: str) -> None:
    port = free_port()
    with (
        Balancer(tmp_path, lb_ini(port, servers[:1], top=paths)) as balancer,
        Frugal(balancer),
        Connection(port) as client,
    ):
        client.send(f"PUT /file HTTP/1.1\r\nHost: test\r\nContent-Length: {UPLOAD}\r\n\r\n".encode())
        for block in pattern(UPLOAD):
            client.send(block)
        response = client.read_response("PUT")
    assert response.status == 200
    assert response.body.decode() == f"{UPLOAD} {pattern_digest(UPLOAD)}\n"


def test_a_chunked_upload_of_200_megabytes(tmp_path: Path, servers: tuple[Server, ...], paths: str) -> None:
    port = free_port()
    with (
        Balancer(tmp_path, lb_ini(port, servers[:1], top=paths)) as balancer,
        Frugal(balancer),
        Connection(port) as client,
    ):
        client.send(b"PUT /file HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        for block in pattern(UPLOAD):
            client.send(b"%x\r\n%b\r\n" % (len(block), block))
        client.send(b"0\r\n\r\n")
        response = client.read_response("PUT")
    assert response.body.decode() == f"{UPLOAD} {pattern_digest(UPLOAD)}\n"


def test_an_upload_to_a_server_that_hangs_costs_no_memory(
    tmp_path: Path, servers: tuple[Server, ...], paths: str
) -> None:
    port = free_port()
    with (
        Balancer(tmp_path, lb_ini(port, servers[:1], top=paths, backend="check = none")) as balancer,
        Connection(port) as client,
    ):
        servers[0].signal(signal.SIGSTOP)
        with Frugal(balancer):
            client.send(f"PUT /file HTTP/1.1\r\nHost: test\r\nContent-Length: {UPLOAD}\r\n\r\n".encode())
            client.socket.settimeout(1)
            with pytest.raises(TimeoutError):
                client.socket.sendall(bytes(UPLOAD))
            assert busy(balancer) < 0.1
        servers[0].signal(signal.SIGCONT)
        client.socket.close()


def test_an_upload_through_tcp_mode(tmp_path: Path, paths: str) -> None:
    port = free_port()
    with (
        Server("s1", "tcp") as server,
        Balancer(tmp_path, lb_ini(port, [server], top=paths, frontend="mode = tcp")) as balancer,
        Frugal(balancer),
        Connection(port) as client,
    ):
        client.send(b"digest\n")
        for block in pattern(UPLOAD):
            client.send(block)
        client.finish_sending()
        assert client.read_to_end().decode() == f"{UPLOAD} {pattern_digest(UPLOAD)}\n"

"""Long bodies and tunnels that the kernel moves: exact bytes, exact counts, and every file closed afterwards."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from lbservice.proxy.pace import WATCH
from tests.support.accessline import HTTP_LINE, TCP_LINE, parse
from tests.support.client import Connection
from tests.support.pattern import new_digest, pattern, pattern_digest
from tests.support.played import PlayedServer
from tests.support.processes import Balancer, Server, eventually, free_port, lb_ini

pytestmark = pytest.mark.system

SIZE = 20_000_003
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
TIMES = 200
"""Transfers that are broken off."""


def files(balancer: Balancer) -> list[str]:
    """What the open files of the balancer are."""
    kinds = []
    for path in Path(f"/proc/{balancer.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            kinds.append(str(path.readlink()).partition(":")[0])
    return sorted(kinds)


def pipes(balancer: Balancer) -> int:
    return files(balancer).count("pipe")


def digest_of(client: Connection, size: int) -> str:
    """Of the next bytes."""
    digest = new_digest()
    while size:
        data = client.receive()
        assert data, f"ended {size} bytes early"
        assert len(data) <= size, "more than that"
        digest.update(data)
        size -= len(data)
    return digest.hexdigest()


def read_to_end(client: socket.socket) -> None:
    while client.recv(1 << 20):
        pass


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@contextmanager
def meanwhile(action: Callable[..., None], *arguments: Any) -> Any:
    """Do it in a thread of its own while the context lasts."""
    thread = Thread(target=action, args=arguments, daemon=True)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive()


def test_downloads_on_one_connection(tmp_path: Path, servers: tuple[Server, ...], paths: str) -> None:
    port = free_port()
    received = []
    with Balancer(tmp_path, lb_ini(port, servers[:1], top=paths)) as balancer, Connection(port) as client:
        for size in (SIZE, 1, 300_000, SIZE):
            client.send_request("GET", f"/?bytes={size}")
            head = client.read_until(b"\r\n\r\n")
            assert digest_of(client, size) == pattern_digest(size)
            received.append(len(head) + size)
        lines = balancer.wait_for_access(4)
    assert [int(parse(line)["bytes"]) for line in lines] == received
    assert {parse(line)["state"] for line in lines} == {"--"}


def test_an_upload_and_a_request_right_behind_it(tmp_path: Path, servers: tuple[Server, ...], paths: str) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers[:1], top=paths)) as balancer, Connection(port) as client:
        for _ in range(3):
            client.send(f"POST /file HTTP/1.1\r\nHost: test\r\nContent-Length: {SIZE}\r\n\r\n".encode())
            for block in pattern(SIZE):
                client.send(block)
            client.send_request("GET", "/")
            assert client.read_response("POST").body.decode() == f"{SIZE} {pattern_digest(SIZE)}\n"
            assert client.read_response().body == b"s1\n"
        assert len(balancer.wait_for_access(6)) == 6


def test_both_directions_of_tcp_mode_at_once(tmp_path: Path, paths: str) -> None:
    port = free_port()
    with (
        Server("s1", "tcp") as server,
        Balancer(tmp_path, lb_ini(port, [server], top=paths, frontend="mode = tcp")) as balancer,
        Connection(port) as client,
    ):
        client.send(b"echo\n")

        def send() -> None:
            for block in pattern(SIZE):
                client.send(block)
            client.finish_sending()

        with meanwhile(send):
            assert digest_of(client, SIZE) == pattern_digest(SIZE)
        assert client.receive() == b""
        (line,) = balancer.wait_for_access(1)
    fields = parse(line, TCP_LINE)
    assert (fields["bytes"], fields["state"]) == (str(SIZE), "--")


def test_after_much_there_may_be_little(tmp_path: Path, paths: str) -> None:
    port = free_port()
    with (
        PlayedServer() as played,
        Balancer(tmp_path, lb_ini(port, [played.line], top=paths, frontend="mode = tcp", backend="check = none")),
        Connection(port) as client,
    ):
        server = played.accept()
        for _ in range(3):
            with meanwhile(server.send, bytes(5_000_000)):
                assert client.read_exactly(5_000_000) == bytes(5_000_000)
            for word in (b"ping", b"pong"):
                client.send(word)
                assert server.read_until(word) == word
                server.send(word)
                assert client.read_exactly(4) == word
        server.close()


def test_a_pipe_is_there_only_while_bytes_wait_in_it(tmp_path: Path, servers: tuple[Server, ...]) -> None:
    port = free_port()
    with Balancer(tmp_path, lb_ini(port, servers[:1])) as balancer:
        before = pipes(balancer)
        with Connection(port, receive_buffer=64 * 1024) as client:
            client.send_request("GET", "/?bytes=100000000")
            eventually(lambda: pipes(balancer) == before + 2, 5, "a pipe whose bytes are not taken")
        eventually(lambda: pipes(balancer) == before, 5, "no pipe")


def test_urgent_data_neither_ends_a_stream_nor_lets_it_spin(tmp_path: Path) -> None:
    """Splicing stops before an urgent byte and says that nothing is there; to epoll there is."""
    port = free_port()
    with (
        PlayedServer() as played,
        Balancer(tmp_path, lb_ini(port, [played.line], frontend="mode = tcp", backend="check = none")) as balancer,
        Connection(port) as client,
    ):
        server = played.accept()
        got = bytearray()

        def receive() -> None:
            while data := server.socket.recv(1 << 20):
                got.extend(data)

        with meanwhile(receive):
            for _ in range(10):
                client.send(bytes(2_000_000))
                client.socket.send(b"!", socket.MSG_OOB)
            eventually(lambda: len(got) >= 20_000_000, 10, "everything, with or without the urgent bytes")
            used = balancer.cpu_ns()
            time.sleep(0.5)  # this is the test: it is idle
            assert balancer.cpu_ns() - used < 0.1e9
            client.finish_sending()
            server.socket.shutdown(socket.SHUT_WR)
            assert client.receive() == b""


def break_off(port: int, played: PlayedServer, number: int) -> None:
    """One download that the client breaks off somewhere in the middle; the server must hear of it."""
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    server = played.accept()
    server.read_until(b"\r\n\r\n")
    with meanwhile(send_until_it_breaks, server.socket):
        left = 10_000 * number
        while left > 0:
            left -= len(client.recv(left))
        reset(client)
    server.socket.close()


def send_until_it_breaks(server: socket.socket) -> None:
    with suppress(ConnectionError):
        server.sendall(HEAD)
        while True:
            server.sendall(bytes(100_000))


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_many_transfers_that_break_off_leave_no_file_open(tmp_path: Path, mode: str) -> None:
    port = free_port()
    with PlayedServer() as played:
        config = lb_ini(port, [played.line], frontend=f"mode = {mode}", backend="check = none")
        with Balancer(tmp_path, config) as balancer:
            before = files(balancer)
            for number in range(TIMES):
                break_off(port, played, number)
            lines = balancer.wait_for_access(TIMES)
            eventually(lambda: files(balancer) == before, 5, "the same open files")
    assert len(lines) == TIMES


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_a_server_that_breaks_off_is_never_taken_for_one_that_ends(tmp_path: Path, mode: str, paths: str) -> None:
    port = free_port()
    with PlayedServer() as played:
        config = lb_ini(port, [played.line], top=paths, frontend=f"mode = {mode}", backend="check = none")
        with Balancer(tmp_path, config) as balancer:
            for number in range(20):
                client = socket.create_connection(("127.0.0.1", port), 10)
                client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                server = played.accept()
                server.read_until(b"\r\n\r\n")
                server.send(HEAD + bytes(1_000 + number * 20_000))
                assert client.recv(1) == b"H"
                reset(server.socket)
                with pytest.raises(ConnectionResetError):
                    read_to_end(client)
                client.close()
            lines = balancer.wait_for_access(20)
    assert {parse(line, HTTP_LINE if mode == "http" else TCP_LINE)["state"][0] for line in lines} == {"S"}


@pytest.mark.parametrize("size", [350_000, 420_000, 500_000])
def test_an_end_that_is_over_but_not_read_is_no_reset(tmp_path: Path, size: int, paths: str) -> None:
    """The client has closed its half; the server sends its last bytes and closes, and nobody reads for a while."""
    port = free_port()
    with PlayedServer() as played:
        config = lb_ini(port, [played.line], top=paths, frontend="mode = tcp", backend="check = none")
        with Balancer(tmp_path, config) as balancer, socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(10)
            client.connect(("127.0.0.1", port))
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            server = played.accept()
            assert server.read_until(b"hello") == b"hello"
            assert server.socket.recv(1) == b""

            def say_and_close() -> None:
                server.send(bytes(size))
                server.close()

            with meanwhile(say_and_close):
                time.sleep(3 * WATCH)  # so often it is looked whether the server is still there
                got = 0
                while data := client.recv(1 << 16):
                    got += len(data)
            (line,) = balancer.wait_for_access(1)
    assert (got, parse(line, TCP_LINE)["state"]) == (size, "--")

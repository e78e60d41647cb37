"""Clients that go away in the middle: the server's side ends within a second, and nothing stays behind.

They leave in three ways: with a close, with a reset, and by SIGKILL, which to the kernel is a close.
A close sends a FIN when everything has been read, else a reset.

Two things nobody can know, and no test asks for them. A FIN stands behind the bytes that were sent
before it: while a server does not read, and so nobody reads the client, it is not even in our
kernel. And where half of a connection may be closed on purpose (tunnels, tcp mode, requests with
`Connection: close`) a FIN alone does not say that the client is gone.
"""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import pytest
import trustme

from tests.support.accessline import HTTP_LINE, TCP_LINE, parse
from tests.support.client import Connection
from tests.support.played import PlayedConnection, PlayedServer
from tests.support.processes import Balancer, eventually, free_port, lb_ini
from tests.support.shell import AT_REST, MANHOLE, ask, counters

pytestmark = pytest.mark.system

AT_ONCE = 1.5
"""Seconds: one, and room for a busy machine."""
BLOCK = 64 * 1024
STREAM = 1_000_000_000
"""Bytes of a body that never comes to its end."""
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantWriteError)

Leave = Callable[[Connection], None]


def close(client: Connection) -> None:
    client.socket.close()


def reset(client: Connection) -> None:
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


def kill(client: Connection) -> None:
    """Give the socket to a process of its own, and kill that."""
    with subprocess.Popen(["sleep", "60"], pass_fds=[client.socket.fileno()]) as holder:
        client.socket.close()
        holder.kill()


close_or_reset = pytest.mark.parametrize("leave", [close, reset])
any_way = pytest.mark.parametrize("leave", [close, reset, kill])
any_framing = pytest.mark.parametrize("framing", [f"Content-Length: {STREAM}", "Transfer-Encoding: chunked"])


class House:
    """A running balancer of one mode, without servers: each test brings its own."""

    def __init__(self, folder: Path, cleanup: ExitStack, *, mode: str = "http", tls: bool = False, paths: str) -> None:
        self.port = free_port()
        self.trust = certified(folder) if tls else None
        self.line = HTTP_LINE if mode == "http" else TCP_LINE
        self._numbers = count(1)
        config = lb_ini(
            self.port,
            [],
            top=f"{paths}grace = 1s\n{MANHOLE}",
            frontend=f"mode = {mode}",
            backend="check = none",
        )
        if tls:
            config = config.replace(f":{self.port}", f":{self.port} tls cert=site.pem")
        self.balancer = cleanup.enter_context(Balancer(folder, config))
        assert counters(folder) == AT_REST
        self.files = eventually(lambda: steady(self.open_files), 5, "the shell's end")

    @contextmanager
    def server(self, maxconn: int) -> Iterator[PlayedServer]:
        """A server of its own, while the context lasts."""
        name = f"s{next(self._numbers)}"
        with PlayedServer(name) as played:
            address = played.line.partition(" = ")[2]
            ask(self.balancer.folder, f'lb.add("app", "{name}", "{address}", maxconn={maxconn})')
            yield played
            ask(self.balancer.folder, f'lb.remove("app/{name}", now=True)')

    def open_files(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.balancer.pid}/fd").iterdir())


class Stage:
    """A balancer before one played server, and clients. `check` asserts that nothing is left when all is over."""

    def __init__(self, house: House, cleanup: ExitStack, *, maxconn: int = 0) -> None:
        self.port = house.port
        self.balancer = house.balancer
        self._house = house
        self._cleanup = cleanup
        self.server = cleanup.enter_context(house.server(maxconn))
        eventually(lambda: counters(self.balancer.folder) == AT_REST, 5, "rest")
        self._before = len(self.balancer.access_lines())

    def client(self, *, receive_buffer: int = 0) -> Connection:
        return self._cleanup.enter_context(Connection(self.port, tls=self._house.trust, receive_buffer=receive_buffer))

    def asks(self, text: str, **how: int) -> tuple[Connection, PlayedConnection]:
        """A client that sends this head, and its connection at the server, where the head has arrived."""
        client = self.client(**how)
        client.send(head(text))
        server = self.server.accept()
        server.read_until(b"\r\n\r\n")
        return client, server

    def counts(self, what: str, number: int) -> None:
        """Wait, but not for longer than `AT_ONCE`, until a counter says so."""
        eventually(
            lambda: getattr(counters(self.balancer.folder), what) == number,
            AT_ONCE,
            f"{what} == {number}",
        )

    def check(self, *states: str) -> None:
        """Those and no other lines are in the log, every counter is 0, and every file is closed."""
        lines = self.balancer.wait_for_access(self._before + len(states), AT_ONCE)[self._before :]
        assert [parse(line, self._house.line)["state"] for line in lines] == list(states)
        eventually(lambda: counters(self.balancer.folder) == AT_REST, AT_ONCE, "leases and counters at 0")
        house = self._house
        eventually(lambda: house.open_files() == house.files, AT_ONCE, "as many open files as at the beginning")

    def unread(self, client: Connection) -> int:
        """Bytes of this client that our kernel holds, since the balancer does not read them."""
        here, there = (f"0100007F:{port:04X}" for port in (self.port, client.socket.getsockname()[1]))
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            if (local, remote) == (here, there):
                return int(queues.partition(":")[2], 16)
        return 0

    def sends_until_held(self, client: Connection) -> None:
        """Send until nobody takes anything."""
        fill(client)
        assert self.unread(client), "the balancer still reads"

    def sends_until_held_and_all_arrives(self, client: Connection) -> None:
        """Send until the balancer reads no more, but no more than its kernel has room for."""
        while not steady(lambda: self.unread(client)):
            client.send(bytes(BLOCK))
        eventually(lambda: ask_kernel(client, termios.TIOCOUTQ) == 0, 5, "the arrival of every byte")


def certified(folder: Path) -> ssl.SSLContext:
    """What a client needs to trust the `site.pem` that is made there."""
    authority, trust = trustme.CA(), ssl.create_default_context()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "site.pem")
    (folder / "site.pem").chmod(0o600)
    authority.configure_trust(trust)
    return trust


def head(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode() + b"\r\n\r\n"


def fill(client: Connection) -> None:
    """Send until nothing is taken for a while."""
    client.socket.setblocking(False)
    since = time.monotonic()
    while time.monotonic() < since + 0.2:
        try:
            client.socket.send(bytes(BLOCK))
            since = time.monotonic()
        except WOULD_BLOCK:
            time.sleep(0.01)


def steady(question: Callable[[], int]) -> int:
    """The answer, if it stays the same for a while; else, or when that is 0, 0."""
    first, until = question(), time.monotonic() + 0.2
    while first and time.monotonic() < until:
        time.sleep(0.01)
        if question() != first:
            return 0
    return first


def ask_kernel(client: Connection, request: int) -> int:
    """Bytes in one of the client's own queues."""
    return int(struct.unpack("i", fcntl.ioctl(client.socket, request, b"\0\0\0\0"))[0])


def stops_reading(client: Connection) -> None:
    """The client has not read for so long that whatever can wait for it waits."""
    eventually(lambda: steady(lambda: ask_kernel(client, termios.FIONREAD)), 10, "full buffers")


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory, paths: str) -> Iterator[Callable[..., House]]:
    """The running balancers, one for each mode."""
    with ExitStack() as stack:

        @cache
        def house(mode: str = "http", tls: bool = False) -> House:
            return House(tmp_path_factory.mktemp("aborts"), stack, mode=mode, tls=tls, paths=paths)

        yield house


@pytest.fixture
def stage(houses: Callable[..., House], cleanup: ExitStack) -> Stage:
    return Stage(houses(), cleanup)


@pytest.fixture
def one_at_a_time(houses: Callable[..., House], cleanup: ExitStack) -> Stage:
    return Stage(houses(), cleanup, maxconn=1)


@pytest.fixture
def secure(houses: Callable[..., House], cleanup: ExitStack) -> Stage:
    return Stage(houses(tls=True), cleanup)


@pytest.fixture
def tcp(houses: Callable[..., House], cleanup: ExitStack) -> Stage:
    return Stage(houses(mode="tcp"), cleanup)


@pytest.fixture
def one_session(houses: Callable[..., House], cleanup: ExitStack) -> Stage:
    return Stage(houses(mode="tcp"), cleanup, maxconn=1)


class TestUploads:
    def upload(self, stage: Stage, framing: str) -> tuple[Connection, PlayedConnection]:
        client, server = stage.asks(f"PUT /file HTTP/1.1\nHost: test\n{framing}")
        if "chunked" in framing:
            client.send(b"%x\r\n" % STREAM)
        return client, server

    @any_way
    @any_framing
    def test_to_a_server_that_reads(self, stage: Stage, framing: str, leave: Leave) -> None:
        client, server = self.upload(stage, framing)
        server.keep_reading()
        client.send(bytes(10 * BLOCK))
        leave(client)
        assert server.ends(AT_ONCE)
        stage.check("CD")

    @any_framing
    def test_to_a_server_that_reads_slowly(self, stage: Stage, framing: str) -> None:
        client, server = self.upload(stage, framing)
        server.keep_reading(size=4096, pause=0.02)
        fill(client)
        reset(client)
        assert server.ends(AT_ONCE)
        stage.check("CD")

    @any_framing
    def test_to_a_server_that_does_not_read(self, stage: Stage, framing: str) -> None:
        client, server = self.upload(stage, framing)
        stage.sends_until_held(client)
        reset(client)
        assert server.ends(AT_ONCE)
        stage.check("CD")

    @pytest.mark.parametrize("leave", [close, kill])
    def test_whose_end_has_come_though_nobody_reads(self, stage: Stage, leave: Leave) -> None:
        """The FIN is in our kernel, and so are fewer bytes than were announced."""
        client, server = self.upload(stage, f"Content-Length: {STREAM}")
        stage.sends_until_held_and_all_arrives(client)
        leave(client)
        assert server.ends(AT_ONCE)
        stage.check("CD")

    @any_framing
    def test_whose_end_stands_behind_bytes_that_nobody_reads(self, stage: Stage, framing: str) -> None:
        """It cannot be known, but it is as soon as the server reads on."""
        client, server = self.upload(stage, framing)
        stage.sends_until_held(client)
        close(client)
        server.keep_reading()
        assert server.ends(AT_ONCE)
        stage.check("CD")

    def test_that_waits_for_100_continue(self, stage: Stage) -> None:
        client, server = stage.asks("PUT /file HTTP/1.1\nHost: test\nExpect: 100-continue\nContent-Length: 10")
        close(client)
        assert server.ends(AT_ONCE)
        stage.check("CD")

    @close_or_reset
    def test_after_the_last_byte(self, stage: Stage, leave: Leave) -> None:
        client, server = stage.asks("POST /order HTTP/1.1\nHost: test\nContent-Length: 5")
        client.send(b"order")
        server.read_until(b"order")
        leave(client)
        assert server.ends(AT_ONCE)
        stage.check("CH")


class TestRequests:
    @close_or_reset
    def test_half_a_head_reaches_no_server(self, stage: Stage, leave: Leave) -> None:
        client = stage.client()
        client.send(b"GET / HTTP/1.1\r\nHost: te")
        leave(client)
        stage.check("CR")
        assert not stage.server.anybody()

    @any_way
    def test_that_wait_for_their_answer(self, stage: Stage, leave: Leave) -> None:
        client, server = stage.asks("GET / HTTP/1.1\nHost: test")
        leave(client)
        assert server.ends(AT_ONCE)
        stage.check("CH")

    def test_that_are_the_last_of_their_connection(self, stage: Stage) -> None:
        client, server = stage.asks("GET / HTTP/1.1\nHost: test\nConnection: close")
        reset(client)
        assert server.ends(AT_ONCE)
        stage.check("CH")

    def test_with_so_much_behind_them_that_the_client_is_held(self, stage: Stage) -> None:
        client, server = stage.asks("GET / HTTP/1.1\nHost: test")
        stage.sends_until_held(client)
        reset(client)
        assert server.ends(AT_ONCE)
        stage.check("CH")

    @close_or_reset
    def test_in_the_queue(self, one_at_a_time: Stage, leave: Leave) -> None:
        stage = one_at_a_time
        first, server = stage.asks("GET /first HTTP/1.1\nHost: test")
        second, third = stage.client(), stage.client()
        for number, client in enumerate((second, third), start=1):
            client.send(head(f"GET /{number} HTTP/1.1\nHost: test"))
            stage.counts("waiting", number)
        leave(second)
        stage.counts("waiting", 1)
        server.send(head("HTTP/1.1 200 OK\nContent-Length: 0"))
        assert first.read_response().status == 200
        assert server.read_until(b"\r\n\r\n").startswith(b"GET /2 "), "the next in the queue is the third client"
        server.send(head("HTTP/1.1 200 OK\nContent-Length: 0\nConnection: close"))
        assert third.read_response().status == 200
        close(first)
        close(third)
        assert not stage.server.anybody()
        stage.check("CQ", "--", "--")

    def test_in_the_queue_with_a_body_that_is_held(self, one_at_a_time: Stage) -> None:
        stage = one_at_a_time
        first, server = stage.asks("GET / HTTP/1.1\nHost: test")
        second = stage.client()
        second.send(head(f"POST / HTTP/1.1\nHost: test\nContent-Length: {STREAM}"))
        stage.counts("waiting", 1)
        stage.sends_until_held(second)
        reset(second)
        stage.counts("waiting", 0)
        reset(first)
        assert server.ends(AT_ONCE)
        stage.check("CQ", "CH")

    @close_or_reset
    def test_while_a_server_is_being_connected_to(self, stage: Stage, leave: Leave) -> None:
        stage.server.black_hole()
        client = stage.client()
        client.send(head("GET / HTTP/1.1\nHost: test"))
        stage.counts("in_flight", 1)
        leave(client)
        stage.check("CC")

    def test_while_a_server_is_being_connected_to_with_a_body_that_is_held(self, stage: Stage) -> None:
        stage.server.black_hole()
        client = stage.client()
        client.send(head(f"POST / HTTP/1.1\nHost: test\nContent-Length: {STREAM}"))
        stage.counts("in_flight", 1)
        stage.sends_until_held(client)
        reset(client)
        stage.check("CC")


class TestDownloads:
    def download(
        self, stage: Stage, framing: str = f"Content-Length: {STREAM}", **how: int
    ) -> tuple[Connection, PlayedConnection]:
        client, server = stage.asks("GET /file HTTP/1.1\nHost: test", **how)
        server.send(head(f"HTTP/1.1 200 OK\n{framing}") + (b"%x\r\n" % STREAM if "chunked" in framing else b""))
        assert client.read_head().status == 200
        return client, server

    @any_way
    @any_framing
    def test_that_come_fast(self, stage: Stage, framing: str, leave: Leave) -> None:
        client, server = self.download(stage, framing)
        server.keep_sending(bytes(BLOCK))
        client.read_exactly(20 * BLOCK)
        leave(client)
        assert server.ends(AT_ONCE)
        stage.check("CD")

    @close_or_reset
    def test_that_come_slowly(self, stage: Stage, leave: Leave) -> None:
        client, server = self.download(stage)
        server.keep_sending(bytes(1000), pause=0.05)
        client.read_exactly(3000)
        leave(client)
        assert server.ends(AT_ONCE)
        stage.check("CD")

    @close_or_reset
    def test_that_have_come_to_a_standstill(self, stage: Stage, leave: Leave) -> None:
        client, server = self.download(stage)
        server.send(bytes(1000))
        client.read_exactly(1000)
        leave(client)
        assert server.ends(AT_ONCE)
        stage.check("CD")

    @close_or_reset
    def test_that_the_client_had_stopped_to_read(self, stage: Stage, leave: Leave) -> None:
        client, server = self.download(stage, receive_buffer=BLOCK)
        server.keep_sending(bytes(BLOCK))
        stops_reading(client)
        leave(client)
        assert server.ends(AT_ONCE)
        stage.check("CD")


class Streams:
    """What holds for every stream in both directions. `opened` gives its two ends."""

    def opened(self, stage: Stage, **how: int) -> tuple[Connection, PlayedConnection]:
        raise NotImplementedError

    @pytest.mark.parametrize("leave", [close, kill])
    def test_that_are_closed_are_closed_at_the_server_too(self, stage: Stage, leave: Leave) -> None:
        client, server = self.opened(stage)
        leave(client)
        assert server.ends(AT_ONCE)
        assert server.socket.recv(1) == b"", "an end of stream, no reset"
        server.close()
        stage.check("--")

    def test_that_are_reset_are_reset_at_the_server_too(self, stage: Stage) -> None:
        client, server = self.opened(stage)
        reset(client)
        assert server.ends(AT_ONCE)
        with pytest.raises(ConnectionResetError):
            server.socket.recv(1)
        stage.check("CD")

    @close_or_reset
    def test_that_the_server_fills(self, stage: Stage, leave: Leave) -> None:
        client, server = self.opened(stage)
        server.keep_sending(bytes(BLOCK))
        client.read_exactly(20 * BLOCK)
        leave(client)
        assert server.ends(AT_ONCE)
        stage.check("CD")

    @close_or_reset
    def test_that_the_client_had_stopped_to_read(self, stage: Stage, leave: Leave) -> None:
        client, server = self.opened(stage, receive_buffer=BLOCK)
        server.keep_sending(bytes(BLOCK))
        stops_reading(client)
        leave(client)
        assert server.ends(AT_ONCE)
        stage.check("CD")

    def test_that_the_server_does_not_read(self, stage: Stage) -> None:
        client, server = self.opened(stage)
        stage.sends_until_held(client)
        reset(client)
        assert server.ends(AT_ONCE)
        stage.check("CD")


class TestWebSockets(Streams):
    def opened(self, stage: Stage, **how: int) -> tuple[Connection, PlayedConnection]:
        client, server = stage.asks(
            "GET /chat HTTP/1.1\nHost: test\nConnection: Upgrade\nUpgrade: websocket\n"
            "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            **how,
        )
        server.send(head("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket"))
        assert client.read_head().status == 101
        return client, server


class TestTcpMode(Streams):
    @pytest.fixture
    def stage(self, tcp: Stage) -> Stage:
        return tcp

    def opened(self, stage: Stage, **how: int) -> tuple[Connection, PlayedConnection]:
        client = stage.client(**how)
        server = stage.server.accept()
        client.send(b"hello")
        server.read_until(b"hello")
        server.send(b"hello")
        client.read_exactly(5)
        return client, server

    @close_or_reset
    def test_while_a_server_is_being_connected_to(self, tcp: Stage, leave: Leave) -> None:
        tcp.server.black_hole()
        client = tcp.client()
        tcp.counts("in_flight", 1)
        leave(client)
        tcp.check("CC")

    def test_while_a_server_is_being_connected_to_with_bytes_that_are_held(self, tcp: Stage) -> None:
        tcp.server.black_hole()
        client = tcp.client()
        tcp.counts("in_flight", 1)
        tcp.sends_until_held(client)
        reset(client)
        tcp.check("CC")

    @close_or_reset
    def test_in_the_queue(self, one_session: Stage, leave: Leave) -> None:
        stage = one_session
        first, server = self.opened(stage)
        second = stage.client()
        stage.counts("waiting", 1)
        leave(second)
        stage.counts("waiting", 0)
        reset(first)
        assert server.ends(AT_ONCE)
        assert not stage.server.anybody()
        stage.check("CQ", "CD")


class TestTls:
    """Below TLS it is the same; a client that is gone says no goodbye (close_notify) first."""

    @close_or_reset
    def test_requests_that_wait_for_their_answer(self, secure: Stage, leave: Leave) -> None:
        client, server = secure.asks("GET / HTTP/1.1\nHost: test")
        leave(client)
        assert server.ends(AT_ONCE)
        secure.check("CH")

    def test_uploads_to_a_server_that_does_not_read(self, secure: Stage) -> None:
        client, server = secure.asks(f"PUT /file HTTP/1.1\nHost: test\nContent-Length: {STREAM}")
        secure.sends_until_held(client)
        reset(client)
        assert server.ends(AT_ONCE)
        secure.check("CD")

    @close_or_reset
    def test_downloads_that_the_client_had_stopped_to_read(self, secure: Stage, leave: Leave) -> None:
        client, server = secure.asks("GET /file HTTP/1.1\nHost: test", receive_buffer=BLOCK)
        server.send(head(f"HTTP/1.1 200 OK\nContent-Length: {STREAM}"))
        server.keep_sending(bytes(BLOCK))
        assert client.read_head().status == 200
        stops_reading(client)
        leave(client)
        assert server.ends(AT_ONCE)
        secure.check("CD")

    @close_or_reset
    def test_in_the_handshake(self, secure: Stage, leave: Leave) -> None:
        client = Connection(secure.port)
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
        secure.counts("connections", 1)
        leave(client)
        secure.check()

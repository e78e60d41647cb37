"""Slow and hungry clients: they cost little, they end, and nobody else notices them.

SLOW_SECONDS is how long each attack lasts; `make slow` has it, tests every kind of attack by itself, and
shows the figures. Without it attacks are short, and some kinds come together.
"""

from __future__ import annotations

import csv
import os
import re
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from tests.support.accessline import parse
from tests.support.client import Connection, ConnectionEnded, get
from tests.support.debian import need
from tests.support.load import Load
from tests.support.pattern import new_digest, pattern_digest
from tests.support.probe import Probe
from tests.support.processes import TWISTD, Balancer, Server, eventually, free_port, http_servers, lb_ini

pytestmark = pytest.mark.system

MIB = 1024 * 1024
BIG = 100_000_000
"""Bytes of a body that no buffer holds."""
ROOM = 30 * MIB
"""By how much the balancer's memory may grow for 100 such bodies."""
ATTACKERS = 500
LASTING = float(os.environ.get("SLOW_SECONDS", "4"))
"""Seconds of an attack."""
LONG = "SLOW_SECONDS" in os.environ
P99 = 0.1 if LONG else 0.4
"""Seconds within which nearly all others are served meanwhile; in the long form the machine should be quiet."""
REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
OTHERS = "[frontend others]\nlisten = 127.0.0.1:{port}\nbackend = others\n[backend others]\n{line}\n"


@pytest.fixture
def longest() -> int:
    """The usual bound does not know how long an attack is."""
    return int(60 + 2 * LASTING)


@contextmanager
def crowd(port: int, number: int, source: str = "") -> Iterator[list[Connection]]:
    """So many clients, who are connected and say nothing yet."""
    with ExitStack() as cleanup:
        yield [cleanup.enter_context(Connection(port, source=source)) for _ in range(number)]


def ended(clients: Sequence[Connection]) -> list[int]:
    """Which of them the balancer has closed, by their numbers."""
    return [number for number, client in enumerate(clients) if client.ended]


def busy(balancer: Balancer, seconds: float = 0.2) -> float:
    """The part of the next seconds that it is busy."""
    before, began = balancer.cpu_ns(), time.monotonic()
    time.sleep(seconds)  # this is the measurement
    return (balancer.cpu_ns() - before) / 1e9 / (time.monotonic() - began)


def served_within(port: int, source: str = "") -> float:
    """The seconds until a new client has its answer."""
    began = time.monotonic()
    with Connection(port, source=source) as client:
        assert client.request("GET", "/").status == 200
    return time.monotonic() - began


# -- the slow, who are waited for while the other tests run ------------------------------------


@dataclass
class Fate:
    """How it went for a client: the bytes it got, and after how many seconds it was over."""

    received: bytes
    seconds: float


@dataclass
class Laggards:
    """Slow clients of a balancer of their own, whose patience with a client is 2 seconds."""

    balancer: Balancer
    head: Future[Fate]
    body: Future[Fate]
    steady_body: Future[Fate]
    reader: Future[Fate]
    steady_reader: Future[Fate]


@pytest.fixture(scope="module", autouse=True)
def laggards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laggards]:
    """They begin with the first test and are asked for by the last: the slowest needs ten seconds."""
    port = free_port()
    config = "timeout client-head = 2s\ntimeout client = 2s"
    upload = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3600\r\n\r\n"
    with (
        http_servers("s1") as servers,
        Balancer(tmp_path_factory.mktemp("laggards"), lb_ini(port, servers, frontend=config)) as balancer,
        ThreadPoolExecutor(5) as threads,
    ):
        yield Laggards(
            balancer,
            head=threads.submit(bring, port, b"GET / HTTP/1.1\r\nX: ", b"a", 0.3),
            body=threads.submit(bring, port, upload, b"a", 0.1),
            steady_body=threads.submit(bring, port, upload, bytes(30), 0.1),
            reader=threads.submit(take, port, 5, 0.1),
            steady_reader=threads.submit(take, port, 4096, 0.1),
        )


def bring(port: int, first: bytes, more: bytes, every: float) -> Fate:
    """Send `more` every so many seconds, until there is an answer and a close."""
    with Connection(port) as client:
        began = time.monotonic()
        client.send(first)
        client.socket.settimeout(every)
        while time.monotonic() < began + 20:
            try:
                received = client.receive()
                return Fate(received, time.monotonic() - began)
            except TimeoutError:
                client.send(more)
    raise AssertionError("no answer within 20 s")


def take(port: int, size: int, every: float) -> Fate:
    """Ask for a long body, and take at most `size` bytes of it every so many seconds, for 8 seconds."""
    received = b""
    with Connection(port, receive_buffer=4096) as client:
        began = time.monotonic()
        client.send_request("GET", f"/?bytes={BIG}")
        while time.monotonic() < began + 8:
            try:
                received += client.socket.recv(size)
            except ConnectionError:
                break
            time.sleep(every)  # that slow it is
        return Fate(received, time.monotonic() - began)


# -- slowhttptest ------------------------------------------------------------------------------

KINDS = {
    "slow-heads": ["-H", "-i1", "-x24"],
    "slow-bodies": ["-B", "-i1", "-x24", "-s8192"],
    "slow-reading": ["-X", "-w512", "-y1024", "-n1", "-z32"],
}
APART = [[kind] for kind in KINDS]


@dataclass
class Second:
    """One second of an attack: the attackers' connections, and whether the program's own probe is answered."""

    closed: int
    connected: int
    available: bool


def attack(kinds: Sequence[str], port: int, folder: Path) -> list[list[Second]]:
    """`ATTACKERS` connections of each kind for `LASTING` seconds; what slowhttptest tells of each kind."""
    program = need("slowhttptest")
    with ThreadPoolExecutor(len(kinds)) as threads:
        return list(threads.map(lambda kind: _attack(program, kind, port, folder / kind), kinds))


def _attack(program: str, kind: str, port: int, report: Path) -> list[Second]:
    """One kind, begun anew whenever the balancer has got rid of all of them."""
    url = f"http://127.0.0.1:{port}/" + ("?bytes=1000000" if kind == "slow-reading" else "")
    common = ["-c", str(ATTACKERS), "-r", "250", "-p", "1", "-u", url, "-g", "-o", str(report)]
    over, seconds = time.monotonic() + LASTING, []
    while (left := over - time.monotonic()) > 0:
        subprocess.run(
            [program, *KINDS[kind], *common, "-l", str(int(left) + 1)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=LASTING + 30,
        )
        rows = csv.DictReader(report.with_name(report.name + ".csv").read_text().splitlines())
        seconds += [Second(int(row["Closed"]), int(row["Connected"]), row["Service Available"] != "0") for row in rows]
    return seconds


def allowed(machine: Probe) -> float:
    """Seconds for p99 where others use the machine, too: what it does to requests that pass no balancer is not ours."""
    return P99 + 3 * machine.percentile(99)


@pytest.mark.parametrize(
    "kinds", APART if LONG else [["slow-heads", "slow-bodies"], ["slow-reading"]], ids="-and-".join
)
def test_500_slow_clients_disturb_nobody(tmp_path: Path, kinds: list[str]) -> None:
    port, others = free_port(), free_port()
    with http_servers("s1", "s2") as (s1, s2), ExitStack() as cleanup:
        # The others have a server of their own: 500 downloads at once are a burden for s1.
        config = lb_ini(port, [s1]) + OTHERS.format(port=others, line=s2.line)
        balancer = cleanup.enter_context(Balancer(tmp_path, config))
        before = balancer.cpu_ns()
        with Probe(others) as probe, Probe(s2.port) as machine:
            told = attack(kinds, port, tmp_path)
        print(f"\n{' and '.join(kinds)}: {probe}; CPU {(balancer.cpu_ns() - before) / 1e7 / LASTING:.0f} %")
    for seconds in told:
        assert max(second.connected for second in seconds) > 0.95 * ATTACKERS, seconds
        assert all(second.available for second in seconds), seconds
    probe.check(number=int(LASTING * 20), p99=allowed(machine))


def test_slow_heads_make_room_for_others_at_maxconn(tmp_path: Path) -> None:
    port = free_port()
    with (
        http_servers("s1", "s2") as (s1, s2),
        Balancer(tmp_path, lb_ini(port, [s1], frontend="maxconn = 200")) as balancer,
    ):
        with Probe(port) as probe, Probe(s2.port) as machine:
            (told,) = attack(["slow-heads"], port, tmp_path)
        print(f"\nslow-heads at maxconn: {probe}")
        eventually(lambda: " 408 " in balancer.log(), 5, "the access lines")
        lines = [parse(line) for line in balancer.access_lines()]
    assert max(int(line["feconn"]) for line in lines) <= 200
    assert sum((line["status"], line["state"]) == ("408", "RR") for line in lines) >= 250
    assert max(second.closed for second in told) >= 250
    # While they come, a newcomer's second counts.
    probe.check(number=int(LASTING * 20), p99=1.6 + allowed(machine))
    assert probe.percentile(50) < P99


@pytest.mark.parametrize("kinds", APART if LONG else [list(KINDS)], ids="-and-".join)
def test_one_address_cannot_take_all_of_maxconn(tmp_path: Path, kinds: list[str]) -> None:
    port = free_port()
    limits = "maxconn = 200\nmaxconn-per-address = 100"
    with http_servers("s1", "s2") as (s1, s2), Balancer(tmp_path, lb_ini(port, [s1], frontend=limits)) as balancer:
        with Probe(port, source="127.0.0.2") as probe, Probe(s2.port) as machine:
            told = attack(kinds, port, tmp_path)
        print(f"\n{' and '.join(kinds)} at maxconn-per-address: {probe}")
        balancer.wait_for_log(r"frontend web refuses 127\.0\.0\.1: maxconn-per-address 100 is reached")
    for seconds in told:
        assert max(second.closed for second in seconds) >= ATTACKERS - 110, seconds
    probe.check(number=int(LASTING * 20), p99=allowed(machine))


# -- long bodies -------------------------------------------------------------------------------


@contextmanager
def frugal(balancer: Balancer, what: str) -> Iterator[None]:
    """Within the context the balancer's memory may not grow by more than `ROOM`."""
    balancer.reset_peak()
    before = balancer.rss()
    yield
    grown = balancer.peak_rss() - before
    print(f"\n{what}: memory grew by {grown / MIB:.1f} MiB")
    assert grown <= ROOM, f"memory grew by {grown / MIB:.1f} MiB"


def digest_of(client: Connection, size: int) -> str:
    """The digest of the next bytes."""
    digest = new_digest()
    while size:
        data = client.receive()
        assert data, f"ended {size} bytes early"
        digest.update(data)
        size -= len(data)
    return digest.hexdigest()


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_100_clients_that_never_read_cost_little_memory(tmp_path: Path, mode: str) -> None:
    port, others = free_port(), free_port()
    with http_servers("s1", "s2") as (server, other), ExitStack() as cleanup:
        config = lb_ini(port, [server], frontend=f"mode = {mode}") + OTHERS.format(port=others, line=other.line)
        balancer = cleanup.enter_context(Balancer(tmp_path, config))
        with frugal(balancer, f"100 who never read, {mode}"), Probe(others) as probe:
            clients = cleanup.enter_context(crowd(port, 100))
            for client in clients:
                client.send_request("GET", f"/?bytes={BIG}")
            eventually(lambda: busy(balancer) < 0.1, 15, "nothing moves any more")
            assert busy(balancer, 1.0) < 0.1
            assert ended(clients) == []
        probe.check(number=20, p99=1.0)
        last = clients[-1]
        assert last.read_head().status == 200
        assert digest_of(last, BIG) == pattern_digest(BIG), "whoever reads at last gets everything"


def test_100_uploads_to_a_server_that_never_reads_cost_little_memory(tmp_path: Path) -> None:
    port, others = free_port(), free_port()
    with (
        http_servers("s2") as (other,),
        socket.create_server(("127.0.0.1", 0), backlog=200) as server,  # which nobody accepts from
        ExitStack() as cleanup,
    ):
        line = f"server s1 = 127.0.0.1:{server.getsockname()[1]} no-check"
        # What its clients have left behind in the kernel nobody takes, so these uploads end with the grace.
        top = "[loadbalancer]\ngrace = 1s"
        config = lb_ini(port, [line], top=top) + OTHERS.format(port=others, line=other.line)
        balancer = cleanup.enter_context(Balancer(tmp_path, config))
        with frugal(balancer, "100 uploads to nobody"), Probe(others) as probe:
            clients = cleanup.enter_context(crowd(port, 100))
            for client in clients:
                client.send(b"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % BIG)
            sent = push([client.socket for client in clients])
            assert busy(balancer) < 0.1
            assert ended(clients) == []
        assert all(64 * 1024 < each < BIG for each in sent)
        probe.check(number=20, p99=1.0)


def push(senders: Sequence[socket.socket], quiet: float = 0.5) -> list[int]:
    """Send as much as each of them takes, until none has taken anything for a while; how much it was."""
    data, sent = bytes(256 * 1024), [0] * len(senders)
    moved = time.monotonic()
    for sender in senders:
        sender.setblocking(False)
    while time.monotonic() < moved + quiet:
        for number, sender in enumerate(senders):
            try:
                sent[number] += sender.send(data)
                moved = time.monotonic()
            except BlockingIOError:
                pass
        time.sleep(0.01)
    return sent


def test_whoever_sends_is_held_back_when_nobody_reads(tmp_path: Path) -> None:
    """By 64 KiB that wait, and what was read in one go before they were full; the kernel's buffers are not ours."""
    port, tcp_port = free_port(), free_port()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        server_port = listening.getsockname()[1]
        config = lb_ini(port, [f"server s1 = 127.0.0.1:{server_port} no-check"])
        config += f"[frontend tcp]\nlisten = 127.0.0.1:{tcp_port}\nmode = tcp\nbackend = app\n"
        with Balancer(tmp_path, config):
            for front, direction in product((port, tcp_port), ("download", "upload")):
                with Connection(front) as client:
                    client.send(b"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % BIG)
                    server, _ = listening.accept()
                    with server:
                        if direction == "download":
                            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
                        (sent,) = push([server if direction == "download" else client.socket])
                        held = sent - in_kernel({front, server_port})
                print(f"\n{direction}: {sent} bytes were taken, {held} are held by the balancer")
                assert 63 * 1024 < held < 129 * 1024, f"{direction}: {held} of {sent}"


def in_kernel(ports: set[int]) -> int:
    """Bytes that wait in the buffers of all connections from or to these ports of 127.0.0.1 (proc_net_tcp)."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        if state == "01" and ports & {int(address.partition(":")[2], 16) for address in (local, remote)}:
            total += sum(int(queue, 16) for queue in queues.split(":"))
    return total


# -- limits ------------------------------------------------------------------------------------


def test_hoarders_make_room_in_the_order_of_their_last_use(tmp_path: Path) -> None:
    port = free_port()
    with (
        http_servers("s1") as servers,
        Balancer(tmp_path, lb_ini(port, servers, frontend="maxconn = 50")) as balancer,
        crowd(port, 50) as clients,
        ExitStack() as cleanup,
    ):
        for client in clients:
            assert client.request("GET", "/").status == 200
        at_work, lively = clients[:5], clients[5:10]  # these were used first
        for client in at_work:
            client.send_request("GET", "/?delay=2")
        for client in lively:
            assert client.request("GET", "/").status == 200
        for number in range(1, 11):
            began = time.monotonic()
            newcomer = cleanup.enter_context(Connection(port))
            assert newcomer.request("GET", "/").status == 200
            assert time.monotonic() - began < (2 if number == 1 else 1), "nobody is idle before a second is over"
            assert ended(clients) == list(range(10, 10 + number))
        for client in at_work:
            assert client.read_response().status == 200
        for client in lively:
            assert client.request("GET", "/").status == 200
        balancer.wait_for_log(r"frontend web is full \(50 of 50 connections\)")


def test_a_sixth_connection_of_an_address_is_closed_at_once(tmp_path: Path) -> None:
    port = free_port()
    with (
        http_servers("s1") as servers,
        Balancer(tmp_path, lb_ini(port, servers, frontend="maxconn-per-address = 5")) as balancer,
        crowd(port, 5) as clients,
    ):
        for client in clients:
            assert client.request("GET", "/").status == 200
        for _ in range(10):
            began = time.monotonic()
            with Connection(port) as sixth:
                assert sixth.read_to_end() == b""
            assert time.monotonic() - began < 0.5
        for client in clients:
            assert client.request("GET", "/").status == 200
        with crowd(port, 5, source="127.0.0.2") as neighbours:
            for neighbour in neighbours:
                assert neighbour.request("GET", "/").status == 200
        clients[0].socket.close()
        eventually(lambda: answers(port), 2, "room for another one")
    assert len(balancer.access_lines()) == 16, "who is refused is no request"
    assert re.findall(r"refuses (.*)", balancer.log()) == [
        "127.0.0.1: maxconn-per-address 5 is reached; 1 refused so far"
    ]


def answers(port: int) -> bool:
    """Does a new client get its answer?"""
    try:
        return get(port).status == 200
    except (ConnectionEnded, ConnectionError):
        return False


# -- open files --------------------------------------------------------------------------------

FILES = 256
CONFIG = ("-n", "--pidfile=", "loadbalancer", "--config", "lb.ini")
FEW_FILES = ["/bin/sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh", *TWISTD, *CONFIG]


def files(balancer: Balancer) -> int:
    """How many files it has open."""
    return len(os.listdir(f"/proc/{balancer.pid}/fd"))


def silent(clients: Sequence[Connection]) -> None:
    """They never ask for anything."""


def ask_once(clients: Sequence[Connection]) -> None:
    """Each asks for something and does not care for the answer."""
    for client in clients:
        client.send(REQUEST)


@pytest.mark.parametrize("behave", [silent, ask_once])
def test_400_hoarders_of_open_files_harm_nobody(tmp_path: Path, behave: Callable[[Sequence[Connection]], None]) -> None:
    port = free_port()
    with (
        Server("s1", "http", "--close") as server,  # every request needs a file for a new connection
        Balancer(tmp_path, lb_ini(port, [server], frontend="maxconn = 10000"), command=FEW_FILES) as balancer,
    ):
        with Load(port, clients=20, pause=0.2) as established:
            eventually(lambda: established.responses >= 40, 5, "clients at work")
            with crowd(port, 400) as hoarders:
                behave(hoarders)
                eventually(lambda: files(balancer) > (FILES - 64) // 2, 2, "the balancer full of them")
                before, began = established.responses, time.monotonic()
                share = busy(balancer, LASTING / 3)
                rate = (established.responses - before) / (time.monotonic() - began)
            seconds = served_within(port)
        print(f"\n400 hoarders, {behave.__name__}: CPU {share:.0%}, {rate:.0f} of about 100 answers a second")
        assert share < 0.2
        assert rate > 60
        assert seconds < 1
        established.check()
        assert "Too many open files" not in balancer.log(), "the limit on connections has kept it from that"


def test_a_real_lack_of_open_files_harms_nobody(tmp_path: Path) -> None:
    port = free_port()
    with (
        Server("s1", "http", "--close") as server,
        Balancer(tmp_path, lb_ini(port, [server]), command=FEW_FILES) as balancer,
    ):
        with Load(port, clients=20, pause=0.2) as established:
            eventually(lambda: established.responses >= 40, 5, "clients at work")
            limit = files(balancer) + 20
            resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE, (limit, limit))
            with crowd(port, 400):
                balancer.wait_for_log("Too many open files")
                share = busy(balancer, LASTING / 3)
            seconds = served_within(port)
        print(f"\nno open files: CPU {share:.0%}, {established.statuses}, {seconds:.1f} s")
        assert share < 0.2
        assert seconds < 1
        established.check()


def test_idle_connections_of_one_backend_make_room_for_another(tmp_path: Path) -> None:
    """80 clients, as many busy connections to their servers, and as many idle ones of the backend before."""
    ports = [free_port() for _ in range(4)]
    with Server("s1", "http", "--delay", "0.2") as server:
        servers = "\n".join(f"server s{number} = {server.address} no-check" for number in range(3))
        config = "".join(
            f"[frontend f{port}]\nlisten = 127.0.0.1:{port}\nbackend = b{port}\n[backend b{port}]\n{servers}\n"
            for port in ports
        )
        with Balancer(tmp_path, config, command=FEW_FILES) as balancer:
            for port in ports:
                with crowd(port, 80) as clients:
                    for client in clients:
                        client.send(REQUEST)
                    assert [client.read_response().status for client in clients] == [200] * 80
            balancer.wait_for_log(r"Too many open files.*: closing \d+ idle connections")
            assert busy(balancer) < 0.2


# -- the slow, at last -------------------------------------------------------------------------


def test_a_head_has_its_time_however_it_dribbles_in(laggards: Laggards) -> None:
    fate = laggards.head.result()
    assert fate.received.startswith(b"HTTP/1.1 408 ")
    assert 2 <= fate.seconds < 2.5
    laggards.balancer.wait_for_log(r"/20\d\d 408 \d+ - - cR-- ")


def test_a_body_of_10_bytes_a_second_is_given_up_after_10_seconds(laggards: Laggards) -> None:
    fate = laggards.body.result()
    assert fate.received.startswith(b"HTTP/1.1 408 ")
    assert 10 <= fate.seconds < 11
    laggards.balancer.wait_for_log(r' 408 \d+ - - cD-- .*"POST / HTTP/1\.1"')


def test_a_body_of_300_bytes_a_second_is_waited_for(laggards: Laggards) -> None:
    fate = laggards.steady_body.result()
    assert fate.received.startswith(b"HTTP/1.1 200 ")
    assert fate.seconds > 11


def test_who_takes_50_bytes_a_second_is_given_up_after_timeout_client(laggards: Laggards) -> None:
    # By the log: the reset reaches the client's program when that has read what its kernel holds.
    total = laggards.balancer.wait_for_log(r'/(\d+) 200 \d+ - - cD-- .*"GET /\?bytes=', 10)
    assert 2000 <= int(total) < 5000
    assert len(laggards.reader.result().received) < 1000


def test_who_takes_40_kilobytes_a_second_is_served_on(laggards: Laggards) -> None:
    fate = laggards.steady_reader.result()
    assert fate.seconds >= 8
    assert len(fate.received) > 150_000

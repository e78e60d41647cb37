"""Long bodies and tunnels that move in the kernel: the same bytes, the same endings, and nothing left behind."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from lbservice.proxy.splice import LONG, SPARE, TAIL, Pipes
from tests.support.actors import OK, Client, Connection, answer, body_of, response, responses, then_close
from tests.support.house import House

MakeHouse = Callable[..., House]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = bytes(range(251)) * 8_000
"""Two megabytes in which a byte too much or too few shows."""
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY)
PUT = POST.replace(b"POST", b"PUT")
ASK = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
AGREE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


@pytest.fixture(params=["epoll", "fast"])
def paths(request: pytest.FixtureRequest) -> str:
    """All of it is about splicing."""
    return str(request.param)


@pytest.fixture(params=["tcp", "101"])
def talk(make_house: MakeHouse, request: pytest.FixtureRequest) -> tuple[House, Client, Connection]:
    """A tunnel: its house, its client and its server."""
    house = make_house(1, mode="tcp" if request.param == "tcp" else "http", timeout_tunnel=100.0)
    origin = house.origin(1, raw=True)
    client = house.client()
    client.lingers = True
    if request.param == "101":
        client.ask(ASK)
        origin.last.take()
        origin.last.send(AGREE)
        house.run()
        client.take()
        client.total = origin.last.total = 0
        house.log.clear()
    return house, client, origin.last


def mostly_spliced(house: House, size: int) -> bool:
    """Did all of it move in the kernel, but its beginning and its end?"""
    return size - 2 * LONG <= house.network.spliced <= size - TAIL


def stop_behind(peer: Client | Connection, size: int = 2 * LONG) -> None:
    """Let it stop reading once it has so much."""
    go_on = peer.dataReceived

    def received(data: bytes) -> None:
        go_on(data)
        if peer.total >= size:
            peer.stop_reading()
            peer.dataReceived = go_on  # type: ignore[method-assign]

    peer.dataReceived = received  # type: ignore[method-assign]


# -- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [100, 5_000, 64 * 1024, 1 << 20])
@pytest.mark.parametrize("pipe_room", [1_000, 64 * 1024, 1 << 20])
def test_a_download_arrives_whole_and_its_connections_go_on(
    make_house: MakeHouse, capacity: int, pipe_room: int
) -> None:
    house = make_house(1)
    house.network.capacity, house.network.pipe_room = capacity, pipe_room
    origin = house.origin(1, answer(BODY), OK)
    client = house.client()
    client.send(GET + GET)
    house.run()
    first, second = responses(client.take())
    assert (first.body == BODY, second.body) == (True, b"hello")
    assert len(origin.connections) == 1
    assert mostly_spliced(house, len(BODY))
    assert [access.termination for access in house.log] == ["--", "--"]
    assert sum(access.bytes_out for access in house.log) == client.total


@pytest.mark.parametrize("request_head", [POST, PUT])
@pytest.mark.parametrize("capacity", [5_000, 64 * 1024, 1 << 20])
def test_an_upload_arrives_whole_and_nothing_of_the_next_request_with_it(
    make_house: MakeHouse, request_head: bytes, capacity: int
) -> None:
    house = make_house(1)
    house.network.capacity = capacity
    origin = house.origin()
    client = house.client()
    client.send(request_head + BODY + GET)
    house.run()
    assert [got.status for got in responses(client.take())] == [200, 200]
    assert [body_of(request) for request in origin.requests] == [BODY, b""]
    assert mostly_spliced(house, len(BODY))
    assert len(origin.connections) == 1
    assert sum(access.bytes_in for access in house.log) == origin.last.total


def test_a_body_that_ends_with_its_connection(house: House) -> None:
    house.origin(1, then_close(b"HTTP/1.0 200 OK\r\n\r\n" + BODY))
    client = house.client()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    house.run()
    assert response(client.take()).body == BODY
    assert house.network.spliced > len(BODY) - 2 * LONG
    assert (client.fate, house.endings) == ("closed", ["200 --"])


CHUNKS = b"%x;all=most\r\n%b\r\n3\r\nend\r\n00\r\nTrailer: yes\r\n\r\n" % (len(BODY), BODY)
"""A long chunk with an extension, a short one, and a trailer."""


@pytest.mark.parametrize("capacity", [5_000, 64 * 1024, 1 << 20])
def test_long_chunks_of_an_upload(make_house: MakeHouse, capacity: int) -> None:
    house = make_house(1)
    house.network.capacity = capacity
    origin = house.origin()
    client = house.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS + GET)
    house.run()
    assert [got.status for got in responses(client.take())] == [200, 200]
    assert [body_of(request) for request in origin.requests] == [BODY + b"end", b""]
    assert b"all=most" not in origin.requests[0] + origin.requests[1]
    assert mostly_spliced(house, len(BODY))
    assert sum(access.bytes_in for access in house.log) == origin.last.total


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_long_chunks_of_a_download(house: House, version: bytes) -> None:
    origin = house.origin(1, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS)
    client = house.client()
    client.send(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
    house.run()
    total, sent = client.total, client.take()
    assert response(sent).body == BODY + b"end"
    assert b"Trailer: yes" not in sent
    assert mostly_spliced(house, len(BODY))
    assert [access.bytes_out for access in house.log] == [total]
    assert len(origin.connections) == 1


def test_what_we_chunk_goes_the_ordinary_way(house: House) -> None:
    house.origin(1, then_close(b"HTTP/1.0 200 OK\r\n\r\n" + BODY))
    client = house.client()
    client.send(GET)
    house.run()
    assert (response(client.take()).body == BODY, house.network.spliced) == (True, 0)


def test_a_client_that_does_not_read_stops_the_server(house: House) -> None:
    origin = house.origin(1, answer(BODY))
    client = house.client()
    client.send(GET)
    stop_behind(client)
    house.run(20)
    behind = len(BODY) - origin.last.unsent - client.total
    assert 2 * house.network.capacity < behind <= 3 * house.network.capacity + 1000
    assert house.network.pipes_open == 1
    client.read_on()
    house.run()
    assert response(client.take()).body == BODY
    assert house.endings == ["200 --"]


def begun(house: House, script: Any = None) -> tuple[Client, Connection]:
    """A download in the middle of which the client has stopped to read: bytes wait in a pipe."""
    origin = house.origin(1, script or answer(BODY))
    client = house.client()
    client.send(GET)
    stop_behind(client)
    house.run()
    assert house.network.pipes_open == 1
    return client, origin.last


def test_a_client_that_leaves_in_the_middle(house: House) -> None:
    client, server = begun(house)
    client.abort()
    house.run(1)
    assert (server.fate, house.endings, house.network.pipes_open) == ("reset", ["200 CD"], 0)


def test_a_client_that_takes_nothing_more(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"timeout_client": 5.0})
    client, server = begun(house)
    house.run(4)
    assert house.log == []
    house.run(10)
    assert (server.fate, client.fate, house.endings) == ("reset", None, ["200 cD"])
    client.read_on()
    house.run()
    assert client.fate == "reset"


def test_a_client_that_takes_too_little(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"timeout_client": 5.0})
    client, _ = begun(house)
    house.network.segment = 50
    for _ in range(20):
        stop_behind(client, client.total + 50)
        client.read_on()
        house.run(1)
    assert house.endings == ["200 cD"]


def test_a_server_that_breaks_off(house: House) -> None:
    client, server = begun(house)
    server.abort()
    client.read_on()
    house.run(1)
    assert (client.fate, client.eof, house.endings) == ("reset", False, ["200 SD"])


def test_a_server_that_closes_too_early(house: House) -> None:
    """What it has sent has been counted, and the client must not take it for the whole."""
    house.origin(1, then_close(answer(BODY)[:-1]))
    client = house.client()
    client.send(GET)
    house.run(1)
    assert (client.fate, client.eof, house.endings) == ("reset", False, ["200 SD"])
    assert house.log[0].bytes_out >= client.total


def test_a_server_that_falls_silent(make_house: MakeHouse) -> None:
    house = make_house(1, timeout_server=10.0)
    house.origin(1, answer(BODY)[: -len(BODY) // 2])
    client = house.client()
    client.send(GET)
    house.run(9)
    assert (house.log, house.network.spliced > 0) == ([], True)
    house.run(2)
    assert (client.fate, house.endings) == ("reset", ["200 sD"])


@pytest.mark.parametrize(("how", "ending"), [("abort", "-1 CD"), ("finish", "-1 CD")])
def test_a_client_that_leaves_its_upload(house: House, how: str, ending: str) -> None:
    origin = house.origin()
    client = house.client()
    client.send(POST + BODY[:-1])
    house.run()
    assert house.network.spliced > 0
    getattr(client, how)()
    house.run(1)
    assert (origin.last.fate, house.endings) == ("reset", [ending])


def test_a_client_whose_upload_stops(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"timeout_client": 5.0})
    origin = house.origin()
    client = house.client()
    client.lingers = True
    client.send(POST + BODY[: len(BODY) // 2])
    house.run(4)
    assert (house.log, house.network.spliced > 0) == ([], True)
    house.run(2)
    assert (response(client.take()).status, house.endings, origin.last.fate) == (408, ["408 cD"], "reset")


def test_a_server_that_does_not_take_an_upload(make_house: MakeHouse) -> None:
    house = make_house(1, timeout_server=10.0)
    origin = house.origin(1, raw=True)
    client = house.client()
    client.lingers = True
    client.send(POST)
    house.run()
    stop_behind(origin.last)
    client.send(BODY)
    house.run(9)
    assert (house.log, house.network.pipes_open) == ([], 1)
    house.run(12)
    assert (response(client.take()).status, house.endings) == (504, ["504 sH"])
    origin.last.read_on()


@pytest.mark.parametrize("slow", [False, True])
def test_an_answer_before_the_end_of_an_upload(house: House, slow: bool) -> None:
    origin = house.origin(1, raw=True)
    client = house.client()
    client.lingers = True
    client.send(POST)
    house.run()
    server = origin.last
    if slow:
        stop_behind(server)
    client.send(BODY[:-1])
    house.run()
    assert house.network.spliced > 0
    server.send(answer(b"too big", status=b"413 Content Too Large"))
    house.run(1)
    assert (response(client.take()).status, house.endings) == (413, ["413 --"])
    server.read_on()


def test_a_server_that_closes_during_an_upload(house: House) -> None:
    origin = house.origin(1, raw=True)
    client = house.client()
    client.lingers = True
    client.send(POST)
    house.run()
    stop_behind(origin.last)
    client.send(BODY)
    house.run()
    origin.last.finish()
    house.run(1)
    assert (response(client.take()).status, house.endings) == (502, ["502 SH"])
    origin.last.read_on()


def test_operators_cut_it_off(house: House) -> None:
    client, server = begun(house)
    house.factory.cut(house.server())
    house.run(1)
    assert (server.fate, house.endings) == ("reset", ["200 KD"])
    client.read_on()
    house.run()
    assert client.fate == "reset"


# -- tunnels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipe_room", [8_000, 64 * 1024])
def test_both_directions_of_a_tunnel(talk: tuple[House, Client, Connection], pipe_room: int) -> None:
    house, client, server = talk
    house.network.pipe_room = pipe_room
    client.send(BODY)
    server.send(BODY[::-1])
    house.run()
    assert (server.take() == BODY, client.take() == BODY[::-1]) == (True, True)
    assert house.network.spliced > 2 * (len(BODY) - 2 * LONG)
    client.finish()
    house.run()
    assert (server.eof, client.eof) == (True, False)
    server.send(BODY)
    server.close()
    house.run()
    assert (client.take() == BODY, client.eof, house.network.pipes_open) == (True, True, 0)
    (access,) = house.log
    assert access.termination == "--"
    assert access.bytes_out >= 2 * len(BODY)


def test_little_goes_the_ordinary_way_also_after_much(talk: tuple[House, Client, Connection]) -> None:
    house, client, server = talk
    server.send(BODY)
    house.run()
    before = house.network.spliced
    for word in (b"one", b"two", b"three"):
        server.send(word)
        client.send(word)
        house.run(1)
    assert client.take().endswith(b"onetwothree")
    assert server.take() == b"onetwothree"
    assert 0 <= house.network.spliced - before <= len("one")
    server.send(BODY)
    house.run()
    assert client.take() == BODY
    assert house.network.spliced > before + len(BODY) - 2 * LONG


def test_what_waits_when_the_server_closes_still_arrives(talk: tuple[House, Client, Connection]) -> None:
    house, client, server = talk
    stop_behind(client)
    server.send(BODY)
    server.close()
    house.run(1)
    assert house.network.pipes_open == 1
    client.finish()
    house.run(10)
    client.read_on()
    house.run(1)
    assert (client.take() == BODY, client.eof, house.endings[-1][-2:]) == (True, True, "--")


@pytest.mark.parametrize("which", ["client", "server"])
def test_a_reset_of_a_tunnel_is_passed_on(talk: tuple[House, Client, Connection], which: str) -> None:
    house, client, server = talk
    one, other = (client, server) if which == "client" else (server, client)
    stop_behind(other)
    one.send(BODY)
    house.run()
    assert house.network.pipes_open == 1
    one.abort()
    house.run(1)
    other.read_on()
    house.run(1)
    assert (other.fate, house.endings[-1][-2:]) == ("reset", "CD" if which == "client" else "SD")


def test_a_tunnel_in_which_nothing_moves_is_closed(talk: tuple[House, Client, Connection]) -> None:
    house, client, server = talk
    stop_behind(client)
    server.send(BODY)
    house.run(99)
    assert (house.log, house.network.pipes_open) == ([], 1)
    house.run(3)
    assert (house.endings[-1][-2:], server.fate, house.network.pipes_open) == ("cD", "reset", 0)


# -- when it cannot be done ----------------------------------------------------------------------


def test_without_a_pipe_it_goes_the_ordinary_way(house: House) -> None:
    house.network.pipe_room = 0
    house.origin(1, answer(BODY))
    client = house.client()
    client.send(GET)
    house.run()
    assert (response(client.take()).body == BODY, house.network.spliced) == (True, 0)


def test_a_kernel_that_refuses_is_asked_once(house: House) -> None:
    house.network.splice_error = errno.EINVAL
    house.origin(1, answer(BODY))
    client = house.client()
    client.send(GET)
    house.run()
    assert response(client.take()).body == BODY
    house.network.splice_error = 0
    client.send(GET)
    house.run()
    assert (response(client.take()).body == BODY, house.network.spliced) == (True, 0)


def test_bytes_that_only_recv_can_read(house: House) -> None:
    """Behind urgent data splicing brings nothing, and epoll says again and again that there is something."""
    house.network.splice_error = errno.EAGAIN
    house.origin(1, answer(BODY))
    client = house.client()
    client.send(GET)
    house.run()
    assert response(client.take()).body == BODY


def test_a_connection_that_breaks_while_it_is_spliced_from(house: House) -> None:
    house.network.splice_error = errno.ECONNRESET
    house.origin(1, answer(BODY))
    client = house.client()
    client.send(GET)
    house.run()
    assert (client.fate, client.eof, house.endings) == ("reset", False, ["200 SD"])


def test_what_is_written_meanwhile_goes_out_behind_what_is_in_the_pipe(house: House) -> None:
    client, _ = begun(house)
    (connection,) = house.factory._connections
    before = house.log, connection.transport.inflow.held
    connection.transport.write(b"behind")
    assert before == ([], connection.transport.inflow.held)
    in_order = client.total + house.network.capacity + before[1]
    client.read_on()
    house.run()
    assert client.received.find(b"behind") == in_order


# -- the pipes -----------------------------------------------------------------------------------


class FakePipe:
    """Empty, unless told otherwise."""

    held = 0
    closed = False

    def close(self) -> None:
        self.closed = True


def test_empty_pipes_are_kept_while_there_are_flows() -> None:
    pipes = Pipes(FakePipe)
    pipes.begun()
    first = pipes.take()
    pipes.give(first)
    assert pipes.take() is first
    full = pipes.take()
    full.held = 1
    pipes.give(full)
    pipes.give(first)
    assert (full.closed, first.closed) == (True, False)
    pipes.ended()
    assert first.closed
    late = pipes.take()
    pipes.give(late)
    assert late.closed


def test_not_more_than_some_are_kept() -> None:
    pipes = Pipes(FakePipe)
    pipes.begun()
    many = [pipes.take() for _ in range(SPARE + 5)]
    for pipe in many:
        pipes.give(pipe)
    assert sum(pipe.closed for pipe in many) == 5

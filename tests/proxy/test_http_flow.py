"""Much data, little memory; and the same result however the bytes are cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.actors import OK, answer, body_of, dribble, responses, wait
from tests.support.house import House

MakeHouse = Callable[..., House]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MEGABYTES = b"0123456789" * 1_000_000
BETWEEN = 256 * 1024
"""Two kernel buffers of 64 KiB, and as much again for us."""


def test_a_client_that_does_not_read_stops_the_server(house: House) -> None:
    origin = house.origin(1, answer(MEGABYTES))
    client = house.client()
    client.send(GET)
    client.stop_reading()
    house.run(1)
    assert client.total == 0
    assert len(MEGABYTES) - origin.last.unsent <= BETWEEN
    client.read_on()
    house.run()
    (got,) = responses(client.take())
    assert got.body == MEGABYTES
    assert house.endings == ["200 --"]


def test_so_does_one_that_does_not_read_chunks(house: House) -> None:
    chunks = b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(100))
    origin = house.origin(1, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    client = house.client()
    client.send(GET)
    client.stop_reading()
    house.run(1)
    assert len(chunks) - origin.last.unsent <= BETWEEN
    client.read_on()
    house.run()
    (got,) = responses(client.take())
    assert (len(got.body), got.whole) == (6553600, True)


def test_a_server_that_does_not_read_stops_the_client(make_house: MakeHouse) -> None:
    house = make_house(1, timeout_server=600.0)
    origin = house.origin(1, OK)
    client = house.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(MEGABYTES))
    house.run()
    origin.last.stop_reading()
    client.send(MEGABYTES)
    house.run(1)
    assert len(MEGABYTES) - client.unsent <= BETWEEN
    origin.last.read_on()
    house.run()
    assert [got.status for got in responses(client.take())] == [200]
    assert body_of(origin.requests[0]) == MEGABYTES


def test_an_upload_waits_at_the_door_while_a_server_is_sought(make_house: MakeHouse) -> None:
    house = make_house(1, server_maxconn=1, timeout_queue=10.0)
    origin = house.origin(1, wait(5), OK)
    first, client = house.client(), house.client()
    first.ask(GET)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(MEGABYTES) + MEGABYTES)
    house.run(4)
    assert len(MEGABYTES) - client.unsent <= BETWEEN
    house.run(2)
    assert [got.status for got in responses(client.take())] == [200]
    assert body_of(origin.requests[1]) == MEGABYTES


def test_both_directions_at_once(make_house: MakeHouse) -> None:
    house = make_house(1, timeout_server=600.0)
    origin = house.origin(1, answer(MEGABYTES), early=True)
    client = house.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(MEGABYTES) + MEGABYTES)
    house.run()
    (got,) = responses(client.take())
    assert got.body == MEGABYTES
    assert body_of(origin.requests[0]) == MEGABYTES


def test_pipelined_requests_wait_in_bounded_memory(house: House) -> None:
    origin = house.origin(1, wait(5), OK)
    client = house.client()
    flood = GET * 10_000
    client.send(flood)
    house.run(1)
    assert len(flood) - client.unsent <= BETWEEN
    assert len(origin.requests) == 1
    house.run(6)
    assert len(origin.requests) == 10_000
    assert house.endings == ["200 --"] * 10_000


def test_a_flood_of_requests_from_a_client_that_does_not_read(house: House) -> None:
    origin = house.origin(1, answer(b"x" * 1000))
    client = house.client()
    client.stop_reading()
    client.send(GET * 10_000)
    house.run(1)
    assert len(origin.requests) < 500
    client.read_on()
    house.run()
    assert len(origin.requests) == 10_000


def test_a_flood_of_local_answers_does_not_recurse(make_house: MakeHouse) -> None:
    house = make_house(0)
    client = house.client()
    client.send(GET * 20_000)
    house.run()
    assert client.take().count(b"HTTP/1.1 503 ") == 20_000
    assert house.endings == ["503 SC"] * 20_000


def test_a_flood_of_local_answers_to_a_client_that_does_not_read(make_house: MakeHouse) -> None:
    house = make_house(0)
    client = house.client()
    client.stop_reading()
    client.send(GET * 20_000)
    house.run(1)
    assert len(house.log) < 1_000
    client.read_on()
    house.run()
    assert client.take().count(b"HTTP/1.1 503 ") == 20_000


def test_a_flood_of_bad_requests_is_answered_once(house: House) -> None:
    client = house.client()
    client.lingers = True
    client.send(b"nonsense\r\n\r\n" * 100_000)
    house.run(5)
    assert client.take().count(b"HTTP/1.1 400 ") == 1
    assert len(house.log) == 1


def test_a_flood_of_empty_lines_costs_nothing(house: House) -> None:
    house.origin()
    client = house.client()
    client.send(b"\r\n" * 500_000 + GET)
    house.run(1)
    assert [got.status for got in responses(client.take())] == [200]


CONVERSATION = (
    b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
    b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Request-ID: two\r\n\r\nhello"
    b"\r\n"
    b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: t\r\n\r\n"
    b"HEAD /4 HTTP/1.1\r\nHost: a\r\n\r\n"
    b"GET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
)
ANSWERS = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\nT: t\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
    answer(b"the last"),
)


@pytest.mark.parametrize("segment", [1, 2, 3, 7, 64, 1000])
def test_any_segmentation_gives_the_same_conversation(make_house: MakeHouse, segment: int) -> None:
    house = make_house(1)
    house.network.segment = segment
    origin = house.origin(1, *ANSWERS)
    client = house.client()
    client.send(CONVERSATION)
    house.run(1)
    raw = client.take()
    head, tail = raw.split(b"Content-Length: 12345")
    first = responses(head.rpartition(b"HTTP/1.1 ")[0])
    assert [got.status for got in first] == [103, 200, 200, 204]
    assert [got.body for got in first] == [b"", b"hello", b"abcd", b""]
    assert b"\r\nConnection: close\r\n" in tail
    assert tail.endswith(b"\r\n\r\nthe last")
    assert [request.split(b" ")[1] for request in origin.requests] == [b"/1", b"/2", b"/3", b"/4", b"/5"]
    assert [body_of(request) for request in origin.requests] == [b"", b"hello", b"abc0123456789", b"", b""]
    assert house.endings == ["200 --", "200 --", "204 --", "200 --", "200 --"]
    assert (len(origin.connections), client.fate) == (1, "closed")


@pytest.mark.parametrize("capacity", [1, 100, 4096])
def test_tiny_kernel_buffers_change_nothing(make_house: MakeHouse, capacity: int) -> None:
    house = make_house(1)
    house.network.capacity = capacity
    origin = house.origin(1, *ANSWERS)
    client = house.client()
    client.send(CONVERSATION)
    house.run(1)
    assert client.take().endswith(b"the last")
    assert len(origin.requests) == 5


def test_bodies_are_passed_on_as_they_come_not_when_they_are_whole(house: House) -> None:
    house.origin(1, dribble(answer(b"x" * 100), 50, 10.0))
    client = house.client()
    client.send(GET)
    house.run(15)
    assert 0 < client.take().count(b"x") < 100


def test_a_second_request_is_not_lost_when_its_client_closed_its_half(house: House) -> None:
    """Even if the first answer ends while the client does not read."""
    house.origin(1, answer(b"x" * 150_000))
    client = house.client()
    client.lingers = True
    client.stop_reading()
    client.send(GET + GET)
    client.finish()
    house.run()
    client.read_on()
    house.run()
    assert house.endings == ["200 --", "200 --"]

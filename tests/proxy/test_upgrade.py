"""After 101 both connections are one tunnel."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.actors import Client, Connection, Origin, field, response, responses
from tests.support.house import House

MakeHouse = Callable[..., House]
ASK = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
AGREE = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\n"
)


class Chat:
    """A client and a server that have agreed to talk otherwise."""

    def __init__(self, house: House, first: bytes = b"") -> None:
        self.house = house
        self.origin: Origin = house.origin(1, raw=True)
        self.client: Client = house.client()
        self.client.lingers = True
        self.client.ask(ASK)
        self.server: Connection = self.origin.last
        self.request = self.server.take()
        self.server.send(AGREE + first)
        house.run()
        self.answer = self.client.take()


def test_bytes_go_both_ways(house: House) -> None:
    chat = Chat(house)
    got = response(chat.answer)
    assert (got.status, got["Upgrade"], got["Connection"]) == (101, "websocket", "Upgrade")
    assert got["Sec-WebSocket-Accept"] == "a"
    assert got.all("Content-Length") == got.all("Transfer-Encoding") == []
    assert (field(chat.request, "Upgrade"), field(chat.request, "Connection")) == ("websocket", "Upgrade")
    chat.client.send(b"\x81\x00ping")
    chat.server.send(b"\x81\x00pong")
    house.run()
    assert (chat.server.take(), chat.client.take()) == (b"\x81\x00ping", b"\x81\x00pong")
    assert house.server().in_flight == 1


def test_with_a_body_no_other_protocol_is_asked_for(house: House) -> None:
    origin = house.origin()
    body = house.client().ask(ASK[:-2].replace(b"GET", b"POST") + b"Content-Length: 5\r\n\r\n12345")
    assert response(body).status == 200
    assert field(origin.requests[0], "Upgrade") is None


def test_a_server_that_agrees_to_nothing_in_particular_is_broken(house: House) -> None:
    house.origin(1, b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    assert response(house.client().ask(ASK)).status == 502
    assert house.endings == ["502 PH"]


def test_bytes_behind_the_head_of_the_answer_are_the_first_of_the_tunnel(house: House) -> None:
    chat = Chat(house, first=b"welcome")
    assert chat.answer.endswith(b"\r\n\r\nwelcome")


def test_bytes_behind_the_head_of_the_request_wait_for_the_answer(house: House) -> None:
    origin = house.origin(1, raw=True)
    client = house.client()
    client.ask(ASK + b"hasty")
    assert origin.last.take().endswith(b"\r\n\r\n")
    origin.last.send(AGREE)
    house.run()
    assert origin.last.take() == b"hasty"


def test_bytes_behind_the_request_of_a_refused_upgrade_are_the_next_request(house: House) -> None:
    house.origin()
    got = responses(house.client().ask(ASK + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert [each.status for each in got] == [200, 200]


@pytest.mark.parametrize("early", [ASK.replace(b"Connection: Upgrade\r\n", b""), ASK.replace(b"HTTP/1.1", b"HTTP/1.0")])
def test_101_is_refused_when_nobody_asked(house: House, early: bytes) -> None:
    origin = house.origin(1, AGREE)
    assert response(house.client().ask(early)).status == 502
    assert (field(origin.requests[0], "Upgrade"), house.endings, origin.open) == (None, ["502 PH"], 0)


def test_h2c_is_not_asked_for(house: House) -> None:
    origin = house.origin()
    house.client().ask(ASK.replace(b"websocket", b"h2c"))
    assert field(origin.requests[0], "Upgrade") is None


@pytest.mark.parametrize("first", ["client", "server"])
def test_each_end_may_finish_first(house: House, first: str) -> None:
    chat = Chat(house)
    ends = {"client": chat.client, "server": chat.server}
    one, other = ends.pop(first), *ends.values()
    one.send(b"the last of mine")
    one.finish()
    house.run(5)
    assert (other.take(), other.eof, one.eof) == (b"the last of mine", True, False)
    other.send(b"still here")
    house.run(5)
    assert one.take() == b"still here"
    other.close()
    house.run()
    assert (one.eof, house.endings, house.quiet, house.frontend.active) == (True, ["101 --"], True, 0)


@pytest.mark.parametrize(("which", "ending"), [("client", "101 CD"), ("server", "101 SD")])
def test_a_reset_is_passed_on(house: House, which: str, ending: str) -> None:
    chat = Chat(house)
    one, other = (chat.client, chat.server) if which == "client" else (chat.server, chat.client)
    one.abort()
    house.run()
    assert (other.fate, house.endings, house.quiet) == ("reset", [ending], True)


def test_what_is_queued_at_the_end_still_arrives(house: House) -> None:
    chat = Chat(house)
    chat.client.stop_reading()
    chat.server.send(b"x" * 500_000)
    chat.server.close()
    house.run(1)
    chat.client.finish()
    house.run(1)
    chat.client.read_on()
    house.run(1)
    assert (chat.client.total - len(chat.answer), chat.client.eof) == (500_000, True)


def test_a_tunnel_in_which_nothing_moves_is_closed(make_house: MakeHouse) -> None:
    house = make_house(1, timeout_tunnel=100.0, timeout_server=5.0, frontend={"timeout_client": 5.0})
    chat = Chat(house)
    house.run(99)
    chat.server.send(b"x")
    house.run(99)
    chat.client.send(b"x")
    house.run(99)
    assert (chat.client.fate, chat.client.eof) == (None, False)
    house.run(2)
    assert (house.endings, house.quiet, house.frontend.active) == (["101 cD"], True, 0)


def test_back_pressure_from_the_client(house: House) -> None:
    chat = Chat(house)
    chat.client.stop_reading()
    chat.server.send(b"x" * 10_000_000)
    house.run(1)
    assert 10_000_000 - chat.server.unsent <= 256 * 1024
    chat.client.read_on()
    house.run(1)
    assert chat.client.total == 10_000_000 + len(chat.answer)


def test_back_pressure_from_the_server(house: House) -> None:
    chat = Chat(house)
    chat.server.stop_reading()
    chat.client.send(b"x" * 10_000_000)
    house.run(1)
    assert 10_000_000 - chat.client.unsent <= 256 * 1024
    chat.server.read_on()
    house.run(1)
    assert chat.server.total - len(chat.request) == 10_000_000


def test_a_client_that_is_slow_to_read_is_not_cut_from_its_tunnel(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"timeout_client": 5.0})
    chat = Chat(house)
    chat.client.stop_reading()
    chat.server.send(b"x" * 1_000_000)
    house.run(60)
    chat.client.read_on()
    house.run(1)
    assert chat.client.total == 1_000_000 + len(chat.answer)


def test_an_upgrade_is_never_asked_for_twice_on_a_used_connection(house: House) -> None:
    chat = Chat(house)
    chat.client.abort()
    house.run()
    assert (len(house.pool), chat.server.fate) == (0, "reset")


def test_a_client_that_finished_before_the_101_is_passed_on(house: House) -> None:
    origin = house.origin(1, raw=True)
    client = house.client()
    client.lingers = True
    client.send(ASK)
    house.run()
    client.finish()
    house.run()
    origin.last.take()
    origin.last.send(AGREE)
    house.run()
    assert origin.last.eof
    origin.last.close()
    house.run()
    assert house.endings == ["101 --"]

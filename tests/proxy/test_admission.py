"""How many may come in, who waits, and who makes room."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

import pytest
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from tests.support import wire
from tests.support.actors import OK, Client, answer, hang, response, wait
from tests.support.house import FRONT, House
from tests.support.wire import MemorySocket

MakeHouse = Callable[..., House]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HALF = b"GET / HTTP/1.1\r\nHo"


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The events that are logged, as text."""
    texts: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "lbservice.proxy.admission" or event.get("event") == "client-refused":
            texts.append(formatEvent(event))

    observer: Callable[[LogEvent], None] = observe
    globalLogPublisher.addObserver(observer)  # type: ignore[arg-type]
    yield texts
    globalLogPublisher.removeObserver(observer)  # type: ignore[arg-type]


# -- a frontend's maxconn ----------------------------------------------------------------------


def test_without_maxconn_everybody_may_come(house: House) -> None:
    for _ in range(50):
        house.client()
    assert (house.frontend.active, house.frontend.process.active) == (50, 50)


def test_while_all_are_busy_further_clients_wait_in_the_backlog(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"maxconn": 2})
    house.origin(1, hang)
    one, two, three = house.client(), house.client(), house.client()
    for client in (one, two, three):
        client.send(GET)
    house.run(5)
    assert three.connected
    assert (house.frontend.active, house.frontend.connections, len(house.origins[0].requests)) == (2, 2, 2)
    one.close()
    house.run(1)
    assert (house.frontend.active, house.frontend.connections, len(house.origins[0].requests)) == (2, 3, 3)


def test_maxconn_is_kept_when_many_come_at_once(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"maxconn": 3})
    clients = [house.client() for _ in range(10)]
    assert house.frontend.active == 3
    for client in clients:
        client.abort()
        house.run()
        assert house.frontend.active <= 3
    assert house.frontend.active == 0


def test_who_has_been_idle_longest_makes_room(make_house: MakeHouse, warnings: list[str]) -> None:
    house = make_house(1, frontend={"maxconn": 3})
    house.origin()
    clients = [house.client() for _ in range(3)]
    for client in clients:
        client.ask(GET)
        house.run(0.1)
    clients[0].ask(GET)  # so that it is the last one now
    house.run(2)
    assert [client.eof for client in clients] == [False] * 3, "nobody waits"
    four = house.client()
    four.send(GET)
    house.run(0.2)
    assert response(four.take()).status == 200
    assert [client.eof for client in clients] == [False, True, False]
    house.client().send(GET)
    house.run(0.2)
    assert [client.eof for client in clients] == [False, True, True]
    assert warnings == ["frontend www is full (3 of 3 connections): clients wait, 1 idle ones go"], (
        "and not again so soon"
    )


def test_who_was_sent_away_was_asked_nothing_and_is_not_logged(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"maxconn": 1})
    house.origin()
    one, two = house.client(), house.client()
    one.ask(GET)
    two.send(GET)
    house.run(1.1)
    assert (one.take(), one.eof) == (b"", True)
    assert house.endings == ["200 --", "200 --"]


def test_who_has_just_been_served_is_not_idle_yet(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"maxconn": 1})
    house.origin()
    working, silent = house.client(), house.client()
    for _ in range(10):
        working.ask(GET)
        house.run(0.9)
    assert (working.eof, silent.eof, len(house.log)) == (False, False, 10)


def test_a_newcomer_has_a_second_to_say_what_it_wants(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"maxconn": 1})
    house.origin()
    silent, other = house.client(), house.client()
    other.send(GET)
    house.run(0.9)
    assert not silent.eof
    house.run(0.3)
    assert (silent.eof, response(other.take()).status) == (True, 200)


def test_half_a_head_has_a_second_too_and_gets_408(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"maxconn": 1})
    house.origin()
    slow, other = house.client(), house.client()
    slow.ask(GET)
    slow.send(HALF)
    other.send(GET)
    house.run(0.9)
    assert not slow.eof
    house.run(0.3)
    assert (response(slow.take()).status, slow.eof) == (408, True)
    assert response(other.take()).status == 200
    assert house.endings == ["200 --", "408 RR", "200 --"]


def test_the_busy_stay(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"maxconn": 2})
    house.origin(1, OK, wait(5, answer(b"late")))
    idle, busy = house.client(), house.client()
    idle.ask(GET)
    busy.send(GET)
    third = house.client()
    third.send(GET)
    house.run(6)
    assert (idle.eof, response(busy.take()).body) == (True, b"late")


def test_sessions_of_tcp_mode_are_never_idle(make_house: MakeHouse) -> None:
    house = make_house(1, mode="tcp", frontend={"maxconn": 1})
    house.origin(1, raw=True)
    one, two = house.client(), house.client()
    house.run(10)
    assert (one.eof, two.eof, house.frontend.active) == (False, False, 1)


def test_a_door_that_nobody_waits_at_keeps_its_guests(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"maxconn": 1, "timeout_keep_alive": 1000.0})
    house.origin()
    client = house.client()
    client.ask(GET)
    house.run(900)
    assert not client.eof


# -- the process's maxconn ---------------------------------------------------------------------


def test_the_process_has_a_limit_too(make_house: MakeHouse) -> None:
    house = make_house(1, process_maxconn=2, frontend={"maxconn": 10})
    house.origin(1, hang)
    clients = [house.client() for _ in range(3)]
    for client in clients:
        client.send(GET)
    house.run(2)
    assert (house.frontend.active, house.frontend.maxconn) == (2, 2)
    clients[0].close()
    house.run(2)
    assert (house.frontend.active, house.frontend.connections) == (2, 3)


# -- one address --------------------------------------------------------------------------------


def test_one_address_may_have_so_many(make_house: MakeHouse, warnings: list[str]) -> None:
    house = make_house(1, frontend={"maxconn_per_address": 2})
    one, two, three = (house.client() for _ in range(3))
    house.run()
    assert (bool(three.eof or three.fate), one.eof, two.eof) == (True, False, False)
    assert house.client("203.0.113.9").fate is None
    assert (house.frontend.active, house.frontend.refused) == (3, 1)
    assert warnings == ["frontend www refuses 198.51.100.7: maxconn-per-address 2 is reached; 1 refused so far"]
    one.close()
    house.run()
    again = house.client()
    house.run()
    assert not again.eof


def test_a_network_of_ipv6_counts_as_one(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"maxconn_per_address": 1})
    first = house.client("2001:db8::1")
    neighbour, stranger = house.client("2001:db8::ffff:2"), house.client("2001:db8:0:1::1")
    house.run()
    assert (first.eof, bool(neighbour.eof or neighbour.fate), stranger.eof) == (False, True, False)


def test_an_ipv4_client_of_an_ipv6_listener_is_itself(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"maxconn_per_address": 1})
    house.client("198.51.100.1")
    second = house.client("::ffff:198.51.100.1")
    third = house.client("::ffff:198.51.100.2")
    house.run()
    assert (bool(second.eof or second.fate), third.eof) == (True, False)


def test_a_trusted_proxy_brings_the_clients_of_many(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"maxconn_per_address": 1, "trusted": ("198.51.100.0/24",)})
    clients = [house.client() for _ in range(3)]
    house.run()
    assert [client.eof for client in clients] == [False] * 3


def test_nothing_is_remembered_of_those_who_left(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"maxconn_per_address": 5})
    for _ in range(3):
        house.client().close()
        house.run()
    assert not house.frontend.by_address


# -- no open files -------------------------------------------------------------------------------


class Scarce:
    """While `lacking`, the in-memory kernel has no open file to accept with; `tries` counts."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tries = 0
        self.lacking = True
        accept = MemorySocket.accept

        def scarce(skt: MemorySocket) -> tuple[MemorySocket, tuple[str, int]]:
            if skt.local == FRONT and skt.backlog:
                self.tries += 1
                if self.lacking:
                    raise OSError(errno.EMFILE, "Too many open files")
            return accept(skt)

        monkeypatch.setattr(MemorySocket, "accept", scarce)


def test_without_open_files_it_rests_tells_once_and_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    house.origin()
    old = house.client()
    old.ask(GET)
    scarce = Scarce(house, monkeypatch)
    new = Client(house.network, FRONT)
    new.send(GET)
    busy = house.client()
    house.clients += [new, busy]
    house.run(5)
    assert scarce.tries <= 12, "no busy loop"
    assert len(warnings) == 1
    assert "Too many open files" in warnings[0]
    assert (old.eof, len(house.pool)) == (True, 0), "what is idle goes, of clients and of servers"
    scarce.lacking = False
    house.run(0.6)
    assert response(new.take()).status == 200


def test_an_accept_error_that_is_one_clients_own_does_not_stop_the_others(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.origin()
    accept = MemorySocket.accept
    errors = [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN]

    def broken(skt: MemorySocket) -> tuple[MemorySocket, tuple[str, int]]:
        if skt.local == FRONT and errors:
            raise OSError(errors.pop(), "gone")
        return accept(skt)

    monkeypatch.setattr(MemorySocket, "accept", broken)
    client = house.client()
    client.send(GET)
    house.run()
    assert response(client.take()).status == 200


def test_without_an_open_file_for_a_server_idle_connections_to_others_are_given_up(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    house = make_house(2)
    house.origin(1)
    house.origin(2)
    client = house.client()
    client.ask(GET)
    assert len(house.pool) == 1
    create = wire._Client.createInternetSocket

    def scarce(client: wire._Client) -> object:
        if client.connector.getDestination().host.startswith("10.") and len(house.pool):
            raise OSError(errno.EMFILE, "Too many open files")
        return create(client)

    monkeypatch.setattr(wire._Client, "createInternetSocket", scarce)
    assert response(client.ask(GET)).status == 200
    assert len(warnings) == 1
    assert house.server(2).connect_errors == 0


def test_with_no_open_file_at_all_it_is_503_and_nobody_is_to_blame(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make_house(1)
    house.origin()
    client = house.client()

    def scarce(client: wire._Client) -> object:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(wire._Client, "createInternetSocket", scarce)
    assert response(client.ask(GET)).status == 503
    assert house.endings == ["503 RC"]
    assert house.server().connect_errors == 0

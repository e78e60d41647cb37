"""Sessions of tcp mode: two connections that are one stream of bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lbservice.core.server import Admin
from tests.support.actors import Client, Connection, Origin
from tests.support.house import House

MakeHouse = Callable[..., House]


class Talk:
    """A client that is connected to a server through the balancer."""

    def __init__(self, house: House, greeting: bytes = b"") -> None:
        self.origin: Origin = house.origin(1, raw=True, greeting=greeting)
        self.client: Client = house.client()
        self.client.lingers = True
        self.server: Connection = self.origin.last


@pytest.fixture
def house(make_house: MakeHouse) -> House:
    """A tcp frontend with one server, `s1`."""
    return make_house(1, mode="tcp")


def test_bytes_go_both_ways(house: House) -> None:
    talk = Talk(house)
    talk.client.send(b"\x00ping")
    talk.server.send(b"\x00pong")
    house.run()
    assert (talk.server.take(), talk.client.take()) == (b"\x00ping", b"\x00pong")
    talk.client.close()
    house.run()
    talk.server.close()
    house.run()
    (access,) = house.log
    assert (access.http, access.server, access.termination) == (False, "s1", "--")
    assert (access.bytes_in, access.bytes_out) == (5, 5)


def test_the_server_may_speak_first(house: House) -> None:
    talk = Talk(house, greeting=b"220 ready\r\n")
    assert talk.client.take() == b"220 ready\r\n"


def test_what_the_client_sends_first_waits_for_the_server(house: House) -> None:
    house.network.latency = 1.0
    origin = house.origin(1, raw=True)
    client = house.client()
    house.run(1)
    client.send(b"hello")
    house.run(2)
    assert origin.last.take() == b"hello"


def test_a_client_that_stops_sending_still_gets_the_whole_answer(house: House) -> None:
    talk = Talk(house)
    talk.client.send(b"question")
    talk.client.finish()
    house.run(5)
    assert (talk.server.take(), talk.server.eof, talk.client.eof) == (b"question", True, False)
    talk.server.send(b"x" * 1_000_000)
    talk.server.close()
    house.run()
    assert (talk.client.total, talk.client.eof, house.endings) == (1_000_000, True, ["--"])


def test_a_server_that_stops_sending_still_gets_everything(house: House) -> None:
    talk = Talk(house)
    talk.server.send(b"go on")
    talk.server.finish()
    house.run(5)
    assert (talk.client.take(), talk.client.eof, talk.server.eof) == (b"go on", True, False)
    talk.client.send(b"x" * 1_000_000)
    talk.client.close()
    house.run()
    assert (talk.server.total, talk.server.eof, house.endings) == (1_000_000, True, ["--"])


def test_a_client_that_sends_and_finishes_before_the_server_is_there(house: House) -> None:
    house.network.latency = 1.0
    origin = house.origin(1, raw=True)
    client = house.client()
    client.lingers = True
    house.run(1)
    client.send(b"question")
    client.finish()
    house.run(2)
    assert (bytes(origin.last.received), origin.last.eof) == (b"question", True)
    origin.last.send(b"answer")
    origin.last.close()
    house.run()
    assert (client.take(), house.endings) == (b"answer", ["--"])


@pytest.mark.parametrize("segment", [1, 3, 1000])
def test_any_segmentation_gives_the_same_bytes(house: House, segment: int) -> None:
    house.network.segment = segment
    talk = Talk(house)
    data = bytes(range(256)) * 4
    talk.client.send(data)
    talk.server.send(data[::-1])
    talk.client.finish()
    talk.server.finish()
    house.run()
    assert (talk.server.take(), talk.client.take(), house.endings) == (data, data[::-1], ["--"])


@pytest.mark.parametrize(("which", "ending"), [("client", "CD"), ("server", "SD")])
def test_a_reset_is_passed_on(house: House, which: str, ending: str) -> None:
    talk = Talk(house)
    one, other = (talk.client, talk.server) if which == "client" else (talk.server, talk.client)
    one.send(b"x")
    house.run()
    one.abort()
    house.run()
    assert (other.fate, house.endings, house.quiet) == ("reset", [ending], True)


def test_a_reset_after_a_half_close_is_passed_on_too(house: House) -> None:
    talk = Talk(house)
    talk.client.finish()
    house.run()
    talk.server.send(b"part")
    house.run()
    talk.server.abort()
    house.run()
    assert (talk.client.fate, house.endings) == ("reset", ["SD"])


# -- finding a server --------------------------------------------------------------------------


def test_a_server_that_refuses_is_passed_over_for_the_next(make_house: MakeHouse) -> None:
    house = make_house(2, mode="tcp")
    origin = house.origin(2, raw=True)
    client = house.client()
    client.send(b"hello")
    house.run()
    assert origin.last.take() == b"hello"
    client.abort()
    house.run()
    (access,) = house.log
    assert (access.server, access.retries, access.redispatched) == ("s2", 1, True)


def test_a_server_that_does_not_answer_the_connection_is_passed_over_in_time(make_house: MakeHouse) -> None:
    house = make_house(2, mode="tcp", timeout_connect=2.0)
    house.blackhole(1)
    origin = house.origin(2, raw=True)
    client = house.client()
    client.send(b"hello")
    house.run(2.1)
    assert origin.last.take() == b"hello"


@pytest.mark.parametrize(("servers", "ending"), [(0, "SC"), (1, "SC"), (3, "SC")])
def test_without_a_server_the_client_is_closed_and_the_log_says_why(
    make_house: MakeHouse, servers: int, ending: str
) -> None:
    house = make_house(servers, mode="tcp")
    client = house.client()
    house.run()
    assert (client.eof, client.fate, house.endings) == (True, "closed", [ending])
    assert [server.connect_errors for server in house.backend] == ([3] if servers == 1 else [1] * servers)


def test_when_no_connection_comes_about_in_time(make_house: MakeHouse) -> None:
    house = make_house(1, mode="tcp", timeout_connect=2.0, retries=0)
    house.blackhole(1)
    client = house.client()
    house.run(2.1)
    assert (client.fate, house.endings, house.quiet) == ("closed", ["sC"], True)


@pytest.mark.parametrize("how", ["abort", "close"])
def test_a_client_that_leaves_while_it_is_placed(make_house: MakeHouse, how: str) -> None:
    """Nobody reads the client then, so it is noticed when the attempt has ended."""
    house = make_house(2, mode="tcp", timeout_connect=5.0)
    house.blackhole(1)
    origin = house.origin(2, raw=True)
    client = house.client()
    house.run(1)
    getattr(client, how)()
    house.run(5)
    if origin.connections:
        origin.last.close()
    house.run(1)
    assert (house.quiet, house.frontend.active, len(house.log)) == (True, 0, 1)


def test_the_queue(make_house: MakeHouse) -> None:
    house = make_house(1, mode="tcp", server_maxconn=1, timeout_queue=10.0)
    origin = house.origin(1, raw=True)
    one, two, three = house.client(), house.client(), house.client()
    two.send(b"two")
    house.run(3)
    assert (len(origin.connections), house.backend.waiting) == (1, 2)
    one.abort()
    house.run()
    assert (len(origin.connections), origin.last.take(), house.backend.waiting) == (2, b"two", 1)
    house.run(8)
    assert (three.fate, house.endings, house.backend.waiting) == ("closed", ["CD", "sQ"], 0)


def test_a_client_that_leaves_the_queue(make_house: MakeHouse) -> None:
    house = make_house(1, mode="tcp", server_maxconn=1, timeout_queue=60.0)
    house.origin(1, raw=True)
    house.client()
    waiting = house.client()
    waiting.abort()
    house.run(1)
    assert (house.endings, house.backend.waiting) == (["CQ"], 0)


def test_a_full_queue(make_house: MakeHouse) -> None:
    house = make_house(1, mode="tcp", server_maxconn=1, maxqueue=1)
    house.origin(1, raw=True)
    house.client()
    house.client()
    third = house.client()
    house.run()
    assert (third.fate, house.endings) == ("closed", ["SQ"])


def test_the_queue_is_told_when_the_last_server_goes(make_house: MakeHouse) -> None:
    house = make_house(1, mode="tcp", server_maxconn=1)
    house.origin(1, raw=True)
    house.client()
    waiting = house.client()
    house.server().admin = Admin.DRAIN
    house.backend.refresh()
    house.run()
    assert (waiting.fate, house.endings, house.server().in_flight) == ("closed", ["SC"], 1)


# -- time and memory ---------------------------------------------------------------------------


def test_a_session_in_which_nothing_moves_is_closed(make_house: MakeHouse) -> None:
    house = make_house(1, mode="tcp", timeout_tunnel=100.0)
    talk = Talk(house)
    for end in (talk.server, talk.client):
        house.run(99)
        end.send(b"x")
    house.run(99)
    assert house.log == []
    house.run(2)
    assert (house.endings, house.quiet, talk.origin.open, house.frontend.active) == (["cD"], True, 0, 0)


def test_a_client_that_does_not_read_stops_the_server(house: House) -> None:
    talk = Talk(house)
    talk.client.stop_reading()
    talk.server.send(b"x" * 10_000_000)
    house.run(1)
    assert 10_000_000 - talk.server.unsent <= 256 * 1024
    talk.client.read_on()
    house.run(1)
    assert talk.client.total == 10_000_000


def test_a_server_that_does_not_read_stops_the_client(house: House) -> None:
    talk = Talk(house)
    talk.server.stop_reading()
    talk.client.send(b"x" * 10_000_000)
    house.run(1)
    assert 10_000_000 - talk.client.unsent <= 256 * 1024
    talk.server.read_on()
    house.run(1)
    assert talk.server.total == 10_000_000


def test_what_is_queued_when_the_server_closes_still_arrives(house: House) -> None:
    talk = Talk(house)
    talk.client.stop_reading()
    talk.server.send(b"x" * 400_000)
    talk.server.close()
    house.run(1)
    talk.client.finish()
    house.run(10)
    talk.client.read_on()
    house.run(1)
    assert (talk.client.total, talk.client.eof) == (400_000, True)


def test_a_client_that_never_takes_the_last_bytes_is_cut(house: House) -> None:
    talk = Talk(house)
    talk.client.stop_reading()
    talk.server.send(b"x" * 200_000)
    talk.server.close()
    talk.client.finish()
    house.run(3700)
    assert (house.frontend.active, house.quiet) == (0, True)


def test_a_connection_that_is_closed_leaves_no_timer(house: House) -> None:
    talk = Talk(house)
    talk.client.close()
    house.run()
    talk.server.close()
    house.run()
    assert house.clock.getDelayedCalls() == []


# -- operators -------------------------------------------------------------------------------


def test_cut_closes_the_sessions_of_one_server_only(make_house: MakeHouse) -> None:
    house = make_house(2, mode="tcp")
    house.origin(1, raw=True)
    house.origin(2, raw=True)
    one, two = house.client(), house.client()
    house.factory.cut(house.server(1))
    house.run()
    assert (one.fate, two.fate, house.endings) == ("reset", None, ["KD"])
    assert (house.server(1).in_flight, house.server(2).in_flight) == (0, 1)


def test_abort_closes_a_session_that_still_waits(make_house: MakeHouse) -> None:
    house = make_house(1, mode="tcp", server_maxconn=1)
    house.origin(1, raw=True)
    house.client()
    house.client()
    assert house.factory.abort() == 2
    house.run()
    assert (house.quiet, house.frontend.active, len(house.log)) == (True, 0, 2)


def test_an_end_that_is_not_read_and_resets_is_missed_all_the_same(house: House) -> None:
    talk = Talk(house)
    talk.server.stop_reading()
    talk.client.send(b"x" * 1_000_000)
    house.run(3)
    talk.client.abort()
    house.run(0.6)
    assert (house.endings, house.quiet) == (["CD"], True)
    talk.server.read_on()


def test_so_is_one_that_still_waits_for_a_server(house: House) -> None:
    house.blackhole(1)
    client = house.client()
    client.send(b"x" * 1_000_000)
    house.run(2)
    client.abort()
    house.run(0.6)
    assert (house.endings, house.quiet) == (["CC"], True)

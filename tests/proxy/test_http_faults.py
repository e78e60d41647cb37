"""What goes wrong: servers that fail in each phase, clients that leave or are slow, requests that are no requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lbservice.core.server import Admin
from lbservice.core.settings import CheckSettings
from tests.support.actors import (
    OK,
    Client,
    answer,
    body_of,
    die,
    dribble,
    hang,
    leave,
    request_size,
    response,
    responses,
    then_close,
    then_die,
    wait,
)
from tests.support.house import House

MakeHouse = Callable[..., House]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_AND_CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
PUT = POST.replace(b"POST", b"PUT")
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart of it"


def requests(house: House) -> int:
    """How many whole requests have reached servers."""
    return sum(len(origin.requests) for origin in house.origins)


# -- placing ---------------------------------------------------------------------------------


def test_a_server_that_refuses_is_passed_over_for_the_next(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.origin(2)
    assert response(house.client().ask(GET)).status == 200
    (access,) = house.log
    assert (access.server, access.retries, access.redispatched, access.termination) == ("s2", 1, True, "--")
    assert (house.server(1).connect_errors, house.backend.retries) == (1, 1)


def test_a_post_too_is_passed_on_when_the_first_server_refuses(make_house: MakeHouse) -> None:
    house = make_house(2)
    origin = house.origin(2)
    assert response(house.client().ask(POST)).status == 200
    assert body_of(origin.requests[0]) == b"body"


def test_a_large_post_waits_for_its_second_server_in_bounded_memory(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.blackhole(1)
    origin = house.origin(2)
    client = house.client()
    body = b"0123456789" * 100_000
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    house.run(4)
    assert client.unsent > len(body) - 4 * 65536
    house.run(2)
    assert response(client.take()).status == 200
    assert body_of(origin.requests[0]) == body


def test_the_log_counts_the_bytes_of_a_refusal(house: House) -> None:
    client = house.client()
    client.lingers = True
    sent = client.ask(b"GET / HTTP/9.9\r\n\r\n")
    assert (response(sent).status, house.log[-1].bytes_out) == (505, len(sent))


def test_when_all_refuse_it_is_503(make_house: MakeHouse) -> None:
    house = make_house(3)
    client = house.client()
    got = response(client.ask(GET))
    assert (got.status, house.endings) == (503, ["503 SC"])
    assert int(got["Retry-After"]) > 0
    assert [server.connect_errors for server in house.backend] == [1, 1, 1]
    assert (house.log[-1].retries, house.log[-1].redispatched) == (2, True)
    assert client.fate is None
    assert response(client.ask(GET)).status == 503


def test_retries_can_be_bounded_to_none(make_house: MakeHouse) -> None:
    house = make_house(2, retries=0)
    house.origin(2)
    assert response(house.client().ask(GET)).status == 503
    assert house.log[0].retries == 0


def test_the_only_server_is_tried_again(make_house: MakeHouse) -> None:
    house = make_house(1)
    house.client().ask(GET)
    assert house.server().connect_errors == 3
    assert not house.log[0].redispatched


def test_with_no_server_available_it_is_503_at_once(make_house: MakeHouse) -> None:
    house = make_house(1, check=CheckSettings(inter=3.0, rise=2))
    house.server().admin = Admin.MAINT
    house.backend.refresh()
    got = response(house.client().ask(GET))
    assert (got.status, got["Retry-After"], house.endings) == (503, "6", ["503 SC"])
    assert house.log[0].server == "<NOSRV>"


def test_the_answer_to_head_is_503_without_a_body(house: House) -> None:
    client = house.client()
    raw = client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert response(raw, to_head=True).status == 503
    assert raw.endswith(b"\r\n\r\n")


def test_a_server_that_does_not_answer_the_connection_is_passed_over_in_time(make_house: MakeHouse) -> None:
    house = make_house(2, timeout_connect=2.0)
    house.blackhole(1)
    house.origin(2)
    client = house.client()
    client.send(GET)
    house.run(1.9)
    assert client.received == b""
    house.run(0.2)
    assert response(client.take()).status == 200
    assert house.server(1).in_flight == 0


def test_when_no_connection_comes_about_it_is_503(make_house: MakeHouse) -> None:
    house = make_house(1, timeout_connect=2.0, retries=1)
    house.blackhole(1)
    client = house.client()
    client.send(GET)
    house.run(3.9)
    assert client.received == b""
    house.run(0.2)
    assert response(client.take()).status == 503
    assert house.endings == ["503 sC"]


def test_a_broken_request_id_or_name_never_reaches_an_error_page(house: House) -> None:
    raw = house.client().ask(b"GET /<script> HTTP/1.1\r\nHost: evil\r\nX-Request-ID: <b>\r\n\r\n")
    assert b"script" not in raw
    assert b"evil" not in raw
    assert b"<b>" not in raw


# -- waiting for the head ----------------------------------------------------------------------


def test_a_server_that_says_nothing_is_504(make_house: MakeHouse) -> None:
    house = make_house(2, timeout_server=5.0)
    origin, other = house.origin(1, hang), house.origin(2)
    client = house.client()
    client.send(GET)
    house.run(4.9)
    assert client.received == b""
    house.run(0.2)
    assert response(client.take()).status == 504
    assert (house.endings, house.server().timeouts, origin.open) == (["504 sH"], 1, 0)
    assert other.requests == [], "what took that long once is not tried again"


def test_half_a_head_is_no_answer_either(make_house: MakeHouse) -> None:
    house = make_house(1, timeout_server=5.0)
    house.origin(1, b"HTTP/1.1 200 OK\r\nContent-Le")
    client = house.client()
    client.send(GET)
    house.run(5.1)
    assert response(client.take()).status == 504


@pytest.mark.parametrize("failing", [die, leave, then_close(b"HTTP/1.1 200"), then_die(b"HTTP/1.1 2")])
def test_a_get_that_a_server_drops_is_tried_on_another(make_house: MakeHouse, failing: Any) -> None:
    house = make_house(2)
    first, second = house.origin(1, failing), house.origin(2)
    client = house.client()
    client.send(GET)
    house.run(1)
    assert response(client.take()).status == 200
    assert (len(first.requests), len(second.requests)) == (1, 1)
    assert (house.log[0].retries, house.server(1).resets) == (1, 1)


@pytest.mark.parametrize("failing", [die, leave])
def test_a_post_that_a_server_drops_is_never_sent_twice(make_house: MakeHouse, failing: Any) -> None:
    house = make_house(2)
    house.origin(1, failing)
    house.origin(2)
    client = house.client()
    assert response(client.ask(POST)).status == 502
    assert (requests(house), house.endings) == (1, ["502 SH"])
    assert client.fate is None


def test_a_put_is_sent_again_with_its_body(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.origin(1, die)
    second = house.origin(2)
    assert response(house.client().ask(PUT)).status == 200
    assert body_of(second.requests[0]) == b"body"


def test_a_chunked_put_is_sent_again_with_its_chunks(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.origin(1, die)
    second = house.origin(2)
    raw = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert response(house.client().ask(raw)).status == 200
    assert body_of(second.requests[0]) == b"abcde"


def test_a_put_whose_first_server_dies_in_the_middle_goes_on_at_the_second(make_house: MakeHouse) -> None:
    house = make_house(2)
    first, second = house.origin(1, hang), house.origin(2)
    client = house.client()
    client.ask(PUT[:-2])
    first.last.abort()
    house.run()
    assert response(client.ask(PUT[-2:])).status == 200
    assert body_of(second.requests[0]) == b"body"


def test_a_put_that_is_too_large_to_be_held_is_not_sent_again(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.origin(1, die)
    house.origin(2)
    body = b"x" * 100_000
    raw = house.client().ask(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert response(raw).status == 502
    assert requests(house) == 1


def test_when_every_server_drops_it_the_client_is_told(make_house: MakeHouse) -> None:
    house = make_house(3)
    for number in (1, 2, 3):
        house.origin(number, die)
    assert response(house.client().ask(GET)).status == 502
    assert (requests(house), house.endings, house.backend.retries) == (3, ["502 SH"], 2)


def test_retries_share_one_bound_whatever_failed(make_house: MakeHouse) -> None:
    house = make_house(4)
    house.origin(1, die)
    house.origin(3, die)
    assert responses(house.client().ask(GET))[0].status in (502, 503)
    assert sum(server.requests for server in house.backend) == 3


# -- connections that died while idle ----------------------------------------------------------


def idle(house: House, how: str) -> None:
    """Make one idle connection that the server has left, as far as the network has told."""
    client = house.client()
    client.ask(GET)
    assert len(house.pool) == 1
    getattr(house.origins[0].last, how)()


@pytest.mark.parametrize("how", ["close", "abort"])
def test_an_idle_connection_that_the_server_leaves_is_forgotten(house: House, how: str) -> None:
    house.origin()
    idle(house, how)
    house.run()
    assert len(house.pool) == 0
    assert house.origins[0].open == 0


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("request_", [GET, POST, PUT])
def test_a_dead_idle_connection_is_replaced_by_a_fresh_one(house: House, request_: bytes, how: str) -> None:
    origin = house.origin()
    idle(house, how)
    assert response(house.client().ask(request_)).status == 200
    assert (len(origin.connections), len(origin.requests)) == (2, 2)
    assert (house.log[-1].retries, house.log[-1].termination) == (0, "--")


def test_a_get_on_a_dying_idle_connection_is_sent_again_once(house: House) -> None:
    origin = house.origin(1, OK, die, OK)
    client = house.client()
    client.ask(GET)
    assert response(client.ask(GET)).status == 200
    assert (len(origin.connections), house.log[-1].retries) == (2, 0)


def test_when_fresh_connections_die_as_well_the_retries_are_counted(house: House) -> None:
    origin = house.origin(1, OK, *[leave] * 20)
    client = house.client()
    client.ask(GET)
    assert response(client.ask(GET)).status == 502
    assert (len(origin.requests), house.log[-1].retries, house.log[-1].termination) == (5, 2, "SH")


def test_a_get_on_a_dying_idle_connection_is_not_anothers_business(make_house: MakeHouse) -> None:
    """With retries used up, the fresh connection is still tried: it was nobody's failure."""
    house = make_house(1, retries=0)
    origin = house.origin(1, OK, leave, OK)
    client = house.client()
    client.ask(GET)
    assert response(client.ask(GET)).status == 200
    assert len(origin.requests) == 3


def test_a_post_on_a_dying_idle_connection_is_not_sent_again(house: House) -> None:
    origin = house.origin(1, OK, die, OK)
    client = house.client()
    client.ask(GET)
    assert response(client.ask(POST)).status == 502
    assert len(origin.requests) == 2


# -- answers that break ------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [then_close(LONG), then_die(LONG)])
def test_a_body_that_breaks_off_is_passed_on_as_broken(house: House, ending: Any) -> None:
    house.origin(1, ending)
    client = house.client()
    client.send(GET)
    house.run(1)
    assert not client.received or not response(client.take()).whole
    assert (client.fate, client.eof, house.endings) == ("reset", False, ["200 SD"])
    assert house.server().resets == 1


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


@pytest.mark.parametrize(
    "ending", [then_close(CHUNKED), then_die(CHUNKED), dribble(CHUNKED + b"oops\r\n", len(CHUNKED), 0.1)]
)
def test_chunks_that_break_off_never_get_their_last_chunk(house: House, ending: Any) -> None:
    house.origin(1, ending)
    client = house.client()
    client.send(GET)
    house.run(1)
    assert b"\r\n0\r\n\r\n" not in client.take()
    assert client.fate == "reset"
    assert house.endings[0][:4] == "200 "


def test_a_body_until_close_that_is_reset_is_broken_too(house: House) -> None:
    house.origin(1, then_die(b"HTTP/1.1 200 OK\r\n\r\npart"))
    client = house.client()
    client.send(GET)
    house.run(1)
    assert b"0\r\n\r\n" not in client.take()
    assert (client.fate, house.endings) == ("reset", ["200 SD"])


def test_a_body_that_stops_coming_is_broken_off_in_time(make_house: MakeHouse) -> None:
    house = make_house(1, timeout_server=5.0)
    house.origin(1, LONG)
    client = house.client()
    client.send(GET)
    house.run(4.9)
    assert house.endings == []
    house.run(0.2)
    assert (client.fate, house.endings) == ("reset", ["200 sD"])


def test_a_slow_body_is_fine_while_it_moves(make_house: MakeHouse) -> None:
    house = make_house(1, timeout_server=5.0)
    house.origin(1, dribble(answer(b"0123456789" * 30), 100, 4.0))
    client = house.client()
    client.send(GET)
    house.run(60)
    assert response(client.take()).body == b"0123456789" * 30


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nbad\x00",
    ],
)
@pytest.mark.parametrize("request_", [GET, POST])
def test_garbage_is_502_and_not_asked_for_again(make_house: MakeHouse, garbage: bytes, request_: bytes) -> None:
    house = make_house(2)
    origin = house.origin(1, garbage)
    house.origin(2)
    client = house.client()
    got = responses(client.ask(request_))
    assert got[0].status == 502
    assert (house.endings, requests(house), origin.open) == (["502 PH"], 1, 0)
    assert client.fate is None


def test_an_answer_that_is_complete_survives_the_servers_reset(house: House) -> None:
    house.origin(1, then_die(OK, after=0.0))
    client = house.client()
    client.send(GET)
    house.run(1)
    assert response(client.take()).status == 200
    assert house.endings == ["200 --"]


# -- clients that leave ------------------------------------------------------------------------


def test_a_client_that_leaves_while_its_request_is_placed(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.blackhole(1)
    house.blackhole(2)
    client = house.client()
    client.send(GET)
    house.run(1)
    client.abort()
    house.run()
    assert house.endings[0][-2:] == "CC"
    assert (house.quiet, len(house.log)) == (True, 1)
    house.run(30)
    assert (len(house.log), [server.requests for server in house.backend]) == (1, [1, 0])
    assert [server.connect_errors for server in house.backend] == [0, 0]


def test_a_client_that_leaves_the_queue(make_house: MakeHouse) -> None:
    house = make_house(1, server_maxconn=1)
    origin = house.origin(1, wait(3))
    one, two = house.client(), house.client()
    one.send(GET)
    two.ask(GET)
    assert house.backend.waiting == 1
    two.abort()
    house.run()
    assert (house.endings[0][-2:], house.backend.waiting) == ("CQ", 0)
    house.run(10)
    assert (response(one.take()).status, len(origin.requests), house.quiet) == (200, 1, True)


def test_a_client_that_leaves_while_it_waits_for_the_head(house: House) -> None:
    origin = house.origin(1, hang)
    client = house.client()
    client.ask(GET)
    client.abort()
    house.run()
    assert (house.endings[0][-2:], house.quiet, origin.open, origin.last.fate) == ("CH", True, 0, "reset")


def test_a_client_that_leaves_in_the_middle_of_its_upload(house: House) -> None:
    origin = house.origin(1, hang)
    client = house.client()
    client.ask(POST[:-2])
    client.abort()
    house.run()
    assert (house.endings[0][-2:], house.quiet, origin.open, origin.requests) == ("CD", True, 0, [])


def test_a_client_that_finishes_in_the_middle_of_its_upload(house: House) -> None:
    origin = house.origin(1, hang)
    client = house.client()
    client.ask(POST[:-2])
    client.finish()
    house.run()
    assert (house.endings[0][-2:], house.quiet, origin.open) == ("CD", True, 0)
    assert client.fate == "reset"


@pytest.mark.parametrize("how", ["abort", "close"])
def test_a_client_that_leaves_in_the_middle_of_the_answer(house: House, how: str) -> None:
    origin = house.origin(1, dribble(answer(b"x" * 1000), 100, 1.0))
    client = house.client()
    client.send(GET)
    house.run(2.5)
    getattr(client, how)()
    house.run(2)
    assert (house.endings, house.quiet, origin.open) == (["200 CD"], True, 0)


def test_a_client_that_leaves_before_it_has_asked_is_not_logged(house: House) -> None:
    house.client().abort()
    house.client().close()
    house.run()
    assert house.log == []


def test_a_client_that_leaves_in_the_middle_of_its_head_is(house: House) -> None:
    one, two = house.client(), house.client()
    one.ask(GET[:10])
    one.abort()
    two.ask(GET[:10])
    two.close()
    house.run()
    assert [access.termination for access in house.log] == ["CR", "CR"]
    assert house.log[0].request_line == b"<BADREQ>"


# -- clients that close their half -------------------------------------------------------------


def test_a_client_that_closes_its_half_gets_half_a_second(house: House) -> None:
    house.origin(1, wait(0.4), wait(0.6))
    patient, impatient = house.client(), house.client()
    patient.lingers = impatient.lingers = True
    patient.send(GET)
    patient.finish()
    house.run(1)
    assert (response(patient.take()).status, patient.eof) == (200, True)
    impatient.send(GET)
    impatient.finish()
    house.run(1)
    assert (impatient.take(), impatient.fate) == (b"", "reset") or impatient.received == b""
    assert house.endings == ["200 --", "-1 CH"]
    assert house.quiet


def test_with_connection_close_it_gets_all_the_time(house: House) -> None:
    house.origin(1, wait(20))
    client = house.client()
    client.lingers = True
    client.send(GET_AND_CLOSE)
    client.finish()
    house.run(21)
    assert (response(client.take()).status, client.eof) == (200, True)
    assert house.endings == ["200 --"]


def test_pipelined_requests_before_a_half_close_are_all_answered(house: House) -> None:
    house.origin(1, wait(0.3))
    client = house.client()
    client.lingers = True
    client.send(GET * 3)
    client.finish()
    house.run(2)
    assert [got.status for got in responses(client.take())] == [200] * 3
    assert client.eof


def test_an_answer_that_has_begun_goes_on_after_a_half_close(house: House) -> None:
    house.origin(1, dribble(answer(b"x" * 100), 30, 0.4))
    client = house.client()
    client.lingers = True
    client.send(GET)
    house.run(1.5)
    client.finish()
    house.run(5)
    assert response(client.take()).body == b"x" * 100


def test_an_answer_that_pauses_after_a_half_close_has_nobody_waiting(house: House) -> None:
    origin = house.origin(1, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n")
    client = house.client()
    client.ask(GET)
    client.finish()
    house.run(0.9)
    assert house.endings == ["200 CD"]
    assert origin.open == 0


def test_a_half_close_between_requests_is_a_close(house: House) -> None:
    house.origin()
    client = house.client()
    client.ask(GET)
    client.finish()
    house.run()
    assert (client.eof, house.frontend.active, len(house.log)) == (True, 0, 1)


# -- slow clients ------------------------------------------------------------------------------


def test_a_head_must_come_in_time_and_bytes_do_not_buy_more(house: House) -> None:
    client = house.client()
    client.lingers = True
    for _ in range(19):
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d"[:1])
        house.run(0.5)
    assert client.received == b""
    client.send(b"E")
    house.run(0.6)
    assert response(client.take()).status == 408
    assert ([access.termination for access in house.log], client.eof) == (["cR"], True)
    assert house.log[0].status == 408


def test_the_time_for_the_second_head_starts_with_its_first_byte(house: House) -> None:
    house.origin()
    client = house.client()
    client.ask(GET)
    house.run(20)
    client.send(GET[:5])
    house.run(9.9)
    assert client.received == b""
    assert response(client.ask(GET[5:])).status == 200
    house.run(20)
    client.send(GET[:5])
    house.run(10.1)
    assert response(client.take()).status == 408


def test_a_connection_on_which_nothing_is_asked_is_closed_silently(house: House) -> None:
    client = house.client()
    house.run(9.9)
    assert not client.eof
    house.run(0.2)
    assert (client.received, client.eof, house.log) == (b"", True, [])


def test_an_idle_connection_is_closed_silently(house: House) -> None:
    house.origin()
    client = house.client()
    client.ask(GET)
    house.run(29.9)
    assert not client.eof
    house.run(0.2)
    assert (client.received, client.eof, len(house.log)) == (b"", True, 1)


def test_empty_lines_do_not_keep_a_connection(house: House) -> None:
    client = house.client()
    for _ in range(40):
        if client.fate is None:
            client.ask(b"\r\n")
            house.run(1)
    assert client.eof


def test_an_upload_that_stalls_is_408(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"timeout_client": 8.0})
    origin = house.origin(1, hang)
    client = house.client()
    client.lingers = True
    client.send(POST[:-2])
    house.run(7.9)
    assert client.received == b""
    house.run(0.2)
    got = response(client.take())
    assert (got.status, got["Connection"], client.eof) == (408, "close", True)
    assert (house.endings, origin.open) == (["408 cD"], 0)


def test_an_upload_that_stalls_while_it_is_answered_is_cut(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"timeout_client": 8.0})
    house.origin(1, LONG, early=True)
    client = house.client()
    client.send(POST[:-2])
    house.run(20)
    assert (client.fate, house.endings) == ("reset", ["200 cD"])


def test_an_upload_may_be_slow_but_not_that_slow(house: House) -> None:
    house.origin(1, hang)
    fine, slow = house.client(), house.client()
    for client in (fine, slow):
        client.lingers = True
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(25):
        house.run(1.0)
        fine.send(b"x" * 120)
        slow.send(b"x" * 50)
    assert (fine.received, response(slow.take()).status, house.endings) == (b"", 408, ["408 cD"])


def test_an_upload_that_the_server_holds_back_is_not_the_clients_fault(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"timeout_client": 5.0})
    origin = house.origin(1, raw=True)
    client = house.client()
    body = b"x" * 1_000_000
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
    house.run()
    origin.last.stop_reading()
    client.send(body)
    house.run(30)
    assert (client.received, client.fate) == (b"", None)
    origin.last.read_on()
    house.run()
    assert request_size(origin.last.received) == len(origin.last.received)


def test_a_client_that_is_not_read_and_goes_is_missed_all_the_same(house: House) -> None:
    origin = house.origin(1, raw=True)
    client = house.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    house.run()
    origin.last.stop_reading()
    client.send(b"x" * 1_000_000)
    house.run(3)
    client.abort()
    house.run(0.6)
    assert (house.endings, house.quiet) == (["-1 CD"], True)
    origin.last.read_on()


def test_a_client_that_is_not_read_in_the_queue_and_goes_is_missed_too(make_house: MakeHouse) -> None:
    house = make_house(1, server_maxconn=1, timeout_queue=100.0)
    house.origin(1, hang)
    busy, client = house.client(), house.client()
    busy.ask(GET)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)
    house.run(3)
    client.abort()
    house.run(0.6)
    assert (house.endings, house.backend.waiting) == (["-1 CQ"], 0)


def test_a_server_that_never_takes_the_upload_is_given_up(make_house: MakeHouse) -> None:
    house = make_house(1, timeout_server=20.0)
    origin = house.origin(1, raw=True)
    client = house.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    house.run()
    origin.last.stop_reading()
    client.send(b"x" * 1_000_000)
    house.run(100)
    assert [ending[:5] for ending in house.endings] == ["504 s"]
    assert house.quiet
    origin.last.read_on()  # else it does not notice


def test_time_that_the_server_took_does_not_count_against_the_clients_rate(make_house: MakeHouse) -> None:
    house = make_house(1, timeout_server=6000.0)
    origin = house.origin(1, hang)
    client = house.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n")
    house.run()
    origin.last.stop_reading()
    client.send(b"x" * 250_000)
    house.run(5000)
    origin.last.read_on()
    for _ in range(60):
        client.send(b"x" * 200)
        house.run(1)
    assert (client.received, house.endings) == (b"", [])


def test_a_client_that_does_not_read_is_cut(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"timeout_client": 5.0})
    house.origin(1, answer(b"x" * 1_000_000))
    client = house.client()
    client.send(GET)
    client.stop_reading()
    house.run(12)
    assert (house.endings, house.quiet, house.frontend.active) == (["200 cD"], True, 0)


def test_a_client_that_reads_slowly_is_not_cut(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"timeout_client": 5.0})
    house.origin(1, answer(b"x" * 1_000_000))
    client = house.client()
    client.send(GET)
    client.stop_reading()
    for _ in range(100):
        sip(house, client, 4.0)
    client.read_on()
    house.run()
    assert response(client.take()).whole
    assert house.endings == ["200 --"]


def sip(house: House, client: Client, seconds: float) -> None:
    """Read 16 KiB, then nothing for a while."""
    house.network.segment = 16 * 1024
    client.read_on()
    house.network.reactor._round()
    client.stop_reading()
    house.run(seconds)


@pytest.mark.parametrize("request_", [GET, GET_AND_CLOSE])
def test_the_last_bytes_may_take_their_time_while_they_move(make_house: MakeHouse, request_: bytes) -> None:
    house = make_house(1, frontend={"timeout_client": 5.0, "timeout_keep_alive": 5.0})
    house.origin(1, answer(b"x" * 200_000))
    client = house.client()
    client.stop_reading()
    client.send(request_)
    for _ in range(30):
        sip(house, client, 4.0)
    client.read_on()
    house.run(1)
    assert response(client.take()).whole
    assert house.endings == ["200 --"]


def test_an_early_answer_may_take_its_time_too(make_house: MakeHouse) -> None:
    house = make_house(1, frontend={"timeout_client": 5.0})
    house.network.capacity = 8 * 1024
    house.origin(1, answer(b"x" * 60_000), early=True)
    client = house.client()
    client.stop_reading()
    client.send(POST[:-2])
    for _ in range(30):
        sip(house, client, 1.5)
    client.read_on()
    house.run(1)
    assert response(client.take()).whole


def test_a_client_that_stops_its_upload_for_an_early_answer_gets_all_of_it(house: House) -> None:
    """As RFC 9112 section 9.5 advises: it need not send the rest of a body that was refused."""
    house.origin(1, dribble(answer(b"x" * 1000, status=b"413 Content Too Large"), 50, 1.0), early=True)
    client = house.client()
    client.send(POST[:-2])
    house.run(60)
    assert response(client.take()).whole
    assert house.endings == ["413 --"]


@pytest.mark.parametrize("request_", [GET, GET_AND_CLOSE])
def test_the_last_bytes_are_cut_when_they_do_not_move(make_house: MakeHouse, request_: bytes) -> None:
    house = make_house(1, frontend={"timeout_client": 5.0, "timeout_keep_alive": 5.0})
    house.origin(1, answer(b"x" * 150_000))
    client = house.client()
    client.stop_reading()
    client.send(request_)
    house.run(30)
    assert house.frontend.active == 0


def test_a_half_close_behind_pipelined_requests_is_still_remembered_at_the_end(make_house: MakeHouse) -> None:
    house = make_house(1)
    house.origin(1, wait(0.4))
    client = house.client()
    client.lingers = True
    client.send(GET * 3)
    client.finish()
    house.run(0.2)
    house.server().admin = Admin.DRAIN
    house.backend.refresh()
    house.run(1)
    assert [got.status for got in responses(client.take())] == [200, 503, 503]
    assert client.eof


# -- the queue -------------------------------------------------------------------------------


def test_what_waits_too_long_is_503(make_house: MakeHouse) -> None:
    house = make_house(1, server_maxconn=1, timeout_queue=3.0)
    house.origin(1, wait(10))
    one, two = house.client(), house.client()
    one.send(GET)
    two.send(GET)
    house.run(2.9)
    assert two.received == b""
    house.run(0.2)
    got = response(two.take())
    assert (got.status, house.endings, house.backend.waiting) == (503, ["503 sQ"], 0)
    assert int(got["Retry-After"]) > 0
    house.run(10)
    assert (response(one.take()).status, house.quiet) == (200, True)


def test_the_queue_is_first_in_first_out(make_house: MakeHouse) -> None:
    house = make_house(1, server_maxconn=1, timeout_queue=60.0)
    origin = house.origin(1, wait(1))
    clients = [house.client() for _ in range(5)]
    for number, client in enumerate(clients):
        client.ask(GET.replace(b"/", b"/%d" % number, 1))
    assert (house.server().in_flight, house.backend.waiting) == (1, 4)
    house.run(6)
    assert [request[4:6] for request in origin.requests] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert [access.backend_queue for access in house.log] == [0, 0, 1, 2, 3]
    assert all(response(client.take()).status == 200 for client in clients)
    assert len(origin.connections) == 1


def test_a_queue_that_is_full_is_503_at_once(make_house: MakeHouse) -> None:
    house = make_house(1, server_maxconn=1, maxqueue=1)
    house.origin(1, wait(1))
    one, two, three = house.client(), house.client(), house.client()
    one.ask(GET)
    two.ask(GET)
    assert response(three.ask(GET)).status == 503
    assert house.endings == ["503 SQ"]
    house.run(5)
    assert response(two.take()).status == 200


def test_the_queue_is_told_when_the_last_server_goes(make_house: MakeHouse) -> None:
    house = make_house(1, server_maxconn=1)
    house.origin(1, wait(1))
    one, two = house.client(), house.client()
    one.ask(GET)
    two.ask(GET)
    house.server().admin = Admin.DRAIN
    house.backend.refresh()
    house.run()
    assert (response(two.take()).status, house.endings) == (503, ["503 SC"])
    house.run(2)
    assert response(one.take()).status == 200


def test_a_retry_may_have_to_queue(make_house: MakeHouse) -> None:
    house = make_house(2, server_maxconn=1, timeout_queue=10.0)
    house.origin(1, wait(2))
    first, second = house.client(), house.client()
    first.ask(GET)
    house.server(2).weight = 0
    house.backend.refresh()
    house.server(2).weight = 1
    second.send(GET)
    house.run(1)
    assert house.backend.waiting == 1
    house.run(5)
    assert [response(client.take()).status for client in (first, second)] == [200, 200]


def test_many_queue_for_a_server_that_dies(make_house: MakeHouse) -> None:
    house = make_house(1, server_maxconn=1, timeout_queue=60.0)
    origin = house.origin(1, hang)
    clients = [house.client() for _ in range(10)]
    for client in clients:
        client.ask(POST)
    origin.gone()
    house.run(1)
    assert [responses(client.take())[0].status for client in clients] == [502] + [503] * 9
    assert house.quiet


# -- requests that are none ----------------------------------------------------------------------

BAD = [
    (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n"),
    (400, b"\x16\x03\x01\x02\x00\r\n\r\n"),
    (405, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    (417, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\nx"),
    (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100 + b"\r\n"),
    (414, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    (414, b"GET /" + b"x" * 40000),
    (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
]


@pytest.mark.parametrize(("status", "raw"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_what_is_no_request_is_refused_and_nothing_after_it_is_one(house: House, status: int, raw: bytes) -> None:
    origin = house.origin()
    client = house.client()
    client.lingers = True
    got = response(client.ask(raw + GET))
    assert (got.status, got["Connection"], client.eof) == (status, "close", True)
    client.send(GET)
    house.run(5)
    assert (client.take(), origin.requests, house.frontend.active) == (b"", [], 0)
    (access,) = house.log
    assert (access.status, access.termination, access.server) == (status, "PR", "<NOSRV>")


def test_a_good_request_before_a_bad_one_is_served(house: House) -> None:
    origin = house.origin()
    client = house.client()
    good, bad = responses(client.ask(GET + b"nonsense\r\n\r\n" + GET))
    assert (good.status, bad.status, len(origin.requests)) == (200, 400, 1)
    assert house.endings == ["200 --", "400 PR"]


def test_a_body_that_is_no_body_is_refused_and_nothing_after_it_is_a_request(house: House) -> None:
    origin = house.origin(1, hang)
    client = house.client()
    client.lingers = True
    client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    got = response(client.ask(b"zz\r\n" + GET))
    assert (got.status, got["Connection"], client.eof) == (400, "close", True)
    client.send(GET)
    house.run(5)
    assert (client.take(), origin.requests, origin.open) == (b"", [], 0)
    assert house.endings == ["400 PR"]


def test_a_body_that_is_no_body_at_once(house: House) -> None:
    origin = house.origin()
    client = house.client()
    raw = client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n" + GET)
    assert (response(raw).status, origin.connections) == (400, [])
    assert house.endings == ["400 PR"]


def test_a_body_that_turns_bad_while_its_server_is_sought(house: House) -> None:
    house.blackhole(1)
    client = house.client()
    client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert response(client.ask(b"nonsense\r\n")).status == 400
    house.run(30)
    assert (house.endings, house.quiet) == (["400 PR"], True)


def test_a_503_in_the_middle_of_an_upload_is_not_followed_by_a_reading_of_the_rest(house: House) -> None:
    client = house.client()
    client.lingers = True
    got = response(client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n" + GET))
    assert (got.status, got["Connection"], client.eof) == (503, "close", True)
    client.send(GET * 2)
    house.run(5)
    assert (client.take(), house.endings) == (b"", ["503 SC"])

"""Requests and responses that go well, seen from both ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.actors import (
    OK,
    Connection,
    answer,
    body_of,
    die,
    dribble,
    field,
    fields_of,
    hang,
    response,
    responses,
    then_close,
    wait,
)
from tests.support.house import House

MakeHouse = Callable[..., House]
GET = b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def get(*fields: bytes, path: bytes = b"/", host: bytes = b"app.example") -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, b"Host: %b" % host, *fields]) + b"\r\n\r\n"


def post(body: bytes, *fields: bytes) -> bytes:
    head = [b"POST /form HTTP/1.1", b"Host: app.example", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


# -- the plain cases -------------------------------------------------------------------------


def test_a_get_is_passed_on_and_answered(house: House) -> None:
    origin = house.origin(1, answer(b"hello", b"X-Colour: blue", b"Set-Cookie: a=1", b"Set-Cookie: b=2"))
    got = response(house.client().ask(get(b"Accept: */*", b"Cookie: c=3", path=b"/a?b=c")))
    assert (got.status, got.body, got["X-Colour"]) == (200, b"hello", "blue")
    assert got.all("Set-Cookie") == ["a=1", "b=2"]
    assert origin.requests[0].startswith(b"GET /a?b=c HTTP/1.1\r\nHost: app.example\r\nAccept: */*\r\nCookie: c=3\r\n")
    (access,) = house.log
    assert (access.status, access.termination, access.server, access.client[:12]) == (200, "--", "s1", "198.51.100.7")
    assert access.request_line == b"GET /a?b=c HTTP/1.1"


def test_a_post_carries_its_body(house: House) -> None:
    origin = house.origin()
    assert response(house.client().ask(post(b"name=value"))).status == 200
    assert body_of(origin.requests[0]) == b"name=value"
    assert field(origin.requests[0], "Content-Length") == "10"


def test_a_body_of_length_zero_keeps_its_length(house: House) -> None:
    origin = house.origin()
    house.client().ask(post(b""))
    assert field(origin.requests[0], "Content-Length") == "0"


def test_a_body_may_come_in_pieces(house: House) -> None:
    origin = house.origin()
    client = house.client()
    whole = post(b"0123456789")
    assert client.ask(whole[:-5]) == b""
    assert response(client.ask(whole[-5:])).status == 200
    assert body_of(origin.requests[0]) == b"0123456789"


def test_head_is_answered_with_the_length_and_without_the_body(house: House) -> None:
    house.origin(1, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    client = house.client()
    request = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert response(client.ask(request), to_head=True)["Content-Length"] == "1000"
    assert response(client.ask(request), to_head=True)["Content-Length"] == "1000"
    assert (house.endings, len(house.origins[0].connections)) == (["200 --"] * 2, 1)


def test_head_of_a_chunked_resource_says_so_or_nothing_but_never_a_body(house: House) -> None:
    house.origin(1, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    client = house.client()
    raw = client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert raw.endswith(b"\r\n\r\n")
    assert raw.count(b"\r\n\r\n") == 1
    assert response(client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), to_head=True).status == 200


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_status_without_body_ends_with_its_head(house: House, status: bytes) -> None:
    origin = house.origin(1, b"HTTP/1.1 " + status + b'\r\nETag: "x"\r\n\r\n', OK)
    client = house.client()
    raw = client.ask(GET)
    assert raw.endswith(b"\r\n\r\n")
    assert response(raw).status == int(status[:3])
    assert b"chunked" not in raw
    assert response(client.ask(GET)).body == b"hello"
    assert len(origin.connections) == 1


def test_304_keeps_the_length_of_what_was_not_sent(house: House) -> None:
    house.origin(1, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n", OK)
    client = house.client()
    assert response(client.ask(GET))["Content-Length"] == "77"
    assert response(client.ask(GET)).body == b"hello"


def test_options_for_the_whole_server(house: House) -> None:
    origin = house.origin()
    house.client().ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    assert origin.requests[0].startswith(b"OPTIONS * HTTP/1.1\r\n")


def test_absolute_form_goes_on_as_origin_form(house: House) -> None:
    origin = house.origin()
    house.client().ask(b"GET http://app.example/x HTTP/1.1\r\nHost: app.example\r\n\r\n")
    assert origin.requests[0].startswith(b"GET /x HTTP/1.1\r\nHost: app.example\r\n")


# -- connections that carry many exchanges -----------------------------------------------------


def test_both_connections_are_kept(house: House) -> None:
    origin = house.origin()
    client = house.client()
    for _ in range(3):
        assert response(client.ask(GET)).status == 200
    assert (len(origin.connections), len(origin.requests), len(house.pool)) == (1, 3, 1)


def test_an_idle_connection_is_taken_by_another_client(house: House) -> None:
    origin = house.origin()
    house.client().ask(GET)
    house.client().ask(GET)
    assert len(origin.connections) == 1


def test_the_newest_idle_connection_is_taken_first(house: House) -> None:
    origin = house.origin(1, wait(1), wait(2), OK)
    one, two = house.client(), house.client()
    one.send(GET)
    two.send(GET)
    house.run(3)
    assert (len(origin.connections), len(house.pool)) == (2, 2)
    one.ask(GET)
    assert [connection.answered for connection in origin.connections] == [1, 2]


def test_connection_close_of_the_client_closes_only_the_clients(house: House) -> None:
    origin = house.origin()
    client = house.client()
    got = response(client.ask(get(b"Connection: close")))
    assert (got.body, got["Connection"]) == (b"hello", "close")
    assert (client.eof, origin.open, len(house.pool)) == (True, 1, 1)
    assert field(origin.requests[0], "Connection") is None


def test_connection_close_of_the_server_closes_only_the_servers(house: House) -> None:
    origin = house.origin(1, then_close(answer(b"bye", b"Connection: close")), OK)
    client = house.client()
    assert response(client.ask(GET)).all("Connection") == []
    assert response(client.ask(GET)).body == b"hello"
    assert (len(origin.connections), client.fate) == (2, None)


def test_a_server_that_says_close_but_stays_is_closed_by_us(house: House) -> None:
    origin = house.origin(1, answer(b"bye", b"Connection: close"))
    house.client().ask(GET)
    assert (origin.open, len(house.pool)) == (0, 0)


def test_http_10_closes_by_default(house: House) -> None:
    origin = house.origin()
    client = house.client()
    got = response(client.ask(b"GET / HTTP/1.0\r\n\r\n"))
    assert (got.body, got["Connection"], client.eof) == (b"hello", "close", True)
    assert origin.requests[0].startswith(b"GET / HTTP/1.1\r\nHost: 10.0.0.1:8000\r\n")


def test_http_10_is_kept_alive_when_it_asks_and_is_told_so(house: House) -> None:
    house.origin()
    client = house.client()
    request = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert response(client.ask(request))["Connection"] == "keep-alive"
    assert response(client.ask(request)).status == 200
    assert client.fate is None


def test_http_10_gets_no_chunks_but_a_close(house: House) -> None:
    house.origin(1, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    client = house.client()
    got = response(client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))
    assert (got.body, got.all("Transfer-Encoding"), got["Connection"]) == (b"hello", [], "close")
    assert client.eof


def test_an_http_10_server_is_not_kept(house: House) -> None:
    origin = house.origin(1, then_close(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
    client = house.client()
    raw = client.ask(GET)
    assert raw.startswith(b"HTTP/1.1 200 OK")
    assert response(raw).body == b"hello"
    assert (client.fate, len(house.pool), origin.open) == (None, 0, 0)


def test_a_connection_serves_1000_requests_and_then_makes_room(house: House) -> None:
    origin = house.origin()
    client = house.client()
    for _ in range(1001):
        client.ask(GET)
    assert [connection.answered for connection in origin.connections] == [1000, 1]
    assert origin.open == 1


# -- pipelining ------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order_one_at_a_time(make_house: MakeHouse) -> None:
    house = make_house(2)
    slow = house.origin(1, wait(1, answer(b"first")), wait(1, answer(b"third")))
    fast = house.origin(2, answer(b"second"))
    client = house.client()
    client.send(get(path=b"/1") + get(path=b"/2") + get(path=b"/3"))
    house.run(0.5)
    assert (len(slow.requests), len(fast.requests)) == (1, 0)
    house.run(2)
    assert [got.body for got in responses(client.take())] == [b"first", b"second", b"third"]
    assert [access.request_line[4:6] for access in house.log] == [b"/1", b"/2", b"/3"]


def test_a_request_may_follow_a_body_at_once(house: House) -> None:
    origin = house.origin()
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    got = responses(house.client().ask(post(b"one") + chunked + GET))
    assert [each.status for each in got] == [200] * 3
    assert [body_of(request) for request in origin.requests] == [b"one", b"abc", b""]


def test_nothing_is_served_after_connection_close(house: House) -> None:
    origin = house.origin()
    client = house.client()
    client.send(get(b"Connection: close") + GET)
    house.run(5)
    assert len(responses(client.take())) == 1
    assert (len(origin.requests), client.fate) == (1, "closed")


def test_empty_lines_before_a_request_are_skipped(house: House) -> None:
    house.origin()
    client = house.client()
    assert response(client.ask(b"\r\n\r\n" + GET)).status == 200
    assert client.ask(b"\r\n") == b""
    assert response(client.ask(GET)).status == 200


# -- chunks and ends by closing ----------------------------------------------------------------


def test_chunks_go_through_in_both_directions(house: House) -> None:
    origin = house.origin(
        1, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: x\r\n\r\n"
    )
    client = house.client()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = client.ask(head + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n")
    assert (response(raw).body, response(raw).whole) == (b"hello world", True)
    assert b"T: x" not in raw
    assert body_of(origin.requests[0]) == b"abcde"
    assert b"a=b" not in origin.requests[0]
    assert b"Trailer: x" not in origin.requests[0]
    assert field(origin.requests[0], "Content-Length") is None
    assert response(client.ask(GET)).status == 200
    assert len(origin.connections) == 1


def test_chunks_go_on_as_they_come(house: House) -> None:
    house.origin(
        1, dribble(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n", 53, 1.0)
    )
    client = house.client()
    client.send(GET)
    house.run(0.5)
    first = client.take()
    assert (response(first).body, response(first).whole) == (b"a", False)
    house.run(1)
    assert client.take() == b"1\r\nb\r\n0\r\n\r\n"


def test_a_body_that_ends_with_the_connection_becomes_chunks(house: House) -> None:
    house.origin(1, then_close(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"), OK)
    client = house.client()
    got = response(client.ask(GET))
    assert (got.body, got.whole, got["Transfer-Encoding"]) == (b"until the end", True, "chunked")
    assert client.fate is None
    assert response(client.ask(GET)).body == b"hello"
    assert house.endings == ["200 --"] * 2


def test_an_http_10_server_that_ends_by_closing(house: House) -> None:
    house.origin(1, then_close(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold"))
    client = house.client()
    got = response(client.ask(b"GET / HTTP/1.0\r\n\r\n"))
    assert (got.body, client.eof) == (b"old", True)
    assert house.endings == ["200 --"]


def test_an_empty_body_that_ends_with_the_connection(house: House) -> None:
    house.origin(1, then_close(b"HTTP/1.1 200 OK\r\n\r\n"))
    got = response(house.client().ask(GET))
    assert (got.body, got.whole) == (b"", True)
    assert house.endings == ["200 --"]


# -- 1xx -------------------------------------------------------------------------------------


EXPECTING = post(b"12345", b"Expect: 100-continue")[:-5]


def test_an_expectation_goes_to_the_server_and_its_100_to_the_client(house: House) -> None:
    origin = house.origin(raw=True)
    client = house.client()
    assert client.ask(EXPECTING) == b""
    assert field(origin.last.take(), "Expect") == "100-continue"
    origin.last.send(CONTINUE)
    house.run()
    assert client.take() == CONTINUE
    client.ask(b"12345")
    assert origin.last.take() == b"12345"
    origin.last.send(OK)
    house.run()
    assert response(client.take()).status == 200


def test_a_server_that_wants_no_body_says_so_before_it_is_sent(house: House) -> None:
    house.origin(1, answer(b"no", status=b"413 Content Too Large"), early=True)
    client = house.client()
    refused = response(client.ask(EXPECTING))
    assert (refused.status, refused.body, refused["Connection"]) == (413, b"no", "close")
    assert client.eof


def test_for_a_server_that_does_not_know_of_it_we_say_100_after_a_while(house: House) -> None:
    origin = house.origin()
    client = house.client()
    client.send(EXPECTING)
    house.run(1.9)
    assert client.take() == b""
    house.run(0.2)
    assert client.take() == CONTINUE
    assert response(client.ask(b"12345")).status == 200
    assert body_of(origin.requests[0]) == b"12345"


def test_the_client_need_not_wait(house: House) -> None:
    house.origin(1, CONTINUE + OK)
    client = house.client()
    client.ask(EXPECTING)
    assert response(client.ask(b"12345")).status == 200


def test_a_body_that_is_there_already_expects_nothing(house: House) -> None:
    origin = house.origin(1, CONTINUE + OK)
    assert response(house.client().ask(EXPECTING + b"12345")).status == 200
    assert field(origin.requests[0], "Expect") is None


def test_no_body_expects_nothing(house: House) -> None:
    origin = house.origin()
    assert response(house.client().ask(get(b"Expect: 100-continue"))).status == 200
    assert field(origin.requests[0], "Expect") is None


def test_a_body_that_does_not_begin_is_408(make_house: MakeHouse) -> None:
    house = make_house(frontend={"timeout_client_head": 3.0})
    house.origin(1, raw=True)
    client = house.client()
    client.send(EXPECTING)
    house.run(2.9)
    assert client.take() == CONTINUE
    house.run(0.2)
    assert response(client.take()).status == 408
    assert house.endings == ["408 cD"]


def test_time_in_the_queue_is_not_the_clients(make_house: MakeHouse) -> None:
    house = make_house(server_maxconn=1, frontend={"timeout_client_head": 1.0}, timeout_queue=9.0)
    house.origin(1, wait(4.0), OK)
    first, second = house.client(), house.client()
    first.send(GET)
    second.send(EXPECTING)
    house.run(4.5)
    assert second.take() == b""
    assert response(second.ask(b"12345")).status == 200


def test_100_is_not_said_when_there_is_no_server(house: House) -> None:
    client = house.client()
    raw = client.ask(EXPECTING)
    assert response(raw).status == 503
    assert client.eof


def test_an_expectation_goes_to_the_second_server_too(make_house: MakeHouse) -> None:
    house = make_house(2)
    house.origin(1, die, early=True)
    origin = house.origin(2)
    client = house.client()
    client.ask(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert response(client.ask(b"ab")).status == 200
    assert field(origin.requests[0], "Expect") == "100-continue"


def test_a_100_that_nobody_waits_for_goes_no_further(house: House) -> None:
    house.origin(1, CONTINUE + OK)
    assert response(house.client().ask(post(b"x"))).status == 200


def test_early_hints_are_passed_on(house: House) -> None:
    house.origin(1, dribble(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, 41, 1.0))
    client = house.client()
    client.send(GET)
    house.run(5)
    early, final = responses(client.take())
    assert (early.status, early["Link"], final.body) == (103, "</a>", b"hello")
    assert early.all("Content-Length") == early.all("Transfer-Encoding") == []


def test_early_hints_are_not_for_http_10(house: House) -> None:
    house.origin(1, b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert response(house.client().ask(b"GET / HTTP/1.0\r\n\r\n")).status == 200


def test_too_many_interim_responses_are_no_answer(house: House) -> None:
    house.origin(1, b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17 + OK)
    assert responses(house.client().ask(GET))[-1].status == 502
    assert house.endings == ["502 PH"]


# -- what is said about the client -----------------------------------------------------------


def test_the_server_is_told_who_asked(house: House) -> None:
    origin = house.origin()
    house.client().ask(get(host=b"app.example:8443"))
    request = origin.requests[0]
    assert field(request, "X-Forwarded-For") == "198.51.100.7"
    assert field(request, "X-Forwarded-Proto") == "http"
    assert field(request, "X-Forwarded-Port") == "80"
    assert field(request, "X-Forwarded-Host") == "app.example:8443"
    assert field(request, "Host") == "app.example:8443"
    assert field(request, "Via") == "1.1 lbservice"


LIES = (
    b"X-Forwarded-For: 1.2.3.4",
    b"x-forwarded-for: 5.6.7.8",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: evil.example",
    b"X-Forwarded-Port: 1",
    b"Forwarded: for=1.2.3.4",
    b"X-Real-IP: 1.2.3.4",
)


def test_a_strangers_forwarding_fields_are_replaced(house: House) -> None:
    origin = house.origin()
    house.client().ask(get(*LIES))
    request = origin.requests[0]
    assert field(request, "X-Forwarded-For") == "198.51.100.7"
    assert field(request, "X-Forwarded-Proto") == "http"
    assert field(request, "X-Forwarded-Host") == "app.example"
    assert field(request, "X-Forwarded-Port") == "80"
    assert b"1.2.3.4" not in request
    assert b"evil" not in request


def test_a_trusted_proxys_are_kept_and_it_joins_the_chain(make_house: MakeHouse) -> None:
    house = make_house(frontend={"trusted": ("198.51.100.0/24",)})
    origin = house.origin()
    house.client("198.51.100.7").ask(get(*LIES))
    house.client("203.0.113.1").ask(get(*LIES))
    trusted, stranger = origin.requests
    assert field(trusted, "X-Forwarded-For") == "1.2.3.4, 5.6.7.8, 198.51.100.7"
    assert field(trusted, "X-Forwarded-Proto") == "https"
    assert field(trusted, "X-Forwarded-Host") == "evil.example"
    assert field(trusted, "X-Forwarded-Port") == "1"
    assert field(trusted, "X-Real-IP") == "1.2.3.4"
    assert field(stranger, "X-Forwarded-For") == "203.0.113.1"
    assert field(stranger, "X-Real-IP") is None


def test_a_trusted_proxy_that_says_nothing_is_the_client(make_house: MakeHouse) -> None:
    house = make_house(frontend={"trusted": ("198.51.100.7/32",)})
    origin = house.origin()
    house.client().ask(GET)
    assert field(origin.requests[0], "X-Forwarded-For") == "198.51.100.7"
    assert field(origin.requests[0], "X-Forwarded-Host") == "app.example"


def test_via_is_added_to_and_names_the_clients_version(house: House) -> None:
    origin = house.origin()
    house.client().ask(get(b"Via: 1.1 outer"))
    house.client().ask(b"GET / HTTP/1.0\r\n\r\n")
    assert field(origin.requests[0], "Via") == "1.1 outer, 1.1 lbservice"
    assert field(origin.requests[1], "Via") == "1.0 lbservice"


def test_via_can_be_left_out(make_house: MakeHouse) -> None:
    house = make_house(frontend={"via": None})
    origin = house.origin()
    house.client().ask(GET)
    assert field(origin.requests[0], "Via") is None


def test_via_of_others_survives_when_ours_is_left_out(make_house: MakeHouse) -> None:
    house = make_house(frontend={"via": None})
    origin = house.origin()
    house.client().ask(get(b"Via: 1.1 outer"))
    assert field(origin.requests[0], "Via") == "1.1 outer"


def test_a_request_id_is_made_and_told_to_both(house: House) -> None:
    origin = house.origin()
    client = house.client()
    one, two = response(client.ask(GET)), response(client.ask(GET))
    assert one["X-Request-ID"] == field(origin.requests[0], "X-Request-ID") == house.log[0].request_id.decode()
    assert one["X-Request-ID"] != two["X-Request-ID"]


def test_a_clients_own_request_id_is_kept_if_it_is_harmless(house: House) -> None:
    origin = house.origin()
    client = house.client()
    assert response(client.ask(get(b"X-Request-ID: abc-123")))["X-Request-ID"] == "abc-123"
    assert response(client.ask(get(b'X-Request-ID: "$(rm)')))["X-Request-ID"] != '"$(rm)'
    assert field(origin.requests[0], "X-Request-ID") == "abc-123"
    assert b"rm" not in origin.requests[1]


def test_a_response_without_a_date_gets_one_and_another_keeps_its_own(house: House) -> None:
    house.origin(1, OK, answer(b"hello", b"DATE: yesterday"))
    client = house.client()
    assert response(client.ask(GET)).all("Date") == ["Thu, 01 Jan 1970 00:00:00 GMT"]
    assert response(client.ask(GET)).all("Date") == ["yesterday"]


def test_a_servers_own_request_id_is_replaced_by_ours(house: House) -> None:
    house.origin(1, answer(b"", b"X-Request-ID: theirs"))
    assert response(house.client().ask(get(b"X-Request-ID: ours")))["X-Request-ID"] == "ours"


# -- what goes no further --------------------------------------------------------------------

HOP_BY_HOP = (
    b"Connection: keep-alive, X-Private",
    b"X-Private: secret",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"TE: trailers",
    b"Trailer: X-Sum",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAAA",
    b"Proxy: http://evil",
)


def test_hop_by_hop_fields_of_a_request_go_no_further(house: House) -> None:
    origin = house.origin()
    house.client().ask(get(*HOP_BY_HOP, b"X-Kept: yes", b"X_Forwarded_For: 6.6.6.6"))
    names = {name.lower() for name, _ in fields_of(origin.requests[0])}
    assert names == {
        "host", "x-kept", "x-request-id", "via",
        "x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-host",
    }  # fmt: skip


def test_hop_by_hop_fields_of_a_response_go_no_further(house: House) -> None:
    fields = (b"Connection: X-Private, close", b"X-Private: 1", b"Keep-Alive: timeout=5", b"Upgrade: h2c", b"X-Kept: 1")
    house.origin(1, answer(b"hello", *fields))
    got = response(house.client().ask(GET))
    assert sorted(name.lower() for name, _ in got.fields) == ["content-length", "date", "x-kept", "x-request-id"]


def test_connection_cannot_take_our_own_fields_away(house: House) -> None:
    origin = house.origin()
    house.client().ask(get(b"Connection: X-Forwarded-For, X-Request-ID, Via, Host, Cookie", b"Cookie: a=b"))
    request = origin.requests[0]
    assert field(request, "X-Forwarded-For") == "198.51.100.7"
    assert field(request, "Host") == "app.example"
    assert field(request, "X-Request-ID")
    assert field(request, "Cookie") is None


# -- early answers and surplus -----------------------------------------------------------------


def test_an_answer_may_come_before_the_whole_body(house: House) -> None:
    origin = house.origin(1, answer(b"too big", status=b"413 Content Too Large"), early=True)
    client = house.client()
    client.lingers = True
    client.send(post(b"x" * 100)[:-50])
    house.run()
    got = response(client.take())
    assert (got.status, got.body, got["Connection"]) == (413, b"too big", "close")
    assert origin.open == 0, "the rest of the body must not be read as a request"
    assert client.eof
    client.send(b"x" * 50 + GET)
    house.run(5)
    assert (client.take(), house.frontend.active) == (b"", 0)
    assert house.endings == ["413 --"]


def test_an_early_answer_may_still_be_coming_when_the_body_ends(house: House) -> None:
    def script(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        connection.later(1, lambda: connection.send(b"world"))

    house.origin(1, script, OK, early=True)
    client = house.client()
    head = client.ask(post(b"0123456789")[:-5])
    client.send(b"56789")
    house.run(2)
    assert response(head + client.take()).body == b"helloworld"
    assert (response(head)["Connection"], client.eof, house.endings) == ("close", True, ["200 --"])


def test_an_answer_before_the_server_has_taken_the_whole_request_costs_the_connection(house: House) -> None:
    origin = house.origin(1, raw=True)
    client = house.client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    house.run()
    origin.last.stop_reading()
    client.send(b"x" * 100_000)
    house.run()
    origin.last.send(OK)
    house.run()
    assert response(client.take()).status == 200
    assert len(house.pool) == 0
    assert not client.eof, "the client's part is done"
    origin.last.read_on()


def test_surplus_bytes_cost_the_connection(house: House) -> None:
    origin = house.origin(1, OK + answer(b"smuggled"), OK)
    client = house.client()
    assert response(client.ask(GET)).body == b"hello"
    assert (origin.open, len(house.pool)) == (0, 0)
    assert response(client.ask(GET)).body == b"hello"


def test_bytes_that_nobody_asked_for_cost_the_idle_connection(house: House) -> None:
    origin = house.origin()
    client = house.client()
    client.ask(GET)
    origin.last.send(answer(b"smuggled"))
    house.run()
    assert (origin.open, len(house.pool)) == (0, 0)
    assert response(client.ask(GET)).body == b"hello"


def test_bytes_that_come_before_a_request_are_no_answer_to_a_post(house: House) -> None:
    origin = house.origin()
    client = house.client()
    client.ask(GET)
    origin.last.send(answer(b"smuggled"))
    assert response(client.ask(post(b"x"))).body == b"hello"


def test_an_interim_response_with_a_length_costs_the_connection(house: House) -> None:
    origin = house.origin(1, b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" + OK)
    assert responses(house.client().ask(GET))[-1].status == 200
    assert (len(house.pool), origin.open) == (0, 0)


def test_a_body_behind_204_is_not_taken_for_the_next_answer(house: House) -> None:
    house.origin(1, b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", OK)
    client = house.client()
    assert response(client.ask(GET)).status == 204
    assert response(client.ask(GET)).body == b"hello"
    assert len(house.origins[0].connections) == 2


# -- stopping --------------------------------------------------------------------------------


def test_times_are_written_down(house: House) -> None:
    house.network.latency = 0.25
    house.origin(1, wait(1.0))
    client = house.client()
    house.run(1.0)
    began = house.clock.seconds()
    client.send(GET[:10])
    house.run(0.5)
    client.send(GET[10:])
    house.run(5)
    (access,) = house.log
    assert access.began == pytest.approx(began)
    assert access.head_done == pytest.approx(began + 0.5)
    assert access.leased == pytest.approx(began + 0.5)
    assert access.connected == pytest.approx(began + 0.75)
    assert access.responded == pytest.approx(began + 1.75)
    assert access.ended == pytest.approx(began + 1.75)


def test_bytes_are_counted(house: House) -> None:
    house.origin()
    client = house.client()
    raw = client.ask(post(b"12345"))
    (access,) = house.log
    assert access.bytes_out == len(raw)
    assert access.bytes_in == len(house.origins[0].requests[0])
    assert (house.server().bytes_out, house.server().statuses) == (len(raw), [0, 0, 1, 0, 0, 0])
    assert (house.frontend.requests, house.frontend.statuses[2], house.frontend.bytes_out) == (1, 1, len(raw))


def test_a_request_may_hang_without_harm_to_others(house: House) -> None:
    house.origin(1, hang, OK)
    stuck, lively = house.client(), house.client()
    stuck.ask(GET)
    assert response(lively.ask(GET)).status == 200
    assert house.server().in_flight == 1

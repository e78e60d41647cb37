"""Whatever a client sends, a server hears only requests which that client has sent whole, as the RFCs' grammar
cuts them; and whatever a server answers, a client gets only what belongs to its own exchange.

The judge is `reference.py`, which shares no code with us.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.property.reference import Message, Reading, read_requests, read_responses
from tests.property.seeds import (
    REQUESTS,
    RESPONSES,
    TO_HEAD,
    UNTIL_CLOSE,
    anything,
    cut_up,
    mutated,
)
from tests.property.support import (
    TOLERATED,
    Ear,
    Listener,
    examples,
    finals,
    in_pieces,
    is_our_page,
    kept_back,
    numbered,
    only_whole_requests_are_heard,
    property_house,
    read_answers,
)

READ = 64 * 1024
"""Bytes that Twisted reads at once."""
REFUSALS = {400, 405, 414, 417, 431, 501, 505}


@pytest.mark.parametrize("request_bytes", REQUESTS)
def test_every_good_request_is_served_behind_and_before_another(request_bytes: bytes) -> None:
    ordinary = b"GET /ordinary HTTP/1.1\r\nHost: a\r\n\r\n"
    sent = ordinary + request_bytes + ordinary
    reading = read_requests(sent)
    with property_house() as house:
        server = Listener(house, numbered)
        client = house.client()
        client.send(sent)
        house.run()
        assert len(only_whole_requests_are_heard(sent, server)) == len(reading.messages) >= 2
        got = read_answers(client.received, [each.method for each in reading.messages], finished=client.eof)
        assert [each.status for each in finals(got)] == [200] * len(reading.messages)


@examples(400)
@given(st.data(), mutated(anything), st.booleans())
def test_a_server_hears_only_what_was_sent_whole(data: st.DataObject, sent: bytes, finish: bool) -> None:
    pieces = data.draw(cut_up(sent, 3))
    with property_house() as house:
        server = Listener(house, numbered)
        client = house.client()
        in_pieces(house, client, pieces)
        if finish and client.fate is None:
            client.finish()
            house.run()
        heard = only_whole_requests_are_heard(sent, server)
        reading = read_requests(sent, TOLERATED)
        methods = [each.method for each in heard]
        got = read_answers(client.received, methods, finished=client.eof)
        assert got.why in ("", "cut")
        answers = finals(got)
        assert [each.all(b"x-number") for each in answers[: len(heard)]] == [
            [b"%d" % n] for n in range(1, len(answers[: len(heard)]) + 1)
        ]
        for page in answers[len(heard) :]:
            assert page.status in REFUSALS
            assert page.last
        event(f"{len(heard)} of {len(reading.messages)} {reading.why and ('cut' if reading.why == 'cut' else 'bad')}")


# -- what a client gets ------------------------------------------------------------------------------


class Liar:
    """A server whose first answer is `lie`, in pieces; then it closes, resets or stays, and answers truly."""

    def __init__(self, pieces: list[bytes], ending: str) -> None:
        self.pieces = pieces
        self.ending = ending
        self.lied = False

    def __call__(self, ear: Ear, request: Message) -> None:
        if self.lied:
            numbered(ear, request)
            return
        self.lied = True
        for number, piece in enumerate(self.pieces):
            ear.later(number * 0.01, partial(ear.send, piece))
        if self.ending != "stay":
            ear.later(len(self.pieces) * 0.01, ear.close if self.ending == "close" else ear.abort)


def said_to(server: Listener, request: Message) -> Iterator[Reading]:
    """What the server has answered to a request, each time that it heard it, as the reference reads it."""
    for index, heard in enumerate(server.exchanges):
        if heard.request.target == request.target:
            later = [each.before for each in server.exchanges[index + 1 :] if each.ear is heard.ear]
            said = heard.ear.said[heard.before : later[0] if later else None]
            finished = heard.ear.left and not later
            yield read_responses(said, [request.method], TOLERATED, finished=finished)


def essence(response: Message) -> tuple[object, ...]:
    """What of a response must come through."""
    length = [int(value) for value in response.all(b"content-length")] if response.framing == "none" else None
    if response.status < 200 or response.status == 204:
        length = []
    return response.status, response.reason, length, kept_back(response), response.body


ASKED = (b"GET /first HTTP/1.1", b"HEAD /first HTTP/1.1", b"POST /first HTTP/1.1", b"GET /first HTTP/1.0")
lies = mutated(st.lists(st.sampled_from([*RESPONSES, *UNTIL_CLOSE, *TO_HEAD]), min_size=1, max_size=2).map(b"".join))


@examples(200)
@given(
    st.data(),
    st.sampled_from(ASKED),
    lies,
    st.sampled_from(("stay", "close", "reset")),
    st.booleans(),
    st.sampled_from((1 << 20, 7, 1)),
)
def test_a_client_gets_only_what_was_said_to_it(
    data: st.DataObject, line: bytes, lie: bytes, ending: str, pipelined: bool, segment: int
) -> None:
    first = line + b"\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    second = b"GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    asked = read_requests(first + second).messages
    pieces = data.draw(cut_up(lie, 3))
    with property_house() as house:
        server = Listener(house, Liar(pieces, ending))
        client = house.client()
        house.network.segment = segment
        client.send(first + second if pipelined else first)
        house.run(1)
        if not pipelined and client.fate is None:
            client.send(second)
        house.run(100)
        got = read_responses(client.received, [each.method for each in asked], finished=client.fate == "closed")
        assert got.why in ("", "cut"), got
        if got.why == "cut":
            assert client.fate == "reset", "a clean end of what is not whole"
        answers = finals(got)
        for request, answer in zip(asked, answers, strict=False):
            readings = list(said_to(server, request))
            if is_our_page(answer):
                continue
            assert essence(answer) in [essence(each) for reading in readings for each in finals(reading)[:1]]
        first_ear, surplus = server.exchanges[0].ear, next(said_to(server, asked[0])).why
        if surplus and not pipelined:
            assert len(first_ear.requests) == 1, f"used again after {surplus}"
        said = [essence(each) for request in asked for reading in said_to(server, request) for each in reading.messages]
        assert all(essence(each) in said for each in got.messages if each.status < 200)


def test_surplus_behind_a_full_read_is_not_the_next_answer() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    size = READ - len(head % READ)
    lie = head % size + b"x" * size + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
    assert lie.index(b"HTTP", 1) == READ
    with property_house() as house:
        house.network.capacity = 2 * READ
        server = Listener(house, Liar([lie], "stay"))
        client = house.client()
        client.send(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n")
        house.run(1)
        assert [each.request.target for each in server.exchanges] == [b"/first", b"/second"]
        assert b"EVIL" not in client.received

"""Where a network cuts a stream of bytes into segments means nothing: whatever the cuts, the result is the same."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from lbservice.core.settings import HeadLimits
from lbservice.wire.body import MAX_EXTENSIONS, MAX_SIZE_LINE, MAX_TRAILERS, reader
from lbservice.wire.h1 import BARE_LINE_END, BadMessage, cut_head, parse_request, parse_response
from tests.property.reference import Message, Reading, read_requests
from tests.property.seeds import RESPONSES, SWITCHING, TO_HEAD, anything, cut_up, mutated
from tests.property.seeds import UNTIL_CLOSE as OPEN_ENDED
from tests.property.support import (
    Ear,
    Listener,
    Meaning,
    alike,
    examples,
    in_pieces,
    intended,
    is_our_page,
    kept_back,
    property_house,
    read_answers,
    understood,
)
from tests.support.actors import Peer

SMALL = HeadLimits(head=150, line=70, fields=4)
"""Limits that the seeds come near to."""
LARGE = HeadLimits()


# -- codec ---------------------------------------------------------------------------------------------


def requests_in(pieces: list[bytes], limits: HeadLimits) -> list[object]:
    """The heads, bodies and the refusal that our codec makes of these segments."""
    found: list[object] = []
    buffer, body, payload = b"", None, b""
    try:
        for piece in pieces:
            data = piece
            while True:
                if body is not None:
                    payload += body.feed(data)
                    if not body.done:
                        break
                    found.append(payload)
                    data, body, payload = body.rest, None, b""
                seen = len(buffer)
                buffer += data
                end = cut_head(buffer, limits.head, seen)
                if end < 0:
                    break
                head = parse_request(buffer[:end], limits.line, limits.fields)
                found.append(head)
                data, buffer = buffer[end:], b""
                body = reader(head.length)
                if body.done:
                    body = None
                elif not data:
                    break
    except BadMessage as bad:
        # A bare line end is refused at once, before another fault of the same head can be seen: 400, then.
        found.append(400 if BARE_LINE_END.search(b"".join(pieces)) else bad.status)
    else:
        found.append(("unfinished", payload, buffer if body is None else None))
    return found


def responses_in(pieces: list[bytes], *, to_head: bool) -> list[object]:
    """The same for what a server says."""
    found: list[object] = []
    buffer, body, payload = b"", None, b""
    try:
        for piece in pieces:
            data = piece
            while True:
                if body is not None:
                    payload += body.feed(data)
                    if not body.done:
                        break
                    found.append(payload)
                    data, body, payload = body.rest, None, b""
                seen = len(buffer)
                buffer += data
                end = cut_head(buffer, 200, seen)
                if end < 0:
                    break
                head = parse_response(buffer[:end], 200, to_head=to_head)
                found.append(head)
                data, buffer = buffer[end:], b""
                body = reader(head.length)
                if body.done:
                    body = None
                elif not data:
                    break
    except BadMessage:
        found.append("refused")
    else:
        found.append(("unfinished", payload, buffer if body is None else None))
    return found


@examples(300)
@given(st.data(), mutated(anything), st.sampled_from((SMALL, LARGE)))
def test_the_codec_reads_requests_alike_in_any_pieces(data: st.DataObject, sent: bytes, limits: HeadLimits) -> None:
    whole = requests_in([sent], limits)
    pieces = data.draw(cut_up(sent))
    alike(requests_in(pieces, limits), whole)
    alike(requests_in([sent[at : at + 1] for at in range(len(sent))], limits), whole)


answers = mutated(st.lists(st.sampled_from([*RESPONSES, *OPEN_ENDED, *TO_HEAD]), min_size=1, max_size=3).map(b"".join))


@examples(300)
@given(st.data(), answers, st.booleans())
def test_the_codec_reads_responses_alike_in_any_pieces(data: st.DataObject, sent: bytes, to_head: bool) -> None:
    whole = responses_in([sent], to_head=to_head)
    pieces = data.draw(cut_up(sent))
    alike(responses_in(pieces, to_head=to_head), whole)
    alike(responses_in([sent[at : at + 1] for at in range(len(sent))], to_head=to_head), whole)


# -- the whole proxy --------------------------------------------------------------------------------------


@dataclass
class Result:
    """What can be told from outside."""

    heard: list[Meaning]
    got: list[object]
    rest: str
    fate: str | None
    endings: list[str]


def conversation(
    sent: list[bytes], answers: list[list[bytes]], *, ends: list[bool], finish: bool, limits: HeadLimits
) -> Result:
    """A client sends these segments; the nth whole request is answered with the nth of `answers`, in its segments.

    After an answer with a true `ends` the server closes.
    """

    def answer(ear: Ear, request: Message) -> None:
        number = (len(ear.origin.exchanges) - 1) % len(answers)
        for place, piece in enumerate(answers[number]):
            ear.later(place * 0.001, lambda piece=piece: ear.send(piece))  # type: ignore[misc]
        if ends[number]:
            ear.later(len(answers[number]) * 0.001, ear.close)

    # With a bare line end in a head the fault that is seen first depends on what has come: any status will do.
    bare = BARE_LINE_END.search(b"".join(sent)) is not None
    with property_house(frontend={"limits": limits}) as house:
        server = Listener(house, answer)
        client = house.client()
        in_pieces(house, client, sent)
        house.run(0.3)
        if finish and client.fate is None:
            client.finish()
        house.run(0.1)
        methods = [each.method for each in server.understood]
        got: Reading = read_answers(client.received, methods, finished=client.fate == "closed")
        return Result(
            [understood(each) for each in server.understood],
            [
                (0,) if bare and is_our_page(each) else (each.status, each.reason, kept_back(each), each.body)
                for each in got.messages
                if each.status != 100
            ],
            got.why,
            client.fate,
            ["PR" if bare and ending.endswith("PR") else ending for ending in house.endings],
        )


@examples(150)
@given(
    st.data(),
    mutated(anything, 2),
    st.lists(st.sampled_from([*RESPONSES, *OPEN_ENDED]).filter(lambda each: each != SWITCHING), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from((SMALL, LARGE)),
)
def test_clients_and_servers_see_the_same_in_any_pieces(
    data: st.DataObject, sent: bytes, answers: list[bytes], finish: bool, limits: HeadLimits
) -> None:
    ends = [each in OPEN_ENDED for each in answers]
    whole = conversation([sent], [[each] for each in answers], ends=ends, finish=finish, limits=limits)
    pieces = data.draw(st.one_of(cut_up(sent), st.just([sent[at : at + 1] for at in range(len(sent))])))
    answered = [data.draw(cut_up(each, 3)) for each in answers]
    alike(conversation(pieces, answered, ends=ends, finish=finish, limits=limits), whole)


# -- at the borders ------------------------------------------------------------------------------------------


@st.composite
def at_a_border(draw: st.DrawFn) -> bytes:
    """A request whose head, a line, number of fields, extensions or trailers are about as large as they may be."""
    off = draw(st.integers(-3, 3))
    which = draw(st.sampled_from(("head", "line", "first", "fields", "size line", "extensions", "trailers")))
    lead, tail = draw(
        st.sampled_from(((b"", b""), (b"\r\n", b"GET /n HTTP/1.1\r\nHost: a\r\n\r\n"), (b"\r\n\r\n", b"\r\n")))
    )
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    if which == "head":
        plain = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\nY: %b\r\n\r\n"
        left = SMALL.head - len(plain % (b"", b"")) + off
        request = plain % (b"x" * (left // 2), b"y" * (left - left // 2))
    elif which == "line":
        request = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * (SMALL.line - 3 + off))
    elif which == "first":
        request = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * (SMALL.line - 14 + off))
    elif which == "fields":
        request = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X:\r\n" * (SMALL.fields - 1 + off) + b"\r\n"
    elif which == "size line":
        request = chunked + b"1;%b\r\na\r\n0\r\n\r\n" % (b"e" * (MAX_SIZE_LINE - 4 + off))
    elif which == "extensions":
        request = (
            chunked + (b"1;%b\r\na\r\n" % (b"e" * 1000)) * 4 + b"0;%b\r\n\r\n" % (b"e" * (MAX_EXTENSIONS - 4005 + off))
        )
    else:
        request = chunked + b"0\r\nT: %b\r\n\r\n" % (b"t" * (MAX_TRAILERS - 7 + off))
    return lead + request + tail


@examples(100)
@given(st.data(), at_a_border())
def test_a_limit_is_the_same_in_any_pieces(data: st.DataObject, sent: bytes) -> None:
    while sent.startswith(b"\r\n"):  # the connection's business, not the codec's
        sent = sent[2:]
    whole = requests_in([sent], SMALL)
    alike(requests_in(data.draw(cut_up(sent)), SMALL), whole)
    near = sorted({max(0, min(len(sent), border + off)) for border in (150, 1024, 8192) for off in range(-8, 90)})
    alike(requests_in([sent[a:b] for a, b in itertools.pairwise([0, *near, len(sent)]) if a < b], SMALL), whole)


@examples(40)
@given(st.data(), at_a_border(), st.booleans())
def test_a_limit_of_the_proxy_is_the_same_in_any_pieces(data: st.DataObject, sent: bytes, finish: bool) -> None:
    pieces = data.draw(cut_up(sent))
    whole = conversation(
        [sent], [[b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]], ends=[False], finish=finish, limits=SMALL
    )
    cut = conversation(
        pieces, [[b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]], ends=[False], finish=finish, limits=SMALL
    )
    alike(cut, whole)


# -- narrow networks --------------------------------------------------------------------------------------------


def noise(size: int, seed: int) -> bytes:
    """Bytes that show every displacement."""
    return Random(seed).randbytes(size)


def sized(data: bytes, framing: str, step: int) -> tuple[bytes, bytes]:
    """The framing field and the body."""
    if framing == "length":
        return b"Content-Length: %d\r\n" % len(data), data
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    return b"Transfer-Encoding: chunked\r\n", b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


bodies = st.tuples(st.integers(0, 2500), st.sampled_from(("length", "chunked")), st.sampled_from((1, 7, 1000, 9000)))


@examples(60)
@given(
    st.lists(st.tuples(bodies, bodies), min_size=1, max_size=4),
    st.sampled_from((31, 500, 65536)),
    st.sampled_from((100, 700, 65536)),
    st.lists(st.sampled_from(("client stops", "client reads", "server stops", "server reads", "wait")), max_size=8),
)
def test_bodies_come_through_narrow_and_halting_networks(
    exchanges: list[tuple[tuple[int, str, int], tuple[int, str, int]]], segment: int, capacity: int, halts: list[str]
) -> None:
    sent, said = b"", []
    for number, ((up, up_framing, up_step), (down, down_framing, down_step)) in enumerate(exchanges):
        field, body = sized(noise(up, number), up_framing, max(up_step, up // 50))
        sent += b"PUT /%d HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (number, field, body)
        field, body = sized(noise(down, -number), down_framing, max(down_step, down // 50))
        said.append(b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (field, body))
    with property_house() as house:
        house.network.segment, house.network.capacity = segment, capacity
        server = Listener(house, lambda ear, request: ear.send(said[len(server.exchanges) - 1]))
        client = house.client()
        client.send(sent)
        for halt in halts:
            peer: Peer = server.ears[-1] if halt.startswith("server") and server.ears else client
            if halt.endswith("stops"):
                peer.stop_reading()
            elif halt.endswith("reads"):
                peer.read_on()
            house.run(0.1)
        for peer in (client, *server.ears):
            peer.read_on()
        house.run(1)
        got = read_answers(client.received, [b"PUT"] * len(exchanges), finished=False)
        assert [each.body for each in server.understood] == [noise(up[0], n) for n, (up, _) in enumerate(exchanges)]
        assert [each.body for each in got.messages] == [noise(down[0], -n) for n, (_, down) in enumerate(exchanges)]
        assert house.endings == ["200 --"] * len(exchanges)


# -- tunnels ------------------------------------------------------------------------------------------------------


@examples(60)
@given(
    st.data(),
    st.binary(max_size=40),
    st.binary(max_size=40),
    st.booleans(),
)
def test_a_tunnel_carries_each_byte_once(data: st.DataObject, upwards: bytes, downwards: bytes, eager: bool) -> None:
    asked = b"GET /t HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    pieces = data.draw(cut_up(asked + upwards if eager else asked))
    said = data.draw(cut_up(SWITCHING + downwards, 3))

    def answer(ear: Ear, request: Message) -> None:
        if len(ear.origin.exchanges) == 1:
            for number, piece in enumerate(said):
                ear.later(number * 0.01, partial(ear.send, piece))

    with property_house() as house:
        server = Listener(house, answer)
        client = house.client()
        in_pieces(house, client, pieces)
        house.run(1)
        if not eager:
            in_pieces(house, client, data.draw(cut_up(upwards)))
        (ear,) = server.ears
        head, _, heard = ear.heard.partition(b"\r\n\r\n")
        assert understood(server.understood[0]) == intended(read_requests(asked).messages[0])
        assert heard.endswith(upwards)
        assert read_requests(head + b"\r\n\r\n" + heard[: len(heard) - len(upwards)]).messages == server.understood[:1]
        head, _, got = client.received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert got == SWITCHING.partition(b"\r\n\r\n")[2] + downwards
        client.close()


def test_an_early_101_does_not_break_the_body_that_is_on_its_way() -> None:
    asked = b"POST /t HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with property_house() as house:
        server = Listener(house, lambda ear, request: None)
        client = house.client()
        in_pieces(house, client, [asked + b"5\r\nhe"])
        server.ears[0].send(SWITCHING)
        house.run()
        in_pieces(house, client, [b"llo\r\n0\r\n\r\nTUNNEL"])
        heard = read_requests(server.ears[0].heard)
        client.close()
        house.run()
        if not client.received.startswith(b"HTTP/1.1 502 "):  # to refuse such a server is as good
            assert [each.body for each in heard.messages] == [b"hello"]
            assert server.ears[0].heard.endswith(b"TUNNEL")

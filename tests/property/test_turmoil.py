"""No bytes and no order of events make us fail, hang or keep anything: both sides say anything, at any time.

`property_house` asks at the end that nothing was logged as an error, lent out, open or pending.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hypothesis import event, given
from hypothesis import strategies as st

from tests.property.reference import Message
from tests.property.seeds import (
    PIECES,
    REQUESTS,
    RESPONSES,
    TO_HEAD,
    UNTIL_CLOSE,
    anything,
    cut_up,
    mutated,
)
from tests.property.support import Ear, Listener, examples, property_house
from tests.support.actors import Peer
from tests.support.house import House

SWITCH = b"GET /s HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
UPLOAD = b"PUT /u HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"

from_clients = st.one_of(
    st.sampled_from([*REQUESTS, SWITCH, UPLOAD, LONG, b"5\r\nhello\r\n", b"0\r\n\r\n", b"x" * 100_000]),
    mutated(anything),
    st.binary(max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join),
)
from_servers = st.one_of(
    st.sampled_from([*RESPONSES, *UNTIL_CLOSE, *TO_HEAD, SWITCHING, BIG, b"x" * 100_000]),
    mutated(st.sampled_from([*RESPONSES, *UNTIL_CLOSE, *TO_HEAD, SWITCHING]), 2),
    st.binary(max_size=60),
)
waits = st.sampled_from((0.0, 0.0, 0.0, 0.001, 0.6, 3.0, 11.0, 31.0, 61.0))
who = st.integers(0, 2)
moves = st.sampled_from(("finish", "abort", "close", "stop_reading", "read_on"))
steps = st.one_of(
    st.tuples(st.just("client"), who, from_clients),
    st.tuples(st.just("client"), who, st.sampled_from([*REQUESTS, SWITCH, UPLOAD])),
    st.tuples(st.just("server"), who, from_servers),
    st.tuples(st.sampled_from(("client", "server")), who, moves),
    st.tuples(st.just("wait"), who, waits),
)
Step = tuple[str, int, bytes | str | float]
Answer = tuple[list[bytes], str]
whole = st.sampled_from([*RESPONSES, *UNTIL_CLOSE, SWITCHING, BIG + b"x" * 200_000, BIG, b""])
answers = st.tuples(st.one_of(whole.map(lambda data: [data]), whole.flatmap(lambda data: cut_up(data, 3))), moves)


def answering(plan: list[Answer]) -> Callable[[Ear, Message], None]:
    """Answer the nth request with the nth of `plan`, in pieces, and then do something."""

    def answer(ear: Ear, request: Message) -> None:
        pieces, move = plan[len(ear.origin.exchanges) % len(plan)]
        for number, piece in enumerate(pieces):
            ear.later(number * 0.01, partial(act, ear, piece))
        if pieces and move != "read_on":
            ear.later(len(pieces) * 0.01, partial(act, ear, move))

    return answer


def act(peer: Peer, what: bytes | str) -> None:
    """Say or do something, as far as that is possible."""
    if peer.fate is not None or peer.transport.disconnecting or (what == "read_on" and peer.eof):
        return
    if isinstance(what, bytes):
        peer.send(what)
    else:
        getattr(peer, what)()


def play(house: House, server: Listener, plan: list[Step], *, mild: bool) -> None:
    """Two clients and the server's newest connections do what the plan says; a client that is gone comes again."""
    clients = [house.client(), house.client()]
    for actor, number, what in plan:
        if isinstance(what, float):
            house.run(what)
        elif actor == "client":
            number %= len(clients)
            if clients[number].fate is not None:
                clients[number] = house.client()
            act(clients[number], what)
        elif server.ears:
            act(server.ears[-1 - number % len(server.ears)], what)
        if mild:
            house.run()


@examples(200)
@given(
    st.lists(steps, min_size=3, max_size=25),
    st.lists(answers, min_size=1, max_size=5),
    st.sampled_from((1 << 20, 1500, 400)),
    st.sampled_from((2000, 65536)),
    st.sampled_from((0, 1)),
    st.booleans(),
)
def test_nothing_fails_hangs_or_leaks(
    plan: list[Step], answers: list[Answer], segment: int, capacity: int, maxconn: int, mild: bool
) -> None:
    with property_house(server_maxconn=maxconn, timeout_tunnel=100.0) as house:
        house.network.segment = segment
        house.network.capacity = capacity
        server = Listener(house, answering(answers))
        play(house, server, plan, mild=mild)
        house.run(400)
        assert house.quiet, "with every timeout gone by, something is going on"
        assert house.frontend.active == 0
        assert not house.pool
        for ear in server.ears:
            act(ear, "read_on")  # who does not read cannot see that we have left
        event(f"{sorted(set(house.endings))[:2]}")

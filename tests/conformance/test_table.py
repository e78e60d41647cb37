"""Each row of the conformance tables, sent at once and byte by byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conformance import table
from tests.conformance.judges import (
    ADDED_TO_ANSWERS,
    ADDED_TO_REQUESTS,
    IN_OUR_OWN_ANSWERS,
    Read,
    Witness,
    answers_in,
    differences,
    made_up,
    requests_in,
    tell_what_was_asked,
)
from tests.conformance.table import RequestRow, ResponseRow, Seen, Step
from tests.support.actors import Client, Connection
from tests.support.house import House

MakeHouse = Callable[..., House]
EVERY = 0.001
"""Seconds between two bytes of a message that is sent byte by byte."""
AFTERWARDS = b"GET /afterwards HTTP/1.1\r\nHost: a\r\n\r\n"

REQUESTS = list(table.request_rows())
RESPONSES = list(table.response_rows())
ALL: list[RequestRow | ResponseRow] = [*REQUESTS, *RESPONSES]


def named(row: RequestRow | ResponseRow) -> str:
    """`CL-07 RFC 9110 8.6`."""
    return f"{row.id} {row.section}"


# -- the table -------------------------------------------------------------------------------


def test_no_two_rows_have_the_same_id() -> None:
    ids = [row.id for row in ALL]
    assert len(ids) == len(set(ids))


def test_no_two_rows_say_the_same() -> None:
    requests = Counter(row.steps for row in REQUESTS)
    responses = Counter((row.request, row.steps) for row in RESPONSES)
    assert [steps for steps, times in requests.items() if times > 1] == []
    assert [steps for steps, times in responses.items() if times > 1] == []


def test_each_row_names_its_section() -> None:
    assert [row.id for row in ALL if not table.SECTION.fullmatch(row.section)] == []


@pytest.mark.parametrize("name", ["requests.tsv", "responses.tsv"])
def test_the_rows_of_a_family_are_numbered_without_gaps(name: str) -> None:
    rows = REQUESTS if name.startswith("requests") else RESPONSES
    counted, titles = table.count(name), table.families(name)
    assert list(counted) == list(titles), "each family has a title and rows"
    written = list(dict.fromkeys(row.id.partition("/")[0] for row in rows))
    assert written == [f"{family}-{number:02}" for family in titles for number in range(1, counted[family] + 1)]


def test_there_are_rows_enough() -> None:
    assert table.count("requests.tsv").total() + table.count("responses.tsv").total() >= 350


@pytest.mark.parametrize(
    ("cell", "steps"),
    [
        ("a↵\\r\\n\\t\\0\\xe4\\\\", (b"a\r\n\r\n\t\0\xe4\\",)),
        ("{{OK}}x", (b"HTTP/1.1 200 OK\r\nx",)),
        ("a{{b↵*3}}c", (b"ab\r\nb\r\nb\r\nc",)),
        ("a{{2s}}b{{close}}", (b"a", 2.0, b"b", "close")),
    ],
)
def test_a_cell_is_read(cell: str, steps: tuple[Step, ...]) -> None:
    assert table.script(cell) == steps


@pytest.mark.parametrize("cell", ["{{close it}}", "{{GET", "\\q", "\\x1", "ä"])
def test_a_cell_that_means_nothing_is_an_error(cell: str) -> None:
    with pytest.raises(table.TableError):
        table.script(cell)


# -- how a row is played ---------------------------------------------------------------------


def play(house: House, peer: Client | Connection, steps: tuple[Step, ...], every: float) -> None:
    """Have a client or a server do the steps, `every` seconds after one another (0: at once), and see the end."""
    for step in steps:
        if isinstance(step, float):
            house.run(step)
        elif peer.fate is None:  # else nobody is there any more to do it
            if isinstance(step, bytes):
                peer.send(step)
            else:
                {"end": peer.finish, "close": peer.close, "reset": peer.abort}[step]()
            if every:
                house.run(every)
    house.run()


class Stage:
    """A house with one server, which is watched, and a client that goes on reading to the end."""

    def __init__(self, house: House, *answers: Any) -> None:
        self.house = house
        self.server = Witness(house.network, ("10.0.0.1", 8000), *answers, tell_what_was_asked)
        house.origins.append(self.server)
        self.client = house.client()
        self.client.lingers = True

    @property
    def connection(self) -> str:
        """How the client's connection is: open, close or broken."""
        if self.client.eof or self.client.fate == "closed":
            return "close"
        return "broken" if self.client.fate else "open"

    def heard(self) -> list[Read]:
        """The requests that the server got, in good form every one; what is unfinished is never gone on with."""
        found = []
        for connection in self.server.witnessed:
            requests, unfinished = requests_in(connection.heard)
            assert unfinished == connection.unfinished
            assert not unfinished or connection.fate or connection.eof, "half a request on an open connection"
            found += requests
        assert len(found) == len(self.server.requests)
        return found

    def check_client(self, expected: Seen, methods: list[bytes]) -> list[Read]:
        """Has the client got what it should have? Returns its answers."""
        connection = self.connection
        answers = answers_in(self.client.received, methods, ended=connection == "close")
        got = (*(int(answer.start) for answer in answers), connection)
        assert got == (*expected.statuses, expected.connection), [answer.start for answer in answers]
        if answers:
            assert differences(expected.last, answers[-1]) == []
            assert all(answer.whole for answer in answers[:-1])
            assert answers[-1].whole == (connection != "broken" or answers[-1].start == "101"), answers[-1]
        return answers

    def check_afterwards(self, *clients: Client) -> None:
        """Whatever was, the next request gets its own answer, and nothing else."""
        for client in clients:
            client.take()
            (answer,) = answers_in(client.ask(AFTERWARDS), [b"GET"], ended=False)
            assert (answer.start, answer.body, answer.whole) == ("200", b"GET /afterwards", True)
            assert client.fate is None
            assert not client.eof


def both_ways(steps: tuple[Step, ...], at_once: Seen, by_bytes: Seen) -> Iterator[tuple[tuple[Step, ...], float, Seen]]:
    """The steps as they are, and byte by byte; the time from one to the next; what the client is to get."""
    yield steps, 0.0, at_once
    yield table.pieces(steps), EVERY, by_bytes


@pytest.mark.parametrize("row", REQUESTS, ids=named)
def test_request(row: RequestRow, make_house: MakeHouse) -> None:
    for steps, every, expected in both_ways(row.steps, row.at_once, row.by_bytes):
        stage = Stage(make_house())
        play(stage.house, stage.client, steps, every)
        requests = stage.heard()
        assert [request.start for request in requests] == [message.line for message in row.server]
        for message, request in zip(row.server, requests, strict=True):
            assert request.body == message.body
            assert differences(message, request) == []
        assert row.touched or not stage.server.connections
        answers = stage.check_client(expected, [request.method for request in requests])
        for request, answer in zip(requests, answers, strict=False):
            if answer.start == "200":
                assert answer.body == (b"" if request.method == b"HEAD" else request.start.encode())
        sent = b"".join(step for step in row.steps if isinstance(step, bytes))
        assert [name for request in requests for name in made_up(request, sent, ADDED_TO_REQUESTS)] == []
        if b"HTTP/1.0\r\n" in sent:
            assert all(answer.values("Transfer-Encoding") is None for answer in answers)
        if answers and all(isinstance(step, bytes) for step in row.steps):  # it is we who close: that is said before
            closes = answers[-1].values("Connection") == b"close"
            assert closes == (expected.connection == "close")
        same = [stage.client] if expected.connection == "open" and expected.statuses else []
        stage.check_afterwards(*same, stage.house.client())


@pytest.mark.parametrize("row", RESPONSES, ids=named)
def test_response(row: ResponseRow, make_house: MakeHouse) -> None:
    for steps, every, expected in both_ways(row.steps, row.at_once, row.by_bytes):
        stage = Stage(make_house(retries=0), lambda connection: None)
        stage.client.send(row.request)
        stage.house.run()
        (connection,) = stage.server.connections
        play(stage.house, connection, steps, every)
        (request,) = stage.heard()
        answers = stage.check_client(expected, [request.method])
        sent = b"".join(step for step in row.steps if isinstance(step, bytes))
        for answer in answers:
            ours = IN_OUR_OWN_ANSWERS if answer.start in ("502", "504") else ADDED_TO_ANSWERS
            assert made_up(answer, sent, ours) == []
        ended = bool(connection.fate or connection.eof)
        assert ended == (row.server == "closed")
        same = [stage.client] if expected.connection == "open" and row.server != "tunnel" else []
        stage.check_afterwards(*same, stage.house.client())
        assert len(stage.server.connections) == (1 if row.server == "kept" else 2)

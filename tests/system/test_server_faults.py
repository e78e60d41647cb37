"""Servers that misbehave in every phase, with real processes and real kernels on both sides.

One balancer serves the whole module. What is asked for carries a token, in its target, its request id
and its body, so that the answer, the access line and the servers' own reports of one request are told
from all others. Statuses and termination states are those of the documentation.
"""

from __future__ import annotations

import random
import signal
import statistics
import time
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import NamedTuple, Self, TextIO

import h11
import pytest

from tests.support.accessline import HTTP_LINE, parse
from tests.support.client import Connection
from tests.support.faulty import (
    ANSWER,
    CLOSE,
    FIN,
    GOOD,
    HANG,
    HEAD,
    PART,
    READ,
    RST,
    SOME,
    STALL,
    WAIT,
    Faulty,
    Report,
    Step,
    Turn,
    dribble,
    endless,
    pause,
    send,
)
from tests.support.load import Load
from tests.support.processes import Balancer, eventually, free_port

pytestmark = pytest.mark.system

PATIENCE = 0.5
"""Seconds of `timeout connect` and `timeout server`."""
SIZE = 1000
"""Bytes that a long body should have."""
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"
ABC = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
ABC_AND_CLOSE = ABC.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
SURPLUS = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsurplus"
"""A response that nobody asked for."""

_numbers = count(1)


def new_token() -> str:
    """Text that no other request has."""
    return f"t{next(_numbers)}"


# -- the site ------------------------------------------------------------------------------------


@dataclass
class Site:
    """A balancer with one bad and two good servers. Numbers are ports, each of a frontend with its backend."""

    balancer: Balancer
    bad: Faulty
    good: Faulty
    alone: int
    """Only the bad server, and nothing is tried again."""
    pair: int
    """The bad server and a good one."""
    queue: int
    """Only the bad server, and one request at a time."""
    trio: int
    """The bad server and both good ones."""
    other: int
    """Both good servers."""

    def access(self, token: str) -> dict[str, str]:
        """The access line of a request; there is exactly one."""
        if f" {{{token}}} " not in self.balancer.log():
            self.balancer.signal(signal.SIGUSR1)  # to reopen its log, it writes what it still holds
            self.balancer.wait_for_log(rf" \{{{token}\}} ")
        (line,) = (line for line in self.balancer.access_lines() if f" {{{token}}} " in line)
        return parse(line)

    def play(self, *turns: Turn, how: str = "accept") -> None:
        """What the bad server does from now on; the good one forgets what it has seen."""
        self.bad.play(*turns, how=how)
        self.good.play()

    def wait_for_the_end(self) -> None:
        """Of every connection to the bad server: whatever it does, the balancer keeps none of them."""
        eventually(lambda: self.bad.report().open == 0, 2, "the end of the connections to the bad server")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The one site of the module."""
    with ExitStack() as cleanup:
        bad, good, spare = (cleanup.enter_context(Faulty(name)) for name in ("bad", "good", "spare"))
        ports = {name: free_port() for name in ("alone", "pair", "queue", "trio", "other")}
        times = f"check = none\ntimeout connect = {PATIENCE * 1000:g}ms\ntimeout server = {PATIENCE * 1000:g}ms\n"
        config = [f"[frontend {name}]\nlisten = 127.0.0.1:{port}\nbackend = {name}" for name, port in ports.items()]
        config += [
            f"[backend alone]\nretries = 0\n{times}{bad.line}",
            f"[backend pair]\nretry-budget = off\n{times}{bad.line}\n{good.line}",
            f"[backend queue]\ntimeout queue = 5s\n{times}{bad.line} maxconn=1",
            f"[backend trio]\n{times}{bad.line}\n{good.line}\n{spare.line}",
            f"[backend other]\ncheck = none\n{good.line}\n{spare.line}\n",
        ]
        balancer = cleanup.enter_context(Balancer(tmp_path_factory.mktemp("faults"), "\n".join(config)))
        yield Site(balancer, bad, good, **ports)


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The same, and afterwards it is in no trouble."""
    yield running
    running.balancer.check_for_trouble()


# -- the client ----------------------------------------------------------------------------------


@dataclass
class Answer:
    """What a client has got. `end`: "whole", or "reset" or "closed" too early."""

    end: str = "whole"
    status: int = 0
    interim: list[int] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Client:
    """Asks one request after the other, on one connection as long as it lasts. h11 says what is whole and valid."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection: Connection | None = None

    def ask(self, method: str, token: str, body: bytes | None = None, *, version: str = "1.1") -> Answer:
        """One request and its answer."""
        self.start(method, token, body, version=version)
        return self.finish()

    def start(self, method: str, token: str, body: bytes | None = None, *, more: int = 0, version: str = "1.1") -> None:
        """Send a request, whose body has `more` bytes behind these."""
        if self.connection is None:
            self.connection = Connection(self.port)
            self.h11 = h11.Connection(h11.CLIENT)
        fields = [("Host", "test"), ("X-Request-ID", token)]
        if body is not None:
            fields.append(("Content-Length", str(len(body) + more)))
        head = self.h11.send(h11.Request(method=method, target=f"/{token}", headers=fields)) or b""
        self.connection.send(head.replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1) + self._body(body, more))

    def go_on(self, body: bytes) -> None:
        """Send the rest of the body."""
        assert self.connection is not None
        self.connection.send(self._body(body, 0))

    def _body(self, body: bytes | None, more: int) -> bytes:
        data = self.h11.send(h11.Data(body)) if body else b""
        if not more:
            self.h11.send(h11.EndOfMessage())
        return data or b""

    def finish(self) -> Answer:
        """The answer."""
        answer = Answer()
        while True:
            event = self.h11.next_event()
            if event is h11.NEED_DATA:
                answer.end = self._more()
                if answer.end != "whole":
                    break
            elif isinstance(event, h11.InformationalResponse):
                answer.interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                answer.status = event.status_code
                answer.fields = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                answer.body += event.data
            else:
                assert isinstance(event, h11.EndOfMessage)
                assert self.h11.trailing_data[0] == b"", "there is more than the answer"
                if self.h11.our_state is h11.DONE and self.h11.their_state is h11.DONE:
                    self.h11.start_next_cycle()
                    return answer
                break
        self.close()
        return answer

    def _more(self) -> str:
        """Let h11 have more bytes; how the connection ended, or "whole" if nothing is amiss."""
        assert self.connection is not None
        try:
            data = self.connection.receive()
        except ConnectionResetError:
            return "reset"
        if not data and self.h11.their_state is h11.SEND_RESPONSE:
            return "closed"
        try:
            self.h11.receive_data(data)
            if not data:
                self.h11.next_event()  # the end of a body that goes on to the close, or too early
        except h11.RemoteProtocolError:
            return "closed"
        return "whole"

    def close(self) -> None:
        """The next request gets a new connection."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ask(port: int, method: str, token: str, *, version: str = "1.1") -> Answer:
    """One request on a connection of its own; a POST carries its token."""
    with Client(port) as client:
        return client.ask(method, token, token.encode() if method == "POST" else None, version=version)


class Asked(NamedTuple):
    """A request of many."""

    port: int
    method: str
    answer: Answer
    access: dict[str, str]


def ask_at_once(site: Site, *requests: tuple[int, str]) -> dict[str, Asked]:
    """Requests, each a port and a method, at the same time; by their tokens."""
    tokens = [new_token() for _ in requests]
    with ThreadPoolExecutor(len(requests)) as threads:
        answers = list(threads.map(lambda request, token: ask(request[0], request[1], token), requests, tokens))
    asked = zip(tokens, requests, answers, strict=True)
    return {token: Asked(*request, answer, site.access(token)) for token, request, answer in asked}


# -- one request, one fault ----------------------------------------------------------------------


class Fault(NamedTuple):
    """What the bad server does with each connection, and how the request that gets there ends."""

    name: str
    turn: Turn
    status: int
    state: str
    again: str = ""
    """The methods that are sent to another server."""
    how: str = "accept"


SSH = b"SSH-2.0-OpenSSH_9.6\r\n"
ANY = "GET POST PATCH"
FAULTS = [
    # Nobody is there.
    Fault("refuse", (), 503, "SC", ANY, "refuse"),
    Fault("blackhole", (), 503, "sC", ANY, "blackhole"),
    # It breaks before there is an answer.
    Fault("close-on-accept", (FIN,), 502, "SH", "GET"),
    Fault("reset-unread", (pause(0.05), RST), 502, "SH", "GET"),
    Fault("reset-in-the-head", (PART, RST), 502, "SH", "GET"),
    Fault("reset-after-the-request", (READ, RST), 502, "SH", "GET"),
    Fault("close-after-the-request", (READ, FIN), 502, "SH", "GET"),
    Fault("reset-in-the-answers-head", (READ, send(LONG[:20]), RST), 502, "SH", "GET"),
    Fault("close-in-the-answers-head", (READ, send(LONG[:20]), FIN), 502, "SH", "GET"),
    # It says nothing, or not in time.
    Fault("hang", (HANG,), 504, "sH"),
    Fault("stall", (STALL,), 504, "sH"),
    Fault("hang-in-the-answers-head", (READ, send(LONG[:20]), HANG), 504, "sH"),
    Fault("dribble-the-head", (READ, dribble(LONG, PATIENCE / 10), HANG), 504, "sH"),
    Fault("endless-slow-head", (READ, send(LONG[:-2]), endless(b"A: b\r\n", 0.01)), 504, "sH"),
    # It says what is no HTTP.
    Fault("banner", (send(SSH + b"\r\n"), HANG), 502, "PH"),
    Fault("binary", (READ, send(b"\x00\xff\x16\x03\n\x00\x00"), HANG), 502, "PH"),
    Fault("http-2", (READ, send(b"HTTP/2 200\r\n\r\n"), HANG), 502, "PH"),
    Fault("head-of-300-kB", (READ, send(b"HTTP/1.1 200 OK\r\nA: %b\r\n\r\n" % (b"b" * 300_000)), HANG), 502, "PH"),
    Fault("endless-head", (READ, send(LONG[:-2]), endless(b"A: b\r\n" * 100)), 502, "PH"),
    Fault("endless-line", (READ, send(b"HTTP/1.1 200 "), endless(b"O" * 600)), 502, "PH"),
    Fault("endless-1xx", (READ, endless(b"HTTP/1.1 102 Processing\r\n\r\n")), 502, "PH"),
    Fault(
        "101-unasked", (READ, send(b"HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), HANG), 502, "PH"
    ),
    Fault("both-lengths", (READ, send(CHUNKED[:-2] + LONG[17:] + b"0\r\n\r\n"), HANG), 502, "PH"),
    Fault("two-lengths", (READ, send(LONG[:-2] + b"Content-Length: 3\r\n\r\nabc"), HANG), 502, "PH"),
    Fault("no-chunk", (READ, send(CHUNKED + b"oops\r\n"), HANG), 502, "PH"),
    # It breaks in the middle of the answer.
    Fault("reset-after-the-answers-head", (READ, send(LONG), RST), 200, "SD"),
    Fault("close-after-the-answers-head", (READ, send(LONG), FIN), 200, "SD"),
    Fault("reset-in-the-body", (READ, send(LONG + b"x" * 500), RST), 200, "SD"),
    Fault("close-in-the-body", (READ, send(LONG + b"x" * 500), FIN), 200, "SD"),
    Fault("close-before-the-last-byte", (READ, send(LONG + b"x" * (SIZE - 1)), FIN), 200, "SD"),
    Fault("reset-in-a-chunk", (READ, send(CHUNKED + b"a\r\nhello"), RST), 200, "SD"),
    Fault("close-in-a-chunk", (READ, send(CHUNKED + b"a\r\nhello"), FIN), 200, "SD"),
    Fault("close-before-the-last-chunk", (READ, send(CHUNKED + b"5\r\nhello\r\n"), FIN), 200, "SD"),
    Fault("reset-before-the-last-chunk", (READ, send(CHUNKED + b"5\r\nhello\r\n"), pause(0.05), RST), 200, "SD"),
    Fault("close-in-the-last-chunk", (READ, send(CHUNKED + b"5\r\nhello\r\n0\r\n"), FIN), 200, "SD"),
    Fault("reset-before-the-close", (READ, send(UNTIL_CLOSE + b"hello"), pause(0.05), RST), 200, "SD"),
    Fault("hang-in-the-body", (READ, send(LONG + b"x" * 500), HANG), 200, "sD"),
    Fault("hang-before-the-last-chunk", (READ, send(CHUNKED + b"5\r\nhello\r\n"), HANG), 200, "sD"),
    Fault("hang-before-the-close", (READ, send(UNTIL_CLOSE + b"hello"), HANG), 200, "sD"),
    Fault("body-too-slow", (READ, send(LONG), dribble(b"xxx", PATIENCE * 2), HANG), 200, "sD"),
]


@dataclass
class Outcome:
    """How the requests went that met a fault, by their tokens, and what the servers saw of them."""

    fault: Fault
    alone: dict[str, Asked]
    pair: dict[str, Asked]
    bad: Report
    good: Report


@pytest.fixture(scope="module", params=FAULTS, ids=[fault.name for fault in FAULTS])
def outcome(running: Site, request: pytest.FixtureRequest) -> Outcome:
    """Each fault, met by GETs, POSTs and PATCHes without a body at the same time, with and without another server."""
    site, fault = running, request.param
    site.play(fault.turn, how=fault.how)
    one, two = site.alone, site.pair
    # Each server gets half of them, so at least one GET gets to the bad one, in whatever order they arrive.
    both = [(two, method) for method in ("GET",) * 7 + ("POST",) * 3 + ("PATCH",) * 2]
    asked = ask_at_once(site, (one, "GET"), (one, "POST"), *both)
    site.wait_for_the_end()
    alone, pair = ({token: each for token, each in asked.items() if each.port == port} for port in (one, two))
    return Outcome(fault, alone, pair, site.bad.report(), site.good.report())


def check_failure(fault: Fault, asked: Asked) -> None:
    """The client, and whoever reads the log, are told what happened."""
    answer = asked.answer
    assert (asked.access["status"], asked.access["state"]) == (str(fault.status), fault.state)
    if fault.state[1] == "D":
        assert answer.end == "reset", "a body that broke off must not look as if it had ended"
        assert answer.status in (0, 200), "the reset may overtake the rest"
        assert len(answer.body) < SIZE
    else:
        assert (answer.end, answer.status) == ("whole", fault.status)


def test_a_fault_without_remedy_is_told_to_the_client_and_in_the_log(site: Site, outcome: Outcome) -> None:
    for asked in outcome.alone.values():
        check_failure(outcome.fault, asked)
        assert (asked.access["backend"], asked.access["server"], asked.access["retries"]) == ("alone", "bad", "0")


def test_a_fault_of_one_server_is_repaired_by_another_where_that_does_no_harm(site: Site, outcome: Outcome) -> None:
    fault = outcome.fault
    failed = retried = 0
    for token, asked in outcome.pair.items():
        access, answer = asked.access, asked.answer
        if access["server"] == "good":
            assert (answer.end, answer.status, answer.body.decode()) == ("whole", 200, f"{token}\n")
            assert (access["status"], access["state"]) == ("200", "--")
            if access["retries"] != "0":
                assert (access["retries"], asked.method in fault.again) == ("+1", True)
                retried += 1
        else:
            assert asked.method not in fault.again
            check_failure(fault, asked)
            failed += 1
    assert failed + retried >= 2, "the bad server has hardly been asked"
    assert (retried > 0) == bool(fault.again)


def test_no_fault_makes_a_post_reach_two_servers(site: Site, outcome: Outcome) -> None:
    seen = outcome.bad.tokens + outcome.good.tokens
    changes = [token for token, asked in outcome.pair.items() if asked.method != "GET"]
    assert [token for token in changes if seen.count(token) > 1] == []
    done = [request for request in outcome.good.requests if request.method != "GET"]
    assert {request.body for request in done if request.method == "POST"} <= set(changes)
    assert sorted(request.token for request in done if request.whole) == sorted(
        token for token in changes if outcome.pair[token].access["server"] == "good"
    )


def test_a_connection_that_is_reset_at_once_counts_as_refused_or_as_broken(site: Site) -> None:
    """Whether the reset overtakes the news of the connection is a race in the kernel; both ends are clean."""
    site.play((RST,))
    good = []
    for token, asked in ask_at_once(site, *[(site.alone, "GET"), (site.pair, "GET"), (site.pair, "POST")] * 4).items():
        access = asked.access
        assert (asked.answer.end, str(asked.answer.status)) == ("whole", access["status"])
        if access["server"] == "good":
            good.append(token)
            assert (access["status"], access["state"]) == ("200", "--")
        else:
            assert (access["status"], access["state"]) in (("503", "SC"), ("502", "SH"))
            assert asked.port == site.alone or (asked.method, access["state"]) == ("POST", "SH")
    assert sorted(site.good.report().tokens) == sorted(good)


@pytest.mark.parametrize("ending", [FIN, RST], ids=["fin", "rst"])
@pytest.mark.parametrize("answer", [LONG + b"x" * 500, CHUNKED + b"a\r\nhello"], ids=["length", "chunked"])
def test_a_client_of_http_1_0_too_can_tell_a_broken_body(site: Site, answer: bytes, ending: Step) -> None:
    """It gets chunks without their framing, so only the way the connection ends tells it."""
    site.play((READ, send(answer), ending))
    token = new_token()
    assert ask(site.alone, "GET", token, version="1.0").end == "reset"
    assert site.access(token)["state"] == "SD"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_breaks_behind_an_interim_response_has_not_answered(site: Site, method: str) -> None:
    site.play((READ, send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), pause(0.05), RST))
    token = new_token()
    answer = ask(site.alone, method, token)
    assert (answer.end, answer.interim, answer.status) == ("whole", [103], 502)
    assert site.access(token)["state"] == "SH"


@pytest.mark.parametrize("banner", [SSH, b"\x00\xff\x16\x03"], ids=["ssh", "binary"])
def test_what_can_become_no_head_is_refused_without_waiting_for_more(site: Site, banner: bytes) -> None:
    site.play((send(banner), HANG))
    token = new_token()
    assert ask(site.alone, "GET", token).status == 502
    assert site.access(token)["state"] == "PH"


# -- uploads -------------------------------------------------------------------------------------

TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 10\r\n\r\ntoo large\n"
ENDINGS = pytest.mark.parametrize("ending", [RST, FIN, CLOSE], ids=["rst", "fin", "close"])
EARLY = pytest.mark.parametrize("ending", [HANG, FIN, CLOSE, RST], ids=["reads-on", "fin", "close", "rst"])


def begin_upload(site: Site, client: Client, method: str, body: bytes) -> str:
    """Send half of a body, so that it gets to the bad server; the token."""
    half = len(body) // 2
    while True:
        token = new_token()
        client.start(method, token, body[:half], more=len(body) - half)
        server = eventually(lambda: where(site, token), 2, "the upload")  # noqa: B023 - called at once
        if server is site.bad:
            return token
        client.go_on(body[half:])
        assert client.finish().status == 200


def where(site: Site, token: str) -> Faulty | None:
    """The server that has a request."""
    return next((server for server in (site.bad, site.good) if token in server.report().tokens), None)


@ENDINGS
def test_a_post_whose_server_breaks_in_the_middle_is_not_for_another(site: Site, ending: Step) -> None:
    site.play((SOME, WAIT, ending))
    with Client(site.pair) as client:
        token = begin_upload(site, client, "POST", b"x" * 40_000)
        site.bad.go()
        answer = client.finish()
    assert (answer.end, answer.status, answer.fields["connection"]) == ("whole", 502, "close")
    access = site.access(token)
    assert (access["state"], access["server"], access["retries"]) == ("SH", "bad", "0")
    assert token not in site.good.report().tokens


@ENDINGS
def test_a_put_whose_server_breaks_in_the_middle_goes_on_at_another(site: Site, ending: Step) -> None:
    site.play((SOME, WAIT, ending))
    body = random.Random(1).randbytes(40_000)
    with Client(site.pair) as client:
        token = begin_upload(site, client, "PUT", body)
        site.bad.go()
        eventually(lambda: token in site.good.report().tokens, 2, "the second attempt")
        client.go_on(body[20_000:])
        answer = client.finish()
    assert (answer.end, answer.status, answer.body.decode()) == ("whole", 200, f"{token}\n")
    access = site.access(token)
    assert (access["state"], access["server"], access["retries"]) == ("--", "good", "+1")
    (request,) = (request for request in site.good.report().requests if request.token == token)
    assert request.body == f"40000 {sha256(body).hexdigest()}"


def test_an_upload_that_the_server_stops_taking_is_504(site: Site) -> None:
    site.play((HEAD, STALL))
    token = new_token()
    with Client(site.alone) as client:
        client.start("POST", token, b"x" * 8_000_000)
        answer = client.finish()
    assert (answer.end, answer.status, site.access(token)["state"]) == ("whole", 504, "sH")
    site.wait_for_the_end()


@EARLY
def test_an_answer_that_comes_before_the_end_of_the_body_arrives(site: Site, ending: Step) -> None:
    site.play((SOME, send(TOO_LARGE), ending))
    token = new_token()
    with Client(site.alone) as client:
        client.start("POST", token, b"x" * 1000, more=1_000_000)
        answer = client.finish()
    assert (answer.end, answer.status, answer.body) == ("whole", 413, b"too large\n")
    assert answer.fields["connection"] == "close"
    access = site.access(token)
    assert (access["status"], access["state"]) == ("413", "--")
    site.wait_for_the_end()


@EARLY
def test_an_early_answer_arrives_while_the_client_sends_all_it_has(site: Site, ending: Step) -> None:
    """Also when the server resets the connection behind it, into which the balancer is just writing."""
    for _ in range(8):
        site.play((SOME, send(TOO_LARGE), ending))
        token = new_token()
        with Client(site.alone) as client:
            client.start("POST", token, b"x" * 3_000_000)
            answer = client.finish()
        assert (answer.end, answer.status, answer.body) == ("whole", 413, b"too large\n")
        assert site.bad.report().tokens == [token], "the rest of a body became a request"
    access = site.access(token)
    assert (access["status"], access["state"]) == ("413", "--")


def test_a_connection_whose_server_has_answered_before_it_had_the_body_is_not_used_again(site: Site) -> None:
    """The client has sent all, but most of it is in the kernel's send buffer when the answer comes."""
    site.play((SOME, pause(0.2), send(TOO_LARGE), STALL))
    for number in (1, 2):
        with Client(site.alone) as client:
            assert client.ask("POST", new_token(), b"x" * 1_000_000).status == 413
        assert site.bad.report().accepted == number
    site.wait_for_the_end()


# -- connections that are not used again -----------------------------------------------------------

NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
LEFTOVERS = {  # the method, what the bad server does, and the status and body that the client gets
    "surplus-at-once": ("GET", (READ, send(ABC + SURPLUS)), 200, b"abc"),
    "surplus-behind-chunks": ("GET", (READ, send(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + SURPLUS)), 200, b"abc"),
    "surplus-behind-a-dribble": ("GET", (READ, dribble(ABC, 0.001), send(SURPLUS)), 200, b"abc"),
    "surplus-later": ("GET", (READ, send(ABC), pause(0.05), send(SURPLUS)), 200, b"abc"),
    "length-too-short": ("GET", (READ, send(ABC + b"def")), 200, b"abc"),
    "body-to-head": ("HEAD", (READ, send(ABC)), 200, b""),
    "body-to-head-later": ("HEAD", (READ, send(LONG), pause(0.05), send(b"x" * SIZE)), 200, b""),
    "body-with-304": ("GET", (READ, send(NOT_MODIFIED + SURPLUS)), 304, b""),
    "body-with-304-later": ("GET", (READ, send(NOT_MODIFIED), pause(0.05), send(SURPLUS)), 304, b""),
    "body-with-204": ("GET", (READ, send(NO_CONTENT + SURPLUS)), 204, b""),
    "last-word": ("POST", (READ, send(ABC), pause(0.05), send(b"HTTP/1.1 408 Timeout\r\n\r\n"), FIN), 200, b"abc"),
    "speaks-first": ("GET", (send(ABC), READ, ANSWER), 200, b"abc"),
    "connection-close": ("GET", (READ, send(ABC_AND_CLOSE), STALL), 200, b"abc"),
}


@pytest.mark.parametrize("name", LEFTOVERS)
def test_a_connection_with_leftovers_is_never_used_again(site: Site, name: str) -> None:
    method, turn, status, body = LEFTOVERS[name]
    site.play(turn)
    token = new_token()
    with Client(site.alone) as one, Client(site.alone) as another:
        answer = one.ask(method, token, b"" if method == "POST" else None)
        assert (answer.end, answer.status, answer.body) == ("whole", status, body)
        site.wait_for_the_end()
        assert site.access(token)["state"] == "--"
        site.bad.play()
        for client in (one, another):
            token = new_token()
            answer = client.ask("GET", token)
            assert (answer.status, answer.body.decode()) == (200, f"{token}\n")
    assert site.bad.report().accepted == 1, "a good connection is used again"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("ending", [FIN, RST], ids=["fin", "rst"])
def test_a_connection_that_has_ended_while_idle_costs_nobody_anything(site: Site, ending: Step, method: str) -> None:
    site.play(GOOD, (ending,))
    with Client(site.alone) as client:
        for number in (1, 2, 3):
            token = new_token()
            assert client.ask(method, token, b"").body.decode() == f"{token}\n"
            site.wait_for_the_end()
            assert site.bad.report().accepted == number
    access = site.access(token)
    assert (access["state"], access["retries"]) == ("--", "0")


class Stopped:
    """Within the context the balancer does not run: what happens meanwhile it finds all at once, in that order."""

    def __init__(self, site: Site) -> None:
        self.balancer = site.balancer

    def __enter__(self) -> None:
        self._wait_for("S")  # it has done all there was to do, and waits for events
        self.balancer.signal(signal.SIGSTOP)
        self._wait_for("T")

    def _wait_for(self, state: str) -> None:
        stat = Path(f"/proc/{self.balancer.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == state, 2, f"state {state}")

    def __exit__(self, *_: object) -> None:
        self.balancer.signal(signal.SIGCONT)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("ending", [FIN, RST], ids=["fin", "rst"])
def test_a_request_that_crosses_the_end_of_an_idle_connection_is_served_once(
    site: Site, ending: Step, method: str
) -> None:
    site.play(GOOD, (WAIT, ending))
    with Client(site.alone) as client:
        client.ask("GET", new_token())
        token = new_token()
        with Stopped(site):
            client.start(method, token, b"")
            site.bad.go()
        assert client.finish().body.decode() == f"{token}\n"
    assert [request.token for request in site.bad.report().requests if request.whole].count(token) == 1
    assert site.access(token)["retries"] == "0"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_comes_unasked_just_before_a_request_is_not_its_answer(site: Site, method: str) -> None:
    site.play(GOOD, (WAIT, send(SURPLUS)))
    with Client(site.alone) as client:
        client.ask("GET", new_token())
        token = new_token()
        with Stopped(site):
            client.start(method, token, b"")
            site.bad.go()
        assert client.finish().body.decode() == f"{token}\n"


def test_surplus_at_the_edge_of_a_read_is_not_the_next_clients_answer(site: Site) -> None:
    """The balancer reads 64 KiB at a time. A response fills that exactly, and the next client waits in the queue."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 65000\r\nX-Pad: %b\r\n\r\n"
    head = head % (b"x" * (65536 - 65000 - len(head) + 2))
    site.play(GOOD, (READ, WAIT, send(head + b"y" * 65000 + SURPLUS)))
    with Client(site.queue) as one, Client(site.queue) as other:
        other.ask("GET", new_token())
        first, second = new_token(), new_token()
        one.start("GET", first)
        eventually(lambda: first in site.bad.report().tokens, 2, "the first request")
        with Stopped(site):
            other.start("GET", second)
            site.bad.go()
        assert one.finish().body == b"y" * 65000
        assert other.finish().body.decode() == f"{second}\n"


# -- slow, but not too slow ------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_answer_byte_by_byte_is_whole_while_it_moves(site: Site, chunked: bool) -> None:
    body = b"0123456789" * 2
    head = CHUNKED if chunked else b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
    rest = b"14\r\n%b\r\n0\r\n\r\n" % body if chunked else body
    site.play((READ, dribble(head, 0.001), dribble(rest, PATIENCE / 15)))
    token = new_token()
    answer = ask(site.alone, "GET", token)
    assert (answer.end, answer.status, answer.body) == ("whole", 200, body)
    access = site.access(token)
    assert access["state"] == "--"
    assert int(access["Ta"]) > PATIENCE * 1000, "it is the silence that counts, not the whole time"


def test_an_answer_until_the_close_ends_with_the_close(site: Site) -> None:
    site.play((READ, send(UNTIL_CLOSE + b"hello"), pause(PATIENCE / 2), FIN))
    token = new_token()
    answer = ask(site.alone, "GET", token)
    assert (answer.end, answer.body, site.access(token)["state"]) == ("whole", b"hello", "--")


def test_a_server_that_closes_late_keeps_no_client_waiting(site: Site) -> None:
    site.play((READ, send(ABC_AND_CLOSE), STALL))
    token = new_token()
    with Client(site.alone) as client:
        assert client.ask("GET", token).body == b"abc"
        assert client.connection is not None, "that the server closes is not the client's business"
    assert int(site.access(token)["Ta"]) < PATIENCE * 1000


# -- other requests --------------------------------------------------------------------------------

PHASE = 0.3
"""Seconds for which each trouble, and no trouble, is measured at a time, at least."""
ENOUGH = 50
"""Requests of each load that such a phase has, at least."""
ROUNDS = 3
MORE_SECONDS = 15.0
"""How long a trouble that seems to slow down others is measured further."""
LEAST = 0.005
"""Seconds that the usual p99 is taken to be at least: what a shared machine may do to any request."""
TROUBLES = (
    "refuse",
    "blackhole",
    "reset-after-the-request",
    "hang",
    "endless-slow-head",
    "head-of-300-kB",
    "endless-head",
    "close-in-the-body",
    "hang-in-the-body",
)


class TimedLoad(Load):
    """A load that notes how long each request took that began and ended in the same phase."""

    def __init__(self, port: int) -> None:
        super().__init__(port, clients=20, pause=0.06)
        self.phase = 0
        self.took: dict[str, tuple[int, float]] = {}
        self.counts: Counter[int] = Counter()

    async def _exchange(self, reader: StreamReader, writer: StreamWriter) -> bool:
        token, phase = new_token(), self.phase
        self._request = f"GET /{token} HTTP/1.1\r\nHost: test\r\nX-Request-ID: {token}\r\n\r\n"
        start = time.perf_counter()
        more = await super()._exchange(reader, writer)
        if phase == self.phase:
            self.took[token] = (phase, time.perf_counter() - start)
            self.counts[phase] += 1
        return more

    def p99(self, phase: int, access: dict[str, bool]) -> float:
        """Seconds, of the requests of a phase for which `access` is true."""
        took = [seconds for token, (its, seconds) in self.took.copy().items() if its == phase and access[token]]
        assert len(took) >= 10, "hardly anything was measured"
        return sorted(took)[int(len(took) * 0.99)]


class Slowness:
    """How slow other requests are while the bad server is in trouble.

    Two loads of 20 clients ask a backend in which the bad server is one of three, and a backend of
    two good ones. Phases with a trouble and phases without take turns; of each phase counts the p99
    of the requests that had nothing to do with the bad server, and for each trouble the median, over
    all rounds, of its p99 divided by that of the last phase without trouble.

    Another process on the same cores can make any phase slow. So a trouble that seems to be harmful
    after the usual rounds is measured for more rounds: what the balancer does to others it does in
    all of them, chance does not.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.phase = 0
        self.trio = TimedLoad(site.trio)
        self.other = TimedLoad(site.other)
        self.direct: dict[str, bool] = {}
        """Token -> did a good server get it at once?"""
        self.ratios: dict[str, dict[str, list[float]]] = {name: {"trio": [], "other": []} for name in TROUBLES}

    def measure(self) -> None:
        """All rounds."""
        with self.trio, self.other, open(self.site.balancer.log_path) as log:
            self.rounds(TROUBLES * ROUNDS, log)
            deadline = time.monotonic() + MORE_SECONDS
            while (bad := [name for name in TROUBLES if self.worst(name) >= 2]) and time.monotonic() < deadline:
                self.rounds(bad, log)
        self.other.check()

    def rounds(self, names: Sequence[str], log: TextIO) -> None:
        """A phase with each of these, and one without trouble before every third."""
        phases = []
        for number, name in enumerate(names):
            if number % 3 == 0:
                usual = self.play(None)
            phases.append((name, usual, self.play(next(fault for fault in FAULTS if fault.name == name))))
        asked = set(self.trio.took) | set(self.other.took)
        eventually(lambda: self.read(log) and asked <= self.direct.keys(), 5, "the access lines")
        for name, usual, phase in phases:
            for backend, load in (("trio", self.trio), ("other", self.other)):
                ratio = load.p99(phase, self.direct) / max(LEAST, load.p99(usual, self.direct))
                self.ratios[name][backend].append(ratio)

    def play(self, fault: Fault | None) -> int:
        """One phase; its number."""
        if fault is None:
            self.site.bad.play()
        else:
            self.site.bad.play(fault.turn, how=fault.how)
        self.phase += 1
        self.trio.phase = self.other.phase = self.phase
        time.sleep(PHASE)  # this is what is measured
        eventually(lambda: min(load.counts[self.phase] for load in (self.trio, self.other)) >= ENOUGH, 5, "requests")
        self.trio.phase = self.other.phase = 0
        return self.phase

    def read(self, log: TextIO) -> bool:
        """Go on reading the log."""
        for line in log:
            if HTTP_LINE.match(line):
                access = parse(line.rstrip("\n"))
                self.direct[access["id"]] = access["server"] != "bad" and access["retries"] == "0"
        return True

    def worst(self, name: str) -> float:
        """How many times as slow as usual other requests are."""
        return max(map(statistics.median, self.ratios[name].values()))


@pytest.fixture(scope="module")
def slowness(running: Site) -> Slowness:
    """Measured."""
    measured = Slowness(running)
    measured.measure()
    return measured


@pytest.mark.parametrize("backend", ["trio", "other"])
@pytest.mark.parametrize("name", TROUBLES)
def test_a_third_of_the_servers_in_trouble_does_not_slow_down_other_requests(
    site: Site, slowness: Slowness, name: str, backend: str
) -> None:
    ratios = slowness.ratios[name][backend]
    assert statistics.median(ratios) < 2, ratios

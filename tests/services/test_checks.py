from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from lbservice.core.health import CheckResult, Health
from lbservice.core.server import Server
from lbservice.core.settings import CheckSettings, ServerSettings
from lbservice.services import checks
from tests.services.fakes import STEP, FakeNetwork, FakeTransport, pass_time

ADDRESS = ("127.0.0.1", 9001)


class Visit:
    """One check of a server at ADDRESS, which is alive."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.network = FakeNetwork(self.clock)
        self.network.alive.add(ADDRESS)
        self.settings = CheckSettings(**{"timeout": 1.0, "kind": "http", **settings})
        self.results: list[CheckResult] = []

    def begin(self) -> None:
        check = checks.make(self.settings, self.network, self.clock)
        assert check is not None
        server = Server("app", ServerSettings("s1", *ADDRESS), Health())
        done = Deferred.fromCoroutine(check.run(server))
        done.addCallback(self.take)

    def take(self, result: CheckResult | None) -> None:
        assert result is not None, "a check of a server always has a result"
        self.results.append(result)

    def wait(self, seconds: float = 2 * STEP) -> None:
        pass_time(self.clock, seconds)

    @property
    def server(self) -> FakeTransport:
        (transport,) = self.network.connections
        return transport

    def answered(self, *pieces: bytes) -> str:
        """What is said of a server that answers with these pieces."""
        self.begin()
        self.wait()
        for piece in pieces:
            self.server.answer(piece)
        return self.said

    @property
    def said(self) -> str:
        (result,) = self.results
        assert self.clock.getDelayedCalls() == [], "nothing is left behind"
        return f"{'+' if result.passed else '-'} {result}"


class TestTcp:
    def test_a_connection_is_enough(self) -> None:
        visit = Visit(kind="tcp")
        visit.begin()
        visit.wait()
        assert visit.said == "+ L4OK"
        assert visit.results[0].duration == STEP
        assert visit.server.disconnecting

    def test_refused(self) -> None:
        visit = Visit(kind="tcp")
        visit.network.alive.clear()
        visit.begin()
        visit.wait()
        assert visit.said == "- L4CON connection refused 127.0.0.1:9001"

    def test_no_answer_at_all(self) -> None:
        visit = Visit(kind="tcp")
        visit.network.silent.add(ADDRESS)
        visit.begin()
        visit.wait(2)
        assert visit.said == "- L4TOUT connection timed out after 1s 127.0.0.1:9001"
        assert visit.results[0].duration == 1.0

    def test_none_is_none(self) -> None:
        clock = Clock()
        assert checks.make(CheckSettings(kind="none"), FakeNetwork(clock), clock) is None


class TestHttp:
    def test_the_question(self) -> None:
        visit = Visit(method="HEAD", path="/health?x=1", host="app.example")
        visit.begin()
        visit.wait()
        assert visit.server.value().startswith(b"HEAD /health?x=1 HTTP/1.1\r\nHost: app.example\r\n")
        assert b"\r\nConnection: close\r\n" in visit.server.value()
        assert visit.server.value().endswith(b"\r\n\r\n")

    def test_without_a_name_the_address_is_the_host(self) -> None:
        visit = Visit()
        visit.begin()
        visit.wait()
        assert b"\r\nHost: 127.0.0.1:9001\r\n" in visit.server.value()

    @pytest.mark.parametrize(
        ("expect", "status", "said"),
        [
            (((200, 399),), 200, "+ L7OK status 200"),
            (((200, 399),), 399, "+ L7OK status 399"),
            (((200, 399),), 404, "- L7STS status 404"),
            (((200, 200), (503, 503)), 503, "+ L7OK status 503"),
            (((200, 200), (503, 503)), 204, "- L7STS status 204"),
        ],
    )
    def test_the_status_decides(self, expect: tuple[tuple[int, int], ...], status: int, said: str) -> None:
        assert Visit(expect=expect).answered(b"HTTP/1.1 %d x\r\n\r\n" % status) == said

    def test_the_head_may_come_in_pieces_and_behind_interim_ones(self) -> None:
        answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"
        assert Visit().answered(answer) == "+ L7OK status 200"
        pieces = [answer[at : at + 1] for at in range(len(answer))]
        assert Visit().answered(*pieces) == "+ L7OK status 200"

    @pytest.mark.parametrize(
        "answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\n\n", b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", b"x" * 70_000]
    )
    def test_what_is_no_answer(self, answer: bytes) -> None:
        assert Visit().answered(answer).startswith("- L7RSP ")

    def test_a_connection_that_closes_without_an_answer(self) -> None:
        visit = Visit()
        visit.begin()
        visit.wait()
        visit.server._protocol.connectionLost(Failure(ConnectionDone()))
        assert visit.said == "- L7RSP connection closed without an answer 127.0.0.1:9001"

    def test_an_answer_that_takes_too_long(self) -> None:
        visit = Visit(timeout=0.5)
        visit.begin()
        visit.wait(0.25)
        visit.server.answer(b"HTTP/1.1 200")
        visit.wait(0.5)
        assert visit.said == "- L7TOUT no answer in time 127.0.0.1:9001"
        assert visit.results[0].duration == 0.5
        assert visit.server.disconnecting

    def test_what_comes_after_the_answer_does_not_matter(self) -> None:
        visit = Visit()
        assert visit.answered(b"HTTP/1.1 200 OK\r\n\r\n", b"\x00\n\r", b"HTTP/1.1 500 x\r\n\r\n") == "+ L7OK status 200"

"""What counts as an error, and errors in a row."""

from __future__ import annotations

import pytest

from lbservice.core.backend import Backend
from lbservice.core.events import Access
from lbservice.core.passive import ERRORS, LAYERS, ErrorRuns, Judge
from lbservice.core.pick import Outcome, Result
from lbservice.core.server import Server
from tests.core.build import lease_of, make_backend, make_server

OUTCOMES = {
    "200": Outcome(Result.OK, 200),
    "404": Outcome(Result.OK, 404),
    "500": Outcome(Result.OK, 500),
    "501": Outcome(Result.OK, 501),
    "503": Outcome(Result.OK, 503),
    "504": Outcome(Result.OK, 504),
    "505": Outcome(Result.OK, 505),
    "999": Outcome(Result.OK, 999),
    "tcp": Outcome(Result.OK),
    "connect": Outcome(Result.CONNECT_FAILED),
    "timeout": Outcome(Result.TIMED_OUT),
    "reset": Outcome(Result.RESET, 200),
}


@pytest.mark.parametrize(
    ("judge", "errors"),
    [
        (LAYERS["layer4"], "connect"),
        (LAYERS["layer7"], "500 503 504 999 connect timeout reset"),
        (ERRORS["5xx"], "500 501 503 504 505 999 connect timeout reset"),
        (ERRORS["gateway"], "503 504 connect timeout reset"),
        (ERRORS["broken"], "connect timeout reset"),
    ],
)
def test_what_counts_as_an_error(judge: Judge, errors: str) -> None:
    assert " ".join(name for name, outcome in OUTCOMES.items() if judge(outcome)) == errors
    assert {judge(outcome) for outcome in OUTCOMES.values()} == {True, False}


@pytest.mark.parametrize("judge", [*LAYERS.values(), *ERRORS.values()])
def test_what_the_client_or_we_gave_up_says_nothing(judge: Judge) -> None:
    assert judge(Outcome(Result.ABORTED, 503)) is None


class TestErrorsInARow:
    def make(self, limit: int = 3) -> tuple[ErrorRuns, list[str]]:
        told: list[str] = []
        return ErrorRuns(ERRORS["5xx"], limit, lambda server, why: told.append(f"{server.name}: {why}")), told

    def test_are_told_at_the_limit_and_counted_anew(self) -> None:
        runs, told = self.make()
        server = make_server()
        for _ in range(2):
            runs.heard(server, OUTCOMES["503"])
        assert told == []
        runs.heard(server, OUTCOMES["reset"])
        assert told == ["s1: 3 errors in a row, the last: reset"]
        for _ in range(2):
            runs.heard(server, OUTCOMES["503"])
        assert len(told) == 1
        runs.heard(server, OUTCOMES["503"])
        assert told[1:] == ["s1: 3 errors in a row, the last: status 503"]

    def test_a_success_between_them_begins_anew_and_an_abort_does_not(self) -> None:
        runs, told = self.make()
        server = make_server()
        for name in ("503", "503", "200", "503", "503"):
            runs.heard(server, OUTCOMES[name])
        assert told == []
        runs.heard(server, Outcome(Result.ABORTED))
        runs.heard(server, OUTCOMES["503"])
        assert len(told) == 1

    def test_of_each_server_by_itself(self) -> None:
        runs, told = self.make(2)
        s1, s2 = make_server("s1"), make_server("s2")
        for server in (s1, s2):
            runs.heard(server, OUTCOMES["503"])
        assert told == []
        runs.forget(s1)
        for server in (s1, s2):
            runs.heard(server, OUTCOMES["503"])
        assert [sentence[:2] for sentence in told] == ["s2"]

    def test_one_may_be_enough(self) -> None:
        runs, told = self.make(1)
        for _ in range(2):
            runs.heard(make_server(), OUTCOMES["503"])
        assert len(told) == 2

    def test_it_wants_to_hear_of_successes_while_somebody_has_errors(self) -> None:
        runs, told = self.make()
        s1, s2 = make_server("s1"), make_server("s2")
        ends = [(s1, "200"), (s1, "503"), (s2, "503"), (s1, "200"), (s2, "200"), (s1, "503"), (s1, "503"), (s1, "503")]
        wants = [runs.heard(server, OUTCOMES[name]) for server, name in ends]
        assert wants == [False, True, True, True, False, True, True, False]
        assert len(told) == 1


class TestListeners:
    """A backend tells its listeners of each use of a server that went badly, and of the others while one wants to."""

    def ends(self, backend: Backend, *statuses: int) -> None:
        """Whole responses, as most are."""
        for status in statuses:
            access = Access(True, "192.0.2.1:5", "web", "app", 0.0)
            access.status = status
            lease_of(backend).succeeded(access)

    def test_what_ends_in_any_other_way_is_told_once(self) -> None:
        heard: list[tuple[str, Result]] = []

        def hear(server: Server, outcome: Outcome) -> bool:
            heard.append((server.name, outcome.result))
            return False

        backend = make_backend([make_server()])
        backend.listeners = (hear,)
        for outcome in (OUTCOMES["reset"], Outcome(Result.ABORTED)):
            lease = lease_of(backend)
            lease.done(outcome)
            lease.done(outcome)
        assert heard == [("s1", Result.RESET), ("s1", Result.ABORTED)]

    def test_whole_responses_are_told_when_they_are_errors_or_when_somebody_has_some(self) -> None:
        told: list[str] = []
        heard: list[int] = []
        runs = ErrorRuns(ERRORS["5xx"], 3, lambda server, why: told.append(why))

        def hear(server: Server, outcome: Outcome) -> bool:
            heard.append(outcome.status)
            return runs.heard(server, outcome)

        backend = make_backend([make_server()])
        backend.listeners = (hear,)
        self.ends(backend, 200, 404, 503, 200, 201, 503, 503)
        backend.refresh()
        self.ends(backend, 204, 205, 503, 503, 503, 206)
        assert heard == [503, 200, 503, 503, 204, 503, 503, 503]
        assert len(told) == 1
        assert backend.servers["s1"].statuses == [0, 0, 6, 0, 1, 6]

    def test_one_of_several_who_wants_to_is_enough(self) -> None:
        backend = make_backend([make_server()])
        backend.listeners = (lambda server, outcome: True, lambda server, outcome: False)
        assert not backend.learns
        self.ends(backend, 503)
        assert backend.learns

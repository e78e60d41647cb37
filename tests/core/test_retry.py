"""The retry budget, and the leases that it counts."""

from __future__ import annotations

from math import inf

import pytest

from lbservice.core.backend import Backend
from lbservice.core.events import Access
from lbservice.core.pick import Outcome, Result
from lbservice.core.retry import LEAST, RetryBudget
from lbservice.core.settings import BackendSettings
from tests.core.build import GOOD, FirstWithRoom, lease_of, make_server


@pytest.mark.parametrize(
    ("share", "requests", "most"),
    [(0.2, 0, LEAST), (0.2, 15, LEAST), (0.2, 16, 4), (0.2, 100, 20), (1.0, 50, 50), (inf, 10, 1000)],
)
def test_a_share_of_the_requests_in_flight_and_three_in_any_case(share: float, requests: int, most: int) -> None:
    budget = RetryBudget(share)
    taken = sum(budget.take(requests) for _ in range(1000))
    assert (taken, budget.active, budget.refused) == (most, most, 1000 - most)
    budget.give_back()
    assert budget.take(requests)


class TestABackend:
    def make(self, share: float = 0.2) -> tuple[Backend, list[tuple[str, bool]]]:
        told: list[tuple[str, bool]] = []
        backend = Backend(
            BackendSettings("app", retry_budget=share),
            FirstWithRoom(),
            retried=lambda backend, server, again: told.append((server.name, again)),
        )
        backend.add(make_server())
        return backend, told

    def test_repetitions_are_bounded_and_both_answers_are_told(self) -> None:
        backend, told = self.make()
        server = backend.servers["s1"]
        answers = [backend.retry(server, repeats=True) for _ in range(5)]
        assert answers == [True, True, True, False, False]
        assert told == [("s1", again) for again in answers]
        assert (backend.retries, backend.budget.refused) == (3, 2)

    def test_those_whose_connection_failed_are_not(self) -> None:
        backend, _ = self.make()
        assert all(backend.retry(backend.servers["s1"], repeats=False) for _ in range(100))
        assert (backend.retries, backend.budget.active) == (100, 0)

    def test_the_requests_in_flight_and_in_the_queue_count(self) -> None:
        backend, _ = self.make()
        for _ in range(40):
            lease_of(backend)
        for _ in range(10):
            backend.wait(None, lambda lease: None)  # type: ignore[arg-type] # nobody is picked
        server = backend.servers["s1"]
        assert sum(backend.retry(server, repeats=True) for _ in range(50)) == 10


class TestARepetition:
    def make(self) -> tuple[Backend, RetryBudget]:
        backend = Backend(BackendSettings("app"), FirstWithRoom())
        backend.add(make_server(maxconn=5))
        backend.budget.take(0)
        return backend, backend.budget

    @pytest.mark.parametrize("outcome", [GOOD, Outcome(Result.RESET), Outcome(Result.ABORTED)])
    def test_gives_the_budget_back_once(self, outcome: Outcome) -> None:
        backend, budget = self.make()
        lease = lease_of(backend).repeats()
        assert budget.active == 1
        lease.done(outcome)
        lease.done(outcome)
        assert (budget.active, backend.in_flight) == (0, 0)

    def test_also_on_the_fast_path(self) -> None:
        backend, budget = self.make()
        access = Access(True, "192.0.2.1:5", "web", "app", 0.0)
        access.status = 200
        lease_of(backend).repeats().succeeded(access)
        server = backend.servers["s1"]
        assert (budget.active, backend.in_flight, server.statuses[2]) == (0, 0, 1)
        assert access.server_active == 0

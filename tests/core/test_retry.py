"""The retry budget, and the leases that it counts."""

from __future__ import annotations

from collections import deque
from math import inf

import pytest

from lbservice.core.backend import Backend
from lbservice.core.events import Access
from lbservice.core.pick import Outcome, Result
from lbservice.core.retry import LEAST, RESERVE, RetryBudget
from lbservice.core.settings import BackendSettings
from tests.core.build import GOOD, FirstWithRoom, lease_of, make_server


class TestTheBudget:
    @pytest.mark.parametrize(
        ("share", "in_flight", "most"),
        [(0.2, 1, LEAST), (0.2, 15, LEAST), (0.2, 16, 4), (0.2, 100, 20), (1.0, 50, 50), (inf, 10, 1000)],
    )
    def test_without_a_reserve_it_is_a_share_of_what_is_in_flight_and_three_in_any_case(
        self, share: float, in_flight: int, most: int
    ) -> None:
        budget = self.empty(share, in_flight)
        taken = sum(budget.take(in_flight, 0) for _ in range(1000))
        assert (taken, budget.active, budget.refused) == (most, most, 1000 - most)
        budget.give_back()
        assert budget.take(in_flight, 0)

    @pytest.mark.parametrize("in_flight", [3, 10, 67, 1000])
    def test_whatever_is_in_flight_may_die_at_once(self, in_flight: int) -> None:
        budget = RetryBudget(0.2)
        assert all(budget.take(in_flight - dead, 10_000) for dead in range(in_flight))

    def test_with_little_in_flight_more_than_that_may_die_one_after_the_other(self) -> None:
        budget = RetryBudget(0.2)
        assert sum(budget.take(4, 10_000) for _ in range(100)) == RESERVE
        assert sum(budget.take(4, 10_000 + 5 * RESERVE) for _ in range(100)) == RESERVE

    def test_the_reserve_grows_by_a_share_of_the_new_requests(self) -> None:
        budget = self.empty(0.2, 100)
        while budget.take(100, 0):
            pass
        assert sum(budget.take(100, 50) for _ in range(100)) == 10
        assert sum(budget.take(100, 52) for _ in range(100)) == 0
        assert sum(budget.take(100, 55) for _ in range(100)) == 1

    def test_but_not_above_what_is_in_flight(self) -> None:
        budget = self.empty(0.2, 100)
        while budget.take(100, 0):
            pass
        assert sum(budget.take(30, 1_000_000) for _ in range(100)) == 30

    def test_in_the_long_run_repetitions_are_a_fifth_of_the_requests(self) -> None:
        """Servers that break everything off. A repetition takes as long as 100 requests need to come in."""
        budget, repeated, ends = RetryBudget(0.2), 0, deque([False] * 100)
        for _ in range(10_000):
            ends.append(budget.take(100, 10_000 + repeated))
            repeated += ends[-1]
            if ends.popleft():
                budget.give_back()
        assert 0.15 < repeated / 10_000 < 0.26

    def empty(self, share: float, in_flight: int) -> RetryBudget:
        """One that has repeated all it had in reserve, and needs to do so no more."""
        budget = RetryBudget(share)
        for _ in range(max(in_flight, RESERVE)):
            assert budget.take(in_flight, 0)
        for _ in range(max(in_flight, RESERVE)):
            budget.give_back()
        return budget


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
        answers = [backend.retry(server, repeats=True) for _ in range(12)]  # with nothing else in flight
        assert answers == [True] * RESERVE + [False] * 2
        assert told == [("s1", again) for again in answers]
        assert (backend.retries, backend.budget.refused) == (RESERVE, 2)

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
        assert sum(backend.retry(server, repeats=True) for _ in range(100)) == 51  # the one that failed, too
        assert sum(backend.retry(server, repeats=True) for _ in range(100)) == 0

    def test_each_request_adds_to_the_reserve(self) -> None:
        backend, _ = self.make()
        leases = [lease_of(backend) for _ in range(50)]
        server = backend.servers["s1"]
        assert sum(backend.retry(server, repeats=True) for _ in range(100)) == 51
        for _ in range(100):
            lease_of(backend).done(GOOD)
        assert sum(backend.retry(server, repeats=True) for _ in range(100)) == 20
        assert len(leases) == backend.in_flight


class TestARepetition:
    def make(self) -> tuple[Backend, RetryBudget]:
        backend = Backend(BackendSettings("app"), FirstWithRoom())
        backend.add(make_server(maxconn=5))
        backend.budget.take(1, 0)
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

"""That requests are tried again, in few words."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import formatEvent

from lbservice.core.backend import Backend
from lbservice.core.settings import BackendSettings
from lbservice.services.retrylog import RetryLog
from tests.core.build import FirstWithRoom, make_server
from tests.services.fakes import heard


class House:
    def __init__(self) -> None:
        self.clock = Clock()
        self.retrylog = RetryLog(self.clock)
        self.backend = Backend(BackendSettings("app"), FirstWithRoom(), retried=self.retrylog.retried)
        for name in ("s1", "s2"):
            self.backend.add(make_server(name))

    def fail(self, name: str, times: int, *, repeats: bool = False) -> None:
        for _ in range(times):
            self.backend.retry(self.backend.servers[name], repeats=repeats)


def test_those_of_the_first_second_and_then_of_ten_seconds_are_one_event() -> None:
    house = House()
    with heard("retries") as events:
        house.fail("s1", 3)
        house.fail("s2", 40)
        house.clock.advance(1)
        house.fail("s1", 500)
        house.clock.advance(9)
        house.fail("s1", 500)
        house.clock.advance(1)
        house.clock.advance(1000)
        house.fail("s2", 1)
        house.clock.advance(1)
    assert [formatEvent(event) for event in events] == [
        "backend app: 43 retries in 1s, after failures of s2 (40), s1 (3)",
        "backend app: 1000 retries in 10s, after failures of s1 (1000)",
        "backend app: 1 retries in 1s, after failures of s2 (1)",
    ]


def test_nothing_is_said_of_nothing() -> None:
    house = House()
    house.fail("s1", 1)
    house.clock.advance(1)
    with heard("retries") as events:
        house.clock.advance(10)
        house.clock.advance(10)
    assert events == []
    assert house.clock.getDelayedCalls() == []


def test_an_exhausted_budget_is_told_once_a_second_at_most() -> None:
    house = House()
    with heard("retry-budget") as events:
        house.fail("s1", 103, repeats=True)
        house.clock.advance(0.9)
        house.fail("s1", 1, repeats=True)
        house.clock.advance(0.2)
        house.fail("s1", 1, repeats=True)
    assert [formatEvent(event) for event in events] == [
        "backend app has used up its retry budget: 10 repetitions, 0 requests in flight; 1 were not repeated so far",
        "backend app has used up its retry budget: 10 repetitions, 0 requests in flight; 95 were not repeated so far",
    ]


def test_a_stop_leaves_no_timer() -> None:
    house = House()
    house.fail("s1", 1)
    house.retrylog.stop()
    assert house.clock.getDelayedCalls() == []

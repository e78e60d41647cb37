"""A server that fails at once, while requests wait for the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.logger import formatEvent

from lbservice.core.backend import Lease
from lbservice.core.pick import Outcome, Result
from lbservice.core.server import Server
from lbservice.services.backoff import LONGEST, SHORTEST
from tests.core.build import GOOD, Waiter, lease_of
from tests.services.fakes import heard
from tests.services.house import SETTINGS, House, server

RESET = Outcome(Result.RESET)


class Queue:
    """A backend of three servers for one request each, of which s1 has just got room and two have not; many wait."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.waiters: list[Waiter] = []
        self.leases: dict[Server, Lease] = {}
        while len(self.leases) < 3:
            lease = lease_of(house.app)
            self.leases[lease.server] = lease
        self.s1 = house["app/s1"]
        for _ in range(200):
            self.wait()

    def wait(self) -> None:
        self.waiters.append(Waiter(self.house.app))

    def ends(self, server: Server, outcome: Outcome) -> None:
        """What the server has ends like that."""
        self.leases.pop(server).done(outcome)
        self.look()

    def look(self) -> None:
        """See who has been served."""
        for waiter in [waiter for waiter in self.waiters if waiter.answers]:
            self.waiters.remove(waiter)
            (lease,) = waiter.answers
            assert lease is not None
            assert lease.server not in self.leases
            self.leases[lease.server] = lease

    def fails_until_it_rests(self, outcome: Outcome = RESET) -> int:
        """How often it had to."""
        for times in range(1, 100):
            self.ends(self.s1, outcome)
            if self.s1 not in self.leases:
                return times
        return 100

    def rests(self) -> float:
        """Seconds until it gets something again."""
        for step in range(1500):
            self.look()
            if self.s1 in self.leases:
                return step / 1000
            self.house.clock.advance(0.001)
        raise AssertionError("it gets nothing any more")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with a_queue(tmp_path) as queue:
        yield queue


@contextmanager
def a_queue(tmp_path: Path) -> Iterator[Queue]:
    app, pg = SETTINGS.backends
    servers = tuple(replace(server(number), maxconn=1) for number in range(1, 4))
    house = House(tmp_path, replace(SETTINGS, backends=(replace(app, servers=servers), pg)))
    with house.running():
        house.wait(2)
        yield Queue(house)


def test_the_second_failure_in_a_row_brings_a_rest_and_each_further_one_twice_as_long(queue: Queue) -> None:
    assert queue.fails_until_it_rests() == 2
    rests = [queue.rests()]
    while rests[-1] < LONGEST - 0.01 and len(rests) < 20:
        assert queue.fails_until_it_rests() == 1
        rests.append(queue.rests())
    assert rests == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0], abs=0.002)
    assert queue.fails_until_it_rests() == 1
    assert queue.rests() == pytest.approx(LONGEST, abs=0.002)


def test_the_others_go_on_meanwhile_in_the_order_of_the_queue(queue: Queue) -> None:
    queue.fails_until_it_rests()
    oldest = queue.waiters[0]
    queue.ends(queue.house["app/s2"], GOOD)
    assert oldest.served_by == "s2"


def test_a_success_between_them_begins_anew(queue: Queue) -> None:
    queue.fails_until_it_rests()
    queue.rests()
    queue.ends(queue.s1, GOOD)
    assert queue.fails_until_it_rests() == 2
    assert queue.rests() == pytest.approx(SHORTEST, abs=0.002)


def test_what_it_has_worked_on_is_a_part_of_the_rest(queue: Queue) -> None:
    slow = Outcome(Result.OK, 503, 0.1)
    assert queue.fails_until_it_rests(slow) == 6, "2 to 5 bring 10 to 80 ms, and it took 100 ms itself"
    assert queue.rests() == pytest.approx(0.06, abs=0.002)


@pytest.mark.parametrize("outcome", [Outcome(Result.ABORTED), Outcome(Result.TIMED_OUT), Outcome(Result.OK, 404)])
def test_other_ends_bring_none(queue: Queue, outcome: Outcome) -> None:
    assert queue.fails_until_it_rests(outcome) == 100


def test_without_a_queue_there_is_none(tmp_path: Path) -> None:
    with a_queue(tmp_path) as queue:
        for waiter in queue.waiters:
            queue.house.app.leave(waiter.ticket)
        for _ in range(5):
            queue.leases.pop(queue.s1).done(RESET)
            queue.leases[queue.s1] = lease_of(queue.house.app)


def test_when_all_fail_at_once_nobody_rests(queue: Queue) -> None:
    for _ in range(60):
        for each in list(queue.leases):
            queue.ends(each, RESET)
    assert len(queue.leases) == 3 or not queue.waiters


def test_a_return_from_being_down_ends_it(queue: Queue) -> None:
    queue.fails_until_it_rests()
    queue.house.balancer.passive.returned(queue.s1)
    queue.look()
    assert queue.s1 in queue.leases
    assert queue.fails_until_it_rests() == 2


@pytest.mark.parametrize("end", ["stop", "forget"])
def test_no_timer_is_left(queue: Queue, end: str) -> None:
    queue.fails_until_it_rests()
    timers = len(queue.house.clock.getDelayedCalls())
    if end == "stop":
        queue.house.balancer.passive.stop()
    else:
        queue.house.balancer.passive.forget(queue.s1)
    assert len(queue.house.clock.getDelayedCalls()) == timers - 1
    queue.look()
    assert queue.s1 in queue.leases, "who waits is not forgotten"
    if end == "stop":
        assert queue.fails_until_it_rests() == 100


def test_it_is_told_once_in_a_while(queue: Queue) -> None:
    with heard("backoff") as events:
        queue.fails_until_it_rests()
        for _ in range(5):
            queue.rests()
            queue.fails_until_it_rests()
    assert [formatEvent(event) for event in events] == [
        "server app/s1 fails at once while 199 wait: it gets a request now and then until one goes well"
    ]

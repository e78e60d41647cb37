"""Who comes first: classes, order within a class, and the bound on how long a low class is passed over."""

from __future__ import annotations

from random import Random

import pytest

from lbservice import policies
from lbservice.core.backend import Backend, Lease
from lbservice.core.pick import Outcome, Result
from lbservice.core.queue import IN_A_ROW, Ticket
from lbservice.core.server import Admin, Server
from lbservice.core.settings import BackendSettings, PrioritySettings
from tests.core.build import CLIENT, GOOD, FirstWithRoom, make_server

CLASSES = PrioritySettings("X-Priority", ("high", "normal", "low"), 1)


class Line:
    """A backend with one server that is busy with one request, and who waits for it; `served` in their order."""

    def __init__(self, priority: PrioritySettings | None = CLASSES) -> None:
        self.backend = Backend(BackendSettings("app", priority=priority), FirstWithRoom())
        self.backend.add(make_server(maxconn=1))
        self.served: list[str] = []
        self.lease = self.backend.acquire(CLIENT)

    def wait(self, name: str, rank: int) -> Ticket:
        return self.backend.wait(CLIENT, lambda lease: self._granted(name, lease), (), rank)

    def _granted(self, name: str, lease: Lease | None) -> None:
        self.served.append(name)
        self.lease = lease

    def next(self, turns: int = 1) -> str:
        """Let what is being served end, so many times; who came then."""
        before = len(self.served)
        for _ in range(turns):
            assert self.lease is not None
            self.lease.done(GOOD)
        return " ".join(self.served[before:])


class TestClasses:
    def test_the_first_class_comes_first_and_within_a_class_the_oldest(self) -> None:
        line = Line()
        for name, rank in (("l1", 2), ("n1", 1), ("h1", 0), ("l2", 2), ("h2", 0), ("n2", 1)):
            line.wait(name, rank)
        assert line.next(6) == "h1 h2 n1 n2 l1 l2"

    def test_the_place_counts_those_who_come_before(self) -> None:
        line = Line()
        places = [line.wait("x", rank).place for rank in (2, 1, 0, 2, 0, 1)]
        assert places == [0, 0, 0, 3, 1, 3]

    def test_the_place_does_not_count_those_who_left(self) -> None:
        line = Line()
        gone = line.wait("gone", 0)
        line.backend.leave(gone)
        assert line.wait("x", 1).place == 0
        assert line.next() == "x"

    def test_a_low_class_is_passed_over_seven_times_in_a_row_at_most(self) -> None:
        line = Line()
        line.wait("low", 2)
        for number in range(20):
            line.wait(f"h{number}", 0)
        turns = line.next(IN_A_ROW + 1).split()
        assert turns == [*(f"h{number}" for number in range(IN_A_ROW)), "low"]
        assert line.next() == f"h{IN_A_ROW}"

    def test_with_a_flood_of_the_first_class_every_eighth_turn_is_by_age(self) -> None:
        line = Line()
        for number in range(10):
            line.wait(f"l{number}", 2)
        for number in range(800):
            line.wait(f"h{number}", 0)
        turns = line.next(80).split()
        assert [turn for turn in turns if turn[0] == "l"] == [f"l{number}" for number in range(10)]
        assert [turn for turn in turns if turn[0] == "h"] == [f"h{number}" for number in range(70)]

    def test_without_classes_it_is_first_come_first_served(self) -> None:
        line = Line(None)
        for number in range(20):
            line.wait(str(number), 0)
        assert line.next(20).split() == [str(number) for number in range(20)]


class TestWhichClass:
    @pytest.mark.parametrize(
        ("value", "rank"), [(b"high", 0), (b"HIGH", 0), (b"low", 2), (b"", 1), (b"urgent", 1), (b"\xff", 1), (None, 1)]
    )
    def test_the_value_names_it_whatever_its_case_and_else_it_is_the_default(
        self, value: bytes | None, rank: int
    ) -> None:
        assert CLASSES.rank(value) == rank


class Crowd:
    """Anything may happen: requests of three classes come, wait, are given up, fail and are tried again."""

    def __init__(self, seed: int, balance: str) -> None:
        self.random = Random(seed)
        settings = BackendSettings("app", priority=CLASSES)
        self.backend = Backend(settings, policies.make(balance))
        for number in range(1, 7):
            self.backend.add(make_server(f"s{number}", maxconn=1 + number % 3))
        self.leases: list[Lease] = []
        self.waiting: dict[int, tuple[Ticket, int]] = {}
        self.tried: dict[int, tuple[Server, ...]] = {}
        self.last = [-1, -1, -1]
        self.came = self.served = self.left = self.told_nobody = 0
        self.backend.listeners = (self.heard,)

    def comes(self, avoid: tuple[Server, ...] = ()) -> None:
        """A request; with `avoid` it is one that has failed and is tried again."""
        self.came += 1
        lease = self.backend.acquire(CLIENT, avoid)
        if lease is not None:
            self.has(lease)
        elif not self.backend.available:
            self.told_nobody += 1
        else:
            me, rank = self.came, self.random.randrange(3)
            ticket = self.backend.wait(CLIENT, lambda lease: self.granted(me, rank, avoid, lease), avoid, rank)
            self.waiting[me] = ticket, rank

    def granted(self, who: int, rank: int, avoid: tuple[Server, ...], lease: Lease | None) -> None:
        del self.waiting[who]  # KeyError: told twice, or after it had left
        if lease is None:
            assert not self.backend.available
            self.told_nobody += 1
            return
        if not avoid:  # a retry may have to let a server pass that is none for it
            assert who > self.last[rank], "not the oldest of its class"
            self.last[rank] = who
        self.has(lease)

    def has(self, lease: Lease) -> None:
        server = lease.server
        assert server.in_flight <= server.settings.maxconn, "more than maxconn"
        self.leases.append(lease)

    def ends(self) -> None:
        lease = self.leases.pop(self.random.randrange(len(self.leases)))
        fails = self.random.random() < 0.1
        lease.done(Outcome(Result.RESET) if fails else GOOD)
        self.served += 1
        if fails:
            self.comes((lease.server,))

    def heard(self, server: Server, outcome: Outcome) -> bool:
        """Passive health: a failure may take the server out before its lease has quite ended."""
        if outcome.result is Result.RESET and self.random.random() < 0.2:
            server.health.up = False
            self.backend.refresh()
        return False

    def leaves(self) -> None:
        who = self.random.choice(list(self.waiting))
        self.backend.leave(self.waiting.pop(who)[0])
        self.left += 1

    def changes(self) -> None:
        """A check, an operator or a slow start changes a server."""
        server = self.random.choice(list(self.backend))
        match self.random.randrange(4):
            case 0:
                server.health.up = not server.health.up
            case 1:
                server.weight = self.random.randrange(4)
            case 2:
                server.ramp = self.random.choice([0.1, 0.5, 1.0])
            case 3:
                server.admin = self.random.choice(list(Admin))
        self.backend.refresh()

    def nobody_waits_in_vain(self) -> None:
        assert self.backend.waiting == len(self.waiting)
        for ticket, _ in self.waiting.values():
            assert not self.backend._serves(ticket.avoid), "a wake-up was lost"


@pytest.mark.parametrize("balance", ["roundrobin", "leastconn"])
def test_in_a_hundred_thousand_requests_no_wake_up_is_lost(balance: str) -> None:
    crowd = Crowd(17, balance)
    chance = crowd.random
    while crowd.came < 100_000:
        what = chance.random()
        if what < 0.5 and len(crowd.waiting) < 40:
            crowd.comes()
        elif what < 0.95 and crowd.leases:
            crowd.ends()
        elif what < 0.97 and crowd.waiting:
            crowd.leaves()
        elif what > 0.985:
            crowd.changes()
        if crowd.came % 50 == 0:
            crowd.nobody_waits_in_vain()
    for server in crowd.backend:
        server.health.up, server.admin, server.weight, server.ramp = True, Admin.READY, 1, 1.0
    crowd.backend.refresh()
    while crowd.leases:
        crowd.leases.pop().done(GOOD)
        crowd.served += 1
    assert not crowd.waiting
    assert crowd.came == crowd.served + crowd.left + crowd.told_nobody
    assert min(crowd.served, crowd.left, crowd.told_nobody) > 100, "the test has seen all of it"
    assert (crowd.backend.in_flight, crowd.backend.waiting) == (0, 0)

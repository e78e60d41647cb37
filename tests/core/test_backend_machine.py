"""Anything may happen to a backend in any order; what it promises holds after every step."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lbservice import policies
from lbservice.core.backend import Backend, Lease
from lbservice.core.pick import Outcome, Result
from lbservice.core.queue import Ticket
from lbservice.core.server import Admin, Ejection, Server
from lbservice.core.settings import BackendSettings, PrioritySettings
from tests.core.build import CLIENT, GOOD, make_server

CLASSES = PrioritySettings("X-Priority", ("high", "normal", "low"), 1)


class BackendMachine(RuleBasedStateMachine):
    """Clients, checks and operators at one backend; the model beside it is lists of who has and who waits."""

    panic = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[Server] = []
        self.empty = True
        self.leases: list[Lease] = []
        self.queue: list[int] = []
        self.tickets: dict[int, Ticket] = {}
        self.told_nobody: list[int] = []
        self.lent = 0
        self.removed: list[Server] = []
        self.avoids: dict[int, tuple[Server, ...]] = {}
        self.ranks: dict[int, int] = {}
        self.numbers = iter(range(1, 10_000))
        self.backend = Backend(
            BackendSettings("app", priority=CLASSES, panic=self.panic),
            self.make_policy(),
            emptied=self.emptied,
            gone=self.gone.append,
        )

    def make_policy(self) -> Any:
        return policies.make("roundrobin", lambda: 0.0, Random(1))

    def emptied(self, backend: object, empty: bool) -> None:
        assert empty != self.empty, "said twice"
        self.empty = empty

    def one_of(self, data: st.DataObject) -> Server:
        return data.draw(st.sampled_from(list(self.backend.servers.values())))

    # -- clients ---------------------------------------------------------------------------

    @rule(data=st.data(), rank=st.integers(0, 2))
    def request(self, data: st.DataObject, rank: int) -> None:
        avoid = tuple(data.draw(st.lists(st.sampled_from(list(self.backend) or [make_server()]), max_size=2)))
        suiting = self.suiting(avoid)
        lease = self.backend.acquire(CLIENT, avoid)
        if lease is not None:
            assert lease.server in suiting
            self.lent += 1
            self.leases.append(lease)
            return
        assert not suiting
        if self.backend.available:
            me = next(self.numbers)
            before = sum(self.ranks[who] <= rank for who in self.queue)
            self.queue.append(me)
            self.avoids[me] = avoid
            self.ranks[me] = rank
            self.tickets[me] = self.backend.wait(CLIENT, lambda lease: self.granted(me, lease), avoid, rank)
            assert self.tickets[me].place == before

    def suiting(self, avoid: tuple[Server, ...]) -> list[Server]:
        """The servers with room that such a request may have."""
        others = [server for server in self.backend.available if server not in avoid]
        return [server for server in others or self.backend.available if server in self.awake and not server.full]

    @property
    def awake(self) -> Sequence[Server]:
        """Those that do not rest; all, if all do."""
        return [server for server in self.backend.available if not server.resting] or self.backend.available

    def granted(self, who: int, lease: Lease | None) -> None:
        assert who in self.queue, f"{who} was told twice, or had left"
        # Only a server that was taken meanwhile could have suited an older one.
        older = [each for each in self.queue[: self.queue.index(who)] if self.ranks[each] == self.ranks[who]]
        self.queue.remove(who)
        assert not any(lease is None or self.takes(each, lease.server) for each in older), "not the oldest"
        if lease is None:
            assert not self.backend.available
            self.told_nobody.append(who)
        else:
            self.lent += 1
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), result=st.sampled_from(Result), status=st.sampled_from([0, 200, 404, 503]))
    def done(self, data: st.DataObject, result: Result, status: int) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        lease.done(Outcome(result, status, 0.01, 1, 2))
        lease.done(GOOD)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(list(self.tickets)))
        self.backend.leave(self.tickets[who])
        if who in self.queue:
            self.queue.remove(who)

    def takes(self, who: int, server: Server) -> bool:
        """Would this one have taken the server?"""
        avoid = self.avoids[who]
        return server not in avoid or all(each in avoid for each in self.backend.available)

    # -- checks and operators --------------------------------------------------------------

    @precondition(lambda self: len(self.backend.servers) < 5)
    @rule(maxconn=st.integers(0, 2), weight=st.integers(0, 3), backup=st.booleans(), up=st.booleans())
    def add(self, maxconn: int, weight: int, backup: bool, up: bool) -> None:
        name = f"s{next(self.numbers)}"
        self.backend.add(make_server(name, up=up, maxconn=maxconn, weight=weight, backup=backup))

    @precondition(lambda self: self.backend.servers)
    @rule(data=st.data(), up=st.booleans())
    def check(self, data: st.DataObject, up: bool) -> None:
        self.one_of(data).health.up = up
        self.backend.refresh()

    @precondition(lambda self: self.backend.servers)
    @rule(data=st.data(), weight=st.integers(0, 3))
    def weigh(self, data: st.DataObject, weight: int) -> None:
        self.one_of(data).weight = weight
        self.backend.refresh()

    @precondition(lambda self: self.backend.servers)
    @rule(data=st.data(), ramp=st.sampled_from([0.1, 0.5, 1.0]))
    def ramp(self, data: st.DataObject, ramp: float) -> None:
        self.one_of(data).ramp = ramp
        self.backend.refresh()

    @precondition(lambda self: self.backend.servers)
    @rule(data=st.data(), out=st.booleans())
    def eject(self, data: st.DataObject, out: bool) -> None:
        self.one_of(data).ejection = Ejection(1.0, "5 errors in a row") if out else None
        self.backend.refresh()

    @precondition(lambda self: self.backend.servers)
    @rule(data=st.data(), resting=st.booleans())
    def rest(self, data: st.DataObject, resting: bool) -> None:
        self.backend.rest(self.one_of(data), resting)

    @precondition(lambda self: self.backend.servers)
    @rule(data=st.data(), admin=st.sampled_from(Admin))
    def administer(self, data: st.DataObject, admin: Admin) -> None:
        server = self.one_of(data)
        if not server.leaving:
            server.admin = admin
            self.backend.refresh()

    @precondition(lambda self: self.backend.servers)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        server = self.one_of(data)
        if server not in self.removed:
            self.removed.append(server)
        self.backend.remove(server)

    # -- what is promised ------------------------------------------------------------------

    @invariant()
    def counts_are_true_and_within_limits(self) -> None:
        for server in self.backend:
            assert server.in_flight == sum(lease.server is server for lease in self.leases)
            assert not server.settings.maxconn or server.in_flight <= server.settings.maxconn
        assert self.backend.in_flight == len(self.leases)
        assert self.backend.requests == self.lent
        assert self.backend.waiting == len(self.queue)

    @invariant()
    def the_tuples_are_in_step(self) -> None:
        usable = [server for server in self.backend if server.available]
        main = [server for server in usable if not server.settings.backup]
        wanted = [server for server in self.backend if server.wanted]
        mains = [server for server in wanted if not server.settings.backup] or wanted
        few = len([server for server in mains if server in usable]) < self.panic * len(mains)
        panic = few and all(server in mains for server in usable)
        assert self.backend.panicking == panic
        ejected = [] if usable else [server for server in wanted if server.well]
        assert self.backend.relenting == (bool(ejected) and not panic)
        assert list(self.backend.available) == (mains if panic else main or usable or ejected)
        assert list(self.backend.candidates) == [server for server in self.awake if not server.full]
        assert self.empty == (not self.backend.available)

    @invariant()
    def nobody_waits_without_need(self) -> None:
        if self.queue:
            assert self.backend.available, "somebody waits for nobody"
            for who in self.queue:
                assert not self.suiting(self.avoids[who]), "somebody waits beside a server with room"

    @invariant()
    def removed_servers_go_with_their_last_request(self) -> None:
        busy = {lease.server for lease in self.leases}
        assert self.gone == [server for server in self.gone if server in self.removed]
        assert len(self.gone) == len(set(self.gone))
        assert set(self.gone) == set(self.removed) - busy
        assert not set(self.gone) & set(self.backend)

    def teardown(self) -> None:
        """Everybody finishes: the whole queue is served on the way, and nothing is left."""
        for server in self.backend:
            self.backend.rest(server, False)
        while self.leases:
            self.leases.pop(0).done(GOOD)
        assert not self.queue, "a wake-up was lost"
        assert self.backend.waiting == self.backend.in_flight == 0
        assert all(server.in_flight == 0 for server in self.backend)


class LeastConnMachine(BackendMachine):
    def make_policy(self) -> Any:
        return policies.make("leastconn", lambda: 0.0, Random(1))


class PanickingMachine(BackendMachine):
    panic = 0.5


STEPS = settings(max_examples=50, stateful_step_count=40, derandomize=True, deadline=None)

TestRoundRobinBackend = BackendMachine.TestCase
TestRoundRobinBackend.settings = STEPS
TestLeastConnBackend = LeastConnMachine.TestCase
TestLeastConnBackend.settings = STEPS
TestPanickingBackend = PanickingMachine.TestCase
TestPanickingBackend.settings = STEPS

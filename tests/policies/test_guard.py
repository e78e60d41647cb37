"""Who fails fast must attract nothing, whatever the policy."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from twisted.internet.task import Clock

from lbservice import policies
from lbservice.core.backend import Backend, Lease
from lbservice.core.events import Access
from lbservice.core.pick import OK, Outcome, Result
from lbservice.policies.guard import Guard
from lbservice.policies.rotation import RoundRobin
from tests.core.build import CLIENT, GOOD, Asking, comes_up, goes_down, make_backend, make_server

REFUSED = Outcome(Result.CONNECT_FAILED)


class TestCounting:
    @pytest.mark.parametrize(
        ("outcome", "counts"),
        [
            (REFUSED, 1),
            (Outcome(Result.TIMED_OUT), 1),
            (Outcome(Result.RESET), 1),
            (Outcome(OK, 503, 0.001), 1),
            (Outcome(OK, 504, 30.0), 0),
        ],
    )
    def test_an_error_is_a_request_in_flight_unless_it_has_been_one_long_enough(
        self, outcome: Outcome, counts: int
    ) -> None:
        server = make_server()
        guard = Guard(lambda: 0.0)
        guard.failed(server, outcome)
        assert guard.counts().get(server, 0) == counts

    def test_errors_add_up_and_fade(self) -> None:
        clock, server = Clock(), make_server()
        guard = Guard(clock.seconds)
        for _ in range(100):
            guard.failed(server, REFUSED)
        assert guard.counts() == {server: 100}
        clock.advance(10)
        assert guard.counts() == {server: 37}
        clock.advance(20)
        assert guard.counts() == {server: 5}
        clock.advance(30)
        assert guard.counts() == {}
        assert not guard.errors, "what is forgotten costs nothing"

    def test_an_old_error_and_a_new_one(self) -> None:
        clock, server = Clock(), make_server()
        guard = Guard(clock.seconds)
        guard.failed(server, REFUSED)
        clock.advance(10)
        guard.failed(server, REFUSED)
        guard.failed(server, REFUSED)
        assert guard.counts() == {server: 2}


@pytest.mark.parametrize("balance", ["leastconn", "random", "least-time", "peak-ewma", "uri"])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (2, 1, 1, 4), (1, 1)])
@pytest.mark.parametrize("outcome", [REFUSED, Outcome(OK, 500, 0.001)], ids=["refuses", "500"])
def test_a_server_that_fails_fast_gets_less_than_a_tenth_of_its_share(
    balance: str, weights: tuple[int, ...], outcome: Outcome
) -> None:
    """100 requests a second, of which each takes 0.1 s; the failing server is done in no time."""
    clock = Clock()
    servers = [make_server(f"s{n}", weight=weight) for n, weight in enumerate(weights, 1)]
    factor = 150 if balance == "uri" else 0
    backend = make_backend(servers, policies.make(balance, clock.seconds, Random(1), factor=factor))
    keys = Random(2)
    shares: Counter[str] = Counter()
    for _ in range(3000):
        clock.advance(0.01)
        lease = backend.acquire(Asking(b"/%d" % keys.randrange(1000)))
        assert lease is not None
        shares[lease.server.name] += 1
        if lease.server is servers[0]:
            lease.done(outcome)
        else:
            clock.callLater(0.1, lease.done, Outcome(OK, 200, 0.1))
    fair = 3000 * weights[0] / sum(weights)
    assert 0 < shares["s1"] < fair / 10, shares


def test_without_the_guard_it_would_get_nearly_everything() -> None:
    """That the test above can fail: the same, with a policy that hears of nothing."""
    clock = Clock()
    servers = [make_server(f"s{n}") for n in range(1, 5)]
    backend = make_backend(servers, policies.make("leastconn", clock.seconds, Random(1)))
    shares: Counter[str] = Counter()
    for _ in range(300):
        clock.advance(0.01)
        lease = backend.acquire(CLIENT)
        assert lease is not None
        shares[lease.server.name] += 1
        if lease.server is servers[0]:
            lease.done(Outcome(Result.ABORTED))  # which is nobody's failure
        else:
            clock.callLater(0.1, lease.done, GOOD)
    assert shares["s1"] > 300 / 4


@pytest.mark.parametrize("balance", ["leastconn", "random", "least-time", "peak-ewma", "uri"])
def test_a_server_that_was_down_begins_anew(balance: str) -> None:
    clock = Clock()
    servers = [make_server(f"s{n}") for n in (1, 2, 3)]
    factor = 150 if balance == "uri" else 0
    backend = make_backend(servers, policies.make(balance, clock.seconds, Random(1), factor=factor))
    keys = Random(2)

    def share(of: int) -> float:
        """Of so many requests, each of which takes 0.1 s: the part that s1 gets."""
        mine = 0
        for _ in range(of):
            clock.advance(0.01)
            lease = backend.acquire(Asking(b"/%d" % keys.randrange(1000)))
            assert lease is not None
            mine += lease.server is servers[0]
            clock.callLater(0.1, lease.done, GOOD)
        return mine / of

    share(100)
    for _ in range(60):  # what it had in flight when it died, and who tried it then
        backend.policy.failed(servers[0], REFUSED)
    assert share(100) < 0.05
    goes_down(backend, servers[0])
    clock.advance(1.0)
    comes_up(backend, servers[0])
    assert share(300) > 0.2


class Listening:
    """What a policy is told of how things end."""

    def __init__(self, *, learns: bool) -> None:
        self.told: list[tuple[str, int]] = []
        told = self.told

        class Policy(RoundRobin):
            def failed(self, server: object, outcome: Outcome) -> None:
                told.append(("failed", outcome.status))

        class Learning(Policy):
            def learn(self, server: object, outcome: Outcome) -> None:
                told.append(("learn", outcome.status))

        self.backend: Backend = make_backend([make_server("s1"), make_server("s2")], Learning() if learns else Policy())

    def lease(self) -> Lease:
        lease = self.backend.acquire(CLIENT)
        assert lease is not None
        return lease

    def responded(self, status: int) -> None:
        access = Access(True, "", "", "app", 0.0)
        access.status = status
        self.lease().succeeded(access)


class TestWhoIsTold:
    def test_of_bad_ends_only(self) -> None:
        listening = Listening(learns=False)
        for status in (200, 404, 499, 500, 503, 999):
            listening.responded(status)
        for result in (Result.CONNECT_FAILED, Result.TIMED_OUT, Result.RESET, Result.ABORTED):
            listening.lease().done(Outcome(result))
        assert listening.told == [("failed", status) for status in (500, 503, 999, 0, 0, 0)]
        assert [sum(server.statuses[n] for server in listening.backend) for n in range(6)] == [4, 0, 1, 0, 2, 3]

    def test_of_everything_and_of_bad_ends_first(self) -> None:
        listening = Listening(learns=True)
        for status in (200, 500):
            listening.responded(status)
        listening.lease().done(Outcome(Result.ABORTED))
        assert listening.told == [("learn", 200), ("failed", 500), ("learn", 500), ("learn", 0)]

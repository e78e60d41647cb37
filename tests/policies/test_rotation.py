from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbservice import policies
from lbservice.core.backend import Backend
from lbservice.core.pick import Outcome, Result
from lbservice.core.server import Server
from lbservice.policies.rotation import RoundRobin
from tests.core.build import GOOD, comes_up, goes_down, lease_of, make_backend, make_server

STEADY = settings(max_examples=50, derandomize=True, deadline=None)
WEIGHTS = st.lists(st.integers(1, 256), min_size=1, max_size=8)


def weighted(*weights: int, maxconn: int = 0) -> tuple[Backend, list[Server]]:
    """A round-robin backend of s1, s2, ... with these weights."""
    servers = [make_server(f"s{n}", weight=weight, maxconn=maxconn) for n, weight in enumerate(weights, 1)]
    return make_backend(servers, RoundRobin()), servers


def order(backend: Backend, requests: int) -> str:
    """Who gets so many requests, one after the other, as letters: `a` is s1."""
    return " ".join(chr(ord("a") + int(lease_of(backend).server.name[1:]) - 1) for _ in range(requests))


def short_request(backend: Backend, *dead: Server) -> Server:
    """One request that is retried elsewhere until it is served; who served it."""
    tried: list[Server] = []
    while True:
        lease = lease_of(backend, *tried)
        if lease.server not in dead:
            lease.done(GOOD)
            return lease.server
        lease.done(Outcome(Result.CONNECT_FAILED))
        tried.append(lease.server)


class TestWeights:
    def test_five_one_one_is_spread_smoothly(self) -> None:
        backend, _ = weighted(5, 1, 1)
        assert order(backend, 14) == "a a b a c a a a a b a c a a"

    def test_two_one(self) -> None:
        assert order(weighted(2, 1)[0], 6) == "a b a a b a"

    def test_equal_weights_take_turns(self) -> None:
        assert order(weighted(1, 1, 1)[0], 7) == "a b c a b c a"
        assert order(weighted(7, 7)[0], 5) == "a b a b a"

    def test_one_server_is_always_its_turn(self) -> None:
        assert order(weighted(3)[0], 3) == "a a a"

    def test_a_new_weight_counts_from_the_next_request_on(self) -> None:
        backend, (_, b) = weighted(1, 1)
        order(backend, 3)
        b.weight = 3
        backend.refresh()
        assert Counter(order(backend, 40).split()) == {"a": 10, "b": 30}

    @pytest.mark.parametrize(("weights", "turns"), [((5, 1, 1), "a a b a c a a"), ((1, 1, 1), "a b c a b c a")])
    def test_a_change_elsewhere_does_not_begin_the_turns_anew(self, weights: tuple[int, ...], turns: str) -> None:
        backend, _ = weighted(*weights)
        seen = []
        for _ in turns.split():
            seen.append(order(backend, 1))
            backend.refresh()
        assert " ".join(seen) == turns

    def test_weight_zero_is_out_and_the_rest_go_on(self) -> None:
        backend, (a, _, _) = weighted(5, 1, 1)
        a.weight = 0
        backend.refresh()
        assert order(backend, 4) == "b c b c"

    @STEADY
    @given(WEIGHTS)
    def test_each_round_gives_everybody_exactly_its_weight(self, weights: list[int]) -> None:
        backend, servers = weighted(*weights)
        for _ in range(2):
            shares = Counter(lease_of(backend).server for _ in range(sum(weights)))
            assert [shares[server] for server in servers] == weights

    @STEADY
    @given(WEIGHTS, st.integers(1, 2000))
    def test_at_no_moment_is_anybody_two_requests_from_its_share(self, weights: list[int], requests: int) -> None:
        backend, servers = weighted(*weights)
        shares: Counter[Server] = Counter()
        for number in range(1, min(requests, sum(weights)) + 1):
            shares[lease_of(backend).server] += 1
            for server, weight in zip(servers, weights, strict=True):
                assert abs(shares[server] - number * weight / sum(weights)) < 2

    @STEADY
    @given(st.integers(2, 12), st.integers(1, 256))
    def test_equal_servers_are_never_more_than_one_request_apart(self, count: int, weight: int) -> None:
        backend, servers = weighted(*[weight] * count)
        for _ in range(3 * count + 1):
            short_request(backend)
            served = [server.requests for server in servers]
            assert max(served) - min(served) <= 1


class TestWhoComesAndGoes:
    def test_a_server_that_was_away_gets_no_more_than_its_share_when_it_returns(self) -> None:
        backend, (a, _, _) = weighted(2, 1, 1)
        order(backend, 3)
        goes_down(backend, a)
        assert Counter(order(backend, 10).split()) == {"b": 5, "c": 5}
        comes_up(backend, a)
        shares = Counter(order(backend, 40).split())
        assert abs(shares["a"] - 20) <= 2
        assert abs(shares["b"] - shares["c"]) <= 1

    def test_a_full_server_misses_its_turn_and_the_others_share_it_evenly(self) -> None:
        a, b, c = make_server("s1", maxconn=1), make_server("s2"), make_server("s3")
        backend = make_backend([a, b, c], RoundRobin())
        order(backend, 1)
        assert Counter(order(backend, 10).split()) == {"b": 5, "c": 5}

    @pytest.mark.parametrize("weights", [(1, 1, 1), (1, 1, 1, 1), (4, 4, 4), (2, 1, 1), (1, 2, 2)])
    @pytest.mark.parametrize("dead", [0, 1, 2])
    @pytest.mark.parametrize("balance", ["roundrobin", "leastconn"])
    def test_the_share_of_a_dead_server_goes_to_all_the_others(
        self, weights: tuple[int, ...], dead: int, balance: str
    ) -> None:
        """Until the checks notice, or without checks, requests for it are retried elsewhere: not all on one."""
        backend, servers = weighted(*weights)
        backend.policy = policies.make(balance, lambda: 0.0, Random(1))
        backend.refresh()
        served = Counter(short_request(backend, servers[dead]) for _ in range(300))
        left = [server for server in servers if server is not servers[dead]]
        for server in left:
            fair = 300 * server.weight / sum(other.weight for other in left)
            assert 0.6 * fair < served[server] < 1.5 * fair, {s.name: served[s] for s in left}

    @STEADY
    @given(WEIGHTS, st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=30))
    def test_flapping_servers_do_not_upset_the_shares_that_follow(
        self, weights: list[int], flaps: list[tuple[int, bool]]
    ) -> None:
        backend, servers = weighted(*weights)
        for number, up in flaps:
            server = servers[number % len(servers)]
            (comes_up if up else goes_down)(backend, server)
            if backend.available:
                short_request(backend)
        for server in servers:
            comes_up(backend, server)
        before = [server.requests for server in servers]
        for _ in range(2 * sum(weights)):
            short_request(backend)
        for server, weight, was in zip(servers, weights, before, strict=True):
            assert abs(server.requests - was - 2 * weight) <= 4


def test_a_debt_among_large_weights_is_none_among_small_ones() -> None:
    backend, servers = weighted(256, 256, 255)
    for _ in range(1000):
        lease_of(backend).done(GOOD)
    for server, weight in zip(servers, (1, 2, 1), strict=True):
        server.weight = weight
    backend.refresh()
    shares = Counter(lease_of(backend).server.name for _ in range(40))
    assert all(abs(shares[name] - fair) <= 2 for name, fair in (("s1", 10), ("s2", 20), ("s3", 10))), shares

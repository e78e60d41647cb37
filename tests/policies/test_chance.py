from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from twisted.internet.task import Clock

from lbservice.core.backend import Backend
from lbservice.core.server import Server
from lbservice.policies.chance import Draw
from tests.core.build import GOOD, lease_of, make_backend, make_server
from tests.policies.test_rotation import short_request


def drawing(
    *weights: int, draws: int = 2, maxconn: int = 0, clock: Clock | None = None
) -> tuple[Backend, list[Server]]:
    servers = [make_server(f"s{n}", weight=weight, maxconn=maxconn) for n, weight in enumerate(weights, 1)]
    return make_backend(servers, Draw((clock or Clock()).seconds, Random(1), draws)), servers


class TestLoad:
    def test_of_two_servers_the_less_loaded_is_always_taken(self) -> None:
        backend, (a, b) = drawing(1, 1)
        for _ in range(100):
            lease_of(backend)
            assert abs(a.in_flight - b.in_flight) <= 1

    def test_load_is_counted_per_weight(self) -> None:
        backend, (a, b) = drawing(3, 1)
        for _ in range(80):
            lease_of(backend)
        assert (a.in_flight, b.in_flight) == (60, 20)

    @pytest.mark.parametrize(("draws", "spread"), [(1, (15, 60)), (2, (1, 6)), (4, (1, 4))])
    def test_more_draws_are_more_even(self, draws: int, spread: tuple[int, int]) -> None:
        backend, servers = drawing(*[1] * 20, draws=draws)
        for _ in range(2000):
            lease_of(backend)
        loads = [server.in_flight for server in servers]
        assert spread[0] <= max(loads) - min(loads) <= spread[1]

    def test_a_full_server_is_not_considered(self) -> None:
        backend, servers = drawing(100, 1, 1, maxconn=1)
        assert {lease_of(backend).server for _ in range(3)} == set(servers)


class TestShares:
    @pytest.mark.parametrize("draws", [1, 2, 3])
    @pytest.mark.parametrize("weights", [(1, 1, 1, 1), (5, 3, 1, 1), (256, 1)])
    def test_at_low_load_they_are_the_weights(self, weights: tuple[int, ...], draws: int) -> None:
        """Nothing is ever in flight when a request comes, 100 a second."""
        clock = Clock()
        backend, servers = drawing(*weights, draws=draws, clock=clock)
        shares: Counter[Server] = Counter()
        for _ in range(6000):
            clock.advance(0.01)
            shares[short_request(backend)] += 1
        for server in servers:
            assert shares[server] / 6000 == pytest.approx(server.weight / sum(weights), rel=0.15, abs=0.01)

    def test_with_the_rates_they_are_closer_than_by_plain_chance(self) -> None:
        def spread(draws: int) -> int:
            clock = Clock()
            backend, servers = drawing(*[1] * 10, draws=draws, clock=clock)
            for _ in range(1000):
                clock.advance(0.0005)
                short_request(backend)
            return max(s.requests for s in servers) - min(s.requests for s in servers)

        assert spread(2) < 0.5 * spread(1)

    def test_a_quiet_second_is_forgotten(self) -> None:
        clock = Clock()
        backend, (a, b) = drawing(1, 1, clock=clock)
        backend.policy.pick((a,), None)  # type: ignore[arg-type] # it does not look
        for _ in range(99):
            backend.policy.pick((a,), None)  # type: ignore[arg-type]
        assert {short_request(backend) for _ in range(20)} == {b}
        clock.advance(2)
        assert {short_request(backend) for _ in range(20)} == {a, b}


def test_the_second_draw_is_by_weight_among_the_others() -> None:
    backend, _ = drawing(4, 2, 1, 1)
    policy = backend.policy
    assert isinstance(policy, Draw)
    lease_of(backend)
    for first, others in (
        (0, {1: 0.5, 2: 0.25, 3: 0.25}),
        (1, {0: 4 / 6, 2: 1 / 6, 3: 1 / 6}),
        (3, {0: 4 / 7, 1: 2 / 7}),
    ):
        drawn = Counter(policy._another(first, 3) for _ in range(4000))
        assert first not in drawn
        for index, share in others.items():
            assert drawn[index] / 4000 == pytest.approx(share, abs=0.04)


class TestChanges:
    def test_a_new_weight_counts_at_once(self) -> None:
        clock = Clock()
        backend, (a, b) = drawing(1, 1, draws=1, clock=clock)
        Counter(short_request(backend) for _ in range(100))
        b.effective_weight = 0.1
        backend.refresh()
        shares = Counter(short_request(backend) for _ in range(1100))
        assert shares[b] == pytest.approx(100, abs=35)
        assert shares[a] == 1100 - shares[b]

    def test_the_same_seed_gives_the_same_choice(self) -> None:
        def names() -> list[str]:
            backend, _ = drawing(3, 2, 1)
            return [lease_of(backend).server.name for _ in range(50)]

        assert names() == names()


def test_nobody_but_a_candidate_is_ever_drawn() -> None:
    backend, servers = drawing(1, 7, 256, 1, 3)
    random = Random(3)
    for _ in range(2000):
        avoid = random.sample(servers, random.randrange(4))
        lease = lease_of(backend, *avoid)
        assert lease.server not in avoid
        lease.done(GOOD)

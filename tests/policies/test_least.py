from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from lbservice.core.backend import Backend, Lease
from lbservice.core.server import Server
from lbservice.policies.least import First, LeastConn
from tests.core.build import GOOD, lease_of, make_backend, make_server
from tests.policies.test_rotation import short_request

STEADY = settings(max_examples=50, derandomize=True, deadline=None)


def leastconn(*weights: int, maxconn: int = 0) -> tuple[Backend, list[Server]]:
    servers = [make_server(f"s{n}", weight=weight, maxconn=maxconn) for n, weight in enumerate(weights, 1)]
    return make_backend(servers, LeastConn(lambda: 0.0)), servers


class TestLoad:
    def test_an_idle_server_is_preferred_to_a_busy_one(self) -> None:
        backend, (a, b, c) = leastconn(1, 1, 1)
        assert {lease_of(backend).server for _ in range(3)} == {a, b, c}

    def test_whoever_finishes_first_is_next(self) -> None:
        backend, _ = leastconn(1, 1, 1)
        leases = [lease_of(backend) for _ in range(6)]
        leases[4].done(GOOD)
        assert lease_of(backend).server is leases[4].server

    def test_load_is_counted_per_weight(self) -> None:
        backend, (a, b) = leastconn(3, 1)
        for _ in range(8):
            lease_of(backend)
        assert (a.in_flight, b.in_flight) == (6, 2)

    def test_a_slow_server_gets_less_although_it_is_as_heavy(self) -> None:
        backend, (_, fast) = leastconn(1, 1)
        stuck = [lease_of(backend), lease_of(backend)]
        for lease in stuck:
            if lease.server is fast:
                lease.done(GOOD)
        assert [short_request(backend) for _ in range(10)] == [fast] * 10

    def test_a_full_server_is_not_considered(self) -> None:
        backend, (a, b) = leastconn(100, 1, maxconn=1)
        assert lease_of(backend).server is a
        assert lease_of(backend).server is b


class TestTies:
    def test_equal_idle_servers_take_turns(self) -> None:
        backend, servers = leastconn(1, 1, 1)
        assert [short_request(backend) for _ in range(6)] == servers * 2

    def test_unequal_idle_servers_share_by_weight(self) -> None:
        backend, (a, b, c) = leastconn(5, 1, 1)
        assert [short_request(backend) for _ in range(7)] == [a, a, b, a, c, a, a]

    @STEADY
    @given(st.lists(st.integers(1, 50), min_size=2, max_size=6))
    def test_at_low_load_the_shares_are_exactly_the_weights(self, weights: list[int]) -> None:
        backend, servers = leastconn(*weights)
        shares = Counter(short_request(backend) for _ in range(sum(weights)))
        assert [shares[server] for server in servers] == weights


@STEADY
@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=5),
    st.integers(0, 3),
    st.lists(st.integers(-3, 20), max_size=80),
)
def test_nobody_with_room_is_ever_less_loaded_than_the_one_chosen(
    weights: list[int], maxconn: int, steps: list[int]
) -> None:
    """A negative step is a new request, another one ends a request."""
    backend, _ = leastconn(*weights, maxconn=maxconn)
    leases: list[Lease] = []
    for step in steps:
        if step >= 0 and leases:
            leases.pop(step % len(leases)).done(GOOD)
        elif backend.candidates:
            load = {server: server.in_flight / server.weight for server in backend.candidates}
            leases.append(lease_of(backend))
            assert load[leases[-1].server] == min(load.values())


@STEADY
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 200))
def test_requests_that_stay_are_spread_by_weight(weights: list[int], requests: int) -> None:
    backend, servers = leastconn(*weights)
    for _ in range(requests):
        lease_of(backend)
    for server, weight in zip(servers, weights, strict=True):
        assert abs(server.in_flight - requests * weight / sum(weights)) <= 1 + weight
        assert all(server.in_flight / weight <= (other.in_flight + 1) / other.weight + 1 / weight for other in servers)


class TestFirst:
    def test_packs_the_work_on_the_first_with_room(self) -> None:
        servers = [make_server(f"s{n}", maxconn=2) for n in (1, 2, 3)]
        backend = make_backend(servers, First())
        leases = [lease_of(backend) for _ in range(5)]
        assert [lease.server.name for lease in leases] == ["s1", "s1", "s2", "s2", "s3"]
        leases[0].done(GOOD)
        assert [lease_of(backend).server.name for _ in range(2)] == ["s1", "s3"]

    def test_without_a_bound_the_first_has_it_all(self) -> None:
        backend = make_backend([make_server("s1"), make_server("s2")], First())
        assert {lease_of(backend).server.name for _ in range(100)} == {"s1"}

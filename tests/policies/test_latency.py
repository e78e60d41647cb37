from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from twisted.internet.task import Clock

from lbservice import policies
from lbservice.core.backend import Backend, Lease
from lbservice.core.pick import OK, Outcome, Result
from lbservice.core.server import Server
from lbservice.policies.latency import PeakEwma
from tests.core.build import comes_up, goes_down, lease_of, make_backend, make_server

BOTH = ["least-time", "peak-ewma"]


class Hall:
    """Servers that take their time: s1 the first number of seconds, and so on."""

    def __init__(self, balance: str, *seconds: float, weights: tuple[int, ...] = ()) -> None:
        self.clock = Clock()
        self.times = dict(zip((f"s{n}" for n in range(1, 1 + len(seconds))), seconds, strict=True))
        weights = weights or (1,) * len(seconds)
        self.servers = [make_server(name, weight=weight) for name, weight in zip(self.times, weights, strict=True)]
        self.backend: Backend = make_backend(self.servers, policies.make(balance, self.clock.seconds, Random(1)))
        self.shares: Counter[str] = Counter()

    def request(self) -> Server:
        """It comes, and will be answered."""
        lease = lease_of(self.backend)
        self.shares[lease.server.name] += 1
        seconds = self.times[lease.server.name]
        self.clock.callLater(seconds, lease.done, Outcome(OK, 200, seconds))
        return lease.server

    def traffic(self, every: float, requests: int) -> Counter[str]:
        """So many requests, one every so many seconds; who got how many."""
        before = Counter(self.shares)
        for _ in range(requests):
            self.clock.advance(every)
            self.request()
        return self.shares - before

    def quiet(self, seconds: float) -> None:
        """No requests for a while."""
        self.clock.advance(seconds)


@pytest.mark.parametrize("balance", BOTH)
class TestBoth:
    def test_equal_servers_share_evenly(self, balance: str) -> None:
        shares = Hall(balance, *[0.1] * 4).traffic(0.01, 2000)
        assert all(450 < shares[name] < 550 for name in ("s1", "s2", "s3", "s4")), shares

    def test_equal_servers_with_little_to_do_take_turns(self, balance: str) -> None:
        shares = Hall(balance, *[0.05] * 4).traffic(1.0, 40)
        assert shares == {"s1": 10, "s2": 10, "s3": 10, "s4": 10}

    def test_a_slow_server_gets_little_but_not_nothing(self, balance: str) -> None:
        shares = Hall(balance, 0.05, 0.05, 0.05, 0.5).traffic(0.01, 6000)
        assert 2 < shares["s4"] < 0.05 * 6000, shares

    def test_a_slow_server_that_has_recovered_gets_its_share_again(self, balance: str) -> None:
        hall = Hall(balance, 0.05, 0.05, 1.0)
        assert hall.traffic(0.02, 1500)["s3"] < 0.15 * 1500
        hall.times["s3"] = 0.05
        hall.traffic(0.02, 4000)
        assert hall.traffic(0.02, 1500)["s3"] > 0.25 * 1500

    def test_the_load_is_counted_per_weight(self, balance: str) -> None:
        shares = Hall(balance, *[0.1] * 3, weights=(4, 2, 2)).traffic(0.002, 4000)
        assert shares["s1"] == pytest.approx(2000, rel=0.1)
        assert shares["s2"] == pytest.approx(1000, rel=0.1)

    def test_a_server_that_comes_is_not_flooded(self, balance: str) -> None:
        hall = Hall(balance, 0.1, 0.1, 0.1)
        goes_down(hall.backend, hall.servers[0])
        hall.traffic(0.01, 500)
        comes_up(hall.backend, hall.servers[0])
        most = 0
        for _ in range(50):
            hall.clock.advance(0.01)
            hall.request()
            most = max(most, hall.servers[0].in_flight)
        assert 1 <= most <= 10, "others have about five"

    def test_after_an_hour_of_silence_a_burst_is_spread(self, balance: str) -> None:
        hall = Hall(balance, 0.1, 0.1, 0.1)
        hall.traffic(0.01, 100)
        hall.quiet(3600)
        hall.request()
        hall.quiet(1)
        shares = Counter(hall.request().name for _ in range(30))
        assert min(shares[name] for name in ("s1", "s2", "s3")) >= 7, shares

    def test_without_response_heads_it_goes_by_load(self, balance: str) -> None:
        """In tcp mode nobody knows how fast a server answers."""
        backend = make_backend(
            [make_server(f"s{n}") for n in (1, 2, 3)], policies.make(balance, lambda: 0.0, Random(1))
        )
        leases: list[Lease] = []
        for number in range(60):
            leases.append(lease_of(backend))
            if number % 3 == 2:
                leases.pop(0).done(Outcome(OK))
        loads = [server.in_flight for server in backend]
        assert max(loads) - min(loads) <= 1

    def test_without_response_heads_the_age_of_a_session_says_nothing(self, balance: str) -> None:
        hall = Hall(balance, 0.1, 0.1)
        lease_of(hall.backend)
        hall.quiet(5)
        burst = [lease_of(hall.backend) for _ in range(99)]
        assert len(burst) == 99
        assert [server.in_flight for server in hall.servers] == [50, 50]

    def test_without_response_heads_who_comes_back_takes_his_turn(self, balance: str) -> None:
        hall = Hall(balance, 0.1, 0.1, 0.1)
        goes_down(hall.backend, hall.servers[2])
        hall.quiet(30)
        comes_up(hall.backend, hall.servers[2])
        shares: Counter[str] = Counter()
        for _ in range(60):
            lease = lease_of(hall.backend)
            shares[lease.server.name] += 1
            hall.quiet(1)
            lease.done(Outcome(OK))
        assert shares == {"s1": 20, "s2": 20, "s3": 20}

    def test_a_tunnel_does_not_keep_others_away(self, balance: str) -> None:
        """Its answer has come. With one in flight more than others a server gets less, but it must not get nothing."""
        hall = Hall(balance, 0.05, 0.05)
        hall.traffic(0.1, 50)
        tunnel = lease_of(hall.backend)
        tunnel.streams()
        tunnel.streams()  # is the same one
        name = tunnel.server.name
        hall.backend.policy.learn(tunnel.server, Outcome(OK, 200, 2.0))  # one answer was late
        hall.quiet(60)
        assert hall.traffic(0.01, 1000)[name] > 250
        tunnel.done(Outcome(OK, 101, 0.05))
        hall.traffic(0.01, 1000)
        assert hall.traffic(0.01, 1000)[name] > 350


class TestLeastTime:
    def test_a_server_that_hangs_is_left_alone_before_anything_times_out(self) -> None:
        hall = Hall("least-time", 0.05, 0.05, 0.05)
        hall.traffic(0.01, 200)
        hall.times["s2"] = 60.0
        hall.traffic(0.01, 100)
        assert hall.traffic(0.01, 500)["s2"] <= 15

    def test_the_longer_a_request_waits_the_less_comes_after_it(self) -> None:
        hall = Hall("least-time", 0.05, 0.05)
        hall.traffic(0.1, 40)
        stuck = lease_of(hall.backend)
        hall.quiet(4)
        assert stuck.server.name not in [hall.request().name for _ in range(50)]

    def test_an_error_that_comes_fast_is_no_sign_of_speed(self) -> None:
        hall = Hall("least-time", 0.5, 0.05)
        hall.traffic(0.1, 200)
        slow = hall.servers[0]
        for _ in range(100):
            hall.backend.policy.learn(slow, Outcome(OK, 500, 0.0))
            hall.backend.policy.learn(slow, Outcome(Result.RESET, 0, 0.0))
        assert hall.traffic(0.1, 20) == {"s2": 20}

    def test_one_request_that_waits_for_ever_does_not_count_for_ever(self) -> None:
        hall = Hall("least-time", 0.05, 0.05, 0.05)
        stuck = lease_of(hall.backend)
        hall.traffic(0.01, 500)
        shares = hall.traffic(0.01, 1000)
        assert shares[stuck.server.name] > 120, shares

    def test_who_was_taken_without_being_picked_does_not_upset_it(self) -> None:
        """A lone candidate is nobody's choice, so the policy hears only of its end."""
        hall = Hall("least-time", 0.1, 0.1)
        goes_down(hall.backend, hall.servers[1])
        hall.traffic(0.01, 50)
        comes_up(hall.backend, hall.servers[1])
        hall.traffic(0.01, 200)
        shares = hall.traffic(0.01, 400)
        assert abs(shares["s1"] - shares["s2"]) < 60, shares

    def test_times_in_one_bucket_are_alike(self) -> None:
        shares = Hall("least-time", 0.001, 0.015).traffic(0.1, 100)
        assert shares == {"s1": 50, "s2": 50}

    def test_twice_the_time_is_about_a_quarter_of_the_others_share(self) -> None:
        """Half as much is in flight, and that takes twice the time."""
        shares = Hall("least-time", 0.1, 0.2).traffic(0.002, 5000)
        assert 0.2 < shares["s2"] / shares["s1"] < 0.35, shares


class TestPeakEwma:
    def test_one_slow_answer_counts_at_once_and_is_forgotten_slowly(self) -> None:
        hall = Hall("peak-ewma", 0.05, 0.05)
        hall.traffic(0.2, 20)
        hall.times["s1"] = 0.5
        while hall.traffic(0.2, 1) == {"s2": 1}:
            pass
        hall.times["s1"] = 0.05
        hall.quiet(0.5)
        assert hall.traffic(0.2, 20) == {"s2": 20}
        hall.quiet(30)
        assert hall.traffic(0.2, 200)["s1"] > 40

    def test_the_epoch_moves_without_a_trace(self) -> None:
        def shares(start: float) -> Counter[str]:
            hall = Hall("peak-ewma", 0.05, 0.1, 0.4)
            hall.quiet(start)
            hall.backend.policy = PeakEwma(hall.clock.seconds)
            hall.backend.refresh()
            hall.traffic(0.02, 200)
            hall.quiet(start)  # two epochs or none
            return hall.traffic(0.02, 1500)

        one, other = shares(60.0), shares(2500.0)
        for name in one:
            assert one[name] == pytest.approx(other[name], rel=0.1)

    def test_a_lone_server_is_not_picked_but_learned_of_for_hours(self) -> None:
        hall = Hall("peak-ewma", 0.05, 0.05)
        goes_down(hall.backend, hall.servers[1])
        for _ in range(5):
            hall.quiet(7000)
            hall.request()
        hall.quiet(7000)
        comes_up(hall.backend, hall.servers[1])
        assert min(hall.traffic(0.05, 100).values()) > 30

    def test_who_was_away_begins_with_the_mean_of_the_others(self) -> None:
        """What it was like before says little; and nothing is kept of servers that do not come back."""
        hall = Hall("peak-ewma", 0.05, 0.05, 0.05)
        hall.times["s1"] = 2.0
        hall.traffic(0.01, 300)
        goes_down(hall.backend, hall.servers[0])
        hall.quiet(5)
        hall.times["s1"] = 0.05
        comes_up(hall.backend, hall.servers[0])
        assert hall.traffic(0.02, 150)["s1"] > 25

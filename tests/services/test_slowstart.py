"""A server that comes back gets its share step by step."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import formatEvent

from lbservice import policies
from lbservice.core.backend import Backend
from lbservice.core.change import By
from lbservice.core.server import Admin
from lbservice.core.settings import BackendSettings
from lbservice.services.slowstart import LEAST, STEPS, SlowStart
from tests.core.build import CLIENT, GOOD, Waiter, comes_up, goes_down, lease_of, make_server
from tests.services.fakes import heard
from tests.services.house import SETTINGS, House, server

WINDOW = 10.0


class Ramp:
    """A backend of ten servers with slow start, on a clock."""

    def __init__(self, balance: str = "roundrobin", window: float = WINDOW, **settings: Any) -> None:
        self.clock = Clock()
        self.slowstart = SlowStart(self.clock)
        self.backend = Backend(
            BackendSettings("app", slowstart=window), policies.make(balance, self.clock.seconds, Random(1))
        )
        for number in range(1, 11):
            self.backend.add(make_server(f"s{number}", **settings))
        self.s1 = self.backend.servers["s1"]

    def comes_back(self) -> None:
        self.s1.health.up = True
        self.slowstart.begin(self.backend, self.s1)
        self.backend.refresh()


class TestTheRamp:
    def test_weight_and_maxconn_grow_evenly_in_steps(self) -> None:
        ramp = Ramp(weight=100, maxconn=20)
        ramp.comes_back()
        seen = []
        for _ in range(STEPS + 1):
            seen.append((round(ramp.s1.effective_weight), ramp.s1.maxconn))
            ramp.clock.advance(WINDOW / STEPS)
        assert seen[0] == (10, 2)
        assert seen[STEPS // 2] == (55, 11)
        assert seen[STEPS] == (100, 20)
        assert seen == sorted(seen)
        assert ramp.clock.getDelayedCalls() == [], "nobody ramps: no timer"

    def test_a_higher_maxconn_serves_those_who_wait(self) -> None:
        ramp = Ramp(maxconn=20)
        for each in list(ramp.backend)[1:]:
            goes_down(ramp.backend, each)
        ramp.comes_back()
        lease_of(ramp.backend)
        lease_of(ramp.backend)
        waiters = [Waiter(ramp.backend) for _ in range(5)]
        assert [waiter.served_by for waiter in waiters] == [""] * 5
        ramp.clock.pump([WINDOW / STEPS] * 3)
        assert ramp.s1.maxconn == 4
        assert [waiter.served_by for waiter in waiters] == ["s1", "s1", "", "", ""]

    def test_two_ramp_each_at_its_own_pace(self) -> None:
        ramp = Ramp()
        quick = make_server("s11", slowstart=2.0)
        ramp.backend.add(quick)
        ramp.comes_back()
        ramp.clock.advance(0.3)
        ramp.slowstart.begin(ramp.backend, quick)
        ramp.clock.pump([0.1] * 10)
        assert quick.ramp == pytest.approx(0.55, abs=0.05)
        ramp.clock.pump([0.1] * 12)
        assert quick.ramp == 1.0
        assert ramp.s1.ramp == pytest.approx(LEAST + 0.9 * 0.25, abs=0.06)

    def test_going_down_ends_it(self) -> None:
        ramp = Ramp()
        ramp.comes_back()
        ramp.clock.advance(1.0)
        ramp.slowstart.end(ramp.s1)
        assert (ramp.s1.ramp, ramp.clock.getDelayedCalls()) == (1.0, [])
        ramp.comes_back()
        assert ramp.s1.ramp == LEAST

    def test_without_a_window_there_is_none(self) -> None:
        ramp = Ramp(window=0.0)
        with heard("slowstart") as events:
            ramp.comes_back()
        assert (ramp.s1.ramp, events, ramp.clock.getDelayedCalls()) == (1.0, [], [])

    def test_it_is_told_when_it_begins_and_when_it_is_over(self) -> None:
        ramp = Ramp()
        with heard("slowstart", "slowstart-done") as events:
            ramp.comes_back()
            ramp.clock.pump([0.5] * 30)
        assert [formatEvent(event) for event in events] == [
            "server app/s1 starts slowly: from 10% to all of its share in 10s",
            "server app/s1 has its full share again",
        ]


class Traffic:
    """100 requests a second, of two seconds each, more or less; `shares` counts those of s1 in each half second."""

    def __init__(self, ramp: Ramp) -> None:
        self.ramp = ramp
        self.random = Random(5)
        self.mine: Counter[int] = Counter()
        self.all: Counter[int] = Counter()

    def run(self, seconds: float) -> None:
        clock, backend = self.ramp.clock, self.ramp.backend
        for _ in range(round(seconds * 100)):
            lease = backend.acquire(CLIENT)
            assert lease is not None
            window = int(clock.seconds() * 2 + 1e-6)
            self.all[window] += 1
            self.mine[window] += lease.server is self.ramp.s1
            clock.callLater(self.random.uniform(1.0, 3.0), lease.done, GOOD)
            clock.advance(0.01)

    def shares(self, begin: float, end: float) -> list[float]:
        """Of s1 in each half second, 1 being a tenth of the requests, which is fair."""
        return [10 * self.mine[window] / self.all[window] for window in range(int(begin * 2), int(end * 2))]


class TestItsShare:
    """Of a tenth of the requests, which is fair."""

    def recovery(self, balance: str, window: float) -> Traffic:
        ramp = Ramp(balance, window)
        traffic = Traffic(ramp)
        goes_down(ramp.backend, ramp.s1)
        traffic.run(5)
        ramp.comes_back()
        traffic.run(20)
        return traffic

    @pytest.mark.parametrize("balance", ["roundrobin", "leastconn"])
    def test_is_never_more_than_twice_as_much_as_is_fair(self, balance: str) -> None:
        traffic = self.recovery(balance, WINDOW)
        assert max(traffic.shares(5, 25)) <= 2
        assert sum(traffic.shares(5, 7)) / 4 < 0.6
        assert sum(traffic.shares(19, 25)) / 12 == pytest.approx(1, abs=0.15)

    def test_without_slow_start_leastconn_would_give_it_more(self) -> None:
        assert max(self.recovery("leastconn", 0.0).shares(5, 7)) > 2


class TestWhoStartsSlowly:
    def make(self, tmp_path: Path) -> House:
        app, pg = SETTINGS.backends
        return House(tmp_path, replace(SETTINGS, backends=(replace(app, slowstart=10.0), pg)))

    def test_nobody_when_the_process_starts(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            house.wait(5)
            assert {server.ramp for server in house.app} == {1.0}

    def test_nor_after_the_first_check_of_servers_that_are_down_until_then(self, tmp_path: Path) -> None:
        app, pg = SETTINGS.backends
        check = replace(app.check, init_up=False)
        house = House(tmp_path, replace(SETTINGS, backends=(replace(app, slowstart=10.0, check=check), pg)))
        with house.running():
            house.wait(3)
            assert {(server.state, server.ramp) for server in house.app} == {("UP", 1.0)}

    def test_one_that_was_down(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            house.wait(1)
            house.network.alive.remove(("127.0.0.1", 9001))
            house.wait(6)
            assert (house["app/s1"].state, house["app/s1"].ramp) == ("DOWN", 1.0)
            house.network.alive.add(("127.0.0.1", 9001))
            house.wait(4)
            assert house["app/s1"].health.up
            assert LEAST <= house["app/s1"].ramp < 0.5
            house.wait(10)
            assert house["app/s1"].ramp == 1.0

    def test_one_that_comes_out_of_maintenance(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            house.wait(3)
            house.control.maint("app/s1", by=By("anna"))
            house.wait(60)
            house.control.ready("app/s1", by=By("anna"))
            assert (house["app/s1"].admin, house["app/s1"].ramp) == (Admin.READY, LEAST)

    def test_one_that_only_drained_is_warm(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            house.control.drain("app/s1", by=By("anna"))
            house.control.ready("app/s1", by=By("anna"))
            assert house["app/s1"].ramp == 1.0

    def test_one_that_is_added(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            house.control.add("app", server(4), by=By("anna"))
            assert house["app/s4"].ramp == LEAST

    def test_one_that_is_removed_leaves_no_timer(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            house.control.add("app", server(4), by=By("anna"))
            house.control.remove("app/s4", by=By("anna"))
            house.wait(1)
            assert "s4" not in house.app.servers
            calls = house.clock.getDelayedCalls()
            assert not [call for call in calls if getattr(call.func, "__self__", None) is house.balancer.slowstart]

    def test_servers_that_come_back_together_share_as_before(self, tmp_path: Path) -> None:
        ramp = Ramp()
        for each in ramp.backend:
            goes_down(ramp.backend, each)
        for each in ramp.backend:
            ramp.slowstart.begin(ramp.backend, each)
            comes_up(ramp.backend, each)
        served = Counter(lease_of(ramp.backend).server.name for _ in range(100))
        assert set(served.values()) == {10}

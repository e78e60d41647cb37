"""What requests say of servers: failed checks by `observe`, ejections by `outlier`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from twisted.logger import formatEvent

from lbservice.core.agent import Agent
from lbservice.core.backend import Lease
from lbservice.core.change import By
from lbservice.core.pick import Outcome, Result
from lbservice.core.server import Admin
from lbservice.core.settings import CheckSettings, ObserveSettings, OutlierSettings
from tests.core.build import GOOD, lease_of
from tests.services.fakes import heard
from tests.services.house import SETTINGS, House, server

BAD = Outcome(Result.OK, 503)
PASSIVE = ("observed", "health", "ejected", "ejection-over", "ejection-refused")
LAST = ("backend-down", "backend-up", "ejected-used", "ejected-unused")


def make_house(
    tmp_path: Path,
    servers: int = 4,
    observe: ObserveSettings | None = None,
    outlier: OutlierSettings | None = None,
    fastinter: float | None = None,
) -> House:
    app, pg = SETTINGS.backends
    app = replace(
        app,
        servers=tuple(server(number) for number in range(1, servers + 1)),
        observe=observe,
        outlier=outlier,
        check=CheckSettings(inter=2.0, rise=2, fall=3, fastinter=fastinter),
    )
    return House(tmp_path, replace(SETTINGS, backends=(app, pg)))


def fail(house: House, path: str, times: int, outcome: Outcome = BAD) -> None:
    """Let requests to this server go that way, whoever's turn it is."""
    left = times
    while left:
        assert house[path].available
        lease = lease_of(house.app)
        mine = lease.server is house[path]
        left -= mine
        lease.done(outcome if mine else Outcome(Result.ABORTED))


def timers_of(owner: object, house: House) -> list[object]:
    """The calls that this object still has on the clock."""
    return [call for call in house.clock.getDelayedCalls() if getattr(call.func, "__self__", None) is owner]


class TestObserve:
    def make(self, tmp_path: Path, on_error: str = "fail-check", fastinter: float | None = None) -> House:
        return make_house(tmp_path, observe=ObserveSettings("layer7", 10, on_error), fastinter=fastinter)

    def test_ten_errors_in_a_row_are_a_failed_check(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            house.wait(2)
            fail(house, "app/s1", 9)
            assert house["app/s1"].state == "UP"
            with heard(*PASSIVE) as events:
                fail(house, "app/s1", 1)
            assert house["app/s1"].state == "UP 2/3"
            assert [formatEvent(event) for event in events] == [
                "server app/s1 has failed: 10 errors in a row, the last: status 503; fail-check"
            ]
            with heard(*PASSIVE) as events:
                fail(house, "app/s1", 20)
            assert house["app/s1"].state == "DOWN"
            assert formatEvent(events[-1]).startswith(
                "server app/s1 is DOWN (HANA 10 errors in a row, the last: status 503), was UP for"
            )
            house.wait(4)
            assert house["app/s1"].state == "UP", "its checks bring it back"

    def test_a_success_between_them_begins_anew(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            house.wait(2)
            fail(house, "app/s1", 9)
            fail(house, "app/s1", 1, GOOD)
            fail(house, "app/s1", 9)
            assert house["app/s1"].state == "UP"

    def test_mark_down_takes_it_down_at_once(self, tmp_path: Path) -> None:
        house = self.make(tmp_path, "mark-down")
        with house.running():
            house.wait(2)
            fail(house, "app/s1", 10)
            assert house["app/s1"].state == "DOWN"
            assert house["app/s1"] not in house.app.available

    def test_sudden_death_leaves_one_check(self, tmp_path: Path) -> None:
        house = self.make(tmp_path, "sudden-death")
        with house.running():
            house.wait(2)
            fail(house, "app/s1", 10)
            assert house["app/s1"].state == "UP 1/3"
            house.network.alive.remove(("127.0.0.1", 9001))
            house.wait(2)
            assert house["app/s1"].state == "DOWN"

    @pytest.mark.parametrize("on_error", ["fastinter", "fail-check"])
    def test_the_next_check_comes_after_fastinter(self, tmp_path: Path, on_error: str) -> None:
        house = self.make(tmp_path, on_error, fastinter=0.5)
        with house.running():
            house.wait(2.25)
            before = len(house.network.dials_of(9001))
            fail(house, "app/s1", 10)
            house.wait(0.75)
            assert len(house.network.dials_of(9001)) == before + 1
            assert house["app/s1"].state == "UP", "it was well"

    def test_fastinter_alone_is_no_failed_check(self, tmp_path: Path) -> None:
        house = self.make(tmp_path, "fastinter", fastinter=0.5)
        with house.running():
            house.wait(2.25)
            fail(house, "app/s1", 30)
            assert house["app/s1"].state == "UP"

    def test_one_that_is_not_checked_is_left_alone(self, tmp_path: Path) -> None:
        house = self.make(tmp_path, "mark-down")
        with house.running():
            house.control.add("app", replace(server(5), check=False), by=By("anna"))
            fail(house, "app/s5", 30)
            with heard(*PASSIVE) as events:
                fail(house, "app/s5", 10)
            assert (house["app/s5"].state, events) == ("UP", [])

    def test_errors_of_one_that_is_down_do_not_keep_it_down(self, tmp_path: Path) -> None:
        house = self.make(tmp_path, "mark-down")
        with house.running():
            house.wait(1.5)
            late: list[Lease] = []
            while len(late) < 30:
                lease = lease_of(house.app)
                if lease.server is house["app/s1"]:
                    late.append(lease)
            fail(house, "app/s1", 10)
            house.wait(1.5)
            assert house["app/s1"].state == "DOWN 1/2"
            with heard(*PASSIVE) as events:
                for lease in late:
                    lease.done(BAD)
            assert (house["app/s1"].state, events) == ("DOWN 1/2", [])

    def test_errors_before_it_was_down_do_not_count_when_it_is_back(self, tmp_path: Path) -> None:
        house = self.make(tmp_path, "mark-down")
        with house.running():
            house.wait(2)
            fail(house, "app/s1", 9)
            house.network.alive.remove(("127.0.0.1", 9001))
            house.wait(7)
            assert house["app/s1"].state == "DOWN"
            house.network.alive.add(("127.0.0.1", 9001))
            house.wait(4)
            fail(house, "app/s1", 9)
            assert house["app/s1"].state == "UP"

    def test_one_in_its_agents_maintenance_is_left_alone(self, tmp_path: Path) -> None:
        house = self.make(tmp_path, "mark-down")
        with house.running():
            house.wait(2)
            late: list[Lease] = []
            while len(late) < 10:
                lease = lease_of(house.app)
                if lease.server is house["app/s1"]:
                    late.append(lease)
            house["app/s1"].agent = agent = Agent()
            agent.hold = "maint"
            house.app.refresh()
            for lease in late:
                lease.done(BAD)
            assert house["app/s1"].health.up


class TestEjection:
    def make(self, tmp_path: Path, servers: int = 4) -> House:
        return make_house(tmp_path, servers, outlier=OutlierSettings("5xx"))

    def test_five_errors_in_a_row_put_it_out_for_half_a_minute(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running(), heard(*PASSIVE) as events:
            fail(house, "app/s1", 4)
            assert house["app/s1"].available
            fail(house, "app/s1", 1)
            assert house["app/s1"] not in house.app.available
            assert house["app/s1"].state == "EJECTED"
            house.wait(10)
            (row,) = [row for row in house.control.servers() if row.server == "app/s1"]
            assert (row.state, row.reason) == ("EJECTED", "back in 20s: 5 errors in a row, the last: status 503")
            house.wait(19)
            assert not house["app/s1"].available
            house.wait(1.5)
            assert house["app/s1"] in house.app.available
            assert house["app/s1"].state == "UP"
        assert [formatEvent(event) for event in events] == [
            "server app/s1 is EJECTED (5 errors in a row, the last: status 503) for 30s, time 1",
            "the ejection of server app/s1 is over (its time is up)",
        ]

    def test_the_second_time_for_a_whole_one(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            fail(house, "app/s1", 5)
            house.wait(30.5)
            with heard("ejected") as events:
                fail(house, "app/s1", 5)
            assert (events[0]["duration"], events[0]["times"]) == ("1m00s", 2)
            house.wait(59)
            assert house["app/s1"].state == "EJECTED"
            house.wait(2)
            assert house["app/s1"].state == "UP"

    def test_half_of_them_stay_and_that_is_told_now_and_then(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            fail(house, "app/s1", 5)
            fail(house, "app/s2", 5)
            with heard(*PASSIVE) as events:
                fail(house, "app/s3", 50)
            assert house["app/s3"].available
            assert [formatEvent(event) for event in events] == [
                "server app/s3 would be EJECTED (5 errors in a row, the last: status 503), but too few would be left"
            ]

    def test_the_only_one_stays(self, tmp_path: Path) -> None:
        house = self.make(tmp_path, servers=1)
        with house.running():
            fail(house, "app/s1", 50)
            assert house["app/s1"].available

    def test_its_last_requests_do_not_put_it_out_again(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            late = [lease_of(house.app) for _ in range(96)]
            mine = [lease for lease in late if lease.server is house["app/s1"]]
            assert len(mine) == 24
            fail(house, "app/s1", 5)
            with heard("ejected") as events:
                for lease in mine:
                    lease.done(BAD)
            assert events == []
            house.wait(31)
            assert house["app/s1"].available
            fail(house, "app/s1", 4)
            assert house["app/s1"].available, "the count began anew"

    def test_ready_lets_it_in_at_once(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            fail(house, "app/s1", 5)
            with heard("ejection-over", "change") as events:
                change = house.control.ready("app/s1", by=By("anna"))
            assert str(change).startswith("app/s1: set to ready, ejected -> ready (change 1")
            assert [formatEvent(event) for event in events] == [
                "the ejection of server app/s1 is over (by anna)",
                "server app/s1 set to ready by anna (ejected -> ready), change 1",
            ]
            assert house["app/s1"] in house.app.available
            house.wait(60)
            assert house["app/s1"].state == "UP"

    def test_drained_meanwhile_it_stays_drained(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            fail(house, "app/s1", 5)
            house.control.drain("app/s1", by=By("anna"))
            house.wait(31)
            assert (house["app/s1"].state, house["app/s1"].ejection) == ("DRAIN", None)
            assert house["app/s1"].admin is Admin.DRAIN

    def test_checks_and_ejection_are_two_things(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            fail(house, "app/s1", 5)
            house.network.alive.remove(("127.0.0.1", 9001))
            house.wait(31)
            assert house["app/s1"].state == "DOWN"
            house.network.alive.add(("127.0.0.1", 9001))
            house.wait(4)
            assert house["app/s1"].state == "UP"

    def test_what_is_out_is_better_than_nothing(self, tmp_path: Path) -> None:
        house = self.make(tmp_path, servers=2)
        with house.running(), heard(*LAST) as events:
            house.wait(2)
            fail(house, "app/s1", 5)
            house.network.alive.remove(("127.0.0.1", 9002))
            house.wait(7)
            assert (house["app/s1"].state, house["app/s2"].state) == ("EJECTED", "DOWN")
            assert house.app.available == (house["app/s1"],)
            house.network.alive.add(("127.0.0.1", 9002))
            house.wait(4)
            assert house.app.available == (house["app/s2"],)
        assert [formatEvent(event) for event in events] == [
            "backend app uses its ejected servers again (s1): no other is available",
            "backend app needs its ejected servers no more",
        ]

    @pytest.mark.parametrize("hold", ["checks", "maint", "drain"])
    def test_but_not_if_more_than_its_errors_holds_it_back(self, tmp_path: Path, hold: str) -> None:
        house = self.make(tmp_path, servers=2)
        with house.running(), heard(*LAST) as events:
            house.wait(2)
            fail(house, "app/s1", 5)
            if hold == "checks":
                house["app/s1"].health.up = False
            else:
                getattr(house.control, hold)("app/s1", by=By("anna"))
            house.control.drain("app/s2", by=By("anna"))
            assert house.app.available == ()
        assert [event["event"] for event in events] == ["backend-down"]

    def test_two_reasons_are_both_told(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            house.wait(2)
            fail(house, "app/s1", 5)
            house["app/s1"].agent = agent = Agent()
            agent.word, agent.reason = "down", "disk full"
            house.app.refresh()
            (row,) = [row for row in house.control.servers() if row.server == "app/s1"]
            assert row.state == "DOWN (agent)"
            assert row.reason == (
                "agent: down (disk full); L4OK; ejected, back in 30s: 5 errors in a row, the last: status 503"
            )

    def test_removed_while_it_is_out_leaves_no_timer(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            fail(house, "app/s1", 5)
            house.control.remove("app/s1", by=By("anna"))
            assert not timers_of(house.balancer.passive, house)

    def test_nothing_is_left_after_a_stop(self, tmp_path: Path) -> None:
        house = self.make(tmp_path)
        with house.running():
            fail(house, "app/s1", 5)
            late = [lease_of(house.app) for _ in range(30)]
            house.stop()
            for lease in late:
                lease.done(BAD)
        assert not timers_of(house.balancer.passive, house)
        assert sum(each.ejection is not None for each in house.app) == 1

    def test_what_comes_back_starts_slowly(self, tmp_path: Path) -> None:
        app, pg = SETTINGS.backends
        app = replace(app, servers=(server(1), server(2)), outlier=OutlierSettings("5xx"), slowstart=10.0)
        house = House(tmp_path, replace(SETTINGS, backends=(app, pg)))
        with house.running():
            fail(house, "app/s1", 5)
            house.wait(30.2)
            assert house["app/s1"].state == "UP 10%"

    @pytest.mark.parametrize("verb", ["drain", "maint"])
    def test_so_does_what_was_also_held_back_by_hand(self, tmp_path: Path, verb: str) -> None:
        app, pg = SETTINGS.backends
        app = replace(app, servers=(server(1), server(2)), outlier=OutlierSettings("5xx"), slowstart=10.0)
        house = House(tmp_path, replace(SETTINGS, backends=(app, pg)))
        with house.running(), heard("slowstart") as events:
            house.wait(2)
            fail(house, "app/s1", 5)
            getattr(house.control, verb)("app/s1", by=By("anna"))
            house.control.ready("app/s1", by=By("anna"))
            assert house["app/s1"].ramp == 0.1
        assert len(events) == 1

    def test_who_is_put_out_while_it_starts_slowly_has_no_full_share_meanwhile(self, tmp_path: Path) -> None:
        app, pg = SETTINGS.backends
        app = replace(app, servers=(server(1), server(2)), outlier=OutlierSettings("5xx"), slowstart=10.0)
        house = House(tmp_path, replace(SETTINGS, backends=(app, pg)))
        with house.running():
            fail(house, "app/s1", 5)
            house.wait(30.2)
            with heard("slowstart-done") as events:
                fail(house, "app/s1", 5)
                assert house["app/s1"].state == "EJECTED"
                house.wait(20)
            assert events == []


def test_a_backend_that_is_not_to_listen_hears_of_no_success(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    lease_of(house.app).done(BAD)
    assert not house.app.learns

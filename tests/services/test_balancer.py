from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from twisted.logger import formatEvent

from lbservice.core.settings import CheckSettings
from lbservice.errors import StartError
from tests.services.fakes import heard
from tests.services.house import SETTINGS, House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


class TestStarting:
    def test_every_address_is_listened_on(self, house: House) -> None:
        with heard("frontend-started") as events, house.running():
            assert set(house.network.listening) == {("", 8080), ("::1", 8081), ("127.0.0.1", 5432)}
        assert formatEvent(events[0]) == (
            "frontend web listens on 0.0.0.0:8080, [::1]:8081 (http), backend app, maxconn 0"
        )
        assert events[1]["frontend"] == "db"

    def test_listening_comes_before_privileges_are_dropped_and_only_once(self, house: House) -> None:
        house.balancer.privilegedStartService()
        assert house.network.listening
        house.network.taken = set(house.network.listening)
        with house.running():
            assert house.balancer.running

    def test_an_address_in_use_says_whose_it_is(self, house: House) -> None:
        house.network.taken.add(("127.0.0.1", 5432))
        with pytest.raises(StartError, match=r"^\[frontend db\] cannot listen on 127\.0\.0\.1:5432: .*in use"):
            house.balancer.privilegedStartService()

    def test_the_first_checks_are_spread_over_one_interval(self, house: House) -> None:
        with house.running():
            house.wait(2)
        assert house.network.dialled == [
            (1000.0, ("127.0.0.1", 9001)),
            (1001.0, ("127.0.0.1", 9002)),
            (1002.0, ("127.0.0.1", 9001)),
        ]

    def test_a_backend_without_checks_is_up(self, house: House) -> None:
        assert (house["pg/s3"].state, house["pg/s3"].health.reason) == ("UP", "not checked")

    def test_servers_may_begin_as_down_and_prove_themselves(self, tmp_path: Path) -> None:
        app = replace(SETTINGS.backends[0], check=CheckSettings(init_up=False))
        house = House(tmp_path, replace(SETTINGS, backends=(app, SETTINGS.backends[1])))
        assert not house.app.available
        with heard("backend-up") as events, house.running():
            house.wait(0.5)
            assert house.app.available == (house["app/s1"],)
        assert [event["backend"] for event in events] == ["app"]


class TestWhileItRuns:
    def test_the_loss_of_the_last_server_and_the_return_of_the_first_are_events(self, house: House) -> None:
        with house.running():
            house.wait(1.5)
            with heard("health", "backend-down", "backend-up") as events:
                house.network.alive.clear()
                house.wait(8)
                house.network.alive.add(("127.0.0.1", 9002))
                house.wait(8)
        assert [(event["event"], event.get("server", event.get("backend"))) for event in events] == [
            ("health", "app/s1"),
            ("health", "app/s2"),
            ("backend-down", "app"),
            ("health", "app/s2"),
            ("backend-up", "app"),
        ]

    def test_before_the_start_nothing_of_that_is_said(self, tmp_path: Path) -> None:
        with heard("backend-down", "backend-up") as events:
            House(tmp_path)
        assert events == []

    def test_it_knows_how_long(self, house: House) -> None:
        house.clock.advance(12.5)
        assert house.balancer.uptime == 12.5


class TestStopping:
    def test_an_idle_balancer_stops_at_once(self, house: House) -> None:
        with heard("stopping", "stopped") as events, house.running():
            house.wait(1)
            assert house.stop() == [1001.0]
        assert house.network.listening == {}
        assert [formatEvent(event) for event in events] == [
            "stopping: 0 connections have up to 30s to finish",
            "stopped after 1s, 0 connections cut",
        ]

    def test_nothing_is_left_on_the_clock(self, house: House) -> None:
        with house.running():
            house.wait(1.5)
            house.stop()
            assert house.clock.getDelayedCalls() == []

    def test_a_check_that_is_on_its_way_does_not_hold_it_up(self, house: House) -> None:
        house.network.silent.add(("127.0.0.1", 9001))
        with house.running():
            house.wait(0.25)
            assert house.stop() == [1000.25]
            house.wait(10)
            assert house.clock.getDelayedCalls() == []


class TestPanic:
    def test_its_beginning_and_its_end_are_events(self, tmp_path: Path) -> None:
        app, pg = SETTINGS.backends
        house = House(tmp_path, replace(SETTINGS, backends=(replace(app, panic=0.6), pg)))
        with house.running(), heard("panic", "panic-over", "backend-down") as events:
            house.wait(3)
            house.network.alive.remove(("127.0.0.1", 9001))
            house.wait(6)
            assert house["app/s1"].state == "DOWN"
            assert len(house.app.available) == 2
            house.network.alive.add(("127.0.0.1", 9001))
            house.wait(6)
        assert [formatEvent(event) for event in events] == [
            "backend app panics: only 1 of 2 servers can be used, less than 60%; all are used, whatever their health",
            "backend app panics no more: 2 of 2 servers can be used",
        ]

from __future__ import annotations

from dataclasses import replace

import pytest

from lbservice.core.server import Admin, Ejection
from tests.core.build import failed, make_server


class TestTwoAxes:
    """What people want of a server and how it is are two things, and neither hides the other."""

    @pytest.mark.parametrize("admin", list(Admin))
    @pytest.mark.parametrize("up", [True, False])
    @pytest.mark.parametrize("weight", [0, 1, 256])
    def test_it_takes_something_new_only_if_ready_up_and_weighty(self, admin: Admin, up: bool, weight: int) -> None:
        server = make_server(up=up, weight=weight)
        server.admin = admin
        assert server.available == (admin is Admin.READY and up and weight > 0)

    def test_maintenance_does_not_change_its_health(self) -> None:
        server = make_server(up=False)
        server.admin = Admin.MAINT
        assert server.state == "MAINT"
        assert not server.health.up
        server.admin = Admin.READY
        assert server.state == "DOWN"

    @pytest.mark.parametrize(
        ("admin", "word"), [(Admin.READY, "UP 2/3"), (Admin.DRAIN, "DRAIN"), (Admin.MAINT, "MAINT")]
    )
    def test_its_state_in_one_word(self, admin: Admin, word: str) -> None:
        server = make_server()
        server.health.observe(failed())
        server.admin = admin
        assert server.state == word


class TestRoom:
    def test_without_maxconn_it_is_never_full(self) -> None:
        server = make_server()
        server.in_flight = 100_000
        assert not server.full

    @pytest.mark.parametrize(("in_flight", "full"), [(0, False), (1, False), (2, True), (3, True)])
    def test_with_maxconn_two_it_is_full_from_two_on(self, in_flight: int, full: bool) -> None:
        server = make_server(maxconn=2)
        server.in_flight = in_flight
        assert server.full == full

    def test_fullness_is_not_unavailability(self) -> None:
        server = make_server(maxconn=1)
        server.in_flight = 1
        assert server.available


class TestIdentity:
    def test_two_servers_of_the_same_settings_are_two_servers(self) -> None:
        assert len({make_server(), make_server()}) == 2

    def test_it_presents_itself(self) -> None:
        server = make_server("s2")
        server.in_flight = 3
        assert server.path == "app/s2"
        assert repr(server) == "<Server app/s2 127.0.0.1:9002 UP, 3 in flight>"

    def test_what_people_want_of_it_stands_in_its_settings(self) -> None:
        server = make_server(weight=5)
        server.weight = 7
        server.admin = Admin.DRAIN
        assert (server.settings.weight, server.settings.state) == (7, "drain")
        server.settings = replace(server.settings, state="maint", maxconn=3)
        assert (server.weight, server.admin, server.maxconn) == (7, Admin.MAINT, 3)


class TestSlowStart:
    """A part of its weight and its maxconn for a while, whatever people change meanwhile."""

    @pytest.mark.parametrize(
        ("ramp", "maxconn", "effective"), [(0.1, 0, 0), (0.1, 4, 1), (0.1, 100, 10), (0.55, 4, 2), (1.0, 4, 4)]
    )
    def test_maxconn_is_a_part_and_never_nothing(self, ramp: float, maxconn: int, effective: int) -> None:
        server = make_server(maxconn=maxconn)
        server.ramp = ramp
        assert server.maxconn == effective

    def test_the_weight_that_people_want_is_not_changed_by_it(self) -> None:
        server = make_server(weight=10)
        server.ramp = 0.5
        assert (server.weight, server.effective_weight) == (10, 5)
        server.weight = 20
        assert (server.weight, server.effective_weight) == (20, 10)
        server.ramp = 1.0
        assert server.effective_weight == 20

    def test_its_state_says_how_far_it_is(self) -> None:
        server = make_server()
        server.ramp = 0.55
        assert server.state == "UP 55%"
        server.health.up = False
        server.ramp = 1.0
        assert server.state == "DOWN"


class TestEjection:
    def test_it_takes_nothing_new_and_says_so_unless_something_else_holds_it_back(self) -> None:
        server = make_server()
        server.ejection = Ejection(30.0, "5 errors in a row")
        assert server.wanted
        assert not server.available
        assert server.state == "EJECTED"
        server.health.up = False
        assert server.state == "DOWN"
        server.admin = Admin.DRAIN
        assert server.state == "DRAIN"

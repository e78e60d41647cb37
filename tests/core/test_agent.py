from __future__ import annotations

import pytest

from lbservice.core.agent import Agent, Said
from lbservice.core.health import HISTORY
from lbservice.core.server import Admin, Ejection, Server
from tests.core.build import failed, make_server, passed


def hears(server: Server, **said: object) -> bool:
    """The server's agent says this; is it new?"""
    return server.hear(passed(), Said(**said))  # type: ignore[arg-type] # fields of Said


@pytest.fixture
def server() -> Server:
    server = make_server(weight=10, maxconn=20)
    server.agent = Agent()
    return server


class TestNumbers:
    def test_a_silent_agent_changes_nothing(self, server: Server) -> None:
        assert not hears(server)
        assert (server.effective_weight, server.maxconn, server.available) == (10, 20, True)

    @pytest.mark.parametrize(("share", "effective"), [(1.0, 10), (0.75, 7.5), (0.01, 0.1), (2.0, 20), (99.0, 256)])
    def test_a_share_is_one_of_the_weight_that_people_want(
        self, server: Server, share: float, effective: float
    ) -> None:
        assert hears(server, share=share) == (share != 1.0)
        assert server.effective_weight == pytest.approx(effective)
        assert (server.weight, server.available) == (10, True)

    def test_a_weight_set_by_hand_is_scaled_too(self, server: Server) -> None:
        hears(server, share=0.5)
        server.weight = 100
        assert server.effective_weight == 50

    def test_no_share_is_drain(self, server: Server) -> None:
        hears(server, share=0.0)
        assert (server.available, server.state) == (False, "DRAIN (agent)")
        hears(server, share=0.1)
        assert (server.available, server.state) == (True, "UP")

    @pytest.mark.parametrize("maxconn", [0, 1, 30])
    def test_maxconn_takes_the_place_of_the_servers(self, server: Server, maxconn: int) -> None:
        assert hears(server, maxconn=maxconn)
        assert server.maxconn == maxconn

    def test_what_is_not_said_stays(self, server: Server) -> None:
        hears(server, share=0.5, maxconn=3, hold="drain")
        assert not hears(server)
        assert (server.effective_weight, server.maxconn, server.state) == (5, 3, "DRAIN (agent)")


class TestWords:
    @pytest.mark.parametrize(
        ("said", "state"),
        [
            ({"hold": "drain"}, "DRAIN (agent)"),
            ({"hold": "maint"}, "MAINT (agent)"),
            ({"word": "down"}, "DOWN (agent)"),
            ({"word": "fail"}, "DOWN (agent)"),
            ({"word": "stopped", "hold": "drain"}, "DOWN (agent)"),
        ],
    )
    def test_it_holds_the_server_back_until_it_says_otherwise(
        self, server: Server, said: dict[str, str], state: str
    ) -> None:
        assert hears(server, **said)
        assert (server.available, server.state) == (False, state)
        assert hears(server, hold="ready", word="up")
        assert (server.available, server.state) == (True, "UP")

    def test_ready_is_not_up_and_up_is_not_ready(self, server: Server) -> None:
        hears(server, hold="drain", word="down")
        hears(server, hold="ready")
        assert server.state == "DOWN (agent)"
        hears(server, hold="drain", word="up")
        assert server.state == "DRAIN (agent)"

    @pytest.mark.parametrize("admin", [Admin.DRAIN, Admin.MAINT])
    def test_ready_does_not_undo_what_people_said(self, server: Server, admin: Admin) -> None:
        server.admin = admin
        hears(server, hold="drain")
        hears(server, hold="ready")
        assert (server.available, server.state) == (False, admin.name)

    def test_nor_do_people_undo_what_it_said(self, server: Server) -> None:
        hears(server, hold="drain")
        server.admin = Admin.MAINT
        server.admin = Admin.READY
        assert (server.available, server.state) == (False, "DRAIN (agent)")

    def test_up_does_not_raise_one_that_the_checks_have_found_down(self, server: Server) -> None:
        server.health.up = False
        hears(server, word="up")
        assert (server.wanted, server.available, server.state) == (True, False, "DOWN")

    def test_down_is_no_wish(self, server: Server) -> None:
        hears(server, word="down")
        assert (server.wanted, server.available) == (True, False)
        hears(server, word="up", hold="drain")
        assert (server.wanted, server.available) == (False, False)

    def test_both_causes_can_be_seen(self, server: Server) -> None:
        server.health.observe(passed())
        assert server.reason == "L7OK status 200"
        hears(server, hold="drain", share=0.5, maxconn=3, reason="new version")
        assert server.reason == "agent: drain 50% maxconn:3 (new version); L7OK status 200"
        server.admin = Admin.MAINT
        assert (server.state, server.reason[:12]) == ("MAINT", "agent: drain")

    def test_what_it_says_comes_before_what_errors_say(self, server: Server) -> None:
        server.ejection = Ejection(10.0, "5 errors in a row")
        assert (server.state, server.available) == ("EJECTED", False)
        hears(server, hold="drain")
        assert (server.state, server.available) == ("DRAIN (agent)", False)
        server.ejection = None
        hears(server, hold="ready", word="down")
        assert (server.well, server.wanted) == (False, True)

    def test_only_maintenance_is_without_checks(self) -> None:
        agent = Agent()
        for hold, checked in (("drain", True), ("maint", False), ("ready", True)):
            agent.observe(passed(), Said(hold=hold))
            assert agent.wants_checks == checked


class TestSilence:
    def test_an_agent_that_does_not_answer_changes_nothing(self, server: Server) -> None:
        hears(server, hold="drain", share=0.5)
        assert server.agent is not None
        for _ in range(100):
            assert not server.hear(failed(), None)
        assert (server.effective_weight, server.state) == (5, "DRAIN (agent)")
        assert not server.agent.understood
        assert len(server.agent.history) == HISTORY


class TestRecovery:
    """Agent and slow start both take a part; they are multiplied, in one place."""

    @pytest.mark.parametrize(
        ("share", "ramp", "weight", "maxconn"),
        [(1.0, 1.0, 10, 20), (0.5, 1.0, 5, 20), (1.0, 0.1, 1, 2), (0.5, 0.1, 0.5, 2), (1.0, 0.01, 0.1, 1)],
    )
    def test_one_of_the_other(self, server: Server, share: float, ramp: float, weight: float, maxconn: int) -> None:
        server.ramp = ramp
        hears(server, share=share)
        assert server.effective_weight == pytest.approx(weight)
        assert server.maxconn == maxconn

    def test_what_the_agent_lets_in_is_ramped_too(self, server: Server) -> None:
        server.ramp = 0.5
        hears(server, maxconn=3)
        assert server.maxconn == 1
        hears(server, maxconn=0)
        assert server.maxconn == 0, "0 is no limit, and half of none is none"

    def test_without_an_agent(self) -> None:
        server = make_server(weight=4, maxconn=8)
        server.ramp = 0.5
        assert (server.effective_weight, server.maxconn) == (2, 4)
        server.ramp = 1.0
        assert (server.effective_weight, server.maxconn) == (4, 8)

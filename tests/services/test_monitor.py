from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from lbservice.core.agent import Agent
from lbservice.core.backend import Backend
from lbservice.core.health import CheckResult, Health
from lbservice.core.server import Admin, Server
from lbservice.core.settings import BackendSettings, CheckSettings, ServerSettings
from lbservice.services.checks import Unasked
from lbservice.services.monitor import JITTER, HealthMonitor, words
from tests.core.build import CLIENT, FirstWithRoom, Waiter, lease_of
from tests.services.fakes import FakeCheck, MiddlingRandom, heard, pass_time


class Ward:
    """A monitor, one backend and its patients."""

    def __init__(self, *, rise: int = 2, fall: int = 3, log: bool = False, **check: float) -> None:
        self.clock = Clock()
        self.random = MiddlingRandom()
        self.down: list[tuple[str, int]] = []
        settings = CheckSettings(rise=rise, fall=fall, log=log, **check)  # type: ignore[arg-type] # seconds only
        self.backend = Backend(BackendSettings("app", check=settings), FirstWithRoom())
        self.monitor = HealthMonitor(self.clock, self.random, self._went_down)
        self.checks: dict[Server, FakeCheck] = {}

    def _went_down(self, server: Server) -> None:
        self.down.append((server.name, len(self.backend.available)))

    def admit(self, name: str = "s1", *, delay: float = 0.0, maxconn: int = 0) -> tuple[Server, FakeCheck]:
        """A new server, healthy so far, with a check that asks it."""
        check = self.backend.settings.check
        server = Server(
            "app", ServerSettings(name, "127.0.0.1", 80, maxconn=maxconn), Health(rise=check.rise, fall=check.fall)
        )
        server.health.streak = 0
        self.backend.add(server)
        self.checks[server] = FakeCheck(self.clock)
        self.monitor.watch(self.backend, server, self.checks[server], delay)
        return server, self.checks[server]

    def wait(self, seconds: float) -> None:
        pass_time(self.clock, seconds)


class TestRounds:
    def test_the_first_checks_are_spread(self) -> None:
        ward = Ward()
        checks = [ward.admit(f"s{n}", delay=n * 0.5)[1] for n in range(4)]
        ward.monitor.startService()
        ward.wait(3)
        assert [check.begun[:2] for check in checks] == [[0.0, 2.0], [0.5, 2.5], [1.0, 3.0], [1.5]]

    def test_nothing_is_asked_before_the_start(self) -> None:
        ward = Ward()
        _, check = ward.admit()
        ward.wait(5)
        assert check.begun == []

    def test_a_server_that_comes_later_is_asked_from_then_on(self) -> None:
        ward = Ward()
        ward.monitor.startService()
        ward.wait(1)
        _, check = ward.admit()
        ward.wait(3)
        assert check.begun == [1.0, 3.0]

    def test_a_healthy_server_is_asked_every_inter(self) -> None:
        ward = Ward(inter=2.0, fastinter=0.5, downinter=5.0)
        _, check = ward.admit()
        ward.monitor.startService()
        ward.wait(7)
        assert check.begun == [0.0, 2.0, 4.0, 6.0]

    def test_one_in_doubt_every_fastinter_and_a_dead_one_every_downinter(self) -> None:
        ward = Ward(inter=2.0, fastinter=0.5, downinter=5.0)
        server, check = ward.admit()
        ward.monitor.startService()
        ward.wait(1)
        check.passes = False
        ward.wait(13)
        assert check.begun == [0.0, 2.0, 2.5, 3.0, 8.0, 13.0]
        assert not server.health.up
        check.passes = True
        ward.wait(9)
        assert check.begun[6:] == [18.0, 18.5, 20.5, 22.5]
        assert server.health.up

    def test_intervals_are_counted_from_the_beginning_of_a_check(self) -> None:
        ward = Ward(inter=2.0)
        _, check = ward.admit()
        check.takes = 1.5
        ward.monitor.startService()
        ward.wait(6.5)
        assert check.begun == [0.0, 2.0, 4.0, 6.0]

    def test_a_slow_check_delays_the_next_and_never_overlaps_it(self) -> None:
        ward = Ward(inter=2.0)
        _, check = ward.admit()
        check.takes = 3.0
        ward.monitor.startService()
        ward.wait(20)
        assert check.most_running == 1
        gaps = [later - earlier for earlier, later in zip(check.begun, check.begun[1:], strict=False)]
        assert min(gaps) >= 3.0
        assert max(gaps) <= 4.0

    def test_a_slow_server_does_not_hold_up_the_others(self) -> None:
        ward = Ward(inter=2.0)
        _, slow = ward.admit("s1")
        _, quick = ward.admit("s2")
        slow.takes = 60.0
        ward.monitor.startService()
        ward.wait(9)
        assert (len(slow.begun), len(quick.begun)) == (1, 5)

    @pytest.mark.parametrize(("chance", "gap"), [(0.0, 2 - JITTER), (0.5, 2.0), (0.999999, 2 + JITTER)])
    def test_chance_moves_a_round_by_five_percent_at_most(
        self, chance: float, gap: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ward = Ward(inter=2.0)
        monkeypatch.setattr(ward.random, "random", lambda: chance)
        _, check = ward.admit()
        ward.monitor.startService()
        ward.clock.pump([0.001] * 5000)
        assert check.begun[2] - check.begun[1] == pytest.approx(gap, abs=0.002)


class TestWhoIsNotAsked:
    def test_a_server_in_maintenance(self) -> None:
        ward = Ward(inter=1.0)
        server, check = ward.admit()
        ward.monitor.startService()
        ward.wait(1.5)
        server.admin = Admin.MAINT
        ward.wait(10)
        assert check.begun == [0.0, 1.0]
        server.admin = Admin.READY
        ward.wait(1)
        assert len(check.begun) == 3, "and from the next round on again"

    def test_a_draining_one_is_asked(self) -> None:
        ward = Ward(inter=1.0)
        server, check = ward.admit()
        server.admin = Admin.DRAIN
        ward.monitor.startService()
        ward.wait(2)
        assert len(check.begun) == 3

    def test_a_forgotten_one_even_while_its_answer_is_on_the_way(self) -> None:
        ward = Ward(inter=1.0, fall=1)
        server, check = ward.admit()
        check.passes, check.takes = False, 0.5
        ward.monitor.startService()
        ward.wait(0.25)
        ward.monitor.forget(server)
        assert ward.clock.getDelayedCalls() == [], "the question is given up"
        ward.wait(10)
        assert check.begun == [0.0]
        assert server.health.up, "the answer came too late"
        assert not server.health.history

    def test_a_forgotten_one_before_its_first_check(self) -> None:
        ward = Ward()
        server, check = ward.admit(delay=1.0)
        ward.monitor.startService()
        ward.monitor.forget(server)
        ward.monitor.forget(server)
        ward.wait(5)
        assert check.begun == []

    def test_anybody_after_the_stop(self) -> None:
        ward = Ward(inter=1.0)
        _, first = ward.admit("s1")
        _, later = ward.admit("s2", delay=5.0)
        ward.monitor.startService()
        ward.wait(1.5)
        ward.monitor.stopService()
        ward.wait(10)
        assert (len(first.begun), len(later.begun)) == (2, 0)
        assert ward.clock.getDelayedCalls() == []

    def test_after_a_stop_in_the_middle_of_a_check_nothing_is_left(self) -> None:
        ward = Ward(inter=1.0, fall=1)
        server, check = ward.admit()
        check.takes, check.passes = 0.5, False
        ward.monitor.startService()
        ward.wait(0.25)
        ward.monitor.stopService()
        ward.wait(5)
        assert server.health.up
        assert ward.clock.getDelayedCalls() == []

    def test_a_monitor_that_is_started_again_goes_on(self) -> None:
        ward = Ward(inter=1.0, fall=1)
        server, check = ward.admit()
        ward.monitor.startService()
        ward.wait(1.5)
        ward.monitor.stopService()
        ward.wait(3)
        check.passes = False
        ward.monitor.startService()
        ward.wait(2)
        assert not server.health.up

    @pytest.mark.parametrize("by", ["operator", "agent"])
    def test_a_check_that_is_under_way_when_maintenance_begins_says_nothing(self, by: str) -> None:
        ward = Ward(inter=1.0, fall=1)
        server, check = ward.admit()
        check.passes, check.takes = False, 0.5
        with heard("health") as events:
            ward.monitor.startService()
            ward.wait(0.25)
            assert check.running == 1
            if by == "operator":
                server.admin = Admin.MAINT
            else:
                server.agent = Agent()
                server.agent.hold = "maint"
            ward.wait(3)
        assert (events, server.health.up, len(check.begun)) == ([], True, 1)


class TestAFlip:
    def test_is_one_event_with_its_reason_and_how_long_it_had_been_otherwise(self) -> None:
        ward = Ward(inter=2.0)
        _, check = ward.admit()
        with heard("health") as events:
            ward.monitor.startService()
            ward.wait(11)
            check.passes = False
            ward.wait(30)
        (event,) = events
        assert event["log_format"].format(**event) == "server app/s1 is DOWN (L4CON), was UP for 16s"
        assert (event["server"], event["state"], event["before"]) == ("app/s1", "DOWN", "UP")

    def test_it_carries_the_check_that_did_it(self) -> None:
        ward = Ward(inter=1.0, fall=1)
        _, check = ward.admit()
        check.passes, check.takes = False, 0.25
        with heard("health") as events:
            ward.monitor.startService()
            ward.wait(0.5)
        (event,) = events
        assert (event["code"], event["detail"], event["took"]) == ("L4CON", "", 0.25)

    def test_and_another_for_the_way_back(self) -> None:
        ward = Ward(inter=1.0)
        _, check = ward.admit()
        check.passes = False
        with heard("health") as events:
            ward.monitor.startService()
            ward.wait(2.5)
            check.passes = True
            ward.wait(10)
        assert [(event["state"], event["duration"]) for event in events] == [("DOWN", "2s"), ("UP", "2s")]

    def test_the_backend_knows_before_anybody_else_is_told(self) -> None:
        ward = Ward(fall=1)
        _, check = ward.admit("s1")
        ward.admit("s2")
        check.passes = False
        ward.monitor.startService()
        assert ward.down == []
        ward.wait(0.5)
        assert ward.down == [("s1", 1)], "told once, when one of two was available"
        lease = ward.backend.acquire(CLIENT)
        assert lease is not None
        assert lease.server.name == "s2"

    def test_coming_up_is_not_going_down(self) -> None:
        ward = Ward(rise=1, fall=1, inter=1.0)
        _, check = ward.admit()
        check.passes = False
        ward.monitor.startService()
        ward.wait(0.5)
        check.passes = True
        ward.wait(5)
        assert len(ward.down) == 1

    def test_a_server_that_comes_up_serves_those_who_wait(self) -> None:
        ward = Ward(rise=1, fall=1, inter=1.0)
        ward.admit("s1", maxconn=1)
        server, _ = ward.admit("s2")
        server.health.up = False
        ward.backend.refresh()
        lease_of(ward.backend)
        waiter = Waiter(ward.backend)
        ward.monitor.startService()
        ward.wait(1)
        assert waiter.served_by == "s2"

    def test_results_that_change_nothing_are_kept_but_not_told(self) -> None:
        ward = Ward(inter=1.0)
        server, _ = ward.admit()
        with heard("health") as events:
            ward.monitor.startService()
            ward.wait(5)
        assert events == []
        assert len(server.health.history) == 6


class TestEveryResultThatIsNews:
    """With `log-health-checks = on`: what speaks against the present state, and what ends the doubt."""

    def test_is_told(self) -> None:
        ward = Ward(inter=1.0, log=True)
        _, check = ward.admit()
        with heard("check", "health") as events:
            ward.monitor.startService()
            ward.wait(2.5)
            check.passes, check.takes = False, 0.25
            ward.wait(2)
            check.passes, check.takes = True, 0.0
            ward.wait(3)
        assert [event["log_format"].format(**event) for event in events] == [
            "check of server app/s1 passed after 0ms (L4OK): UP",
            "check of server app/s1 failed after 250ms (L4CON): UP 2/3",
            "check of server app/s1 failed after 250ms (L4CON): UP 1/3",
            "check of server app/s1 passed after 0ms (L4OK): UP",
        ]
        assert (events[1]["code"], events[1]["took"], events[1]["state"]) == ("L4CON", 0.25, "UP 2/3")

    def test_a_flip_is_told_once_and_a_long_illness_not_at_all(self) -> None:
        ward = Ward(inter=1.0, fall=2, log=True)
        _, check = ward.admit()
        check.passes = False
        with heard("check", "health") as events:
            ward.monitor.startService()
            ward.wait(9)
        assert [event["event"] for event in events] == ["check", "health"]

    def test_but_an_accusation_is_no_check(self) -> None:
        ward = Ward(inter=1.0, log=True)
        server, _ = ward.admit()
        with heard("check", "observed") as events:
            ward.monitor.startService()
            ward.wait(0.5)
            ward.monitor.suspect(ward.backend, server, "10 errors in a row", "fail-check")
        assert [event["event"] for event in events] == ["check", "observed"]


class LackingCheck:
    """Cannot ask."""

    async def run(self, server: Server) -> Unasked:
        return Unasked("Too many open files")


class TestALackOfOurs:
    def test_says_nothing_about_servers_and_is_told_now_and_then(self) -> None:
        ward = Ward(inter=1.0, fall=1)
        servers = []
        for name in ("s1", "s2"):
            server, _ = ward.admit(name)
            ward.monitor.forget(server)
            ward.monitor.watch(ward.backend, server, LackingCheck())
            servers.append(server)
        with heard("unasked") as events:
            ward.monitor.startService()
            ward.wait(15)
        assert len(ward.backend.available) == 2
        assert not servers[0].health.history
        assert [event["log_format"].format(**event) for event in events] == [
            "server app/s1 cannot be checked (Too many open files): what is known of servers stays as it is"
        ] * 2


class TestSuspicion:
    """Requests, or an operator, give the monitor a reason to look again."""

    def make(self, fastinter: float = 2.0) -> tuple[Ward, Server, FakeCheck]:
        ward = Ward(inter=2.0, fastinter=fastinter)
        server, check_ = ward.admit()
        ward.monitor.startService()
        ward.wait(1)
        return ward, server, check_

    def test_a_failed_check_is_kept_among_the_others(self) -> None:
        ward, server, _ = self.make()
        ward.monitor.suspect(ward.backend, server, "10 errors in a row", "fail-check")
        assert server.health.word == "UP 2/3"
        assert str(server.health.history[-1]) == "HANA 10 errors in a row"

    @pytest.mark.parametrize(
        ("on_error", "word"),
        [("fastinter", "UP"), ("fail-check", "UP 2/3"), ("sudden-death", "UP 1/3"), ("mark-down", "DOWN")],
    )
    def test_each_action(self, on_error: str, word: str) -> None:
        ward, server, _ = self.make()
        ward.monitor.suspect(ward.backend, server, "errors", on_error)
        assert server.health.word == word
        assert ward.down == ([("s1", 0)] if word == "DOWN" else [])

    def test_the_next_check_is_hastened_to_fastinter_and_never_delayed(self) -> None:
        ward, server, check = self.make(fastinter=0.5)
        ward.monitor.suspect(ward.backend, server, "errors", "fail-check")
        ward.wait(0.75)
        assert check.begun == [0.0, 1.5]
        ward.wait(1)
        ward.monitor.suspect(ward.backend, server, "errors", "fastinter")
        ward.wait(4)
        assert check.begun[2] == 3.25, "not 3.5, as it would have been"
        gaps = [later - earlier for earlier, later in zip(check.begun, check.begun[1:], strict=False)]
        assert max(gaps) <= 2.25

    def test_one_that_is_being_asked_is_not_asked_twice(self) -> None:
        ward, server, check = self.make(fastinter=0.5)
        check.takes = 1.5
        ward.wait(1.5)
        assert check.running == 1
        ward.monitor.suspect(ward.backend, server, "errors", "fail-check")
        ward.monitor.doubt(server)
        ward.wait(10)
        assert check.most_running == 1

    def test_one_that_is_down_or_in_maintenance_or_not_watched_is_not_suspected(self) -> None:
        ward, server, _ = self.make()
        server.admin = Admin.MAINT
        ward.monitor.suspect(ward.backend, server, "errors", "mark-down")
        assert server.health.up
        server.admin = Admin.READY
        ward.monitor.forget(server)
        ward.monitor.suspect(ward.backend, server, "errors", "mark-down")
        assert server.health.up

    @pytest.mark.parametrize(("up", "passes"), [(True, False), (False, True)])
    def test_in_doubt_the_next_check_comes_at_once_and_decides_alone(self, up: bool, passes: bool) -> None:
        ward, server, check = self.make()
        server.health.up = up
        check.passes = passes
        ward.monitor.doubt(server)
        ward.wait(0.25)
        assert len(check.begun) == 2
        assert server.health.up == passes


class TestComingBack:
    def test_is_told_before_the_backend_hears_of_it(self) -> None:
        ward = Ward(rise=1, fall=1, inter=1.0)
        back: list[tuple[str, int]] = []
        ward.monitor._up = lambda server: back.append((server.name, len(ward.backend.available)))
        _, check = ward.admit()
        check.passes = False
        ward.monitor.startService()
        ward.wait(0.5)
        check.passes = True
        ward.wait(3)
        assert back == [("s1", 0)]

    def test_the_first_check_brings_nobody_back(self) -> None:
        ward = Ward(inter=1.0)
        back: list[Server] = []
        ward.monitor._up = back.append
        server, _ = ward.admit()
        server.health.up, server.health.streak = False, 1
        ward.monitor.startService()
        ward.wait(0.5)
        assert server.health.up
        assert back == []


class BrokenCheck:
    """Breaks its promise never to raise, the first time."""

    def __init__(self) -> None:
        self.asked = 0

    async def run(self, server: Server) -> CheckResult:
        self.asked += 1
        if self.asked == 1:
            raise ZeroDivisionError
        return CheckResult(True, "L4OK", "", 0.0, 0.0)


class TestACheckThatBreaks:
    def test_is_told_and_disturbs_nobody_else(self) -> None:
        ward = Ward(inter=1.0)
        server, check = ward.admit("s1")
        broken = BrokenCheck()
        ward.monitor.forget(server)
        ward.monitor.watch(ward.backend, server, broken)
        _, other = ward.admit("s2")
        with heard(None) as events:
            ward.monitor.startService()
            ward.wait(3.5)
        assert any(event["log_failure"].check(ZeroDivisionError) for event in events if "log_failure" in event)
        assert len(other.begun) == 4
        assert check.begun == []

    def test_does_not_leave_the_server_unwatched_for_good(self) -> None:
        ward = Ward(inter=1.0)
        server, _ = ward.admit("s1")
        broken = BrokenCheck()
        ward.monitor.forget(server)
        ward.monitor.watch(ward.backend, server, broken)
        ward.monitor.startService()
        ward.wait(3.5)
        assert broken.asked > 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0004, "0ms"),
        (0.85, "850ms"),
        (0.9996, "1s"),
        (1, "1s"),
        (12.9, "12s"),
        (59.99, "59s"),
        (60, "1m00s"),
        (185, "3m05s"),
        (3599.9, "59m59s"),
        (3600, "1h00m"),
        (7380, "2h03m"),
        (86399, "23h59m"),
        (86400, "1d00h"),
        (3 * 86400 + 4 * 3600 + 1, "3d04h"),
    ],
)
def test_a_duration_in_words(seconds: float, text: str) -> None:
    assert words(seconds) == text

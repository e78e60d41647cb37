from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import capturedLogs

from lbservice.admin.completion import completions
from lbservice.admin.shell import VERBS, Shell
from lbservice.core.health import CheckResult
from lbservice.core.server import Admin
from lbservice.errors import ControlError
from tests.admin.fakes import FakeControl, events


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def lb(control: FakeControl) -> Shell:
    return Shell(control, "alice (uid 1000) at the shell")


class TestQuestions:
    def test_servers_is_a_table_of_all_of_them(self, lb: Shell, control: FakeControl) -> None:
        control.fake.clock.advance(125)
        heading, *lines = repr(lb.servers()).splitlines()
        assert heading.split()[:5] == ["SERVER", "ADDRESS", "STATE", "REASON", "SINCE"]
        assert [line.split()[0] for line in lines] == ["app/s1", "app/s2"]
        assert "2m05s" in lines[0]

    def test_servers_of_one_backend(self, lb: Shell) -> None:
        assert [row.server for row in lb.servers("app")] == ["app/s1", "app/s2"]
        with pytest.raises(ControlError, match="no backend 'ap'; there are: app"):
            lb.servers("ap")

    def test_health_is_a_table_of_the_checks_of_a_server(self, lb: Shell, control: FakeControl) -> None:
        assert repr(lb.health("app/s1")) == "app/s1 has not been checked yet"
        health = control.app["s1"].health
        health.observe(CheckResult(True, "L7OK", "status 200", 0.0, 0.0034))
        health.observe(CheckResult(False, "L7TOUT", "no answer in time \x1b[2J", 2.0, 2.001))
        control.fake.clock.advance(5)
        assert repr(lb.health("app/s1")).splitlines() == [
            " AGO  BY     RESULT  CODE    TOOK    DETAIL",
            "3.0s  check  failed  L7TOUT  2001ms  no answer in time ?[2J",
            "5.0s  check  passed  L7OK    3.4ms   status 200",
        ]

    def test_stats_shows_uptime_frontends_and_backends(self, lb: Shell, control: FakeControl) -> None:
        text = repr(lb.stats())
        assert text.startswith("up 2h03m\n")
        assert "127.0.0.1:8080" in text
        assert "roundrobin" in text
        control.fake.eventlog.dropped = 4
        assert repr(lb.stats()).startswith("up 2h03m, 4 log lines lost\n")

    def test_its_repr_leads_to_help(self, lb: Shell) -> None:
        assert "lb.help()" in repr(lb)

    def test_help_tells_every_verb_with_its_signature_and_what_it_does(self, lb: Shell) -> None:
        text = repr(lb.help())
        for verb in VERBS:
            assert f"lb.{verb}(" in text
        assert "lb.servers(backend=None)" in text
        assert "lb.add(backend, name, address, weight=1, maxconn=0, backup=False)" in text
        assert "Use the server again." in text
        assert max(map(len, text.splitlines())) <= 110

    def test_help_forgets_no_public_method(self) -> None:
        assert {name for name in vars(Shell) if not name.startswith("_")} == set(VERBS)


class TestChanges:
    def test_add_makes_a_server_as_lb_ini_would(self, lb: Shell, control: FakeControl) -> None:
        change = lb.add("app", "s4", "[::1]:9004", weight=2, maxconn=8, backup=True)
        settings = control.app["s4"].settings
        assert (settings.host, settings.port, settings.weight, settings.maxconn, settings.backup) == (
            "::1",
            9004,
            2,
            8,
            True,
        )
        assert repr(change).startswith("app/s4: added, absent -> [::1]:9004 weight 2 (change 1")

    @pytest.mark.parametrize(
        ("address", "more", "why"),
        [
            ("127.0.0.1", {}, "the port is missing"),
            ("127.0.0.1:99999", {}, "the port must be a whole number"),
            ("127.0.0.1:9004", {"weight": 257}, "weight=257: must be a whole number from 0 to 256"),
            ("127.0.0.1:9004", {"weight": -1}, "weight=-1"),
            ("127.0.0.1:9004", {"maxconn": "many"}, "maxconn=many"),
            ("127.0.0.1:9004 backup", {}, "app/s4: "),
        ],
    )
    def test_add_refuses_what_lb_ini_would(
        self, lb: Shell, control: FakeControl, address: str, more: dict[str, Any], why: str
    ) -> None:
        with pytest.raises(ControlError, match=why):
            lb.add("app", "s4", address, **more)
        assert "s4" not in control.app

    def test_add_refuses_a_name_of_two_words(self, lb: Shell) -> None:
        with pytest.raises(ControlError, match="a name is one word"):
            lb.add("app", "s 4", "127.0.0.1:9004")

    def test_each_verb_does_its_own(self, lb: Shell, control: FakeControl) -> None:
        server = control.app["s1"]
        for verb, admin in ((lb.drain, Admin.DRAIN), (lb.maint, Admin.MAINT), (lb.ready, Admin.READY)):
            verb("app/s1")
            assert server.admin is admin
        lb.weight("app/s1", 5)
        assert server.weight == 5
        lb.remove("app/s1")
        assert "s1" not in control.app

    def test_the_log_names_the_actor(self, lb: Shell) -> None:
        with capturedLogs() as logged:
            lb.drain("app/s1")
        (event,) = events(list(logged), "change")
        assert event["actor"] == "alice (uid 1000) at the shell"


class TestSlips:
    """Python would take a text for true, and a number for a name."""

    @pytest.mark.parametrize(
        "slip",
        [
            lambda lb: lb.remove("app/s1", now="x"),
            lambda lb: lb.remove(1),
            lambda lb: lb.add("app", "s9", 23101),
            lambda lb: lb.add("app", "s9", "127.0.0.1:9009", backup="no"),
        ],
    )
    def test_what_has_the_wrong_type_changes_nothing(self, lb: Shell, slip: Any) -> None:
        before = [repr(row) for row in lb.servers()]
        with pytest.raises(ControlError):
            slip(lb)
        assert [repr(row) for row in lb.servers()] == before


class TestCompletion:
    """What Tab offers: names after a dot, and servers inside the quotes of a verb."""

    WORDS = ("app", "app/s1", "app/s2")

    def complete(self, text: str, lb: Shell) -> list[str]:
        return completions(text, {"lb": lb, "control": None}, self.WORDS)[1]

    def test_verbs_after_lb_and_a_dot(self, lb: Shell) -> None:
        assert self.complete("lb.s", lb) == ["save(", "servers(", "sessions(", "stats("]
        assert self.complete("x = lb.dr", lb) == ["drain("]
        assert "_control" not in self.complete("lb.", lb)
        assert "_control" in self.complete("lb._c", lb)

    def test_names_of_the_session(self, lb: Shell) -> None:
        assert self.complete("l", lb) == ["lb"]
        assert self.complete("print(con", lb) == ["control"]

    def test_servers_inside_the_quotes(self, lb: Shell) -> None:
        assert self.complete('lb.drain("app/', lb) == ["app/s1", "app/s2"]
        assert self.complete("lb.weight('app/s2", lb) == ["app/s2"]

    def test_nothing_where_nothing_fits(self, lb: Shell) -> None:
        assert self.complete("", lb) == []
        assert self.complete("nobody.at", lb) == []
        assert self.complete('"text', lb) == []

"""An agent's line, and a balancer that listens to agents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent

from lbservice.core.agent import Said
from lbservice.core.change import By
from lbservice.core.health import CheckResult, Health
from lbservice.core.server import Admin, Server
from lbservice.core.settings import AgentSettings, CheckSettings, ServerSettings, ServerTls
from lbservice.services.agent import MAX_LINE, MAX_REASON, AgentCheck, parse
from lbservice.services.checks import Unasked
from lbservice.services.probe import NoAnswer
from tests.core.build import Waiter, lease_of
from tests.services.fakes import STEP, heard
from tests.services.house import SETTINGS, House
from tests.support.actors import Origin
from tests.support.wire import MemoryNetwork


class TestALine:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            (b"75%", Said(share=0.75)),
            (b"0%", Said(share=0.0)),
            (b"200%", Said(share=2.0)),
            (b"maxconn:30", Said(maxconn=30)),
            (b"ready", Said(hold="ready")),
            (b"UP 99%", Said(word="up", share=0.99)),
            (b"drain,\t,50% ", Said(hold="drain", share=0.5)),
            (b"down # disk # full ", Said(word="down", reason="disk # full")),
            (b"75% maxconn:30 ready up", Said(0.75, 30, "ready", "up")),
            (b"fail stopped drain maint", Said(word="stopped", hold="maint")),
            (b"maint #\xff", Said(hold="maint", reason="\ufffd")),
            (b"#only a reason", Said(reason="only a reason")),
            (b"", Said()),
            (b" , ", Said()),
        ],
    )
    def test_that_means_something(self, line: bytes, said: Said) -> None:
        assert parse(line) == said

    @pytest.mark.parametrize(
        "line",
        [
            *(b"75", b"75 %", b"-1%", b"1.5%", b"999999%", b"%", b"\xef\xbc\x97%"),
            *(b"maxconn:", b"maxconn:-1", b"maxconn:9999999"),
            *(b"dwon", b"ready 75", b"down#reason", b"HTTP/1.1 400 Bad Request", b"\0", b"up\x1b[2J"),
        ],
    )
    def test_with_a_word_that_means_nothing_is_nothing(self, line: bytes) -> None:
        with pytest.raises(NoAnswer, match="unknown word"):
            parse(line)

    def test_a_reason_is_cut_short(self) -> None:
        assert len(parse(b"down #" + b"x" * 1000).reason) == MAX_REASON

    @given(st.binary() | st.text(alphabet="ready drain,75%#maxconn:").map(str.encode))
    def test_whatever_comes_it_is_read_or_refused(self, line: bytes) -> None:
        try:
            said = parse(line)
        except NoAnswer:
            return
        assert said.share is None or 0 <= said.share <= 999.99
        assert said.maxconn is None or 0 <= said.maxconn <= 999_999
        assert said.hold in (None, "ready", "drain", "maint")


HERE = ("10.0.0.1", 8090)


class Visit:
    """One question to an agent at HERE, of a server at another port."""

    def __init__(self, settings: AgentSettings | None = None, *, alive: bool = True, tls: bool = False) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.origin = Origin(self.network, HERE, raw=True) if alive else None
        self.answers: list[tuple[CheckResult | Unasked, Said | None]] = []
        server = ServerSettings("s1", "10.0.0.1", 8000, tls=ServerTls() if tls else None)
        check = AgentCheck(settings or AgentSettings((None, 8090)), 2.0, self.network, self.clock)
        done = Deferred.fromCoroutine(check.run(Server("app", server, Health())))
        done.addCallback(self.answers.append)
        self.network.run()

    def answered(self, data: bytes, *, close: bool = False) -> tuple[str, Said | None]:
        """What comes of an agent that says this."""
        assert self.origin is not None
        self.origin.last.send(data)
        if close:
            self.origin.last.close()
        self.network.run()
        return self.said

    @property
    def said(self) -> tuple[str, Said | None]:
        ((result, said),) = self.answers
        self.network.run()
        assert [skt for skt in self.network.sockets if skt.remote == HERE] == []
        assert self.clock.getDelayedCalls() == []
        assert isinstance(result, CheckResult)
        assert result.passed == (said is not None)
        return str(result), said


class TestAQuestion:
    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\nmaint\n"])
    def test_the_first_line_is_the_answer(self, end: bytes) -> None:
        assert Visit().answered(b"75% up" + end) == ("L7OK '75% up'", Said(share=0.75, word="up"))

    def test_without_its_end_it_is_none(self) -> None:
        visit = Visit()
        assert visit.origin is not None
        visit.origin.last.send(b"maint")
        visit.network.run(1)
        assert visit.answers == []
        said = ("L7RSP no end of the line: 'maint' 10.0.0.1:8090", None)
        assert visit.answered(b"", close=True) == said

    def test_the_agent_is_told_what_it_is_asked_for(self) -> None:
        visit = Visit(AgentSettings((None, 8090), send=b"state of {server}\n"))
        assert visit.origin is not None
        assert visit.origin.last.received == b"state of s1\n"
        assert visit.answered(b"up\n")[1] == Said(word="up")

    def test_an_agent_elsewhere(self) -> None:
        visit = Visit(AgentSettings(("10.0.0.1", 8090)))
        assert visit.answered(b"up\n")[1] == Said(word="up")

    def test_it_speaks_no_tls_even_if_the_server_does(self) -> None:
        assert Visit(tls=True).answered(b"up\n")[1] == Said(word="up")

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "L7RSP unknown word 'http/1.1' 10.0.0.1:8090"),
            (b"x" * 10_000_000, f"L7RSP more than {MAX_LINE} bytes 10.0.0.1:8090"),
            (b"up" + b" " * MAX_LINE + b"\n", f"L7RSP a line of more than {MAX_LINE} bytes 10.0.0.1:8090"),
        ],
    )
    def test_nonsense_is_nothing(self, data: bytes, code: str) -> None:
        assert Visit().answered(data) == (code, None)

    def test_silence_is_nothing(self) -> None:
        visit = Visit()
        visit.network.run(2)
        assert visit.said == ("L7TOUT no answer in time 10.0.0.1:8090", None)

    def test_nobody_there_is_nothing(self) -> None:
        assert Visit(alive=False).said == ("L4CON connection refused 10.0.0.1:8090", None)

    def test_closing_at_once_is_nothing(self) -> None:
        assert Visit().answered(b"", close=True) == ("L7RSP closed without a word 10.0.0.1:8090", None)


class Home(House):
    """A balancer whose servers app/s1 and app/s2 have agents at the ports 9101 and 9102."""

    def __init__(self, folder: Path, **more: Any) -> None:
        app = replace(
            SETTINGS.backends[0],
            servers=tuple(replace(each, host=f"10.0.0.{each.name[1:]}") for each in SETTINGS.backends[0].servers),
            check=CheckSettings(kind="none"),
            agent=AgentSettings((None, 9100), inter=1.0),
            **more,
        )
        super().__init__(folder, replace(SETTINGS, backends=(app, SETTINGS.backends[1])))
        self.network.alive = {("10.0.0.1", 9100), ("10.0.0.2", 9100)}

    def hears(self, *lines: bytes) -> None:
        """The next agents that are asked give these answers: s1, s2, and so on."""
        for line in lines:
            before = len(self.network.connections)
            for _ in range(32):
                if len(self.network.connections) > before:
                    break
                self.wait(STEP)
            self.network.connections[before].answer(line)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


class TestABalancer:
    def test_listens_to_the_agent_of_each_server(self, home: Home) -> None:
        with home.running(), heard("agent") as events:
            home.hears(b"drain #deploy\n", b"50% maxconn:3\n")
            assert [server.name for server in home.app.available] == ["s2"]
            assert (home["app/s2"].effective_weight, home["app/s2"].maxconn) == (1.5, 3)
            home.hears(b"ready\n", b"100%\n")
            assert len(home.app.available) == 2
        assert [formatEvent(event) for event in events] == [
            "agent of server app/s1 says drain (deploy), said ready",
            "agent of server app/s1 says ready, said drain (deploy)",
        ]

    def test_more_room_is_for_those_who_wait(self, home: Home) -> None:
        with home.running():
            home.control.drain("app/s2", by=By("anna"))
            home.hears(b"maxconn:1\n", b"up\n")
            lease_of(home.app)
            waiter = Waiter(home.app)
            assert waiter.served_by == ""
            home.hears(b"maxconn:2\n", b"up\n")
            assert waiter.served_by == "s1"

    def test_a_share_of_nothing_is_news(self, home: Home) -> None:
        with home.running(), heard("agent") as events:
            home.hears(b"0%\n", b"up\n")
            assert home["app/s1"] not in home.app.available
        assert [formatEvent(event) for event in events] == ["agent of server app/s1 says 0%, said ready"]

    def test_one_that_is_called_down_loses_its_idle_connections(self, home: Home) -> None:
        dropped: list[Server] = []
        home.balancer.monitor._down = dropped.append
        with home.running():
            home.hears(b"drain\n", b"down\n")
            home.hears(b"drain\n", b"down\n")
        assert dropped == [home["app/s2"]]

    def test_people_and_agents_do_not_overwrite_each_other(self, home: Home) -> None:
        with home.running():
            home.control.drain("app/s1", by=By("anna"))
            home.hears(b"ready up 100%\n", b"maint\n")
            assert (home["app/s1"].state, home["app/s2"].state) == ("DRAIN", "MAINT (agent)")
            home.control.ready("app/s2", by=By("anna"))
            assert (home["app/s2"].admin, home["app/s2"].state) == (Admin.READY, "MAINT (agent)")
            assert home.control.servers("app")[1].reason == "agent: maint; not checked"

    def test_one_that_is_called_up_again_starts_slowly(self, tmp_path: Path) -> None:
        home = Home(tmp_path, slowstart=100.0)
        with home.running():
            home.hears(b"50% down\n", b"up\n")
            assert home["app/s1"].ramp == 1.0
            home.hears(b"up\n", b"up\n")
            assert (home["app/s1"].ramp, home["app/s1"].effective_weight) == (0.1, 0.05)
            assert home["app/s2"].ramp == 1.0

    def test_but_not_while_its_checks_find_it_down(self, tmp_path: Path) -> None:
        home = Home(tmp_path, slowstart=100.0)
        with home.running():
            home.hears(b"down\n", b"up\n")
            home["app/s1"].health.up = False
            home.hears(b"up\n", b"up\n")
            assert home["app/s1"].ramp == 1.0

    def test_the_loss_of_an_agent_is_told_once_and_changes_nothing(self, home: Home) -> None:
        with home.running(), heard("agent-lost", "agent-understood") as events:
            home.hears(b"drain\n", b"up\n")
            for _ in range(3):
                home.hears(b"oops\n", b"up\n")
            assert home["app/s1"].state == "DRAIN (agent)"
            home.hears(b"drain\n", b"up\n")
        assert [formatEvent(event) for event in events] == [
            "agent of server app/s1 gives no usable answer; what it said last holds"
            " (L7RSP unknown word 'oops' 10.0.0.1:9100)",
            "agent of server app/s1 answers again (L7OK 'drain')",
        ]

    def test_in_maintenance_by_hand_nobody_is_asked(self, home: Home) -> None:
        with home.running():
            home.control.maint("app/s1", by=By("anna"))
            home.wait(5)
        assert {address for _, address in home.network.dialled} == {("10.0.0.2", 9100)}

    def test_maintenance_by_the_agent_stops_the_checks_but_not_the_agent(self, tmp_path: Path) -> None:
        app = replace(SETTINGS.backends[0], agent=AgentSettings((None, 9100), inter=1.0))
        house = House(
            tmp_path, replace(SETTINGS, backends=(replace(app, servers=app.servers[:1]), SETTINGS.backends[1]))
        )
        house.network.alive.add(("127.0.0.1", 9100))
        with house.running():
            house.wait(0.5)
            agent = [each for each in house.network.connections if not each.disconnecting]
            for transport in agent:
                transport.answer(b"maint\n")
            assert house["app/s1"].state == "MAINT (agent)"
            asked = len(house.network.dials_of(9001))
            house.wait(5)
            assert len(house.network.dials_of(9001)) == asked
            assert len(house.network.dials_of(9100)) > 2

    def test_out_of_its_maintenance_a_server_is_checked_at_once_and_starts_slowly(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = Home(tmp_path, slowstart=100.0)
        doubted: list[Server] = []
        monkeypatch.setattr(home.balancer.monitor, "doubt", doubted.append)
        with home.running():
            home.hears(b"maint\n", b"drain\n")
            assert (home["app/s1"].ramp, doubted) == (1.0, [])
            home.hears(b"ready\n", b"ready\n")
            assert (home["app/s1"].ramp, doubted) == (0.1, [home["app/s1"]])
            assert home["app/s2"].ramp == 1.0, "it was warm all the time"

    def test_ready_by_hand_asks_the_agent_at_once(self, home: Home) -> None:
        with home.running():
            home.hears(b"up\n", b"up\n")
            home.control.maint("app/s1", by=By("anna"))
            home.wait(2.3)
            before = len(home.network.dialled)
            home.control.ready("app/s1", by=By("anna"))
            home.wait(0)
            assert [address for _, address in home.network.dialled[before:]] == [("10.0.0.1", 9100)]

    def test_a_server_that_is_removed_has_no_agent_any_more(self, home: Home) -> None:
        with home.running():
            home.hears(b"up\n", b"up\n")
            home.control.remove("app/s1", by=By("anna"))
            home.wait(0.1)
            before = len(home.network.dialled)
            home.wait(3)
            assert {address for _, address in home.network.dialled[before:]} == {("10.0.0.2", 9100)}

    def test_its_answers_are_kept(self, home: Home) -> None:
        with home.running():
            home.hears(b"75%\n", b"up\n")
            (row,) = home.control.health("app/s1")
        assert (row.by, row.result, row.code, row.detail) == ("agent", "passed", "L7OK", "'75%'")

"""Each kind of change that a reload may bring, what stays as it was, and that a mistake changes nothing."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.logger import LogEvent, globalLogPublisher

from lbservice.core.pick import OK as GOOD
from lbservice.core.pick import Outcome
from lbservice.errors import ControlError
from lbservice.policies.least import LeastConn
from lbservice.policies.sticky import Sticky
from tests.core.build import lease_of
from tests.services.fakes import heard
from tests.services.live import ANNA, Live, ini
from tests.support.actors import OK, Origin, response
from tests.support.house import SecureNetwork

MakeLive = Callable[..., Live]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHECKED = "check = tcp\ninter = 2s\nfall = 2\nrise = 2"


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeLive]:
    """Live, closed at the end; nothing may break unseen."""
    monkeypatch.chdir(tmp_path)
    made: list[Live] = []
    failures: list[Any] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            failures.append(event["log_failure"])

    observer: Any = observe
    globalLogPublisher.addObserver(observer)

    def start(config: str = ini(), **how: Any) -> Live:
        made.append(Live(tmp_path, config, **how))
        return made[-1]

    yield start
    for live in made:
        live.close()
    globalLogPublisher.removeObserver(observer)
    assert failures == []


def details(live: Live, config: str) -> tuple[str, ...]:
    """What a reload with this file says."""
    return live.reload(config).details


class TestServers:
    def test_those_that_stay_keep_health_counters_and_connections(self, make: MakeLive) -> None:
        live = make(ini(backend=CHECKED, servers=2))
        live.origin(1)
        live.run(5)
        one, two = live["app/s1"], live["app/s2"]
        assert (one.health.word, two.health.word) == ("UP", "DOWN")
        client = live.client()
        client.ask(GET)
        checks = len(one.health.history)
        live.reload(ini("timeout client = 9s", f"{CHECKED}\ntimeout server = 9s\nbalance = leastconn", servers=3))
        assert (live["app/s1"], live["app/s2"]) == (one, two)
        assert (one.requests, two.health.up, len(one.health.history)) == (1, False, checks)
        before = len(live.origins[0].connections)
        client.ask(GET)
        assert len(live.origins[0].connections) == before  # nor is the idle connection to it closed

    def test_one_comes_one_goes_and_the_order_is_the_files(self, make: MakeLive) -> None:
        live = make(ini(servers=2))
        said = details(live, ini(servers=0, more="server s3 = 10.0.0.3:8000\nserver s2 = 10.0.0.2:8000"))
        assert said == (
            "[backend app] server s1: 10.0.0.1:8000 -> absent",
            "[backend app] server s3: absent -> 10.0.0.3:8000",
        )
        assert [server.name for server in live.app] == ["s3", "s2"]
        assert [server.name for server in live.app.available] == ["s3", "s2"]

    @pytest.mark.parametrize(
        ("words", "shown"),
        [
            ("weight=7", lambda server: server.effective_weight == 7),
            ("maxconn=3", lambda server: server.maxconn == 3),
            ("backup", lambda server: server.settings.backup),
            ("state=drain", lambda server: server.state == "DRAIN"),
            ("state=maint", lambda server: server.state == "MAINT"),
            ("slowstart=5s", lambda server: server.settings.slowstart == 5),
        ],
    )
    def test_whatever_else_its_line_says(self, make: MakeLive, words: str, shown: Callable[[Any], bool]) -> None:
        live = make(ini(servers=2))
        one = live["app/s1"]
        live.reload(ini(servers=2).replace("10.0.0.1:8000", f"10.0.0.1:8000 {words}"))
        assert live["app/s1"] is one
        assert shown(one)
        live.reload(ini(servers=2))
        assert not shown(one)
        assert len(live.app.available) == 2

    def test_a_new_address_means_new_connections(self, make: MakeLive) -> None:
        live = make()
        old, new = live.origin(1), live.origin(5)
        client = live.client()
        client.ask(GET)
        one = live["app/s1"]
        live.reload(ini().replace("10.0.0.1", "10.0.0.5"))
        live.run()
        assert (old.open, live["app/s1"]) == (0, one)
        assert response(client.ask(GET)).status == 200
        assert (len(old.requests), len(new.requests)) == (1, 1)

    def test_renewed_authorities_of_a_server_with_tls(self, make: MakeLive, tmp_path: Path) -> None:
        old, new = trustme.CA(), trustme.CA()
        pem = tmp_path / "server.pem"
        new.issue_cert("app.test").private_key_and_cert_chain_pem.write_to_path(pem)
        old.cert_pem.write_to_path(tmp_path / "ca.pem")
        live = make(ini().replace("10.0.0.1:8000", "10.0.0.1:8000 tls ca=ca.pem sni=app.test"))
        live.origins.append(Origin(SecureNetwork(live.network, str(pem)), ("10.0.0.1", 8000)))  # type: ignore[arg-type]
        client = live.client()
        assert response(client.ask(GET)).status == 503
        new.cert_pem.write_to_path(tmp_path / "ca.pem")
        live.reload()
        assert response(client.ask(GET)).status == 200

    def test_one_that_is_still_leaving_comes_back(self, make: MakeLive) -> None:
        live = make(ini(servers=2))
        lease = next(lease for lease in (lease_of(live.app), lease_of(live.app)) if lease.server.name == "s1")
        one = lease.server
        live.reload(ini(servers=0, more="server s2 = 10.0.0.2:8000"))
        assert one.leaving
        live.reload(ini(servers=2))
        assert live["app/s1"] is one
        assert not one.leaving
        assert one in live.app.available
        lease.done(Outcome(GOOD, 200))
        assert live["app/s1"] is one
        for other in live.app:
            other.in_flight = 0
        live.app.in_flight = 0

    def test_no_check_is_obeyed(self, make: MakeLive) -> None:
        live = make(ini(backend=CHECKED))
        live.run(5)
        assert live["app/s1"].state == "DOWN"
        live.reload(ini(backend=CHECKED).replace("10.0.0.1:8000", "10.0.0.1:8000 no-check"))
        assert (live["app/s1"].state, live["app/s1"].reason) == ("UP", "not checked")
        live.reload(ini(backend=CHECKED))
        live.run(5)
        assert live["app/s1"].state == "DOWN"

    def test_what_was_changed_at_run_time_stays_unless_the_file_changes_it(self, make: MakeLive) -> None:
        live = make(ini(servers=3))
        live.control.weight("app/s1", 9, by=ANNA)
        live.control.drain("app/s2", by=ANNA)
        live.control.remove("app/s3", by=ANNA)
        change = live.reload(ini(servers=3).replace("10.0.0.2:8000", "10.0.0.2:8000 weight=2"))
        assert (live["app/s1"].weight, live["app/s2"].weight, live["app/s2"].state) == (9, 2, "DRAIN")
        assert [server.name for server in live.app] == ["s1", "s2"]
        assert "kept, though not in the file: [backend app] server s1: 10.0.0.1:8000 -> 10.0.0.1:8000 weight=9" in (
            change.details
        )
        change = live.reload(ini(servers=3).replace("10.0.0.1:8000", "10.0.0.1:8000 weight=4"))
        assert "app/s1 weight: as the file says, not as it was changed since" in change.details
        assert (live["app/s1"].weight, live["app/s2"].state) == (4, "DRAIN")
        live.reload(discard=True)
        assert [server.name for server in live.app] == ["s1", "s2", "s3"]
        assert live["app/s2"].state == "UP"


class TestBackends:
    @pytest.mark.parametrize("kind", ["leastconn", "random(2)", "least-time", "peak-ewma", "first", "maglev source"])
    def test_another_policy_and_back_with_requests_in_flight(self, make: MakeLive, kind: str) -> None:
        live = make(ini(servers=3))
        for config in (ini(backend=f"balance = {kind}", servers=3), ini(servers=3)) * 2:
            leases = [lease_of(live.app) for _ in range(9)]
            live.reload(config)
            more = [lease_of(live.app) for _ in range(9)]
            for lease in leases + more:
                lease.streams()
                lease.done(Outcome(GOOD, 200, 0.1))
        assert live.app.in_flight == 0

    def test_the_policy_stays_while_nothing_of_it_changes(self, make: MakeLive) -> None:
        live = make(ini(backend="balance = peak-ewma"))
        policy = live.app.policy
        live.reload(ini("timeout client = 9s", "balance = peak-ewma\ntimeout server = 9s", servers=3))
        assert live.app.policy is policy

    def test_checks_begin_and_end_and_change(self, make: MakeLive) -> None:
        live = make(ini(servers=2))
        live.run(5)
        assert live["app/s1"].state == "UP"
        live.reload(ini(backend=CHECKED, servers=2))
        live.run(5)
        assert live["app/s1"].state == "DOWN"
        live.origin(1)
        live.reload(ini(backend=CHECKED.replace("rise = 2", "rise = 3"), servers=2))
        live.run(3)
        assert live["app/s1"].state == "DOWN 2/3"
        live.reload(ini(servers=2))
        assert [server.state for server in live.app] == ["UP", "UP"]
        assert len(live.app.available) == 2
        before = len(live.origins[0].connections)
        live.run(10)
        assert len(live.origins[0].connections) == before

    def test_new_checks_are_spread_over_their_interval(self, make: MakeLive) -> None:
        live = make(ini(servers=4))
        for number in range(1, 5):
            live.origin(number)
        live.reload(ini(backend="check = tcp\ninter = 8s", servers=4))
        live.run(1)
        assert [len(origin.connections) for origin in live.origins] == [1, 0, 0, 0]
        live.run(6)
        assert [len(origin.connections) for origin in live.origins] == [1, 1, 1, 1]

    def test_an_agent_comes_and_goes(self, make: MakeLive) -> None:
        live = make()
        live.origin(1, raw=True, greeting=b"drain 50%\n")
        agent = "agent-check = 8000\nagent-inter = 1s"
        live.reload(ini(backend=agent))
        live.run(2)
        assert live["app/s1"].state == "DRAIN (agent)"
        live.reload(ini())
        assert live["app/s1"].state == "UP"
        assert live["app/s1"].effective_weight == 1
        assert live["app/s1"] in live.app.available

    def test_passive_health_comes_and_goes(self, make: MakeLive) -> None:
        live = make(ini(servers=2))
        outlier = "outlier = 5xx\noutlier-limit = 1\noutlier-ejection = 5s\noutlier-share = 100%"

        def fail() -> None:
            lease = lease_of(live.app)
            lease.done(Outcome(GOOD, 500))

        fail()
        assert len(live.app.available) == 2
        live.reload(ini(backend=outlier, servers=2))
        fail()
        assert len(live.app.available) == 1
        live.reload(ini(servers=2))
        live.run(10)
        assert len(live.app.available) == 2
        fail()
        assert len(live.app.available) == 2

    def test_panic_that_is_switched_off_is_over(self, make: MakeLive) -> None:
        live = make(ini(backend=f"{CHECKED}\npanic = 60%", servers=2))
        live.origin(1)
        live.run(5)
        assert live.app.panicking
        live.reload(ini(backend=CHECKED, servers=2))
        assert not live.app.panicking
        assert [server.name for server in live.app.available] == ["s1"]
        live.reload(ini(backend=f"{CHECKED}\npanic = 60%", servers=2))
        assert live.app.panicking

    def test_slow_start_counts_from_the_next_start_on(self, make: MakeLive) -> None:
        live = make()
        live.reload(ini(backend="slowstart = 10s", servers=2))
        assert live["app/s1"].ramp == 1.0
        assert live["app/s2"].ramp == pytest.approx(0.1)
        live.run(11)
        assert live["app/s2"].ramp == 1.0

    def test_sticky_comes_and_goes(self, make: MakeLive) -> None:
        live = make(ini(servers=2))
        live.origin(1)
        live.origin(2)
        client = live.client()
        for config, cookies in ((ini(backend="sticky = cookie SRV", servers=2), 1), (ini(servers=2), 0)) * 2:
            live.reload(config)
            assert len(response(client.ask(GET)).all("Set-Cookie")) == cookies

    def test_a_new_sticky_key_in_the_same_file(self, make: MakeLive, tmp_path: Path) -> None:
        key = tmp_path / "sticky.key"
        key.write_text("one secret of many bytes")
        key.chmod(0o600)
        live = make(ini(backend="sticky = cookie SRV\nsticky-key = sticky.key"))
        policy = live.app.policy
        assert isinstance(policy, Sticky)
        assert not live.reload().changed
        key.write_text("two secrets of many bytes")
        assert live.reload().changed
        assert isinstance(live.app.policy, Sticky)
        assert live.app.policy.token(live["app/s1"]) != policy.token(live["app/s1"])

    @pytest.mark.parametrize(
        ("line", "seen"),
        [
            ("request-header X-A = set b", lambda live, answer: b"X-A: b\r\n" in live.origins[0].requests[-1]),
            ("response-header X-A = set b", lambda live, answer: answer.all("X-A") == ["b"]),
            ("max-body = 1B", lambda live, answer: answer.status == 413),
        ],
    )
    def test_what_it_does_to_requests(self, make: MakeLive, line: str, seen: Callable[[Live, Any], bool]) -> None:
        live = make()
        live.origin()
        client = live.client()
        request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"
        for _ in range(2):
            live.reload(ini(backend=line))
            assert seen(live, response(client.ask(request)))
            live.reload(ini())
            assert not seen(live, response(client.ask(request)))

    def test_error_pages_and_new_words_in_them(self, make: MakeLive, tmp_path: Path) -> None:
        page = tmp_path / "503.html"
        page.write_text("one")
        config = ini(backend="error-page 503 = 503.html", servers=0, more="server s1 = 10.0.0.1:8000 state=maint")
        live = make(ini(servers=0, more="server s1 = 10.0.0.1:8000 state=maint"))
        client = live.client()
        live.reload(config)
        assert response(client.ask(GET)).body == b"one"
        page.write_text("two")
        assert details(live, config) == ("[frontend web] 503.html: read again",)
        assert response(client.ask(GET)).body == b"two"

    def test_a_route_to_a_new_backend_and_away_again(self, make: MakeLive) -> None:
        live = make()
        live.origin()
        live.origin(7)
        client = live.client()
        api = ini("route api = api path=/", more="[backend api]\ncheck = none\nserver a1 = 10.0.0.7:8000")
        for _ in range(3):
            live.reload(api)
            client.ask(GET)
            live.reload(ini())
            client.ask(GET)
        assert [len(origin.requests) for origin in live.origins] == [3, 3]
        assert list(live.balancer.backends) == ["app"]

    def test_one_that_is_gone_lets_its_requests_finish_and_may_come_back_meanwhile(self, make: MakeLive) -> None:
        api = ini("route api = api path=/api", more="[backend api]\noutlier = 5xx\nserver a1 = 10.0.0.7:8000")
        live = make(api)
        lease = lease_of(live.balancer.backends["api"])
        live.reload(ini())
        live.reload(api)
        assert live["api/a1"] is not lease.server
        lease.done(Outcome(GOOD, 500))
        assert live.balancer._former == []
        assert len(live.balancer.backends["api"].available) == 1


class TestNothing:
    def test_the_same_file_is_no_change(self, make: MakeLive) -> None:
        live = make()
        factory = live.factory
        with heard("change", "reload-unchanged") as events:
            change = live.reload()
        assert str(change) == f"{live.path}: already in force"
        assert [event["event"] for event in events] == ["reload-unchanged"]
        assert live.factory is factory

    def test_what_needs_a_restart_is_told(self, make: MakeLive) -> None:
        live = make()
        said = details(live, ini(top="[loadbalancer]\nlog = other.log\nsplice = off\ngrace = 5s"))
        assert said[-2:] == ("log: from the next start on", "splice: from the next start on")
        assert live.balancer.settings.grace == 5
        assert live.balancer.settings.splice

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (ini("timeout cleint = 5s"), r"lb\.ini:5: \[frontend web\] timeout cleint"),
            (ini().replace("backend = app", "backend = ap"), r"lb\.ini:4: .* did you mean 'app'"),
            (ini(listen="192.0.2.1:80 tls cert=none.pem"), r"lb\.ini:3: .*none\.pem"),
            (ini("error-page 503 = none.html"), r"lb\.ini:5: .*none\.html"),
            (ini(backend="sticky = cookie A\nsticky-key = none.key"), r"lb\.ini:9: .*none\.key"),
            (ini(backend="balance = nobody:Nothing"), r"lb\.ini:8: .*no module nobody"),
            ("", "no \\[frontend NAME\\] section"),
        ],
    )
    def test_a_mistake_changes_nothing_and_is_told_with_its_line(
        self, make: MakeLive, config: str, message: str
    ) -> None:
        live = make()
        before = live.balancer.running_settings, live.factory, live.app.policy
        with heard("reload-failed") as events, pytest.raises(ControlError, match=message):
            live.reload(config)
        assert (live.balancer.running_settings, live.factory, live.app.policy) == before
        assert len(events) == 1
        assert live.control.changes() == ()
        assert live.reload(ini()).changed is False

    def test_a_file_that_is_gone_changes_nothing(self, make: MakeLive) -> None:
        live = make()
        live.path.unlink()
        with pytest.raises(ControlError, match="no such file"):
            live.reload()

    def test_what_only_opening_shows_has_its_line_too(self, make: MakeLive, tmp_path: Path) -> None:
        """Somebody takes the page away between the reading of lb.ini and its own."""
        live = make()
        page = tmp_path / "503.html"
        page.write_text("one")
        live.write(ini("error-page 503 = 503.html"))
        wanted = live.control._read()
        page.unlink()
        with pytest.raises(
            ControlError, match=r"lb\.ini:5: \[frontend web\] error-page 503: 503\.html cannot be read: No such"
        ):
            live.balancer.become(wanted)

    def test_authorities_that_cannot_be_read(self, make: MakeLive, tmp_path: Path) -> None:
        live = make()
        for content in ("nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
            (tmp_path / "ca.pem").write_text(content)
            with pytest.raises(ControlError, match=r"lb\.ini:9: \[backend app\] server s1: ca=ca\.pem: .*in PEM"):
                live.reload(ini().replace("10.0.0.1:8000", "10.0.0.1:8000 tls ca=ca.pem"))

    def test_an_undo_that_would_take_a_backend_that_is_needed(self, make: MakeLive) -> None:
        live = make()
        api = "[backend api]\nserver a1 = 10.0.0.7:8000"
        live.reload(ini("route api = api path=/api", more=api))
        live.reload(ini("route v2 = api path=/v2", more=api))
        before = live.balancer.running_settings
        with pytest.raises(ControlError):
            live.control.undo(1, by=ANNA)
        assert live.balancer.running_settings == before

    def test_a_reload_can_be_undone(self, make: MakeLive) -> None:
        live = make(ini(servers=2))
        live.origin(1)
        before = live.balancer.running_settings
        live.reload(ini("methods = GET", "balance = leastconn", servers=3, listen="192.0.2.1:80, 192.0.2.1:81"))
        live.control.undo(1, by=ANNA)
        assert live.balancer.running_settings == before
        assert not live.client(("192.0.2.1", 81)).connected

    def test_who_wants_to_hear_of_it_does_also_of_a_failure(self, make: MakeLive) -> None:
        live = make()
        heard_of: list[bool] = []
        live.control.reloading.append(heard_of.append)
        live.reload(ini("timeout client = 9s"))
        with pytest.raises(ControlError):
            live.reload("")
        assert heard_of == [True, False, True, False]


class TestOwnPolicy:
    SOURCE = (
        "from lbservice.testing import Policy\n\nWHICH = {}\n\n\nclass Mine(Policy):\n"
        "    def pick(self, candidates, info):\n        return candidates[WHICH]\n"
    )

    @pytest.fixture
    def module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        import sys

        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
        name = f"policy_of_{os.getpid()}_{id(tmp_path)}"
        yield tmp_path / f"{name}.py"
        sys.modules.pop(name, None)

    def test_is_as_its_file_says_now(self, make: MakeLive, module: Path) -> None:
        module.write_text(self.SOURCE.format(0))
        live = make(ini(backend=f"balance = {module.stem}:Mine", servers=3))
        assert self.picked(live) == "s1"
        assert not live.reload().changed
        # In the same second, and of the same size: what the interpreter remembers of a file would not tell them apart.
        module.write_text(self.SOURCE.format(2).replace("2", "1"))
        change = live.reload()
        assert change.details == (f"[backend app] balance = {module.stem}:Mine: made anew",)
        assert self.picked(live) == "s2"
        assert not live.reload().changed

    @pytest.mark.parametrize(
        "broken",
        ["def f(:\n", "WHICH = 2\n1 / 0\n", "WHICH = 2\n", "raise SystemExit\n"],
    )
    def test_one_that_is_broken_now_leaves_the_old_one_as_it_was(
        self, make: MakeLive, module: Path, broken: str
    ) -> None:
        module.write_text(self.SOURCE.format(0))
        live = make(ini(backend=f"balance = {module.stem}:Mine", servers=3))
        policy = live.app.policy
        module.write_text(broken)
        with pytest.raises(ControlError, match=r"lb\.ini:8: .*balance"):
            live.reload()
        assert live.app.policy is policy
        assert self.picked(live) == "s1"
        module.write_text(self.SOURCE.format(1))
        live.reload()
        assert self.picked(live) == "s2"

    def test_one_that_was_given_up_gets_another_chance(self, make: MakeLive, module: Path) -> None:
        module.write_text(self.SOURCE.format("len(candidates) if info.source == 'x' else 0").replace("[WHICH]", "[9]"))
        module.write_text(self.SOURCE.format(0))
        live = make(ini(backend=f"balance = {module.stem}:Mine", servers=3))
        live.balancer.given_up.add("app")
        policy = live.app.policy
        live.reload()
        assert live.app.policy is not policy
        assert live.balancer.given_up == set()

    @staticmethod
    def picked(live: Live) -> str:
        lease = lease_of(live.app)
        lease.done(Outcome(GOOD, 200))
        return lease.server.name


def test_a_thousand_reloads_leave_nothing_behind(make: MakeLive) -> None:
    live = make(ini(servers=2))
    live.origin(1, OK)
    live.origin(2, OK)
    live.origin(3, OK)
    client = live.client()
    tunnel = live.client()
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    live.origin(9, switch)
    api = "route ws = ws path=/ws", "[backend ws]\ncheck = none\nserver w = 10.0.0.9:8000"
    live.reload(ini(api[0], servers=2, more=api[1]))
    assert b"101" in tunnel.ask(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    seen: list[weakref.ref[Any]] = []
    for number in range(1000):
        web = f"timeout client = {20 + number % 7}s" + ("\nmethods = GET" if number % 3 == 0 else "")
        app = f"balance = {('roundrobin', 'leastconn')[number % 2]}\n{CHECKED if number % 4 else 'check = none'}"
        listen = "192.0.2.1:80" + (", 192.0.2.1:81" if number % 2 else "")
        live.reload(ini(f"{web}\n{api[0]}", app, servers=2 + number % 2, listen=listen, more=api[1]))
        seen += [weakref.ref(live.factory), weakref.ref(live.app.policy)]
        if number % 50 == 0:
            assert response(client.ask(GET)).status == 200
            live.run(1)
        if number in (100, 999):
            gc.collect()
            sizes = len(live.clock.getDelayedCalls()), len(live.network.sockets)
            if number == 100:
                at_first = sizes
    assert isinstance(live.app.policy, LeastConn)
    assert sizes[0] <= at_first[0] + 3
    assert sizes[1] <= at_first[1] + 3
    assert len(live.balancer.everywhere) == 2  # the tunnel's own, and the one in force
    assert len({id(each()) for each in seen if each() is not None}) <= 4
    assert len(live.control.changes(10_000)) == 500

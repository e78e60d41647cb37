from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.logger import formatEvent

from lbservice.core.change import By
from lbservice.core.server import Admin
from lbservice.core.settings import ServerSettings
from lbservice.errors import ControlError
from lbservice.services.control import milliseconds
from tests.core.build import CLIENT, GOOD, lease_of
from tests.services.fakes import heard
from tests.services.house import House, server


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


UNSAVED = "; a restart forgets it, unless it is saved"
VERBS = [("drain", "drain", "DRAIN"), ("maint", "maint", "MAINT")]


class TestAdminStates:
    @pytest.mark.parametrize(("verb", "after", "word"), VERBS)
    def test_a_server_taken_out_gets_nothing_new_until_it_is_ready_again(
        self, house: House, verb: str, after: str, word: str
    ) -> None:
        change = getattr(house.control, verb)("app/s1", by=By("anna"))
        assert str(change) == f"app/s1: set to {after}, ready -> {after} (change 1{UNSAVED})"
        assert house["app/s1"].state == word
        assert house.app.available == (house["app/s2"],)
        back = house.control.ready("app/s1", by=By("anna"))
        assert str(back) == f"app/s1: set to ready, {after} -> ready (change 2{UNSAVED})"
        assert len(house.app.available) == 2

    def test_each_change_is_one_event_that_names_who_did_it(self, house: House) -> None:
        with heard("change") as events:
            house.control.drain("app/s1", by=By("anna"))
            house.control.maint("app/s1", by=By("ben"))
            house.control.weight("app/s2", 7, by=By("cora"))
        assert [formatEvent(event) for event in events] == [
            "server app/s1 set to drain by anna (ready -> drain), change 1",
            "server app/s1 set to maint by ben (drain -> maint), change 2",
            "server app/s2 weight set by cora (weight 3 -> weight 7), change 3",
        ]
        assert [event["actor"] for event in events] == ["anna", "ben", "cora"]
        assert (events[0]["target"], events[0]["before"], events[0]["after"]) == ("app/s1", "ready", "drain")

    def test_asking_for_what_is_so_already_is_no_error_and_no_event(self, house: House) -> None:
        house.control.drain("app/s1", by=By("anna"))
        with heard("change") as events:
            changes = [
                house.control.drain("app/s1", by=By("ben")),
                house.control.ready("app/s2", by=By("ben")),
                house.control.weight("app/s2", 3, by=By("ben")),
            ]
        assert [str(change) for change in changes] == [
            "app/s1: already drain",
            "app/s2: already ready",
            "app/s2: already weight 3",
        ]
        assert events == []

    def test_health_is_not_touched(self, house: House) -> None:
        house["app/s1"].health.up = False
        house.app.refresh()
        house.control.maint("app/s1", by=By("anna"))
        house.control.ready("app/s1", by=By("anna"))
        assert house["app/s1"] not in house.app.available

    def test_the_last_server_may_be_taken_out_too(self, house: House) -> None:
        house.control.drain("pg/s3", by=By("anna"))
        assert house.balancer.backends["pg"].acquire(CLIENT) is None


class TestMaintenance:
    def test_the_checks_pause_and_the_next_one_after_it_comes_at_once_and_decides_alone(self, house: House) -> None:
        with house.running():
            house.wait(3)
            house.control.maint("app/s1", by=By("anna"))
            before = len(house.network.dials_of(9001))
            house.network.alive.remove(("127.0.0.1", 9001))
            house.wait(60)
            assert len(house.network.dials_of(9001)) == before
            house.control.ready("app/s1", by=By("anna"))
            house.wait(0.5)
            assert house["app/s1"].state == "DOWN"

    def test_one_that_was_down_before_is_up_with_its_first_good_check(self, house: House) -> None:
        with house.running():
            house.network.alive.remove(("127.0.0.1", 9001))
            house.wait(8)
            assert house["app/s1"].state == "DOWN"
            house.control.maint("app/s1", by=By("anna"))
            house.network.alive.add(("127.0.0.1", 9001))
            house.wait(10)
            house.control.ready("app/s1", by=By("anna"))
            house.wait(0.5)
            assert house["app/s1"].state == "UP"

    def test_draining_changes_nothing_about_checks(self, house: House) -> None:
        with house.running():
            house.wait(3)
            house.control.drain("app/s1", by=By("anna"))
            before = len(house.network.dials_of(9001))
            house.wait(6)
            assert len(house.network.dials_of(9001)) == before + 3
            house.control.ready("app/s1", by=By("anna"))
            assert house["app/s1"].state == "UP"

    def test_idle_connections_are_closed_in_maintenance_only(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dropped: list[str] = []
        monkeypatch.setattr(house.balancer.pool, "drop", lambda server: dropped.append(server.path))
        house.control.drain("app/s1", by=By("anna"))
        assert dropped == []
        house.control.maint("app/s2", by=By("anna"))
        assert dropped == ["app/s2"]


class TestWeight:
    @pytest.mark.parametrize("weight", [0, 1, 256])
    def test_from_0_to_256(self, house: House, weight: int) -> None:
        house.control.weight("app/s1", weight, by=By("anna"))
        assert house["app/s1"].weight == weight
        assert (house["app/s1"] in house.app.available) == (weight > 0)

    def test_it_counts_from_the_next_request_on(self, house: House) -> None:
        house.control.weight("app/s2", 1, by=By("anna"))
        served = [lease_of(house.app).server.name for _ in range(4)]
        assert sorted(served) == ["s1", "s1", "s2", "s2"]

    @pytest.mark.parametrize("weight", [-1, 257, 1.0, "5", True, None])
    def test_anything_else_changes_nothing(self, house: House, weight: Any) -> None:
        with pytest.raises(ControlError, match="give a whole number from 0 to 256") as caught:
            house.control.weight("app/s2", weight, by=By("anna"))
        assert str(caught.value).startswith(f"weight {weight!r}:")
        assert house["app/s2"].weight == 3


class TestAdding:
    def test_a_new_server_is_used_at_once(self, house: House) -> None:
        with heard("change") as events:
            change = house.control.add("app", server(4, weight=2), by=By("anna"))
        assert str(change) == f"app/s4: added, absent -> 127.0.0.1:9004 weight 2 (change 1{UNSAVED})"
        assert [server.name for server in house.app.available] == ["s1", "s2", "s4"]
        assert formatEvent(events[0]) == "server app/s4 added by anna (absent -> 127.0.0.1:9004 weight 2), change 1"

    def test_and_checked_at_once(self, house: House) -> None:
        with house.running():
            house.wait(0.5)
            house.control.add("app", server(4), by=By("anna"))
            house.wait(3)
        assert house.network.dials_of(9004) == [1000.5, 1002.5]

    def test_one_that_is_not_there_is_down_after_its_first_check(self, house: House) -> None:
        house.network.alive.remove(("127.0.0.1", 9004))
        with house.running():
            house.control.add("app", server(4), by=By("anna"))
            assert house["app/s4"] in house.app.available
            house.wait(0.5)
            assert house["app/s4"].state == "DOWN"
            assert house["app/s4"].health.reason == "L4CON connection refused 127.0.0.1:9004"

    def test_one_without_checks_is_up_for_good(self, house: House) -> None:
        house.network.alive.clear()
        with house.running():
            house.control.add("app", ServerSettings("s4", "127.0.0.1", 9004, check=False), by=By("anna"))
            house.wait(10)
            assert (house["app/s4"].state, house["app/s4"].health.reason) == ("UP", "not checked")
        assert house.network.dials_of(9004) == []

    def test_a_name_is_given_once_in_a_backend(self, house: House) -> None:
        with pytest.raises(ControlError, match=r"^app/s1: a server of that name exists$"):
            house.control.add("app", server(1), by=By("anna"))
        house.control.add("pg", server(1), by=By("anna"))
        assert house["pg/s1"] is not house["app/s1"]

    def test_a_name_that_is_still_leaving_is_not_free_yet(self, house: House) -> None:
        lease = lease_of(house.app)
        path = lease.server.path
        house.control.remove(path, by=By("anna"))
        again = server(int(lease.server.name[1:]))
        with pytest.raises(ControlError, match="it is still draining; wait until it is gone"):
            house.control.add("app", again, by=By("anna"))
        lease.done(GOOD)
        house.control.add("app", again, by=By("anna"))
        assert house[path] is not lease.server


class TestRemoving:
    def test_an_idle_server_is_gone(self, house: House) -> None:
        with heard("change", "server-gone") as events:
            change = house.control.remove("app/s1", by=By("anna"))
        assert str(change) == f"app/s1: removed, 127.0.0.1:9001 UP 1/2, 0 in flight -> gone (change 1{UNSAVED})"
        assert list(house.app.servers) == ["s2"]
        assert sorted(event["event"] for event in events) == ["change", "server-gone"]

    def test_a_busy_one_finishes_first(self, house: House) -> None:
        leases = [lease_of(house.app) for _ in range(4)]
        (lease,) = (lease for lease in leases if lease.server.name == "s1")
        with heard("server-gone") as before:
            change = house.control.remove("app/s1", by=By("anna"))
        assert change.after == "leaving, 1 in flight"
        assert house["app/s1"].leaving
        with heard("server-gone") as after:
            lease.done(GOOD)
        assert (len(before), len(after)) == (0, 1)
        assert "s1" not in house.app.servers

    def test_its_checks_end_with_it(self, house: House) -> None:
        with house.running():
            house.wait(0.5)
            house.control.remove("app/s1", by=By("anna"))
            house.wait(10)
        assert house.network.dials_of(9001) == [1000.0]

    def test_removing_it_again_while_it_leaves_is_nothing_new(self, house: House) -> None:
        leases = [lease_of(house.app) for _ in range(4)]
        house.control.remove("app/s1", by=By("anna"))
        with heard("change") as events:
            change = house.control.remove("app/s1", by=By("ben"))
        assert not change.changed
        assert str(change) == "app/s1: already leaving, 1 in flight"
        assert events == []
        assert len(leases) == 4

    @pytest.mark.parametrize("verb", ["ready", "drain", "maint"])
    def test_one_that_leaves_is_not_called_back(self, house: House, verb: str) -> None:
        leases = [lease_of(house.app) for _ in range(4)]
        house.control.remove("app/s1", by=By("anna"))
        with pytest.raises(ControlError, match="app/s1: being removed; add it again when it is gone"):
            getattr(house.control, verb)("app/s1", by=By("anna"))
        assert house["app/s1"].admin is Admin.DRAIN
        assert len(leases) == 4


class TestMistakes:
    """Nothing is changed, and the sentence says what there is."""

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("s1", "'s1': name a server as BACKEND/SERVER, e.g. app/s1"),
            ("", "'': name a server as BACKEND/SERVER, e.g. app/s1"),
            ("ap/s1", "no backend 'ap'; there are: app, pg"),
            ("/s1", "no backend ''; there are: app, pg"),
            ("app/s9", "no server 's9' in backend app; there are: s1, s2"),
            ("app/", "no server '' in backend app; there are: s1, s2"),
            ("app/s1/x", "no server 's1/x' in backend app; there are: s1, s2"),
        ],
    )
    @pytest.mark.parametrize("verb", ["ready", "drain", "maint", "remove"])
    def test_a_server_that_is_not_there(self, house: House, verb: str, path: str, words: str) -> None:
        with heard("change") as events, pytest.raises(ControlError) as caught:
            getattr(house.control, verb)(path, by=By("anna"))
        assert str(caught.value) == words
        assert events == []

    def test_a_backend_that_is_not_there(self, house: House) -> None:
        for ask in (
            lambda: house.control.add("ap", server(4), by=By("anna")),
            lambda: house.control.servers("ap"),
        ):
            with pytest.raises(ControlError, match="no backend 'ap'; there are: app, pg"):
                ask()

    def test_an_empty_backend_says_none(self, house: House) -> None:
        house.control.remove("pg/s3", by=By("anna"))
        with pytest.raises(ControlError, match="no server 's3' in backend pg; there are: none"):
            house.control.drain("pg/s3", by=By("anna"))


class TestQuestions:
    def test_servers_are_in_the_order_of_the_configuration(self, house: House) -> None:
        assert [row.server for row in house.control.servers()] == ["app/s1", "app/s2", "pg/s3"]
        assert [row.server for row in house.control.servers("pg")] == ["pg/s3"]

    def test_a_server_in_one_row(self, house: House) -> None:
        for _ in range(4):
            lease_of(house.app)
        busy = house["app/s2"]
        busy.connect_errors, busy.timeouts, busy.resets = 1, 2, 4
        house.clock.advance(60)
        row = house.control.servers("app")[1]
        assert (row.address, row.state, row.reason) == ("127.0.0.1:9002", "UP 1/2", "not checked yet")
        assert (row.since, row.weight, row.in_flight, row.requests, row.errors) == (60.0, 3, 3, 3, 7)

    def test_the_last_check_in_the_row(self, house: House) -> None:
        assert house.control.servers("app")[0].last_check == "-"
        with house.running():
            house.wait(0.5)
            assert house.control.servers("app")[0].last_check == "L4OK 62ms"

    def test_the_checks_of_a_server_the_newest_first(self, house: House) -> None:
        assert house.control.health("app/s1") == ()
        with house.running():
            house.wait(0.5)
            house.network.alive.clear()
            house.wait(2)
            rows = house.control.health("app/s1")
        assert [(row.by, row.result, row.code, row.took, row.detail) for row in rows] == [
            ("check", "failed", "L4CON", "62ms", "connection refused 127.0.0.1:9001"),
            ("check", "passed", "L4OK", "62ms", ""),
        ]
        assert [row.ago for row in rows] == [0.4375, 2.4375]

    def test_the_checks_of_nobody(self, house: House) -> None:
        with pytest.raises(ControlError, match="no server 's9' in backend app; there are: s1, s2"):
            house.control.health("app/s9")

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0.0, "0.0ms"), (0.0004, "0.4ms"), (0.00994, "9.9ms"), (0.00996, "10ms"), (2.001, "2001ms")],
    )
    def test_what_a_check_took(self, seconds: float, text: str) -> None:
        assert milliseconds(seconds) == text

    def test_everything_at_a_glance(self, house: House) -> None:
        lease_of(house.app)
        house.eventlog.dropped = 5
        web = house.balancer.frontends["web"]
        web.opened()
        web.statuses[2], web.statuses[5], web.requests = 8, 1, 9
        house.clock.advance(90)
        stats = house.control.stats()
        assert (stats.uptime, stats.log_dropped) == (90.0, 5)
        front, db = stats.frontends
        assert (front.frontend, front.mode, front.listen) == ("web", "http", "0.0.0.0:8080, [::1]:8081")
        assert (front.connections, front.total_connections, front.requests) == (1, 1, 9)
        assert (front.status_2xx, front.status_4xx, front.status_5xx) == (8, 0, 1)
        assert (db.frontend, db.mode) == ("db", "tcp")
        app, pg = stats.backends
        assert (app.backend, app.balance, app.available, app.servers) == ("app", "roundrobin", 2, 2)
        assert (app.in_flight, app.waiting, app.requests, app.retries) == (1, 0, 1, 0)
        assert (pg.balance, pg.in_flight) == ("leastconn", 0)

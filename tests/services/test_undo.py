"""Taking changes back, one by one, whatever was changed since; and two operators at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbservice.config import parse
from lbservice.core.settings import ServerSettings
from lbservice.errors import ControlError
from lbservice.services.journal import KEPT
from tests.services.fakes import heard
from tests.services.filed import ANNA, BEN, NEW, TEXT, Filed


@pytest.fixture
def house(tmp_path: Path) -> Filed:
    return Filed(tmp_path)


class TestUndo:
    @pytest.mark.parametrize(
        ("verb", "arguments"),
        [
            ("weight", ("app/s1", 9)),
            ("maxconn", ("app/s1", 9)),
            ("address", ("app/s1", "[::1]:1")),
            ("drain", ("app/s1",)),
            ("maint", ("app/s1",)),
            ("add", ("app", NEW)),
            ("remove", ("app/s1",)),
        ],
    )
    def test_of_each_verb_and_of_its_undo(self, house: Filed, verb: str, arguments: tuple[object, ...]) -> None:
        before = house.balancer.running_settings
        change = getattr(house.control, verb)(*arguments, by=ANNA)
        after = house.balancer.running_settings
        assert after != before
        undone = house.control.undo(1, by=BEN)
        assert house.balancer.running_settings == before
        assert (undone.verb, undone.target) == ("change 1 undone", change.target)
        assert (undone.before, undone.after) == (change.after, change.before)
        again = house.control.undo(2, by=ANNA)
        assert house.balancer.running_settings == after
        assert (again.before, again.after) == (change.before, change.after)

    def test_a_server_that_stays_keeps_its_counters(self, house: Filed) -> None:
        house["app/s1"].requests = 7
        house.control.weight("app/s1", 9, by=ANNA)
        house.control.undo(1, by=ANNA)
        assert house["app/s1"].requests == 7

    def test_one_that_still_leaves_is_called_back(self, house: Filed) -> None:
        server = house["app/s1"]
        server.in_flight = 1
        house.control.remove("app/s1", by=ANNA)
        house.control.undo(1, by=ANNA)
        assert house["app/s1"] is server
        assert server in house.app.available
        assert [each.name for each in house.app] == ["s1", "s2"]

    def test_what_was_changed_since_stays(self, house: Filed) -> None:
        house.control.weight("app/s1", 9, by=ANNA)
        house.control.maxconn("app/s1", 5, by=BEN)
        house.control.weight("app/s2", 3, by=BEN)
        house.control.undo(1, by=ANNA)
        assert house.weights() == {"s1": 2, "s2": 3}
        assert house["app/s1"].settings.maxconn == 5

    @pytest.mark.parametrize(
        ("number", "words"),
        [(1, "app/s3 was changed again since"), (2, "app/s3 weight was changed again since")],
    )
    def test_the_same_thing_changed_again_is_a_conflict(self, house: Filed, number: int, words: str) -> None:
        house.control.add("app", NEW, by=ANNA)
        house.control.weight("app/s3", 4, by=ANNA)
        house.control.weight("app/s3", 5, by=BEN)
        before = house.balancer.running_settings
        with heard("change") as events, pytest.raises(ControlError, match=f"change {number}: {words}; undo that first"):
            house.control.undo(number, by=ANNA)
        assert house.balancer.running_settings == before
        assert events == []
        for each in (3, 2, 1):
            house.control.undo(each, by=ANNA)
        assert "s3" not in house.app.servers

    def test_what_is_undone_already_is_no_change(self, house: Filed) -> None:
        house.control.weight("app/s1", 9, by=ANNA)
        house.control.weight("app/s1", 2, by=ANNA)
        assert not house.control.undo(1, by=BEN).changed
        assert house.control.journal.number == 2

    def test_of_a_reload(self, house: Filed) -> None:
        house.edit("check = none", "retries = 7\ncheck = none")
        house.edit("server s2 = 127.0.0.1:9002", "server s4 = 127.0.0.1:9004")
        house.control.reload(by=ANNA)
        house.control.weight("app/s1", 9, by=BEN)
        change = house.control.undo(1, by=ANNA)
        assert house.app.settings.retries == 2
        assert house.weights() == {"s1": 9, "s2": 1}
        assert "[backend app] retries: 7 -> absent" in change.details
        house.control.undo(3, by=ANNA)
        assert house.app.settings.retries == 7
        assert house.weights() == {"s1": 9, "s4": 1}

    def test_what_does_not_go_together_with_later_changes(self, house: Filed) -> None:
        house.file.write_text(TEXT + "[backend other]\nserver o1 = 127.0.0.1:9009\n")
        house.control.reload(by=ANNA)
        house.edit("backend = app\n", "backend = app\nroute o = other path=/o\n")
        house.control.reload(by=ANNA)
        before = house.balancer.running_settings
        with pytest.raises(ControlError, match=r"does not go together with what was changed since: .*no such backend"):
            house.control.undo(1, by=ANNA)
        assert house.balancer.running_settings == before
        house.control.undo(2, by=ANNA)
        house.control.undo(1, by=ANNA)
        assert list(house.balancer.backends) == ["app"]

    @pytest.mark.parametrize("verb", ["save", "reopen"])
    def test_what_changed_no_settings(self, house: Filed, verb: str) -> None:
        house.control.weight("app/s1", 9, by=ANNA)
        getattr(house.control, verb)(by=ANNA)
        with pytest.raises(ControlError, match=r"change 2 \((saved|reopened)\) changed no settings"):
            house.control.undo(2, by=ANNA)

    @pytest.mark.parametrize("number", [0, -1, 2, 99, "1", None, True])
    def test_what_was_never_done(self, house: Filed, number: int) -> None:
        house.control.weight("app/s1", 9, by=ANNA)
        with pytest.raises(ControlError, match=f"no change {number!r}; changes"):
            house.control.undo(number, by=ANNA)

    def test_what_is_forgotten(self, house: Filed) -> None:
        for number in range(KEPT + 1):
            house.control.weight("app/s1", number % 2 + 5, by=ANNA)
        assert len(house.control.changes(KEPT * 2)) == KEPT
        with pytest.raises(ControlError, match=f"change 1 is forgotten: the last {KEPT} are kept"):
            house.control.undo(1, by=ANNA)
        house.control.undo(KEPT + 1, by=ANNA)


class TestReload:
    """As far as files are concerned: what an operator has changed is kept, and told."""

    def test_run_time_changes_stay(self, house: Filed) -> None:
        house.control.weight("app/s1", 9, by=ANNA)
        house.control.add("app", NEW, by=ANNA)
        house.edit("server s2 = 127.0.0.1:9002", "server s2 = 127.0.0.1:9002 maxconn=4")
        change = house.control.reload(by=BEN)
        assert house.weights() == {"s1": 9, "s2": 1, "s3": 1}
        assert house["app/s2"].settings.maxconn == 4
        assert any(note.startswith("kept, though not in the file: [backend app] server s3") for note in change.details)

    def test_the_file_has_its_way_where_both_changed_the_same(self, house: Filed) -> None:
        house.control.weight("app/s1", 9, by=ANNA)
        house.edit("weight=2", "weight=4")
        change = house.control.reload(by=BEN)
        assert house.weights()["s1"] == 4
        assert "app/s1 weight: as the file says, not as it was changed since" in change.details

    def test_discard(self, house: Filed) -> None:
        house.control.weight("app/s1", 9, by=ANNA)
        house.control.add("app", NEW, by=ANNA)
        house.control.reload(discard=True, by=BEN)
        assert house.weights() == {"s1": 2, "s2": 1}
        assert house.differs() == []

    def test_what_the_undo_of_a_reload_took_back_stays_so_and_can_be_saved(self, house: Filed) -> None:
        house.edit("check = none", "retries = 7\ncheck = none")
        house.control.reload(by=ANNA)
        house.control.undo(1, by=ANNA)
        house.edit("# Ours.", "[loadbalancer]\ngrace = 4s")
        house.control.reload(by=ANNA)
        assert (house.app.settings.retries, house.balancer.settings.grace) == (2, 4.0)
        assert house.differs() == [("retries", "", "7")]
        house.control.save(by=ANNA)
        assert "retries" not in house.text

    def test_what_somebody_has_written_into_the_file_counts_as_saved(self, house: Filed) -> None:
        house.control.weight("app/s1", 9, by=ANNA)
        house.control.weight("app/s2", 9, by=ANNA)
        house.edit("weight=2", "weight=9")
        house.control.reload(by=BEN)
        assert not any(change.saved for change in house.control.changes() if change.kind)
        house.edit("127.0.0.1:9002", "127.0.0.1:9002 weight=9")
        house.control.reload(by=BEN)
        assert all(change.saved for change in house.control.changes())


class TestTwoOperators:
    def test_neither_loses_what_he_has_changed(self, house: Filed) -> None:
        for number in range(1, 50):
            house.control.weight("app/s1", number, by=ANNA)
            house.control.maxconn("app/s1", number, by=BEN)
            house.control.add("app", ServerSettings(f"a{number}", "127.0.0.1", 9000), by=ANNA)
            house.control.add("app", ServerSettings(f"b{number}", "127.0.0.1", 9000), by=BEN)
        assert (house["app/s1"].weight, house["app/s1"].settings.maxconn) == (49, 49)
        assert len(house.app.servers) == 2 + 2 * 49
        assert house.control.journal.number == 4 * 49

    def test_one_edits_the_file_and_one_the_running_balancer(self, house: Filed) -> None:
        house.control.weight("app/s1", 9, by=ANNA)
        house.edit("127.0.0.1:9002", "127.0.0.1:9002 weight=7")
        with pytest.raises(ControlError, match="reload first"):
            house.control.save(by=ANNA)
        house.control.reload(by=ANNA)
        house.control.save(by=ANNA)
        assert house.weights() == {"s1": 9, "s2": 7}
        assert "weight=9" in house.text
        assert "127.0.0.1:9002 weight=7" in house.text


STEP = st.one_of(
    st.tuples(st.just("weight"), st.sampled_from(["app/s1", "app/s2", "app/s3"]), st.integers(0, 3)),
    st.tuples(st.just("maxconn"), st.sampled_from(["app/s1", "app/s3"]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["drain", "ready", "maint", "remove"]), st.sampled_from(["app/s1", "app/s2", "app/s3"])),
    st.tuples(st.just("add"), st.just("app"), st.just(NEW)),
    st.tuples(st.just("undo"), st.integers(1, 9)),
    st.tuples(st.sampled_from(["save", "reload"])),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=12))
def test_whatever_is_done_can_be_saved_and_taken_back(tmp_path: Path, steps: list[tuple[object, ...]]) -> None:
    house = Filed(tmp_path)
    before = house.balancer.running_settings
    for verb, *arguments in steps:
        try:
            getattr(house.control, str(verb))(*arguments, by=ANNA)
        except ControlError:
            pass
    running = house.balancer.running_settings
    house.control.save(by=ANNA)
    assert house.differs() == []
    assert parse(house.text).backends == running.backends
    for change in house.control.changes(99):
        if change.kind:
            house.control.undo(change.number, by=BEN)
    assert house.balancer.running_settings.backends == before.backends
    house.control.save(by=ANNA)
    assert sorted(line.partition(" ; ")[0] for line in house.text.split("\n")) == sorted(
        line.partition(" ; ")[0] for line in TEXT.split("\n")
    )

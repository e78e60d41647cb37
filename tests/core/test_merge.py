"""What two sides have changed since their common base, in one configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbservice.core.merge import merge
from lbservice.core.settings import BackendSettings, FrontendSettings, Listen, ServerSettings, Settings

NAMES = ("a", "b", "c")
SMALL = st.integers(0, 2)


def named(make: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(make, max_size=3, unique_by=lambda each: each.name).map(tuple)  # type: ignore[attr-defined]


SERVERS = st.builds(
    ServerSettings,
    st.sampled_from(NAMES),
    st.just("h"),
    SMALL,
    weight=SMALL,
    maxconn=SMALL,
    state=st.sampled_from(["ready", "drain"]),
)
BACKENDS = st.builds(BackendSettings, st.sampled_from(NAMES), named(SERVERS), retries=SMALL, maxqueue=SMALL)
FRONTENDS = st.builds(
    FrontendSettings, st.sampled_from(NAMES), st.just((Listen("", 80),)), st.sampled_from(NAMES), maxconn=SMALL
)
ENTRIES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from("01")),
    max_size=4,
    unique_by=lambda entry: entry[:2],
).map(tuple)
SETTINGS = st.builds(
    Settings, grace=SMALL.map(float), frontends=named(FRONTENDS), backends=named(BACKENDS), entries=ENTRIES
)


def whole(merged: tuple[Settings, tuple[str, ...]]) -> tuple[Settings, tuple[tuple[str, str, str], ...]]:
    return merged[0], merged[0].entries


class TestLaws:
    @given(SETTINGS, SETTINGS)
    def test_what_only_one_side_has_changed_is_as_that_side_wants_it(self, base: Settings, other: Settings) -> None:
        assert whole(merge(base, other, base)) == (other, other.entries)
        assert whole(merge(base, base, other)) == (other, other.entries)
        assert merge(base, other, base)[1] == merge(base, base, other)[1] == ()

    @given(SETTINGS, SETTINGS)
    def test_what_both_want_is_no_conflict(self, base: Settings, other: Settings) -> None:
        assert merge(base, other, other) == (other, ())

    @given(SETTINGS, SETTINGS, SETTINGS)
    def test_names_stay_unique_and_are_of_one_side(self, base: Settings, ours: Settings, theirs: Settings) -> None:
        merged, _ = merge(base, ours, theirs)
        names = [backend.name for backend in merged.backends]
        assert len(set(names)) == len(names)
        assert set(names) <= {backend.name for side in (ours, theirs) for backend in side.backends}

    @given(SETTINGS, SETTINGS, SETTINGS)
    def test_where_they_want_different_things_the_file_has_its_way(
        self, base: Settings, ours: Settings, theirs: Settings
    ) -> None:
        merged, conflicts = merge(base, ours, theirs)
        assert merge(base, merged, theirs)[0] == merged  # once more changes nothing
        if not conflicts:
            assert {each.name for each in merge(base, theirs, ours)[0].backends} == {
                each.name for each in merged.backends
            }

    @given(SETTINGS, SETTINGS, SETTINGS)
    def test_a_conflict_is_what_depends_on_who_is_asked_first(
        self, base: Settings, ours: Settings, theirs: Settings
    ) -> None:
        one, conflicts = merge(base, ours, theirs)
        other, the_same = merge(base, theirs, ours)
        assert sorted(conflicts) == sorted(the_same)
        if not conflicts:
            assert by_name(one) == by_name(other)


def by_name(settings: Settings) -> object:
    """All of it but the order."""
    backends = {
        backend.name: (replace(backend, servers=()), {server.name: server for server in backend.servers})
        for backend in settings.backends
    }
    return settings.grace, backends, {frontend.name: frontend for frontend in settings.frontends}


S1, S2, S3 = (ServerSettings(f"s{number}", "h", number) for number in (1, 2, 3))


def app(*servers: ServerSettings, **values: Any) -> Settings:
    return Settings(backends=(BackendSettings("app", servers, **values),))


class TestServers:
    def test_different_words_of_one_server(self) -> None:
        merged, conflicts = merge(app(S1), app(replace(S1, weight=5)), app(replace(S1, maxconn=9), retries=0))
        assert (merged, conflicts) == (app(replace(S1, weight=5, maxconn=9), retries=0), ())

    def test_the_same_word(self) -> None:
        merged, conflicts = merge(app(S1), app(replace(S1, weight=5)), app(replace(S1, weight=7)))
        assert (merged, conflicts) == (app(replace(S1, weight=7)), ("app/s1 weight",))

    def test_one_more_on_either_side(self) -> None:
        assert merge(app(S1), app(S1, S2), app(S1, S3)) == (app(S1, S3, S2), ())

    def test_the_same_name_on_both_sides(self) -> None:
        other = replace(S2, port=99)
        assert merge(app(S1), app(S1, S2), app(S1, other)) == (app(S1, other), ("app/s2",))

    @pytest.mark.parametrize(
        ("ours", "theirs", "merged"),
        [((), (replace(S1, weight=2),), (replace(S1, weight=2),)), ((replace(S1, weight=2),), (), ())],
    )
    def test_gone_on_one_side_and_changed_on_the_other(
        self, ours: tuple[ServerSettings, ...], theirs: tuple[ServerSettings, ...], merged: tuple[ServerSettings, ...]
    ) -> None:
        assert merge(app(S1), app(*ours), app(*theirs)) == (app(*merged), ("app/s1",))

    def test_gone_on_one_side(self) -> None:
        assert merge(app(S1, S2), app(S2), app(S1, S2, retries=0)) == (app(S2, retries=0), ())


class TestOrder:
    def test_is_that_of_the_file(self) -> None:
        assert merge(app(S1, S2), app(S1, S2, S3), app(S2, S1))[0] == app(S2, S1, S3)

    def test_but_ours_where_the_file_has_none_of_its_own(self) -> None:
        assert merge(app(S1, S2), app(S2, S1), app(S1, replace(S2, weight=2)))[0] == app(replace(S2, weight=2), S1)

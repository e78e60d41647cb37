from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbservice.core.route import MOST_ODDITIES, Ambiguous, Question, Router, climbs, host_alone, readings
from lbservice.core.settings import Conditions


def ask(path: str = "/", **how: Any) -> Question:
    return Question(how.pop("source", "192.0.2.1"), path=path, **how)


def holds(question: Question, **conditions: Any) -> bool:
    return Router([Conditions(**conditions)]).choose(question) == 0


class TestConditions:
    @pytest.mark.parametrize(
        ("host", "met"),
        [
            ("a.example", True),
            ("b.example", False),
            ("x.b.example", True),
            ("y.x.b.example", True),
            ("xb.example", False),
            ("", False),
        ],
    )
    def test_hosts_are_exact_or_all_below_a_name(self, host: str, met: bool) -> None:
        assert holds(ask(host=host), hosts=("a.example", "*.b.example")) is met

    @pytest.mark.parametrize(
        ("field", "host"),
        [
            ("App.Example:8080", "app.example"),
            ("app.example.", "app.example"),
            ("app.example.:80", "app.example"),
            ("[2001:DB8::1]:80", "[2001:db8::1]"),
            ("[::1]", "[::1]"),
            ("app.example:", "app.example"),
        ],
    )
    def test_a_host_is_compared_without_port_case_and_last_dot(self, field: str, host: str) -> None:
        assert host_alone(field) == host

    @pytest.mark.parametrize("prefix", ["/api", "/api/"])
    @pytest.mark.parametrize(
        ("path", "met"),
        [("/api", True), ("/api/", True), ("/api/x", True), ("/apis", False), ("/x/api", False), ("/API", False)],
    )
    def test_a_path_is_a_prefix_of_whole_segments(self, prefix: str, path: str, met: bool) -> None:
        assert holds(ask(path), paths=(prefix,)) is met

    def test_the_root_holds_every_path_but_not_the_whole_server(self) -> None:
        assert holds(ask("/x"), paths=("/",))
        assert holds(ask("/"), paths=("/",))
        assert not holds(ask("*"), paths=("/",))

    def test_a_pattern_is_for_the_whole_path(self) -> None:
        assert holds(ask("/v1/x"), patterns=("/v[0-9]+/.*",))
        assert not holds(ask("/a/v1/x"), patterns=("/v[0-9]+/.*",))
        assert holds(ask("/v1"), patterns=("/v[0-9]",), paths=("/other",))

    def test_the_other_kinds(self) -> None:
        assert holds(ask(method="GET"), methods=("GET", "HEAD"))
        assert not holds(ask(method="POST"), methods=("GET", "HEAD"))
        assert holds(ask(secure=True), secure=True)
        assert not holds(ask(secure=True), secure=False)
        assert holds(ask(source="10.1.2.3"), sources=("192.0.2.0/24", "10.0.0.0/8"))
        assert not holds(ask(source="11.1.2.3"), sources=("10.0.0.0/8",))
        assert holds(ask(sni="a.example"), snis=("a.example",))
        assert not holds(ask(sni=""), snis=("a.example",))

    def test_fields_are_there_or_have_a_value(self) -> None:
        values = {"x-beta": ["no", "yes"]}
        question = ask(fields=lambda name: values.get(name, []))
        assert holds(question, fields=(("x-beta", None),))
        assert holds(question, fields=(("x-beta", "yes"),))
        assert not holds(question, fields=(("x-beta", "maybe"),))
        assert not holds(question, fields=(("x-beta", "yes"), ("x-other", None)))

    def test_every_kind_must_hold(self) -> None:
        wanted = {"hosts": ("a.example",), "paths": ("/api",)}
        assert holds(ask("/api", host="a.example"), **wanted)
        assert not holds(ask("/api", host="b.example"), **wanted)
        assert not holds(ask("/", host="a.example"), **wanted)

    def test_the_first_rule_wins(self) -> None:
        router = Router([Conditions(paths=("/a/b",)), Conditions(paths=("/a",)), Conditions(paths=("/a/b",))])
        assert [router.choose(ask(path)) for path in ("/a/b", "/a/c", "/c")] == [0, 1, -1]


ADMIN = Router([Conditions(paths=("/admin",)), Conditions(paths=("/public",))])


class TestSpellings:
    """A server may decode, merge slashes and resolve dots before it looks; nobody gets past a rule by that."""

    @pytest.mark.parametrize(
        "path",
        [
            "//admin",
            "/./admin",
            "/x/../admin",
            "/public/../admin/users",
            "/%61dmin",
            "/%2e/admin",
            "/x/%2e%2e/admin",
            "/x/%2E%2E/admin",
            "/x%2f../admin",
            "/x/..%2fadmin",
            "/x\\..\\admin",
            "/x/..\\admin",
            "/x/..%5Cadmin",
            "/x/..;a=b/admin",
            "/;a/admin",
            "/admin;v=1",
            "/admin%3bv=1",
            "/admin%2fusers",
            "/admin/../public",
            "/admin//../public",
            "/x/.//../admin",
            "/x//../../admin",
            "/admin/..",
            "/x/../public/%2e%2e/admin",
            "/x/../%61dmin/%2e%2e/y",
        ],
    )
    def test_what_could_be_read_as_another_rule_is_refused(self, path: str) -> None:
        with pytest.raises(Ambiguous):
            ADMIN.choose(ask(path))

    @pytest.mark.parametrize(
        ("path", "rule"),
        [
            ("/admin/caf%C3%A9", 0),
            ("/admin/caf%c3%a9", 0),
            ("/admin/%7Euser", 0),
            ("/admin/projects/a%2Fb/files", 0),
            ("/admin//x", 0),
            ("/admin/x/../y", 0),
            ("/admin/;v=1", 0),
            ("/public/%2e/x", 1),
            ("/other/../x", -1),
            ("/a%20b", -1),
            ("/.well-known/x", -1),
            ("/admin/.htaccess", 0),
            ("/admin/...", 0),
        ],
    )
    def test_what_is_the_same_however_it_is_read_goes_through(self, path: str, rule: int) -> None:
        assert ADMIN.choose(ask(path)) == rule

    def test_a_prefix_may_be_written_encoded(self) -> None:
        router = Router([Conditions(paths=("/caf%c3%a9",))])
        assert router.choose(ask("/caf%C3%A9/x")) == router.choose(ask("/caf%c3%a9")) == 0

    def test_rules_without_paths_do_not_care(self) -> None:
        assert Router([Conditions(hosts=("a.example",))]).choose(ask("/x/../%2e//y", host="a.example")) == 0

    @pytest.mark.parametrize(
        ("path", "does"),
        [
            ("/x/y", False),
            ("/x/../y", False),
            ("/./x/..", False),
            ("/..", True),
            ("/%2e%2E/x", True),
            ("/x//../../y", True),
            ("/x\\..\\..", True),
            ("/..;a/x", True),
        ],
    )
    def test_dots_that_lead_above_the_root(self, path: str, does: bool) -> None:
        assert climbs(path) is does

    def test_too_many_oddities_are_not_looked_through(self) -> None:
        with pytest.raises(Ambiguous):
            ADMIN.choose(ask("/x" + "/." * (MOST_ODDITIES + 1)))

    @given(st.lists(st.sampled_from(["/", "//", "..", ".", "a", "%2e", "%2f", "\\", ";", "%5c", "admin"]), max_size=12))
    def test_every_reading_that_a_server_could_have_is_looked_at(self, parts: list[str]) -> None:
        path = "/" + "".join(parts)
        try:
            rule = ADMIN.choose(ask(path))
        except Ambiguous:
            return
        for reading in readings(path):
            assert reading.startswith("/")
            assert ADMIN._first(ask(reading), reading) == rule

"""What each command asks of the service, what it prints of the answer, and the exit code that a script goes by."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest

from lbservice.admin.cli import command, main, waiting
from tests.admin.cli.service import FakeService, change, lbservice, row


def paths(group: click.Group, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command, as it is typed."""
    found = []
    for name, each in group.commands.items():
        found += paths(each, (*before, name)) if isinstance(each, click.Group) else [(*before, name)]
    return found


class TestHelp:
    @pytest.mark.parametrize("words", paths(main), ids=" ".join)
    def test_each_command_shows_an_example_and_fits_a_terminal(self, words: tuple[str, ...]) -> None:
        result = lbservice(*words, "-h")
        assert result.exit_code == 0
        assert "Example" in result.stdout or "Put it where" in result.stdout
        assert f"lbservice {' '.join(words)}" in result.stdout.partition("\n")[2]
        assert max(map(len, result.stdout.splitlines())) <= 100

    def test_the_list_of_commands_has_no_sentence_that_is_cut(self) -> None:
        assert "..." not in lbservice("-h").stdout.partition("Commands:")[2]


QUESTIONS = [
    (("servers",), "GET /v1/servers", [row("app/s1")], "app/s1"),
    (("servers", "app"), "GET /v1/servers?backend=app", [], "backend app has no servers"),
    (("backends",), "GET /v1/backends", [{"backend": "app", "balance": "leastconn"}], "leastconn"),
    (("frontends",), "GET /v1/frontends", [{"frontend": "web", "mode": "http"}], "web"),
    (("health", "app/s1"), "GET /v1/servers/app/s1/health", [{"ago": 1.5, "result": "passed"}], "1.5s  passed"),
    (("sessions",), "GET /v1/sessions", [], "no sessions"),
    (("sessions", "app/s1"), "GET /v1/sessions?where=app%2Fs1", [{"session": "web/127.0.0.1:5"}], "web/127.0.0.1:5"),
    (("changes", "--last", "5"), "GET /v1/changes?last=5", [change(comment="why not")], "why not"),
    (("diff",), "GET /v1/diff", [], "nothing differs"),
    (("why", "a/b"), "GET /v1/requests/a%2Fb", [{"about": "queue", "says": "no\x07 wait"}], "queue   no? wait"),
]


class TestQuestions:
    @pytest.mark.parametrize(("words", "asked", "items", "shown"), QUESTIONS)
    def test_a_question_prints_a_table(
        self, fake: FakeService, words: tuple[str, ...], asked: str, items: list[Any], shown: str
    ) -> None:
        fake.answers[asked] = (200, {"items": items})
        result = lbservice(*words)
        assert (result.exit_code, fake.targets) == (0, [asked]), result.stderr
        assert shown in result.stdout

    @pytest.mark.parametrize(("words", "asked", "items", "shown"), QUESTIONS)
    def test_json_is_what_the_service_said(
        self, fake: FakeService, words: tuple[str, ...], asked: str, items: list[Any], shown: str
    ) -> None:
        fake.answers[asked] = (200, {"items": items})
        result = lbservice(*words, "--json")
        assert json.loads(result.stdout) == {"items": items}

    def test_stats(self, fake: FakeService) -> None:
        fake.answers["GET /v1/stats"] = (200, {"uptime": 3723.0, "frontends": [], "backends": [], "log_dropped": 2})
        assert lbservice("stats").stdout.startswith("up 1h02m, 2 log lines lost\n\nno frontends\n")

    def test_what_a_terminal_would_obey_is_not_printed(self, fake: FakeService) -> None:
        fake.answers["GET /v1/servers"] = (200, {"items": [row("app/s1", reason="\x1b[2J\x07gotcha")]})
        assert "\x1b" not in lbservice("servers").stdout

    def test_a_row_of_a_newer_service_shows_its_new_fields(self, fake: FakeService) -> None:
        fake.answers["GET /v1/servers"] = (200, {"items": [row("app/s1", p99=0.25)]})
        assert "P99" in lbservice("servers").stdout

    def test_it_says_who_asks_and_that_it_is_the_command_line(self, fake: FakeService) -> None:
        fake.answers["GET /v1/servers"] = (200, {"items": []})
        lbservice("servers")
        assert fake.asked[0].headers["user-agent"].startswith("lbservice-cli/")
        assert "authorization" not in fake.asked[0].headers


CHANGES = [
    (
        ("server", "add", "app", "s4", "127.0.0.1:9004"),
        "POST /v1/servers/app",
        {"name": "s4", "address": "127.0.0.1:9004"},
    ),
    (
        ("server", "add", "app", "s4", "h:1", "--weight", "0", "--maxconn", "9", "--backup"),
        "POST /v1/servers/app",
        {"name": "s4", "address": "h:1", "weight": 0, "maxconn": 9, "backup": True},
    ),
    (("server", "remove", "app/s1", "-y"), "DELETE /v1/servers/app/s1", {}),
    (("server", "remove", "app/s1", "--now", "--yes"), "DELETE /v1/servers/app/s1?now=true", {}),
    (("server", "drain", "app/s1", "-y"), "POST /v1/servers/app/s1/drain", {}),
    (("server", "ready", "app/s1"), "POST /v1/servers/app/s1/ready", {}),
    (("server", "maint", "app/s1", "-y"), "POST /v1/servers/app/s1/maint", {}),
    (("server", "weight", "app/s1", "5"), "POST /v1/servers/app/s1/weight", {"weight": 5}),
    (("server", "maxconn", "app/s1", "32"), "POST /v1/servers/app/s1/maxconn", {"maxconn": 32}),
    (("server", "address", "app/s1", "h:2"), "POST /v1/servers/app/s1/address", {"address": "h:2"}),
    (("kick", "web/[::1]:5", "-y"), "DELETE /v1/sessions/web/%5B::1%5D:5", {}),
    (("undo", "3"), "POST /v1/changes/3/undo", {}),
    (("save",), "POST /v1/save", {}),
    (("reload",), "POST /v1/reload", {}),
    (("reload", "--discard"), "POST /v1/reload", {"discard": True}),
    (("log", "reopen"), "POST /v1/log/reopen", {}),
]


class TestChanges:
    @pytest.mark.parametrize(("words", "asked", "body"), CHANGES)
    def test_a_change_says_what_it_did_and_that_a_restart_forgets_it(
        self, fake: FakeService, words: tuple[str, ...], asked: str, body: dict[str, Any]
    ) -> None:
        fake.answers[asked] = (200, change())
        result = lbservice(*words)
        assert (result.exit_code, fake.targets) == (0, [asked]), result.stderr
        assert fake.asked[0].body == body
        assert fake.asked[0].headers["content-type"] == "application/json"
        first, second = result.stdout.splitlines()
        assert first == "app/s1: set to drain, ready -> drain (change 7; a restart forgets it, unless it is saved)"
        assert second == "lbservice save writes it into the file; lbservice undo 7 takes it back"

    @pytest.mark.parametrize(("words", "asked", "body"), CHANGES)
    def test_every_change_takes_a_comment_and_can_be_read_by_programs(
        self, fake: FakeService, words: tuple[str, ...], asked: str, body: dict[str, Any]
    ) -> None:
        fake.answers[asked] = (200, change())
        result = lbservice(*words, "--comment", "for a test", "--json")
        assert fake.asked[0].body == body | {"comment": "for a test"}
        assert json.loads(result.stdout) == change()

    def test_what_was_so_already_says_no_more(self, fake: FakeService) -> None:
        fake.answers["POST /v1/servers/app/s1/drain"] = (200, change(changed=False) | {"text": "app/s1: already drain"})
        assert lbservice("server", "drain", "app/s1", "-y").stdout == "app/s1: already drain\n"

    def test_what_was_so_already_is_saved_too(self, fake: FakeService) -> None:
        fake.answers["POST /v1/servers/app/s1/weight"] = (200, change(changed=False) | {"text": "app/s1: already 5"})
        fake.answers["POST /v1/save"] = [
            (200, change(saved=True) | {"text": "lb.ini: saved"}),
            (409, {"detail": "reload first"}),
        ]
        words = ("server", "weight", "app/s1", "5", "--save")
        assert lbservice(*words).stdout == "app/s1: already 5\nlb.ini: saved\n"
        assert fake.targets == ["POST /v1/servers/app/s1/weight", "POST /v1/save"]
        failed = lbservice(*words)
        assert (failed.exit_code, failed.stdout) == (1, "app/s1: already 5\n")
        assert "it was so already, but it is not saved: reload first" in failed.stderr

    def test_save_at_once(self, fake: FakeService) -> None:
        fake.answers["POST /v1/servers/app/s1/weight"] = (200, change())
        fake.answers["POST /v1/save"] = (200, change(saved=True) | {"text": "lb.ini: saved"})
        result = lbservice("server", "weight", "app/s1", "5", "--save")
        assert fake.targets == ["POST /v1/servers/app/s1/weight", "POST /v1/save"]
        assert result.stdout == "app/s1: set to drain, ready -> drain (change 7)\nlb.ini: saved\n"
        said = json.loads(lbservice("server", "weight", "app/s1", "5", "--save", "--json").stdout)
        assert (said["saved"], "unless it is saved" in said["text"]) == (True, False)

    def test_a_save_that_fails_leaves_the_change_and_says_so(self, fake: FakeService) -> None:
        fake.answers["POST /v1/servers/app/s1/weight"] = (200, change())
        fake.answers["POST /v1/save"] = (409, {"detail": "lb.ini was changed; reload first"})
        result = lbservice("server", "weight", "app/s1", "5", "--save")
        assert result.exit_code == 1
        assert "app/s1: set to drain" in result.stdout
        assert "the change is in force, but it is not saved: lb.ini was changed; reload first" in result.stderr

    def test_a_no_of_the_service_is_its_sentence(self, fake: FakeService) -> None:
        fake.answers["POST /v1/servers/app/s9/drain"] = (404, {"detail": "no server 's9' in backend app"})
        result = lbservice("server", "drain", "app/s9", "-y")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "lbservice: no server 's9' in backend app\n"

    @pytest.mark.parametrize(
        "words",
        [
            ("server", "drain", "app"),
            ("server", "drain", "app/s1/x"),
            ("server", "weight", "app/s1", "300"),
            ("server", "weight", "app/s1", "many"),
            ("server", "drain", "app/s1", "--timeout", "5"),
            ("kick", "web", "-y"),
            ("undo", "0"),
            ("changes", "--last", "0"),
            ("top", "--json"),
            ("log", "follow", "--status", "600"),
            ("log", "follow", "--status", "5xx", "--events"),
            ("nothing",),
        ],
    )
    def test_what_cannot_be_meant_is_usage_and_nobody_is_asked(self, fake: FakeService, words: tuple[str, ...]) -> None:
        assert lbservice(*words).exit_code == 2
        assert fake.asked == []


class TestQuestionsBack:
    """Where connections are cut, people are asked."""

    @pytest.mark.parametrize(
        "words",
        [
            ("server", "remove", "app/s1", "--now"),
            ("kick", "web/127.0.0.1:5"),
            *(("server", verb, "app/s1") for verb in ("maint", "drain", "remove")),
        ],
    )
    def test_without_a_terminal_it_is_refused(self, fake: FakeService, words: tuple[str, ...]) -> None:
        fake.answers["GET /v1/servers?backend=app"] = (200, {"items": [row("app/s1"), row("app/s2", "DOWN")]})
        result = lbservice(*words, text="y\n")
        assert result.exit_code == 2
        assert "--yes" in result.stderr
        assert not [each for each in fake.asked if each.method != "GET"]

    @pytest.mark.parametrize("verb", ["maint", "drain", "remove"])
    @pytest.mark.parametrize(
        "items",
        [
            [row("app/s1"), row("app/s2")],
            [row("app/s1", "DRAIN"), row("app/s2", "DOWN")],
            [row("app/s1", weight=0), row("app/s2", "DOWN")],
        ],
        ids=["one-of-two", "drained", "weight-0"],
    )
    def test_only_the_last_one_that_can_be_used_is_asked_about(
        self, fake: FakeService, verb: str, items: list[dict[str, Any]]
    ) -> None:
        fake.answers["GET /v1/servers?backend=app"] = (200, {"items": items})
        change_asked = "DELETE /v1/servers/app/s1" if verb == "remove" else f"POST /v1/servers/app/s1/{verb}"
        fake.answers[change_asked] = (200, change())
        result = lbservice("server", verb, "app/s1")
        assert (result.exit_code, fake.targets[-1]) == (0, change_asked), result.stderr

    def test_both_reasons_are_one_question(self, fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(command, "at_terminal", lambda: True)
        fake.answers["GET /v1/servers?backend=app"] = (200, {"items": [row("app/s1")]})
        fake.answers["DELETE /v1/servers/app/s1?now=true"] = (200, change())
        result = lbservice("server", "remove", "app/s1", "--now", text="y\n")
        assert result.exit_code == 0
        assert result.stderr.count("Go on?") == 1
        assert "cuts off what it has in flight; app/s1 is the last server of app" in result.stderr

    @pytest.mark.parametrize(("answer", "code", "done"), [("y\n", 0, True), ("n\n", 1, False), ("", 1, False)])
    def test_at_a_terminal_the_answer_counts(
        self, fake: FakeService, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, done: bool
    ) -> None:
        monkeypatch.setattr(command, "at_terminal", lambda: True)
        fake.answers["DELETE /v1/sessions/web/127.0.0.1:5"] = (200, change(saved=True))
        result = lbservice("kick", "web/127.0.0.1:5", text=answer)
        assert result.exit_code == code
        assert bool(fake.asked) is done

    def test_maint_of_one_among_others_is_done_at_once(self, fake: FakeService) -> None:
        fake.answers["GET /v1/servers?backend=app"] = (200, {"items": [row("app/s1"), row("app/s2", "UP 2/3")]})
        fake.answers["POST /v1/servers/app/s1/maint"] = (200, change())
        assert lbservice("server", "maint", "app/s1").exit_code == 0


class TestWait:
    @pytest.fixture(autouse=True)
    def slept(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """How long it waited between two questions; the clock goes by that."""
        slept: list[float] = []
        monkeypatch.setattr(waiting, "sleep", slept.append)
        monkeypatch.setattr(waiting, "monotonic", lambda: sum(slept))
        return slept

    def test_drain_waits_until_nothing_is_in_flight(self, fake: FakeService, slept: list[float]) -> None:
        fake.answers["POST /v1/servers/app/s1/drain"] = (200, change())
        fake.answers["GET /v1/servers/app/s1"] = [(200, row("app/s1", "DRAIN", in_flight=n)) for n in (2, 1, 0)]
        result = lbservice("server", "drain", "app/s1", "-y", "--wait")
        assert (result.exit_code, len(slept)) == (0, 2)
        assert result.stdout.splitlines()[-1] == "app/s1: nothing in flight"

    def test_a_server_that_is_gone_has_nothing_in_flight(self, fake: FakeService) -> None:
        fake.answers["DELETE /v1/servers/app/s1"] = (200, change())
        fake.answers["GET /v1/servers/app/s1"] = [(200, row("app/s1", in_flight=1)), (404, {"detail": "no server"})]
        assert lbservice("server", "remove", "app/s1", "-y", "--wait").exit_code == 0

    def test_it_ends_with_a_no_after_its_time(self, fake: FakeService, slept: list[float]) -> None:
        fake.answers["POST /v1/servers/app/s1/drain"] = (200, change())
        fake.answers["GET /v1/servers/app/s1"] = (200, row("app/s1", in_flight=3))
        result = lbservice("server", "drain", "app/s1", "-y", "--wait", "--timeout", "30s")
        assert result.exit_code == 1
        assert "app/s1: 3 in flight after 30s" in result.stderr
        assert sum(slept) == pytest.approx(30)

    def test_add_waits_for_the_first_check(self, fake: FakeService, slept: list[float]) -> None:
        fake.answers["POST /v1/servers/app"] = (201, change())
        states = [row("app/s4", last_check="-"), row("app/s4", "DOWN 1/2"), row("app/s4")]
        fake.answers["GET /v1/servers/app/s4"] = [(200, each) for each in states]
        result = lbservice("server", "add", "app", "s4", "h:1", "--wait")
        assert (result.exit_code, len(slept)) == (0, 2)

    def test_a_server_without_checks_is_up_at_once(self, fake: FakeService, slept: list[float]) -> None:
        fake.answers["POST /v1/servers/app/s1/ready"] = (200, change())
        fake.answers["GET /v1/servers/app/s1"] = (200, row("app/s1", reason="not checked", last_check="-"))
        assert lbservice("server", "ready", "app/s1", "--wait").exit_code == 0
        assert slept == []

    def test_after_maint_only_a_new_check_counts(self, fake: FakeService, slept: list[float]) -> None:
        fake.answers["POST /v1/servers/app/s1/ready"] = (200, change(before="maint"))
        fake.answers["GET /v1/servers/app/s1"] = (200, row("app/s1"))
        checks = [[], [{"by": "check", "ago": 500.0}], [{"by": "agent", "ago": 0.0}], [{"by": "check", "ago": 0.05}]]
        fake.answers["GET /v1/servers/app/s1/health"] = [(200, {"items": items}) for items in checks]
        result = lbservice("server", "ready", "app/s1", "--wait")
        assert (result.exit_code, len(slept)) == (0, 3)

    def test_a_server_that_stays_down_is_a_no_with_its_reason(self, fake: FakeService) -> None:
        fake.answers["POST /v1/servers/app/s1/ready"] = (200, change())
        fake.answers["GET /v1/servers/app/s1"] = (200, row("app/s1", "DOWN", reason="L4CON refused"))
        result = lbservice("server", "ready", "app/s1", "--wait")
        assert result.exit_code == 1
        assert "app/s1: DOWN, L4CON refused after 1m00s" in result.stderr

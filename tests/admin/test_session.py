"""What a person and a program see of a session, without sockets."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure

from lbservice.admin import history, session
from lbservice.admin.history import Histories
from lbservice.admin.session import Session, Terminal, TerminalServer, run_script, shown
from lbservice.core.server import Admin
from lbservice.core.settings import ServerSettings
from tests.admin.fakes import FakeControl, events

ACTOR = "alice (uid 1000) at the shell"


class Person:
    """Somebody at a terminal: types, and reads what is on the screen (without escape codes)."""

    def __init__(self, control: FakeControl, actor: str = ACTOR, histories: Histories | None = None) -> None:
        self.session = Session(control, actor, histories)
        self.transport = StringTransport()
        self.terminal = TerminalServer(Terminal, self.session)
        self.terminal.makeConnection(self.transport)
        self.greeting = self.transport.value()

    def types(self, text: str) -> str:
        """Key by key; the answer is what has appeared since."""
        self.transport.clear()
        for key in text.encode():
            self.terminal.dataReceived(bytes([key]))
        return self.screen()

    def pastes(self, text: str) -> str:
        self.transport.clear()
        self.terminal.dataReceived(text.encode())
        return self.screen()

    def screen(self) -> str:
        text = self.transport.value().decode().replace("\r\n", "\n")
        return re.sub(r"\x1b(?:\[[0-9;]*[A-Za-z]|[A-Za-z])", "", text)


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def person(control: FakeControl) -> Person:
    return Person(control)


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[dict[str, Any]]]:
    """Everything logged during a test; no session may leave an error in the service's log."""
    with capturedLogs() as events:
        yield events  # type: ignore[misc]  # a list of LogEvent, which is a dict
    worst = [event for event in events if event.get("log_level", LogLevel.info) >= LogLevel.warn]
    assert worst == []


class TestTerminal:
    def test_it_greets_and_leaves_what_is_on_the_screen(self, person: Person) -> None:
        assert b"lb.help()" in person.greeting
        assert person.greeting.endswith(b">>> \x1b[4h")
        assert b"\x1bc" not in person.greeting
        assert b"\x1b[2J" not in person.greeting
        person.types("exit()\r")
        assert b"\x1bc" not in person.transport.value()
        assert b"\x1b[4l" in person.transport.value(), "insert mode must not outlive the session"

    def test_a_question_is_answered_with_a_table_and_a_new_prompt(self, person: Person) -> None:
        screen = person.types("lb.servers()\r")
        assert re.search(r"\napp/s1 +127\.0\.0\.1:9001 +UP ", screen)
        assert screen.endswith("\n>>> ")

    def test_a_change_is_made_and_shown(self, person: Person, control: FakeControl) -> None:
        screen = person.types('lb.drain("app/s1")\r')
        assert (
            "app/s1: set to drain, ready -> drain (change 1; a restart forgets it, unless it is saved)\n>>> " in screen
        )
        assert control.app["s1"].admin is Admin.DRAIN

    def test_print_shows_in_the_session(self, person: Person, capsys: pytest.CaptureFixture[str]) -> None:
        assert "\nhello\n>>> " in person.types("print('hel' 'lo')\r")
        assert capsys.readouterr().out == ""

    def test_each_answer_of_a_line_has_a_line_of_its_own(self, person: Person) -> None:
        assert "\n1\n2\n>>> " in person.types("1; 2\r")

    def test_what_cannot_be_is_one_line(self, person: Person) -> None:
        screen = person.types('lb.drain("app/s9")\r')
        assert screen.endswith("\nno server 's9' in backend app; there are: s1, s2\n>>> ")
        assert "Traceback" not in screen

    def test_an_address_that_cannot_be_is_one_line(self, person: Person) -> None:
        screen = person.types('lb.add("app", "s4", "127.0.0.1")\r')
        assert screen.splitlines()[-2].startswith("app/s4: the port is missing")
        assert "Traceback" not in screen

    def test_a_mistake_in_python_is_told_to_who_made_it(self, person: Person) -> None:
        screen = person.types("lb.drain()\r")
        assert "TypeError" in screen
        assert "lbservice" not in screen.split("Traceback")[1].split("TypeError")[0]
        assert "SyntaxError" in person.types("lb..servers()\r")
        assert person.types("1 + 1\r").endswith("\n2\n>>> ")

    @pytest.mark.parametrize("line", ["exit()\r", "quit()\r", "raise SystemExit(3)\r", "\x04", "\x1c"])
    def test_leaving_ends_the_session_and_nothing_else(self, person: Person, line: str) -> None:
        person.types(line)
        assert person.transport.disconnecting

    def test_leaving_does_not_close_the_standard_input_of_the_service(
        self, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Input:
            closed = False

            def close(self) -> None:
                self.closed = True

        standard_input = Input()
        monkeypatch.setattr("sys.stdin", standard_input)
        person.types("exit()\r")
        assert person.transport.disconnecting
        assert not standard_input.closed

    def test_nothing_is_run_after_leaving(self, person: Person, control: FakeControl) -> None:
        person.pastes('exit()\rlb.drain("app/s1")\r')
        assert control.app["s1"].admin is Admin.READY

    def test_help_answers_without_asking_the_terminal_of_the_service(self, person: Person) -> None:
        assert "lb.drain(server)" in person.types("help()\r")
        assert "lb.drain(server)" in person.types("help\r")
        assert "share" in person.types("help(lb.weight)\r")

    def test_every_line_is_an_event_with_who_typed_it(self, person: Person, logged: list[dict[str, Any]]) -> None:
        person.types('x = {"a": 1}\r\rfor y in x:\r  print(y)\r\r')
        lines = events(logged, "shell")
        assert [event["line"] for event in lines] == ['x = {"a": 1}', "for y in x:", "  print(y)"]
        assert {event["actor"] for event in lines} == {ACTOR}

    def test_sessions_do_not_share_names(self, person: Person, control: FakeControl) -> None:
        person.types("mine = 1\r")
        assert "NameError" in Person(control).types("mine\r")

    def test_tab_finishes_a_word(self, person: Person) -> None:
        person.types("lb.stat\t)\r")
        assert person.session.namespace["_"].parts[0].startswith("up ")

    def test_tab_shows_the_choice_and_the_line_again(self, person: Person) -> None:
        screen = person.types('lb.drain("\t\t')
        assert re.search(r'app +app/s1 +app/s2\n>>> lb.drain\("app$', screen)
        assert "\n... " not in person.types('/s1")\r')

    def test_arrow_up_brings_back_what_the_same_actor_typed_in_an_earlier_session(self, control: FakeControl) -> None:
        histories = Histories()
        first = Person(control, histories=histories)
        first.types("1 + 41\r1 + 41\r")
        assert first.types("\x1b[A\r").endswith("\n42\n>>> ")
        second = Person(control, histories=histories)
        assert second.types("\x1b[A\r").endswith("\n42\n>>> ")
        other = Person(control, "bob", histories=histories)
        assert "42" not in other.types("\x1b[A\r")
        assert histories.of(ACTOR) == [b"1 + 41"], "the same is kept once"

    def test_the_history_is_bounded(self) -> None:
        histories = Histories()
        for number in range(history.LINES + 10):
            histories.add("alice", b"%d" % number)
        histories.add("alice", b"x" * (history.LONGEST + 1))
        assert len(histories.of("alice")) == history.LINES
        assert histories.of("alice")[-1] == b"%d" % (history.LINES + 9)
        for number in range(history.ACTORS):
            histories.add(f"actor {number}", b"1")
        assert histories.of("alice") == []

    def test_a_table_fits_the_window_once_it_is_known(self, person: Person, control: FakeControl) -> None:
        for number in range(40):
            control.fake.add_server(control.fake.backends["app"], ServerSettings(f"n{number}", "127.0.0.1", 1))
        assert "more rows" not in person.types("lb.servers()\r")
        person.types("\x1b[8;20;60t")
        lines = person.types("lb.servers()\r").splitlines()[1:]
        assert max(map(len, lines[:16])) <= 60
        assert "… 26 more rows; print(_) shows all, _[16:32] the next" in lines
        assert "app/n39" in person.types("print(_)\r")

    def test_a_sequence_without_end_is_forgotten(self, person: Person) -> None:
        person.pastes("\x1b[" + "1" * 5000)
        assert person.types("A\b6 * 7\r").endswith("\n42\n>>> ")

    def test_a_line_and_a_statement_have_an_end(self, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(session, "LONGEST_STATEMENT", 1000)
        monkeypatch.setattr(session, "LONGEST_LINE", 200)
        person.pastes("#" * (session.LONGEST_LINE + 100))
        terminal = person.terminal.terminalProtocol
        assert isinstance(terminal, Terminal)
        assert len(terminal.lineBuffer) == session.LONGEST_LINE
        person.types("\x15")
        screen = person.pastes("(\r" + ("1 +" + " " * 160 + "\r") * 7)
        assert "a statement may have at most 1000 bytes" in screen
        person.types("\x03")
        assert person.types("6 * 7\r").endswith("\n42\n>>> ")

    @pytest.mark.parametrize(
        ("line", "logged_as"),
        [
            ("x = dict(password='hunter2', a='b')", "x = dict(password='***', a='b')"),
            ('login("alice", secret="a", TOKEN = "b")', 'login("alice", secret="***", TOKEN = "***")'),
            ('{"api_key": "k", "user": "u"}', '{"api_key": "***", "user": "u"}'),
            ('lb.drain("app/s1", comment="why")', 'lb.drain("app/s1", comment="why")'),
            ("x" * 1500, "x" * 1000 + "… (cut)"),
        ],
    )
    def test_what_is_logged_is_short_and_has_no_secret(self, line: str, logged_as: str) -> None:
        assert shown(line) == logged_as

    def test_help_of_a_verb_is_a_page(self, person: Person) -> None:
        screen = person.types("help(lb.add)\r")
        assert "\nlb.add(backend, name, address, weight=1" in screen
        assert 'lb.add("app", "s4", "127.0.0.1:9004", weight=2' in screen

    def test_control_u_takes_the_line_back(self, person: Person, control: FakeControl) -> None:
        person.types('lb.drain("app/s1")\x15\r')
        assert control.app["s1"].admin is Admin.READY
        assert person.types("5\x01\x0b6\r").endswith("\n6\n>>> ")

    def test_code_that_is_not_python_yet_can_be_typed(self, person: Person) -> None:
        person.types("if 1:\r    x = 1\r  y")
        assert "IndentationError" in person.types(" = 2\r\r")

    def test_what_is_typed_is_coloured(self, person: Person) -> None:
        person.types("x = 1")
        assert b"\x1b[36m1" in person.transport.value()

    def test_a_paste_is_not_coloured_letter_by_letter(self, person: Person) -> None:
        person.pastes("def f():\r" + "    x = 1\r" * 300 + "    return x\r\rf()\r")
        assert b"\x1b[36m" not in person.transport.value()
        assert person.screen().endswith("\n1\n>>> ")

    def test_a_line_wider_than_the_screen_can_be_typed(self, person: Person) -> None:
        person.types("x = [" + "1, " * 300 + "]\r")
        assert len(person.session.namespace["x"]) == 300

    def test_no_key_breaks_it(self, person: Person) -> None:
        keys = random.Random(20261122)
        alphabet = b"\x00\x01\x02\x05\x07\x08\x09\x0b\x0c\x12\x15\x1a\x1b[]O~;0123456789ABCDHPQ\x7f\x80\xff\xc3 ("
        person.terminal.dataReceived(bytes(keys.choice(alphabet) for _ in range(20_000)))
        person.types("\x1b[Z\x03")
        assert person.types("1 + 1\r").endswith("\n2\n>>> ")

    def test_what_comes_after_the_connection_is_lost_goes_nowhere(self, person: Person) -> None:
        later: Deferred[str] = Deferred()
        person.session.namespace["later"] = later
        assert "<Deferred #0>" in person.types("later\r")
        person.terminal.connectionLost(Failure(ConnectionLost()))
        person.transport.clear()
        later.callback("an answer")
        person.terminal.dataReceived(b"lb.servers()\r")
        assert person.transport.value() == b""

    def test_a_deferred_tells_its_result_when_it_has_one(self, person: Person) -> None:
        later: Deferred[str] = Deferred()
        person.session.namespace["later"] = later
        person.types("later\r")
        person.transport.clear()
        later.callback("an answer")
        assert "Deferred #0 called back: 'an answer'" in person.screen()


class TestScript:
    """A text as a whole, for programs."""

    def run(self, control: FakeControl, text: str) -> tuple[str, str]:
        written: list[str] = []
        error = run_script(Session(control, ACTOR), text.encode(), written.append)
        return "".join(written), error

    def test_it_answers_as_the_prompt_would(self, control: FakeControl) -> None:
        output, error = self.run(control, "x = 2\nfor y in range(x):\n    print(y)\nx + 1\n")
        assert (output, error) == ("0\n1\n3\n", "")

    def test_it_stops_at_the_first_error(self, control: FakeControl) -> None:
        output, error = self.run(control, 'print("a")\nlb.drain("app/s9")\nlb.drain("app/s1")\n')
        assert (output, error) == ("a\n", "no server 's9' in backend app; there are: s1, s2\n")
        assert control.app["s1"].admin is Admin.READY

    def test_a_text_that_is_not_python_does_nothing(self, control: FakeControl) -> None:
        output, error = self.run(control, 'lb.drain("app/s1")\nlb.drain("app/s2"\n')
        assert output == ""
        assert "SyntaxError" in error
        assert control.app["s1"].admin is Admin.READY

    @pytest.mark.parametrize(("text", "error"), [("exit()", ""), ("exit(2)", "exit 2\n"), ("exit('no')", "exit no\n")])
    def test_exit_ends_it(self, control: FakeControl, text: str, error: str) -> None:
        assert self.run(control, f"{text}\nlb.drain('app/s1')") == ("", error)
        assert control.app["s1"].admin is Admin.READY

    @pytest.mark.parametrize("text", [b"\xff\xfe", b"(" * 5000, b"x = '\0'"])
    def test_no_text_breaks_it(self, control: FakeControl, text: bytes) -> None:
        assert run_script(Session(control, ACTOR), text, lambda _: None) != ""

    def test_every_line_is_an_event(self, control: FakeControl, logged: list[dict[str, Any]]) -> None:
        self.run(control, "a = 1; b = 2\nfor x in (1,\n          2):\n\tprint(x)\n")
        assert [event["line"] for event in events(logged, "shell")] == [
            "a = 1; b = 2",
            "for x in (1,",
            "          2):",
            "    print(x)",
        ]

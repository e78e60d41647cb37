"""An lb.ini that is told what runs: it says that, and nothing else of it has changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbservice.config import parse
from lbservice.core.settings import ServerSettings, Settings
from lbservice.editing import edited
from tests.test_writing import SERVERS

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.ini"))

TEXT = """\
# Ours. Ask Anna before you touch it.
[loadbalancer]
; nothing here yet

[frontend web]\t# the door
listen = :8080
backend=app

[backend  app] ; the work
balance = leastconn   # why: long requests
    server s1   =  10.0.0.1:80   weight=2  maxconn=4 ; the fast one
; about s2
    server s2=10.0.0.2:80 slowstart=60s weight=1\t# the slow one

# the last word"""

FILE = parse(TEXT)
S1, S2 = FILE.backends[0].servers


def with_servers(*servers: ServerSettings, of: Settings = FILE) -> Settings:
    """The same with other servers in the first backend."""
    first, *others = of.backends
    return replace(of, backends=(replace(first, servers=servers), *others))


def lines(before: str, after: str) -> tuple[list[str], list[str]]:
    """The lines that are only in the one, and only in the other."""
    old, new = before.split("\n"), after.split("\n")
    return [line for line in old if line not in new], [line for line in new if line not in old]


class TestNothingToSay:
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_every_byte_stays(self, mark: str, end: str) -> None:
        text = mark + TEXT.replace("\n", end)
        assert edited(text, FILE) == text

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
    def test_the_examples(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.path.exists", lambda path: True)  # certificates and keys
        monkeypatch.setattr("os.access", lambda path, mode: True)
        text = path.read_text()
        assert edited(text, parse(text)) == text


class TestServers:
    def test_only_the_words_that_say_something_else(self) -> None:
        after = edited(TEXT, with_servers(replace(S1, weight=7, state="drain"), replace(S2, host="10.0.0.9")))
        assert lines(TEXT, after)[1] == [
            "    server s1   =  10.0.0.1:80   weight=7  maxconn=4 state=drain ; the fast one",
            "    server s2=10.0.0.9:80 slowstart=60s weight=1\t# the slow one",
        ]

    def test_what_is_usual_again_is_not_said(self) -> None:
        after = edited(TEXT, with_servers(replace(S1, weight=1, maxconn=0), S2))
        assert lines(TEXT, after)[1] == ["    server s1   =  10.0.0.1:80 ; the fast one"]

    def test_a_new_one_is_behind_the_last_one_and_like_it(self) -> None:
        after = edited(TEXT, with_servers(S1, S2, replace(S1, name="s3")))
        assert after == TEXT.replace(
            "# the slow one\n", "# the slow one\n    server s3 = 10.0.0.1:80 weight=2 maxconn=4\n"
        )

    def test_one_that_is_gone_takes_its_line_with_it(self) -> None:
        after = edited(TEXT, with_servers(S2))
        assert after == TEXT.replace("    server s1   =  10.0.0.1:80   weight=2  maxconn=4 ; the fast one\n", "")

    def test_one_that_comes_back_is_where_it_was(self) -> None:
        without = edited(TEXT, with_servers(S2))
        again = edited(without, FILE)
        assert parse(again) == FILE
        assert lines(TEXT, again)[1] == ["    server s1 = 10.0.0.1:80 weight=2 maxconn=4"]

    def test_another_order_moves_whole_lines(self) -> None:
        after = edited(TEXT, with_servers(S2, S1))
        assert lines(TEXT, after) == ([], [])
        assert parse(after) == with_servers(S2, S1)

    def test_all_others(self) -> None:
        other = replace(S1, name="new")
        assert lines(TEXT, edited(TEXT, with_servers(other)))[1] == [
            "    server new = 10.0.0.1:80 weight=2 maxconn=4",
        ]

    def test_the_first_ones_of_a_backend_without(self) -> None:
        text = "[frontend web]\nlisten = :80\nbackend = a\n[backend a] ; empty\n\n[backend b]\nserver s1 = b:1"
        settings = parse(text)
        after = edited(text, with_servers(S1, S2, of=settings))
        assert after.split("\n")[3:7] == [
            "[backend a] ; empty",
            "server s1 = 10.0.0.1:80 weight=2 maxconn=4",
            "server s2 = 10.0.0.2:80 slowstart=1m",
            "",
        ]

    def test_line_ends_are_those_of_the_file(self) -> None:
        text = TEXT.replace("\n", "\r\n")
        after = edited(text, with_servers(replace(S1, weight=5), S2, replace(S2, name="s3")))
        assert after.count("\r\n") == text.count("\r\n") + 1
        assert "\n" not in after.replace("\r\n", "")

    def test_the_last_line_may_be_without_an_end(self) -> None:
        text = "[frontend web]\nlisten = :80\nbackend = a\n[backend a]\nserver s1 = a:1"
        after = edited(text, with_servers(*parse(text).backends[0].servers, S2, of=parse(text)))
        assert after == text + "\nserver s2 = 10.0.0.2:80 slowstart=1m"

    @given(st.lists(SERVERS, max_size=4, unique_by=lambda server: server.name), st.booleans())
    def test_whatever_runs_is_what_is_read(self, servers: list[ServerSettings], keep: bool) -> None:
        names = {server.name for server in servers}
        kept = [server for server in (S1, S2) if keep and server.name not in names]
        wanted = with_servers(*servers, *kept)
        after = edited(TEXT, wanted)
        assert parse(after) == wanted
        assert [line for line in lines(TEXT, after)[0] if " = " not in line and "server s" not in line] == []
        assert parse(edited(after, FILE)) == FILE


class TestEverythingElse:
    """After the undo of a reload: what the file says there is something else, too."""

    def test_values_come_and_go(self) -> None:
        wanted = parse(TEXT.replace("balance = leastconn", "retries = 4\nmaxqueue = 7"))
        after = edited(TEXT, wanted)
        assert parse(after) == wanted
        assert "leastconn" not in after
        assert edited(TEXT, parse(TEXT.replace("leastconn", "random"))) == TEXT.replace("leastconn", "random")

    def test_sections_come_and_go(self) -> None:
        more = "[frontend api]\nlisten = :81\nbackend = other\n[backend other]\nserver o1 = o:1\n[backend empty]\n"
        wanted = parse(TEXT + "\n" + more)
        after = edited(TEXT, wanted)
        assert parse(after) == wanted
        assert lines(TEXT, after)[0] == []
        back = edited(after, FILE)
        assert parse(back) == FILE
        assert [line for line in back.split("\n") if line] == [line for line in TEXT.split("\n") if line]

    def test_rules_have_an_order(self) -> None:
        rules = ["route a = app path=/a", "redirect b = https path=/b", "route c = app path=/c"]
        head = "[frontend web]\nlisten = :80\nbackend = app\n"
        text = head + "\n".join(("", rules[2], rules[0], "[backend app]", ""))
        wanted = parse(head + "\n".join(("", *rules, "[backend app]", "")))
        after = edited(text, wanted)
        assert parse(after) == wanted

    def test_out_of_nothing(self) -> None:
        assert parse(edited("", FILE)) == FILE

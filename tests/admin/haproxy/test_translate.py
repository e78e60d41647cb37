"""Whole configurations: what comes out passes as lb.ini, and what does not come out is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbservice.admin.haproxy import Import, translate
from lbservice.config import parse
from lbservice.core.settings import BackendSettings, FrontendSettings, Settings

HERE = Path(__file__).parent


def carried(text: str) -> tuple[Settings, Import]:
    """What it means as lb.ini, and all that is said of it."""
    made = translate(text)
    return parse(made.text), made


def backend(lines: str, defaults: str = "") -> tuple[BackendSettings, list[str]]:
    """One backend with these lines, and the notes."""
    settings, made = carried(
        f"defaults\n mode http\n{defaults}\nfrontend f\n bind :8080\n default_backend b\nbackend b\n{lines}\n"
    )
    return settings.backends[0], list(map(str, made.notes))


def frontend(lines: str) -> tuple[FrontendSettings, list[str]]:
    """One frontend with these lines, and the notes."""
    settings, made = carried(
        f"frontend f\n mode http\n bind :8080\n default_backend b\n{lines}\n"
        "backend b\n server s 10.0.0.1:80\nbackend c\n server s 10.0.0.1:80\n"
    )
    return settings.frontends[0], list(map(str, made.notes))


class TestWholeFiles:
    @pytest.mark.parametrize("name", ["site.cfg", "tcp.cfg", "old.cfg"])
    def test_what_comes_out_passes_and_every_note_names_its_line(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "site.pem").touch(mode=0o600)
        text = (HERE / name).read_text()
        settings, made = carried(text)
        assert made.usable
        assert settings.frontends
        for note in made.notes:
            assert " ".join(text.splitlines()[note.line.number - 1].split()) == note.line.text
            assert f"# {note}" in made.text

    def test_a_web_site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "site.pem").touch(mode=0o600)
        settings, made = carried((HERE / "site.cfg").read_text())
        (www,) = settings.frontends
        assert [(listen.address, listen.tls is not None) for listen in www.listen] == [
            ("0.0.0.0:8080", False),
            ("0.0.0.0:8443", True),
        ]
        assert (www.backend, www.mode, www.maxconn, settings.maxconn) == ("app", "http", 2000, 4000)
        assert (www.timeout_client, www.timeout_client_head, www.timeout_keep_alive) == (50, 10, 15)
        assert [(rule.backend, rule.location, rule.status) for rule in www.rules] == [
            ("", "", 404),
            ("", "https://{host}{uri}", 301),
            ("", "https://www.example.com{uri}", 308),
            ("api", "", 0),
            ("static", "", 0),
            ("static", "", 0),
            ("blog", "", 0),
        ]
        app, api, static, blog = settings.backends
        assert (app.balance, app.sticky and app.sticky.name, app.retries) == ("leastconn", "SRV", 3)
        assert (app.check.kind, app.check.path, app.check.expect) == ("http", "/health", ((200, 200),))
        assert (app.check.inter, app.check.fall, app.check.rise) == (3, 3, 2)
        assert [(s.weight, s.maxconn, s.backup, s.state) for s in app.servers] == [
            (10, 100, False, "ready"),
            (20, 100, False, "ready"),
            (1, 0, True, "ready"),
            (1, 0, False, "maint"),
        ]
        assert (api.check.host, api.check.expect, api.timeout_server) == ("api.example.com", ((200, 299),), 120)
        assert all(s.tls and not s.tls.verify and s.tls.sni == "api.example.com" for s in api.servers)
        assert [s.check_via for s in static.servers] == [(None, 8081), (None, 8081)]
        assert blog.check.kind == "none"
        assert made.lost == 8, list(map(str, made.notes))

    def test_databases(self) -> None:
        settings, _ = carried((HERE / "tcp.cfg").read_text())
        assert {frontend.mode for frontend in settings.frontends} == {"tcp"}
        by_name = {backend.name: backend for backend in settings.backends}
        assert [step.send or step.expect for step in by_name["redis"].check.steps] == [
            b"PING\r\n",
            b"+PONG",
            b"info replication\r\n",
            b"role:master",
        ]
        assert by_name["mail"].balance == "source"
        assert by_name["one"].cut_when_down
        assert "smtp" not in {frontend.name for frontend in settings.frontends}, "it wants the PROXY protocol"
        assert {f.name: f.deny for f in settings.frontends}["mail"] == ("198.51.100.0/24",)
        sni = settings.frontends[-1]
        assert [(rule.backend, rule.when.snis) for rule in sni.rules] == [
            ("one", ("one.example.com",)),
            ("two", ("*.two.example.com",)),
        ]

    @pytest.mark.parametrize(
        "text", ["", "global\n maxconn 1\n", "nonsense\n", "frontend\n", "frontend f\n bind :80\n", "\0\n'"]
    )
    def test_nothing_to_start_is_said(self, text: str) -> None:
        assert not translate(text).usable

    @pytest.mark.parametrize(
        "lines",
        [
            "server",
            "server s",
            "server s 10.0.0.1:80 weight",
            "server s 10.0.0.1:80 weight 300",
            "server s 10.0.0.1:99999",
            "server s ; 10.0.0.1:80",
            "timeout server",
            "timeout server 0",
            "balance",
            "balance hdr()",
            "cookie",
            "option httpchk\n http-check\n server s 10.0.0.1:80 check",
            "option httpchk GET\n server s 10.0.0.1:80 check",
            "option httpchk GET / HTTP/1.0\\r\\nX-A:\\ b\\ #c\n server s 10.0.0.1:80 check",
            "option tcp-check\n tcp-check send \\x00#\n tcp-check expect rstring (a+)+\n server s 10.0.0.1:80 check",
            "retries many",
            "stick on",
            "default-server\n default-server inter",
            "acl\n acl a\n http-request set-header",
            "server s 10.0.0.1:80 check inter 0 rise x",
        ],
    )
    def test_a_line_that_is_odd_never_spoils_the_rest(self, lines: str) -> None:
        found, _ = backend(lines + "\n server last 10.0.0.9:80")
        assert found.servers[-1].name == "last"


WORDS = sorted({word for name in ("site", "tcp", "old") for word in (HERE / f"{name}.cfg").read_text().split()})
ODD = ("%[src]", "${X}", "\\", "'", '"', ";", "#", "{", "}", "!", "if", "or", "\0", "é", "[", "=", "(a+)+", "9" * 9)


class TestAnyText:
    @given(st.data())
    @settings(max_examples=100, deadline=None)
    def test_lines_with_words_from_anywhere_are_carried_or_said(self, data: st.DataObject) -> None:
        lines = (HERE / data.draw(st.sampled_from(["site.cfg", "tcp.cfg", "old.cfg"]))).read_text().splitlines()
        for _ in range(data.draw(st.integers(1, 8))):
            at = data.draw(st.integers(0, len(lines) - 1))
            words = lines[at].split(" ")
            where = data.draw(st.integers(0, len(words)))
            words[where : where + data.draw(st.integers(0, 1))] = [data.draw(st.sampled_from([*WORDS, *ODD]))]
            lines[at] = " ".join(words)
        made = translate("\n".join(lines))
        if made.usable:
            parse(made.text)


class TestServers:
    def test_defaults_hold_for_the_lines_behind_them(self) -> None:
        found, _ = backend(
            "server a 10.0.0.1:80\n default-server weight 7 check\n"
            " server b 10.0.0.2:80\n server c 10.0.0.3:80 weight 3"
        )
        assert [(s.weight, s.check) for s in found.servers] == [(1, False), (7, True), (3, True)]

    def test_without_a_check_on_any_there_is_none(self) -> None:
        found, _ = backend("option httpchk GET /\n server a 10.0.0.1:80 inter 5s")
        assert found.check.kind == "none"

    def test_tls_is_verified_unless_it_says_not(self) -> None:
        found, _ = backend("server a 10.0.0.1:443 ssl\n server b 10.0.0.1:443 ssl verify none")
        assert [s.tls and s.tls.verify for s in found.servers] == [True, False]

    @pytest.mark.parametrize("word", ["send-proxy", "send-proxy-v2", "proto h2", "crt client.pem"])
    def test_what_would_not_work_without_a_word_is_left_out(self, word: str) -> None:
        found, notes = backend(f"server a 10.0.0.1:80 {word}\n server b 10.0.0.2:80")
        assert [s.name for s in found.servers] == ["b"]
        assert any(f"not carried, {word.split()[0]}: " in note for note in notes)

    def test_an_unknown_word_is_said_and_the_server_stays(self) -> None:
        found, notes = backend("server a 10.0.0.1:80 maxqueue 5 tfo")
        assert [s.name for s in found.servers] == ["a"]
        assert len(notes) == 2

    def test_what_differs_between_servers_is_said(self) -> None:
        found, notes = backend("server a 10.0.0.1:80 check fall 2\n server b 10.0.0.2:80 check fall 7")
        assert found.check.fall == 2
        assert [note for note in notes if "fall = 2 holds for all servers" in note]

    @pytest.mark.parametrize("address", ["10.0.0.1", "/run/a.sock", "unix@/run/a.sock", "10.0.0.1:+80", "${HOST}:80"])
    def test_an_address_that_cannot_be(self, address: str) -> None:
        found, notes = backend(f"server a {address}\n server b 10.0.0.2:80")
        assert [s.name for s in found.servers] == ["b"]
        assert len(notes) == 1


class TestTimes:
    @pytest.mark.parametrize(
        ("written", "seconds"), [("5000", 5), ("1500", 1.5), ("10s", 10), ("2m", 120), ("1d", 86400), ("90s", 90)]
    )
    def test_a_number_alone_is_milliseconds(self, written: str, seconds: float) -> None:
        found, _ = backend(f"timeout server {written}")
        assert found.timeout_server == seconds

    def test_a_line_of_the_section_overrides_the_defaults(self) -> None:
        found, _ = backend("timeout server 2s", defaults=" timeout server 9s\n timeout connect 3s")
        assert (found.timeout_server, found.timeout_connect) == (2, 3)


class TestConditions:
    @pytest.mark.parametrize(
        ("condition", "paths", "others"),
        [
            ("{ path_beg /api }", ["/api", "/apis", "/api/x"], ["/ap", "/x/api"]),
            ("{ path_end .png }", ["/a.png"], ["/apng", "/a.png/x"]),
            ("{ path /x /y }", ["/x", "/y"], ["/x/", "/xy"]),
            ("{ path_reg ^/m/[0-9]+\\.html$ }", ["/m/12.html"], ["/m/12xhtml", "/x/m/1.html"]),
            ("{ path_reg /a|/b }", ["/x/a/y", "/b"], ["/c"]),
            ("{ path_dir admin }", ["/admin", "/x/admin/y"], ["/xadmin"]),
            ("{ path_sub -i SeCret }", ["/a/secret/b", "/SECRET"], ["/secre"]),
        ],
    )
    def test_paths_mean_the_same(self, condition: str, paths: list[str], others: list[str]) -> None:
        import re

        found, _ = frontend(f"use_backend c if {condition}")
        ((pattern,),) = [rule.when.patterns for rule in found.rules]
        assert all(re.fullmatch(pattern, path) for path in paths)
        assert not any(re.fullmatch(pattern, path) for path in others)

    def test_or_makes_two_rules_and_names_side_by_side_one(self) -> None:
        found, _ = frontend(
            "acl a hdr(host) -i a.example\n acl a hdr(host) -i b.example\n acl get method GET\n"
            " use_backend c if a get or { src 10.0.0.0/8 }"
        )
        assert [(rule.when.hosts, rule.when.methods, rule.when.sources) for rule in found.rules] == [
            (("a.example",), ("GET",), ()),
            (("b.example",), ("GET",), ()),
            ((), (), ("10.0.0.0/8",)),
        ]

    def test_unless_and_not_are_known_of_tls_only(self) -> None:
        found, notes = frontend("redirect scheme https unless { ssl_fc }\n use_backend c if !{ path_beg /x }")
        assert [(rule.location, rule.when.secure) for rule in found.rules] == [("https://{host}{uri}", False)]
        assert len(notes) == 1

    @pytest.mark.parametrize(
        "condition",
        [
            "unknown",
            "{ nbsrv(b) lt 1 }",
            "{ path_beg /a",
            "a or",
            "{ hdr_sub(User-Agent) x }",
            "{ hdr(X) -i Ab }",
            "{ path_beg -f /etc/x }",
        ],
    )
    def test_what_cannot_be_said_is_left(self, condition: str) -> None:
        found, notes = frontend(f"use_backend c if {condition}")
        assert found.rules == ()
        assert len(notes) == 1
        assert "not carried" in notes[0]

    @pytest.mark.parametrize(
        "line",
        [
            "http-request deny if { nbsrv(b) lt 1 }",
            "http-request deny if { path_beg /admin } !{ src 10.0.0.0/8 }",
            "http-request auth unless { src 10.0.0.0/8 }",
            "tcp-request content reject if { src 10.0.0.0/8 }",
            "tcp-request connection reject if { src_conn_rate gt 10 }",
        ],
    )
    def test_who_is_let_in_without_a_line_is_shouted(self, line: str) -> None:
        _, notes = frontend(line)
        assert "LET IN" in notes[0]


class TestListeners:
    @pytest.mark.parametrize(
        "words",
        [
            "accept-proxy",
            "ssl crt nowhere.pem",
            "ssl",
            "ssl crt x.pem ca-file ca.pem verify required",
            "ssl crt-list list.txt",
        ],
    )
    def test_an_address_that_would_be_open_to_others_is_left_out(
        self, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "x.pem").touch(mode=0o600)
        found, notes = frontend(f"bind :8443 {words}")
        assert [listen.port for listen in found.listen] == [8080]
        assert len(notes) == 1

    def test_one_line_may_have_several_addresses(self) -> None:
        found, _ = frontend("bind 127.0.0.1:1,[::1]:2,:::3\n bind ipv4@10.0.0.1:4")
        assert [(listen.host, listen.port) for listen in found.listen[1:]] == [
            ("127.0.0.1", 1),
            ("::1", 2),
            ("::", 3),
            ("10.0.0.1", 4),
        ]


def test_fields_are_edited() -> None:
    found, notes = frontend(
        "http-request set-header X-Client %[src]\n http-request add-header X-A b if { ssl_fc }\n"
        " http-response del-header Server\n http-request set-header X-Forwarded-For %[src]"
    )
    assert [(edit.name, edit.verb, edit.value) for edit in found.request_edits] == [("X-Client", "set", "{client}")]
    assert [(edit.name, edit.verb) for edit in found.response_edits] == [("Server", "remove")]
    assert ["without conditions" in note for note in notes] == [True, False]

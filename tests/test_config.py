"""lb.ini as its writer meets it: what is understood, and what is said about each mistake."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbservice.config import ADMIN_NEEDS, SECTIONS, load, parse, parse_address, parse_server
from lbservice.core.settings import (
    AdminListen,
    AdminSettings,
    AgentSettings,
    BackendSettings,
    CheckSettings,
    Conditions,
    Edit,
    FrontendSettings,
    HeadLimits,
    Listen,
    ListenTls,
    ManholeSettings,
    ObserveSettings,
    OutlierSettings,
    PrioritySettings,
    RateSettings,
    Rule,
    ServerSettings,
    ServerTls,
    Settings,
    Step,
    StickySettings,
)
from lbservice.errors import ConfigError, Problem
from lbservice.questions import HTTP_EXAMPLE, HTTP_FORM
from lbservice.values import duration, size

HOME = Path(__file__).parent.parent
POLICIES = ("roundrobin", "leastconn")

SMALLEST = """\
[frontend web]
listen = 127.0.0.1:8080
backend = app
[backend app]
server s1 = 127.0.0.1:9001
"""


def problems(text: str) -> list[str]:
    """What is said about a text, a sentence per mistake; an empty list when all is well."""
    try:
        parse(text, policies=POLICIES)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def problems_with_all_policies(text: str) -> list[str]:
    try:
        parse(text)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def frontend(*lines: str) -> FrontendSettings:
    return parse("\n".join((SMALLEST, "[frontend f]", "backend = app", *lines))).frontends[1]


def backend(*lines: str) -> BackendSettings:
    return parse("\n".join((SMALLEST, "[backend b]", *lines))).backends[1]


def said_of_frontend(*lines: str) -> str:
    """The one thing said about these lines of a frontend, without the file and the line."""
    return only(problems("\n".join((SMALLEST, "[frontend f]", "backend = app", *lines))))


def said_of_backend(*lines: str) -> str:
    return only(problems("\n".join((SMALLEST, "[backend b]", *lines))))


def only(said: list[str]) -> str:
    (sentence,) = said
    return sentence.split(": ", 1)[1].split("] ", 1)[1]


class TestWhatIsUnderstood:
    def test_five_lines_are_enough_and_the_rest_has_defaults(self) -> None:
        assert parse(SMALLEST) == Settings(
            frontends=(FrontendSettings("web", (Listen("127.0.0.1", 8080),), "app"),),
            backends=(BackendSettings("app", (ServerSettings("s1", "127.0.0.1", 9001),)),),
        )

    def test_every_key_of_a_frontend(self) -> None:
        assert frontend(
            "listen = 127.0.0.1:8081, :8082, *:8083, [::1]:8084",
            "mode = http",
            "maxconn = 1000",
            "trusted-proxies = 10.0.0.0/8, 192.0.2.7 ::1",
            "via = edge",
            "max-head = 64KiB",
            "max-line = 16KiB",
            "max-fields = 200",
            "timeout client-head = 5s",
            "timeout client = 1m",
            "timeout keep-alive = 500ms",
        ) == FrontendSettings(
            name="f",
            listen=(Listen("127.0.0.1", 8081), Listen("", 8082), Listen("", 8083), Listen("::1", 8084)),
            backend="app",
            mode="http",
            maxconn=1000,
            trusted=("10.0.0.0/8", "192.0.2.7/32", "::1/128"),
            via="edge",
            limits=HeadLimits(head=65536, line=16384, fields=200),
            timeout_client_head=5.0,
            timeout_client=60.0,
            timeout_keep_alive=0.5,
        )

    def test_every_key_of_a_backend(self) -> None:
        assert backend(
            "balance = maglev uri",
            "hash-balance-factor = 150",
            "sticky = cookie SRV httponly secure samesite=none path=/app domain=app.example",
            f"sticky-key = {__file__}",
            "check = http HEAD /ready?full=1 host app.example expect 200-299,304",
            "rise = 1",
            "fall = 5",
            "inter = 3s",
            "fastinter = 1s",
            "downinter = 10s",
            "timeout check = 2s",
            "init-state = down",
            "check-via = 9100",
            "log-health-checks = on",
            "agent-check = 10.0.0.5:8090",
            "agent-inter = 5s",
            'agent-send = "state of {server}\\n"',
            "retries = 0",
            "maxqueue = 50",
            "timeout connect = 1s",
            "timeout server = 30s",
            "timeout queue = 2s",
            "timeout tunnel = 2h",
            "retry-budget = 40%",
            "queue-priority = header(X-Priority) high, normal, low default Normal",
            "slowstart = 30s",
            "panic = 50%",
            "on-marked-down = shutdown-sessions",
            "observe = layer7",
            "error-limit = 20",
            "on-error = mark-down",
            "outlier = gateway",
            "outlier-limit = 3",
            "outlier-ejection = 10s",
            "outlier-longest = 1m",
            "outlier-share = 25%",
            "server s1 = 127.0.0.1:9001 weight=0 maxconn=8 backup no-check slowstart=1m",
            "server s2 = [2001:db8::1]:443 tls",
            "server s3 = app.internal:443 tls verify=no sni=app.example check-via=[::1]:9100",
        ) == BackendSettings(
            name="b",
            servers=(
                ServerSettings("s1", "127.0.0.1", 9001, weight=0, maxconn=8, backup=True, check=False, slowstart=60.0),
                ServerSettings("s2", "2001:db8::1", 443, tls=ServerTls()),
                ServerSettings(
                    "s3", "app.internal", 443, tls=ServerTls(verify=False, sni="app.example"), check_via=("::1", 9100)
                ),
            ),
            retry_budget=0.4,
            priority=PrioritySettings("X-Priority", ("high", "normal", "low"), 1),
            slowstart=30.0,
            panic=0.5,
            cut_when_down=True,
            observe=ObserveSettings("layer7", 20, "mark-down"),
            outlier=OutlierSettings("gateway", 3, 10.0, 60.0, 0.25),
            balance="maglev uri",
            hash_balance_factor=150,
            sticky=StickySettings(
                "SRV", path="/app", domain="app.example", httponly=True, secure=True, samesite="None"
            ),
            sticky_key=__file__,
            check=CheckSettings(
                kind="http",
                method="HEAD",
                path="/ready?full=1",
                host="app.example",
                expect=((200, 299), (304, 304)),
                rise=1,
                fall=5,
                inter=3.0,
                fastinter=1.0,
                downinter=10.0,
                timeout=2.0,
                init_up=False,
                via=(None, 9100),
                log=True,
            ),
            agent=AgentSettings(("10.0.0.5", 8090), inter=5.0, send=b"state of {server}\n"),
            retries=0,
            maxqueue=50,
            timeout_connect=1.0,
            timeout_server=30.0,
            timeout_queue=2.0,
            timeout_tunnel=7200.0,
        )

    def test_the_log_the_grace_and_a_manhole_on_a_socket(self) -> None:
        settings = parse(SMALLEST + "[loadbalancer]\nlog = my log.txt\ngrace = 5s\n[manhole]\nlisten = unix:run/m.sock")
        assert (settings.log, settings.grace) == ("my log.txt", 5.0)
        assert settings.manhole == ManholeSettings(unix="run/m.sock")

    def test_a_manhole_over_ssh(self, tmp_path: Path) -> None:
        keys = tmp_path / "admins.pub"
        keys.touch()
        settings = parse(
            SMALLEST + f"[manhole]\nlisten = ssh:127.0.0.1:2222\nauthorized-keys = {keys}\nhost-key = host"
        )
        assert settings.manhole == ManholeSettings(ssh=("127.0.0.1", 2222), authorized_keys=str(keys), host_key="host")

    def test_certificates(self, tmp_path: Path) -> None:
        pem = tmp_path / "site.pem"
        pem.touch()
        assert frontend(f"listen = :443 tls cert={pem}, :444 tls cert={pem} key={pem}").listen == (
            Listen("", 443, ListenTls(str(pem))),
            Listen("", 444, ListenTls(str(pem), str(pem))),
        )
        assert backend(f"server s1 = a:1 tls ca={pem}").servers[0].tls == ServerTls(ca=str(pem))

    def test_a_backend_may_be_empty_and_unused_since_servers_can_come_later(self) -> None:
        assert backend() == BackendSettings("b")

    def test_via_can_be_switched_off(self) -> None:
        assert frontend("listen = :81", "via = off").via is None

    @pytest.mark.parametrize("kind", ["tcp", "none"])
    def test_checks_without_http(self, kind: str) -> None:
        assert backend(f"check = {kind}", "rise = 4").check == CheckSettings(kind=kind, rise=4)

    @pytest.mark.parametrize(
        ("text", "steps"),
        [
            ("send PING expect +PONG", (Step(send=b"PING"), Step(expect=b"+PONG"))),
            (
                r'send "a b\r\n\t\0\\\"\x00\xff é" expect "x"',
                (Step(send=b'a b\r\n\t\0\\"\x00\xff \xc3\xa9'), Step(expect=b"x")),
            ),
            ("expect /^220 .*/ send QUIT", (Step(expect=re.compile(rb"^220 .*")), Step(send=b"QUIT"))),
            (r"expect /a\/b\d/i", (Step(expect=re.compile(rb"a/b\d", re.IGNORECASE)),)),
            ("expect a/b", (Step(expect=b"a/b"),)),
        ],
    )
    def test_a_conversation(self, text: str, steps: tuple[Step, ...]) -> None:
        assert backend(f"check = tcp {text}").check == CheckSettings(steps=steps)
        assert backend(f"check = tls {text}").check == CheckSettings(steps=steps, tls=True)

    @pytest.mark.parametrize(
        ("text", "fields"),
        [
            ("tls", {"tls": True}),
            ("tls sni a.example", {"tls": True, "host": "a.example"}),
            ("https GET /x", {"kind": "http", "tls": True, "path": "/x"}),
            ("http GET / body ok", {"kind": "http", "body": b"ok"}),
            ('http GET / body "all ok" expect 200', {"kind": "http", "body": b"all ok", "expect": ((200, 200),)}),
            ("http GET / body /^ok$/ host a", {"kind": "http", "body": re.compile(b"^ok$"), "host": "a"}),
            (
                'http GET / header "X-A:  b c" header X-B:d',
                {"kind": "http", "headers": (("X-A", "b c"), ("X-B", "d"))},
            ),
        ],
    )
    def test_other_checks(self, text: str, fields: dict[str, object]) -> None:
        assert backend(f"check = {text}").check == CheckSettings(**fields)  # type: ignore[arg-type] # its fields

    def test_agents(self) -> None:
        assert backend("agent-check = 8090").agent == AgentSettings((None, 8090), inter=2.0, send=b"")
        assert backend("agent-check = 8090", "agent-send = ask").agent == AgentSettings((None, 8090), send=b"ask")

    def test_a_tcp_frontend(self) -> None:
        assert frontend("listen = :81", "mode = tcp", "timeout client = 1h").mode == "tcp"

    @pytest.mark.parametrize(
        ("text", "priority"),
        [
            ("header(X-Class) gold silver", PrioritySettings("X-Class", ("gold", "silver"), 1)),
            ("header( X-Class )gold,silver,tin", PrioritySettings("X-Class", ("gold", "silver", "tin"), 2)),
            ("header(p) 1, 2 default 1", PrioritySettings("p", ("1", "2"), 0)),
        ],
    )
    def test_the_classes_of_a_queue(self, text: str, priority: PrioritySettings) -> None:
        assert backend(f"queue-priority = {text}").priority == priority

    def test_what_survives_can_be_switched_off(self) -> None:
        settings = backend("retry-budget = off", "panic = off", "on-marked-down = none")
        assert (settings.retry_budget, settings.panic, settings.cut_when_down) == (inf, 0.0, False)

    def test_the_options_have_defaults_of_their_own(self) -> None:
        settings = backend("observe = layer4", "outlier = 5xx")
        assert settings.observe == ObserveSettings("layer4", 10, "fail-check")
        assert settings.outlier == OutlierSettings("5xx", 5, 30.0, 300.0, 0.5)

    def test_comments_stand_alone_or_after_white_space(self) -> None:
        text = "; one\n  # two\n" + SMALLEST.replace("8080", "8080 ; three").replace("app]", "app]\t#four")
        assert parse(text) == parse(SMALLEST)
        assert backend("check = http GET /a;b#c expect 200").check.path == "/a;b#c"

    def test_a_percent_sign_is_only_a_percent_sign(self) -> None:
        assert parse(SMALLEST + "[loadbalancer]\nlog = 100%(x)s.log").log == "100%(x)s.log"

    def test_spaces_and_windows_line_ends_do_not_matter(self) -> None:
        text = SMALLEST.replace(" = ", "=").replace("\n", "\r\n").replace("[backend app]", "[ backend  app ]")
        assert parse(text + "  timeout \t connect  =  1s\r\n").backends[0].timeout_connect == 1.0

    def test_a_wildcard_of_ipv4_and_one_address_of_ipv6_share_a_port(self) -> None:
        assert len(frontend("listen = :81, [::1]:81").listen) == 2

    def test_port_0_may_be_listened_on_twice(self) -> None:
        assert frontend("listen = :0, :0").listen == (Listen("", 0), Listen("", 0))


class TestWhatIsSaid:
    def test_the_sentence_of_the_style_guide(self) -> None:
        text = "\n" * 14 + SMALLEST.replace("server", "balance = leestconn\nserver")
        assert problems(text) == [
            "lb.ini:19: [backend app] balance = leestconn: unknown policy; did you mean 'leastconn'?"
        ]

    def test_every_mistake_at_once_in_the_order_of_the_lines(self) -> None:
        text = """\
colour = blue
[frontend web]
listen = 127.0.0.1:80800
backend = ap
timeout client = 30
[backend app]
balance = leastconns
server s1 = 127.0.0.1:9001 weight=300 wieght=2
server s1 = 127.0.0.1:9002
server s2 127.0.0.1:9003
[backand other]
[manhole]
"""
        assert problems(text) == [
            "lb.ini:1: colour = blue: stands before the first [section]",
            "lb.ini:3: [frontend web] listen = 127.0.0.1:80800: the port must be a whole number from 0 to 65535",
            "lb.ini:4: [frontend web] backend = ap: no such backend; did you mean 'app'?",
            "lb.ini:5: [frontend web] timeout client = 30: write a unit, e.g. 30s",
            "lb.ini:7: [backend app] balance = leastconns: unknown policy; did you mean 'leastconn'?",
            "lb.ini:8: [backend app] server s1 = 127.0.0.1:9001 weight=300 wieght=2: "
            "weight=300: must be a whole number from 0 to 256",
            "lb.ini:8: [backend app] server s1 = 127.0.0.1:9001 weight=300 wieght=2: "
            "unknown option 'wieght'; did you mean 'weight'?",
            "lb.ini:9: [backend app] server s1 = 127.0.0.1:9002: was already given on line 8; keep one of the two",
            "lb.ini:10: [backend app] server s2 127.0.0.1:9003: write key = value",
            "lb.ini:11: [backand other]: unknown section; did you mean 'backend'?",
            "lb.ini:12: [manhole] listen: missing; say where, e.g. listen = unix:run/manhole.sock",
        ]

    def test_a_problem_can_be_taken_apart(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse(SMALLEST + "rise = 0", "etc/lb.ini")
        (problem,) = caught.value.problems
        assert (problem.file, problem.line, problem.section) == ("etc/lb.ini", 6, "backend app")
        assert (problem.key, problem.value) == ("rise", "0")
        assert problem.message == "must be a whole number from 1 to 1000000"

    def test_the_exception_prints_a_problem_a_line(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse(SMALLEST + "rise = 0\nfall = 0")
        assert str(caught.value) == "\n".join(problems(SMALLEST + "rise = 0\nfall = 0"))
        assert len(str(caught.value).splitlines()) == 2

    def test_an_empty_file_has_no_frontend(self) -> None:
        assert problems("") == ["lb.ini: no [frontend NAME] section; add one with listen and backend"]

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ("[]", "lb.ini:6: write a section as [kind] or [kind name], alone on its line"),
            (
                "[backend x",
                "lb.ini:6: [backend x]: write a section as [kind] or [kind name], alone on its line",
            ),
            ("[backend]", "lb.ini:6: [backend]: the name is missing; write [backend NAME]"),
            ("[backend a b]", "lb.ini:6: [backend a b]: a name is one word of letters, digits and _ . : -"),
            ("[loadbalancer x]", "lb.ini:6: [loadbalancer x]: takes no name; write [loadbalancer]"),
            ("[backend app]", "lb.ini:6: [backend app]: was already given on line 4; keep one of the two"),
            ("[zzz]", "lb.ini:6: [zzz]: unknown section; one of: admin, backend, frontend, loadbalancer, manhole"),
            ("balance =", "lb.ini:6: [backend app] balance: the value after the = is missing"),
            ("balance = ; roundrobin", "lb.ini:6: [backend app] balance: the value after the = is missing"),
            ("= 3", "lb.ini:6: [backend app] = 3: the key before the = is missing"),
            ("retries: 3", "lb.ini:6: [backend app] retries: 3: write key = value"),
            ("rise = \0", "lb.ini:6: [backend app]: a control character (U+0000) in the line; take it out"),
            (
                "rise = 2\x9b3",
                "lb.ini:6: [backend app]: a control character (U+009B) in the line; take it out",
            ),
            ("Rise = 2", "lb.ini:6: [backend app] Rise = 2: unknown key; did you mean 'rise'?"),
            ("via = off", "lb.ini:6: [backend app] via = off: belongs in a [frontend] section"),
            ("listen = :80", "lb.ini:6: [backend app] listen = :80: belongs in a [frontend] section"),
        ],
    )
    def test_shape(self, lines: str, said: str) -> None:
        assert said in problems(SMALLEST + lines)

    def test_an_empty_value_is_one_mistake_not_two(self) -> None:
        assert problems(SMALLEST.replace("127.0.0.1:8080", "") + "rise =") == [
            "lb.ini:2: [frontend web] listen: the value after the = is missing",
            "lb.ini:6: [backend app] rise: the value after the = is missing",
        ]

    def test_an_unknown_key_with_nothing_like_it_lists_what_there_is(self) -> None:
        assert said_of_backend("colour = blue").startswith("colour = blue: unknown key; one of: agent-check,")


class TestFrontendSays:
    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("8080", "the port is missing; write HOST:PORT, e.g. 127.0.0.1:8080"),
            ("localhost:80", "listen on an IP address; did you mean '127.0.0.1:80'?"),
            ("example.com:80", "example.com is no IPv4 address"),
            ("::1:80", "write an IPv6 address in brackets, e.g. [::1]:8080"),
            ("[127.0.0.1]:80", "127.0.0.1 is no IPv6 address"),
            (":http", "the port must be a whole number from 0 to 65535"),
            (":80,", "the port is missing; write HOST:PORT, e.g. 127.0.0.1:8080"),
            (":443 tls", "tls needs a certificate; write tls cert=FILE, a PEM file"),
            (":443 tls=yes cert=/", "tls takes no value; write tls alone"),
            (":443 tls cert", "cert needs a value; write cert=VALUE without spaces"),
            (":443 tls certificate=x", "unknown option 'certificate'; one of: cert, key, tls"),
            (":443 tls cert=gone.pem", "cert=gone.pem: no such file: gone.pem"),
            (":443 tls cert=/", "cert=/: / is a folder; name a file"),
            (":443 cert=/etc/passwd", "cert without tls; add the word tls"),
            (":443 tls tls", "tls is given twice"),
        ],
    )
    def test_listen(self, value: str, said: str) -> None:
        lines = "\n".join((SMALLEST, "[frontend f]", "backend = app", f"listen = {value}"))
        assert any(f"listen = {value}: {said}" in sentence for sentence in problems(lines))

    def test_a_certificate_that_may_not_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pem = tmp_path / "site.pem"
        pem.touch(mode=0)
        monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
        assert f"may not read {pem}; change its owner or mode" in said_of_frontend(f"listen = :443 tls cert={pem}")

    @pytest.mark.parametrize("second", ["127.0.0.1:8080", "*:8080", "[::]:8080"])
    def test_an_address_is_listened_on_once(self, second: str) -> None:
        shown = second.replace("*", "0.0.0.0")
        assert said_of_frontend(f"listen = {second}") == (
            f"listen = {second}: {shown} is already listened on by line 2"
        )

    def test_the_manhole_needs_an_address_of_its_own_too(self, tmp_path: Path) -> None:
        text = SMALLEST + f"[manhole]\nlisten = ssh:127.0.0.1:8080\nauthorized-keys = {__file__}"
        assert only(problems(text)).endswith("127.0.0.1:8080 is already listened on by line 2")

    def test_listen_and_backend_must_be_there(self) -> None:
        assert problems("[frontend web]") == [
            "lb.ini:1: [frontend web] listen: missing; say where, e.g. listen = 127.0.0.1:8080",
            "lb.ini:1: [frontend web] backend: missing; say which, e.g. backend = app",
        ]

    def test_a_misspelt_key_is_not_also_called_missing(self) -> None:
        assert problems(SMALLEST.replace("listen", "listne")) == [
            "lb.ini:2: [frontend web] listne = 127.0.0.1:8080: unknown key; did you mean 'listen'?"
        ]

    def test_a_backend_that_is_not_there(self) -> None:
        assert problems("[frontend web]\nlisten = :80\nbackend = app") == [
            "lb.ini:3: [frontend web] backend = app: no such backend; add a section [backend app]"
        ]

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("mode = htp", "unknown mode; did you mean 'http'?"),
            ("maxconn = -1", "must be a whole number from 0 to 1000000"),
            ("maxconn = 1_0", "must be a whole number from 0 to 1000000"),
            ("maxconn = ٣", "must be a whole number from 0 to 1000000"),
            ("max-fields = 0", "must be a whole number from 1 to 1000000"),
            ("max-head = 64", "write a unit, e.g. 64KiB"),
            ("via = two words", "a name is one word of letters, digits and _ . : -"),
            ("trusted-proxies = ten", "ten is no network; write e.g. 10.0.0.0/8 or 192.0.2.7"),
            (
                "trusted-proxies = 10.1.2.3/8",
                "10.1.2.3/8 has bits set after the prefix; did you mean '10.0.0.0/8'?",
            ),
            (
                "deny = ::ffff:10.0.0.0/104",
                "IPv4 clients of an IPv6 listener are IPv4 clients here; did you mean '10.0.0.0/8'?",
            ),
        ],
    )
    def test_of_a_value(self, line: str, said: str) -> None:
        assert said_of_frontend("listen = :81", line) == f"{line}: {said}"

    @pytest.mark.parametrize(
        "line",
        [
            "trusted-proxies = ::1",
            "via = off",
            "max-head = 1KiB",
            "max-line = 1KiB",
            "max-fields = 9",
            "timeout client-head = 1s",
            "timeout keep-alive = 1s",
        ],
    )
    def test_what_belongs_to_http_has_no_place_in_tcp(self, line: str) -> None:
        assert said_of_frontend("listen = :81", "mode = tcp", line) == f"{line}: only for mode = http; take it out"


class TestBackendSays:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("check = htp GET /", "unknown check; did you mean 'http'?"),
            ("check = tcp GET", "unknown word 'GET'; one of: expect, send"),
            ("check = tcp sned x", "unknown word 'sned'; did you mean 'send'?"),
            ("check = tcp send", 'send needs a text; write send "..."'),
            ('check = tcp send ""', "send: there is nothing between the quotes"),
            (
                'check = tcp send "PING',
                "send: the quotes do not end before a space (write \\x3b and \\x23 for ; and #)",
            ),
            (
                'check = tcp send "a"b',
                "send: the quotes do not end before a space (write \\x3b and \\x23 for ; and #)",
            ),
            ('check = tcp send "\\q"', 'unknown escape \\q; there are \\r \\n \\t \\0 \\\\ \\" and \\xNN'),
            ('check = tcp send "\\x1"', 'unknown escape \\x; there are \\r \\n \\t \\0 \\\\ \\" and \\xNN'),
            (
                "check = tcp expect /(/",
                "/(/ is no regular expression: missing ), unterminated subpattern at position 0",
            ),
            ("check = tcp expect /(a+)+$/", "/(a+)+$/ repeats a repeat, which may take for ever; write it otherwise"),
            (
                "check = tcp expect /a",
                "expect: write a pattern between slashes, with \\/ for a slash in it, e.g. /^OK/",
            ),
            ("check = none x", "none takes nothing after it; take out 'x'"),
            ("check = tls sni", "sni needs a name; write sni NAME"),
            ("check = tls snj", "unknown word 'snj'; one of: expect, send"),
            ("check = http /health", f"write {HTTP_FORM}{HTTP_EXAMPLE}"),
            ("check = http GET / expect", f"expect needs a value; write {HTTP_FORM}{HTTP_EXAMPLE}"),
            ("check = http HEAD / body x", "the answer to HEAD has no body; take GET, or take out body"),
            ("check = http GET / header X", 'write header "NAME: VALUE", both in plain ASCII'),
            ('check = http GET / header "X: é"', 'write header "NAME: VALUE", both in plain ASCII'),
            ('check = http GET / header "X: a\\r\\nY: b"', 'write header "NAME: VALUE", both in plain ASCII'),
            ('check = http GET / header "host: a"', "write host NAME for the Host field"),
            (
                'check = http GET / header "Connection: close"',
                "the field Connection is the check's own; take it out",
            ),
            ("check-via = 0", "the port must be a whole number from 1 to 65535"),
            ("check-via = a", "the port is missing; write HOST:PORT, e.g. 127.0.0.1:9001"),
            ("log-health-checks = yes", "must be on or off"),
            ("agent-check = here", "the port is missing; write HOST:PORT, e.g. 127.0.0.1:9001"),
            ("agent-inter = 1s", "only with agent-check; add agent-check, or take it out"),
            ("check = http get /", "'get' is no method; write it in capitals, e.g. GET or HEAD"),
            ("check = http GET health", "the path 'health' must start with / and be plain ASCII"),
            ("check = http GET / expct 200", "unknown word 'expct'; did you mean 'expect'?"),
            ("check = http GET / expect 200 expect 201", "expect is given twice"),
            (
                "check = http GET / expect 2xx",
                "'2xx' is no status; write e.g. expect 200 or expect 200-299,304",
            ),
            (
                "check = http GET / expect 299-200",
                "'299-200' is no status; write e.g. expect 200 or expect 200-299,304",
            ),
            ("check = http GET / host a/b", "a/b is no host name"),
            ("fall = 0", "must be a whole number from 1 to 1000000"),
            ("init-state = on", "must be up or down"),
            ("inter = 0s", "too small; write e.g. 30s"),
            ("inter = soon", "write a number and a unit, e.g. 30s"),
            ("inter = 3 sec", "unknown unit 'sec'; one of: h, m, ms, s"),
            ("balance = zzz", "unknown policy; one of: leastconn, roundrobin"),
            ("retry-budget = 20", "write a percentage from 1% to 100%, e.g. 50%"),
            ("panic = 101%", "write a percentage from 1% to 100%, e.g. 50%"),
            ("panic = 0%", "write a percentage from 1% to 100%, e.g. 50%"),
            ("slowstart = 30", "write a unit, e.g. 30s"),
            ("on-marked-down = shutdown", "must be shutdown-sessions or none"),
            ("observe = layr7", "unknown layer; did you mean 'layer7'?"),
            ("error-limit = 5", "only with observe; add observe, or take it out"),
            ("on-error = mark-down", "only with observe; add observe, or take it out"),
            ("outlier = 5x", "unknown kind of error; did you mean '5xx'?"),
            ("outlier-share = 50%", "only with outlier; add outlier, or take it out"),
            (
                "queue-priority = X-Priority high, low",
                "write header(NAME) CLASS, CLASS, ... [default CLASS], e.g."
                " header(X-Priority) high, normal, low default normal",
            ),
            (
                "queue-priority = header(X-Priority) high",
                "name two classes or more, the first one first, e.g. high, normal, low",
            ),
            ("queue-priority = header(X-Priority) high, low, High", "a class is named twice"),
            ("queue-priority = header(P) high, low default hihg", "unknown class; did you mean 'high'?"),
            (f"queue-priority = header(P) {', '.join(map(str, range(17)))}", "16 classes are the most"),
        ],
    )
    def test_of_a_value(self, line: str, said: str) -> None:
        assert said_of_backend(line) == f"{line}: {said}"

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("server = 127.0.0.1:9001", "name the server; write server NAME = HOST:PORT"),
            ("server a b = 127.0.0.1:9001", "a name is one word of letters, digits and _ . : -"),
            ("server s = 127.0.0.1", "the port is missing; write HOST:PORT, e.g. 127.0.0.1:9001"),
            ("server s = 127.0.0.1:0", "the port must be a whole number from 1 to 65535"),
            ("server s = :9001", "the host before the port is missing; write HOST:PORT, e.g. 127.0.0.1:9001"),
            ("server s = 127.0.0.300:9001", "127.0.0.300 is no IPv4 address"),
            ("server s = a/b:9001", "a/b is neither a host name nor an IP address"),
            ("server s = ::1:9001", "write an IPv6 address in brackets, e.g. [::1]:9001"),
            ("server s = a:1 weight=257", "weight=257: must be a whole number from 0 to 256"),
            ("server s = a:1 weight", "weight needs a value; write weight=VALUE without spaces"),
            ("server s = a:1 backup=yes", "backup takes no value; write backup alone"),
            ("server s = a:1 bakcup", "unknown option 'bakcup'; did you mean 'backup'?"),
            ("server s = a:1 weight=1 weight=2", "weight is given twice"),
            ("server s = a:1 sni=x verify=no", "verify and sni without tls; add the word tls"),
            ("server s = a:1 check-via=x", "check-via=x: the port is missing; write HOST:PORT, e.g. 127.0.0.1:9001"),
            ("server s = a:1 tls verify=maybe", "verify=maybe: must be yes or no"),
            (
                "server s = a:1 tls ca=gone.pem",
                "ca=gone.pem: no such file: gone.pem (a relative path starts in the folder of the run)",
            ),
        ],
    )
    def test_of_a_server(self, line: str, said: str) -> None:
        assert said_of_backend(line) == f"{line}: {said}"

    def test_of_what_an_agent_is_told(self) -> None:
        line = "agent-send = a b"
        said = said_of_backend("agent-check = 8090", line)
        assert said == f'{line}: a text with spaces stands in quotes; write agent-send = "..."'

    def test_an_agent_at_an_impossible_port_is_one_mistake(self) -> None:
        said = said_of_backend("agent-check = 0", "agent-inter = 1s")
        assert said == "agent-check = 0: the port must be a whole number from 1 to 65535"

    def test_observing_needs_checks_that_bring_a_server_back(self) -> None:
        said = said_of_backend("check = none", "observe = layer4", "error-limit = 3")
        assert said == (
            "observe = layer4: needs checks, which bring a server back; use outlier instead, or add a check"
        )

    def test_an_unknown_action_on_errors(self) -> None:
        said = said_of_backend("observe = layer4", "on-error = markdown")
        assert said == "on-error = markdown: unknown action; did you mean 'mark-down'?"

    def test_a_misspelt_option_is_one_mistake(self) -> None:
        assert said_of_backend("outlier = 6xx", "outlier-limit = 3") == (
            "outlier = 6xx: unknown kind of error; did you mean '5xx'?"
        )

    def test_a_server_in_a_frontend_is_sent_home(self) -> None:
        line = "server s1 = 127.0.0.1:9001"
        assert said_of_frontend("listen = :81", line) == f"{line}: belongs in a [backend] section"


def rule(line: str, *lines: str) -> Rule:
    """The one rule of a frontend, and of its file with backends app and api."""
    text = "\n".join((SMALLEST, "[backend api]", "[frontend f]", "listen = :81", *lines, line))
    (found,) = parse(text).frontends[1].rules
    return found


class TestRules:
    def test_a_route_with_every_condition(self) -> None:
        assert rule(
            "route r1 = api strip=/api host=A.example,*.b.example.,[::1] path=/api/,/api/x method=GET,HEAD "
            "header(X-Beta)=Yes header(Upgrade)=WebSocket src=10.0.0.0/8,::1 scheme=https"
        ) == Rule(
            "r1",
            Conditions(
                hosts=("a.example", "*.b.example", "[::1]"),
                paths=("/api/", "/api/x"),
                methods=("GET", "HEAD"),
                fields=(("x-beta", "Yes"), ("upgrade", "websocket")),
                sources=("10.0.0.0/8", "::1/128"),
                secure=True,
            ),
            backend="api",
            strip="/api",
        )

    def test_a_regular_expression_stands_beside_prefixes(self) -> None:
        assert rule("route r = api path=/a path~=/b/[0-9]+,x").when == Conditions(
            paths=("/a",), patterns=("/b/[0-9]+,x",)
        )

    def test_a_route_by_sni(self) -> None:
        found = rule("route r = api sni=a.example src=10.0.0.0/8", "mode = tcp")
        assert found.when == Conditions(snis=("a.example",), sources=("10.0.0.0/8",))

    @pytest.mark.parametrize(
        ("line", "location", "status", "secure"),
        [
            ("redirect = https", "https://{host}{uri}", 302, False),
            ("redirect = https:8443 308", "https://{host}:8443{uri}", 308, False),
            ("redirect r = https:443 301", "https://{host}{uri}", 301, False),
            ("redirect r = https://new.example{uri} 301", "https://new.example{uri}", 301, None),
            ("redirect r = http://[::1]:80/x?y=%20#z", "http://[::1]:80/x?y=%20#z", 302, None),
            ("redirect r = https://www.{host}/a{path}", "https://www.{host}/a{path}", 302, None),
            ("redirect r = /new{uri} 307 scheme=https", "/new{uri}", 307, True),
            ("redirect r = /", "/", 302, None),
        ],
    )
    def test_redirects(self, line: str, location: str, status: int, secure: bool | None) -> None:
        found = rule(line)
        assert (found.location, found.status, found.when.secure) == (location, status, secure)

    def test_a_refusal(self) -> None:
        assert rule("refuse admin = 404 path=/admin") == Rule("admin", Conditions(paths=("/admin",)), status=404)

    def test_rules_keep_the_order_of_the_file(self) -> None:
        lines = ("route b = app path=/b", "redirect = https", "refuse c = 403 path=/c", "route a = app path=/a")
        assert [each.name for each in frontend("listen = :81", *lines).rules] == ["b", "", "c", "a"]

    def test_with_routes_no_backend_is_needed(self) -> None:
        for line in ("route r = app path=/a", "redirect = https"):
            settings = parse("\n".join((SMALLEST, "[frontend f]", "listen = :81", line))).frontends[1]
            assert settings.backend == ""

    def test_where_requests_may_go(self) -> None:
        text = SMALLEST + "[backend api]\n[frontend f]\nlisten = :81\nbackend = app\n"
        routes = "route a = api path=/a\nredirect = https\nroute b = api path=/b\nroute c = app path=/c"
        assert parse(text + routes).frontends[1].backends == ("app", "api")

    def test_who_may_come_and_how_often(self) -> None:
        found = frontend(
            "listen = :81",
            "allow = 10.0.0.0/8, ::1",
            "deny = 10.1.0.0/16",
            "rate-limit = 60/m burst=5 by=header(X-Api-Key)",
            "methods = GET, HEAD",
            "max-body = 1MiB",
        )
        assert (found.allow, found.deny) == (("10.0.0.0/8", "::1/128"), ("10.1.0.0/16",))
        assert (found.rate_limit, found.methods) == (RateSettings(1.0, 5, "x-api-key"), ("GET", "HEAD"))
        assert found.max_body == 1 << 20
        assert frontend("listen = :81", "rate-limit = 100/s by=address").rate_limit == RateSettings(100.0, 100)
        assert (backend("max-body = off").max_body, backend().max_body) == (0, None)

    def test_edits_of_fields(self) -> None:
        lines = ("request-header X-A = set 1; b", "request-header host = set a:8080", "response-header Server = remove")
        edits = (Edit("X-A", "set", "1; b"), Edit("host", "set", "a:8080"))
        for found in (frontend("listen = :81", *lines), backend(*lines)):
            assert found.request_edits == edits
            assert found.response_edits == (Edit("Server", "remove"),)
        json = 'response-header Report-To = add {"group": "x"} {client}'
        assert backend(json).response_edits == (Edit("Report-To", "add", '{"group": "x"} {client}'),)

    def test_error_pages(self, tmp_path: Path) -> None:
        page = tmp_path / "503.HTML"
        page.write_text("x")
        assert backend(f"error-page 503 = {page}").pages == ((503, str(page)),)
        assert frontend("listen = :81", f"error-page 404 = {page}").pages == ((404, str(page)),)


class TestRulesSay:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("route = app path=/a", "name the route; write route NAME = BACKEND CONDITIONS"),
            ("route a b = app path=/a", "a name is one word of letters, digits and _ . : -"),
            ("route r = ap path=/a", "no such backend; did you mean 'app'?"),
            ("route r = other path=/a", "no such backend; add a section [backend other]"),
            (
                "route r = app",
                "a route without a condition takes everything; add one, e.g. host=app.example or path=/api, "
                "or write backend =",
            ),
            ("route r = app hots=a", "unknown condition 'hots'; did you mean 'host'?"),
            ("route r = app path=api", "path=api: the path 'api' must start with / and be plain ASCII"),
            ("route r = app path=/a?b", "path=/a?b: a path ends before ? and #; take out what is behind"),
            (
                "route r = app path=/a/../b",
                "path=/a/../b: write a path without //, /./, /../, ; and encoded slashes: "
                "servers read these differently",
            ),
            ("route r = app path=/a path=/b", "path= is given twice; write commas between its values"),
            ("route r = app path", "path: write path=VALUE without spaces"),
            ("route r = app path=", "path=: write path=VALUE without spaces"),
            ("route r = app host~=a", "host~=a: write host=VALUE without spaces"),
            ("route r = app host(a)=b", "host(a)=b: write host=VALUE without spaces"),
            ("route r = app host=a:80", "host=a:80: the port does not count; did you mean 'a'?"),
            ("route r = app host=*", "host=*: '*' is no host name; write e.g. app.example or *.app.example"),
            ("route r = app host=a,,b", "host=a,,b: '' is no host name; write e.g. app.example or *.app.example"),
            ("route r = app method=get", "method=get: 'get' is no method; write it in capitals, e.g. GET or HEAD"),
            ("route r = app scheme=htps", "scheme=htps: unknown scheme; did you mean 'https'?"),
            ("route r = app src=ten", "src=ten: ten is no network; write e.g. 10.0.0.0/8 or 192.0.2.7"),
            ("route r = app src=,", "src=,: write networks, e.g. 10.0.0.0/8 or 192.0.2.7"),
            ("route r = app header=x", "header=x: write header(NAME) or header(NAME)=VALUE"),
            ("route r = app header(a", "unknown condition 'header(a'; did you mean 'header'?"),
            ("route r = app header(Host)=a", "header(Host)=a: write host= for the Host field"),
            ("route r = app header(X_A)", "header(X_A): fields with an underscore are dropped; no rule sees them"),
            (
                "route r = app header(X-Forwarded-For)=a",
                "header(X-Forwarded-For)=a: no rule sees X-Forwarded-For; for who the client is write src= or scheme=",
            ),
            ("route r = app sni=a", "sni= is for mode = tcp; here write host="),
            (
                "route r = app host=a strip=/a",
                "strip=/a needs path= with nothing but paths that begin with /a",
            ),
            (
                "route r = app path=/ab strip=/a",
                "strip=/a needs path= with nothing but paths that begin with /a",
            ),
            ("route r = app path=/a strip=a", "strip=a: the path 'a' must start with / and be plain ASCII"),
            ("redirect a b = https", "a name is one word of letters, digits and _ . : -"),
            (
                "redirect = htps",
                "write https://HOST/..., https://{host}{uri} or a path, e.g. /new (not //..., and not /{...})",
            ),
            (
                "redirect = //evil.example",
                "write https://HOST/..., https://{host}{uri} or a path, e.g. /new (not //..., and not /{...})",
            ),
            (
                "redirect = {uri}",
                "write https://HOST/..., https://{host}{uri} or a path, e.g. /new (not //..., and not /{...})",
            ),
            (
                "redirect = /{host}",
                "write https://HOST/..., https://{host}{uri} or a path, e.g. /new (not //..., and not /{...})",
            ),
            ("redirect = /x{url}", "unknown variable {url}; did you mean '{uri}'?"),
            ("redirect = https://a@b/", "'a@b' is no host"),
            ("redirect = https:99999", "the port must be a whole number from 1 to 65535"),
            ("redirect = https 200", "unknown status; one of: 301, 302, 303, 307, 308"),
            ("redirect = https scheme=https", "a redirect to https is for http; take scheme=https out"),
            ("redirect = /caf\u00e9", "a location is plain ASCII without spaces; write %20 for a space"),
            ("refuse = 403 path=/a", "name the refusal; write refuse NAME = STATUS CONDITIONS"),
            ("refuse r = 500 path=/a", "unknown status; did you mean '503'?"),
            ("rate-limit = 100", "write a number for a second, minute or hour, e.g. 100/s, 60/m or 1000/h"),
            ("rate-limit = 0/s", "write a number for a second, minute or hour, e.g. 100/s, 60/m or 1000/h"),
            ("rate-limit = 1/s brust=3", "unknown option 'brust'; did you mean 'burst'?"),
            ("rate-limit = 1/s burst=0", "burst=0: must be a whole number from 1 to 1000000"),
            ("rate-limit = 1/s burst=1 burst=2", "burst is given twice"),
            ("rate-limit = 1/s by=cookie", "by=cookie: write by=address or by=header(NAME)"),
            ("rate-limit = 1/s by=header(Host)", "by=header(Host): write host= for the Host field"),
            ("methods = GET, post", "'post' is no method; write it in capitals, e.g. GET or HEAD"),
            ("max-body = 10", "write a unit, e.g. 64KiB"),
            ("allow = ,", "write networks, e.g. 10.0.0.0/8 or 192.0.2.7"),
            ("deny = ten", "ten is no network; write e.g. 10.0.0.0/8 or 192.0.2.7"),
            ("request-header = set x", "name the field; write request-header NAME = set VALUE"),
            ("request-header X A = set x", "'X A' is no name of a header field"),
            ("request-header X-A = put x", "unknown word 'put'; one of: add, remove, set"),
            ("request-header X-A = set", "write set VALUE, plain ASCII, e.g. set yes"),
            ("request-header X-A = set \u00e9", "write set VALUE, plain ASCII, e.g. set yes"),
            ("request-header X-A = remove x", "remove takes nothing after it; take out 'x'"),
            ("request-header X-A = set {clent}", "unknown variable {clent}; did you mean '{client}'?"),
            (
                "request-header Content_Length = remove",
                "Content_Length is the balancer's own; it can be neither set nor removed",
            ),
            (
                "request-header transfer-encoding = set x",
                "transfer-encoding is the balancer's own; it can be neither set nor removed",
            ),
            ("response-header Date = remove", "Date is the balancer's own; it can be neither set nor removed"),
            ("request-header Host = remove", "there is always one Host; write set VALUE"),
            (
                "request-header Host = set {host}",
                "'{host}' is no host; write e.g. set app.internal or set app.internal:8080",
            ),
            ("error-page = x.html", "name the status; write error-page STATUS = FILE"),
            ("error-page 503 = gone.html", "no such file: gone.html (a relative path starts in the folder of the run)"),
            (
                "error-page 503 = /etc/passwd",
                "what is /etc/passwd? its name must end in one of: .htm, .html, .json, .txt, .xml",
            ),
            ("error-page 600 = gone.html", "no error page has the status '600'; one of: 400, 403, 404"),
        ],
    )
    def test_what_is_wrong(self, line: str, said: str) -> None:
        assert said_of_frontend("listen = :81", line).startswith(f"{line}: {said}")

    def test_a_page_that_is_too_large(self, tmp_path: Path) -> None:
        page = tmp_path / "large.html"
        page.write_bytes(b"x" * (256 * 1024 + 1))
        assert said_of_backend(f"error-page 503 = {page}").endswith("is larger than 256KiB; choose a smaller page")

    @pytest.mark.parametrize("pattern", ["(", "[", "a{2,1}", "(?P<x", "*"])
    def test_a_pattern_that_is_none(self, pattern: str) -> None:
        assert "no regular expression: " in said_of_frontend("listen = :81", f"route r = app path~={pattern}")

    def test_a_misspelt_word_of_a_named_key(self) -> None:
        line = "rout api = app path=/a"
        assert said_of_frontend("listen = :81", line) == f"{line}: unknown key; did you mean 'route api'?"

    def test_a_rule_behind_one_that_takes_everything(self) -> None:
        redirect, route = "redirect = /new", "route r = app path=/a"
        assert said_of_frontend("listen = :81", redirect, route) == (
            f"{route}: is never met: line 10 takes every request; change their order"
        )
        assert len(frontend("listen = :81", route, redirect).rules) == 2
        assert len(frontend("listen = :81", "redirect = https", route).rules) == 2

    def test_a_route_in_a_backend_is_sent_home(self) -> None:
        line = "route r = app path=/a"
        assert said_of_backend(line) == f"{line}: belongs in a [frontend] section"

    @pytest.mark.parametrize(
        "line",
        [
            "redirect = https",
            "refuse r = 403 path=/",
            "rate-limit = 1/s",
            "methods = GET",
            "max-body = 1KiB",
            "request-header X-A = remove",
            "response-header X-A = remove",
            "error-page 503 = gone.html",
        ],
    )
    def test_what_belongs_to_http_has_no_place_in_tcp(self, line: str) -> None:
        assert said_of_frontend("listen = :81", "mode = tcp", line) == f"{line}: only for mode = http; take it out"

    def test_conditions_of_http_have_no_place_in_tcp(self) -> None:
        for condition in ("host=a", "path=/a", "header(a)"):
            said = said_of_frontend("listen = :81", "mode = tcp", f"route r = app {condition}")
            assert said.endswith("= is only for mode = http; in tcp mode there are sni= and src=")

    def test_sni_and_tls_of_our_own_do_not_go_together(self, tmp_path: Path) -> None:
        pem = tmp_path / "site.pem"
        pem.touch()
        said = said_of_frontend(f"listen = :81 tls cert={pem}", "mode = tcp", "route r = app sni=a")
        assert said.endswith("sni= in a route reads TLS that goes through to a server; take tls out, or the route")


class TestPolicySays:
    """What `balance` says by itself is in tests/policies/test_spec.py."""

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            (
                ["balance = source", "hash-balance-factor = 110"],
                "must be a whole number from 125 to 200, or 0 for no bound",
            ),
            (["balance = uri", "hash-balance-factor = x"], "must be a whole number from 125 to 200, or 0 for no bound"),
            (
                ["balance = leastconn", "hash-balance-factor = 150"],
                "only for hashes (source, uri, header, cookie, param, maglev); take it out",
            ),
            (["hash-balance-factor = 0"], "only for hashes (source, uri, header, cookie, param, maglev); take it out"),
            (["sticky = cookei SRV"], "unknown way to stick; did you mean 'cookie'?"),
            (["sticky = cookie"], "name the cookie; write e.g. sticky = cookie SRV httponly"),
            (["sticky = cookie S;V"], "name the cookie; write e.g. sticky = cookie SRV httponly"),
            (["sticky = cookie SRV httpolny"], "unknown option 'httpolny'; did you mean 'httponly'?"),
            (["sticky = cookie SRV samesite=lux"], "samesite=lux: unknown samesite; did you mean 'lax'?"),
            (["sticky = cookie SRV path=app"], "path=app: a path starts with / and is plain ASCII without ;"),
            (
                ["sticky = cookie SRV samesite=none"],
                "browsers drop a cookie with samesite=none without secure; add the word secure",
            ),
            ([f"sticky-key = {__file__}"], "only with a sticky cookie; add e.g. sticky = cookie SRV"),
            (
                ["sticky = cookie SRV", "sticky-key = gone.key"],
                "no such file: gone.key (a relative path starts in the folder of the run)",
            ),
        ],
    )
    def test_of_a_value(self, lines: list[str], said: str) -> None:
        (sentence,) = problems_with_all_policies("\n".join((SMALLEST, "[backend b]", *lines)))
        assert sentence.endswith(f"[backend b] {lines[-1]}: {said}")

    def test_a_wrong_policy_is_one_mistake_not_two(self) -> None:
        lines = "\n".join((SMALLEST, "[backend b]", "balance = header", "hash-balance-factor = 150"))
        (sentence,) = problems_with_all_policies(lines)
        assert "say which header" in sentence

    def test_a_secret_that_is_too_short(self, tmp_path: Path) -> None:
        key = tmp_path / "sticky.key"
        key.write_text("  fifteen bytes.  \n")
        said = said_of_backend("sticky = cookie SRV", f"sticky-key = {key}")
        assert "sticky.key holds less than 16 bytes; make one with: head -c 32 /dev/urandom" in said

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("balance = uri", "looks at requests of http, but frontend f has mode = tcp; hash the source there"),
            (
                "balance = maglev header(A)",
                "looks at requests of http, but frontend f has mode = tcp; hash the source there",
            ),
            ("sticky = cookie SRV", "is for http, but frontend f has mode = tcp; take it out"),
        ],
    )
    def test_what_looks_at_requests_has_no_place_in_tcp(self, line: str, said: str) -> None:
        tcp = "[frontend f]\nlisten = :81\nmode = tcp\nbackend = b\n[backend b]\n"
        assert problems_with_all_policies(SMALLEST + tcp + line) == [f"lb.ini:11: [backend b] {line}: {said}"]
        assert problems_with_all_policies(SMALLEST + tcp.replace("tcp", "http") + line) == []
        routed = tcp.replace("backend = b\n", "route r = b sni=a.example\n")
        assert problems_with_all_policies(SMALLEST + routed + line) == [f"lb.ini:11: [backend b] {line}: {said}"]

    @pytest.mark.parametrize(
        "line",
        [
            "max-body = 1MiB",
            "request-header A = set b",
            "response-header A = remove",
            "queue-priority = header(P) a, b",
        ],
    )
    def test_what_no_request_would_meet_is_refused_where_all_is_tcp(self, line: str) -> None:
        tcp = "[frontend f]\nlisten = :81\nmode = tcp\nbackend = b\n[backend b]\n"
        said = "is for http, but no frontend has mode = http here; take it out"
        assert problems_with_all_policies(SMALLEST + tcp + line) == [f"lb.ini:11: [backend b] {line}: {said}"]
        both = "[frontend g]\nlisten = :82\nroute r = b path=/x\n"
        assert problems_with_all_policies(SMALLEST + both + tcp + line) == []

    @pytest.mark.parametrize("line", ["balance = uri", "sticky = cookie SRV"])
    def test_nor_behind_a_route(self, line: str) -> None:
        tcp = "[frontend f]\nlisten = :81\nmode = tcp\nroute r = b sni=db.example\nbackend = app\n[backend b]\n"
        (sentence,) = problems_with_all_policies(SMALLEST + tcp + line)
        assert sentence.startswith(f"lb.ini:12: [backend b] {line}: ")
        assert "but frontend f has mode = tcp" in sentence
        assert problems_with_all_policies(SMALLEST + tcp + "balance = source") == []

    @pytest.mark.parametrize("balance", ["source", "maglev source", "random", "least-time", "peak-ewma", "first"])
    def test_what_does_not_has(self, balance: str) -> None:
        tcp = "[frontend f]\nlisten = :81\nmode = tcp\nbackend = b\n[backend b]\n"
        assert problems_with_all_policies(SMALLEST + tcp + f"balance = {balance}") == []


class TestOwnPolicy:
    """`balance = module:Class`, with the module beside lb.ini."""

    @pytest.fixture(autouse=True)
    def _path_as_before(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(sys, "path", list(sys.path))
        yield
        sys.modules.pop("beside_lb_ini", None)

    def write(self, folder: Path, picks: str) -> str:
        (folder / "beside_lb_ini.py").write_text(
            "from lbservice.testing import Policy\n"
            f"class Mine(Policy):\n    def pick(self, candidates, info):\n        return {picks}\n"
        )
        file = folder / "lb.ini"
        file.write_text(SMALLEST + "balance = beside_lb_ini:Mine\n")
        return str(file)

    def test_is_found_in_the_folder_of_the_file(self, tmp_path: Path) -> None:
        settings = load(self.write(tmp_path, "candidates[0]"))
        assert settings.backends[0].balance == "beside_lb_ini:Mine"
        assert sys.path[-1] == str(tmp_path), "where it hides no other module"

    def test_is_tried_out(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"lb.ini:6: .*a trial with made-up servers fails: IndexError.*\.py:4\)$"):
            load(self.write(tmp_path, "candidates[5]"))


class TestManholeSays:
    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ("listen = telnet:127.0.0.1:23", "write unix:PATH or ssh:HOST:PORT, e.g. unix:run/manhole.sock"),
            ("listen = unix:", "write unix:PATH or ssh:HOST:PORT, e.g. unix:run/manhole.sock"),
            (f"listen = unix:{'x' * 101}", "a socket's path is at most 100 bytes; choose a shorter one"),
            ("listen = ssh:2222", "the port is missing; write HOST:PORT, e.g. 127.0.0.1:8080"),
            (
                "listen = ssh:127.0.0.1:2222",
                "authorized-keys: missing; ssh lets in nobody without, e.g. authorized-keys = admins.pub",
            ),
            ("listen = unix:m\nhost-key = k", "host-key = k: only for listen = ssh:HOST:PORT; take it out"),
        ],
    )
    def test_of_its_lines(self, lines: str, said: str) -> None:
        assert only(problems(f"{SMALLEST}[manhole]\n{lines}")).endswith(said)


class TestUnits:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("500ms", 0.5), ("2s", 2.0), ("1.5s", 1.5), ("5m", 300.0), ("1h", 3600.0), ("2 s", 2.0)],
    )
    def test_durations_are_seconds(self, text: str, seconds: float) -> None:
        assert duration(text) == seconds

    @pytest.mark.parametrize(
        ("text", "octets"), [("512B", 512), ("64KiB", 65536), ("1MiB", 1 << 20), ("0.5GiB", 1 << 29)]
    )
    def test_sizes_are_bytes(self, text: str, octets: int) -> None:
        assert size(text) == octets

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("64KB", "did you mean 'KiB'"),
            ("1mb", "did you mean 'MiB'"),
            ("8b", "did you mean 'B'"),
            ("0B", "too small"),
        ],
    )
    def test_a_wrong_size_is_met_with_the_right_one(self, text: str, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            size(text)

    @given(st.integers(1, 10**9 - 1), st.sampled_from(["ms", "s", "m", "h"]))
    def test_every_written_duration_is_read_back(self, number: int, unit: str) -> None:
        assert duration(f"{number}{unit}") == number * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


class TestForControl:
    def test_an_address_from_the_shell(self) -> None:
        assert parse_address("127.0.0.1:9004") == ("127.0.0.1", 9004)
        assert parse_address("[::1]:9004") == ("::1", 9004)
        assert parse_address("app.example.com:80") == ("app.example.com", 80)

    @given(st.ip_addresses(), st.integers(1, 65535))
    def test_what_settings_print_is_read_back(self, ip: object, port: int) -> None:
        server = ServerSettings("s", str(ip), port)
        assert parse_address(server.address) == (server.host, server.port)

    def test_a_server_from_the_shell_says_all_that_is_wrong_with_it(self) -> None:
        assert parse_server("s4", "a:1 weight=3") == ServerSettings("s4", "a", 1, weight=3)
        with pytest.raises(ValueError, match="a name is") as caught:
            parse_server("s 4", "a weight=x")
        assert len(caught.value.args) == 3


class TestTheFile:
    def test_that_is_not_there(self) -> None:
        with pytest.raises(ConfigError, match=r"^nowhere/lb.ini: no such file; name one with --config FILE"):
            load("nowhere/lb.ini")

    def test_that_is_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="is a folder; name the file in it"):
            load(str(tmp_path))

    def test_that_may_not_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr("builtins.open", refuse)  # root may read everything
        with pytest.raises(ConfigError, match="may not be read by this user; change its owner or mode"):
            load(str(tmp_path / "lb.ini"))

    def test_that_is_not_utf_8_is_told_the_line(self, tmp_path: Path) -> None:
        file = tmp_path / "lb.ini"
        file.write_bytes(b"# ok\n# caf\xe9\n")
        with pytest.raises(ConfigError, match=rf"^{re.escape(str(file))}:2: not UTF-8; save the file as UTF-8"):
            load(str(file))

    def test_with_a_byte_order_mark_is_read_all_the_same(self, tmp_path: Path) -> None:
        file = tmp_path / "lb.ini"
        file.write_text(SMALLEST, "utf-8-sig")
        assert load(str(file)) == parse(SMALLEST, str(file))

    def test_with_an_impossible_name(self) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            load("lb\0.ini")


EXAMPLES = [HOME / "lb.ini", *sorted((HOME / "examples").glob("*.ini"))]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_good_example(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for named in ("site.pem", "site.key", "internal-ca.pem", "admins.pub"):
        (tmp_path / named).touch()
    settings = load(str(example))
    assert settings.frontends
    assert all(backend.servers for backend in settings.backends)


def test_the_examples_are_there() -> None:
    assert {"lb.ini", "tcp.ini", "tls.ini"} <= {example.name for example in EXAMPLES}


class TestAdmin:
    def test_all_of_it(self, tmp_path: Path) -> None:
        tokens = tmp_path / "tokens"
        tokens.write_text(f"deploy operator {'0' * 64}\n")
        tokens.chmod(0o600)
        lines = f"listen = unix:run/a.sock, *:8404 tls cert={__file__} client-ca={__file__}, [::1]:8405\n"
        lines += f"tokens = {tokens}\nhosts = LB.example, admin.example"
        listens = (
            AdminListen(unix="run/a.sock"),
            AdminListen(None, "", 8404, ListenTls(__file__), __file__),
            AdminListen(host="::1", port=8405),
        )
        assert parse(f"{SMALLEST}[admin]\n{lines}").admin == AdminSettings(
            listens, str(tokens), ("lb.example", "admin.example")
        )

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ("hosts = a", "listen: missing; say where, e.g. listen = unix:run/admin.sock"),
            ("listen = unix:", "write unix:PATH, e.g. unix:run/admin.sock"),
            (f"listen = unix:{'x' * 101}", "a socket's path is at most 100 bytes; choose a shorter one"),
            ("listen = unix:a tls", "a unix socket takes no tls; write unix:PATH alone"),
            ("listen = unix:a, unix:a", "an address is named twice"),
            (f"listen = 127.0.0.1:1 client-ca={__file__}", "client-ca without tls; add the word tls"),
            ("listen = 127.0.0.1:1 tls", "tls needs a certificate; write tls cert=FILE, a PEM file"),
            ("listen = 127.0.0.1:8080", "127.0.0.1:8080 is already listened on by line 2"),
            ("listen = 10.0.0.1:1", "10.0.0.1:1 can be reached from elsewhere; " + ADMIN_NEEDS),
            ("listen = [::]:1", "[::]:1 can be reached from elsewhere; " + ADMIN_NEEDS),
            ("listen = localhost:1", "listen on an IP address; did you mean '127.0.0.1:1'?"),
            (f"listen = *:1 tls cert={__file__}", "0.0.0.0:1 can be reached from elsewhere; " + ADMIN_NEEDS),
        ],
    )
    def test_mistakes(self, lines: str, said: str) -> None:
        assert only(problems(f"{SMALLEST}[admin]\n{lines}")).endswith(said)

    def test_a_file_of_tokens_that_others_can_read(self, tmp_path: Path) -> None:
        tokens = tmp_path / "tokens"
        tokens.write_text("")
        tokens.chmod(0o644)
        found = only(problems(f"{SMALLEST}[admin]\nlisten = *:1\ntokens = {tokens}"))
        assert found.endswith(f"{tokens} has mode 0644, which lets others in; run chmod 600 {tokens}")


def test_every_section_and_key_is_in_the_reference() -> None:
    reference = (HOME / "docs" / "configuration.md").read_text("utf-8")
    wanted = {f"`{key}`" for keys in SECTIONS.values() for key in keys}
    assert {key for key in wanted if key not in reference} == set()


# Anything at all: words that mean something, so that the text gets past the first checks.
WORDS = [
    *(
        "[",
        "]",
        "=",
        " ",
        " ",
        "\n",
        "\n",
        "\n[frontend a]\n",
        "\n[backend b]\n",
        "\n[manhole]\n",
        ";",
        "#",
        ",",
    ),
    *(
        "[loadbalancer]\n",
        "listen = ",
        "backend = ",
        "server ",
        "server s = ",
        "check = ",
        "mode = tcp",
        "http GET /",
    ),
    *(
        "127.0.0.1",
        "[::1]",
        "route r = ",
        "redirect = ",
        "refuse r = ",
        "request-header X = set ",
        "rate-limit = ",
        "path=/",
        "path~=",
        "host=*.",
        "header(",
        "{uri}",
        ":80",
        "*:0",
        "tls ",
        "cert=",
        "ca=x",
        "weight=",
        "30s",
        "64KiB",
        "unix:",
        "ssh:",
        "a",
        "b",
    ),
    *(
        "timeout client = ",
        "trusted-proxies = ",
        "10.0.0.0/8",
        "expect ",
        "send ",
        '"',
        "/",
        "(a|b)*",
        "\\x",
        "\0",
        "\r",
        "\x85",
        "\u2028",
        "٣",
        "\ud800",
    ),
]


@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=40).map("".join)))
def test_no_text_raises_anything_but_a_config_error(text: str) -> None:
    found: tuple[Problem, ...] = ()
    try:
        parse(text)
    except ConfigError as error:
        found = error.problems
    lines = [problem.line for problem in found]
    assert lines == sorted(lines)
    assert set(lines) <= set(range(text.count("\n") + 2))


@pytest.mark.parametrize("kind", ["frontend", "backend"])
def test_every_key_with_one_wrong_letter_is_recognised(kind: str) -> None:
    for key in SECTIONS[kind]:
        key = key.replace("NAME", "xyz").replace("STATUS", "503")
        for place in range(len(key.removesuffix(" xyz").removesuffix(" 503"))):
            misspelt = f"{key[:place]}z{key[place + 1 :]}"
            said = problems(f"{SMALLEST}[{kind} x]\n{misspelt} = 1")
            assert f"lb.ini:7: [{kind} x] {misspelt} = 1: unknown key; did you mean '{key}'?" in said


@given(st.text(max_size=30))
def test_no_value_raises_anything_but_a_config_error(value: str) -> None:
    for kind, keys in SECTIONS.items():
        section = f"[{kind} x]" if kind in ("frontend", "backend") else f"[{kind}]"
        lines = "\n".join(f"{key.replace('NAME', 's').replace('STATUS', '503')} = {value}" for key in keys)
        with pytest.raises(ConfigError):
            parse(f"{section}\n{lines}\nunknown = 1")

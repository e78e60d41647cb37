"""Each check against servers good and bad, on a network in memory: it ends in time, and leaves nothing open."""

from __future__ import annotations

import errno
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from lbservice.core.health import CheckResult, Health
from lbservice.core.server import Server
from lbservice.core.settings import CheckSettings, ServerSettings, ServerTls, Step
from lbservice.services import checks
from lbservice.services.checks import MAX_ANSWER, MAX_BODY, MAX_MATCHED, MAX_WORDS, POLITE, Unasked
from tests.support.actors import (
    Connection,
    Origin,
    Script,
    answer,
    die,
    dribble,
    hang,
    leave,
    then_close,
    then_die,
    wait,
)
from tests.support.house import SecureNetwork
from tests.support.wire import MemoryNetwork

HERE = ("10.0.0.1", 8000)
HTTP = CheckSettings(kind="http", timeout=2.0)
TCP = CheckSettings(timeout=2.0)
PING = replace(TCP, steps=(Step(send=b"PING\r\n"), Step(expect=b"+PONG")))
OK = answer(b"")


class Visit:
    """One check of a server at HERE, which begins at once."""

    def __init__(
        self,
        settings: CheckSettings,
        *answers: bytes | Script,
        cert: str = "",
        alive: bool = True,
        server: ServerSettings | None = None,
        at: tuple[str, int] = HERE,
        **how: Any,
    ) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        outside: Any = SecureNetwork(self.network, cert) if cert else self.network
        self.origin = Origin(outside, at, *answers, **how) if alive else None
        self.results: list[CheckResult | Unasked] = []
        self.settings = settings
        self.server = Server("app", server or ServerSettings("s1", *HERE), Health())
        check = checks.make(settings, self.network, self.clock)
        assert check is not None
        self.done = Deferred.fromCoroutine(check.run(self.server))
        self.done.addCallback(self.results.append)

    def __enter__(self) -> Visit:
        self.network.run()
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is left: no timer, no connection."""
        if error[0] is None:
            self.network.run(self.network.latency)  # what the kernel has begun
            assert [skt for skt in self.network.sockets if skt.remote == HERE] == []
            if self.origin is not None:
                self.origin.gone()
                self.network.run()
            assert self.clock.getDelayedCalls() == []

    def run(self, seconds: float = 0.0) -> None:
        self.network.run(seconds)

    def says(self, data: bytes) -> None:
        """The server, to whom it speaks with."""
        self.peer.send(data)
        self.run()

    @property
    def peer(self) -> Connection:
        assert self.origin is not None
        return self.origin.last

    @property
    def result(self) -> CheckResult:
        (result,) = self.results
        assert isinstance(result, CheckResult)
        return result

    @property
    def said(self) -> str:
        return f"{'+' if self.result.passed else '-'} {self.result}".removesuffix(" 10.0.0.1:8000")


def said_of(settings: CheckSettings, *answers: bytes | Script, seconds: float = 2.0, **how: Any) -> str:
    """What a check says of a server that gives these answers."""
    with Visit(settings, *answers, **how) as visit:
        visit.run(seconds)
        return visit.said


@pytest.fixture(scope="module")
def cert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PEM file with a key and a certificate for `app.test`; that of its authority lies beside it."""
    file: Path = tmp_path_factory.mktemp("tls") / "cert.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(authority_of(str(file)))
    authority.issue_cert("app.test").private_key_and_cert_chain_pem.write_to_path(file)
    return str(file)


def authority_of(cert: str) -> str:
    return str(Path(cert).with_name("ca.pem"))


class TestTcp:
    def test_a_connection_is_enough(self) -> None:
        with Visit(TCP, raw=True) as visit:
            assert visit.said == "+ L4OK"
            assert visit.peer.fate == "reset"

    def test_refused(self) -> None:
        assert said_of(TCP, alive=False) == "- L4CON connection refused"

    def test_no_answer_at_all(self) -> None:
        visit = Visit(TCP, alive=False)
        visit.network.blackholes.add(HERE)
        with visit:
            visit.run(1.9)
            assert visit.results == []
            visit.run(0.2)
            assert (visit.said, visit.result.duration) == ("- L4TOUT connection timed out after 2s", 2.0)

    def test_none_is_none(self) -> None:
        network = MemoryNetwork(Clock())
        assert checks.make(CheckSettings(kind="none"), network, network.clock) is None


class TestConversation:
    def test_what_is_expected_comes(self) -> None:
        with Visit(PING, raw=True) as visit:
            assert visit.peer.received == b"PING\r\n"
            visit.run(0.5)
            visit.says(b"+PONG\r\n")
            assert visit.said == "+ L7OK '+PONG'"
            assert visit.result.duration == 0.5

    def test_byte_by_byte(self) -> None:
        with Visit(PING, raw=True) as visit:
            for byte in b"+PON":
                visit.says(bytes([byte]))
                assert visit.results == []
            visit.says(b"G")
            assert visit.said == "+ L7OK '+PONG'"

    def test_something_else_is_waited_through(self) -> None:
        with Visit(PING, raw=True) as visit:
            visit.says(b"-LOADING\r\n")
            visit.run(2)
            assert visit.said == "- L7TOUT no answer in time: '+PONG' expected, got '-LOADING'"
            assert visit.result.duration == 2.0

    def test_until_the_server_closes(self) -> None:
        with Visit(PING, raw=True) as visit:
            visit.peer.send(b"-NOAUTH")
            visit.peer.close()
            visit.run()
            assert visit.said == "- L7RSP connection closed: '+PONG' expected, got '-NOAUTH'"

    def test_a_half_close_behind_the_answer_is_an_answer(self) -> None:
        with Visit(PING, raw=True) as visit:
            visit.peer.send(b"+PONG")
            visit.peer.finish()
            visit.run()
            assert visit.said == "+ L7OK '+PONG'"

    def test_a_reset(self) -> None:
        with Visit(PING, raw=True) as visit:
            visit.peer.abort()
            visit.run()
            assert visit.said == "- L7RSP the connection broke: '+PONG' expected, got nothing"

    def test_patterns(self) -> None:
        settings = replace(TCP, steps=(Step(expect=re.compile(rb"^220 .*\r\n", re.MULTILINE)),))
        with Visit(settings, raw=True, greeting=b"220 mail") as visit:
            assert visit.results == []
            visit.says(b".example\r\n")
            assert visit.said == "+ L7OK '220 mail.example'"

    def test_step_after_step(self) -> None:
        steps = (Step(expect=b"220"), Step(send=b"QUIT\r\n"), Step(expect=b"22"), Step(expect=b"221"))
        with Visit(replace(TCP, steps=steps), raw=True, greeting=b"220 hello") as visit:
            assert visit.peer.received == b"QUIT\r\n"
            assert visit.results == [], "the greeting is no answer to QUIT"
            visit.says(b"221")
            assert visit.said == "+ L7OK '221'", "two expectations look at the same answer"

    def test_two_sends_and_no_expectation(self) -> None:
        with Visit(replace(TCP, steps=(Step(send=b"a"), Step(send=b"b"))), raw=True) as visit:
            assert visit.said == "+ L7OK"

    def test_a_server_that_never_stops_talking(self) -> None:
        with Visit(PING, raw=True) as visit:
            visit.says(b"x" * 1_000_000)
            assert visit.said == f"- L7RSP more than {MAX_WORDS} bytes: '+PONG' expected, got '{'x' * 40}...'"
            assert visit.peer.fate == "reset"

    @pytest.mark.parametrize(("wanted", "most"), [(b"+PONG", 6000), (re.compile(b".*PONG"), 1000)])
    def test_one_that_talks_in_tiny_pieces(self, wanted: Any, most: int) -> None:
        with Visit(replace(TCP, steps=(Step(expect=wanted),)), raw=True) as visit:
            for _ in range(most):
                if visit.results:
                    break
                visit.says(b"x")
            assert visit.said.startswith("- L7RSP an answer in tiny pieces, without ")

    def test_what_a_terminal_would_obey_is_not_shown(self) -> None:
        with Visit(PING, raw=True) as visit:
            visit.peer.send(b"\x1b[2J \r\n\xff\0 \xe2\x80\xae")
            visit.peer.close()
            visit.run()
            assert visit.said.endswith("got '?[2J \ufffd? ?'")


class TestHttp:
    def test_the_question(self) -> None:
        settings = replace(
            HTTP, method="HEAD", path="/health?x=1", host="app.example", headers=(("X-A", "b c"), ("Accept", "text/x"))
        )
        with Visit(settings, OK) as visit:
            assert visit.origin is not None
            assert visit.origin.requests == [
                b"HEAD /health?x=1 HTTP/1.1\r\nHost: app.example\r\nUser-Agent: lbservice-check\r\n"
                b"Connection: close\r\nX-A: b c\r\nAccept: text/x\r\n\r\n"
            ]

    def test_without_a_name_the_address_is_the_host(self) -> None:
        with Visit(HTTP, OK) as visit:
            assert visit.origin is not None
            assert b"\r\nHost: 10.0.0.1:8000\r\n" in visit.origin.requests[0]

    def test_a_method_that_might_have_a_body_says_that_there_is_none(self) -> None:
        with Visit(replace(HTTP, method="POST"), OK) as visit:
            assert visit.origin is not None
            assert b"\r\nContent-Length: 0\r\n" in visit.origin.requests[0]

    @pytest.mark.parametrize(
        ("expect", "status", "said"),
        [
            (((200, 399),), 200, "+ L7OK status 200"),
            (((200, 399),), 399, "+ L7OK status 399"),
            (((200, 399),), 404, "- L7STS status 404"),
            (((200, 200), (503, 503)), 503, "+ L7OK status 503"),
            (((200, 200), (503, 503)), 204, "- L7STS status 204"),
        ],
    )
    def test_the_status_decides(self, expect: tuple[tuple[int, int], ...], status: int, said: str) -> None:
        assert said_of(replace(HTTP, expect=expect), b"HTTP/1.1 %d x\r\n\r\n" % status) == said

    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_the_head_may_come_in_pieces_and_behind_interim_ones(self, size: int) -> None:
        text = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"
        assert said_of(HTTP, dribble(text, size, 0.001)) == "+ L7OK status 200"

    @pytest.mark.parametrize(
        "text", [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\n\n", b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", b"x" * 70_000]
    )
    def test_what_is_no_answer_is_known_at_once(self, text: bytes) -> None:
        assert said_of(HTTP, text, seconds=0).startswith("- L7RSP ")

    def test_a_connection_that_closes_without_an_answer(self) -> None:
        assert said_of(HTTP, leave) == "- L7RSP connection closed without an answer"
        assert said_of(HTTP, then_close(b"HTTP/1.1 2")) == "- L7RSP connection closed without an answer"

    def test_a_reset(self) -> None:
        assert said_of(HTTP, die) == "- L7RSP the connection broke"

    def test_an_answer_that_takes_too_long(self) -> None:
        with Visit(HTTP, dribble(OK, 1, 1.0)) as visit:
            visit.run(1.9)
            assert visit.results == []
            visit.run(0.2)
            assert (visit.said, visit.result.duration) == ("- L7TOUT no answer in time", 2.0)
            assert visit.peer.fate == "reset"

    def test_silence(self) -> None:
        assert said_of(HTTP, hang) == "- L7TOUT no answer in time"

    def test_the_time_for_connecting_counts_too(self) -> None:
        visit = Visit(HTTP, wait(1.5), alive=False)
        visit.network.latency = 1.0
        visit.origin = Origin(visit.network, HERE, wait(1.5))
        with visit:
            visit.run(1.9)
            assert visit.results == []
            visit.run(0.2)
            assert visit.said == "- L7TOUT no answer in time"

    @pytest.mark.parametrize("text", [b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000, b"HTTP/1.1 200 " + b"x" * 100_000])
    def test_a_head_without_end(self, text: bytes) -> None:
        assert re.match("- L7RSP .*a head of more than|- L7RSP ", said_of(HTTP, text, seconds=0))

    def test_a_flood_of_interim_responses(self) -> None:
        flood = b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000
        assert said_of(HTTP, flood, seconds=0) == "- L7RSP more than 16 interim responses"


class TestTheRestOfTheAnswer:
    """The status is enough; but a server that is cut off in the middle of its body may complain, every two seconds."""

    def test_a_body_that_is_not_looked_at_is_read_to_its_end(self) -> None:
        with Visit(HTTP, raw=True) as visit:
            visit.says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
            visit.run(POLITE / 2)
            assert (visit.results, visit.peer.fate) == ([], None)
            visit.says(b"hello")
            assert (visit.said, visit.result.duration) == ("+ L7OK status 200", 0.0)
            assert visit.peer.fate == "reset"

    def test_but_not_for_long(self) -> None:
        with Visit(HTTP, raw=True) as visit:
            visit.says(b"HTTP/1.1 503 x\r\nContent-Length: 5\r\n\r\n")
            visit.run(POLITE)
            assert (visit.said, visit.result.duration, visit.clock.seconds()) == ("- L7STS status 503", 0.0, POLITE)

    def test_nor_beyond_the_time_of_the_check(self) -> None:
        with Visit(replace(HTTP, timeout=0.05), raw=True) as visit:
            visit.says(b"HTTP/1.1 200 OK\r\n\r\n")
            visit.run(0.05)
            assert visit.said == "+ L7OK status 200"

    def test_nor_without_end(self) -> None:
        with Visit(HTTP, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000_000) as visit:
            assert visit.said == "+ L7OK status 200"
            assert visit.peer.fate == "reset"

    @pytest.mark.parametrize("after", [b"\x00\n\r", b"HTTP/1.1 500 x\r\n\r\n"])
    def test_what_comes_after_the_head_does_not_matter(self, after: bytes) -> None:
        for head in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"):
            assert said_of(HTTP, head + b"\r\n" + after) == "+ L7OK status 200"

    def test_nor_does_a_reset(self) -> None:
        assert said_of(HTTP, then_die(b"HTTP/1.1 200 OK\r\n\r\n", 0.01)) == "+ L7OK status 200"


class TestBody:
    READY = replace(HTTP, body=b'"ready"')

    @pytest.mark.parametrize(
        "text",
        [
            answer(b'{"state": "ready"}'),
            b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"state": "ready\r\n2\r\n"}\r\n0\r\n\r\n',
        ],
    )
    @pytest.mark.parametrize("size", [1, 1000])
    def test_is_found(self, text: bytes, size: int) -> None:
        assert said_of(self.READY, dribble(text, size, 0.001)) == "+ L7OK status 200"

    def test_is_found_in_one_that_ends_with_the_connection(self) -> None:
        assert said_of(self.READY, then_close(b'HTTP/1.0 200 OK\r\n\r\n"ready"')) == "+ L7OK status 200"

    def test_is_not_there(self) -> None:
        said = said_of(self.READY, answer(b'{"state": "loading"}'), seconds=0)
        assert said == """- L7RSP status 200, but '"ready"' expected, got '{"state": "loading"}'"""
        assert said_of(self.READY, answer(b""), seconds=0).endswith("expected, got nothing")

    def test_a_pattern(self) -> None:
        settings = replace(HTTP, body=re.compile(rb"^ok\b", re.IGNORECASE | re.MULTILINE))
        assert said_of(settings, answer(b"fine\nOK then")) == "+ L7OK status 200"
        assert said_of(settings, answer(b"not ok")).startswith(r"- L7RSP status 200, but /^ok\b/ expected")

    def test_a_wrong_status_is_told_before_the_body_is_looked_at(self) -> None:
        assert said_of(self.READY, answer(b'"ready"', status=b"500 x")) == "- L7STS status 500"

    def test_which_comes_too_slowly(self) -> None:
        text = b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"ready"'
        assert said_of(self.READY, dribble(text, 40, 3.0)) == "- L7TOUT no answer in time"

    def test_which_breaks_off(self) -> None:
        said = said_of(self.READY, then_close(b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"ready"'))
        assert said == "- L7RSP the body broke off"
        assert said_of(self.READY, then_die(b'HTTP/1.1 200 OK\r\n\r\n"ready"')) == "- L7RSP the connection broke"

    def test_which_is_no_body(self) -> None:
        said = said_of(self.READY, b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"ready"')
        assert said.startswith("- L7RSP an invalid chunk size")

    def test_only_its_beginning_is_looked_at(self) -> None:
        within = b"x" * (MAX_BODY - 7) + b'"ready"'
        assert said_of(self.READY, b"HTTP/1.1 200 OK\r\n\r\n" + within + b"x" * 10_000_000, seconds=0)[0] == "+"
        assert said_of(self.READY, b"HTTP/1.1 200 OK\r\n\r\nx" + within + b"x" * 10_000_000, seconds=0)[0] == "-"

    def test_a_pattern_is_tried_on_less_of_it(self) -> None:
        settings = replace(HTTP, body=re.compile(b".*ready"))
        within = b"x" * (MAX_MATCHED - 5) + b"ready"
        start = time.process_time()
        assert said_of(settings, answer(within + b"x" * MAX_BODY))[0] == "+"
        assert said_of(settings, answer(b"x" + within + b"x" * MAX_BODY))[0] == "-"
        assert time.process_time() - start < 1.0, "it would be 2 s for all that is read"

    def test_in_chunks_of_one_byte_it_has_an_end_too(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        said = said_of(self.READY, head + b"1\r\nx\r\n" * 1_000_000, seconds=0)
        assert said == f"- L7RSP more than {MAX_ANSWER} bytes"


class TestTls:
    TLS = replace(TCP, tls=True)
    HTTPS = replace(HTTP, tls=True)

    def there(self, cert: str, **tls: Any) -> ServerSettings:
        return ServerSettings("s1", *HERE, tls=ServerTls(ca=authority_of(cert), **tls))

    def test_a_handshake_is_enough(self, cert: str) -> None:
        server = self.there(cert, sni="app.test")
        assert said_of(self.TLS, server=server, cert=cert, raw=True) == "+ L6OK"
        assert said_of(TCP, server=server, cert=cert, raw=True) == "+ L6OK"

    def test_a_certificate_for_another_name_is_none(self, cert: str) -> None:
        said = said_of(self.TLS, server=self.there(cert, sni="other.test"), cert=cert, raw=True)
        assert said.startswith("- L6RSP TLS handshake failed with 10.0.0.1:8000")

    def test_a_server_without_tls_of_its_own_is_not_verified(self, cert: str) -> None:
        assert said_of(self.TLS, cert=cert, raw=True) == "+ L6OK"
        assert said_of(replace(self.TLS, host="app.test"), cert=cert, raw=True) == "+ L6OK"

    @pytest.mark.parametrize(
        ("host", "server", "sni"),
        [
            ("app.test:8443", "10.0.0.1", "app.test"),
            ("app.test", "10.0.0.1", "app.test"),
            ("[::1]:80", "10.0.0.1", None),
            ("::1", "10.0.0.1", None),
            ("127.0.0.1:80", "10.0.0.1", None),
            ("a..b", "10.0.0.1", None),
            (None, "10.0.0.1", None),
            (None, "::1", None),
            (None, "app.internal", "app.internal"),
        ],
    )
    def test_the_name_that_is_asked_for(self, host: str | None, server: str, sni: str | None) -> None:
        target = checks.target_of(ServerSettings("s1", server, 443), replace(self.HTTPS, host=host))
        assert target.tls == ServerTls(verify=False, sni=sni)

    def test_one_that_speaks_no_tls(self) -> None:
        assert said_of(self.TLS, raw=True, greeting=b"220 hello\r\n").startswith("- L6RSP TLS handshake failed")

    def test_one_that_does_not_answer_the_handshake(self) -> None:
        assert said_of(self.TLS, raw=True) == "- L6TOUT TLS handshake timed out after 2s"

    def test_a_conversation_over_tls(self, cert: str) -> None:
        with Visit(replace(PING, tls=True), cert=cert, raw=True) as visit:
            visit.run(0.1)
            assert visit.peer.received == b"PING\r\n"
            visit.says(b"+PONG")
            assert visit.said == "+ L7OK '+PONG'"

    @pytest.mark.parametrize("settings", [HTTP, HTTPS, replace(HTTP, body=b"hello")])
    def test_http_over_tls(self, cert: str, settings: CheckSettings) -> None:
        server = self.there(cert, sni="app.test")
        assert said_of(settings, answer(b"hello"), server=server, cert=cert) == "+ L7OK status 200"

    def test_http_over_tls_to_one_that_is_not_tls(self, cert: str) -> None:
        assert said_of(self.HTTPS, answer(b"hello"), cert=cert) == "+ L7OK status 200"


class TestVia:
    def test_another_port_of_the_server(self) -> None:
        with Visit(replace(HTTP, via=(None, 9100)), OK, at=("10.0.0.1", 9100)) as visit:
            assert visit.said == "+ L7OK status 200"
            assert visit.origin is not None
            assert b"\r\nHost: 10.0.0.1:9100\r\n" in visit.origin.requests[0]

    def test_another_host(self) -> None:
        assert said_of(replace(TCP, via=("10.0.0.5", 9100)), at=("10.0.0.5", 9100)) == "+ L4OK"

    def test_a_server_may_have_its_own(self) -> None:
        server = ServerSettings("s1", *HERE, check_via=(None, 9200))
        assert said_of(replace(TCP, via=(None, 9100)), server=server, at=("10.0.0.1", 9200)) == "+ L4OK"

    def test_failures_name_what_was_asked(self) -> None:
        said = said_of(replace(TCP, via=(None, 9100)), alive=False)
        assert said == "- L4CON connection refused 10.0.0.1:9100"

    def test_another_port_is_asked_in_the_clear_unless_the_check_is_tls(self, cert: str) -> None:
        server = ServerSettings("s1", "10.0.0.1", 8443, tls=ServerTls(ca=authority_of(cert), sni="app.test"))
        there: dict[str, Any] = {"server": server, "at": ("10.0.0.1", 9100)}
        assert said_of(replace(HTTP, via=(None, 9100)), OK, **there) == "+ L7OK status 200"
        assert said_of(replace(HTTP, tls=True, via=(None, 9100)), OK, cert=cert, **there) == "+ L7OK status 200"

    def test_at_another_host_the_certificate_is_still_the_servers(self, cert: str) -> None:
        settings = replace(TCP, tls=True, via=("10.0.0.5", 9100))
        for name, code in (("app.test", "L6OK"), ("other.test", "L6RSP")):
            server = ServerSettings("s1", name, 8443, tls=ServerTls(ca=authority_of(cert)))
            with Visit(settings, server=server, at=("10.0.0.5", 9100), cert=cert, raw=True) as visit:
                visit.run(1)
                assert visit.result.code == code


class TestALackOfOurs:
    """It says nothing about the server."""

    @pytest.fixture(params=[TCP, PING, HTTP, replace(TCP, tls=True)], ids=["tcp", "talk", "http", "tls"])
    def settings(self, request: pytest.FixtureRequest) -> CheckSettings:
        settings: CheckSettings = request.param
        return settings

    def test_no_open_file(self, settings: CheckSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_socket(*args: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr("tests.support.wire._Client.createInternetSocket", no_socket)
        with Visit(settings) as visit:
            (result,) = visit.results
            assert isinstance(result, Unasked)
            assert "Too many open files" in result.why

    def test_no_port(self, settings: CheckSettings) -> None:
        visit = Visit(settings, alive=False)
        visit.network.failures[HERE] = errno.EADDRNOTAVAIL
        with visit:
            assert isinstance(visit.results[0], Unasked)

    def test_no_open_file_for_the_authorities(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_file(*args: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr("lbservice.proxy.tls._client_creator", no_file)
        with Visit(TCP, server=ServerSettings("s1", *HERE, tls=ServerTls())) as visit:
            assert isinstance(visit.results[0], Unasked)


class TestGivingUp:
    """Who stops a check in the middle of it finds nothing left behind."""

    @pytest.mark.parametrize(
        ("settings", "answers"), [(TCP, ()), (PING, ()), (HTTP, (hang,)), (HTTP, (b"HTTP/1.1 200 OK\r\n\r\n",))]
    )
    @pytest.mark.parametrize("latency", [0.0, 1.0])
    def test_at_any_time(self, settings: CheckSettings, answers: tuple[Any, ...], latency: float) -> None:
        visit = Visit(settings, alive=False)
        visit.network.latency = latency
        visit.origin = Origin(visit.network, HERE, *answers, raw=not answers)
        with visit:
            errors: list[Any] = []
            if visit.results:
                return
            visit.done.addErrback(errors.append)
            visit.done.cancel()
            assert errors[0].check(CancelledError)


SAYINGS = [
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 503 y\r\n\r\n", b"HTTP/1.1 100 x\r\n\r\n"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n", b"\n"),
    *(b"5\r\nready\r\n", b"0\r\n\r\n", b"ready", b"+PONG", b"\x16\x03\x01"),
]


@given(
    st.sampled_from([TCP, PING, HTTP, replace(HTTP, body=b"ready"), replace(HTTP, method="HEAD"), TestTls.TLS]),
    st.lists(st.sampled_from(SAYINGS) | st.binary(max_size=50), max_size=8),
    st.sampled_from(["close", "finish", "abort", "stop_reading", None]),
)
def test_whatever_a_server_does_a_check_has_one_result_in_time(
    settings: CheckSettings, pieces: list[bytes], ending: str | None
) -> None:
    with Visit(settings, raw=True) as visit:
        for piece in pieces:
            if visit.peer.fate is None:
                visit.says(piece)
        if ending is not None and visit.peer.fate is None:
            getattr(visit.peer, ending)()
        visit.run(2.0)
        assert 0.0 <= visit.result.duration <= 2.0
        assert re.fullmatch(r"L[467](OK|TOUT|RSP|STS)", visit.result.code)

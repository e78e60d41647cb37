"""What clients notice of a reload: nothing, but that the next request is answered by the new configuration."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.logger import LogEvent, globalLogPublisher

from lbservice.errors import ControlError
from lbservice.proxy import listener
from lbservice.proxy.http_server import HttpServerProtocol
from tests.services.live import ANNA, FRONT, Live, ini
from tests.support.actors import OK, Client, answer, hang, response, responses, wait

MakeLive = Callable[..., Live]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MARKED = "response-header X-New = set yes"
"""A line of the frontend: it makes other protocols, and shows who has answered."""


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """Nothing may break unseen."""
    failures: list[Any] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            failures.append(event["log_failure"])

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    yield
    globalLogPublisher.removeObserver(observer)
    assert failures == []


@pytest.fixture(params=[True, False], ids=["turns", "no-turns"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeLive]:
    """Live, closed at the end."""
    monkeypatch.chdir(tmp_path)
    made: list[Live] = []

    def start(config: str = ini(), **how: Any) -> Live:
        made.append(Live(tmp_path, config, turns=request.param, **how))
        return made[-1]

    yield start
    for live in made:
        live.close()


def is_new(data: bytes) -> bool:
    return bool(response(data).all("X-New"))


class TestIdle:
    @pytest.mark.parametrize("ways", ["to rules", "from rules", "rules to rules"])
    def test_a_kept_connection_goes_over(self, make: MakeLive, ways: str) -> None:
        before = "" if ways == "to rules" else "max-body = 1MiB"
        after = "timeout client = 9s" if ways == "from rules" else MARKED
        live = make(ini(before))
        live.origin()
        client = live.client()
        assert response(client.ask(GET)).status == 200
        live.reload(ini(after))
        assert live.factory.guests != set()
        assert len(list(live.factory.guests)) == 1
        assert is_new(client.ask(GET)) == (ways != "from rules")
        assert client.fate is None
        assert live.balancer.frontends["web"].active == 1
        assert live.balancer.frontends["web"].connections == 1

    def test_one_that_has_not_asked_yet(self, make: MakeLive) -> None:
        live = make()
        live.origin()
        client = live.client()
        live.run(4)
        live.reload(ini(MARKED))
        assert is_new(client.ask(GET))

    def test_half_a_head_is_finished_by_the_new_one(self, make: MakeLive) -> None:
        live = make()
        live.origin()
        client = live.client()
        for piece in (GET[:10], GET[10:20]):
            assert client.ask(piece) == b""
            live.reload(ini(MARKED if piece == GET[:10] else ""))
        live.reload(ini(MARKED))
        assert is_new(client.ask(GET[20:]))

    def test_half_a_head_gets_no_more_time_for_it(self, make: MakeLive) -> None:
        live = make(ini("timeout client-head = 5s"))
        client = live.client()
        client.ask(GET[:10])
        for number in range(4):
            live.run(1)
            live.reload(ini(f"timeout client-head = 5s\ntimeout client = {20 + number}s"))
        live.run(1.5)
        assert response(client.take()).status == 408

    def test_an_idle_one_gets_no_more_time_either(self, make: MakeLive) -> None:
        live = make(ini("timeout keep-alive = 5s"))
        live.origin()
        client = live.client()
        client.ask(GET)
        for number in range(4):
            live.run(1)
            live.reload(ini(f"timeout keep-alive = 5s\ntimeout client = {20 + number}s"))
        live.run(1.5)
        assert client.fate == "closed"

    def test_and_the_new_patience_counts(self, make: MakeLive) -> None:
        live = make(ini("timeout keep-alive = 30s"))
        live.origin()
        client = live.client()
        client.ask(GET)
        live.run(3)
        live.reload(ini("timeout keep-alive = 5s"))
        live.run(1.5)
        assert client.fate is None
        live.run(1)
        assert client.fate == "closed"

    def test_over_many_reloads(self, make: MakeLive) -> None:
        live = make()
        origin = live.origin()
        client = live.client()
        for number in range(50):
            live.reload(ini(MARKED if number % 2 else ""))
            assert is_new(client.ask(GET)) == bool(number % 2)
        assert len(origin.requests) == 50
        assert len(origin.connections) == 1

    def test_who_came_to_a_frontend_that_is_gone_is_sent_home(self, make: MakeLive) -> None:
        other = "[frontend other]\nlisten = 192.0.2.1:81\nbackend = app"
        live = make(ini(more=other))
        live.origin()
        client, busy = live.client(("192.0.2.1", 81)), live.client()
        live.reload(ini())
        live.run()
        assert client.fate == "closed"
        assert response(busy.ask(GET)).status == 200
        assert not live.client(("192.0.2.1", 81)).connected

    def test_a_frontend_of_another_name_takes_its_clients_over(self, make: MakeLive) -> None:
        live = make()
        live.origin()
        client = live.client()
        before = live.balancer.frontends["web"]
        live.reload(ini(MARKED).replace("frontend web", "frontend www"))
        assert before.active == 0
        assert [(each.name, each.active) for each in live.balancer.frontends.values()] == [("www", 1)]
        assert is_new(client.ask(GET))

    def test_another_mode_closes_idle_connections_and_lets_sessions_go_on(self, make: MakeLive) -> None:
        live = make()
        live.origin()
        client = live.client()
        client.ask(GET)
        live.reload(ini("mode = tcp"))
        live.run()
        assert client.fate == "closed"
        session = live.client()
        assert response(session.ask(GET)).status == 200
        live.reload(ini())
        assert response(session.ask(GET)).status == 200
        assert response(live.client().ask(GET)).status == 200


class TestBusy:
    def test_a_request_in_flight_is_answered_and_the_next_one_is_the_new_ones(self, make: MakeLive) -> None:
        live = make()
        live.origin(1, wait(2), OK)
        client = live.client()
        assert client.ask(GET) == b""
        live.reload(ini(MARKED))
        live.run(2)
        assert not is_new(client.take())
        assert is_new(client.ask(GET))

    def test_pipelined_requests_behind_it_go_over_with_the_connection(self, make: MakeLive) -> None:
        live = make()
        live.origin(1, wait(1), answer(b"2"), answer(b"3"))
        client = live.client()
        client.ask(GET * 3 + GET[:12])
        live.reload(ini(MARKED))
        live.run(1)
        first, second, third = responses(client.take())
        assert [bool(each.all("X-New")) for each in (first, second, third)] == [False, True, True]
        assert is_new(client.ask(GET[12:]))

    def test_a_reload_in_the_middle_of_a_body(self, make: MakeLive) -> None:
        live = make()
        origin = live.origin()
        client = live.client()
        client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        live.reload(ini(MARKED))
        first, second = responses(client.ask(b"def" + GET))
        assert not first.all("X-New")
        assert second.all("X-New")
        assert origin.requests[0].endswith(b"abcdef")

    def test_one_that_waits_for_100_continue(self, make: MakeLive) -> None:
        live = make()
        live.origin(1, b"HTTP/1.1 100 Continue\r\n\r\n" + OK, OK, early=True)
        client = live.client()
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        live.reload(ini(MARKED))
        live.run()
        client.send(b"abc")
        live.run()
        assert [each.status for each in responses(client.take())][-1] == 200

    @pytest.mark.parametrize("size", [70_000, 131_000, 400_000])  # the exchange is over while the client reads, or not
    def test_a_slow_reader_gets_all_and_goes_over_then(self, make: MakeLive, size: int) -> None:
        live = make()
        live.origin(1, answer(b"x" * size), OK)
        client = live.client()
        client.stop_reading()
        client.send(GET)
        live.run()
        live.reload(ini(MARKED))
        live.run(1)
        client.read_on()
        live.run()
        assert response(client.take()).body == b"x" * size
        assert is_new(client.ask(GET))

    def test_a_refused_body_is_read_and_the_connection_goes_over(self, make: MakeLive) -> None:
        live = make(ini("methods = GET"))
        live.origin()
        client = live.client()
        assert response(client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")).status == 405
        live.reload(ini(MARKED))
        assert is_new(client.ask(b"def" + GET))

    def test_a_tunnel_stays_through_reloads_that_take_its_server_and_its_frontend(self, make: MakeLive) -> None:
        live = make(ini(servers=2, backend="balance = first"))
        switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        origin = live.origin(1, switch)
        client = live.client()
        client.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        origin.raw = True
        first = live["app/s1"]
        other = ini(servers=0).replace("192.0.2.1:80", "192.0.2.1:99") + "server s2 = 10.0.0.2:8000\n"
        for config in (ini(MARKED, servers=2), other, other.replace("frontend web", "frontend www")):
            live.reload(config)
            client.send(b"ping")
            live.run()
            assert origin.last.take() == b"ping"
            origin.last.send(b"pong")
            live.run()
            assert client.take() == b"pong"
        assert first.leaving
        assert [row.server for row in live.control.sessions()] == ["app/s1"]

    def test_who_waits_in_the_queue_goes_on_waiting(self, make: MakeLive) -> None:
        config = "balance = first\ntimeout queue = 9s\nserver s9 = 10.0.0.9:8000 maxconn=1"
        live = make(ini(backend=config, servers=0))
        live.origin(9, wait(2))
        clients = [live.client() for _ in range(3)]
        for client in clients:
            client.send(GET)
        live.run()
        assert live.app.waiting == 2
        live.reload(
            ini(MARKED, f"{config}\nqueue-priority = header(X-Class) high, low\ntimeout server = 9s", servers=0)
        )
        assert live.app.waiting == 2
        live.origin(1, answer(b"another server"))
        live.reload(ini(backend="balance = leastconn"))  # the only server goes, another one comes
        live.run(0.5)
        assert [response(client.take()).body for client in clients[1:]] == [b"another server"] * 2
        live.run(2)
        assert response(clients[0].take()).status == 200

    def test_and_in_that_of_a_backend_that_is_gone(self, make: MakeLive) -> None:
        config = "timeout queue = 9s\nserver s9 = 10.0.0.9:8000 maxconn=1"
        live = make(ini(backend=config, servers=0))
        live.origin(9, wait(2))
        live.origin(1)
        clients = [live.client() for _ in range(3)]
        for client in clients:
            client.send(GET)
        live.run()
        live.reload(ini().replace("app", "new"))
        live.run(7)
        assert [response(client.take()).status for client in clients] == [200, 200, 200]
        assert response(clients[0].ask(GET)).status == 200

    def test_sticky_is_switched_off_while_a_request_is_in_flight(self, make: MakeLive) -> None:
        live = make(ini(backend="sticky = cookie SRV"))
        live.origin(1, wait(1))
        client = live.client()
        client.ask(GET)
        live.reload(ini())
        live.run(1)
        assert response(client.take()).status == 200

    def test_removed_now_cuts_also_what_began_before_a_reload(self, make: MakeLive) -> None:
        live = make()
        live.origin(1, hang)
        client = live.client()
        client.ask(GET)
        live.reload(ini(MARKED))
        live.control.remove("app/s1", now=True, by=ANNA)
        live.run()
        assert client.fate == "reset"

    def test_so_does_on_marked_down(self, make: MakeLive) -> None:
        down = "check = tcp\ninter = 1s\nfall = 1\non-marked-down = shutdown-sessions"
        live = make(ini(backend=down))
        origin = live.origin(1, hang)
        client = live.client()
        client.ask(GET)
        live.reload(ini(MARKED, down))
        origin.port.stopListening()
        live.run(3)
        assert response(client.take()).status == 503

    def test_a_stop_waits_for_them_as_long_as_the_new_grace_says(self, make: MakeLive) -> None:
        live = make()
        live.origin(1, hang)
        client = live.client()
        client.ask(GET)
        live.reload(ini(MARKED, top="[loadbalancer]\ngrace = 3s"))
        stopped: list[float] = []
        began = live.clock.seconds()
        live.balancer.stopService().addCallback(lambda _: stopped.append(live.clock.seconds()))
        live.run(2)
        assert client.fate is None
        with pytest.raises(ControlError, match="stopping"):
            live.reload()
        live.run(2)
        assert client.fate == "reset"
        assert stopped == [began + 3]

    def test_it_is_still_there_to_be_seen_and_kicked(self, make: MakeLive) -> None:
        live = make()
        live.origin(1, hang)
        client = live.client()
        client.ask(GET)
        live.reload(ini(MARKED))
        (row,) = live.control.sessions()
        assert row.server == "app/s1"
        live.control.kick(row.session, by=ANNA)
        live.run()
        assert client.fate == "reset"


class TestTls:
    @pytest.fixture
    def cert(self, tmp_path: Path) -> Path:
        self.issue(tmp_path / "site.pem")
        return tmp_path / "site.pem"

    @staticmethod
    def issue(path: Path) -> None:
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
        path.chmod(0o600)

    LISTEN = "192.0.2.1:80 tls cert=site.pem"

    @staticmethod
    def shown(client: Any) -> bytes:
        """The certificate that it has been shown."""
        return bytes(client.transport.getPeerCertificate().digest("sha256"))

    def test_an_idle_connection_goes_over_and_pipelined_requests_with_it(self, make: MakeLive, cert: Path) -> None:
        live = make(ini(listen=self.LISTEN))
        live.origin(1, OK, wait(1), OK)
        client = live.client(secure=True)
        client.ask(GET)
        live.reload(ini(MARKED, listen=self.LISTEN))
        client.ask(GET + GET + GET[:7])
        live.reload(ini(listen=self.LISTEN))
        live.run(1)
        first, second = responses(client.take())
        assert first.all("X-New")
        assert not second.all("X-New")
        assert not is_new(client.ask(GET[7:]))

    def test_a_slow_reader(self, make: MakeLive, cert: Path) -> None:
        live = make(ini(listen=self.LISTEN))
        live.origin(1, answer(b"x" * 400_000), OK)
        client = live.client(secure=True)
        client.stop_reading()
        client.send(GET)
        live.run()
        live.reload(ini(MARKED, listen=self.LISTEN))
        live.run(1)
        client.read_on()
        live.run()
        assert response(client.take()).body == b"x" * 400_000
        assert is_new(client.ask(GET))

    def test_in_the_middle_of_the_handshake(self, make: MakeLive, cert: Path) -> None:
        live = make(ini(listen=self.LISTEN))
        live.origin()
        live.network.latency = 0.0
        live.network.segment = 50  # the hello comes in pieces
        client = live.client(secure=True)
        live.reload(ini(MARKED, listen=self.LISTEN))
        assert is_new(client.ask(GET))

    def test_a_renewed_certificate_is_shown_to_new_clients_and_the_old_ones_stay(
        self, make: MakeLive, cert: Path
    ) -> None:
        live = make(ini(listen=self.LISTEN))
        live.origin()
        old = live.client(secure=True)
        old.ask(GET)
        assert not live.reload().changed
        self.issue(cert)
        change = live.reload()
        assert change.changed
        assert change.details == ("[frontend web] site.pem: read again",)
        new = live.client(secure=True)
        assert response(new.ask(GET)).status == response(old.ask(GET)).status == 200
        assert self.shown(new) != self.shown(old)
        assert not live.reload().changed

    def test_one_that_does_not_fit_changes_nothing_and_the_line_is_named(self, make: MakeLive, cert: Path) -> None:
        live = make(ini(listen=self.LISTEN))
        live.origin()
        before = self.shown(live.client(secure=True))
        good = cert.read_bytes()
        cert.write_bytes(good[: len(good) // 2])
        with pytest.raises(ControlError, match=r"lb\.ini:3: \[frontend web\] listen = .*site\.pem cannot be used"):
            live.reload()
        assert self.shown(live.client(secure=True)) == before
        cert.write_bytes(good)
        assert not live.reload().changed

    def test_tls_comes_and_goes_on_the_same_address(self, make: MakeLive, cert: Path) -> None:
        live = make()
        live.origin()
        plain = live.client()
        plain.ask(GET)
        live.reload(ini(listen=self.LISTEN))
        secure = live.client(secure=True)
        assert response(secure.ask(GET)).status == response(plain.ask(GET)).status == 200
        live.reload(ini())
        assert response(secure.ask(GET)).status == response(plain.ask(GET)).status == 200
        assert response(live.client().ask(GET)).status == 200


class TestDoors:
    def test_a_full_frontend_stays_full(self, make: MakeLive) -> None:
        live = make(ini("maxconn = 2"))
        live.origin(1, wait(0.5))
        clients = [live.client() for _ in range(4)]
        for client in clients:
            client.send(GET)
        for number in range(5):
            live.reload(ini(f"maxconn = 2\ntimeout client = {20 + number}s"))
            live.run()
            assert live.balancer.frontends["web"].active == 2
        live.run(5)
        assert [response(client.take()).status for client in clients] == [200] * 4

    def test_a_higher_limit_lets_in_who_waits(self, make: MakeLive) -> None:
        live = make(ini("maxconn = 1"))
        live.origin(1, hang)
        for _ in range(3):
            live.client().send(GET)
        live.run()
        assert live.balancer.frontends["web"].active == 1
        live.reload(ini("maxconn = 2"))
        live.run()
        assert live.balancer.frontends["web"].active == 2
        live.reload(ini())
        live.run()
        assert live.balancer.frontends["web"].active == 3

    def test_a_lower_one_closes_the_doors_and_keeps_who_is_in(self, make: MakeLive) -> None:
        live = make()
        live.origin(1, hang)
        for _ in range(3):
            live.client().send(GET)
        live.run()
        live.reload(ini("maxconn = 2"))
        live.client()
        assert live.balancer.frontends["web"].active == 3

    @pytest.mark.parametrize("most", [2, 4])
    def test_that_of_the_process_too_whose_frontends_stay(self, make: MakeLive, most: int) -> None:
        live = make(ini(top="[loadbalancer]\nmaxconn = 3"))
        live.origin(1, hang)
        for _ in range(5):
            live.client().send(GET)
        live.run()
        assert live.balancer.process.active == 3
        live.reload(ini(top=f"[loadbalancer]\nmaxconn = {most}"))
        live.run()
        assert live.balancer.process.active == max(3, most)

    def test_maxconn_per_address_counts_those_of_before(self, make: MakeLive) -> None:
        live = make(ini("maxconn-per-address = 2"))
        live.origin(1, hang)
        for _ in range(2):
            live.client().send(GET)
        live.run()
        live.reload(ini("maxconn-per-address = 2\ntimeout client = 9s"))
        assert live.client().fate is not None
        assert live.balancer.frontends["web"].refused == 1

    def test_who_has_used_up_his_requests_has_done_so_after_a_reload_too(self, make: MakeLive) -> None:
        live = make(ini("rate-limit = 1/s burst=1"))
        live.origin()
        client = live.client()
        assert response(client.ask(GET)).status == 200
        live.reload(ini("rate-limit = 1/s burst=1\ntimeout client = 9s"))
        assert response(client.ask(GET)).status == 429
        live.reload(ini("rate-limit = 5/s burst=5"))
        assert response(client.ask(GET)).status == 200


class TestAddresses:
    def test_one_comes_and_one_goes(self, make: MakeLive) -> None:
        live = make(ini(listen="192.0.2.1:80, 192.0.2.1:81"))
        live.origin()
        kept = live.client(("192.0.2.1", 81))
        live.reload(ini(listen="192.0.2.1:80, 192.0.2.1:82"))
        assert response(kept.ask(GET)).status == 200
        assert response(live.client(("192.0.2.1", 82)).ask(GET)).status == 200
        assert not live.client(("192.0.2.1", 81)).connected

    def test_whoever_waits_at_one_that_goes_is_let_in_first(self, make: MakeLive) -> None:
        live = make(ini(listen="192.0.2.1:80, 192.0.2.1:81"))
        live.origin()
        (port,) = [port for _, number, port in live.factory.ports if number == 81]
        port.stopReading()
        client = live.client(("192.0.2.1", 81))
        port._accepting = True
        live.reload(ini())
        assert response(client.ask(GET)).status == 200

    def test_two_frontends_exchange_theirs(self, make: MakeLive) -> None:
        other = "[frontend other]\nlisten = 192.0.2.1:{}\nbackend = app\n" + MARKED
        live = make(ini(more=other.format(81)))
        live.origin()
        sockets = set(live.network.listeners.values())
        first = live.client()
        live.reload(ini(listen="192.0.2.1:81", more=other.format(80)))
        assert set(live.network.listeners.values()) == sockets
        assert is_new(live.client().ask(GET))
        assert not is_new(live.client(("192.0.2.1", 81)).ask(GET))
        assert not is_new(first.ask(GET))  # it stays with the frontend of its name

    def test_a_wider_one_keeps_the_narrow_listener(self, make: MakeLive) -> None:
        live = make()
        live.origin()
        narrow = live.network.listeners[FRONT]
        for config, others in (
            (ini(listen="*:80"), {("", 80)}),
            (ini(MARKED, listen="*:80"), {("", 80)}),
            (ini(listen="192.0.2.1:80"), set()),
        ):
            live.reload(config)
            assert live.network.listeners[FRONT] is narrow
            assert {address for address in live.network.listeners if address[0] == ""} == others
            assert is_new(live.client().ask(GET)) == (MARKED in config)
        assert len(live.factory.ports) == 1

    def test_one_in_use_changes_nothing_and_its_line_is_named(self, make: MakeLive) -> None:
        live = make()
        live.origin()
        live.network.listen("192.0.2.1", 82, live.origins[0])
        client = live.client()
        before = live.balancer.running_settings, dict(live.balancer.factories)
        wrong = ini(MARKED, "balance = leastconn", listen="192.0.2.1:80, 192.0.2.1:81,192.0.2.1:82", servers=2)
        with pytest.raises(ControlError, match=r"lb\.ini:3: \[frontend web\] cannot listen on 192\.0\.2\.1:82: .*use"):
            live.reload(wrong)
        assert (live.balancer.running_settings, dict(live.balancer.factories)) == before
        assert ("192.0.2.1", 81) not in live.network.listeners
        assert not is_new(client.ask(GET))
        del live.network.listeners["192.0.2.1", 82]
        live.network.sockets[:] = [each for each in live.network.sockets if each.local != ("192.0.2.1", 82)]


def test_protocols_that_are_replaced_leave_nothing_behind(make: MakeLive) -> None:
    live = make()
    live.origin()
    client = live.client()
    client.ask(GET)
    for number in range(20):
        live.reload(ini(MARKED if number % 2 else ""))
    gc.collect()
    assert len([each for each in gc.get_objects() if isinstance(each, HttpServerProtocol)]) == 1


class TestCrowd:
    """More idle connections than go over in one turn; each still gets the new configuration with its next request."""

    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listener, "AT_ONCE", 2)

    def crowd(self, live: Live) -> list[Client]:
        live.origin()
        clients = [live.client() for _ in range(7)]
        for client in clients[1:]:
            client.ask(GET)
        return clients

    def test_all_go_over_in_time(self, make: MakeLive) -> None:
        live = make()
        clients = self.crowd(live)
        live.reload(ini(MARKED))
        assert len(list(live.factory.guests)) == 2
        live.run()
        assert len(list(live.factory.guests)) == 7
        assert all(is_new(client.ask(GET)) for client in clients)

    def test_who_asks_earlier_goes_over_with_that(self, make: MakeLive) -> None:
        live = make()
        clients = self.crowd(live)
        for client in clients:
            client.send(GET)
        live.reload(ini(MARKED))
        live.run()
        assert all(is_new(client.take()) for client in clients)

    def test_another_reload_meanwhile(self, make: MakeLive) -> None:
        live = make()
        clients = self.crowd(live)
        live.reload(ini("methods = POST"))
        live.reload(ini(MARKED))
        live.run()
        assert all(is_new(client.ask(GET)) for client in clients)

    def test_their_frontend_is_gone_meanwhile(self, make: MakeLive) -> None:
        live = make()
        clients = self.crowd(live)
        live.reload(ini(MARKED))
        live.reload(ini(listen="192.0.2.1:81").replace("frontend web", "frontend www"))
        live.run()
        assert [client.fate for client in clients] == ["closed"] * 7

    def test_some_leave_and_the_service_stops_meanwhile(self, make: MakeLive) -> None:
        live = make()
        clients = self.crowd(live)
        live.reload(ini(MARKED))
        for client in clients[:3]:
            client.close()
        clients[3].finish()
        live.balancer.stopService()
        live.run()
        assert [client.fate for client in clients] == ["closed"] * 7

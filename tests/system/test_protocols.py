"""What real clients and servers speak, through the real balancer."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.accessline import TCP_LINE, parse
from tests.support.client import Connection, ConnectionEnded, get
from tests.support.debian import need
from tests.support.pattern import new_digest, pattern, pattern_digest
from tests.support.processes import Balancer, Server, eventually, free_port, http_servers, lb_ini, run

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a balancer with two http servers."""
    port = free_port()
    with http_servers("s1", "s2") as servers, Balancer(tmp_path_factory.mktemp("web"), lb_ini(port, servers)):
        yield port


@pytest.fixture(scope="module")
def tcp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    """A balancer in tcp mode with one server; `port_of` says where."""
    config_of = lb_ini(free_port(), [], frontend="mode = tcp")
    with (
        Server("s1", "tcp") as server,
        Balancer(tmp_path_factory.mktemp("tcp"), f"{config_of}{server.line}\n") as balancer,
    ):
        yield balancer


def port_of(balancer: Balancer) -> int:
    """Where its first frontend listens."""
    _, _, rest = balancer.config_path.read_text().partition("listen = 127.0.0.1:")
    return int(rest.split()[0])


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()


def certificate(authority: trustme.CA, path: Path) -> Path:
    """A PEM file, key and chain, for this machine's names."""
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[int]:
    """The port of a TLS listener."""
    folder = tmp_path_factory.mktemp("tls")
    certificate(authority, folder / "site.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    port = free_port()
    with http_servers("s1") as servers:
        config = lb_ini(port, servers).replace(f":{port}", f":{port} tls cert=site.pem")
        with Balancer(folder, config):
            yield port


class TestHttp:
    def test_http_1_0_gets_one_answer_and_a_close(self, web: int) -> None:
        with Connection(web) as client:
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            answer = client.read_to_end()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close\r\n" in answer
        assert answer.endswith((b"\r\n\r\ns1\n", b"\r\n\r\ns2\n"))

    def test_http_1_0_may_ask_for_keep_alive(self, web: int) -> None:
        with Connection(web) as client:
            for _ in range(3):
                client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                response = client.read_response()
                assert response["Connection"].lower() == "keep-alive"

    def test_http_1_0_gets_a_chunked_answer_without_chunks(self, web: int) -> None:
        with Connection(web) as client:
            client.send(b"GET /?bytes=1000000&chunked=1 HTTP/1.0\r\n\r\n")
            response = client.read_response()
        assert not response["Transfer-Encoding"]
        digest = new_digest()
        digest.update(response.body)
        assert digest.hexdigest() == pattern_digest(1_000_000)

    def test_head_has_a_length_and_no_body(self, web: int) -> None:
        with Connection(web) as client:
            for _ in range(3):
                response = client.request("HEAD", "/")
                assert (response.status, response["Content-Length"]) == (200, "3")
            assert len(client.request("GET", "/").body) == 3  # and the connection is still in step

    def test_pipelined_requests_are_answered_in_order(self, web: int) -> None:
        delays = ["0.2", "0", "0.1", "0"] * 5
        with Connection(web) as client:
            client.send(
                b"".join(
                    f"GET /head?delay={delay} HTTP/1.1\r\nHost: test\r\nX-Number: {number}\r\n\r\n".encode()
                    for number, delay in enumerate(delays)
                )
            )
            for number in range(len(delays)):
                assert f"X-Number: {number}\r\n".encode() in client.read_response().body

    def test_pipelined_bodies_and_requests_do_not_mix(self, web: int) -> None:
        body = next(pattern(100_000))
        digest = new_digest()
        digest.update(body)
        one = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n" + body
        with Connection(web) as client:
            client.send((one + b"GET / HTTP/1.1\r\nHost: test\r\n\r\n") * 5)
            for _ in range(5):
                assert client.read_response().body == f"100000 {digest.hexdigest()}\n".encode()
                assert client.read_response().body in (b"s1\n", b"s2\n")

    def test_a_request_byte_by_byte(self, web: int) -> None:
        with Connection(web) as client:
            for byte in b"GET / HTTP/1.1\r\nHost: test\r\n\r\n":
                client.send(bytes([byte]))
                time.sleep(0.002)  # a packet each
            assert client.read_response().status == 200

    def test_the_server_sees_who_asked(self, web: int) -> None:
        with Connection(web) as client:
            head = client.request(
                "GET", "/head", "X-Forwarded-For: 6.6.6.6", "Connection: x-private", "X-Private: 1"
            ).body
        lines = head.decode().split("\r\n")
        assert [line for line in lines if line.lower().startswith("x-forwarded-")] == [
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Proto: http",
            f"X-Forwarded-Port: {web}",
            "X-Forwarded-Host: test",
        ]
        assert "Host: test" in lines
        assert not any("private" in line.lower() for line in lines)

    def test_a_request_that_breaks_the_rules_gets_400_and_a_close(self, web: int) -> None:
        with Connection(web) as client:
            client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            )
            response = client.read_response()
            assert (response.status, response["Connection"]) == (400, "close")
            assert client.receive() == b""

    def test_expect_100_continue_as_curl_does_it(self, web: int, tmp_path: Path) -> None:
        curl = need("curl")
        source = tmp_path / "two-megabytes"
        source.write_bytes(b"".join(pattern(2_000_000)))
        start = time.monotonic()
        code, output, error = run(
            [curl, "-sSv", "-H", "Expect: 100-continue", "-T", str(source), f"http://127.0.0.1:{web}/"], tmp_path
        )
        assert code == 0, error
        assert output == f"2000000 {pattern_digest(2_000_000)}\n"
        assert "< HTTP/1.1 100 Continue" in error
        assert time.monotonic() - start < 0.9  # without the 100 curl would wait for a second

    def test_curl_uploads_from_a_pipe_in_chunks(self, web: int, tmp_path: Path) -> None:
        curl = need("curl")
        done = subprocess.run(
            [curl, "-sS", "-T", "-", f"http://127.0.0.1:{web}/"],
            input=b"".join(pattern(3_000_000)),
            capture_output=True,
            timeout=20,
            check=True,
        )
        assert done.stdout.decode() == f"3000000 {pattern_digest(3_000_000)}\n"


class TestWebSocket:
    def test_frames_go_both_ways(self, web: int) -> None:
        with self.opened(web) as client:
            for text in (b"hello", b"x" * 5000, b"", b"\xff\x00" * 60):
                assert self.echo(client, text) == text
            client.send(b"\x88\x80\0\0\0\0")
            assert client.read_exactly(2) == b"\x88\x00"
            assert client.receive() == b""

    def test_frames_right_behind_the_handshake_are_not_lost(self, web: int) -> None:
        with Connection(web) as client:
            client.send(self.handshake + self.frame(b"early"))
            assert client.read_head().status == 101
            assert client.read_exactly(7) == b"\x81\x05early"

    def test_a_killed_server_ends_the_tunnel(self, tmp_path: Path, servers: tuple[Server, ...]) -> None:
        port = free_port()
        with Balancer(tmp_path, lb_ini(port, servers[:1])) as balancer:
            with self.opened(port) as client:
                assert self.echo(client, b"hello") == b"hello"
                servers[0].kill()
                with pytest.raises((ConnectionResetError, ConnectionEnded)):
                    client.read_exactly(1)
            (line,) = balancer.wait_for_access(1)
        assert parse(line)["status"] == "101"

    handshake = (
        b"GET /chat HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    def opened(self, port: int) -> Connection:
        client = Connection(port)
        client.send(self.handshake)
        head = client.read_head()
        assert head.status == 101
        assert head["Upgrade"] == "websocket"
        assert head["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, section 1.3
        return client

    @staticmethod
    def frame(data: bytes) -> bytes:
        length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2)
        mask = b"\x12\x34\x56\x78"
        return b"\x81" + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))

    def echo(self, client: Connection, data: bytes) -> bytes:
        client.send(self.frame(data))
        _, length = client.read_exactly(2)
        return client.read_exactly(int.from_bytes(client.read_exactly(2)) if length == 126 else length)


class TestTls:
    @pytest.fixture
    def ca(self, tmp_path: Path, authority: trustme.CA) -> Path:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        return tmp_path / "ca.pem"

    def test_curl_trusts_the_listener(self, secure: int, ca: Path) -> None:
        curl = need("curl")
        code, output, error = run([curl, "-sS", "--cacert", str(ca), f"https://localhost:{secure}/head"], ca.parent)
        assert code == 0, error
        assert "X-Forwarded-Proto: https" in output
        assert run([curl, "-sSk", f"https://127.0.0.1:{secure}/"], ca.parent)[1] == "s1\n"

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_openssl_speaks_to_the_listener(self, secure: int, ca: Path, version: str) -> None:
        openssl = need("openssl")
        command = [openssl, "s_client", "-connect", f"127.0.0.1:{secure}", "-CAfile", str(ca), version]
        code, output, _ = run(
            [*command, "-verify_return_error", "-quiet", "-servername", "localhost", "-alpn", "http/1.1"],
            ca.parent,
            text="GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )
        assert code == 0
        assert output.startswith("HTTP/1.1 200 OK")

    def test_an_old_version_of_tls_is_refused(self, secure: int, ca: Path) -> None:
        openssl = need("openssl")
        command = [openssl, "s_client", "-connect", f"127.0.0.1:{secure}", "-tls1_1", "-cipher", "ALL@SECLEVEL=0"]
        assert run(command, ca.parent)[0] != 0

    def test_many_requests_and_long_bodies(self, secure: int, ca: Path) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        with Connection(secure, tls=context) as client:
            for _ in range(20):
                assert client.request("GET", "/").body == b"s1\n"
            digest = new_digest()
            digest.update(client.request("GET", "/?bytes=20000000").body)
            assert digest.hexdigest() == pattern_digest(20_000_000)
            body = b"".join(pattern(5_000_000))
            assert client.request("POST", "/", body=body).body == f"5000000 {pattern_digest(5_000_000)}\n".encode()

    def test_plain_text_at_the_tls_port_is_no_trouble(self, secure: int, ca: Path) -> None:
        with Connection(secure) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            assert b"HTTP/" not in client.read_to_end()
        with Connection(secure, tls=ssl.create_default_context(cafile=str(ca))) as good:
            assert good.request("GET", "/").status == 200

    @pytest.mark.parametrize(
        ("words", "status", "reason"),
        [
            ("tls ca=ca.pem", 200, "L6OK"),
            ("tls ca=ca.pem sni=localhost", 200, "L6OK"),
            ("tls verify=no", 200, "L6OK"),
            ("tls ca=other.pem", 503, "L6RSP TLS handshake failed"),
            ("tls ca=ca.pem sni=example.org", 503, "L6RSP TLS handshake failed"),
            ("tls", 503, "L6RSP TLS handshake failed"),
        ],
    )
    def test_tls_to_a_server(self, tmp_path: Path, authority: trustme.CA, words: str, status: int, reason: str) -> None:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        port = free_port()
        with (
            Server("s1", "http", "--cert", str(certificate(authority, tmp_path / "server.pem"))) as server,
            Balancer(tmp_path, lb_ini(port, [f"{server.line} {words}"])) as balancer,
        ):
            assert get(port).status == status  # also while the checks still think that it is up
            if status == 200:
                with Connection(port) as client:
                    for _ in range(3):
                        assert client.request("POST", "/", body=b"x" * 100_000).status == 200
                    digest = new_digest()
                    digest.update(client.request("GET", "/?bytes=20000000").body)
                assert digest.hexdigest() == pattern_digest(20_000_000)
                assert "DOWN" not in balancer.log()
            else:
                balancer.wait_for_log(rf"app/s1 is DOWN \({reason}")
                assert get(port).status == 503

    def test_an_unusable_certificate_is_one_clear_line(self, tmp_path: Path) -> None:
        (tmp_path / "site.pem").write_text("no certificate")
        (tmp_path / "site.pem").chmod(0o600)
        port = free_port()
        balancer = Balancer(tmp_path, lb_ini(port, []).replace(f":{port}", f":{port} tls cert=site.pem"))
        with pytest.raises(AssertionError, match="ended at once with 1"):
            balancer.start()
        assert "site.pem cannot be used" in balancer.output()
        assert "Traceback" not in balancer.output()


class TestTcpMode:
    def test_half_close_by_socket(self, tcp: Balancer) -> None:
        with Connection(port_of(tcp)) as client:
            client.send(b"digest\n")
            client.send(b"".join(pattern(1_000_000)))
            client.finish_sending()
            assert client.read_to_end() == f"1000000 {pattern_digest(1_000_000)}\n".encode()

    def test_half_close_by_socat(self, tcp: Balancer) -> None:
        socat = need("socat")
        done = subprocess.run(
            [socat, "-t", "10", "-", f"TCP:127.0.0.1:{port_of(tcp)}"],
            input=b"digest\n" + b"".join(pattern(5_000_000)),
            capture_output=True,
            timeout=20,
            check=True,
        )
        assert done.stdout == f"5000000 {pattern_digest(5_000_000)}\n".encode()

    def test_the_server_may_finish_first(self, tcp: Balancer) -> None:
        with Connection(port_of(tcp)) as client:
            client.send(b"send 3000000\n")
            digest = new_digest()
            digest.update(client.read_to_end())
            assert digest.hexdigest() == pattern_digest(3_000_000)

    def test_both_directions_at_once(self, tcp: Balancer) -> None:
        with Connection(port_of(tcp)) as client:
            client.send(b"echo\n")
            for block in pattern(4_000_000):
                client.send(block)
                assert client.read_exactly(len(block)) == block

    def test_sessions_are_logged(self, tcp: Balancer) -> None:
        before = len(tcp.access_lines())
        with Connection(port_of(tcp)) as client:
            client.send(b"send 1000\n")
            assert len(client.read_to_end()) == 1000
        fields = parse(tcp.wait_for_access(before + 1)[-1], TCP_LINE)
        assert (fields["server"], fields["bytes"], fields["state"]) == ("s1", "1000", "--")

    def test_without_a_server_the_connection_is_closed(self, tmp_path: Path) -> None:
        port = free_port()
        with Balancer(
            tmp_path, lb_ini(port, [f"server s1 = 127.0.0.1:{free_port()}"], frontend="mode = tcp")
        ) as balancer:
            with Connection(port) as client:
                assert client.receive() == b""
            (line,) = balancer.wait_for_access(1)
        assert parse(line, TCP_LINE)["state"] == "SC"

    def test_a_killed_server_resets_its_sessions_and_new_ones_go_elsewhere(self, tmp_path: Path) -> None:
        port = free_port()
        with (
            Server("s1", "tcp") as first,
            Server("s2", "tcp") as second,
            Balancer(tmp_path, lb_ini(port, (first, f"{second.line} backup"), frontend="mode = tcp")),
        ):
            with Connection(port) as client:
                client.send(b"echo\nhello")
                assert client.read_exactly(5) == b"hello"
                first.kill()
                with pytest.raises((ConnectionResetError, ConnectionEnded)):
                    client.read_exactly(1)
            eventually(lambda: self.echoes(port), 5, "the backup")

    def echoes(self, port: int) -> bool:
        with Connection(port) as client:
            client.send(b"echo\nhello")
            try:
                return client.read_exactly(5) == b"hello"
            except (ConnectionEnded, ConnectionResetError):
                return False


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[int]:
    """The port of a redis server that keeps nothing."""
    program = need("redis-server")
    port = free_port()
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    with open(tmp_path / "redis.out", "wb") as output:
        server = subprocess.Popen([program, "--port", str(port), *options], stdout=output, stderr=output)
    try:
        eventually(lambda: accepts(port), 10, "redis")
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class TestRedis:
    def test_redis_clients_through_tcp_mode(self, tmp_path: Path, redis: int) -> None:
        cli, benchmark = need("redis-cli"), need("redis-benchmark")
        port = free_port()
        where = ["-h", "127.0.0.1", "-p", str(port)]
        with Balancer(tmp_path, lb_ini(port, [f"server r1 = 127.0.0.1:{redis}"], frontend="mode = tcp")):
            assert run([cli, *where, "set", "color", "blue"], tmp_path)[1] == "OK\n"
            assert run([cli, *where, "get", "color"], tmp_path)[1] == "blue\n"
            big = "x" * 5_000_000
            assert run([cli, *where, "-x", "set", "big"], tmp_path, text=big)[1] == "OK\n"
            assert run([cli, *where, "strlen", "big"], tmp_path)[1] == "5000000\n"
            assert run([cli, *where, "get", "big"], tmp_path)[1] == big + "\n"
            for pipelined in ("1", "16"):
                code, output, error = run(
                    [benchmark, *where, "-n", "20000", "-c", "20", "-P", pipelined, "-t", "set,get", "-q"], tmp_path
                )
                assert code == 0, error
                assert output.count("requests per second") >= 2
                assert "rror" not in output + error


def test_an_ipv6_listener_serves_both_families(tmp_path: Path, servers: tuple[Server, ...]) -> None:
    if not os.path.exists("/proc/net/if_inet6") or not Path("/proc/net/if_inet6").read_text():
        pytest.skip("this machine has no IPv6")
    port = free_port()
    config = lb_ini(port, servers[:1]).replace("listen = 127.0.0.1", "listen = [::]")
    with Balancer(tmp_path, config):
        assert get(port).status == 200
        with socket.create_connection(("::1", port), timeout=5) as client:
            client.sendall(b"GET /head HTTP/1.0\r\n\r\n")
            assert b"X-Forwarded-For: ::1" in b"".join(iter(lambda: client.recv(65536), b""))

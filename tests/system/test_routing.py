"""One frontend and several applications behind it, as curl and OpenSSL meet them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.support.accessline import TCP_LINE, parse
from tests.support.client import Connection, get
from tests.support.debian import need
from tests.support.processes import Balancer, Server, free_port, run

pytestmark = pytest.mark.system

Ask = Callable[..., tuple[str, str, str]]

WEB = """\
[frontend web]
listen = 127.0.0.1:{port}
redirect www = https://app.example{{uri}} 301 host=www.app.example
refuse admin = 403 path=/admin
route api = api path=/api strip=/api
backend = app
max-body = 1KiB
methods = GET, HEAD, POST
response-header X-Frame-Options = set DENY
error-page 403 = no.json
[frontend rare]
listen = 127.0.0.1:{rare}
backend = app
rate-limit = 1/h burst=2
[frontend nowhere]
listen = 127.0.0.1:{nowhere}
route api = api host=api.example
[backend app]
{app}
[backend api]
request-header Host = set api.internal
{api}
"""


def curl_in(folder: Path) -> Ask:
    """Ask for a path with curl: the status, where it redirects to, and the body."""
    curl = need("curl")

    def ask(port: int, path: str, *options: str) -> tuple[str, str, str]:
        form = "\n%{http_code} %{redirect_url}"
        code, output, error = run(
            [curl, "-sS", "--path-as-is", "-w", form, *options, f"http://127.0.0.1:{port}{path}"], folder
        )
        assert (code, error) == (0, "")
        body, _, last = output.rpartition("\n")
        status, _, location = last.partition(" ")
        return status, location, body

    return ask


def test_requests_find_their_way(tmp_path: Path, servers: tuple[Server, ...]) -> None:
    ask = curl_in(tmp_path)
    port, rare, nowhere = free_port(), free_port(), free_port()
    app, api, _ = servers
    (tmp_path / "no.json").write_text('{"no": true}')
    config = WEB.format(port=port, rare=rare, nowhere=nowhere, app=app.line, api=api.line)
    with Balancer(tmp_path, config) as balancer:
        assert ask(port, "/") == ("200", "", "s1\n")
        assert ask(port, "/api/users?x=1") == ("200", "", "s2\n")
        head = ask(port, "/api/head?x=1")[2]
        assert head.startswith("GET /head?x=1 HTTP/1.1\nHost: api.internal\n")
        assert ask(port, "/x/../api/users")[0] == "400"
        assert ask(port, "/admin") == ("403", "", '{"no": true}')
        assert ask(port, "/a?b", "-H", "Host: www.app.example")[:2] == ("301", "https://app.example/a?b")
        assert ask(port, "/", "-X", "DELETE")[0] == "405"
        assert ask(port, "/", "--data-binary", "x" * 1024)[0] == "200"
        assert ask(port, "/", "--data-binary", "x" * 1025)[0] == "413"
        assert ask(port, "/", "--data-binary", "x" * 1025, "-H", "Transfer-Encoding: chunked")[0] == "413"
        assert get(port)["X-Frame-Options"] == "DENY"
        assert [ask(rare, "/")[0] for _ in range(3)] == ["200", "200", "429"]
        assert ask(nowhere, "/")[0] == "404"
        assert ask(nowhere, "/", "-H", "Host: api.example")[0] == "200"
        lines = [parse(line) for line in balancer.wait_for_access(16)]
    seen = [f"{line['frontend']} {line['backend']}/{line['server']} {line['status']} {line['state']}" for line in lines]
    assert seen == [
        "web app/s1 200 --",
        "web api/s2 200 --",
        "web api/s2 200 --",
        "web web/<NOSRV> 400 PR",
        "web web/<NOSRV> 403 PR",
        "web web/<NOSRV> 301 LR",
        "web web/<NOSRV> 405 PR",
        "web app/s1 200 --",
        "web web/<NOSRV> 413 PR",
        seen[9],
        "web app/s1 200 --",
        "rare app/s1 200 --",
        "rare app/s1 200 --",
        "rare rare/<NOSRV> 429 PR",
        "nowhere nowhere/<NOSRV> 404 LR",
        "nowhere api/s2 200 --",
    ]
    assert seen[9] in ("web app/s1 413 PR", "web app/<NOSRV> 413 PR")  # the chunks were too many in time, or later
    assert lines[1]["request"] == "GET /api/users?x=1 HTTP/1.1"


def test_who_is_denied_is_told_so_and_the_log_says_it_once(tmp_path: Path, servers: tuple[Server, ...]) -> None:
    ask = curl_in(tmp_path)
    port = free_port()
    config = f"[frontend web]\nlisten = 127.0.0.1:{port}\nbackend = app\ntrusted-proxies = 127.0.0.1\n"
    with Balancer(tmp_path, f"{config}deny = 192.0.2.0/24\n[backend app]\n{servers[0].line}\n") as balancer:
        for address, status in (("192.0.2.7", "403"), ("192.0.2.8", "403"), ("198.51.100.1", "200")):
            assert ask(port, "/", "-H", f"X-Forwarded-For: {address}")[0] == status
        balancer.wait_for_log("frontend web denies 192.0.2.7")
        balancer.wait_for_access(3)
        assert balancer.log().count(" denies ") == 1


def test_the_name_in_a_hello_chooses_and_tls_goes_through(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    port = free_port()
    with Server("plain") as plain, Server("tls", "http", "--cert", str(tmp_path / "server.pem")) as secure:
        config = (
            f"[frontend names]\nlisten = 127.0.0.1:{port}\nmode = tcp\nroute secure = secure sni=localhost\n"
            f"backend = plain\n[backend plain]\ncheck = none\n{plain.line}\n"
            f"[backend secure]\ncheck = none\n{secure.line}\n"
        )
        with Balancer(tmp_path, config) as balancer:
            with Connection(port, tls=context) as client:
                assert client.request("GET", "/").body == b"tls\n"
                assert client.request("POST", "/", body=b"x" * 100_000).status == 200
            assert get(port).body == b"plain\n"
            lines = [parse(line, TCP_LINE) for line in balancer.wait_for_access(2)]
    assert [f"{line['backend']}/{line['server']}" for line in lines] == ["secure/tls", "plain/plain"]

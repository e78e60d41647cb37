"""TLS on either side: the same answers, and no half-close, so that one end's end is the tunnel's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.defer import Deferred

from lbservice.core.health import CheckResult
from lbservice.core.settings import CheckSettings, ListenTls, ServerTls
from lbservice.services.checks import HttpCheck, Unasked
from tests.proxy.test_upgrade import Chat
from tests.support.actors import OK, response
from tests.support.house import House
from tests.support.wire import MemoryNetwork

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UNVERIFIED = ServerTls(verify=False)
MakeHouse = Callable[..., House]


@pytest.fixture(scope="module")
def cert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PEM file with a key and a certificate for `app.test`."""
    file: Path = tmp_path_factory.mktemp("tls") / "cert.pem"
    trustme.CA().issue_cert("app.test").private_key_and_cert_chain_pem.write_to_path(file)
    return str(file)


@pytest.fixture(params=["client", "server", "both"])
def secure_house(request: pytest.FixtureRequest, make_house: MakeHouse, cert: str) -> House:
    """TLS to the client, to the server, to both."""
    return make_house(1, cert=cert, **sides(request.param, cert))


def sides(which: str, cert: str) -> dict[str, Any]:
    """The House keywords for TLS on these sides."""
    chosen: dict[str, Any] = {"listen_tls": ListenTls(cert), "server_tls": UNVERIFIED}
    if which == "both":
        return chosen
    key = "listen_tls" if which == "client" else "server_tls"
    return {key: chosen[key]}


def test_a_get_is_passed_on_and_answered(secure_house: House) -> None:
    origin = secure_house.origin()
    assert response(secure_house.client().ask(GET)).status == 200
    assert (len(origin.requests), secure_house.endings) == (1, ["200 --"])


def test_a_certificate_for_another_name_is_no_server(make_house: MakeHouse, cert: str) -> None:
    house = make_house(1, server_tls=ServerTls(ca=cert, sni="other.test"), cert=cert)
    origin = house.origin()
    assert response(house.client().ask(GET)).status == 503
    assert (origin.requests, house.endings) == ([], ["503 SC"])


def test_a_tunnel_ends_when_the_client_closes(secure_house: House) -> None:
    chat = Chat(secure_house)
    chat.client.send(b"last words")
    chat.client.close()
    secure_house.run(1)
    assert (chat.server.take(), secure_house.endings, secure_house.quiet) == (b"last words", ["101 --"], True)


def test_a_tunnel_ends_when_the_server_closes(secure_house: House) -> None:
    chat = Chat(secure_house)
    chat.client.lingers = False
    chat.client.take()
    chat.server.send(b"bye")
    chat.server.close()
    secure_house.run(1)
    assert (chat.client.take(), secure_house.endings, secure_house.quiet) == (b"bye", ["101 --"], True)


def test_in_tcp_mode_no_server_is_bound_before_the_handshake(make_house: MakeHouse, cert: str) -> None:
    house = make_house(1, mode="tcp", listen_tls=ListenTls(cert), frontend={"timeout_client": 5.0})
    origin = house.origin(1, raw=True)
    house._outside = house.network
    silent = house.client()
    house.run(4)
    assert (len(origin.connections), silent.fate) == (0, None)
    house.run(2)
    assert (silent.fate, house.frontend.active) == ("reset", 0)


def test_in_tcp_mode_bytes_go_both_ways(make_house: MakeHouse, cert: str) -> None:
    house = make_house(1, mode="tcp", listen_tls=ListenTls(cert))
    origin = house.origin(1, raw=True)
    client = house.client()
    client.send(b"question")
    house.run()
    origin.last.send(b"answer")
    house.run()
    assert (origin.last.take(), client.take()) == (b"question", b"answer")


def test_a_check_whose_handshake_fails_is_a_result_and_no_error(make_house: MakeHouse, cert: str) -> None:
    house = make_house(1, server_tls=ServerTls(ca=cert, sni="other.test"), cert=cert)
    house.origin()
    results: list[CheckResult | Unasked] = []
    check = HttpCheck(CheckSettings(kind="http"), house.network, house.clock)
    Deferred.fromCoroutine(check.run(house.server())).addCallback(results.append)
    house.run(3)
    (result,) = results
    assert isinstance(result, CheckResult)
    assert (result.passed, result.code) == (False, "L6RSP")


def test_a_check_without_an_open_file_left_says_nothing_of_the_server(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make_house(1)
    house.origin(1, OK)
    results: list[CheckResult | Unasked] = []

    def no_socket(*args: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("tests.support.wire._Client.createInternetSocket", no_socket)
    check = HttpCheck(CheckSettings(kind="http"), house.network, house.clock)
    Deferred.fromCoroutine(check.run(house.server())).addCallback(results.append)
    house.run(3)
    (result,) = results
    assert isinstance(result, Unasked)
    assert isinstance(house.network, MemoryNetwork)

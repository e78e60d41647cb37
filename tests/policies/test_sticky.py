from __future__ import annotations

import pytest

from lbservice.core.agent import Agent, Said
from lbservice.core.backend import Backend
from lbservice.core.pick import OK, Outcome, Policy
from lbservice.core.server import Admin, Ejection, Server
from lbservice.policies.least import LeastConn
from lbservice.policies.rotation import RoundRobin
from lbservice.policies.sticky import Sticky
from tests.core.build import GOOD, Asking, comes_up, goes_down, make_backend, make_server, passed

SECRET = b"sixteen bytes ok"


def sticky(secret: bytes = SECRET, name: str = "app", policy: Policy | None = None) -> tuple[Backend, Sticky]:
    made = Sticky(policy or RoundRobin(), name, secret)
    backend = make_backend([make_server(f"s{n}", maxconn=2) for n in (1, 2, 3)], made)
    backend.sticky = True
    return backend, made


def served(backend: Backend, cookie: bytes, *avoid: Server) -> str:
    lease = backend.acquire(Asking(cookie=cookie), avoid)
    assert lease is not None
    lease.done(GOOD)
    return lease.server.name


class TestFollowing:
    def test_a_cookie_brings_back_to_its_server(self) -> None:
        backend, policy = sticky()
        for name in ("s3", "s1", "s2"):
            token = policy.token(backend.servers[name])
            assert [served(backend, token) for _ in range(5)] == [name] * 5

    @pytest.mark.parametrize("cookie", [b"", b"s1", b"0" * 32, b"\xff", b"127.0.0.1:9001"])
    def test_any_other_is_as_good_as_none(self, cookie: bytes) -> None:
        backend, _ = sticky()
        assert [served(backend, cookie) for _ in range(6)] == ["s1", "s2", "s3"] * 2

    def test_not_to_a_server_that_is_down_and_again_when_it_is_up(self) -> None:
        backend, policy = sticky()
        s1 = backend.servers["s1"]
        token = policy.token(s1)
        goes_down(backend, s1)
        assert {served(backend, token) for _ in range(6)} == {"s2", "s3"}
        comes_up(backend, s1)
        assert {served(backend, token) for _ in range(6)} == {"s1"}

    @pytest.mark.parametrize("how", ["drain", "weight", "agent"])
    def test_to_one_that_drains_though_it_gets_nobody_new(self, how: str) -> None:
        backend, policy = sticky()
        s1, s2, s3 = backend
        tokens = {server: policy.token(server) for server in backend}
        for server in (s1, s2):
            if how == "drain":
                server.admin = Admin.DRAIN
            elif how == "weight":
                server.weight = 0
            else:
                server.agent = Agent()
                server.hear(passed(), Said(hold="drain"))
        backend.refresh()
        assert [served(backend, tokens[server]) for server in (s1, s2, s3)] == ["s1", "s2", "s3"]
        assert [served(backend, b"") for _ in range(4)] == ["s3"] * 4
        assert served(backend, tokens[s1], s1) == "s3", "it has failed him"
        goes_down(backend, s3)
        assert served(backend, tokens[s1]) == "s1", "also when it is all that there is"
        assert backend.acquire(Asking()) is None

    def test_not_to_one_that_drains_and_is_full_down_ejected_removed_or_in_maint(self) -> None:
        backend, policy = sticky()
        s1 = backend.servers["s1"]
        token = policy.token(s1)
        s1.admin = Admin.DRAIN
        backend.refresh()
        leases = [backend.acquire(Asking(cookie=token)) for _ in range(2)]
        assert s1.full
        assert served(backend, token) != "s1"
        for lease in leases:
            assert lease is not None
            lease.done(GOOD)
        assert served(backend, token) == "s1"
        goes_down(backend, s1)
        assert served(backend, token) != "s1"
        comes_up(backend, s1)
        s1.ejection = Ejection(30.0, "errors")
        backend.refresh()
        assert served(backend, token) != "s1"
        s1.ejection = None
        s1.admin = Admin.MAINT
        backend.refresh()
        assert served(backend, token) != "s1"
        s1.admin = Admin.DRAIN
        backend.refresh()
        assert served(backend, token) == "s1"
        backend.remove(s1)
        assert served(backend, token) != "s1"

    def test_not_to_one_that_is_full_or_was_tried(self) -> None:
        backend, policy = sticky()
        s1 = backend.servers["s1"]
        token = policy.token(s1)
        assert served(backend, token, s1) != "s1"
        for _ in range(2):
            assert backend.acquire(Asking(cookie=token)) is not None
        assert s1.full
        assert served(backend, token) != "s1"

    def test_not_to_a_server_of_the_same_name_in_another_backend(self) -> None:
        (_, other), (backend, policy) = sticky(name="other"), sticky()
        s1 = backend.servers["s1"]
        assert other.token(s1) != policy.token(s1)


class TestTokens:
    def test_say_nothing_and_need_the_secret(self) -> None:
        backend, policy = sticky()
        tokens = [policy.token(server) for server in backend]
        assert len(set(tokens)) == 3
        assert all(len(token) == 32 and b"s1" not in token for token in tokens)
        another, stranger = sticky(secret=b"another secret 1")
        assert not set(tokens) & {stranger.token(server) for server in another}

    def test_are_the_same_in_each_process_that_has_the_secret(self) -> None:
        (one, first), (other, second) = sticky(), sticky()
        assert [first.token(s) for s in one] == [second.token(s) for s in other]


class TestAroundAnother:
    def test_the_other_hears_of_everything_as_if_alone(self) -> None:
        backend, _ = sticky(policy=LeastConn(lambda: 0.0))
        assert not backend.learns, "no need to tell of what went well"
        told: list[str] = []

        class Curious(RoundRobin):
            wants = ("uri", "")

            def failed(self, server: Server, outcome: Outcome) -> None:
                told.append("failed")

            def learn(self, server: Server, outcome: Outcome) -> None:
                told.append("learn")

        backend, policy = sticky(policy=Curious())
        assert backend.learns
        assert policy.wants == ("uri", "")
        lease = backend.acquire(Asking())
        assert lease is not None
        lease.done(Outcome(OK, 500))
        assert told == ["failed", "learn"]

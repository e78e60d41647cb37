from __future__ import annotations

import re
from random import Random

import pytest

from lbservice import policies
from lbservice.core.pick import Policy
from lbservice.policies.chance import Draw
from lbservice.policies.hashing import Rendezvous
from lbservice.policies.maglev import Maglev
from lbservice.policies.spec import Balance, read

NAMES = policies.POLICIES


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("roundrobin", Balance("roundrobin")),
        ("random", Balance("random", draws=2)),
        ("random(5)", Balance("random", draws=5)),
        ("source", Balance("source")),
        ("uri", Balance("uri", wants=("uri", ""))),
        ("header(X-User)", Balance("header", wants=("header", "x-user"))),
        ("cookie(SID)", Balance("cookie", wants=("cookie", "SID"))),
        ("param(user_id)", Balance("param", wants=("param", "user_id"))),
        ("maglev source", Balance("maglev")),
        ("maglev  header(Host)", Balance("maglev", wants=("header", "host"))),
        ("my.module:Cheapest", Balance("my.module:Cheapest")),
    ],
)
def test_what_is_understood(text: str, meant: Balance) -> None:
    assert read(text, NAMES) == meant
    assert meant.own == (":" in text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("leestconn", "unknown policy; did you mean 'leastconn'?"),
        ("leasttime", "unknown policy; did you mean 'least-time'?"),
        ("leastconn(2)", "leastconn takes nothing in brackets; write leastconn alone"),
        ("static-rr", "unknown policy; here it is roundrobin"),
        ("ip_hash", "unknown policy; here it is source"),
        ("hdr(X-User)", "unknown policy; here it is header(NAME)"),
        ("header X-User", "the name stands in brackets; write header(X-User)"),
        ("leastconn 2", "leastconn takes nothing after it; take out '2'"),
        ("random(0)", "random(0): the number of draws must be a whole number from 1 to 16"),
        ("random()", "random(): the number of draws must be a whole number from 1 to 16"),
        ("random(two)", "random(two): the number of draws must be a whole number from 1 to 16"),
        ("header", "say which header, e.g. header(X-User)"),
        ("cookie", "say which cookie, e.g. cookie(sid)"),
        ("uri(x)", "uri takes nothing in brackets; write uri alone"),
        ("header(X User)", "header(X takes nothing after it; take out 'User)'"),
        ("header(X:User)", "write a policy of your own as package.module:Class"),
        ("header(X@User)", "'X@User' is no name of a header; write e.g. header(X-User)"),
        ("header(X_User)", "a field with _ in its name is dropped, so X_User never arrives; use one with -"),
        ("header(Connection)", "a field like connection is about the connection; hash one that is about the request"),
        ("maglev", "write what maglev hashes, e.g. maglev uri or maglev header(X-User)"),
        ("maglev url", "cannot hash 'url'; did you mean 'uri'?"),
        ("maglev xyz", "cannot hash 'xyz'; one of: source, uri, header, cookie, param"),
        ("maglev roundrobin", "cannot hash 'roundrobin'; one of: source, uri, header, cookie, param"),
        ("my-module:Class", "write a policy of your own as package.module:Class"),
    ],
)
def test_what_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        read(text, NAMES)


class TestRegistry:
    @pytest.mark.parametrize(
        "balance",
        [f"{name}(x-a)" if name in ("header", "cookie", "param") else name for name in NAMES if name != "maglev"],
    )
    def test_makes_a_new_policy_each_time(self, balance: str) -> None:
        one, other = (policies.make(balance, lambda: 0.0, Random(1)) for _ in range(2))
        assert isinstance(one, Policy)
        assert one is not other

    def test_passes_on_what_a_policy_is_told(self) -> None:
        def make(balance: str) -> Policy:
            return policies.make(balance, lambda: 0.0, Random(1), factor=150)

        assert isinstance(make("random(3)"), Draw)
        assert isinstance(make("header(X-User)"), Rendezvous)
        assert make("header(X-User)").wants == ("header", "x-user")
        assert isinstance(make("maglev param(id)"), Maglev)
        assert make("maglev param(id)").wants == ("param", "id")

    def test_knows_no_others(self) -> None:
        with pytest.raises(ValueError, match="unknown policy"):
            policies.make("leestconn", lambda: 0.0, Random(1))

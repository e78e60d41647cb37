from __future__ import annotations

import pytest

from lbservice.core.address import Networks, believed, neighbourhood

PROXIES = Networks(("10.0.0.0/8", "2001:db8:1::/48"))


class TestNetworks:
    @pytest.mark.parametrize(
        ("host", "inside"),
        [
            ("10.1.2.3", True),
            ("11.1.2.3", False),
            ("::ffff:10.1.2.3", True),
            ("2001:db8:1::7", True),
            ("2001:db8:2::7", False),
            ("fe80::1%eth0", False),
            ("no address", False),
            ("", False),
        ],
    )
    def test_who_is_in(self, host: str, inside: bool) -> None:
        assert (host in PROXIES) is inside

    def test_nobody_is_in_none(self) -> None:
        assert not Networks(())
        assert "10.0.0.1" not in Networks(())


@pytest.mark.parametrize(
    ("host", "home"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("who?", "who?"),
    ],
)
def test_neighbours_are_counted_together(host: str, home: str) -> None:
    assert neighbourhood(host) == home


class TestBelieved:
    @pytest.mark.parametrize(
        ("said", "peer", "client"),
        [
            ([], "192.0.2.1", "192.0.2.1"),
            (["198.51.100.1"], "192.0.2.1", "192.0.2.1"),  # a stranger may say what he likes
            (["198.51.100.1"], "10.0.0.1", "198.51.100.1"),
            (["203.0.113.9", "198.51.100.1"], "10.0.0.1", "198.51.100.1"),  # what came before it may be a lie
            (["198.51.100.1", "10.0.0.2"], "10.0.0.1", "198.51.100.1"),
            (["10.0.0.3", "10.0.0.2"], "10.0.0.1", "10.0.0.3"),
            ([], "10.0.0.1", "10.0.0.1"),
            (["unknown"], "10.0.0.1", "10.0.0.1"),
            (["198.51.100.1", "unknown", "10.0.0.2"], "10.0.0.1", "10.0.0.2"),
            (["198.51.100.1:4711"], "10.0.0.1", "198.51.100.1"),
            (["[2001:db8::9]:4711"], "10.0.0.1", "2001:db8::9"),
            (["2001:DB8::9"], "10.0.0.1", "2001:db8::9"),
            ([" 198.51.100.1\t"], "10.0.0.1", "198.51.100.1"),
            ([""], "10.0.0.1", "10.0.0.1"),
        ],
    )
    def test_the_client_is_the_last_who_is_not_trusted(self, said: list[str], peer: str, client: str) -> None:
        assert believed(said, peer, PROXIES) == client

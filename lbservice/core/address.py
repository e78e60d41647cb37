"""Addresses as text, the networks that they are in, and whom a chain of proxies says that it speaks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network


@lru_cache(maxsize=4096)
def parse(host: str) -> IPv4Address | IPv6Address | None:
    """The address, without its zone; an IPv4 address that was mapped into IPv6 is one of IPv4. None: it is none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class Networks:
    """A set of networks, from texts like `10.0.0.0/8`. An address is in it if one of them holds it."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ip_network(network) for network in networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, host: str) -> bool:
        if not self._networks:
            return False
        address = parse(host)
        return address is not None and any(address in network for network in self._networks)


@lru_cache(maxsize=4096)
def neighbourhood(host: str) -> str:
    """Who is counted together: one IPv4 address, or a /64 of IPv6, which is what one customer gets."""
    address = parse(host)
    if address is None or address.version == 4:
        return host if address is None else str(address)
    return str(ip_network((int(address) >> 64 << 64, 64)))


def believed(said: Sequence[str], peer: str, trusted: Networks) -> str:
    """The client's address, for a connection of `peer` whose X-Forwarded-For has `said` these, in their order.

    It is the rightmost address that is not trusted: each proxy appends whom it speaks to, so this is the last one
    that somebody whom we trust has seen. If all are trusted, it is the leftmost of them. What is no address ends
    the search: then it is the proxy that said so.
    """
    client = peer
    for text in reversed(said):
        if client not in trusted:
            break
        address = _bare(text)
        if address is None:
            break
        client = address
    return client


def _bare(text: str) -> str | None:
    """An address, without the port that some proxies add, in the usual spelling; None: it is none."""
    text = text.strip(" \t")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    address = parse(text)
    return None if address is None else str(address)

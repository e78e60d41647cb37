"""What one value means: text -> a Python value.

Every function is pure (only those about files look at the disk) and raises ValueError with a
sentence that says what to write instead.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Collection, Mapping

from lbservice.errors import unknown
from lbservice.filemode import secret_trouble

_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_HOST = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}")
_QUANTITY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([^\s0-9.]*)")

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1.0, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3}


def name(text: str) -> str:
    """The name of a frontend, backend or server: letters, digits and `_ . : -`, as in HAProxy."""
    if not _NAME.fullmatch(text):
        raise ValueError("a name is one word of letters, digits and _ . : -")
    return text


def duration(text: str) -> float:
    """Seconds, more than 0, from `500ms`, `2s`, `5m` or `1h`."""
    return _quantity(text, _SECONDS, least=0.001, example="30s")


def size(text: str) -> int:
    """Bytes, at least 1, from `512B`, `64KiB`, `1MiB` or `1GiB`."""
    return int(_quantity(text, _BYTES, least=1, example="64KiB"))


def _quantity(text: str, units: Mapping[str, float], least: float, example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise ValueError(f"write a number and a unit, e.g. {example}")
    number, unit = match.groups()
    if not unit:
        raise ValueError(f"write a unit, e.g. {example}")
    if unit not in units:
        raise ValueError(unknown(f"unit '{unit}'", unit, units))
    if (value := float(number) * units[unit]) < least:
        raise ValueError(f"too small; write e.g. {example}")
    return value


def count(low: int = 0, high: int = 1_000_000) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def share(text: str) -> float:
    """A part of 1, from `1%` to `100%`."""
    match = re.fullmatch(r"([0-9]{1,3})\s*%", text)
    if not match or not 1 <= int(match[1]) <= 100:
        raise ValueError("write a percentage from 1% to 100%, e.g. 50%")
    return int(match[1]) / 100


def choice(what: str, words: Collection[str]) -> Callable[[str], str]:
    """A reader of one of some words; `what` names them in the message."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(unknown(what, text, words))
        return text

    return read


def switch(on: str, off: str) -> Callable[[str], bool]:
    """A reader of two words: True for `on`, False for `off`."""

    def read(text: str) -> bool:
        if text not in (on, off):
            raise ValueError(f"must be {on} or {off}")
        return text == on

    return read


def readable_file(text: str) -> str:
    """A path, as it was written, of a file that this process may read now."""
    if os.path.isdir(text):
        raise ValueError(f"{text} is a folder; name a file")
    if not os.path.exists(text):
        raise ValueError(f"no such file: {text} (a relative path starts in the folder of the run)")
    if not os.access(text, os.R_OK):
        raise ValueError(f"may not read {text}; change its owner or mode")
    return text


def private_file(text: str) -> str:
    """The same of a file that nobody else may read: a private key, passwords."""
    if trouble := secret_trouble(readable_file(text)):
        raise ValueError(trouble)
    return text


def secret_file(text: str) -> str:
    """A path, as it was written, of a file with a secret: 16 bytes or more, white space at its ends not counted."""
    path = private_file(text)
    if len(secret(path)) < 16:
        raise ValueError(
            f"{path} holds less than 16 bytes; make one with: (umask 077; head -c 32 /dev/urandom | base64 > {path})"
        )
    return path


def secret(path: str) -> bytes:
    """What a secret's file holds, without white space at its ends."""
    with open(path, "rb") as file:
        return file.read(4096).strip()


def bound(text: str) -> int:
    """Percent of a fair share, 125-200, or 0 for no bound."""
    if not re.fullmatch(r"[0-9]{1,3}", text) or not (int(text) == 0 or 125 <= int(text) <= 200):
        raise ValueError("must be a whole number from 125 to 200, or 0 for no bound")
    return int(text)


def host_field(text: str) -> str:
    """A name as it stands in a Host field or in SNI."""
    if not re.fullmatch(r"[A-Za-z0-9_.:\[\]-]+", text):
        raise ValueError(f"{text} is no host name")
    return text


def networks(text: str) -> tuple[str, ...]:
    """Networks in canonical form (`10.0.0.0/8`, `::1/128`), from a list with commas or spaces."""
    if not (words := text.replace(",", " ").split()):
        raise ValueError("write networks, e.g. 10.0.0.0/8 or 192.0.2.7")
    return tuple(_network(word) for word in words)


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text} is no network; write e.g. 10.0.0.0/8 or 192.0.2.7") from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:  # it would hold nobody
        plain = ipaddress.ip_network((mapped, network.prefixlen - 96))
        raise ValueError(f"IPv4 clients of an IPv6 listener are IPv4 clients here; did you mean '{plain}'?")
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError(f"{text} has bits set after the prefix; did you mean '{network}'?") from None


def parse_address(text: str) -> tuple[str, int]:
    """(host, port) of a server from `HOST:PORT`: a name, an IPv4 address or an IPv6 one in brackets.

    The host comes back without brackets; the port is 1-65535.
    """
    host, port = _split(text, "127.0.0.1:9001")
    if not host:
        raise ValueError("the host before the port is missing; write HOST:PORT, e.g. 127.0.0.1:9001")
    if not text.startswith("["):
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host} is neither a host name nor an IP address")
        if re.fullmatch(r"[0-9.]+", host):
            _ip(host, 4)
    return host, _port(port, 1)


def via(text: str) -> tuple[str | None, int]:
    """(host, port) from `HOST:PORT` or `PORT`; the host is None when only a port is given."""
    return (None, _port(text, 1)) if re.fullmatch(r"[0-9]+", text) else parse_address(text)


def loopback_address(text: str) -> tuple[str, int]:
    """(host, port) to listen on, which only this machine can reach."""
    host, port = listen_address(text)
    if not host or not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"is plain text, for this machine only; write 127.0.0.1:{port}")
    return host, port


def listen_address(text: str) -> tuple[str, int]:
    """(host, port) to listen on: `*`, nothing and `0.0.0.0` are "", every IPv4 address.

    Port 0 lets the system choose one.
    """
    host, port = _split(text, "127.0.0.1:8080")
    if host == "localhost":
        raise ValueError(f"listen on an IP address; did you mean '127.0.0.1:{port}'?")
    if host in ("", "*", "0.0.0.0"):
        host = ""
    elif not text.startswith("["):
        _ip(host, 4)
    return host, _port(port, 0)


def _split(text: str, example: str) -> tuple[str, str]:
    """Host and port; a bracketed host has been seen to be an IPv6 address and lost its brackets."""
    host, colon, port = text.rpartition(":")
    if "://" in text:
        raise ValueError(f"an address is no URL; write HOST:PORT, e.g. {example}")
    if not colon or text.endswith("]"):
        raise ValueError(f"the port is missing; write HOST:PORT, e.g. {example}")
    if host.startswith("[") and host.endswith("]"):
        return _ip(host[1:-1], 6), port
    if ":" in host:
        raise ValueError(f"write an IPv6 address in brackets, e.g. [::1]:{example.rpartition(':')[2]}")
    return host, port


def _ip(text: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text} is no IPv{version} address") from None
    if address.version != version:
        raise ValueError(f"{text} is no IPv{version} address")
    return str(address)


def _port(text: str, low: int) -> int:
    try:
        return count(low, 65535)(text)
    except ValueError as error:
        raise ValueError(f"the port {error}") from None

"""Where the service is: what --api says, or the [admin] section of an lb.ini.

Of the file only that one key is read: it may be half edited, or have mistakes that the running service never saw.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from lbservice import ini
from lbservice.admin.cli.failure import Unreachable

LONGEST_FILE = 16 * 1024 * 1024
LONGEST_TOKEN = 4096
EVERYWHERE = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses to listen on that nobody can connect to, and where to find the service instead."""


@dataclass(frozen=True, slots=True)
class Place:
    """A unix socket's path, or host and port; `ca` and `cert` are PEM files, `file` is the lb.ini that names it."""

    unix: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    token: str = ""
    file: str = ""

    def __str__(self) -> str:
        if self.unix:
            return f"unix:{self.unix}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


def find(config: str, api: str = "", token_file: str = "", ca: str | None = None, cert: str | None = None) -> Place:
    """The place that the options name; raises Unreachable with what to do if there is none."""
    token = _token(token_file)
    if api:
        return _from_url(api, token, ca, cert)
    listen = value(config, "admin", "listen")
    if listen is None:
        raise Unreachable(
            f"{config} has no [admin] section, so the service can be asked by nobody;"
            " add [admin] with listen = unix:run/admin.sock and start it anew"
        )
    return _from_listen(listen, config, token, ca, cert)


def value(config: str, section: str, key: str) -> str | None:
    """One value of an lb.ini, if it is there. Raises Unreachable when there is no such file to be read."""
    try:
        with open(config, "rb") as file:
            text = file.read(LONGEST_FILE).decode("utf-8-sig", "replace")
    except FileNotFoundError:
        raise Unreachable(
            f"cannot tell where the service is: there is no {config} here;"
            " go to its folder, or name it: --config FILE, LBSERVICE_CONFIG, or --api URL"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Unreachable(f"cannot tell where the service is: {config}: {reason}") from None
    sections, _ = ini.read(text, config)
    found = [entry for each in sections if each.title == section if (entry := each.get(key)) is not None]
    return found[0].value if found else None


def beside(config: str, path: str) -> str:
    """A path of an lb.ini: from the folder of the service, which is most likely this one, else that of the file."""
    there = os.path.join(os.path.dirname(config), path)
    return path if os.path.exists(path) or not os.path.exists(there) else there


def _from_url(api: str, token: str, ca: str | None, cert: str | None) -> Place:
    if api.startswith("unix:"):
        return Place(unix=api.removeprefix("unix:").removeprefix("//"), token=token)
    try:
        parts = urlsplit(api)
        host, port = parts.hostname, parts.port
        good = parts.scheme in ("http", "https") and parts.path in ("", "/") and not parts.query
    except ValueError:
        good, host = False, None
    if not good or not host:
        raise Unreachable(f"--api {api}: write http://HOST:PORT, https://HOST:PORT or unix:PATH")
    tls = parts.scheme == "https"
    return Place(host=host, port=port or (443 if tls else 80), tls=tls, ca=ca, cert=cert, token=token)


def _from_listen(listen: str, config: str, token: str, ca: str | None, cert: str | None) -> Place:
    """The first unix socket, which needs no token; else the first address."""
    places = []
    for part in listen.split(","):
        address, *words = part.split() or [""]
        if address.startswith("unix:"):
            path = beside(config, address.removeprefix("unix:"))
            return Place(unix=path, token=token, file=config)
        host, colon, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if colon and re.fullmatch(r"[0-9]{1,5}", port):
            host = EVERYWHERE.get(host, host)
            places.append(Place("", host, int(port), "tls" in words, ca, cert, token, config))
    if not places:
        raise Unreachable(f"{config}: [admin] listen = {listen}: names no address; lbservice check {config}")
    return places[0]


def _token(token_file: str) -> str:
    """The secret of a file, or of LBSERVICE_TOKEN; "" if there is none."""
    if not token_file:
        token = os.environ.get("LBSERVICE_TOKEN", "").strip()
    else:
        try:
            with open(token_file, encoding="ascii") as file:
                token = file.read(LONGEST_TOKEN).strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "is no text file with one token"
            raise Unreachable(f"--token-file {token_file}: {reason}") from None
    if not re.fullmatch(r"[!-~]*", token):
        raise Unreachable(f"{'--token-file ' + token_file if token_file else 'LBSERVICE_TOKEN'}: is not one token")
    return token

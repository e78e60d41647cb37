"""Settings -> the words of lb.ini: how servers are written, and how two configurations differ."""

from __future__ import annotations

from collections.abc import Iterator

from lbservice.core.settings import ServerSettings, Settings
from lbservice.values import duration

UNITS = (("h", 3600), ("m", 60), ("s", 1))


def server_words(server: ServerSettings) -> str:
    """`HOST:PORT weight=2 ...`, as it stands behind `server NAME =`; what `phrases.parse_server` reads."""
    words = [server.address]
    if server.weight != 1:
        words.append(f"weight={server.weight}")
    if server.maxconn:
        words.append(f"maxconn={server.maxconn}")
    if server.backup:
        words.append("backup")
    if not server.check:
        words.append("no-check")
    if server.check_via is not None:
        words.append(f"check-via={_via(server.check_via)}")
    if server.slowstart is not None:
        words.append(f"slowstart={duration_words(server.slowstart)}")
    if server.tls is not None:
        words.append("tls")
        if not server.tls.verify:
            words.append("verify=no")
        if server.tls.ca is not None:
            words.append(f"ca={server.tls.ca}")
        if server.tls.sni is not None:
            words.append(f"sni={server.tls.sni}")
    if server.state != "ready":
        words.append(f"state={server.state}")
    return " ".join(words)


def _via(via: tuple[str | None, int]) -> str:
    host, port = via
    if host is None:
        return str(port)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def duration_words(seconds: float) -> str:
    """`1h`, `90s` or `250ms`: with the largest unit that needs no fraction; `values.duration` reads the same number."""
    whole = (f"{seconds / size:.0f}{unit}" for unit, size in UNITS if seconds % size == 0)
    parts = (_decimal(seconds / size) + unit for unit, size in (("ms", 0.001), *reversed(UNITS)))
    return next((words for words in (*whole, *parts) if _says(words, seconds)), f"{seconds:.9f}s")


def _says(words: str, seconds: float) -> bool:
    try:
        return duration(words) == seconds
    except ValueError:  # more digits than are read
        return False


def _decimal(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".")


def differences(before: Settings, after: Settings) -> Iterator[tuple[str, str, str, str]]:
    """What is not the same: section, key, value before and value after ("": it is not there).

    Servers are compared as they are now; everything else as its file has written it.
    """
    old, new = dict(_entries(before)), dict(_entries(after))
    for section, key in dict.fromkeys([*old, *new]):
        was, is_now = old.get((section, key), ""), new.get((section, key), "")
        if was != is_now:
            yield section, key, was, is_now


def _entries(settings: Settings) -> Iterator[tuple[tuple[str, str], str]]:
    for section, key, value in settings.entries:
        if not (section.startswith("backend ") and key.startswith("server ")):
            yield (section, key), value
    for backend in settings.backends:
        for server in backend.servers:
            yield (f"backend {backend.name}", f"server {server.name}"), server_words(server)


def sentence(section: str, key: str, before: str, after: str) -> str:
    """One difference, e.g. `[backend app] server s1: 10.0.0.1:80 -> 10.0.0.1:80 weight=2`."""
    return f"[{section}] {key}: {before or 'absent'} -> {after or 'absent'}"

"""A `server` line, and the `default-server` lines before it, as `server NAME = HOST:PORT ...`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from lbservice.admin.haproxy.draft import Draft, Left, number, plain, time
from lbservice.admin.haproxy.reader import Line

UNSAFE = {
    "send-proxy": "servers would wait for a PROXY line, which is not sent",
    "send-proxy-v2": "servers would wait for a PROXY header, which is not sent",
    "send-proxy-v2-ssl": "servers would wait for a PROXY header, which is not sent",
    "send-proxy-v2-ssl-cn": "servers would wait for a PROXY header, which is not sent",
    "proto": "servers are spoken to in HTTP/1.1",
    "crt": "no client certificate is shown to servers",
    "socks4": "there is no SOCKS",
}
"""Without these the server would not work, so it is left out."""
WITH_VALUE = {
    *(
        "id",
        "cookie",
        "init-addr",
        "resolvers",
        "resolve-prefer",
        "resolve-net",
        "resolve-opts",
        "pool-max-conn",
        "pool-low-conn",
    ),
    *("pool-purge-delay", "max-reuse", "minconn", "track", "source", "namespace", "tcp-ut", "log-proto", "redir", "ws"),
    *(
        "check-proto",
        "check-alpn",
        "check-sni",
        "alpn",
        "npn",
        "ciphers",
        "ciphersuites",
        "curves",
        "crl-file",
        "sigalgs",
    ),
    *("ssl-min-ver", "ssl-max-ver", "verifyhost", "error-limit", "observe", "on-error", "on-marked-up", "addr", "port"),
    *(
        "agent-addr",
        "agent-port",
        "agent-inter",
        "agent-send",
        "inter",
        "fastinter",
        "downinter",
        "rise",
        "fall",
        "weight",
    ),
    *(
        "maxconn",
        "maxqueue",
        "slowstart",
        "ca-file",
        "sni",
        "verify",
        "on-marked-down",
        "shard",
        "guid",
        "hash-key",
        "set-proxy-v2-tlv-fmt",
    ),
    *("proto", "crt", "socks4", "pool-conn-name"),
}
SILENT = {
    *(
        "id",
        "cookie",
        "guid",
        "init-addr",
        "resolvers",
        "resolve-prefer",
        "pool-max-conn",
        "pool-low-conn",
        "pool-purge-delay",
    ),
    *(
        "max-reuse",
        "enabled",
        "non-stick",
        "tls-tickets",
        "no-tls-tickets",
        "ssl-reuse",
        "no-ssl-reuse",
        "no-sslv3",
        "no-tlsv10",
        "no-tlsv11",
    ),
    *("no-backup", "no-send-proxy", "no-send-proxy-v2", "no-agent-check", "no-check-ssl", "no-verifyhost", "no-ssl"),
}
"""Words that change nothing here, or only what lb.ini does by itself."""
FOR_BACKEND: dict[str, tuple[str, Callable[[str], str]]] = {
    "inter": ("inter", time),
    "fastinter": ("fastinter", time),
    "downinter": ("downinter", time),
    "rise": ("rise", plain),
    "fall": ("fall", plain),
    "observe": ("observe", plain),
    "error-limit": ("error-limit", plain),
    "on-error": ("on-error", plain),
    "on-marked-down": ("on-marked-down", plain),
    "agent-port": ("agent-check", plain),
    "agent-inter": ("agent-inter", time),
}
"""What HAProxy says of each server, and lb.ini of the backend."""


@dataclass
class Servers:
    """The servers of a backend, and what their lines say that lb.ini says once for all of them."""

    draft: Draft
    defaults: dict[str, str] = field(default_factory=dict)
    shared: dict[str, list[tuple[str, Line]]] = field(default_factory=dict)
    checked: list[bool] = field(default_factory=list)
    lines: list[tuple[str, str, bool, Line]] = field(default_factory=list)

    def default(self, line: Line) -> None:
        """`default-server WORDS`: what holds for the lines behind it."""
        self.defaults |= _words(line.rest)

    def server(self, line: Line) -> None:
        """`server NAME ADDRESS WORDS`."""
        if len(line.words) < 3:
            raise Left("a server needs a name and an address")
        _, name, address, *rest = line.words
        own = _words(tuple(rest))
        said = _effective(self.defaults, own)
        for word, why in UNSAFE.items():
            if word in said and (word, said[word]) != ("proto", "h1"):
                raise Left(f"{word}: {why}")
        words = [_address(address)]
        checked = "check" in said
        words += self._options(line, said)
        shared: list[tuple[str, str]] = []
        for word, (key, read) in FOR_BACKEND.items():
            if word in said and (checked or not word.endswith(("inter", "rise", "fall"))):
                if word == "agent-port" and "agent-check" not in said:
                    continue
                shared.append((key, read(said[word])))
        self.lines.append((plain(name), " ".join(words), checked, line))
        for key, value in shared:
            self.shared.setdefault(key, []).append((value, line))

    def _options(self, line: Line, said: dict[str, str]) -> list[str]:
        words = []
        for word, value in said.items():
            if word == "weight" and value != "1":
                words.append(f"weight={number((value,))}")
            elif word == "maxconn" and value != "0":
                words.append(f"maxconn={number((value,))}")
            elif word == "backup":
                words.append("backup")
            elif word == "slowstart":
                words.append(f"slowstart={time(value)}")
            elif word == "disabled":
                words.append("state=maint")
            elif word == "ssl":
                words += _tls(said)
            elif word in ("port", "addr") and "check" in said:
                via = f"{said['addr']}:{said.get('port', '')}".rstrip(":") if "addr" in said else value
                if f"check-via={via}" not in words:
                    words.append(f"check-via={plain(via)}")
            elif word not in SILENT and word not in FOR_BACKEND and word not in _USED:
                self.draft.say(line, f"{word} of this server is not carried")
        return words

    def finish(self) -> None:
        """Write the servers, and what they have in common, into the section."""
        checked = [checked for *_, checked, _ in self.lines]
        if self.lines and not any(checked):
            self.draft.put("check", "none", self.lines[0][3])
            for key in ("inter", "fastinter", "downinter", "rise", "fall"):
                self.shared.pop(key, None)
        for key, values in self.shared.items():
            first, line = values[0]
            self.draft.put(key, first, line)
            others = [other for value, other in values if value != first]
            if others or len(values) < len(self.lines):
                self.draft.say(others[0] if others else line, f"{key} = {first} holds for all servers of the backend")
        for name, words, is_checked, line in self.lines:
            self.draft.put(f"server {name}", words + (" no-check" if any(checked) and not is_checked else ""), line)


_USED = {"check", "ca-file", "sni", "verify", "agent-check", "no-check", "check-ssl", "port", "addr"}


def _words(words: tuple[str, ...]) -> dict[str, str]:
    """Word -> its value, or "" for a word that stands alone."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        found.pop(word, None)
        found[word] = rest.pop(0) if word in WITH_VALUE and rest else ""
    return found


def _effective(defaults: dict[str, str], own: dict[str, str]) -> dict[str, str]:
    said = defaults | own
    for word in [word for word in said if word.startswith("no-")]:
        said.pop(word.removeprefix("no-"), None) if word in own or word.removeprefix("no-") not in own else None
    if "enabled" in own:
        said.pop("disabled", None)
    return said


def _address(text: str) -> str:
    text = plain(text)
    match = re.fullmatch(r"(?:ipv[46]@)?(.*?):([0-9]{1,5})", text)
    if "@" in text.removeprefix("ipv4@").removeprefix("ipv6@") or text.startswith("/"):
        raise Left("servers are addressed by HOST:PORT")
    if match is None:
        raise Left("the port is missing; lb.ini does not take over that of the client")
    host, port = match.groups()
    if port.startswith("+") or host.endswith(("+", "-")):
        raise Left("a port that is counted from that of the client")
    return f"[{host.strip('[]')}]:{port}" if ":" in host else f"{host}:{port}"


def _tls(said: dict[str, str]) -> list[str]:
    words = ["tls"]
    if said.get("verify") == "none":
        words.append("verify=no")
    elif said.get("ca-file", "@system-ca") != "@system-ca":
        words.append(f"ca={plain(said['ca-file'])}")
    if sni := said.get("sni"):
        match = re.fullmatch(r"str\(([A-Za-z0-9.-]+)\)", sni)
        if match is None:
            raise Left(f"sni {sni}: only one name for all requests, str(NAME), can be asked for")
        words.append(f"sni={match[1]}")
    return words

"""The lines of a `frontend`, or of the half of a `listen` that is one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from lbservice.admin.haproxy.condition import Acls, conditions
from lbservice.admin.haproxy.draft import Draft, Left, number, plain, time
from lbservice.admin.haproxy.header import EDITS, edit
from lbservice.admin.haproxy.reader import Line

Handler = Callable[["Frontend", Line], None]

BIND_UNSAFE = {
    "accept-proxy": "the PROXY header of the one before us is not read",
    "accept-netscaler-cip": "the header of the one before us is not read",
    "ca-file": "certificates of clients are not asked for",
    "verify": "certificates of clients are not asked for",
    "crt-list": "a listener has one certificate",
    "interface": "listeners are not bound to an interface",
    "namespace": "there are no network namespaces",
}
"""Without these an address would let in whom HAProxy did not, or not work at all: it is left out."""
BIND_WITH_VALUE = {
    *(
        "crt",
        "alpn",
        "npn",
        "name",
        "id",
        "maxconn",
        "backlog",
        "mss",
        "user",
        "group",
        "uid",
        "gid",
        "mode",
        "level",
        "nbconn",
    ),
    *(
        "ciphers",
        "ciphersuites",
        "curves",
        "ecdhe",
        "ssl-min-ver",
        "ssl-max-ver",
        "process",
        "thread",
        "tcp-ut",
        "crt-ignore-err",
    ),
    *(
        "ca-file",
        "verify",
        "crt-list",
        "interface",
        "namespace",
        "proto",
        "shards",
        "sigalgs",
        "tfo",
        "nice",
        "ca-ignore-err",
        "guid-prefix",
    ),
}

LET_IN = "what this line refuses is LET IN"


class Frontend:
    """One section [frontend NAME] while it is read."""

    def __init__(self, name: str, head: Line, acls: Acls) -> None:
        self.draft = Draft(f"frontend {name}", head)
        self.acls = acls
        self.listens: list[tuple[str, Line]] = []
        self.rules: list[tuple[str, str, Line]] = []
        self.routes: list[tuple[str, str, Line]] = []

    def finish(self) -> None:
        """Everything has been read. Redirects and refusals come before routes, as in HAProxy."""
        if self.listens:
            self.draft.put("listen", ", ".join(listen for listen, _ in self.listens), self.listens[0][1])
        for wish, value, line in (*self.rules, *self.routes):
            word, _, name = wish.partition(" ")
            self.draft.put(self.draft.free(word, name), value, line)

    def bind(self, line: Line) -> None:
        """`bind ADDRESS,... [ssl crt FILE ...]`."""
        if not line.rest:
            raise Left("an address is missing")
        addresses, *rest = line.rest
        words: dict[str, list[str]] = {}
        while rest:
            word = rest.pop(0)
            values = words.setdefault(word, [])
            if word in BIND_WITH_VALUE and rest:
                values.append(rest.pop(0))
        for word, why in BIND_UNSAFE.items():
            if word in words and words[word] not in (["none"], ["optional"]):
                raise Left(f"{word}: {why}")
        tls = _tls(words, self.draft, line) if "ssl" in words else ""
        for address in addresses.split(","):
            self.listens.append((_address(address) + tls, line))

    def use_backend(self, line: Line) -> None:
        """`use_backend NAME if ...`."""
        if len(line.words) < 2:
            raise Left("a backend is missing")
        backend = plain(line.words[1])
        for each in conditions(line.words[2:], self.acls):
            self.routes.append((f"route {backend}", f"{backend} {each}".strip(), line))

    def default_backend(self, line: Line) -> None:
        """`default_backend NAME`."""
        self.draft.put("backend", plain(" ".join(line.rest)), line)

    def redirect(self, line: Line) -> None:
        """`redirect scheme|location|prefix TO [code N] [if ...]`, also behind http-request."""
        words = list(line.words[line.words.index("redirect") + 1 :])
        if len(words) < 2:
            raise Left("says not where to")
        kind, to, *rest = words
        status = "302"
        while rest and rest[0] not in ("if", "unless"):
            option = rest.pop(0)
            if option == "code" and rest:
                status = rest.pop(0)
            else:
                raise Left(f"{option} is not known")
        to = (
            to.replace("%[hdr(host)]", "{host}")
            .replace("%[req.hdr(host)]", "{host}")
            .replace("%[capture.req.uri]", "{uri}")
        )
        to = to.replace("%[url]", "{uri}").replace("%HU", "{uri}").replace("%[path]", "{path}").replace("%HP", "{path}")
        when = conditions(rest, self.acls)
        if kind == "scheme" and to == "https":
            # It meets only requests without TLS anyway.
            location = "https"
            when = [" ".join(word for word in each.split() if word != "scheme=http") for each in when]
        elif kind == "location":
            location = plain(to)
        elif kind == "prefix":
            location = plain(to).rstrip("/") + "{uri}"
        else:
            raise Left(f"redirect {kind} {to} is not known")
        for each in when:
            self.rules.append(("redirect r", f"{location} {status} {each}".strip(), line))

    def deny(self, line: Line) -> None:
        """`http-request deny [deny_status N] [if ...]`."""
        status, rest = "403", list(line.words[2:])
        while rest and rest[0] not in ("if", "unless"):
            option = rest.pop(0)
            if option in ("status", "deny_status") and rest:
                status = rest.pop(0)
            else:
                raise Left(f"{LET_IN}: {option} is not known")
        for each in self._who_is_refused(rest):
            self.rules.append(("refuse r", f"{status} {each}".strip(), line))

    def reject(self, line: Line) -> None:
        """`tcp-request connection reject if { src ... }`."""
        if line.words[2:3] == ("accept",):
            raise Left("clients are let in unless deny says otherwise")
        found = self._who_is_refused(list(line.words[3:]))
        networks = [each.removeprefix("src=") for each in found if re.fullmatch(r"src=\S+", each)]
        if line.words[2:3] != ("reject",) or len(networks) < len(found):
            raise Left(f"{LET_IN}: connections are denied by address only, deny = NETWORK, ...")
        known = self.draft.get("deny")
        self.draft.put("deny", ", ".join(filter(None, (known, *networks))), line)

    def content(self, line: Line) -> None:
        """`tcp-request content ...`: to wait for a TLS hello is what is done anyway."""
        if line.words[2:3] != ("accept",):
            raise Left(f"{LET_IN}: what clients send is not looked at, but for the name in a TLS hello")

    def _who_is_refused(self, words: list[str]) -> list[str]:
        try:
            return conditions(words, self.acls)
        except Left as left:
            raise Left(f"{LET_IN}: {left}") from None


def _address(text: str) -> str:
    text = plain(text).removeprefix("ipv4@").removeprefix("ipv6@").removeprefix("tcp4@").removeprefix("tcp6@")
    if "@" in text or text.startswith("/"):
        raise Left("listeners have an address, HOST:PORT")
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port):
        raise Left("an address has one port, HOST:PORT")
    host = host.strip("[]")
    if host in ("", "*"):
        host = "*"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tls(words: dict[str, list[str]], draft: Draft, line: Line) -> str:
    files = words.get("crt", [])
    if not files:
        raise Left("ssl without crt FILE")
    file = plain(files[0])
    if os.path.isdir(file):
        raise Left(f"{file} is a folder; a listener has one certificate")
    try:
        with open(file, "rb"):
            pass
    except OSError as error:
        raise Left(f"{file} cannot be read here: {error.strerror}") from None
    if len(files) > 1:
        draft.say(line, f"a listener has one certificate: {file}")
    if any("h2" in value for value in words.get("alpn", [])):
        draft.say(line, "clients are served by HTTP/1.1")
    return f" tls cert={file}"


def _timeout(key: str) -> Handler:
    def read(frontend: Frontend, line: Line) -> None:
        frontend.draft.put(key, time(line.words[2] if len(line.words) > 2 else ""), line)

    return read


def _maxconn(frontend: Frontend, line: Line) -> None:
    frontend.draft.put("maxconn", number(line.words, 1), line)


def _edit(frontend: Frontend, line: Line) -> None:
    edit(frontend.draft, line)


FRONTEND: Mapping[str, Handler] = {
    "bind": Frontend.bind,
    "default_backend": Frontend.default_backend,
    "use_backend": Frontend.use_backend,
    "redirect": Frontend.redirect,
    "http-request redirect": Frontend.redirect,
    "http-request deny": Frontend.deny,
    "tcp-request connection": Frontend.reject,
    "tcp-request content": Frontend.content,
    "maxconn": _maxconn,
    "timeout client": _timeout("timeout client"),
    "timeout http-request": _timeout("timeout client-head"),
    "timeout http-keep-alive": _timeout("timeout keep-alive"),
    **dict.fromkeys(EDITS, _edit),
}

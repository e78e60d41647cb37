"""The lines of a `backend`, or of the half of a `listen` that is one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from lbservice.admin.haproxy.check import Check
from lbservice.admin.haproxy.draft import Draft, Left, number, plain, time
from lbservice.admin.haproxy.header import EDITS, edit
from lbservice.admin.haproxy.reader import Line
from lbservice.admin.haproxy.server import Servers

Handler = Callable[["Backend", Line], None]


class Backend:
    """One section [backend NAME] while it is read."""

    def __init__(self, name: str, head: Line) -> None:
        self.draft = Draft(f"backend {name}", head)
        self.servers = Servers(self.draft)
        self.check = Check(self.draft)

    def finish(self) -> None:
        """Everything has been read."""
        self.servers.finish()
        if any(checked for *_, checked, _ in self.servers.lines):
            self.check.finish()

    def balance(self, line: Line) -> None:
        """`balance ALGORITHM`."""
        algorithm, *options = line.rest or ("roundrobin",)
        policy = {"static-rr": "roundrobin", "roundrobin": "roundrobin"}.get(algorithm, algorithm)
        if match := re.fullmatch(r"hdr\(([\w-]+)\)", algorithm):
            policy = f"header({match[1]})"
        elif algorithm == "url_param" and options:
            policy = f"param({options[0]})"
            options = options[1:]
        elif match := re.fullmatch(r"random(?:\(([0-9]+)\))?", algorithm):
            policy = algorithm
        elif algorithm == "hash" and options and options[0] in ("src", "path"):
            policy = {"src": "source", "path": "uri"}[options[0]]
            options = options[1:]
        elif policy not in ("roundrobin", "leastconn", "first", "source", "uri"):
            raise Left(f"there is no policy {algorithm}; see docs/algorithms.md")
        if options:
            self.draft.say(line, f"without {' '.join(options)}")
        self.draft.put("balance", plain(policy), line)

    def cookie(self, line: Line) -> None:
        """`cookie NAME insert ...`."""
        name, *words = line.rest or ("",)
        if "insert" not in words:
            raise Left("only cookies that are inserted (insert) are known")
        value, rest = ["cookie", name], list(words)
        while rest:
            each = rest.pop(0)
            if each in ("httponly", "secure"):
                value.append(each)
            elif each == "domain" and rest:
                value.append(f"domain={rest.pop(0).removeprefix('.')}")
            elif each == "attr" and rest and (match := re.fullmatch(r"(?i)samesite=(lax|strict|none)", rest[0])):
                value.append(f"samesite={match[1].lower()}")
                rest.pop(0)
            elif each in ("maxidle", "maxlife", "attr") and rest:
                self.draft.say(line, f"without {each} {rest.pop(0)}")
            elif each not in ("insert", "indirect", "nocache", "preserve", "postonly", "dynamic"):
                self.draft.say(line, f"without {each}")
        self.draft.put("sticky", plain(" ".join(value)), line)

    def stick(self, line: Line) -> None:
        """`stick on src`: the same address, the same server."""
        if line.rest[:2] not in (("on", "src"), ("match", "src"), ("store-request", "src")):
            raise Left("clients stick by sticky = cookie NAME, or by their address, balance = source")
        if self.draft.get("balance") != "source":
            self.draft.put("balance", "source", line)
            self.draft.say(line, "balance = source does nearly the same, without a table")

    def hash_factor(self, line: Line) -> None:
        """`hash-balance-factor PERCENT`."""
        if number(line.words, 1) != "0":
            self.draft.put("hash-balance-factor", number(line.words, 1), line)


def _timeout(key: str) -> Handler:
    def read(backend: Backend, line: Line) -> None:
        backend.draft.put(key, time(line.words[2] if len(line.words) > 2 else ""), line)

    return read


def _edit(backend: Backend, line: Line) -> None:
    edit(backend.draft, line)


def _log_checks(backend: Backend, line: Line) -> None:
    backend.draft.put("log-health-checks", "on", line)


def _retries(backend: Backend, line: Line) -> None:
    backend.draft.put("retries", number(line.words, 1), line)


def _weak(backend: Backend, line: Line) -> None:
    backend.check.tcp(line)
    backend.draft.say(line, "only whether it can be connected to; see check = tcp send ... expect ...")


BACKEND: Mapping[str, Handler] = {
    "server": lambda backend, line: backend.servers.server(line),
    "default-server": lambda backend, line: backend.servers.default(line),
    "balance": Backend.balance,
    "hash-balance-factor": Backend.hash_factor,
    "cookie": Backend.cookie,
    "stick on": Backend.stick,
    "stick match": Backend.stick,
    "stick store-request": Backend.stick,
    "retries": _retries,
    "timeout connect": _timeout("timeout connect"),
    "timeout server": _timeout("timeout server"),
    "timeout queue": _timeout("timeout queue"),
    "timeout tunnel": _timeout("timeout tunnel"),
    "timeout check": _timeout("timeout check"),
    "option httpchk": lambda backend, line: backend.check.httpchk(line),
    "http-check": lambda backend, line: backend.check.http_check(line),
    "option tcp-check": lambda backend, line: backend.check.tcp(line),
    "tcp-check": lambda backend, line: backend.check.tcp_check(line),
    "option ssl-hello-chk": lambda backend, line: backend.check.tls(line),
    "option redis-check": lambda backend, line: backend.check.redis(line),
    "option mysql-check": _weak,
    "option pgsql-check": _weak,
    "option smtpchk": _weak,
    "option ldap-check": _weak,
    "option log-health-checks": _log_checks,
    **dict.fromkeys(EDITS, _edit),
}

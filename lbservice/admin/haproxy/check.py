"""`option httpchk`, `http-check`, `tcp-check` and their like as `check = ...`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lbservice.admin.haproxy.draft import Draft, Left, word
from lbservice.admin.haproxy.reader import Line


@dataclass
class Check:
    """What the lines of a backend ask of its servers."""

    draft: Draft
    kind: str = ""
    line: Line | None = None
    method: str = "OPTIONS"
    path: str = "/"
    host: str = ""
    headers: list[str] = field(default_factory=list)
    expect: str = ""
    body: str = ""
    steps: list[str] = field(default_factory=list)

    def httpchk(self, line: Line) -> None:
        """`option httpchk [METHOD] PATH [VERSION]`; the version may drag header fields along."""
        self.kind, self.line = "http", line
        words = line.words[2:]
        if len(words) == 1:
            self.path = words[0]
        elif words:
            self.method, self.path = words[0], words[1]
        if len(words) > 2:
            for text in filter(None, " ".join(words[2:]).split("\r\n")[1:]):
                name, _, value = text.partition(":")
                self._header(name.strip(), value.strip())

    def http_check(self, line: Line) -> None:
        """`http-check send|expect ...`; `connect` is what is done anyway."""
        verb, *words = line.rest or ("",)
        if verb == "send":
            self._send(words)
        elif verb == "expect":
            self._expect(words)
        elif verb not in ("connect", "disable-on-404", "send-state") or (verb == "connect" and words):
            raise Left("only send and expect are known")
        elif verb != "connect":
            raise Left("is not known here; agent-check can drain a server")

    def _send(self, words: list[str]) -> None:
        rest = list(words)
        while rest:
            key = rest.pop(0)
            if key in ("meth", "uri", "ver", "body") and rest:
                value = rest.pop(0)
                if key == "meth":
                    self.method = value
                elif key == "uri":
                    self.path = value
                elif key == "body":
                    raise Left("a check has no body")
            elif key == "hdr" and len(rest) > 1:
                self._header(rest.pop(0), rest.pop(0))
            else:
                raise Left(f"{key} is not known")

    def _header(self, name: str, value: str) -> None:
        if "%[" in value:
            raise Left("a field that HAProxy works out")
        if name.lower() == "host":
            self.host = word(value)
        elif name.lower() not in ("connection", "content-length"):
            self.headers.append(f"header {_quoted(f'{name}: {value}')}")

    def _expect(self, words: list[str]) -> None:
        while words and words[0] in (
            "min-recv",
            "comment",
            "ok-status",
            "error-status",
            "tout-status",
            "on-success",
            "on-error",
            "status-code",
        ):
            words = words[2:]
        if not words or words[0] == "!":
            raise Left("an expectation cannot be negated")
        kind, *values = words
        value = " ".join(values)
        if kind == "status":
            self.expect = value.replace(" ", "")
        elif kind == "rstatus":
            self.expect = _statuses(value)
        elif kind == "string":
            self.body = _quoted(value)
        elif kind == "rstring":
            self.body = _pattern(value)
        else:
            raise Left(f"{kind} is not known")

    def tcp(self, line: Line) -> None:
        """`option tcp-check` and its like."""
        self.kind, self.line, self.steps = "tcp", line, []

    def tls(self, line: Line) -> None:
        """`option ssl-hello-chk`."""
        self.kind, self.line = "tls", line

    def redis(self, line: Line) -> None:
        """`option redis-check`."""
        self.tcp(line)
        self.steps = ['send "PING\\r\\n"', 'expect "+PONG"']

    def tcp_check(self, line: Line) -> None:
        """`tcp-check send|expect|connect ...`."""
        verb, *words = line.rest or ("",)
        if verb == "connect" and not words:
            return
        if verb == "send" and len(words) == 1:
            self.steps.append(f"send {_quoted(words[0])}")
        elif verb == "send-binary" and len(words) == 1 and re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", words[0]):
            self.steps.append('send "' + re.sub("(..)", r"\\x\1", words[0]) + '"')
        elif verb == "expect" and words and words[0] == "string":
            self.steps.append(f"expect {_quoted(' '.join(words[1:]))}")
        elif verb == "expect" and words and words[0] == "rstring":
            self.steps.append(f"expect {_pattern(' '.join(words[1:]))}")
        else:
            raise Left("only send, send-binary, expect string and expect rstring are known")

    def finish(self) -> None:
        """Write it into the section."""
        if not self.kind:
            return
        words = [self.kind]
        if self.kind == "http":
            words += [self.method, self.path]
            words += ["host", self.host] if self.host else []
            words += self.headers
            words += ["expect", self.expect] if self.expect else []
            words += ["body", self.body] if self.body else []
            if self.method == "OPTIONS":
                assert self.line is not None
                self.draft.say(self.line, "asks with OPTIONS, as HAProxy does; GET says more")
        else:
            words += self.steps
        self.draft.put("check", " ".join(words), self.line)


def _statuses(pattern: str) -> str:
    """`2..`, `^(200|204)$`, `[23]..` in ranges."""
    found = [status for status in range(100, 600) if re.search(_compiled(pattern), str(status))]
    if not found:
        raise Left(f"no status is {pattern}")
    ranges: list[list[int]] = []
    for status in found:
        if ranges and ranges[-1][1] == status - 1:
            ranges[-1][1] = status
        else:
            ranges.append([status, status])
    return ",".join(f"{low}-{high}" if low != high else str(low) for low, high in ranges)


def _compiled(pattern: str) -> re.Pattern[str]:
    if len(pattern) > 100 or re.search(r"\([^()]*[*+][^()]*\)[*+{]", pattern):
        raise Left(f"{pattern!r} is not understood")
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise Left(f"{pattern!r} is no regular expression: {error}") from None


def _pattern(value: str) -> str:
    _compiled(value)
    return "/" + re.sub(r"(?<!\\)/", r"\\/", value).replace(" ;", r"\x20;").replace(" #", r"\x20#") + "/"


def _quoted(value: str) -> str:
    """In quotes, as lb.ini has it."""
    value = value.replace("\\", "\\\\").replace('"', '\\"')
    value = value.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t").replace("\0", "\\0")
    value = re.sub(r"(?<=\s)[;#]|[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", value)
    return f'"{value}"'

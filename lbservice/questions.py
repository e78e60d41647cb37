"""What is asked of a server, as lb.ini says it: `check = ...` and `agent-send = ...`.

A text is one word, or anything between double quotes, where `\\r \\n \\t \\0 \\\\ \\"` and `\\xNN` stand for bytes. A
pattern is a regular expression of Python between slashes, `/.../` or `/.../i`. As everywhere in the file, a `;` or
`#` behind white space begins a comment, even between quotes: there it is written `\\x3b` or `\\x23`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

from lbservice.core.settings import Expected, Step
from lbservice.values import choice, host_field

HTTP_FORM = 'http METHOD PATH [host NAME] [header "NAME: VALUE"] [expect STATUS] [body TEXT], e.g. '
HTTP_EXAMPLE = "http GET /health expect 200"

_ESCAPES = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\", '"': '"'}
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|.?)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"(?=\s|$)')
_PATTERN = re.compile(r"/((?:[^/\\]|\\.)++)/(i?)(?=\s|$)")
_NESTED = re.compile(r"\((?!\?>)(?:[^()\\]|\\.)*[*+](?:[^()\\]|\\.)*\)[*+{]")
"""A repeat of a repeat, which may take for ever to find nothing. Not every one of them: a net for slips."""
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([!-~](?:[\t -~]*[!-~])?)")
_OURS = frozenset(("connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"))


class _Words:
    """The words of a value, taken one by one. Every method raises ValueError."""

    def __init__(self, text: str) -> None:
        self._rest = text.strip()

    def __bool__(self) -> bool:
        return bool(self._rest)

    def word(self, wanted: str) -> str:
        """The next word; `wanted` is said when there is none."""
        if not self._rest:
            raise ValueError(wanted)
        word, *rest = self._rest.split(maxsplit=1)
        self._rest = rest[0] if rest else ""
        return word

    def one_of(self, known: tuple[str, ...]) -> str:
        """The next word, one of these."""
        word = self.word("")
        return choice(f"word '{word}'", known)(word)

    def take(self, word: str) -> bool:
        """Is that the next word? Then it is taken."""
        rest = self._rest.removeprefix(word)
        found = rest != self._rest and rest[:1].strip() == ""
        if found:
            self._rest = rest.lstrip()
        return found

    def text(self, before: str) -> bytes:
        """A word or what stands in quotes, behind the word `before`."""
        if not self._rest.startswith('"'):
            return self.word(f'{before} needs a text; write {before} "..."').encode("utf-8", "replace")
        match = self._match(_QUOTED)
        if match is None:
            raise ValueError(f"{before}: the quotes do not end before a space (write \\x3b and \\x23 for ; and #)")
        if not match[1]:
            raise ValueError(f"{before}: there is nothing between the quotes")
        return b"".join(_bytes(part, at % 2 == 1) for at, part in enumerate(_ESCAPE.split(match[1])))

    def expected(self, before: str) -> Expected:
        """A text or a pattern."""
        if not self._rest.startswith("/"):
            return self.text(before)
        match = self._match(_PATTERN)
        if match is None:
            raise ValueError(f"{before}: write a pattern between slashes, with \\/ for a slash in it, e.g. /^OK/")
        source = match[1].replace("\\/", "/")
        if _NESTED.search(source):
            raise ValueError(f"/{match[1]}/ repeats a repeat, which may take for ever; write it otherwise")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return re.compile(source.encode("utf-8", "replace"), re.IGNORECASE if match[2] else 0)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"/{match[1]}/ is no regular expression: {error}") from None

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._rest)
        if match is not None:
            self._rest = self._rest[match.end() :].lstrip()
        return match


def _bytes(part: str, escape: bool) -> bytes:
    if not escape:
        return part.encode("utf-8", "replace")
    if part.startswith("x") and len(part) == 3:
        return bytes((int(part[1:], 16),))
    if part not in _ESCAPES:
        raise ValueError(f'unknown escape \\{part}; there are \\r \\n \\t \\0 \\\\ \\" and \\xNN')
    return _ESCAPES[part].encode()


def parse_check(text: str) -> dict[str, Any]:
    """A whole check as fields of CheckSettings. Raises ValueError."""
    words = _Words(text)
    kind = choice("check", tuple(_KINDS))(words.word("name a check"))
    return _KINDS[kind](words)


def parse_send(text: str) -> bytes:
    """One text and nothing behind it."""
    words = _Words(text)
    send = words.text("agent-send")
    if words:
        raise ValueError('a text with spaces stands in quotes; write agent-send = "..."')
    return send


def statuses(text: str) -> tuple[tuple[int, int], ...]:
    """Inclusive ranges from `200` or `200-299,304`."""
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not part:
            raise ValueError(f"a comma too many in '{text}'; write it without spaces, e.g. expect 200-299,304")
        if low > high:
            raise ValueError(f"'{part}' is no status; write e.g. expect 200 or expect 200-299,304")
        ranges.append((low, high))
    return tuple(ranges)


def _none(words: _Words) -> dict[str, Any]:
    if words:
        raise ValueError(f"none takes nothing after it; take out '{words.word('')}'")
    return {"kind": "none"}


def _tcp(words: _Words) -> dict[str, Any]:
    steps = []
    while words:
        word = words.one_of(("send", "expect"))
        steps.append(Step(send=words.text(word)) if word == "send" else Step(expect=words.expected(word)))
    return {"kind": "tcp", "steps": tuple(steps)}


def _tls(words: _Words) -> dict[str, Any]:
    values: dict[str, Any] = {"tls": True}
    if words.take("sni"):
        values["host"] = host_field(words.word("sni needs a name; write sni NAME"))
    return {**_tcp(words), **values}


def _http(words: _Words) -> dict[str, Any]:
    form = f"write {HTTP_FORM}{HTTP_EXAMPLE}"
    method, path = words.word(form), words.word(form)
    if not re.fullmatch(r"[A-Z][A-Z-]*", method):
        raise ValueError(f"'{method}' is no method; write it in capitals, e.g. GET or HEAD")
    if not re.fullmatch(r"/[!-~]*", path):
        raise ValueError(f"the path '{path}' must start with / and be plain ASCII")
    values: dict[str, Any] = {"kind": "http", "method": method, "path": path}
    headers: list[tuple[str, str]] = []
    while words:
        word = words.one_of(("host", "header", "expect", "body"))
        if word in values:
            raise ValueError(f"{word} is given twice")
        if word == "header":
            headers.append(_header(words.text(word)))
        elif word == "body":
            values[word] = words.expected(word)
        else:
            read: Callable[[str], Any] = host_field if word == "host" else statuses
            values[word] = read(words.word(f"{word} needs a value; {form}"))
    if headers:
        values["headers"] = tuple(headers)
    if "body" in values and method == "HEAD":
        raise ValueError("the answer to HEAD has no body; take GET, or take out body")
    return values


def _https(words: _Words) -> dict[str, Any]:
    return {**_http(words), "tls": True}


def _header(text: bytes) -> tuple[str, str]:
    match = _HEADER.fullmatch(text.decode("latin-1"))
    if match is None:
        raise ValueError('write header "NAME: VALUE", both in plain ASCII')
    name, value = match.groups()
    if name.lower() == "host":
        raise ValueError("write host NAME for the Host field")
    if name.lower() in _OURS:
        raise ValueError(f"the field {name} is the check's own; take it out")
    return name, value


_KINDS: dict[str, Callable[[_Words], dict[str, Any]]] = {
    "tcp": _tcp,
    "tls": _tls,
    "http": _http,
    "https": _https,
    "none": _none,
}

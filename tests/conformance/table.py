"""The conformance tables, `requests.tsv` and `responses.tsv`: what a row says, and how it is read.

Columns are separated by tabs, the first line names them. `## CL  title` begins a family, whose rows are
CL-01, CL-02 and so on; a new one comes at its end. Lines that begin with `# ` are comments.

**Bytes.** `↵` is CR LF; `\\r \\n \\t \\0 \\xNN \\\\` are what they are in Python; everything else is ASCII.
In double braces:

    {{GET}} {{POST}} {{CHUNKED}} {{OK}}   beginnings of messages, see `MACROS`
    {{text*3}}                            three times `text`
    {{31s}}                               31 seconds pass
    {{end}} {{close}} {{reset}}           the sender ends its half; closes; resets the connection
    {{each \\x00-\\x08 \\x0b}}              the row stands for ten: one with each of these bytes here, and
                                          where a cell says only {{each}}; CTL is every control byte
                                          but HT, LF and CR

**What the client gets**: the statuses of its answers (`-`: none; `100` is left out, its timing has tests
of its own), and how its connection is then: `open`, `close` or, when the last answer broke off, `broken`.
`200 open; body=hello; +Age: 5; -Via` also says what the last answer's body is, what fields it must have
(`+Age`: with any value; several lines are compared as one list) and must not have (`-Via: x`: not with
this value). `at once | byte by byte` where that differs.

**What the server gets** (requests.tsv): its requests, ` & ` between them, each as a request line without
version, then as above: `POST /; body=four; +X-A: 1; -X-B`. A request without `body=` has none. `-`: not
a byte reaches the server; `~`: at most the beginning of a request, and that connection is not used again.

**The server's connection** (responses.tsv): `kept` for the next request, `closed`, or a `tunnel`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
MACROS = {
    "GET": "GET / HTTP/1.1↵Host: a↵",
    "POST": "POST / HTTP/1.1↵Host: a↵",
    "CHUNKED": "POST / HTTP/1.1↵Host: a↵Transfer-Encoding: chunked↵↵",
    "OK": "HTTP/1.1 200 OK↵",
}
SECTION = re.compile(r"RFC (?:3986|658[59]|7838|8297|9110|9111|9112|9113) [1-9A-Z][0-9]*(?:\.[0-9]+)*")
ID = re.compile(r"([A-Z]{2})-([0-9]{2,3})")
_ESCAPE = re.compile(r"↵|\\(?:x[0-9a-f]{2}|[rnt0\\])|[ -\[\]-~]")
_SIMPLE = {"↵": b"\r\n", "\\r": b"\r", "\\n": b"\n", "\\t": b"\t", "\\0": b"\0", "\\\\": b"\\"}
_BRACES = re.compile(r"\{\{(.*?)\}\}")
_EACH = re.compile(r"\{\{each(?: (.*?))?\}\}")
_CTL = r"\x00-\x08 \x0b \x0c \x0e-\x1f \x7f"
_RANGE = re.compile(r"(\\x[0-9a-f]{2}|[^ ])(?:-(\\x[0-9a-f]{2}))?")

Step = bytes | float | str
"""What one side does: send bytes, let seconds pass, or "end", "close" or "reset"."""


class TableError(Exception):
    """A row that cannot be read."""


@dataclass(frozen=True)
class Message:
    """What is expected of one message: `+Name: value`, `-Name` and `body=` of a cell."""

    line: str
    body: bytes = b""
    has: tuple[tuple[str, bytes | None], ...] = ()
    """Names, and values; None for any."""
    lacks: tuple[tuple[str, bytes | None], ...] = ()
    says_body: bool = False


@dataclass(frozen=True)
class Seen:
    """What a client is to get: the final statuses and 1xx but 100, the connection's state, the last answer."""

    statuses: tuple[int, ...]
    connection: str
    last: Message


@dataclass(frozen=True)
class RequestRow:
    """A row of requests.tsv. `at_once` and `by_bytes` are what the client gets when it sends so."""

    id: str
    section: str
    steps: tuple[Step, ...]
    at_once: Seen
    by_bytes: Seen
    server: tuple[Message, ...]
    touched: bool
    """May the beginning of a request reach the server, where no whole one does?"""
    why: str


@dataclass(frozen=True)
class ResponseRow:
    """A row of responses.tsv."""

    id: str
    section: str
    request: bytes
    steps: tuple[Step, ...]
    at_once: Seen
    by_bytes: Seen
    server: str
    """How the server's connection is afterwards: kept, closed or tunnel."""
    why: str


def plain(text: str) -> bytes:
    """The bytes of a cell without steps. Raises TableError."""
    steps = script(text)
    if not all(isinstance(step, bytes) for step in steps):
        raise TableError(f"no steps are possible in {text!r}")
    return b"".join(step for step in steps if isinstance(step, bytes))


def script(text: str) -> tuple[Step, ...]:
    """What a cell says that one side does. Raises TableError."""
    for name, macro in MACROS.items():
        text = text.replace("{{" + name + "}}", macro)
    steps: list[Step] = []
    for index, part in enumerate(_BRACES.split(text)):
        if not index % 2:
            step: Step = _unescape(part)
        elif part in ("end", "close", "reset"):
            step = part
        elif match := re.fullmatch(r"([0-9.]+)s", part):
            step = float(match[1])
        elif match := re.fullmatch(r"(.*)\*([0-9]+)", part):
            step = _unescape(match[1]) * int(match[2])
        else:
            raise TableError(f"what is {{{{{part}}}}}?")
        if isinstance(step, bytes) and steps and isinstance(steps[-1], bytes):
            steps[-1] += step
        elif step != b"":
            steps.append(step)
    return tuple(steps)


def _unescape(text: str) -> bytes:
    pieces = _ESCAPE.findall(text)
    if "".join(pieces) != text or "{{" in text or "}}" in text:
        raise TableError(f"not ASCII, an unknown escape, or half of double braces: {text!r}")
    return b"".join(
        _SIMPLE.get(piece) or (bytes([int(piece[2:], 16)]) if len(piece) == 4 else piece.encode()) for piece in pieces
    )


def _seen(text: str) -> tuple[Seen, Seen]:
    ways = [_one_seen(way) for way in text.split(" | ")]
    if len(ways) > 2:
        raise TableError(f"more than two ways: {text!r}")
    return ways[0], ways[-1]


def _one_seen(text: str) -> Seen:
    last = _message(text)
    *statuses, connection = last.line.split(" ")
    if connection not in ("open", "close", "broken"):
        raise TableError(f"is the connection open, close or broken? {text!r}")
    return Seen(tuple(int(status) for status in statuses if status != "-"), connection, last)


def _message(text: str) -> Message:
    line, *items = text.split("; ")
    fields: dict[str, list[tuple[str, bytes | None]]] = {"+": [], "-": []}
    body: bytes | None = None
    for item in items:
        if item.startswith("body="):
            body = plain(item[5:])
        elif item[0] in fields:
            name, colon, value = item[1:].partition(":")
            fields[item[0]].append((name, plain(value.removeprefix(" ")) if colon else None))
        else:
            raise TableError(f"what is {item!r}?")
    return Message(plain(line).decode("latin-1"), body or b"", tuple(fields["+"]), tuple(fields["-"]), body is not None)


def _lines(name: str, columns: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each row's family and cells. Raises TableError."""
    first, *lines = (HERE / name).read_text(encoding="utf-8").split("\n")
    if first.split("\t") != columns:
        raise TableError(f"{name}: the columns are {columns}")
    family = ""
    for number, line in enumerate(lines, 2):
        if line.startswith("## "):
            family = line.split()[1]
        elif line and not line.startswith("# "):
            cells = line.split("\t")
            if len(cells) != len(columns) or not all(cells):
                raise TableError(f"{name}:{number}: {len(cells)} cells for {len(columns)} columns, or an empty one")
            yield family, cells


def _spread(cells: list[str]) -> Iterator[list[str]]:
    """The row itself, or, where it says `{{each ...}}`, one for each byte, with the byte in its id."""
    found = [which for cell in cells for which in _EACH.findall(cell) if which]
    if not found:
        yield cells
        return
    if len(found) > 1:
        raise TableError(f"{cells[0]}: one {{{{each ...}}}} is enough")
    for first, last in _RANGE.findall(found[0].replace("CTL", _CTL)):
        for code in range(plain(first)[0], plain(last or first)[0] + 1):
            byte = f"\\x{code:02x}"
            yield [f"{cells[0]}/{code:02x}", *(_EACH.sub(byte.replace("\\", r"\\"), cell) for cell in cells[1:])]


REQUESTS = ["id", "section", "request", "client gets", "server gets", "why"]
RESPONSES = ["id", "section", "request", "response", "client gets", "server connection", "why"]


def request_rows() -> Iterator[RequestRow]:
    """The rows of requests.tsv, spread. Raises TableError."""
    for family, row in _lines("requests.tsv", REQUESTS):
        _check(family, row)
        for cells in _spread(row):
            at_once, by_bytes = _seen(cells[3])
            server = () if cells[4] in ("-", "~") else tuple(map(_message, cells[4].split(" & ")))
            yield RequestRow(cells[0], cells[1], script(cells[2]), at_once, by_bytes, server, cells[4] != "-", cells[5])


def response_rows() -> Iterator[ResponseRow]:
    """The rows of responses.tsv, spread. Raises TableError."""
    for family, row in _lines("responses.tsv", RESPONSES):
        _check(family, row)
        for cells in _spread(row):
            word = cells[2]
            request = plain(word if "↵" in word else f"{word} / HTTP/1.1↵Host: a↵↵")
            if cells[5] not in ("kept", "closed", "tunnel"):
                raise TableError(f"{cells[0]}: kept, closed or tunnel?")
            at_once, by_bytes = _seen(cells[4])
            yield ResponseRow(cells[0], cells[1], request, script(cells[3]), at_once, by_bytes, cells[5], cells[6])


def _check(family: str, cells: list[str]) -> None:
    match = ID.fullmatch(cells[0])
    if match is None or match[1] != family:
        raise TableError(f"{cells[0]}: not an id of family {family}")


def families(name: str) -> dict[str, str]:
    """Ids and titles of the families in a table."""
    lines = (HERE / name).read_text(encoding="utf-8").split("\n")
    return {words[1]: words[2] for line in lines if line.startswith("## ") and (words := line.split(None, 2))}


def count(name: str) -> Counter[str]:
    """How many rows, as they are written, each family has."""
    columns = REQUESTS if name.startswith("requests") else RESPONSES
    return Counter(family for family, _ in _lines(name, columns))


def pieces(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The same steps byte by byte; of what is long, the ends are sent so, and between them 499 bytes at a time."""
    cut: list[Step] = []
    for step in steps:
        if not isinstance(step, bytes):
            cut.append(step)
            continue
        ends = (len(step), 0) if len(step) <= 600 else (150, len(step) - 150)
        cut += [step[at : at + 1] for at in range(ends[0])]
        if ends[1]:
            middle = step[ends[0] : ends[1]]
            cut += [middle[at : at + 499] for at in range(0, len(middle), 499)]
            cut += [step[at : at + 1] for at in range(ends[1], len(step))]
    return tuple(cut)


if __name__ == "__main__":  # how many rows there are, by family
    for table in ("requests.tsv", "responses.tsv"):
        counted = count(table)
        print(f"{table}: {counted.total()} rows")
        for family_id, title in families(table).items():
            print(f"  {family_id} {counted[family_id]:4}  {title}")

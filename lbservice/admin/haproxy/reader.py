"""The lines of a haproxy.cfg, by section (configuration manual, sections 2.2 and 2.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SECTIONS = {
    *("global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist", "mailers", "program"),
    *("http-errors", "ring", "log-forward", "log-profile", "cache", "fcgi-app", "crt-store", "traces", "acme"),
}
_WORD = re.compile(r"""(?:\\.|"(?:\\.|[^"\\])*"|'[^']*'|[^\s"'\\#])+""")
_QUOTES = re.compile(r"""'[^']*'|"|\\x[0-9A-Fa-f]{2}|\\.""")
_ESCAPES = {"r": "\r", "n": "\n", "t": "\t", " ": " ", "#": "#", "\\": "\\", '"': '"', "'": "'", "$": "$"}
"""What stands behind a backslash; before all else, as in a regular expression, it is only a backslash."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number, its words without quotes, and its text as it stands there."""

    number: int
    words: tuple[str, ...]
    text: str

    @property
    def rest(self) -> tuple[str, ...]:
        """The words behind the first one."""
        return self.words[1:]


@dataclass(frozen=True, slots=True)
class Section:
    """A section with its lines; `base` is the one that it takes its defaults `from`, or ""."""

    kind: str
    name: str
    base: str
    head: Line
    lines: list[Line] = field(default_factory=list)


def read(text: str) -> tuple[list[Section], list[Line]]:
    """All sections, and the lines that stand before the first one."""
    sections: list[Section] = []
    stray: list[Line] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = Line(number, _words(raw), " ".join(raw.split()))
        if not line.words:
            continue
        if line.words[0] in SECTIONS:
            kind, *names = line.words
            base = names[names.index("from") + 1] if "from" in names[:-1] else ""
            name = names[0] if names and names[0] != "from" else ""
            sections.append(Section(kind, name, base, line))
        elif sections:
            sections[-1].lines.append(line)
        else:
            stray.append(line)
    return sections, stray


def _words(raw: str) -> tuple[str, ...]:
    words, at = [], 0
    while at < len(raw):
        if raw[at].isspace():
            at += 1
        elif match := _WORD.match(raw, at):
            words.append(_QUOTES.sub(_unquoted, match[0]))
            at = match.end()
        else:
            break  # a comment, or a quote that does not end
    return tuple(words)


def _unquoted(match: re.Match[str]) -> str:
    text = match[0]
    if text[0] != "\\":
        return text.strip(text[0])
    if len(text) == 4:
        return chr(int(text[2:], 16))
    return _ESCAPES.get(text[1], text)

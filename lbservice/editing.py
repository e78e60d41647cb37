"""The text of an lb.ini, changed so that it says what runs; what need not be changed stays byte for byte.

Lines are found as `ini` reads them. Of a line whose value changes only that value is touched, and of a server only the
words that say something else: comments, indentation and line ends stay. What is new stands behind what it comes after
in the configuration, indented in the same way. What is gone takes its line with it, and the comment behind it; comments
on lines of their own stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from lbservice import ini
from lbservice.core.settings import ServerSettings, Settings
from lbservice.phrases import parse_server
from lbservice.writing import server_words

_COMMENT = re.compile(r"(?:^|\s)[;#]")

Say = Callable[[str], str]
"""The value that there is -> the one that is wanted; "" -> a new one."""


def edited(text: str, wanted: Settings) -> str:
    """The text, so that it says `wanted`: its `entries`, and its servers as they are. The text has no mistakes."""
    page = _Page(text)
    servers = {f"backend {backend.name}": backend.servers for backend in wanted.backends}
    entries: dict[str, dict[str, Say]] = {title: {} for title in _titles(wanted, servers)}
    for title, key, value in wanted.entries:
        if title in entries and not _is_server(title, key):
            entries[title][key] = partial(_value, wanted=value)
    before = ""
    for title, values in entries.items():
        page.need(title, before)
        page.arrange(title, values, servers=False)
        lines = {f"server {server.name}": partial(_server, wanted=server) for server in servers.get(title, ())}
        page.arrange(title, lines, servers=True)
        before = title
    page.keep(entries)
    return page.text()


def _titles(wanted: Settings, backends: Mapping[str, object]) -> list[str]:
    """Those of its sections, in the order of the entries; a backend may be without any."""
    titles = dict.fromkeys((*(title for title, _, _ in wanted.entries), *backends))
    return [title for title in titles if title in backends or not title.startswith("backend ")]


def _is_server(title: str, key: str) -> bool:
    return title.startswith("backend ") and key.startswith("server ")


def _value(there: str, wanted: str) -> str:
    return wanted


def _server(there: str, wanted: ServerSettings) -> str:
    """The words of a server's line; those that say what they should stay as they are."""
    words = server_words(wanted)
    if not there or there == words:
        return words
    present = parse_server(wanted.name, there)
    if present == wanted:
        return there
    old, new = _by_key(server_words(present)), _by_key(words)
    address, *rest = re.split(r"(\s+)", there)
    said = new[""] if old[""] != new[""] else address
    written = {""}
    for blank, word in zip(rest[::2], rest[1::2], strict=True):
        key = word.partition("=")[0]
        written.add(key)
        if old.get(key) == new.get(key):
            said += blank + word
        elif key in new:
            said += blank + new[key]
    return " ".join((said, *(word for key, word in new.items() if key not in written)))


def _by_key(words: str) -> dict[str, str]:
    """The address under "", each other word under what stands before its `=`."""
    address, *rest = words.split()
    return {"": address, **{word.partition("=")[0]: word for word in rest}}


class _Line:
    """One line; `title` is the section that it opens or is an entry of, `key` that of the entry."""

    __slots__ = ("key", "text", "title")

    def __init__(self, text: str, title: str = "", key: str = "") -> None:
        self.text = text
        self.title = title
        self.key = key

    def say(self, say: Say) -> None:
        """Change the value."""
        comment = _COMMENT.search(self.text)
        body = self.text[: comment.start()] if comment else self.text
        start = body.index("=") + 1
        value = body[start:].strip()
        start += len(body[start:]) - len(body[start:].lstrip())
        self.text = body[:start] + say(value) + self.text[start + len(value) :]

    def like(self, key: str, say: Say) -> _Line:
        """Another entry of the same section, with the same indentation and line end."""
        blank = self.text[: len(self.text) - len(self.text.lstrip("\ufeff \t"))].lstrip("\ufeff") if self.key else ""
        return _Line(f"{blank}{key} = {say('')}{self.end}", self.title, key)

    @property
    def end(self) -> str:
        """What stands before its line feed."""
        return "\r" if self.text.endswith("\r") else ""


class _Page:
    """The lines of a file, from one title to the next; "" are those before the first."""

    def __init__(self, text: str) -> None:
        lines = [_Line(line) for line in text.split("\n")]
        sections = ini.read(text.removeprefix("\ufeff"), "")[0]
        for section in sections:
            lines[section.line - 1].title = section.title
            for entry in section.entries:
                line = lines[entry.line - 1]
                line.title, line.key = section.title, entry.key
        begins = [0, *(section.line - 1 for section in sections), len(lines)]
        titles = ["", *(section.title for section in sections)]
        self._sections = {title: lines[begins[n] : begins[n + 1]] for n, title in enumerate(titles)}

    def text(self) -> str:
        """All of it."""
        return "\n".join(line.text for lines in self._sections.values() for line in lines)

    def need(self, title: str, before: str) -> None:
        """Have a section of that title, if need be a new one behind that other one."""
        if title in self._sections:
            return
        home = before or [*self._sections][-1]
        lines = self._sections[home]
        end = lines[-1].end if lines else ""
        cut = _last(lines) + 1
        new = [_Line(end), _Line(f"[{title}]{end}", title), *lines[cut:]]
        parts = [*self._sections.items()]
        place = [*self._sections].index(home)
        self._sections = dict([*parts[:place], (home, lines[:cut]), (title, new), *parts[place + 1 :]])

    def arrange(self, title: str, wanted: Mapping[str, Say], *, servers: bool) -> None:
        """Have these entries, in this order, among those of the section that are servers, or are not."""
        lines = self._sections[title]
        ours = [n for n, line in enumerate(lines) if line.key and _is_server(title, line.key) is servers]
        there = {lines[n].key: lines[n] for n in ours}
        places = [n for n in ours if lines[n].key in wanted]
        gone = {n for n in ours if lines[n].key not in wanted}
        model = lines[ours[-1]] if ours else lines[_last(lines)]
        new: dict[int, list[_Line]] = {}
        place = places[0] if places else (ours[-1] if ours else _last(lines)) + 1
        for key, say in wanted.items():
            if key in there:
                there[key].say(say)
                place = places.pop(0)
                lines[place] = there[key]
                place += 1
            else:
                new.setdefault(place, []).append(model.like(key, say))
        self._sections[title] = [
            each
            for n, line in enumerate([*lines, None])
            for each in (*new.get(n, ()), None if n in gone else line)
            if each is not None
        ]

    def keep(self, titles: Mapping[str, object]) -> None:
        """Take out all other sections; one without entries may stay, where it means nothing."""
        for title, lines in self._sections.items():
            if title not in titles and (title.startswith("backend ") or any(line.key for line in lines)):
                self._sections[title] = [line for line in lines if not line.title]


def _last(lines: Sequence[_Line]) -> int:
    """The last one that says something; -1 if none does."""
    return max((n for n, line in enumerate(lines) if line.title), default=-1)

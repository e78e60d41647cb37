"""A whole haproxy.cfg as an lb.ini, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lbservice.admin.haproxy.backend import BACKEND, Backend
from lbservice.admin.haproxy.condition import Acls
from lbservice.admin.haproxy.draft import Draft, Left, Note, number
from lbservice.admin.haproxy.frontend import FRONTEND, LET_IN, Frontend
from lbservice.admin.haproxy.reader import Line, Section, read
from lbservice.config import parse
from lbservice.errors import ConfigError

SAME = {
    *("option httplog", "option tcplog", "option dontlognull", "option forwardfor", "option redispatch", "no option"),
    *("option http-keep-alive", "option tcpka", "option clitcpka", "option srvtcpka", "option http-server-close"),
    *("option httpclose", "option forceclose", "option splice-auto", "option splice-request", "option splice-response"),
    *("option tcp-smart-accept", "option tcp-smart-connect", "option nolinger", "option logasap", "option contstats"),
    *("option prefer-last-server", "option dontlog-normal", "option log-separate-errors", "option http-buffer-request"),
    *("option abortonclose", "option accept-invalid-http-request", "option idle-close-on-response", "option persist"),
    *("http-reuse", "log", "log-format", "log-tag", "description", "id", "enabled", "hash-type", "unique-id-format"),
    *("unique-id-header", "backlog", "guid", "timeout client-fin", "timeout server-fin", "timeout tarpit"),
    *("stick-table", "no log", "option socket-stats", "fullconn", "tcp-request inspect-delay"),
}
"""Lines that lbservice needs nothing for: it does so by itself, or they are about what HAProxy logs and measures."""
ELSEWHERE = {
    "stats": "lbservice top, stats and sessions show what the statistics page shows",
    "monitor-uri": "GET /ready of [admin] says whether there is a server",
    "errorfile": "an error page is written without its head: error-page STATUS = FILE.html",
    "compression": "nothing is compressed here",
    "option originalto": "the client's own address is in X-Forwarded-For only",
    "server-template": "write one server line for each server",
    "http-request auth": f"{LET_IN}: passwords are not asked for",
    "http-request tarpit": f"{LET_IN}: see refuse and rate-limit",
    "http-request reject": f"{LET_IN}: see refuse",
    "http-request silent-drop": f"{LET_IN}: see refuse",
    "http-request track-sc0": "see rate-limit in docs/configuration.md",
    "capture": "the log has no captured fields",
    "source": "the address towards servers is the system's choice",
    "use-server": "servers are chosen by the policy",
    "email-alert": "no mail is sent; follow the log's events",
    "filter": "there are no filters",
}
TOP = (("admin", "listen", "unix:run/admin.sock"), ("manhole", "listen", "unix:run/manhole.sock"))


@dataclass(frozen=True, slots=True)
class Import:
    """What came of it: the text of an lb.ini, and the notes in the order of the lines."""

    text: str
    notes: tuple[Note, ...]
    usable: bool
    """Does the text pass as lb.ini? If not, no frontend could be carried."""

    @property
    def lost(self) -> int:
        """Lines that were not carried."""
        return sum(note.lost for note in self.notes)


def translate(text: str, name: str = "haproxy.cfg") -> Import:
    """The lb.ini that does the same as far as that goes. Raises nothing: whatever cannot be is a note."""
    sections, stray = read(text)
    drafts: list[Draft] = [_top(key, value, title) for title, key, value in TOP]
    general = Draft("loadbalancer")
    for line in stray:
        general.leave(line, "stands before the first section")
    named: dict[str, list[Line]] = {}
    defaults: list[Line] = []
    for section in sections:
        if section.kind == "global":
            _global(section, general)
        elif section.kind == "defaults":
            defaults = [*named.get(section.base, []), *section.lines]
            named[section.name] = defaults
        elif section.kind in ("frontend", "backend", "listen"):
            inherited = named.get(section.base, defaults) if section.base else defaults
            drafts += _proxy(section, inherited)
        else:
            general.leave(section.head, f"there is no section like {section.kind}; nor are its lines carried")
    _settle_modes(drafts)
    notes = [note for draft in (general, *drafts) for note in draft.notes]
    return _checked([general, *drafts], notes, name)


def _top(key: str, value: str, title: str) -> Draft:
    draft = Draft(title)
    draft.put(key, value)
    return draft


def _global(section: Section, draft: Draft) -> None:
    for line in section.lines:
        try:
            if line.words[0] == "maxconn":
                draft.put("maxconn", number(line.words, 1), line)
        except Left as left:
            draft.leave(line, str(left))
    skipped = [line.words[0] for line in section.lines if line.words[0] != "maxconn"]
    if skipped:
        words = ", ".join(dict.fromkeys(skipped))
        draft.say(section.head, f"of it only maxconn is carried; the process is set up by twistd ({words})")


def _proxy(section: Section, defaults: list[Line]) -> list[Draft]:
    acls: Acls = {}
    for line in (*defaults, *section.lines):
        if line.words[0] == "acl" and len(line.words) > 2:
            acls.setdefault(line.words[1], []).append(line)
    frontend = Frontend(section.name, section.head, acls) if section.kind != "backend" else None
    backend = Backend(section.name, section.head) if section.kind != "frontend" else None
    first = (frontend or backend).draft  # type: ignore[union-attr]  # one of them is there
    mode = "tcp"
    for line in (*defaults, *section.lines):
        own = line in section.lines
        if line.words[0] == "mode" and len(line.words) > 1:
            mode = line.words[1]
        elif line.words[0] == "disabled" and own:
            first.leave(section.head, "it is disabled")
            return [Draft(first.title, notes=first.notes)]
        elif line.words[0] != "acl":
            _line(line, frontend, backend, own=own)
    if frontend is not None and len(section.head.words) > 2 and ":" in section.head.words[2]:
        first.leave(section.head, "an address behind the name; write bind")
    if mode not in ("http", "tcp"):
        first.leave(section.head, f"mode {mode}")
        return [Draft(first.title, notes=first.notes)]
    drafts = []
    if frontend is not None:
        frontend.draft.put("mode", mode)
        if backend is not None and not frontend.draft.get("backend") and backend.servers.lines:
            frontend.draft.put("backend", section.name)
        frontend.finish()
        drafts.append(frontend.draft)
    if backend is not None:
        backend.finish()
        if frontend is not None and not backend.servers.lines:
            # A listen that serves nobody, as that of the statistics page; its notes are kept.
            backend.draft.entries.clear()
        drafts.append(backend.draft)
    return drafts


def _line(line: Line, frontend: Frontend | None, backend: Backend | None, *, own: bool) -> None:
    """One line, for whom it concerns. What defaults say for the other kind of section concerns nobody here."""
    keys = [" ".join(line.words[:2]), line.words[0]]
    known = False
    for proxy, table in ((frontend, FRONTEND), (backend, BACKEND)):
        handler = next((table[key] for key in keys if key in table), None)
        known = known or handler is not None
        if proxy is None or handler is None:
            continue
        try:
            handler(proxy, line)  # type: ignore[arg-type]  # the table is that of its class
        except Left as left:
            proxy.draft.leave(line, str(left))
        except IndexError:
            proxy.draft.leave(line, "a word is missing")
        if proxy is frontend and backend is not None and keys[0].endswith("-header"):
            return  # once is enough
    half = (frontend or backend).draft  # type: ignore[union-attr]
    if known:
        wrong = own and not any(
            key in (FRONTEND if frontend else {}) or key in (BACKEND if backend else {}) for key in keys
        )
        if wrong:
            half.leave(line, "has no meaning in this section")
    elif not any(key in SAME for key in keys):
        half.leave(line, next((ELSEWHERE[key] for key in keys if key in ELSEWHERE), "is not known to lbservice"))


def _settle_modes(drafts: list[Draft]) -> None:
    """In lb.ini the mode is the frontend's; what tcp has no use for comes from defaults, and goes without a word."""
    for draft in drafts:
        if draft.title.startswith("frontend "):
            if draft.get("mode") == "http":
                draft.take("mode")
            else:
                for key in ("timeout client-head", "timeout keep-alive"):
                    draft.take(key)


# -- the text ----------------------------------------------------------------------------------


def _checked(drafts: list[Draft], notes: list[Note], name: str) -> Import:
    """Take out whatever lb.ini does not take, until it takes the rest."""
    for _ in range(1 + sum(len(draft.entries) for draft in drafts)):
        lines = list(_lines(drafts, name))
        try:
            parse("\n".join(text for text, *_ in lines))
            usable = True
            break
        except ConfigError as error:
            usable = False
            problem = error.problems[0]
            at = next((each for each in error.problems if each.line), problem)
            _, draft, key = lines[at.line - 1] if at.line else ("", None, "")
            if draft is None:
                break
            _take_out(draft, key, at.message, drafts, notes)
    lines = list(_lines(drafts, name))
    shown = sorted(dict.fromkeys(notes), key=lambda note: note.line.number)
    text = "\n".join(text for text, *_ in lines)
    if shown:
        text += "\n\n# What is to be said of lines of " + name + ":\n"
        text += "\n".join(f"# {_comment(str(note))}" for note in shown)
    return Import(text + "\n", tuple(shown), usable)


def _comment(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _take_out(draft: Draft, key: str, why: str, drafts: list[Draft], notes: list[Note]) -> None:
    """One entry, or (no key) the whole section."""
    if key:
        line = next(line for known, _, line in draft.entries if known == key)
        draft.take(key)
        if line is not None:
            notes.append(Note(line, f"as {key} in [{draft.title}]: {why}"))
        return
    drafts.remove(draft)
    if draft.head is not None:
        notes.append(Note(draft.head, f"[{draft.title}] is left out: {why}"))


def _lines(drafts: list[Draft], name: str) -> Iterator[tuple[str, Draft | None, str]]:
    """Each line, and the entry that it is."""
    yield f"# From {name}, by lbservice init --from.   lbservice check lb.ini", None, ""
    for draft in drafts:
        draft.sort()
        if draft.entries:
            yield "", None, ""
            yield f"[{draft.title}]", draft, ""
            for key, value, _ in draft.entries:
                yield f"{key} = {value}", draft, key

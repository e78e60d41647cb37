"""Header fields that are set, added and removed, as the configuration says, in the field lines of a head."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lbservice.wire.message import ResponseHead

VARIABLE = re.compile(rb"\{([a-z_]+)\}")
"""A variable in a value. Other braces, as in JSON, mean nothing."""
REMEMBERED = 1000
"""Heads whose edited form is remembered."""


def variables(template: bytes) -> frozenset[str]:
    """The variables that a value names."""
    return frozenset(found.decode() for found in VARIABLE.findall(template))


def fill(template: bytes, facts: Mapping[str, bytes]) -> bytes:
    """The value, with each variable as it is in `facts`."""
    return VARIABLE.sub(lambda match: facts[match[1].decode()], template)


class Edits:
    """Edits that are made one after the other: each is a name, a verb (set, add, remove) and a value.

    `set` replaces every field of the name by one, `add` leaves the others there. What is set or added stands last.
    The Host field of a request is not among its lines: `host` is what it is set to, if it is.
    """

    __slots__ = ("_memory", "_names", "_new", "host", "uses")

    def __init__(self, edits: Iterable[tuple[str, str, str]]) -> None:
        self.host: bytes | None = None
        new: list[tuple[str, bytes]] = []
        gone: list[str] = []
        for name, verb, value in edits:
            low = name.lower()
            if low == "host" and verb == "set":
                self.host = value.encode("ascii")
            if verb != "add":
                new = [(other, line) for other, line in new if other != low]
                gone.append(re.escape(low))
            if verb != "remove" and low != "host":
                new.append((low, f"{name}: {value}\r\n".encode("ascii")))
        self._new = b"".join(line for _, line in new)
        self._names = re.compile(rb"(?mi)^(?:%b):[^\r\n]*\r\n" % "|".join(gone).encode("ascii")) if gone else None
        self.uses = variables(self._new)
        """The variables in their values."""
        self._memory: dict[bytes, ResponseHead] = {}

    def __bool__(self) -> bool:
        return bool(self._new or self._names)

    def lines(self, lines: bytes, facts: Mapping[str, bytes]) -> bytes:
        """Field lines, edited. `facts` has a value for each variable that is used."""
        if self._names is not None:
            lines = self._names.sub(b"", lines)
        return lines + (fill(self._new, facts) if self.uses else self._new)

    def response(self, head: ResponseHead, facts: Mapping[str, bytes]) -> ResponseHead:
        """A response head, edited: another one, since heads are shared."""
        edited = ResponseHead(head.status, head.reason, head.minor, self.lines(head.fields, facts))
        edited.length = head.length
        edited.persistent = head.persistent
        edited.content_length = head.content_length
        edited.upgrade = head.upgrade
        return edited

    def usual_response(self, head: ResponseHead) -> ResponseHead:
        """The same for a usual head (it has `encoded`) and edits that use no variable; servers repeat themselves."""
        edited = self._memory.get(head.encoded)
        if edited is None:
            edited = self.response(head, {})
            line, end, rest = head.encoded.partition(b"\r\n")
            edited.encoded = line + end + edited.fields + rest[len(head.fields) :]
            if len(self._memory) >= REMEMBERED:
                self._memory.clear()
            self._memory[head.encoded] = edited
        return edited

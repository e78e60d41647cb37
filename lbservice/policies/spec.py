"""What stands behind `balance =`: the policy's name and what it is told."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from lbservice.core.pick import NOTHING
from lbservice.errors import closest, unknown

KEYS = ("source", "uri", "header", "cookie", "param")
"""What can be hashed; the last three with a name in brackets."""
NAMED = {"header": "X-User", "cookie": "sid", "param": "id"}
"""Those that take a name, with an example of one."""
MOST_DRAWS = 16
HOP_BY_HOP = frozenset(
    (
        *("connection", "content-length", "expect", "keep-alive", "proxy", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "via"),
    )
)
"""Fields that say nothing about who asks or for what."""

ELSEWHERE = {
    "static-rr": "roundrobin",
    "rr": "roundrobin",
    "round_robin": "roundrobin",
    "wrr": "roundrobin",
    "ip_hash": "source",
    "hash": "uri, header(NAME), cookie(NAME) or param(NAME)",
    "hdr": "header(NAME)",
    "url_param": "param(NAME)",
    "rdp-cookie": "sticky = cookie NAME",
}
"""What other balancers' words are here."""

_WORD = re.compile(r"([^\s()]+)(?:\(([^()]*)\))?")
_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""A field's or cookie's name (RFC 9110 section 5.6.2)."""


@dataclass(frozen=True, slots=True)
class Balance:
    """`name` is a policy of the registry, or `module:Class`; `wants` is as in Policy, for hashes."""

    name: str
    draws: int = 2
    wants: tuple[str, str] = NOTHING

    @property
    def hashes(self) -> bool:
        """Is it a hash?"""
        return self.name in ("maglev", *KEYS)

    @property
    def own(self) -> bool:
        """Is it a class of the user's?"""
        return ":" in self.name


def read(text: str, names: Collection[str]) -> Balance:
    """What `text` means, with policies of these names. Raises ValueError with a sentence."""
    if ":" in text:
        if not _OWN.fullmatch(text):
            raise ValueError("write a policy of your own as package.module:Class")
        return Balance(text)
    first, *rest = text.split()
    if first == "maglev" and first in names:
        if len(rest) != 1:
            raise ValueError("write what maglev hashes, e.g. maglev uri or maglev header(X-User)")
        return Balance("maglev", wants=_key(rest[0]))
    if rest and first in NAMED and len(rest) == 1:
        raise ValueError(f"the name stands in brackets; write {first}({rest[0]})")
    if rest:
        raise ValueError(f"{first} takes nothing after it; take out '{' '.join(rest)}'")
    match = _WORD.fullmatch(first)
    name, argument = match.groups() if match else (first, None)
    if name not in names and name in ELSEWHERE:
        raise ValueError(f"unknown policy; here it is {ELSEWHERE[name]}")
    if name not in names:
        raise ValueError(unknown("policy", name, names))
    if name in KEYS:
        return Balance(name, wants=_key(first))
    if argument is None:
        return Balance(name)
    if name != "random":
        raise ValueError(f"{name} takes nothing in brackets; write {name} alone")
    if not re.fullmatch(r"[0-9]{1,2}", argument) or not 1 <= int(argument) <= MOST_DRAWS:
        raise ValueError(f"random({argument}): the number of draws must be a whole number from 1 to {MOST_DRAWS}")
    return Balance(name, draws=int(argument))


def _key(word: str) -> tuple[str, str]:
    """What is hashed, from `source`, `uri`, `header(NAME)`, `cookie(NAME)` or `param(NAME)`."""
    match = _WORD.fullmatch(word)
    kind, name = match.groups() if match else (word, None)
    if kind not in KEYS:
        near = closest(kind, KEYS)
        raise ValueError(
            f"cannot hash '{kind}'; " + (f"did you mean '{near}'?" if near else f"one of: {', '.join(KEYS)}")
        )
    if kind not in NAMED:
        if name is not None:
            raise ValueError(f"{kind} takes nothing in brackets; write {kind} alone")
        return NOTHING if kind == "source" else (kind, "")
    if name is None:
        raise ValueError(f"say which {kind}, e.g. {kind}({NAMED[kind]})")
    if not re.fullmatch(TOKEN, name):
        raise ValueError(f"'{name}' is no name of a {kind}; write e.g. {kind}({NAMED[kind]})")
    if kind == "header":
        if "_" in name:
            raise ValueError(f"a field with _ in its name is dropped, so {name} never arrives; use one with -")
        name = name.lower()
        if name in HOP_BY_HOP:
            raise ValueError(f"a field like {name} is about the connection; hash one that is about the request")
    return kind, name

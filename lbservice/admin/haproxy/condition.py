"""ACLs, and what stands behind `if`, as conditions of lb.ini.

An ACL is a list of alternatives; an alternative maps a kind of condition (`host=`, `path~=`, `header(X)`) to its value,
and all of its kinds must hold. So is a whole `if`: its `or` adds alternatives, and names side by side combine them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import product

from lbservice.admin.haproxy.draft import Left
from lbservice.admin.haproxy.reader import Line

Alternative = dict[str, str]
Acls = dict[str, list[Line]]

PREDEFINED: dict[str, list[Alternative]] = {
    "TRUE": [{}],
    "METH_GET": [{"method=": "GET,HEAD"}],
    **{
        f"METH_{name}": [{"method=": name}] for name in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "CONNECT")
    },
}
MOST = 16
"""Alternatives that one line may become."""
_HEADER = re.compile(r"(?:req\.)?f?hdr(?:_(?P<how>beg|end|dom|sub|reg|dir|len|str))?\(\s*(?P<name>[\w-]+)\s*\)")
_SNI = re.compile(r"(?:req[._]ssl_sni|ssl_fc_sni)(?:_(?P<how>beg|end|dom|sub|reg|dir|len|str))?")
_PATH = re.compile(r"path(?:_(?P<how>beg|end|dom|sub|reg|dir|len|str))?")


def conditions(words: Sequence[str], acls: Acls) -> list[str]:
    """What `if ...` or `unless ...` asks for; each of the answers holds for itself. Raises Left.

    No words ask for nothing, which always holds.
    """
    if not words:
        return [""]
    if words[0] not in ("if", "unless") or len(words) == 1:
        raise Left(f"{' '.join(words)!r} is not understood")
    terms = _terms(words[1:])
    if words[0] == "unless":
        if len(terms) != 1 or len(terms[0]) != 1:
            raise Left("unless with more than one condition")
        terms = [[("!" + terms[0][0]).replace("!!", "")]]
    found: list[Alternative] = []
    for term in terms:
        for parts in product(*(_literal(literal, acls) for literal in term)):
            found.append(_both(parts))
            if len(found) > MOST:
                raise Left(f"would be more than {MOST} lines")
    return [" ".join(f"{kind}{value}" for kind, value in each.items()) for each in found]


def _terms(words: Sequence[str]) -> list[list[str]]:
    """The literals between each `or`; what stands in braces is one."""
    terms: list[list[str]] = [[]]
    negated = ""
    inside: list[str] | None = None
    for each in words:
        if inside is not None:
            if each == "}":
                terms[-1].append(f"{negated}{{ {' '.join(inside)} }}")
                negated, inside = "", None
            else:
                inside.append(each)
        elif each == "{":
            inside = []
        elif each in ("!", "!{"):
            negated = "!"
            inside = [] if each == "!{" else None
        elif each in ("or", "||"):
            terms.append([])
        else:
            terms[-1].append(negated + each)
            negated = ""
    if inside is not None or negated or not all(terms):
        raise Left("the condition does not end")
    return terms


def _literal(text: str, acls: Acls) -> list[Alternative]:
    negated = text.startswith("!")
    text = text.removeprefix("!").strip()
    if text.startswith("{"):
        found = _criterion(tuple(text[1:-1].split()))
    elif text in acls:
        found = [each for line in acls[text] for each in _of_acl(text, line)]
    elif text in PREDEFINED:
        found = PREDEFINED[text]
    else:
        raise Left(f"there is no acl {text}")
    if not negated:
        return found
    if found == [{"scheme=": "https"}]:
        return [{"scheme=": "http"}]
    raise Left(f"conditions of lb.ini have no 'not' (!{text})")


def _of_acl(name: str, line: Line) -> list[Alternative]:
    try:
        return _criterion(line.words[2:])
    except Left as left:
        raise Left(f"acl {name} in line {line.number}: {left}") from None


def _both(parts: Sequence[Alternative]) -> Alternative:
    """All of them at once."""
    merged: Alternative = {}
    for part in parts:
        for kind, value in part.items():
            if merged.setdefault(kind, value) != value:
                raise Left(f"two conditions on {kind.rstrip('=~')} at once")
    if "path=" in merged and "path~=" in merged:
        raise Left("two conditions on path at once")
    return merged


def _criterion(words: tuple[str, ...]) -> list[Alternative]:
    """What follows the name of an acl: CRITERION [-i] [-m HOW] VALUE..."""
    if not words:
        raise Left("says nothing")
    criterion, values, small, how = words[0], [], False, ""
    rest = list(words[1:])
    while rest:
        flag = rest.pop(0)
        if flag == "-i":
            small = True
        elif flag == "-m" and rest:
            how = rest.pop(0)
        elif flag == "--":
            values, rest = rest, []
        elif flag.startswith("-"):
            raise Left(f"{flag} is not understood")
        else:
            values, rest = [flag, *rest], []
    if any(re.search(r"[\s,]|%\[|\$\{", value) for value in values):
        raise Left("a value with a space, a comma or a variable in it")
    if criterion == "ssl_fc" and not values:
        return [{"scheme=": "https"}]
    if criterion == "src":
        return [{"src=": ",".join(values)}]
    if criterion == "method":
        return [{"method=": ",".join(values)}]
    if match := _PATH.fullmatch(criterion):
        return [{"path~=": pattern}] if (pattern := _path(match["how"] or how, values, small)) else [{}]
    if match := _SNI.fullmatch(criterion):
        return [{"sni=": _names(match["how"] or how, values)}]
    if match := _HEADER.fullmatch(criterion):
        if match["name"].lower() == "host":
            return [{"host=": _names(match["how"] or how, values)}]
        return _fields(match["name"], match["how"] or how, values, small)
    raise Left(f"{criterion} has no counterpart in conditions of lb.ini")


def _names(how: str, values: list[str]) -> str:
    """Host names, of which HAProxy may look at the end only."""
    if how in ("", "str"):
        return ",".join(values)
    if how == "end" and all(value.startswith(".") for value in values):
        return ",".join(f"*{value}" for value in values)
    raise Left(f"host names are compared as a whole, or by *.NAME (not by {how})")


def _path(how: str, values: list[str], small: bool) -> str:
    """A regular expression for the whole path; "" if any path will do."""
    shapes: dict[str, Callable[[str], str]] = {
        "": re.escape,
        "str": re.escape,
        "beg": lambda value: re.escape(value) + ".*",
        "end": lambda value: ".*" + re.escape(value),
        "sub": lambda value: f".*{re.escape(value)}.*",
        "dir": lambda value: f"(.*/)?{re.escape(value.strip('/'))}(/.*)?",
        "reg": _regex,
    }
    if how not in shapes:
        raise Left(f"paths cannot be compared by {how}")
    if how == "beg" and "/" in values:
        return ""
    pattern = "|".join(shapes[how](value) for value in values)
    if small:
        return f"(?i:{pattern})"
    return f"({pattern})" if len(values) > 1 else pattern


def _regex(value: str) -> str:
    """HAProxy's expressions may match anywhere; ours match the whole path."""
    if re.search(r"(?<!\\)\|", value):
        return f".*({value}).*"
    ends = value.endswith("$") and not value.endswith("\\$")
    start = value.removeprefix("^") if value.startswith("^") else f".*{value}"
    return start[:-1] if ends else f"{start}.*"


def _fields(name: str, how: str, values: list[str], small: bool) -> list[Alternative]:
    if how == "found":
        return [{f"header({name})": ""}]
    if how not in ("", "str") or not values:
        raise Left(f"header fields are compared as a whole (not by {how or 'number'})")
    if small and name.lower() != "upgrade" and any(value.lower() != value.upper() for value in values):
        raise Left("values of header fields are compared in their case of letters")
    return [{f"header({name})": f"={value}"} for value in values]

"""What the Tab key may mean at a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

_DOTTED = re.compile(r"(?:[A-Za-z_]\w*\.)*(?:[A-Za-z_]\w*)?$")
_CALL = re.compile(r"\blb\.(\w+)\(")
_KEYWORD = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*(.*)$", re.DOTALL)


class Verbs(Protocol):
    """What is known of the calls of `lb`."""

    def parameters(self, verb: str) -> list[str]:
        """The names of the verb's parameters, in order; none for what is no verb."""

    def values(self, verb: str, parameter: str) -> list[str]:
        """What may be given for it now, as it is written inside quotes; numbers as they are."""

    def quoted(self, parameter: str) -> bool:
        """Is it a text?"""


def completions(text: str, namespace: Mapping[str, Any], verbs: Verbs) -> tuple[str, list[str]]:
    """The unfinished word at the end of `text`, and every way to finish it, in order.

    Names come from `namespace` and, behind a dot, from what they hold; inside a call of `lb` it is what that verb may
    be given there: servers, backends, sessions, numbers of changes, or the name of one of its other parameters.
    """
    calls = list(_CALL.finditer(text))
    if calls and (found := _argument(calls[-1][1], text[calls[-1].end() :], verbs)) is not None:
        return found
    match = _DOTTED.search(text)
    path, dot, stub = match[0].rpartition(".") if match else ("", "", "")
    if not dot:
        return stub, sorted(name for name in namespace if stub and name.startswith(stub))
    first, *rest = path.split(".")
    holder = namespace.get(first)
    for name in rest:
        holder = getattr(holder, name, None)
    if holder is None:
        return stub, []
    hidden = "" if stub.startswith("_") else "_"
    names = [name for name in dir(holder) if name.startswith(stub) and not (hidden and name.startswith(hidden))]
    return stub, [f"{name}(" if callable(getattr(holder, name, None)) else name for name in names]


def _argument(verb: str, text: str, verbs: Verbs) -> tuple[str, list[str]] | None:
    """The same within the parentheses of a verb; None where anything may stand."""
    parameters = verbs.parameters(verb)
    *before, last = split(text)
    if not parameters or last is None:
        return None
    named = {match[1] for part in before if part and (match := _KEYWORD.match(part))}
    keyword = _KEYWORD.match(last)
    if keyword:
        parameter, word = keyword[1], keyword[2]
    else:
        position = len(before)
        parameter = parameters[position] if position < len(parameters) and not named else ""
        word = last.lstrip()
    if word[:1] in ("'", '"'):
        stub = word[1:]
        return stub, [f"{value}" for value in verbs.values(verb, parameter) if value.startswith(stub)]
    found = []
    if parameter:
        values = verbs.values(verb, parameter)
        found = [f'"{value}"' for value in values] if verbs.quoted(parameter) else values
    if not keyword:
        taken = len(before) if not named else 0
        found += [f"{name}=" for name in parameters[taken:] if name not in named and word]
    return word, [value for value in found if value.startswith(word)]


def split(text: str) -> list[Any]:
    """The arguments of a call so far, cut at its commas; the last is None where the call has ended."""
    parts, quote, depth = [""], "", 0
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
            if depth < 0:
                return [None]
        elif letter == "," and not depth:
            parts.append("")
            continue
        parts[-1] += letter
    return parts

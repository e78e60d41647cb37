"""What the Tab key may mean at a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_DOTTED = re.compile(r"(?:[A-Za-z_]\w*\.)*(?:[A-Za-z_]\w*)?$")
_IN_STRING = re.compile(r"""\blb\.\w+\([^"']*["']([\w./:-]*)$""")


def completions(text: str, namespace: Mapping[str, Any], words: Sequence[str]) -> tuple[str, list[str]]:
    """The unfinished word at the end of `text`, and every way to finish it, in order.

    Names come from `namespace` and, behind a dot, from what they hold; inside the first quotes of a
    call of `lb` it is one of `words`, the names of servers and backends.
    """
    if inside := _IN_STRING.search(text):
        stub = inside[1]
        return stub, [word for word in words if word.startswith(stub)]
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

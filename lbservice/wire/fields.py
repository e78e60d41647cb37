"""One field of a head, found by its name."""

from __future__ import annotations

import re
from functools import lru_cache


def field_value(fields: bytes, name: str) -> bytes | None:
    """The value of the first field of that name in the field lines of a validated head; None if there is none."""
    found = _line(name.encode("ascii")).search(fields)
    return found[1].strip() if found else None


@lru_cache(maxsize=256)
def _line(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"(?im)^" + re.escape(name) + rb":([^\r]*+)")

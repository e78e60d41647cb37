"""Answers of Control as JSON."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

from lbservice.core.change import Change


def dumps(value: Any) -> bytes:
    """As it goes out: UTF-8, with a line's end for people with curl."""
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace") + b"\n"


def shown(answer: Any) -> Any:
    """Rows as objects, several of them as `{"items": [...]}`."""
    if isinstance(answer, tuple):
        return {"items": [row(each) for each in answer]}
    return row(answer)


def row(value: Any) -> Any:
    """One row; a row in a row, too."""
    if isinstance(value, Change):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: row(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [row(each) for each in value]
    return value


def change(made: Change) -> dict[str, Any]:
    """A change, with the sentence that the shell shows of it."""
    return {
        "verb": made.verb,
        "target": made.target,
        "before": made.before,
        "after": made.after,
        "changed": made.changed,
        "number": made.number,
        "at": made.at,
        "saved": made.saved,
        "details": list(made.details),
        "actor": made.actor,
        "face": made.by.face,
        "comment": made.by.comment,
        "text": str(made),
    }

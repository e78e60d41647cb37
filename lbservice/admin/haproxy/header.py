"""`http-request set-header NAME VALUE` and its like as `request-header NAME = set VALUE`."""

from __future__ import annotations

from lbservice.admin.haproxy.draft import Draft, Left, plain
from lbservice.admin.haproxy.reader import Line

OURS = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-request-id")
EDITS = tuple(
    f"{side} {action}-header" for side in ("http-request", "http-response") for action in ("set", "add", "del")
)
"""What `edit` takes."""
KNOWN = {"%[src]": "{client}", "%ci": "{client}", "%[req.hdr(host)]": "{host}", "%[hdr(host)]": "{host}"}


def edit(draft: Draft, line: Line) -> None:
    """One field of requests or responses; without conditions."""
    side, action, *rest = line.words
    where = "request-header" if side == "http-request" else "response-header"
    if not rest:
        raise Left("a field is missing")
    name, *values = rest
    if name.lower() in OURS:
        draft.say(line, f"{name} is sent by itself")
        return
    verb = action.partition("-")[0]
    if verb == "del":
        if values:
            raise Left("fields are edited without conditions, and by their whole name")
        draft.put(f"{where} {plain(name)}", "remove", line)
        return
    if not values or any(word in ("if", "unless") for word in values[1:2]):
        raise Left("fields are edited for all requests of a frontend or backend, without conditions")
    value = values[0]
    for theirs, ours in KNOWN.items():
        value = value.replace(theirs, ours)
    draft.put(f"{where} {plain(name)}", f"{verb} {plain(value)}", line)

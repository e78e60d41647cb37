"""Who may not even knock: pages of other sites, in a browser that can reach us, and names that were bent to us.

A browser says in Origin and Sec-Fetch-Site whose page a request comes from, and in Host which name was asked for. A
page that a name leads to which was pointed at us (DNS rebinding) is of the same origin, but that name is none of ours.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from lbservice.admin.api.problem import Problem

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")


def host_name(host: str) -> str:
    """The name in a Host field, in small letters, without port and brackets; "" if it is malformed."""
    match = _HOST.fullmatch(host)
    return (match[1] or match[2]).lower().rstrip(".") if match else ""


def check_host(fields: list[str], ours: Collection[str]) -> None:
    """Raises Problem unless there is one Host field, which is of ours."""
    if len(fields) != 1:
        raise Problem(400, "one Host field is needed")
    name = host_name(fields[0])
    if not name:
        raise Problem(400, "the Host field is malformed")
    if name not in ours:
        raise Problem(403, f"Host {name!r} is none of ours; add it to hosts in [admin], or ask for one of them")


def check_site(origin: list[str], fetch_site: list[str], host: str) -> None:
    """Raises Problem 403 when a browser says that a page of another site asks. Other programs say nothing of it."""
    if any(site not in ("same-origin", "none") for site in fetch_site):
        raise Problem(403, "a page of another site may not ask (Sec-Fetch-Site)")
    if any(each.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}") for each in origin):
        raise Problem(403, "a page of another site may not ask (Origin)")


def check_json(content_types: list[str]) -> None:
    """Raises Problem 415 unless the body is said to be JSON, which no form of a page can say."""
    if len(content_types) == 1:
        kind, _, parameters = content_types[0].lower().partition(";")
        if kind.strip() == "application/json" and parameters.strip() in ("", "charset=utf-8", 'charset="utf-8"'):
            return
    raise Problem(415, "a change needs Content-Type: application/json")

"""The whole vocabulary between the client's side and the server's side of an exchange.

A request or response is a head, then pieces of body, then its end; or it breaks off. Only the
heads carry structure, so only they are classes; body bytes travel as `bytes`, the end as a call.
"""

from __future__ import annotations

from dataclasses import dataclass, field

NO_BODY = 0
"""A length that says: no body follows the head."""
CHUNKED = -1
"""A length that says: the body comes in chunks."""
UNTIL_CLOSE = -2
"""A length that says: the body ends with the connection (responses only)."""

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


@dataclass(slots=True)
class Usual:
    """What stands behind a usual request's first line, as it was sent and as it was read. Shared: read only."""

    said: bytes
    """CR LF, the field lines, and the empty line."""
    host: bytes
    fields: bytes


@dataclass(init=False, slots=True)
class RequestHead:
    """One request head, validated.

    `fields` holds the end-to-end field lines ready to be sent (`b"Name: value\\r\\n..."`), without
    Host, framing, hop-by-hop and forwarding fields. `length` is the body's size in bytes, or
    NO_BODY or CHUNKED. `host` is None only in HTTP/1.0.
    """

    method: bytes
    target: bytes
    minor: int
    """0 for HTTP/1.0, 1 for HTTP/1.1."""
    host: bytes | None
    fields: bytes
    length: int
    has_length: bool
    """Was there a Content-Length field (so that `Content-Length: 0` is passed on)?"""
    persistent: bool
    """May the client's connection carry another request after this one?"""
    expects_continue: bool
    upgrade: bytes | None
    """The Upgrade field, when this request validly asks for one."""
    request_id: bytes | None
    forwarded: bytes
    """The peer's own forwarding field lines (X-Forwarded-*, Forwarded, X-Real-IP); others decide on them."""
    via: bytes | None
    idempotent: bool
    """May it be sent twice without harm (RFC 9110 section 9.2.2)?"""
    usual: Usual | None = field(compare=False)
    """From the codec's fast path: HTTP/1.1 with a Host, no body, and nothing of what stands above from `length` on."""
    encoded: bytes = field(compare=False)
    """Of a usual head: what a server gets behind the request line, up to the request's id."""

    def __init__(self, method: bytes, target: bytes, minor: int, host: bytes | None, fields: bytes) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.host = host
        self.fields = fields
        self.length = NO_BODY
        self.has_length = False
        self.persistent = True
        self.expects_continue = False
        self.upgrade = None
        self.request_id = None
        self.forwarded = b""
        self.via = None
        self.idempotent = method in IDEMPOTENT
        self.usual = None
        self.encoded = b""


@dataclass(init=False, slots=True)
class ResponseHead:
    """One response head, validated; `fields` and `length` as in RequestHead. Shared by responses alike: read only.

    `content_length` is the field as it was sent, also where no body follows (HEAD, 304).
    """

    status: int
    reason: bytes
    minor: int
    fields: bytes
    length: int
    persistent: bool
    """May the server's connection carry another exchange?"""
    content_length: int | None
    upgrade: bytes | None
    encoded: bytes = field(compare=False)
    """From the codec's fast path: what a persistent HTTP/1.1 client gets, up to the request's id."""

    def __init__(self, status: int, reason: bytes, minor: int, fields: bytes) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.fields = fields
        self.length = UNTIL_CLOSE
        self.persistent = True
        self.content_length = None
        self.upgrade = None
        self.encoded = b""

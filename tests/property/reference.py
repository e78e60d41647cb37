"""What a byte string is as HTTP/1.1: a slow, strict reader, written from the RFCs' grammar alone.

It is the judge of the tests here, so it shares nothing with `lbservice.wire`: each rule of the ABNF is one
pattern with the RFC's name, a message is cut line by line, and nothing is read that has not come. What the
RFCs let a recipient choose (a bare LF, obs-fold, both kinds of length, a list of equal lengths) is invalid here.

    reading = read_requests(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\nGARBAGE")
    reading.messages   the whole requests, in their order
    reading.broken     the head of one whose body is cut or invalid, with what of the body is sure; or None
    reading.end        offset of the first byte that belongs to no whole message
    reading.why        "": nothing is left; "cut": the rest may yet become a message; else what is wrong

What a recipient may take beyond the letter without misunderstanding anybody is named in `Tolerate`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Flag

Fields = tuple[tuple[bytes, bytes], ...]

# -- RFC 5234 B.1 and RFC 9110 5.6 -----------------------------------------------------------------

ALPHA, DIGIT, HEXDIG = rb"[A-Za-z]", rb"[0-9]", rb"[0-9A-Fa-f]"
OWS = BWS = rb"[ \t]*"
token = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
quoted_string = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
field_value = rb"(?:[\x21-\x7e\x80-\xff](?:[ \t\x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"

# -- RFC 3986 --------------------------------------------------------------------------------------

pct_encoded = rb"%" + HEXDIG + HEXDIG
unreserved = rb"[A-Za-z0-9\-._~]"
sub_delims = rb"[!$&'()*+,;=]"
pchar = rb"(?:" + rb"|".join((unreserved, pct_encoded, sub_delims, rb"[:@]")) + rb")"
reg_name = rb"(?:" + rb"|".join((unreserved, pct_encoded, sub_delims)) + rb")*"
h16 = HEXDIG + rb"{1,4}"
dec_octet = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPv4address = rb"\.".join([dec_octet] * 4)
ls32 = rb"(?:" + h16 + rb":" + h16 + rb"|" + IPv4address + rb")"
_g = rb"(?:" + h16 + rb":)"
IPv6address = rb"(?:" + rb"|".join(
    (
        _g + rb"{6}" + ls32,
        rb"::" + _g + rb"{5}" + ls32,
        rb"(?:" + h16 + rb")?::" + _g + rb"{4}" + ls32,
        rb"(?:" + _g + rb"{0,1}" + h16 + rb")?::" + _g + rb"{3}" + ls32,
        rb"(?:" + _g + rb"{0,2}" + h16 + rb")?::" + _g + rb"{2}" + ls32,
        rb"(?:" + _g + rb"{0,3}" + h16 + rb")?::" + _g + ls32,
        rb"(?:" + _g + rb"{0,4}" + h16 + rb")?::" + ls32,
        rb"(?:" + _g + rb"{0,5}" + h16 + rb")?::" + h16,
        rb"(?:" + _g + rb"{0,6}" + h16 + rb")?::",
    )
) + rb")"  # fmt: skip
IPvFuture = rb"[vV]" + HEXDIG + rb"+\.(?:" + unreserved + rb"|" + sub_delims + rb"|:)+"
host = rb"(?:\[(?:" + IPv6address + rb"|" + IPvFuture + rb")\]|" + reg_name + rb")"
port = DIGIT + rb"*"
path = rb"(?:/" + pchar + rb"*)*"
query = rb"(?:" + pchar + rb"|[/?])*"
absolute_path = rb"(?:/" + pchar + rb"*)+"

# -- RFC 9112 --------------------------------------------------------------------------------------

origin_form = absolute_path + rb"(?:\?" + query + rb")?"
absolute_form = rb"(?i:http|https)://" + host + rb"(?::" + port + rb")?" + path + rb"(?:\?" + query + rb")?"
authority_form = host + rb":" + DIGIT + rb"+"
request_target = rb"(?:" + rb"|".join((origin_form, absolute_form, authority_form, rb"\*")) + rb")"
http_version = rb"HTTP/(?P<major>[0-9])\.(?P<minor>[0-9])"
request_line = rb"(?P<method>" + token + rb") (?P<target>[^ ]+) " + http_version
status_line = http_version + rb" (?P<status>[0-9]{3}) (?P<reason>[\t \x21-\x7e\x80-\xff]*)"
field_line = rb"(?P<name>" + token + rb"):" + OWS + rb"(?P<value>" + field_value + rb")" + OWS
chunk_ext = rb"(?:" + BWS + rb";" + BWS + token + rb"(?:" + BWS + rb"=" + BWS + rb"(?:" + token + rb"|"
chunk_ext += quoted_string + rb"))?)*"
chunk_line = rb"(?P<size>" + HEXDIG + rb"+)" + chunk_ext


class Tolerate(Flag):
    """What may be more than the grammar."""

    NOTHING = 0
    TARGET = 1
    """A path and query of any visible ASCII characters but "#"; browsers send some that no URI has."""
    REASON = 2
    """A status line that ends behind the status; many servers leave out the space with the reason."""
    NO_CONTENT = 4
    """A length in a response that can have no body (1xx, 204): it has none."""


any_target = rb"(?:/|(?i:http|https)://" + host + rb"(?::" + port + rb")?[/?])[!\"$-~]*"


class Invalid(Exception):
    """These bytes begin no message, whatever follows."""


class Cut(Exception):
    """These bytes may begin a message, but there are not enough of them."""


@dataclass(frozen=True)
class Message:
    """A request (`method`, `target`) or a response (`status`, `reason`); `body` is without chunk lines."""

    version: tuple[int, int]
    fields: Fields
    method: bytes = b""
    target: bytes = b""
    status: int = 0
    reason: bytes = b""
    body: bytes = b""
    framing: str = "none"
    """"none", "length", "chunked" or "close"."""
    trailers: Fields = ()
    last: bool = False
    """Is it the last on its connection, by what its head says?"""

    def all(self, name: bytes) -> list[bytes]:
        """The values of a field, in their order."""
        return _all(self.fields, name)


@dataclass(frozen=True)
class Reading:
    """See the module."""

    messages: list[Message] = field(default_factory=list)
    broken: Message | None = None
    end: int = 0
    why: str = ""


def read_requests(data: bytes, tolerate: Tolerate = Tolerate.NOTHING) -> Reading:
    """The requests that `data` holds; what follows the last one of a connection is "after the end"."""
    found: list[Message] = []
    at = end = 0
    broken = None
    why = ""
    while at < len(data):
        broken = None
        try:
            if found and found[-1].last:
                raise Invalid("after the end")
            while data[at : at + 2] == b"\r\n":  # RFC 9112 2.2: empty lines before a request line are no message
                at += 2
            if at == len(data):
                break
            start, at = _line(data, at)
            head, at = _fields(_request(start, tolerate), data, at)
            broken = _framed_request(head)
            broken, at = _body(broken, data, at)
        except (Invalid, Cut) as wrong:
            why = "cut" if isinstance(wrong, Cut) else wrong.args[0]
            if broken is not None and wrong.args[1:]:
                broken = replace(broken, body=wrong.args[1])
            break
        found.append(broken)
        broken, end = None, at
    return Reading(found, broken, end, why)


def read_responses(
    data: bytes, methods: Sequence[bytes], tolerate: Tolerate = Tolerate.NOTHING, *, finished: bool = False
) -> Reading:
    """The responses (interim ones too) to requests of these methods; `finished`: the stream has ended after `data`."""
    found: list[Message] = []
    at = end = 0
    broken = None
    why = ""
    waiting = list(methods)
    while at < len(data):
        broken = None
        try:
            if not waiting or (found and found[-1].last):
                raise Invalid("after the end")
            start, at = _line(data, at)
            head, at = _fields(_response(start, tolerate), data, at)
            broken = _framed_response(head, waiting[0], tolerate)
            broken, at = _body(broken, data, at, finished=finished)
        except (Invalid, Cut) as wrong:
            why = "cut" if isinstance(wrong, Cut) else wrong.args[0]
            if broken is not None and wrong.args[1:]:
                broken = replace(broken, body=wrong.args[1])
            break
        found.append(broken)
        if broken.status >= 200:
            waiting.pop(0)
        broken, end = None, at
    return Reading(found, broken, end, why)


# -- lines -------------------------------------------------------------------------------------------


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    """The line at `at` without its CRLF, and where the next begins."""
    end = at
    while data[end : end + 1] not in (b"", b"\r", b"\n", b"\0"):
        end += 1
    if data[end : end + 2] == b"\r\n":
        return data[at:end], end + 2
    if data[end:] in (b"", b"\r"):
        raise Cut
    raise Invalid(f"CR, LF or NUL at {end}")


def _fields(message: Message, data: bytes, at: int) -> tuple[Message, int]:
    fields, at = _field_lines(data, at)
    return replace(message, fields=fields), at


def _field_lines(data: bytes, at: int) -> tuple[Fields, int]:
    """RFC 9112 5: the field lines at `at` and what is after the empty line that ends them."""
    fields: list[tuple[bytes, bytes]] = []
    while True:
        line, at = _line(data, at)
        if not line:
            return tuple(fields), at
        match = re.fullmatch(field_line, line)
        if match is None:
            raise Invalid(f"field line {line!r}")
        fields.append((match["name"], match["value"]))


def _request(line: bytes, tolerate: Tolerate) -> Message:
    match = re.fullmatch(request_line, line)
    if match is None:
        raise Invalid(f"request line {line!r}")
    method, target = match["method"], match["target"]
    tolerated = Tolerate.TARGET in tolerate and re.fullmatch(any_target, target)
    if not tolerated and re.fullmatch(request_target, target) is None:
        raise Invalid(f"target {target!r}")
    if re.fullmatch(authority_form, target) and method != b"CONNECT":  # RFC 9112 3.2.3
        raise Invalid("an authority is for CONNECT")
    if method == b"CONNECT" and not re.fullmatch(authority_form, target):
        raise Invalid("CONNECT wants an authority")
    if target == b"*" and method != b"OPTIONS":  # RFC 9112 3.2.4
        raise Invalid("* is for OPTIONS")
    return Message(_version(match), (), method=method, target=target)


def _response(line: bytes, tolerate: Tolerate) -> Message:
    if Tolerate.REASON in tolerate and re.fullmatch(http_version + rb" [0-9]{3}", line):
        line += b" "
    match = re.fullmatch(status_line, line)
    if match is None:
        raise Invalid(f"status line {line!r}")
    if match["status"] < b"100":  # RFC 9110 15; what is above 599 is to be read as 5xx
        raise Invalid("status")
    return Message(_version(match), (), status=int(match["status"]), reason=match["reason"])


def _version(match: re.Match[bytes]) -> tuple[int, int]:
    if match["major"] != b"1":
        raise Invalid("major version")
    return 1, int(match["minor"])


# -- framing: RFC 9112 6.3 -----------------------------------------------------------------------------


def _framed_request(head: Message) -> Message:
    hosts = head.all(b"host")
    if len(hosts) > 1 or (not hosts and head.version >= (1, 1)):  # RFC 9112 3.2
        raise Invalid("Host is there once")
    good_host = host + rb"(?::" + port + rb")?"
    if any(re.fullmatch(good_host, value) is None for value in hosts):
        raise Invalid("Host")
    codings, lengths = _codings(head), head.all(b"content-length")
    if codings and codings[-1] != b"chunked":
        raise Invalid("Transfer-Encoding does not end with chunked")
    _length(lengths)
    framing = "chunked" if codings else "length" if lengths else "none"
    options = _options(head)
    last = b"close" in options or (head.version < (1, 1) and b"keep-alive" not in options)  # RFC 9112 9.3
    return replace(head, framing=framing, last=last)


def _framed_response(head: Message, method: bytes, tolerate: Tolerate) -> Message:
    codings, lengths = _codings(head), head.all(b"content-length")
    framing = "close"
    if codings and codings[-1] == b"chunked":
        framing = "chunked"
    elif not codings and lengths:
        _length(lengths)
        framing = "length"
    if head.status < 200 or head.status == 204:  # RFC 9110 8.6, RFC 9112 6.1
        if (codings or lengths) and Tolerate.NO_CONTENT not in tolerate:
            raise Invalid("a length where none may be")
        framing = "none"
    if method == b"HEAD" or head.status == 304 or (method == b"CONNECT" and head.status < 300):
        framing = "none"
    options = _options(head)
    last = head.status >= 200 and (
        framing == "close" or b"close" in options or (head.version < (1, 1) and b"keep-alive" not in options)
    )
    return replace(head, framing=framing, last=last or head.status == 101)


def _codings(head: Message) -> list[bytes]:
    """Transfer-Encoding's codings in lower case."""
    values = head.all(b"transfer-encoding")
    if not values:
        return []
    if head.version < (1, 1):
        raise Invalid("Transfer-Encoding in HTTP/1.0")
    if head.all(b"content-length"):
        raise Invalid("both lengths")
    codings = [coding.strip(b" \t").lower() for coding in b",".join(values).split(b",")]
    codings = [coding for coding in codings if coding]  # RFC 9110 5.6.1.2
    parameter = BWS + rb";" + BWS + token + BWS + rb"=" + BWS + rb"(?:" + token + rb"|" + quoted_string + rb")"
    if not codings or any(re.fullmatch(token + rb"(?:" + parameter + rb")*", coding) is None for coding in codings):
        raise Invalid("Transfer-Encoding")
    if any(coding.startswith(b"chunked") and coding != b"chunked" for coding in codings):  # RFC 9112 7.1
        raise Invalid("chunked has no parameters")
    if b"chunked" in codings[:-1]:  # RFC 9112 6.1
        raise Invalid("chunked is the last, and once")
    return codings


def _length(values: list[bytes]) -> int:
    if not values:
        return 0
    if len(values) > 1 or re.fullmatch(DIGIT + rb"+", values[0]) is None:  # RFC 9110 8.6
        raise Invalid("Content-Length")
    digits = values[0].lstrip(b"0")
    return int(digits or b"0") if len(digits) < 20 else 10**20  # more than ever comes


def _body(head: Message, data: bytes, at: int, *, finished: bool = False) -> tuple[Message, int]:
    """`head` with its body and trailers, and where they end. What is raised holds what of the body is sure."""
    if head.framing == "none":
        return head, at
    if head.framing == "close":
        if not finished:
            raise Cut("", data[at:])
        return replace(head, body=data[at:]), len(data)
    if head.framing == "length":
        length = _length(head.all(b"content-length"))
        if len(data) - at < length:
            raise Cut("", data[at:])
        return replace(head, body=data[at : at + length]), at + length
    body = b""
    try:
        while True:
            line, at = _line(data, at)
            match = re.fullmatch(chunk_line, line)
            if match is None:
                raise Invalid(f"chunk line {line!r}")
            size = int(match["size"], 16)
            if size == 0:
                trailers, at = _field_lines(data, at)
                return replace(head, body=body, trailers=trailers), at
            body += data[at : at + size]
            at += size
            if not b"\r\n".startswith(data[at : at + 2]):
                raise Invalid("no CRLF after a chunk")
            if at + 2 > len(data):
                raise Cut
            at += 2
    except (Invalid, Cut) as wrong:
        raise type(wrong)(*wrong.args[:1] or [""], body) from None


def _options(head: Message) -> set[bytes]:
    """Connection's options in lower case."""
    return {each.strip(b" \t").lower() for value in head.all(b"connection") for each in value.split(b",")} - {b""}


def _all(fields: Fields, name: bytes) -> list[bytes]:
    return [value for each, value in fields if each.lower() == name.lower()]

"""HTTP/1.1 heads: bytes to messages and back, without I/O.

What RFC 9112 calls invalid is refused, never repaired: `BadMessage` carries the status to answer.
A head is read in three steps.

1. One pattern per kind of head, the grammar of RFC 9112 in canonical spelling (`Name: value`, one
   space, no space at the end), validates every byte. It is possessive throughout, so its time is
   linear in the head's size whatever is sent.
2. Legal but uncommon spellings are rewritten to the canonical one and go the same way; what
   remains is refused, and only then is it worked out why.
3. A second pattern finds the few fields that mean something to a proxy. They are taken out of the
   head; the lines between them are passed on as they came.

Nothing here strips, splits or converts bytes that a pattern has not seen first.
"""

from __future__ import annotations

import re
from functools import lru_cache

from lbservice.wire.headers import FORWARDING, METHOD, TCHAR, TOKEN, is_host, is_length, tokens
from lbservice.wire.message import CHUNKED, NO_BODY, RequestHead, ResponseHead, Usual


class BadMessage(Exception):
    """A head or body that must not be passed on. `status` is what a client gets for it; `why` is for people."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        self.why = why
        super().__init__(f"{status}: {why}")


class ForUs(BadMessage):
    """No mistake, but a request that we have to answer ourselves."""


_VALUE = rb"[!-~\x80-\xff][\t -~\x80-\xff]*+(?<![ \t])"
_FIELDS = rb"((?>(?:" + TOKEN + rb":(?>(?: " + _VALUE + rb")?)\r\n)*))\r\n"
_REQUEST = re.compile(rb"(" + METHOD + rb") ([!-\"$-~]++) HTTP/1\.([01])\r\n" + _FIELDS)
_RESPONSE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})( [\t -~\x80-\xff]*+)?\r\n" + _FIELDS)

_SPECIAL = (
    *(b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"proxy-connection", b"proxy"),
    *(b"te", b"trailer", b"upgrade", b"http2-settings", b"expect", *sorted(FORWARDING), b"x-request-id", b"via"),
)
SPECIAL = frozenset(_SPECIAL)
"""Request fields, in small letters, that are taken out of a head and decided on; no other code sees them as fields."""
_SPECIAL_IN_RESPONSE = (
    *(b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"proxy-connection"),
    *(b"te", b"trailer", b"upgrade", b"x-request-id"),
)


def _any_of(names: tuple[bytes, ...]) -> bytes:
    """A pattern for these names in either case; by first letters, which the engine tells apart fast."""
    by_letter: dict[bytes, list[bytes]] = {}
    for name in names:
        by_letter.setdefault(name[:1], []).append(name[1:])
    alternatives = (b"[%b%b](?i:%b)" % (x, x.upper(), b"|".join(rest)) for x, rest in by_letter.items())
    return b"(?:" + b"|".join(alternatives) + b")"


# These split a head's fields into what is kept, and names and values of what is special. Each field
# is a unit of LF, line, CR: the fields with the LF before them and without their last one, so that
# a unit starts with the one byte that the engine finds fast.
_SPECIAL_FIELD = re.compile(rb"\n(" + _any_of(_SPECIAL) + rb"):(?>(?: ([^\r]*+))?)\r")
# The same and, besides, any name with an underscore: CGI and WSGI servers read X_Y as X-Y.
_SPECIAL_OR_UNDERSCORE = re.compile(rb"\n([^_:\r]*+_[^:\r]*+|" + _any_of(_SPECIAL) + rb"):(?>(?: ([^\r]*+))?)\r")
_RESPONSE_FIELD = re.compile(rb"\n(" + _any_of(_SPECIAL_IN_RESPONSE) + rb"):(?>(?: ([^\r]*+))?)\r")


def _lines_but(names: tuple[bytes, ...], token: bytes) -> bytes:
    """A pattern for field lines that have none of these names."""
    first = b"".join(name[:1] + name[:1].upper() for name in names)
    other = rb"(?:(?=[^" + first + rb"])|(?!" + _any_of(names) + rb":))" + token
    return rb"((?>(?:" + other + rb":(?>(?: " + _VALUE + rb")?)\r\n)*))"


# The fast path: most heads hold nothing that asks for a decision, and are read by one pattern: a request
# without a body, a response with a body of known length, and of the special fields only those which nearly
# every head has, in their usual spelling. What does not match goes the general way; where a head can go
# both ways, both give the same.
_KEEP_ALIVE = rb"(?i:connection): (?i:keep-alive)\r\n"
USUAL_LINE = re.compile(rb"(GET|HEAD|POST|PUT|DELETE) (/[!-\"$-~]*+) HTTP/1\.1")
_PASSED_ON = _lines_but(_SPECIAL, TOKEN.replace(b"_", b""))
_USUAL_REQUEST = re.compile(
    rb"\r\n"
    + _PASSED_ON
    + rb"[Hh]ost: ([^\r]++)\r\n"
    + _PASSED_ON
    + rb"(?>(?:"
    + _KEEP_ALIVE
    + _PASSED_ON
    + rb")?)\r\n"
)
_PASSED_BACK = _lines_but(_SPECIAL_IN_RESPONSE, TOKEN)
_USUAL_RESPONSE = re.compile(
    rb"HTTP/1\.1 ((?![23]04)[2-5][0-9]{2})( [\t -~\x80-\xff]*+)\r\n"
    + (
        _PASSED_BACK
        + rb"(?>(?:"
        + _KEEP_ALIVE
        + rb")?)"
        + _PASSED_BACK
        + rb"(?i:content-length): ([0-9]{1,18})\r\n"
        + _PASSED_BACK
    )
    + (rb"(?>(?:" + _KEEP_ALIVE + _PASSED_BACK + rb")?)\r\n")
)
REMEMBERED = 1000
"""Heads that are remembered: peers say the same again and again, and what was read once need not be read twice."""
MEMORABLE = 2048
"""Bytes of a head that may be remembered."""
_USUAL_FIELDS = 64
"""Fields of a usual response, at most."""

_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))
"""Connection options that are no field names."""
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_CHUNKED_LAST = re.compile(rb"(?>(?:(?!(?i:chunked))" + TOKEN + rb"[ \t]*+,[ \t]*+)+)(?i:chunked)")
"""Codings of which only the last is chunked: where the body ends is clear, what it says is not."""
_PROTOCOL = TOKEN + rb"(?>(?:/" + TOKEN + rb")?)"
_PROTOCOLS = re.compile(
    rb"[ \t]*+(?>(?:" + _PROTOCOL + rb"[ \t]*+)?)(?>(?:,[ \t]*+(?>(?:" + _PROTOCOL + rb"[ \t]*+)?))*)"
)
"""The value of Upgrade (RFC 9110 section 7.8)."""
_MAX_FORWARDS = re.compile(rb"(?m)^((?i:max-forwards): )([0-9]{1,9})(?=\r$)")
_DATE = re.compile(rb"(?mi)^date:")
_ODD_METHODS = frozenset((b"CONNECT", b"OPTIONS", b"TRACE"))
BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_REQUEST_BEGINS = re.compile(TCHAR + rb"{64}|" + TCHAR + rb"{1,63}+(?: |\Z)")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*+)(.*+)", re.S)


def cut_head(data: bytes, limit: int, seen: int = 0) -> int:
    """How long the head at the start of `data` is, with its empty line; -1 while it is incomplete.

    `seen` bytes were looked at before. Raises BadMessage as soon as it can no longer become a
    head: over `limit` bytes, or with a line that does not end in CR LF.
    """
    seen = seen - 3 if seen > 3 else 0
    end = data.find(b"\r\n\r\n", seen, limit)
    if end >= 0:
        return end + 4
    # Counting is ten times faster than the pattern, which decides only when the counts differ.
    pairs = data.count(b"\r\n", seen, limit)
    pure = pairs == data.count(b"\n", seen, limit) == data.count(b"\r", seen, limit) - data.endswith(b"\r")
    if not pure and BARE_LINE_END.search(data, seen, limit):
        raise BadMessage(400, "a line ends without CR LF (RFC 9112 section 2.2)")
    if len(data) >= limit:
        raise BadMessage(431 if data.find(b"\r\n", 0, limit) >= 0 else 414, f"a head of more than {limit} bytes")
    return -1


def refuse_no_request(data: bytes) -> None:
    """Raises BadMessage if no request can begin with these bytes, as with TLS on a plain port."""
    if not _REQUEST_BEGINS.match(data):
        raise BadMessage(400, "no HTTP request (RFC 9112 section 3)")


def refuse_no_response(data: bytes) -> None:
    """Raises BadMessage if no response can begin with these bytes, as with another protocol's greeting."""
    if not data.startswith(b"HTTP/1."[: len(data)]):
        raise BadMessage(502, "no HTTP/1 response (RFC 9112 section 4)")


# -- requests ----------------------------------------------------------------------------------


def parse_request(head: bytes, max_line: int, max_fields: int, secure: bool = True) -> RequestHead:
    """One whole request head, from its first byte to its empty line. Raises BadMessage.

    `max_line` is bytes in one line, `max_fields` the number of fields. What is not `secure` did not
    come by TLS, nor from a proxy that may say that it did.
    """
    if len(head) > max_line:
        _refuse_long_lines(head, max_line)
    end = head.find(b"\r\n")
    match = USUAL_LINE.fullmatch(head, 0, end)
    if match is not None and len(head) <= MEMORABLE:
        usual = _usual(head[end:])
        if usual is not None and usual.said.count(b"\n") <= max_fields + 2:
            return usual_request(match, usual)
    match = _REQUEST.fullmatch(head)
    if match is None:
        head = _canonical(head)
        match = _REQUEST.fullmatch(head)
        if match is None:
            raise _why_no_request(head)
    method, target, minor, fields = match.groups()
    if fields.count(b"\n") > max_fields:
        raise BadMessage(431, f"more than {max_fields} fields")
    request = RequestHead(method, target, 0 if minor == b"0" else 1, None, fields)
    request.persistent = minor == b"1"
    _take_request_fields(request, head[match.start(4) - 1 : -3])
    if request.host is None and minor == b"1":
        raise BadMessage(400, "no Host field (RFC 9112 section 3.2)")
    if target[0] != 47 or method in _ODD_METHODS:  # 47 is "/": origin-form, as nearly always
        _check_target(request, secure)
    return request


def usual_request(line: re.Match[bytes], usual: Usual) -> RequestHead:
    """The request of a line that matches `USUAL_LINE` and of what stands behind it."""
    method, target = line.groups()
    request = RequestHead(method, target, 1, usual.host, usual.fields)
    request.usual = usual
    return request


@lru_cache(REMEMBERED)
def _usual(said: bytes) -> Usual | None:
    """The fast path of what stands behind a request's first line; None if it is not usual."""
    match = _USUAL_REQUEST.fullmatch(said)
    if match is None or not is_host(match[2]):
        return None
    return Usual(said, match[2], match[1] + match[3] + (match[4] or b""))


def _take_request_fields(request: RequestHead, units: bytes) -> None:
    """Read the special fields and take them out of `request.fields`. For `units` see `_SPECIAL_FIELD`."""
    pattern = _SPECIAL_OR_UNDERSCORE if b"_" in units else _SPECIAL_FIELD
    parts = pattern.split(units)
    listed: tuple[bytes, ...] = ()
    asked: list[bytes] = []
    coding = None
    for index in range(1, len(parts), 3):
        name = parts[index].lower()
        value = parts[index + 1] or b""
        if name == b"host":
            if request.host is not None:
                raise BadMessage(400, "more than one Host field (RFC 9112 section 3.2)")
            if not is_host(value):
                raise BadMessage(400, "an invalid Host field (RFC 9110 section 7.2)")
            request.host = value
        elif name == b"content-length":
            if request.has_length or not is_length(value):
                raise BadMessage(400, "an invalid Content-Length (RFC 9110 section 8.6)")
            request.has_length = True
            request.length = int(value)
        elif name == b"transfer-encoding":
            coding = value if coding is None else coding + b", " + value
        elif name == b"connection":
            options = tokens(value)
            if options is None:
                raise BadMessage(400, "an invalid Connection field (RFC 9110 section 7.6.1)")
            listed += options
        elif name == b"upgrade":
            asked.append(value)
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise BadMessage(417, "an Expect other than 100-continue (RFC 9110 section 10.1.1)")
            request.expects_continue = request.minor == 1
        elif name in FORWARDING:
            request.forwarded += b"%b:%b\r\n" % (parts[index], value and b" " + value)
        elif name == b"x-request-id":
            request.request_id = value
        elif name == b"via":
            request.via = value if request.via is None else request.via + b", " + value
        elif name.replace(b"_", b"-") in _FRAMING:
            raise BadMessage(400, "a field that some would take for Content-Length or Transfer-Encoding")
        # What remains is dropped: hop-by-hop fields, Proxy (it becomes HTTP_PROXY in CGI), underscores.
    if coding is not None:
        if request.has_length:
            raise BadMessage(400, "both Content-Length and Transfer-Encoding (RFC 9112 section 6.1)")
        if request.minor == 0:
            raise BadMessage(400, "Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1)")
        if coding.lower() != b"chunked":
            status = 501 if _CHUNKED_LAST.fullmatch(coding) else 400
            raise BadMessage(status, "a Transfer-Encoding other than chunked (RFC 9112 sections 6.1, 6.3)")
        request.length = CHUNKED
    request.fields = _lines(parts)
    if listed:
        _obey_connection(request, listed, asked)


def _obey_connection(request: RequestHead, options: tuple[bytes, ...], asked: list[bytes]) -> None:
    """Do what the Connection field says (RFC 9110 section 7.6.1)."""
    if b"close" in options:
        request.persistent = False
    elif b"keep-alive" in options:
        request.persistent = True
    # A body would have to end before the other protocol begins; nobody upgrades with one, so it is left alone.
    if b"upgrade" in options and asked and request.minor == 1 and request.length == NO_BODY:
        # h2c would open a way past every rule of ours (RFC 9113 section 3.1 has dropped it).
        value = b", ".join(asked)
        if not _PROTOCOLS.fullmatch(value):
            raise BadMessage(400, "an invalid Upgrade field (RFC 9110 section 7.8)")
        protocols = [protocol.strip(b" \t") for protocol in value.split(b",")]
        wanted = [protocol for protocol in protocols if protocol and not protocol.lower().startswith(b"h2c")]
        request.upgrade = b", ".join(wanted) or None
    request.fields = _without(request.fields, options)


def _check_target(request: RequestHead, secure: bool) -> None:
    """Any request-target but origin-form (RFC 9112 section 3.2), and the methods with rules of their own."""
    target = request.target
    if request.method == b"CONNECT":
        raise BadMessage(405, "CONNECT is not for a reverse proxy")
    if request.method == b"TRACE" and request.length != NO_BODY:
        raise BadMessage(400, "TRACE with a body (RFC 9110 section 9.3.8)")
    if request.method in _ODD_METHODS:
        _count_forwards(request)
    if target[:1] == b"/" or (target == b"*" and request.method == b"OPTIONS"):
        return
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadMessage(400, "an invalid request target (RFC 9112 section 3.2)")
    authority, rest = match.groups()
    if not is_host(authority) or (request.host is not None and request.host.lower() != authority.lower()):
        raise BadMessage(400, "the target's authority is not the Host field (RFC 9112 section 3.2.2)")
    request.host = authority
    if not secure and target[:6].lower() == b"https:":
        raise BadMessage(400, "an https target on a plain connection (RFC 9110 section 7.4)")
    if not rest and request.method == b"OPTIONS":
        request.target = b"*"
    else:
        request.target = rest if rest[:1] == b"/" else b"/" + rest


def _count_forwards(request: RequestHead) -> None:
    """One step less in Max-Forwards (RFC 9110 section 7.6.2)."""
    match = _MAX_FORWARDS.search(request.fields)
    if match is not None:
        left = int(match[2])
        if not left:
            raise ForUs(405 if request.method == b"TRACE" else 200, "a request that may go no further than us")
        request.fields = _MAX_FORWARDS.sub(rb"\g<1>%d" % (left - 1), request.fields)


def _refuse_long_lines(head: bytes, max_line: int) -> None:
    first = True
    for line in head.split(b"\r\n"):
        if len(line) > max_line:
            raise BadMessage(414 if first else 431, f"a line of more than {max_line} bytes")
        first = False


def _why_no_request(head: bytes) -> BadMessage:
    line, _, _ = head.partition(b"\r\n")
    if re.match(TCHAR + rb"{65,}+ ", line):
        return BadMessage(501, "a method longer than any there is (RFC 9112 section 3)")
    match = re.fullmatch(METHOD + rb" [!-\"$-~]++ HTTP/([0-9]\.[0-9])", line)
    if match is None:
        return BadMessage(400, "an invalid request line (RFC 9112 section 3)")
    if match[1] not in (b"1.0", b"1.1"):
        return BadMessage(505, "an HTTP version other than 1.0 and 1.1")
    return BadMessage(400, "an invalid field line (RFC 9112 section 5)")


# -- responses ---------------------------------------------------------------------------------


def parse_response(head: bytes, max_fields: int, to_head: bool = False) -> ResponseHead:
    """One whole response head; `to_head` says that it answers a HEAD request. Raises BadMessage (502)."""
    if not to_head and len(head) <= MEMORABLE:
        usual = usual_response(head)
        if usual is not None and head.count(b"\n") <= max_fields + 2:
            return usual
    match = _RESPONSE.fullmatch(head)
    if match is None:
        head = _canonical(head)
        match = _RESPONSE.fullmatch(head)
        if match is None:
            raise BadMessage(502, "an invalid response head (RFC 9112 sections 4, 5)")
    minor, code, reason, fields = match.groups()
    if fields.count(b"\n") > max_fields:
        raise BadMessage(502, f"more than {max_fields} fields in a response")
    response = ResponseHead(int(code), reason or b" ", 0 if minor == b"0" else 1, fields)
    response.persistent = minor == b"1"
    coding = _take_response_fields(response, head[match.start(4) - 1 : -3])
    _frame_response(response, coding, to_head)
    return response


@lru_cache(REMEMBERED)
def usual_response(head: bytes) -> ResponseHead | None:
    """The fast path of a response, but to HEAD: the head, which is shared; None if it is not usual, or no head."""
    match = _USUAL_RESPONSE.fullmatch(head)
    if match is None or head.count(b"\n") > _USUAL_FIELDS + 2:
        return None
    code, reason, before, behind, size, after, last = match.groups()
    response = ResponseHead(int(code), reason, 1, before + behind + after + (last or b""))
    response.length = response.content_length = int(size)
    if is_dated(response):
        response.encoded = encode_response(response, b"Content-Length: %d\r\nX-Request-ID: " % response.length, b"")[
            :-2
        ]
    return response


def _take_response_fields(response: ResponseHead, units: bytes) -> bytes | None:
    """Read the special fields and take them out of `response.fields`; the transfer coding, if any."""
    parts = _RESPONSE_FIELD.split(units)
    options: tuple[bytes, ...] = ()
    coding: bytes | None = None
    for index in range(1, len(parts), 3):
        name = parts[index].lower()
        value = parts[index + 1] or b""
        if name == b"content-length":
            if response.content_length is not None or not is_length(value):
                raise BadMessage(502, "an invalid Content-Length in a response (RFC 9112 section 6.3)")
            response.content_length = int(value)
        elif name == b"transfer-encoding":
            if coding is not None or value.lower() != b"chunked":
                raise BadMessage(502, "a Transfer-Encoding other than chunked in a response")
            coding = value
        elif name == b"connection":
            listed = tokens(value)
            if listed is None:
                raise BadMessage(502, "an invalid Connection field in a response")
            options += listed
        elif name == b"upgrade":
            response.upgrade = value
    response.fields = _lines(parts)
    if b"close" in options:
        response.persistent = False
    elif b"keep-alive" in options:
        response.persistent = True
    if len(options) > 1 or (options and options[0] not in _OPTIONS):
        response.fields = _without(response.fields, options)
    return coding


def _frame_response(response: ResponseHead, coding: bytes | None, to_head: bool) -> None:
    """Where the body ends: the rules of RFC 9112 section 6.3 in their order."""
    length = response.content_length
    if coding is not None and (length is not None or response.minor == 0):
        raise BadMessage(502, "a response with contradictory framing (RFC 9112 section 6.1)")
    status = response.status
    if status == 304 or (to_head and status >= 200 and status != 204):
        response.length = NO_BODY
    elif status < 200 or status == 204:
        response.length = NO_BODY
        response.content_length = None
        if length or coding:
            response.persistent = False  # it breaks the rules of 204, so nothing after it is trusted
    elif coding is not None:
        response.length = CHUNKED
    elif length is not None:
        response.length = length
    else:
        response.persistent = False


# -- both --------------------------------------------------------------------------------------


def _lines(parts: list[bytes]) -> bytes:
    """The field lines that a split by special fields has left, as they are sent."""
    kept = b"".join(parts[::3])
    return kept[1:] + b"\n" if kept else b""


def _without(fields: bytes, options: tuple[bytes, ...]) -> bytes:
    """The field lines without those that a Connection field names."""
    names = set(options) - _OPTIONS
    if not names:
        return fields
    lines = fields.split(b"\r\n")
    return b"\r\n".join(line for line in lines if line.partition(b":")[0].lower() not in names)


def _canonical(head: bytes) -> bytes:
    """The same head with each field line as `Name: value`, or `Name:`; the pattern then judges it."""
    first, *lines = head.split(b"\r\n")
    return b"\r\n".join((first, *map(_canonical_line, lines)))


def _canonical_line(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    value = value.strip(b" \t")
    return name + b": " + value if value else name + colon


def encode_request(request: RequestHead, host: bytes, extra: bytes, fields: bytes | None = None) -> bytes:
    """The head as we send it to a server: always HTTP/1.1, the framing ours, `extra` lines last.

    `fields` are sent in place of the request's own.
    """
    if request.length == CHUNKED:
        extra += b"Transfer-Encoding: chunked\r\n"
    elif request.has_length:
        extra += b"Content-Length: %d\r\n" % request.length
    if request.expects_continue:
        extra += b"Expect: 100-continue\r\n"
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (
        request.method,
        request.target,
        host,
        request.fields if fields is None else fields,
        extra,
    )


def is_dated(response: ResponseHead) -> bool:
    """Has it a Date field?"""
    fields = response.fields
    return b"\nDate: " in fields or b"\ndate: " in fields or _DATE.search(fields) is not None


def encode_response(response: ResponseHead, framing: bytes, extra: bytes) -> bytes:
    """The head as we send it to a client: always HTTP/1.1; `framing` and `extra` are field lines."""
    return b"HTTP/1.1 %d%b\r\n%b%b%b\r\n" % (
        response.status,
        response.reason,
        response.fields,
        framing,
        extra,
    )

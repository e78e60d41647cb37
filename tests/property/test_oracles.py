"""Others read HTTP too: what we accept they accept, and they understand the same; what we write they read as meant.

The others are h11 and llhttp (in httptools). What they are known to read in another way is in `gaps_of_h11` and
`gaps_of_llhttp`, one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import h11
import httptools
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from lbservice.wire.body import reader
from lbservice.wire.h1 import BadMessage, cut_head, parse_request, parse_response
from lbservice.wire.message import UNTIL_CLOSE
from tests.property.reference import Message, read_requests, read_responses
from tests.property.seeds import (
    INTERESTING,
    REQUESTS,
    RESPONSES,
    SWITCHING,
    TO_HEAD,
    cut_up,
    made_up,
    mutated,
    pipelines,
)
from tests.property.seeds import UNTIL_CLOSE as OPEN_ENDED
from tests.property.support import (
    TOLERATED,
    Ear,
    Heard,
    Listener,
    alike,
    examples,
    in_pieces,
    intended,
    kept_back,
    property_house,
    understood,
)
from tests.wire.build import MAX_FIELDS, MAX_LINE


@dataclass
class Read:
    """One message as somebody has read it; `size` is in bytes, -1 while its end has not come."""

    start: tuple[bytes, bytes] | int
    fields: list[tuple[bytes, bytes]]
    body: bytes
    size: int
    ends_with_stream: bool = field(default=False, compare=False)


class Refused(Exception):
    """They call it invalid."""


def fields_in(data: bytes) -> list[tuple[bytes, bytes]]:
    """All fields of a head, names in lower case, as the reference has them."""
    lines = data[: data.index(b"\r\n\r\n")].split(b"\r\n")[1:]
    pairs = [line.split(b":", 1) for line in lines]
    return [_normal(name.lower(), value.strip(b" \t")) for name, value in pairs]


def _normal(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """h11 gives codings in lower case."""
    return name, value.lower() if name == b"transfer-encoding" else value


def ours(data: bytes, method: bytes | None = None, *, finished: bool = False) -> Read:
    """What we make of the request, or the response to `method`, at the start of `data`. Raises BadMessage."""
    end = cut_head(data, 1 << 20)
    if end < 0:
        raise BadMessage(400, "half a head")
    start: tuple[bytes, bytes] | int
    if method is None:
        request = parse_request(data[:end], MAX_LINE, MAX_FIELDS)
        target = data.split(b" ", 2)[1]
        start, length = (request.method, target), request.length
        if target[:1] == b"/":  # else it is rewritten, and `understood` is the judge of that
            assert request.target == target
    else:
        response = parse_response(data[:end], MAX_FIELDS, to_head=method == b"HEAD")
        start, length = response.status, response.length
    body = reader(length)
    payload = body.feed(data[end:])
    done = body.done or (length == UNTIL_CLOSE and finished)
    size = len(data) - len(body.rest) if done else -1
    return Read(start, fields_in(data[:end]), payload, size, length == UNTIL_CLOSE)


# -- h11 -----------------------------------------------------------------------------------------------


def h11_reads(data: bytes, method: bytes | None = None, *, finished: bool = False) -> Read:
    """What h11 makes of the same. Raises Refused."""
    connection = h11.Connection(h11.SERVER if method is None else h11.CLIENT)
    if method is not None:
        asked = [("Host", "a"), ("Connection", "upgrade"), ("Upgrade", "x")]  # else it refuses 101
        connection.send(h11.Request(method=method, target="/", headers=asked))
        connection.send(h11.EndOfMessage())
    found, payload, whole = None, b"", False
    try:
        connection.receive_data(data)
        if finished:
            connection.receive_data(b"")
        while not whole:
            event = connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                break
            if isinstance(event, h11.ConnectionClosed):
                break
            if isinstance(event, h11.Request | h11.Response | h11.InformationalResponse):
                found = event
                if isinstance(event, h11.InformationalResponse):
                    break
            elif isinstance(event, h11.Data):
                payload += bytes(event.data)
            else:
                whole = True
    except h11.RemoteProtocolError as error:
        raise Refused(str(error)) from None
    assert found is not None, "half a head"
    start = (found.method, found.target) if isinstance(found, h11.Request) else found.status_code
    rest = connection.trailing_data[0]
    if isinstance(found, h11.InformationalResponse):
        whole = True
    return Read(
        start, [(bytes(n), bytes(v)) for n, v in found.headers], payload, len(data) - len(rest) if whole else -1
    )


# -- llhttp --------------------------------------------------------------------------------------------


class Listening:
    """What llhttp says."""

    def __init__(self) -> None:
        self.url = self.body = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.whole = 0
        self.begun = 0

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        if not self.whole:
            self.url += url

    def on_header(self, name: bytes, value: bytes | None) -> None:
        if not self.whole and not self.headed:
            self.fields.append(_normal(name.lower(), (value or b"").strip(b" \t")))

    headed = False

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, body: bytes) -> None:
        if not self.whole:
            self.body += body

    def on_message_complete(self) -> None:
        self.whole += 1


def llhttp_reads(data: bytes, method: bytes | None = None) -> Read:
    """What llhttp makes of the same. Raises Refused. It tells no sizes: the caller gives one message alone."""
    listening = Listening()
    parser: Any = httptools.HttpRequestParser(listening) if method is None else httptools.HttpResponseParser(listening)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise Refused(repr(error)) from None
    assert listening.headed, "half a head"
    start = (parser.get_method(), listening.url) if method is None else parser.get_status_code()
    return Read(start, listening.fields, listening.body, len(data) if listening.whole else -1)


# -- what we accept ------------------------------------------------------------------------------------

LLHTTP_METHODS = frozenset(
    b"DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND"
    b" UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK"
    b" UNLINK SOURCE QUERY".split()
)


SPACED_EXTENSION = re.compile(rb"\n[0-9A-Fa-f]+[ \t]+;")
"""RFC 9112 section 7.1.1 has BWS there."""

FRAMING_TRAILER = re.compile(
    rb"\n0+[ \t]*(?:;[^\r]*)?\r\n(?:[^\r]+\r\n)*(?i:content-length|transfer-encoding|connection|upgrade):"
)


def gaps_of_h11(data: bytes, read: Read) -> Iterator[str]:
    """Why h11 may refuse, or read otherwise, what is valid."""
    if SPACED_EXTENSION.search(data):
        yield "it takes no space before a chunk extension"
    if FRAMING_TRAILER.search(data):
        yield "it judges the framing fields among trailers (RFC 9110 section 6.5.1 lets them be ignored)"


def gaps_of_llhttp(data: bytes, read: Read, method: bytes | None = None) -> Iterator[str]:
    """Why llhttp may refuse, or read otherwise, what is valid."""
    if isinstance(read.start, tuple) and read.start[0] not in LLHTTP_METHODS:
        yield "it knows a fixed list of methods"
    if method == b"HEAD":
        yield "it cannot be told that a response is to HEAD"
    if re.search(rb"\n[0-9A-Fa-f]+[ \t]*;[^\r]*[ \t]", data) or SPACED_EXTENSION.search(data):
        yield "it takes no space in a chunk extension (RFC 9112 section 7.1.1 has BWS there)"
    if FRAMING_TRAILER.search(data):
        yield "it takes trailers for fields of the head (RFC 9110 section 6.5.1 forbids to merge these)"
    names = {name for name, _ in read.fields}
    if {b"upgrade", b"connection"} <= names and read.body:
        yield "it gives no body once it has seen an upgrade asked for"
    if read.start in (*range(100, 200), 204) and names & {b"content-length", b"transfer-encoding"}:
        yield "it believes a length where there is no body (RFC 9112 section 6.3, rule 1)"
    if read.start == 101:
        yield "it gives up at a 101 which lacks one of Connection and Upgrade"


@examples(400)
@given(mutated(st.one_of(st.sampled_from([*REQUESTS, *INTERESTING]), made_up())))
def test_others_read_the_requests_that_we_take_as_we_do(sent: bytes) -> None:
    while sent.startswith(b"\r\n"):
        sent = sent[2:]
    try:
        read = ours(sent)
    except BadMessage:
        event("refused")
        return
    event("taken")
    if not any(gaps_of_h11(sent, read)):
        alike(h11_reads(sent), read)
    if any(gaps_of_llhttp(sent, read)):
        return
    try:
        alike(llhttp_reads(sent[: read.size] if read.size >= 0 else sent), read)
    except Refused:
        assert read.size < 0
        with pytest.raises(BadMessage):  # it refuses a trailer at the first wrong byte, we when its line is there
            ours(sent + b"\r\n\r\n")


@examples(400)
@given(mutated(st.sampled_from([*RESPONSES, *OPEN_ENDED, *TO_HEAD])), st.sampled_from((b"GET", b"HEAD")), st.booleans())
def test_others_read_the_responses_that_we_take_as_we_do(sent: bytes, method: bytes, finished: bool) -> None:
    try:
        read = ours(sent, method, finished=finished)
    except BadMessage:
        event("refused")
        return
    event("taken")
    whole = read.size >= 0
    if not any(gaps_of_h11(sent, read)):
        alike(h11_reads(sent, method, finished=finished and whole), read)
    if not any(gaps_of_llhttp(sent, read, method)):
        theirs = llhttp_reads(sent[: read.size] if whole else sent, method)
        if read.ends_with_stream and finished:
            theirs.size = read.size  # it cannot be told that the stream has ended
        alike(theirs, read)


# -- what we write -------------------------------------------------------------------------------------


def _message(event: h11.Request | h11.Response | h11.InformationalResponse, body: bytes = b"") -> Message:
    """h11's idea of a message as the reference would say it."""
    fields = tuple((bytes(name), bytes(value)) for name, value in event.headers.raw_items())
    names = {name.lower() for name, _ in fields}
    framing = "chunked" if b"transfer-encoding" in names else "length" if b"content-length" in names else "none"
    version = (int(event.http_version[:1]), int(event.http_version[2:]))
    if isinstance(event, h11.Request):
        return Message(version, fields, method=event.method, target=event.target, body=body, framing=framing)
    return Message(version, fields, status=event.status_code, reason=event.reason, body=body, framing=framing)


def h11_requests(data: bytes) -> list[Message]:
    """Every request that one of our connections to a server has carried."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    connection.receive_data(b"")
    found: list[Message] = []
    body = b""
    while not isinstance(event := connection.next_event(), h11.ConnectionClosed):
        if isinstance(event, h11.Request):
            head, body = event, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            found.append(_message(head, body))
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()
    return found


def h11_responses(data: bytes, methods: list[bytes]) -> list[Message]:
    """Every response that one client has got, to requests of these methods; the stream has ended after them."""
    connection = h11.Connection(h11.CLIENT)
    connection.receive_data(data)
    connection.receive_data(b"")
    found: list[Message] = []
    for method in methods:
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
        body = b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.InformationalResponse):
                found.append(_message(event))
            elif isinstance(event, h11.Response):
                head = event
            else:
                assert isinstance(event, h11.Data), event
                body += bytes(event.data)
        found.append(_message(head, body))
        if connection.states[h11.CLIENT] is h11.MUST_CLOSE:
            break
        connection.start_next_cycle()
    assert connection.trailing_data[0] == b""
    return found


GOOD_ANSWERS = [
    answer
    for answer in [*RESPONSES, *OPEN_ENDED]
    if not read_responses(answer, [b"GET"], finished=True).why and answer != SWITCHING and b"gzip" not in answer
]


@examples(120)
@given(st.data(), pipelines(1, 5), st.lists(st.sampled_from(GOOD_ANSWERS), min_size=1, max_size=4))
def test_h11_reads_what_we_write_as_it_was_meant(data: st.DataObject, sent: bytes, answers: list[bytes]) -> None:
    """Several requests, pipelined or not, over connections that are used again: what goes to servers and clients."""
    meant = read_requests(sent, TOLERATED).messages
    pieces = data.draw(cut_up(sent, 3))

    def answer(ear: Ear, request: Message) -> None:
        said = answers[len(ear.origin.exchanges) % len(answers)]
        if request.method == b"HEAD":
            said = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
        ear.send(said)
        if read_responses(said, [request.method], finished=True).messages[-1].last:
            ear.close()

    with property_house() as house:
        server = Listener(house, answer)
        client = house.client()
        in_pieces(house, client, pieces)
        heard = [each for ear in server.ears for each in h11_requests(ear.heard)]
        alike([understood(each) for each in heard], [intended(each) for each in meant])
        assert all(llhttp_counts(ear.heard) == len(ear.requests) for ear in server.ears)
        got = h11_responses(client.received, [each.method for each in meant])
        said = [
            each
            for exchange in server.exchanges
            for each in answers_in(exchange, server)
            if each.status >= 200 or meant[server.exchanges.index(exchange)].version >= (1, 1)
        ]
        alike([essence(each) for each in got if each.status != 100], [essence(e) for e in said if e.status != 100])


def essence(response: Message) -> tuple[object, ...]:
    """What of a response must come through."""
    return response.status, response.reason, response.body, kept_back(response)


def llhttp_counts(data: bytes) -> int:
    """How many requests llhttp finds on a connection of ours; where it must give up, as many as there are."""
    requests = read_requests(data, TOLERATED).messages
    if any(each.method not in LLHTTP_METHODS or each.all(b"upgrade") for each in requests):
        return len(requests)
    listening = Listening()
    httptools.HttpRequestParser(listening).feed_data(data)
    return listening.whole


def answers_in(heard: Heard, server: Listener) -> list[Message]:
    """What a server has said to what it heard."""
    later = [each.before for each in server.exchanges if each.ear is heard.ear and each.before > heard.before]
    said = heard.ear.said[heard.before : min(later, default=None)]
    return read_responses(said, [heard.request.method], finished=not later).messages

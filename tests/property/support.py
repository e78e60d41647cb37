"""One exchange of bytes through the in-memory house: what a client sends, what servers hear, what the client gets.

Hypothesis runs a test function many times, so nothing here is a fixture: `property_house` makes a house, and
tears it down with all that is asked of a house at its end, for each example.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import settings
from twisted.internet.protocol import Protocol
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from tests.property.reference import Fields, Message, Reading, Tolerate, read_requests, read_responses
from tests.support.actors import Client, Connection, Origin
from tests.support.house import House

FUZZ = int(os.environ.get("FUZZ", "0"))
"""Examples of each property in the long form; 0 is the short one, which is the same each time."""

TOLERATED = Tolerate.TARGET | Tolerate.REASON | Tolerate.NO_CONTENT
"""What lbservice takes beyond the letter. Targets and bracketed hosts go on as they came, and are nobody's framing;
extensions and the lengths of what has no body are dropped; a missing space is written."""

SERVER = ("10.0.0.1", 8000)

_NOT_PASSED_ON = frozenset(
    b"host content-length transfer-encoding connection keep-alive proxy-connection proxy te trailer upgrade"
    b" http2-settings expect forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port"
    b" x-real-ip x-request-id via".split()
)
"""Fields of a request that lbservice makes itself, or drops, by its docs and RFC 9110 section 7.6.1."""
_NOT_PASSED_BACK = frozenset(
    b"content-length transfer-encoding connection keep-alive proxy-connection te trailer upgrade x-request-id".split()
)
"""The same of a response."""


def examples(short: int) -> settings:
    """`short` examples, always the same; in the long form `FUZZ` new ones."""
    return settings(max_examples=FUZZ or short)


@contextmanager
def property_house(*args: Any, **kwargs: Any) -> Iterator[House]:
    """A house for one example. At its end nothing is left of it, and nothing has been logged as an error."""
    errors: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) >= LogLevel.error or event.get("isError"):
            errors.append(event)

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    try:
        house = House(*args, **kwargs)
        yield house
        house.run(200)  # longer than every timeout but a tunnel's
        house.tear_down()
    finally:
        globalLogPublisher.removeObserver(observer)
    for event in errors:
        raise AssertionError(event.get("log_format")) from getattr(event.get("log_failure"), "value", None)


class Ear(Connection):
    """A server's end of a connection, which understands requests as the reference does, and answers whole ones."""

    origin: Listener

    def __init__(self, origin: Listener) -> None:
        super().__init__(origin)
        self.heard = b""
        self.said = b""
        self.left = False
        """Has it closed the connection, not reset it?"""
        self.requests: list[Message] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self.total += len(data)
        for message in read_requests(self.heard, TOLERATED).messages[len(self.requests) :]:
            self.requests.append(message)
            self.origin.exchanges.append(Heard(self, message, len(self.said)))
            self.origin.answer(self, message)

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        self.close()

    def send(self, data: bytes) -> None:
        self.said += data
        super().send(data)

    def close(self) -> None:
        self.left = True
        super().close()

    @property
    def given_up(self) -> bool:
        """Has the balancer ended it?"""
        return self.eof or self.fate is not None


@dataclass
class Heard:
    """A whole request that a server has heard, and how many bytes the server had sent on that connection before."""

    ear: Ear
    request: Message
    before: int


class Listener(Origin):
    """The server of a property: `answer(ear, request)` is called for each whole request."""

    def __init__(self, house: House, answer: Callable[[Ear, Message], object]) -> None:
        super().__init__(house.network, SERVER, raw=True)
        self.answer = answer
        self.exchanges: list[Heard] = []
        """What was heard on all connections, in order."""
        self.ears: list[Ear] = []
        house.origins.append(self)

    def buildProtocol(self, addr: Any) -> Protocol:
        ear = Ear(self)
        self.ears.append(ear)
        return ear

    @property
    def understood(self) -> list[Message]:
        """The requests among them."""
        return [each.request for each in self.exchanges]


def numbered(ear: Ear, request: Message) -> None:
    """Answer with the number of the request."""
    number = b"%d" % len(ear.origin.exchanges)
    body = b"" if request.method == b"HEAD" else number
    ear.send(b"HTTP/1.1 200 OK\r\nX-Number: %b\r\nContent-Length: %d\r\n\r\n%b" % (number, len(number), body))


# -- what is meant ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meaning:
    """What of a request must be the same before and behind us."""

    method: bytes
    target: bytes
    host: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    framing: str
    body: bytes


def _connection_names(message: Message) -> set[bytes]:
    named = {each.strip(b" \t").lower() for value in message.all(b"connection") for each in value.split(b",")}
    return named - {b"close", b"keep-alive", b"upgrade"}


def kept(request: Message) -> Fields:
    """The end-to-end fields of a request: not ours, not named by Connection, without underscores."""
    away = _NOT_PASSED_ON | _connection_names(request)
    return tuple((name, value) for name, value in request.fields if name.lower() not in away and b"_" not in name)


def kept_back(response: Message) -> Fields:
    """The end-to-end fields of a response, but for a Date of ours."""
    away = _NOT_PASSED_BACK | _connection_names(response)
    fields = [each for each in response.fields if each[0].lower() not in away]
    return tuple(each for each in fields if each != (b"Date", b"Thu, 01 Jan 1970 00:00:00 GMT"))


def intended(request: Message) -> Meaning:
    """What a client's request says to a server."""
    target, hosts = request.target, request.all(b"host")
    host = hosts[0] if hosts else b"10.0.0.1:8000"
    if target[:1] not in b"/*":  # absolute-form: RFC 9112 3.2.2
        authority, slash, path = target.partition(b"://")[2].partition(b"/")
        authority, question, query = authority.partition(b"?")
        if question:
            host, target = authority, b"/?" + query + slash + path
        else:
            host, target = authority, b"/" + path
            if not slash and request.method == b"OPTIONS":
                target = b"*"
    return Meaning(request.method, target, host, kept(request), request.framing, request.body)


def understood(request: Message) -> Meaning:
    """What a server has heard, once we are taken out."""
    (host,) = request.all(b"host")
    assert request.version == (1, 1)
    assert request.all(b"x-forwarded-for") == [b"198.51.100.7"]
    assert all(value == b"Upgrade" for value in request.all(b"connection"))
    return Meaning(request.method, request.target, host, kept(request), request.framing, request.body)


# -- the two questions -------------------------------------------------------------------------------


def only_whole_requests_are_heard(sent: bytes, server: Listener) -> list[Message]:
    """What servers heard is what one client sent, in its order; the requests that were heard.

    Nothing of what the client sent is heard in another place, and a request that was not sent whole has no end.
    """
    reading = read_requests(sent, TOLERATED)
    heard = server.understood
    assert len(heard) <= len(reading.messages), f"{heard[-1]} was never sent; {reading.why}"
    for mine, theirs in zip(heard, reading.messages, strict=False):
        assert understood(mine) == intended(theirs)
    halves = 0
    for ear in server.ears:
        rest = read_requests(ear.heard, TOLERATED)
        if rest.why:
            assert rest.why == "cut", f"a server hears nonsense: {rest.why}"
            halves += 1
            whole = reading.messages[len(heard) :]
            begun = whole[0] if whole else reading.broken
            if rest.broken is not None:
                assert begun is not None, f"{rest.broken} was never sent"
                half, meant = understood(rest.broken), intended(begun)
                assert meant.body.startswith(half.body)
                assert replace(half, body=b"") == replace(meant, body=b"")
    assert halves < 2
    return heard


def read_answers(data: bytes, methods: Sequence[bytes], *, finished: bool) -> Reading:
    """The responses that a client has got, where the last may be our page for something that is no request.

    Such a page has a body, though the bytes refused might have begun with HEAD.
    """
    first = read_responses(data, [*methods, b"GET"], finished=finished)
    if first.why:
        return read_responses(data, [*methods, b"HEAD"], finished=finished)
    return first


def finals(reading: Reading) -> list[Message]:
    """Without 1xx."""
    return [message for message in reading.messages if message.status >= 200]


def in_pieces(house: House, client: Client, pieces: Iterable[bytes]) -> None:
    """Send, and let each piece be read before the next."""
    for piece in pieces:
        if piece and client.fate is None and not client.transport.disconnecting:
            client.send(piece)
            house.run()


def is_our_page(response: Message) -> bool:
    """Is it an answer that no server has given?"""
    return response.status >= 400 and response.all(b"cache-control") == [b"no-store"]


def alike(one: object, other: object) -> None:
    """They are equal. (Written here, where pytest does not explain: explaining makes shrinking take minutes.)"""
    if one != other:
        raise AssertionError(f"\n   {one}\nis not\n   {other}")

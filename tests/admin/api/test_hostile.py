"""Bytes that nobody should send: whatever comes, it is answered or cut off, nothing is changed and nothing breaks."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogLevel, capturedLogs

from tests.admin.fakes import FakeControl
from tests.support.api import ApiHouse

PIECES = st.sampled_from(
    [
        *(
            b"GET ",
            b"POST ",
            b"DELETE ",
            b"/v1/servers",
            b"/app",
            b"/s1",
            b"/drain",
            b"?",
            b"backend=app",
            b"%",
            b"%00",
        ),
        *(b" HTTP/1.1", b" HTTP/1.0", b" HTTP/9.9", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b"\xff", b" ", b":"),
        *(
            b"Host: localhost\r\n",
            b"Host: ",
            b"Content-Length: 2\r\n",
            b"Content-Length: -1\r\n",
            b"Content-Length: 9x\r\n",
        ),
        *(
            b"Transfer-Encoding: chunked\r\n",
            b"Expect: 100-continue\r\n",
            b"Connection: close\r\n",
            b"Origin: null\r\n",
        ),
        *(
            b'If-Match: "\r\n',
            b"Last-Event-ID: \xff-1\r\n",
            b"Authorization: Bearer x\r\n",
            b"0\r\n\r\n",
            b"2\r\n{}\r\n",
        ),
        *(b"{}", b"ffffffffffffffffffff\r\n", b"/v1/events", b"/v1/changes/", b"9" * 30, b"*", b"OPTIONS ", b"HEAD "),
    ]
)


BEGINNINGS = st.sampled_from(
    [
        b"",
        b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /v1/servers HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/servers/app/s1/drain HTTP/1.1\r\nHost: localhost\r\n",
    ]
)


@settings(deadline=None, max_examples=300)
@given(
    BEGINNINGS, st.lists(st.lists(PIECES | st.binary(max_size=20), max_size=12).map(b"".join), min_size=1, max_size=4)
)
def test_no_bytes_break_it(beginning: bytes, segments: list[bytes]) -> None:
    control = FakeControl()
    control.fake.everywhere = ()  # type: ignore[attr-defined]
    house = ApiHouse(control)
    with capturedLogs() as logged:
        channel, wire = house.connect()
        for segment in (beginning, *segments):
            if not wire.disconnecting and not wire.aborted:
                channel.dataReceived(segment)
        wire.abortConnection()
        channel.connectionLost()
    house.close()
    assert house.clock.getDelayedCalls() == []
    assert not house.feed.streams
    assert not house.factory.channels
    assert control.journal.number == 0
    assert [event for event in logged if event.get("log_level", LogLevel.info) >= LogLevel.error] == []

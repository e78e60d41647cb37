"""/v1/events: what happens, as it happens (server-sent events, as WHATWG HTML has them).

The last events are kept, so that a client that was away for a moment hears of what it has missed: it says in
Last-Event-ID what it heard last. Who does not read is dropped, and may come back and say so.
"""

from __future__ import annotations

import json
import secrets
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.interfaces import IPushProducer
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from lbservice.admin.api.problem import Problem
from lbservice.services.eventlog import is_told

KEPT = 1000
"""Events that are kept."""
MOST_STREAMS = 16
HEARTBEAT = 15.0
"""Seconds between signs of life, so that both sides notice when the other is gone."""
RETRY = 2000
"""Milliseconds until a client that was cut off should come again."""
MOST_UNREAD = 256 * 1024
"""Bytes that are written to a client who does not read, at most."""


@dataclass(frozen=True, slots=True)
class _Kept:
    number: int
    text: bytes


@implementer(ILogObserver)
class Feed:
    """An observer of the log with readers."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.start_id = secrets.token_hex(4)
        """Of this process: numbers of another one mean nothing here."""
        self.streams: set[Stream] = set()
        self._kept: deque[_Kept] = deque(maxlen=KEPT)
        self._number = 0

    def start(self) -> None:
        """Listen to the log."""
        globalLogPublisher.addObserver(cast(ILogObserver, self))

    def stop(self) -> None:
        """Listen no longer, and let the readers go."""
        with suppress(ValueError):
            globalLogPublisher.removeObserver(cast(ILogObserver, self))
        for stream in list(self.streams):
            stream.end()

    def __call__(self, event: LogEvent) -> None:
        if not is_told(event):
            return
        self._number += 1
        kept = _Kept(self._number, self._message(event))
        self._kept.append(kept)
        for stream in list(self.streams):
            stream.send(kept.text)

    def _message(self, event: LogEvent) -> bytes:
        level = event.get("log_level", LogLevel.info)
        told: dict[str, Any] = {
            key: value
            for key, value in event.items()
            if not key.startswith("log_") and isinstance(value, str | int | float | bool | None)
        }
        told |= {
            "time": event.get("log_time"),
            "level": level.name,
            "event": event.get("event", "message"),
            "text": formatEvent(event) or "",
        }
        # A text with line ends is one line here: JSON escapes them.
        data = json.dumps(told).encode()
        return b"id: %s-%d\ndata: %s\n\n" % (self.start_id.encode(), self._number, data)

    def open(self, request: Any, last_id: str) -> None:
        """Answer this request with what came after that event, and with what will come. Raises Problem 503."""
        if len(self.streams) >= MOST_STREAMS:
            raise Problem(503, f"{MOST_STREAMS} streams are open, which are the most", {"Retry-After": "10"})
        stream = Stream(self, request)
        stream.send(b"retry: %d\n\n" % RETRY)
        for text in self._after(last_id):
            stream.send(text)

    def _after(self, last_id: str) -> list[bytes]:
        start_id, _, text = last_id.partition("-")
        if not last_id:
            return []
        if start_id != self.start_id or not (text.isascii() and text.isdigit() and len(text) < 18):
            # Of a former process, of which nothing is known: all that there is from this one.
            return [kept.text for kept in self._kept]
        missed = (self._kept[0].number if self._kept else 1) - int(text) - 1
        lost = [b'event: lost\ndata: {"events": %d}\n\n' % missed] if missed > 0 else []
        return lost + [kept.text for kept in self._kept if kept.number > int(text)]


@implementer(IPushProducer)
class Stream:
    """One reader."""

    def __init__(self, feed: Feed, request: Any) -> None:
        self._feed = feed
        self._request = request
        self._unread = 0
        self._paused = False
        self._open = True
        feed.streams.add(self)
        request.notifyFinish().addBoth(self._gone)
        request.registerProducer(self, True)
        self._timer = feed.clock.callLater(HEARTBEAT, self._beat)

    def send(self, text: bytes) -> None:
        """Write it, unless too much is unread; then this reader is dropped."""
        if not self._open:
            return
        if self._paused:
            self._unread += len(text)
            if self._unread > MOST_UNREAD:
                self._drop()
                return
        self._request.write(text)

    def end(self) -> None:
        """No more will come."""
        if self._open:
            self._gone(None)
            self._request.unregisterProducer()
            self._request.finish()

    def _drop(self) -> None:
        self._gone(None)
        self._request.channel.abort()

    def _gone(self, _: object) -> None:
        self._open = False
        self._feed.streams.discard(self)
        if self._timer.active():
            self._timer.cancel()

    def _beat(self) -> None:
        self._timer = self._feed.clock.callLater(HEARTBEAT, self._beat)
        if self._paused:
            self._drop()  # not a byte was taken for all that time, or too few
        else:
            self.send(b": alive\n\n")

    def pauseProducing(self) -> None:
        self._paused, self._unread = True, 0

    def resumeProducing(self) -> None:
        self._paused = False

    def stopProducing(self) -> None:
        self._gone(None)

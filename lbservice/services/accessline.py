"""One finished exchange or session as a line in HAProxy's HTTP or TCP log format, field for field.

`client [date] frontend backend/server TR/Tw/Tc/Tr/Ta status bytes - - ---- ac/fc/bc/sc/rc sq/bq {id} "request"`
(HAProxy configuration manual, section 8.2.3; the TCP format is section 8.2.2). The captured
request header in braces is the request's id.
"""

from __future__ import annotations

import re
import time

from lbservice.core.events import Access

MAX_FIELD = 1024
"""Characters of one logged field; a longer one is cut."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\"\\]")
_QUOTE, _BACKSLASH = b'"\\'  # a number is found in bytes in a sixth of the time that bytes take
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


class _Words(dict[int, str]):
    """Numbers in digits: a look-up costs a fifth of formatting one."""

    def __missing__(self, number: int) -> str:
        return str(number)


_WORDS = _Words({number: str(number) for number in range(10_000)})
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def escape(text: str, unsafe: re.Pattern[str] = _UNSAFE) -> str:
    """Cut to a field's size, and with `unsafe` characters as `\\xNN`, so that a line stays one line."""
    if len(text) > MAX_FIELD:
        text = text[:MAX_FIELD]
    if unsafe.search(text):
        return unsafe.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    return text


def escape_sentence(text: str) -> str:
    """The same for an event's sentence, which stands in no quotes and may hold some."""
    return escape(text, _CONTROL)


class Stamp:
    """Formats moments in local time; a second and a millisecond are worked out once."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""
        self.millisecond = -1
        """The last one that `clf` was asked for, in milliseconds since 1970, and what it answered."""
        self.text = ""

    def clf(self, millisecond: int) -> str:
        """`22/Nov/2026:17:05:01.123`, as HAProxy writes it."""
        second, thousandths = divmod(millisecond, 1000)
        if second != self._second:
            now = time.localtime(second)
            self._second = second
            self._text = (
                f"{now.tm_mday:02d}/{MONTHS[now.tm_mon - 1]}/{now.tm_year}"
                f":{now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d}"
            )
        self.millisecond = millisecond
        self.text = f"{self._text}.{thousandths:03d}"
        return self.text

    def iso(self, moment: float) -> str:
        """`2026-11-22T17:05:01.123+0000`."""
        now = time.localtime(moment)
        return time.strftime("%Y-%m-%dT%H:%M:%S", now) + f".{int(moment % 1 * 1000):03d}" + time.strftime("%z", now)


def access_line(access: Access, stamp: Stamp, offset: float) -> str:
    """The line, with its newline. `offset` is what turns monotonic seconds into the time of day."""
    a = access
    began, connected, responded = a.began, a.connected, a.responded
    millisecond = int((began + offset) * 1000)
    date = stamp.text if millisecond == stamp.millisecond else stamp.clf(millisecond)
    # The fast path, half the cost: an exchange on an idle connection, which waited for nobody; nothing to escape.
    request = a.request_line
    usual = connected == began and responded >= 0 and not a.retries
    if usual and _QUOTE not in request and _BACKSLASH not in request and len(request) <= MAX_FIELD:
        waiting = int((responded - began) * 1000 + 0.5)
        total = waiting if a.ended == responded else int((a.ended - began) * 1000 + 0.5)
        return (
            f"{a.client} [{date}] {a.frontend} {a.backend}/{a.server} 0/0/0/{_WORDS[waiting]}/{_WORDS[total]}"
            f" {_WORDS[a.status]} {_WORDS[a.bytes_out]} - - {a.termination}-- {_WORDS[a.process_active]}"
            f"/{_WORDS[a.frontend_active]}/{_WORDS[a.backend_active]}/{_WORDS[a.server_active]}/0 0/0"
            f' {{{a.request_id.decode()}}} "{request.decode()}"\n'
        )
    # Whole milliseconds since it began, so that the phases add up to no more than the whole.
    leased = a.leased
    read = round((a.head_done - began) * 1000) if a.http else 0
    placed = round((leased - began) * 1000)
    joined = round((connected - began) * 1000)
    timers = f"{-1 if leased < 0 else placed - read}/{-1 if connected < 0 else joined - placed}"
    total = round((a.ended - began) * 1000)
    load = (
        f"{a.process_active}/{a.frontend_active}/{a.backend_active}/{a.server_active}"
        f"/{'+' if a.redispatched else ''}{a.retries} {a.server_queue}/{a.backend_queue}"
    )
    start = f"{a.client} [{date}] {a.frontend} {a.backend}/{a.server}"
    if not a.http:
        return f"{start} {timers}/{total} {a.bytes_out} {a.termination} {load}\n"
    head = -1 if a.head_done < 0 else read
    waiting = -1 if a.responded < 0 else round((a.responded - began) * 1000) - joined
    return (
        f"{start} {head}/{timers}/{waiting}/{total} {a.status} {a.bytes_out} - - {a.termination}-- {load}"
        f' {{{a.request_id.decode("latin-1")}}} "{escape(a.request_line.decode("latin-1"))}"\n'
    )

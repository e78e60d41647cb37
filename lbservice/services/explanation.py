"""Why a request went where it went: its access line, what runs now and what the log says beside it, in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from time import localtime, strftime

from lbservice.core.server import Server
from lbservice.errors import ControlError, NotThere
from lbservice.services.answers import WhyRow
from lbservice.services.balancer import Balancer
from lbservice.services.logtail import REACH, Event, LogTail, moment
from lbservice.services.termination import meaning

BEFORE = 10.0
"""Seconds before a request whose events are told."""
MOST_EVENTS = 1000
"""Events that are looked at, of all backends."""
MOST_ROWS = 20
"""Servers, and events, that are told."""

_ID = re.compile(r"[0-9A-Za-z._:/+=-]{1,128}")
_LINE = re.compile(
    r"(?P<client>\S+) \[(?P<date>[^]]{24})\] (?P<frontend>[^\s~]+)(?P<tls>~?) (?P<backend>[^\s/]+)/(?P<server>\S+) "
    r"(?P<head>-?\d+)/(?P<queued>-?\d+)/(?P<connecting>-?\d+)/(?P<waiting>-?\d+)/(?P<total>-?\d+) "
    r"(?P<status>-?\d+) (?P<sent>\d+) - - (?P<state>[-A-Za-z]{2})-- "
    r"\d+/\d+/(?P<beside>\d+)/(?P<on_server>\d+)/(?P<elsewhere>\+?)(?P<retries>\d+) "
    r"(?P<server_queue>\d+)/(?P<backend_queue>\d+) "
    r'\{(?P<id>[^}"]*)\} "(?P<request>[^"]*)"'
)


def explain(balancer: Balancer, request_id: str) -> tuple[WhyRow, ...]:
    """Sentences about the last request of that id in the log. Raises ControlError, NotThere if there is none."""
    if type(request_id) is not str or not _ID.fullmatch(request_id):
        raise ControlError(
            f"{ascii(request_id)[:60]}: give the id of a request, as its X-Request-ID and the log have it"
        )
    balancer.eventlog.flush()  # it may be among the lines that wait for company
    tail = LogTail(balancer.eventlog.path)
    found = tail.find(request_id, _LINE, MOST_EVENTS, BEFORE)
    if found is None:
        raise NotThere(_not_found(tail, request_id))
    line, events = found
    match = _LINE.fullmatch(line)
    assert match is not None
    request = _Request(match, moment(line) or 0.0)
    return (*request.rows(balancer), *request.events(events))


def _not_found(tail: LogTail, request_id: str) -> str:
    where = tail.path if tail.whole or tail.oldest is None else f"the last {REACH // 2**20} MiB of {tail.path}"
    since = "" if tail.oldest is None else f", back to {_when(tail.oldest)}"
    return (
        f"no request {request_id!r} in {where}{since}: it is older, not done yet, or a session in tcp mode,"
        " which has no id"
    )


def _when(at: float) -> str:
    return strftime("%Y-%m-%d %H:%M:%S", localtime(at)) + f".{round(at * 1000) % 1000:03d}"


class _Request:
    """One line of the log; `at` is when its request began, in seconds since 1970."""

    def __init__(self, fields: re.Match[str], at: float) -> None:
        self._fields = fields
        self._at = at
        self._frontend, self._backend, self._server = fields["frontend"], fields["backend"], fields["server"]
        self._reached = self._server != "<NOSRV>"

    def rows(self, balancer: Balancer) -> Iterator[WhyRow]:
        """What the line says, and what runs now."""
        fields = self._fields
        tls = ", over TLS" if fields["tls"] else ""
        yield _row(
            "asked", f'{fields["client"]} at {_when(self._at)}, frontend {self._frontend}{tls}: "{fields["request"]}"'
        )
        yield _row("route", self._route(balancer))
        yield _row("server", self._choice(balancer))
        yield from self._others(balancer)
        yield _row("queue", self._queue())
        yield _row("tries", self._tries())
        yield _row("times", self._times())
        status = "no status" if fields["status"] == "-1" else f"status {fields['status']}"
        yield _row("end", f"{status}, {fields['sent']} bytes sent; {fields['state']}: {meaning(fields['state'])}")

    def events(self, events: Sequence[Event]) -> Iterator[WhyRow]:
        """Those that are about its backend and came until it was written, the last ones."""
        # Not `app` in `app-2`, `app.old` or `some/app`, but in `app/s1:`.
        name = re.compile(rf"(?<![\w.:/-]){re.escape(self._backend)}(?![\w-]|[.:]\w)")
        own = [event for event in events if name.search(event.text)]
        for event in own[-MOST_ROWS:]:
            apart = self._at - event.at
            yield _row("event", f"{abs(apart):.3f} s {'before it' if apart > 0 else 'into it'}: {event.text}")

    def _route(self, balancer: Balancer) -> str:
        name = self._backend
        frontend = balancer.frontends.get(self._frontend)
        if not self._reached and name == self._frontend:
            return f"no backend was chosen: frontend {self._frontend} answered by itself"
        if frontend is None:
            return f"backend {name}; frontend {self._frontend} is not there any more"
        rules = [rule.name for rule in frontend.settings.rules if rule.backend == name]
        ways = [f"route {rule}" for rule in rules[:MOST_ROWS]]
        if frontend.settings.backend == name:
            ways.append("its backend for what meets no rule" if rules else "its backend")
        if not ways:
            return f"backend {name}, to which frontend {self._frontend} sends nothing now: it was changed since"
        return f"backend {name}; the way there from frontend {self._frontend} is now {' or '.join(ways)}"

    def _choice(self, balancer: Balancer) -> str:
        backend = balancer.backends.get(self._backend)
        beside = self._fields["beside"]
        if not self._reached:
            return "none was reached"
        chosen = f"{self._backend}/{self._server}"
        load = f"; besides it the server had {self._fields['on_server']} in flight, the backend {beside}"
        if backend is None:
            return f"{chosen}{load}; the backend is not there any more"
        policy = f", by balance {backend.settings.balance}"
        sticky = " or the sticky cookie" if backend.sticky else ""
        server = backend.servers.get(self._server)
        now = f"; now it is {_state(server)}" if server else "; it is not there any more"
        return f"{chosen}{policy}{sticky} (as it is now){load}{now}"

    def _others(self, balancer: Balancer) -> Iterator[WhyRow]:
        backend = balancer.backends.get(self._backend)
        if backend is None:
            return
        others = [server for server in backend if server.name != self._server]
        for server in others[:MOST_ROWS]:
            yield _row("other", f"{server.path} is now {_state(server)}")
        if len(others) > MOST_ROWS:
            yield _row("other", f"and {len(others) - MOST_ROWS} more servers")
        if not others:
            yield _row("other", f"backend {self._backend} has no {'other ' if self._reached else ''}servers now")

    def _queue(self) -> str:
        fields = self._fields
        queued = int(fields["queued"])
        places = f"behind {fields['backend_queue']} of the backend, {fields['server_queue']} of the server"
        if queued < 0:
            if fields["state"] == "SQ":
                return "it found the queue full"
            if fields["state"][1] == "Q":
                return f"it waited until its end, {int(fields['total']) - max(0, int(fields['head']))} ms, {places}"
            return "it came to no server, and did not wait for one"
        if not queued and fields["server_queue"] == fields["backend_queue"] == "0":
            return "it did not wait"
        return f"it waited {queued} ms, {places}"

    def _tries(self) -> str:
        retries = int(self._fields["retries"])
        if not retries:
            return "one, without a retry" if self._reached else "no retry"
        times = "once" if retries == 1 else f"{retries} times"
        return (
            f"tried again {times}, {'at last on another server' if self._fields['elsewhere'] else 'on the same server'}"
        )

    def _times(self) -> str:
        names = ("head", "queued", "connecting", "waiting")
        head, queued, connecting, waiting = values = [int(self._fields[name]) for name in names]
        total = int(self._fields["total"])
        sending = total - sum(values) if min(values) >= 0 else -1
        phases = (
            ("reading the head", head),
            ("queueing", queued),
            ("connecting", connecting),
            ("waiting for the answer", waiting),
            ("sending", sending),
        )
        told = [f"{name} {value} ms" for name, value in phases if value >= 0]
        missing = next((name for name, value in phases if value < 0), "")
        stop = f"; it never got past {missing}" if missing else ""
        return f"{', '.join(told)}{stop}; {total} ms in all" if told else f"{total} ms in all{stop}"


def _state(server: Server) -> str:
    backup = ", backup" if server.settings.backup else ""
    return f"{server.state}, weight {server.weight}{backup}, {server.in_flight} in flight"


def _row(about: str, says: str) -> WhyRow:
    """With nothing in it that a terminal would obey."""
    return WhyRow(about, "".join(letter if letter.isprintable() else "?" for letter in says))

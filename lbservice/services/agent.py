"""Agent checks: a connection to a server's agent, which answers with one line, as HAProxy's agents do.

The line ends with CR or LF. It holds words in any order, with blanks or commas between: `75%` of the weight,
`maxconn:30`, `ready`, `drain` or `maint`, `up`, `down`, `fail` or `stopped`, and then perhaps `# a reason`. Of two
words about the same the last one counts. A line with any other word is ignored as a whole: half an answer may be
the opposite of the whole one.
"""

from __future__ import annotations

import re

from lbservice.core.agent import Said
from lbservice.core.clock import Clock
from lbservice.core.health import CheckResult
from lbservice.core.server import Server
from lbservice.core.settings import AgentSettings
from lbservice.proxy.dial import Dial, DialError
from lbservice.proxy.transport import Network
from lbservice.services.checks import Unasked, redirected, shown
from lbservice.services.probe import NoAnswer, Probe

MAX_LINE = 1024
"""Bytes of an answer."""
MAX_REASON = 200
"""Characters of a reason that are kept."""
NAME = b"{server}"
"""Stands for the server's name in what an agent is told."""

_END = re.compile(rb"[\r\n]")
_REASON = re.compile(r"(?:^|[ \t,])#(.*)", re.DOTALL)
_SHARE = re.compile(r"([0-9]{1,5})%")
_MAXCONN = re.compile(r"maxconn:([0-9]{1,6})")


def parse(line: bytes) -> Said:
    """What a line says. Raises NoAnswer when it means nothing."""
    text = line.decode("utf-8", "replace")
    reason = ""
    if found := _REASON.search(text):
        text, reason = text[: found.start()], found[1].strip()[:MAX_REASON]
    share, maxconn, hold, word = None, None, None, None
    for each in re.split(r"[ \t,]+", text.strip(" \t,").lower()):
        if match := _SHARE.fullmatch(each):
            share = int(match[1]) / 100
        elif match := _MAXCONN.fullmatch(each):
            maxconn = int(match[1])
        elif each in ("ready", "drain", "maint"):
            hold = each
        elif each in ("up", "down", "fail", "stopped"):
            word = each
        elif each:
            raise NoAnswer("L7RSP", f"unknown word {shown(each.encode('utf-8', 'replace'))}")
    return Said(share, maxconn, hold, word, reason)


class AgentCheck:
    """Asks the agent of a server."""

    def __init__(self, settings: AgentSettings, patience: float, network: Network, clock: Clock) -> None:
        self.settings = settings
        self._patience = patience
        self._network = network
        self._clock = clock

    async def run(self, server: Server) -> tuple[CheckResult | Unasked, Said | None]:
        """Ask once: how that went, and what was said, if it was understood. Never raises."""
        settings, clock = self.settings, self._clock
        target = redirected(server.settings, settings.via, tls=None)
        begun = clock.seconds()
        probe = Probe(MAX_LINE)
        late = None
        said = None
        try:
            await Dial(self._network, clock, target, probe, self._patience).done
            late = clock.callLater(max(0.001, begun + self._patience - clock.seconds()), probe.give_up)
            if settings.send:
                probe.write(settings.send.replace(NAME, server.name.encode()))
            line = await _read_line(probe)
            said = parse(line)
            code, detail = "L7OK", shown(line)
        except DialError as error:
            if error.local:
                return Unasked(error.detail), None
            code, detail = error.code, error.detail
        except NoAnswer as none:
            code, detail = none.code, f"{none.why} {target.address}"
        finally:
            if late is not None and late.active():
                late.cancel()
            probe.close()
        now = clock.seconds()
        return CheckResult(said is not None, code, detail, now, now - begun), said


async def _read_line(probe: Probe) -> bytes:
    """The first line, without its end. Raises NoAnswer."""
    heard = b""
    while not (end := _END.search(heard)):
        data = await probe.read()
        if not data:
            raise NoAnswer("L7RSP", f"no end of the line: {shown(heard)}" if heard else "closed without a word")
        heard += data
    if end.start() > MAX_LINE:
        raise NoAnswer("L7RSP", f"a line of more than {MAX_LINE} bytes")
    return heard[: end.start()]

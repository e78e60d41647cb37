"""Access lines, read back as HAProxy's manual describes them (sections 8.2.2 and 8.2.3)."""

from __future__ import annotations

import re

_COMMON = (
    r"^(?P<client>[0-9a-f.:]+):(?P<client_port>\d+) "
    r"\[(?P<date>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\.\d{3})\] "
    r"(?P<frontend>[\w.:-]+~?) (?P<backend>[\w.:-]+)/(?P<server>[\w.:-]+|<NOSRV>) "
)
_LOAD = (
    r"(?P<actconn>\d+)/(?P<feconn>\d+)/(?P<beconn>\d+)/(?P<srvconn>\d+)/(?P<retries>\+?\d+) "
    r"(?P<srv_queue>\d+)/(?P<backend_queue>\d+)"
)

HTTP_LINE = re.compile(
    _COMMON + r"(?P<TR>-1|\d+)/(?P<Tw>-1|\d+)/(?P<Tc>-1|\d+)/(?P<Tr>-1|\d+)/(?P<Ta>\+?\d+) "
    r"(?P<status>-1|\d{3}) (?P<bytes>\+?\d+) - - (?P<state>[-CSPLRIDKcs][-RQCHDLT])-- "
    + _LOAD
    + r' \{(?P<id>[^}"]*)\} "(?P<request>[^"\x00-\x1f]*)"$'
)
TCP_LINE = re.compile(
    _COMMON
    + r"(?P<Tw>-1|\d+)/(?P<Tc>-1|\d+)/(?P<Tt>\+?\d+) (?P<bytes>\+?\d+) (?P<state>[-CSPLRIDKcs][-RQCHDLT]) "
    + _LOAD
    + "$"
)


def parse(line: str, pattern: re.Pattern[str] = HTTP_LINE) -> dict[str, str]:
    """The fields of one line; it must match as a whole."""
    match = pattern.match(line)
    assert match is not None, f"no access line: {line!r}"
    return match.groupdict()

"""Passive health: what the uses of a server say about it, without asking it.

What counts as an error is a matter of taste, so there are several judges. A judge answers True for an error, False for
a success, and None where the outcome says nothing of the server, because the client or we gave up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lbservice.core.pick import Outcome, Result
from lbservice.core.server import Server

Judge = Callable[[Outcome], bool | None]


def layer4(outcome: Outcome) -> bool | None:
    """HAProxy's `observe layer4`: could it be connected to?"""
    return None if outcome.result is Result.ABORTED else outcome.result is Result.CONNECT_FAILED


def layer7(outcome: Outcome) -> bool | None:
    """HAProxy's `observe layer7`: did it answer, and with a status of 100 to 499, 501 or 505?"""
    return _broken_or(outcome, outcome.status >= 500 and outcome.status not in (501, 505))


def server_errors(outcome: Outcome) -> bool | None:
    """Envoy's consecutive 5xx: no answer, or a 5xx."""
    return _broken_or(outcome, outcome.status >= 500)


def gateway_errors(outcome: Outcome) -> bool | None:
    """Envoy's consecutive gateway failures: no answer, or 502, 503 or 504."""
    return _broken_or(outcome, 502 <= outcome.status <= 504)


def broken(outcome: Outcome) -> bool | None:
    """No connection, no answer in time, or one that broke off; any whole answer is a success."""
    return _broken_or(outcome, False)


def _broken_or(outcome: Outcome, bad_status: bool) -> bool | None:
    if outcome.result is Result.ABORTED:
        return None
    return outcome.result is not Result.OK or bad_status


LAYERS: Mapping[str, Judge] = {"layer4": layer4, "layer7": layer7}
ERRORS: Mapping[str, Judge] = {"5xx": server_errors, "gateway": gateway_errors, "broken": broken}


class ErrorRuns:
    """Counts each server's errors in a row. At `limit` it calls `reached(server, why)`, and begins anew.

    While no server has any, successes say nothing new: `heard` answers whether it wants to hear of them.
    """

    def __init__(self, judge: Judge, limit: int, reached: Callable[[Server, str], None]) -> None:
        self._judge = judge
        self._limit = limit
        self._reached = reached
        self._runs: dict[Server, int] = {}

    def heard(self, server: Server, outcome: Outcome) -> bool:
        """A use of the server has ended."""
        error = self._judge(outcome)
        if error:
            run = self._runs.get(server, 0) + 1
            if run < self._limit:
                self._runs[server] = run
            else:
                self._runs.pop(server, None)
                self._reached(server, f"{run} errors in a row, the last: {_words(outcome)}")
        elif error is False:
            self._runs.pop(server, None)
        return bool(self._runs)

    def forget(self, server: Server) -> None:
        """Begin anew: it is gone, or back."""
        self._runs.pop(server, None)


def _words(outcome: Outcome) -> str:
    return f"status {outcome.status}" if outcome.result is Result.OK else outcome.result.value

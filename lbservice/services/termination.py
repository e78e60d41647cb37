"""What the pair of letters in an access line means, in words; docs/operation.md has the same table."""

from __future__ import annotations

_WHO = {
    "-": "nobody ended it before its time",
    "C": "the client ended it",
    "S": "the server ended it, or there was none",
    "P": "the load balancer refused it",
    "L": "the load balancer answered itself",
    "R": "the load balancer had no room for it",
    "I": "the load balancer made a mistake; the log has a traceback",
    "D": "it was cut off because the server went down",
    "K": "an operator, or a stop, cut it off",
    "c": "the client took too long",
    "s": "the server took too long",
}
_WHEN = {
    "-": "when it was done",
    "R": "while the request was read",
    "Q": "while it waited in the queue",
    "C": "while connecting to a server",
    "H": "while waiting for the head of the response",
    "D": "while data was on its way",
    "L": "while the last bytes were sent to the client",
    "T": "while the request was held up",
}
_PAIRS = {
    "--": "all is well",
    "SC": "no server was available, or none could be connected to",
    "sC": "no server could be connected to in time",
    "sQ": "no server had room within timeout queue",
    "SQ": "no server had room, and the queue was full",
    "SH": "the server closed without a response",
    "sH": "the server did not answer within timeout server",
    "PH": "the server's answer was not valid HTTP",
    "SD": "the server broke its response off; the client's connection was reset",
    "sD": "the server's response stalled; the client's connection was reset",
    "CC": "the client left while a server was being connected to",
    "CQ": "the client left while it waited in the queue",
    "CH": "the client left while it waited for the response",
    "CD": "the client left in the middle of data",
    "CR": "the client left in the middle of the request's head",
    "cR": "the head of the request took too long",
    "cD": "the client took too long to send the request's body, or to read the response",
    "PR": "the request was not valid HTTP, or the frontend's rules refuse it",
    "LR": "the load balancer answered itself: a redirect, or no route holds and there is no backend",
    "RC": "there was no open file for a connection to a server",
    "RR": "cut off at maxconn while its head was read, to make room",
    "DH": "cut off because the server went down, before its response (on-marked-down)",
    "DD": "cut off because the server went down, in the middle of data (on-marked-down)",
    "KH": "cut off by an operator, or at the end of grace, before the response",
    "KD": "cut off by an operator, or at the end of grace, in the middle of data",
}


def meaning(pair: str) -> str:
    """Of HAProxy's first two letters, e.g. "sH"; any letters will do."""
    if known := _PAIRS.get(pair):
        return known
    return f"{_WHO.get(pair[:1], 'it is unknown who ended it')}, {_WHEN.get(pair[1:2], 'it is unknown when')}"

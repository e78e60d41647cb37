"""Listeners that systemd has opened for us (sd_listen_fds(3)): a frontend with the same address takes its own.

So ports below 1024 need no privileges, and connections of a restart wait in the kernel instead of being refused.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

FIRST = 3
"""The number of the first file that is handed over."""

Listeners = dict[tuple[str, int], socket.socket]
"""By host and port, as a Listen has them."""


def listeners(environment: Mapping[str, str] = os.environ) -> Listeners:
    """What was handed over to this process. Raises OSError when a file is no socket, ValueError for another kind."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    found: Listeners = {}
    for number in range(FIRST, FIRST + int(environment.get("LISTEN_FDS", "0"))):
        listener = socket.socket(fileno=number)
        if listener.family not in (socket.AF_INET, socket.AF_INET6) or not listener.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            raise ValueError(f"file {number} is no listening socket of TCP; in the socket unit write ListenStream=PORT")
        listener.setblocking(False)
        listener.set_inheritable(False)
        host, port, *_ = listener.getsockname()
        found["" if host == "0.0.0.0" else host, port] = listener
    return found

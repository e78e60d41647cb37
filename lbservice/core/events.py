"""Things that happened, with their fields. Log, metrics and dashboard are readers of these."""

from __future__ import annotations


class Access:
    """One exchange (http) or session (tcp): everything an access line says, filled in as it goes.

    Moments are monotonic seconds, -1.0 while not reached; `termination` is HAProxy's pair of
    letters (who ended it, and when).
    """

    # Defaults live in the class: an object of the hot path is made by writing down what is known.
    server = "<NOSRV>"
    request_line = b"<BADREQ>"
    request_id = b""
    head_done = -1.0
    leased = -1.0
    """A server was chosen for the first attempt; the queue is behind it."""
    connected = -1.0
    responded = -1.0
    """The whole response head was there."""
    ended = -1.0
    status = -1
    bytes_in = 0
    bytes_out = 0
    termination = "--"
    retries = 0
    redispatched = False
    process_active = 0
    frontend_active = 0
    backend_active = 0
    server_active = 0
    server_queue = 0
    backend_queue = 0

    def __init__(self, http: bool, client: str, frontend: str, backend: str, began: float) -> None:
        self.http = http
        self.client = client
        """`address:port` of the client."""
        self.frontend = frontend
        self.backend = backend
        self.began = began
        """First byte of the request; in tcp mode, when the connection was accepted."""

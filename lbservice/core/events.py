"""Things that happened, with their fields. Log, metrics and dashboard are readers of these."""

from __future__ import annotations


class Access:
    """One exchange (http) or session (tcp): everything an access line says, filled in as it goes.

    Moments are monotonic seconds, -1.0 while not reached; `termination` is HAProxy's pair of
    letters (who ended it, and when).
    """

    __slots__ = (
        "backend",
        "backend_active",
        "backend_queue",
        "began",
        "bytes_in",
        "bytes_out",
        "client",
        "connected",
        "ended",
        "frontend",
        "frontend_active",
        "head_done",
        "http",
        "leased",
        "process_active",
        "redispatched",
        "request_id",
        "request_line",
        "responded",
        "retries",
        "server",
        "server_active",
        "server_queue",
        "status",
        "termination",
    )

    def __init__(
        self,
        http: bool,
        client: str,
        frontend: str,
        backend: str,
        began: float,
        head_done: float = -1.0,
        request_line: bytes = b"<BADREQ>",
        request_id: bytes = b"",
    ) -> None:
        self.http = http
        self.client = client
        """`address:port` of the client."""
        self.frontend = frontend
        self.backend = backend
        self.server = "<NOSRV>"
        self.request_line = request_line
        self.request_id = request_id
        self.began = began
        """First byte of the request; in tcp mode, when the connection was accepted."""
        self.head_done = head_done
        self.leased = -1.0
        """A server was chosen for the first attempt; the queue is behind it."""
        self.connected = -1.0
        self.responded = -1.0
        """The whole response head was there."""
        self.ended = -1.0
        self.status = -1
        self.bytes_in = 0
        self.bytes_out = 0
        self.termination = "--"
        self.retries = 0
        self.redispatched = False
        self.process_active = 0
        self.frontend_active = 0
        self.backend_active = 0
        self.server_active = 0
        self.server_queue = 0
        self.backend_queue = 0

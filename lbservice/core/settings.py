"""What lb.ini says, as frozen values.

`lbservice.config` makes these from text; everything else only reads them. Durations are seconds,
sizes are bytes, weights are 0-256, and 0 means "no limit" for every `max...` value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

Expected = bytes | re.Pattern[bytes]
"""What must be found somewhere in an answer."""
Via = tuple[str | None, int]
"""Another host (None: the server's own) and port."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """TLS towards a server: verified against `ca` (a PEM file; None: the system's) unless `verify` is False."""

    verify: bool = True
    ca: str | None = None
    sni: str | None = None


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """One `server NAME = HOST:PORT ...` line."""

    name: str
    host: str
    port: int
    weight: int = 1
    maxconn: int = 0
    maxqueue: int = 0
    """Requests that may wait on its account: a backend's queue has as many places as its available servers bring."""
    backup: bool = False
    check: bool = True
    tls: ServerTls | None = None
    check_via: Via | None = None
    slowstart: float | None = None
    """Seconds; None: as its backend."""
    state: str = "ready"
    """What an operator wants of it: "ready", "drain" or "maint"."""

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def target(self) -> tuple[object, ...]:
        """What decides who is talked to, and how: where any of it differs, connections and checks are of no use."""
        return self.host, self.port, self.tls, self.check, self.check_via


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a conversation: bytes to `send`, or what to `expect` in all that came since the last of them."""

    send: bytes = b""
    expect: Expected | None = None


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """How the health of a backend's servers is asked for.

    `kind` is "tcp", "http" or "none"; with `tls` the check speaks TLS also where requests do not. `steps` are the
    conversation of a tcp check. `expect` is a tuple of inclusive status ranges, e.g. `((200, 399),)`; `host` is the
    Host field of an http check, None for the address that is asked; `body` must be found in the response's body.
    `via` is where the servers are asked, None for where requests go. `log` tells every result that is news.
    """

    kind: str = "tcp"
    tls: bool = False
    steps: tuple[Step, ...] = ()
    method: str = "GET"
    path: str = "/"
    host: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    expect: tuple[tuple[int, int], ...] = ((200, 399),)
    body: Expected | None = None
    via: Via | None = None
    log: bool = False
    rise: int = 2
    fall: int = 3
    inter: float = 2.0
    fastinter: float | None = None
    downinter: float | None = None
    timeout: float | None = None
    init_up: bool = True

    def interval(self, *, up: bool, transition: bool) -> float:
        """Seconds until the next check, by the server's state (HAProxy's inter, fastinter, downinter)."""
        if transition and self.fastinter is not None:
            return self.fastinter
        if not up and self.downinter is not None:
            return self.downinter
        return self.inter

    @property
    def patience(self) -> float:
        """Seconds that one check may take: `timeout check`, else `inter`."""
        return self.inter if self.timeout is None else self.timeout


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Where the agents of a backend's servers are asked, every `inter` seconds; `send` is what they are told first."""

    via: Via
    inter: float = 2.0
    send: bytes = b""


@dataclass(frozen=True, slots=True)
class Edit:
    """One `request-header NAME = ...` or `response-header NAME = ...` line. `verb` is set, add or remove."""

    name: str
    verb: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class PrioritySettings:
    """Who comes first in a queue: the field of the request that says so, and its values, the first class first.

    `default` is the class (an index of `classes`) of requests that name none of them.
    """

    header: str
    classes: tuple[str, ...]
    default: int

    def rank(self, value: bytes | None) -> int:
        """The class that a field's value names, whatever its case; None: there is no such field."""
        said = b"" if value is None else value.lower()
        return next((rank for rank, name in enumerate(self.classes) if name.lower().encode() == said), self.default)


@dataclass(frozen=True, slots=True)
class ObserveSettings:
    """What requests say of a server, as one more check: `limit` errors in a row are what `on_error` says.

    `layer` is "layer4" or "layer7"; `on_error` "fail-check", "sudden-death", "mark-down" or "fastinter" (HAProxy's).
    """

    layer: str
    limit: int = 10
    on_error: str = "fail-check"


@dataclass(frozen=True, slots=True)
class OutlierSettings:
    """When a server is put out: `limit` errors in a row, where `errors` says what is one: "5xx", "gateway", "broken".

    It stays out for `ejection` seconds times how often it has been out lately, `longest` at most; and no more than
    `share` of the servers at a time.
    """

    errors: str
    limit: int = 5
    ejection: float = 30.0
    longest: float = 300.0
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class StickySettings:
    """`sticky = cookie NAME ...`: the cookie that keeps a client at its server. `samesite` is as it is sent, or ""."""

    name: str
    path: str = "/"
    domain: str = ""
    httponly: bool = False
    secure: bool = False
    samesite: str = ""

    @property
    def attributes(self) -> str:
        """What stands behind the value in Set-Cookie (RFC 6265 section 4.1.2)."""
        return "".join(
            (
                f"; Path={self.path}",
                f"; Domain={self.domain}" if self.domain else "",
                "; HttpOnly" if self.httponly else "",
                "; Secure" if self.secure else "",
                f"; SameSite={self.samesite}" if self.samesite else "",
            )
        )


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """One `[backend NAME]` section. `balance` is as it was written, e.g. "random(3)" or "maglev uri".

    `retry_budget`, `panic` and what ends in `share` are parts of 1; `pages` are error pages: a status and a file;
    see FrontendSettings, too.
    """

    name: str
    servers: tuple[ServerSettings, ...] = ()
    balance: str = "roundrobin"
    hash_balance_factor: int = 0
    sticky: StickySettings | None = None
    sticky_key: str | None = None
    check: CheckSettings = CheckSettings()
    agent: AgentSettings | None = None
    retries: int = 2
    retry_budget: float = 0.2
    """Repetitions in flight at a time, of the requests in flight; infinite for no bound."""
    maxqueue: int = 0
    priority: PrioritySettings | None = None
    slowstart: float = 0.0
    """Seconds in which a server that comes back gets its full share; 0: at once."""
    panic: float = 0.0
    """When fewer of the servers are up than this, all are used; 0: never."""
    observe: ObserveSettings | None = None
    outlier: OutlierSettings | None = None
    cut_when_down: bool = False
    """Are a server's connections cut when it goes down?"""
    timeout_connect: float = 5.0
    timeout_server: float = 60.0
    timeout_queue: float | None = None
    timeout_tunnel: float = 3600.0
    max_body: int | None = None
    request_edits: tuple[Edit, ...] = ()
    response_edits: tuple[Edit, ...] = ()
    pages: tuple[tuple[int, str], ...] = ()

    @property
    def itself(self) -> BackendSettings:
        """The same without its servers."""
        return replace(self, servers=())

    @property
    def queue_patience(self) -> float:
        """Seconds a request may wait for a free server: `timeout queue`, else `timeout connect`."""
        return self.timeout_connect if self.timeout_queue is None else self.timeout_queue


@dataclass(frozen=True, slots=True)
class ListenTls:
    """TLS on a listener: PEM files; `key` defaults to the file of the certificate."""

    cert: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Listen:
    """One address that a frontend listens on; `host` "" is every IPv4 address, "::" every address."""

    host: str
    port: int
    tls: ListenTls | None = None

    @property
    def address(self) -> str:
        """`host:port` as it is written in lb.ini."""
        host = self.host or "0.0.0.0"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """What a request head may be at most: whole head and one line in bytes, and the number of fields."""

    head: int = 32 * 1024
    line: int = 8 * 1024
    fields: int = 100


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a rule asks for. All kinds that are given must hold, and of each kind one (of `fields`: each).

    `hosts` and `snis` are names in small letters, `*.` before one stands for whatever ends in it; `paths` are
    prefixes of whole segments, `patterns` regular expressions for whole paths; `fields` are names in small letters
    with a value, or None where any will do; `sources` are networks; `secure` asks for https or for http.
    """

    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    fields: tuple[tuple[str, str | None], ...] = ()
    sources: tuple[str, ...] = ()
    snis: tuple[str, ...] = ()
    secure: bool | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One `route`, `redirect` or `refuse` line: what happens to the requests that meet its conditions.

    A route has a `backend`, and the prefix that it strips from paths, or ""; a redirect has a `location` and a
    `status`; a refusal has a `status` alone.
    """

    name: str
    when: Conditions = Conditions()
    backend: str = ""
    strip: str = ""
    location: str = ""
    status: int = 0


@dataclass(frozen=True, slots=True)
class RateSettings:
    """`rate-limit`: requests a second and at once, of an address or of the value of a header field."""

    rate: float
    burst: int
    field: str = ""


@dataclass(frozen=True, slots=True)
class FrontendSettings:
    """One `[frontend NAME]` section. `trusted` holds networks ("10.0.0.0/8") of trusted proxies.

    `backend` takes what meets no rule; "" if it is to be refused. `allow`, unless it is empty, and `deny` are networks
    of clients; `methods`, unless it is empty, the methods that are served.
    """

    name: str
    listen: tuple[Listen, ...]
    backend: str = ""
    mode: str = "http"
    maxconn: int = 0
    maxconn_per_address: int = 0
    trusted: tuple[str, ...] = ()
    via: str | None = "lbservice"
    limits: HeadLimits = HeadLimits()
    timeout_client_head: float = 10.0
    timeout_client: float = 30.0
    timeout_keep_alive: float = 30.0
    rules: tuple[Rule, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    rate_limit: RateSettings | None = None
    methods: tuple[str, ...] = ()
    max_body: int = 0
    request_edits: tuple[Edit, ...] = ()
    response_edits: tuple[Edit, ...] = ()
    pages: tuple[tuple[int, str], ...] = ()

    @property
    def backends(self) -> tuple[str, ...]:
        """Where its requests may go: its backend first, then those of its routes, each once."""
        return tuple(dict.fromkeys(filter(None, (self.backend, *(rule.backend for rule in self.rules)))))


@dataclass(frozen=True, slots=True)
class ManholeSettings:
    """The `[manhole]` section. Exactly one of `unix` (a socket path), `ssh` and `telnet` (host, port) is set.

    `time_limit` is how long a typed statement may run, in seconds; 0: as long as it likes.
    """

    unix: str | None = None
    ssh: tuple[str, int] | None = None
    telnet: tuple[str, int] | None = None
    authorized_keys: str | None = None
    passwords: str | None = None
    host_key: str = "lbservice_host_ed25519"
    time_limit: float = 10.0


@dataclass(frozen=True, slots=True)
class AdminListen:
    """One address of the API: a `unix` socket's path, or `host` and `port`.

    `client_ca` is a PEM file of authorities; with it clients need a certificate of theirs.
    """

    unix: str | None = None
    host: str = ""
    port: int = 0
    tls: ListenTls | None = None
    client_ca: str | None = None

    @property
    def address(self) -> str:
        """As it is written in lb.ini."""
        return f"unix:{self.unix}" if self.unix is not None else Listen(self.host, self.port).address

    @property
    def is_local(self) -> bool:
        """Can only this machine reach it?"""
        return self.unix is not None or (self.host != "" and ip_address(self.host).is_loopback)


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The `[admin]` section: where the API is, a file of `tokens`, and `hosts` that it may be asked by."""

    listen: tuple[AdminListen, ...]
    tokens: str | None = None
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole lb.ini. `file` is where it was read, for messages; `grace` bounds a stop, in seconds.

    `maxconn` is the most client connections of all frontends together; the process sets it when it is 0.
    `splice` and `write_through` are fast paths; without them everything works the same, and costs more.
    """

    file: str = "lb.ini"
    log: str = "load_balancer.log"
    maxconn: int = 0
    grace: float = 30.0
    splice: bool = True
    write_through: bool = True
    state_file: str | None = None
    """Where run-time changes and counters are kept for the next start."""
    frontends: tuple[FrontendSettings, ...] = ()
    backends: tuple[BackendSettings, ...] = ()
    manhole: ManholeSettings | None = None
    admin: AdminSettings | None = None
    entries: tuple[tuple[str, str, str], ...] = field(default=(), compare=False, repr=False)
    """What the file says, as it is written there: section ("backend app"), key ("server s1"), value."""

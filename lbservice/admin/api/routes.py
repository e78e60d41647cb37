"""The table of routes: everything that the API can do. A new verb of Control is a new line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lbservice.admin.api.route import LONGEST_NAME, Call, Field, Level, Route
from lbservice.config import parse_address, parse_server
from lbservice.core.change import Change
from lbservice.errors import ControlError, NotThere
from lbservice.services.answers import BackendRow, CheckRow, DiffRow, FrontendRow, ServerRow, SessionRow, Stats, WhyRow

COMMENT = Field("comment", "Why; it goes to the log and the journal.", default="", example="ticket 4711")
WEIGHT = Field("weight", "Its share of the work, 0 to 256; 0 takes nothing new.", "integer", least=0, most=256)
MAXCONN = Field("maxconn", "Requests at a time, 0 for any number.", "integer", least=0, most=10**9)
ADDRESS = Field("address", "HOST:PORT", required=True, example="127.0.0.1:9003")

PATH_VALUES = {
    field.name: field
    for field in (
        *(
            Field(name, about, required=True, longest=LONGEST_NAME, example=example)
            for name, about, example in (
                ("backend", "A backend's name.", "app"),
                ("server", "A server's name, without that of its backend.", "s1"),
                ("frontend", "A frontend's name.", "web"),
                ("client", "ADDRESS:PORT of a client, as in /v1/sessions.", "127.0.0.1:50000"),
                (
                    "request",
                    "A request's id, as its X-Request-ID and the log have it; a slash in it is %2F.",
                    "0cf01291-2",
                ),
            )
        ),
        Field("number", "A change's number.", "integer", required=True, least=0, example=1),
    )
}
"""The values that a path may have in it."""


def _ask(verb: str, *names: str) -> Callable[[Call], Any]:
    """Ask Control, with these values of the request one after the other."""
    return lambda call: getattr(call.control, verb)(*(call[name] for name in names))


def _server(verb: str, *names: str) -> Callable[[Call], Any]:
    """Change the server in the path; the values of the request that have these names come behind it."""
    return lambda call: getattr(call.control, verb)(call.server, *(call[name] for name in names), by=call.by)


def _change(verb: str, *names: str, **keywords: str) -> Callable[[Call], Any]:
    """Change something, with these values of the request; keywords name the values that are passed by keyword."""

    def act(call: Call) -> Any:
        named = {keyword: call[name] for keyword, name in keywords.items()}
        return getattr(call.control, verb)(*(call[name] for name in names), **named, by=call.by)

    return act


def _one_server(call: Call) -> ServerRow:
    for row in call.control.servers(call["backend"]):
        if row.server == call.server:
            return row
    raise NotThere(f"no server {call['server']!r} in backend {call['backend']}")


def _add(call: Call) -> Change:
    backend, name, address = call["backend"], call["name"], call["address"]
    try:
        parse_address(address)
        # The words of lb.ini, so that the same limits hold and the same sentences explain them.
        backup = " backup" if call["backup"] else ""
        settings = parse_server(name, f"{address} weight={call['weight']} maxconn={call['maxconn']}{backup}")
    except ValueError as error:
        raise ControlError(f"{backend}/{name}: {'; '.join(map(str, error.args))}") from error
    return call.control.add(backend, settings, by=call.by)


def _nothing(call: Call) -> None:
    """The desk answers itself."""


_SERVER = "/v1/servers/{backend}/{server}"
_V, _O, _A = Level.VIEWER, Level.OPERATOR, Level.ADMIN

_QUESTIONS = (
    Route(
        "GET",
        "/v1/servers",
        "servers",
        _V,
        "Every server, or those of one backend.",
        _ask("servers", "backend"),
        [ServerRow],
        query=(Field("backend", "Only the servers of this backend.", example="app"),),
    ),
    Route("GET", _SERVER, "servers", _V, "One server.", _one_server, ServerRow),
    Route(
        "GET",
        f"{_SERVER}/health",
        "health",
        _V,
        "The last checks of a server and answers of its agent, the newest first.",
        lambda call: call.control.health(call.server),
        [CheckRow],
    ),
    Route("GET", "/v1/backends", "backends", _V, "Every backend.", _ask("backends"), [BackendRow]),
    Route("GET", "/v1/frontends", "frontends", _V, "Every frontend.", _ask("frontends"), [FrontendRow]),
    Route("GET", "/v1/stats", "stats", _V, "Everything at a glance.", _ask("stats"), Stats),
    Route(
        "GET",
        "/v1/sessions",
        "sessions",
        _V,
        "The connections of clients, the oldest first.",
        _ask("sessions", "where"),
        [SessionRow],
        query=(Field("where", "A frontend, a backend or BACKEND/SERVER.", example="web"),),
    ),
    Route(
        "GET",
        "/v1/changes",
        "changes",
        _V,
        "What was changed since the start, the newest first.",
        _ask("changes", "last"),
        [Change],
        query=(Field("last", "How many.", "integer", default=20, least=0, most=500),),
    ),
    Route("GET", "/v1/diff", "diff", _V, "What runs, against what the file says now.", _ask("diff"), [DiffRow]),
    Route(
        "GET",
        "/v1/requests/{request}",
        "why",
        _V,
        "Where a request went, and why, in sentences.",
        _ask("why", "request"),
        [WhyRow],
    ),
    Route("GET", "/v1/events", "", _V, "What happens, as it happens.", _nothing, None, streams=True),
    Route("GET", "/v1/openapi.json", "", _V, "This description.", _nothing, {}),
    Route("GET", "/healthz", "", Level.ANYBODY, "The process lives.", _nothing, str),
    Route("GET", "/ready", "", Level.ANYBODY, "It takes requests, and has a server for them.", _nothing, str),
)

_CHANGES = (
    Route(
        "POST",
        "/v1/servers/{backend}",
        "add",
        _O,
        "A new server, checked and used from now on.",
        _add,
        Change,
        body=(
            Field("name", "How it is called in its backend.", required=True, example="s3"),
            ADDRESS,
            Field("weight", WEIGHT.about, "integer", default=1, least=0, most=256),
            Field("maxconn", MAXCONN.about, "integer", default=0, least=0, most=10**9),
            Field("backup", "Used only when no other server is available.", "boolean", default=False),
        ),
        status=201,
    ),
    Route(
        "DELETE",
        _SERVER,
        "remove",
        _O,
        "Let a server go when its requests are done.",
        lambda call: call.control.remove(call.server, now=call["now"], by=call.by),
        Change,
        query=(Field("now", "Cut its requests off instead.", "boolean", default=False),),
    ),
    Route("POST", f"{_SERVER}/drain", "drain", _O, "Nothing new for it; the rest goes on.", _server("drain"), Change),
    Route("POST", f"{_SERVER}/ready", "ready", _O, "Use it again.", _server("ready"), Change),
    Route("POST", f"{_SERVER}/maint", "maint", _O, "Nothing new for it, and no checks.", _server("maint"), Change),
    Route(
        "POST",
        f"{_SERVER}/weight",
        "weight",
        _O,
        "Its share of the work.",
        _server("weight", "weight"),
        Change,
        body=(Field("weight", WEIGHT.about, "integer", required=True, least=0, most=256),),
    ),
    Route(
        "POST",
        f"{_SERVER}/maxconn",
        "maxconn",
        _O,
        "The most requests that it has at a time.",
        _server("maxconn", "maxconn"),
        Change,
        body=(Field("maxconn", MAXCONN.about, "integer", required=True, least=0, most=10**9),),
    ),
    Route(
        "POST",
        f"{_SERVER}/address",
        "address",
        _O,
        "Where it is from now on.",
        _server("address", "address"),
        Change,
        body=(ADDRESS,),
    ),
    Route(
        "DELETE",
        "/v1/sessions/{frontend}/{client}",
        "kick",
        _O,
        "Close a client's connection at once.",
        lambda call: call.control.kick(f"{call['frontend']}/{call['client']}", by=call.by),
        Change,
    ),
    Route("POST", "/v1/changes/{number}/undo", "undo", _A, "Take one change back.", _change("undo", "number"), Change),
    Route(
        "POST",
        "/v1/reload",
        "reload",
        _A,
        "Read lb.ini again, and run as it says.",
        _change("reload", discard="discard"),
        Change,
        body=(Field("discard", "Drop what was changed and not saved.", "boolean", default=False),),
    ),
    Route("POST", "/v1/save", "save", _A, "Write what was changed into lb.ini.", _change("save"), Change),
    Route("POST", "/v1/log/reopen", "reopen", _A, "Close and open the log again.", _change("reopen"), Change),
)

ROUTES = (*_QUESTIONS, *_CHANGES)
"""All of them."""

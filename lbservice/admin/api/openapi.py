"""/v1/openapi.json: the table of routes, and the rows of Control, in the words of OpenAPI 3.1."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from lbservice import __version__
from lbservice.admin.api.problem import MEDIA_TYPE
from lbservice.admin.api.route import Field, Level, Route
from lbservice.admin.api.routes import COMMENT, PATH_VALUES, ROUTES
from lbservice.core.change import Change

_JSON = "application/json"
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
}
_PROBLEMS = {
    400: "Malformed",
    401: "Not logged in",
    403: "Not allowed",
    404: "No such thing",
    409: "It exists, or conflicts",
    412: "It was changed since you looked (If-Match)",
    413: "More than 1 MiB",
    415: "Not JSON",
    422: "A value that cannot be",
    503: "Stopping, or too many streams",
}


@cache
def document() -> dict[str, Any]:
    """The whole description."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM, "Change": _change()}
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lbservice",
            "version": __version__,
            "description": "Questions never change anything. Durations are seconds. A change that was so already"
            " answers with `changed` false. What is not `saved` is gone with the process.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"certificate": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "lbservice token NAME LEVEL makes one."},
                "certificate": {"type": "mutualTLS", "description": "Where client-ca is set."},
            },
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", route.path)
    query = (*route.query, COMMENT) if route.method == "DELETE" else route.query
    parameters = [_parameter(PATH_VALUES[name], "path") for name in names]
    parameters += [_parameter(field, "query") for field in query]
    if route.changes:
        parameters.append(_header("If-Match", "An ETag that must still hold; else 412, and nothing is changed."))
    if route.streams:
        parameters.append(_header("Last-Event-ID", "The last event that was heard; what came after it comes first."))
    operation: dict[str, Any] = {
        "operationId": operation_id(route),
        "summary": route.about,
        "description": f"Level: {route.level.name.lower()}.",
        "parameters": parameters,
        "responses": {str(route.status): _answer(route, schemas), **_refusals(route)},
    }
    if route.level is Level.ANYBODY:
        operation["security"] = []
    if route.method == "POST":
        required = any(field.required for field in route.body)
        operation["requestBody"] = {
            "required": required,
            "content": {_JSON: {"schema": _body((*route.body, COMMENT))}},
        }
    return operation


def operation_id(route: Route) -> str:
    """E.g. `post_servers_backend_server_drain`."""
    words = re.findall(r"[a-z]+", route.path.removeprefix("/v1"))
    return "_".join([route.method.lower(), *words])


def _refusals(route: Route) -> dict[str, Any]:
    statuses = {503} if route.level is Level.ANYBODY else {400, 401, 403}
    if "{" in route.path or route.query:
        statuses |= {404, 422}
    if route.verb == "diff":
        statuses |= {422}
    if route.changes:
        statuses |= {409, 412, 413, 415, 422, 503}
    if route.streams:
        statuses |= {503}
    if route.path == "/healthz":
        statuses = set()
    return {
        str(status): {
            "description": _PROBLEMS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted(statuses)
    }


def _answer(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    if route.streams:
        return {
            "description": "Server-sent events, each with id and data; data is JSON with time, event, level and text.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    if route.answer is str:
        return {"description": route.about, "content": {"text/plain": {"schema": {"type": "string"}}}}
    answer: dict[str, Any] = {
        "description": route.about,
        "content": {_JSON: {"schema": _schema_of_answer(route.answer, schemas)}},
    }
    if route.path != "/v1/openapi.json":
        answer["headers"] = {"ETag": {"description": "For If-Match.", "schema": {"type": "string"}}}
    return answer


def _schema_of_answer(answer: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if isinstance(answer, list):
        items = {"type": "array", "items": _schema(answer[0], schemas)}
        return {"type": "object", "required": ["items"], "properties": {"items": items}}
    if answer == {}:
        return {"type": "object"}
    return _schema(answer, schemas)


def _schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """Of the type of a field, or of a row, which goes to `schemas`."""
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _schema(get_args(kind)[0], schemas)}
    if not is_dataclass(kind) or not isinstance(kind, type):
        raise TypeError(f"{kind} has no schema; add it")
    if kind.__name__ not in schemas:
        hints = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        schemas[kind.__name__] = {
            "type": "object",
            "description": " ".join((kind.__doc__ or "").split()),
            "required": names,
            "properties": {name: _schema(hints[name], schemas) for name in names},
        }
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _change() -> dict[str, Any]:
    """Of answer.change()."""
    texts = ("verb", "target", "before", "after", "actor", "face", "comment", "text")
    properties: dict[str, Any] = {name: {"type": "string"} for name in texts}
    properties |= {
        "changed": {"type": "boolean", "description": "False: it was so already."},
        "number": {"type": "integer", "description": "Of the change, since the start; 0: it was so already."},
        "at": {"type": "number", "description": "Seconds since 1970; 0: it was so already."},
        "saved": {"type": "boolean", "description": "False: a restart forgets it."},
        "details": {"type": "array", "items": {"type": "string"}},
    }
    about = " ".join((Change.__doc__ or "").split())
    return {"type": "object", "description": about, "required": sorted(properties), "properties": properties}


_PROBLEM = {
    "type": "object",
    "description": "Problem details (RFC 9457); `detail` is a sentence for people.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}


def _field(field: Field) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": field.kind}
    if field.kind == "string":
        schema["maxLength"] = field.longest
    if field.least is not None:
        schema["minimum"] = field.least
    if field.most is not None:
        schema["maximum"] = field.most
    if field.default is not None:
        schema["default"] = field.default
    if field.example is not None:
        schema["examples"] = [field.example]
    return schema


def _body(fields: tuple[Field, ...]) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field.name: {**_field(field), "description": field.about} for field in fields},
        "additionalProperties": False,
    }
    required = [field.name for field in fields if field.required]
    return {**schema, "required": required} if required else schema


def _parameter(field: Field, where: str) -> dict[str, Any]:
    schema = _field(field)
    if where == "path" and field.kind == "string":
        schema["minLength"] = 1
    required = where == "path" or field.required
    return {"name": field.name, "in": where, "required": required, "description": field.about, "schema": schema}


def _header(name: str, about: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": about, "schema": {"type": "string"}}

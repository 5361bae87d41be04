"""The OpenAPI document: what FastAPI cannot see, because the structs are not Pydantic's.

`operation` is a route's own part, given to FastAPI as `openapi_extra`; `complete` adds the schemas
of all structs and the ways to authenticate.
"""

from inspect import cleandoc
from typing import Any

import msgspec

from balsadb.api.collections import VectorParams
from balsadb.api.envelope import ErrorAnswer
from balsadb.api.quantization import ScalarQuantization
from balsadb.api.results import VectorParamsInfo
from balsadb.api.route import Route
from balsadb.api.routes import ROUTES

_REF = "#/components/schemas/{name}"

TAGS = [
    {"name": "collections", "description": "Collections and their payload indexes"},
    {"name": "points", "description": "Points: vectors with an id and a payload"},
    {"name": "search", "description": "Nearest points"},
    {"name": "aliases", "description": "Other names of collections"},
    {"name": "cluster", "description": "The cluster, and proof that its nodes hold the same bytes"},
    {"name": "service", "description": "Health, metrics, versions"},
]

_ERRORS = {
    400: "The request breaks a rule; `status.field` and `status.rule` say which. Nothing changed",
    401: "No API key, or a wrong one",
    404: "No such collection or point",
    408: "The body did not arrive in time",
    409: "The name is taken, or the collection was replaced meanwhile",
    413: "The body is over its maximum",
    422: "A value is over its named maximum",
    429: "Refused because a queue is full; see `Retry-After`",
    500: "A defect or a failed disk on the node",
    503: "Cannot be served now; `status.outcome` says whether a write may have been applied",
}
_BODY_ERRORS = (400, 408, 413, 422)
_MSGPACK = "application/msgpack"
_JSON = "application/json"


def operation(route: Route) -> dict[str, Any]:
    """The parts of a route's operation object that come from the route table."""
    extra: dict[str, Any] = {
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": _responses(route),
    }
    if route.body is not None:
        schema = _schema(route.body)
        json: dict[str, Any] = {"schema": schema}
        if route.example is not None:
            json["example"] = route.example
        extra["requestBody"] = {
            "required": route.body_required,
            "content": {_JSON: json, _MSGPACK: {"schema": schema}},
        }
    return extra


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """`document` (FastAPI's) with the schemas of all structs and the security schemes."""
    types: list[Any] = [ErrorAnswer]
    for route in ROUTES:
        types.extend(type_ for type_ in (route.body, route.result) if type_ is not None)
    # The parameters of a vector and of codes are named by hand-written schemas only.
    _, schemas = msgspec.json.schema_components(
        [*types, VectorParams, VectorParamsInfo, ScalarQuantization], ref_template=_REF
    )
    document["components"] = {
        "schemas": {name: _described(schemas[name]) for name in sorted(schemas)},
        "responses": _error_responses(),
        "securitySchemes": {
            "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        },
    }
    document["security"] = [{"api-key": []}, {"bearer": []}, {}]
    document["tags"] = TAGS
    return document


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its docstring as every Python gives it: before 3.13 they are indented."""
    text = schema.get("description")
    return schema if text is None else {**schema, "description": cleandoc(text)}


def _schema(type_: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([type_], ref_template=_REF)
    return schema


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[name]}
        for name in route.parameters
    ]


_PATH_SCHEMAS: dict[str, dict[str, Any]] = {
    "collection": {"type": "string", "description": "Name of a collection"},
    "field": {"type": "string", "description": "A payload key"},
    "id": {
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "format": "uuid"}],
        "description": "An unsigned 64-bit integer or a UUID",
    },
    "member": {"type": "integer", "minimum": 1, "description": "A node's number"},
}


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.kind == "node":
        return []
    found = [_query("timeout", {"type": "integer", "minimum": 1}, "Seconds until the answer")]
    if route.kind == "read":
        text = "`local` or `1`: this node's state as it is; absent or any other: linearizable"
        found.append(_query("consistency", {"type": "string"}, text))
    if route.kind == "write":
        found.append(_query("wait", {"type": "boolean"}, "Answer when applied, not when committed"))
        weak = {"enum": ["weak", "medium", "strong"]}
        found.append(_query("ordering", weak, "Accepted; all writes are ordered by the log"))
        for name, text in _SESSION_HEADERS:
            found.append(
                {"name": name, "in": "header", "schema": {"type": "string"}, "description": text}
            )
    return found


_SESSION_HEADERS = (
    ("Balsa-Session", "32 hexadecimal digits; makes a repeated write apply at most once"),
    ("Balsa-Sequence", "The number of the write in its session"),
)


def _query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def _responses(route: Route) -> dict[str, Any]:
    result = _schema(route.result)
    if route.media != _JSON:
        content: dict[str, Any] = {route.media: {"schema": result}}
    else:
        schema = _envelope(result) if route.enveloped else result
        content = {_JSON: {"schema": schema}, _MSGPACK: {"schema": schema}}
    responses: dict[str, Any] = {"200": {"description": "Done", "content": content}}
    if route.operation == "readyz":
        responses["503"] = {"description": "Not ready; the text says why", "content": content}
    if route.kind == "node":
        return responses
    for status in _ERRORS:
        if status in _BODY_ERRORS and route.body is None and status != 400:
            continue
        responses[str(status)] = {"$ref": f"#/components/responses/Error{status}"}
    return responses


def _error_responses() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, text in _ERRORS.items():
        schema = {"$ref": _REF.format(name="ErrorAnswer")}
        content = {_JSON: {"schema": schema}, _MSGPACK: {"schema": schema}}
        if status == 401:
            content = {"text/plain": {"schema": {"type": "string"}}}
        found[f"Error{status}"] = {"description": text, "content": content}
    return found


def _envelope(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "result": result,
            "status": {"type": "string", "const": "ok"},
            "time": {"type": "number", "description": "Seconds"},
        },
        "required": ["result", "status", "time"],
    }

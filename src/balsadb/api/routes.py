"""The routes, one line each: what the server serves, the client calls and the documentation shows.

`operation` is the name of the method of `balsadb.embedded.operations.Operations` that does the
work; it is also the OpenAPI operation id. A route with a `media` type is answered without the
envelope.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

from balsadb.api import collections, points, queries, results
from balsadb.api.node_routes import MEMBER_ROUTES, NODE_ROUTES
from balsadb.api.route import Match, Route
from balsadb.api.unsupported import UNSUPPORTED
from balsadb.errors import NotFound, NotSupported

_C = "/collections/{collection}"
_P = _C + "/points"
_UPDATED = results.UpdateResult
_NEAREST = {
    "query": [0.2, 0.1, 0.9, 0.7],
    "filter": {"must": [{"key": "city", "match": {"value": "London"}}]},
    "limit": 3,
    "with_payload": True,
}
_POINT = {"id": 1, "vector": [0.9, 0.1, 0.1, 0.2], "payload": {"city": "London"}}
_PAYLOAD = {"payload": {"city": "Paris"}, "points": [1]}
_OLDER = {"vector": [0.2, 0.1, 0.9, 0.7], "limit": 3}

_COLLECTION_ROUTES = (
    Route(
        "GET",
        "/collections",
        "list_collections",
        "read",
        "collections",
        "List collections",
        result=results.CollectionsResult,
    ),
    Route(
        "GET",
        _C,
        "get_collection",
        "read",
        "collections",
        "State and configuration",
        result=results.CollectionInfo,
    ),
    Route(
        "PUT",
        _C,
        "create_collection",
        "write",
        "collections",
        "Create a collection",
        body=collections.CreateCollection,
        result=bool,
        example={"vectors": {"size": 4, "distance": "Cosine"}},
    ),
    Route(
        "PATCH",
        _C,
        "update_collection",
        "write",
        "collections",
        "Change parameters",
        body=collections.UpdateCollection,
        result=bool,
        example={"hnsw_config": {"ef_construct": 200}},
    ),
    Route(
        "DELETE",
        _C,
        "delete_collection",
        "write",
        "collections",
        "Delete a collection",
        result=bool,
    ),
    Route(
        "GET",
        _C + "/exists",
        "collection_exists",
        "read",
        "collections",
        "Whether a collection exists",
        result=results.CollectionExistence,
    ),
    Route(
        "PUT",
        _C + "/index",
        "create_index",
        "write",
        "collections",
        "Index a payload key",
        body=collections.CreateFieldIndex,
        result=_UPDATED,
        example={"field_name": "city", "field_schema": "keyword"},
    ),
    Route(
        "DELETE",
        _C + "/index/{field}",
        "delete_index",
        "write",
        "collections",
        "Drop the index of a payload key",
        result=_UPDATED,
    ),
    Route(
        "GET",
        "/aliases",
        "list_aliases",
        "read",
        "aliases",
        "List aliases",
        result=results.Aliases,
    ),
    Route(
        "GET",
        _C + "/aliases",
        "collection_aliases",
        "read",
        "aliases",
        "List the aliases of a collection",
        result=results.Aliases,
    ),
)

_POINT_ROUTES = (
    Route(
        "PUT",
        _P,
        "upsert_points",
        "write",
        "points",
        "Store points",
        body=points.UpsertPoints,
        result=_UPDATED,
        example={"points": [_POINT]},
        sliced=True,
    ),
    Route(
        "POST",
        _P,
        "retrieve_points",
        "read",
        "points",
        "Fetch points by id",
        body=points.RetrievePoints,
        result=list[results.Record],
        example={"ids": [1, 2]},
    ),
    Route(
        "GET",
        _P + "/{id}",
        "get_point",
        "read",
        "points",
        "Fetch one point",
        result=results.Record,
    ),
    Route(
        "POST",
        _P + "/delete",
        "delete_points",
        "write",
        "points",
        "Delete points",
        body=points.DeletePoints,
        result=_UPDATED,
        example={"points": [1, 2]},
    ),
    Route(
        "POST",
        _P + "/scroll",
        "scroll_points",
        "read",
        "points",
        "A page of points",
        body=points.ScrollPoints,
        result=results.ScrollResult,
        example={"limit": 10},
        body_required=False,
    ),
    Route(
        "POST",
        _P + "/count",
        "count_points",
        "read",
        "points",
        "Count points",
        body=points.CountPoints,
        result=results.CountResult,
        example={"exact": True},
        body_required=False,
    ),
    Route(
        "POST",
        _P + "/payload",
        "set_payload",
        "write",
        "points",
        "Merge payload keys",
        body=points.SetPayload,
        result=_UPDATED,
        example=_PAYLOAD,
    ),
    Route(
        "PUT",
        _P + "/payload",
        "overwrite_payload",
        "write",
        "points",
        "Replace payloads",
        body=points.SetPayload,
        result=_UPDATED,
        example=_PAYLOAD,
    ),
    Route(
        "POST",
        _P + "/payload/delete",
        "delete_payload",
        "write",
        "points",
        "Remove payload keys",
        body=points.DeletePayload,
        result=_UPDATED,
        example={"keys": ["city"], "points": [1]},
    ),
    Route(
        "POST",
        _P + "/payload/clear",
        "clear_payload",
        "write",
        "points",
        "Empty payloads",
        body=points.ClearPayload,
        result=_UPDATED,
        example={"points": [1]},
    ),
)

_SEARCH_ROUTES = (
    Route(
        "POST",
        _P + "/query",
        "query_points",
        "read",
        "search",
        "Find the nearest points",
        body=queries.QueryRequest,
        result=results.QueryResult,
        example=_NEAREST,
        body_required=False,
    ),
    Route(
        "POST",
        _P + "/query/batch",
        "query_batch",
        "read",
        "search",
        "Several searches",
        body=queries.QueryBatch,
        result=list[results.QueryResult],
        example={"searches": [_NEAREST]},
    ),
    Route(
        "POST",
        _P + "/search",
        "search_points",
        "read",
        "search",
        "Find the nearest points (older clients)",
        body=queries.SearchRequest,
        result=list[results.ScoredPoint],
        example=_OLDER,
    ),
    Route(
        "POST",
        _P + "/search/batch",
        "search_batch",
        "read",
        "search",
        "Several searches (older clients)",
        body=queries.SearchBatch,
        result=list[list[results.ScoredPoint]],
        example={"searches": [_OLDER]},
    ),
)

ROUTES: tuple[Route, ...] = (
    *NODE_ROUTES,
    *MEMBER_ROUTES,
    *_COLLECTION_ROUTES,
    *_POINT_ROUTES,
    *_SEARCH_ROUTES,
)

BY_OPERATION: dict[str, Route] = {route.operation: route for route in ROUTES}

OPEN_PATHS = frozenset({"/", "/healthz", "/livez", "/readyz"})
"""Paths that need no API key."""


class MethodNotAllowed(NotFound):
    """The path exists, the method does not; `allowed` lists those that do."""

    code = "method_not_allowed"

    def __init__(self, method: str, allowed: list[str]) -> None:
        super().__init__(f"method {method} is not allowed here, only {', '.join(allowed)}")
        self.allowed = allowed


def _tree(leaves: Iterable[tuple[str, str, Any]]) -> dict[str, Any]:
    """Segments to nodes; a node holds its children, and under "" its leaves by method."""
    root: dict[str, Any] = {}
    for method, path, leaf in leaves:
        node = root
        for segment in path.strip("/").split("/"):
            node = node.setdefault("*" if segment.startswith("{") else segment or "/", {})
        node.setdefault("", {})[method] = leaf
    return root


_ROOT = _tree((route.method, route.path, route) for route in ROUTES)
_UNSUPPORTED_ROOT = _tree((method, path, path) for method, path in UNSUPPORTED)


def _find(root: dict[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    """The leaves of `path` by method, none if it leads nowhere, and the values in it."""
    node = root
    values: list[str] = []
    for segment in path.removeprefix("/").split("/"):
        child = node.get(segment or "/")
        if child is None:
            child = node.get("*") if segment else None
            values.append(unquote(segment))
        if child is None:
            return {}, []
        node = child
    return node.get("", {}), values


def match(method: str, path: str) -> Match:
    """The route of a request; `path` is still percent-encoded, without the query.

    Raises `NotFound`, `NotSupported` or `MethodNotAllowed`.
    """
    routes, values = _find(_ROOT, path)
    route: Route | None = routes.get(method)
    if route is not None:
        return Match(route, dict(zip(route.parameters, values, strict=True)))
    unsupported = _find(_UNSUPPORTED_ROOT, path)[0].get(method)
    if unsupported is not None:
        raise NotSupported(
            f"{method} {unsupported} is an endpoint of the dialect that is not supported yet "
            "(docs/dialect.md lists those that are)"
        )
    if not routes:
        raise NotFound(f"no such path: {path}")
    raise MethodNotAllowed(method, sorted(routes))


def build_path(route: Route, *values: str) -> str:
    """The path of `route` with `values` percent-encoded in the places of its parameters."""
    path = route.path
    for name, value in zip(route.parameters, values, strict=True):
        path = path.replace("{" + name + "}", quote(value, safe=""))
    return path

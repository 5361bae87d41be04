"""One function an operation: from arguments to a `Call`, with no I/O.

These are the methods of both clients (`surface` binds them), so their docstrings speak to users.
Everywhere: an id is an unsigned 64-bit integer, a UUID or its text; a vector is a sequence of
numbers or a one-dimensional buffer (a NumPy array); `filter` is a mapping with `must`, `should`,
`must_not` or `min_should`. Errors are those of `balsadb.errors`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack, cast
from uuid import UUID

from balsadb.api import results
from balsadb.api.codec import Format
from balsadb.api.routes import ROUTES, build_path
from balsadb.client.vectors import Vector, pack, pack_rows
from balsadb.errors import InvalidInput, PointNotFound

T = TypeVar("T")
PointId = int | str | UUID
Filter = Mapping[str, Any]
Payload = Mapping[str, Any]
Json = dict[str, Any]


ROUTE_OF = {route.operation: route for route in ROUTES}


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One operation. `result` is the type of the answer's `result`, `pick` what the caller gets
    of it. `is_write`: it goes with a session, which makes it safe to repeat; `changes`: its outcome
    may be unknown (writes, and changes of the members, which may be repeated as they are)."""

    method: str
    path: str
    result: Any
    pick: Callable[[Any], T]
    body: Any = None
    format: Format = Format.JSON
    is_write: bool = False
    changes: bool = False


class QueryOptions(TypedDict, total=False):
    """Options of a query; all may be left out.

    `limit` (10) and `offset` (0) of the answer; `filter`; `using`, the vector's name;
    `score_threshold`, the worst score to show; `with_payload` (True) and `with_vector` (False):
    a boolean or names; `ef`, candidates of the walk (more find more); `exact`, look at every point;
    `quantization`, a mapping that may hold `ignore` (True: walk in float32) and `oversampling` (at
    least so many times `limit` candidates are scored exactly).
    """

    limit: int
    offset: int
    filter: Filter
    using: str
    score_threshold: float
    with_payload: bool | Sequence[str] | Mapping[str, Sequence[str]]
    with_vector: bool | Sequence[str]
    ef: int
    exact: bool
    quantization: Mapping[str, Any]


class ShownOptions(TypedDict, total=False):
    """What to show of each point: `with_payload` (True), `with_vector` (False)."""

    with_payload: bool | Sequence[str] | Mapping[str, Sequence[str]]
    with_vector: bool | Sequence[str]


class Search(QueryOptions):
    """One search of a batch: the options of a query, and `query` itself."""

    query: Vector | PointId


def _same(value: T) -> T:
    return value


def _call(
    operation: str,
    values: Sequence[str],
    pick: Callable[[Any], T],
    body: Any = None,
    format: Format = Format.JSON,
) -> Call[T]:
    """A call of the route with that operation; `values` fill the parameters of its path."""
    route = ROUTE_OF[operation]
    for name, value in zip(route.parameters, values, strict=True):
        if not value:
            raise InvalidInput(name, "must be a name")
    return Call(
        method=route.method,
        path=build_path(route, *values),
        result=route.result,
        pick=pick,
        body=body,
        format=format,
        is_write=route.kind == "write",
        changes=route.changes,
    )


def _selection(points: Sequence[PointId] | None, filter: Filter | None) -> Json:
    if (points is None) == (filter is None):
        raise InvalidInput("points", "exactly one of points and filter is required")
    return {"points": list(points)} if points is not None else {"filter": filter}


# --------------------------------------------------------------------------- collections


def create_collection(
    name: str,
    vectors: Mapping[str, Any],
    *,
    hnsw_config: Mapping[str, int] | None = None,
    quantization_config: Mapping[str, Any] | Literal["Disabled"] | None = None,
) -> Call[bool]:
    """Create a collection.

    `vectors` is `{"size": 128, "distance": "Cosine"}` (or Euclid, Dot, Manhattan) for one unnamed
    vector, or a map from names to such. `hnsw_config` may hold `m` and `ef_construct`.
    `quantization_config`, also of a single vector, is `{"scalar": {"type": "int8"}}` (so it is
    anyway: walks go by 8-bit codes, scores are exact) or `"Disabled"`; it is for life. Raises
    `AlreadyExists`.
    """
    body: Json = {"vectors": dict(vectors)}
    if hnsw_config is not None:
        body["hnsw_config"] = dict(hnsw_config)
    if quantization_config is not None:
        off = isinstance(quantization_config, str)
        body["quantization_config"] = quantization_config if off else dict(quantization_config)
    return _call("create_collection", [name], _same, body)


def collections() -> Call[list[str]]:
    """The names of all collections."""

    def names(found: results.CollectionsResult) -> list[str]:
        return [collection.name for collection in found.collections]

    return _call("list_collections", [], names)


def get_collection(name: str) -> Call[results.CollectionInfo]:
    """State and configuration of a collection. Raises `NotFound`."""
    return _call("get_collection", [name], _same)


def collection_exists(name: str) -> Call[bool]:
    """Whether there is a collection of that name."""

    def exists(found: results.CollectionExistence) -> bool:
        return found.exists

    return _call("collection_exists", [name], exists)


def update_collection(name: str, changes: Mapping[str, Any]) -> Call[bool]:
    """Change a collection's parameters; what `changes` leaves out stays."""
    return _call("update_collection", [name], _same, dict(changes))


def delete_collection(name: str) -> Call[bool]:
    """Delete a collection; False if there was none."""
    return _call("delete_collection", [name], _same)


def create_payload_index(collection: str, field: str, kind: str) -> Call[results.UpdateResult]:
    """Keep payload key `field` (`a.b` for nested ones) in a typed column that filters read: `kind`
    is keyword, integer, float or bool."""
    body = {"field_name": field, "field_schema": kind}
    return _call("create_index", [collection], _same, body)


def delete_payload_index(collection: str, field: str) -> Call[results.UpdateResult]:
    """Drop the typed column of a payload key; filters on it go on, slower."""
    return _call("delete_index", [collection, field], _same)


# --------------------------------------------------------------------------- points: writes


def upsert(collection: str, points: Iterable[Mapping[str, Any]]) -> Call[results.UpdateResult]:
    """Store points, replacing those with the same id.

    Each is `{"id": ..., "vector": ..., "payload": {...}}`; `vector` may be a map of names to
    vectors; the payload may be left out. See `upload` for many.
    """
    body = [_point(point, f"points[{place}]") for place, point in enumerate(points)]
    return _call("upsert_points", [collection], _same, {"points": body}, Format.MSGPACK)


def _point(point: Mapping[str, Any], field: str) -> Json:
    unknown = set(point) - {"id", "vector", "payload"}
    if unknown or "id" not in point:
        raise InvalidInput(field, "must have an id, and may have vector and payload, nothing else")
    packed: Json = {"id": point["id"], "payload": point.get("payload")}
    vector = point.get("vector")
    if isinstance(vector, Mapping):
        named = cast("Mapping[str, Vector]", vector)
        packed["vector"] = {
            name: pack(value, f"{field}.vector.{name}") for name, value in named.items()
        }
    elif vector is not None:
        packed["vector"] = pack(vector, f"{field}.vector")
    return packed


def upsert_batch(
    collection: str,
    ids: Sequence[PointId],
    vectors: Any,
    payloads: Sequence[Payload | None] | None = None,
) -> Call[results.UpdateResult]:
    """Store points given as parallel sequences: the fastest form.

    `vectors` is a two-dimensional buffer (n, size), a sequence of n vectors, or a map from vector
    names to either.
    """
    if payloads is not None and len(payloads) != len(ids):
        raise InvalidInput("payloads", f"must be {len(ids)} like the ids, not {len(payloads)}")
    batch: Json = {"ids": list(ids)}
    if isinstance(vectors, Mapping):
        named = cast("Mapping[str, Any]", vectors)
        batch["vectors"] = {
            name: _rows(value, len(ids), f"vectors.{name}") for name, value in named.items()
        }
    else:
        batch["vectors"] = _rows(vectors, len(ids), "vectors")
    if payloads is not None:
        batch["payloads"] = list(payloads)
    return _call("upsert_points", [collection], _same, {"batch": batch}, Format.MSGPACK)


def _rows(vectors: Any, count: int, field: str) -> bytes:
    if len(vectors) != count:
        raise InvalidInput(field, f"must be {count} like the ids, not {len(vectors)}")
    return pack_rows(vectors, field).data


def delete(
    collection: str, points: Sequence[PointId] | None = None, *, filter: Filter | None = None
) -> Call[results.UpdateResult]:
    """Delete points by id or by filter. Unknown ids are no error."""
    return _call("delete_points", [collection], _same, _selection(points, filter))


def set_payload(
    collection: str,
    payload: Payload,
    points: Sequence[PointId] | None = None,
    *,
    filter: Filter | None = None,
    key: str | None = None,
) -> Call[results.UpdateResult]:
    """Merge `payload` into that of points chosen by id or filter; under path `key` if given."""
    body: Json = {"payload": dict(payload), **_selection(points, filter)}
    if key is not None:
        body["key"] = key
    return _call("set_payload", [collection], _same, body, Format.MSGPACK)


def overwrite_payload(
    collection: str,
    payload: Payload,
    points: Sequence[PointId] | None = None,
    *,
    filter: Filter | None = None,
) -> Call[results.UpdateResult]:
    """Replace the payload of points chosen by id or filter."""
    body: Json = {"payload": dict(payload), **_selection(points, filter)}
    return _call("overwrite_payload", [collection], _same, body, Format.MSGPACK)


def delete_payload(
    collection: str,
    keys: Sequence[str],
    points: Sequence[PointId] | None = None,
    *,
    filter: Filter | None = None,
) -> Call[results.UpdateResult]:
    """Remove payload keys from points chosen by id or filter."""
    body: Json = {"keys": list(keys), **_selection(points, filter)}
    return _call("delete_payload", [collection], _same, body)


def clear_payload(
    collection: str, points: Sequence[PointId] | None = None, *, filter: Filter | None = None
) -> Call[results.UpdateResult]:
    """Empty the payload of points chosen by id or filter."""
    return _call("clear_payload", [collection], _same, _selection(points, filter))


# --------------------------------------------------------------------------- points: reads


def retrieve(
    collection: str, ids: Sequence[PointId], **shown: Unpack[ShownOptions]
) -> Call[list[results.Record]]:
    """Points by id; unknown ids are left out."""
    return _call("retrieve_points", [collection], _same, {"ids": list(ids), **_shown(shown)})


def get(collection: str, id: PointId, **shown: Unpack[ShownOptions]) -> Call[results.Record]:
    """One point by id. Raises `PointNotFound`."""

    def only(found: list[results.Record]) -> results.Record:
        if not found:
            raise PointNotFound(f"Point with id {id} does not exist in collection `{collection}`")
        return found[0]

    return _call("retrieve_points", [collection], only, {"ids": [id], **_shown(shown)})


def scroll(
    collection: str,
    *,
    limit: int = 100,
    offset: PointId | None = None,
    filter: Filter | None = None,
    **shown: Unpack[ShownOptions],
) -> Call[results.ScrollResult]:
    """A page of points in the order of their ids; `next_page_offset` is the next page's `offset`,
    None at the end."""
    body: Json = {"limit": limit, **_shown(shown)}
    if offset is not None:
        body["offset"] = offset
    if filter is not None:
        body["filter"] = filter
    return _call("scroll_points", [collection], _same, body)


def count(collection: str, *, filter: Filter | None = None) -> Call[int]:
    """How many points match the filter, exactly; without one, how many there are."""

    def number(found: results.CountResult) -> int:
        return found.count

    body: Json = {"exact": True}
    if filter is not None:
        body["filter"] = filter
    return _call("count_points", [collection], number, body)


def query(
    collection: str, query: Vector | PointId, **options: Unpack[QueryOptions]
) -> Call[list[results.ScoredPoint]]:
    """The points nearest to a vector, or to the vector of a stored point (which is left out), best
    first. See `QueryOptions`."""

    def points(found: results.QueryResult) -> list[results.ScoredPoint]:
        return found.points

    body = _query(query, options, "query")
    return _call("query_points", [collection], points, body, Format.MSGPACK)


def query_batch(
    collection: str, searches: Sequence[Search]
) -> Call[list[list[results.ScoredPoint]]]:
    """Several queries in one call; the answers are in the order of the searches, each of which is
    a mapping with `query` and any of `QueryOptions`. Between two of them, writes of others may come
    in."""

    def points(found: list[results.QueryResult]) -> list[list[results.ScoredPoint]]:
        return [answer.points for answer in found]

    bodies: list[Json] = []
    for place, search in enumerate(searches):
        if "query" not in search:
            raise InvalidInput(f"searches[{place}].query", "is required")
        bodies.append(_query(search["query"], search, f"searches[{place}].query"))
    return _call("query_batch", [collection], points, {"searches": bodies}, Format.MSGPACK)


def _query(query: Vector | PointId, options: QueryOptions, field: str) -> Json:
    unknown = sorted(set(options) - set(Search.__annotations__) - set(QueryOptions.__annotations__))
    if unknown:
        raise InvalidInput(unknown[0], "is not an option of a query")
    body: Json = {key: value for key, value in options.items() if value is not None}
    body["query"] = query if isinstance(query, int | str | UUID) else pack(query, field)
    params: Json = {}
    if "ef" in body:
        params["hnsw_ef"] = body.pop("ef")
    if "exact" in body:
        params["exact"] = body.pop("exact")
    if "quantization" in body:
        params["quantization"] = dict(body.pop("quantization"))
    if params:
        body["params"] = params
    body.setdefault("with_payload", True)
    return body


def _shown(shown: ShownOptions) -> Json:
    return {"with_payload": True, "with_vector": False, **shown}


# --------------------------------------------------------------------------- the cluster


def cluster() -> Call[Json]:
    """The cluster as the asked node sees it; our own figures are under `balsadb`."""
    return _call("cluster_status", [], _same)


def verify() -> Call[Json]:
    """Digests of every column on every node at one log `index`; `equal` says whether they are the
    same on all, `differing` names the columns that are not, `not_compared` the nodes that gave none
    (for the reason under `nodes`)."""
    return _call("cluster_verify", [], _same)


def members() -> Call[list[Json]]:
    """Every member: `id`, `address`, `role` (voter or learner), `leader`, and how far its log is:
    `match`, `lag` (entries that it lacks), `state` (`probe`: asked where its log ends, `snapshot`:
    fetches a checkpoint, `replicate`: gets the log), `active` (heard of just now)."""
    return _call("list_members", [], _same)


def add_member(node: int, address: str) -> Call[bool]:
    """Take in a node that runs at that peer address: a learner, which has no vote until it is
    promoted. AlreadyExists for an id or an address in use, InvalidInput for the id of a node that
    was removed. This and the following: what holds already is no error, so all may be repeated."""
    return _call("add_member", [], _same, {"id": node, "address": address})


def move_member(node: int, address: str) -> Call[bool]:
    """From now on a member is reached at another peer address."""
    return _call("move_member", [str(node)], _same, {"address": address})


def promote_member(node: int) -> Call[bool]:
    """Give a learner a vote. NotReady, with its lag, if it has not caught up."""
    return _call("promote_member", [str(node)], _same)


def remove_member(node: int, *, force: bool = False) -> Call[bool]:
    """Take a member out for good: its id is never used again. Refused if what is left has no
    majority that is reached, unless `force`."""
    return _call("remove_member", [str(node)], _same, {"force": force})


def transfer(to: int) -> Call[bool]:
    """Hand leadership to a voter."""
    return _call("transfer_leader", [], _same, {"to": to})

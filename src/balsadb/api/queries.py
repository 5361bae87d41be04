"""Requests that search, and the selectors of what an answer shows of a point."""

from typing import Annotated, Any

import msgspec

from balsadb.api import limits
from balsadb.api.codec import as_list, as_object
from balsadb.api.points import FilterInput
from balsadb.api.quantization import QuantizationParams
from balsadb.errors import InvalidInput, LimitExceeded

_QUERY = msgspec.Meta(
    description="A vector, the id of a stored point, or {nearest: either}; absent: order of ids",
    extra_json_schema={
        "anyOf": [
            {"type": "array", "items": {"type": "number"}},
            {"type": "integer"},
            {"type": "string"},
            {"type": "object", "properties": {"nearest": {}}, "required": ["nearest"]},
            {"type": "null"},
        ]
    },
)
_SHOWN = msgspec.Meta(
    description="All (true), none (false), a list of names, {include: [...]} or {exclude: [...]}",
    extra_json_schema={
        "anyOf": [
            {"type": "boolean"},
            {"type": "array", "items": {"type": "string"}},
            {
                "type": "object",
                "properties": {
                    "include": {"type": "array", "items": {"type": "string"}},
                    "exclude": {"type": "array", "items": {"type": "string"}},
                },
            },
            {"type": "null"},
        ]
    },
)
Shown = Annotated[Any, _SHOWN]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class SearchParams(msgspec.Struct):
    """How to search: `hnsw_ef` candidates (raised to the limit if smaller), or every point."""

    hnsw_ef: Count | None = None
    exact: bool | None = None
    indexed_only: bool | None = None
    quantization: QuantizationParams | None = None
    acorn: Any = None


class QueryRequest(msgspec.Struct):
    """The points nearest to a vector or to a stored point, best first."""

    query: Annotated[Any, _QUERY] = None
    using: str | None = None
    filter: FilterInput | None = None
    params: SearchParams | None = None
    score_threshold: float | None = None
    limit: Positive | None = None
    top: Positive | None = None
    offset: Count | None = None
    with_payload: Shown = None
    with_vector: Shown = None
    with_vectors: Shown = None
    prefetch: Any = None
    lookup_from: Any = None


class QueryBatch(msgspec.Struct):
    """Several searches, answered in their order, all after the same read barrier."""

    searches: list[QueryRequest]


class SearchRequest(msgspec.Struct):
    """The search of older clients: `vector` is a list, or {name, vector}."""

    vector: Any
    filter: FilterInput | None = None
    params: SearchParams | None = None
    score_threshold: float | None = None
    limit: Positive | None = None
    top: Positive | None = None
    offset: Count | None = None
    with_payload: Shown = None
    with_vector: Shown = None
    with_vectors: Shown = None


class SearchBatch(msgspec.Struct):
    """Several searches of the older form."""

    searches: list[SearchRequest]


def as_query(request: SearchRequest) -> QueryRequest:
    """The older search in the newer form."""
    vector, using = request.vector, None
    named = as_object(vector)
    if named is not None:
        using, vector = named.get("name"), named.get("vector")
        if not isinstance(using, str):
            raise InvalidInput("vector.name", "must be a string")
    if not isinstance(vector, list | bytes):
        raise InvalidInput("vector", "must be an array of numbers or {name, vector}")
    return QueryRequest(
        query=vector,
        using=using,
        filter=request.filter,
        params=request.params,
        score_threshold=request.score_threshold,
        limit=request.limit,
        top=request.top,
        offset=request.offset,
        with_payload=request.with_payload,
        with_vector=request.with_vector,
        with_vectors=request.with_vectors,
    )


def page_limit(limit: int | None, default: int, field: str = "limit") -> int:
    """A page's length: `default` if absent, refused over `limits.PAGE_MAX`."""
    if limit is None:
        return default
    if limit > limits.PAGE_MAX:
        raise LimitExceeded(field, f"must be at most {limits.PAGE_MAX}, not {limit}")
    return limit


def page_offset(offset: int | None, field: str = "offset") -> int:
    """The number of best points to skip, refused over `limits.OFFSET_MAX`."""
    if offset is None:
        return 0
    if offset > limits.OFFSET_MAX:
        raise LimitExceeded(field, f"must be at most {limits.OFFSET_MAX}, not {offset}")
    return offset


def codes_ignored(params: SearchParams | None) -> bool:
    """Whether the walk is to leave the codes aside."""
    return bool(params and params.quantization and params.quantization.ignore)


def search_oversampling(params: SearchParams | None) -> float:
    """How many times `limit` candidates are scored exactly, at least."""
    asked = params.quantization.oversampling if params and params.quantization else None
    return 1.0 if asked is None else asked


def search_ef(params: SearchParams | None, field: str = "params.hnsw_ef") -> int | None:
    """The asked-for number of candidates, refused over `limits.EF_MAX`."""
    ef = None if params is None else params.hnsw_ef
    if ef is not None and ef > limits.EF_MAX:
        raise LimitExceeded(field, f"must be at most {limits.EF_MAX}, not {ef}")
    return ef


PayloadSelector = bool | list[str] | dict[str, list[str]]


def payload_selector(value: object, *, default: bool) -> PayloadSelector:
    """The meaning of `with_payload`: all, none, these paths, or {include | exclude: paths}."""
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    if as_list(value) is not None:
        return _names(value, "with_payload")
    members = as_object(value) or {}
    for side in ("include", "exclude"):
        if side in members and len(members) == 1:
            return {side: _names(members[side], f"with_payload.{side}")}
    raise InvalidInput(
        "with_payload", "must be a boolean, a list of keys, {include: [...]} or {exclude: [...]}"
    )


def vector_selector(value: object, alias: object) -> bool | list[str]:
    """The meaning of `with_vector` (or its alias `with_vectors`): all, none or the named."""
    field, chosen = ("with_vector", value) if value is not None else ("with_vectors", alias)
    if chosen is None:
        return False
    if isinstance(chosen, bool):
        return chosen
    return _names(chosen, field)


def _names(value: object, field: str) -> list[str]:
    names = as_list(value)
    if names is None or not all(isinstance(name, str) for name in names):
        raise InvalidInput(field, "must be a list of strings")
    return names

"""A search on the wire as the database's query."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from balsadb.api import queries
from balsadb.api.codec import as_object, convert
from balsadb.api.identifiers import PointId, parse_id
from balsadb.database.selection import Query, Selection
from balsadb.embedded.arrays import packed_vector
from balsadb.errors import InvalidInput

QUERY_DEFAULT = 10
HEAVY_EF = 512
"""A wider beam is searched on a thread."""
HEAVY_RESULTS = 256
"""More results are fetched on a thread."""


def search_of(request: queries.QueryRequest, chosen: Selection) -> Query:
    """The query that `request` means; `InvalidInput` names what is wrong or not served."""
    for name in ("prefetch", "lookup_from"):
        if getattr(request, name):
            raise InvalidInput(name, "is not supported")
    vector, point = _target(request.query)
    limit = request.limit if request.limit is not None else request.top
    params = request.params
    return Query(
        vector=vector,
        id=point,
        filter=request.filter,
        limit=queries.page_limit(limit, QUERY_DEFAULT),
        offset=queries.page_offset(request.offset),
        score_threshold=request.score_threshold,
        hnsw_ef=queries.search_ef(params),
        exact=bool(params is not None and params.exact),
        ignore_codes=queries.codes_ignored(params),
        oversampling=queries.search_oversampling(params),
        using=request.using or "",
        selection=chosen,
    )


def is_heavy(query: Query) -> bool:
    """Whether to run on a thread: a hop costs 60 us, a plain search 150."""
    return (
        query.exact
        or (query.vector is None and query.id is None)  # the order of ids may have to be sorted
        or query.filter is not None
        or (query.hnsw_ef or 0) > HEAVY_EF
        or query.limit + query.offset > HEAVY_RESULTS
        or query.oversampling * (query.limit + query.offset) > HEAVY_EF
    )


def _target(query: object, field: str = "query") -> tuple[NDArray[np.float32] | None, Any]:
    """(vector, None), (None, id) or, without a query, (None, None)."""
    if query is None:
        return None, None
    if isinstance(query, list):
        numbers = convert(cast("object", query), list[float], field)
        with np.errstate(over="ignore"):
            return np.array(numbers, dtype=np.float32), None
    if isinstance(query, bytes):
        return packed_vector(query, field), None
    members = as_object(query)
    if members is None:
        point: PointId = parse_id(query, field)
        return None, point
    for name, value in members.items():
        if name != "nearest" and value is not None:
            raise InvalidInput(f"{field}.{name}", "is not supported")
    if members.get("nearest") is None:
        raise InvalidInput(field, "must be a vector, the id of a point, or {nearest: either}")
    return _target(members["nearest"], f"{field}.nearest")

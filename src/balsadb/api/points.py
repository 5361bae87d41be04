"""Requests that write or fetch points.

An upsert has two forms: a list of points, or a *batch* of parallel lists. A vector is a list of
numbers, in JSON also base64 of little-endian float32 and in msgpack `bin` with the same bytes; or a
map from vector names to these. In a batch the vectors may be one `bin` for all rows.
"""

from typing import Annotated, Any

import msgspec

from balsadb.api import limits
from balsadb.errors import InvalidInput

VectorValue = list[float] | bytes
VectorInput = list[float] | bytes | dict[str, list[float] | bytes]
"""A point's vector (the unnamed one) or its named vectors; bytes are little-endian float32."""

IdInput = int | str

_FILTER = msgspec.Meta(
    description="must, should, must_not, min_should over conditions",
    extra_json_schema={"type": "object", "additionalProperties": True},
)
FilterInput = Annotated[dict[str, Any], _FILTER]
"""A filter as it came; `balsadb.database.filters` gives it meaning."""

_NAME = msgspec.Meta(min_length=1, max_length=limits.NAME_CHARACTERS_MAX)


class PointStruct(msgspec.Struct, gc=False):
    """One point to store. A payload is a JSON object."""

    id: IdInput
    vector: VectorInput | None = None
    vectors: VectorInput | None = None
    payload: dict[str, Any] | None = None


class Batch(msgspec.Struct):
    """Parallel lists: ids, vectors (a list, a map of lists by name, or packed), payloads."""

    ids: list[IdInput]
    vectors: list[VectorInput] | bytes | dict[str, list[VectorValue] | bytes]
    payloads: list[dict[str, Any] | None] | None = None


class UpsertPoints(msgspec.Struct):
    """Store points, replacing those with the same id: `points` or `batch`."""

    points: list[PointStruct] | None = None
    batch: Batch | None = None


class RetrievePoints(msgspec.Struct):
    """Fetch points by id; unknown ids are left out."""

    ids: list[IdInput]
    with_payload: Any = None
    with_vector: Any = None
    with_vectors: Any = None


class DeletePoints(msgspec.Struct):
    """Delete points by ids or by filter."""

    points: list[IdInput] | None = None
    filter: FilterInput | None = None
    ids: list[IdInput] | None = None


class SetPayload(msgspec.Struct):
    """Merge (set) or replace (overwrite) the payload of points by ids or by filter.

    `key` is a path under which the payload is merged.
    """

    payload: dict[str, Any]
    points: list[IdInput] | None = None
    filter: FilterInput | None = None
    key: Annotated[str, _NAME] | None = None


class DeletePayload(msgspec.Struct):
    """Remove payload keys from points by ids or by filter."""

    keys: list[Annotated[str, _NAME]]
    points: list[IdInput] | None = None
    filter: FilterInput | None = None


class ClearPayload(msgspec.Struct):
    """Empty the payload of points by ids or by filter."""

    points: list[IdInput] | None = None
    filter: FilterInput | None = None


class ScrollPoints(msgspec.Struct):
    """A page of points in the order of their ids, from `offset` on."""

    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    offset: IdInput | None = None
    filter: FilterInput | None = None
    with_payload: Any = None
    with_vector: Any = None
    with_vectors: Any = None
    order_by: Any = None


class CountPoints(msgspec.Struct):
    """How many points match. The count is exact in either case."""

    filter: FilterInput | None = None
    exact: bool | None = None


def check_selector(points: list[IdInput] | None, filtering: dict[str, Any] | None) -> None:
    """Exactly one of ids and filter selects the points; `InvalidInput` otherwise."""
    if (points is None) == (filtering is None):
        raise InvalidInput("points", "exactly one of points and filter is required")

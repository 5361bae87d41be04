"""What a client asks to change: the input of `Database.prepare`.

A request is what the wire layer decoded, checked for shape but not for meaning. `prepare` checks
the meaning on the leader and turns a request into commands (`commands.py`), which are what the log
carries. Point ids are an `int` (0 .. 2**64 - 1), a `uuid.UUID`, or a string that spells a UUID;
filters are plain JSON-like mappings in the wire dialect (`filters.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
from numpy.typing import NDArray

PointId = int | UUID
"""A point's id, normalised."""
PointIdLike = int | str | UUID
"""A point's id as it may arrive: strings are UUIDs in any of the usual spellings."""
PayloadLike = Mapping[str, Any] | msgspec.Raw | None
"""A payload: an object, its JSON bytes, or none (the empty payload)."""


class SessionKey(msgspec.Struct, array_like=True, frozen=True):
    """Who asks, and the how-manieth request of that asker: makes a retry apply at most once.

    `session` is 16 bytes; all zero means no session, and nothing is remembered of the request.
    `sequence` is any u64 that the session has not used for another request; at most
    `limits.SESSION_WINDOW` of one session may be in flight at once.
    """

    session: bytes
    sequence: int


NO_SESSION = SessionKey(bytes(16), 0)
"""At-least-once: a retry is applied again."""


INT8 = "int8"
"""Quantisation: walks go by 8-bit codes once there are rows enough; scores stay exact."""
UNQUANTISED = "none"
"""Quantisation: none, walks are always in float32."""


class VectorParams(msgspec.Struct, frozen=True):
    """One vector name of a collection: components, and `Cosine`, `Euclid`, `Dot` or `Manhattan`.
    `quantization`: `INT8` or `UNQUANTISED`; None: as the collection's."""

    size: int
    distance: str
    quantization: str | None = None


class HnswParams(msgspec.Struct, frozen=True):
    """The graph's parameters (Malkov & Yashunin: M, efConstruction). `full_scan_threshold` is
    kept and shown for the dialect's sake."""

    m: int = 16
    ef_construct: int = 128
    full_scan_threshold: int = 10_000


class CreateCollection(msgspec.Struct, frozen=True):
    """New collection. `vectors`: name -> params; the unnamed vector is called ""."""

    name: str
    vectors: Mapping[str, VectorParams]
    hnsw: HnswParams = HnswParams()
    quantization: str = INT8


class UpdateCollection(msgspec.Struct, frozen=True):
    """Change the parameters that may change; None leaves one as it is. Those that may not (`m`, the
    quantisations of the collection and, by name, of its vectors) may be said as they are."""

    name: str
    ef_construct: int | None = None
    full_scan_threshold: int | None = None
    m: int | None = None
    quantization: str | None = None
    vector_quantization: Mapping[str, str] | None = None


class DeleteCollection(msgspec.Struct, frozen=True):
    """Drop a collection. Value: True if it existed."""

    name: str


class CreatePayloadIndex(msgspec.Struct, frozen=True):
    """Declare the type of a payload key: `keyword`, `integer`, `float` or `bool`."""

    collection: str
    field: str
    kind: str


class DeletePayloadIndex(msgspec.Struct, frozen=True):
    """Forget the declaration of a payload key."""

    collection: str
    field: str


class VectorBlock(msgspec.Struct, frozen=True):
    """The vectors of one name in an upsert.

    `values` is float32 (n, dim); `positions` int (n,) tells which point of the request each row
    belongs to, ascending and without repetition; None means row i is point i's. `field` is where
    the vector of point p stood, with `{}` for p, for errors to name; empty: `points[{}].vector`.
    """

    values: NDArray[np.float32]
    positions: NDArray[np.integer[Any]] | None = None
    field: str = ""


class UpsertPoints(msgspec.Struct, frozen=True):
    """Insert points, or replace them whole (vectors not given and payload not given are removed).
    The last of duplicate ids wins.

    `payload_field` is where the payload of a point stood, with `{}` for the point, for errors to
    name. `payloads_are_json`: they were decoded from JSON, so that no value needs to be looked at.
    """

    collection: str
    ids: Sequence[PointIdLike]
    vectors: Mapping[str, VectorBlock]
    payloads: Sequence[PayloadLike] | None = None
    payload_field: str = "points[{}].payload"
    payloads_are_json: bool = False


class DeletePoints(msgspec.Struct, frozen=True):
    """Delete points by ids or by filter (exactly one). Unknown ids are ignored."""

    collection: str
    ids: Sequence[PointIdLike] | None = None
    filter: Mapping[str, Any] | None = None


class SetPayload(msgspec.Struct, frozen=True):
    """Merge the top-level keys of `payload` into the payloads of the points selected; with `key`,
    into the object found at that path. A key whose value is null is removed."""

    collection: str
    payload: PayloadLike
    ids: Sequence[PointIdLike] | None = None
    filter: Mapping[str, Any] | None = None
    key: str | None = None


class OverwritePayload(msgspec.Struct, frozen=True):
    """Replace the payloads of the points selected."""

    collection: str
    payload: PayloadLike
    ids: Sequence[PointIdLike] | None = None
    filter: Mapping[str, Any] | None = None


class DeletePayloadKeys(msgspec.Struct, frozen=True):
    """Remove keys (dotted paths) from the payloads of the points selected."""

    collection: str
    keys: Sequence[str]
    ids: Sequence[PointIdLike] | None = None
    filter: Mapping[str, Any] | None = None


class ClearPayload(msgspec.Struct, frozen=True):
    """Empty the payloads of the points selected."""

    collection: str
    ids: Sequence[PointIdLike] | None = None
    filter: Mapping[str, Any] | None = None


class Marker(msgspec.Struct, frozen=True):
    """Changes nothing: a place in the log at which replicas are compared."""


PointsRequest = DeletePoints | SetPayload | OverwritePayload | DeletePayloadKeys | ClearPayload
"""The requests that select existing points by ids or filter."""

Request = (
    CreateCollection
    | UpdateCollection
    | DeleteCollection
    | CreatePayloadIndex
    | DeletePayloadIndex
    | UpsertPoints
    | PointsRequest
    | Marker
)

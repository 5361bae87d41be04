"""A large upsert, piece by piece.

Decoding 32 MiB of JSON into floats in one call would hold the interpreter lock, and with it the
heartbeats of a cluster, for a second. So the body is first cut into points without looking inside
them (about 1 ms a MiB), then decoded some hundred points at a time; whoever drives the iterator may
do something else in between.

Both forms of an upsert, both encodings, and packed vectors come out as the same `Slice`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from balsadb.api import limits
from balsadb.api.codec import Format, decode
from balsadb.api.identifiers import PointId, parse_id
from balsadb.api.points import IdInput, VectorInput
from balsadb.errors import InvalidInput, LimitExceeded

Vector = list[float] | bytes

# Unions are types to the decoder but not to the checker.
_PAYLOAD = cast("type[dict[str, Any] | None]", dict[str, Any] | None)
_ONE_VECTOR = cast("type[Vector | None]", Vector | None)
_ANY_VECTOR = cast("type[VectorInput | None]", VectorInput | None)


class NamedVectors(NamedTuple):
    """The vectors of one name in a slice: `positions` count points from the start of the request;
    `field` is where a value of position p stood, with `{}` for p."""

    positions: list[int]
    values: list[Vector]
    field: str


class Slice(NamedTuple):
    """Consecutive points of an upsert, `first` counted from the start of the request."""

    first: int
    ids: list[PointId]
    vectors: dict[str, NamedVectors]
    payloads: list[dict[str, Any] | None]


class Packed(NamedTuple):
    """All vectors of one name as float32 rows, one for each point of the request."""

    data: bytes
    field: str


class Upsert(NamedTuple):
    """A request cut into points: their number, packed vectors by name, and the slices to come."""

    points_count: int
    packed: dict[str, Packed]
    slices: Iterator[Slice]
    payload_field: str = "points[{}].payload"
    """Where the payload of a point stands, with `{}` for the point."""
    is_json: bool = False


class _Point(msgspec.Struct, gc=False):
    id: IdInput
    vector: VectorInput | None = None
    vectors: VectorInput | None = None
    payload: dict[str, Any] | None = None


class _Batch(msgspec.Struct):
    ids: list[IdInput]
    vectors: list[msgspec.Raw] | dict[str, list[msgspec.Raw] | bytes] | bytes
    payloads: list[msgspec.Raw] | None = None


class _Head(msgspec.Struct):
    points: list[msgspec.Raw] | None = None
    batch: _Batch | None = None
    update_filter: Any = None
    update_mode: Any = None


def cut_upsert(body: bytes, format_: Format) -> Upsert:
    """Cut an upsert's body into points; no point has been looked at on return.

    Raises `MalformedBody`, `LimitExceeded` or `InvalidInput`; the slices do so as they are drawn.
    """
    head = decode(body, _Head, format_)
    # A condition that is not kept must not be passed over in silence.
    if head.update_filter is not None:
        raise InvalidInput("update_filter", "is not supported")
    if head.update_mode not in (None, "upsert"):
        raise InvalidInput("update_mode", "must be upsert: the others are not supported")
    if (head.points is None) == (head.batch is None):
        raise InvalidInput("points", "exactly one of points and batch is required")
    if head.points is not None:
        _check_count(len(head.points), "points")
        return Upsert(
            len(head.points),
            {},
            _point_slices(head.points, format_),
            is_json=format_ is Format.JSON,
        )
    assert head.batch is not None
    return _cut_batch(head.batch, format_)


def _check_count(count: int, field: str) -> None:
    if count > limits.BATCH_POINTS_MAX:
        raise LimitExceeded(field, f"must be at most {limits.BATCH_POINTS_MAX}, not {count}")


def _spans(raws: Sequence[msgspec.Raw]) -> Iterator[tuple[int, int]]:
    """Bounds of slices of at most SLICE_POINTS items and about SLICE_BYTES bytes."""
    start = size = 0
    for position, raw in enumerate(raws):
        length = len(memoryview(raw))
        if position > start and (
            position - start >= limits.SLICE_POINTS or size + length > limits.SLICE_BYTES
        ):
            yield start, position
            start, size = position, 0
        size += length
    if start < len(raws):
        yield start, len(raws)


def _point_slices(raws: list[msgspec.Raw], format_: Format) -> Iterator[Slice]:
    for first, stop in _spans(raws):
        ids: list[PointId] = []
        vectors: dict[str, NamedVectors] = {}
        payloads: list[dict[str, Any] | None] = []
        for position in range(first, stop):
            field = f"points[{position}]"
            point = decode(memoryview(raws[position]), _Point, format_, field)
            ids.append(parse_id(point.id, f"{field}.id"))
            payloads.append(point.payload)
            value = point.vector if point.vector is not None else point.vectors
            if value is None:
                raise InvalidInput(f"{field}.vector", "is required; {} for a point without any")
            _collect(vectors, value, position, "points[{}].vector")
        yield Slice(first, ids, vectors, payloads)


def _collect(
    vectors: dict[str, NamedVectors], value: VectorInput | None, position: int, field: str
) -> None:
    """File one point's vector, or its named vectors, under their names."""
    if value is None:
        return
    named = value if isinstance(value, dict) else {"": value}
    for name, vector in named.items():
        _file(vectors, name, vector, position, f"{field}.{template(name)}" if name else field)


def _file(
    vectors: dict[str, NamedVectors], name: str, vector: Vector, position: int, field: str
) -> None:
    entry = vectors.get(name)
    if entry is None:
        entry = vectors[name] = NamedVectors([], [], field)
    entry.positions.append(position)
    entry.values.append(vector)


def template(text: str) -> str:
    """`text` for `str.format`, with nothing to fill in."""
    return text.replace("{", "{{").replace("}", "}}")


def _cut_batch(batch: _Batch, format_: Format) -> Upsert:
    count = len(batch.ids)
    _check_count(count, "batch.ids")
    if batch.payloads is not None and len(batch.payloads) != count:
        raise InvalidInput("batch.payloads", f"must have one entry for each of {count} ids")
    packed: dict[str, Packed] = {}
    lists: dict[str, list[msgspec.Raw]] = {}
    if isinstance(batch.vectors, bytes):
        packed[""] = Packed(batch.vectors, "batch.vectors")
    elif isinstance(batch.vectors, list):
        lists[""] = batch.vectors
    else:
        for name, value in batch.vectors.items():
            if isinstance(value, bytes):
                packed[name] = Packed(value, f"batch.vectors.{name}")
            else:
                lists[name] = value
    for name, raws in lists.items():
        if len(raws) != count:
            field = f"batch.vectors.{name}" if name else "batch.vectors"
            raise InvalidInput(field, f"must have one entry for each of {count} ids")
    slices = _batch_slices(batch, lists, format_)
    return Upsert(count, packed, slices, "batch.payloads[{}]", format_ is Format.JSON)


def _batch_slices(
    batch: _Batch, lists: dict[str, list[msgspec.Raw]], format_: Format
) -> Iterator[Slice]:
    widest = max(lists.values(), key=_bytes_of, default=batch.payloads)
    spans = _plain_spans(len(batch.ids)) if widest is None else _spans(widest)
    for first, stop in spans:
        ids = [parse_id(batch.ids[at], f"batch.ids[{at}]") for at in range(first, stop)]
        vectors: dict[str, NamedVectors] = {}
        for name, raws in lists.items():
            base = f"batch.vectors.{name}" if name else "batch.vectors"
            for position in range(first, stop):
                raw, field = memoryview(raws[position]), f"{base}[{position}]"
                if not name:
                    value = decode(raw, _ANY_VECTOR, format_, field)
                    _collect(vectors, value, position, "batch.vectors[{}]")
                    continue
                vector = decode(raw, _ONE_VECTOR, format_, field)
                if vector is not None:
                    _file(vectors, name, vector, position, template(base) + "[{}]")
        yield Slice(first, ids, vectors, list(_batch_payloads(batch, first, stop, format_)))


def _batch_payloads(
    batch: _Batch, first: int, stop: int, format_: Format
) -> Iterator[dict[str, Any] | None]:
    for position in range(first, stop):
        if batch.payloads is None:
            yield None
        else:
            raw = memoryview(batch.payloads[position])
            yield decode(raw, _PAYLOAD, format_, f"batch.payloads[{position}]")


def _plain_spans(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, limits.SLICE_POINTS):
        yield first, min(count, first + limits.SLICE_POINTS)


def _bytes_of(raws: list[msgspec.Raw]) -> int:
    return sum(len(memoryview(raw)) for raw in raws[:64])

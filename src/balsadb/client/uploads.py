"""Many points cut into calls: slices by number and by bytes, from sequences or iterators."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any, NamedTuple, TypedDict

from balsadb.api import results
from balsadb.client.requests import Call, Payload, PointId, upsert_batch
from balsadb.client.vectors import batches
from balsadb.errors import InvalidInput

BATCH_POINTS = 512
BATCH_BYTES_MAX = 8 << 20
"""Bytes of vectors in one call, whatever the number of points: well below a body's maximum."""


class UploadResult(NamedTuple):
    """How many points were stored, and the log index of the last call."""

    points: int
    operation_id: int


class UploadOptions(TypedDict, total=False):
    """`ids` (0, 1, 2, ...) and `payloads` (none) run parallel to the vectors; `batch_size` points
    go in one call (512); `on_progress` is called with the number of points stored so far."""

    ids: Iterable[PointId]
    payloads: Iterable[Payload | None]
    batch_size: int
    on_progress: Callable[[int], None]


class Part(NamedTuple):
    """One call of an upload and the number of points that it stores."""

    call: Call[results.UpdateResult]
    points: int


def parts(collection: str, vectors: Any, options: UploadOptions) -> Iterator[Part]:
    """The calls of an upload, made as they are drawn.

    Raises `InvalidInput` when ids or payloads are fewer than the vectors.
    """
    size = options.get("batch_size", BATCH_POINTS)
    if size < 1:
        raise InvalidInput("batch_size", "must be 1 or larger")
    ids = iter(options.get("ids", count()))
    payloads = iter(options["payloads"]) if "payloads" in options else None
    for run in batches(vectors, size):
        for rows in _bounded(run):
            length = len(rows)
            some_ids = _next(ids, length, "ids")
            some_payloads = None if payloads is None else _next(payloads, length, "payloads")
            yield Part(upsert_batch(collection, some_ids, rows, some_payloads), length)


def _bounded(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """`rows` in runs whose float32 bytes stay below `BATCH_BYTES_MAX`."""
    size = max(1, BATCH_BYTES_MAX // (4 * max(1, len(rows[0]))))
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def _next(values: Iterator[Any], length: int, name: str) -> list[Any]:
    found = list(islice(values, length))
    if len(found) < length:
        raise InvalidInput(name, "must be as many as the vectors")
    return found

"""Vectors of an upsert as arrays: slices in, one float32 block for each vector name out."""

import asyncio
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balsadb.api.identifiers import PointId
from balsadb.api.slices import NamedVectors, Packed, Upsert, template
from balsadb.database.requests import UpsertPoints, VectorBlock
from balsadb.errors import InvalidInput

FLOAT_BYTES = 4
_LITTLE = np.dtype("<f4")


async def gather_upsert(collection: str, upsert: Upsert) -> UpsertPoints:
    """Draw all slices of `upsert`, letting other tasks run in between, and join them.

    Raises `InvalidInput` for vectors of unequal length under one name, or bytes that are no whole
    float32 rows. Dimensions are compared with the collection's by the database.
    """
    ids: list[PointId] = []
    payloads: list[dict[str, Any] | None] = []
    parts: dict[str, list[tuple[list[int], NDArray[np.float32]]]] = {}
    fields: dict[str, str] = {}
    for piece in upsert.slices:
        ids.extend(piece.ids)
        payloads.extend(piece.payloads)
        for name, vectors in piece.vectors.items():
            parts.setdefault(name, []).append((vectors.positions, rows(vectors)))
            fields[name] = vectors.field
        await asyncio.sleep(0)
    blocks = {
        name: packed_block(packed, upsert.points_count) for name, packed in upsert.packed.items()
    }
    for name, found in parts.items():
        blocks[name] = _joined(fields[name], found, upsert.points_count)
    stored = payloads if any(payload is not None for payload in payloads) else None
    return UpsertPoints(collection, ids, blocks, stored, upsert.payload_field, upsert.is_json)


def rows(vectors: NamedVectors) -> NDArray[np.float32]:
    """The values of one slice as float32 (n, dim), copied."""
    values = vectors.values
    width = _width(vectors, 0)
    for at in range(1, len(values)):
        if _width(vectors, at) != width:
            raise InvalidInput(
                vectors.field.format(vectors.positions[at]),
                f"has {_width(vectors, at)} numbers where "
                f"{vectors.field.format(vectors.positions[0])} has {width}",
            )
    # A number beyond float32 becomes an infinity here and is refused by the database.
    with np.errstate(over="ignore"):
        if any(isinstance(value, bytes) for value in values):
            return np.stack([single(value) for value in values])
        return np.array(values, dtype=np.float32)


def single(value: list[float] | bytes) -> NDArray[np.float32]:
    """One vector, float32 (dim,); bytes must be whole floats (checked by `_width`)."""
    if isinstance(value, bytes):
        return np.frombuffer(value, dtype=_LITTLE).astype(np.float32)
    with np.errstate(over="ignore"):
        return np.array(value, dtype=np.float32)


def packed_vector(value: bytes, field: str) -> NDArray[np.float32]:
    """A vector sent as little-endian float32 bytes; `InvalidInput` names `field`."""
    if len(value) % FLOAT_BYTES:
        raise InvalidInput(field, f"has {len(value)} bytes, which is no whole number of float32")
    return single(value)


def packed_block(packed: Packed, points_count: int) -> VectorBlock:
    """All vectors of a name, sent as one run of bytes: a view of the body on little-endian CPUs."""
    row_bytes, rest = divmod(len(packed.data), max(points_count, 1))
    if rest or row_bytes % FLOAT_BYTES or (row_bytes and not points_count):
        raise InvalidInput(
            packed.field.rstrip("."),
            f"has {len(packed.data)} bytes, which are no {points_count} equal rows of float32",
        )
    values = np.frombuffer(packed.data, dtype=_LITTLE).astype(np.float32, copy=False)
    rows = values.reshape(points_count, row_bytes // FLOAT_BYTES)
    return VectorBlock(rows, field=template(packed.field) + "[{}]")


def _width(vectors: NamedVectors, at: int) -> int:
    value = vectors.values[at]
    if isinstance(value, list):
        return len(value)
    if len(value) % FLOAT_BYTES:
        raise InvalidInput(
            vectors.field.format(vectors.positions[at]),
            f"has {len(value)} bytes, which is no whole number of float32",
        )
    return len(value) // FLOAT_BYTES


def _joined(
    field: str, parts: list[tuple[list[int], NDArray[np.float32]]], points_count: int
) -> VectorBlock:
    width = parts[0][1].shape[1]
    for positions, values in parts:
        if values.shape[1] != width:
            first = field.format(parts[0][0][0])
            raise InvalidInput(
                field.format(positions[0]),
                f"has {values.shape[1]} numbers where {first} has {width}",
            )
    values = parts[0][1] if len(parts) == 1 else np.concatenate([part[1] for part in parts])
    if len(values) == points_count:
        return VectorBlock(values, field=field)
    places = np.concatenate([np.array(part[0], dtype=np.int64) for part in parts])
    return VectorBlock(values, places, field)

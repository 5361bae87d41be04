"""Vectors as the wire wants them: little-endian float32 bytes, made without NumPy.

Anything with the buffer protocol (a NumPy array, `array.array`, a memoryview) of float32 goes
through as it is; other number types, and sequences of numbers, are converted.
"""

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from balsadb.errors import InvalidInput

Vector = Any
"""A sequence of numbers, or a one-dimensional buffer of them."""

_IS_LITTLE = sys.byteorder == "little"
_NUMBERS = frozenset("efdbBhHiIlLqQ")
"""Formats of the buffer protocol (those of `struct`) that are numbers."""


def pack(vector: Vector, field: str) -> bytes:
    """One vector as little-endian float32 bytes; `InvalidInput` names `field` otherwise."""
    if not _is_buffer(vector):
        return _floats(vector, field)
    packed = _pack_buffer(vector, field)
    if len(packed.shape or ()) != 1:
        raise InvalidInput(field, f"must have one dimension, not {len(packed.shape or ())}")
    return packed.data


class Packed:
    """Numbers as little-endian float32. `shape` is the buffer's; None if it came from a list."""

    __slots__ = ("data", "shape")

    def __init__(self, data: bytes, shape: tuple[int, ...] | None) -> None:
        self.data = data
        self.shape = shape


def pack_rows(vectors: Any, field: str) -> Packed:
    """Vectors of one length as one run of rows.

    `vectors` is a two-dimensional buffer, or an iterable of vectors. The caller knows the number of
    rows; a length that differs from the others' is refused here, by position.
    """
    if _is_buffer(vectors):
        packed = _pack_buffer(vectors, field)
        if packed.shape is None or len(packed.shape) != 2:
            raise InvalidInput(field, "must have two dimensions: one row a vector")
        return packed
    rows: list[bytes] = []
    for position, vector in enumerate(vectors):
        name = f"{field}[{position}]"
        rows.append(pack(vector, name))
        if len(rows[-1]) != len(rows[0]):
            raise InvalidInput(name, f"must have {len(rows[0]) // 4} numbers like the ones before")
    return Packed(b"".join(rows), None)


def _is_buffer(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return False
    try:
        memoryview(value)
    except TypeError:
        return False
    return not isinstance(value, bytes | bytearray)


def _pack_buffer(value: Any, field: str) -> Packed:
    view = memoryview(value)
    shape = view.shape or ()
    order, code = view.format[:-1] or "=", view.format[-1:]
    if code == "f" and (order == "<" or (order in "=@" and _IS_LITTLE)):
        return Packed(view.tobytes(), shape)
    if code not in _NUMBERS or order not in "<>=@!":
        raise InvalidInput(field, f"must hold numbers, not items of format {view.format!r}")
    convert = getattr(value, "astype", None)
    if convert is not None:  # an array converts itself faster than we can
        return Packed(convert("<f4").tobytes(), shape)
    numbers = struct.unpack(f"{order}{view.nbytes // view.itemsize}{code}", view.tobytes())
    return Packed(_floats(numbers, field), shape)


def _floats(numbers: Iterable[float], field: str) -> bytes:
    try:
        values = array("f", numbers)
    except (TypeError, OverflowError) as error:
        raise InvalidInput(field, f"must be a sequence of numbers: {error}") from None
    if not _IS_LITTLE:
        values.byteswap()
    return values.tobytes()


def batches(vectors: Any, size: int) -> Iterator[Any]:
    """`vectors` in runs of at most `size`: slices of a sequence or buffer, lists of an iterator."""
    if isinstance(vectors, Sequence) or _is_buffer(vectors):
        sliceable = cast("Any", vectors)
        for first in range(0, len(sliceable), size):
            yield sliceable[first : first + size]
        return
    run: list[Any] = []
    for vector in vectors:
        run.append(vector)
        if len(run) == size:
            yield run
            run = []
    if run:
        yield run

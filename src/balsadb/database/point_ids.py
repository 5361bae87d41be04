"""Point ids: what is one, its packed form, and its hash.

An id is (kind, hi, lo): kind 0 is a u64 (hi is 0), kind 1 a UUID of 128 bits. That triple is also
the order of ids: numbers first, then UUIDs. On the wire a UUID may be hyphenated, 32 hex digits,
in braces or a URN; it always leaves hyphenated and in lower case.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from balsadb.database.requests import PointIdLike
from balsadb.errors import InvalidInput, MalformedBody

PACKED_ID = np.dtype([("kind", "u1"), ("hi", "<u8"), ("lo", "<u8")])
"""17 bytes an id in commands."""
_U64 = (1 << 64) - 1
_RULE = "a point id is an unsigned 64-bit integer or a UUID"
_UUID_LENGTHS = (32, 36, 38, 45)
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9
_MULTIPLIER_2 = 0x94D049BB133111EB
_GOLDEN = 0x9E3779B97F4A7C15


class Ids(NamedTuple):
    """Ids as arrays: `kind` uint8 (n,), `hi` and `lo` uint64 (n,)."""

    kind: NDArray[np.uint8]
    hi: NDArray[np.uint64]
    lo: NDArray[np.uint64]

    def take(self, which: "NDArray[Any] | slice") -> "Ids":
        """The ids at these positions."""
        return Ids(self.kind[which], self.hi[which], self.lo[which])


def split_id(value: object, field: str) -> tuple[int, int, int]:
    """(kind, hi, lo) of an id as it arrives. InvalidInput naming `field`."""
    if type(value) is int:
        if 0 <= value <= _U64:
            return 0, 0, value
    elif isinstance(value, UUID):
        return 1, value.int >> 64, value.int & _U64
    elif isinstance(value, str) and len(value) in _UUID_LENGTHS:
        try:
            number = UUID(value).int
        except ValueError:
            raise InvalidInput(field, f"{_RULE}, not {value!r}") from None
        return 1, number >> 64, number & _U64
    raise InvalidInput(field, f"{_RULE}, not {value!r:.80}")


def parse_ids(values: Sequence[PointIdLike], field: str) -> Ids:
    """Ids as arrays. InvalidInput naming `field[i]`."""
    count = len(values)
    if all(type(value) is int for value in values):
        try:
            lo = np.array(values, np.uint64)
        except (OverflowError, ValueError):
            pass
        else:
            return Ids(np.zeros(count, np.uint8), np.zeros(count, np.uint64), lo)
    triples = [split_id(value, f"{field}[{place}]") for place, value in enumerate(values)]
    kinds, highs, lows = zip(*triples, strict=True) if triples else ((), (), ())
    return Ids(np.array(kinds, np.uint8), np.array(highs, np.uint64), np.array(lows, np.uint64))


def parse_path_id(text: str) -> int | UUID:
    """An id in a URL path: digits are a u64, anything else must spell a UUID."""
    if text.isascii() and text.isdigit():
        return split_id(int(text), "id")[2]
    return UUID(int=_joined(*split_id(text, "id")[1:]))


def pack(ids: Ids) -> bytes:
    """17 bytes an id."""
    packed = np.empty(len(ids.kind), PACKED_ID)
    packed["kind"], packed["hi"], packed["lo"] = ids.kind, ids.hi, ids.lo
    return packed.tobytes()


def unpack(data: bytes) -> Ids:
    """Inverse of `pack`. MalformedBody if the length is not a multiple of 17."""
    if len(data) % PACKED_ID.itemsize:
        raise MalformedBody("ids", "not packed ids")
    packed = np.frombuffer(data, PACKED_ID)
    return Ids(
        np.ascontiguousarray(packed["kind"]),
        np.ascontiguousarray(packed["hi"]),
        np.ascontiguousarray(packed["lo"]),
    )


def wire_id(kind: int, hi: int, lo: int) -> int | str:
    """The id as it leaves."""
    if not kind:
        return lo
    text = f"{hi:016x}{lo:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def wire_ids(ids: Ids) -> list[int | str]:
    """The ids as they leave."""
    lows = ids.lo.tolist()
    if not ids.kind.any():
        return lows
    return list(map(wire_id, ids.kind.tolist(), ids.hi.tolist(), lows))


def hash_one(kind: int, hi: int, lo: int) -> int:
    """64 bits of one id; equal to `hash_ids` of it."""
    value = (lo ^ (hi * _GOLDEN & _U64) ^ (kind << 63)) & _U64
    value = (value ^ value >> 30) * _MULTIPLIER_1 & _U64
    value = (value ^ value >> 27) * _MULTIPLIER_2 & _U64
    return value ^ value >> 31


def hash_ids(ids: Ids) -> NDArray[np.uint64]:
    """64 well-mixed bits an id (the finaliser of splitmix64), (n,) uint64."""
    value = ids.lo ^ (ids.hi * np.uint64(_GOLDEN)) ^ (ids.kind.astype(np.uint64) << np.uint64(63))
    value = (value ^ value >> np.uint64(30)) * np.uint64(_MULTIPLIER_1)
    value = (value ^ value >> np.uint64(27)) * np.uint64(_MULTIPLIER_2)
    return value ^ value >> np.uint64(31)


def _joined(hi: int, lo: int) -> int:
    return hi << 64 | lo

"""Payloads: canonical JSON texts in a byte heap, an offset and a length for each slot.

A new text goes to the end of the heap; the bytes it replaces become zero and count as dead, until
a logged command rewrites the heap in the order of slots. Length 0 is the empty payload `{}`.
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from balsadb.columns import Column, ColumnSet
from balsadb.database.limits import PAYLOAD_HEAP_BYTES_MAX, POINTS_MAX

EMPTY = b"{}"
_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(dict[str, Any])
_shallow_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encode_payload(payload: Any) -> bytes:
    """The one encoder: sorted keys, shortest floats, no spaces; b"" for the empty object."""
    data = _encoder.encode(payload)
    return b"" if data == EMPTY else data


def decode_payload(data: bytes) -> dict[str, Any]:
    """The object of a stored text."""
    return _decoder.decode(data) if data else {}


def decode_shallow(data: bytes) -> dict[str, msgspec.Raw]:
    """The object of a stored text with its values left as text."""
    return _shallow_decoder.decode(data) if data else {}


class PayloadStore:
    """The payload columns of one collection."""

    def __init__(self, columns: ColumnSet, prefix: str) -> None:
        """Create the columns, or adopt them when they are there."""
        self._start = _column(columns, f"{prefix}/payload_start", np.uint64, POINTS_MAX)
        self._length = _column(columns, f"{prefix}/payload_length", np.uint32, POINTS_MAX)
        self._heap = _column(columns, f"{prefix}/payload_heap", np.uint8, PAYLOAD_HEAP_BYTES_MAX)
        self._dead = _column(columns, f"{prefix}/payload_dead", np.uint64, 1)
        if not self._dead.rows:
            self._dead.resize(1)
        self._bytes = self._heap.data.data

    @property
    def heap_bytes(self) -> int:
        """Length of the heap, dead bytes included."""
        return self._heap.rows

    @property
    def dead_bytes(self) -> int:
        """Bytes of the heap that no slot refers to."""
        return int(self._dead.data[0])

    @property
    def free_bytes(self) -> int:
        """What may still be appended."""
        return self._heap.rows_max - self._heap.rows

    def read(self, slot: int) -> bytes:
        """The text of a slot; b"" for the empty payload."""
        length = int(self._length.data[slot])
        if not length:
            return b""
        start = int(self._start.data[slot])
        return self._bytes[start : start + length].tobytes()

    def resize(self, slots: int) -> None:
        """Have room for this many slots; new ones hold the empty payload."""
        if self._start.rows < slots:
            self._start.resize(slots)
            self._length.resize(slots)

    def write(
        self, slots: NDArray[np.uint32], lengths: NDArray[np.uint32], texts: bytes | memoryview
    ) -> None:
        """Give slots (distinct) new texts, end to end in `texts`. An equal text stays in place."""
        used = self._length.data[slots] != 0
        if used.any():
            slots, lengths, texts = self._replace(slots, lengths, memoryview(texts))
        if not slots.size:
            return
        first = self._heap.append(np.frombuffer(texts, np.uint8))
        stops = np.cumsum(lengths, dtype=np.uint64)
        starts = stops - lengths + np.uint64(first)
        starts[lengths == 0] = 0
        self._start.touch_rows(slots)
        self._length.touch_rows(slots)
        self._start.data[slots] = starts
        self._length.data[slots] = lengths

    def clear(self, slots: NDArray[np.uint32]) -> None:
        """Empty the payloads of slots."""
        for slot in slots.tolist():
            self._drop(slot)

    def compact(self) -> None:
        """Rewrite the heap in the order of slots, without its dead bytes."""
        lengths = self._length.used
        slots = np.flatnonzero(lengths).astype(np.uint32)
        texts = b"".join(map(self.read, slots.tolist()))
        self._heap.resize(0)
        self._heap.append(np.frombuffer(texts, np.uint8))
        stops = np.cumsum(lengths[slots], dtype=np.uint64)
        self._start.touch_rows(slots)
        self._start.data[slots] = stops - lengths[slots]
        self._dead.put(0, 0)

    def check(self) -> list[str]:
        """Violated invariants, in words."""
        total = int(self._length.used.sum(dtype=np.uint64)) + self.dead_bytes
        return [] if total == self.heap_bytes else ["payload lengths do not add up to the heap"]

    def _replace(
        self, slots: NDArray[np.uint32], lengths: NDArray[np.uint32], texts: memoryview
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32], bytes]:
        """Drop the texts that change; what is left to append."""
        keep = np.ones(slots.size, np.bool_)
        parts: list[memoryview] = []
        position = 0
        for place, (slot, length) in enumerate(zip(slots.tolist(), lengths.tolist(), strict=True)):
            text = texts[position : position + length]
            position += length
            if length and self.read(slot) == text:
                keep[place] = False
                continue
            self._drop(slot)
            parts.append(text)
        return slots[keep], lengths[keep], b"".join(parts)

    def _drop(self, slot: int) -> None:
        length = int(self._length.data[slot])
        if not length:
            return
        start = int(self._start.data[slot])
        self._heap.touch(start, start + length)
        self._heap.data[start : start + length] = 0
        self._start.put(slot, 0)
        self._length.put(slot, 0)
        self._dead.put(0, self.dead_bytes + length)


def _column(columns: ColumnSet, name: str, dtype: type[np.generic], rows_max: int) -> Column:
    if name in columns:
        return columns[name]
    return columns.create(name, dtype, rows_max=rows_max)

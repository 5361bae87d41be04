"""Typed values of one payload key, by slot: what filters are evaluated over.

Derived from the payload columns, never replicated: built when a filter first uses a key, and kept
up by noting which slots a command changed; the notes are worked off by the next filter. Entries
are parallel arrays (slot, value), one pair for each type: words (interned strings), integers
(int64), floats (float64; integers outside int64 too), flags (booleans).

A search refreshes under the collection's shared lock and this object's own; what it was handed
stays true until the next exclusive hold, for only apply adds notes.
"""

from math import inf
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from balsadb.database.locks import Mutex
from balsadb.database.paths import Step, is_list, values_at
from balsadb.database.payload_store import PayloadStore

FILLED, NULL, LISTED, OTHER = 1, 2, 4, 8
"""Bits of a slot: some value is neither null nor `[]`; some value, or element of a list, is null;
it has entries; some value is an object, or some element of a list an object or a list."""
CODES_SLACK = 4_096
"""Interned words beyond which, and beyond four an entry, the key is built anew."""
SLICE_SLOTS = 2_048
"""Payloads that one step of building looks at."""
_I64 = 1 << 63


def nearest_float(value: int) -> float:
    """The float64 nearest to an integer, infinite where there is none."""
    try:
        return float(value)
    except OverflowError:
        return inf if value > 0 else -inf


class Entries(NamedTuple):
    """Values of one type: `slots` uint32 (n,), `values` (n,)."""

    slots: NDArray[np.uint32]
    values: NDArray[Any]


class KeyValues(NamedTuple):
    """One key's values at one moment. `bits`: uint8 (slots,)."""

    words: Entries
    integers: Entries
    floats: Entries
    flags: Entries
    codes: dict[str, int]
    bits: NDArray[np.uint8]


class _Growing:
    """Entries that grow at the end and can lose some."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self.count = 0
        self.slots = np.zeros(0, np.uint32)
        self.values: NDArray[Any] = np.zeros(0, dtype)

    def append(self, slots: list[int], values: list[Any]) -> None:
        stop = self.count + len(slots)
        if stop > self.slots.size:
            room = max(1024, stop + stop // 2)
            self.slots = np.concatenate([self.slots, np.zeros(room - self.slots.size, np.uint32)])
            more = np.zeros(room - self.values.size, self.values.dtype)
            self.values = np.concatenate([self.values, more])
        self.slots[self.count : stop] = slots
        self.values[self.count : stop] = values
        self.count = stop

    def remove(self, gone: NDArray[np.bool_]) -> None:
        """Drop the entries of the slots that are set in `gone`."""
        keep = ~gone[self.slots[: self.count]]
        self.slots = self.slots[: self.count][keep]
        self.values = self.values[: self.count][keep]
        self.count = self.slots.size

    def view(self) -> Entries:
        return Entries(self.slots[: self.count], self.values[: self.count])


class _Batch:
    """Values gathered from some slots, before they become arrays."""

    def __init__(self) -> None:
        self.slots: tuple[list[int], ...] = ([], [], [], [])
        self.values: tuple[list[Any], ...] = ([], [], [], [])

    def add(self, slot: int, value: Any) -> bool:
        """Note a scalar under its type; False for anything else."""
        kind = cast("object", type(value))
        if kind is str:
            column = 0
        elif kind is int:
            column = 1 if -_I64 <= value < _I64 else 2
            value = value if column == 1 else nearest_float(value)
        elif kind is float:
            column = 2
        elif kind is bool:
            column = 3
        else:
            return False
        self.slots[column].append(slot)
        self.values[column].append(value)
        return True


class PayloadKey:
    """The values of the path `steps` in all payloads of a collection."""

    def __init__(self, steps: tuple[Step, ...], slots: int) -> None:
        self._steps = steps
        self._lock = Mutex()
        self._pending: list[NDArray[np.uint32]] = [np.arange(slots, dtype=np.uint32)]
        self._pending_count = slots
        kinds: tuple[type[np.generic], ...] = (np.int32, np.int64, np.float64, np.bool_)
        self._entries = tuple(_Growing(kind) for kind in kinds)
        self._codes: dict[str, int] = {}
        self._bits = np.zeros(0, np.uint8)
        probe: Any = msgspec.defstruct(
            "Probe", [("value", Any, None)], rename={"value": str(steps[0])}
        )
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(probe)
        self._whole = msgspec.json.Decoder(dict[str, Any])

    def note(self, slots: NDArray[np.uint32], slots_count: int) -> None:
        """The payloads of these slots changed. Caller: apply, holding the exclusive lock."""
        self._pending.append(slots)
        self._pending_count += slots.size
        if self._pending_count > 2 * slots_count + 1024:
            merged = _union(self._pending)
            self._pending, self._pending_count = [merged], merged.size

    @property
    def is_near(self) -> bool:
        """Whether the next use has only few notes to work off."""
        return self._pending_count <= SLICE_SLOTS

    def advance(self, store: PayloadStore, slots_count: int) -> None:
        """Work off some notes: a step of a few milliseconds. Caller holds the collection's lock."""
        with self._lock:
            self._refresh(store, slots_count, SLICE_SLOTS)

    def values(self, store: PayloadStore, slots_count: int) -> KeyValues:
        """The values as they are now. Caller holds the collection's lock, shared or exclusive."""
        if self._pending or self._bits.size < slots_count:
            with self._lock:
                if self._pending or self._bits.size < slots_count:
                    self._refresh(store, slots_count, slots_count)
        words, integers, floats, flags = (entries.view() for entries in self._entries)
        return KeyValues(words, integers, floats, flags, self._codes, self._bits[:slots_count])

    def _refresh(self, store: PayloadStore, slots_count: int, slots_max: int) -> None:
        if self._bits.size < slots_count:
            more = np.zeros(slots_count + slots_count // 4 - self._bits.size, np.uint8)
            self._bits = np.concatenate([self._bits, more])
        if len(self._codes) > CODES_SLACK + 4 * self._entries[0].count:
            self._forget(slots_count)
        # The slots of one note are distinct; only several notes can name a slot twice.
        noted = self._pending[0] if len(self._pending) == 1 else _union(self._pending)
        slots, rest = noted[:slots_max], noted[slots_max:]
        self._drop(slots[(self._bits[slots] & LISTED) != 0])
        batch = _Batch()
        self._bits[slots] = [self._gather(store.read(slot), slot, batch) for slot in slots.tolist()]
        codes = self._codes
        words = [codes.setdefault(word, len(codes)) for word in batch.values[0]]
        for entries, where, values in zip(
            self._entries, batch.slots, (words, *batch.values[1:]), strict=True
        ):
            if where:
                entries.append(where, values)
        self._pending = [rest] if rest.size else []
        self._pending_count = rest.size

    def _drop(self, listed: NDArray[np.uint32]) -> None:
        """Remove the entries of slots that have some."""
        if listed.size:
            gone = np.zeros(self._bits.size, np.bool_)
            gone[listed] = True
            for entries in self._entries:
                entries.remove(gone)

    def _forget(self, slots_count: int) -> None:
        """Start over: most interned words are of payloads long gone."""
        for entries in self._entries:
            entries.count = 0
        self._codes = {}
        self._bits[:] = 0
        self._pending = [np.arange(slots_count, dtype=np.uint32)]

    def _gather(self, text: bytes, slot: int, batch: _Batch) -> int:
        """Note the values of one payload; its bits."""
        if not text:
            return 0
        value: Any = self._decoder.decode(text).value
        if type(value) in (str, int, float, bool) and len(self._steps) == 1:
            batch.add(slot, value)
            return FILLED | LISTED
        if value is None:
            # Rare enough: tell a null from an absent key.
            found = values_at(self._whole.decode(text), self._steps)
        else:
            found = values_at(value, self._steps, 1)
        bits = 0
        for one in found:
            filled = one is not None
            parts = [one]
            if is_list(one):
                filled, parts = bool(one), one
            bits |= FILLED if filled else 0
            for part in parts:
                if part is None:
                    bits |= NULL
                else:
                    bits |= LISTED if batch.add(slot, part) else OTHER
        return bits


def _union(notes: list[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    return np.unique(np.concatenate([*notes, np.zeros(0, np.uint32)]))

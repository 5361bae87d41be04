"""From an id to its slot: an open-addressing table in one array, nothing per id but its places.

`places` (uint32, a power of two long) holds slot + 1 at the first place at or after the hash of the
slot's id (linear probing; Knuth, TAOCP 3, 6.4, algorithm L), 0 where nothing ever was and `GONE`
where something was removed. It is derived from the ids, not saved: a loaded index makes it anew.

Every operation works on whole arrays: a round settles all ids that found their place, the next one
moves the others on by one place. At most half of the places are taken or gone, so few rounds do.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

MISSING: Final = -1
GONE: Final = np.uint32(0xFFFFFFFF)
SIZE_MIN: Final = 64
_ONE: Final = np.uint64(1)

Ids = NDArray[np.uint64]
Slots = NDArray[np.uint32]


class IdTable:
    """Slots by id. The ids themselves are the caller's, uint64 by slot, at an address that stays;
    those of the slots in the table must not change."""

    def __init__(self, ids: Ids) -> None:
        """An empty table over `ids`, (slots reserved,)."""
        self._ids = ids
        self._places: Slots = np.zeros(SIZE_MIN, np.uint32)
        self._count = 0
        self._gone = 0

    def __len__(self) -> int:
        """Ids in the table."""
        return self._count

    @property
    def size_bytes(self) -> int:
        """Bytes of the table."""
        return self._places.nbytes

    def find(self, wanted: Ids) -> NDArray[np.int64]:
        """The slot of each id, `MISSING` where it is unknown; int64 (n,)."""
        found = np.full(len(wanted), MISSING, np.int64)
        at = self._locate(wanted)
        known = at >= 0
        found[known] = self._places[at[known]].astype(np.int64) - 1
        return found

    def insert(self, slots: Slots) -> None:
        """Enter slots, whose ids are written, distinct and unknown so far."""
        self._count += len(slots)
        if 2 * (self._count + self._gone) > len(self._places):
            held = self._places[(self._places != 0) & (self._places != GONE)] - np.uint32(1)
            slots = np.sort(np.concatenate((held, slots)))
            # At most two fifths full, so that a tenth of all may change before the next time.
            size = max(SIZE_MIN, 1 << (5 * self._count // 2).bit_length())
            self._places = np.zeros(size, np.uint32)
            self._gone = 0
        self._place(slots)

    def remove(self, slots: Slots) -> None:
        """Take slots out, while their ids are still written. All must be in the table."""
        at = self._locate(self._ids[slots])
        self._places[at] = GONE
        self._count -= len(slots)
        self._gone += len(slots)

    def _locate(self, wanted: Ids) -> NDArray[np.int64]:
        """The place of each id in the table, -1 where it is unknown."""
        places, mask = self._places, np.uint64(len(self._places) - 1)
        found = np.full(len(wanted), -1, np.int64)
        pending = np.arange(len(wanted))
        at = _hash(wanted) & mask
        while pending.size:
            marks = places[at]
            used = marks != 0
            pending, at, marks = pending[used], at[used], marks[used]
            slots = np.where(marks == GONE, np.uint32(1), marks) - np.uint32(1)
            same = (self._ids[slots] == wanted[pending]) & (marks != GONE)
            found[pending[same]] = at[same]
            pending, at = pending[~same], (at[~same] + _ONE) & mask
        return found

    def _place(self, slots: Slots) -> None:
        """Put slots at the first free place at or after their hashes; of several that want the same
        place, one gets it and the others go on."""
        places, mask = self._places, np.uint64(len(self._places) - 1)
        at = _hash(self._ids[slots]) & mask
        while slots.size:
            free = places[at] == 0
            marks = slots + np.uint32(1)
            places[at[free]] = marks[free]
            free[free] = places[at[free]] == marks[free]
            slots, at = slots[~free], (at[~free] + _ONE) & mask


def _hash(ids: Ids) -> NDArray[np.uint64]:
    """64 well-mixed bits of each id (the finaliser of SplitMix64)."""
    value = (ids ^ ids >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ value >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return value ^ value >> np.uint64(31)

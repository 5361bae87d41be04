"""From point id to slot: an open-addressing table in columns.

`{prefix}/id_kind`, `id_hi`, `id_lo` hold the id of each slot; `{prefix}/id_table` (uint32, a power
of two long, at most half full) holds slot + 1 at the first free place at or after the id's hash
(linear probing; Knuth, TAOCP 3, 6.4, algorithm L), 0 where free. Removal closes the gap (algorithm
R), so there are no tombstones and a lookup ends at the first free place.

The table's layout depends on the order of insertions and removals, which the log fixes; nothing in
it depends on when a node restarted.
"""

import numpy as np
from numpy.typing import NDArray

from balsadb.columns import Column, ColumnSet
from balsadb.database.limits import POINTS_MAX
from balsadb.database.point_ids import Ids, hash_ids, hash_one

TABLE_SIZE_MIN = 64
MISSING = -1


class IdMap:
    """Ids of slots, and slots of ids."""

    def __init__(self, columns: ColumnSet, prefix: str) -> None:
        """Create the columns, or adopt them when they are there."""
        self._kind = _column(columns, f"{prefix}/id_kind", np.uint8, POINTS_MAX)
        self._hi = _column(columns, f"{prefix}/id_hi", np.uint64, POINTS_MAX)
        self._lo = _column(columns, f"{prefix}/id_lo", np.uint64, POINTS_MAX)
        self._table = _column(columns, f"{prefix}/id_table", np.uint32, 4 * POINTS_MAX)
        if not self._table.rows:
            self._table.resize(TABLE_SIZE_MIN)

    def ids(self, slots: "NDArray[np.integer] | slice") -> Ids:  # type: ignore[type-arg]
        """The ids of these slots."""
        return Ids(self._kind.data[slots], self._hi.data[slots], self._lo.data[slots])

    def find_one(self, kind: int, hi: int, lo: int) -> int:
        """The slot of an id, or MISSING."""
        table = self._table.data
        mask = self._table.rows - 1
        place = hash_one(kind, hi, lo) & mask
        while True:
            slot = int(table[place]) - 1
            if slot < 0:
                return MISSING
            if (
                int(self._lo.data[slot]) == lo
                and int(self._hi.data[slot]) == hi
                and int(self._kind.data[slot]) == kind
            ):
                return slot
            place = (place + 1) & mask

    def find(self, ids: Ids) -> NDArray[np.int64]:
        """The slots of ids, MISSING where unknown; (n,) int64."""
        count = len(ids.kind)
        found = np.full(count, MISSING, np.int64)
        if count <= 2:
            for place in range(count):
                found[place] = self.find_one(
                    int(ids.kind[place]), int(ids.hi[place]), int(ids.lo[place])
                )
            return found
        table, mask = self._table.data, np.uint64(self._table.rows - 1)
        places = hash_ids(ids) & mask
        pending = np.arange(count)
        while pending.size:
            slots = table[places].astype(np.int64) - 1
            used = slots >= 0
            pending, places, slots = pending[used], places[used], slots[used]
            same = (
                (self._lo.data[slots] == ids.lo[pending])
                & (self._hi.data[slots] == ids.hi[pending])
                & (self._kind.data[slots] == ids.kind[pending])
            )
            found[pending[same]] = slots[same]
            other = ~same
            pending, places = pending[other], (places[other] + np.uint64(1)) & mask
        return found

    def insert(self, slots: NDArray[np.uint32], ids: Ids, live_count: int) -> None:
        """Give slots their ids. The ids are distinct and unknown; `live_count` counts them."""
        if not slots.size:
            return
        top = int(slots.max()) + 1
        for column, values in ((self._kind, ids.kind), (self._hi, ids.hi), (self._lo, ids.lo)):
            if column.rows < top:
                column.resize(top)
            column.touch_rows(slots)
            column.data[slots] = values
        if 2 * live_count > self._table.rows:
            self._grow(live_count, slots)
        else:
            self._place(slots, hash_ids(ids))

    def remove(self, slots: NDArray[np.uint32]) -> None:
        """Forget the ids of these slots, in order."""
        hashes = hash_ids(self.ids(slots)).tolist()
        for slot, digest in zip(slots.tolist(), hashes, strict=True):
            self._unplace(slot, digest)
        for column in (self._kind, self._hi, self._lo):
            column.touch_rows(slots)
            column.data[slots] = 0

    def check(self, live: NDArray[np.bool_]) -> list[str]:
        """Violated invariants, in words."""
        slots = np.flatnonzero(live).astype(np.uint32)
        wrong = [] if np.array_equal(self.find(self.ids(slots)), slots) else ["a slot's id is lost"]
        if np.count_nonzero(self._table.used) != slots.size:
            wrong.append("the id table holds a slot that is not live")
        return wrong

    def _place(self, slots: NDArray[np.uint32], hashes: NDArray[np.uint64]) -> None:
        """Put slots at the first free place at or after their hashes; of several that want the
        same place, the first in the array gets it and the others go on."""
        table, mask = self._table.data, np.uint64(self._table.rows - 1)
        places = hashes & mask
        while slots.size:
            free = table[places] == 0
            wanted, marks = places[free], slots[free] + np.uint32(1)
            self._table.touch_rows(wanted)
            table[wanted[::-1]] = marks[::-1]
            free[free] = table[wanted] == marks
            rest = ~free
            slots, places = slots[rest], (places[rest] + np.uint64(1)) & mask

    def _unplace(self, slot: int, digest: int) -> None:
        """Knuth's algorithm R: empty the slot's place, then move back what probed past it."""
        table, mask = self._table.data, self._table.rows - 1
        hole = digest & mask
        while int(table[hole]) != slot + 1:
            hole = (hole + 1) & mask
        place = hole
        while True:
            place = (place + 1) & mask
            mark = int(table[place])
            if not mark:
                break
            home = self._hash_of(mark - 1) & mask
            # Only an id whose home is cyclically outside (hole, place] may move into the hole.
            if (place - home) & mask >= (place - hole) & mask:
                self._table.put(hole, mark)
                hole = place
        self._table.put(hole, 0)

    def _hash_of(self, slot: int) -> int:
        return hash_one(
            int(self._kind.data[slot]), int(self._hi.data[slot]), int(self._lo.data[slot])
        )

    def _grow(self, live_count: int, fresh: NDArray[np.uint32]) -> None:
        """A table of four times the ids, filled in the order of slots."""
        old = self._table.used
        slots = np.concatenate([old[old != 0] - np.uint32(1), fresh])
        slots.sort()
        size = TABLE_SIZE_MIN
        while size < 4 * live_count:
            size *= 2
        self._table.resize(0)
        self._table.resize(size)
        self._place(slots, hash_ids(self.ids(slots)))


def _column(columns: ColumnSet, name: str, dtype: type[np.generic], rows_max: int) -> Column:
    if name in columns:
        return columns[name]
    return columns.create(name, dtype, rows_max=rows_max)

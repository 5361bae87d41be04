"""One vector name of one collection: its rows, its graph, and the searches over them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from balsadb.columns import ColumnSet
from balsadb.index import flat
from balsadb.index.layout import (
    ENTRY,
    GRAPH_VERSION,
    LINKED,
    LINKED_COUNT,
    LINKED_DEAD,
    LINKED_DEAD_COUNT,
    TAIL,
    TAIL_COUNT,
    TAIL_DEAD,
    TAIL_DEAD_COUNT,
    draw_layers,
    open_columns,
)
from balsadb.index.metrics import scores_of
from balsadb.index.options import IndexOptions

Rows = NDArray[np.uint32]


class VectorIndex:
    """Vectors by row, found by nearness. Everything it remembers lives in columns under `prefix`.

    `add`, `tombstone` and `apply` are the writers: memory writes that compute no distance, equal
    on all replicas. `search` and the other readers may run on many threads at once, but not beside
    a writer. `plan` reads too, and may run beside `add` and `tombstone`.
    """

    def __init__(self, columns: ColumnSet, prefix: str, options: IndexOptions) -> None:
        """Creates the columns, or adopts them when they are there (restore)."""
        options.check()
        self.options = options
        self.prefix = prefix
        self._columns = open_columns(columns, prefix, options)

    # ------------------------------------------------------------------ writers

    def add(self, slots: NDArray[np.uint32], vectors: NDArray[np.float32]) -> Rows:
        """Store `vectors` (n, dim), prepared, for `slots` (n,); returns their rows, uint32 (n,).

        They join the tail: found by the next search. LimitExceeded if the reserve is full.
        """
        held = self._columns
        rows = held.rows.alloc(len(slots))
        top = held.rows.top
        for column in (held.vectors, held.links0, held.upper_offset, held.layer, held.row_slot):
            if column.rows < top:
                column.resize(top)
        for column, values in (
            (held.vectors, vectors),
            (held.row_slot, slots),
            (held.layer, draw_layers(rows, self.options.m, self.options.seed)),
        ):
            column.touch_rows(rows)
            column.data[rows] = values
        if held.state.rows < top:
            held.state.resize(top)
        held.state.touch_rows(rows)
        held.state.data[rows] = TAIL  # last: a plan beside this call trusts rows that say so
        self._count(TAIL_COUNT, len(rows))
        return rows

    def tombstone(self, rows: Rows) -> None:
        """Mark live rows deleted: not returned by any search from now on. Others are ignored."""
        held = self._columns
        rows = np.unique(rows[rows < held.state.rows]).astype(np.uint32)
        states = held.state.data[rows]
        for live, dead, gained, lost in (
            (TAIL, TAIL_DEAD, TAIL_DEAD_COUNT, TAIL_COUNT),
            (LINKED, LINKED_DEAD, LINKED_DEAD_COUNT, None),
        ):
            hit = rows[states == live]
            if len(hit):
                held.state.touch_rows(hit)
                held.state.data[hit] = dead
                self._count(gained, len(hit))
                if lost is not None:
                    self._count(lost, -len(hit))

    def apply(self, edit: bytes) -> bool:
        """Carry out a planned edit. False: ignored, it was planned on another graph version."""
        return False

    # ------------------------------------------------------------------ leader side

    def plan(self, rows_limit: int) -> bytes | None:
        """The next edit, or None if there is nothing to do."""
        return None

    # ------------------------------------------------------------------ readers

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        ef: int,
        slots: NDArray[np.bool_] | None = None,
        exact: bool = False,
    ) -> tuple[Rows, NDArray[np.float32]]:
        """The `k` live rows nearest to `query` (dim,), best first, and their scores; ties by row.

        `slots`: a mask over slots; only rows of set slots count. Fewer than `k` only if fewer
        match.
        """
        states = self._columns.state.used
        live = (states == TAIL) | (states == LINKED)
        if slots is not None:
            at = self._columns.row_slot.used
            inside = at < len(slots)
            live &= inside
            live[inside] &= slots[at[inside]]
        rows = np.flatnonzero(live).astype(np.uint32)
        rows, found = flat.nearest(self.options.metric, query, self._columns.vectors.data, rows, k)
        return rows, scores_of(self.options.metric, found)

    def vectors(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """A copy of the stored vectors of `rows`, shape (n, dim)."""
        return self._columns.vectors.data[rows]

    @property
    def row_slot(self) -> Rows:
        """The slot of every row, shape (rows reserved,): the column's data, not to be written."""
        return self._columns.row_slot.data

    @property
    def rows(self) -> int:
        """Rows ever handed out (the high-water mark)."""
        return self._columns.state.rows

    @property
    def live_count(self) -> int:
        """Rows that a search can return."""
        return self.tail_count + self.linked_count - self._meta(LINKED_DEAD_COUNT)

    @property
    def linked_count(self) -> int:
        """Rows in the graph, tombstones included."""
        return self._meta(LINKED_COUNT)

    @property
    def tail_count(self) -> int:
        """Live rows that wait to be linked."""
        return self._meta(TAIL_COUNT)

    @property
    def graph_version(self) -> int:
        """Edits applied so far."""
        return self._meta(GRAPH_VERSION)

    @property
    def distances_total(self) -> int:
        """Distances computed by searches and plans of this process. `apply` computes none."""
        return 0

    def check(self) -> list[str]:
        """Violated invariants, in words; empty if all hold."""
        return []

    def _meta(self, word: int) -> int:
        return int(self._columns.meta.data[word])

    def _count(self, word: int, change: int) -> None:
        self._columns.meta.put(word, np.uint64(self._meta(word) + change))


__all__ = ["ENTRY", "VectorIndex"]

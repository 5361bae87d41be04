"""One vector name of one collection: its rows, its graph, and the searches over them."""

from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from balsadb.columns import ColumnSet
from balsadb.columns.reserve import Reserve
from balsadb.index import calibration, tuning
from balsadb.index.applier import apply_edit, write_codes
from balsadb.index.check import violations
from balsadb.index.distance_kernels import Graph, Measure
from balsadb.index.edit import LINK, kind_of, version_of
from balsadb.index.layout import (
    CODED_ROWS,
    FREE,
    GRAPH_VERSION,
    LINKED,
    LINKED_COUNT,
    LINKED_DEAD,
    LINKED_DEAD_COUNT,
    QUANTISER_EPOCH,
    TAIL,
    TAIL_COUNT,
    TAIL_DEAD,
    TAIL_DEAD_COUNT,
    draw_layers,
    open_columns,
)
from balsadb.index.metrics import larger_is_better, scores_of
from balsadb.index.options import EF_MAX, ROWS_MAX, IndexOptions, Precision
from balsadb.index.planner import Planner, Run, measure_of
from balsadb.index.scratch import ScratchPool
from balsadb.index.search_kernels import ALL_LIVE, STRAIGHT, Request, search_queries

Rows = NDArray[np.uint32]
AUTO = 0
"""As `ef`: the calibrated width."""
SCORED_MORE = 16
"""Candidates beyond `k` that are scored exactly, at least (and as many as `k`)."""
_NO_MASK: NDArray[np.bool_] = np.zeros(0, np.bool_)
_NONE_HIDDEN: Rows = np.zeros(0, np.uint32)
_USUAL = Precision()


class Codes(NamedTuple):
    """How far the 8-bit codes are: decisions on a quantiser so far (the last may be for none), rows
    that are to have codes, and how many of them have; walks go by codes if there are such rows and
    all have theirs."""

    epoch: int
    rows: int
    coded: int


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
        held = self._columns = open_columns(columns, prefix, options)
        # The live row of each slot, plus one; not a column, for it follows from `row_slot`.
        slots_max = max(ROWS_MAX, options.rows_reserved)
        self._slots = Reserve(4 * slots_max)
        self._straight = True
        self._slot_row = self._slots.bytes.view(np.uint32)
        self._graph = Graph(
            vectors=held.vectors.data,
            links0=held.links0.data,
            upper_offset=held.upper_offset.data,
            upper_links=held.upper_links.data,
            state=held.state.data,
            row_slot=held.row_slot.data,
            meta=held.meta.data,
            codes=held.codes.data,
            bias=held.bias.data,
            quantiser=held.quantiser.data,
            slot_row=self._slot_row,
        )
        self._scratches = ScratchPool(options.code_bytes)
        self._planner = Planner(held, self._graph, options, self._scratches)
        # Rows of the tail, ascending; may still name rows that died since: searches look at states.
        self._tail: Rows = np.zeros(0, np.uint32)
        self._list_tail()
        states = held.state.used
        live = np.flatnonzero((states == TAIL) | (states == LINKED)).astype(np.uint32)
        self._name_slots(held.row_slot.data[live], live)
        # Of dead rows too: searches count them, and must count alike on all replicas.
        taken = np.flatnonzero(states != FREE)
        self._straight = bool((held.row_slot.data[taken] == taken).all())

    # ------------------------------------------------------------------ writers

    def ensure(self, count: int) -> None:
        """Make sure that `count` vectors can be added, changing nothing. DiskFull or DiskFailed if
        the vectors live in a file that has no room for them."""
        taken = self._columns.rows
        self._columns.vectors.ensure(taken.top + max(0, count - taken.free_count))

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
        if held.quantiser.rows:
            self._code(rows, top)
        if held.state.rows < top:
            held.state.resize(top)
        held.state.touch_rows(rows)
        held.state.data[rows] = TAIL  # last: a plan beside this call trusts rows that say so
        self._name_slots(slots, rows)
        self._count(TAIL_COUNT, len(rows))
        self._tail = np.concatenate((self._tail, rows))
        return rows

    def _code(self, rows: Rows, top: int) -> None:
        """Make the codes of new rows; `top`: rows in use with them."""
        held = self._columns
        complete = self._meta(CODED_ROWS) == held.codes.rows
        if held.codes.rows < top:
            held.codes.resize(top)
            held.bias.resize(top)
        write_codes(held, rows)
        if complete:
            held.meta.put(CODED_ROWS, np.uint64(top))

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
                slots = held.row_slot.data[hit]
                self._slot_row[slots[self._slot_row[slots] == hit + np.uint32(1)]] = 0
                self._count(gained, len(hit))
                if lost is not None:
                    self._count(lost, -len(hit))

    def apply(self, edit: bytes) -> bool:
        """Carry out a planned edit. False: ignored, it was planned on another graph version."""
        if version_of(edit) != self.graph_version:
            return False
        apply_edit(self._columns, edit)
        if kind_of(edit) == LINK:
            self._list_tail()
        return True

    # ------------------------------------------------------------------ leader side

    def plan(
        self, rows_limit: int, *, slices: int = 1, run: Run = map, codes: bool = True
    ) -> bytes | None:
        """The next edit, linking at most `rows_limit` rows; None if there is nothing to do.

        `run` is called with a function and `slices` arguments, like `map`; a thread pool's `map`
        spreads the work. The bytes do not depend on either. `codes` False: of the graph, though an
        edit of the codes be due.
        """
        return self._planner.plan(rows_limit, slices, run, codes=codes)

    @property
    def codes_due(self) -> bool:
        """Whether `plan` has to look after the codes: some are missing, or a quantiser may have to
        be trained. Depends on this process only where it looked at a present quantiser in vain."""
        return self._planner.codes_due()

    @property
    def repair_due(self) -> int:
        """How much repair `plan` has to do when no rows wait: dead rows of the graph, if they are
        many enough to be freed; 1 if only a look for unreachable rows is due; else 0."""
        return self._planner.repair_due

    # ------------------------------------------------------------------ readers

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        ef: int = AUTO,
        slots: NDArray[np.bool_] | None = None,
        exact: bool = False,
        precision: Precision = _USUAL,
    ) -> tuple[Rows, NDArray[np.float32]]:
        """The `k` live rows nearest to `query` (dim,), best first, and their scores; ties by row.

        `ef` AUTO: the width that was measured to reach the precision's target recall (`ef_for`);
        a scan while there are too few rows to measure.
        `slots`: a mask over slots; only rows of set slots count. Fewer than `k` only if fewer
        match. Scores are exact, whatever the `precision`.
        """
        rows, scores, counts = self.search_many(
            query.reshape(1, -1), k, ef=ef, slots=slots, exact=exact, precision=precision
        )
        count = int(counts[0])
        return rows[0, :count], scores[0, :count]

    def search_many(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        ef: int = AUTO,
        slots: NDArray[np.bool_] | None = None,
        exact: bool = False,
        precision: Precision = _USUAL,
    ) -> tuple[Rows, NDArray[np.float32], NDArray[np.int64]]:
        """`search` for each of `queries` (q, dim) in one call: rows (q, k), scores (q, k) and how
        many of each are filled (q,); the rest is zero."""
        count = len(queries)
        exact = exact or (ef == AUTO and self._unmeasured)
        ef = ef or self.ef_for(k, precision.target_recall, slots)
        rows = np.zeros((count, k), np.uint32)
        distances = np.zeros((count, k), np.float32)
        counts = np.zeros(count, np.int64)
        total = self._columns.state.rows
        masked = slots is not None
        measure = self.measure
        if not precision.codes:
            measure = measure._replace(coded=0)
        wanted = ceil(min(precision.oversampling * k, EF_MAX))
        request = Request(
            k=k,
            ef=min(max(ef, k, wanted), EF_MAX),
            scored=max(2 * k, k + SCORED_MORE, wanted),
            n=total,
            tail=len(self._tail),
            masked=int(masked),
            exact=int(exact or k > EF_MAX),
            straight=self._straightness(total),
        )
        mask = _plain(slots) if slots is not None else _NO_MASK
        keys = max(4 * (k + SCORED_MORE), 2 * request.scored)
        scratch = self._scratches.take(total, keys, len(mask))
        try:
            search_queries(
                self._graph,
                scratch,
                measure,
                request,
                mask,
                self._tail,
                _plain(queries),
                _NONE_HIDDEN,
                rows,
                distances,
                counts,
            )
        finally:
            self._scratches.give(scratch)
        return rows, scores_of(self.options.metric, distances), counts

    def ef_for(self, k: int, target_recall: float, slots: NDArray[np.bool_] | None = None) -> int:
        """The beam width that finds `target_recall` (0..1) of the `k` nearest of those that a mask
        over slots passes, by the measurement that the log carries (`tuning`): the same on every
        replica."""
        target = min(max(round(target_recall * tuning.ONE), 0), tuning.ONE)
        live = self.live_count
        passing = live if slots is None else min(live, int(np.count_nonzero(slots)))
        return tuning.ef_for(self._columns.tuning.used, k, target, (passing, live))

    @property
    def _unmeasured(self) -> bool:
        """Whether no beam width was measured yet as there are too few rows for it."""
        return self.calibrated_rows == 0 and self.live_count < calibration.ROWS_MIN

    @property
    def calibrated_rows(self) -> int:
        """Live rows when beam widths were measured last; 0: never."""
        measured = self._columns.tuning.used
        return int(measured[tuning.ROWS_MEASURED]) if len(measured) else 0

    def plan_bridges(self, *, slices: int = 1, run: Run = map) -> bytes | None:
        """An edit with paths to rows of the graph that none leads to, whether many came or went or
        not; None if all can be reached. Another look may follow: one edit is of one layer."""
        return self._planner.plan_bridges(slices, run)

    def plan_calibration(self, *, slices: int = 1, run: Run = map) -> bytes | None:
        """The edit that measures beam widths now, if it is due, whether rows wait or not."""
        return self._planner.plan_calibration(slices, run, waiting=False)

    def recall(
        self,
        sample: "NDArray[np.float32] | int",
        k: int,
        *,
        ef: int = AUTO,
        slots: NDArray[np.bool_] | None = None,
        target_recall: float = _USUAL.target_recall,
    ) -> float:
        """Mean share of the true `k` nearest that `search` finds: for queries (q, dim), or for
        about so many stored vectors, each searched as if it were not stored (`calibration`). 1
        where there is nothing to find."""
        if isinstance(sample, int):
            if ef == AUTO:
                scanned = self._unmeasured
                ef = calibration.SCAN if scanned else self.ef_for(k, target_recall, slots)
            ground = calibration.Ground(self._columns, self._graph, self.measure, self._scratches)
            own = calibration.sample(self._columns, sample)
            mask = None if slots is None else _plain(slots)
            found, truth = (
                calibration.left_out(ground, own, (k, width), mask, (1, map)) for width in (ef, 0)
            )
        else:
            precision = Precision(target_recall=target_recall)
            sign = -1 if larger_is_better(self.options.metric) else 1
            found, truth = (
                calibration.answers(sign * scores, counts)
                for _, scores, counts in (
                    self.search_many(
                        sample, k, ef=ef, slots=slots, exact=exact, precision=precision
                    )
                    for exact in (False, True)
                )
            )
        return float(calibration.recalls(found, truth, k).mean()) if len(found.counts) else 1.0

    def memory(self) -> dict[str, int]:
        """Bytes in use by part: vectors, codes, links, upper links, bookkeeping (all else that
        grows with the rows), scratch (of the searches and plans that ran at once, kept)."""
        held = self._columns
        parts = {
            "vectors": (held.vectors,),
            "codes": (held.codes, held.bias, held.quantiser),
            "links": (held.links0,),
            "upper_links": (held.upper_links, held.upper_offset),
            "bookkeeping": (held.layer, held.state, held.row_slot, held.tuning, held.meta),
        }
        sizes = {
            name: sum(column.rows * column.row_bytes for column in columns)
            for name, columns in parts.items()
        }
        slots = int(held.row_slot.used.max(initial=0)) + 1
        sizes["bookkeeping"] += 4 * slots + self._tail.nbytes + held.rows.top // 8
        sizes["scratch"] = self._scratches.idle_bytes
        return sizes

    def vectors(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """A copy of the stored vectors of `rows`, shape (n, dim)."""
        return self._columns.vectors.data[rows]

    @property
    def measure(self) -> Measure:
        """How walks measure now."""
        return measure_of(self._columns, self.options)

    @property
    def row_slot(self) -> Rows:
        """The slot of every row, shape (rows reserved,): the column's data, not to be written."""
        return self._columns.row_slot.data

    @property
    def slot_row(self) -> Rows:
        """One more than the live row of every slot that has one, else 0, shape (slots reserved,);
        not to be written."""
        return self._slot_row

    @property
    def rows(self) -> int:
        """Rows ever handed out (the high-water mark)."""
        return self._columns.state.rows

    @property
    def rows_taken(self) -> int:
        """Rows that are not free: live ones, and dead ones that no edit has freed yet."""
        return self._columns.rows.used_count

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
    def tail_dead_count(self) -> int:
        """Rows that died before they were linked and wait for an edit to free them."""
        return self._meta(TAIL_DEAD_COUNT)

    @property
    def codes(self) -> Codes:
        """How far the codes are."""
        epoch, coded = self._meta(QUANTISER_EPOCH), self._meta(CODED_ROWS)
        return Codes(epoch, self._columns.codes.rows, coded)

    @property
    def graph_version(self) -> int:
        """Edits applied so far."""
        return self._meta(GRAPH_VERSION)

    @property
    def distances_total(self) -> int:
        """Distances computed by searches and plans of this process. `apply` computes none."""
        return self._scratches.distances

    def check(self) -> list[str]:
        """Violated invariants, in words; empty if all hold."""
        return violations(self._columns, self.options)

    def _name_slots(self, slots: Rows, rows: Rows) -> None:
        self._slots.advise(4 * (int(slots.max(initial=0)) + 1))
        self._slot_row[slots] = rows + np.uint32(1)
        self._straight = self._straight and bool((slots == rows).all())

    def _straightness(self, rows: int) -> int:
        """Whether rows need no look at their slots, as a search wants to know it."""
        if not self._straight:
            return 0
        return ALL_LIVE if self.live_count == rows else STRAIGHT

    def _list_tail(self) -> None:
        self._tail = np.flatnonzero(self._columns.state.used == TAIL).astype(np.uint32)

    def _meta(self, word: int) -> int:
        return int(self._columns.meta.data[word])

    def _count(self, word: int, change: int) -> None:
        self._columns.meta.put(word, np.uint64(self._meta(word) + change))


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """The array as kernels are compiled for: C order and writable (a copy if it is not)."""
    return np.require(array, requirements=("C", "W", "A"))

"""Planning an edit: Algorithm 1 (INSERT) for a batch of rows at once, writing nothing.

Three steps. (1) For every row of the batch, on each of its layers, its neighbours: a walk over the
graph as it is, plus the rest of the batch by exact comparison, reduced by Algorithm 4. (2) The
links back: pairs (target, source) grouped by target, sorted by (distance, row). (3) For every
target, append if the slack allows, else reduce old and new by Algorithm 4. So a list is written at
most once an edit, and no step depends on the order in which slices are worked off.

A plan may run beside `add` and `tombstone`: it takes the row count once and looks at no row beyond
it. A concurrent edit makes it useless, not dangerous: its graph version no longer matches.
"""

from collections.abc import Callable
from itertools import pairwise
from math import ceil
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from balsadb.index import calibration, edit
from balsadb.index.distance_kernels import Graph, Measure
from balsadb.index.edit import EDIT_BYTES_MAX, Edit
from balsadb.index.group_kernels import fill_groups, pack_links, turn_links
from balsadb.index.layout import (
    CODED_ROWS,
    ENTRY,
    GRAPH_VERSION,
    LINKED,
    LINKED_COUNT,
    LINKED_DEAD_COUNT,
    QUANTISER_EPOCH,
    TAIL,
    TAIL_COUNT,
    TAIL_DEAD,
    TOP_LAYER,
    TRAINED_ROWS,
    TURNOVER,
    Columns,
    draw_layers,
)
from balsadb.index.metrics import KERNEL_CODES, Metric
from balsadb.index.options import IndexOptions
from balsadb.index.plan_kernels import (
    BEAM,
    BEAM_LEAST,
    Base,
    Batch,
    Changes,
    Groups,
    plan_changes,
    plan_links,
)
from balsadb.index.quantiser import (
    GROWTH,
    LOOK_ROWS,
    ORDER_KEPT,
    ORDER_LOOK_ROWS,
    ORDER_LOST,
    ORDER_ROWS,
    fits,
    order_kept,
    own_steps,
    sample_rows,
    train,
)
from balsadb.index.repair import DUE_SHARE, IDLE_SHARE, URGENT_SHARE, Repairer
from balsadb.index.scratch import ScratchPool
from balsadb.index.slicing import Run

ROWS_MAX: Final = 1_024
"""Rows of a batch: exact comparison within it costs the square."""
CHANGES_LESS: Final = 4
"""Back links are a tenth of the work of a plan: so much fewer parts of them."""
CHURNED: Final = 1.25
"""Rows that came or went, for each that is linked: above it, an index does not only grow."""
DEAD_ROWS_MIN: Final = 256
"""Dead rows of the tail that are worth an edit when there is nothing to link."""

CODE_ELEMENTS: Final = 1 << 21
"""Bytes of the codes that one edit makes, padding included: one or two milliseconds, more if
other work has the memory."""


def measure_of(held: Columns, options: IndexOptions) -> Measure:
    """How walks measure: by codes once every row has one."""
    coded = held.quantiser.rows > 0 and int(held.meta.data[CODED_ROWS]) == held.codes.rows
    dot = options.metric is Metric.DOT
    links = coded and not dot  # codes know nothing of norms
    return Measure(KERNEL_CODES[options.metric], options.dim, int(coded), int(links), int(dot))


class Planner:
    """Plans for one index. Between calls it only remembers what it need not look at again."""

    def __init__(
        self, columns: Columns, graph: Graph, options: IndexOptions, scratches: ScratchPool
    ) -> None:
        self._columns = columns
        self._graph = graph
        self._options = options
        self._scratches = scratches
        self._repairer = Repairer(columns, graph, options, scratches)
        self._quantiser_checked_rows = 0

    def plan(self, rows_limit: int, slices: int, run: Run, *, codes: bool = True) -> bytes | None:
        """The next edit for at most `rows_limit` rows, or None if there is nothing to do; `codes`:
        one of the codes goes first."""
        return (
            (self._plan_codes() if codes else None)
            or self.plan_calibration(slices, run, waiting=True)
            or self._plan_graph(rows_limit, slices, run)
            or self.plan_calibration(slices, run, waiting=False)
        )

    def codes_due(self) -> bool:
        """Whether a CODE edit is due, or it is time to see about a TRAIN edit. From counts alone:
        asked again and again."""
        return self._coding_due() or self._training_due()

    def _coding_due(self) -> bool:
        return int(self._columns.meta.data[CODED_ROWS]) < self._columns.codes.rows

    def _training_due(self) -> bool:
        """Whether there are enough rows for a first quantiser, or for a look at the present one."""
        meta, options = self._columns.meta.data, self._options
        least, rows = options.codes_rows_min, self._columns.state.rows
        seen = max(int(meta[TRAINED_ROWS]), self._quantiser_checked_rows)
        enough = max(GROWTH * seen, 0 if int(meta[QUANTISER_EPOCH]) else least)
        if not options.quantization or rows < enough:
            return False
        if options.metric is Metric.DOT and int(meta[QUANTISER_EPOCH]):
            return False  # steps of their own fit all rows
        live = int(meta[TAIL_COUNT]) + int(meta[LINKED_COUNT]) - int(meta[LINKED_DEAD_COUNT])
        return live >= max(1, min(rows, least) // 2)

    @property
    def repair_due(self) -> int:
        """Dead rows that an edit should free now; 1 if rows may have become unreachable, or beam
        widths should be measured again."""
        look = self._repairer.look_over_due() or calibration.is_due(self._columns, waiting=False)
        return self._repairer.due(IDLE_SHARE) or int(look)

    def _plan_graph(self, rows_limit: int, slices: int, run: Run) -> bytes | None:
        """Links and repairs in turn if both are due; what can wait, when nothing else is left."""
        repairer, measure = self._repairer, measure_of(self._columns, self._options)
        turn = int(self._columns.meta.data[GRAPH_VERSION]) % 2
        if repairer.due(DUE_SHARE if turn else URGENT_SHARE):
            return repairer.plan_repair(measure, slices, run)
        found = self._plan_links(rows_limit, slices, run)
        if found is None and repairer.due(IDLE_SHARE):
            found = repairer.plan_repair(measure, slices, run)
        if found is None and repairer.look_over_due():
            found = self.plan_bridges(slices, run)
        return found

    def plan_bridges(self, slices: int, run: Run) -> bytes | None:
        """An edit with paths to rows of the graph that none leads to; None: all can be reached."""
        measure = measure_of(self._columns, self._options)
        return self._repairer.plan_bridges(measure, slices, run)

    def plan_calibration(self, slices: int, run: Run, *, waiting: bool) -> bytes | None:
        """A CALIBRATE edit, if one is due; `waiting`: while rows may still wait to be linked."""
        held, options = self._columns, self._options
        if not calibration.is_due(held, waiting):
            return None
        version = int(held.meta.data[GRAPH_VERSION])
        ground = calibration.Ground(held, self._graph, measure_of(held, options), self._scratches)
        return edit.encode_calibration(version, calibration.calibrate(ground, slices, run))

    def _plan_codes(self) -> bytes | None:
        """A TRAIN or CODE edit, if one is due."""
        held, options = self._columns, self._options
        meta, rows = held.meta.data, held.codes.rows
        version, coded = int(meta[GRAPH_VERSION]), int(meta[CODED_ROWS])
        if coded < rows:
            count = min(rows - coded, max(1, CODE_ELEMENTS // options.code_bytes))
            return edit.encode_coding(version, coded, count)
        if not self._training_due():
            return None
        present = held.state.rows
        states = held.state.data[:present]
        live = np.flatnonzero((states == TAIL) | (states == LINKED)).astype(np.uint32)
        if not len(live):
            return None  # they died since they were counted
        if options.metric is Metric.DOT:
            return edit.encode_training(version, own_steps(options.dim))
        found = self._plan_training(version, live)
        if found is None:  # else it is seen by its effect, if it does not get lost
            self._quantiser_checked_rows = present
        return found

    def _plan_training(self, version: int, live: NDArray[np.uint32]) -> bytes | None:
        """A TRAIN edit, of a quantiser or of none, if the present one does not serve."""
        held, dim = self._columns, self._options.dim
        used = held.quantiser.used.copy()
        serves = len(used) > 0 and self._order_kept(live, used, ORDER_LOOK_ROWS) >= ORDER_LOST
        if serves and fits(held.vectors.data[sample_rows(live, dim, LOOK_ROWS)], used):
            return None
        better = train(held.vectors.data[sample_rows(live, dim)])
        least = ORDER_LOST if serves else ORDER_KEPT
        if better is not None and self._order_kept(live, better, ORDER_ROWS) >= least:
            return edit.encode_training(version, better)
        if not serves and (len(used) or not int(held.meta.data[QUANTISER_EPOCH])):
            return edit.encode_training(version, used[:0])  # all nodes shall know
        return None

    def _order_kept(
        self, live: NDArray[np.uint32], quantiser: NDArray[np.float32], most: int
    ) -> float:
        dim, kind = self._options.dim, KERNEL_CODES[self._options.metric]
        sample = self._columns.vectors.data[sample_rows(live, dim, most)]
        return order_kept(sample, quantiser, kind)

    def _plan_links(self, rows_limit: int, slices: int, run: Run) -> bytes | None:
        count = self._columns.state.rows  # once: rows added from now on are not looked at
        # A copy, taken once: a row that a concurrent `tombstone` kills between two looks would be
        # in both lists, linked and freed by one edit.
        states = self._columns.state.data[:count].copy()
        meta = self._columns.meta.data
        waiting = np.flatnonzero(states == TAIL).astype(np.uint32)
        dead = np.flatnonzero(states == TAIL_DEAD).astype(np.uint32)
        if int(meta[LINKED_COUNT]) == 0 and len(waiting) < self._options.graph_rows_min:
            waiting = waiting[:0]
        if len(waiting) == 0 and len(dead) < DEAD_ROWS_MIN:
            return None
        limit = max(1, min(rows_limit, ROWS_MAX))
        dead = dead[: 4 * ROWS_MAX]
        while True:
            data = edit.encode(self._edit(count, waiting[:limit], dead, (slices, run)))
            if len(data) <= EDIT_BYTES_MAX or limit == 1:
                return data
            limit = max(1, limit // 2)

    def _edit(
        self, count: int, rows: NDArray[np.uint32], freed: NDArray[np.uint32], how: tuple[int, Run]
    ) -> Edit:
        options, meta = self._options, self._columns.meta.data
        layers = draw_layers(rows, options.m, options.seed)
        lists = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(layers.astype(np.int64) + 1, out=lists[1:])
        batch = Batch(rows, layers, lists[:-1].copy())
        entry, top = int(meta[ENTRY]), int(meta[TOP_LAYER])
        measure = measure_of(self._columns, options)
        ef = beam = options.ef_construct
        # What came early got long links. Where much of that is gone, full width makes up for it.
        grown = CHURNED * int(meta[LINKED_COUNT]) >= int(meta[TURNOVER])
        if measure.coded and grown:
            beam = min(ef, max(BEAM_LEAST, ceil(ef * BEAM), options.links0))
        base = Base(count, entry - 1, top, ef, beam, options.links0, options.m)
        chosen = np.zeros((int(lists[-1]), options.links0), np.uint64)
        counts = np.zeros(int(lists[-1]), np.int64)
        slicing = _Slicing(self._graph, self._scratches, measure, base, *how)
        slicing.each(plan_links, len(rows), batch, chosen=chosen, counts=counts)
        groups = group_links(batch, chosen, counts)
        lists_changed = len(groups.row)
        room = max(options.width0, options.width_upper) - 1
        changes = Changes(
            masked=np.zeros(lists_changed, np.uint8),
            mask=np.zeros((lists_changed, -(-room // 8)), np.uint8),
            count=np.zeros(lists_changed, np.uint8),
            links=np.zeros((lists_changed, room), np.uint32),
        )
        slicing = slicing._replace(slices=max(1, slicing.slices // CHANGES_LESS))
        slicing.each(plan_changes, lists_changed, groups, chosen=chosen, counts=counts, out=changes)
        if len(rows) and (entry == 0 or int(layers.max()) > top):
            top = int(layers.max())
            entry = int(rows[np.argmax(layers)]) + 1
        return _assemble(
            Edit(
                graph_version=int(meta[GRAPH_VERSION]),
                entry=entry,
                top_layer=top,
                rows_linked=rows,
                rows_freed=freed,
                list_row=groups.row,
                list_layer=groups.layer,
                masked=changes.masked.astype(np.bool_),
                masks=changes.mask,
                appended=changes.count,
                links=changes.links,
            )
        )


class _Slicing(NamedTuple):
    """Runs a kernel over slices of its work."""

    graph: Graph
    scratches: ScratchPool
    measure: Measure
    base: Base
    slices: int
    run: Run

    def each(
        self,
        kernel: Callable[..., None],
        number: int,
        work: Batch | Groups,
        *,
        chosen: NDArray[np.uint64],
        counts: NDArray[np.int64],
        out: Changes | None = None,
    ) -> None:
        """Call the kernel on [0, number) in `slices` contiguous parts."""
        bounds = np.linspace(0, number, min(self.slices, max(1, number)) + 1).astype(int).tolist()
        last = () if out is None else (out,)

        def one(part: tuple[int, int]) -> None:
            scratch = self.scratches.take(self.base.n)
            try:
                kernel(
                    self.graph,
                    scratch,
                    self.measure,
                    self.base,
                    work,
                    *part,
                    chosen,
                    counts,
                    *last,
                )
            finally:
                self.scratches.give(scratch)

        for _ in self.run(one, list(pairwise(bounds))):
            pass


def group_links(batch: Batch, chosen: NDArray[np.uint64], counts: NDArray[np.int64]) -> Groups:
    """The lists an edit changes, ascending by (layer, row): those of the batch and those that are
    linked to, each with the rows that link to it, sorted by (distance, row)."""
    entries = int(counts.sum()) + len(counts)
    target, backward = np.zeros(entries, np.uint64), np.zeros(entries, np.uint64)
    links = int(turn_links(batch, chosen, counts, target, backward))
    groups = Groups(
        row=np.zeros(entries, np.uint32),
        layer=np.zeros(entries, np.uint8),
        own=np.zeros(entries, np.int64),
        first=np.zeros(entries + 1, np.int64),
        sources=np.zeros(links, np.uint64),
    )
    target.sort()
    number = int(fill_groups(target, links, backward, groups))
    return Groups(
        groups.row[:number],
        groups.layer[:number],
        groups.own[:number],
        groups.first[: number + 1],
        groups.sources,
    )


def _assemble(wide: Edit) -> Edit:
    """Drop lists that do not change, and the unused ends of masks and links."""
    changed = (wide.appended > 0) | wide.masked
    appended = wide.appended[changed]
    links = np.zeros(int(appended.sum()), np.uint32)
    pack_links(wide.links, wide.appended, links)  # of a list that does not change, none
    return Edit(
        graph_version=wide.graph_version,
        entry=wide.entry,
        top_layer=wide.top_layer,
        rows_linked=wide.rows_linked,
        rows_freed=wide.rows_freed,
        list_row=wide.list_row[changed],
        list_layer=wide.list_layer[changed],
        masked=wide.masked[changed],
        masks=wide.masks[wide.masked & changed],
        appended=appended,
        links=links,
    )

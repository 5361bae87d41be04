"""Measuring recall, and which beam width reaches which: the leader's part of `tuning`.

Recall is the share of the true nearest that a search finds. To know it for vectors that are *not*
stored, stored ones have to serve as queries, and a stored one is found far too easily: the walk
arrives at it, and its own links name its neighbours (on films 0.98 at ef 16, where new films get
0.88). Noise added to it is no remedy either: how much of it resembles a new vector depends on the
data. So a query is *left out*: its row counts as visited before a walk starts, scans pass over it,
and every walk runs through the graph as if the row were not there. Rows of upper layers are not
asked: too many ways lead through them. What remains of the row, links that it displaced in its
neighbours' lists, makes the walk harder than a new vector's: it misses 1.2 to 2.4 times as much
where recall is above 0.9 (films of 128 and 384 dimensions, Gaussian data, Dot). `HOLE` takes a part
of that back.

Only the leader measures, beside `add` and `tombstone` like any plan, and the log carries what came
out, so nothing here needs to be reproducible.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from balsadb.index.distance_kernels import Graph, Measure
from balsadb.index.layout import (
    ENTRY,
    LINKED,
    LINKED_COUNT,
    LINKED_DEAD_COUNT,
    QUANTISER_EPOCH,
    TAIL,
    Columns,
)
from balsadb.index.options import EF_MAX
from balsadb.index.scratch import ScratchPool
from balsadb.index.search_kernels import BY_CODES, EXACT, Request, search_queries
from balsadb.index.tuning import (
    EPOCH_MEASURED,
    FIRST,
    KS,
    ONE,
    PLAIN,
    REGIMES,
    ROWS_MEASURED,
    TARGETS,
    TUNING_ROWS,
)

ROWS_MIN: Final = 2_048
"""Linked rows from which measuring is worth anything."""
QUERIES: Final = 128
QUERIES_MIN: Final = 32
SCANNED_MAX: Final = 1 << 27
"""Distances for the exact answers; above a million rows, fewer queries keep to it."""
HOLE: Final = ((1.0, 0.75, 1.0), (1.0, 1.0, 1.0))
"""Share of what a left-out query misses that a new vector would miss too, by regime and KS: among a
hundred results, or where a filter passes over the nearest, the hole hardly shows; and so few
queries that miss the one nearest are too rough a measure to take anything back."""
WALKED_MAX: Final = QUERIES * 300
"""Queries times ef of one step: of the widest walks, whose recalls differ little, there are
fewer."""
LADDER: Final = (8, 10, 16, 24, 32, 48, 64, 100, 144, 200, 300, 400, 600, 800, 1_200, 1_600, 2_400)
"""Widths that are tried, until each of KS is done: its first GOALS targets are reached; or one has
reached so many, this one the usual target, 0.95, and the width is WIDER times what that took at 10
and BEYOND times what it took here."""
GOALS: Final = 7
USUAL: Final = 3
WIDER: Final = 8
SCAN: Final = 0
SCAN_CODES: Final = -1
"""In place of ef."""
BEYOND: Final = 2
"""A target that was not reached takes this many times the width of the one below it, and at least
the last that was tried."""
SCORED_MORE: Final = 16
GROWTH_TENTHS: Final = 15
"""Rows have grown or shrunk by this many tenths since: due, once all are linked."""
HASTE_TENTHS: Final = 40
"""The same while rows wait to be linked."""
HASTE_ROWS_MIN: Final = 32_768

Floats = NDArray[np.float32]
Rows = NDArray[np.uint32]
Mask = NDArray[np.bool_]
Run = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
_NO_MASK: Mask = np.zeros(0, np.bool_)


class Ground(NamedTuple):
    """What is measured on."""

    held: Columns
    graph: Graph
    measure: Measure
    scratches: ScratchPool


class Answers(NamedTuple):
    """Results of some queries: internal distances (q, k), ascending, and how many there are (q,).
    An unused place is infinity."""

    distances: Floats
    counts: NDArray[np.int64]


def answers(distances: Floats, counts: NDArray[np.int64]) -> Answers:
    """Results as searches return them; anything that orders like distances will do."""
    unused: Mask = np.greater_equal(np.arange(int(distances.shape[1])), counts.reshape(-1, 1))
    return Answers(np.where(unused, np.float32(np.inf), distances), counts)


def is_due(held: Columns, waiting: bool) -> bool:
    """Whether the table should be measured (again): never was; another quantiser; many more or
    fewer rows. `waiting`: the tail is to be linked first, which is the better moment."""
    meta, tuning = held.meta.data, held.tuning.used
    rows = int(meta[LINKED_COUNT]) - int(meta[LINKED_DEAD_COUNT])
    if rows < (HASTE_ROWS_MIN if waiting else ROWS_MIN):
        return False
    if not len(tuning):
        return True
    tenths = HASTE_TENTHS if waiting else GROWTH_TENTHS
    before = int(tuning[ROWS_MEASURED])
    grown = 10 * rows >= tenths * before or 10 * before >= tenths * rows
    return grown or (not waiting and int(tuning[EPOCH_MEASURED]) != int(meta[QUANTISER_EPOCH]))


def calibrate(ground: Ground, slices: int, run: Run) -> NDArray[np.uint32]:
    """The table for the index as it is: uint32 (TUNING_ROWS,). Costs at most SCANNED_MAX distances
    of scans and about 30 * WALKED_MAX for each step of LADDER, twice for the two regimes."""
    held = ground.held
    meta = held.meta.data
    live = int(meta[LINKED_COUNT]) - int(meta[LINKED_DEAD_COUNT])
    own = sample(held, min(QUERIES, max(QUERIES_MIN, SCANNED_MAX // (2 * live))))
    tuning = np.zeros(TUNING_ROWS, np.uint32)
    tuning[ROWS_MEASURED] = live
    tuning[EPOCH_MEASURED] = int(meta[QUANTISER_EPOCH])
    widths = tuning[FIRST:].reshape(REGIMES, len(KS), len(TARGETS))
    slots = int(held.row_slot.used.max()) + 1
    for regime in range(REGIMES):
        mask = None if regime == PLAIN else _half(slots)

        def ask(number: int, k: int, ef: int, mask: Mask | None = mask) -> Answers:
            return left_out(ground, own[:number], (k, ef), mask, (slices, run))

        # With a filter, half as many queries: its exact answers and walks cost as much again.
        widths[regime] = _climb(ask, len(own) >> regime, HOLE[regime])
    return tuning


def _climb(
    ask: Callable[[int, int, int], Answers], number: int, hole: tuple[float, ...]
) -> NDArray[np.uint32]:
    """The smallest width for each of KS and TARGETS: `ask(queries, k, ef)`, as `left_out`."""
    truth = ask(number, KS[-1], SCAN_CODES)
    widths = np.zeros((len(KS), len(TARGETS)), np.uint32)
    before = np.zeros(len(KS), np.int64)
    ef = ef_before = 0
    for ef in LADDER:
        found = ask(min(number, WALKED_MAX // ef), min(ef, KS[-1]), ef)
        for at, k in enumerate(KS):
            if k <= ef:
                shares = recalls(found, truth, k)
                # So few answers say little, fewest where each is found or not: be careful by their
                # error.
                missed = 1 - float(shares.mean()) + float(shares.std()) / len(shares) ** 0.5
                reached = int(ONE * (1 - hole[at] * missed))
                _note(widths[at], k, (ef_before, int(before[at])), (ef, reached))
                before[at] = reached
        if _is_done(widths, ef):
            break
        ef_before = ef
    for goal in range(len(TARGETS)):
        open_ = widths[:, goal] == 0
        beyond = np.maximum(BEYOND * widths[:, goal - 1].astype(np.int64), ef)
        widths[open_, goal] = np.minimum(beyond, EF_MAX)[open_] if goal else EF_MAX
    # Fewer results are no harder to find, but fewer are less of a sample.
    return np.minimum.accumulate(widths[::-1])[::-1]


def _is_done(widths: NDArray[np.uint32], ef: int) -> bool:
    """Whether no width above `ef` need be tried. A place of `widths` is 0 as long as its target was
    not reached: on easy data one result is found each time before ten were even asked for."""
    goals = (widths > 0).sum(axis=1)
    usual = widths[:, USUAL].astype(np.int64)
    far = np.maximum(WIDER * usual[KS.index(10)], BEYOND * usual) <= ef
    enough = far & (usual > 0) & (goals.max() >= GOALS)
    return bool(((goals >= GOALS) | enough).all())


def _note(
    widths: NDArray[np.uint32], k: int, before: tuple[int, int], now: tuple[int, int]
) -> None:
    """Enter the width of every target reached for the first time between two steps (ef, recall)."""
    for goal, target in enumerate(TARGETS):
        if widths[goal] == 0 and now[1] >= target:
            rise = max(1, now[1] - before[1])
            step = -(-(now[0] - before[0]) * (target - before[1]) // rise)
            widths[goal] = min(max(k, before[0] + step), now[0])


def recalls(found: Answers, truth: Answers, k: int) -> NDArray[np.float64]:
    """Share of the `k` nearest that each of the queries of `found` got, (q,): by distance, so that
    of equally near rows any will do. 1 where there is nothing to find. `truth` may have more
    queries behind."""
    count = len(found.counts)
    wanted = np.minimum(truth.counts[:count], k)
    worst = truth.distances[np.arange(count), np.maximum(wanted, 1) - 1]
    hits = (found.distances[:, :k] <= worst[:, np.newaxis]).sum(axis=1)
    return np.where(wanted > 0, np.minimum(hits, wanted) / np.maximum(wanted, 1), 1.0)


def sample(held: Columns, number: int) -> Rows:
    """At most `number` live rows of layer 0 only, evenly spread, to serve as queries; any first
    part of them is spread as well."""
    states = held.state.used.copy()
    fit = (states == LINKED) & (held.layer.data[: len(states)] == 0)
    entry = int(held.meta.data[ENTRY])
    if 0 < entry <= len(fit):
        fit[entry - 1] = False
    rows = np.flatnonzero(fit).astype(np.uint32)
    number = min(number, len(rows))
    places = np.linspace(0, len(rows) - 1, number).astype(np.int64)
    # Multiples of the golden ratio fall evenly, however many there are (Weyl).
    order = np.argsort(np.arange(number, dtype=np.uint32) * np.uint32(0x9E3779B1))
    return rows[places[order]]


def left_out(
    ground: Ground, own: Rows, wanted: tuple[int, int], slots: Mask | None, how: tuple[int, Run]
) -> Answers:
    """Search for the vectors of the rows `own`, each as if its row were not there. `wanted`: k and
    ef, or in its place SCAN (exactly) or SCAN_CODES (faster, and all but exact). `slots`: a mask
    over slots. `how`: slices, and what runs them."""
    k, ef = wanted
    exact = {SCAN: EXACT, SCAN_CODES: BY_CODES}.get(ef, 0)
    held = ground.held
    states = held.state.used.copy()
    tail = np.flatnonzero(states == TAIL).astype(np.uint32)
    request = Request(
        k=k,
        ef=min(max(ef, k), EF_MAX),
        scored=k + SCORED_MORE if exact else max(2 * k, k + SCORED_MORE),
        n=len(states),
        tail=len(tail),
        masked=int(slots is not None),
        exact=exact,
        straight=0,
    )
    queries = held.vectors.data[own]
    rows, distances = np.zeros((len(own), k), np.uint32), np.zeros((len(own), k), np.float32)
    counts = np.zeros(len(own), np.int64)
    mask = _NO_MASK if slots is None else slots

    def one(bounds: tuple[int, int]) -> None:
        part = slice(*bounds)
        scratch = ground.scratches.take(request.n, 4 * (k + SCORED_MORE), len(mask))
        try:
            search_queries(
                ground.graph,
                scratch,
                ground.measure,
                request,
                mask,
                tail,
                queries[part],
                own[part],
                rows[part],
                distances[part],
                counts[part],
            )
        finally:
            ground.scratches.give(scratch)

    slices, run = how
    parts = np.linspace(0, len(own), max(1, min(slices, len(own))) + 1).astype(int).tolist()
    for _ in run(one, list(pairwise(parts))):
        pass
    return answers(distances, counts)


def _half(slots: int) -> Mask:
    """A mask that passes about every second slot, whatever order they came in."""
    mixed = np.arange(slots, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed ^ mixed >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(63) == 1

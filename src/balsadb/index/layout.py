"""The columns of one index, and the words of its `meta` column.

Everything here is replicated, byte for byte. All columns but the upper lists have one row per
vector row; a byte that means nothing is zero.

| column | dtype, row shape | what |
|---|---|---|
| `vectors` | float32 (dim,) | as prepared |
| `links0` | uint32 (width0,) | layer 0: degree, then neighbours |
| `upper_offset` | uint32 | one more than the first upper list of the row; 0: none yet |
| `upper_links` | uint32 (width_upper,) | lists of layers 1, 2, ... of a row, one after another |
| `layer` | uint8 | top layer of the row: a hash of row and seed |
| `state` | uint8 | free, tail, linked, ... |
| `row_slot` | uint32 | the point's slot |
| `codes` | uint8 (code bytes,) | 8-bit codes; no rows before a quantiser is trained |
| `bias` | int32 | sum of squares of what the codes stand for; rows as `codes` |
| `quantiser` | float32, dim + 2 rows | mean, step, its inverse; no rows before it is trained |
| `tuning` | uint32 | beam widths that reach a recall (`tuning`); no rows before a calibration |
| `meta` | uint64, 16 rows | versions, entry point, counts |
| `rows/...` | | which rows are free |
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from balsadb.columns import Column, ColumnSet, SlotAllocator
from balsadb.errors import Corruption
from balsadb.index.metrics import Metric
from balsadb.index.options import QUANTISATIONS, IndexOptions
from balsadb.index.tuning import TUNING_ROWS

FREE: Final = 0
TAIL: Final = 1
"""Stored, not in the graph yet: scanned exactly."""
TAIL_DEAD: Final = 2
"""Deleted before it was linked: the next edit frees it."""
LINKED: Final = 3
LINKED_DEAD: Final = 4
"""A tombstone: walked through, never returned."""

META_ROWS: Final = 16
FORMAT: Final = 0
GRAPH_VERSION: Final = 1
"""Number of edits applied."""
ENTRY: Final = 2
"""One more than the row where every descent starts; 0: no graph."""
TOP_LAYER: Final = 3
LINKED_COUNT: Final = 4
"""Rows in the graph, tombstones included."""
LINKED_DEAD_COUNT: Final = 5
TAIL_COUNT: Final = 6
"""Live rows of the tail."""
TAIL_DEAD_COUNT: Final = 7
IDENTITY: Final = 8
"""A hash of the options, so that columns are not adopted by an index of other options."""

QUANTISER_EPOCH: Final = 9
"""Decisions on a quantiser so far; the last may have been for none."""
CODED_ROWS: Final = 10
"""Rows whose codes were made by the present quantiser, or that were added since."""
TRAINED_ROWS: Final = 11
"""Rows in use when the present quantiser was trained."""
SCAN_FACTOR: Final = 12
"""A filter that leaves m of n rows is scanned if m * m <= SCAN_FACTOR * ef * n."""
SCAN_FACTOR_FIRST: Final = 64
"""Its value in a new index."""
TURNOVER: Final = 15
"""Rows linked and rows freed from the graph so far."""

FORMAT_NUMBER: Final = 3
LAYER_MAX: Final = 15
_MASK64: Final = (1 << 64) - 1


class Columns(NamedTuple):
    """The columns of an index by role."""

    vectors: Column
    links0: Column
    upper_offset: Column
    upper_links: Column
    layer: Column
    state: Column
    row_slot: Column
    codes: Column
    bias: Column
    quantiser: Column
    tuning: Column
    meta: Column
    rows: SlotAllocator


def open_columns(columns: ColumnSet, prefix: str, options: IndexOptions) -> Columns:
    """Create the columns of an index, or adopt those that a restore brought.

    Corruption if columns are there but not those of an index with these options.
    """
    rows_max = options.rows_reserved

    def column(name: str, dtype: str, shape: tuple[int, ...] = (), rows: int = rows_max) -> Column:
        full = f"{prefix}/{name}"
        if full not in columns:
            return columns.create(full, dtype, shape, rows_max=rows)
        found = columns[full]
        if found.dtype != np.dtype(dtype) or found.row_shape != shape:
            raise Corruption(
                f"column {full!r} is {found.dtype}{found.row_shape}, not as configured"
            )
        return found

    vectors = column("vectors", "<f4", (options.dim,))
    opened = Columns(
        vectors=vectors,
        links0=column("links0", "<u4", (options.width0,)),
        upper_offset=column("upper_offset", "<u4"),
        upper_links=column("upper_links", "<u4", (options.width_upper,), rows_max // 2 + 64),
        layer=column("layer", "|u1"),
        state=column("state", "|u1"),
        row_slot=column("row_slot", "<u4"),
        codes=column("codes", "|u1", (options.code_bytes,)),
        bias=column("bias", "<i4"),
        quantiser=column("quantiser", "<f4", (), options.dim + 2),
        tuning=column("tuning", "<u4", (), TUNING_ROWS),
        meta=column("meta", "<u8", (), META_ROWS),
        rows=SlotAllocator(columns, f"{prefix}/rows", vectors.rows_max),
    )
    identity = _identity(options)
    if opened.meta.rows == 0:
        opened.meta.resize(META_ROWS)
        opened.meta.put(FORMAT, FORMAT_NUMBER)
        opened.meta.put(IDENTITY, np.uint64(identity))
        opened.meta.put(SCAN_FACTOR, np.uint64(SCAN_FACTOR_FIRST))
    elif int(opened.meta.data[FORMAT]) != FORMAT_NUMBER:
        raise Corruption(f"{prefix}: index format {int(opened.meta.data[FORMAT])} is not known")
    elif int(opened.meta.data[IDENTITY]) != identity:
        raise Corruption(f"{prefix}: the columns belong to an index with other options")
    return opened


def _identity(options: IndexOptions) -> int:
    """64-bit hash of the options that decide what the columns mean."""
    metric = list(Metric).index(options.metric)
    value = 0
    coded = QUANTISATIONS.index(options.quantization)
    for part in (options.dim, metric, options.m, options.seed, coded):
        value = mix64(value ^ part)
    return value


def mix64(value: int) -> int:
    """SplitMix64's finaliser: a bijection of 64-bit numbers whose output bits all look random."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK64
    return value ^ value >> 31


def draw_layers(rows: NDArray[np.integer[Any]], m: int, seed: int) -> NDArray[np.uint8]:
    """Top layers of rows, shape (n,): geometric with ratio 1/m, as the paper's section 4 draws them
    (its floor(-ln(unif) * mL) with mL = 1 / ln(m)), but from a hash of row and seed, in integers.
    """
    value = rows.astype(np.uint64) ^ np.uint64(mix64(seed))
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(31)
    layers = np.zeros(rows.shape, np.uint8)
    threshold = 1 << 64
    for _ in range(LAYER_MAX):
        threshold //= m
        if threshold == 0:
            break
        layers += value < np.uint64(threshold)
    return layers

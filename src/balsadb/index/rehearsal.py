"""Compiles every kernel by using it: a tiny index is built, searched and changed.

The arguments are made by the code that makes them in earnest, so that no call later can need
another specialisation.
"""

import numpy as np

from balsadb.columns import ColumnSet
from balsadb.index.layout import ENTRY, LINKED_COUNT, LINKED_DEAD, LINKED_DEAD_COUNT, open_columns
from balsadb.index.metrics import Metric
from balsadb.index.options import IndexOptions
from balsadb.index.vector_index import VectorIndex

_PREFIX = "rehearsal"
_ROWS = 24
_DIM = 4


def compile_all() -> None:
    """Compile, or load from the cache, every kernel a node may need. Tens of seconds the first time
    on a machine, well under a second later; nothing is compiled after it."""
    index = compile_links()
    index.tombstone(np.arange(_ROWS // 2, dtype=np.uint32))
    _settle(index)
    compile_others()


def compile_links() -> VectorIndex:
    """One half: the kernels that link and code. Returns an index that is complete."""
    index = _tail(ColumnSet())
    _settle(index)
    return index


def compile_others() -> None:
    """The other half, which needs none of the first: the kernels that search and repair."""
    columns, query = ColumnSet(), np.zeros(_DIM, np.float32)
    index = _tail(columns)
    index.search(query, 2, ef=4)
    index.search(query, 2, ef=4, slots=np.ones(_ROWS, np.bool_))
    held = open_columns(columns, _PREFIX, index.options)
    # A graph by hand: one row without links, dead. Its repair changes no list, but is planned.
    held.state.data[0] = LINKED_DEAD
    for word in (ENTRY, LINKED_COUNT, LINKED_DEAD_COUNT):
        held.meta.put(word, np.uint64(1))
    index.plan(_ROWS, codes=False)


def _settle(index: VectorIndex) -> None:
    while (edit := index.plan(_ROWS)) is not None:
        index.apply(edit)


def _tail(columns: ColumnSet) -> VectorIndex:
    """A tiny index whose rows all wait to be linked."""
    options = IndexOptions(
        _DIM, Metric.EUCLID, m=4, ef_construct=8, rows_max=64, graph_rows_min=1, codes_rows_min=1
    )
    index = VectorIndex(columns, _PREFIX, options)
    vectors = np.arange(_ROWS * _DIM, dtype=np.float32).reshape(_ROWS, _DIM)
    index.add(np.arange(_ROWS, dtype=np.uint32), vectors)
    return index

"""Compiles every kernel by using it: a tiny index is built, searched and changed.

The arguments are made by the code that makes them in earnest, so that no call later can need
another specialisation.
"""

import numpy as np

from balsadb.columns import ColumnSet
from balsadb.index.metrics import Metric
from balsadb.index.options import IndexOptions
from balsadb.index.vector_index import VectorIndex

_ROWS = 24
_DIM = 4


def compile_all() -> None:
    """Compile, or load from the cache, every kernel a node may need. Tens of seconds the first time
    on a machine, well under a second later; nothing is compiled after it."""
    options = IndexOptions(
        _DIM, Metric.EUCLID, m=4, ef_construct=8, rows_max=64, graph_rows_min=1, codes_rows_min=1
    )
    index = VectorIndex(ColumnSet(), "rehearsal", options)
    vectors = np.arange(_ROWS * _DIM, dtype=np.float32).reshape(_ROWS, _DIM)
    index.add(np.arange(_ROWS, dtype=np.uint32), vectors)
    for dead in (0, _ROWS // 2):
        index.tombstone(np.arange(dead, dtype=np.uint32))
        while (edit := index.plan(_ROWS)) is not None:
            assert index.apply(edit)
    index.search(vectors[0], 2, ef=4)
    index.search(vectors[0], 2, ef=4, slots=np.ones(_ROWS, np.bool_))

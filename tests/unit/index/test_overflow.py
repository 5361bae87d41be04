"""Vectors whose distances overflow: infinities and NaN order as in the oracle, on any processor."""

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.index import IndexOptions, Metric, VectorIndex
from balsadb.index.flat import nearest
from balsadb.index.metrics import scores_of

BIG = np.float32(3e38)
VALUES = np.array(
    [[BIG, -BIG], [1, 1], [BIG, BIG], [-BIG, -BIG], [-1, 2], [-BIG, BIG], [0, 0]], np.float32
)


@pytest.mark.parametrize("metric", [Metric.DOT, Metric.EUCLID, Metric.MANHATTAN])
@pytest.mark.parametrize("linked", [False, True])
def test_nan_comes_last_and_ties_break_by_row(metric, linked):
    options = IndexOptions(2, metric, m=4, ef_construct=16, rows_max=64, graph_rows_min=1)
    index = VectorIndex(ColumnSet(), "v", options)
    rows = index.add(np.arange(len(VALUES), dtype=np.uint32), VALUES)
    if linked:
        assert index.apply(index.plan(100))
        assert index.check() == []
    for query in VALUES:
        for exact in (False, True):
            found, scores = index.search(query, len(VALUES), ef=16, exact=exact)
            expected, distances = nearest(metric, query, VALUES, rows, len(VALUES))
            assert found.tolist() == expected.tolist()
            with np.errstate(invalid="ignore"):
                wanted = scores_of(metric, distances)
            np.testing.assert_array_equal(scores, wanted)

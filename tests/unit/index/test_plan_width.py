"""How wide a plan by codes looks, and when."""

import numpy as np

from balsadb.columns import ColumnSet
from balsadb.index import IndexOptions, Metric, VectorIndex, planner
from balsadb.index.layout import TURNOVER


def test_an_index_of_which_much_came_or_went_is_planned_with_full_width(monkeypatch):
    beams = []
    real = planner.Base

    def base(*fields):
        beams.append(real(*fields).beam)
        return real(*fields)

    monkeypatch.setattr(planner, "Base", base)
    options = IndexOptions(8, Metric.EUCLID, ef_construct=200, graph_rows_min=1, codes_rows_min=1)
    index = VectorIndex(ColumnSet(), "v", options)
    vectors = np.random.default_rng(1).normal(size=(510, 8)).astype(np.float32)
    index.add(np.arange(500, dtype=np.uint32), vectors[:500])
    while index.tail_count:
        index.apply(index.plan(500))
    index.add(np.arange(500, 510, dtype=np.uint32), vectors[500:])
    for turnover, beam in ((500, 100), (626, 200)):
        index._columns.meta.put(TURNOVER, np.uint64(turnover))
        index.plan(500)
        assert beams[-1] == beam

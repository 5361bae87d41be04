"""A bare index that is full says so before it changes anything."""

import numpy as np
import pytest

import balsadb
from balsadb.columns import ColumnSet
from balsadb.errors import LimitExceeded
from balsadb.index import IndexOptions, Metric

DIM = 4


def test_dead_rows_take_room_until_a_delete_frees_them():
    index = balsadb.Index(DIM, "Euclid")
    options = IndexOptions(DIM, Metric.EUCLID, rows_max=600, graph_rows_min=1)
    index._open(options, ColumnSet(), 1)
    values = np.random.default_rng(0).normal(size=(600, DIM)).astype(np.float32)
    index.add(values[:500])
    index.add(values[500:], ids=np.arange(100))  # in place of others
    before = index._columns.digest()
    with pytest.raises(LimitExceeded, match="vectors"):
        index.add(values[:1])
    assert index._columns.digest() == before
    assert len(index) == 500
    assert index.check() == []
    index.delete(np.arange(400, 450))
    index.add(values[:50])
    assert len(index) == 500

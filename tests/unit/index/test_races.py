"""A plan beside writers, at the moments when it could see half of a change."""

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.errors import Corruption
from balsadb.index import IndexOptions, Metric, VectorIndex, edit, planner

DIM = 8


@pytest.fixture
def index():
    options = IndexOptions(
        DIM, Metric.EUCLID, m=4, ef_construct=16, rows_max=4_096, graph_rows_min=1
    )
    made = VectorIndex(ColumnSet(), "v", options)
    values = np.random.default_rng(3).normal(size=(600, DIM)).astype(np.float32)
    made.add(np.arange(600, dtype=np.uint32), values)
    return made


@pytest.mark.parametrize("look", [1, 2])
def test_rows_that_die_while_a_plan_looks_for_its_work(index, monkeypatch, look):
    """A row seen in the tail and then, dead, among those to free would be linked and freed."""
    looks = 0
    whole = np.flatnonzero

    def interrupted(mask):
        nonlocal looks
        looks += 1
        found = whole(mask)
        if looks == look:
            index.tombstone(np.arange(300, dtype=np.uint32))
        return found

    monkeypatch.setattr(planner.np, "flatnonzero", interrupted)
    planned = index.plan(512)
    monkeypatch.undo()
    assert planned is not None
    assert index.apply(planned)
    assert index.check() == []
    while (planned := index.plan(512)) is not None:
        assert index.apply(planned)
        assert index.check() == []
    assert index.live_count == 300


def test_an_edit_that_links_what_it_frees_is_refused_whole(index):
    index.tombstone(np.array([5], np.uint32))
    good = edit.decode(index.plan(100))
    both = edit.Edit(
        **{
            **{name: getattr(good, name) for name in good.__slots__},
            "rows_linked": np.append(good.rows_linked, np.uint32(5)),
            "rows_freed": np.array([5], np.uint32),
        }
    )
    with pytest.raises(Corruption, match="frees"):
        index.apply(edit.encode(both))
    assert (index.linked_count, index.graph_version) == (0, 0)

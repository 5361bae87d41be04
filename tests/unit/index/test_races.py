"""A plan beside writers, at the moments when it could see half of a change."""

from concurrent.futures import ThreadPoolExecutor
from time import sleep

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


class Node:
    """An index with the log of all that changed it, and a client that writes."""

    batch = 24

    def __init__(self, options):
        self.options = options
        self.columns = ColumnSet()
        self.index = VectorIndex(self.columns, "v", options)
        self.log = []
        self.live = np.zeros(0, np.uint32)
        self.rng = np.random.default_rng(11)

    def do(self, name, *what):
        self.log.append((name, what))
        return getattr(self.index, name)(*what)

    def write(self):
        """Some rows come, a third as many go."""
        first = self.batch * len(self.log)
        slots = np.arange(first, first + self.batch, dtype=np.uint32)
        values = self.rng.normal(size=(self.batch, self.options.dim)).astype(np.float32)
        self.live = self.rng.permutation(np.concatenate((self.live, self.do("add", slots, values))))
        gone = self.batch // 3
        self.do("tombstone", self.live[:gone])
        self.live = self.live[gone:]

    def plan(self, codes):
        """An `add` lets go of the interpreter while it makes codes, so that a look for work, and
        the plan after it, often fall between the codes and their count."""
        for _ in range(500 if codes else 0):
            if self.index.codes_due:
                break
            sleep(0)
        return self.index.plan(2 * self.batch, codes=codes)

    def replayed(self):
        """The columns of another node that did the same, alone."""
        columns = ColumnSet()
        index = VectorIndex(columns, "v", self.options)
        for name, what in self.log:
            getattr(index, name)(*what)
        return columns


def test_plans_beside_writers_while_codes_are_trained_and_made():
    """One plan at a time, on a thread of its own, is applied between writes."""
    node = Node(
        IndexOptions(48, Metric.EUCLID, m=4, ef_construct=16, graph_rows_min=64, codes_rows_min=256)
    )
    kinds = set()
    with ThreadPoolExecutor(1) as pool:
        for turn in range(75):
            planning = pool.submit(node.plan, codes=turn % 3 == 0)
            for _ in range(4):
                node.write()
                if planning.done():
                    break
            planned = planning.result()
            if planned is not None:
                kinds.add(edit.kind_of(planned))
                assert node.do("apply", planned)
                assert turn % 5 or node.index.check() == []
    assert node.index.check() == []
    assert kinds == {edit.LINK, edit.TRAIN, edit.CODE}
    assert node.index.live_count == len(node.live)
    assert node.replayed().digests() == node.columns.digests()

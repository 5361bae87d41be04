"""Deleting repairs the graph: dead rows leave it in bounded steps, and what is left is found."""

import numpy as np
import pytest

from balsadb.embedded.index import REPAIRS_MAX, Index
from balsadb.index import EF_MAX
from balsadb.index.repair import IDLE_SHARE, LEAVE_MAX

DIM, COUNT = 16, 3_000


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> str:
    index = Index(DIM, "Euclid", m=8, ef_construct=48, threads=1)
    index.add(vectors(COUNT))
    index.optimize()
    path = str(tmp_path_factory.mktemp("index") / "full.index")
    index.save(path)
    return path


@pytest.fixture
def index(saved) -> Index:
    return Index.load(saved, threads=1)


def dead(index: Index) -> int:
    """Rows of the graph that are deleted and not freed; without a tail."""
    assert index._index.tail_count == 0
    return index._index.linked_count - len(index)


def order(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).permutation(COUNT)


@pytest.mark.parametrize("batch", [1, 75])
def test_dead_rows_leave_the_graph_as_most_of_it_is_deleted(index, batch, tmp_path):
    gone, left = np.split(order(), [COUNT * 6 // 10])
    for first in range(0, len(gone), batch):
        index.delete(gone[first : first + batch])
        assert dead(index) <= index._index.linked_count // IDLE_SHARE + 1
    assert index.check() == []
    assert len(index) == len(left)
    queries = vectors(200, 7)
    assert index.recall(queries, 10, ef=64) >= 0.97
    ids, scores = index.search(vectors(COUNT)[left], 1, ef=64)
    assert (ids[:, 0] == left).mean() >= 0.99
    assert not scores[ids[:, 0] == left].any()

    index.save(tmp_path / "less.index")
    again = Index.load(tmp_path / "less.index", threads=1)
    assert again.check() == []
    for one, two in zip(index.search(queries, 10), again.search(queries, 10), strict=True):
        assert np.array_equal(one, two)
    for one in (index, again):
        one.delete(left[:100])
        one.add(vectors(400, 3))
    assert index._columns.digests() == again._columns.digests()
    assert index._index.rows == COUNT, "rows are used again"


def test_one_delete_of_very_many_repairs_a_bounded_part(index):
    gone = order()[: COUNT * 9 // 10]
    before = index._index.graph_version
    index.delete(gone)
    assert index._index.graph_version - before <= REPAIRS_MAX
    assert len(gone) - REPAIRS_MAX * LEAVE_MAX <= dead(index) < len(gone)
    assert index.check() == []
    for number in order()[len(gone) :][:20]:  # each does its share of what was left
        index.delete([number])
    assert dead(index) <= 2
    assert index.recall(vectors(100, 7), 10, ef=64) >= 0.97


def test_a_few_dead_rows_wait_for_more(index):
    before = index._index.graph_version
    index.delete(order()[: COUNT // IDLE_SHARE - 1])
    assert index._index.graph_version == before
    assert dead(index) == COUNT // IDLE_SHARE - 1


def test_a_delete_that_removes_nothing_repairs_nothing(index):
    index._index.tombstone(np.arange(500, dtype=np.uint32))
    before = index._columns.digest()
    assert index.delete([COUNT]).tolist() == [COUNT]
    assert index._columns.digest() == before


def test_rows_that_wait_to_be_linked_do_not_keep_dead_ones_in_the_graph(index):
    index.add(vectors(100, 3))
    assert index._index.tail_count == 100
    for number in order()[:40]:
        index.delete([number])
    assert dead(index) <= 1 + COUNT // IDLE_SHARE
    assert index.check() == []


def test_everything_is_deleted_and_others_come(index):
    for part in np.split(order(), 10):
        index.delete(part)
    index.optimize()
    assert (len(index), index._index.linked_count) == (0, 0)
    index.add(vectors(1_500, 4))
    assert index.check() == []
    assert index.recall(vectors(100, 7), 10, ef=64) >= 0.97


def test_repairs_of_a_careful_index_stay_inside_their_memory():
    """Where most rows are dead a repair searches wider: never wider than its scratch."""
    rng = np.random.default_rng(6)
    index = Index(4, "Euclid", ef_construct=1_024)
    index.add(rng.normal(size=(3_000, 4)).astype(np.float32))
    index.optimize()
    index.delete(np.arange(2_940))
    inner = index._index
    repairer = inner._planner._repairer
    assert repairer._base(inner.rows, 60).ef == EF_MAX
    index.optimize()
    assert len(index) == 60
    assert index.check() == []


def test_a_mask_of_other_bytes_than_0_and_1_means_what_numpy_says():
    rng = np.random.default_rng(7)
    data = rng.normal(size=(3_000, 8)).astype(np.float32)
    index = Index(8, "Euclid")
    index.add(data)
    passing = rng.random(3_000) < 0.1
    for byte in (3, 255):
        mask = np.where(passing, byte, 0).astype(np.uint8).view(np.bool_)
        for given in (mask, np.repeat(mask, 2)[::2]):
            found, _ = index.search(data[:20], 10, ef=64, filter=given)
            expected, _ = index.search(data[:20], 10, ef=64, filter=passing)
            assert found.tolist() == expected.tolist()

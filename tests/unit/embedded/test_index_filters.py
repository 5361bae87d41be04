"""Filters of the bare index: by ids, whatever slots and rows they lie in; and what is counted."""

import numpy as np
import pytest

from balsadb.embedded.id_masks import mask_of_flags
from balsadb.embedded.index import DEAD_ROWS_MAX, Index

DIM = 8


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("length", [0, 1, 700, 1_000, 1_500])
def test_flags_are_looked_up_by_id(plain, length):
    rng = np.random.default_rng(length)
    live = rng.random(1_000) < 0.9
    ids = np.arange(1_000, dtype=np.uint64) if plain else rng.permutation(2_000)[:1_000]
    ids = np.where(live, ids, 0).astype(np.uint64)
    flags = rng.random(length) < 0.3
    expected = [
        bool(alive) and int(one) < length and bool(flags[int(one)])
        for one, alive in zip(ids, live, strict=True)
    ]
    assert mask_of_flags(flags, ids, live, plain=plain).tolist() == expected
    strided = np.repeat(flags, 2)[::2]
    assert mask_of_flags(strided, ids, live, plain=plain).tolist() == expected


@pytest.mark.parametrize("first", [0, 5_000])
def test_filters_find_what_they_should_after_deletes_replacements_and_loading(first, tmp_path):
    index = Index(DIM, "Euclid", m=8, ef_construct=64, threads=1)
    data = vectors(3_000)
    ids = np.arange(first, first + 3_000, dtype=np.uint64)
    index.add(data, ids)
    index.delete(ids[100:900])
    data[:50] = vectors(50, seed=1)
    index.add(data[:50], ids[:50])
    index.save(tmp_path / "index")
    flags = np.zeros(first + 3_000, np.bool_)
    flags[first : first + 1_500 : 3] = True
    alive = np.r_[0:100, 900:3_000]
    wanted = alive[flags[alive + first]]
    for one in (index, Index.load(tmp_path / "index", threads=1)):
        far = ((data[wanted] - data[7]) ** 2).sum(axis=1)
        found, _ = one.search(data[7], 10, ef=500, filter=flags)
        assert found[0].tolist() == (wanted[np.argsort(far)[:10]] + first).tolist()
        by_ids, _ = one.search(data[7], 10, ef=500, filter=ids[flags[ids]])
        assert by_ids.tolist() == found.tolist()


def test_freed_slots_do_not_count_as_the_id_zero():
    index = Index(DIM, "Euclid", threads=1)
    index.add(vectors(3_000))
    index.delete(np.arange(1, 2_900, dtype=np.uint64))
    assert int(index._mask(np.array([True])).sum()) == 1
    counters = index._index._scratches
    before = counters.distances
    index.search(vectors(1)[0], 1, ef=10, filter=np.array([True]))
    assert counters.distances - before < 10, "one vector passes"


def test_replacing_the_same_vectors_for_ever_takes_no_more_room():
    index = Index(DIM, "Euclid", threads=1)
    index.add(vectors(100))
    for turn in range(200):
        index.add(vectors(100, seed=turn), np.arange(100, dtype=np.uint64))
    assert index._index.rows_taken <= 100 + DEAD_ROWS_MAX
    assert len(index._index._tail) <= 2 * DEAD_ROWS_MAX
    assert len(index) == 100
    found, _ = index.search(vectors(100, seed=199)[3], 1)
    assert found[0, 0] == 3


def test_more_threads_than_before_are_started():
    index = Index(DIM, "Euclid", threads=1)
    index.add(vectors(500))
    expected = index.search(vectors(64), 3, ef=50)[0].tolist()
    for threads in (2, 64, 3):
        assert index.search(vectors(64), 3, ef=50, threads=threads)[0].tolist() == expected
        assert index._executor_threads >= threads


def test_a_filter_is_a_list_of_ids_of_any_size():
    index = Index(2, "Euclid")
    index.add([[1, 2], [3, 4], [5, 6]], ids=[7, 8, 2**63 + 5])
    wanted = [7, 2**63 + 5, 2**63 + 6]
    for given in (wanted, np.array(wanted, np.uint64)):
        assert index.search([1, 1], 2, filter=given)[0].tolist() == [[7, 2**63 + 5]]
        assert index.recall([[1, 1]], 2, filter=given) == 1.0

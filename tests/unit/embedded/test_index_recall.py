"""The bare index: recall asked for and shown, memory by part, vectors on disk."""

import os

import numpy as np
import pytest

import balsadb
from balsadb.errors import InvalidInput
from balsadb.index import edit

DIM = 32
ROWS = 9_000


def vectors(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 2 * np.random.default_rng(99).normal(size=(50, DIM))
    return (centres[rng.integers(0, 50, count)] + rng.normal(size=(count, DIM))).astype(np.float32)


def build(**options) -> balsadb.Index:
    index = balsadb.Index(DIM, "Euclid", threads=2, **options)
    index.add(vectors(ROWS))
    return index


@pytest.fixture(scope="module")
def index() -> balsadb.Index:
    index = build()
    index.optimize()
    return index


def test_optimize_leaves_nothing_to_do(index):
    assert index._index.tail_count == 0
    assert index._index.measure.coded
    assert index._index.calibrated_rows >= ROWS // 2
    assert index._index.plan(1_000) is None
    before = index._columns.digest()
    index.optimize()
    assert index._columns.digest() == before
    assert index.check() == []


def test_a_load_is_calibrated_and_a_trickle_is_not():
    index = balsadb.Index(DIM, "Euclid", threads=1)
    index.add(vectors(3_000))
    assert index._index.calibrated_rows > 2_048
    before = index._index.calibrated_rows
    index.add(vectors(2_000, 1))
    assert index._index.calibrated_rows == before


@pytest.mark.parametrize("k", [1, 10, 50, 100])
def test_the_target_is_reached(index, k):
    queries = vectors(300, 7)
    for target in (0.85, 0.95, 0.99):
        assert index.recall(queries, k, target_recall=target) >= target - 0.015
    assert index.recall(queries, k, ef=4_096) >= 0.999


def test_few_vectors_of_hard_data_are_found():
    """There is a graph from 1,024 vectors on, and there are measured widths from 2,048 on."""
    rng = np.random.default_rng(3)
    index = balsadb.Index(512, "Euclid", m=4, ef_construct=16, threads=1)
    index.add(rng.normal(size=(1_200, 512)))
    index.optimize()
    queries = rng.normal(size=(50, 512))
    assert index._index.linked_count == 1_200
    assert index.recall(queries, 10, ef=64) < 0.95, "hard"
    for mask in (None, np.arange(1_200) % 4 > 0):
        assert index.recall(queries, 10, filter=mask) == 1
        assert index.recall(40, 10, filter=mask) == 1
    found = index.search(queries, 10)[0]
    assert np.array_equal(found, index.search(queries, 10, target_recall=0.5)[0])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rows_at_once", [2_600, 50], ids=["a load", "a trickle and optimize"])
def test_all_copies_are_found(seed, rows_at_once):
    """Many copies of few vectors are islands of the graph, if nothing looks for such."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(52, 1))
    index = balsadb.Index(1, "Euclid", m=8, ef_construct=64, threads=1)
    rows = values[rng.integers(52, size=2_600)]
    for first in range(0, len(rows), rows_at_once):
        index.add(rows[first : first + rows_at_once])
    if rows_at_once < len(rows):
        index.optimize()
    assert index.recall(values, 10, ef=64) == 1
    assert index.check() == []


def test_recall_is_what_search_finds(index):
    queries = vectors(100, 8)
    found, _ = index.search(queries, 10, ef=16)
    data = vectors(ROWS)
    hits = 0
    for query, ids in zip(queries, found, strict=True):
        best = np.argsort(((data - query) ** 2).sum(1))[:10]
        hits += int(np.isin(best, ids).sum())
    assert index.recall(queries, 10, ef=16) == pytest.approx(hits / 1_000)
    assert index.recall(queries, ef=16) < index.recall(queries, ef=200)


def test_recall_of_stored_vectors_is_no_flattery(index):
    queries = vectors(400, 9)
    for ef in (16, 64):
        assert index.recall(400, 10, ef=ef) <= index.recall(queries, 10, ef=ef) + 0.02


def test_recall_with_a_filter(index):
    mask = np.arange(ROWS) % 2 == 0
    queries = vectors(200, 10)
    assert index.recall(queries, filter=mask) >= 0.935
    assert index.recall(150, filter=mask) >= 0.93
    assert index.recall(queries, filter=[3, 4, 5]) == 1
    assert index.recall(50, filter=[]) == 1
    assert balsadb.Index(DIM).recall(5) == balsadb.Index(DIM).recall(queries) == 1


def test_auto_is_the_default(index):
    queries = vectors(50, 11)
    expected = index.search(queries, 10, ef="auto", target_recall=0.95)
    found = index.search(queries, 10)
    assert np.array_equal(found[0], expected[0])
    assert index.search(queries[:1], 500)[0].shape == (1, 500)


def test_without_codes():
    index = build(quantization=None)
    assert not index._index.measure.coded
    assert index.memory()["codes"] == 0
    assert index.recall(vectors(200, 7)) >= 0.935


def test_memory_of_a_vector_is_bounded():
    """Codes, links and bookkeeping: at most 1.25 times (dim + 128 + 64) bytes beside the float32
    vector; and nothing that grows with the vectors is left out of the count."""
    dim, rows = 128, 20_000
    index = balsadb.Index(dim, "Cosine", ef_construct=16, threads=1)
    index.add(np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32))
    index.optimize()
    sizes = index.memory()
    assert sizes["vectors"] == 4 * dim * rows
    beside = sum(sizes.values()) - sizes["vectors"]
    assert beside <= 1.25 * (dim + 128 + 64) * rows
    columns = sum(column.rows * column.row_bytes for column in index._columns)
    derived = index._table.size_bytes + 4 * rows + sizes["scratch"]
    assert abs(beside + sizes["vectors"] - columns - derived) <= rows // 2


def test_vectors_on_disk_change_no_answer(index, tmp_path):
    other = build(vectors_on_disk=tmp_path)
    other.optimize()
    assert os.listdir(tmp_path) == [], "the file has no name"
    assert other._columns.digests() == index._columns.digests()
    queries = vectors(50, 12)
    for one, two in zip(other.search(queries, 10), index.search(queries, 10), strict=True):
        assert np.array_equal(one, two)
    other.delete(np.arange(100))
    other.add(vectors(300, 5))
    assert other.check() == []


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True), (True, True)])
def test_saving_and_loading_vectors_on_disk(before, after, tmp_path):
    index = balsadb.Index(DIM, vectors_on_disk=before)
    index.add(vectors(1_500))
    index.save(tmp_path / "some.index")
    again = balsadb.Index.load(tmp_path / "some.index", vectors_on_disk=after)
    assert again._columns.digests() == index._columns.digests()
    for one in (index, again):
        one.add(vectors(1_000, 1))
    assert again._columns.digests() == index._columns.digests()
    assert os.listdir(tmp_path) == ["some.index"]


def test_calibration_is_saved(index, tmp_path):
    index.save(tmp_path / "some.index")
    again = balsadb.Index.load(tmp_path / "some.index")
    assert again._index.calibrated_rows == index._index.calibrated_rows
    for k in (1, 10, 200):
        assert again._index.ef_for(k, 0.95) == index._index.ef_for(k, 0.95)


def test_a_plan_is_never_made_twice_for_one_state(index):
    """`optimize` ends: the last plan is none, not the same again."""
    assert index._index.plan_calibration() is None
    assert edit.CALIBRATE not in [
        edit.kind_of(data) for data in iter(lambda: index._index.plan(1), None)
    ]


@pytest.mark.parametrize("where", [3, None, "no/such/folder"])
def test_a_place_that_is_no_folder_is_refused(where):
    with pytest.raises(InvalidInput) as caught:
        balsadb.Index(DIM, vectors_on_disk=where)
    assert caught.value.field == "vectors_on_disk"

"""The bare index: what it accepts, refuses, finds, saves and loads."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import balsadb
from balsadb.embedded.index import NO_ID, Index
from balsadb.errors import InvalidInput

DIM = 16


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> str:
    index = Index(DIM, "Cosine", m=8, ef_construct=40, threads=1)
    index.add(vectors(1_500), ids=np.arange(1_500) * 3)
    index.add(vectors(40, 1))
    index.delete([0, 3, 6])
    path = str(tmp_path_factory.mktemp("index") / "some.balsa")
    index.save(path)
    return path


def test_it_is_a_public_name():
    assert balsadb.Index is Index


def test_add_names_new_ids_and_search_finds_them():
    index = Index(DIM)
    assert index.add(vectors(3)).tolist() == [0, 1, 2]
    assert index.add(vectors(2, 1), ids=[10, 7]).tolist() == [10, 7]
    assert index.add(vectors(1, 2)[0]).tolist() == [11], "after the largest"
    ids, scores = index.search(np.concatenate((vectors(3), vectors(2, 1))), 1)
    assert ids.dtype == np.uint64
    assert scores.dtype == np.float32
    assert ids[:, 0].tolist() == [0, 1, 2, 10, 7]
    assert np.allclose(scores, 1)
    assert len(index) == 6
    assert 10 in index
    assert 9 not in index


def test_missing_results_are_padded():
    index = Index(DIM)
    ids, scores = index.search(vectors(2), 3)
    assert (ids == NO_ID).all()
    assert np.isnan(scores).all()
    index.add(vectors(2))
    ids, scores = index.search(vectors(1), 4)
    assert (ids[0, 2:] == NO_ID).all()
    assert ids[0, 0] == 0
    assert np.isnan(scores[0]).tolist() == [False, False, True, True]


def test_adding_an_id_again_replaces_its_vector():
    index = Index(DIM, "Euclid")
    index.add(vectors(600))
    index.add(vectors(1, 9), ids=[5])
    assert len(index) == 600
    ids, scores = index.search(np.stack((vectors(1, 9)[0], vectors(600)[5])), 1)
    assert ids[0, 0] == 5
    assert scores[0, 0] == 0
    assert ids[1, 0] != 5
    assert index.check() == []


def test_delete_reports_what_it_does_not_know():
    index = Index(DIM)
    index.add(vectors(10))
    assert index.delete([3, 4, 99, 2**63]).tolist() == [99, 2**63]
    assert index.delete([3]).tolist() == [3]
    assert len(index) == 8
    assert not np.isin(index.search(vectors(10), 8)[0], [3, 4]).any()
    index.add(vectors(2, 4), ids=[3, 77])
    assert index.search(vectors(2, 4), 1)[0][:, 0].tolist() == [3, 77]
    assert index.check() == []


def test_filters_by_mask_and_by_ids():
    index = Index(DIM, "Dot")
    index.add(vectors(900), ids=np.arange(900) + 100)
    mask = np.zeros(600, bool)
    mask[300:] = True
    ids, _ = index.search(vectors(5, 3), 20, filter=mask)
    assert ((ids >= 300) & (ids < 600)).all()
    ids, _ = index.search(vectors(5, 3), 3, filter=[150, 999, 5])
    assert np.sort(ids, axis=1).tolist() == [[150, 999, NO_ID]] * 5
    ids, _ = index.search(vectors(1), 3, filter=[])
    assert (ids == NO_ID).all()


def test_threads_change_nothing():
    data = vectors(3_000)
    one, two = (Index(DIM, "Manhattan", threads=threads) for threads in (1, 2))
    for index in (one, two):
        index.add(data)
    assert one._columns.digests() == two._columns.digests()
    queries = vectors(50, 5)
    expected = one.search(queries, 10)
    for threads in (1, 2, 3, 100):
        ids, scores = two.search(queries, 10, threads=threads)
        assert np.array_equal(ids, expected[0])
        assert scores.tobytes() == expected[1].tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.uint8, np.bool_])
def test_every_kind_of_number_is_taken(dtype):
    index = Index(4, "Euclid")
    index.add(np.array([[0, 0, 0, 1], [1, 1, 0, 0]], dtype))
    assert index.search([1, 1, 0, 0], 1)[0].tolist() == [[1]]


def test_a_zero_vector_is_fine_where_it_means_something():
    index = Index(DIM, "Euclid")
    index.add(np.zeros((1, DIM)))
    assert index.search(np.zeros(DIM), 1)[1].tolist() == [[0]]


def test_a_loaded_index_is_the_saved_one(saved):
    index = Index.load(saved)
    again = Index.load(saved)
    assert (index.dim, index.metric, len(index)) == (DIM, "Cosine", 1_537)
    assert index.check() == []
    assert index.add(vectors(1, 3)).tolist() == [4_538], "ids go on after the largest"
    assert again.add(vectors(1, 3)).tolist() == [4_538]
    for one in (index, again):
        one.add(vectors(700, 4))
        one.delete([9])
    assert index._columns.digests() == again._columns.digests()
    assert index._index.linked_count > 1_500


def test_loading_computes_no_distance(saved):
    index = Index.load(saved)
    assert index._index.distances_total == 0
    assert index._index.linked_count >= 1_280


def test_saving_again_replaces_the_file(saved, tmp_path):
    path = tmp_path / "two.balsa"
    index = Index.load(saved)
    index.save(path)
    index.add(vectors(1, 2), ids=[123_456])
    index.save(path)
    assert 123_456 in Index.load(path)
    assert os.listdir(tmp_path) == ["two.balsa"]


def test_a_directory_is_no_place_for_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInput, match="is a directory"):
        Index(3, "Dot").save(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


def test_adding_from_several_threads():
    index = Index(DIM, "Dot", threads=1)

    def add(seed):
        return [index.add(vectors(150, 10 * seed + part)) for part in range(10)]

    with ThreadPoolExecutor(3) as pool:
        ids = np.concatenate([part for parts in pool.map(add, range(3)) for part in parts])
    assert np.unique(ids).size == len(index) == 4_500
    assert index.check() == []


def test_numpy_integers_are_integers():
    index = Index(np.int64(DIM), m=np.int32(8))
    index.add(vectors(3))
    assert index.search(vectors(1), np.int64(2))[0].shape == (1, 2)


def test_an_empty_index_is_saved_too(tmp_path):
    path = tmp_path / "empty.balsa"
    Index(3, "Dot").save(path)
    assert len(Index.load(path)) == 0

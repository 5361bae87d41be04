"""Recall of inner products where the lengths of vectors differ widely, against a plain graph by
inner product that may compute as many distances. Counts, not times: the same on every machine."""

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.index import IndexOptions, Metric, VectorIndex
from balsadb.index.check import unreachable
from balsadb.index.layout import LINKED

ROWS, DIM = 12_000, 32


def clusters(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Directions (rows, DIM), float64, of length 1."""
    centres = rng.normal(size=(100, DIM))
    vectors = centres[rng.integers(0, 100, rows)] + 0.7 * rng.normal(size=(rows, DIM))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def lengths(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Of all rows, in order (ROWS, 1)."""
    if kind == "rising":
        return np.geomspace(1, 100, ROWS)[:, np.newaxis]
    return np.exp(float(kind) * rng.normal(size=(ROWS, 1)))


def build(vectors: np.ndarray, metric: Metric, quantization: str = "int8") -> VectorIndex:
    options = IndexOptions(DIM, metric, rows_max=1 << 15, quantization=quantization)
    index = VectorIndex(ColumnSet(), "v", options)
    for first in range(0, len(vectors), 2_000):
        part = vectors[first : first + 2_000]
        index.add(np.arange(first, first + len(part), dtype=np.uint32), part)
        settle(index)
    return index


def settle(index: VectorIndex) -> None:
    while (edit := index.plan(512)) is not None:
        assert index.apply(edit)


def measured(index: VectorIndex, queries: np.ndarray, ef: int, slots=None) -> tuple[float, float]:
    """Recall at 10, and distances for a query."""
    truth = index.search_many(queries, 10, slots=slots, exact=True)[0]
    before = index.distances_total
    found = index.search_many(queries, 10, ef=ef, slots=slots)[0]
    spent = (index.distances_total - before) / len(queries)
    hits = sum(len(np.intersect1d(mine, best)) for mine, best in zip(found, truth, strict=True))
    return hits / truth.size, spent


@pytest.mark.parametrize("kind", ["1", "2", "rising"])
def test_what_a_plain_graph_does_not_find_at_equal_cost(kind):
    rng = np.random.default_rng(3)
    directions = clusters(rng, ROWS + 200)
    vectors = (directions[:ROWS] * lengths(kind, rng)).astype(np.float32)
    queries = directions[ROWS:].astype(np.float32)
    index = build(vectors, Metric.DOT)
    assert index.check() == []
    assert len(unreachable(index._columns)) == 0
    assert measured(index, queries, 64)[0] >= 0.98
    found, spent = measured(index, queries, 32)
    assert found >= 0.95
    # Cosine takes vectors as they are: a graph whose links are all chosen by inner product.
    plain = build(vectors, Metric.COSINE, quantization="")
    affordable = [measured(plain, queries, ef) for ef in range(10, 65, 6)]
    at_equal_cost = max((recall for recall, cost in affordable if cost <= spent), default=0.0)
    if kind == "rising":
        assert found >= at_equal_cost - 0.02
    else:
        assert at_equal_cost < 0.95


@pytest.mark.parametrize("kind", ["0.25", "1"])
def test_short_vectors_are_found_among_long_ones(kind):
    """By product alone, no path leads to them."""
    rng = np.random.default_rng(4)
    directions = clusters(rng, ROWS + 100)
    long = lengths(kind, rng)
    index = build((directions[:ROWS] * long).astype(np.float32), Metric.DOT)
    short = np.less(long[:, 0], np.median(long))
    assert measured(index, directions[ROWS:].astype(np.float32), 64, short)[0] >= 0.95


def test_deletes_leave_no_vector_behind():
    rng = np.random.default_rng(5)
    directions = clusters(rng, ROWS + 200)
    vectors = (directions[:ROWS] * lengths("1", rng)).astype(np.float32)
    index = build(vectors, Metric.DOT)
    for _ in range(5):
        live = np.flatnonzero(index._columns.state.used == LINKED).astype(np.uint32)
        longest = live[np.argsort(-np.linalg.norm(index.vectors(live), axis=1))[:300]]
        index.tombstone(np.concatenate((longest, rng.choice(live, 300))))
        settle(index)
    assert index.check() == []
    assert len(unreachable(index._columns)) == 0
    assert measured(index, directions[ROWS:].astype(np.float32), 64)[0] >= 0.97


def test_lengths_that_differ_widely_without_clusters():
    rng = np.random.default_rng(8)
    vectors = rng.normal(size=(10_000, DIM)) * np.exp(rng.normal(size=(10_000, 1)))
    index = build(vectors.astype(np.float32), Metric.DOT)
    assert measured(index, rng.normal(size=(300, DIM)).astype(np.float32), 64)[0] >= 0.95

"""Whether codes serve: what order a trained quantiser keeps, and what follows if it does not."""

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.index import IndexOptions, Metric, VectorIndex
from balsadb.index.flat import distances
from balsadb.index.metrics import ABSOLUTE, KERNEL_CODES, SQUARED
from balsadb.index.quantiser import NEAREST, SCORED, order_kept, train

DIM = 24
METRICS = [Metric.EUCLID, Metric.MANHATTAN, Metric.COSINE]


def clusters(count: int, spread: float, seed: int = 0) -> np.ndarray:
    """Rows around 50 centres, with lengths that differ by a factor of exp(`spread` * normal)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(50, DIM))
    rows = centres[rng.integers(0, 50, count)] + 0.3 * rng.normal(size=(count, DIM))
    return (rows * np.exp(spread * rng.normal(size=(count, 1)))).astype(np.float32)


def trained(rows: np.ndarray) -> np.ndarray:
    quantiser = train(rows)
    assert quantiser is not None
    return quantiser


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_kept_is_that_of_rounded_vectors(metric):
    """By brute force, with queries that are not rounded: finer, so a little better."""
    rows = clusters(3_000, 0.8)
    quantiser = trained(rows)
    mean, step = quantiser[:-2], quantiser[-2]
    rounded = mean + np.clip(np.rint((rows - mean) / step), -128, 127) * step
    shares = []
    for query in range(0, len(rows), 30):
        apart = distances(metric, rows[query], rows)
        coded = distances(metric, rows[query], rounded.astype(np.float32))
        apart[query] = coded[query] = np.inf
        best = np.argsort(apart, kind="stable")[:NEAREST]
        shares.append(np.isin(best, np.argsort(coded, kind="stable")[:SCORED]).mean())
    kept = order_kept(rows, quantiser, KERNEL_CODES[metric])
    assert kept == pytest.approx(float(np.mean(shares)), abs=0.06)


def test_a_coarse_step_loses_the_order_and_a_fine_one_keeps_it():
    rows = clusters(2_000, 0.0)
    quantiser = trained(rows)
    for kind in (SQUARED, ABSOLUTE):
        kept = []
        for factor in (1, 8, 64):
            quantiser[-2:] = quantiser[-2] * factor, 1 / (quantiser[-2] * factor)
            kept.append(order_kept(rows, quantiser, kind))
        assert kept[0] >= 0.999
        assert kept[0] >= kept[1] > kept[2]
        assert kept[2] < 0.3
        quantiser = trained(rows)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e-20, 1e17])
def test_no_size_of_vectors_is_too_much(metric, scale):
    rows = clusters(300, 0.5) * np.float32(scale)
    rows[7] = 0
    quantiser = train(rows)
    if quantiser is not None:
        assert 0 <= order_kept(rows, quantiser, KERNEL_CODES[metric]) <= 1


@pytest.mark.parametrize("count", [1, 2, 5, 11, 27])
def test_few_rows_keep_theirs(count):
    rows = clusters(64, 0.0)
    assert order_kept(rows[:count], trained(rows), SQUARED) >= 0.9


def fill(index: VectorIndex, rows: np.ndarray) -> list[bytes]:
    first = index.rows
    index.add(np.arange(first, first + len(rows), dtype=np.uint32), rows)
    edits = []
    while (edit := index.plan(1_024)) is not None:
        assert index.apply(edit)
        edits.append(edit)
    return edits


def options(metric: Metric) -> IndexOptions:
    return IndexOptions(DIM, metric, m=8, ef_construct=64, rows_max=1 << 14, codes_rows_min=1_500)


@pytest.mark.parametrize("metric", [Metric.EUCLID, Metric.MANHATTAN])
@pytest.mark.parametrize("spread", [1.5, 2.5])
def test_lengths_that_one_step_cannot_serve_get_no_codes(metric, spread):
    rows = clusters(3_200, spread)
    index = VectorIndex(ColumnSet(), "v", options(metric))
    fill(index, rows[:3_000])
    assert index.measure.coded == 0
    assert index.memory()["codes"] == 0
    assert index.codes.epoch >= 1, "all replicas know"
    assert not index.codes_due
    assert index.recall(rows[3_000:], 10, ef=64) >= 0.97
    assert index.check() == []


def test_cosine_knows_no_lengths():
    index = VectorIndex(ColumnSet(), "v", options(Metric.COSINE))
    rows = clusters(2_000, 2.5)
    fill(index, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    assert index.measure.coded == 1


def test_codes_are_given_up_when_the_vectors_change_and_come_back_when_they_fit():
    columns, replica_columns = ColumnSet(), ColumnSet()
    index = VectorIndex(columns, "v", options(Metric.EUCLID))
    replica = VectorIndex(replica_columns, "v", options(Metric.EUCLID))

    def grow(rows: np.ndarray) -> None:
        first = replica.rows
        edits = fill(index, rows)
        replica.add(np.arange(first, first + len(rows), dtype=np.uint32), rows)
        for edit in edits:
            assert replica.apply(edit)
        assert columns.digests() == replica_columns.digests()
        assert index.check() == []

    grow(clusters(2_000, 0.0))
    assert index.measure.coded == 1
    wild = clusters(3_200, 2.5, seed=1)
    grow(wild[:3_000])
    assert index.measure.coded == 0
    assert index.memory()["codes"] == 0
    assert index.recall(wild[3_000:], 10, ef=64) >= 0.97
    gone = np.arange(2_000, 5_000, dtype=np.uint32)
    for one in (index, replica):
        one.tombstone(gone)
    tame = clusters(6_200, 0.0, seed=3)
    grow(tame[:6_000])
    assert index.measure.coded == 1
    assert index.recall(tame[6_000:], 10, ef=64) >= 0.97

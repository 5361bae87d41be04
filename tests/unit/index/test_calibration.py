"""Which beam width reaches which recall: measured by the leader, logged, read by all."""

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.errors import Corruption
from balsadb.index import (
    IndexOptions,
    Metric,
    Precision,
    VectorIndex,
    compilations,
    compile_all,
    edit,
)
from balsadb.index.calibration import (
    Answers,
    Ground,
    _climb,
    answers,
    left_out,
    recalls,
    sample,
)
from balsadb.index.flat import nearest
from balsadb.index.options import EF_MAX
from balsadb.index.tuning import (
    FILTERED,
    FIRST,
    KS,
    ONE,
    REGIMES,
    TARGETS,
    TUNING_ROWS,
    ef_for,
    fits,
)

DIM = 16
ROWS = 3_000


def make(rows: int = ROWS, **options) -> VectorIndex:
    fixed = IndexOptions(DIM, Metric.EUCLID, rows_max=1 << 14, codes_rows_min=1_000, **options)
    index = VectorIndex(ColumnSet(), "v", fixed)
    values = np.random.default_rng(3).normal(size=(rows, DIM)).astype(np.float32)
    index.add(np.arange(rows, dtype=np.uint32), values)
    return index


def kinds(index: VectorIndex) -> list[int]:
    found = []
    while (data := index.plan(1_024)) is not None:
        found.append(edit.kind_of(data))
        assert index.apply(data)
    return found


@pytest.fixture(scope="module")
def index() -> VectorIndex:
    index = make()
    assert kinds(index)[-1] == edit.CALIBRATE
    return index


def ground(index: VectorIndex) -> Ground:
    return Ground(index._columns, index._graph, index.measure, index._scratches)


def test_it_comes_last_and_once(index):
    assert index.calibrated_rows == ROWS
    assert index.plan(1_024) is None
    assert index.plan_calibration() is None
    assert fits(index._columns.tuning.used)


def test_the_table_does_not_depend_on_slices():
    one, two = make(), make()
    kinds(one)
    while (data := two.plan(1_024, slices=5)) is not None:
        two.apply(data)
    assert one._columns.tuning.used.tolist() == two._columns.tuning.used.tolist()


def test_replicas_that_apply_the_edits_are_equal():
    leader, follower = make(), make()
    while (data := leader.plan(1_024)) is not None:
        leader.apply(data)
        follower.apply(data)
    assert leader._columns.tuning.digest() == follower._columns.tuning.digest()
    assert follower.distances_total == 0
    for k in (1, 7, 10, 55, 100, 250):
        for target in (0.5, 0.8, 0.93, 0.999):
            assert leader.ef_for(k, target) == follower.ef_for(k, target)


def test_widths_grow_with_target_and_k(index):
    targets = np.linspace(0.5, 0.9999, 40)
    for mask in (None, np.arange(ROWS) % 2 == 0, np.arange(ROWS) % 4 > 0):
        for k in (1, 3, 10, 40, 100, 900):
            widths = [index.ef_for(k, target, mask) for target in targets]
            assert widths == sorted(widths)
            assert k <= widths[0] <= widths[-1] <= EF_MAX
        widths = [index.ef_for(k, 0.95, mask) for k in range(1, 300)]
        assert widths == sorted(widths)


@pytest.mark.parametrize("k", [1, 10, 30, 100])
@pytest.mark.parametrize("target", [0.9, 0.95, 0.99])
def test_new_vectors_are_found_as_promised(index, k, target):
    new = np.random.default_rng(5).normal(size=(400, DIM)).astype(np.float32)
    assert index.recall(new, k, target_recall=target) >= target - 0.015
    assert index.recall(200, k, target_recall=target) >= target - 0.04  # 200 queries, and left out
    mask = np.arange(ROWS) % 3 > 0
    assert index.recall(new, k, target_recall=target, slots=mask) >= target - 0.015


def test_measuring_leaves_no_marks_behind(index):
    queries = index.vectors(np.arange(0, ROWS, 30))
    expected = index.search_many(queries, 10, ef=12)
    for wanted in ((5, 0), (5, 12)):
        for mask in (None, np.arange(ROWS) % 2 == 0, np.arange(ROWS) < 9):
            left_out(ground(index), sample(index._columns, 300), wanted, mask, (1, map))
            found = index.search_many(queries, 10, ef=12)
            assert all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))


def test_auto_is_the_width_of_the_table(index):
    query = index.vectors(np.array([5]))
    expected = index.search_many(query, 10, ef=index.ef_for(10, 0.9))
    found = index.search_many(query, 10, precision=Precision(target_recall=0.9))
    assert all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))


def test_a_row_that_is_left_out_is_not_found(index):
    own = sample(index._columns, 100)
    assert (index._columns.layer.data[own] == 0).all()
    exact = left_out(ground(index), own, (5, 0), None, (3, map))
    walked = left_out(ground(index), own, (5, 2_000), None, (1, map))
    others = np.arange(ROWS, dtype=np.uint32)
    for at, row in enumerate(own):
        _, expected = nearest(
            Metric.EUCLID, index.vectors(row), index._columns.vectors.used, others, 6
        )
        assert expected[0] == 0
        assert exact.distances[at].tolist() == expected[1:].tolist(), row
    assert np.array_equal(walked.distances, exact.distances), "wide enough to find everything"


def test_it_is_measured_again_when_rows_came_or_went():
    index = make()
    kinds(index)
    values = np.random.default_rng(4).normal(size=(ROWS, DIM)).astype(np.float32)
    index.add(np.arange(ROWS, ROWS + 1_000, dtype=np.uint32), values[:1_000])
    assert edit.CALIBRATE not in kinds(index)
    index.add(np.arange(ROWS + 1_000, 2 * ROWS, dtype=np.uint32), values[1_000:])
    assert kinds(index).count(edit.CALIBRATE) == 1
    assert index.calibrated_rows == 2 * ROWS
    index.tombstone(np.arange(0, 3_500, dtype=np.uint32))
    assert edit.CALIBRATE in kinds(index)
    assert index.calibrated_rows == 2_500


def easy(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and queries whose nearest one is found by the narrowest beam."""
    rng = np.random.default_rng(8)
    if kind == "copies":
        values = rng.integers(0, 12, (4_200, 2)).astype(np.float32)
        return values[:4_000], values[4_000:] + np.float32(0.25)
    dim = 2 if kind == "flat clusters" else DIM
    places = 5 * rng.normal(size=(50, dim))[rng.integers(0, 50, 4_200)]
    values = (places + 0.2 * rng.normal(size=places.shape)).astype(np.float32)
    return values[:4_000], values[4_000:]


@pytest.mark.parametrize("kind", ["clusters", "flat clusters", "copies"])
def test_easy_data_gets_narrow_beams(kind):
    values, queries = easy(kind)
    index = VectorIndex(ColumnSet(), "v", IndexOptions(values.shape[1], Metric.EUCLID))
    index.add(np.arange(len(values), dtype=np.uint32), values)
    kinds(index)
    half = np.arange(len(values)) % 2 == 0
    for k, widest in ((1, 32), (10, 64), (100, 200)):
        for slots in (None, half):
            assert index.ef_for(k, 0.95, slots) <= widest
            assert index.recall(queries, k, slots=slots) >= 0.935
    assert index.ef_for(100, 0.99) <= 400


def test_a_target_that_was_missed_takes_more_than_the_widths_tried():
    """The nearest is always found; of 128 queries, two find nothing else at any width."""
    truth = answers(np.zeros((128, 100), np.float32), np.full(128, 100))
    asked = [0]

    def ask(number: int, k: int, ef: int) -> Answers:
        asked.append(ef)
        counts = np.where((np.arange(number) % 64 == 0) & (ef > 0), 1, k)
        return answers(np.zeros((number, k), np.float32), counts) if ef > 0 else truth

    widths = _climb(ask, 128, (1.0, 1.0, 1.0))
    assert (widths[0] <= 8).all()
    assert (widths[1:, TARGETS.index(9_500)] == [10, 100]).all()
    assert (widths[1:, TARGETS.index(9_800)] >= max(asked)).all()
    assert (widths[1:, TARGETS.index(9_800)] <= EF_MAX // 8).all()
    assert 200 <= max(asked) <= 300, "no wider than the answer is worth"


def test_few_rows_are_not_worth_it():
    index = make(1_500)
    assert edit.CALIBRATE not in kinds(index)
    assert index.calibrated_rows == 0
    assert index.ef_for(10, 0.95) == 64
    assert index.ef_for(100, 0.8) >= 100


def test_recalls_count_equal_distances_and_empty_truths():
    truth = answers(np.array([[1, 2, 2], [1, 0, 0], [0, 0, 0]], np.float32), np.array([3, 1, 0]))
    found = answers(np.array([[1, 2, 0], [1, 0, 0], [0, 0, 0]], np.float32), np.array([2, 1, 0]))
    assert recalls(found, truth, 3).tolist() == [2 / 3, 1, 1]
    assert recalls(found, truth, 2).tolist() == [1, 1, 1]
    part = Answers(found.distances[:1], found.counts[:1])
    assert recalls(part, truth, 2).tolist() == [1]


def table() -> np.ndarray:
    tuning = np.zeros(TUNING_ROWS, np.uint32)
    widths = tuning[FIRST:].reshape(REGIMES, len(KS), len(TARGETS))
    widths[:] = 100 * (1 + np.arange(len(TARGETS)))
    widths[:, -1] += 200
    widths[FILTERED] *= 2
    return tuning


def test_between_entries_it_is_a_line():
    tuning = table()
    assert ef_for(tuning, 10, 8_000) == ef_for(tuning, 10, 5_000) == 100
    assert ef_for(tuning, 10, 8_250) == 150
    assert ef_for(tuning, 200, 8_000) == 2 * 300
    assert ef_for(tuning, 10, ONE) == EF_MAX
    assert ef_for(tuning, 10, 8_001) == 101, "rounded up"
    widths = [ef_for(tuning, 10, 8_250, (passing, 80)) for passing in (1, 40, 50, 60, 80)]
    assert widths == [300, 300, 263, 225, 150]
    assert ef_for(tuning, 10, 8_250, (0, 0)) == 300


@pytest.mark.parametrize("change", ["short", "zero", "wide", "k", "cut"])
def test_an_edit_that_is_no_table_is_refused_and_changes_nothing(change):
    index = make(50)
    tuning = table()
    if change == "short":
        tuning = tuning[:-1]
    elif change == "zero":
        tuning[FIRST] = 0
    elif change == "wide":
        tuning[-1] = EF_MAX + 1
    elif change == "k":
        tuning[FIRST + 2 * len(TARGETS)] = 99
    data = edit.encode_calibration(0, tuning)
    before = index._columns.tuning.digest(), index.graph_version
    with pytest.raises(Corruption):
        index.apply(data[:-1] if change == "cut" else data)
    assert (index._columns.tuning.digest(), index.graph_version) == before


def test_an_edit_for_another_version_is_ignored():
    index = make(50)
    assert not index.apply(edit.encode_calibration(3, table()))
    assert index.apply(edit.encode_calibration(0, table()))
    assert index.ef_for(10, 0.825) == 150


def test_measuring_compiles_nothing_new():
    compile_all()
    before = compilations()
    index = make()
    kinds(index)
    index.recall(20, 10, slots=np.ones(ROWS, np.bool_))
    assert compilations() == before

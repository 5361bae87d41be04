"""The life of a vector index: add, plan, apply, search, tombstone, restore."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.errors import Corruption, InvalidInput, LimitExceeded
from balsadb.index import IndexOptions, Metric, VectorIndex, edit, prepare_vector
from balsadb.index.flat import nearest
from balsadb.index.metrics import scores_of

DIM = 12


def options(metric: Metric = Metric.EUCLID, **changes) -> IndexOptions:
    base = {"m": 8, "ef_construct": 48, "seed": 7, "rows_max": 4_096, "graph_rows_min": 1}
    return IndexOptions(DIM, metric, **(base | changes))


def vectors(count: int, seed: int = 0, metric: Metric = Metric.EUCLID) -> np.ndarray:
    return prepare_vector(metric, np.random.default_rng(seed).normal(size=(count, DIM)))


def slots(count: int, first: int = 0) -> np.ndarray:
    return np.arange(first, first + count, dtype=np.uint32)


def filled(count: int, metric: Metric = Metric.EUCLID, *, linked: bool = True, **changes):
    index = VectorIndex(ColumnSet(), "v", options(metric, **changes))
    index.add(slots(count), vectors(count, metric=metric))
    if linked:
        link_all(index)
    return index


def link_all(index: VectorIndex, rows_limit: int = 128) -> list[bytes]:
    edits = []
    while (edit := index.plan(rows_limit)) is not None:
        assert index.apply(edit)
        edits.append(edit)
    return edits


def columns_of(index: VectorIndex):
    return index._columns


def test_an_empty_index_finds_nothing_and_has_nothing_to_do():
    index = VectorIndex(ColumnSet(), "v", options())
    rows, scores = index.search(vectors(1)[0], 5, ef=10)
    assert len(rows) == len(scores) == 0
    assert index.plan(100) is None
    assert index.check() == []


@pytest.mark.parametrize("linked", [False, True])
def test_one_point(linked):
    index = filled(1, linked=linked)
    rows, scores = index.search(vectors(1)[0], 3, ef=10)
    assert rows.tolist() == [0]
    assert scores.tolist() == [0]
    assert index.linked_count == int(linked)
    assert index.check() == []


@pytest.mark.parametrize("metric", list(Metric))
def test_a_row_is_found_before_and_after_it_is_linked(metric):
    index = filled(300, metric, linked=False)
    query = vectors(1, 5, metric)[0]
    before = index.search(query, 10, ef=300)
    assert (index.tail_count, index.linked_count) == (300, 0)
    link_all(index)
    after = index.search(query, 10, ef=300)
    assert (index.tail_count, index.linked_count) == (0, 300)
    assert before[0].tolist() == after[0].tolist()
    assert before[1].tobytes() == after[1].tobytes(), "scores do not depend on the path"
    assert index.check() == []


@pytest.mark.parametrize("metric", list(Metric))
def test_scores_have_the_documented_direction(metric):
    index = filled(200, metric)
    query = vectors(1, 5, metric)[0]
    rows, scores = index.search(query, 10, ef=64)
    stored = index.vectors(rows).astype(np.float64)
    expected = {
        Metric.COSINE: stored @ query,
        Metric.DOT: stored @ query,
        Metric.EUCLID: np.linalg.norm(stored - query, axis=1),
        Metric.MANHATTAN: np.abs(stored - query).sum(axis=1),
    }[metric]
    assert np.allclose(scores, expected, rtol=1e-5)
    best_first = np.diff(scores.astype(np.float64))
    assert (best_first <= 0 if metric in {Metric.COSINE, Metric.DOT} else best_first >= 0).all()


def test_ties_break_by_row():
    index = VectorIndex(ColumnSet(), "v", options())
    index.add(slots(60), np.repeat(vectors(20), 3, axis=0))
    link_all(index)
    rows, _ = index.search(vectors(20)[4], 3, ef=60)
    assert rows.tolist() == [12, 13, 14]


def test_tombstones_are_not_found_and_the_rest_still_is():
    index = filled(400)
    dead = np.arange(0, 400, 2, dtype=np.uint32)
    index.tombstone(dead)
    index.tombstone(dead)  # twice changes nothing
    index.tombstone(np.array([4_000], np.uint32))  # unknown: ignored
    assert index.live_count == 200
    for query in vectors(20, 9):
        rows, _ = index.search(query, 10, ef=64)
        assert len(rows) == 10
        assert (rows % 2 == 1).all()
    assert index.check() == []


def test_search_finds_k_when_only_few_live_rows_are_left():
    index = filled(400)
    index.tombstone(slots(395))
    rows, _ = index.search(vectors(1)[0], 10, ef=16)
    assert sorted(rows.tolist()) == [395, 396, 397, 398, 399]


def test_dead_rows_of_the_tail_are_freed_by_the_next_edit_and_used_again():
    index = filled(100)
    rows = index.add(slots(20, 100), vectors(20, 3))
    index.tombstone(rows[:5])
    fresh = index.add(slots(1, 120), vectors(1, 4))
    assert fresh.tolist() == [120], "not freed before an edit"
    edit = index.plan(64)
    assert index.apply(edit)
    assert index.check() == []
    assert index.add(slots(2, 200), vectors(2, 5)).tolist() == [100, 101]
    assert index.check() == []


def test_an_edit_links_a_row_that_died_meanwhile():
    index = filled(100, linked=False)
    edit = index.plan(100)
    index.tombstone(slots(10))
    assert index.apply(edit)
    assert (index.linked_count, index.tail_count, index.live_count) == (100, 0, 90)
    assert not np.isin(index.search(vectors(1)[0], 10, ef=50)[0], slots(10)).any()
    assert index.check() == []


def test_an_edit_of_another_version_is_ignored():
    index = filled(300, linked=False)
    stale = index.plan(100)
    assert index.apply(stale)
    before = index.graph_version
    assert not index.apply(stale)
    assert index.graph_version == before == 1
    assert index.check() == []


def test_a_damaged_edit_changes_nothing():
    columns = ColumnSet()
    index = VectorIndex(columns, "v", options())
    index.add(slots(200), vectors(200))
    edit = index.plan(100)
    before = columns.digest()
    for damaged in (edit[:10], edit[:-1], edit + b"\0"):
        with pytest.raises(Corruption):
            index.apply(damaged)
    far = bytearray(edit)
    far[40:44] = (1_000_000).to_bytes(4, "little")  # a linked row that does not exist
    with pytest.raises(Corruption):
        index.apply(bytes(far))
    assert columns.digest() == before
    assert index.apply(edit)


def test_equal_histories_give_equal_columns():
    first, second = ColumnSet(), ColumnSet()
    leader = VectorIndex(first, "v", options())
    follower = VectorIndex(second, "v", options())
    for step in range(6):
        for one in (leader, follower):
            one.add(slots(150, 150 * step), vectors(150, step))
            one.tombstone(np.arange(step, 150 * step, 7, dtype=np.uint32))
        edit = leader.plan(100)
        assert leader.apply(edit)
        assert follower.apply(edit)
        assert first.digests() == second.digests()
    assert follower.distances_total == 0, "followers compute no distance"
    assert leader.distances_total > 0
    assert leader.check() == []


@pytest.mark.parametrize("metric", list(Metric))
def test_the_plan_does_not_depend_on_slices_or_threads(metric):
    index = filled(500, metric)
    index.add(slots(300, 500), vectors(300, 1, metric))
    alone = index.plan(300)
    for threads in (1, 2, 4):
        with ThreadPoolExecutor(threads) as pool:
            assert index.plan(300, slices=3 * threads, run=pool.map) == alone


def test_planning_does_not_write():
    columns = ColumnSet()
    index = VectorIndex(columns, "v", options())
    index.add(slots(500), vectors(500))
    link_all(index)
    index.add(slots(50, 500), vectors(50, 1))
    raw = {column.name: column.data.tobytes() for column in columns}
    index.plan(50)
    assert {column.name: column.data.tobytes() for column in columns} == raw


def test_planning_beside_adds_and_tombstones():
    index = filled(600)
    index.add(slots(200, 600), vectors(200, 1))
    with ThreadPoolExecutor(1) as pool:
        planned = pool.submit(index.plan, 200)
        for step in range(20):
            index.add(slots(20, 800 + 20 * step), vectors(20, 2 + step))
            index.tombstone(slots(5, 30 * step))
        assert index.apply(planned.result())
    link_all(index)
    assert index.check() == []


def test_columns_are_adopted_after_a_restore():
    columns = ColumnSet()
    index = VectorIndex(columns, "v", options())
    index.add(slots(300), vectors(300))
    link_all(index)
    index.add(slots(30, 300), vectors(30, 1))
    again = VectorIndex(columns, "v", options())
    query = vectors(1, 8)[0]
    assert again.search(query, 10, ef=40)[0].tolist() == index.search(query, 10, ef=40)[0].tolist()
    assert (again.tail_count, again.graph_version) == (30, index.graph_version)
    assert VectorIndex(columns, "v", options(ef_construct=99)).live_count == 330, "may change"
    with pytest.raises(Corruption):
        VectorIndex(columns, "v", options(metric=Metric.DOT))
    with pytest.raises(Corruption):
        VectorIndex(columns, "v", IndexOptions(DIM + 1, Metric.EUCLID, m=8))


def test_small_collections_have_no_graph():
    index = filled(100, linked=False, graph_rows_min=200)
    assert index.plan(100) is None
    index.add(slots(100, 100), vectors(100, 1))
    assert index.plan(100) is not None


def test_dead_rows_are_freed_even_where_there_is_no_graph():
    index = filled(300, linked=False, graph_rows_min=2_000)
    index.tombstone(slots(280))
    edit = index.plan(100)
    assert index.apply(edit)
    assert (index.linked_count, index.tail_count) == (0, 20)
    assert index.check() == []
    assert index.plan(100) is None


def test_a_full_reserve_refuses_more_and_changes_nothing():
    index = filled(60, linked=False, rows_max=64)
    with pytest.raises(LimitExceeded):
        index.add(slots(5, 60), vectors(5))
    assert index.live_count == 60
    assert index.add(slots(4, 60), vectors(4)).tolist() == [60, 61, 62, 63]


@pytest.mark.parametrize(
    "changes", [{"m": 3}, {"m": 65}, {"ef_construct": 0}, {"ef_construct": 5_000}, {"seed": -1}]
)
def test_options_out_of_range_are_named(changes):
    with pytest.raises(InvalidInput) as caught:
        VectorIndex(ColumnSet(), "v", options(**changes))
    assert caught.value.field == next(iter(changes))


@pytest.mark.parametrize("share", [0.0, 0.004, 0.05, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.MANHATTAN])
def test_filters_of_every_selectivity_give_k_matching_rows(share, metric):
    count = 2_000
    index = filled(count, metric, rows_max=4_096)
    index.add(slots(50, count), vectors(50, 1, metric))
    rng = np.random.default_rng(3)
    mask = rng.random(count + 50) < share
    matching = np.flatnonzero(mask).astype(np.uint32)
    found = wanted = 0
    for query in vectors(25, 11, metric):
        rows, scores = index.search(query, 10, ef=64, slots=mask)
        stored = columns_of(index).vectors.data
        exact, distances = nearest(metric, query, stored, matching, 10)
        assert mask[rows].all()
        assert len(rows) == min(10, len(matching))
        assert len(set(rows.tolist())) == len(rows)
        wanted += len(exact)
        found += len(np.intersect1d(exact, rows))
        both = np.isin(exact, rows)
        expected = scores_of(metric, distances)[both]
        assert scores[np.isin(rows, exact)].tobytes() == expected.tobytes()
    assert found >= 0.95 * wanted


def test_a_filter_against_the_query_still_finds_its_nearest():
    index = filled(2_000, Metric.EUCLID)
    stored = columns_of(index).vectors.data[:2_000]
    query = np.full(DIM, 2.0, np.float32)
    far = np.argsort(((stored - query) ** 2).sum(axis=1))[700:]
    mask = np.zeros(2_000, np.bool_)
    mask[far] = True
    rows, _ = index.search(query, 10, ef=32, slots=mask)
    exact, _ = nearest(Metric.EUCLID, query, stored, np.sort(far).astype(np.uint32), 10)
    assert len(np.intersect1d(rows, exact)) >= 9


def test_a_mask_shorter_than_the_slots_excludes_the_rest():
    index = filled(100)
    rows, _ = index.search(vectors(1)[0], 50, ef=64, slots=np.ones(10, np.bool_))
    assert sorted(rows.tolist()) == list(range(10))


def test_k_larger_than_the_widest_beam_is_scanned():
    index = VectorIndex(ColumnSet(), "v", options(rows_max=6_000))
    index.add(slots(5_000), vectors(5_000))
    rows, scores = index.search(vectors(1)[0], 4_500, ef=10)
    assert len(set(rows.tolist())) == 4_500
    assert (np.diff(scores) >= 0).all()


def test_batches_answer_as_single_queries_do():
    index = filled(800)
    queries = vectors(30, 2)
    rows, scores, counts = index.search_many(queries, 7, ef=40)
    assert (counts == 7).all()
    for number, query in enumerate(queries):
        alone = index.search(query, 7, ef=40)
        assert alone[0].tolist() == rows[number].tolist()
        assert alone[1].tobytes() == scores[number].tobytes()


def test_concurrent_searches_do_not_disturb_one_another():
    index = filled(1_000)
    queries = vectors(200, 2)
    expected, _, _ = index.search_many(queries, 5, ef=32)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda query: index.search(query, 5, ef=32)[0], queries))
    assert np.array_equal(expected, np.array(found))


def test_read_only_and_strided_inputs_are_taken():
    index = filled(100)
    query = np.frombuffer(vectors(1).tobytes(), np.float32)
    assert not query.flags.writeable
    wide = np.zeros((1, 2 * DIM), np.float32)
    wide[0, ::2] = query
    mask = np.frombuffer(b"\1" * 100, np.bool_)
    plain = index.search(query, 5, ef=20, slots=mask)[0].tolist()
    assert index.search(wide[0, ::2], 5, ef=20)[0].tolist() == plain


def test_a_code_edit_planned_in_the_middle_of_an_add_changes_nothing():
    """The planner runs beside `add`: it may see rows whose codes are not counted yet."""
    fixed = IndexOptions(DIM, Metric.EUCLID, rows_max=4_096, codes_rows_min=200)
    columns = ColumnSet()
    index = VectorIndex(columns, "v", fixed)
    data = vectors(500)
    index.add(np.arange(400, dtype=np.uint32), data[:400])
    while index.codes.coded < 400:
        assert index.apply(index.plan(1))
    early = edit.encode_coding(index.graph_version, 400, 100)  # as seen between resize and count
    index.add(np.arange(400, 500, dtype=np.uint32), data[400:])
    before = {name: digest for name, digest in columns.digests().items() if "meta" not in name}
    assert index.apply(early)
    after = {name: digest for name, digest in columns.digests().items() if "meta" not in name}
    assert before == after
    assert index.codes.coded == 500
    with pytest.raises(Corruption, match="does not follow"):
        index.apply(edit.encode_coding(index.graph_version, 501, 1))


def test_codes_are_complete_although_every_plan_is_overtaken_by_an_add():
    fixed = IndexOptions(DIM, Metric.EUCLID, rows_max=4_096, codes_rows_min=200)
    index = VectorIndex(ColumnSet(), "v", fixed)
    data = vectors(1_000)
    index.add(np.arange(400, dtype=np.uint32), data[:400])
    for first in range(400, 480, 20):
        planned = index.plan(1)
        index.add(np.arange(first, first + 20, dtype=np.uint32), data[first : first + 20])
        if planned is not None:
            assert index.apply(planned)
    assert index.codes.coded == index.codes.rows == 480
    assert index.measure.coded
    codes = index._columns.codes.used
    assert codes.any(axis=1).all(), "every row has one"


def test_a_slot_whose_row_died_leads_nowhere():
    index = filled(100)
    first = index.slot_row[:100].copy()
    index.tombstone(np.array([first[7] - 1], np.uint32))
    assert index.slot_row[7] == 0
    moved = index.add(np.array([8], np.uint32), vectors(1))
    index.tombstone(np.array([first[8] - 1], np.uint32))  # the row that slot 8 had before
    assert index.slot_row[8] == moved[0] + 1


def test_whether_rows_are_their_slots_is_seen_alike_after_a_restore():
    """Walks count dead rows that a mask passes, so these belong to it."""
    columns = ColumnSet()
    index = VectorIndex(columns, "v", options())
    index.add(slots(300), vectors(300))
    link_all(index)
    assert index._straight
    index.tombstone(np.array([0], np.uint32))
    moved = index.add(np.array([0], np.uint32), vectors(1))
    assert not index._straight
    link_all(index)
    index.tombstone(moved)
    assert not VectorIndex(columns, "v", options())._straight

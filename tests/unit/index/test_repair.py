"""Dead rows leave the graph: entries, layers, clusters, all of it; and rows are used again."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.errors import Corruption
from balsadb.index import IndexOptions, Metric, VectorIndex, edit, repair
from balsadb.index import layout as at
from balsadb.index.check import unreachable

DIM = 8


def filled(count: int = 600, **changes) -> VectorIndex:
    base = {"m": 4, "ef_construct": 32, "seed": 5, "rows_max": 4_096, "graph_rows_min": 1}
    index = VectorIndex(ColumnSet(), "v", IndexOptions(DIM, Metric.EUCLID, **(base | changes)))
    add(index, count)
    settle(index)
    return index


def add(index: VectorIndex, count: int, seed: int = 0, centre: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, DIM)) + centre
    first = index.rows
    return index.add(
        np.arange(first, first + count, dtype=np.uint32) % 4_096, values.astype(np.float32)
    )


def settle(index: VectorIndex, limit: int = 128) -> list[edit.Edit]:
    """Apply what is planned until nothing is; every invariant holds after each edit."""
    done = []
    while (planned := index.plan(limit)) is not None:
        assert index.apply(planned)
        assert index.check() == []
        done.append(edit.decode(planned))
    return done


def kill(index: VectorIndex, rows) -> None:
    index.tombstone(np.asarray(rows, np.uint32))


def meta(index: VectorIndex, word: int) -> int:
    return int(index._columns.meta.data[word])


def assert_clean(index: VectorIndex) -> None:
    dead = meta(index, at.LINKED_DEAD_COUNT)
    assert dead * repair.IDLE_SHARE < max(1, index.linked_count)
    assert len(unreachable(index._columns)) == 0
    assert index.linked_count == index.live_count + dead
    assert not index.repair_due
    live = np.flatnonzero(index._columns.state.used == at.LINKED).astype(np.uint32)
    for query in index.vectors(live[:: max(1, len(live) // 20)]):
        best = index.search(query, 5, ef=64, exact=True)[0]
        assert len(np.intersect1d(index.search(query, 5, ef=64)[0], best)) >= len(best) - 1


def test_dead_rows_are_freed_and_used_again():
    index = filled()
    kill(index, np.arange(0, 600, 7))
    assert index.repair_due == 86
    edits = settle(index)
    assert sum(len(one.rows_freed) for one in edits) == 86
    assert_clean(index)
    assert add(index, 3, 1).tolist() == [0, 7, 14]
    settle(index)
    assert_clean(index)


def test_a_few_dead_rows_wait_and_many_come_before_links():
    index = filled(1_000)
    kill(index, [1, 2, 3])
    assert index.repair_due == 0
    assert index.plan(100) is None
    kill(index, np.arange(100))
    add(index, 200, 1)
    first = edit.decode(index.plan(100))
    assert len(first.rows_freed)
    assert not len(first.rows_linked)


@pytest.mark.parametrize("with_layer", [False, True])
def test_when_the_entry_dies_another_row_of_the_highest_layer_takes_over(with_layer):
    index = filled()
    held, top = index._columns, meta(index, at.TOP_LAYER)
    assert top >= 2
    dead = np.flatnonzero(held.layer.used >= top - 1) if with_layer else [meta(index, at.ENTRY) - 1]
    kill(index, dead)
    kill(index, np.arange(30))  # so that a repair is due
    settle(index)
    entry = meta(index, at.ENTRY) - 1
    live = np.flatnonzero(held.state.used == at.LINKED)
    assert held.state.data[entry] == at.LINKED
    assert meta(index, at.TOP_LAYER) == held.layer.data[live].max()
    assert entry == live[held.layer.data[live] == held.layer.data[live].max()][0] or not with_layer
    assert not with_layer or meta(index, at.TOP_LAYER) == top - 2
    assert_clean(index)


def test_everything_dies_and_new_rows_come():
    index = filled()
    kill(index, np.arange(600))
    settle(index)
    assert (meta(index, at.ENTRY), meta(index, at.TOP_LAYER), index.linked_count) == (0, 0, 0)
    assert not index._columns.links0.data.any()
    assert not index._columns.upper_links.data.any()
    add(index, 300, 2)
    settle(index)
    assert index.rows == 600
    assert_clean(index)


def test_new_rows_beside_a_graph_of_dead_ones():
    index = filled()
    kill(index, np.arange(600))
    add(index, 300, 2)
    settle(index)
    assert_clean(index)


def test_a_whole_cluster_dies():
    index = filled(300)
    rows = add(index, 300, 1, centre=20.0)
    add(index, 300, 2, centre=40.0)
    settle(index)
    kill(index, rows)
    settle(index)
    assert_clean(index)


def test_all_but_a_few_die():
    index = filled(900)
    kill(index, np.delete(np.arange(900), np.arange(0, 900, 45)))
    settle(index)
    assert index.linked_count == 20
    assert_clean(index)


def test_rows_keep_their_upper_lists_so_that_these_do_not_grow():
    index = filled(1_000)
    rng = np.random.default_rng(0)
    held, before = index._columns, index._columns.upper_links.rows
    for generation in range(20):
        live = np.flatnonzero(held.state.used == at.LINKED)
        kill(index, rng.choice(live, 50, replace=False))
        settle(index)
        add(index, 50, generation)
        settle(index)
    assert index.rows == 1_000
    assert held.upper_links.rows == before
    assert_clean(index)


def test_a_slot_whose_row_was_given_to_another_finds_nothing():
    index = filled(400)
    kill(index, np.arange(40))
    settle(index)
    rows = index.add(np.arange(1_000, 1_040, dtype=np.uint32), index.vectors(np.arange(40, 80)))
    assert rows.tolist() == list(range(40))
    mask = np.zeros(1_040, np.bool_)
    mask[:40] = True
    assert len(index.search(index.vectors(np.array([50]))[0], 5, ef=32, slots=mask)[0]) == 0


def test_the_plan_of_a_repair_does_not_depend_on_slices_or_threads():
    index = filled(1_500)
    kill(index, np.arange(0, 1_500, 9))
    alone = index.plan(128)
    assert len(edit.decode(alone).rows_freed) == repair.LEAVE_MAX
    for threads in (2, 4):
        with ThreadPoolExecutor(threads) as pool:
            assert index.plan(128, slices=3 * threads, run=pool.map) == alone


def test_rows_that_die_and_come_while_a_repair_is_planned():
    index = filled(800)
    kill(index, np.arange(0, 800, 10))
    planned = index.plan(128)
    kill(index, np.arange(1, 800, 10))
    add(index, 50, 3)
    assert index.apply(planned)
    assert index.check() == []
    settle(index)
    assert_clean(index)


def test_a_row_that_too_many_lists_name_is_left_step_by_step(monkeypatch):
    monkeypatch.setattr(repair, "LISTS_MAX", 5)
    index = filled(300)
    kill(index, np.arange(20))
    edits = settle(index)
    assert all(len(one.list_row) <= 5 for one in edits if len(one.rows_freed))
    assert any(len(one.rows_freed) == 0 for one in edits)
    assert_clean(index)


def test_a_repair_too_long_for_the_log_is_cut(monkeypatch):
    monkeypatch.setattr(repair, "EDIT_BYTES_MAX", 2_000)
    index = filled(600)
    kill(index, np.arange(100))
    assert all(len(edit.encode(one)) <= 2_000 for one in settle(index))
    assert_clean(index)


def cut_off(index: VectorIndex, rows) -> None:
    """Take all links to some rows away, as reductions may."""
    lists = index._columns.links0
    lists.touch(0, index.rows)
    inside = set(rows)
    for row in range(index.rows):
        if row not in inside:
            kept = [
                link for link in lists.data[row, 1 : lists.data[row, 0] + 1] if link not in inside
            ]
            lists.data[row] = 0
            lists.data[row, : len(kept) + 1] = [len(kept), *kept]


@pytest.mark.parametrize("rows", [[17], [17, 18, 19, 300], list(range(100, 200))])
def test_unreachable_rows_get_links(rows):
    index = filled()
    rows = [row for row in rows if row != meta(index, at.ENTRY) - 1]
    cut_off(index, rows)
    assert len(unreachable(index._columns)) >= 1
    index._planner._repairer._looked_over = -1  # as on a node that just became leader
    assert index.repair_due == 1
    settle(index)
    assert_clean(index)


def test_full_lists_make_room_for_a_link_without_losing_another_row():
    index = filled(300)
    lists = index._columns.links0
    room = lists.data.shape[1] - 1
    entry = meta(index, at.ENTRY) - 1
    lost = 40 if entry != 40 else 41
    for row in range(300):
        named = [int(link) for link in lists.data[row, 1 : lists.data[row, 0] + 1] if link != lost]
        others = [other for other in range(300) if other not in (row, lost, *named)]
        if row != lost:
            lists.data[row, 0] = room
            lists.data[row, 1:] = [*named, *others][:room]
    assert unreachable(index._columns).tolist() == [lost]
    index._planner._repairer._looked_over = -1
    edits = settle(index)
    assert edits[0].masked.any()
    assert_clean(index)


def test_edits_that_do_not_fit_are_refused_whole():
    index = filled(300)
    kill(index, np.arange(30))
    good = edit.decode(index.plan(64))
    fields = {name: getattr(good, name) for name in good.__slots__}
    freed = int(good.rows_freed[0])
    links, early = good.links.copy(), good.links.copy()
    links[0] = freed
    early[0] = add(index, 1, 1)[0]
    live = int(np.flatnonzero(index._columns.state.used == at.LINKED)[0])
    for change, words in (
        ({"links": links}, "links to a row that it frees"),
        ({"links": early}, "links to a row that is not linked"),
        ({"entry": freed + 1}, "entry"),
        ({"entry": 0}, "takes the entry away"),
        ({"rows_freed": np.array([live], np.uint32)}, "not dead"),
    ):
        with pytest.raises(Corruption, match=words):
            index.apply(edit.encode(edit.Edit(**(fields | change))))
    assert index.check() == []
    assert index.apply(edit.encode(good))


@pytest.mark.parametrize(("ef_construct", "least"), [(1, 32), (10, 32), (200, 200)])
def test_a_repair_has_as_many_candidates_as_links(ef_construct, least):
    """Fewer would thin the lists with every repair, whatever they held before."""
    index = filled(ef_construct=ef_construct, m=16)
    base = index._planner._repairer._base(index.rows, index.linked_count)
    assert base.ef == base.beam == least

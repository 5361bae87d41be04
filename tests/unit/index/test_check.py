"""`check` finds what is planted."""

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.index import IndexOptions, Metric, VectorIndex
from balsadb.index import layout as at
from balsadb.index.check import unreachable


@pytest.fixture
def index() -> VectorIndex:
    options = IndexOptions(6, Metric.EUCLID, m=4, ef_construct=32, rows_max=600, graph_rows_min=1)
    index = VectorIndex(ColumnSet(), "v", options)
    vectors = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)
    index.add(np.arange(400, dtype=np.uint32), vectors)
    while (edit := index.plan(100)) is not None:
        index.apply(edit)
    index.tombstone(index.add(np.arange(400, 410, dtype=np.uint32), vectors[:10])[:4])
    assert index.check() == []
    return index


def columns(index: VectorIndex) -> at.Columns:
    return index._columns


def high_row(index: VectorIndex) -> int:
    return int(np.flatnonzero(columns(index).layer.used[:400] > 0)[0])


def link_to_itself(index):
    columns(index).links0.data[5, 1] = 5


def link_twice(index):
    columns(index).links0.data[5, 1] = columns(index).links0.data[5, 2]


def link_beyond(index):
    columns(index).links0.data[5, 1] = 590


def link_into_the_tail(index):
    columns(index).links0.data[5, 1] = 408


def degree_too_large(index):
    columns(index).links0.data[5, 0] = 100


def rest_of_a_list(index):
    columns(index).links0.data[5, -1] = 3


def link_below_its_layer(index):
    low = int(np.flatnonzero(columns(index).layer.used[:400] == 0)[0])
    place = int(columns(index).upper_offset.data[high_row(index)]) - 1
    columns(index).upper_links.data[place, 1] = low


def upper_list_lost(index):
    columns(index).upper_offset.data[high_row(index)] = 0


def upper_list_shared(index):
    held = columns(index)
    rows = np.flatnonzero(held.layer.used[:400] == 1)
    held.upper_offset.data[rows[0]] = held.upper_offset.data[rows[1]]


def wrong_layer(index):
    columns(index).layer.data[7] += 1


def wrong_count(index):
    columns(index).meta.data[at.LINKED_COUNT] -= 1


def wrong_tail_count(index):
    columns(index).meta.data[at.TAIL_DEAD_COUNT] += 1


def wrong_entry(index):
    low = int(np.flatnonzero(columns(index).layer.used[:400] == 0)[0])
    columns(index).meta.data[at.ENTRY] = low + 1


def entry_in_the_tail(index):
    columns(index).meta.data[at.ENTRY] = 409


def unknown_state(index):
    columns(index).state.data[3] = 9


def free_behind_the_allocator(index):
    columns(index).state.data[3] = at.FREE


def links_of_a_tail_row(index):
    columns(index).links0.data[408, 0] = 1


PLANTED = [
    link_to_itself,
    link_twice,
    link_beyond,
    link_into_the_tail,
    degree_too_large,
    rest_of_a_list,
    link_below_its_layer,
    upper_list_lost,
    upper_list_shared,
    wrong_layer,
    wrong_count,
    wrong_tail_count,
    wrong_entry,
    entry_in_the_tail,
    unknown_state,
    free_behind_the_allocator,
    links_of_a_tail_row,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_violation_is_found(index, plant):
    plant(index)
    assert index.check()


def test_rows_that_nothing_leads_to_are_listed(index):
    held = columns(index)
    assert len(unreachable(held)) == 0
    lists = held.links0.data
    for row in range(400):
        kept = [link for link in lists[row, 1 : lists[row, 0] + 1] if link != 17]
        lists[row] = 0
        lists[row, : len(kept) + 1] = [len(kept), *kept]
    expected = [] if int(held.meta.data[at.ENTRY]) == 18 else [17]
    assert unreachable(held).tolist() == expected

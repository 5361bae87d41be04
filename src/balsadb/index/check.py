"""The invariants of an index, verified column by column. For tests and `balsadb doctor`.

Everything is NumPy over whole columns: about a second for a million rows.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from balsadb.index.layout import (
    ENTRY,
    FREE,
    LINKED,
    LINKED_COUNT,
    LINKED_DEAD,
    LINKED_DEAD_COUNT,
    TAIL,
    TAIL_COUNT,
    TAIL_DEAD,
    TAIL_DEAD_COUNT,
    TOP_LAYER,
    Columns,
    draw_layers,
)
from balsadb.index.options import IndexOptions

Mask = NDArray[np.bool_]


def violations(held: Columns, options: IndexOptions) -> list[str]:
    """Violated invariants, in words; empty if all hold."""
    states = held.state.used
    if states.size and int(states.max()) > LINKED_DEAD:
        return [f"a row has the unknown state {int(states.max())}"]
    found = list(_count_violations(held))
    found += _row_violations(held, options)
    found += _entry_violations(held)
    found += held.rows.check()
    linked = np.flatnonzero((states == LINKED) | (states == LINKED_DEAD))
    for layer in range(int(held.meta.data[TOP_LAYER]) + 1):
        rows = linked[held.layer.data[linked] >= layer]
        found += _layer_violations(held, layer, rows)
    return found


def unreachable(held: Columns) -> NDArray[np.uint32]:
    """Linked rows that no path from the entry leads to on layer 0. HNSW does not promise that there
    are none; a search cannot find these."""
    states, entry = held.state.used, int(held.meta.data[ENTRY])
    seen = (states == FREE) | (states == TAIL) | (states == TAIL_DEAD)
    frontier = np.array([entry - 1] if entry else [], np.int64)
    while len(frontier):
        seen[frontier] = True
        lists = held.links0.data[frontier]
        reached = np.unique(lists[:, 1:][_used(lists)]).astype(np.int64)
        frontier = reached[~seen[reached]]
    return np.flatnonzero(~seen).astype(np.uint32)


def _used(lists: NDArray[np.uint32]) -> Mask:
    """Which places of some lists hold links."""
    return np.less(np.arange(int(lists.shape[1]) - 1), lists[:, :1])


def _count_violations(held: Columns) -> Iterator[str]:
    states = held.state.used
    for word, of, name in (
        (LINKED_COUNT, (LINKED, LINKED_DEAD), "linked rows"),
        (LINKED_DEAD_COUNT, (LINKED_DEAD,), "dead linked rows"),
        (TAIL_COUNT, (TAIL,), "rows of the tail"),
        (TAIL_DEAD_COUNT, (TAIL_DEAD,), "dead rows of the tail"),
    ):
        actual, noted = int(np.isin(states, of).sum()), int(held.meta.data[word])
        if actual != noted:
            yield f"{actual} {name}, the count says {noted}"


def _row_violations(held: Columns, options: IndexOptions) -> Iterator[str]:
    states = held.state.used
    rows = np.arange(len(states))
    free = states == FREE
    if not np.array_equal(free, ~held.rows.used()):
        yield "free rows differ from those the allocator knows"
        return
    drawn = draw_layers(rows, options.m, options.seed)
    if not np.array_equal(held.layer.used[~free], drawn[~free]):
        yield "a row's layer is not the one its hash draws"
    for column in (held.vectors, held.links0, held.upper_offset, held.layer, held.row_slot):
        if column.rows != len(states):
            yield f"{column.name} has {column.rows} rows, not {len(states)}"
        elif column is not held.upper_offset and column.used[free].any():
            yield f"{column.name}: a free row is not zero"
    outside = free | (states == TAIL) | (states == TAIL_DEAD)
    if held.links0.used[outside].any():
        yield "a row that is not linked has links"
    yield from _upper_violations(held, outside, drawn)


def _upper_violations(held: Columns, outside: Mask, drawn: NDArray[np.uint8]) -> Iterator[str]:
    """Of where the upper lists are. Rows that were linked once keep theirs, empty."""
    high = np.flatnonzero((held.upper_offset.used > 0) | (~outside & (drawn > 0)))
    firsts = held.upper_offset.used[high].astype(np.int64)
    counts = drawn[high].astype(np.int64)
    lists = np.repeat(firsts, counts) + _counting(counts) - 1
    if (firsts == 0).any() or (counts == 0).any() or len(np.unique(lists)) != len(lists):
        yield "upper lists are missing or shared"
    elif len(lists) != held.upper_links.rows or (len(lists) and int(lists.max()) >= len(lists)):
        yield "upper lists lie outside their column, or do not fill it"
    elif held.upper_links.data[lists[np.repeat(outside[high], counts)]].any():
        yield "a row that is not linked has upper links"


def _counting(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 .. c - 1 for each c of `counts`, joined."""
    starts = np.cumsum(counts) - counts
    return np.arange(int(counts.sum())) - np.repeat(starts, counts)


def _entry_violations(held: Columns) -> Iterator[str]:
    states, entry = held.state.used, int(held.meta.data[ENTRY])
    linked = np.isin(states, (LINKED, LINKED_DEAD))
    if not linked.any():
        if entry:
            yield "there is an entry but no linked row"
        return
    if entry == 0 or entry > len(states) or not linked[entry - 1]:
        yield f"the entry {entry - 1} is not a linked row"
        return
    top = int(held.layer.used[linked].max())
    if not top == int(held.layer.data[entry - 1]) == int(held.meta.data[TOP_LAYER]):
        yield f"the entry is not on the top layer {top}"


def _layer_violations(held: Columns, layer: int, rows: NDArray[np.int64]) -> Iterator[str]:
    """What is wrong with the lists of one layer."""
    if layer == 0:
        lists = held.links0.data[rows]
    else:
        places = held.upper_offset.data[rows].astype(np.int64) + layer - 2
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < held.upper_links.rows:
            return  # reported as missing upper lists
        lists = held.upper_links.data[places]
    if not len(lists):
        return
    if int(lists[:, 0].max()) >= lists.shape[1]:
        yield f"layer {layer}: a list is longer than its room"
        return
    used = _used(lists)
    if lists[:, 1:][~used].any():
        yield f"layer {layer}: unused places of a list are not zero"
    owners = np.repeat(rows, lists[:, 0])
    yield from _link_violations(held, layer, owners, lists[:, 1:][used].astype(np.int64))


def _link_violations(
    held: Columns, layer: int, owners: NDArray[np.int64], links: NDArray[np.int64]
) -> Iterator[str]:
    """What is wrong with the links of one layer, each with the row that has it."""
    if len(links) == 0:
        return
    if int(links.max()) >= held.state.rows:
        yield f"layer {layer}: a link leads beyond the last row"
        return
    if (links == owners).any():
        yield f"layer {layer}: a row links to itself"
    if not np.isin(held.state.data[links], (LINKED, LINKED_DEAD)).all():
        yield f"layer {layer}: a link leads to a row that is not linked"
    if (held.layer.data[links] < layer).any():
        yield f"layer {layer}: a link leads to a row below the layer"
    pairs = owners << 32 | links
    if len(np.unique(pairs)) != len(pairs):
        yield f"layer {layer}: a list names a row twice"

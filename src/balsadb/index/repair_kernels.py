# pyright: basic
"""Repairing: which lists name rows that leave, what takes their place, and what can be reached.

The kernels only read the graph and write into arrays of their caller. Those that are given a span
`first`, `stop` write the entries of that span alone, so that spans run on any number of threads.
Whether a row is live is read from `fate`, taken once: rows may die beside a plan.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import int64, uint32, uint64

from balsadb.index.distance_kernels import (
    DISTANCES,
    EXPANDED,
    HALF,
    aim,
    any_nearer,
    insert,
    key_row,
    link_bits,
    list_key,
    near,
)
from balsadb.index.intrinsics import address_of, prefetch
from balsadb.index.kernel_cache import kernel, part
from balsadb.index.plan_kernels import choose_links, contains, measure_links, select
from balsadb.index.walk_kernels import descend, list_of, next_epoch, start_at, walk

PART = 64
"""Rows whose distances are computed at once."""
STAYS = 0
"""Fate of a row: live."""
DEAD = 1
"""Fate of a row: dead, to be freed by a later edit."""
LEAVES = 2
"""Fate of a row: dead, freed by this edit."""
FLOOR_PARTS = 5
FLOOR_KEPT = 3
"""A list that keeps less than FLOOR_KEPT / FLOOR_PARTS of its limit is chosen anew."""
LOST_MAX = 2
"""So is one that loses this many links or more."""
TRIED = 16
"""Candidates for the place of a single lost link."""
AHEAD = 8
"""Rows whose lists are asked for before they are read."""
NOWHERE = 0xFFFFFFFF
"""No row leads to this one."""


class Lists(NamedTuple):
    """Lists that name rows which leave: the row and the layer of each."""

    row: Any
    layer: Any


@kernel
def find_naming(links, fate, first, stop, found):
    """Set `found` for those lists [first, stop) of `links` that name a row which leaves."""
    for place in range(first, stop):
        degree = min(int64(links[place, 0]), links.shape[1] - 1)
        named = False
        for at in range(1, degree + 1):
            row = int64(links[place, at])
            named |= row < fate.shape[0] and fate[row] == LEAVES
        found[place] = named


@part
def offer_near(graph, how, row, scratch, size, count, capacity):
    """Offer `scratch.fresh[:size]`, by the distance that links are chosen by, to the sorted keys in
    `scratch.results`; their new number."""
    link_bits(graph, how, row, scratch.fresh, size, scratch.bits)
    scratch.counters[DISTANCES] += size
    for at in range(size):
        key = list_key(scratch.bits[at], scratch.fresh[at])
        count, _ = insert(scratch.results, count, capacity, key)
    return count


@part
def offer_heirs(graph, how, scratch, layer, row, fate, capacity):
    """Into `scratch.results`, sorted: what the list of a live row keeps, and the live neighbours of
    the dead rows that it loses. Returns how many."""
    fresh, visited = scratch.fresh, scratch.visited
    links = graph.links0 if layer == 0 else graph.upper_links
    place, epoch = list_of(graph, layer, row), next_epoch(scratch)
    degree = min(int64(links[place, 0]), links.shape[1] - 1)
    visited[row] = epoch
    size, count = 0, 0
    for at in range(1, degree + 1):
        other = int64(links[place, at])
        if fate[other] == STAYS:
            visited[other] = epoch
            fresh[size] = uint32(other)
            size += 1
    count = offer_near(graph, how, row, scratch, size, count, capacity)
    size = 0
    for at in range(1, degree + 1):
        other = int64(links[place, at])
        heirs = list_of(graph, layer, other)
        if fate[other] == STAYS or heirs < 0:
            continue
        for heir_at in range(1, min(int64(links[heirs, 0]), links.shape[1] - 1) + 1):
            heir = int64(links[heirs, heir_at])
            if fate[heir] == STAYS and visited[heir] != epoch:
                visited[heir] = epoch
                fresh[size] = uint32(heir)
                size += 1
                if size == PART:
                    count = offer_near(graph, how, row, scratch, size, count, capacity)
                    size = 0
    return offer_near(graph, how, row, scratch, size, count, capacity)


@part
def offer_found(graph, how, target, scratch, plan, layer, row, fate, count):
    """Search for a row as for a new one, and offer the live rows found; the new number of keys in
    `scratch.results`. For a list whose neighbours' neighbours are dead too."""
    if plan.entry < 0 or layer > plan.top:
        return count
    start_at(graph, how, target, scratch, plan.entry)
    opened = descend(graph, scratch, how, target, plan.n, plan.top, layer)
    found = walk(graph, scratch, how, target, layer, plan.n, opened, plan.ef, plan.ef)
    known, size = count, 0
    for at in range(found):
        other = key_row(scratch.pool[at])
        if other != row and fate[other] == STAYS and not contains(scratch.results, known, other):
            scratch.fresh[size] = uint32(other)
            size += 1
            if size == PART:
                count = offer_near(graph, how, row, scratch, size, count, plan.ef)
                known, size = count, 0
    return offer_near(graph, how, row, scratch, size, count, plan.ef)


@part
def names(links, place, row):
    """Whether a list names a row."""
    for at in range(1, min(int64(links[place, 0]), links.shape[1] - 1) + 1):
        if int64(links[place, at]) == row:
            return True
    return False


@part
def replace_one(graph, how, scratch, links, place, total, out):
    """The nearest of `scratch.results[:total]` that may take the place of the one link a list
    loses: not named by it, and nearer to its row than to each nearer link that is kept. Written to
    `out`; returns how many, 0 or 1. Algorithm 4's test without testing anew what is kept."""
    near = scratch.fresh
    kept, tried, tested, found = 0, 0, 0, 0
    for at in range(total):
        key = scratch.results[at]
        row = key_row(key)
        if names(links, place, row):
            near[kept] = uint32(row)
            kept += 1
            continue
        if tried == TRIED:
            break
        tried += 1
        nearer, looked = any_nearer(graph, how, row, near, kept, key >> HALF, scratch.bits)
        tested += looked
        if not nearer:
            out[0] = uint32(row)
            found = 1
            break
    scratch.counters[DISTANCES] += tested
    return found


@kernel
def plan_repairs(graph, scratch, how, plan, lists, fate, first, stop, changes):
    """What becomes of lists [first, stop) that name rows which leave.

    The list of a live row drops all its dead links and keeps the others. In place of the lost ones
    it takes as many, or up to its limit, of the live neighbours of the dead: if it lost several or
    is short, or has links of two kinds, those that are chosen among them and what is kept. The list
    of a dead row, a waypoint still, drops only what leaves.
    """
    chosen = scratch.survivors
    for number in range(first, stop):
        row, layer = int64(lists.row[number]), int64(lists.layer[number])
        links = graph.links0 if layer == 0 else graph.upper_links
        place = list_of(graph, layer, row)
        degree = min(int64(links[place, 0]), links.shape[1] - 1)
        kept = 0
        for at in range(degree):
            other = fate[int64(links[place, at + 1])]
            if other == STAYS or (other == DEAD and fate[row] != STAYS):
                changes.mask[number, at >> 3] |= np.uint8(1 << (at & 7))
                kept += 1
        limit = plan.links0 if layer == 0 else plan.links_upper
        short = FLOOR_PARTS * kept < FLOOR_KEPT * limit
        if fate[row] != STAYS:
            continue
        target = aim(graph, how, scratch, graph.vectors[row])
        total = offer_heirs(graph, how, scratch, layer, row, fate, plan.ef)
        if FLOOR_PARTS * total < FLOOR_KEPT * limit:
            total = offer_found(graph, how, target, scratch, plan, layer, row, fate, total)
        if not short and degree - kept < LOST_MAX and how.norms == 0:
            changes.count[number] = replace_one(
                graph, how, scratch, links, place, total, changes.links[number]
            )
            continue
        count, tested = choose_links(
            graph, how, scratch, row, scratch.results, total, limit, chosen
        )
        scratch.counters[DISTANCES] += tested
        out = 0
        for at in range(count):
            if kept + out < max(limit, degree) and not names(links, place, key_row(chosen[at])):
                changes.links[number, out] = uint32(key_row(chosen[at]))
                out += 1
        changes.count[number] = out


@kernel
def spread(graph, layer, start, queue, parents):
    """Breadth first over a layer from a row: `parents` uint32 (rows,) gets, for each row
    reached that had NOWHERE, the row that led to it (`start` to itself); `queue` uint32 (rows,) the
    rows in the order in which they were reached. Returns how many."""
    links = graph.links0 if layer == 0 else graph.upper_links
    base, list_bytes = address_of(links), uint64(links.shape[1] * 4)
    queue[0], parents[start] = uint32(start), uint32(start)
    count, at = 1, 0
    while at < count:
        row = int64(queue[at])
        if layer == 0 and at + AHEAD < count:
            address = base + uint64(queue[at + AHEAD]) * list_bytes
            prefetch(address)
            prefetch(address + uint64(64))
        at += 1
        place = list_of(graph, layer, row)
        if place < 0:
            continue
        for link in range(1, min(int64(links[place, 0]), links.shape[1] - 1) + 1):
            other = int64(links[place, link])
            if other < parents.shape[0] and parents[other] == NOWHERE:
                parents[other] = uint32(row)
                queue[count] = uint32(other)
                count += 1
    return count


@part
def keep_reached(scratch, count, row, fate, reached):
    """Keys of `scratch.pool[:count]` whose rows are live and reached, into `scratch.results`."""
    kept = 0
    for at in range(count):
        other = key_row(scratch.pool[at])
        if other != row and fate[other] == STAYS and reached[other]:
            scratch.results[kept] = scratch.pool[at] & ~EXPANDED
            kept += 1
    return kept


@kernel
def find_sources(graph, scratch, how, plan, lost, fate, reached, first, stop, chosen, counts):
    """For the lost rows [first, stop), which no path on a layer leads to: the rows that should link
    to them there, as keys in `chosen` (n, links) with `counts`. Each is searched for like a new
    one, from the top, or, where that leads into its own island, on that layer alone; Algorithm 4
    chooses among what is reached."""
    if how.norms:
        how = near(how)  # by product, rows of short vectors are found by way of nothing
    for number in range(first, stop):
        row, layer = int64(lost.row[number]), int64(lost.layer[number])
        target = aim(graph, how, scratch, graph.vectors[row])
        total = 0
        for top in (plan.top, layer):
            if total == 0:
                start_at(graph, how, target, scratch, plan.entry)
                opened = descend(graph, scratch, how, target, plan.n, top, layer)
                found = walk(graph, scratch, how, target, layer, plan.n, opened, plan.ef, plan.ef)
                total = keep_reached(scratch, found, row, fate, reached)
        if how.coded:
            measure_links(graph, how, scratch, row, scratch.results, total)
        limit = chosen.shape[1]
        count, tested = select(
            graph, how, scratch, row, scratch.results, total, limit, chosen[number]
        )
        scratch.counters[DISTANCES] += tested
        counts[number] = count

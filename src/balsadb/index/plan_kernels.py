# pyright: basic
"""Planning: which links a batch of new rows gets, and what becomes of the lists it links back to.

Both kernels only read the graph and write into arrays of their caller, each row or group of its
own: slices of a batch run on any number of threads and the result is the same.
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
    distance_bits,
    insert,
    key_row,
    link_bits,
    list_key,
    near,
)
from balsadb.index.kernel_cache import kernel, part
from balsadb.index.layout import LINKED
from balsadb.index.options import DUPLICATES_KEPT_SHARE
from balsadb.index.walk_kernels import descend, list_of, start_at, walk

BEAM_LEAST, BEAM = 96, 0.5
"""Where there are codes, a plan's beam on layer 0 is this part of `ef_construct`, but no narrower
than that. Of a wider one Algorithm 4 takes more links, which make searches dearer at the same
recall (docs/index.md)."""
PART = 64
"""Rows whose distances are computed at once."""
NEAR_SHARE = 4
"""With two measures, one link in so many is chosen by squared distance."""
NEAR_EF = 2
"""With two measures, the walk by squared distance has a beam this much narrower."""


class Base(NamedTuple):
    """What a plan builds on, read once: row count, entry row (-1: no graph), its layer, beam width
    above layer 0 and on it, links chosen on layer 0 and above."""

    n: int
    entry: int
    top: int
    ef: int
    beam: int
    links0: int
    links_upper: int


class Batch(NamedTuple):
    """Rows being linked, ascending; their layers; the first list of each (a row has one for every
    layer 0 .. its own)."""

    rows: Any
    layers: Any
    lists: Any


class Groups(NamedTuple):
    """Lists that change: `row`, `layer` of each; its list in the batch or -1; where its sources
    start (one entry more than groups); the sources as keys, sorted within a group."""

    row: Any
    layer: Any
    own: Any
    first: Any
    sources: Any


class Changes(NamedTuple):
    """What becomes of each group's list: whether a mask picks from the old links, the mask, how
    many links are appended, which."""

    masked: Any
    mask: Any
    count: Any
    links: Any


@part
def select(graph, how, scratch, row, candidates, count, limit, chosen):
    """Algorithm 4 (SELECT-NEIGHBORS-HEURISTIC): walk the candidates from near to far, keep one if
    it is nearer to `row` than to every one kept so far. A list less than half full is filled to
    half with the nearest of the rest (the paper's keepPrunedConnections, where it pays). Writes
    keys to `chosen`; returns how many, and the distances computed. Marks `candidates`.

    Exact duplicates of `row` would fill the list and cut it off from everything else: they get no
    more than a share of it.
    """
    rows, bits = scratch.fresh, scratch.bits
    rows[0] = uint32(row)
    link_bits(graph, how, row, rows, 1, bits)
    twin_bits = uint64(bits[0])
    kept, twins, computed = 0, 0, 1
    for at in range(count):
        key = candidates[at] & ~EXPANDED
        apart = key >> HALF
        if apart == twin_bits:
            if twins * DUPLICATES_KEPT_SHARE >= limit:
                candidates[at] = key | EXPANDED
                continue
            twins += 1
        nearer, looked = any_nearer(graph, how, key_row(key), rows, kept, apart, bits)
        computed += looked
        if not nearer:
            candidates[at] = key | EXPANDED
            chosen[kept] = key
            rows[kept] = uint32(key_row(key))
            kept += 1
            if kept == limit:
                break
    for at in range(count):
        if 2 * kept >= limit:
            break
        if candidates[at] & EXPANDED == 0:
            chosen[kept] = candidates[at]
            kept += 1
    return kept, computed


@part
def offer_part(graph, how, target, scratch, size, keys, count, capacity):
    """Offer `scratch.fresh[:size]` to sorted keys; their new number."""
    distance_bits(graph, how, target, scratch.fresh, size, scratch.bits)
    for at in range(size):
        key = list_key(scratch.bits[at], scratch.fresh[at])
        if count < capacity or key < keys[count - 1]:
            count, _ = insert(keys, count, capacity, key)
    return count


@part
def add_peers(graph, how, target, scratch, batch, number, layer, keys, count, capacity):
    """Offer the other rows of the batch that reach `layer` as candidates."""
    size, computed = 0, 0
    for peer in range(batch.rows.shape[0]):
        if batch.layers[peer] < layer or peer == number:
            continue
        scratch.fresh[size] = uint32(batch.rows[peer])
        size += 1
        if size == PART:
            count = offer_part(graph, how, target, scratch, size, keys, count, capacity)
            computed += size
            size = 0
    count = offer_part(graph, how, target, scratch, size, keys, count, capacity)
    scratch.counters[DISTANCES] += computed + size
    return count


@part
def measure_links(graph, how, scratch, row, keys, count):
    """Replace keys by those of the distances that links are chosen by, and sort them again, by
    insertion: little moves."""
    fresh, bits = scratch.fresh, scratch.bits
    for first in range(0, count, PART):
        size = min(PART, count - first)
        for at in range(size):
            fresh[at] = uint32(key_row(keys[first + at]))
        link_bits(graph, how, row, fresh, size, bits)
        for at in range(size):
            key, place = list_key(bits[at], fresh[at]), first + at
            while place > 0 and keys[place - 1] > key:
                keys[place] = keys[place - 1]
                place -= 1
            keys[place] = key
    scratch.counters[DISTANCES] += count


@part
def take_candidates(graph, pool, count, merged):
    """The keys of a pool for Algorithm 4: without dead rows if half or more are live."""
    live = 0
    for at in range(count):
        live += graph.state[key_row(pool[at])] == LINKED
    total = 0
    for at in range(count):
        if 2 * live < count or graph.state[key_row(pool[at])] == LINKED:
            merged[total] = pool[at] & ~EXPANDED
            total += 1
    return total


@part
def contains(keys, count, row):
    """Whether one of the first `count` keys is of this row."""
    for at in range(count):
        if key_row(keys[at]) == row:
            return True
    return False


@part
def drop_chosen(keys, count, chosen, kept):
    """Take the rows of `chosen[:kept]` out of keys; how many are left."""
    left = 0
    for at in range(count):
        if not contains(chosen, kept, key_row(keys[at])):
            keys[left] = keys[at] & ~EXPANDED
            left += 1
    return left


@part
def choose_links(graph, how, scratch, row, candidates, count, limit, chosen):
    """`select` for a list whose candidates come unsorted: by the one measure, or, where there are
    two, its share by each. Returns how many were chosen, and the distances computed."""
    if how.norms == 0:
        return select(graph, how, scratch, row, candidates, count, limit, chosen)
    measure_links(graph, how, scratch, row, candidates, count)
    share = limit - limit // NEAR_SHARE
    kept, computed = select(graph, how, scratch, row, candidates, count, share, chosen)
    count = drop_chosen(candidates, count, chosen, kept)
    other, rest = near(how), chosen[kept:]
    measure_links(graph, other, scratch, row, candidates, count)
    more, again = select(graph, other, scratch, row, candidates, count, limit - share, rest)
    return kept + more, computed + again


@part
def link_row(graph, how, scratch, plan, batch, number, share, chosen, counts):
    """Neighbours of one row by one measure, behind those it has: on each of its layers at most
    `share` parts in NEAR_SHARE of all links. Returns the distances computed to choose."""
    pool, merged, computed, count = scratch.pool, scratch.results, 0, 0
    row, own_layer = int64(batch.rows[number]), int64(batch.layers[number])
    target = aim(graph, how, scratch, graph.vectors[row])
    if plan.entry >= 0:
        start_at(graph, how, target, scratch, plan.entry)
        lowest = min(own_layer, plan.top)
        count = descend(graph, scratch, how, target, plan.n, plan.top, lowest)
    for layer in range(own_layer, -1, -1):
        total = 0
        ef = plan.ef if layer else plan.beam
        if plan.entry >= 0 and layer <= plan.top:
            count = walk(graph, scratch, how, target, layer, plan.n, count, ef, ef)
            total = take_candidates(graph, pool, count, merged)
        total = add_peers(graph, how, target, scratch, batch, number, layer, merged, total, ef)
        if how.coded:
            measure_links(graph, how, scratch, row, merged, total)
        place = int64(batch.lists[number]) + layer
        before = int64(counts[place])
        if before:
            total = drop_chosen(merged, total, chosen[place], before)
        limit = plan.links0 if layer == 0 else plan.links_upper
        part_of = limit // NEAR_SHARE
        limit = part_of if share == 1 else limit - part_of * (NEAR_SHARE - share)
        kept, tested = select(
            graph, how, scratch, row, merged, total, limit, chosen[place][before:]
        )
        counts[place] = before + kept
        computed += tested
    return computed


@kernel
def plan_links(graph, scratch, how, plan, batch, first, stop, chosen, counts):
    """Algorithm 1 (INSERT) up to line 10, for batch rows [first, stop): the neighbours of each on
    each of its layers, as keys in `chosen` (lists, links0) with `counts` (lists,), zero before. No
    link leads to this batch yet, so its rows find each other by comparison with all of it."""
    computed = 0
    narrow = max(plan.beam // NEAR_EF, plan.links0)
    other = Base(plan.n, plan.entry, plan.top, narrow, narrow, plan.links0, plan.links_upper)
    for number in range(first, stop):
        share = NEAR_SHARE - 1 if how.norms else NEAR_SHARE
        computed += link_row(graph, how, scratch, plan, batch, number, share, chosen, counts)
        if how.norms:
            computed += link_row(graph, near(how), scratch, other, batch, number, 1, chosen, counts)
    scratch.counters[DISTANCES] += computed


@part
def old_links(graph, how, scratch, groups, group, chosen, counts, pool, ranked):
    """The links a group's list has before the change, as keys in list order in `pool`: of the batch
    (just chosen) or of the graph. Distances only if `ranked`. Returns their number."""
    own = int64(groups.own[group])
    if own >= 0:
        for at in range(counts[own]):
            pool[at] = chosen[own, at]
        return int64(counts[own])
    row, layer = int64(groups.row[group]), int64(groups.layer[group])
    place = list_of(graph, layer, row)
    links = graph.links0 if layer == 0 else graph.upper_links
    degree = min(int64(links[place, 0]), links.shape[1] - 1)
    fresh, bits = scratch.fresh, scratch.bits
    for at in range(degree):
        fresh[at] = links[place, at + 1]
    if ranked:
        link_bits(graph, how, row, fresh, degree, bits)
    for at in range(degree):
        pool[at] = list_key(bits[at] if ranked else uint32(0), fresh[at])
    return degree


@kernel
def plan_changes(graph, scratch, how, plan, groups, first, stop, chosen, counts, changes):
    """Algorithm 1, lines 11-17, for groups [first, stop): each list takes its new links if they fit
    into its slack, else Algorithm 4 chooses among old and new."""
    pool, merged = scratch.pool, scratch.results
    kept_keys = scratch.survivors
    computed = 0
    for group in range(first, stop):
        row, layer = int64(groups.row[group]), int64(groups.layer[group])
        own = int64(groups.own[group])
        room = (graph.links0 if layer == 0 else graph.upper_links).shape[1] - 1
        start, end = int64(groups.first[group]), int64(groups.first[group + 1])
        if how.norms == 0:
            end = min(end, start + 2 * room)  # sorted by distance: the rest could not stay anyway
        old = old_links(graph, how, scratch, groups, group, chosen, counts, pool, False)
        fresh = 0
        for at in range(start, end):
            fresh += not contains(pool, old, key_row(groups.sources[at]))
        total, out = 0, 0
        if old + fresh <= room:
            if own >= 0:
                for at in range(old):
                    changes.links[group, out] = uint32(key_row(pool[at]))
                    out += 1
            for at in range(start, end):
                if not contains(pool, old, key_row(groups.sources[at])):
                    changes.links[group, out] = uint32(key_row(groups.sources[at]))
                    out += 1
            changes.count[group] = out
            continue
        ranked = how.norms == 0
        old_links(graph, how, scratch, groups, group, chosen, counts, pool, ranked)
        computed += old
        for at in range(old):
            total, _ = insert(merged, total, merged.shape[0], pool[at])
        for at in range(start, end):
            if not contains(pool, old, key_row(groups.sources[at])):
                total, _ = insert(merged, total, merged.shape[0], groups.sources[at])
        limit = plan.links0 if layer == 0 else plan.links_upper
        kept, tested = choose_links(graph, how, scratch, row, merged, total, limit, kept_keys)
        computed += tested
        if own < 0:
            changes.masked[group] = 1
            for at in range(old):
                if contains(kept_keys, kept, key_row(pool[at])):
                    changes.mask[group, at >> 3] |= np.uint8(1 << (at & 7))
        for at in range(kept):
            if own >= 0 or not contains(pool, old, key_row(kept_keys[at])):
                changes.links[group, out] = uint32(key_row(kept_keys[at]))
                out += 1
        changes.count[group] = out
    scratch.counters[0] += computed

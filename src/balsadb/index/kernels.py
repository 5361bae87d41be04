# pyright: basic
"""Searching: the compiled walks over the graph, and the exact scan.

A *key* is 64 bits: the distance in the upper half, as bits that order like the float; the row and
one bit ("expanded") in the lower half. Keys order by (distance, row), so a sorted array of keys is
at once the paper's candidate set C and its result set W, and every tie breaks by row.

Nothing is allocated here. `Scratch` belongs to one search at a time.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import float32, int64, uint32, uint64

from balsadb.index.intrinsics import (
    absolute_sum,
    address_of,
    bits_float,
    float_bits,
    prefetch,
    product_sum,
    squared_sum,
)
from balsadb.index.kernel_cache import kernel, part
from balsadb.index.layout import ENTRY, LINKED, LINKED_COUNT, LINKED_DEAD_COUNT, TAIL, TOP_LAYER
from balsadb.index.metrics import PRODUCT, SQUARED
from balsadb.index.options import EF_MAX

AHEAD = 5
"""Vectors asked for before the one whose distance is being computed."""
PREFETCH_LINES = 8
"""Cache lines asked for of a vector; the processor fetches the rest of a long one by itself."""
EXACT_FACTOR = 16
"""A filter that leaves m of n rows is scanned exactly if m * m <= EXACT_FACTOR * ef * n."""
EXACT_ROWS_MIN = 512
"""And always if it leaves no more than this."""

EXPANDED = np.uint64(1)
ROW_MASK = np.uint64(0xFFFFFFFE)
HALF = np.uint64(32)
ONE = np.uint64(1)
SIGN = np.uint64(0x80000000)
ALL32 = np.uint64(0xFFFFFFFF)
MAGNITUDE = np.uint64(0x7FFFFFFF)
INFINITY = np.uint64(0x7F800000)
EPOCH_MAX = 65_535

DISTANCES = 0
EPOCH = 1


class Graph(NamedTuple):
    """The columns that kernels read, whole reserves."""

    vectors: Any
    links0: Any
    upper_offset: Any
    upper_links: Any
    state: Any
    row_slot: Any
    meta: Any


class Scratch(NamedTuple):
    """Memory of one search. `visited` uint16 (rows,); `matches` uint32 (rows,); `pool` and
    `results` uint64; `fresh` uint32; `counters` int64: distances computed, visited epoch."""

    visited: Any
    matches: Any
    pool: Any
    results: Any
    fresh: Any
    counters: Any


class Measure(NamedTuple):
    """How far apart two vectors are: kind of distance (`balsadb.index.metrics`) and dimension."""

    kind: int
    dim: int


class Request(NamedTuple):
    """What a search asks: results, width of the beam, rows to consider (`n`), length of the tail
    list, whether `slots` is a mask, whether to scan everything."""

    k: int
    ef: int
    n: int
    tail: int
    masked: int
    exact: int


@part
def measure(how, first, second):
    """Distance of the vectors at two addresses."""
    if how.kind == PRODUCT:
        return float32(0) - product_sum(first, second, how.dim)
    if how.kind == SQUARED:
        return squared_sum(first, second, how.dim)
    return absolute_sum(first, second, how.dim)


@part
def ordered_bits(distance):
    """Bits that order as unsigned integers like the float does; a NaN (an overflow of both signs)
    comes after everything, whatever sign the processor gave it."""
    bits = float_bits(distance)
    if bits & MAGNITUDE > INFINITY:
        return ALL32
    if bits & SIGN:
        return bits ^ ALL32
    return bits | SIGN


@part
def make_key(distance, row):
    """The key of a row at a distance, not expanded."""
    return (ordered_bits(distance) << HALF) | (uint64(row) << ONE)


@part
def key_row(key):
    """The row of a key."""
    return int64((key & ROW_MASK) >> ONE)


@part
def key_distance(key):
    """The distance of a key."""
    bits = key >> HALF
    if bits & SIGN:
        return bits_float(bits ^ SIGN)
    return bits_float(bits ^ ALL32)


@part
def insert(pool, count, capacity, key):
    """Put a key into a sorted pool, dropping the last if it is full: (count, position), position
    `capacity` if the key was not taken."""
    if count == capacity:
        if key >= pool[count - 1]:
            return count, capacity
        count -= 1
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if pool[middle] < key:
            low = middle + 1
        else:
            high = middle
    for at in range(count, low, -1):
        pool[at] = pool[at - 1]
    pool[low] = key
    return count + 1, low


@part
def next_epoch(scratch):
    """A number that no entry of `visited` holds. Cleared on the wrap, before it could repeat."""
    epoch = scratch.counters[EPOCH] + 1
    if epoch > EPOCH_MAX:
        scratch.visited[:] = 0
        epoch = 1
    scratch.counters[EPOCH] = epoch
    return np.uint16(epoch)


@part
def fetch_row(base, row, row_bytes):
    """Prefetch the first lines of a vector."""
    address = base + uint64(row) * row_bytes
    lines = min(int64(row_bytes + uint64(63)) >> 6, PREFETCH_LINES)
    for line in range(lines):
        prefetch(address + uint64(line * 64))


@part
def descend(graph, scratch, how, query, n, entry, top, layer):
    """The key of the row that greedy steps from `entry` reach on layers `top` .. `layer` + 1
    (Algorithm 2 with ef = 1 on each: lines 4-7 of Algorithm 5)."""
    base = address_of(graph.vectors)
    row_bytes = uint64(how.dim * 4)
    best = make_key(measure(how, query, base + uint64(entry) * row_bytes), entry)
    computed = 1
    for level in range(top, layer, -1):
        moved = True
        while moved:
            moved = False
            offset = int64(graph.upper_offset[key_row(best)])
            if offset == 0:
                break
            place = offset + level - 2
            degree = min(int64(graph.upper_links[place, 0]), graph.upper_links.shape[1] - 1)
            for at in range(1, degree + 1):
                fetch_row(base, graph.upper_links[place, at], row_bytes)
            for at in range(1, degree + 1):
                row = int64(graph.upper_links[place, at])
                if row < n:
                    key = make_key(measure(how, query, base + uint64(row) * row_bytes), row)
                    computed += 1
                    if key < best:
                        best = key
                        moved = True
    scratch.counters[DISTANCES] += computed
    return best


@part
def list_of(graph, layer, row):
    """Where a row's list of a layer is: an index into links0 or upper_links; -1 if it has none."""
    if layer == 0:
        return row
    offset = int64(graph.upper_offset[row])
    return offset + layer - 2 if offset else -1


@part
def fresh_neighbours(links, place, n, scratch, epoch):
    """The neighbours in a list that this walk has not seen, into `scratch.fresh`; marks them."""
    visited, fresh = scratch.visited, scratch.fresh
    count = 0
    degree = min(int64(links[place, 0]), links.shape[1] - 1)
    for at in range(1, degree + 1):
        row = int64(links[place, at])
        if row < n:
            fresh[count] = uint32(row)
            count += visited[row] != epoch  # no branch: which ones are new cannot be predicted
            visited[row] = epoch
    return count


@part
def walk(graph, scratch, how, query, layer, n, count, ef):
    """Algorithm 2 (SEARCH-LAYER): the beam on one layer.

    `scratch.pool` holds `count` entry points, sorted; on return the `ef` nearest rows found, all
    expanded, sorted. Returns their number.
    """
    pool, fresh = scratch.pool, scratch.fresh
    base, row_bytes = address_of(graph.vectors), uint64(how.dim * 4)
    links = graph.links0 if layer == 0 else graph.upper_links
    lists, list_bytes = address_of(links), uint64(links.shape[1] * 4)
    epoch = next_epoch(scratch)
    for at in range(count):
        pool[at] &= ~EXPANDED
        scratch.visited[key_row(pool[at])] = epoch
    position, computed = 0, 0
    while position < count:
        key = pool[position]
        if key & EXPANDED:
            position += 1
            continue
        pool[position] = key | EXPANDED
        position += 1
        place = list_of(graph, layer, key_row(key))
        if place < 0:
            continue
        found = fresh_neighbours(links, place, n, scratch, epoch)
        for at in range(min(found, AHEAD)):
            fetch_row(base, fresh[at], row_bytes)
        for at in range(found):
            if at + AHEAD < found:
                fetch_row(base, fresh[at + AHEAD], row_bytes)
            row = int64(fresh[at])
            key = make_key(measure(how, query, base + uint64(row) * row_bytes), row)
            if count < ef or key < pool[count - 1]:
                count, taken_at = insert(pool, count, ef, key)
                position = min(position, taken_at)
                if layer == 0:
                    address = lists + uint64(row) * list_bytes
                    prefetch(address)
                    prefetch(address + uint64(64))
        computed += found
    scratch.counters[DISTANCES] += computed
    return count


@part
def matches(graph, slots, masked, row, state):
    """Whether a row is in `state` and its slot passes the mask."""
    if graph.state[row] != state:
        return False
    if masked == 0:
        return True
    slot = int64(graph.row_slot[row])
    return slot < slots.shape[0] and slots[slot]


@part
def walk_matching(graph, scratch, how, query, slots, request, capacity, budget):
    """The beam on layer 0 that walks everything and keeps what matches.

    `scratch.pool[0]` is the entry. Ends well when `ef` matches are known and no row left to expand
    is nearer than the last of them: returns the number of results (`scratch.results`, sorted).
    Returns -1 if the pool ran dry or the budget of distances was spent before that.
    """
    pool, results, fresh, ef = scratch.pool, scratch.results, scratch.fresh, request.ef
    base, row_bytes = address_of(graph.vectors), uint64(how.dim * 4)
    epoch = next_epoch(scratch)
    scratch.visited[key_row(pool[0])] = epoch
    count, kept, position, computed = 1, 0, 0, 0
    if matches(graph, slots, request.masked, key_row(pool[0]), LINKED):
        results[0] = pool[0]
        kept = 1
    done = False
    while position < count and computed < budget:
        key = pool[position]
        if key & EXPANDED:
            position += 1
            continue
        if kept == ef and key > results[ef - 1]:
            done = True
            break
        pool[position] = key | EXPANDED
        position += 1
        found = fresh_neighbours(graph.links0, key_row(key), request.n, scratch, epoch)
        for at in range(min(found, AHEAD)):
            fetch_row(base, fresh[at], row_bytes)
        for at in range(found):
            if at + AHEAD < found:
                fetch_row(base, fresh[at + AHEAD], row_bytes)
            row = int64(fresh[at])
            key = make_key(measure(how, query, base + uint64(row) * row_bytes), row)
            if (kept < ef or key < results[kept - 1]) and matches(
                graph, slots, request.masked, row, LINKED
            ):
                kept, _ = insert(results, kept, ef, key)
            if count < capacity or key < pool[count - 1]:
                count, taken_at = insert(pool, count, capacity, key)
                position = min(position, taken_at)
        computed += found
    scratch.counters[DISTANCES] += computed
    return kept if done else -1


@part
def scan(graph, scratch, how, query, rows, number, into, count, capacity):
    """Exact: put `rows[:number]` into the sorted keys `into`; returns their new count."""
    base, row_bytes = address_of(graph.vectors), uint64(how.dim * 4)
    for at in range(number):
        if at + AHEAD < number:
            fetch_row(base, rows[at + AHEAD], row_bytes)
        row = int64(rows[at])
        key = make_key(measure(how, query, base + uint64(row) * row_bytes), row)
        if count < capacity or key < into[count - 1]:
            count, _ = insert(into, count, capacity, key)
    scratch.counters[DISTANCES] += number
    return count


@part
def gather(graph, scratch, slots, request):
    """List the live rows that pass the mask, ascending, in `scratch.matches`; returns how many."""
    count = 0
    for row in range(request.n):
        scratch.matches[count] = row
        state = graph.state[row]
        if state == LINKED or state == TAIL:
            count += matches(graph, slots, request.masked, row, state)
    return count


@part
def gather_tail(graph, scratch, slots, request, tail):
    """The same for the rows of the tail, into the front of `scratch.matches`."""
    count = 0
    for at in range(request.tail):
        row = int64(tail[at])
        if row < request.n and matches(graph, slots, request.masked, row, TAIL):
            scratch.matches[count] = row
            count += 1
    return count


@part
def search_one(graph, scratch, how, query, slots, request, selected):
    """One query by the cheapest way that answers it: `selected` is the number of matching rows if
    they are listed (exact scan), -1 if there is no filter and no tombstone (plain walk), else
    -2 - their number (collecting walk). Returns the number of keys, and which array has them
    (0: pool, 1: results); (-1, 1) asks for the exact scan."""
    entry = int64(graph.meta[ENTRY]) - 1
    if selected >= 0:
        rows = scratch.matches
        k = request.k
        return scan(graph, scratch, how, query, rows, selected, scratch.results, 0, k), 1
    if entry < 0:
        return 0, 0
    top = int64(graph.meta[TOP_LAYER])
    scratch.pool[0] = descend(graph, scratch, how, query, request.n, entry, top, 0)
    if selected == -1:
        count = walk(graph, scratch, how, query, 0, request.n, 1, request.ef)
        short = count < request.k and count < int64(graph.meta[LINKED_COUNT])
        return -1 if short else count, 0  # short: the walk met an island of the graph
    matching = -2 - selected
    linked = int64(graph.meta[LINKED_COUNT])
    capacity = min(EF_MAX, 2 * request.ef * linked // max(1, matching) + 16)
    budget = max(matching, 64 * request.ef)
    return walk_matching(graph, scratch, how, query, slots, request, capacity, budget), 1


@kernel
def search_queries(graph, scratch, how, request, slots, tail, queries, rows, distances, counts):
    """Algorithm 5 (K-NN-SEARCH) for each of `queries` (q, dim): rows and distances (q, k), best
    first, and how many there are (q,). One dispatch for a batch; one filter for all of it."""
    base, row_bytes = address_of(queries), uint64(how.dim * 4)
    linked, dead = int64(graph.meta[LINKED_COUNT]), int64(graph.meta[LINKED_DEAD_COUNT])
    selected, listed = -1, -1
    if request.exact or request.masked:
        listed = gather(graph, scratch, slots, request)
        selected = listed
        small = listed <= EXACT_ROWS_MIN or listed <= request.k
        worth = listed * listed > EXACT_FACTOR * request.ef * linked
        if request.exact == 0 and worth and not small:
            selected = -2 - listed
    elif dead:
        selected = -2 - (linked - dead)
    waiting = 0
    if selected < 0:
        waiting = gather_tail(graph, scratch, slots, request, tail)
    for number in range(queries.shape[0]):
        query = base + uint64(number) * row_bytes
        count, where = search_one(graph, scratch, how, query, slots, request, selected)
        if count < 0:
            listed = gather(graph, scratch, slots, request)
            count, where = search_one(graph, scratch, how, query, slots, request, listed)
            waiting = gather_tail(graph, scratch, slots, request, tail)
        elif selected < 0:
            kept = scratch.pool if where == 0 else scratch.results
            room = max(request.ef, request.k)
            count = scan(graph, scratch, how, query, scratch.matches, waiting, kept, count, room)
        keys = scratch.pool if where == 0 else scratch.results
        counts[number] = min(count, request.k)
        for at in range(min(count, request.k)):
            rows[number, at] = uint32(key_row(keys[at]))
            distances[number, at] = key_distance(keys[at])

# pyright: basic
"""Walking the graph: the descent, the beam, and the beam that collects matches.

Nothing is allocated here. `Scratch` belongs to one search at a time.
"""

from typing import NamedTuple

import numpy as np
from numba import int64, uint32, uint64

from balsadb.index.distance_kernels import (
    DISTANCES,
    EPOCH,
    EPOCH_MAX,
    EXPANDED,
    HIDDEN,
    code_bytes,
    distance_bits,
    fetch,
    insert,
    key_row,
    list_key,
)
from balsadb.index.intrinsics import address_of, bits_set, prefetch, set_bytes, uint64_at
from balsadb.index.kernel_cache import part
from balsadb.index.layout import LINKED, LINKED_COUNT
from balsadb.index.options import EF_MAX

ENOUGH = 20
"""Matching rows that one expansion of a walk over matching rows looks for."""
STEPS = 10
"""Rows that one expansion of such a walk steps over at most, first of its list first. A wider beam
that reads fewer lists for each of its rows finds more for the same number of lists."""
WIDER_LEAST, WIDER_MOST, WIDER_RARE = 4, 3, 18
"""A walk over matching rows sees the less of what is around the rarer they are: if one row in n
matches, its beam of ef is wider by ef * n / WIDER_RARE, by ef / WIDER_LEAST at least, and by
ef * WIDER_MOST / 2 at most. At 5 in a hundred of a million, recall@10 at ef 64 is .950 over 1,000
queries; with a quarter and all lists it is .944, at nearly the same cost. With 14 for 18 it would
be .952, for a tenth more time."""
HITS = 256
"""A walk over matching rows looks whether they are rarer around the target than elsewhere, once it
has looked, often repeatedly, at as many rows as should hold so many matches."""
UPPER_KEPT = 16
"""Rows of an upper layer that are entry points of the next."""
UPPER_REACH = 3
"""Rows of an upper layer that are expanded. In 1,000 islands of 1,000 rows, recall at ef 64 is .977
instead of .973 for 1; a search of 35,000 films costs four in a hundred distances more."""
MASK_BYTES = 64
"""Bytes of a mask that are packed at once."""
LISTS_AHEAD = 8
"""Lists that are under way while another is read, of rows that are stepped over."""
LIST_LINES = 2
"""Cache lines asked for of the list of a row that may be expanded soon."""


class Limits(NamedTuple):
    """Of a walk over everything: entry points, width of the pool, distances it may compute."""

    opened: int
    capacity: int
    budget: int


@part
def next_epoch(scratch):
    """A number that no entry of `visited` holds, but that of a hidden row. Cleared on the wrap,
    before it could repeat."""
    epoch = scratch.counters[EPOCH] + 1
    if epoch > EPOCH_MAX:
        scratch.visited[:] = 0
        epoch = 1
    scratch.counters[EPOCH] = epoch
    if scratch.counters[HIDDEN]:
        scratch.visited[scratch.counters[HIDDEN] - 1] = epoch
    return np.uint8(epoch)


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
    count, rows = uint64(0), uint64(n)
    degree = min(int64(links[place, 0]), links.shape[1] - 1)
    for at in range(1, degree + 1):
        row = uint64(links[place, at])
        if row < rows:
            fresh[count] = uint32(row)
            # No branch: which ones are new cannot be predicted.
            count += uint64(visited[row] != epoch)
            visited[row] = epoch
    return int64(count)


@part
def forget_seen(scratch, n):
    """Of `n` rows no one is seen but a hidden one. Walks of layer 0 keep a bit a row: that stays in
    the cache beside all else, where a byte a row is one more wait for memory for every row of every
    list; clearing it costs microseconds a million rows. Upper layers hold few rows, and clear
    nothing (`next_epoch`)."""
    scratch.seen[: (n >> 3) + 1] = 0
    if scratch.counters[HIDDEN]:
        see(scratch, uint64(scratch.counters[HIDDEN] - 1))


@part
def see(scratch, row):
    """Mark a row as seen; 1 if it was not, else 0."""
    byte, bit = uint64(row) >> uint64(3), uint64(row) & uint64(7)
    old = uint64(scratch.seen[byte])
    scratch.seen[byte] = np.uint8(old | (uint64(1) << bit))
    return uint64(1) ^ ((old >> bit) & uint64(1))


@part
def is_seen(scratch, row):
    """Whether a row was seen."""
    bits = uint64(scratch.seen[uint64(row) >> uint64(3)]) >> (uint64(row) & uint64(7))
    return bits & uint64(1) != 0


@part
def unseen_neighbours(links, row, n, scratch):
    """`fresh_neighbours` of layer 0, by bits."""
    fresh = scratch.fresh
    count, rows = uint64(0), uint64(n)
    degree = min(int64(links[row, 0]), links.shape[1] - 1)
    for at in range(1, degree + 1):
        near = uint64(links[row, at])
        if near < rows:
            fresh[count] = uint32(near)
            count += see(scratch, near)
    return int64(count)


@part
def start_at(graph, how, target, scratch, row):
    """Make `row` the only key of the pool, not expanded."""
    scratch.fresh[0] = uint32(row)
    distance_bits(graph, how, target, scratch.fresh, 1, scratch.bits)
    scratch.pool[0] = list_key(scratch.bits[0], row)
    scratch.counters[DISTANCES] += 1


@part
def survivors(scratch, count, bound):
    """Keys below `bound` of the first `count` rows in `scratch.fresh`, into `scratch.survivors`;
    how many. No branch: most do not survive, but which ones cannot be predicted."""
    kept = 0
    for at in range(count):
        key = list_key(scratch.bits[at], scratch.fresh[at])
        scratch.survivors[kept] = key
        kept += key < bound
    return kept


@part
def fetch_list(lists, list_bytes, row):
    """Prefetch the list of a row."""
    address = lists + uint64(row) * list_bytes
    for line in range(LIST_LINES):
        prefetch(address + uint64(64 * line))


@part
def walk(graph, scratch, how, target, layer, n, count, ef, reach):
    """Algorithm 2 (SEARCH-LAYER): the beam on one layer.

    `scratch.pool` holds `count` entry points, sorted; on return the `ef` nearest rows found,
    sorted, the first `reach` of them expanded. Returns their number.
    """
    pool, fresh, bits = scratch.pool, scratch.fresh, scratch.bits
    links = graph.links0 if layer == 0 else graph.upper_links
    lists, list_bytes = address_of(links), uint64(links.shape[1] * 4)
    count = min(count, ef)
    if layer == 0:
        forget_seen(scratch, n)
    epoch = next_epoch(scratch) if layer else np.uint8(0)
    for at in range(count):
        pool[at] &= ~EXPANDED
        if layer == 0:
            see(scratch, key_row(pool[at]))
        else:
            scratch.visited[key_row(pool[at])] = epoch
    position, computed = 0, 0
    while position < min(count, reach):
        key = pool[position]
        if key & EXPANDED:
            position += 1
            continue
        pool[position] = key | EXPANDED
        position += 1
        place = list_of(graph, layer, key_row(key))
        if place < 0:
            continue
        if layer == 0:
            found = unseen_neighbours(links, place, n, scratch)
        else:
            found = fresh_neighbours(links, place, n, scratch, epoch)
        distance_bits(graph, how, target, fresh, found, bits)
        computed += found
        bound = pool[count - 1] if count == ef else ~uint64(0)
        for at in range(survivors(scratch, found, bound)):
            key = scratch.survivors[at]
            count, taken_at = insert(pool, count, ef, key)
            position = min(position, taken_at)
            if layer == 0 and taken_at < ef:
                fetch_list(lists, list_bytes, key_row(key))
    scratch.counters[DISTANCES] += computed
    return count


@part
def descend(graph, scratch, how, target, n, top, layer):
    """From the entry, in `scratch.pool[0]`, down to the layer above `layer` (lines 4-7 of Algorithm
    5). The paper follows the nearest row alone, and where vectors lie in islands that leads to the
    wrong one now and then, for good. Here the nearest UPPER_REACH of each layer are expanded, and
    the nearest UPPER_KEPT, measured anyway, are entry points of the next: their number is returned.
    """
    count = 1
    for level in range(top, layer, -1):
        count = walk(graph, scratch, how, target, level, n, count, UPPER_KEPT, UPPER_REACH)
    return count


@part
def slot_of(graph, row, straight):
    """The slot of a live row; if all are `straight`, without a look at the memory."""
    return uint64(row) if straight else uint64(graph.row_slot[row])


@part
def matches(graph, slots, request, row, state):
    """Whether a row is in `state` and its slot passes the mask."""
    if graph.state[row] != state:
        return False
    if request.masked == 0:
        return True
    slot = int64(slot_of(graph, row, request.straight))
    return slot < slots.shape[0] and slots[slot]


@part
def walk_matching(graph, scratch, how, target, slots, request, limits):
    """The beam on layer 0 that walks everything and keeps what matches.

    `scratch.pool` holds entry points, sorted. Ends well when `ef` matches are known and no row left
    to expand is nearer than the last of them: returns the number of results (`scratch.results`,
    sorted). Returns -1 if the pool ran dry or the budget of distances was spent before that.
    """
    pool, results, fresh, bits = scratch.pool, scratch.results, scratch.fresh, scratch.bits
    ef = request.ef
    lists, list_bytes = address_of(graph.links0), uint64(graph.links0.shape[1] * 4)
    capacity, budget = limits.capacity, limits.budget
    forget_seen(scratch, request.n)
    count, kept, position, computed = min(limits.opened, capacity), 0, 0, 0
    for at in range(count):
        pool[at] &= ~EXPANDED
        see(scratch, key_row(pool[at]))
        if kept < ef and matches(graph, slots, request, key_row(pool[at]), LINKED):
            results[kept] = pool[at]
            kept += 1
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
        found = unseen_neighbours(graph.links0, key_row(key), request.n, scratch)
        distance_bits(graph, how, target, fresh, found, bits)
        computed += found
        bound = pool[count - 1] if count == capacity else ~uint64(0)
        if kept < ef or results[ef - 1] > bound:
            bound = ~uint64(0)
        for at in range(survivors(scratch, found, bound)):
            key = scratch.survivors[at]
            row = key_row(key)
            if (kept < ef or key < results[kept - 1]) and matches(
                graph, slots, request, row, LINKED
            ):
                kept, _ = insert(results, kept, ef, key)
            count, taken_at = insert(pool, count, capacity, key)
            position = min(position, taken_at)
            if taken_at < capacity:
                fetch_list(lists, list_bytes, row)
    scratch.counters[DISTANCES] += computed
    return kept if done else -1


@part
def pack_mask(slots, masked, packed):
    """The bytes of a mask as bits, zeros behind: an eighth of the memory, for walks that look at it
    everywhere. Without a mask, ones. `packed` has more bits than the mask bytes. Returns how many
    bytes of the mask are set."""
    if masked == 0:
        packed[:] = 255
        return int64(0)
    base, size, count = address_of(slots), slots.shape[0], uint64(0)
    words = uint64_at(address_of(packed), size // MASK_BYTES)
    for word in range(size // MASK_BYTES):
        bits = set_bytes(base + uint64(MASK_BYTES * word))
        words[word] = bits
        count += bits_set(bits)
    packed[8 * words.shape[0] :] = 0
    for slot in range(MASK_BYTES * words.shape[0], size):
        packed[slot >> 3] |= np.uint8(uint64(slots[slot]) << uint64(slot & 7))
        count += uint64(slots[slot])
    return int64(count)


@part
def passes(graph, scratch, row, straight):
    """1 if the slot of a row passes the packed mask, else 0, without a branch: a wrong guess would
    wait for memory, and start over."""
    last = uint64(8 * scratch.packed.shape[0] - 1)
    slot = min(slot_of(graph, row, straight), last)
    bit = uint64(scratch.packed[slot >> uint64(3)]) >> (slot & uint64(7))
    return int64(bit & uint64(1))


@part
def passing(graph, scratch, place, straight):
    """Rows of the list at `place` whose slots pass the mask, into `scratch.survivors`: (how many,
    length of the list)."""
    degree = min(int64(graph.links0[place, 0]), graph.links0.shape[1] - 1)
    waiting, count = scratch.survivors, uint64(0)
    for at in range(1, degree + 1):
        near = uint64(graph.links0[place, at])
        waiting[count] = near
        count += uint64(passes(graph, scratch, near, straight))
    return int64(count), degree


@part
def matching_neighbours(graph, how, scratch, request, row):
    """Rows that match among the neighbours of `row` and the neighbours of the first STEPS of them
    that do not, unseen so far, into `scratch.fresh`: (how many, lists read, rows looked at, those
    of them that passed). Marks what it lists, and its own neighbours: no list is read twice. Reads
    no further list once there are ENOUGH. The codes of what it lists are under way when it ends."""
    fresh, bits = scratch.fresh, scratch.bits
    biases = address_of(graph.bias)
    codes, row_bytes = address_of(graph.codes), uint64(code_bytes(how))
    lists, list_bytes = address_of(graph.links0), uint64(graph.links0.shape[1] * 4)
    tested = unseen_neighbours(graph.links0, row, request.n, scratch)
    found, passed = 0, 0
    for at in range(tested):
        near = fresh[at]
        good = passes(graph, scratch, near, request.straight)
        if good:  # states are one more wait for memory, and few pass
            good = int64(graph.state[near] == LINKED)
        fresh[found] = near
        bits[passed] = near  # nothing else is in use there now
        found += good
        passed += 1 - good
    passed = min(passed, STEPS)
    for at in range(min(passed, LISTS_AHEAD)):
        fetch_list(lists, list_bytes, bits[at])
    hits, read = found, 0
    while read < passed and found < ENOUGH:
        if read + LISTS_AHEAD < passed:
            fetch_list(lists, list_bytes, bits[read + LISTS_AHEAD])
        count, looked = passing(graph, scratch, int64(bits[read]), request.straight)
        read += 1
        tested += looked
        hits += count
        for at in range(count):
            near = int64(scratch.survivors[at])
            if near >= request.n or is_seen(scratch, near):
                continue
            if graph.state[near] == LINKED:
                see(scratch, near)
                fresh[found] = uint32(near)
                found += 1
                if how.coded:
                    fetch(codes, near, row_bytes)
                    prefetch(biases + uint64(4) * uint64(near))
    return found, read, tested, hits


@part
def rare(hits, tests, matching, n):
    """Whether `hits` of `tests` rows are fewer than two thirds of the share `matching` of `n`."""
    return 3 * hits * n < 2 * tests * matching


@part
def next_to_open(scratch, entry, opened):
    """The place in `scratch.pool[entry:opened]` of the next entry point that does not match (those
    are marked by EXPANDED); `opened` if there is none."""
    while entry < opened and scratch.pool[entry] & EXPANDED == 0:
        entry += 1
    return entry


@part
def walk_two_hop(graph, scratch, how, target, slots, request, opened, matching):
    """The beam on layer 0 over rows that match only, stepping over those between them (ACORN-1,
    arXiv 2403.04871): where a few in a hundred match, it reads lists instead of measuring rows that
    cannot be returned.

    `scratch.pool` holds `opened` entry points, sorted: those that match start the beam, the others
    are expanded first. `scratch.packed` has the mask (`pack_mask`). Returns the number of results
    (`scratch.results`, sorted), or -1 if the scan should decide: it found fewer than its beam
    holds; or it did cost half of what `matching` distances do (a list counts as one); or matches
    are so much rarer around the target than elsewhere that the beam need not be at the right place.
    """
    results, fresh, bits = scratch.results, scratch.fresh, scratch.bits
    wider = request.ef * int64(graph.meta[LINKED_COUNT]) // (WIDER_RARE * max(1, matching))
    wider = min(max(wider, request.ef // WIDER_LEAST), request.ef * WIDER_MOST // 2)
    ef = min(request.ef + wider, EF_MAX)
    lists, list_bytes = address_of(graph.links0), uint64(graph.links0.shape[1] * 4)
    forget_seen(scratch, request.n)
    kept, position, cost, hits, tests, row = 0, 0, 0, 0, 0, 0
    for at in range(opened):
        key = scratch.pool[at] & ~EXPANDED
        see(scratch, key_row(key))
        scratch.pool[at] = key | EXPANDED
        if matches(graph, slots, request, key_row(key), LINKED):
            scratch.pool[at] = key
            kept, _ = insert(results, kept, ef, key)
    entry = next_to_open(scratch, 0, opened)
    while True:
        if entry < opened:
            row = key_row(scratch.pool[entry])
            entry = next_to_open(scratch, entry + 1, opened)
        else:
            while position < kept and results[position] & EXPANDED:
                position += 1
            if position == kept or 2 * cost > matching:
                break
            results[position] |= EXPANDED
            row = key_row(results[position])
        found, read, tested, passed = matching_neighbours(graph, how, scratch, request, row)
        if tests * matching < HITS * request.n:  # the first lists read are those around the target
            hits, tests = hits + passed, tests + tested
            if tests * matching >= HITS * request.n and rare(hits, tests, matching, request.n):
                return -1
        distance_bits(graph, how, target, fresh, found, bits)
        scratch.counters[DISTANCES] += found
        cost += found + read
        bound = results[kept - 1] if kept == ef else ~uint64(0)
        for at in range(survivors(scratch, found, bound)):
            key = scratch.survivors[at]
            kept, taken_at = insert(results, kept, ef, key)
            position = min(position, taken_at)
            if taken_at < ef:
                fetch_list(lists, list_bytes, key_row(key))
    if position < kept or kept < ef or rare(hits, tests, matching, request.n):
        return -1
    for at in range(kept):
        results[at] &= ~EXPANDED
    return kept

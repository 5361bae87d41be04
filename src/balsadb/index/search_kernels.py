# pyright: basic
"""Searching: scans, exact re-scoring, and the choice of the cheapest way that answers a query."""

from typing import NamedTuple

import numpy as np
from numba import float64, int64, uint32, uint64

from balsadb.index.distance_kernels import (
    DISTANCES,
    HIDDEN,
    ONE,
    aim,
    code_bytes,
    distance_bits,
    exact_bits,
    fetch,
    insert,
    key_distance,
    key_row,
    key_units,
    list_key,
)
from balsadb.index.intrinsics import address_of, prefetch, trailing_zeros, uint64_at
from balsadb.index.kernel_cache import kernel, part
from balsadb.index.layout import (
    ENTRY,
    LINKED,
    LINKED_COUNT,
    LINKED_DEAD_COUNT,
    SCAN_FACTOR,
    TAIL,
    TOP_LAYER,
)
from balsadb.index.options import EF_MAX
from balsadb.index.walk_kernels import (
    Limits,
    descend,
    matches,
    pack_mask,
    start_at,
    survivors,
    walk,
    walk_matching,
    walk_two_hop,
)

EXACT_ROWS_MIN = 512
"""A filter that leaves no more rows than this is scanned."""
SCAN_EFS = 500
"""A filter that leaves more than so many rows for each place of the beam is not scanned at once."""
TWO_HOP_SHARE = 3
"""A walk steps over rows that do not match if at most one row in so many does."""
LANDING = 16
"""A walk over matching rows starts from so many rows nearest to the target, found by a walk over
everything: the matches around it hang together, but what leads there need not match. With 48 it
reads a tenth more lists, and finds no more of a million rows where 5 to 30 in a hundred match."""
AROUND = 7
"""Matches that the rows nearest to the target should hold before none among them means something:
of a random filter that happens in two or three of a thousand searches at most."""
AROUND_MOST = 64
"""A narrower beam is widened for that to at most so many rows."""
AROUND_LESS = 8
"""Where the nearest rows hold so many times fewer matches than others, the scan decides."""
PART = 64
"""Rows whose distances are computed at once in a scan."""
MORE = 16
"""Rows that are scored exactly at once beyond those that are in any case."""
SIGMAS = 3.0
"""Standard errors of the codes within which a row counts as open."""
WORD_BITS = 64
"""Bits of a packed mask that are looked at at once: most are zeros, where few rows pass."""
SLOTS = 192
"""Slots whose rows are looked up at once."""
SLOTS_AHEAD = 24
"""Slots that are asked for before the one whose row is looked up."""
SCAN_PART = 8
"""Rows whose codes are compared at once in a scan."""
SCAN_AHEAD = 40
"""Rows of a scan whose codes are under way: few at a time and early, the processor waits least."""
DEAD_SHARE = 8
"""Up to one dead row in so many, a walk ignores deadness and drops dead rows at its end."""


EXACT, BY_CODES = 1, 2
"""`Request.exact`."""
STRAIGHT, ALL_LIVE = 1, 2
"""`Request.straight`."""


class Request(NamedTuple):
    """What a search asks: results, width of the beam, candidates of it that are scored exactly,
    rows to consider (`n`), length of the tail list, whether `slots` is a mask, whether to scan all:
    0, EXACT, or BY_CODES, with an exact look at what they leave open; `straight`: whether every
    live row has the slot of its own number (STRAIGHT), and all rows are live (ALL_LIVE)."""

    k: int
    ef: int
    scored: int
    n: int
    tail: int
    masked: int
    exact: int
    straight: int


@part
def scan(graph, scratch, how, target, number, into, count, capacity):
    """Offer the rows `scratch.matches[:number]`, by exact distance, to the sorted keys `into`;
    returns their new count."""
    fresh, bits = scratch.fresh, scratch.bits
    for first in range(0, number, PART):
        size = min(PART, number - first)
        for at in range(size):
            fresh[at] = scratch.matches[first + at]
        exact_bits(graph, how, target, fresh, size, bits)
        for at in range(size):
            key = list_key(bits[at], fresh[at])
            if count < capacity or key < into[count - 1]:
                count, _ = insert(into, count, capacity, key)
    scratch.counters[DISTANCES] += number
    return count


@part
def scan_coded(graph, scratch, how, target, number, into, capacity):
    """The best `capacity` of `scratch.matches[:number]` by codes, as sorted keys in `into`; all
    coded distances in `scratch.measured`. Returns the number of keys."""
    fresh, bits = scratch.fresh, scratch.bits
    count = 0
    codes, row_bytes = address_of(graph.codes), uint64(code_bytes(how))
    biases = address_of(graph.bias)
    for at in range(min(SCAN_AHEAD, number)):
        fetch(codes, scratch.matches[at], row_bytes)
        prefetch(biases + uint64(4) * uint64(scratch.matches[at]))
    for first in range(0, number, SCAN_PART):
        size = min(SCAN_PART, number - first)
        for at in range(size):
            fresh[at] = scratch.matches[first + at]
        for at in range(first + SCAN_AHEAD, min(first + SCAN_AHEAD + SCAN_PART, number)):
            fetch(codes, scratch.matches[at], row_bytes)
            prefetch(biases + uint64(4) * uint64(scratch.matches[at]))
        distance_bits(graph, how, target, fresh, size, bits)
        bound = into[count - 1] if count == capacity else ~uint64(0)
        for at in range(size):
            scratch.measured[first + at] = bits[at]
        for at in range(survivors(scratch, size, bound)):
            count, _ = insert(into, count, capacity, scratch.survivors[at])
    scratch.counters[DISTANCES] += number
    return count


@part
def open_bound(target, worst, count, base, total, squares):
    """The largest coded distance of a row that may be nearer than `worst`, by SIGMAS of the error
    of the codes: of `count` rows, `base` plus the sum `total` is how far the exact distance was
    from the coded one."""
    if target.unit <= 0:
        return np.inf
    mean = total / count
    spread = np.sqrt(max(squares / count - mean * mean, 0.0))
    return (worst - base - mean + SIGMAS * spread) / target.unit


@part
def rescore(graph, scratch, how, target, keys, count, wanted, k):
    """Replace sorted keys by the exact ones of live rows, sorted; returns how many.

    The first `wanted` live rows are scored in any case. What their exact distances miss the coded
    ones by gives the error of the codes around this target; on it goes as long as a row may still
    be among the best `k` (`open_bound`). Sorting is by insertion: little moves.
    """
    fresh, bits = scratch.fresh, scratch.bits
    live, at, bound = 0, 0, np.inf
    base, total, squares = float64(0), float64(0), float64(0)
    while at < count:
        if live >= wanted:
            if how.coded == 0 or key_units(how, keys[at]) > bound:
                break
        size = 0
        while at < count and size < (min(PART, wanted - live) if live < wanted else MORE):
            row = key_row(keys[at])
            fresh[size] = uint32(row)
            scratch.survivors[size] = keys[at]
            size += graph.state[row] == LINKED or graph.state[row] == TAIL
            at += 1
        exact_bits(graph, how, target, fresh, size, bits)
        for one in range(size):
            key = list_key(bits[one], fresh[one])
            units = key_units(how, scratch.survivors[one])
            miss = float64(key_distance(key)) - target.unit * units
            if live == 0:
                base = miss
            total += miss - base
            squares += (miss - base) * (miss - base)
            place = live
            while place > 0 and keys[place - 1] > key:
                keys[place] = keys[place - 1]
                place -= 1
            keys[place] = key
            live += 1
        if how.coded and live >= wanted:
            worst = float64(key_distance(keys[min(k, live) - 1]))
            bound = open_bound(target, worst, live, base, total, squares)
    scratch.counters[DISTANCES] += live
    return live


@part
def hidden_row(scratch):
    """The row that this search shall not see; if there is none, a number above all rows."""
    return uint64(scratch.counters[HIDDEN]) - ONE


@part
def list_straight(graph, scratch, waiting, request, count):
    """`list_slots` where slots are rows."""
    rows, total, hidden = uint64(request.n), uint64(count), hidden_row(scratch)
    for at in range(waiting):
        row = uint64(scratch.fresh[at])
        scratch.matches[total] = uint32(row)
        live = row < rows and row != hidden
        if request.straight == STRAIGHT and live:
            live = graph.state[row] == LINKED or graph.state[row] == TAIL
        total += uint64(live)
    return int64(total)


@part
def list_slots(graph, scratch, waiting, request, count):
    """Append the live rows of the slots `scratch.fresh[:waiting]`, of those that have one, to
    `scratch.matches`; returns the new count. They are asked for some ahead: one after another would
    wait for a cache miss each, and all at once are more than the processor can have under way."""
    if request.straight:
        return list_straight(graph, scratch, waiting, request, count)
    slots, row_of = scratch.fresh, address_of(graph.slot_row)
    rows, total, hidden = uint64(request.n), uint64(count), hidden_row(scratch)
    for at in range(min(waiting, SLOTS_AHEAD)):
        prefetch(row_of + uint64(4) * uint64(slots[at]))
    for at in range(waiting):
        if at + SLOTS_AHEAD < waiting:
            prefetch(row_of + uint64(4) * uint64(slots[at + SLOTS_AHEAD]))
        row = uint64(graph.slot_row[slots[at]]) - ONE  # none: the largest number there is
        scratch.matches[total] = uint32(row)
        total += uint64(row < rows) & uint64(row != hidden)
    return int64(total)


@part
def gather(graph, scratch, slots, request):
    """List the live rows that pass the mask, packed in `scratch.packed`, in `scratch.matches`;
    returns how many."""
    count, waiting = 0, 0
    if request.masked == 0:
        hidden = int64(hidden_row(scratch))
        for row in range(request.n):
            scratch.matches[count] = uint32(row)
            live = graph.state[row] == LINKED or graph.state[row] == TAIL
            count += live and row != hidden
        return count
    words = (slots.shape[0] + WORD_BITS - 1) // WORD_BITS
    packed = uint64_at(address_of(scratch.packed), words)
    for word in range(words):
        left, first = packed[word], WORD_BITS * word
        while left:
            scratch.fresh[waiting] = uint32(uint64(first) + trailing_zeros(left))
            waiting += 1
            left &= left - ONE
        if waiting > SLOTS - WORD_BITS:
            count = list_slots(graph, scratch, waiting, request, count)
            waiting = 0
    return list_slots(graph, scratch, waiting, request, count)


@part
def gather_tail(graph, scratch, slots, request, tail):
    """The same for the rows of the tail, into the front of `scratch.matches`."""
    count = 0
    for at in range(request.tail):
        row = int64(tail[at])
        if row < request.n and matches(graph, slots, request, row, TAIL):
            scratch.matches[count] = uint32(row)
            count += 1
    return count


@part
def scan_listed(graph, scratch, how, target, request, listed):
    """The nearest `k` of the rows listed: by exact distances, or, where there are many, by codes,
    with an exact look at every row that may be among them. The error of the codes is taken from
    rows spread over the list: the best ones by codes are those whose codes flatter them."""
    results, capacity, k = scratch.results, 2 * request.scored, request.k
    if request.exact == EXACT or how.coded == 0 or listed <= 2 * capacity:
        return scan(graph, scratch, how, target, listed, results, 0, k)
    count = scan_coded(graph, scratch, how, target, listed, results, capacity)
    last = results[count - 1]
    fresh, bits, size = scratch.fresh, scratch.bits, 0
    base, total, squares = float64(0), float64(0), float64(0)
    for at in range(PART):
        fresh[at] = scratch.matches[at * listed // PART]
    exact_bits(graph, how, target, fresh, PART, bits)
    for at in range(PART):
        coded = key_units(how, list_key(scratch.measured[at * listed // PART], 0))
        miss = float64(key_distance(list_key(bits[at], 0))) - target.unit * coded
        base = miss if at == 0 else base
        total += miss - base
        squares += (miss - base) * (miss - base)
    count = rescore(graph, scratch, how, target, results, count, count, k)
    if count < k:  # many died while a leader measured
        return scan(graph, scratch, how, target, listed, results, 0, k)
    worst = float64(key_distance(results[k - 1]))
    bound = open_bound(target, worst, PART, base, total, squares)
    for at in range(listed):
        key = list_key(scratch.measured[at], scratch.matches[at])
        fresh[size] = scratch.matches[at]
        size += key > last and key_units(how, key) <= bound
        if size == PART or (at == listed - 1 and size):
            exact_bits(graph, how, target, fresh, size, bits)
            for one in range(size):
                key = list_key(bits[one], fresh[one])
                if key < results[count - 1]:
                    count, _ = insert(results, count, count, key)
            scratch.counters[DISTANCES] += size
            size = 0
    return count


@part
def land(graph, scratch, how, target, slots, request, opened, matching):
    """Walk over everything to where the target is: how many entry points of a walk over matches are
    in `scratch.pool`; -1 if the filter goes against the target. That walk sees it by the lists it
    reads only where lists hold what is near. Under Dot they lead to long vectors, whatever the
    target, and a narrow beam is soon far from it."""
    linked = int64(graph.meta[LINKED_COUNT])
    wanted = min((AROUND * linked + matching - 1) // max(1, matching), AROUND_MOST)
    ef = max(request.ef, wanted)
    count = walk(graph, scratch, how, target, 0, request.n, opened, ef, ef)
    if count * matching >= AROUND * linked:
        hits = 0
        for at in range(count):
            hits += int64(matches(graph, slots, request, key_row(scratch.pool[at]), LINKED))
        if AROUND_LESS * hits * linked < count * matching:
            return -1
    return min(count, LANDING)


@part
def search_one(graph, scratch, how, target, slots, request, selected):
    """One query by the cheapest way that answers it: `selected` is the number of matching rows if
    they are listed (scan), -1 if there is no filter (plain walk), else -2 - their number (walk over
    those that match, or walk that collects them). Returns the number of keys, exact and sorted, and
    which array has them (0: pool, 1: results); (-1, 1) asks for the scan."""
    if selected >= 0:
        return scan_listed(graph, scratch, how, target, request, selected), 1
    entry = int64(graph.meta[ENTRY]) - 1
    if entry < 0:
        return 0, 0
    linked, dead = int64(graph.meta[LINKED_COUNT]), int64(graph.meta[LINKED_DEAD_COUNT])
    start_at(graph, how, target, scratch, entry)
    opened = descend(graph, scratch, how, target, request.n, int64(graph.meta[TOP_LAYER]), 0)
    if selected == -1:
        ef = min(EF_MAX, request.ef + (2 * request.ef * dead + linked - 1) // linked)
        count = walk(graph, scratch, how, target, 0, request.n, opened, ef, ef)
        if how.coded or dead:
            count = rescore(
                graph, scratch, how, target, scratch.pool, count, request.scored, request.k
            )
        short = count < request.k and count < linked - dead
        return -1 if short else count, 0  # short: the walk met an island of the graph
    matching = -2 - selected
    if matching * TWO_HOP_SHARE <= linked:
        opened = land(graph, scratch, how, target, slots, request, opened, matching)
        if opened < 0:
            return -1, 1
        count = walk_two_hop(graph, scratch, how, target, slots, request, opened, matching)
    else:
        capacity = min(EF_MAX, 2 * request.ef * linked // max(1, matching) + 16)
        limits = Limits(opened, capacity, matching // 2)
        count = walk_matching(graph, scratch, how, target, slots, request, limits)
    if count > 0 and how.coded:
        count = rescore(
            graph, scratch, how, target, scratch.results, count, request.scored, request.k
        )
    return count, 1


@part
def choose(graph, scratch, slots, request):
    """How to search (`selected` of `search_one`), the same on every replica: from counts alone.
    `scratch.packed` gets the mask, if there is one or a walk may need it."""
    if request.exact:
        if request.masked:
            pack_mask(slots, request.masked, scratch.packed)
        return gather(graph, scratch, slots, request)
    linked, dead = int64(graph.meta[LINKED_COUNT]), int64(graph.meta[LINKED_DEAD_COUNT])
    if request.masked == 0 and dead * DEAD_SHARE <= linked:
        return -1
    matching = pack_mask(slots, request.masked, scratch.packed)
    if request.masked == 0:
        return -2 - (linked - dead)
    factor = max(int64(1), int64(graph.meta[SCAN_FACTOR]))
    few = matching <= EXACT_ROWS_MIN or matching <= request.k
    cheap = matching <= SCAN_EFS * request.ef
    if few or (cheap and matching * matching <= factor * request.ef * linked):
        return gather(graph, scratch, slots, request)
    return -2 - matching


@kernel
def search_queries(
    graph, scratch, how, request, slots, tail, queries, hidden, rows, distances, counts
):
    """Algorithm 5 (K-NN-SEARCH) for each of `queries` (q, dim): rows and distances (q, k), best
    first, and how many there are (q,). One dispatch for a batch; one filter for all of it. A query
    does not see its row in `hidden` (q,), which is linked; an empty `hidden` hides none."""
    selected, waiting = 0, 0
    for number in range(queries.shape[0]):
        if hidden.shape[0]:
            scratch.counters[HIDDEN] = int64(hidden[number]) + 1
        if number == 0 or hidden.shape[0]:
            selected = choose(graph, scratch, slots, request)
            if selected < 0:
                waiting = gather_tail(graph, scratch, slots, request, tail)
        target = aim(graph, how, scratch, queries[number])
        count, where = search_one(graph, scratch, how, target, slots, request, selected)
        if count < 0:
            listed = gather(graph, scratch, slots, request)
            count, where = search_one(graph, scratch, how, target, slots, request, listed)
            waiting = gather_tail(graph, scratch, slots, request, tail)
        elif selected < 0 and waiting:
            kept = scratch.pool if where == 0 else scratch.results
            room = max(request.scored, request.k)
            count = min(count, room)
            count = scan(graph, scratch, how, target, waiting, kept, count, room)
        keys = scratch.pool if where == 0 else scratch.results
        counts[number] = min(count, request.k)
        for at in range(min(count, request.k)):
            rows[number, at] = uint32(key_row(keys[at]))
            distances[number, at] = key_distance(keys[at])
    scratch.counters[HIDDEN] = 0

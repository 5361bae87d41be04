# pyright: basic
"""What walks and scans are made of: keys, and the distances of a list of rows to one target.

A *key* is 64 bits: a distance in the upper half, as bits that order like the number; the row and
one bit ("expanded") in the lower half. Keys order by (distance, row), so a sorted array of keys is
at once the paper's candidate set C and its result set W, and every tie breaks by row.

There are two kinds of distance. *Exact*: float32, the canonical sums (`intrinsics`). *Coded*: from
8-bit codes, in integers (`code_kernels`, `quantise_kernels`), proportional to the exact one up
to the rounding of the codes. Coded keys only order a walk; what leaves the index is always exact.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import float32, float64, int32, int64, uint32, uint64

from balsadb.index.code_kernels import BLOCK_BYTES, QUERY_MAX, gap4, product4, square4
from balsadb.index.intrinsics import (
    absolute_sum,
    address_of,
    bits_float,
    float_bits,
    int32_at,
    prefetch,
    product_sum,
    squared_sum,
    uint32_at,
)
from balsadb.index.kernel_cache import part
from balsadb.index.metrics import ABSOLUTE, PRODUCT, SQUARED

AHEAD = 5
"""Exact distances: vectors asked for before the one whose distance is being computed."""
PREFETCH_LINES = 8
"""Cache lines asked for of a row; the processor fetches the rest of a long one by itself."""

EXPANDED = np.uint64(1)
ROW_MASK = np.uint64(0xFFFFFFFE)
HALF = np.uint64(32)
ZERO, ONE, TWO, THREE, FOUR, FIVE, SIX, SEVEN, EIGHT = (np.uint64(number) for number in range(9))
SIGN = np.uint64(0x80000000)
ALL32 = np.uint64(0xFFFFFFFF)
MAGNITUDE = np.uint64(0x7FFFFFFF)
INFINITY = np.uint64(0x7F800000)
EPOCH_MAX = 255

DISTANCES = 0
EPOCH = 1
HIDDEN = 2

BIAS_BITS = 24
"""Fraction bits of `Target.factor`: at most 26 bits, times 31 of a bias, stay below 63."""
SCALE_MAX = 4.0
"""Coded queries of squared distances are no finer than this part of a step."""
CODE_MIDDLE = 128
"""The code of the mean."""
MAX_INT32 = 0x7FFFFFFF


class Graph(NamedTuple):
    """The columns that kernels read, whole reserves. `quantiser` float32 (dim + 2,): the mean, the
    step, its inverse. `slot_row` uint32: one more than the live row of a slot, derived."""

    vectors: Any
    links0: Any
    upper_offset: Any
    upper_links: Any
    state: Any
    row_slot: Any
    meta: Any
    codes: Any
    bias: Any
    quantiser: Any
    slot_row: Any


class Scratch(NamedTuple):
    """Memory of one search. `visited` uint8 (rows,) and, for layer 0, `seen` uint8, a bit a row:
    what a walk met; `matches` and `measured` uint32 (rows,): rows to scan and their coded
    distances; `packed` uint8: a mask in bits; `pool` and `results` uint64; `fresh` and `bits`
    uint32: rows and their distances; `survivors` uint64; `code` uint8: the coded query; `counters`
    int64: distances computed, visited epoch, one more than the row that walks shall not see (0:
    none)."""

    visited: Any
    seen: Any
    matches: Any
    measured: Any
    packed: Any
    pool: Any
    results: Any
    fresh: Any
    bits: Any
    survivors: Any
    code: Any
    counters: Any


class Measure(NamedTuple):
    """How far apart two vectors are: kind of distance (`balsadb.index.metrics`), dimension, whether
    walks go by codes, whether links are chosen by them too: by the sum of squared (Manhattan:
    absolute) differences of codes, and whether vectors have lengths of their own (Dot): then a row
    is coded in steps of its own, and some links are chosen by squared distance (`near`)."""

    kind: int
    dim: int
    coded: int
    coded_links: int
    norms: int


@part
def near(how):
    """The other measure of a graph whose vectors have lengths of their own: squared distance."""
    return Measure(int64(SQUARED), how.dim, int64(0), int64(0), int64(0))


class Target(NamedTuple):
    """What distances are measured to: addresses of the vector and of its code, a number that coded
    distances need (squared: the weight of a row's `bias`, with BIAS_BITS fraction bits; rows in
    steps of their own: what the middle of all codes gives), and how much exact distance (float64)
    one unit of coded distance is."""

    vector: int
    code: int
    factor: int
    unit: float


@part
def measure(how, first, second):
    """Exact distance of the vectors at two addresses."""
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
    """The key of a row at an exact distance, not expanded."""
    return (ordered_bits(distance) << HALF) | (uint64(row) << ONE)


@part
def key_row(key):
    """The row of a key."""
    return int64((key & ROW_MASK) >> ONE)


@part
def key_distance(key):
    """The exact distance of a key."""
    bits = key >> HALF
    if bits & SIGN:
        return bits_float(bits ^ SIGN)
    return bits_float(bits ^ ALL32)


@part
def key_units(how, key):
    """The coded distance of a key (float64): whole, but for rows in steps of their own."""
    if how.norms:
        return float64(key_distance(key))
    return float64(int64(key >> HALF) - int64(0x80000000))


@part
def insert(pool, count, capacity, key):
    """Put a key into a sorted pool, dropping the last if it is full: (count, position), position
    `capacity` if the key was not taken. From the far end, where most keys land; eight at a time,
    which are two moves of a processor with vectors."""
    if count == capacity:
        if key >= pool[count - 1]:
            return count, capacity
        count -= 1
    at = uint64(count)
    while at >= EIGHT and pool[at - EIGHT] > key:
        at -= EIGHT
        a, b, c, d = pool[at], pool[at + ONE], pool[at + TWO], pool[at + THREE]
        e, f, g, h = pool[at + FOUR], pool[at + FIVE], pool[at + SIX], pool[at + SEVEN]
        pool[at + ONE], pool[at + TWO], pool[at + THREE], pool[at + FOUR] = a, b, c, d
        pool[at + FIVE], pool[at + SIX], pool[at + SEVEN], pool[at + EIGHT] = e, f, g, h
    while at > ZERO and pool[at - ONE] > key:
        pool[at] = pool[at - ONE]
        at -= ONE
    pool[at] = key
    return count + 1, int64(at)


@part
def code_bytes(how):
    """Bytes of a code, padded."""
    return (how.dim + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES


@part
def code_of(value, mean, inverse):
    """The code of one element, 0..255: round half to even, cut at the ends."""
    steps = (value - mean) * inverse
    cut = min(float32(127), max(float32(-128), steps))  # in this order a NaN becomes -128
    return int32(np.rint(cut)) + int32(CODE_MIDDLE)


@part
def steps_of(how, value, mean, inverse):
    """An element of a query as the inner product of its code needs it: around the mean, in steps,
    for squared distances, else as it is. In float64, where nothing overflows."""
    if how.kind == SQUARED:
        return (float64(value) - float64(mean)) * float64(inverse)
    return float64(value)


@part
def aim(graph, how, scratch, values):
    """The target of a vector (dim,). With codes, its coded form is written to `scratch.code`:
    for Manhattan a code like any row's; else whole numbers within -QUERY_MAX..QUERY_MAX, scaled to
    use that range, so that code * query sums stay exact (`code_kernels`)."""
    factor, unit = int64(0), float64(1)
    if how.coded:
        dim, code = how.dim, scratch.code
        step, inverse = float64(graph.quantiser[dim]), graph.quantiser[dim + 1]
        for at in range(dim, code_bytes(how)):
            code[at] = np.uint8(0)
        if how.kind == ABSOLUTE:
            for at in range(dim):
                code[at] = np.uint8(code_of(values[at], graph.quantiser[at], inverse))
            unit = step
        else:
            largest = float64(0)
            for at in range(dim):
                largest = max(largest, abs(steps_of(how, values[at], graph.quantiser[at], inverse)))
            scale = QUERY_MAX / largest if largest > 0 else float64(0)
            unit = step
            if how.kind == SQUARED:
                scale = min(scale, SCALE_MAX)
                factor = int64(np.rint(scale * (1 << (BIAS_BITS - 1))))
                unit = 2 * step * step
            elif how.norms:
                unit = float64(1)
            unit = unit / scale if scale > 0 else float64(0)
            total = int64(0)
            for at in range(dim):
                value = steps_of(how, values[at], graph.quantiser[at], inverse) * scale
                code[at] = np.uint8(int32(np.rint(value)) & int32(255))
                total += int64(np.rint(value))
            if how.norms:
                factor = CODE_MIDDLE * total
    return Target(address_of(values), address_of(scratch.code), factor, unit)


@part
def fetch(base, row, row_bytes):
    """Prefetch the first lines of a row."""
    address = base + uint64(row) * row_bytes
    lines = min(int64(row_bytes + uint64(63)) >> 6, PREFETCH_LINES)
    for line in range(lines):
        prefetch(address + uint64(line * 64))


@part
def exact_rows(vectors, how, target, rows_address, count, to):
    """`exact_bits` by addresses: a call that passes few words, for it is made for every list."""
    row_bytes = uint64(how.dim * 4)
    rows, out = uint32_at(rows_address, count), uint32_at(to, count)
    for at in range(min(count, AHEAD)):
        fetch(vectors, rows[at], row_bytes)
    for at in range(count):
        if at + AHEAD < count:
            fetch(vectors, rows[at + AHEAD], row_bytes)
        address = vectors + uint64(rows[at]) * row_bytes
        out[at] = uint32(ordered_bits(measure(how, target.vector, address)))


@part
def product_rows(codes, how, query, rows_address, count, to):
    """Sums of code * query of `count` rows, int32, to an address."""
    width = code_bytes(how)
    row_bytes, blocks = uint64(width), int64(width // BLOCK_BYTES)
    rows = uint32_at(rows_address, count + 3)
    for at in range(0, count, 4):
        first = codes + uint64(rows[at]) * row_bytes
        second = codes + uint64(rows[at + 1]) * row_bytes
        third = codes + uint64(rows[at + 2]) * row_bytes
        fourth = codes + uint64(rows[at + 3]) * row_bytes
        product4(query, first, second, third, fourth, blocks, to + uint64(4 * at))


@part
def gap_rows(codes, how, query, rows_address, count, to):
    """Sums of absolute differences, as `product_rows`."""
    width = code_bytes(how)
    row_bytes, blocks = uint64(width), int64(width // BLOCK_BYTES)
    rows = uint32_at(rows_address, count + 3)
    for at in range(0, count, 4):
        first = codes + uint64(rows[at]) * row_bytes
        second = codes + uint64(rows[at + 1]) * row_bytes
        third = codes + uint64(rows[at + 2]) * row_bytes
        fourth = codes + uint64(rows[at + 3]) * row_bytes
        gap4(query, first, second, third, fourth, blocks, to + uint64(4 * at))


@part
def coded_rows(codes, bias_address, how, target, rows_address, count, to):
    """Ordered bits of the coded distances, by addresses. `rows` must have three spare places behind
    `count`, for rows are computed four at a time, `out` too."""
    rows, out = uint32_at(rows_address, count + 3), uint32_at(to, count)
    row_bytes = uint64(code_bytes(how))
    for at in range(count):
        fetch(codes, rows[at], row_bytes)
    if how.norms or how.kind == SQUARED:
        for at in range(count):
            prefetch(bias_address + uint64(4) * uint64(rows[at]))
    for at in range(count, count + 3):
        rows[at] = rows[count - 1]
    if how.kind == ABSOLUTE:
        gap_rows(codes, how, target.code, rows_address, count, to)
        return
    product_rows(codes, how, target.code, rows_address, count, to)
    if how.norms:
        bias = int32_at(bias_address, MAX_INT32)
        for at in range(count):
            steps = float32(int64(int32(out[at])) - target.factor)
            distance = float32(0) - steps * bits_float(uint64(bias[rows[at]]))
            out[at] = uint32(ordered_bits(distance))
    elif how.kind == PRODUCT:
        for at in range(count):
            out[at] = uint32(0x80000000) - out[at]
    else:
        bias = int32_at(bias_address, MAX_INT32)
        for at in range(count):
            weighted = (int64(bias[rows[at]]) * target.factor) >> int64(BIAS_BITS)
            distance = weighted - int64(int32(out[at]))
            out[at] = uint32(min(max(distance, -MAX_INT32), MAX_INT32) + int64(0x80000000))


@part
def exact_bits(graph, how, target, rows, count, out):
    """Ordered bits of the exact distances of `rows[:count]` into `out`."""
    if count:
        vectors = address_of(graph.vectors)
        exact_rows(vectors, how, target, address_of(rows), count, address_of(out))


@part
def distance_bits(graph, how, target, rows, count, out):
    """Ordered bits of the distances of `rows[:count]`, coded or exact, into `out` (spare places as
    in `coded_rows`)."""
    if count == 0:
        return
    if how.coded:
        codes, bias = address_of(graph.codes), address_of(graph.bias)
        coded_rows(codes, bias, how, target, address_of(rows), count, address_of(out))
    else:
        vectors = address_of(graph.vectors)
        exact_rows(vectors, how, target, address_of(rows), count, address_of(out))


@part
def code_rows_apart(codes, how, code, rows_address, count, to):
    """How far the codes of `count` rows are from the code at an address: uint32, to an address.
    `rows` and `out` have spare places up to the next multiple of four, and only these are written:
    `any_nearer` hands over fours in the middle of a list."""
    row_bytes, blocks = uint64(code_bytes(how)), int64(code_bytes(how) // BLOCK_BYTES)
    rows = uint32_at(rows_address, count + 3)
    for at in range(count, (count + 3) // 4 * 4):
        rows[at] = rows[count - 1]
    for at in range(0, count, 4):
        first = codes + uint64(rows[at]) * row_bytes
        second = codes + uint64(rows[at + 1]) * row_bytes
        third = codes + uint64(rows[at + 2]) * row_bytes
        fourth = codes + uint64(rows[at + 3]) * row_bytes
        if how.kind == ABSOLUTE:
            gap4(code, first, second, third, fourth, blocks, to + uint64(4 * at))
        else:
            square4(code, first, second, third, fourth, blocks, to + uint64(4 * at))


@part
def link_bits(graph, how, row, rows, count, out):
    """Ordered bits of the distances of `rows[:count]` to `row` by which links are chosen."""
    if count == 0:
        return
    if how.coded_links:
        codes = address_of(graph.codes)
        code = codes + uint64(row) * uint64(code_bytes(how))
        for at in range(count):
            fetch(codes, rows[at], uint64(code_bytes(how)))
        code_rows_apart(codes, how, code, address_of(rows), count, address_of(out))
    else:
        vectors = address_of(graph.vectors)
        vector = vectors + uint64(row) * uint64(how.dim * 4)
        target = Target(vector, uint64(0), int64(0), float64(1))
        exact_rows(vectors, how, target, address_of(rows), count, address_of(out))


@part
def any_nearer(graph, how, row, rows, count, bound, out):
    """Whether one of `rows[:count]` is nearer to `row` than `bound` (ordered bits), looked at four
    at a time; and how many distances that took."""
    for first in range(0, count, 4):
        size = min(4, count - first)
        here, to = address_of(rows) + uint64(4 * first), address_of(out)
        if how.coded_links:
            codes = address_of(graph.codes)
            code = codes + uint64(row) * uint64(code_bytes(how))
            code_rows_apart(codes, how, code, here, size, to)
        else:
            vectors = address_of(graph.vectors)
            target = Target(
                vectors + uint64(row) * uint64(how.dim * 4), uint64(0), int64(0), float64(1)
            )
            exact_rows(vectors, how, target, here, size, to)
        for at in range(size):
            if uint64(out[at]) < bound:
                return True, first + size
    return False, count


@part
def list_key(bits, row):
    """The key of a row with given ordered bits, not expanded."""
    return (uint64(bits) << HALF) | (uint64(row) << ONE)

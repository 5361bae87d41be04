"""The kernels that count and gather the rows of a filter against twins in NumPy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from balsadb.columns import ColumnSet
from balsadb.index import IndexOptions, Metric, VectorIndex
from balsadb.index import search_kernels as s
from balsadb.index.layout import FREE, LINKED, TAIL
from balsadb.index.walk_kernels import pack_mask

QUICK = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@njit
def _pack_mask(slots, masked, packed):
    return pack_mask(slots, masked, packed)


@njit
def _gather(graph, scratch, slots, request):
    return s.gather(graph, scratch, slots, request)


@QUICK
@given(st.integers(0, 2_000), st.sampled_from([0.0, 0.01, 0.3, 1.0]), st.integers(0, 7), seeds)
def test_masks_are_packed_as_numpy_packs_them(count, share, offset, seed):
    mask = (np.random.default_rng(seed).random(count + offset) < share)[offset:]
    packed = np.full(count // 8 + 4, 0xAA, np.uint8)
    assert _pack_mask(mask, 1, packed) == mask.sum()
    bits = np.packbits(mask, bitorder="little").tolist()
    assert packed.tolist() == [*bits, *[0] * (len(packed) - len(bits))]
    _pack_mask(mask[:0], 0, packed)
    assert (packed == 255).all()


@QUICK
@given(
    st.integers(1, 300),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.booleans(),
    st.sampled_from(["any", "straight", "all live"]),
    seeds,
)
def test_the_live_rows_of_a_mask_are_gathered(count, share, masked, slotted, seed):
    rng = np.random.default_rng(seed)
    index = VectorIndex(ColumnSet(), "v", IndexOptions(3, Metric.EUCLID, rows_max=512))
    index.add(np.arange(200, dtype=np.uint32), rng.normal(size=(200, 3)).astype(np.float32))
    if slotted != "all live":
        index.tombstone(rng.choice(200, 50, replace=False).astype(np.uint32))
    more = int(rng.integers(0, 100))
    slots = np.arange(200, 200 + more, dtype=np.uint32)
    if slotted == "any":
        slots += rng.choice(1_000, more, replace=False).astype(np.uint32)
    index.add(slots, np.ones((more, 3), np.float32))
    held = index._columns
    mask = rng.random(count + 4) < share
    n = int(rng.integers(1, index.rows + 1))
    straight = index._straightness(index.rows)
    assert straight >= {"any": 0, "straight": s.STRAIGHT, "all live": s.ALL_LIVE}[slotted]
    request = s.Request(5, 5, 20, n, more, int(masked), 0, straight)
    scratch = index._scratches.take(index.rows)
    if masked:
        _pack_mask(mask, 1, scratch.packed)
    found = scratch.matches[: _gather(index._graph, scratch, mask, request)]
    states = held.state.used[:n]
    expected = np.flatnonzero((states == LINKED) | (states == TAIL))
    if masked:
        slot = held.row_slot.used[expected]
        expected = expected[(slot < len(mask)) & mask[np.minimum(slot, len(mask) - 1)]]
    assert sorted(found.tolist()) == expected.tolist()
    assert FREE not in held.state.used[found]

"""The walk in plain Python, for the tests of kernels."""

from collections.abc import Sequence
from typing import Any

from balsadb.index import VectorIndex
from balsadb.index.layout import ENTRY, TOP_LAYER
from balsadb.index.walk_kernels import UPPER_KEPT, UPPER_REACH


def twin_walk(index: VectorIndex, near: Sequence[tuple[Any, int]], ef: int) -> list[Any]:
    """Algorithm 5 over (distance, row) of every row: the `ef` nearest found, sorted."""
    held = index._columns
    links0, upper = held.links0.data, held.upper_links.data
    pool = [near[int(held.meta.data[ENTRY]) - 1]]
    for layer in range(int(held.meta.data[TOP_LAYER]), -1, -1):
        width, reach = (UPPER_KEPT, UPPER_REACH) if layer else (ef, ef)
        pool = pool[:width]
        seen, expanded = {row for _, row in pool}, set[int]()
        while waiting := [row for _, row in pool[:reach] if row not in expanded]:
            row = waiting[0]
            expanded.add(row)
            place = int(held.upper_offset.data[row]) + layer - 2 if layer else row
            links = (upper if layer else links0)[place]
            fresh = [int(other) for other in links[1 : links[0] + 1] if int(other) not in seen]
            seen.update(fresh)
            pool = sorted([*pool, *(near[other] for other in fresh)])[:width]
    return pool

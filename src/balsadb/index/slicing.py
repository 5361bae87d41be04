"""Spreading a plan's work over threads: contiguous parts of a number of items."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from balsadb.index.distance_kernels import Scratch
from balsadb.index.scratch import ScratchPool

Run = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""Runs a function on each slice, like `map`; on threads if the caller has some."""


def each_part(
    number: int,
    how: tuple[int, Run],
    work: Callable[[Scratch, int, int], None],
    scratches: ScratchPool,
    rows: int,
) -> None:
    """Call `work(scratch, first, stop)` on parts of [0, number), at least once; `how`: how many
    parts, and what runs them; `rows`: that a scratch must be good for."""
    slices, run = how
    bounds = np.linspace(0, number, min(slices, max(1, number)) + 1).astype(int).tolist()

    def one(part: tuple[int, int]) -> None:
        scratch = scratches.take(rows)
        try:
            work(scratch, *part)
        finally:
            scratches.give(scratch)

    for _ in run(one, list(pairwise(bounds))):
        pass

# pyright: basic
"""Coding rows: 8 bits an element, fixed rounding, no fast-math; the same bytes everywhere."""

import numpy as np
from numba import int32, int64

from balsadb.index.distance_kernels import CODE_MIDDLE, code_of
from balsadb.index.kernel_cache import kernel


@kernel
def code_rows(vectors, quantiser, rows, codes, bias):
    """Write `codes` (uint8, padded with zeros) and `bias` (int32: the sum of the squares of what
    the codes stand for, in steps) of `rows`."""
    dim = vectors.shape[1]
    inverse = quantiser[dim + 1]
    for at in range(rows.shape[0]):
        row = int64(rows[at])
        total = int32(0)
        for element in range(dim):
            code = code_of(vectors[row, element], quantiser[element], inverse)
            codes[row, element] = np.uint8(code)
            total += (code - int32(CODE_MIDDLE)) * (code - int32(CODE_MIDDLE))
        bias[row] = total

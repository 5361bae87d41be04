# pyright: basic
"""Coding rows: 8 bits an element, fixed rounding, no fast-math; the same bytes everywhere."""

import numpy as np
from numba import float64, int32, int64

from balsadb.index.distance_kernels import CODE_MIDDLE, code_of
from balsadb.index.kernel_cache import kernel, part

STEPS = 127
"""A row with a step of its own uses codes this far from the middle."""


@part
def code_by_own_step(vector, code):
    """Write the code (uint8) of a vector around zero, in steps that its largest element sets;
    returns the bits of the step (float32)."""
    largest = np.float32(0)
    for element in range(vector.shape[0]):
        largest = max(largest, abs(vector[element]))
    inverse = STEPS / float64(largest) if largest > 0 else float64(0)
    for element in range(vector.shape[0]):
        steps = np.rint(float64(vector[element]) * inverse)
        code[element] = np.uint8(int32(steps) + int32(CODE_MIDDLE))
    return np.float32(float64(largest) / STEPS).view(np.int32)


@kernel
def code_rows(vectors, quantiser, rows, codes, bias):
    """Write `codes` (uint8, padded with zeros) and `bias` (int32) of `rows`. With the quantiser's
    step, `bias` is the sum of the squares of what the codes stand for, in steps. If that is zero,
    each row has a step of its own, and `bias` has the bits of it."""
    dim = vectors.shape[1]
    inverse = quantiser[dim + 1]
    for at in range(rows.shape[0]):
        row = int64(rows[at])
        if quantiser[dim] == 0:
            bias[row] = code_by_own_step(vectors[row], codes[row])
            continue
        total = int32(0)
        for element in range(dim):
            code = code_of(vectors[row, element], quantiser[element], inverse)
            codes[row, element] = np.uint8(code)
            total += (code - int32(CODE_MIDDLE)) * (code - int32(CODE_MIDDLE))
        bias[row] = total

"""Exact search in NumPy: the oracle that every other search is tested against.

The sums are those of the kernels, bit for bit: 32 lanes, lane j adding the products of elements
j, j + 32, j + 64, ... in that order; then the lanes are folded in halves (j with j + 16, then with
j + 8, ...); then the elements past the last full 32 are added one by one. Multiplication and
addition round separately (no fused operation), as IEEE 754 says, so the result is the same on
every processor.
"""

import numpy as np
from numpy.typing import NDArray

from balsadb.index.metrics import KERNEL_CODES, PRODUCT, SQUARED, Metric

LANES = 32
"""Partial sums of a distance."""


def distances(
    metric: Metric, query: NDArray[np.float32], vectors: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Internal distances, shape (n,), of `query` (dim,) to `vectors` (n, dim)."""
    code = KERNEL_CODES[metric]
    with np.errstate(over="ignore", invalid="ignore"):
        if code == PRODUCT:
            return np.subtract(np.float32(0), lane_sum(vectors * query))
        gaps = np.subtract(query, vectors)
        return lane_sum(gaps * gaps if code == SQUARED else np.abs(gaps))


def lane_sum(terms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Row sums of `terms` (n, dim) in the canonical order, shape (n,)."""
    count, dim = terms.shape
    full = dim - dim % LANES
    lanes = np.zeros((count, LANES), np.float32)
    for first in range(0, full, LANES):
        lanes += terms[:, first : first + LANES]
    width = LANES
    while width > 1:
        width //= 2
        lanes = lanes[:, :width] + lanes[:, width : 2 * width]
    total = lanes[:, 0].copy()
    for element in range(full, dim):
        total += terms[:, element]
    return total


def nearest(
    metric: Metric,
    query: NDArray[np.float32],
    vectors: NDArray[np.float32],
    rows: NDArray[np.uint32],
    k: int,
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """The `k` nearest of `rows` (fewer if there are fewer) and their distances; ties by row."""
    found = distances(metric, query, vectors[rows])
    order = np.lexsort((rows, found))[:k]
    return rows[order], found[order]

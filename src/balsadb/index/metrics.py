"""The four metrics: what is near, what a score is, and how a vector is prepared.

Inside the index everything is a *distance*: a float32 that is smaller for nearer vectors, so that
one search serves all metrics. A *score* is what a user sees. Both come from the same sums in the
same order (see `balsadb.index.intrinsics`), so a score never depends on the path that found it.

| metric | distance (internal) | score | better |
|---|---|---|---|
| Cosine | -(a . b), vectors prepared to length 1 | a . b | larger |
| Dot | -(a . b) | a . b | larger |
| Euclid | sum((a - b)^2) | sqrt of it | smaller |
| Manhattan | sum(abs(a - b)) | the same | smaller |
"""

from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


class Metric(StrEnum):
    """How two vectors compare; the values are the names on the wire."""

    COSINE = "Cosine"
    EUCLID = "Euclid"
    DOT = "Dot"
    MANHATTAN = "Manhattan"


PRODUCT: Final = 0
"""Kernel code: negative inner product (Cosine and Dot)."""
SQUARED: Final = 1
"""Kernel code: squared Euclidean distance."""
ABSOLUTE: Final = 2
"""Kernel code: sum of absolute differences."""

PREPARED_ROWS: Final = 1_024
"""Vectors that are prepared at once: the wide copies of so many stay in the processor's cache."""
KERNEL_CODES: Final[dict[Metric, int]] = {
    Metric.COSINE: PRODUCT,
    Metric.DOT: PRODUCT,
    Metric.EUCLID: SQUARED,
    Metric.MANHATTAN: ABSOLUTE,
}
"""Which distance a metric's kernels compute."""


def larger_is_better(metric: Metric) -> bool:
    """Whether the best score is the largest."""
    return KERNEL_CODES[metric] == PRODUCT


def prepare_vector(metric: Metric, vectors: NDArray[Any]) -> NDArray[np.float32]:
    """A contiguous float32 copy of `vectors`, shape (dim,) or (n, dim), as the index stores it.

    Cosine: scaled to length 1 (in float64, rounded once); a zero vector stays as it is. Done once,
    before a vector enters the log, never by a replica: rounding must not be able to differ.
    """
    prepared = np.array(vectors, dtype=np.float32, order="C", ndmin=1)
    if metric is Metric.COSINE:
        rows = prepared.reshape(-1, prepared.shape[-1])
        for first in range(0, len(rows), PREPARED_ROWS):
            part = rows[first : first + PREPARED_ROWS]
            wide = part.astype(np.float64)
            norms = np.sqrt((wide * wide).sum(axis=-1, keepdims=True))
            np.divide(wide, norms, out=wide, where=norms > 0)
            part[...] = wide
    return prepared


def scores_of(metric: Metric, distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn internal distances into scores (any shape)."""
    code = KERNEL_CODES[metric]
    if code == PRODUCT:
        return np.subtract(np.float32(0), distances)
    return np.sqrt(distances) if code == SQUARED else distances

"""Training the quantiser: one step for all dimensions, around the mean.

An element x becomes the code round((x - mean) / step) + 128, cut to 0..255. One step for all
dimensions keeps distances between codes proportional to distances between vectors. The step is the
one that loses least on a sample: a small step cuts off outliers, a large one is coarse.

Only the leader trains, and the log carries what came out, so nothing here needs to be reproducible;
making the codes does (`quantise_kernels`).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

SAMPLE_ROWS: Final = 16_384
SAMPLE_ELEMENTS: Final = 1 << 22
CUTS: Final = (1.0, 0.99999, 0.9999, 0.9995, 0.999, 0.998, 0.995)
"""Shares of elements that the candidate steps leave uncut."""
LEVELS: Final = 127
GROWTH: Final = 4
"""Rows have grown this much since a training: look whether another one would do better."""
ERROR_GROWTH: Final = 1.5
"""A quantiser whose squared error is this much above a new one's is replaced."""

Floats = NDArray[np.float32]


def sample_rows(rows: NDArray[np.uint32], dim: int) -> NDArray[np.uint32]:
    """A part of some rows, evenly spread."""
    count = max(256, min(SAMPLE_ROWS, SAMPLE_ELEMENTS // dim))
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


def train(sample: Floats) -> Floats:
    """The quantiser for vectors like `sample` (n, dim): float32 (dim + 2,), mean, step, inverse."""
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sizes = np.abs(sample - mean).ravel()
    largest = np.quantile(sizes, CUTS, method="higher").astype(np.float32)
    best = min(
        (float(size) / LEVELS for size in largest), key=lambda step: _loss(sample - mean, step)
    )
    step = np.float32(best)
    inverse = np.float32(1) / step if step > 0 else np.float32(0)
    if not np.isfinite(inverse):  # vectors so small that they are all but equal
        step, inverse = np.float32(0), np.float32(0)
    return np.concatenate((mean, np.array([step, inverse], np.float32)))


def error(sample: Floats, quantiser: Floats) -> float:
    """Mean squared error of the codes of `sample`."""
    return _loss(sample - quantiser[:-2], float(quantiser[-2]))


def _loss(centred: Floats, step: float) -> float:
    if step <= 0:
        return float(np.square(centred, dtype=np.float64).mean())
    codes = np.clip(np.rint(centred / np.float32(step)), -128, 127) * np.float32(step)
    return float(np.square(centred - codes, dtype=np.float64).mean())

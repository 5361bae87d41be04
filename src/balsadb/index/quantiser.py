"""Training the quantiser: one step for all dimensions, around the middle (Dot: `own_steps`).

An element x becomes the code round((x - mean) / step) + 128, cut to 0..255. One step for all
dimensions keeps distances between codes proportional to distances between vectors. The step is the
one that loses least on a sample: a small step cuts off outliers, a large one is coarse.

A few wild rows must not decide, or all others would share one code: the mean is that of the rows
near a rough middle, and what one row can lose is limited by how far the others lie (`_usual`).

Where lengths or densities differ so much that one step cannot serve, codes would lead walks astray:
`order_kept` tells, and then there are none.

Only the leader trains, and the log carries what came out, so nothing here needs to be reproducible;
making the codes does (`quantise_kernels`).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from balsadb.index.code_kernels import QUERY_MAX
from balsadb.index.distance_kernels import SCALE_MAX
from balsadb.index.metrics import ABSOLUTE, PRODUCT, SQUARED

SAMPLE_ROWS: Final = 16_384
SAMPLE_ELEMENTS: Final = 1 << 22
LOOK_ROWS: Final = 256
"""Rows of the sample that tells whether a quantiser still fits."""
ORDER_ROWS: Final = 65_536
ORDER_LOOK_ROWS: Final = 4_096
"""Rows among which neighbours are looked for, to tell whether codes keep their order."""
ORDER_QUERIES: Final = 32
NEAREST: Final = 10
SCORED: Final = 26
"""What a search for NEAREST scores exactly, at least."""
ORDER_KEPT: Final = 0.98
"""The share of the nearest that must be among the first SCORED by codes, for codes to be used."""
ORDER_LOST: Final = 0.96
"""Codes in use are given up below this share."""
MIDDLE_ROWS: Final = 512
"""Rows that the rough middle is taken from."""
USUAL_SHARE: Final = 0.995
"""The share of rows that counts as not wild."""
CUTS: Final = (1.0, 0.99999, 0.9999, 0.9995, 0.999, 0.998, 0.995)
"""Shares of elements that the candidate steps leave uncut."""
LEVELS: Final = 127
GROWTH: Final = 2
"""Rows have grown this much since the last look: see whether another quantiser would do better."""
ERROR_GROWTH: Final = 1.5
"""A quantiser whose squared error is this much above a new one's is replaced."""

Floats = NDArray[np.float32]


def sample_rows(rows: NDArray[np.uint32], dim: int, most: int = SAMPLE_ROWS) -> NDArray[np.uint32]:
    """At most `most` of some rows, fewer for long vectors, evenly spread."""
    count = max(256, min(most, SAMPLE_ELEMENTS // dim))
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


def train(sample: Floats) -> Floats | None:
    """The quantiser for vectors like `sample` (n, dim): float32 (dim + 2,), mean, step, inverse.
    None if there is none: the vectors are equal, or too small or too large for float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = _middle(sample)
        centred = sample - mean
        sizes = np.abs(centred).ravel()
        largest = np.quantile(sizes, CUTS, method="higher").astype(np.float32)
        usual = _usual(centred)
        steps = {float(size) / LEVELS for size in largest if size > 0}
        if not steps:
            return None
        best = min(sorted(steps), key=lambda step: _loss(centred, step, usual))
        step = np.float32(best)
        inverse = np.float32(1) / step
    quantiser = np.concatenate((mean, np.array([step, inverse], np.float32)))
    return quantiser if np.isfinite(quantiser).all() else None


def own_steps(dim: int) -> Floats:
    """The quantiser, as of `train`, that gives each row a step of its own, around zero: for inner
    products of vectors of any lengths. Nothing is cut off, and nothing needs to be trained again
    when longer vectors come."""
    return np.zeros(dim + 2, np.float32)


def fits(sample: Floats, quantiser: Floats) -> bool:
    """Whether no other quantiser would be much better for vectors like `sample`."""
    better = train(sample)
    if better is None:
        return True
    return error(sample, quantiser) <= ERROR_GROWTH * error(sample, better)


def error(sample: Floats, quantiser: Floats) -> float:
    """Mean squared error of the codes of `sample`, wild rows limited."""
    with np.errstate(over="ignore", invalid="ignore"):
        usual = _usual(sample - _middle(sample))
        return _loss(sample - quantiser[:-2], float(quantiser[-2]), usual)


def order_kept(sample: Floats, quantiser: Floats, kind: int) -> float:
    """The share (0..1) of the nearest rows of `sample` (n, dim) to some of them that are among the
    first by codes, which a search would score exactly. `kind`: of distance (`metrics`)."""
    count = len(sample)
    nearest = min(NEAREST, count - 1)
    if nearest < 1:
        return 1.0
    # In steps around the middle, where float32 is enough (an inner product loses what is the same
    # for all rows); elements of one dimension beside each other, which the products are faster for.
    own = np.linspace(0, count - 1, min(ORDER_QUERIES, count)).astype(np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.multiply((sample - quantiser[:-2]).T, quantiser[-1], order="C")
        codes = np.clip(np.rint(rows), -128, 127)
        queries = np.ascontiguousarray(rows[:, own].T)
        asked = np.ascontiguousarray(codes[:, own].T)
        if kind == PRODUCT:
            queries = sample[own] * quantiser[-1]
        if kind != ABSOLUTE:
            asked = _coded_queries(queries, kind)
        exact, coded = _apart(rows, queries, kind), _apart(codes, asked, kind)
    itself = np.arange(len(own)), own
    exact[itself] = coded[itself] = np.inf
    worst = np.partition(exact, nearest - 1, axis=1)[:, nearest - 1 : nearest]
    first = np.argpartition(coded, min(SCORED, count) - 1, axis=1)[:, :SCORED]
    hits = (np.take_along_axis(exact, first, axis=1) <= worst).sum(axis=1)
    return float(np.minimum(hits, nearest).mean()) / nearest


def _coded_queries(queries: Floats, kind: int) -> Floats:
    """Queries, in steps, as walks round them (`distance_kernels.aim`)."""
    largest = np.abs(queries).max(axis=1, keepdims=True)
    most = np.float32(SCALE_MAX if kind == SQUARED else np.inf)
    scale: Floats = np.minimum(np.float32(QUERY_MAX) / np.where(largest > 0, largest, 1), most)
    return (np.rint(queries * scale) / scale).astype(np.float32, copy=False)


def _apart(rows: Floats, queries: Floats, kind: int) -> Floats:
    """What orders `rows` (dim, n) as their distances to each query (q, dim) do, (q, n)."""
    if kind == ABSOLUTE:
        return np.stack([np.abs(rows - query[:, np.newaxis]).sum(axis=0) for query in queries])
    # Not by BLAS: its threads would spin for a while after it, on processors that build the index.
    products = np.einsum("qd,dn->qn", queries, rows)
    return -products if kind == PRODUCT else np.einsum("dn,dn->n", rows, rows) - 2 * products


def _middle(sample: Floats) -> Floats:
    """The mean of the rows that lie near the median of a few."""
    few = sample[np.linspace(0, len(sample) - 1, min(len(sample), MIDDLE_ROWS)).astype(np.int64)]
    away = _squares(sample - np.median(few, axis=0).astype(np.float32))
    near = away <= 4 * np.quantile(away, USUAL_SHARE, method="lower")
    return sample[near].mean(axis=0, dtype=np.float64).astype(np.float32)


def _usual(centred: Floats) -> float:
    """Squared length that all but wild rows stay below."""
    return float(np.quantile(_squares(centred), USUAL_SHARE, method="lower"))


def _squares(rows: Floats) -> NDArray[np.float64]:
    """Squared lengths (n,)."""
    return np.einsum("ij,ij->i", rows, rows, dtype=np.float64, casting="safe")


def _loss(centred: Floats, step: float, usual: float) -> float:
    codes = np.clip(np.rint(centred / np.float32(step)), -128, 127) * np.float32(step)
    return float(np.minimum(_squares(centred - codes), usual).mean())

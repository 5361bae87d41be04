"""Vectors to index, held-out queries, and their exact nearest neighbours.

`films` (128 dimensions, Cosine) comes with the repository; `films384` (384, Cosine) is looked for
beside it; `blobs<N>` (128, Euclid; `blobs100k`, `blobs1m`) is drawn from a mixture of Gaussians:
a smaller one is the beginning of a larger one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
CACHE = Path("~/.cache/balsadb-bench").expanduser()
DATA = ROOT.parent / "shared" / "data"
FILMS = ROOT / "examples" / "films" / "films.npz"
K = 10
QUERIES = 1_000
BLOBS = re.compile(r"blobs(\d+)(k|m|)")
BLOBS_DIM = 128
CENTRES = 1_000
# Centres uniform in [-SPREAD, SPREAD]**128, noise of variance 1. At 1.5 the blobs stand apart and
# any graph is right; at 1.0 they are one cloud and none is. Here the nearest ten of a row are
# mostly of its own blob, and rows of other blobs come between.
SPREAD = 1.25
DRAWN_ROWS = 10_000
BLOCK_ROWS = 65_536

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


class MissingData(Exception):
    """A data set that is not on this machine."""


@dataclass(frozen=True)
class Dataset:
    """`base` (n, dim) to be indexed, `queries` (q, dim), float32; unit vectors under Cosine."""

    name: str
    metric: str
    base: Vectors
    queries: Vectors
    cache: Path

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self.base.shape[1])

    @cached_property
    def key(self) -> str:
        """Name and content, for files that depend on them."""
        digest = blake2b(np.ascontiguousarray(self.base), digest_size=6)
        digest.update(np.ascontiguousarray(self.queries))
        return f"{self.name}-{len(self.base)}-{digest.hexdigest()}"

    @cached_property
    def exact(self) -> Ids:
        """Ids of the `K` nearest of each query, best first, (q, K); computed once and kept."""
        path = self.cache / "exact" / f"{self.key}-k{K}.npy"
        if path.exists():
            return np.load(path)
        found = nearest(self.base, self.queries, K, self.metric)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, found)
        return found


def nearest(base: Vectors, queries: Vectors, k: int, metric: str) -> Ids:
    """Ids of the `k` rows of `base` nearest to each query, best first, by float32 products.

    Works through blocks of rows, so it needs memory for 65,536 distances a query.
    """
    best = np.zeros((len(queries), 0), np.int64)
    nearness = np.zeros((len(queries), 0), np.float32)
    for first in range(0, len(base), BLOCK_ROWS):
        block = base[first : first + BLOCK_ROWS]
        found = queries @ block.T
        if metric == "Euclid":  # |x - q|^2 without |q|^2, which is the same for all rows
            found -= 0.5 * np.einsum("ij,ij->i", block, block)
        ids = np.broadcast_to(np.arange(first, first + len(block)), found.shape)
        nearness = np.concatenate((nearness, found), axis=1)
        best = np.concatenate((best, ids), axis=1)
        if nearness.shape[1] > k:
            kept = np.argpartition(-nearness, k - 1, axis=1)[:, :k]
            nearness = np.take_along_axis(nearness, kept, axis=1)
            best = np.take_along_axis(best, kept, axis=1)
    order = np.argsort(-nearness, axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


def load(name: str, *, cache: Path = CACHE, data: Path = DATA) -> Dataset:
    """The data set of that name. MissingData if its file is not there."""
    if name == "films":
        return _films(name, FILMS, cache)
    if name == "films384":
        return _films(name, data / "films384.npz", cache)
    rows = blob_rows(name)
    return Dataset(name, "Euclid", blobs(rows), _blob_queries(), cache)


def blob_rows(name: str) -> int:
    """How many vectors the name asks for: 100,000 for `blobs100k`. ValueError for other names."""
    found = BLOBS.fullmatch(name)
    if found is None:
        raise ValueError(f"no data set {name!r}: films, films384, blobs100k, blobs1m, blobs<N>")
    return int(found[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[found[2]]


def centres() -> Vectors:
    """The middles of the blobs, (1000, 128)."""
    generator = np.random.default_rng(0)
    return generator.uniform(-SPREAD, SPREAD, (CENTRES, BLOBS_DIM)).astype(np.float32)


def blobs(rows: int) -> Vectors:
    """The first `rows` vectors of the mixture."""
    found = np.empty((rows, BLOBS_DIM), np.float32)
    for first, drawn in zip(range(0, rows, DRAWN_ROWS), _draws(seed=1), strict=False):
        found[first : first + DRAWN_ROWS] = drawn[: rows - first]
    return found


def _blob_queries() -> Vectors:
    return next(_draws(seed=2))[:QUERIES]


def _draws(seed: int) -> Iterator[Vectors]:
    """The mixture, 10,000 vectors at a time, without end."""
    middles = centres()
    generator = np.random.default_rng(seed)
    while True:
        of = generator.integers(0, CENTRES, DRAWN_ROWS)
        drawn = generator.standard_normal((DRAWN_ROWS, BLOBS_DIM), dtype=np.float32)
        yield drawn + middles[of]


def _films(name: str, path: Path, cache: Path) -> Dataset:
    """Films in a fixed random order, the last of them as queries."""
    if not path.exists():
        raise MissingData(f"{name}: no {path.name} (see --data)")
    with np.load(path) as held:
        films = held["vectors"].astype(np.float32)
    films /= np.linalg.norm(films, axis=1, keepdims=True)
    films = films[np.random.default_rng(0).permutation(len(films))]
    return Dataset(name, "Cosine", films[:-QUERIES], films[-QUERIES:], cache)

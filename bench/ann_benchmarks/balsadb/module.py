"""`balsadb.Index` for the ann-benchmarks framework; goes into its `ann_benchmarks/algorithms`."""

import os
from typing import Any

import numpy as np
from ann_benchmarks.algorithms.base.module import BaseANN
from numpy.typing import NDArray

import balsadb

METRICS = {"angular": "Cosine", "euclidean": "Euclid", "ip": "Dot", "l1": "Manhattan"}


class BalsaDB(BaseANN):
    """One graph; its queries run on one thread, as the framework's rules want it."""

    def __init__(self, metric: str, params: dict[str, Any]) -> None:
        """`params`: arguments of `balsadb.Index` besides dimension and metric."""
        self._metric = METRICS[metric]
        self._params = params
        self._ef = 64
        self._index: balsadb.Index
        self._found: NDArray[np.uint64]
        self.name = f"balsadb ({params})"

    def fit(self, X: NDArray[Any]) -> None:  # noqa: N803  the framework's name
        """Build; ids are places in `X`."""
        vectors = np.ascontiguousarray(X, np.float32)
        self._index = balsadb.Index(vectors.shape[1], self._metric, **self._params)
        self._index.add(vectors)
        optimize = getattr(self._index, "optimize", None)
        if optimize is not None:
            optimize()
        # The first search loads compiled kernels, which is no part of any query.
        self._index.search(vectors[:1], 1, ef=self._ef)

    def set_query_arguments(self, ef: int) -> None:
        """Width of the beam; a query for more results than that widens it."""
        self._ef = ef
        self.name = f"balsadb ({self._params}, ef {ef})"

    def query(self, q: NDArray[Any], n: int) -> NDArray[np.uint64]:
        """Ids of the `n` nearest."""
        return self._index.search(q, n, ef=max(self._ef, n))[0][0]

    def batch_query(self, X: NDArray[Any], n: int) -> None:  # noqa: N803  the framework's name
        """All queries in one call, on every core: what the framework's batch mode measures."""
        threads = os.cpu_count() or 1
        self._found = self._index.search(X, n, ef=max(self._ef, n), threads=threads)[0]

    def get_batch_results(self) -> NDArray[np.uint64]:
        """What `batch_query` found."""
        return self._found

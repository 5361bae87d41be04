"""Filtered searches: recall@10 and milliseconds by the share of vectors that match.

    python bench/filters.py [--rows 100000] [--queries 100] [--ef 64]

Three kinds of filters: `random`; `near`, the vectors nearest to the query's blob match; `far`, the
farthest do, so that a walk towards the query finds nothing. Beside the exact scan of the matches.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from balsadb.index import VectorIndex
from bench.suite import datasets, report
from bench.suite.cache import open_engine
from bench.suite.datasets import Dataset, K
from bench.suite.engines import Balsa, Shape
from bench.suite.plots import Plot, Series

SHARES = (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.9)
KINDS = ("random", "near", "far")


class Cell:
    """What was measured of one kind and share; times in milliseconds."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.ms: list[float] = []
        self.exact_ms: list[float] = []
        self.recalls: list[float] = []

    def ask(self, index: VectorIndex, query: NDArray[np.float32], mask: Any, ef: int) -> None:
        """One query, by the graph and exactly; the exact answer decides recall."""
        began = perf_counter()
        found, _ = index.search(query, K, ef=ef, slots=mask)
        self.ms.append((perf_counter() - began) * 1e3)
        began = perf_counter()
        truth, _ = index.search(query, K, ef=ef, slots=mask, exact=True)
        self.exact_ms.append((perf_counter() - began) * 1e3)
        hits = len(np.intersect1d(found, truth))
        self.recalls.append(hits / len(truth) if len(truth) else 1.0)

    def summary(self) -> dict[str, float]:
        """Medians, the slow end, and recall."""
        return {
            "recall": float(np.mean(self.recalls)),
            "worst_recall": min(self.recalls),
            "p50_ms": median(self.ms),
            "p95_ms": float(np.quantile(self.ms, 0.95)),
            "max_ms": max(self.ms),
            "exact_p50_ms": median(self.exact_ms),
        }


def orders(dataset: Dataset, query: NDArray[np.float32]) -> dict[str, NDArray[np.int64]]:
    """For each kind, the vectors in the order in which a wider filter takes them in."""
    middles = datasets.centres()
    middle = middles[np.argmin(((middles - query) ** 2).sum(axis=1))]
    squares = np.einsum("ij,ij->i", dataset.base, dataset.base)
    near = np.argsort(squares - 2 * (dataset.base @ middle), kind="stable")
    # Another draw for each query, the same in every run.
    drawn = np.random.default_rng(int(near[0])).permutation(len(near))
    return {"random": drawn, "near": near, "far": near[::-1]}


def measure(index: VectorIndex, dataset: Dataset, given: Namespace) -> dict[str, list[Any]]:
    """All cells; kinds and shares take turns within each query."""
    cells = {kind: {share: Cell() for share in SHARES} for kind in KINDS}
    everything = Cell()
    for number, query in enumerate(dataset.queries[: given.queries]):
        taken_in = orders(dataset, query)
        for share in SHARES:
            for kind in KINDS:
                mask = np.zeros(len(dataset.base), np.bool_)
                mask[taken_in[kind][: max(1, round(share * len(mask)))]] = True
                cells[kind][share].ask(index, query, mask, given.ef)
        everything.ask(index, query, None, given.ef)
        if number % 10 == 0:
            report.say(f"query {number} of {given.queries}")
    table: dict[str, list[Any]] = {
        kind: [{"share": share, **cell.summary()} for share, cell in held.items()]
        for kind, held in cells.items()
    }
    table["none"] = [{"share": 1.0, **everything.summary()}]
    return table


def plot(result: Mapping[str, Any]) -> str:
    """Milliseconds over the share, both logarithmic."""
    drawn = Plot(
        f"{result['rows']:,} vectors, ef {result['ef']}",
        "share of vectors that match",
        "milliseconds (median)",
        x_kind="log",
        y_kind="log",
    )
    kinds = result["filters"]
    series = [
        Series(kind, [(at["share"], at["p50_ms"]) for at in kinds[kind]], ours=True)
        for kind in KINDS
    ]
    scan = [(at["share"], at["exact_p50_ms"]) for at in kinds["random"]]
    return drawn.draw([*series, Series("exact scan", scan)])


def main() -> None:
    """Build or load, then measure."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--ef", type=int, default=64)
    given = report.arguments(parser)
    dataset = datasets.load(f"blobs{given.rows}", cache=given.cache)
    opened = open_engine(Balsa, dataset, Shape(dataset.dim, dataset.metric), [2])
    assert isinstance(opened.engine, Balsa)
    index: VectorIndex = opened.engine.index._index  # noqa: SLF001  masks over slots are its own
    found = measure(index, dataset, given)
    for kind, cells in found.items():
        for at in cells:
            report.say(
                f"{kind:8}{at['share']:>8.2%}  recall {at['recall']:.4f} (worst"
                f" {at['worst_recall']:.1f})  {at['p50_ms']:.3f} ms, p95 {at['p95_ms']:.3f},"
                f" exact {at['exact_p50_ms']:.3f}"
            )
    result = {
        "machine": report.machine(),
        "rows": given.rows,
        "dim": dataset.dim,
        "queries": given.queries,
        "ef": given.ef,
        "filters": found,
    }
    report.write(result, given.out, plot(result))


if __name__ == "__main__":
    main()

"""Filtered searches: recall@10 and milliseconds by the share of vectors that match.

    python bench/filters.py [--rows 100000] [--queries 100] [--ef 64]

Three kinds of filters: `random`; `near`, the vectors nearest to the query's blob match; `far`, the
farthest do, so that a walk towards the query finds nothing. Beside the exact scan of the matches.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
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
ROUNDS = 3


def orders(dataset: Dataset, query: NDArray[np.float32]) -> NDArray[np.uint32]:
    """The vectors by distance from the middle of the query's blob, in the order in which a wider
    filter `near` takes them in; `far` the other way round."""
    middles = datasets.centres()
    middle = middles[np.argmin(((middles - query) ** 2).sum(axis=1))]
    squares = np.einsum("ij,ij->i", dataset.base, dataset.base)
    return np.argsort(squares - 2 * (dataset.base @ middle), kind="stable").astype(np.uint32)


def mask_of(kind: str, share: float, near: NDArray[np.uint32], number: int) -> NDArray[np.bool_]:
    """The filter of one query."""
    count = max(1, round(share * len(near)))
    mask = np.zeros(len(near), np.bool_)
    if kind == "random":
        mask[np.random.default_rng(number).permutation(len(near))[:count]] = True
    else:
        mask[near[:count] if kind == "near" else near[::-1][:count]] = True
    return mask


def ask(
    index: VectorIndex,
    queries: NDArray[np.float32],
    masks: Sequence[NDArray[np.bool_] | None],
    ef: int,
    *,
    exact: bool,
) -> tuple[list[Any], list[float]]:
    """Rows found and milliseconds, query by query, one after another as a server would: it has just
    evaluated the filter, so the mask is made anew before each search."""
    found: list[Any] = []
    times: list[float] = []
    for query, held in zip(queries, masks, strict=True):
        mask = None if held is None else held.copy()
        began = perf_counter()
        rows, _ = index.search(query, K, ef=ef, slots=mask, exact=exact)
        times.append((perf_counter() - began) * 1e3)
        found.append(rows)
    return found, times


def cell(
    index: VectorIndex,
    queries: NDArray[np.float32],
    masks: Sequence[NDArray[np.bool_] | None],
    given: Namespace,
) -> dict[str, float]:
    """One kind and share: all queries, `ROUNDS` times by the graph and once exactly. Not in turns
    query by query: an exact scan leaves nothing of the graph in the caches."""
    times: list[float] = []
    found: list[Any] = []
    for _ in range(ROUNDS):
        found, taken = ask(index, queries, masks, given.ef, exact=False)
        times += taken
    truth, exact_times = ask(index, queries, masks, given.ef, exact=True)
    recalls = [
        len(np.intersect1d(mine, best)) / max(1, len(best))
        for mine, best in zip(found, truth, strict=True)
    ]
    return {
        "recall": float(np.mean(recalls)),
        "worst_recall": min(recalls),
        "p50_ms": median(times),
        "p95_ms": float(np.quantile(times, 0.95)),
        "max_ms": max(times),
        "exact_p50_ms": median(exact_times),
    }


def measure(index: VectorIndex, dataset: Dataset, given: Namespace) -> dict[str, list[Any]]:
    """All cells."""
    queries = dataset.queries[: given.queries]
    near = [orders(dataset, query) for query in queries]
    table: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        for share in SHARES:
            masks = [mask_of(kind, share, near[at], at) for at in range(len(queries))]
            table[kind].append({"share": share, **cell(index, queries, masks, given)})
            report.say(f"{kind} {share:.2%}")
    plain = cell(index, queries, [None] * len(queries), given)
    table["none"] = [{"share": 1.0, **plain}]
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
    name = f"blobs{given.rows}".replace("000000", "m").replace("000", "k")
    dataset = datasets.load(name, cache=given.cache)
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

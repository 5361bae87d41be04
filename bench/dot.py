"""Inner products of vectors whose lengths differ widely: recall over distances computed.

    python bench/dot.py [--rows 30000] [--dim 64]

Beside `Dot` stands a plain graph by inner product: the same index with the same parameters, whose
links are all chosen by inner product, as hnswlib, faiss and usearch do. Both start from the same
entry and walk alike; what a query costs is counted in distances, so nothing here depends on the
machine. `rising`: vectors come sorted by length, the last a hundred times as long as the first.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from balsadb.columns import ColumnSet
from balsadb.index import IndexOptions, Metric, VectorIndex, compile_all
from bench.suite import report
from bench.suite.datasets import Ids, Vectors
from bench.suite.measure import recall

EFS = (16, 24, 32, 48, 64, 96, 128, 192, 256)
QUERIES = 300
CLUSTERS = 200
K = 10
RECALL = 0.95
KINDS = ("spread 0.25", "spread 0.5", "spread 1", "spread 2", "rising")
GRAPHS = {
    # Cosine takes vectors as they are stored, so that lengths stay what they are.
    "dot": {"metric": Metric.DOT},
    "plain": {"metric": Metric.COSINE, "quantization": ""},
}


class Point(NamedTuple):
    """What one `ef` gives: recall, and distances computed for a query."""

    ef: int
    recall: float
    distances: float


def data(kind: str, rows: int, dim: int) -> tuple[Vectors, Vectors]:
    """Directions in clusters; lengths exp(spread * normal), or from 1 to 100 in order."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(CLUSTERS, dim))
    base = centres[rng.integers(0, CLUSTERS, rows)] + 0.7 * rng.normal(size=(rows, dim))
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    queries = base[rng.integers(0, rows, QUERIES)] + 0.05 * rng.normal(size=(QUERIES, dim))
    if kind == "rising":
        base *= np.geomspace(1, 100, rows)[:, np.newaxis]
    else:
        base *= np.exp(float(kind.split()[1]) * rng.normal(size=(rows, 1)))
    return base.astype(np.float32), queries.astype(np.float32)


def build(base: Vectors, options: dict[str, Any]) -> tuple[VectorIndex, float]:
    """The index, fed a part at a time, and the seconds it took."""
    index = VectorIndex(ColumnSet(), "v", IndexOptions(base.shape[1], **options))
    began = perf_counter()
    for first in range(0, len(base), 2_048):
        part = base[first : first + 2_048]
        index.add(np.arange(first, first + len(part), dtype=np.uint32), part)
        while (edit := index.plan(512)) is not None:
            index.apply(edit)
    return index, perf_counter() - began


def curve(index: VectorIndex, queries: Vectors, truth: Ids) -> list[Point]:
    """Recall over cost."""
    points: list[Point] = []
    for ef in EFS:
        before = index.distances_total
        found = index.search_many(queries, K, ef=ef)[0]
        spent = (index.distances_total - before) / len(queries)
        points.append(Point(ef, recall(found, truth), spent))
    return points


def cost_at(points: Sequence[Point], wanted: float) -> float | None:
    """Distances for a recall, between the points around it."""
    if points[0].recall >= wanted:
        return points[0].distances
    for low, high in pairwise(points):
        if low.recall < wanted <= high.recall:
            part = (wanted - low.recall) / (high.recall - low.recall)
            return low.distances + part * (high.distances - low.distances)
    return None


def recall_at(points: Sequence[Point], distances: float) -> float:
    """Recall for a cost, between the points around it."""
    costs, recalls = [p.distances for p in points], [p.recall for p in points]
    return float(np.interp(distances, costs, recalls))


def compare(kind: str, rows: int, dim: int) -> dict[str, Any]:
    """Both graphs on one kind of data."""
    base, queries = data(kind, rows, dim)
    truth = np.argsort(-(queries @ base.T), axis=1)[:, :K]
    held: dict[str, Any] = {}
    for name, options in GRAPHS.items():
        index, seconds = build(base, options)
        points = curve(index, queries, truth)
        held[name] = {
            "build_s": seconds,
            "curve": [point._asdict() for point in points],
            "distances_at_95": cost_at(points, RECALL),
        }
    ours = [Point(**point) for point in held["dot"]["curve"]]
    plain = [Point(**point) for point in held["plain"]["curve"]]
    at = next((point for point in ours if point.recall >= RECALL), ours[-1])
    held["equal_cost"] = {
        "ef": at.ef,
        "distances": at.distances,
        "dot": at.recall,
        "plain": recall_at(plain, at.distances),
    }
    report.say(
        f"{kind}: {at.recall:.3f} with {at.distances:,.0f} distances; plain graph"
        f" {held['equal_cost']['plain']:.3f} with as many"
    )
    return held


def main() -> None:
    """All kinds of data."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--dim", type=int, default=64)
    given = report.arguments(parser)
    compile_all()
    kinds = {kind: compare(kind, given.rows, given.dim) for kind in KINDS}
    result = {"rows": given.rows, "dim": given.dim, "k": K, "kinds": kinds}
    report.write({"machine": report.machine(), **result}, given.out)


if __name__ == "__main__":
    main()

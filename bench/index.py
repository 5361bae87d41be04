"""Recall, queries a second and build time of the index on films, one thread, as JSON.

    python bench/index.py [--rows N] [--metric Cosine] [--out results/index.json]

Beside hnswlib, interleaved in the same run, when hnswlib is installed (it is no dependency).
"""

import argparse
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from balsadb.columns import ColumnSet
from balsadb.index import IndexOptions, Metric, VectorIndex, compile_all, prepare_vector

FILMS = Path(__file__).parents[1] / "examples" / "films" / "films.npz"
K = 10
QUERIES = 1_000
EFS = (16, 24, 32, 48, 64, 96, 128, 192, 256)
ROUNDS = 5
SPACES = {Metric.COSINE: "ip", Metric.DOT: "ip", Metric.EUCLID: "l2"}

Search = Callable[[NDArray[np.float32], int], NDArray[Any]]


def load(rows: int | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Films in a fixed random order, and the last of them as queries."""
    with np.load(FILMS) as data:
        films = prepare_vector(Metric.COSINE, data["vectors"].astype(np.float32))
    films = films[np.random.default_rng(0).permutation(len(films))]
    return films[:-QUERIES][:rows], films[-QUERIES:]


def build_balsadb(vectors: NDArray[np.float32], metric: Metric) -> tuple[VectorIndex, dict]:
    """The index, and what building it took."""
    index = VectorIndex(ColumnSet(), "bench", IndexOptions(vectors.shape[1], metric))
    started = perf_counter()
    index.add(np.arange(len(vectors), dtype=np.uint32), vectors)
    edit_bytes, apply_s = 0, 0.0
    while (edit := index.plan(1_024)) is not None:
        edit_bytes += len(edit)
        began = perf_counter()
        index.apply(edit)
        apply_s += perf_counter() - began
    build_s = perf_counter() - started
    return index, {
        "build_s": build_s,
        "vectors_per_s": len(vectors) / build_s,
        "apply_share": apply_s / build_s,
        "edit_bytes_per_vector": edit_bytes / len(vectors),
        "distances_per_vector": index.distances_total / len(vectors),
    }


def build_hnswlib(vectors: NDArray[np.float32], metric: Metric) -> tuple[Any, dict]:
    """The same with hnswlib and the same parameters, or None if it is not installed."""
    try:
        import hnswlib
    except ImportError:
        return None, {}
    peer = hnswlib.Index(space=SPACES[metric], dim=vectors.shape[1])
    peer.init_index(max_elements=len(vectors), M=16, ef_construction=128, random_seed=1)
    peer.set_num_threads(1)
    started = perf_counter()
    peer.add_items(vectors)
    build_s = perf_counter() - started
    return peer, {"build_s": build_s, "vectors_per_s": len(vectors) / build_s}


def curve(
    searches: dict[str, Search], queries: NDArray[np.float32], exact: NDArray[np.uint32]
) -> dict[str, list[dict]]:
    """Recall and queries a second by ef for each engine; medians of interleaved rounds."""
    points: dict[str, list[dict]] = {name: [] for name in searches}
    for ef in EFS:
        times: dict[str, list[float]] = {name: [] for name in searches}
        found: dict[str, NDArray[Any]] = {}
        for _ in range(ROUNDS):
            for name, search in searches.items():
                began = perf_counter()
                found[name] = search(queries, ef)
                times[name].append(perf_counter() - began)
        for name in searches:
            pairs = zip(found[name], exact, strict=True)
            hits = sum(len(np.intersect1d(mine, best)) for mine, best in pairs)
            rate = len(queries) / median(times[name])
            points[name].append({"ef": ef, "recall": hits / exact.size, "queries_per_s": rate})
    return points


def single_queries(index: VectorIndex, queries: NDArray[np.float32]) -> dict[str, float]:
    """Latency of one call at ef 64 in microseconds, Python included."""
    times: list[float] = []
    for query in queries:
        began = perf_counter()
        index.search(query, K, ef=64)
        times.append((perf_counter() - began) * 1e6)
    return {"p50_us": median(times), "p99_us": float(np.quantile(times, 0.99))}


def main() -> None:
    """Run, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--metric", default="Cosine", choices=[m.value for m in SPACES])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    metric = Metric(given.metric)
    compile_all()
    vectors, queries = load(given.rows)
    index, built = build_balsadb(vectors, metric)
    peer, peer_built = build_hnswlib(vectors, metric)
    exact, _, _ = index.search_many(queries, K, ef=K, exact=True)
    searches: dict[str, Search] = {
        "balsadb": lambda wanted, ef: index.search_many(wanted, K, ef=ef)[0]
    }
    if peer is not None:

        def search_peer(wanted: NDArray[np.float32], ef: int) -> NDArray[Any]:
            peer.set_ef(ef)
            return peer.knn_query(wanted, K, num_threads=1)[0]

        searches["hnswlib"] = search_peer
    result = {
        "machine": platform.processor() or platform.machine(),
        "rows": len(vectors),
        "dim": vectors.shape[1],
        "metric": metric.value,
        "build": {"balsadb": built, "hnswlib": peer_built},
        "single": single_queries(index, queries),
        "curve": curve(searches, queries, exact),
    }
    text = msgspec.json.format(msgspec.json.encode(result), indent=1)
    print(text.decode())
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_bytes(text + b"\n")


if __name__ == "__main__":
    main()

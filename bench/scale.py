"""How build, query and memory grow with the number of vectors.

    python bench/scale.py [--rows 10000 30000 100000] [--engines balsadb hnswlib]

Blobs of 128 dimensions, Euclid. Vectors built a second (by threads), queries a second at recall@10
of 0.95 in turns, and resident bytes a vector of a process that has loaded the index and searched.
"""

import ctypes
import gc
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.suite import datasets, report
from bench.suite.cache import Opened, open_engine
from bench.suite.datasets import K, Vectors
from bench.suite.engines import Missing, Shape
from bench.suite.measure import curves, rate_at
from bench.suite.peers import ENGINES, OURS
from bench.suite.plots import Plot, Series

RECALL = 0.95
EF = 64
WARM_ROWS = 2_000


def resident() -> int:
    """Bytes of memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def loaded_bytes(name: str, shape: Shape, graph: Path, queries: Vectors) -> int:
    """What loading a graph and searching it adds to this process.

    A small index is made, loaded and searched first, so that code is not counted.
    """
    with TemporaryDirectory(prefix="bench-scale-") as folder:
        warm = ENGINES[name](shape)
        warm.build(datasets.blobs(WARM_ROWS), 1)
        warm.save(Path(folder))
        again = ENGINES[name](shape)
        again.load(Path(folder))
        again.search(queries, K, EF)
        del warm, again
    trim()
    before = resident()
    engine = ENGINES[name](shape)
    engine.load(graph)
    engine.search(queries, K, EF)
    trim()
    return resident() - before


def trim() -> None:
    """Give freed memory back, lest an index be loaded into it unseen."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc alone keeps so much
        libc.malloc_trim(0)


def alone(name: str, shape: Shape, graph: Path, queries: Vectors) -> int:
    """The same, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(loaded_bytes, name, shape, graph, queries).result()


def measure(rows: int, given: Namespace) -> dict[str, Any]:
    """All engines over one number of vectors."""
    dataset = datasets.load(f"blobs{rows}", cache=given.cache)
    shape = Shape(dataset.dim, dataset.metric)
    opened: dict[str, Opened] = {}
    for name in given.engines:
        try:
            opened[name] = open_engine(ENGINES[name], dataset, shape, given.threads)
        except Missing as reason:
            report.say(f"without {name}: {reason}")
    measured = curves([held.engine for held in opened.values()], dataset, given.rounds)
    found: dict[str, Any] = {}
    for name, held in opened.items():
        size = alone(name, shape, held.graph, dataset.queries)
        found[name] = {
            "version": held.built.version,
            "built_per_s": {at: rows / took for at, took in held.built.build_s.items()},
            "queries_per_s": rate_at(measured[name], RECALL),
            "bytes_per_vector": size / rows,
            "curve": measured[name],
        }
        report.say(
            f"{rows:>9,} {name:14}"
            f" build {' / '.join(f'{rate:,.0f}' for rate in found[name]['built_per_s'].values())}"
            f" a second, {found[name]['queries_per_s'] or 0:,.0f} queries a second,"
            f" {size / rows:,.0f} bytes a vector"
        )
    return {"rows": rows, "engines": found}


def plot(result: Mapping[str, Any]) -> str:
    """Queries a second over vectors, both logarithmic."""
    drawn = Plot(
        f"blobs, 128 dimensions, recall@10 {RECALL}",
        "vectors",
        "queries a second",
        x_kind="log",
        y_kind="log",
    )
    lines: dict[str, list[tuple[float, float]]] = {}
    for at in result["sizes"]:
        for name, held in at["engines"].items():
            if held["queries_per_s"]:
                lines.setdefault(name, []).append((at["rows"], held["queries_per_s"]))
    return drawn.draw([Series(name, line, name in OURS) for name, line in lines.items()])


def main() -> None:
    """One size after the other."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--engines", nargs="+", default=["balsadb", "hnswlib"], choices=ENGINES)
    parser.add_argument("--threads", type=int, nargs="+", default=[2], help="of timed builds")
    parser.add_argument("--rounds", type=int, default=5)
    given = report.arguments(parser)
    result = {
        "machine": report.machine(),
        "recall": RECALL,
        "sizes": [measure(rows, given) for rows in given.rows],
    }
    report.write(result, given.out, plot(result))


if __name__ == "__main__":
    main()

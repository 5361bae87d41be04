"""What 100 generations of deleting 2 % and inserting 2 % leave of an index.

    python bench/churn.py [films|blobs<N>] [--generations 100] [--share 0.02]

Half of the vectors are stored; each generation swaps some for the longest deleted of the others.
Then recall@10 at equal ef, rows that no path leads to, and the cost of queries, against an index
built afresh from what is left, in turns; and hnswlib, with `replace_deleted`, through the same.

The same edits go through a second set of columns as well, which must end equal to the byte.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import balsadb
from balsadb.columns import ColumnSet
from balsadb.index import VectorIndex, compile_all
from balsadb.index.check import unreachable
from balsadb.index.layout import LINKED
from bench.suite import datasets, report
from bench.suite.datasets import Dataset, Ids, K, Vectors
from bench.suite.engines import Shape, finish
from bench.suite.measure import recall
from bench.suite.plots import Plot, Series

EFS = (16, 32, 64, 128)
LINK_ROWS = 1_024
MORE_QUERIES = 6_000


class Turnover:
    """Which vectors are stored: `live`, ids; and the `swap` of each generation."""

    def __init__(self, rows: int, share: float) -> None:
        """The first half is stored at first."""
        self.live = np.arange(rows // 2)
        self._out = deque(range(rows // 2, rows))
        self._count = max(1, round(share * len(self.live)))
        self._random = np.random.default_rng(7)

    def new(self, number: int) -> Ids:
        """At most so many of the vectors that are not stored, the longest deleted first."""
        return np.array(list(self._out)[:number])

    def swap(self) -> tuple[Ids, Ids]:
        """Ids to delete and ids to insert; `live` is what is stored after it."""
        gone = self._random.permutation(len(self.live))[: self._count]
        old = self.live[gone]
        new = np.array([self._out.popleft() for _ in range(self._count)])
        self._out.extend(old.tolist())
        self.live = np.concatenate((np.delete(self.live, gone), new))
        return old, new


class Balsa:
    """`balsadb.Index` under churn."""

    name = "balsadb"

    def __init__(self, shape: Shape, vectors: Vectors, ids: Ids) -> None:
        """Built from some of the vectors."""
        self.index = balsadb.Index(
            shape.dim, shape.metric, m=shape.m, ef_construct=shape.ef_construct
        )
        self.index.add(vectors[ids], ids=ids)
        finish(self.index)

    def swap(self, vectors: Vectors, old: Ids, new: Ids) -> None:
        """One generation."""
        self.index.delete(old)
        self.index.add(vectors[new], ids=new)

    def settle(self) -> None:
        """What a node does when it is idle: link the rest, repair."""
        finish(self.index)

    def search(self, queries: Vectors, ef: int) -> Ids:
        """Ids, (q, K)."""
        return self.index.search(queries, K, ef=ef)[0]

    def lost(self) -> int | None:
        """Live rows that no path from the entry leads to."""
        held = self.index._index._columns  # noqa: SLF001  no public way to count them
        return int((held.state.used[unreachable(held)] == LINKED).sum())


class Hnswlib:
    """hnswlib with `replace_deleted`: an insertion takes the place of a deleted element."""

    name = "hnswlib"

    def __init__(self, shape: Shape, vectors: Vectors, ids: Ids) -> None:
        """ImportError if it is not installed."""
        import hnswlib

        space = "l2" if shape.euclid else "ip"
        self.index = hnswlib.Index(space=space, dim=shape.dim)
        self.index.init_index(
            max_elements=len(ids),
            M=shape.m,
            ef_construction=shape.ef_construct,
            random_seed=1,
            allow_replace_deleted=True,
        )
        self.index.add_items(vectors[ids], ids)

    def swap(self, vectors: Vectors, old: Ids, new: Ids) -> None:
        """One generation."""
        for number in old.tolist():
            self.index.mark_deleted(number)
        self.index.add_items(vectors[new], new, replace_deleted=True)

    def settle(self) -> None:
        """It repairs as it inserts."""

    def search(self, queries: Vectors, ef: int) -> Ids:
        """Ids, (q, K)."""
        self.index.set_ef(ef)
        return self.index.knn_query(queries, K, num_threads=1)[0]

    def lost(self) -> int | None:
        """It does not tell."""
        return None


def exact(dataset: Dataset, vectors: Vectors, live: Ids) -> Ids:
    """The true neighbours among the stored ones."""
    return live[datasets.nearest(vectors[live], dataset.queries, K, dataset.metric)]


def churned(
    kind: type[Balsa | Hnswlib], dataset: Dataset, given: Namespace
) -> tuple[Balsa | Hnswlib, Turnover, dict[str, Any]]:
    """An engine after all generations, what is stored, and how it went on the way."""
    vectors, shape = dataset.base, Shape(dataset.dim, dataset.metric)
    turnover = Turnover(len(vectors), given.share)
    began = perf_counter()
    engine = kind(shape, vectors, turnover.live)
    went: dict[str, Any] = {"build_s": perf_counter() - began, "generations": []}
    swaps: list[float] = []
    settles: list[float] = []
    for generation in range(given.generations + 1):
        if generation:
            old, new = turnover.swap()
            began = perf_counter()
            engine.swap(vectors, old, new)
            swaps.append(perf_counter() - began)
            engine.settle()
            settles.append(perf_counter() - began - swaps[-1])
        if generation % given.every and generation != given.generations:
            continue
        truth = exact(dataset, vectors, turnover.live)
        reached = {str(ef): recall(engine.search(dataset.queries, ef), truth) for ef in EFS}
        went["generations"].append(
            {"generation": generation, "recall": reached, "unreachable": engine.lost()}
        )
        report.say(f"{engine.name}, generation {generation}: {reached}, lost {engine.lost()}")
    for name, times in (("swap_s", swaps), ("settle_s", settles)):
        went[name] = {"median": median(times), "most": max(times), "sum": sum(times)}
    return engine, turnover, went


def against_fresh(
    kind: type[Balsa | Hnswlib], dataset: Dataset, given: Namespace
) -> dict[str, Any]:
    """The churned index, and one built of the same content, in turns."""
    engine, turnover, went = churned(kind, dataset, given)
    vectors, shape = dataset.base, Shape(dataset.dim, dataset.metric)
    began = perf_counter()
    fresh = kind(shape, vectors, np.sort(turnover.live))
    went["fresh_build_s"] = perf_counter() - began
    # A thousand queries leave an error of half a point; what is not stored is as good as new.
    queries = np.concatenate((dataset.queries, vectors[turnover.new(MORE_QUERIES)]))
    live = turnover.live
    truth = live[datasets.nearest(vectors[live], queries, K, dataset.metric)]
    went["against_fresh"] = [
        {"ef": ef, **turns(engine, fresh, queries, ef, given.rounds)} for ef in EFS
    ]
    for point in went["against_fresh"]:
        point["recall"] = recall(engine.search(queries, point["ef"]), truth)
        point["fresh_recall"] = recall(fresh.search(queries, point["ef"]), truth)
    went["fresh_unreachable"] = fresh.lost()
    return went


def turns(
    old: Balsa | Hnswlib, new: Balsa | Hnswlib, queries: Vectors, ef: int, rounds: int
) -> dict[str, float]:
    """Microseconds a query of both, and the median of their ratios."""
    taken: dict[str, list[float]] = {"churned": [], "fresh": []}
    for turn in range(rounds):
        pair = [("churned", old), ("fresh", new)]
        for name, engine in pair if turn % 2 == 0 else reversed(pair):
            began = perf_counter()
            engine.search(queries, ef)
            taken[name].append((perf_counter() - began) / len(queries) * 1e6)
    ratios = [a / b for a, b in zip(taken["churned"], taken["fresh"], strict=True)]
    return {
        "churned_us": median(taken["churned"]),
        "fresh_us": median(taken["fresh"]),
        "cost_ratio": median(ratios),
    }


class Replica:
    """A `VectorIndex` over its own columns, as every node of a cluster holds one."""

    def __init__(self, dataset: Dataset, shape: Shape) -> None:
        """Empty, with the options of a `balsadb.Index`."""
        like = balsadb.Index(
            dataset.dim, dataset.metric, m=shape.m, ef_construct=shape.ef_construct
        )
        options = like._index.options  # noqa: SLF001  whatever its defaults are
        self.columns = ColumnSet()
        self.index = VectorIndex(self.columns, "bench", options)
        self._row_of: dict[int, int] = {}

    def write(self, vectors: Vectors, old: Ids, new: Ids) -> None:
        """What the log says of points: `old` are gone, `new` are there (slot = id)."""
        rows = [self._row_of.pop(number) for number in old.tolist()]
        self.index.tombstone(np.array(rows, np.uint32))
        taken = self.index.add(new.astype(np.uint32), vectors[new])
        self._row_of.update(zip(new.tolist(), taken.tolist(), strict=True))


def replayed(dataset: Dataset, given: Namespace) -> dict[str, Any]:
    """The leader plans and applies, the follower only applies; are their columns equal?"""
    shape, nobody = Shape(dataset.dim, dataset.metric), np.zeros(0, np.int64)
    leader, follower = Replica(dataset, shape), Replica(dataset, shape)
    turnover = Turnover(len(dataset.base), given.share)
    swaps = [(nobody, turnover.live.copy())]
    swaps += [turnover.swap() for _ in range(given.generations)]
    edits, size, ignored = 0, 0, 0
    for old, new in swaps:
        for replica in (leader, follower):
            replica.write(dataset.base, old, new)
        while (edit := leader.index.plan(LINK_ROWS)) is not None:
            leader.index.apply(edit)
            ignored += not follower.index.apply(edit)
            edits, size = edits + 1, size + len(edit)
    mine, theirs = leader.columns.digests(), follower.columns.digests()
    different = sorted(name for name in mine if mine[name] != theirs.get(name))
    report.say(f"replay: {edits} edits, {size:,} bytes, columns that differ: {different}")
    return {
        "edits": edits,
        "edit_bytes": size,
        "ignored": ignored,
        "columns": len(mine),
        "different": different,
        "equal": not different and len(mine) == len(theirs),
    }


def plot(result: Mapping[str, Any]) -> str:
    """Recall by generation, a line for each engine and ef."""
    title = f"{result['dataset']['name']} under churn"
    series: list[Series] = []
    for name, held in result["engines"].items():
        for ef in map(str, EFS):
            points = [(at["generation"], at["recall"][ef]) for at in held["generations"]]
            series.append(Series(f"{name}, ef {ef}", points, name == "balsadb"))
    worst = min(recall for one in series for _, recall in one.points)
    return Plot(title, "generation", "recall@10", y_low=worst - 0.02).draw(series)


def engines_of(names: Sequence[str]) -> list[type[Balsa | Hnswlib]]:
    """Those that can be imported."""
    from importlib.util import find_spec

    kinds = [kind for kind in (Balsa, Hnswlib) if kind.name in names]
    return [kind for kind in kinds if find_spec(kind.name) is not None]


def main() -> None:
    """Churn, compare, replay."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("dataset", nargs="?", default="films")
    parser.add_argument("--generations", type=int, default=100)
    parser.add_argument("--share", type=float, default=0.02)
    parser.add_argument("--every", type=int, default=10, help="generations between two looks")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--engines", nargs="+", default=["balsadb", "hnswlib"])
    given = report.arguments(parser)
    compile_all()
    try:
        dataset = datasets.load(given.dataset, cache=given.cache, data=given.data)
    except datasets.MissingData as reason:
        report.say(f"skipped: {reason}")
        return
    result = {
        "machine": report.machine(),
        "dataset": {"name": dataset.name, "rows": len(dataset.base) // 2, "dim": dataset.dim},
        "generations": given.generations,
        "share": given.share,
        "engines": {
            kind.name: against_fresh(kind, dataset, given) for kind in engines_of(given.engines)
        },
        "replay": replayed(dataset, given),
    }
    report.write(result, given.out, plot(result))


if __name__ == "__main__":
    main()

"""Queries a second over recall@10, and build time, against the other engines; one thread.

    python bench/ann.py [films|films384|blobs100k|blobs1m] [--engines balsadb hnswlib ...]
    python bench/ann.py blobs100k --build        # builds only, taking turns, on 1 and 2 threads

Engines that are not installed are left out (`make bench-peers` installs them all). Equal links and
care for all. Graphs are built once and kept; the rates of one run come from one process, in turns.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.suite import datasets, report
from bench.suite.cache import Opened, open_engine, timed_build
from bench.suite.datasets import Dataset
from bench.suite.engines import Balsa, Engine, Hnswlib, Missing, Shape
from bench.suite.measure import TARGETS, Point, curves, rate_at
from bench.suite.peers import ENGINES, OURS
from bench.suite.plots import Plot, Series

REFERENCE = Hnswlib.name
RACED_BUILDS = (Balsa.name, Hnswlib.name)


def usable(names: Sequence[str], shape: Shape) -> list[type[Engine]]:
    """The engines of these names that can run here."""
    found: list[type[Engine]] = []
    for name in names:
        try:
            ENGINES[name](shape)
        except Missing as reason:
            report.say(f"without {name}: {reason}")
        else:
            found.append(ENGINES[name])
    return found


def rates(curve: Sequence[Point]) -> dict[str, float | None]:
    """Queries a second at the recalls that engines are compared at."""
    return {f"{target:.2f}": rate_at(curve, target) for target in TARGETS}


def ratios(engines: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Ours over hnswlib and over the best peer, by engine of ours and recall."""
    peers = {name: held["at"] for name, held in engines.items() if name not in OURS}
    found: dict[str, dict[str, Any]] = {}
    for name in (name for name in OURS if name in engines):
        found[name] = {}
        for recall, rate in engines[name]["at"].items():
            best = max(peers, key=lambda peer, at=recall: peers[peer][at] or 0.0, default=None)
            top = peers[best][recall] if best else None
            base = peers[REFERENCE][recall] if REFERENCE in peers else None
            found[name][recall] = {
                "over_hnswlib": rate / base if rate and base else None,
                "over_best": rate / top if rate and top else None,
                "best": best if top else None,
            }
    return found


def compare(dataset: Dataset, given: Namespace) -> dict[str, Any]:
    """The curves of all engines."""
    shape = Shape(dataset.dim, dataset.metric, given.m, given.ef_construct)
    kinds = usable(given.engines, shape)
    opened = {kind.name: open_engine(kind, dataset, shape, given.threads) for kind in kinds}
    measured = curves([held.engine for held in opened.values()], dataset, given.rounds)
    engines = {name: described(opened[name], measured[name]) for name in opened}
    return {
        "machine": report.machine(),
        "dataset": {
            "name": dataset.name,
            "rows": len(dataset.base),
            "dim": dataset.dim,
            "metric": dataset.metric,
            "queries": len(dataset.queries),
            "k": datasets.K,
        },
        "rounds": given.rounds,
        "engines": engines,
        "ratios": ratios(engines),
    }


def described(opened: Opened, curve: Sequence[Point]) -> dict[str, Any]:
    """One engine of the result."""
    built = opened.built
    return {
        "version": built.version,
        "params": built.params,
        "quantized": opened.engine.quantized,
        "build_s": built.build_s,
        "file_bytes": built.bytes,
        "at": rates(curve),
        "curve": curve,
    }


def race_builds(dataset: Dataset, given: Namespace) -> dict[str, Any]:
    """Seconds to build, in turns; medians of the rounds, and ours over hnswlib."""
    shape = Shape(dataset.dim, dataset.metric, given.m, given.ef_construct)
    kinds = usable([name for name in given.engines if name in RACED_BUILDS], shape)
    taken: dict[str, dict[str, list[float]]] = {kind.name: {} for kind in kinds}
    for turn in range(given.rounds):
        for threads in given.threads:
            for kind in kinds if turn % 2 == 0 else reversed(kinds):
                seconds = timed_build(kind(shape), dataset, threads)
                report.say(f"{kind.name}, {threads} threads: {seconds:.1f} s")
                taken[kind.name].setdefault(str(threads), []).append(seconds)
    medians = {
        name: {threads: median(times) for threads, times in held.items()}
        for name, held in taken.items()
    }
    mine, theirs = medians.get(Balsa.name, {}), medians.get(REFERENCE, {})
    return {
        "machine": report.machine(),
        "dataset": {"name": dataset.name, "rows": len(dataset.base), "dim": dataset.dim},
        "rounds": given.rounds,
        "build_s": medians,
        "all_s": taken,
        "over_hnswlib": {at: theirs[at] / mine[at] for at in mine if at in theirs},
    }


def plot(result: Mapping[str, Any]) -> str:
    """Rate over recall."""
    dataset = result["dataset"]
    drawn = Plot(
        f"{dataset['name']}: {dataset['rows']:,} x {dataset['dim']}, one thread",
        "recall@10",
        "queries a second",
        x_kind="recall",
        y_kind="log",
        x_range=(0.8, 0.998),
    )
    series = [
        Series(name, [(at.recall, at.queries_per_s) for at in held["curve"]], name in OURS)
        for name, held in result["engines"].items()
    ]
    return drawn.draw(series)


def show(result: Mapping[str, Any]) -> None:
    """The table, for reading along."""
    report.say(f"{'':18}{'build s':>12}" + "".join(f"{target:>10.2f}" for target in TARGETS))
    for name, held in result["engines"].items():
        build = "/".join(f"{seconds:.1f}" for seconds in held["build_s"].values())
        cells = [f"{rate:,.0f}" if rate else "-" for rate in held["at"].values()]
        report.say(f"{name:18}{build:>12}" + "".join(f"{cell:>10}" for cell in cells))
    for name, held in result["ratios"].items():
        for recall, ratio in held.items():
            over = [ratio["over_hnswlib"], ratio["over_best"]]
            words = ["-" if value is None else f"{value:.2f}" for value in over]
            report.say(
                f"{name} at {recall}: {words[0]} x hnswlib, {words[1]} x best ({ratio['best']})"
            )


def main() -> None:
    """Compare, or race builds."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("dataset", nargs="?", default="films")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--build", action="store_true", help="race builds of balsadb and hnswlib")
    parser.add_argument("--rounds", type=int, default=0, help="default 5; 3 for builds")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="builds are timed on"
    )
    parser.add_argument("--m", type=int, default=16)
    parser.add_argument("--ef-construct", type=int, default=200)
    given = report.arguments(parser)
    given.rounds = given.rounds or (3 if given.build else 5)
    try:
        dataset = datasets.load(given.dataset, cache=given.cache, data=given.data)
    except datasets.MissingData as reason:
        report.say(f"skipped: {reason}")
        return
    if given.build:
        report.write(race_builds(dataset, given), given.out)
        return
    result = compare(dataset, given)
    show(result)
    report.write(result, given.out, plot(result))


if __name__ == "__main__":
    main()

"""Recall and queries a second of several engines, side by side.

Only what was measured in one run may be compared: the machine's speed changes from minute to
minute. So engines take turns, round by round, each at an ef of about the same recall.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import exp, log
from statistics import median
from time import perf_counter

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.suite.datasets import Dataset, Ids, K
from bench.suite.engines import Engine
from bench.suite.report import say

TARGETS = (0.90, 0.95, 0.99)
"""Recalls at which engines are compared."""
LADDER = (0.80, 0.90, 0.95, 0.98, 0.99, 0.995)
"""Recalls that points of a curve are looked for at."""
STEP = 2**0.5
EF_LAST = 1_000
GAIN_LEAST = 0.0005
"""Less recall than this from a step of ef, twice, and the curve has reached its ceiling."""
CEILING_EF = 64
"""But not below this: a peer that re-scores 2 k walks with no beam narrower than that."""


class Point(msgspec.Struct):
    """One ef of one engine; the rate is the median of the rounds, single thread."""

    ef: int
    recall: float
    queries_per_s: float
    slowest_per_s: float
    fastest_per_s: float


def recall(found: Ids, exact: Ids) -> float:
    """The share of the true neighbours that were found."""
    pairs = zip(np.asarray(found).astype(np.int64), exact, strict=True)
    return sum(len(np.intersect1d(mine, best)) for mine, best in pairs) / exact.size


def grid(engine: Engine, dataset: Dataset) -> list[int]:
    """The efs worth timing: about one for each recall of the ladder, ascending."""
    probed: dict[int, float] = {}

    def probe(ef: int) -> float:
        if ef not in probed:
            found = engine.search(dataset.queries, K, ef)
            probed[ef] = recall(found, dataset.exact)
        return probed[ef]

    ef, before, flat = float(K), -1.0, 0
    while ef <= EF_LAST and flat < 2:
        now = probe(round(ef))
        if now >= LADDER[-1]:
            break
        flat = flat + 1 if ef > CEILING_EF and now - before < GAIN_LEAST else 0
        before, ef = now, ef * STEP
    wanted = {min(probed), max(probed)}
    for target in LADDER:
        wanted |= _around(target, probed)
    return sorted(wanted)


def _around(target: float, probed: Mapping[int, float]) -> set[int]:
    """The ef that reaches `target`, as far as the probes around it tell."""
    for (low, less), (high, more) in pairwise(sorted(probed.items())):
        if less < target <= more:
            share = (target - less) / (more - less)
            return {round(exp(log(low) + share * (log(high) - log(low))))}
    return set()


def curves(engines: Sequence[Engine], dataset: Dataset, rounds: int) -> dict[str, list[Point]]:
    """A curve for each engine: at each place of its grid in turn, `rounds` rounds of all."""
    grids: dict[str, list[int]] = {}
    for engine in engines:
        grids[engine.name] = grid(engine, dataset)
        say(f"{engine.name}: ef {', '.join(map(str, grids[engine.name]))}")
    points: dict[str, list[Point]] = {engine.name: [] for engine in engines}
    for place in range(max(map(len, grids.values()))):
        racing = [engine for engine in engines if place < len(grids[engine.name])]
        efs = {engine.name: grids[engine.name][place] for engine in racing}
        for name, point in race(racing, efs, dataset, rounds).items():
            points[name].append(point)
        say(f"timed point {place + 1} of each curve")
    return points


def race(
    engines: Sequence[Engine], efs: Mapping[str, int], dataset: Dataset, rounds: int
) -> dict[str, Point]:
    """One point of each engine. Who begins changes from round to round."""
    times: dict[str, list[float]] = {engine.name: [] for engine in engines}
    found: dict[str, NDArray[np.int64]] = {}
    for turn in range(rounds):
        first = turn % len(engines)
        for engine in (*engines[first:], *engines[:first]):
            answer = engine.prepare(dataset.queries, K, efs[engine.name])
            began = perf_counter()
            found[engine.name] = answer()
            times[engine.name].append(perf_counter() - began)
    count = len(dataset.queries)
    return {
        name: Point(
            efs[name],
            recall(found[name], dataset.exact),
            count / median(taken),
            count / max(taken),
            count / min(taken),
        )
        for name, taken in times.items()
    }


def rate_at(points: Sequence[Point], target: float) -> float | None:
    """Queries a second at a recall, between the points around it (log of the rate, linear in
    recall). The fastest point if all have more; None if none reaches it."""
    ordered = sorted(points, key=lambda point: point.ef)
    if not ordered or max(point.recall for point in ordered) < target:
        return None
    if ordered[0].recall >= target:
        return ordered[0].queries_per_s
    for less, more in pairwise(ordered):
        if less.recall < target <= more.recall:
            share = (target - less.recall) / (more.recall - less.recall)
            low, high = log(less.queries_per_s), log(more.queries_per_s)
            return exp(low + share * (high - low))
    return None

"""The walk over matching rows against a twin in plain Python, and filters against the scan."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from balsadb.columns import ColumnSet
from balsadb.index import IndexOptions, Metric, VectorIndex, prepare_vector
from balsadb.index.distance_kernels import aim, distance_bits, key_row, list_key
from balsadb.index.flat import distances
from balsadb.index.layout import LINKED, LINKED_DEAD
from balsadb.index.search_kernels import Request, gather
from balsadb.index.walk_kernels import ENOUGH, HITS, STEPS, pack_mask, walk_two_hop

QUICK = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@njit(_nrt=False)
def two_hop(graph, scratch, how, request, slots, query, entries, matching, rows):
    """`entries`: rows, nearest first."""
    target = aim(graph, how, scratch, query)
    opened = entries.shape[0]
    for at in range(opened):
        scratch.fresh[at] = entries[at]
    distance_bits(graph, how, target, scratch.fresh, opened, scratch.bits)
    for at in range(opened):
        scratch.pool[at] = list_key(scratch.bits[at], entries[at])
    pack_mask(slots, request.masked, scratch.packed)
    kept = walk_two_hop(graph, scratch, how, target, slots, request, opened, matching)
    for at in range(kept):
        rows[at] = key_row(scratch.results[at])
    return kept


@njit(_nrt=False)
def listed(graph, scratch, request, slots):
    return pack_mask(slots, 1, scratch.packed), gather(graph, scratch, slots, request)


def build(vectors: np.ndarray, metric: Metric = Metric.EUCLID, **options) -> VectorIndex:
    defaults = {"m": 4, "ef_construct": 16, "rows_max": 4_096, "graph_rows_min": 1}
    fixed = IndexOptions(vectors.shape[1], metric, **(defaults | options))
    index = VectorIndex(ColumnSet(), "v", fixed)
    index.add(np.arange(len(vectors), dtype=np.uint32), vectors)
    while (edit := index.plan(256)) is not None:
        assert index.apply(edit)
    return index


def request_of(index: VectorIndex, ef: int) -> Request:
    return Request(k=1, ef=ef, scored=17, n=index.rows, tail=0, masked=1, exact=0, straight=0)


class Twin:
    """`walk_two_hop` in plain Python."""

    def __init__(self, index: VectorIndex, query: np.ndarray, mask: np.ndarray) -> None:
        held = index._columns
        self.links, self.n = held.links0.data, index.rows
        found = distances(Metric.EUCLID, query, held.vectors.used)
        self.near = [(float(distance), row) for row, distance in enumerate(found)]
        self.passing = set(np.flatnonzero(mask).tolist())  # slots are rows here
        self.good = {row for row in self.passing if held.state.data[row] == LINKED}
        self.matching, self.hits, self.tests = int(mask.sum()), 0, 0
        self.seen: set[int] = set()

    def list_of(self, row: int) -> list[int]:
        """The neighbours of a row."""
        return self.links[row, 1 : self.links[row, 0] + 1].tolist()

    def expand(self, row: int) -> tuple[list[int], int]:
        """Matching rows around a row, and how many lists that took."""
        new = [other for other in self.list_of(row) if other not in self.seen]
        self.seen.update(new)
        found = [other for other in new if other in self.good]
        passed = [other for other in new if other not in self.good]
        hits, tested, read = len(found), len(new), 0
        while read < min(len(passed), STEPS) and len(found) < ENOUGH:
            near = self.list_of(passed[read])
            read, tested = read + 1, tested + len(near)
            hits += len(self.passing.intersection(near))
            more = [other for other in near if other in self.good and other not in self.seen]
            found += more
            self.seen.update(more)
        if self.tests * self.matching < HITS * self.n:
            self.hits, self.tests = self.hits + hits, self.tests + tested
        return found, read

    @property
    def rare(self) -> bool:
        return 3 * self.hits * self.n < 2 * self.tests * self.matching

    def walk(self, ef: int, entries: list[int]) -> list[int] | None:
        """Rows in order, or None where the scan should decide."""
        self.seen, expanded, cost = set(entries), set[int](), 0
        results = sorted(self.near[row] for row in entries if row in self.good)[:ef]
        others = [row for row in entries if row not in self.good]
        while True:
            if others:
                row = others.pop(0)
            else:
                waiting = [one for _, one in results if one not in expanded]
                if not waiting or 2 * cost > self.matching:
                    break
                row = waiting[0]
                expanded.add(row)
            few = self.tests * self.matching < HITS * self.n
            found, read = self.expand(row)
            if few and self.tests * self.matching >= HITS * self.n and self.rare:
                return None
            cost += len(found) + read
            results = sorted([*results, *(self.near[other] for other in found)])[:ef]
        return None if waiting or len(results) < ef or self.rare else [one for _, one in results]


def wider(ef: int, linked: int, matching: int) -> int:
    """By how much the beam is wider: a quarter, up to half as much again where few match."""
    return int(np.clip(ef * linked // (18 * max(1, matching)), ef // 4, 3 * ef // 2))


@QUICK
@given(st.integers(2, 12), st.integers(20, 400), st.integers(1, 12), st.floats(0.05, 0.6), seeds)
def test_the_walk_over_matches_equals_its_twin(dim, count, ef, share, seed):
    rng = np.random.default_rng(seed)
    vectors = prepare_vector(Metric.EUCLID, rng.normal(size=(count, dim)).round(1))
    index = build(vectors)
    index.tombstone(rng.integers(0, count, count // 10).astype(np.uint32))
    mask = rng.random(count) < share
    query = prepare_vector(Metric.EUCLID, rng.normal(size=dim))
    twin = Twin(index, query, mask)
    drawn = rng.choice(count, int(rng.integers(1, 17)), replace=False).tolist()
    entries = [row for _, row in sorted(twin.near[row] for row in drawn)]
    scratch = index._scratches.take(index.rows)
    rows = np.zeros(64, np.int64)
    kept = two_hop(
        index._graph,
        scratch,
        index.measure,
        request_of(index, ef),
        mask,
        query,
        np.array(entries, np.uint32),
        int(mask.sum()),
        rows,
    )
    linked = int(np.isin(index._columns.state.used, (LINKED, LINKED_DEAD)).sum())
    expected = twin.walk(ef + wider(ef, linked, int(mask.sum())), entries)
    assert (kept < 0) == (expected is None)
    if expected is not None:
        assert rows[:kept].tolist() == expected


@QUICK
@given(st.integers(1, 700), st.floats(0, 1), seeds)
def test_masks_are_counted_and_listed_as_numpy_does(count, share, seed):
    rng = np.random.default_rng(seed)
    index = build(rng.normal(size=(count, 3)).astype(np.float32), graph_rows_min=10_000)
    index.tombstone(rng.integers(0, count, count // 5).astype(np.uint32))
    mask = rng.random(int(rng.integers(1, count + 40))) < share
    scratch = index._scratches.take(index.rows)
    total, number = listed(index._graph, scratch, request_of(index, 8), mask)
    assert total == mask.sum()
    live = np.isin(index._columns.state.used, (1, LINKED))
    expected = np.flatnonzero(live[: len(mask)] & mask[: len(live)])
    assert scratch.matches[:number].tolist() == expected.tolist()


@cache
def clusters() -> tuple[np.ndarray, VectorIndex]:
    rng = np.random.default_rng(5)
    centres = rng.random((60, 24))[rng.integers(0, 60, 12_000)] * 8
    vectors = (centres + rng.normal(size=centres.shape)).astype(np.float32)
    return vectors, build(vectors, m=16, ef_construct=64, rows_max=16_384)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("kind", ["random", "near", "far"])
def test_filters_of_every_kind_find_what_the_scan_finds(kind, share):
    rng = np.random.default_rng(5)
    vectors, index = clusters()
    hits = 0
    for number in range(25):
        query = (vectors[number] + rng.normal(size=24) * 0.3).astype(np.float32)
        order = np.argsort(((vectors - query) ** 2).sum(1))
        order = {"random": rng.permutation(order), "near": order, "far": order[::-1]}[kind]
        mask = np.zeros(len(vectors), np.bool_)
        mask[order[: int(share * len(order))]] = True
        found, _ = index.search(query, 10, ef=64, slots=mask)
        truth, _ = index.search(query, 10, ef=64, slots=mask, exact=True)
        assert len(found) == 10
        assert mask[found].all()
        hits += len(np.intersect1d(found, truth))
    assert hits / 250 >= 0.95


@cache
def spread(metric: Metric) -> tuple[np.ndarray, VectorIndex]:
    """No clusters; under Dot, lengths that differ widely."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((12_000, 32))
    if metric is Metric.DOT:
        vectors *= np.exp(rng.standard_normal((len(vectors), 1)))
    vectors = vectors.astype(np.float32)
    return vectors, build(vectors, metric, m=16, ef_construct=64, rows_max=16_384)


@pytest.mark.parametrize("metric", [Metric.DOT, Metric.EUCLID])
@pytest.mark.parametrize("kind", ["far", "not the nearest"])
@pytest.mark.parametrize("ef", [10, 16])
def test_a_narrow_beam_sees_that_a_filter_goes_against_the_query(ef, kind, metric):
    """Though the lists that it reads hold as many matches as any."""
    rng = np.random.default_rng(6)
    vectors, index = spread(metric)
    hits = 0
    for query in rng.standard_normal((20, 32)).astype(np.float32):
        order = np.argsort(distances(metric, query, vectors))[::-1]
        if kind != "far":
            order = rng.permutation(order[: -len(order) // 100])
        mask = np.zeros(len(vectors), np.bool_)
        mask[order[: 3 * len(order) // 10]] = True
        found, _ = index.search(query, 10, ef=ef, slots=mask)
        truth, _ = index.search(query, 10, slots=mask, exact=True)
        hits += len(np.intersect1d(found, truth))
    assert hits / 200 >= 0.95

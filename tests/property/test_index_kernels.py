"""Every kernel against a twin in plain Python and NumPy, on many shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from numba import njit

from balsadb.columns import ColumnSet
from balsadb.index import IndexOptions, Metric, VectorIndex, prepare_vector
from balsadb.index import distance_kernels as k
from balsadb.index.check import unreachable
from balsadb.index.edit import decode
from balsadb.index.edit_kernels import ListChanges, change_lists
from balsadb.index.flat import distances, nearest
from balsadb.index.layout import LINKED, draw_layers, mix64
from balsadb.index.metrics import scores_of
from balsadb.index.plan_kernels import BEAM, BEAM_LEAST, Batch
from balsadb.index.planner import group_links
from balsadb.index.repair_kernels import LEAVES, NOWHERE, find_naming, spread
from tests.property.walk_twin import twin_walk

QUICK = settings(max_examples=40, deadline=None)
metrics = st.sampled_from(list(Metric))
seeds = st.integers(0, 2**32 - 1)


def build(metric: Metric, vectors: np.ndarray, batch: int, **options) -> VectorIndex:
    defaults = {"m": 4, "ef_construct": 16, "rows_max": 2_048, "graph_rows_min": 1}
    fixed = IndexOptions(vectors.shape[1], metric, **(defaults | options))
    index = VectorIndex(ColumnSet(), "v", fixed)
    index.add(np.arange(len(vectors), dtype=np.uint32), vectors)
    while (edit := index.plan(batch)) is not None:
        assert index.apply(edit)
    return index


# ------------------------------------------------------------------ distances and scores


@QUICK
@given(metrics, st.integers(1, 300), seeds, st.sampled_from([1e-20, 1.0, 1e15, 1e30]))
def test_distances_equal_their_twin_bit_for_bit(metric, dim, seed, scale):
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(9, dim)) * scale).astype(np.float32)
    vectors[rng.random(vectors.shape) < 0.1] = 0
    options = IndexOptions(dim, metric, rows_max=16, graph_rows_min=100)
    index = VectorIndex(ColumnSet(), "v", options)
    index.add(np.arange(9, dtype=np.uint32), vectors)
    query = (rng.normal(size=dim)).astype(np.float32)
    rows, scores = index.search(query, 9, ef=9)
    found = np.empty(9, np.float32)
    found[rows] = scores
    expected = scores_of(metric, distances(metric, query, vectors))
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dim", [1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 300])
def test_distances_at_the_edges_of_the_lanes(dim):
    rng = np.random.default_rng(dim)
    vectors = rng.normal(size=(40, dim)).astype(np.float32)
    for metric in Metric:
        index = build(metric, vectors, 40)
        rows, scores = index.search(vectors[7], 40, ef=40, exact=True)
        row, near = nearest(metric, vectors[7], vectors, np.arange(40, dtype=np.uint32), 40)
        assert rows.tolist() == row.tolist()
        assert scores.tobytes() == scores_of(metric, near).tobytes()


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=3), seeds)
@settings(max_examples=60, deadline=None)
def test_keys_order_as_distance_then_row_and_give_both_back(values, seed):
    @njit
    def roundtrip(values, rows, keys, back, rows_back):
        for at in range(len(values)):
            keys[at] = k.make_key(values[at], rows[at])
            back[at] = k.key_distance(keys[at])
            rows_back[at] = k.key_row(keys[at])

    roundtrip = KEYS.setdefault("keys", roundtrip)
    rng = np.random.default_rng(seed)
    both = np.array([*values, *values, 0.0, np.inf, -np.inf], np.float32) + np.float32(0)
    rows = rng.permutation(2**31 - 1 - np.arange(len(both))).astype(np.int64)
    keys, back = np.zeros(len(both), np.uint64), np.zeros(len(both), np.float32)
    rows_back = np.zeros(len(both), np.int64)
    roundtrip(both, rows, keys, back, rows_back)
    assert np.array_equal(back, both)
    assert np.array_equal(rows_back, rows)
    assert np.argsort(keys).tolist() == np.lexsort((rows, both)).tolist()


KEYS: dict = {}


@given(st.lists(st.integers(0, 60), max_size=90), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_insert_keeps_the_smallest_in_order(values, capacity):
    @njit
    def fill(values, pool, capacity, positions):
        count = 0
        for at in range(len(values)):
            count, positions[at] = k.insert(pool, count, capacity, values[at])
        return count

    fill = KEYS.setdefault("insert", fill)
    keys = np.array([value * 64 + at for at, value in enumerate(values)], np.uint64)
    pool, positions = np.zeros(41, np.uint64), np.zeros(len(keys), np.int64)
    count = fill(keys, pool, capacity, positions)
    assert pool[:count].tolist() == sorted(keys.tolist())[:capacity]
    kept: list[int] = []
    for key, position in zip(keys.tolist(), positions.tolist(), strict=True):
        kept = sorted([*kept, key])[:capacity]
        assert position == (kept.index(key) if key in kept else capacity)


def test_visited_marks_survive_the_wrap_of_the_epoch():
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    index = build(Metric.EUCLID, vectors, 64)
    expected = index.search(vectors[3], 10, ef=32)[0].tolist()
    scratch = index._scratches._idle[0]
    scratch.counters[k.EPOCH] = k.EPOCH_MAX - 2
    for _ in range(6):
        assert index.search(vectors[3], 10, ef=32)[0].tolist() == expected
    assert 0 < scratch.counters[k.EPOCH] < k.EPOCH_MAX // 2
    assert scratch.visited.max() <= scratch.counters[k.EPOCH]


# ------------------------------------------------------------------ the walk


def twin_search(index: VectorIndex, metric: Metric, query: np.ndarray, ef: int) -> list[int]:
    """The rows that a walk by exact distances finds."""
    far = distances(metric, query, index._columns.vectors.used).tolist()
    return [row for _, row in twin_walk(index, [(d, row) for row, d in enumerate(far)], ef)]


@QUICK
@given(metrics, st.integers(1, 40), st.integers(2, 300), st.integers(1, 40), seeds)
def test_the_walk_equals_its_twin(metric, dim, count, ef, seed):
    rng = np.random.default_rng(seed)
    vectors = prepare_vector(metric, rng.normal(size=(count, dim)).round(1))
    index = build(metric, vectors, int(rng.integers(1, count + 1)))
    query = prepare_vector(metric, rng.normal(size=dim))
    expected = twin_search(index, metric, query, ef)
    assert index.search(query, 1, ef=ef)[0].tolist() == expected[:1]
    if len(expected) == min(ef, count):
        rows, _ = index.search(query, ef, ef=ef)
        assert rows.tolist() == expected


# ------------------------------------------------------------------ planning


def twin_select(metric, vectors, row, candidates, limit) -> list[int]:
    """Algorithm 4 in plain Python, with the limit of duplicates and the filling of the kernel."""
    own = distances(metric, vectors[row], vectors)
    ranked = sorted(candidates, key=lambda other: (own[other], other))
    kept: list[int] = []
    spare: list[int] = []
    twins = 0
    for other in ranked:
        if own[other] == own[row]:
            if twins * 4 >= limit:
                continue
            twins += 1
        between = distances(metric, vectors[other], vectors)
        if all(between[one] >= own[other] for one in kept):
            kept.append(other)
            if len(kept) == limit:
                break
        else:
            spare.append(other)
    return kept + spare[: max(0, -(-limit // 2) - len(kept))]


def twin_choose(metric, vectors, row, candidates, limit, narrow: int | None = None) -> list[int]:
    """The links of a list: by Algorithm 4; for Dot three quarters of them, the others by squared
    distance among the rest (of the `narrow` nearest)."""
    if metric is not Metric.DOT:
        return twin_select(metric, vectors, row, candidates, limit)
    chosen = twin_select(metric, vectors, row, candidates, limit - limit // 4)
    own = distances(Metric.EUCLID, vectors[row], vectors)
    ranked = sorted(candidates, key=lambda other: (own[other], other))[:narrow]
    rest = [other for other in ranked if other not in chosen]
    return chosen + twin_select(Metric.EUCLID, vectors, row, rest, limit // 4)


def chosen_by(index: VectorIndex, metric: Metric) -> tuple[Metric, np.ndarray]:
    """What links are chosen by: codes, if there are any, as vectors of whole numbers."""
    if not index.measure.coded_links:
        return metric, index._columns.vectors.used
    codes = index._columns.codes.used.astype(np.float32)  # sums below 2**24: exact in any order
    return (Metric.MANHATTAN if metric is Metric.MANHATTAN else Metric.EUCLID), codes


@QUICK
@given(metrics, st.booleans(), st.integers(1, 40), st.integers(2, 60), seeds)
def test_the_first_batch_is_linked_as_its_twin_says(metric, coded, dim, count, seed):
    rng = np.random.default_rng(seed)
    vectors = prepare_vector(metric, rng.normal(size=(count, dim)))
    # By codes, all rows are candidates only where a plan's beam is much wider than their number.
    ef, narrow, least = (200, 50, 1) if coded else (64, 32, 1_024)
    fixed = IndexOptions(dim, metric, ef_construct=ef, seed=seed, rows_max=256, graph_rows_min=1)
    options = structs.replace(fixed, codes_rows_min=least)
    index = VectorIndex(ColumnSet(), "v", options)
    index.add(np.arange(count, dtype=np.uint32), vectors)
    while not index.linked_count:
        index.apply(index.plan(count))
    metric, vectors = chosen_by(index, metric)
    layers = draw_layers(np.arange(count), 16, seed)
    held = index._columns
    for layer in range(int(layers.max()) + 1):
        rows = np.flatnonzero(layers >= layer).tolist()
        limit, room = (32, options.width0 - 1) if layer == 0 else (16, options.width_upper - 1)
        own = {
            row: twin_choose(metric, vectors, row, [o for o in rows if o != row], limit, narrow)
            for row in rows
        }
        for row in rows:
            back = [other for other in rows if row in own[other] and other not in own[row]]
            expected = own[row] + back
            if len(expected) > room:
                expected = twin_choose(metric, vectors, row, expected, limit)
            place = row if layer == 0 else int(held.upper_offset.data[row]) + layer - 2
            links = (held.links0 if layer == 0 else held.upper_links).data[place]
            assert sorted(links[1 : links[0] + 1].tolist()) == sorted(expected)


@pytest.mark.parametrize("ef", [32, 100, 200])
def test_a_plan_by_codes_links_to_nothing_beyond_its_beam(ef):
    beam = min(ef, max(BEAM_LEAST, int(ef * BEAM)))
    vectors = np.random.default_rng(ef).normal(size=(500, 8)).astype(np.float32)
    options = IndexOptions(8, Metric.EUCLID, ef_construct=ef, graph_rows_min=1, codes_rows_min=1)
    index = VectorIndex(ColumnSet(), "v", options)
    index.add(np.arange(500, dtype=np.uint32), vectors)
    while not index.linked_count:
        index.apply(index.plan(500))
    apart = np.stack([distances(Metric.EUCLID, vector, vectors) for vector in vectors])
    ranks = np.argsort(np.argsort(apart, axis=1), axis=1)
    ranks = np.minimum(ranks, ranks.T)  # one of the two chose the link
    links = index._columns.links0.data
    farthest = max(
        int(ranks[row, other])
        for row in range(500)
        for other in links[row, 1 : int(links[row, 0]) + 1]
    )
    assert beam / 2 < farthest <= beam + 5, "codes may exchange rows that are equally near"


@QUICK
@given(st.integers(1, 20), seeds)
def test_links_back_are_grouped_and_sorted(count, seed):
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(100, count, replace=False)).astype(np.uint32) + np.uint32(50)
    layers = rng.integers(0, 3, count).astype(np.uint8)
    ends = np.cumsum(layers.astype(np.int64) + 1)
    batch = Batch(rows, layers, np.append(0, ends[:-1]))
    counts = rng.integers(0, 5, int(ends[-1]))
    chosen = np.zeros((len(counts), 5), np.uint64)
    pairs = set()
    for number, (row, layer) in enumerate(zip(rows.tolist(), layers.tolist(), strict=True)):
        for level in range(layer + 1):
            place = int(batch.lists[number]) + level
            targets = rng.choice(40, counts[place], replace=False)
            for at, target in enumerate(targets.tolist()):
                bits = int(rng.integers(0, 4))
                chosen[place, at] = bits << 32 | target << 1
                pairs.add((level, target, bits, row))
    groups = group_links(batch, chosen, counts)
    keys = list(zip(groups.layer.tolist(), groups.row.tolist(), strict=True))
    own = {
        (lv, r)
        for r, ly in zip(rows.tolist(), layers.tolist(), strict=True)
        for lv in range(ly + 1)
    }
    assert keys == sorted(own | {(level, target) for level, target, _, _ in pairs})
    for number, (layer, row) in enumerate(keys):
        sources = groups.sources[groups.first[number] : groups.first[number + 1]].tolist()
        expected = sorted(
            (bits, source) for lv, t, bits, source in pairs if (lv, t) == (layer, row)
        )
        assert [(key >> 32, (key & 0xFFFFFFFF) >> 1) for key in sources] == expected
        assert (groups.own[number] >= 0) == ((layer, row) in own)


# ------------------------------------------------------------------ applying


@QUICK
@given(st.integers(1, 12), st.sampled_from([16, 32, 48]), seeds)
def test_lists_change_as_their_twin_says(count, width, seed):
    rng = np.random.default_rng(seed)
    both = np.zeros((20, 2 * width), np.uint32), np.zeros((10, width), np.uint32)
    for links in both:
        for row in range(len(links)):
            links[row, 0] = degree = rng.integers(0, links.shape[1])
            links[row, 1 : degree + 1] = rng.integers(0, 1_000, degree)
    # Lists 20 and above are those of the upper layers.
    chosen = rng.choice(30, count, replace=False)
    masked = rng.random(count) < 0.5
    masks = rng.integers(0, 256, (count, 12)).astype(np.uint8)
    expected, appended, added = tuple(links.copy() for links in both), [], []
    overflow = -1
    for number, at in enumerate(chosen.tolist()):
        links, row = expected[at >= 20], at % 20
        old = links[row, 1 : links[row, 0] + 1].tolist()
        if masked[number]:
            bits = np.unpackbits(masks[number], bitorder="little")
            old = [link for at, link in enumerate(old) if bits[at]]
        more = rng.integers(0, 1_000, int(rng.integers(0, 4))).tolist()
        if len(old) + len(more) > links.shape[1] - 1 and overflow < 0:
            overflow = number
        appended.append(len(more))
        added += more
        if overflow < 0:
            links[row] = 0
            links[row, : len(old) + len(more) + 1] = [len(old) + len(more), *old, *more]
    changes = ListChanges(
        layer=np.where(chosen < 20, 0, rng.integers(1, 4, count)).astype(np.uint8),
        place=chosen % 20,
        masked=masked,
        count=np.array(appended, np.uint8),
        masks=masks[masked],
        links=np.array(added, np.uint32),
    )
    before = tuple(links.copy() for links in both)
    assert change_lists(*both, changes, 0) == overflow
    assert all(map(np.array_equal, both, before))
    if overflow < 0:
        assert change_lists(*both, changes, 1) == -1
        assert all(map(np.array_equal, both, expected))


# ------------------------------------------------------------------ repairing


@QUICK
@given(st.integers(1, 40), st.sampled_from([16, 32]), seeds)
def test_lists_that_name_leaving_rows_are_found(count, width, seed):
    rng = np.random.default_rng(seed)
    links = np.zeros((count, width), np.uint32)
    links[:, 0] = rng.integers(0, width, count)
    for row in links:
        row[1 : row[0] + 1] = rng.integers(0, 100, row[0])
    fate = (rng.integers(0, 30, 100) == 0).astype(np.uint8) * np.uint8(LEAVES)
    fate[rng.integers(0, 100)] = 1  # dead, but it stays
    first, stop = sorted(rng.integers(0, count + 1, 2).tolist())
    found = np.zeros(count, np.uint8)
    find_naming(links, fate, first, stop, found)
    expected = [any(fate[link] == LEAVES for link in row[1 : row[0] + 1]) for row in links]
    assert found[first:stop].tolist() == expected[first:stop]
    assert not found[:first].any()
    assert not found[stop:].any()


@QUICK
@given(st.integers(1, 60), st.integers(0, 4), seeds)
def test_spreading_equals_its_twin(count, degree, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 3)).astype(np.float32)
    graph = build(Metric.EUCLID, vectors, count)._graph
    links = graph.links0
    for row in links[:count]:
        row[0] = rng.integers(0, degree + 1)
        row[1 : row[0] + 1] = rng.integers(0, count, row[0])
    parents, queue = np.full(count, NOWHERE, np.uint32), np.zeros(count, np.uint32)
    expected = {0: 0}
    order = [0]
    for row in order:
        for link in links[row, 1 : links[row, 0] + 1].tolist():
            if link not in expected:
                expected[link] = row
                order.append(link)
    assert spread(graph, 0, 0, queue, parents) == len(order)
    assert queue[: len(order)].tolist() == order
    assert {row: int(parents[row]) for row in order} == expected
    assert (np.delete(parents, order) == NOWHERE).all()


def twin_repair(index: VectorIndex, metric: Metric, row: int, layer: int, dead: set[int]):
    """What is left of a live row's list, and what it takes in place of the dead."""
    held, options = index._columns, index.options

    def links_of(one: int) -> list[int]:
        column = held.links0 if layer == 0 else held.upper_links
        place = one if layer == 0 else int(held.upper_offset.data[one]) + layer - 2
        return column.data[place, 1 : column.data[place, 0] + 1].tolist()

    old, vectors = links_of(row), held.vectors.used
    limit = options.links0 if layer == 0 else options.m
    kept = [link for link in old if link not in dead]
    heirs = {heir for link in old if link in dead for heir in links_of(link)}
    candidates = {*kept, *heirs} - dead - {row}
    own = distances(metric, vectors[row], vectors)
    ranked = sorted(candidates, key=lambda other: (own[other], other))
    if len(ranked) < 0.6 * limit:
        return old, kept, None  # searched for like a new row: see the walk and Algorithm 4
    one_lost = len(kept) >= 0.6 * limit and len(old) - len(kept) < 2
    if one_lost and metric is not Metric.DOT:
        tried = [other for other in ranked if other not in kept][:16]
        for other in tried:
            between = distances(metric, vectors[other], vectors)
            nearer = [one for one in kept if (own[one], one) < (own[other], other)]
            if all(between[one] >= own[other] for one in nearer):
                return old, kept, [other]
        return old, kept, []
    chosen = twin_choose(metric, vectors, row, ranked, limit)
    new = [other for other in chosen if other not in kept]
    return old, kept, new[: max(0, max(limit, len(old)) - len(kept))]


@QUICK
@given(metrics, st.integers(2, 20), st.integers(40, 300), st.integers(1, 60), seeds)
def test_lists_are_repaired_as_their_twin_says(metric, dim, count, gone, seed):
    rng = np.random.default_rng(seed)
    vectors = prepare_vector(metric, rng.normal(size=(count, dim)))
    index = build(metric, vectors, 64, ef_construct=400, seed=seed)
    dead = set(rng.choice(count, min(gone, count // 2), replace=False).tolist())
    index.tombstone(np.array(sorted(dead), np.uint32))
    planned = index.plan(64)
    if planned is None:
        return  # too few died
    edit = decode(planned)
    freed = set(edit.rows_freed.tolist())
    masks, links = iter(edit.masks), iter(edit.links.tolist())
    for row, layer, new in zip(edit.list_row, edit.list_layer, edit.appended, strict=True):
        appended = [next(links) for _ in range(new)]
        bits = np.unpackbits(next(masks), bitorder="little")
        old, kept, expected = twin_repair(index, metric, int(row), int(layer), dead)
        if int(row) in dead:
            kept, expected = [link for link in old if link not in freed], []
        assert [link for at, link in enumerate(old) if bits[at]] == kept
        assert expected is None or appended == expected
        assert not dead.intersection(appended)


@settings(max_examples=15, deadline=None)
@given(metrics, st.integers(1, 24), seeds)
def test_a_random_life_keeps_every_invariant_and_replays_to_the_same_bytes(metric, dim, seed):
    rng = np.random.default_rng(seed)
    options = IndexOptions(
        dim, metric, m=4, ef_construct=20, seed=seed, rows_max=2_048, graph_rows_min=1
    )
    sets = [ColumnSet(), ColumnSet()]
    pair = [VectorIndex(columns, "v", options) for columns in sets]
    leader = pair[0]
    repairs = 0
    for _ in range(16):
        count = int(rng.integers(1, 60))
        vectors = prepare_vector(metric, rng.normal(size=(count, dim)).round(1))
        slots = rng.integers(0, 500, count).astype(np.uint32)
        dead = rng.integers(0, leader.rows + 5, int(rng.integers(0, 60))).astype(np.uint32)
        for one in pair:
            one.add(slots, vectors)
            one.tombstone(dead)
        for _ in range(int(rng.integers(0, 4))):
            edit = leader.plan(int(rng.integers(1, 80)), slices=int(rng.integers(1, 5)))
            if edit is None:
                break
            more = rng.integers(0, leader.rows + 5, int(rng.integers(0, 5))).astype(np.uint32)
            for one in pair:
                one.tombstone(more)  # while the edit is in the log
            assert decode(edit).graph_version == leader.graph_version
            repairs += len(decode(edit).masks) > 0
            assert [one.apply(edit) for one in pair] == [True, True]
            assert leader.check() == []
        pair[1] = VectorIndex(sets[1], "v", options)  # a replica that restarts every time
    while (edit := leader.plan(100)) is not None:
        assert [one.apply(edit) for one in pair] == [True, True]
    assert repairs
    assert leader.check() == []
    lost = leader._columns.state.data[unreachable(leader._columns)]
    assert not (lost == LINKED).any()
    assert sets[0].digests() == sets[1].digests()


def test_layers_follow_their_distribution_and_their_twin():
    rows = np.arange(200_000)
    layers = draw_layers(rows, 16, 42)
    shares = [(layers >= layer).mean() * 16**layer for layer in (1, 2, 3)]
    assert np.allclose(shares, 1, atol=0.25)
    assert np.array_equal(layers, draw_layers(rows, 16, 42))
    assert (layers != draw_layers(rows, 16, 43)).any()
    for row in range(500):
        value = mix64(row ^ mix64(42))
        expected = sum(value < 2**64 // 16**layer for layer in range(1, 16))
        assert layers[row] == expected

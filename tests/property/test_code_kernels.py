"""The kernels of 8-bit codes against twins in NumPy, in every way that this processor has."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit, types
from numba.extending import intrinsic

from balsadb.columns import ColumnSet
from balsadb.index import (
    IndexOptions,
    Metric,
    VectorIndex,
    code_kernels,
    planner,
    prepare_vector,
)
from balsadb.index import distance_kernels as k
from balsadb.index import search_kernels as s
from balsadb.index.flat import distances
from balsadb.index.intrinsics import address_of
from balsadb.index.metrics import scores_of
from balsadb.index.quantise_kernels import code_rows
from balsadb.index.quantiser import own_steps
from tests.property.walk_twin import twin_walk

QUICK = settings(max_examples=40, deadline=None)
metrics = st.sampled_from(list(Metric))
seeds = st.integers(0, 2**32 - 1)
DIMS = [1, 2, 3, 63, 64, 65, 127, 128, 129, 1_000, 4_096]


@pytest.fixture(autouse=True, scope="module")
def _codes_in_any_case():
    """Also where they would not keep the order of neighbours: kernels are to be right there too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "ORDER_KEPT", 0.0)
        yield


def build(metric: Metric, vectors: np.ndarray, batch: int = 1_024, **options) -> VectorIndex:
    """An index that goes by codes from its first edit on."""
    defaults = {"m": 4, "ef_construct": 16, "rows_max": 8_192, "graph_rows_min": 1}
    fixed = IndexOptions(vectors.shape[1], metric, **(defaults | {"codes_rows_min": 1} | options))
    index = VectorIndex(ColumnSet(), "v", fixed)
    index.add(np.arange(len(vectors), dtype=np.uint32), vectors)
    while (edit := index.plan(batch)) is not None:
        assert index.apply(edit)
    return index


# ------------------------------------------------------------------ integer sums


def _of_way(table, way):
    """`product4` or `gap4` in one way, callable: (query, rows (4, bytes), blocks, out (4,))."""

    @intrinsic
    def sums(typingctx, query, first, second, third, fourth, blocks, out):
        word = types.uint64
        arguments = (*[word] * 5, types.int64, word)
        return types.void(*arguments), code_kernels._codegen(table[way])

    @njit
    def call(query, rows, blocks, out):
        sums(
            address_of(query),
            address_of(rows[0]),
            address_of(rows[1]),
            address_of(rows[2]),
            address_of(rows[3]),
            blocks,
            address_of(out),
        )

    return call


PRODUCTS = {way: _of_way(code_kernels._PRODUCTS, way) for way in code_kernels.WAYS}
GAPS = {way: _of_way(code_kernels._GAPS, way) for way in code_kernels.WAYS}
SQUARES = {way: _of_way(code_kernels._SQUARES, way) for way in code_kernels.WAYS}


def _check_sums(query: np.ndarray, rows: np.ndarray) -> None:
    """`query` int8 for products; gaps take its bytes as codes."""
    blocks = rows.shape[1] // code_kernels.BLOCK_BYTES
    wide = rows.astype(np.int32)
    apart = wide - query.view(np.uint8).astype(np.int32)
    for calls, expected in (
        (PRODUCTS, wide @ query.astype(np.int32)),
        (GAPS, np.abs(apart).sum(axis=1)),
        (SQUARES, (apart * apart).sum(axis=1, dtype=np.uint32).view(np.int32)),
    ):
        for way, call in calls.items():
            out = np.full(6, 77, np.int32)
            call(query.view(np.uint8), rows, blocks, out[1:5])
            assert out.tolist() == [77, *expected.tolist(), 77], way


@QUICK
@given(st.integers(1, 4_096), seeds)
def test_sums_equal_numpy(dim, seed):
    rng = np.random.default_rng(seed)
    width = -(-dim // 64) * 64
    query, rows = np.zeros(width, np.int8), np.zeros((4, width), np.uint8)
    query[:dim] = rng.integers(-64, 65, dim)
    rows[:, :dim] = rng.integers(0, 256, (4, dim))
    _check_sums(query, rows)


@pytest.mark.parametrize("width", [64, 128, 4_096, 65_536])
@pytest.mark.parametrize("query", [(64, 64), (-64, -64), (64, -64), (-64, 64), (0, -64), (1, 0)])
@pytest.mark.parametrize("code", [(255, 255), (0, 255), (255, 0), (0, 0)])
def test_sums_at_their_extremes(width, query, code):
    queries = np.tile(np.array(query, np.int8), width // 2)
    rows = np.tile(np.array(code, np.uint8), (4, width // 2))
    rows[1, ::7] = 255
    rows[2, -1] = 1
    _check_sums(queries, rows)


def test_the_way_is_one_of_those_there_are():
    assert code_kernels.WAY in code_kernels.WAYS
    assert code_kernels.WAYS[0] == "plain"
    wanted = os.environ.get("BALSADB_KERNELS", "")
    assert wanted not in code_kernels.WAYS or wanted == code_kernels.WAY


# ------------------------------------------------------------------ codes and targets


def twin_steps(vectors: np.ndarray) -> np.ndarray:
    """Steps (n,) of rows that have their own, float64."""
    return np.abs(vectors).max(axis=1).astype(np.float64) / 127


def twin_codes(vectors: np.ndarray, quantiser: np.ndarray) -> np.ndarray:
    """Codes (n, dim) as whole numbers around 0."""
    if quantiser[-2] == 0:
        largest = np.abs(vectors).max(axis=1, keepdims=True).astype(np.float64)
        inverse = np.divide(127, largest, out=np.zeros_like(largest), where=largest > 0)
        return np.rint(vectors.astype(np.float64) * inverse).astype(np.int32)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.float32((vectors - quantiser[:-2]) * quantiser[-1])
    steps = np.where(np.isnan(steps), np.float32(-128), steps)
    return np.rint(np.clip(steps, np.float32(-128), np.float32(127))).astype(np.int32)


@QUICK
@given(st.integers(1, 200), st.sampled_from([0, 1e-30, 1.0, 1e20, 3e38]), seeds)
def test_rows_are_coded_as_numpy_would(dim, scale, seed):
    rng = np.random.default_rng(seed)
    vectors = (rng.uniform(-1, 1, size=(9, dim)) * scale).astype(np.float32)
    mean = (rng.uniform(-1, 1, size=dim) * min(scale, 1e38)).astype(np.float32)
    step = np.float32(rng.choice([scale / 100, 1e-30, 1]) or 1)
    inverse = np.float32(rng.choice([1, 0])) / step
    quantiser = np.concatenate((mean, [step, inverse])).astype(np.float32)
    rows = np.array([7, 2, 5], np.uint32)
    codes, bias = np.zeros((9, dim + 5), np.uint8), np.full(9, 3, np.int32)
    with np.errstate(over="ignore", invalid="ignore"):  # if it runs uncompiled
        code_rows(vectors, quantiser, rows, codes, bias)
    expected = twin_codes(vectors[rows], quantiser)
    assert np.array_equal(codes[rows, :dim], expected + 128)
    assert not codes[:, dim:].any()
    assert np.array_equal(bias[rows], (expected * expected).sum(axis=1))
    others = np.setdiff1d(np.arange(9), rows)
    assert not codes[others].any()
    assert (bias[others] == 3).all()


@QUICK
@given(st.integers(1, 200), st.integers(-45, 38), seeds)
def test_rows_with_steps_of_their_own_are_coded_as_numpy_would(dim, exponent, seed):
    rng = np.random.default_rng(seed)
    sizes = 10.0 ** rng.uniform(-45, exponent, size=(9, 1))
    vectors = (rng.uniform(-1, 1, size=(9, dim)) * sizes).astype(np.float32)
    vectors[4] = 0
    codes, bias = np.zeros((9, dim + 5), np.uint8), np.zeros(9, np.int32)
    code_rows(vectors, own_steps(dim), np.arange(9, dtype=np.uint32), codes, bias)
    assert np.array_equal(codes[:, :dim], twin_codes(vectors, own_steps(dim)) + 128)
    assert not codes[:, dim:].any()
    steps = bias.view(np.float32)
    assert np.array_equal(steps, twin_steps(vectors).astype(np.float32))
    shown = (codes[:, :dim].astype(np.float64) - 128) * steps[:, np.newaxis]
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    assert (np.abs(shown - vectors) <= np.maximum(largest / 250, 1e-38)).all()


def test_half_steps_round_to_even_and_everything_is_cut():
    values = [-0.5, 0.5, 1.5, 2.5, 126.5, 127.5, -127.5, -128.5, 1e30, -1e30, np.inf, -np.inf]
    vectors = np.array([values], np.float32)
    quantiser = np.array([0] * len(values) + [1, 1], np.float32)
    codes, bias = np.zeros((1, len(values)), np.uint8), np.zeros(1, np.int32)
    with np.errstate(over="ignore", invalid="ignore"):
        code_rows(vectors, quantiser, np.zeros(1, np.uint32), codes, bias)
    wanted = [0, 0, 2, 2, 126, 127, -128, -128, 127, -128, 127, -128]
    assert (codes[0].astype(int) - 128).tolist() == wanted


@njit
def _aim(graph, how, scratch, values, numbers):
    target = k.aim(graph, how, scratch, values)
    numbers[0], numbers[1] = target.factor, target.unit
    return target.vector == address_of(values) and target.code == address_of(scratch.code)


@njit
def _bits(graph, how, scratch, values, count):
    target = k.aim(graph, how, scratch, values)
    k.distance_bits(graph, how, target, scratch.fresh, count, scratch.bits)


def twin_aim(metric: Metric, query: np.ndarray, quantiser: np.ndarray):
    """The coded query (int32), its factor and unit."""
    step, inverse = float(quantiser[-2]), quantiser[-1]
    if metric is Metric.MANHATTAN:
        return twin_codes(query[np.newaxis], quantiser)[0] + 128, 0, step
    squared = metric is Metric.EUCLID
    values = query.astype(np.float64)
    if squared:
        values = (values - quantiser[:-2].astype(np.float64)) * float(inverse)
    largest = float(np.abs(values).max())
    scale = 64 / largest if largest else 0.0
    scale = min(scale, 4.0) if squared else scale
    code = np.rint(values * scale).astype(np.int32)
    unit = 2 * step * step if squared else step
    factor = int(np.rint(scale * 2**23)) if squared else 0
    if metric is Metric.DOT:
        unit, factor = 1.0, 128 * int(code.sum())
    return code, factor, unit / scale if scale else 0.0


def twin_units(metric: Metric, query: np.ndarray, quantiser: np.ndarray, vectors: np.ndarray):
    """Coded distances (n,) of rows (n, dim): whole numbers, float32 for Dot."""
    codes = twin_codes(vectors, quantiser)
    code, factor, _ = twin_aim(metric, query, quantiser)
    if metric is Metric.DOT:
        steps = twin_steps(vectors).astype(np.float32)
        return (
            np.float32(0)
            - (codes.astype(np.int64) @ code.astype(np.int64)).astype(np.float32) * steps
        )
    shown = codes.astype(np.int64) + 128
    if metric is Metric.MANHATTAN:
        return np.abs(shown - code).sum(axis=1) - 2**31
    weighted = (codes.astype(np.int64) ** 2).sum(axis=1) * factor >> 24
    limit = 2**31 - 1
    return np.clip(weighted - shown @ code.astype(np.int64), -limit, limit)


def twin_bits(units: np.ndarray) -> np.ndarray:
    """Ordered bits (n,) of coded distances."""
    if units.dtype != np.float32:
        return units + 2**31
    bits = units.view(np.uint32).astype(np.int64)
    return np.where(bits >> 31, bits ^ 0xFFFFFFFF, bits | 1 << 31)


@QUICK
@given(metrics, st.integers(1, 200), st.sampled_from([1e-30, 1e-5, 1.0, 1e18]), seeds)
def test_targets_and_coded_distances_equal_their_twins(metric, dim, scale, seed):
    rng = np.random.default_rng(seed)
    vectors = prepare_vector(metric, (rng.normal(size=(40, dim)) + 2) * scale)
    index = build(metric, vectors)
    held, scratch = index._columns, index._scratches.take(40)
    quantiser = held.quantiser.used
    if not len(quantiser):  # the vectors are equal
        return
    for query in (
        vectors[3],
        prepare_vector(metric, rng.normal(size=dim) * scale),
        prepare_vector(metric, rng.normal(size=dim) * scale * 1e-6),
        prepare_vector(metric, rng.normal(size=dim) * min(scale * 1e9, 1e30)),
        np.zeros(dim, np.float32),
        quantiser[:-2].copy(),
    ):
        numbers = np.zeros(2)
        scratch.code[:] = 99
        assert _aim(index._graph, index.measure, scratch, query, numbers)
        code, factor, unit = twin_aim(metric, query, quantiser)
        found = scratch.code[:dim]
        signed = found if metric is Metric.MANHATTAN else found.view(np.int8)
        assert signed.tolist() == code.tolist()
        assert not scratch.code[dim:].any()
        assert numbers.tolist() == [factor, unit]
        count = int(rng.integers(1, 41))
        rows = rng.choice(40, count, replace=False)
        scratch.fresh[:count] = rows
        _bits(index._graph, index.measure, scratch, query, count)
        expected = twin_bits(twin_units(metric, query, quantiser, vectors[rows]))
        assert scratch.bits[:count].tolist() == expected.tolist()


@pytest.mark.parametrize("metric", list(Metric))
def test_a_unit_of_coded_distance_is_worth_what_it_says(metric):
    rng = np.random.default_rng(1)
    vectors = prepare_vector(metric, rng.normal(size=(500, 40)))
    index = build(metric, vectors)
    quantiser = index._columns.quantiser.used
    query = vectors[0]
    unit = twin_aim(metric, query, quantiser)[2]
    coded = twin_units(metric, query, quantiser, vectors) * unit
    exact = distances(metric, query, vectors).astype(np.float64)
    misses = exact - coded
    assert np.std(misses) < 0.03 * np.std(exact)


# ------------------------------------------------------------------ walks by codes


def twin_rescore(pool, units, exact, unit, wanted, best) -> list[int]:
    """The rows of a pool that are scored, best first: `wanted` of them, then those that the error
    of the codes leaves open."""
    scored: list[tuple[float, int]] = []
    misses: list[float] = []
    at, bound = 0, np.inf
    while at < len(pool) and (len(scored) < wanted or units[pool[at][1]] <= bound):
        left = wanted - len(scored)
        size = min(s.PART, left) if left > 0 else s.MORE
        for _, row in pool[at : at + size]:
            scored.append((float(exact[row]), row))
            misses.append(float(exact[row]) - unit * float(units[row]))
        at += size
        scored.sort()
        if len(scored) >= wanted:
            off = [miss - misses[0] for miss in misses]
            mean = sum(off) / len(off)
            spread = np.sqrt(max(sum(o * o for o in off) / len(off) - mean * mean, 0.0))
            worst = scored[min(best, len(scored)) - 1][0]
            if unit > 0:
                bound = (worst - misses[0] - mean + s.SIGMAS * spread) / unit
    return [row for _, row in scored]


@QUICK
@given(metrics, st.integers(1, 80), st.integers(2, 300), st.integers(1, 40), seeds)
def test_the_coded_walk_equals_its_twin(metric, dim, count, ef, seed):
    rng = np.random.default_rng(seed)
    vectors = prepare_vector(metric, rng.normal(size=(count, dim)).round(1) + 0.5)
    index = build(metric, vectors, int(rng.integers(1, count + 1)))
    if not index.measure.coded:  # all vectors are equal
        assert (vectors == vectors[0]).all()
        return
    query = prepare_vector(metric, rng.normal(size=dim))
    quantiser = index._columns.quantiser.used
    units = twin_units(metric, query, quantiser, vectors)
    near = [(bit, row) for row, bit in enumerate(twin_bits(units).tolist())]
    exact = distances(metric, query, vectors)
    unit = twin_aim(metric, query, quantiser)[2]
    best = int(rng.integers(1, ef + 1))
    pool = twin_walk(index, near, ef)
    if len(pool) < min(best, count):
        return  # an island of the graph: the search scans
    expected = twin_rescore(pool, units, exact, unit, max(2 * best, best + 16), best)[:best]
    rows, scores = index.search(query, best, ef=ef)
    assert rows.tolist() == expected
    assert scores.tobytes() == scores_of(metric, exact[expected]).tobytes()


def _hard(name: str, rng: np.random.Generator) -> np.ndarray:
    if name == "all as far":
        return rng.normal(size=(4_000, 512))
    if name == "shells":
        return (
            rng.normal(size=(4_000, 32)) * 1e-3
            + rng.normal(size=(40, 32))[rng.integers(0, 40, 4_000)]
        )
    return rng.normal(size=(4_000, 8)).round(1)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("name", ["all as far", "shells", "ties"])
def test_scans_by_codes_miss_next_to_nothing(metric, name):
    rng = np.random.default_rng(3)
    vectors = prepare_vector(metric, _hard(name, rng))
    index = VectorIndex(
        ColumnSet(),
        "v",
        IndexOptions(vectors.shape[1], metric, rows_max=8_192, codes_rows_min=1, m=4),
    )
    index.add(np.arange(len(vectors), dtype=np.uint32), vectors)
    while not index.measure.coded:
        assert index.apply(index.plan(1))
    missed, total = 0, 0
    for query in vectors[rng.choice(len(vectors), 60, replace=False)]:
        exact = distances(metric, query, vectors)
        far = exact > np.quantile(exact, 0.3)  # a filter that leaves out what is near
        for mask in (np.ones(len(vectors), np.bool_), rng.random(len(vectors)) < 0.1, far):
            best = index.search(query, 10, ef=64, slots=mask, exact=True)[1]
            found = index.search(query, 10, ef=64, slots=mask)[1]
            missed += len(best) - int(np.isin(found, best).sum())
            total += len(best)
    assert missed <= total // 500


DIGEST = """
import numpy as np
from balsadb.columns import ColumnSet
from balsadb.index import IndexOptions, Metric, VectorIndex, code_kernels, prepare_vector
print(code_kernels.WAY)
for metric in Metric:
    rng = np.random.default_rng(5)
    vectors = prepare_vector(metric, rng.normal(size=(700, 70)))
    columns = ColumnSet()
    options = IndexOptions(70, metric, rows_max=1024, graph_rows_min=1, codes_rows_min=1)
    index = VectorIndex(columns, "v", options)
    index.add(np.arange(700, dtype=np.uint32), vectors)
    while (edit := index.plan(128)) is not None:
        index.apply(edit)
    print(sorted(columns.digests().items()))
    mask = rng.random(700) < 0.6
    for slots in (None, mask):
        rows, scores, _ = index.search_many(vectors[:40] + np.float32(0.1), 10, ef=40, slots=slots)
        print(rows.tolist(), scores.tobytes().hex())
"""


@pytest.mark.slow  # compiles everything once for each way
@pytest.mark.timeout(600)
def test_every_way_builds_and_finds_the_same_bytes():
    answers = {}
    for way in code_kernels.WAYS:
        environment = os.environ | {"BALSADB_KERNELS": way}
        done = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, check=True
        )
        said, _, answers[way] = done.stdout.decode().partition("\n")
        assert said == way
    assert len(set(answers.values())) == 1


def test_kernels_without_intrinsics_run_uncompiled_too():
    chosen = "coded_as_numpy or half_steps or insert_keeps or lists_change or layers_follow"
    files = [os.path.join(os.path.dirname(__file__), f"test_{name}_kernels.py") for name in NAMES]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *files],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()
    assert b"6 passed" in done.stdout


NAMES = ["code", "index"]

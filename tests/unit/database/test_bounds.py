"""Maxima that keep one request from taking the node down, on the leader or in apply."""

import sys
from typing import Any

import numpy as np
import pytest

from balsadb.database import (
    NO_SESSION,
    DeletePayloadKeys,
    Query,
    Selection,
    SetPayload,
    UpsertPoints,
    VectorBlock,
    limits,
)
from balsadb.errors import LimitExceeded


def nested(depth: int) -> dict[str, Any]:
    value: Any = 1
    for level in range(depth - 1):
        value = {"a": value} if level % 2 else [value]
    return {"a": value}


def from_a_deep_stack(call, frames: int):
    return call() if not frames else from_a_deep_stack(call, frames - 1)


def test_a_payload_nested_too_deep_is_refused_before_the_log(bench):
    bench.create()
    block = {"": VectorBlock(np.ones((1, 4), np.float32))}
    most = limits.PAYLOAD_DEPTH_MAX
    with pytest.raises(LimitExceeded, match=r"points\[0\]\.payload"):
        bench.database.prepare(UpsertPoints("films", [1], block, [nested(most + 1)]), NO_SESSION)
    with pytest.raises(LimitExceeded, match="payload"):
        bench.database.prepare(SetPayload("films", nested(most + 1), [1]), NO_SESSION)
    wide = {"a": [[] for _ in range(2 * most)]}
    bench.do(UpsertPoints("films", [1], block, [wide]))


def test_the_deepest_payload_is_applied_from_any_stack(bench):
    """A command that one replica can decode and another cannot would stop the other."""
    bench.create()
    block = {"": VectorBlock(np.ones((1, 4), np.float32))}
    most = limits.PAYLOAD_DEPTH_MAX
    path = ".".join("a" * most)
    steps = [
        UpsertPoints("films", [1], block, [{"b": nested(most - 1)}]),
        SetPayload("films", nested(most), [1], key=path),
        DeletePayloadKeys("films", ["b[0].a"], [1]),
    ]
    spare = sys.getrecursionlimit() // 2
    for step in steps:
        for data in bench.database.prepare(step, NO_SESSION):
            from_a_deep_stack(lambda data=data: bench.propose(data), spare).unwrap()
    assert bench.database.check() == []


def test_a_filter_of_many_keys_is_refused(bench):
    bench.create()
    bench.upsert([1, 2], [{"k0": 1}, {}])

    def of(count: int) -> dict[str, Any]:
        return {"should": [{"key": f"k{n}", "match": {"value": 1}} for n in range(count)]}

    assert bench.database.count("films", filter=of(limits.FILTER_KEYS_MAX)) == 1
    with pytest.raises(LimitExceeded, match="filter"):
        bench.database.count("films", filter=of(limits.FILTER_KEYS_MAX + 1))
    many = [{"key": "k0", "match": {"value": n}} for n in range(limits.FILTER_CONDITIONS_MAX)]
    assert bench.database.count("films", filter={"should": many}) == 1


def test_answers_with_many_vector_components_are_refused(bench, monkeypatch):
    bench.create()
    bench.upsert(list(range(10)))
    monkeypatch.setattr(limits, "ANSWER_COMPONENTS_MAX", 32)
    shown = Selection(vector=True)
    database = bench.database
    assert len(database.retrieve("films", list(range(8)), selection=shown)) == 8
    assert len(database.scroll("films", limit=10).points) == 10
    with pytest.raises(LimitExceeded, match="limit"):
        database.scroll("films", limit=10, selection=shown)
    one = Query(vector=[1.0] * 4, limit=4, selection=shown)
    assert len(database.query_many("films", [one, one])) == 2
    with pytest.raises(LimitExceeded, match="searches"):
        database.query_many("films", [one, one, one])


def test_a_batch_of_queries_is_bounded_in_results(bench):
    bench.create()
    page = Query(limit=limits.PAGE_MAX)
    assert bench.database.query_many("films", [page] * 10) == [[]] * 10
    with pytest.raises(LimitExceeded, match="searches"):
        bench.database.query_many("films", [page] * 11)


@pytest.mark.parametrize("bound", [1e300, -1e300])
def test_a_threshold_beyond_float32_is_an_infinity(bench, bound):
    bench.create()
    bench.upsert([1, 2])
    found = bench.database.query("films", Query(vector=[1.0] * 4, score_threshold=bound))
    assert len(found) == (0 if bound > 0 else 2)

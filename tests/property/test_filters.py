"""Filters over typed columns against a slow evaluator of one payload at a time."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from balsadb.database import (
    NO_SESSION,
    CreateCollection,
    Database,
    DeletePoints,
    OverwritePayload,
    UpsertPoints,
)
from balsadb.types import LogIndex

WORDS = ["a", "b", "c", ""]
SCALARS = st.one_of(
    st.sampled_from(WORDS),
    st.integers(-3, 3),
    st.sampled_from([1.0, 2.5, -0.0, 3.0, 1e300]),
    st.booleans(),
    st.none(),
    st.sampled_from([2**63, 2**70, -(2**63) - 1, 10**400]),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(st.one_of(SCALARS, st.lists(SCALARS, max_size=1)), max_size=3),
    st.dictionaries(st.sampled_from(["x", "y"]), st.one_of(SCALARS, st.lists(SCALARS)), max_size=2),
    st.lists(st.dictionaries(st.just("x"), SCALARS, max_size=1), max_size=2),
)
PAYLOADS = st.dictionaries(st.sampled_from(["k", "m"]), VALUES, max_size=2)
KEYS = st.sampled_from(["k", "m", "k.x", "k[].x", "m[0]", "k.y"])
MATCHES = st.one_of(
    st.fixed_dictionaries({"value": st.one_of(st.sampled_from(WORDS), st.integers(-3, 3))}),
    st.fixed_dictionaries({"value": st.booleans()}),
    st.fixed_dictionaries({"any": st.lists(st.sampled_from(WORDS), max_size=3)}),
    st.fixed_dictionaries({"except": st.lists(st.sampled_from(WORDS), max_size=3)}),
    st.fixed_dictionaries({"any": st.lists(st.integers(-3, 3), max_size=3)}),
    st.fixed_dictionaries({"except": st.lists(st.integers(-3, 3), max_size=3)}),
)
BOUNDS = st.one_of(st.integers(-3, 3), st.floats(-3, 3), st.just(2**64))
RANGES = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), BOUNDS, max_size=2)
LEAVES = st.one_of(
    st.fixed_dictionaries({"key": KEYS, "match": MATCHES}),
    st.fixed_dictionaries({"key": KEYS, "range": RANGES}),
    st.fixed_dictionaries({"is_empty": st.fixed_dictionaries({"key": KEYS})}),
    st.fixed_dictionaries({"is_null": st.fixed_dictionaries({"key": KEYS})}),
    st.fixed_dictionaries({"key": KEYS, "is_empty": st.booleans()}),
    st.fixed_dictionaries({"key": KEYS, "is_null": st.booleans()}),
    st.fixed_dictionaries({"has_id": st.lists(st.integers(0, 14), max_size=5)}),
)


def _clauses(conditions: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(conditions, max_size=3)
    minimum = st.fixed_dictionaries({"conditions": several, "min_count": st.integers(0, 3)})
    clauses = {"must": several, "should": several, "must_not": several, "min_should": minimum}
    return st.fixed_dictionaries({}, optional=clauses)


FILTERS = _clauses(st.one_of(LEAVES, _clauses(LEAVES)))


def holds(tree: dict[str, Any], point: int, payload: dict[str, Any]) -> bool:
    def one(condition: dict[str, Any]) -> bool:
        return _holds_one(condition, point, payload)

    least = tree.get("min_should", {"conditions": [], "min_count": 0})
    return (
        all(map(one, tree.get("must", [])))
        and not any(map(one, tree.get("must_not", [])))
        and (not tree.get("should") or any(map(one, tree["should"])))
        and sum(map(one, least["conditions"])) >= least["min_count"]
    )


def _holds_one(condition: dict[str, Any], point: int, payload: dict[str, Any]) -> bool:
    if "has_id" in condition:
        return point in condition["has_id"]
    for kind in ("is_empty", "is_null"):
        if isinstance(condition.get(kind), bool):
            plain = {kind: {"key": condition["key"]}}
            return _holds_one(plain, point, payload) is condition[kind]
    if "is_empty" in condition:
        found = lookup(payload, condition["is_empty"]["key"])
        return all(value is None or value == [] for value in found)
    if "is_null" in condition:
        found = lookup(payload, condition["is_null"]["key"])
        return any(value is None or (isinstance(value, list) and None in value) for value in found)
    if "key" not in condition:
        return holds(condition, point, payload)
    scalars: list[Any] = []
    for value in lookup(payload, condition["key"]):
        scalars.extend(value if isinstance(value, list) else [value])
    if "range" in condition:
        return any(_within(value, condition["range"]) for value in scalars)
    return any(_matches(value, condition["match"]) for value in scalars)


def lookup(payload: Any, key: str) -> list[Any]:
    found = [payload]
    for step in key.replace("[", ".[").split("."):
        if step == "[]":
            found = [part for value in found if isinstance(value, list) for part in value]
        elif step == "[0]":
            found = [value[0] for value in found if isinstance(value, list) and value]
        else:
            found = [v[step] for v in found if isinstance(v, dict) and step in v]
    return found


def _within(value: Any, bounds: dict[str, float]) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        number = float(value)
    except OverflowError:
        number = float("inf") if value > 0 else float("-inf")
    return (
        ("gt" not in bounds or number > float(bounds["gt"]))
        and ("gte" not in bounds or number >= float(bounds["gte"]))
        and ("lt" not in bounds or number < float(bounds["lt"]))
        and ("lte" not in bounds or number <= float(bounds["lte"]))
    )


def _matches(value: Any, match: dict[str, Any]) -> bool:
    if value is None:
        return False
    kind, operand = next(iter(match.items()))
    operands = operand if isinstance(operand, list) else [operand]
    equal = any(type(value) is type(one) and value == one for one in operands)
    return not equal if kind == "except" else equal


class _Collection:
    def __init__(self) -> None:
        self.database = Database()
        self.index = 0
        self.do(CreateCollection("c", {}))

    def do(self, request: Any) -> None:
        for data in self.database.prepare(request, NO_SESSION):
            self.index += 1
            self.database.apply(LogIndex(self.index), data).unwrap()

    def matching(self, tree: dict[str, Any]) -> set[int | str]:
        page = self.database.scroll("c", filter=tree, limit=100)
        assert self.database.count("c", filter=tree) == len(page.points)
        return {point.id for point in page.points}


@settings(max_examples=250, deadline=None)
@given(
    st.lists(PAYLOADS, min_size=1, max_size=12),
    st.lists(FILTERS, min_size=1, max_size=4),
    st.dictionaries(st.integers(0, 14), st.one_of(st.none(), PAYLOADS), max_size=4),
)
def test_filters_agree_with_the_slow_evaluator(
    payloads: list[Any], trees: list[Any], changes: dict[int, Any]
) -> None:
    """Before and after some points changed, so that typed values are both built and kept up."""
    collection = _Collection()
    points = dict(enumerate(payloads))
    collection.do(UpsertPoints("c", list(points), {}, payloads))
    for tree in trees:
        expected = {point for point, payload in points.items() if holds(tree, point, payload)}
        assert collection.matching(tree) == expected
    for point, payload in changes.items():
        if payload is None:
            collection.do(DeletePoints("c", [point]))
            points.pop(point, None)
        elif point in points:
            collection.do(OverwritePayload("c", payload, [point]))
            points[point] = payload
        else:
            collection.do(UpsertPoints("c", [point], {}, [payload]))
            points[point] = payload
    for tree in trees:
        expected = {point for point, payload in points.items() if holds(tree, point, payload)}
        assert collection.matching(tree) == expected


def test_typed_values_survive_many_rounds_of_churn() -> None:
    """Words that no payload holds any more are forgotten, slots are used again."""
    rng = np.random.default_rng(0)
    collection = _Collection()
    for turn in range(30):
        ids = rng.choice(600, 200, replace=False).tolist()
        collection.do(UpsertPoints("c", ids, {}, [{"k": [f"{turn}-{n}", "all"]} for n in ids]))
        collection.do(DeletePoints("c", rng.choice(600, 50).tolist()))
        assert collection.database.count(
            "c", filter={"must": [{"key": "k", "match": {"value": "all"}}]}
        ) == collection.database.count("c")
        word = f"{turn}-{ids[0]}"
        found = collection.matching({"must": [{"key": "k", "match": {"value": word}}]})
        assert found <= {ids[0]}

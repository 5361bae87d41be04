"""Corners of the dialect: nulls in payloads, conditions on them, queries that name no vector."""

from typing import Any

import numpy as np
import pytest

from balsadb.database import (
    CreateCollection,
    DeletePayloadKeys,
    OverwritePayload,
    Query,
    Selection,
    SetPayload,
    UpsertPoints,
    VectorBlock,
    VectorParams,
)
from balsadb.errors import InvalidInput

PAYLOADS: dict[int, dict[str, Any]] = {
    1: {},
    2: {"k": None},
    3: {"k": []},
    4: {"k": [None]},
    5: {"k": ["a", None]},
    6: {"k": "a"},
    7: {"k": {}},
    8: {"k": [[]]},
    9: {"k": [{"a": 1}, "a"]},
    10: {"k": False},
    11: {"k": 1.5},
    12: {"k": ["a", "b"]},
}


@pytest.fixture
def filled(bench):
    bench.create()
    bench.upsert(list(PAYLOADS), list(PAYLOADS.values()))
    return bench


def matching(bench, condition: dict[str, Any]) -> list[int]:
    found = bench.database.scroll("films", filter={"must": [condition]}, limit=100)
    return [point.id for point in found.points]


def payload_of(bench, point: int) -> Any:
    shown = Selection(payload=True, raw_payload=False)
    (found,) = bench.database.retrieve("films", [point], selection=shown)
    return found.payload


EMPTY = [1, 2, 3]
NULL = [2, 4, 5]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"is_empty": {"key": "k"}}, EMPTY),
        ({"key": "k", "is_empty": True}, EMPTY),
        ({"key": "k", "is_empty": False}, sorted(PAYLOADS.keys() - set(EMPTY))),
        ({"is_null": {"key": "k"}}, NULL),
        ({"key": "k", "is_null": True}, NULL),
        ({"key": "k", "is_null": False}, sorted(PAYLOADS.keys() - set(NULL))),
        ({"key": "k", "match": {"except": ["a"]}}, [7, 8, 9, 10, 11, 12]),
        ({"key": "k", "match": {"except": [1]}}, [5, 6, 7, 8, 9, 10, 11, 12]),
        ({"key": "k", "match": {"except": []}}, [5, 6, 7, 8, 9, 10, 11, 12]),
    ],
)
def test_nulls_lists_and_objects(filled, condition, expected):
    assert matching(filled, condition) == expected


@pytest.mark.parametrize("kind", ["is_empty", "is_null"])
def test_a_field_condition_without_a_key_is_refused(filled, kind):
    with pytest.raises(InvalidInput, match=r"filter\.must\[0\]\.key"):
        matching(filled, {kind: True})
    with pytest.raises(InvalidInput, match=rf"filter\.must\[0\]\.{kind}\.key"):
        matching(filled, {kind: {}})


def test_setting_a_key_to_null_removes_it(bench, restart):
    bench.create()
    bench.upsert([1], [{"a": 1, "b": {"x": 1, "y": None}, "c": None}])
    bench.do(SetPayload("films", {"a": None, "d": 2, "e": None}, [1]))
    assert payload_of(bench, 1) == {"b": {"x": 1, "y": None}, "c": None, "d": 2}
    bench.do(SetPayload("films", {"x": None, "z": {"n": None}}, [1], key="b"))
    assert payload_of(bench, 1) == {"b": {"y": None, "z": {"n": None}}, "c": None, "d": 2}
    bench.do(OverwritePayload("films", {"a": None}, [1]))
    assert payload_of(bench, 1) == {"a": None}
    assert restart(bench.database).columns.digest() == bench.database.columns.digest()


def test_a_query_without_a_target_needs_no_vector_name(bench):
    params = {"text": VectorParams(2, "Dot"), "image": VectorParams(3, "Dot")}
    bench.do(CreateCollection("films", params))
    block = VectorBlock(np.ones((2, 2), np.float32))
    bench.do(UpsertPoints("films", [7, 3], {"text": block}))
    assert [point.id for point in bench.database.query("films", Query(limit=5))] == [3, 7]
    with pytest.raises(InvalidInput, match="using"):
        bench.database.query("films", Query(vector=[1.0, 1.0]))


def test_deleting_through_lists(bench):
    bench.create()
    bench.upsert([1], [{"a": [1, 2], "b": [{"x": 1, "y": [3]}, 4, {"y": [5]}], "c": [6]}])
    bench.do(DeletePayloadKeys("films", ["a[]", "b[].y[]", "b[].x", "c[0]", "d[]"], [1]))
    assert payload_of(bench, 1) == {"a": [], "b": [{"y": []}, 4, {"y": []}], "c": [6]}


@pytest.mark.parametrize("key", ["e[0]", "e[]", "e[0].x", "d.e[1]", "c[7]", "c[0]", "a[0]"])
def test_setting_below_a_list_that_is_not_there_changes_nothing(bench, key):
    bench.create()
    payload = {"a": [], "c": [6], "d": {"f": 1}}
    bench.upsert([1], [payload])
    bench.do(SetPayload("films", {"new": 1}, [1], key=key))
    assert payload_of(bench, 1) == payload


def test_setting_below_lists(bench):
    bench.create()
    bench.upsert([1], [{"a": [{"x": 1}, 2, {}], "d": {"e": [{}, {}]}}])
    bench.do(SetPayload("films", {"new": 1}, [1], key="a[]"))
    bench.do(SetPayload("films", {"new": 2}, [1], key="d.e[1]"))
    assert payload_of(bench, 1) == {
        "a": [{"x": 1, "new": 1}, 2, {"new": 1}],
        "d": {"e": [{}, {"new": 2}]},
    }

"""Every bad request names the field and the rule, reaches no log and changes nothing."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from balsadb.database import (
    NO_SESSION,
    CreateCollection,
    CreatePayloadIndex,
    DeletePayloadIndex,
    DeletePayloadKeys,
    DeletePoints,
    HnswParams,
    OverwritePayload,
    Query,
    Selection,
    SessionKey,
    SetPayload,
    UpdateCollection,
    UpsertPoints,
    VectorBlock,
    VectorParams,
    limits,
)
from balsadb.database.filters import parse
from balsadb.errors import (
    AlreadyExists,
    CollectionNotFound,
    InvalidInput,
    LimitExceeded,
    PointNotFound,
)

V4 = VectorParams(4, "Dot")


def block(*rows: list[float]) -> VectorBlock:
    return VectorBlock(np.array(rows, np.float32))


def upsert(**changes: Any) -> UpsertPoints:
    return UpsertPoints(
        **{"collection": "films", "ids": [1], "vectors": {"": block([1, 2, 3, 4])}, **changes}
    )


def create(name: str = "new", vectors: Any = None, **hnsw: Any) -> CreateCollection:
    return CreateCollection(name, {"": V4} if vectors is None else vectors, HnswParams(**hnsw))


REQUESTS: list[tuple[Any, str, str]] = [
    (upsert(vectors={"": block([1, 2, 3])}), "points[0].vector", "expected dim: 4, got 3"),
    (upsert(vectors={"": block([1, 2, float("nan"), 4])}), "points[0].vector[2]", "finite"),
    (upsert(vectors={"": block([1, 2, 3, float("inf")])}), "points[0].vector[3]", "finite"),
    (upsert(vectors={"plot": block([1, 2, 3, 4])}), "points[0].vector.plot", "unknown vector name"),
    (upsert(vectors={"": block([1, 2, 3, 4], [1, 2, 3, 4])}), "vector", "2 vectors for 1 points"),
    (
        upsert(vectors={"": VectorBlock(np.ones((1, 4), np.float32), np.array([1]))}),
        "vector",
        "positions",
    ),
    (
        upsert(vectors={"": VectorBlock(np.ones((1, 4), np.float32), np.array([-1]))}),
        "vector",
        "positions",
    ),
    (upsert(ids=[-1]), "points[0]", "unsigned 64-bit integer or a UUID"),
    (upsert(ids=["film"]), "points[0]", "unsigned 64-bit integer or a UUID"),
    (upsert(ids=[]), "points", "at least one"),
    (upsert(ids=list(range(10_001))), "points", "at most 10000"),
    (upsert(payloads=[[1]]), "points[0].payload", "must be an object"),
    (upsert(payloads=["x"]), "points[0].payload", "must be an object"),
    (upsert(payloads=[msgspec.Raw(b"[1]")]), "points[0].payload", "must be an object"),
    (upsert(payloads=[msgspec.Raw(b"{")]), "points[0].payload", "not JSON"),
    (upsert(payloads=[{1: 2}]), "points[0].payload", "keys must be strings"),
    (upsert(payloads=[{"k": "\ud800"}]), "points[0].payload", "not a JSON object"),
    (upsert(payloads=[{"k": object()}]), "points[0].payload.k", "not object"),
    (upsert(payloads=[{"k": float("nan")}]), "points[0].payload.k", "finite"),
    (upsert(payloads=[{"a": {"b": [1, float("inf")]}}]), "points[0].payload.a.b[1]", "finite"),
    (upsert(payloads=[{"k": b"x"}]), "points[0].payload.k", "not bytes"),
    (upsert(payloads=[{"k": [{"t": datetime.now(UTC)}]}]), "points[0].payload.k[0].t", "datetime"),
    (upsert(payloads=[{"k": {1, 2}}]), "points[0].payload.k", "not set"),
    (upsert(payloads=[{"k": msgspec.msgpack.Ext(1, b"x")}]), "points[0].payload.k", "not Ext"),
    (SetPayload("films", {"a": float("nan")}, [1]), "payload.a", "finite"),
    (OverwritePayload("films", {"a": b"x"}, [1]), "payload.a", "not bytes"),
    (upsert(vectors={"": block([1, 1e18, 1, 1e18])}), "points[0].vector", "at most 1e+18"),
    (
        upsert(ids=[1, 2], vectors={"": block([1, 2, 3, 4], [3e38, 0, 0, 0])}),
        "points[1].vector",
        "norm",
    ),
    (
        upsert(
            ids=[1, 2],
            vectors={"": VectorBlock(np.full((1, 4), np.nan), np.array([1]), "batch.vectors[{}]")},
        ),
        "batch.vectors[1][0]",
        "finite",
    ),
    (upsert(payloads=[None, None]), "payloads", "2 payloads for 1 points"),
    (upsert(payloads=[{"k": "x" * (512 << 10)}]), "points[0].payload", "at most"),
    (create(vectors={"": VectorParams(0, "Dot")}), "vectors.size", "1..8192"),
    (create(vectors={"a": VectorParams(8193, "Dot")}), "vectors.a.size", "1..8192"),
    (create(vectors={"": VectorParams(4, "Hamming")}), "vectors.distance", "Cosine"),
    (create(vectors={str(n): V4 for n in range(17)}), "vectors", "at most 16"),
    (create(m=3), "hnsw_config.m", "4..64"),
    (create(ef_construct=1), "hnsw_config.ef_construct", "4..2000"),
    (create("a/b"), "collection_name", "must not contain"),
    (create(""), "collection_name", "non-empty"),
    (create("x" * 256), "collection_name", "at most 255"),
    (UpdateCollection("films", m=8), "hnsw_config.m", "cannot be changed"),
    (CreatePayloadIndex("films", "year", "geo"), "field_schema", "keyword, integer"),
    (CreatePayloadIndex("films", "a..b", "float"), "field_name", "path"),
    (DeletePayloadIndex("films", ""), "field_name", "payload key"),
    (DeletePoints("films"), "points", "exactly one"),
    (DeletePoints("films", [1], {}), "points", "exactly one"),
    (SetPayload("films", [1], [1]), "payload", "must be an object"),  # type: ignore[arg-type]
    (SetPayload("films", {}, [1], key="a]"), "key", "path"),
    (OverwritePayload("films", "x", [1]), "payload", "object"),  # type: ignore[arg-type]
    (DeletePayloadKeys("films", ["a", ""], [1]), "keys[1]", "payload key"),
]


@pytest.mark.parametrize(("request_", "field", "rule"), REQUESTS)
def test_a_bad_request_names_the_field_and_changes_nothing(
    bench: Any, request_: Any, field: str, rule: str
) -> None:
    bench.create()
    before = bench.database.columns.digests()
    with pytest.raises(InvalidInput) as caught:
        bench.database.prepare(request_, NO_SESSION)
    assert caught.value.field == field
    assert rule in caught.value.rule
    assert bench.database.columns.digests() == before


def test_collections_that_are_or_are_not_there(bench: Any) -> None:
    bench.create()
    with pytest.raises(AlreadyExists, match="already exists"):
        bench.database.prepare(create("films"), NO_SESSION)
    for request in (upsert(collection="books"), UpdateCollection("books"), DeletePoints("b", [1])):
        with pytest.raises(CollectionNotFound, match="doesn't exist"):
            bench.database.prepare(request, NO_SESSION)
    for read in ("info", "count", "scroll"):
        with pytest.raises(CollectionNotFound, match="`books` doesn't exist"):
            getattr(bench.database, read)("books")


def test_too_many_collections(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COLLECTIONS_MAX", 1)
    (late,) = bench.database.prepare(create("late"), NO_SESSION)
    bench.create()
    with pytest.raises(LimitExceeded):
        bench.database.prepare(create(), NO_SESSION)
    with pytest.raises(LimitExceeded):
        bench.propose(late).unwrap()
    assert bench.database.collections() == ["films"]


def test_a_full_collection_refuses_before_and_after_the_log(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "POINTS_MAX", 3)
    bench.create()
    (late,) = bench.database.prepare(upsert(ids=[7, 8], vectors={}), NO_SESSION)
    bench.upsert([1, 2])
    with pytest.raises(LimitExceeded, match="room for 1"):
        bench.database.prepare(upsert(ids=[3, 4], vectors={}), NO_SESSION)
    with pytest.raises(LimitExceeded):
        bench.propose(late).unwrap()
    assert bench.database.count("films") == 2


@pytest.mark.parametrize(
    ("key", "field"), [(SessionKey(b"x", 1), "session"), (SessionKey(bytes(16), -1), "session")]
)
def test_a_bad_session_is_named(bench: Any, key: SessionKey, field: str) -> None:
    bench.create()
    with pytest.raises(InvalidInput) as caught:
        bench.database.prepare(upsert(), key)
    assert caught.value.field == field


QUERIES: list[tuple[Query, str]] = [
    (Query(vector=[1, 2, 3]), "query"),
    (Query(vector=[1, 2, 3, float("nan")]), "query[3]"),
    (Query(vector=[1, 2, 3, 1e39]), "query[3]"),
    (Query(vector=[1, 2, 3, 1e19]), "query"),
    (Query(vector=["a", 2, 3, 4]), "query"),  # type: ignore[list-item]
    (Query(vector=[[1, 2, 3, 4]]), "query"),  # type: ignore[list-item]
    (Query(vector=[1, 2, 3, 4], id=1), "query"),
    (Query(vector=[1, 2, 3, 4], limit=0), "limit"),
    (Query(vector=[1, 2, 3, 4], limit=10_001), "limit"),
    (Query(vector=[1, 2, 3, 4], limit=True), "limit"),
    (Query(vector=[1, 2, 3, 4], offset=-1), "offset"),
    (Query(vector=[1, 2, 3, 4], offset=100_001), "offset"),
    (Query(vector=[1, 2, 3, 4], hnsw_ef=0), "params.hnsw_ef"),
    (Query(vector=[1, 2, 3, 4], hnsw_ef=10_001), "params.hnsw_ef"),
    (Query(vector=[1, 2, 3, 4], oversampling=0.5), "params.quantization.oversampling"),
    (Query(vector=[1, 2, 3, 4], oversampling=float("nan")), "params.quantization.oversampling"),
    (Query(vector=[1, 2, 3, 4], oversampling=float("inf")), "params.quantization.oversampling"),
    (Query(vector=[1, 2, 3, 4], score_threshold=float("nan")), "score_threshold"),
    (Query(vector=[1, 2, 3, 4], using="plot"), "using"),
    (Query(id="film"), "query"),
    (Query(id=2), "query"),
    (Query(vector=[1, 2, 3, 4], filter={"all": []}), "filter.all"),
    (Query(vector=[1, 2, 3, 4], selection=Selection(vector=["plot"])), "with_vector"),
    (Query(vector=[1, 2, 3, 4], selection=Selection(payload=["a", ""])), "with_payload[1]"),
    (Query(vector=[1, 2, 3, 4], selection=Selection(payload={"only": []})), "with_payload"),
]


@pytest.mark.parametrize(("query", "field"), QUERIES)
def test_a_bad_query_names_the_field(bench: Any, query: Query, field: str) -> None:
    bench.create()
    bench.upsert([1], [{"k": 1}])
    bench.do(UpsertPoints("films", [2], {}))
    with pytest.raises(InvalidInput) as caught:
        bench.database.query("films", query)
    assert caught.value.field == field
    # The lock was let go: a write still goes through.
    bench.upsert([3])


def test_a_bad_query_of_several_is_named(bench: Any) -> None:
    bench.create()
    good = Query(vector=[1, 2, 3, 4])
    for bad, field in ((Query(vector=[1]), "query"), (Query(vector=[1e30] * 4), "query")):
        with pytest.raises(InvalidInput) as caught:
            bench.database.query_many("films", [good, bad])
        assert caught.value.field == f"searches[1].{field}"


@pytest.mark.parametrize("metric", ["Cosine", "Dot", "Euclid", "Manhattan"])
def test_the_longest_vectors_have_finite_scores(bench: Any, metric: str) -> None:
    bench.create(**{"": (4, metric)})
    longest = [1e18, 0, 0, 0], [-5e17] * 4
    bench.do(upsert(ids=[1, 2], vectors={"": block(*longest)})).pop().unwrap()
    for vector in longest:
        found = bench.database.query("films", Query(vector=vector))
        assert len(found) == 2
        assert all(np.isfinite(point.score) for point in found)


def test_payloads_from_json_are_not_looked_at(bench: Any) -> None:
    """They cannot hold anything else: that check would be paid for by every point."""
    bench.create()
    strange = [{"k": b"x"}]
    assert bench.database.prepare(upsert(payloads=strange, payloads_are_json=True), NO_SESSION)


def test_all_that_json_has_is_stored(bench: Any) -> None:
    bench.create()
    payload = {
        "n": None,
        "b": True,
        "i": -1,
        "f": 0.5,
        "s": "x",
        "l": [None, [1.5]],
        "o": {"p": {}},
    }
    bench.do(upsert(payloads=[payload])).pop().unwrap()
    assert msgspec.json.decode(bench.database.retrieve("films", [1])[0].payload) == payload


def test_other_bad_reads(bench: Any) -> None:
    bench.create()
    with pytest.raises(PointNotFound, match="No point with id 9 found"):
        bench.database.query("films", Query(id=9))
    for limit in (0, 10_001):
        with pytest.raises(InvalidInput, match="limit"):
            bench.database.scroll("films", limit=limit)
    with pytest.raises(InvalidInput, match="offset"):
        bench.database.scroll("films", offset="x")
    with pytest.raises(LimitExceeded, match="ids"):
        bench.database.retrieve("films", [1] * 10_001)


FILTERS: list[tuple[Any, str]] = [
    ([], "filter"),
    ({"musst": []}, "filter.musst"),
    ({"must": 1}, "filter.must"),
    ({"must": ["x"]}, "filter.must[0]"),
    ({"must": {"key": "k", "match": 1}}, "filter.must.match"),
    ({"must": [{"key": "k"}]}, "filter.must[0]"),
    ({"must": [{"match": {"value": 1}}]}, "filter.must[0].key"),
    ({"must": [{"key": 1, "match": {"value": 1}}]}, "filter.must[0].key"),
    ({"must": [{"key": "k", "match": {"value": 1.5}}]}, "filter.must[0].match.value"),
    ({"must": [{"key": "k", "match": {"value": [1]}}]}, "filter.must[0].match.value"),
    ({"must": [{"key": "k", "match": {"value": 1 << 63}}]}, "filter.must[0].match.value"),
    ({"must": [{"key": "k", "match": {"any": "a"}}]}, "filter.must[0].match.any"),
    ({"must": [{"key": "k", "match": {"any": ["a", 1]}}]}, "filter.must[0].match.any"),
    ({"must": [{"key": "k", "match": {"except": [True]}}]}, "filter.must[0].match.except"),
    ({"must": [{"key": "k", "match": {"text": "a"}}]}, "filter.must[0].match.text"),
    ({"must": [{"key": "k", "match": {}}]}, "filter.must[0].match"),
    ({"must": [{"key": "k", "match": {"value": 1, "any": [1]}}]}, "filter.must[0].match"),
    ({"should": [{"key": "k", "range": {"gt": "a"}}]}, "filter.should[0].range.gt"),
    ({"should": [{"key": "k", "range": {"gt": True}}]}, "filter.should[0].range.gt"),
    ({"should": [{"key": "k", "range": {"gt": float("nan")}}]}, "filter.should[0].range.gt"),
    ({"should": [{"key": "k", "range": {"above": 1}}]}, "filter.should[0].range.above"),
    ({"must_not": [{"key": "k", "geo_radius": {}}]}, "filter.must_not[0].geo_radius"),
    ({"must_not": [{"has_id": 1}]}, "filter.must_not[0].has_id"),
    ({"must_not": [{"has_id": ["x"]}]}, "filter.must_not[0].has_id[0]"),
    ({"must_not": [{"is_empty": "k"}]}, "filter.must_not[0].is_empty"),
    ({"must_not": [{"is_null": {"key": ""}}]}, "filter.must_not[0].is_null.key"),
    ({"must_not": [{"has_vector": 1}]}, "filter.must_not[0].has_vector"),
    ({"min_should": []}, "filter.min_should"),
    ({"min_should": {"conditions": []}}, "filter.min_should.min_count"),
    ({"min_should": {"conditions": 1, "min_count": 1}}, "filter.min_should.conditions"),
    ({"must": [{"must": [{"key": "k", "match": 1}]}]}, "filter.must[0].must[0].match"),
    ({"must": [{"has_id": [1]}] * 1001}, "filter.must[1000]"),
    ({"must": [{"has_id": [1] * 10_001}]}, "filter.must[0].has_id"),
]


@pytest.mark.parametrize(("tree", "field"), FILTERS)
def test_a_bad_filter_names_the_path(tree: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(tree)
    assert caught.value.field == field


def test_a_filter_has_a_greatest_depth() -> None:
    tree: Any = {"has_id": [1]}
    for _ in range(limits.FILTER_DEPTH_MAX):
        tree = {"must": [tree]}
    parse(tree)
    with pytest.raises(LimitExceeded, match="nested"):
        parse({"must": [tree]})

"""What writes do to points, and what reads then answer."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pytest

from balsadb.database import (
    NOTHING,
    ClearPayload,
    CreateCollection,
    CreatePayloadIndex,
    Database,
    DeleteCollection,
    DeletePayloadIndex,
    DeletePayloadKeys,
    DeletePoints,
    OverwritePayload,
    Query,
    Record,
    Selection,
    SetPayload,
    UpdateCollection,
    UpsertPoints,
    VectorBlock,
    VectorParams,
    commands,
    limits,
)
from balsadb.errors import CollectionReplaced, NewerFormat

OBJECTS = Selection(payload=True, vector=True, raw_payload=False)


def block(*rows: list[float], at: list[int] | None = None) -> VectorBlock:
    positions = None if at is None else np.array(at)
    return VectorBlock(np.array(rows, np.float32), positions)


def index_of(database: Database, ordinal: int = 0) -> Any:
    return next(iter(database.catalog.by_uid.values())).vectors[ordinal].index


def test_an_upsert_replaces_the_whole_point(bench: Any) -> None:
    bench.create("films", a=(2, "Dot"), b=(3, "Euclid"))
    both = {"a": block([1, 2], [3, 4]), "b": block([5, 6, 7], at=[1])}
    bench.do(UpsertPoints("films", [1, 2], both, [{"k": 1}, None]))
    assert bench.database.retrieve("films", [2, 9, 1], selection=OBJECTS) == [
        Record(2, {}, {"a": [3.0, 4.0], "b": [5.0, 6.0, 7.0]}),
        Record(1, {"k": 1}, {"a": [1.0, 2.0]}),
    ]
    bench.do(UpsertPoints("films", [2], {"b": block([5, 6, 8])}, [{"z": [None]}]))
    assert bench.database.retrieve("films", [2], selection=OBJECTS) == [
        Record(2, {"z": [None]}, {"b": [5.0, 6.0, 8.0]})
    ]
    assert bench.database.check() == []


def test_equal_bytes_keep_their_row_and_other_bytes_take_a_new_one(bench: Any) -> None:
    bench.create()
    bench.do(UpsertPoints("films", [1, 2], {"": block([1, 2, 3, 4], [5, 6, 7, 8])}))
    bench.do(UpsertPoints("films", [1, 2], {"": block([1, 2, 3, 4], [5, 6, 7, 9])}))
    assert index_of(bench.database).rows == 3
    assert index_of(bench.database).live_count == 2


def test_the_last_of_duplicate_ids_wins(bench: Any) -> None:
    bench.create()
    rows = block([1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0], at=[0, 1, 2])
    (result,) = bench.do(UpsertPoints("films", [7, 8, 7], {"": rows}, [{"n": n} for n in "abc"]))
    assert result.value == 2
    assert bench.database.retrieve("films", [7, 8], selection=OBJECTS) == [
        Record(7, {"n": "c"}, [3.0, 0.0, 0.0, 0.0]),
        Record(8, {"n": "b"}, [2.0, 0.0, 0.0, 0.0]),
    ]


def test_a_slot_used_again_never_shows_the_dead_row_that_names_it(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead row stays linked, and its slot belongs to another point by then."""
    monkeypatch.setattr(limits, "GRAPH_ROWS_MIN", 20)
    bench.create()
    rng = np.random.default_rng(0)
    values = rng.normal(size=(64, 4)).astype(np.float32)
    ids = list(range(64))
    bench.do(UpsertPoints("films", ids, {"": VectorBlock(values)}, [{"k": "old"}] * 64))
    while (work := bench.database.link_work(idle=True)) is not None:
        bench.propose(bench.database.plan(work, 16)).unwrap()
    assert index_of(bench.database).linked_count == 64
    bench.do(DeletePoints("films", list(range(10))))
    away = np.tile(np.float32([0, 0, 0, 9]), (10, 1))
    bench.do(UpsertPoints("films", range(100, 110), {"": VectorBlock(away)}, [{"k": "new"}] * 10))
    only_new = {"must": [{"key": "k", "match": {"value": "new"}}]}
    for dead in values[:10]:
        found = bench.database.query("films", Query(vector=dead, limit=64))
        assert len(found) == 64
        assert not {point.id for point in found} & set(range(10))
        assert len({point.id for point in found}) == 64
        asked = Query(vector=dead, limit=64, filter=only_new)
        best = bench.database.query("films", asked)
        assert {point.id for point in best} == set(range(100, 110))
        assert {point.score for point in best} == {float(np.float32(9) * dead[3])}
    assert bench.database.check() == []


def test_rows_of_changed_vectors_are_freed_without_a_graph(bench: Any) -> None:
    bench.create()
    for turn in range(30):
        bench.upsert(list(range(100)), seed=turn)
        work = bench.database.link_work(idle=True)
        if work is not None:
            assert bench.propose(bench.database.plan(work, 1024)).value is True
    assert index_of(bench.database).rows <= 100 + limits.DEAD_ROWS_MIN + 100
    assert bench.database.link_work(idle=True) is None
    assert bench.database.tail_rows == 0
    assert len(bench.database.query("films", Query(vector=[1, 0, 0, 0], limit=1000))) == 100
    assert bench.database.check() == []


def test_payload_changes(bench: Any) -> None:
    bench.create()
    bench.upsert([1, 2, 3], [{"a": 1, "b": {"c": 2.0, "d": [1]}}] * 3)
    bench.do(SetPayload("films", {"a": [], "é": 10**20}, [1, 99]))
    bench.do(SetPayload("films", {"e": 1}, filter={"must": [{"has_id": [2]}]}, key="b.x"))
    bench.do(OverwritePayload("films", {"only": None}, [3]))
    raw = [record.payload for record in bench.database.retrieve("films", [1, 2, 3])]
    assert [bytes(part) for part in raw] == [
        '{"a":[],"b":{"c":2.0,"d":[1]},"é":100000000000000000000}'.encode(),
        b'{"a":1,"b":{"c":2.0,"d":[1],"x":{"e":1}}}',
        b'{"only":null}',
    ]
    bench.do(DeletePayloadKeys("films", ["a", "b.d", "nope.nope"], [1, 2]))
    bench.do(ClearPayload("films", [3]))
    objects = Selection(payload=True, raw_payload=False)
    assert [
        one.payload for one in bench.database.retrieve("films", [1, 2, 3], selection=objects)
    ] == [
        {"b": {"c": 2.0}, "é": 10**20},
        {"b": {"c": 2.0, "x": {"e": 1}}},
        {},
    ]
    assert bench.database.check() == []


def test_dead_payload_bytes_are_zero_counted_and_compacted(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAP_DEAD_BYTES_MIN", 1000)
    bench.create()
    bench.upsert(list(range(100)), [{"text": f"SECRET{n:03}" * 3} for n in range(100)])
    assert bench.database.maintenance() == []
    bench.do(DeletePoints("films", list(range(20, 99))))
    heap = bench.database.columns["c/0000000000000001/payload_heap"]
    assert heap.used.tobytes().count(b"SECRET") == 3 * 21
    before = bench.database.info("films")
    assert before.payload_dead_bytes == 79 * len(b'{"text":"SECRET000SECRET000SECRET000"}')
    (compact,) = bench.database.maintenance()
    bench.propose(compact).unwrap()
    after = bench.database.info("films")
    assert after.payload_dead_bytes == 0
    assert after.payload_bytes == before.payload_bytes - before.payload_dead_bytes
    assert bytes(bench.database.retrieve("films", [99])[0].payload).count(b"SECRET099") == 3
    assert bench.database.maintenance() == []
    assert bench.database.check() == []


def test_scroll_walks_all_points_in_id_order(bench: Any, restart: Callable[[Any], Any]) -> None:
    bench.create()
    ids: list[int | UUID] = [UUID(int=n) for n in (5, 1 << 100, 2)]
    ids += [(1 << 64) - 1, 3, 12, 7, 0]
    bench.upsert(ids, [{"n": n} for n in range(8)])
    expected = [
        0,
        3,
        7,
        12,
        (1 << 64) - 1,
        *map(str, (UUID(int=2), UUID(int=5), UUID(int=1 << 100))),
    ]
    for database in (bench.database, restart(bench.database)):
        for limit in (1, 3, 8, 100):
            seen: list[int | str] = []
            offset = None
            while True:
                page = database.scroll("films", limit=limit, offset=offset, selection=NOTHING)
                seen += [record.id for record in page.points]
                offset = page.next_page_offset
                if offset is None:
                    break
            assert seen == expected
    bench.do(DeletePoints("films", [3]))
    assert bench.database.scroll("films", limit=1, offset=1).points[0].id == 7
    some = {"must": [{"key": "n", "range": {"lt": 3}}]}
    page = bench.database.scroll("films", limit=2, filter=some)
    assert [one.id for one in page.points] == expected[5:7]
    assert page.next_page_offset == expected[7]


def test_queries(bench: Any) -> None:
    bench.create()
    rows = [[float(n), 0, 0, 0] for n in range(10)]
    bench.do(UpsertPoints("films", range(10), {"": block(*rows)}, [{"n": n} for n in range(10)]))
    version = len(bench.log)

    def ids(**asked: Any) -> list[int | str]:
        return [point.id for point in bench.database.query("films", Query(**asked))]

    one = [1.0, 0, 0, 0]
    assert ids(vector=one, limit=3) == [9, 8, 7]
    assert ids(vector=one, limit=3, offset=2, hnsw_ef=1) == [7, 6, 5]
    assert ids(vector=one, score_threshold=8.0) == [9, 8]
    assert ids(vector=one, filter={"must": [{"key": "n", "range": {"lt": 5}}]}, limit=2) == [4, 3]
    assert ids(vector=one, filter={"must": [{"has_id": [77]}]}) == []
    assert ids(vector=one, exact=True, limit=1) == [9]
    assert ids(id=9, limit=2) == [8, 7], "the point asked about is left out"
    assert ids(limit=2, offset=1) == [1, 2], "without a vector: in id order"
    (best,) = bench.database.query("films", Query(vector=one, limit=1, selection=OBJECTS))
    assert (best.version, best.score, best.payload, best.vector) == (
        version,
        9.0,
        {"n": 9},
        rows[9],
    )
    bench.do(DeletePoints("films", filter={}))
    assert ids(vector=one) == []


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("Cosine", [1.0, 0.0]),
        ("Dot", [2.0, 0.0]),
        ("Euclid", [1.0, 5.0**0.5]),
        ("Manhattan", [1.0, 3.0]),
    ],
)
def test_scores_and_thresholds_follow_the_metric(
    bench: Any, metric: str, expected: list[float]
) -> None:
    bench.create("films", v=(2, metric))
    bench.do(UpsertPoints("films", [1, 2], {"v": block([2, 0], [0, 2])}))
    asked = Query(vector=[1, 0], using="v", selection=Selection(vector=["v"]))
    found = bench.database.query("films", asked)
    assert [point.id for point in found] == [1, 2]
    assert [point.score for point in found] == pytest.approx(expected)
    assert found[0].vector == {"v": [1.0, 0.0] if metric == "Cosine" else [2.0, 0.0]}
    near = Query(vector=[1, 0], using="v", score_threshold=expected[0])
    assert [point.id for point in bench.database.query("films", near)] == [1]


def test_a_zero_vector_under_cosine_is_stored_as_it_is(bench: Any) -> None:
    bench.create("films", v=(2, "Cosine"))
    bench.do(UpsertPoints("films", [1], {"v": block([0, 0])}))
    (found,) = bench.database.query("films", Query(vector=[1, 0], using="v"))
    assert found.score == 0.0


def test_payload_selectors(bench: Any) -> None:
    bench.create()
    bench.upsert([1], [{"a": 1, "b": {"c": 2, "d": 3}, "l": [{"x": 1, "y": 2}]}])

    def payload(wanted: Any) -> Any:
        pair = [
            bench.database.retrieve("films", [1], selection=Selection(wanted, raw_payload=raw))
            for raw in (True, False)
        ]
        raw, whole = pair[0][0].payload, pair[1][0].payload
        assert raw is None or msgspec.json.decode(raw) == whole
        return whole

    assert payload(False) is None
    assert payload([]) == {}
    assert payload(["b.c", "nope"]) == {"b": {"c": 2}}
    assert payload({"include": ["a", "l[].x"]}) == {"a": 1, "l": [{"x": 1, "y": 2}]}
    assert payload({"exclude": ["b.c", "l"]}) == {"a": 1, "b": {"d": 3}}


def test_schema_changes(bench: Any, restart: Callable[[Any], Any]) -> None:
    bench.create()
    bench.upsert([1, 2, 3], [{"y": 1}, {"y": "x"}, {"y": [1, 2]}])
    bench.do(CreatePayloadIndex("films", "y", "integer"))
    bench.do(UpdateCollection("films", ef_construct=200))
    for database in (bench.database, restart(bench.database)):
        info = database.info("films")
        assert {key: part.points for key, part in info.payload_schema.items()} == {"y": 2}
        assert (info.ef_construct, info.m, info.status, info.points_count) == (200, 16, "green", 3)
        assert index_of(database).options.ef_construct == 200
    bench.do(DeletePayloadIndex("films", "y"))
    assert bench.database.info("films").payload_schema == {}


def test_a_write_meant_for_a_dropped_collection_is_refused(bench: Any) -> None:
    bench.create()
    requests = (UpsertPoints("films", [1], {}), DeletePoints("films", [1]))
    late = [bench.database.prepare(one, commands_key())[0] for one in requests]
    assert bench.do(DeleteCollection("films"))[0].value is True
    assert bench.do(DeleteCollection("films"))[0].value is False
    bench.do(CreateCollection("films", {"": VectorParams(4, "Dot")}))
    for data in late:
        with pytest.raises(CollectionReplaced):
            bench.propose(data).unwrap()
    assert bench.database.count("films") == 0
    assert not [name for name in bench.database.columns.names() if name.startswith("c/00000001/")]


def commands_key() -> Any:
    from balsadb.database import SessionKey

    return SessionKey(bytes(16), 0)


def test_commands_of_another_version_stop_the_node(bench: Any) -> None:
    with pytest.raises(NewerFormat, match="upgrade"):
        bench.database.apply(1, bytes([commands.COMMAND_VERSION + 1]))


def test_the_log_index_must_rise_and_empty_entries_move_it(bench: Any) -> None:
    assert bench.database.apply(4, b"").log_index == 4
    assert bench.database.applied_index == 4
    with pytest.raises(ValueError, match="entry 4"):
        bench.database.apply(4, b"")


def test_requests_are_cut_into_commands_within_limits(bench: Any) -> None:
    bench.create("films", v=(4096, "Euclid"))
    values = np.ones((600, 4096), np.float32)
    texts = [{"t": "x" * 1000}] * 600
    cut = bench.database.prepare(
        UpsertPoints("films", range(600), {"v": VectorBlock(values)}, texts), commands_key()
    )
    assert max(map(len, cut)) <= limits.COMMAND_BYTES_MAX
    assert len(cut) == -(-600 // 59)
    small = bench.database.prepare(UpsertPoints("films", range(600), {}), commands_key())
    assert len(small) == 3
    for data in cut:
        bench.propose(data)
    assert bench.database.count("films") == 600
    again = bench.database.prepare(
        UpsertPoints("films", range(600), {"v": VectorBlock(values)}, texts), commands_key()
    )
    assert again == cut

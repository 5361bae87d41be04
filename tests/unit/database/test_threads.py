"""Readers in threads beside apply: no read sees half of a command, none fails."""

from threading import Event, Thread
from typing import Any

import numpy as np

from balsadb.database import (
    NO_SESSION,
    CreateCollection,
    DeleteCollection,
    DeletePoints,
    Query,
    Selection,
    UpsertPoints,
    VectorBlock,
    VectorParams,
    limits,
)
from balsadb.errors import CollectionNotFound

POINTS = 100
WHOLE = Selection(payload=True, vector=True, raw_payload=False)


def _churn(bench: Any) -> None:
    database = bench.database
    for turn in range(1, 36):
        if turn % 7 == 0:
            bench.do(DeletePoints("films", range(POINTS)))
            continue
        values = np.full((POINTS, 4), turn, np.float32)
        payloads = [{"n": turn, "all": True}] * POINTS
        bench.do(UpsertPoints("films", range(POINTS), {"": VectorBlock(values)}, payloads))
        work = database.link_work(idle=True)
        if turn % 3 == 0 and work is not None:
            edit = database.plan(work, 64)
            if edit is not None:
                bench.propose(edit).unwrap()


def test_a_command_is_seen_whole_or_not_at_all(bench: Any, monkeypatch: Any) -> None:
    """Every command gives all points one number, as payload and as vector, or deletes them all."""
    monkeypatch.setattr(limits, "GRAPH_ROWS_MIN", 50)
    bench.create()
    database = bench.database
    stop = Event()
    wrong: list[Any] = []
    reads = [0, 0, 0]

    def check(place: int, read: Any) -> None:
        while not stop.is_set():
            numbers = read()  # pytest makes an error of what a thread raises
            reads[place] += 1
            if len(set(numbers)) > 1 or len(numbers) not in (0, POINTS):
                wrong.append(numbers)

    def scroll() -> list[Any]:
        page = database.scroll("films", limit=1000, selection=WHOLE)
        return [(one.payload["n"], *one.vector) for one in page.points]  # type: ignore[index,misc]

    def query() -> list[Any]:
        some = {"must": [{"key": "n", "range": {"gte": 0}}]}
        asked = Query(vector=[1, 0, 0, 0], limit=1000, filter=some, selection=WHOLE)
        found = database.query("films", asked)
        return [(one.version, one.score, one.payload["n"]) for one in found]  # type: ignore[index]

    def count() -> list[Any]:
        return [0] * database.count(
            "films", filter={"must": [{"key": "all", "match": {"value": True}}]}
        )

    threads = [
        Thread(target=check, args=(place, read))
        for place, read in enumerate((scroll, query, count))
    ]
    for thread in threads:
        thread.start()
    _churn(bench)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert min(reads) > 0
    assert database.check() == []


def test_collections_come_and_go_under_readers(bench: Any) -> None:
    database = bench.database
    stop = Event()
    gone = [0]

    def read() -> None:
        while not stop.is_set():
            try:
                database.query("films", Query(vector=[1, 0, 0, 0]))
                database.prepare(DeletePoints("films", filter={}), NO_SESSION)
                database.info("films")
            except CollectionNotFound:
                gone[0] += 1

    threads = [Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(12):
        bench.do(CreateCollection("films", {"": VectorParams(4, "Dot")}))
        bench.upsert([1, 2, 3])
        bench.do(DeleteCollection("films"))
    stop.set()
    for thread in threads:
        thread.join(60)
    assert gone[0] > 0
    assert database.columns.names() == ["sessions/key", "sessions/recent", "sessions/used", "state"]

"""The database against a dictionary: random writes, then every read."""

from typing import Any
from uuid import UUID

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from balsadb.columns import ColumnSet
from balsadb.database import (
    NO_SESSION,
    ClearPayload,
    CreateCollection,
    Database,
    DeletePayloadKeys,
    DeletePoints,
    OverwritePayload,
    Query,
    Selection,
    SetPayload,
    UpsertPoints,
    VectorBlock,
    VectorParams,
    commands,
)
from balsadb.types import LogIndex

NUMBERS = st.integers(0, 12)
IDS = st.lists(NUMBERS.map(lambda n: UUID(int=n) if n % 4 == 0 else n), min_size=1, max_size=6)
PAYLOADS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3)
VECTORS = st.lists(st.integers(-2, 2), min_size=3, max_size=3)
WHOLE = Selection(payload=True, vector=True, raw_payload=False)


def key(point: int | UUID) -> tuple[bool, int]:
    return isinstance(point, UUID), int(point)


def wire(point: int | UUID) -> int | str:
    return str(point) if isinstance(point, UUID) else point


class DatabaseMachine(RuleBasedStateMachine):
    """`points`: id -> (payload, vector or None), the whole truth."""

    def __init__(self) -> None:
        super().__init__()
        self.database = Database()
        self.index = 0
        self.points: dict[int | UUID, tuple[dict[str, int], list[int] | None]] = {}

    def propose(self, data: bytes) -> Any:
        self.index += 1
        return self.database.apply(LogIndex(self.index), data).unwrap()

    def do(self, request: Any) -> None:
        for data in self.database.prepare(request, NO_SESSION):
            self.propose(data)

    @initialize()
    def create(self) -> None:
        self.do(CreateCollection("c", {"v": VectorParams(3, "Manhattan")}))

    @rule(ids=IDS, data=st.data())
    def upsert(self, ids: list[Any], data: st.DataObject) -> None:
        payloads = [data.draw(PAYLOADS) for _ in ids]
        vectors = [data.draw(st.none() | VECTORS) for _ in ids]
        given = [place for place, vector in enumerate(vectors) if vector is not None]
        values = np.array([vectors[place] for place in given], np.float32).reshape(-1, 3)
        block = VectorBlock(values, np.array(given, np.int64))
        self.do(UpsertPoints("c", ids, {"v": block}, payloads))
        self.points.update(zip(ids, zip(payloads, vectors, strict=True), strict=True))

    @rule(ids=IDS)
    def delete(self, ids: list[Any]) -> None:
        self.do(DeletePoints("c", ids))
        for point in ids:
            self.points.pop(point, None)

    @rule(number=st.integers(0, 3))
    def delete_by_filter(self, number: int) -> None:
        tree = {"must": [{"key": "a", "match": {"value": number}}]}
        self.do(DeletePoints("c", filter=tree))
        self.points = {p: kept for p, kept in self.points.items() if kept[0].get("a") != number}

    @rule(ids=IDS, payload=PAYLOADS, how=st.sampled_from(["set", "overwrite", "delete", "clear"]))
    def change_payload(self, ids: list[Any], payload: dict[str, int], how: str) -> None:
        if how == "set":
            self.do(SetPayload("c", payload, ids))
        elif how == "overwrite":
            self.do(OverwritePayload("c", payload, ids))
        elif how == "delete":
            self.do(DeletePayloadKeys("c", list(payload), ids))
        else:
            self.do(ClearPayload("c", ids))
        for point in set(ids) & self.points.keys():
            old, vector = self.points[point]
            left = {name: value for name, value in old.items() if name not in payload}
            new = {"set": {**old, **payload}, "overwrite": payload, "delete": left, "clear": {}}
            self.points[point] = new[how], vector

    @rule()
    def compact(self) -> None:
        self.propose(commands.encode(commands.CompactHeapCommand(commands.NO_ORIGIN, 1)))

    @rule()
    def restart(self) -> None:
        columns = ColumnSet()
        for frozen in self.database.columns.freeze():
            chunks = [frozen.chunk(number) for number in range(frozen.chunk_count)]
            columns.load_column(frozen.meta, chunks)
            frozen.release()
        self.database = Database(columns)

    @rule(query=VECTORS, limit=st.integers(1, 8), number=st.integers(0, 3))
    def search(self, query: list[int], limit: int, number: int) -> None:
        tree = {"must_not": [{"key": "b", "match": {"value": number}}]}
        asked = Query(vector=query, using="v", limit=limit, filter=tree)
        found = self.database.query("c", asked)
        distances = {
            wire(point): sum(abs(a - b) for a, b in zip(vector, query, strict=True))
            for point, (payload, vector) in self.points.items()
            if vector is not None and payload.get("b") != number
        }
        assert [one.score for one in found] == sorted(distances.values())[:limit]
        assert all(one.score == distances[one.id] for one in found)

    @invariant()
    def reads_agree(self) -> None:
        if not self.index:
            return
        page = self.database.scroll("c", limit=100, selection=WHOLE)
        assert [(one.id, one.payload, one.vector) for one in page.points] == [
            (wire(point), self.points[point][0], _named(self.points[point][1]))
            for point in sorted(self.points, key=key)
        ]
        assert self.database.count("c") == len(self.points)
        assert self.database.check() == []


def _named(vector: list[int] | None) -> dict[str, list[float]]:
    return {} if vector is None else {"v": [float(part) for part in vector]}


TestDatabase = DatabaseMachine.TestCase
TestDatabase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)

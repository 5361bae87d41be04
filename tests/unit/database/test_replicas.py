"""Three replicas of one log: one that runs on, one restarted after every entry, one installed from
a snapshot midway, while codes are being made. After 500 random commands all of their bytes are
equal."""

from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from balsadb.database import (
    ClearPayload,
    CreateCollection,
    CreatePayloadIndex,
    Database,
    DeleteCollection,
    DeletePayloadKeys,
    DeletePoints,
    HnswParams,
    Marker,
    OverwritePayload,
    Request,
    SessionKey,
    SetPayload,
    UpdateCollection,
    UpsertPoints,
    VectorBlock,
    VectorParams,
    commands,
    limits,
)
from balsadb.database.commands import LinkCommand
from balsadb.errors import BalsaError
from balsadb.index import edit, planner
from balsadb.types import LogIndex

NAMES = ("films", "books")
GENRES = ("crime", "drama", "noir", "war")


class Traffic:
    """Random requests; ids and payloads repeat often enough to meet."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.sequence = 0

    def pick(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def id(self) -> int | UUID:
        number = int(self.rng.integers(150))
        return UUID(int=number << 64 | number) if number % 5 == 0 else number

    def ids(self) -> list[int | UUID]:
        return [self.id() for _ in range(int(self.rng.integers(1, 25)))]

    def payload(self) -> dict[str, Any]:
        return {
            "genre": [self.pick(*GENRES) for _ in range(int(self.rng.integers(3)))],
            "year": int(self.rng.integers(1900, 1910)),
            "score": float(self.rng.normal()),
            "by": {"name": self.pick("Ford", "Hawks", None)},
            "text": "x" * int(self.rng.integers(40)),
        }

    def filter(self) -> dict[str, Any]:
        return {
            "must": [{"key": "genre", "match": {"value": self.pick(*GENRES)}}],
            "must_not": [{"key": "year", "range": {"lt": int(self.rng.integers(1900, 1910))}}],
        }

    def block(self, count: int, size: int) -> VectorBlock:
        chosen = np.flatnonzero(self.rng.random(count) < 0.7)
        # Few distinct vectors, so that points are also given the bytes they have.
        values = self.rng.integers(-2, 3, size=(chosen.size, size)).astype(np.float32)
        return VectorBlock(values, chosen)

    def selector(self) -> dict[str, Any]:
        return {"ids": self.ids()} if self.pick(0, 1) else {"filter": self.filter()}

    def request(self) -> Request:
        kinds = (
            *[self.upsert] * 10,
            *[self.delete] * 3,
            *[self.change] * 4,
            self.schema,
            self.other,
        )
        return self.pick(*kinds)(self.pick(*NAMES))

    def upsert(self, name: str) -> Request:
        ids = self.ids()
        vectors = {"": self.block(len(ids), 3), "plot": self.block(len(ids), 5)}
        return UpsertPoints(name, ids, vectors, [self.payload() for _ in ids])

    def delete(self, name: str) -> Request:
        return DeletePoints(name, **self.selector())

    def change(self, name: str) -> Request:
        key = self.pick(None, "by", "new.place")
        which = self.selector()
        return self.pick(
            SetPayload(name, {"seen": int(self.rng.integers(3)), "by": None}, **which, key=key),
            OverwritePayload(name, self.payload(), **which),
            DeletePayloadKeys(name, ["by.name", "text"], **which),
            ClearPayload(name, **which),
        )

    def schema(self, name: str) -> Request:
        return self.pick(
            CreatePayloadIndex(name, "year", self.pick("integer", "float")),
            UpdateCollection(name, ef_construct=int(self.rng.integers(20, 40))),
        )

    def other(self, name: str) -> Request:
        params = {"": VectorParams(3, "Cosine"), "plot": VectorParams(5, "Euclid")}
        if name == "books":
            params["plot"] = VectorParams(5, "Manhattan", "none")
        create = CreateCollection(name, params, HnswParams(4, 20))
        return self.pick(create, create, create, DeleteCollection(name), Marker())

    def session(self) -> SessionKey:
        if self.rng.random() < 0.8:
            self.sequence += 1
        return SessionKey(bytes([int(self.rng.integers(1, 4))] * 16), self.sequence)

    def entries(self, leader: Database) -> list[bytes]:
        chance = self.rng.random()
        if chance < 0.25:
            work = leader.link_work(idle=True)
            planned = None if work is None else leader.plan(work, 16)
            return [] if planned is None else [planned]
        if chance < 0.3 and leader.catalog.by_uid:
            uid = min(leader.catalog.by_uid)
            return [commands.encode(commands.CompactHeapCommand(commands.NO_ORIGIN, uid))]
        try:
            return leader.prepare(self.request(), self.session())
        except BalsaError:
            return []


@pytest.mark.parametrize("seed", [1, 2])
def test_replicas_are_equal_to_the_byte(
    seed: int, restart: Callable[[Database], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GRAPH_ROWS_MIN", 40)
    monkeypatch.setattr(limits, "CODES_ROWS_MIN", 60)
    monkeypatch.setattr(limits, "LINK_BATCH", 8)
    monkeypatch.setattr(planner, "CODE_ELEMENTS", 30 * 64)
    monkeypatch.setattr(limits, "SESSIONS_MAX", 2)
    traffic = Traffic(seed)
    steady, restarting = Database(), Database()
    installed: Database | None = None
    index = 0
    edits: Counter[int] = Counter()
    most_points, unfinished = 0, 0
    while index < 500:
        for data in traffic.entries(steady):
            index += 1
            result = steady.apply(LogIndex(index), data)
            command = commands.decode(data)
            if isinstance(command, LinkCommand) and result.value is True:
                edits[edit.kind_of(command.edit)] += 1
            coding = steady.codes.coded < steady.codes.rows
            unfinished += coding
            most_points = max(most_points, steady.points_count)
            assert restarting.apply(LogIndex(index), data) == result
            restarting = restart(restarting)
            if installed is not None:
                assert installed.apply(LogIndex(index), data) == result
            if index % 10 == 0:
                expected = steady.columns.digests()
                assert restarting.columns.digests() == expected
                assert installed is None or installed.columns.digests() == expected
            if index % 50 == 0:
                assert steady.check() == []
            if installed is None and (coding if index >= 150 else index >= 300):
                assert coding
                installed = restart(steady)
    assert installed is not None
    assert installed.columns.digest() == steady.columns.digest() == restarting.columns.digest()
    assert edits[edit.LINK] > 10
    assert edits[edit.TRAIN] > 1
    assert edits[edit.CODE] > 10
    assert unfinished > 20
    assert all(
        part.index.codes.epoch == 0
        for one in steady.catalog.by_uid.values()
        for part in one.vectors
        if one.schema.quantization_of(part.schema) == "none"
    )
    assert most_points > 100

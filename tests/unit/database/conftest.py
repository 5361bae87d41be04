"""A database without a log: requests are prepared and applied one after the other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.database import (
    NO_SESSION,
    CreateCollection,
    Database,
    Request,
    Result,
    SessionKey,
    UpsertPoints,
    VectorBlock,
    VectorParams,
)
from balsadb.types import LogIndex


class Bench:
    """A database and the index of its newest entry."""

    def __init__(self) -> None:
        self.database = Database()
        self.log: list[bytes] = []

    def propose(self, data: bytes) -> Result:
        self.log.append(data)
        return self.database.apply(LogIndex(len(self.log)), data)

    def do(self, request: Request, session: SessionKey = NO_SESSION) -> list[Result]:
        return [self.propose(data) for data in self.database.prepare(request, session)]

    def create(self, name: str = "films", **vectors: tuple[int, str]) -> None:
        params = {key: VectorParams(*value) for key, value in vectors.items()}
        self.do(CreateCollection(name, params or {"": VectorParams(4, "Dot")})).pop().unwrap()

    def upsert(self, ids: list[Any], payloads: list[Any] | None = None, seed: int = 0) -> None:
        values = np.random.default_rng(seed).normal(size=(len(ids), 4)).astype(np.float32)
        for result in self.do(UpsertPoints("films", ids, {"": VectorBlock(values)}, payloads)):
            result.unwrap()


def restarted(database: Database) -> Database:
    """What a node would build from a checkpoint taken now."""
    columns = ColumnSet()
    for frozen in database.columns.freeze():
        chunks = [frozen.chunk(number) for number in range(frozen.chunk_count)]
        columns.load_column(frozen.meta, chunks)
        frozen.release()
    return Database(columns)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def restart() -> Callable[[Database], Database]:
    return restarted

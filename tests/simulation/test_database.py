"""The real database under the same faults: graph edits, payloads, checkpoints, snapshots."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from balsadb.cluster.effects import Answer, Committed
from balsadb.columns import ColumnSet
from balsadb.database import Database, LinkWork, limits
from balsadb.database.requests import (
    NO_SESSION,
    CreateCollection,
    DeletePoints,
    HnswParams,
    Request,
    SetPayload,
    UpsertPoints,
    VectorBlock,
    VectorParams,
)
from balsadb.index import planner
from balsadb.types import LogIndex
from tests.simulation.knobs import Knobs
from tests.simulation.nemesis import Nemesis
from tests.simulation.node import SimNode
from tests.simulation.world import World, check_end

DIM = 4
BATCH = 100


class SimDatabase:
    """The database as the driver wants it."""

    def __init__(self, columns: ColumnSet | None) -> None:
        self.database = Database(columns)

    @property
    def columns(self) -> ColumnSet:
        return self.database.columns

    def apply(self, index: LogIndex, data: bytes, /) -> Any:
        return self.database.apply(index, data)

    def link_work(self) -> LinkWork | None:
        return self.database.link_work(idle=True)

    def plan(self, work: LinkWork, rows_limit: int, /) -> bytes | None:
        return self.database.plan(work, rows_limit)

    def maintenance(self) -> list[bytes]:
        return self.database.maintenance()


class Writer:
    """Writes through whoever leads; remembers what must be there in the end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.data = b""
        self._request = 0
        self.stopped = False
        self.next_id = 1
        self.present: set[int] = set()
        self.outcomes: Counter[str] = Counter()
        self.changing: tuple[str, list[int]] = ("", [])

    def write(self) -> None:
        """One request, if somebody leads; then again."""
        if self.stopped:
            return
        self.world.schedule(60_000, self.write)
        leader = self.world.leader()
        if leader is None or self.world.now < leader.paused_until:
            return
        database: Database = leader.boot.applier.machine.database
        if not database.exists("films"):
            self.changing = ("create", [])
            self._propose(
                leader,
                database,
                CreateCollection("films", {"": VectorParams(DIM, "Euclid")}, HnswParams(8, 32)),
            )
            return
        rng = self.world.rng
        kind = rng.choice(("upsert", "upsert", "upsert", "delete", "payload"))
        known = sorted(self.present)
        if kind == "upsert" or not known:
            ids = list(range(self.next_id, self.next_id + BATCH))
            self.next_id += BATCH
            values = np.array([[rng.random() for _ in range(DIM)] for _ in ids], np.float32)
            self.changing = ("upsert", ids)
            self._propose(
                leader,
                database,
                UpsertPoints(
                    "films", ids, {"": VectorBlock(values)}, [{"n": one % 7} for one in ids]
                ),
            )
        elif kind == "delete":
            ids = rng.sample(known, min(20, len(known)))
            self.changing = ("delete", ids)
            self.present.difference_update(ids)  # whatever comes of it
            self._propose(leader, database, DeletePoints("films", ids))
        else:
            self.changing = ("payload", [])
            self._propose(
                leader,
                database,
                SetPayload("films", {"seen": rng.randrange(9)}, filter={"must": []}),
            )

    def _propose(self, leader: SimNode, database: Database, request: Request) -> None:
        commands = database.prepare(request, NO_SESSION)
        self._request += 1
        token = self.world.token(self)  # type: ignore[arg-type]
        leader.call(lambda driver: driver.propose(token, commands, deadline_ticks=60))

    def answered(self, _node: SimNode, _data: bytes, answer: Answer) -> None:
        """Only the answer to the latest request gets here."""
        self.outcomes[type(answer).__name__] += 1
        kind, ids = self.changing
        if isinstance(answer, Committed):
            for result in answer.results:
                assert result.error is None or result.error[0] == "already_exists", result
            if kind == "upsert":
                self.present.update(ids)


@pytest.mark.sim
@pytest.mark.parametrize("seed", range(4))
def test_replicas_of_the_database_are_the_same_to_the_byte(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CODES_ROWS_MIN", 500)
    monkeypatch.setattr(planner, "CODE_ELEMENTS", 64 * 64)
    knobs = Knobs(
        clients=0,
        safety_us=6_000_000,
        faults_us=700_000,
        loss=0.02,
        machine=SimDatabase,
        driver={
            "checkpoint_log_bytes": 20_000,
            "log_tail_bytes": 2_000,
            "log_bytes_max": 40_000,
            "link_tail_rows_min": 64,
        },
    )
    world = World(seed, knobs)
    world.start_all()
    writer = Writer(world)
    world.schedule(500_000, writer.write)
    nemesis = Nemesis(world)
    nemesis.wait()
    world.run(knobs.safety_us)
    nemesis.stopped = True
    world.calm()
    world.run(4_000_000)
    writer.stopped = True
    assert world.run(60_000_000, world.converged)
    world.run(1_000_000)
    check_end(world)
    for node in world.nodes.values():
        database: Database = node.boot.applier.machine.database
        assert database.check() == []
        there = {record.id for record in database.retrieve("films", sorted(writer.present))}
        assert there == writer.present
    first: Database = world.nodes[1].boot.applier.machine.database
    assert first.linked_rows > 0
    codes = first.codes
    assert codes.epoch > 0
    assert codes.coded == codes.rows > 0
    assert writer.outcomes["Committed"] > 30

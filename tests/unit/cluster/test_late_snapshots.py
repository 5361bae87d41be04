"""Snapshots that arrive late: after their leader was deposed, or while an earlier one is still
being restored. The driver is fed by hand; checkpoints come from a store beside it."""

from typing import Any

from balsadb.cluster.boot import Boot
from balsadb.cluster.driver import Driver
from balsadb.cluster.effects import ApplyWork
from balsadb.cluster.frames import (
    ChunkData,
    ChunkRequest,
    ManifestData,
    ManifestRequest,
    Packet,
    decode_frame,
)
from balsadb.cluster.members import Members
from balsadb.cluster.options import DriverOptions
from balsadb.cluster.performers import JobRunner, perform_wal
from balsadb.raft import AppendResponse, Body, Heartbeat, Message, SnapshotMeta, SnapshotOffer
from balsadb.raft import Members as Voters
from balsadb.storage import WalHeader
from balsadb.storage.checkpoints import CheckpointStore
from balsadb.storage.manifest import CheckpointMeta
from balsadb.types import ClusterId, DiskId, GroupId, LogIndex, NodeId, Term
from tests.simulation.disk import SimDisk
from tests.simulation.register import Register

CLUSTER = ClusterId(7)
NODES = [NodeId(1), NodeId(2), NodeId(3)]


class Follower:
    """Node 1 of three. Node 2 serves checkpoints; restores wait until they are asked for."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.header = WalHeader(CLUSTER, NodeId(1), DiskId(11))
        self.boot = Boot.recover(self.disk, self.header, NODES, Register)
        self.driver = Driver(
            DriverOptions(node=NodeId(1), cluster=CLUSTER, disk=DiskId(11), seed=3), self.boot
        )
        self.runner = JobRunner(self.boot.store, self.boot.applier)
        self.store = CheckpointStore(SimDisk(), "checkpoints")
        self.sent: list[Any] = []
        self.restores: list[ApplyWork] = []
        self.jobs: list[Any] = []
        self.answering = True

    def checkpoint(self, index: int, term: int) -> SnapshotMeta:
        """Node 2 writes one whose content depends on the index."""
        register = Register()
        register.columns["values"].put(0, index)
        meta = CheckpointMeta(
            index=LogIndex(index),
            term=Term(term),
            members=Members(NODES).encode(),
            cluster=CLUSTER,
            group=GroupId(0),
            format=1,
        )
        self.store.write(meta, register.columns.freeze())
        return SnapshotMeta(LogIndex(index), Term(term), Voters.of(NODES))

    def receive(self, body: Body, term: int, source: int = 2) -> None:
        envelope = (CLUSTER, GroupId(0), DiskId(20 + source))
        self.driver.receive(Message(NodeId(source), NodeId(1), Term(term), body, *envelope))
        self.settle()

    def settle(self) -> None:
        """Sync, run jobs, answer requests for a checkpoint, until nothing is left to do."""
        while effects := self.driver.take():
            assert effects.fatal is None
            self.restores += effects.apply
            for work in effects.wal:
                perform_wal(self.boot.wal, work)
                self.driver.wal_done(work.number)
            for send in effects.sends:
                frame = decode_frame(send.data)
                self.sent.append(frame.body)
                if isinstance(frame, Packet):
                    self._serve(frame.body)
            self.jobs += effects.jobs
            self.run_jobs()

    def run_jobs(self) -> None:
        while self.jobs and self.answering:
            job = self.jobs.pop(0)
            self.driver.job_done(job.job_id, self.runner.perform(job))

    def restore(self) -> None:
        """The apply thread gets round to its oldest work."""
        self.driver.apply_done(self.boot.applier.perform(self.restores.pop(0)))
        self.settle()

    def _serve(self, body: object) -> None:
        data: bytes | None
        if isinstance(body, ManifestRequest):
            data = self.store.manifest_bytes(body.index)
            assert data is not None
            self._packet(ManifestData(body.index, data))
        elif isinstance(body, ChunkRequest):
            data = self.store.read_chunk(body.digest)
            assert data is not None
            self._packet(ChunkData(body.index, body.digest, data))

    def _packet(self, body: ManifestData | ChunkData) -> None:
        packet = Packet(CLUSTER, GroupId(0), NodeId(2), NodeId(1), DiskId(22), body)
        self.driver.receive(packet)


def test_a_checkpoint_whose_leader_was_deposed_serves_the_next_leader() -> None:
    """Fetched too late for its own offer; then another leader offers an older checkpoint."""
    node = Follower()
    newer, older = node.checkpoint(93, 5), node.checkpoint(92, 5)
    node.answering = False
    node.receive(SnapshotOffer(newer), 5)
    node.receive(Heartbeat(LogIndex(0)), 6, source=3)
    node.answering = True
    node.run_jobs()
    node.settle()
    assert node.driver.keeper.fetcher.completed == 1
    assert node.restores == [], "the offer of the old term was dropped"
    node.receive(SnapshotOffer(older), 7, source=3)
    assert ManifestRequest(LogIndex(92)) not in node.sent
    assert AppendResponse(LogIndex(93)) in node.sent
    node.restore()
    assert node.driver.applied == 93
    assert Boot.recover(node.disk, node.header, NODES, Register).applier.applied == 93


def test_a_second_snapshot_while_the_first_is_being_restored() -> None:
    """Both marks are in the log before the first restore ends; its compaction must not go back."""
    node = Follower()
    node.receive(SnapshotOffer(node.checkpoint(50, 1)), 1)
    assert len(node.restores) == 1
    node.receive(SnapshotOffer(node.checkpoint(80, 1)), 1)
    assert AppendResponse(LogIndex(80)) in node.sent
    node.restore()
    assert node.driver.applied == 50
    node.restore()
    assert node.driver.applied == 80
    assert Boot.recover(node.disk, node.header, NODES, Register).applier.applied == 80

"""The life of checkpoints inside a node: written by it, offered by a leader, installed, collected.

Writing: freeze (apply thread, between two entries) -> chunks and manifest durable (job) -> Raft may
offer it -> the WAL notes it and drops what it covers. Installing: offer -> staged durable (jobs) ->
stepped into Raft -> mark durable (WAL) -> restored (apply thread). `balsadb.cluster.boot` says why
each boundary may be a crash.
"""

from typing import Any

import msgspec

from balsadb.cluster.admission import Admission
from balsadb.cluster.apply_queue import ApplyQueue
from balsadb.cluster.boot import snapshot_meta
from balsadb.cluster.checkpointer import Checkpointer
from balsadb.cluster.effects import (
    LANE_DISK,
    AppliedFreeze,
    ApplyFreeze,
    CheckpointJob,
    CollectJob,
)
from balsadb.cluster.frames import (
    ChunkData,
    ChunkRequest,
    Gone,
    ManifestData,
    ManifestRequest,
    PacketBody,
    Space,
)
from balsadb.cluster.log_writer import LogWriter
from balsadb.cluster.members import Members
from balsadb.cluster.options import DriverOptions
from balsadb.cluster.snapshots import Port, SnapshotFetcher, SnapshotServer
from balsadb.errors import Corruption, DiskFull
from balsadb.raft import Message, Raft, Ready, SnapshotOffer
from balsadb.storage import SnapshotRef
from balsadb.storage.manifest import CheckpointMeta, Manifest
from balsadb.types import LogIndex, NodeId, Term

FORMAT = 1
"""Format of the columns that this version writes into a checkpoint."""


class CheckpointKeeper:
    """Everything of the driver that concerns checkpoints."""

    def __init__(
        self, options: DriverOptions, port: Port, raft: Raft, newest: Manifest | None
    ) -> None:
        self._options = options
        self._port = port
        self._raft = raft
        self._newest = newest
        index = LogIndex(newest.index if newest else 0)
        self.schedule = Checkpointer(options, index)
        self.fetcher = SnapshotFetcher(options, port, self._staged)
        self.server = SnapshotServer(options, port)
        self._collecting = False
        self._space: Space = "enough"

    def connect(self, writer: LogWriter, queue: ApplyQueue, admission: Admission) -> None:
        """The driver's other parts."""
        self._writer = writer
        self._queue = queue
        self._admission = admission

    def tick(self, space: Space) -> None:
        """One tick has passed; so much room the disk has."""
        self._space = space
        self.fetcher.tick()
        self.server.tick()
        self.schedule.tick(hurry=space != "enough")

    def receive(self, source: NodeId, body: PacketBody) -> None:
        """A packet of the snapshot protocol."""
        match body:
            case ManifestRequest():
                self.server.on_manifest_request(source, body)
            case ChunkRequest():
                self.server.on_chunk_request(source, body)
            case ManifestData():
                self.fetcher.on_manifest(body)
            case ChunkData():
                self.fetcher.on_chunk(body)
            case Gone():
                self.fetcher.on_gone(source, body)
            case _:
                raise AssertionError(f"{type(body).__name__} is no packet of snapshots")

    # --- writing -------------------------------------------------------------------------------

    def start(self, job_id: int) -> None:
        """Queue a freeze; the checkpoint job will get the freeze's columns."""
        self.schedule.started(job_id)
        self._queue.push_freeze(ApplyFreeze(job_id))

    def frozen(self, done: AppliedFreeze, term: Term) -> None:
        """The columns at `done.index` (an entry of `term`) are frozen: write them."""
        if done.index <= self.schedule.index or done.job_id != self.schedule.running:
            for column in done.frozen:
                column.release()
            self.schedule.ended()
            return
        meta = CheckpointMeta(
            index=done.index,
            term=term,
            members=self._admission.members.encode(),
            cluster=self._options.cluster,
            group=self._options.group,
            format=FORMAT,
        )
        self._port.start_job(
            lambda job_id: CheckpointJob(
                job_id=job_id, lane=LANE_DISK, meta=meta, frozen=done.frozen
            ),
            self._written,
        )

    def compact(self) -> None:
        """Drop what the newest checkpoint covers, except the tail and what followers need."""
        newest = self._newest
        if newest is None:
            return
        status = self._raft.status()
        needed = [index for _, index in self.server.pulling()]
        needed += [
            peer.match
            for node, peer in status.peers.items()
            if node != self._options.node and peer.recent_active and peer.state != "snapshot"
        ]
        target = self.schedule.compact_to(needed, status.log_bytes)
        if target >= status.first_index:
            self._raft.compact(target)
        # The tail stays in memory only: a start never reads the log before its checkpoint.
        mark = SnapshotRef(LogIndex(newest.index), Term(newest.term))
        self._writer.compact(mark, mark.index)

    def _written(self, result: Any) -> None:
        if isinstance(result, DiskFull):
            # Nothing was lost: the checkpoints and the log are as they were.
            self.schedule.failed()
            self._collect()
            return
        self.schedule.ended()
        if isinstance(result, Exception):
            raise result
        manifest: Manifest = result
        if self._take(manifest):
            self._raft.set_snapshot(snapshot_meta(manifest))
            self.compact()
        self._collect()

    def _take(self, manifest: Manifest) -> bool:
        """Note a durable checkpoint; whether it is the newest."""
        self.schedule.durable(LogIndex(manifest.index))
        if self._newest is not None and manifest.index <= self._newest.index:
            return False
        self._newest = manifest
        return True

    def _collect(self) -> None:
        if self._collecting:
            return
        self._collecting = True
        keep = self._options.checkpoints_kept if self._space == "enough" else 1
        also = [index for _, index in self.server.pulling()]

        def done(_result: Any) -> None:
            self._collecting = False

        self._port.start_job(
            lambda job_id: CollectJob(job_id=job_id, lane=LANE_DISK, keep=keep, also=also), done
        )

    # --- installing ----------------------------------------------------------------------------

    def offered(self, message: Message, offer: SnapshotOffer) -> None:
        """A leader offers a checkpoint: fetch it, unless we have it or need it no more.

        If we need one and have this one or a newer one, that was fetched on an offer which came
        too late (its leader was deposed meanwhile). It holds committed state, so it serves this
        leader as well: Raft is offered what is here.
        """
        newest = self._newest
        if not self._raft.needs_snapshot(message):
            self._raft.step(message)
        elif newest is not None and newest.index >= offer.snapshot.index:
            here = SnapshotOffer(snapshot_meta(newest))
            self._raft.step(msgspec.structs.replace(message, body=here))
        elif self._space != "full":
            self.fetcher.offer(message, offer)

    def accepted(self, ready: Ready) -> None:
        """Raft took a staged checkpoint as its log: restore it once its mark is durable."""
        meta = ready.snapshot
        newest = self._newest
        if meta is None or newest is None or newest.index != meta.index:
            raise Corruption("Raft accepted a checkpoint that is not staged here")
        for freeze in self._queue.push_restore(newest, ready.number):
            if freeze.job_id == self.schedule.running:
                self.schedule.ended()

    def restored(self, manifest: Manifest) -> None:
        """The state machine is now this checkpoint."""
        index = LogIndex(manifest.index)
        self._admission.restored(Members.decode(manifest.members))
        self.schedule.restored(index)
        mark = SnapshotRef(index, Term(manifest.term))
        self._writer.compact(mark, index)
        self._collect()

    def _staged(self, manifest: Manifest, offer: Message) -> None:
        self._take(manifest)
        self._raft.step(offer)

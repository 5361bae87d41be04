"""Moving a checkpoint to a node that lags: the receiver pulls, chunk by chunk.

The leader's `SnapshotOffer` names a checkpoint. The receiver asks the offering node for its
manifest, stages it (what it has already, by digest, is not asked again: a transfer that broke
resumes), asks for a few chunks at a time, and only when the staged checkpoint is durable hands the
offer to Raft. Until then nothing of its own state has changed; a crash leaves the old state, or
the new checkpoint complete.

Frames may be lost: requests are repeated on ticks. A checkpoint that is gone at the source ends
the transfer; the leader offers a newer one.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from balsadb.cluster.effects import (
    LANE_DISK,
    LANE_SERVE,
    Job,
    ReadChunkJob,
    ReadManifestJob,
    StageAbandonJob,
    StageFinishJob,
    StageOpenJob,
    StagePutJob,
)
from balsadb.cluster.frames import (
    ChunkData,
    ChunkRequest,
    Gone,
    ManifestData,
    ManifestRequest,
    PacketBody,
)
from balsadb.cluster.members import Members
from balsadb.cluster.options import DriverOptions
from balsadb.errors import Corruption, DiskFull
from balsadb.raft import Message, SnapshotOffer
from balsadb.storage.manifest import Manifest
from balsadb.storage.staging import Staging
from balsadb.types import LogIndex, NodeId


class Port(Protocol):
    """What the driver lends to its parts."""

    def packet(self, target: NodeId, body: PacketBody) -> None:
        """Send a packet on the bulk lane."""
        ...

    def start_job(self, make: Callable[[int], Job], done: Callable[[Any], None]) -> int:
        """Start the job that `make(job_id)` builds; `done` gets its result, or the `BalsaError` it
        raised (anything else, and a failed disk, ends the node before `done`)."""
        ...


class Transfer:
    """One checkpoint on its way in. `index` names it; `offer` is what Raft will be told."""

    def __init__(self, offer: Message, index: LogIndex, now: int) -> None:
        self.offer = offer
        self.index = index
        self.source = offer.source
        self.opening = False
        self.finishing = False
        self.staging: Staging | None = None
        self.wanted: deque[bytes] = deque()
        self.asked: dict[bytes, int] = {}
        self.putting: set[bytes] = set()
        self.chunks_total = 0
        self.progress_tick = now
        self.asked_tick = now
        self.attempts = 0


class SnapshotFetcher:
    """The receiving side; at most one transfer at a time."""

    def __init__(
        self, options: DriverOptions, port: Port, staged: Callable[[Manifest, Message], None]
    ) -> None:
        self._options = options
        self._port = port
        self._staged = staged
        self._now = 0
        self._not_before = 0
        self._transfer: Transfer | None = None
        self.completed = 0
        self.abandoned = 0

    def offer(self, message: Message, offer: SnapshotOffer) -> None:
        """A leader offers a checkpoint newer than what we have."""
        if self._now < self._not_before:
            return  # there was no room for one a moment ago; offers repeat
        index = offer.snapshot.index
        current = self._transfer
        if current is not None:
            if current.index == index:
                if current.source != message.source:
                    # Another leader has the same checkpoint: ask it for what the old one owes.
                    current.wanted.extendleft(current.asked)
                    current.asked.clear()
                current.offer, current.source = message, message.source
                return
            silent = self._now - current.progress_tick > self._options.chunk_retry_ticks
            busy = current.finishing or current.opening
            if busy or not (silent or message.term > current.offer.term):
                return
            self._abandon()
        self._transfer = Transfer(message, index, self._now)
        self._ask_manifest(self._transfer)

    def on_manifest(self, body: ManifestData) -> None:
        """The manifest arrived."""
        transfer = self._transfer
        if transfer is None or transfer.index != body.index or transfer.opening:
            return
        if transfer.staging is not None:
            return
        transfer.opening = True
        transfer.progress_tick = self._now
        self._port.start_job(
            lambda job_id: StageOpenJob(job_id=job_id, lane=LANE_DISK, manifest_bytes=body.data),
            lambda result: self._opened(transfer, result),
        )

    def on_chunk(self, body: ChunkData) -> None:
        """A chunk arrived; one that was not asked for (any more) is dropped."""
        transfer = self._transfer
        if transfer is None or transfer.staging is None:
            return
        if transfer.asked.pop(body.digest, None) is None:
            return
        staging = transfer.staging
        transfer.putting.add(body.digest)
        transfer.progress_tick = self._now
        self._port.start_job(
            lambda job_id: StagePutJob(
                job_id=job_id,
                lane=LANE_DISK,
                staging=staging,
                digest=body.digest,
                data=body.data,
            ),
            lambda result: self._stored(transfer, body.digest, result),
        )
        self._ask_chunks(transfer)

    def on_gone(self, source: NodeId, body: Gone) -> None:
        """The source no longer has the checkpoint."""
        transfer = self._transfer
        if transfer is None or transfer.index != body.index or transfer.source != source:
            return
        if not (transfer.finishing or transfer.opening):
            self._abandon()

    def tick(self) -> None:
        """Repeat requests without an answer; give up after several."""
        self._now += 1
        transfer = self._transfer
        if transfer is None or transfer.opening or transfer.finishing:
            return
        retry = self._options.chunk_retry_ticks
        if transfer.staging is None:
            if self._now - transfer.asked_tick >= retry and self._count_attempt(transfer):
                self._ask_manifest(transfer)
            return
        late = [digest for digest, tick in transfer.asked.items() if self._now - tick >= retry]
        if late and self._count_attempt(transfer):
            for digest in late:
                transfer.asked[digest] = self._now
                self._port.packet(transfer.source, ChunkRequest(transfer.index, digest))
        self._ask_chunks(transfer)

    def status(self) -> dict[str, Any] | None:
        """Progress of the transfer under way, or None."""
        transfer = self._transfer
        if transfer is None:
            return None
        left = len(transfer.wanted) + len(transfer.asked) + len(transfer.putting)
        return {
            "index": transfer.index,
            "source": transfer.source,
            "chunks_missing_at_start": transfer.chunks_total,
            "chunks_left": left,
        }

    def _count_attempt(self, transfer: Transfer) -> bool:
        transfer.attempts += 1
        if transfer.attempts > self._options.fetch_attempts_max:
            self._abandon()
            return False
        return True

    def _abandon(self) -> None:
        self.abandoned += 1
        transfer, self._transfer = self._transfer, None
        if transfer is not None and transfer.staging is not None:
            staging = transfer.staging
            self._port.start_job(
                lambda job_id: StageAbandonJob(job_id=job_id, lane=LANE_DISK, staging=staging),
                lambda _result: None,
            )

    def _ask_manifest(self, transfer: Transfer) -> None:
        transfer.asked_tick = self._now
        self._port.packet(transfer.source, ManifestRequest(transfer.index))

    def _opened(self, transfer: Transfer, result: Any) -> None:
        if transfer is not self._transfer:
            return
        transfer.opening = False
        if isinstance(result, Exception):
            self._abandon()
            return
        staging: Staging = result
        transfer.staging = staging
        if not self._is_offered(staging.manifest, transfer.index):
            self._abandon()
            return
        transfer.wanted = deque(dict.fromkeys(digest for digest, _ in staging.missing))
        transfer.chunks_total = len(transfer.wanted)
        transfer.progress_tick = self._now
        self._ask_chunks(transfer)

    def _is_offered(self, manifest: Manifest, index: LogIndex) -> bool:
        """Whether it is the checkpoint asked for, of this cluster, and its members can be read:
        once it is durable, a node starts from it or not at all."""
        options = self._options
        owner = (manifest.cluster, manifest.group)
        if manifest.index != index or owner != (options.cluster, options.group):
            return False
        try:
            Members.decode(manifest.members)
        except Corruption:
            return False
        return True

    def _ask_chunks(self, transfer: Transfer) -> None:
        window = self._options.chunk_window
        while transfer.wanted and len(transfer.asked) + len(transfer.putting) < window:
            digest = transfer.wanted.popleft()
            transfer.asked[digest] = self._now
            self._port.packet(transfer.source, ChunkRequest(transfer.index, digest))
        idle = not (transfer.wanted or transfer.asked or transfer.putting)
        if idle and transfer.staging is not None and not transfer.finishing:
            staging = transfer.staging
            transfer.finishing = True
            self._port.start_job(
                lambda job_id: StageFinishJob(job_id=job_id, lane=LANE_DISK, staging=staging),
                lambda result: self._finished(transfer, result),
            )

    def _stored(self, transfer: Transfer, digest: bytes, result: Any) -> None:
        if transfer is not self._transfer:
            return
        transfer.putting.discard(digest)
        if isinstance(result, DiskFull):
            self._not_before = self._now + self._options.hurried_checkpoint_ticks
            self._abandon()
            return
        if isinstance(result, Exception):
            # Damaged on its way or at its source: ask again, within the attempts.
            if not self._count_attempt(transfer):
                return
            transfer.wanted.append(digest)
        else:
            transfer.attempts = 0
        self._ask_chunks(transfer)

    def _finished(self, transfer: Transfer, result: Any) -> None:
        if transfer is not self._transfer:
            return
        self._transfer = None
        if isinstance(result, Exception):
            self.abandoned += 1
            return
        self.completed += 1
        self._staged(result, transfer.offer)


class SnapshotServer:
    """The sending side: answers requests from disk, bounded, and remembers who is pulling."""

    def __init__(self, options: DriverOptions, port: Port) -> None:
        self._options = options
        self._port = port
        self._now = 0
        self._reading = 0
        self._heard: dict[NodeId, tuple[int, LogIndex]] = {}
        self.chunks_served = 0

    def pulling(self) -> list[tuple[NodeId, LogIndex]]:
        """Who asked lately, and for which checkpoint: that one must stay, and the log after it."""
        oldest = self._now - self._options.snapshot_silence_ticks
        return [
            (node, index) for node, (tick, index) in sorted(self._heard.items()) if tick >= oldest
        ]

    def tick(self) -> None:
        """One tick has passed."""
        self._now += 1

    def on_manifest_request(self, source: NodeId, body: ManifestRequest) -> None:
        """Answer with the manifest, or that it is gone."""
        self._read(
            source,
            body.index,
            lambda job_id: ReadManifestJob(job_id=job_id, lane=LANE_SERVE, index=body.index),
            lambda data: ManifestData(body.index, data),
        )

    def on_chunk_request(self, source: NodeId, body: ChunkRequest) -> None:
        """Answer with the chunk, or that the checkpoint is gone."""
        self._read(
            source,
            body.index,
            lambda job_id: ReadChunkJob(job_id=job_id, lane=LANE_SERVE, digest=body.digest),
            lambda data: ChunkData(body.index, body.digest, data),
        )

    def _read(
        self,
        source: NodeId,
        index: LogIndex,
        make: Callable[[int], Job],
        answer: Callable[[bytes], PacketBody],
    ) -> None:
        self._heard[source] = (self._now, index)
        if self._reading >= self._options.serve_max:
            return
        self._reading += 1

        def done(result: Any) -> None:
            self._reading -= 1
            if isinstance(result, bytes):
                self.chunks_served += 1
                self._port.packet(source, answer(result))
            else:
                # Gone, or damaged here: either way the receiver must look elsewhere.
                self._port.packet(source, Gone(index))

        self._port.start_job(make, done)

"""The receiver and the server of a snapshot, each against a port that records."""

from collections.abc import Callable
from typing import Any

import pytest

from balsadb.cluster.effects import (
    Job,
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
from balsadb.cluster.options import DriverOptions
from balsadb.cluster.snapshots import SnapshotFetcher, SnapshotServer
from balsadb.errors import DiskFull, InvalidInput
from balsadb.raft import Members, Message, SnapshotMeta, SnapshotOffer
from balsadb.storage.manifest import Manifest
from balsadb.types import ClusterId, DiskId, GroupId, LogIndex, NodeId, Term

OPTIONS = DriverOptions(
    node=NodeId(1),
    cluster=ClusterId(7),
    disk=DiskId(11),
    seed=0,
    chunk_window=2,
    chunk_retry_ticks=3,
    fetch_attempts_max=2,
    serve_max=2,
)
CHUNKS = [bytes([n]) * 16 for n in range(5)]


class FakeStaging:
    """What it was given."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.missing = [(digest, 4) for digest in CHUNKS]


def manifest_of(
    index: int, cluster: int = 7, members: bytes = b"\x92\x93\x01\x02\x03\x90"
) -> Manifest:
    """What a staging of the checkpoint at an index has."""
    return Manifest(LogIndex(index), Term(1), members, ClusterId(cluster), GroupId(0))


class Recorder:
    """A port: packets and jobs as lists; jobs are finished by hand."""

    def __init__(self) -> None:
        self.packets: list[tuple[int, PacketBody]] = []
        self.jobs: list[tuple[Job, Callable[[Any], None]]] = []
        self.staged: list[tuple[Any, Message]] = []

    def packet(self, target: NodeId, body: PacketBody) -> None:
        self.packets.append((target, body))

    def start_job(self, make: Callable[[int], Job], done: Callable[[Any], None]) -> int:
        self.jobs.append((make(len(self.jobs)), done))
        return len(self.jobs)

    def taken(self) -> list[tuple[int, PacketBody]]:
        packets, self.packets = self.packets, []
        return packets

    def finish(self, kind: type[Job], result: Any) -> Job:
        [job, done] = next(pair for pair in self.jobs if isinstance(pair[0], kind))
        self.jobs.remove((job, done))
        done(result)
        return job


def offer_of(index: int, source: int = 2, term: int = 1) -> tuple[Message, SnapshotOffer]:
    body = SnapshotOffer(SnapshotMeta(LogIndex(index), Term(1), Members.of([1, 2, 3])))
    return Message(NodeId(source), NodeId(1), Term(term), body), body


def fetching(index: int = 50) -> tuple[SnapshotFetcher, Recorder]:
    """A fetcher that has its manifest and waits for the first two chunks."""
    port = Recorder()
    fetcher = SnapshotFetcher(OPTIONS, port, lambda *staged: port.staged.append(staged))
    fetcher.offer(*offer_of(index))
    assert port.taken() == [(2, ManifestRequest(LogIndex(index)))]
    fetcher.on_manifest(ManifestData(LogIndex(index), b"manifest"))
    port.finish(StageOpenJob, FakeStaging(manifest_of(index)))
    assert port.taken() == [(2, ChunkRequest(LogIndex(index), d)) for d in CHUNKS[:2]]
    return fetcher, port


def complete(fetcher: SnapshotFetcher, port: Recorder) -> list[tuple[int, bytes]]:
    """Deliver all that is asked for, and what is asked for then; returns who was asked for what."""
    asked: list[tuple[int, bytes]] = []
    while packets := port.taken():
        for target, body in packets:
            assert isinstance(body, ChunkRequest)
            asked.append((target, body.digest))
            fetcher.on_chunk(ChunkData(body.index, body.digest, b"data"))
            port.finish(StagePutJob, None)
    return asked


def test_chunks_are_asked_for_within_a_window_until_all_are_stored() -> None:
    fetcher, port = fetching()
    port.packets = [(2, ChunkRequest(LogIndex(50), digest)) for digest in CHUNKS[:2]]
    assert [digest for _, digest in complete(fetcher, port)] == CHUNKS
    port.finish(StageFinishJob, "manifest")
    assert port.staged == [("manifest", offer_of(50)[0])]
    assert fetcher.status() is None


def test_a_lost_chunk_is_asked_for_again_and_a_repeated_one_dropped() -> None:
    fetcher, port = fetching()
    for _ in range(3):
        fetcher.tick()
    assert port.taken() == [(2, ChunkRequest(LogIndex(50), digest)) for digest in CHUNKS[:2]]
    fetcher.on_chunk(ChunkData(LogIndex(50), CHUNKS[0], b"data"))
    fetcher.on_chunk(ChunkData(LogIndex(50), CHUNKS[0], b"data"))
    assert len([job for job, _ in port.jobs if isinstance(job, StagePutJob)]) == 1


def test_another_leader_with_the_same_checkpoint_is_asked_for_what_is_missing() -> None:
    """Simulation seeds 15, 33 and 91: what the old leader owed was forgotten."""
    fetcher, port = fetching()
    newer = offer_of(50, source=3, term=2)
    fetcher.offer(*newer)
    fetcher.tick()
    asked = complete(fetcher, port)
    assert sorted(digest for _, digest in asked) == CHUNKS
    assert {target for target, _ in asked} == {3}
    port.finish(StageFinishJob, "manifest")
    assert port.staged == [("manifest", newer[0])]


def test_a_node_without_room_gives_up_and_takes_no_offer_for_a_while() -> None:
    fetcher, port = fetching()
    fetcher.on_chunk(ChunkData(LogIndex(50), CHUNKS[0], b"data"))
    port.taken()
    port.finish(StagePutJob, DiskFull("no room"))
    port.finish(StageAbandonJob, None)
    assert fetcher.status() is None
    for _ in range(OPTIONS.hurried_checkpoint_ticks - 1):
        fetcher.tick()
        fetcher.offer(*offer_of(50))
    assert port.taken() == []
    fetcher.tick()
    fetcher.offer(*offer_of(50))
    assert port.taken() == [(2, ManifestRequest(LogIndex(50)))]


def test_a_chunk_that_stays_damaged_ends_the_transfer() -> None:
    fetcher, port = fetching()
    port.packets = [(2, ChunkRequest(LogIndex(50), digest)) for digest in CHUNKS[:2]]
    asked = 0
    while packets := port.taken():
        for _, body in packets:
            assert isinstance(body, ChunkRequest)
            damaged = body.digest == CHUNKS[0]
            asked += damaged
            fetcher.on_chunk(ChunkData(body.index, body.digest, b"data"))
            error = InvalidInput("chunk", "does not match")
            port.finish(StagePutJob, error if damaged else None)
    assert fetcher.status() is None
    assert fetcher.abandoned == 1
    assert asked > OPTIONS.fetch_attempts_max


def test_silence_ends_a_transfer_and_leaves_its_chunks_to_the_next() -> None:
    fetcher, port = fetching()
    for _ in range(3 * (OPTIONS.fetch_attempts_max + 1)):
        fetcher.tick()
    assert fetcher.status() is None
    assert fetcher.abandoned == 1
    port.finish(StageAbandonJob, None)
    assert port.staged == []


def test_a_checkpoint_that_is_gone_makes_room_for_a_newer_one() -> None:
    fetcher, port = fetching()
    fetcher.offer(*offer_of(60))
    assert port.taken() == [], "the one under way goes on"
    fetcher.on_gone(NodeId(3), Gone(LogIndex(50)))
    assert fetcher.status() is not None, "another node's word does not count"
    fetcher.on_gone(NodeId(2), Gone(LogIndex(50)))
    assert fetcher.status() is None
    fetcher.offer(*offer_of(60))
    assert port.taken() == [(2, ManifestRequest(LogIndex(60)))]


@pytest.mark.parametrize(
    "manifest",
    [
        manifest_of(49),
        manifest_of(51),
        manifest_of(50, cluster=8),
        manifest_of(50, members=b"?"),
        manifest_of(50, members=b""),
    ],
)
def test_a_manifest_of_something_else_is_not_fetched(manifest: Manifest) -> None:
    """Once such a checkpoint were durable, this node could not start any more."""
    port = Recorder()
    fetcher = SnapshotFetcher(OPTIONS, port, lambda *staged: port.staged.append(staged))
    fetcher.offer(*offer_of(50))
    port.taken()
    fetcher.on_manifest(ManifestData(LogIndex(50), b"manifest"))
    port.finish(StageOpenJob, FakeStaging(manifest))
    port.finish(StageAbandonJob, None)
    assert (port.taken(), port.staged, fetcher.status(), fetcher.abandoned) == ([], [], None, 1)
    fetcher.offer(*offer_of(50))
    assert port.taken() == [(2, ManifestRequest(LogIndex(50)))], "and asked for anew"


def test_the_server_is_bounded_and_says_what_is_gone() -> None:
    port = Recorder()
    server = SnapshotServer(OPTIONS, port)
    for digest in CHUNKS:
        server.on_chunk_request(NodeId(2), ChunkRequest(LogIndex(50), digest))
    assert len(port.jobs) == OPTIONS.serve_max
    port.finish(Job, b"data")
    port.finish(Job, None)
    assert port.taken() == [
        (2, ChunkData(LogIndex(50), CHUNKS[0], b"data")),
        (2, Gone(LogIndex(50))),
    ]
    assert server.pulling() == [(2, 50)]
    for _ in range(OPTIONS.snapshot_silence_ticks + 1):
        server.tick()
    assert server.pulling() == []

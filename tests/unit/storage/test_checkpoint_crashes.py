"""Power cuts and disk errors at every operation: the old checkpoint or the new, never less."""

import copy
import random
from collections.abc import Callable

import pytest

from balsadb.columns import ColumnSet
from balsadb.errors import DiskFailed
from balsadb.storage.checkpoints import CheckpointStore
from balsadb.storage.manifest import CheckpointMeta
from balsadb.types import ClusterId, GroupId, LogIndex, Term
from tests.simulation.disk import SimDisk, SimulatedCrash

SEEDS = range(4)
Act = Callable[[SimDisk], None]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 bytes and packs of a few chunks."""
    monkeypatch.setattr("balsadb.columns.meta.CHUNK_BYTES", 64)
    monkeypatch.setattr("balsadb.storage.packs.PACK_BYTES_MAX", 300)


def state(index: int) -> ColumnSet:
    """What a node holds at a log index: most of it is what it held before."""
    columns = ColumnSet()
    column = columns.create("c", "<u4", (16,), rows_max=20)
    column.resize(10)
    for row in range(10):
        column.put(row, row)
    column.put(index % 10, 1000 + index)
    column.put((index + 5) % 10, 2000 + index)
    return columns


def write(store: CheckpointStore, index: int) -> None:
    meta = CheckpointMeta(LogIndex(index), Term(1), b"m", ClusterId(1), GroupId(0))
    store.write(meta, state(index).freeze())


def write_next(disk: SimDisk) -> None:
    """Checkpoint 3, then collect the oldest."""
    store = CheckpointStore(disk, "checkpoints")
    write(store, 3)
    store.collect(keep=2)


def collect_all_but_one(disk: SimDisk) -> None:
    CheckpointStore(disk, "checkpoints").collect(keep=1)


def install(disk: SimDisk) -> None:
    """Fetch checkpoint 3 from a peer, resuming what an earlier attempt left."""
    peer = CheckpointStore(SimDisk(), "checkpoints")
    write(peer, 3)
    ours = CheckpointStore(disk, "checkpoints")
    newest = ours.newest()
    if newest is None or newest.index < 3:
        staging = ours.stage(peer.manifest_bytes(LogIndex(3)) or b"")
        for digest, _ in staging.missing:
            staging.put(digest, peer.read_chunk(digest) or b"")
        staging.finish()
    ours.collect(keep=1)


def start() -> SimDisk:
    disk = SimDisk()
    store = CheckpointStore(disk, "checkpoints")
    write(store, 1)
    write(store, 2)
    return disk


def survivors(disk: SimDisk) -> list[int]:
    """Opens what is there, checks every byte of it, and that no temporary file is left."""
    store = CheckpointStore(disk, "checkpoints")
    assert store.damaged == {}
    for one in store.manifests():
        assert store.load(one).digest() == state(one.index).digest()
    assert not [name for name in disk.listdir("checkpoints") if name.endswith(".tmp")]
    return [one.index for one in store.manifests()]


@pytest.mark.parametrize(
    ("act", "allowed"),
    [
        (write_next, ([1, 2], [1, 2, 3], [2, 3])),
        (collect_all_but_one, ([1, 2], [2])),
        (install, ([1, 2], [1, 2, 3], [3], [2, 3], [1, 3])),
    ],
)
@pytest.mark.parametrize("fault", ["crash", "fail"])
def test_at_every_operation(act: Act, allowed: tuple[list[int], ...], fault: str) -> None:
    prepared = start()
    whole = copy.deepcopy(prepared)
    act(whole)
    operations = whole.operations - prepared.operations
    clean = packs_named(whole)
    assert operations > 3
    for step in range(1, operations + 1):
        for seed in SEEDS:
            disk = copy.deepcopy(prepared)
            if fault == "crash":
                disk.crash_at(step)
                with pytest.raises(SimulatedCrash):
                    act(disk)
            else:
                disk.fail_at(step)
                with pytest.raises(DiskFailed):
                    act(disk)
            disk.crash(random.Random(seed))
            assert survivors(disk) in allowed
            act(disk)  # the node goes on from there
            assert survivors(disk) == survivors(whole)
            assert packs_named(disk) == clean


def packs_named(disk: SimDisk) -> int:
    """Chunks kept on the disk, all of them named: nothing leaks."""
    store = CheckpointStore(disk, "checkpoints")
    named = {pack for one in store.manifests() for pack in one.packs()}
    assert len(named) == len(disk.listdir("checkpoints/packs"))
    return len({ref.digest for one in store.manifests() for ref in one.refs()})


def test_what_was_returned_as_written_survives_any_cut() -> None:
    for seed in range(30):
        disk = SimDisk()
        write(CheckpointStore(disk, "checkpoints"), 1)
        disk.crash(random.Random(seed))
        assert survivors(disk) == [1]
        install(disk)
        disk.crash(random.Random(seed))
        assert survivors(disk)[-1] == 3


def test_chunks_resumed_after_a_killed_process_survive_a_cut() -> None:
    """A kill keeps what was written but not synced; the power cut after the install must not."""
    peer = CheckpointStore(SimDisk(), "checkpoints")
    write(peer, 3)
    data = peer.manifest_bytes(LogIndex(3)) or b""
    for seed in range(30):
        disk = SimDisk()
        killed = CheckpointStore(disk, "checkpoints").stage(data)
        for digest, _ in killed.missing[:2]:
            killed.put(digest, peer.read_chunk(digest) or b"")
        install(disk)
        disk.crash(random.Random(seed))
        assert survivors(disk) == [3]


def test_a_store_that_was_never_finished_being_made_is_empty() -> None:
    for step in range(1, 5):
        for seed in SEEDS:
            disk = SimDisk()
            disk.crash_at(step)
            with pytest.raises(SimulatedCrash):
                CheckpointStore(disk, "checkpoints")
            disk.crash(random.Random(seed))
            assert survivors(disk) == []

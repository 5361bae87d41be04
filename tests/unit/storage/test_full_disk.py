"""A disk that fills up: a checkpoint stops before it takes the room kept for the log, and a write
that the disk refuses loses nothing."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.errors import DiskFailed, DiskFull
from balsadb.storage import CheckpointStore, RealFiles
from balsadb.storage.manifest import CheckpointMeta
from balsadb.types import ClusterId, GroupId, LogIndex, Term
from tests.simulation.disk import SimDisk

CHUNK = 64


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 bytes and packs of a few chunks."""
    monkeypatch.setattr("balsadb.columns.meta.CHUNK_BYTES", CHUNK)
    monkeypatch.setattr("balsadb.storage.packs.PACK_BYTES_MAX", 300)


class Filling(SimDisk):
    """Each write takes space."""

    def mutate(self, what: str, effect: Any) -> None:
        if what.startswith("pwrite"):
            self.free -= int(what.rpartition("+")[2])
        super().mutate(what, effect)


def columns_of(seed: int, chunks: int = 20) -> ColumnSet:
    columns = ColumnSet()
    values = np.random.default_rng(seed).integers(1, 1 << 30, (chunks, 16)).astype(np.uint32)
    columns.create("c", "<u4", (16,), rows_max=100).append(values)
    return columns


def meta(index: int) -> CheckpointMeta:
    return CheckpointMeta(LogIndex(index), Term(1), b"m", ClusterId(1), GroupId(0))


def names(disk: SimDisk) -> list[str]:
    return [*disk.listdir("checkpoints"), *disk.listdir("checkpoints/packs")]


def test_a_checkpoint_stops_at_the_room_kept_for_the_log() -> None:
    disk = Filling()
    store = CheckpointStore(disk, "checkpoints")
    first = store.write(meta(1), columns_of(1).freeze())
    before = names(disk)
    store.keep_free_bytes = 1000
    disk.free = 1000 + 8 * CHUNK
    columns = columns_of(2)
    with pytest.raises(DiskFull, match="kept for the log"):
        store.write(meta(2), columns.freeze())
    assert disk.free >= 1000, "the room is untouched"
    assert store.newest() == first
    store.collect(keep=1)
    assert names(disk) == before, "what was begun is gone"
    assert CheckpointStore(disk, "checkpoints").load(first).digest() == columns_of(1).digest()
    # The freeze was given back: the columns can be frozen again.
    disk.free = 1 << 30
    second = store.write(meta(2), columns.freeze())
    assert CheckpointStore(disk, "checkpoints").load(second).digest() == columns.digest()


def test_sparse_packs_are_left_alone_when_there_is_no_room_to_rewrite_them() -> None:
    disk = Filling()
    store = CheckpointStore(disk, "checkpoints")
    columns = columns_of(1)
    store.write(meta(1), columns.freeze())
    shrunk = ColumnSet()
    full = np.random.default_rng(1).integers(1, 1 << 30, (20, 16)).astype(np.uint32)
    shrunk.create("c", "<u4", (16,), rows_max=100).append(full[::4].copy())
    store.keep_free_bytes = 1000
    disk.free = 1000 + CHUNK
    manifest = store.write(meta(2), shrunk.freeze())
    assert CheckpointStore(disk, "checkpoints").load(manifest).digest() == shrunk.digest()


def test_a_staging_without_room_says_so_and_goes_on_later() -> None:
    peer = CheckpointStore(SimDisk(), "checkpoints")
    columns = columns_of(3)
    peer.write(meta(5), columns.freeze())
    data = peer.manifest_bytes(LogIndex(5))
    assert data is not None
    disk = Filling()
    store = CheckpointStore(disk, "checkpoints")
    store.keep_free_bytes = 1000
    disk.free = 2000
    staging = store.stage(data)
    wanted = staging.missing

    def put(digest: bytes) -> None:
        chunk = peer.read_chunk(digest)
        assert chunk is not None
        staging.put(digest, chunk)

    with pytest.raises(DiskFull):
        for digest, _ in wanted:
            put(digest)
    assert 0 < len(staging.missing) < len(wanted)
    disk.free = 1 << 30
    for digest, _ in staging.missing:
        put(digest)
    assert store.load(staging.finish()).digest() == columns.digest()


def test_a_checkpoint_that_meets_a_full_disk_loses_nothing() -> None:
    """At every write: the node ends (a failed write is never tried again) and starts on what was
    there before."""
    for at in range(1, 60):
        disk = SimDisk()
        store = CheckpointStore(disk, "checkpoints")
        first = store.write(meta(1), columns_of(1).freeze())
        disk.fail_at(at)
        try:
            store.write(meta(2), columns_of(2).freeze())
        except DiskFailed:
            pass
        else:
            break
        again = CheckpointStore(disk, "checkpoints")
        newest = again.newest()
        assert newest is not None
        assert newest.index in (1, 2)
        want = columns_of(1 if newest == first else 2)
        assert again.load(newest).digest() == want.digest()
    else:
        pytest.fail("the checkpoint never came through")


def test_free_space_is_what_a_user_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = RealFiles(str(tmp_path))
    real = os.statvfs(tmp_path)
    assert abs(files.free_bytes() - real.f_bavail * real.f_frsize) < 1 << 30
    asked: list[str] = []

    def faked(path: Any) -> Any:
        asked.append(str(path))
        return SimpleNamespace(f_bavail=3, f_bfree=99, f_frsize=4096, f_bsize=1 << 20)

    monkeypatch.setattr(os, "statvfs", faked)
    assert files.free_bytes() == 3 * 4096
    assert asked == [str(tmp_path)]

    def broken(_path: Any) -> Any:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "statvfs", broken)
    with pytest.raises(DiskFailed, match="statvfs"):
        files.free_bytes()


@pytest.mark.parametrize(("number", "taken"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_the_lock_of_a_full_disk_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, taken: bool
) -> None:
    """A node must start on a full disk, or nothing could be deleted there."""
    files = RealFiles(str(tmp_path))

    def no_room(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", no_room)
    if taken:
        lock = files.lock("LOCK")
        lock.release()
    else:
        with pytest.raises(DiskFailed):
            files.lock("LOCK")

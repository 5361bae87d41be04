"""The bytes of a checkpoint of format 1, pinned; newer ones are refused by name.

A version that changes the format still reads `golden/checkpoint_format_1`, and gets files of its
own beside it.
"""

from pathlib import Path

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.errors import Corruption, NewerFormat
from balsadb.storage import CheckpointStore, DataDir
from balsadb.storage.manifest import FORMAT, CheckpointMeta, decode_manifest, encode_manifest
from balsadb.types import ClusterId, GroupId, LogIndex, NodeId, Term
from tests.simulation.disk import SimDisk

GOLDEN = Path(__file__).parent / "golden" / "checkpoint_format_1"
MANIFEST = "0000000000000005-0000000000000002.manifest"
PACK = "packs/0000000000000001.pack"
META = CheckpointMeta(LogIndex(5), Term(2), b"members", ClusterId(7), GroupId(0))


def columns() -> ColumnSet:
    made = ColumnSet()
    made.create("b/vectors", np.float32, (5,), rows_max=100).append(
        np.arange(60, dtype=np.float32).reshape(12, 5)
    )
    made.create("a/ids", np.uint64, rows_max=10).append(np.arange(3, dtype=np.uint64) << 40)
    made.create("c/none", np.uint8, rows_max=10)
    made.create("d/bytes", np.uint8, rows_max=1000).append(np.arange(200, dtype=np.uint8))
    return made


def disk_of(manifest: bytes, pack: bytes) -> SimDisk:
    disk = SimDisk()
    disk.mkdir("checkpoints/packs")
    disk.replace(f"checkpoints/{MANIFEST}", manifest)
    disk.replace(f"checkpoints/{PACK}", pack)
    return disk


def golden() -> tuple[bytes, bytes]:
    return (GOLDEN / MANIFEST).read_bytes(), (GOLDEN / PACK).read_bytes()


def write() -> tuple[bytes, bytes]:
    """The two files as today's code makes them."""
    disk = SimDisk()
    CheckpointStore(disk, "checkpoints").write(META, columns().freeze())
    return disk.content(f"checkpoints/{MANIFEST}"), disk.content(f"checkpoints/{PACK}")


def test_a_checkpoint_of_format_1_is_read_and_written_as_ever() -> None:
    store = CheckpointStore(disk_of(*golden()), "checkpoints")
    found = store.newest()
    assert found is not None
    assert store.damaged == {}
    assert (found.index, found.term, found.members, found.cluster) == (5, 2, b"members", 7)
    loaded = store.load(found)
    assert loaded.digest() == columns().digest()
    assert write() == golden()


def test_a_manifest_of_a_newer_version_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("balsadb.storage.manifest.FORMAT", FORMAT + 1)
        newer = encode_manifest(decode_manifest(golden()[0], "golden"))
    disk = disk_of(newer, golden()[1])
    said = f"{MANIFEST}: format 2, this version reads up to 1: start the newer version again"
    with pytest.raises(NewerFormat, match=said):
        CheckpointStore(disk, "checkpoints")
    assert disk.content(f"checkpoints/{MANIFEST}") == newer
    assert disk.content(f"checkpoints/{PACK}") == golden()[1]


@pytest.mark.parametrize(
    "head", [b"BALSAPAL" + bytes(8), b"BALSAPAK\2" + bytes(7), b"BALSAPAK", b""]
)
def test_a_pack_with_another_head_is_damaged(head: bytes) -> None:
    """No checksum covers it, so another version there is a flipped bit: a pack of a newer version
    is never met, for its manifest was refused."""
    manifest, pack = golden()
    store = CheckpointStore(disk_of(manifest, head + pack[16:]), "checkpoints")
    found = store.newest()
    assert found is not None
    with pytest.raises(Corruption):
        store.load(found)


def test_a_directory_of_a_newer_version_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = SimDisk()
    with monkeypatch.context() as patch:
        patch.setattr("balsadb.storage.datadir.FORMAT_VERSION", 2)
        DataDir.open(disk, NodeId(1), ClusterId(7), lambda: 5).close()
    before = disk.content("IDENTITY")
    with pytest.raises(NewerFormat, match="has format 2, this version reads 1: start the newer"):
        DataDir.open(disk, NodeId(1), ClusterId(7), lambda: 5)
    assert disk.content("IDENTITY") == before

"""Targets of the storage: the log, the identity, manifests and packs, each on a disk of its own."""

import struct
import zlib
from functools import cache
from hashlib import blake2b

import numpy as np

from balsadb.columns import ColumnSet, chunk_digest
from balsadb.errors import Corruption, EmptiedDisk, ForeignDataDir, InvalidInput, NewerFormat
from balsadb.storage import (
    CheckpointMeta,
    CheckpointStore,
    DataDir,
    SnapshotRef,
    Wal,
    WalBatch,
    WalHeader,
    WalOptions,
    WalState,
)
from balsadb.storage.manifest import FORMAT, MAGIC, ChunkRef, decode_manifest, encode_manifest
from balsadb.storage.packs import PackReader, pack_name
from balsadb.storage.record import BatchHead, BatchWriter
from balsadb.types import ClusterId, DiskId, Entry, GroupId, HardState, LogIndex, NodeId, Term
from tests.simulation.disk import SimDisk

HEADER = WalHeader(ClusterId(7), NodeId(1), DiskId(99))
OPTIONS = WalOptions(segment_bytes=4096, zeroed_bytes=512)
FIRST, SECOND = (f"wal/{number:016d}.wal" for number in (1, 2))
NUMBER_MAX = 2**63 - 1
REFUSALS = (Corruption, NewerFormat, ForeignDataDir)


# --- the log -----------------------------------------------------------------------------------


def _logged(segment_bytes: int) -> SimDisk:
    disk = SimDisk()
    options = WalOptions(segment_bytes=segment_bytes, zeroed_bytes=512)
    wal, _ = Wal.create_or_open(disk, "wal", HEADER, options)
    for first in range(1, 12, 3):
        added = [
            Entry(LogIndex(i), Term(first), i % 2, b"d" * 90 * i) for i in range(first, first + 3)
        ]
        wal.write(WalBatch(HardState(Term(first), NodeId(1), LogIndex(first - 1)), None, added))
        wal.sync()
    wal.write(WalBatch(None, SnapshotRef(LogIndex(2), Term(1)), ()))
    wal.write(WalBatch(HardState(Term(11), NodeId(0), LogIndex(12))))
    wal.close()
    return disk


def wal_seeds() -> list[bytes]:
    """One segment: empty, just begun, and with batches of all kinds."""
    begun = SimDisk()
    Wal.create_or_open(begun, "wal", HEADER, WalOptions(4096, 0))
    return [b"", begun.content(FIRST), _logged(1 << 16).content(FIRST)]


def second_segments() -> list[bytes]:
    """The segment after the first of a log that has rolled."""
    return [_logged(4096).content(SECOND), b""]


def check_wal(data: bytes) -> None:
    """The log refuses and changes nothing; or what it read is whole and stays, and it goes on."""
    disk = SimDisk()
    disk.mkdir("wal")
    disk.replace(FIRST, data)
    _check_log(disk, FIRST, data)


def check_second_segment(data: bytes) -> None:
    """The same with a good segment before it, whose batches must all be there."""
    first = _first_of_two()
    disk = SimDisk()
    disk.mkdir("wal")
    disk.replace(FIRST, first)
    disk.replace(SECOND, data)
    after = _check_log(disk, SECOND, data)
    assert disk.content(FIRST).startswith(first.rstrip(b"\0")), "what was closed changed"
    if after is not None and after.snapshot is None:
        assert [entry.index for entry in after.entries[:3]] == [1, 2, 3]


@cache
def _first_of_two() -> bytes:
    return _logged(4096).content(FIRST)


def _opened(disk: SimDisk) -> WalState:
    wal, state = Wal.create_or_open(disk, "wal", HEADER, OPTIONS)
    wal.close()
    return state


def _check_log(disk: SimDisk, path: str, data: bytes) -> WalState | None:
    try:
        wal, state = Wal.create_or_open(disk, "wal", HEADER, OPTIONS)
    except REFUSALS:
        assert disk.content(path) == data, "a refusal changed the log"
        return None
    first = state.snapshot.index + 1 if state.snapshot else 1
    indexes = [entry.index for entry in state.entries]
    assert indexes == list(range(first, first + len(indexes)))
    wal.close()
    assert _opened(disk) == state, "reading the log again gave another one"
    last = indexes[-1] if indexes else first - 1
    term = max([entry.term for entry in state.entries[-1:]], default=1)
    if last >= NUMBER_MAX:
        return state
    wal, _ = Wal.create_or_open(disk, "wal", HEADER, OPTIONS)
    more = Entry(LogIndex(last + 1), Term(max(term, 1)), 0, b"more")
    wal.write(WalBatch(None, None, [more]))
    wal.sync()
    wal.close()
    assert _opened(disk).entries == [*state.entries, more]
    return state


def batch_seeds() -> list[bytes]:
    """Records as (type, length, payload): what a batch with good checksums may hold."""
    hard = struct.pack("<QQQ", 3, 1, 2)
    entry = struct.pack("<QQI", 1, 3, 0) + b"data"
    mark = struct.pack("<QQB", 5, 3, 1)
    meta = struct.pack("<IQQQ", 1, 7, 1, 99)
    return [
        b"".join(bytes([kind, len(payload)]) + payload for kind, payload in made)
        for made in (
            [(3, hard), (5, entry)],
            [(4, mark), (3, hard)],
            [(5, entry), (5, struct.pack("<QQI", 2, 3, 1))],
            [(2, meta)],
            [],
        )
    ]


def check_batch(data: bytes) -> None:
    """Checksums that hold around anything: then it is the records that must be refused."""
    writer = BatchWriter()
    at = 0
    while at + 2 <= len(data):
        kind, length = data[at], data[at + 1]
        writer._add(kind, data[at + 2 : at + 2 + length])
        at += 2 + length
    disk = SimDisk()
    Wal.create_or_open(disk, "wal", HEADER, WalOptions(4096, 0))
    begun = disk.content(FIRST)
    chain = BatchWriter()
    chain.meta(HEADER)
    _, crc = chain.finish(BatchHead(1, 0, 0, chain.length, 0))
    made, _ = writer.finish(BatchHead(1, len(begun), len(begun), writer.length, crc))
    whole = begun + bytes(made)
    disk.replace(FIRST, whole)
    _check_log(disk, FIRST, whole)


# --- the identity ------------------------------------------------------------------------------


def _directory() -> SimDisk:
    disk = SimDisk()
    DataDir.open(disk, NodeId(1), ClusterId(7), lambda: 99, OPTIONS).close()
    return disk


def identity_seeds() -> list[bytes]:
    """The file as this version writes it, and one of a later version."""
    newer = b'{"format":2,"cluster":7,"node":1,"disk":99,"group":1}'
    sealed = b'{"identity":%s,"crc32":%d}' % (newer, zlib.crc32(newer))
    nested = b'{"identity":{},"crc32":1,"x":' + b"[" * 3000
    return [_directory().content("IDENTITY"), sealed, nested, b'{"identity":"\xff"}']


@cache
def _begun_log() -> bytes:
    return _directory().content(FIRST)


def check_identity(data: bytes) -> None:
    """Another identity is never taken, and never written over."""
    disk = SimDisk()
    disk.mkdir("wal")
    disk.replace(FIRST, _begun_log())
    disk.replace("IDENTITY", data)
    try:
        opened = DataDir.open(disk, NodeId(1), ClusterId(7), lambda: 5)
    except (*REFUSALS, EmptiedDisk):
        pass
    else:
        assert (opened.identity.node, opened.identity.cluster) == (1, 7)
        opened.close()
    assert disk.content("IDENTITY") == data
    disk.lock("LOCK").release()


# --- checkpoints -------------------------------------------------------------------------------


def _checkpoint() -> SimDisk:
    """A disk with one checkpoint of two columns, one of them of two chunks."""
    disk = SimDisk()
    store = CheckpointStore(disk, "checkpoints")
    columns = ColumnSet()
    columns.create("a", "<u8", rows_max=64).append(np.arange(5, dtype=np.uint64))
    columns.create("b", "|u1", (1 << 20,), rows_max=8).append(np.ones((2, 1 << 20), np.uint8))
    meta = CheckpointMeta(LogIndex(5), Term(2), b"members", ClusterId(7), GroupId(0))
    store.write(meta, columns.freeze())
    return disk


def manifest_seeds() -> list[bytes]:
    """A manifest, and one without columns."""
    manifest = CheckpointStore(_checkpoint(), "checkpoints").newest()
    assert manifest is not None
    empty = manifest.with_columns(())
    return [encode_manifest(manifest), encode_manifest(empty)]


def manifest_bodies() -> list[bytes]:
    """What a manifest's digest covers."""
    return [sealed[40:] for sealed in manifest_seeds()]


def check_manifest_body(data: bytes) -> None:
    """A digest that holds around anything."""
    head = struct.pack("<8sIIQ", MAGIC, FORMAT, 0, len(data))
    digest = blake2b(head + data, digest_size=16).digest()
    check_manifest(head + digest + data)


def check_manifest(data: bytes) -> None:
    """A manifest on disk is used or listed as damaged; one of a peer is fetched or refused; one
    that is taken can be restored or says what is wrong, within bounds."""
    try:
        manifest = decode_manifest(data, "it")
    except (Corruption, NewerFormat):
        manifest = None
    disk = SimDisk()
    disk.mkdir("checkpoints/packs")
    disk.replace("checkpoints/0000000000000005-0000000000000002.manifest", data)
    disk.replace("checkpoints/incoming", data)
    try:
        store = CheckpointStore(disk, "checkpoints")
    except NewerFormat:
        return
    newest = store.newest()
    assert newest is None or newest == manifest
    try:
        staging = store.stage(data)
    except InvalidInput:
        assert manifest is None
        return
    assert manifest is not None
    for digest, length in staging.missing:
        try:
            staging.put(digest, b"other bytes")
        except InvalidInput:
            continue
        assert chunk_digest(b"other bytes") == digest, length
    staging.abandon()
    if not staging.missing:
        again = store.stage(data)
        restored = store.load(again.finish())
        assert len(restored) == len(manifest.columns)


def pack_seeds() -> list[bytes]:
    """A pack of short chunks."""
    disk = _checkpoint()
    whole = disk.content(f"checkpoints/packs/{pack_name(1)}")
    return [whole[: 16 + 24 + 40], whole[:16], whole[:200]]


def check_pack(data: bytes) -> None:
    """What is found verifies; what is not there is Corruption."""
    disk = SimDisk()
    disk.mkdir("packs")
    disk.replace(f"packs/{pack_name(1)}", data)
    with PackReader(disk, "packs") as reader:
        found = reader.scan(1)
        for ref in found:
            assert chunk_digest(reader.view(ref)) == ref.digest
        asked = [ChunkRef(bytes(16), 3, 1, 16), ChunkRef(data[16:32].ljust(16, b"?"), 40, 1, 16)]
        for ref in asked:
            try:
                assert chunk_digest(reader.read(ref)) == ref.digest
            except Corruption:
                assert ref not in found

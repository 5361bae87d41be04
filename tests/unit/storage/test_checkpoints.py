"""Checkpoints: round trips, re-use, garbage, damage, and what peers send."""

import threading
from typing import Any

import msgspec
import numpy as np
import pytest

from balsadb.columns import ColumnSet, FrozenColumn
from balsadb.errors import Corruption, InvalidInput, NewerFormat
from balsadb.storage.checkpoints import CheckpointStore
from balsadb.storage.manifest import CheckpointMeta, Manifest, decode_manifest, encode_manifest
from balsadb.storage.packs import pack_name
from balsadb.types import ClusterId, GroupId, LogIndex, Term
from tests.simulation.disk import SimDisk

ROWS = 40


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 bytes and packs of a dozen chunks."""
    monkeypatch.setattr("balsadb.columns.meta.CHUNK_BYTES", 64)
    monkeypatch.setattr("balsadb.storage.packs.PACK_BYTES_MAX", 1000)


def columns_of(seed: int) -> ColumnSet:
    """Some columns: many chunks, one chunk, no rows, empty rows."""
    rng = np.random.default_rng(seed)
    columns = ColumnSet()
    columns.create("b/vectors", np.float32, (5,), rows_max=100).append(
        rng.normal(size=(ROWS, 5)).astype(np.float32)
    )
    columns.create("a/ids", np.uint64, rows_max=10).append(np.arange(3, dtype=np.uint64))
    columns.create("c/none", np.uint8, rows_max=10)
    columns.create("d/flat", np.uint8, (0,), rows_max=10).resize(4)
    columns.create("e/zero", np.uint64, (8,), rows_max=10).resize(9)
    return columns


def meta(index: int, term: int = 1) -> CheckpointMeta:
    return CheckpointMeta(LogIndex(index), Term(term), b"members", ClusterId(7), GroupId(0))


def packs(disk: SimDisk) -> list[str]:
    return disk.listdir("checkpoints/packs")


def manifests(disk: SimDisk) -> list[str]:
    return [name for name in disk.listdir("checkpoints") if name.endswith(".manifest")]


def copy_missing(source: CheckpointStore, target: CheckpointStore, index: int) -> Manifest:
    """What a peer does: fetch the manifest and the chunks it lacks."""
    data = source.manifest_bytes(LogIndex(index))
    assert data is not None
    staging = target.stage(data)
    for digest, length in staging.missing:
        chunk = source.read_chunk(digest)
        assert chunk is not None
        assert len(chunk) == length
        staging.put(digest, chunk)
    return staging.finish()


def test_what_was_written_is_what_is_loaded() -> None:
    disk, columns = SimDisk(), columns_of(1)
    store = CheckpointStore(disk, "checkpoints")
    assert store.newest() is None
    written = store.write(meta(5, 2), columns.freeze())
    for opened in (store, CheckpointStore(disk, "checkpoints")):
        newest = opened.newest()
        assert newest is not None
        assert newest == written
        assert (newest.index, newest.term, newest.members) == (5, 2, b"members")
        loaded = opened.load(newest)
        assert loaded.digests() == columns.digests()
        assert [column.rows_max for column in loaded] == [column.rows_max for column in columns]
        assert opened.scrub(newest) == []
    assert len(packs(disk)) == 2


def test_empty_set_is_a_checkpoint() -> None:
    disk = SimDisk()
    store = CheckpointStore(disk, "deep/checkpoints")
    assert len(store.load(store.write(meta(1), []))) == 0
    assert disk.listdir("deep/checkpoints/packs") == []


def test_unchanged_and_equal_chunks_are_written_once() -> None:
    disk, columns = SimDisk(), columns_of(1)
    store = CheckpointStore(disk, "checkpoints")
    first = store.write(meta(1), columns.freeze())
    zero = [ref for ref in first.refs() if ref.length == 64]
    assert len({ref.offset for ref in zero if ref.digest == zero[-1].digest}) == 1
    columns["b/vectors"].put(7, 0.5)
    frozen = columns.freeze()
    second = store.write(meta(2), frozen)
    assert all(one.released for one in frozen)
    fresh = set(second.refs()) - set(first.refs())
    assert len(fresh) == 1
    restored = CheckpointStore(disk, "checkpoints")
    third = restored.write(meta(3), restored.load(second).freeze())
    assert list(third.refs()) == list(second.refs())
    assert restored.load(third).digest() == columns.digest()


def test_packs_that_are_mostly_garbage_are_not_kept_alive() -> None:
    disk, columns = SimDisk(), columns_of(1)
    store = CheckpointStore(disk, "checkpoints")
    column = columns["b/vectors"]
    for index in range(1, 200):
        column.put(index * 7 % ROWS, index)
        store.write(meta(index), columns.freeze())
        store.collect(keep=1)
    newest = store.newest()
    assert newest is not None
    size = sum(len(disk.content(f"checkpoints/packs/{name}")) for name in packs(disk))
    live = sum({ref.digest: ref.length + 24 for ref in newest.refs()}.values())
    assert size < 2.5 * live
    assert store.load(newest).digest() == columns.digest()


def test_collect_keeps_what_is_named() -> None:
    disk = SimDisk()
    store = CheckpointStore(disk, "checkpoints")
    digests: dict[int, bytes] = {}
    for index in range(1, 7):
        columns = columns_of(index)
        digests[index] = columns.digest()
        store.write(meta(index), columns.freeze())
    store.collect(keep=2, also=[LogIndex(2)])
    assert [one.index for one in store.manifests()] == [2, 5, 6]
    reopened = CheckpointStore(disk, "checkpoints")
    assert [one.index for one in reopened.manifests()] == [2, 5, 6]
    for one in reopened.manifests():
        assert reopened.load(one).digest() == digests[one.index]
    assert reopened.manifest_bytes(LogIndex(1)) is None
    named = {pack_name(pack) for one in reopened.manifests() for pack in one.packs()}
    assert set(packs(disk)) == named


def test_collect_spares_unfinished_stagings_and_what_they_use() -> None:
    source, target = SimDisk(), SimDisk()
    theirs, ours = CheckpointStore(source, "checkpoints"), CheckpointStore(target, "checkpoints")
    columns = columns_of(1)
    ours.write(meta(1), columns.freeze())
    columns["b/vectors"].put(7, 0.5)
    theirs.write(meta(4), columns.freeze())
    data = theirs.manifest_bytes(LogIndex(4))
    assert data is not None
    staging = ours.stage(data)
    assert len(staging.missing) == 1
    ours.write(meta(2), columns_of(2).freeze())
    ours.write(meta(3), columns_of(3).freeze())
    ours.collect(keep=1)
    digest, _ = staging.missing[0]
    chunk = theirs.read_chunk(digest)
    assert chunk is not None
    staging.put(digest, chunk)
    assert ours.load(staging.finish()).digest() == columns.digest()
    ours.collect(keep=1)
    assert ours.load(ours.manifests()[0]).digest() == columns.digest()
    assert [one.index for one in ours.manifests()] == [4]


def test_staging_resumes_after_a_restart_and_with_a_later_checkpoint() -> None:
    source, target = SimDisk(), SimDisk()
    theirs = CheckpointStore(source, "checkpoints")
    columns = columns_of(1)
    theirs.write(meta(4), columns.freeze())
    data = theirs.manifest_bytes(LogIndex(4))
    assert data is not None
    staging = CheckpointStore(target, "checkpoints").stage(data)
    total = len(staging.missing)
    for digest, _ in staging.missing[:8]:
        staging.put(digest, theirs.read_chunk(digest) or b"")
    again = CheckpointStore(target, "checkpoints").stage(data)  # the process died
    assert len(again.missing) == total - 8
    columns["b/vectors"].put(0, 1)
    theirs.write(meta(9), columns.freeze())
    ours = CheckpointStore(target, "checkpoints")
    ours.collect()
    later = ours.stage(theirs.manifest_bytes(LogIndex(9)) or b"")
    assert len(later.missing) == total - 7
    later.abandon()
    installed = copy_missing(theirs, ours, 9)
    assert ours.load(installed).digest() == columns.digest()
    again = CheckpointStore(target, "checkpoints")
    assert "incoming" not in target.listdir("checkpoints")
    again.collect()
    assert set(packs(target)) == {pack_name(pack) for pack in installed.packs()}


def test_a_resumed_staging_keeps_its_leftovers_when_a_newer_checkpoint_overtakes_it() -> None:
    theirs = CheckpointStore(SimDisk(), "checkpoints")
    columns = columns_of(1)
    theirs.write(meta(4), columns.freeze())
    data = theirs.manifest_bytes(LogIndex(4)) or b""
    target = SimDisk()
    killed = CheckpointStore(target, "checkpoints").stage(data)
    for digest, _ in killed.missing[:8]:
        killed.put(digest, theirs.read_chunk(digest) or b"")
    ours = CheckpointStore(target, "checkpoints")
    staging = ours.stage(data)
    ours.write(meta(5), columns_of(2).freeze())
    ours.collect()
    for digest, _ in staging.missing:
        staging.put(digest, theirs.read_chunk(digest) or b"")
    assert ours.load(staging.finish()).digest() == columns.digest()


def test_a_peer_is_not_believed() -> None:
    theirs = CheckpointStore(SimDisk(), "checkpoints")
    ours = CheckpointStore(SimDisk(), "checkpoints")
    theirs.write(meta(4), columns_of(1).freeze())
    data = theirs.manifest_bytes(LogIndex(4)) or b""
    for bad in (b"", data[:-1], data + b"x", data[:60] + b"?" + data[61:]):
        with pytest.raises(InvalidInput):
            ours.stage(bad)
    staging = ours.stage(data)
    digest, length = staging.missing[0]
    for wrong in ((digest, bytes(length)), (digest, b""), (bytes(16), b"x")):
        with pytest.raises(InvalidInput):
            staging.put(*wrong)
    with pytest.raises(ValueError, match="missing"):
        staging.finish()
    assert ours.newest() is None
    assert ours.read_chunk(digest) is None


def test_a_manifest_that_contradicts_itself_is_refused() -> None:
    store = CheckpointStore(SimDisk(), "checkpoints")
    good = store.write(meta(4), columns_of(1).freeze())
    name, (column, refs) = good.columns[1][0].name, good.columns[1]
    assert name == "b/vectors"
    for columns in (
        ((column, refs[:-1]),),
        ((column, refs), (column, refs)),
        (good.columns[1], good.columns[0]),
    ):
        with pytest.raises(Corruption):
            decode_manifest(encode_manifest(good.with_columns(columns)), "m")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"dtype": "O"}, "no column of 'O'"),
        ({"dtype": ">f4"}, "no column of '>f4'"),
        ({"dtype": "f4,f4"}, "no column of 'f4,f4'"),
        ({"dtype": "<f3"}, "data type '<f3' not understood"),
        ({"row_shape": (-5,)}, "no column of"),
        ({"rows_max": 1 << 40}, "are more than any has"),
        ({"row_shape": (1 << 60,)}, "are more than any has"),
        ({"rows_max": ROWS - 1}, "do not agree"),
        ({"rows": ROWS - 1}, "do not agree"),
        ({"rows": -1}, "do not agree"),
    ],
)
def test_a_column_that_no_node_can_make_is_refused(changed: dict[str, Any], text: str) -> None:
    """Before it is fetched: once a checkpoint is durable, a node starts from it or not at all."""
    store = CheckpointStore(SimDisk(), "checkpoints")
    good = store.write(meta(4), columns_of(1).freeze())
    column, refs = good.columns[1]
    bad = msgspec.structs.replace(column, **changed)
    data = encode_manifest(good.with_columns(((bad, refs),)))
    with pytest.raises(InvalidInput, match=text):
        store.stage(data)
    assert store.newest() == good


def test_a_digest_of_a_wrong_length_is_refused() -> None:
    good = CheckpointStore(SimDisk(), "checkpoints").write(meta(4), columns_of(1).freeze())
    column, refs = good.columns[1]
    short = (msgspec.structs.replace(refs[0], digest=b"short"), *refs[1:])
    with pytest.raises(Corruption, match="a digest of a wrong length"):
        decode_manifest(encode_manifest(good.with_columns(((column, short),))), "m")


def test_a_manifest_under_another_name_or_without_its_packs_is_damaged() -> None:
    disk = SimDisk()
    store = CheckpointStore(disk, "checkpoints")
    store.write(meta(4), columns_of(1).freeze())
    name = manifests(disk)[0]
    content = disk.content(f"checkpoints/{name}")
    disk.replace("checkpoints/0000000000000005-0000000000000001.manifest", content)
    disk.replace("checkpoints/notes.manifest", content)
    opened = CheckpointStore(disk, "checkpoints")
    assert len(opened.manifests()) == 1
    assert sorted(opened.damaged) == [
        "0000000000000005-0000000000000001.manifest",
        "notes.manifest",
    ]
    assert all("is of checkpoint (4, 1)" in why for why in opened.damaged.values())
    pack = packs(disk)[0]
    disk.remove(f"checkpoints/packs/{pack}")
    opened = CheckpointStore(disk, "checkpoints")
    assert opened.newest() is None
    assert "packs are missing" in opened.damaged[name]


def test_every_flipped_bit_is_noticed() -> None:
    disk = SimDisk()
    store = CheckpointStore(disk, "checkpoints")
    written = store.write(meta(4), columns_of(1).freeze())
    manifest = f"checkpoints/{manifests(disk)[0]}"
    for bit in range(0, 8 * len(disk.content(manifest)), 3):
        disk.flip_bit(manifest, bit)
        with pytest.raises(Corruption):
            decode_manifest(disk.content(manifest), manifest)
        if bit % 50 == 0:
            damaged = CheckpointStore(disk, "checkpoints")
            assert damaged.newest() is None
            assert list(damaged.damaged) == [manifests(disk)[0]]
            damaged.collect()
        disk.flip_bit(manifest, bit)
    for name in packs(disk):  # none was collected under the damaged manifest
        path = f"checkpoints/packs/{name}"
        for bit in range(0, 8 * len(disk.content(path)), 11):
            disk.flip_bit(path, bit)
            with pytest.raises(Corruption):
                store.load(written)
            disk.flip_bit(path, bit)
    assert store.load(written).digest() == columns_of(1).digest()


def test_truncated_and_missing_files_are_noticed() -> None:
    disk = SimDisk()
    store = CheckpointStore(disk, "checkpoints")
    written = store.write(meta(4), columns_of(1).freeze())
    for name in packs(disk):
        path = f"checkpoints/packs/{name}"
        content = disk.content(path)
        for length in (0, 3, 30, len(content) - 1):
            disk.replace(path, content[:length])
            with pytest.raises(Corruption):
                store.load(written)
            assert store.scrub(written)
        disk.replace(path, content)
    path = f"checkpoints/{manifests(disk)[0]}"
    content = disk.content(path)
    for length in range(0, len(content), 7):
        disk.replace(path, content[:length])
        assert CheckpointStore(disk, "checkpoints").newest() is None
    disk.replace(path, content)
    disk.remove(f"checkpoints/packs/{packs(disk)[0]}")
    reopened = CheckpointStore(disk, "checkpoints")
    assert reopened.newest() is None
    assert "packs are missing" in reopened.damaged[manifests(disk)[0]]


def test_newer_format_is_refused_not_called_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimDisk()
    store = CheckpointStore(disk, "checkpoints")
    store.write(meta(4), columns_of(1).freeze())
    monkeypatch.setattr("balsadb.storage.manifest.FORMAT", 2)
    store.write(meta(5), columns_of(1).freeze())
    newer = store.manifest_bytes(LogIndex(5)) or b""
    monkeypatch.setattr("balsadb.storage.manifest.FORMAT", 1)
    with pytest.raises(NewerFormat):
        CheckpointStore(disk, "checkpoints")
    with pytest.raises(NewerFormat):
        CheckpointStore(SimDisk(), "checkpoints").stage(newer)


def test_an_older_checkpoint_serves_if_the_newest_is_damaged_until_it_is_superseded() -> None:
    disk = SimDisk()
    store = CheckpointStore(disk, "checkpoints")
    store.write(meta(4), columns_of(1).freeze())
    store.write(meta(5), columns_of(2).freeze())
    damaged = manifests(disk)[1]
    disk.flip_bit(f"checkpoints/{damaged}", 77)
    store = CheckpointStore(disk, "checkpoints")
    newest = store.newest()
    assert newest is not None
    assert newest.index == 4
    before = packs(disk)
    store.collect(keep=1)
    assert packs(disk) == before
    store.write(meta(6), columns_of(3).freeze())
    store.collect(keep=1)
    assert store.damaged == {}
    assert not set(packs(disk)) & set(before)


def test_a_rotten_chunk_is_mended_from_a_peer() -> None:
    source, target = SimDisk(), SimDisk()
    theirs, ours = CheckpointStore(source, "checkpoints"), CheckpointStore(target, "checkpoints")
    columns = columns_of(1)
    theirs.write(meta(4), columns.freeze())
    installed = copy_missing(theirs, ours, 4)
    ref = next(installed.refs())
    target.flip_bit(f"checkpoints/packs/{pack_name(ref.pack)}", 8 * (ref.offset + 30))
    assert ours.scrub(installed) == [(ref.digest, ref.length)]
    with pytest.raises(Corruption):
        ours.read_chunk(ref.digest)
    staging = ours.stage(ours.manifest_bytes(LogIndex(4)) or b"")
    assert staging.missing == [(ref.digest, ref.length)]
    staging.put(ref.digest, theirs.read_chunk(ref.digest) or b"")
    assert ours.load(staging.finish()).digest() == columns.digest()
    assert CheckpointStore(target, "checkpoints").scrub(ours.manifests()[0]) == []


def test_a_write_that_was_not_announced_never_reaches_the_disk() -> None:
    store = CheckpointStore(SimDisk(), "checkpoints")
    columns = columns_of(1)
    columns.digest()
    columns["a/ids"].data[0] = 99
    with pytest.raises(Corruption, match="a/ids"):
        store.write(meta(1), columns.freeze())
    assert store.newest() is None


def test_columns_are_written_on_while_they_are_being_saved() -> None:
    store = CheckpointStore(SimDisk(), "checkpoints")
    columns = columns_of(1)
    column = columns["b/vectors"]
    expected: list[tuple[Manifest, bytes]] = []

    def save(index: int, frozen: list[FrozenColumn], digest: bytes) -> None:
        expected.append((store.write(meta(index), frozen), digest))

    for index in range(1, 16):
        digest = columns.digest() if index % 2 else columns_digest_without_cache(columns)
        saver = threading.Thread(target=save, args=(index, columns.freeze(), digest))
        saver.start()
        while saver.is_alive():
            for row in range(0, ROWS, 3):
                column.put(row, index * 1000 + row)
        saver.join()
    assert len(expected) == 15
    for manifest, digest in expected:
        assert store.load(manifest).digest() == digest


def columns_digest_without_cache(columns: ColumnSet) -> bytes:
    """The digest of equal columns: the saver has to hash the changed chunks itself."""
    twin = ColumnSet()
    for column in columns:
        chunks = column.freeze()
        data = [chunks.chunk(i) for i in range(chunks.chunk_count)]
        twin.load_column(column.meta, data)
    return twin.digest()

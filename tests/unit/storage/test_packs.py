"""Packs: which files are packs, and what a damaged one gives."""

import pytest

from balsadb.columns import chunk_digest
from balsadb.errors import Corruption
from balsadb.storage.checkpoints import CheckpointStore
from balsadb.storage.manifest import ChunkRef
from balsadb.storage.packs import PackReader, PackWriter, pack_name, pack_number
from tests.simulation.disk import SimDisk

CHUNKS = [b"one" * 30, b"two" * 40, b"", b"three"]


def packed() -> tuple[SimDisk, list[ChunkRef]]:
    disk = SimDisk()
    disk.mkdir("packs")
    writer = PackWriter(disk, "packs", lambda: 1, lambda _: None)
    refs = [writer.append(chunk_digest(chunk), chunk) for chunk in CHUNKS]
    writer.finish()
    return disk, refs


@pytest.mark.parametrize("number", [0, 1, 255, 2**63 - 1, 2**64 - 1])
def test_the_name_of_a_pack_gives_its_number(number: int) -> None:
    assert pack_number(pack_name(number)) == number


@pytest.mark.parametrize(
    "name",
    [
        "1.pack",
        "0000000000000001",
        "0000000000000001.pack.old",
        "000000000000000g.pack",
        "+000000000000001.pack",
        "0_00000000000001.pack",
        " 000000000000001.pack",
        "000000000000000A.pack",
        "-000000000000001.pack",
        "0x00000000000001.pack",
        ".pack",
        "incoming",
    ],
)
def test_a_file_of_another_name_is_no_pack_and_stays(name: str) -> None:
    assert pack_number(name) is None
    disk = SimDisk()
    disk.mkdir("checkpoints/packs")
    disk.replace(f"checkpoints/packs/{name}", b"somebody's")
    CheckpointStore(disk, "checkpoints").collect()
    assert disk.listdir("checkpoints/packs") == [name]


def test_a_pack_that_is_whole_gives_all_its_chunks() -> None:
    disk, refs = packed()
    with PackReader(disk, "packs") as reader:
        assert reader.scan(1) == refs
        assert [reader.read(ref) for ref in refs] == CHUNKS


def test_a_pack_cut_anywhere_gives_the_chunks_before_the_cut() -> None:
    disk, refs = packed()
    path = f"packs/{pack_name(1)}"
    whole = disk.content(path)
    ends = [ref.offset + 24 + ref.length for ref in refs]
    for size in range(len(whole)):
        disk.replace(path, whole[:size])
        with PackReader(disk, "packs") as reader:
            there = [ref for ref, end in zip(refs, ends, strict=True) if end <= size]
            assert reader.scan(1) == there
            for ref in refs:
                if ref in there:
                    assert len(reader.read(ref)) == ref.length
                else:
                    with pytest.raises(Corruption):
                        reader.read(ref)


def test_a_chunk_that_was_changed_ends_what_can_be_resumed() -> None:
    disk, refs = packed()
    disk.flip_bit(f"packs/{pack_name(1)}", 8 * (refs[1].offset + 24 + 5))
    with PackReader(disk, "packs") as reader:
        assert reader.scan(1) == refs[:1]
        with pytest.raises(Corruption, match="does not verify"):
            reader.read(refs[1])


def test_what_is_missing_or_no_pack_is_corruption_and_resumes_nothing() -> None:
    disk, refs = packed()
    with PackReader(disk, "packs") as reader:
        assert reader.scan(2) == []
        with pytest.raises(Corruption, match="the pack is missing"):
            reader.read(ChunkRef(refs[0].digest, refs[0].length, 2, 16))
    disk.replace(f"packs/{pack_name(1)}", b"BALSAPAK" + bytes(8))
    with PackReader(disk, "packs") as reader:
        assert reader.scan(1) == []
        with pytest.raises(Corruption, match="the pack's header does not verify"):
            reader.read(refs[0])


def test_a_record_of_another_chunk_is_corruption() -> None:
    disk, refs = packed()
    with PackReader(disk, "packs") as reader:
        for wrong in (
            ChunkRef(bytes(16), refs[0].length, 1, refs[0].offset),
            ChunkRef(refs[0].digest, refs[0].length, 1, refs[1].offset),
            ChunkRef(refs[0].digest, refs[0].length, 1, 1 << 40),
        ):
            with pytest.raises(Corruption, match="no record of chunk"):
                reader.read(wrong)

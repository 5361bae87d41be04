"""The bytes of format 1, pinned; and bounds that hold for bytes of any length."""

import zlib
from pathlib import Path

import pytest

from balsadb.errors import Corruption, NewerFormat
from balsadb.storage import RealFiles, SnapshotRef, Wal, WalBatch, WalHeader, WalOptions, WalState
from balsadb.storage.record import BatchHead, BatchWriter
from balsadb.types import Entry, HardState
from tests.simulation.disk import SimDisk

GOLDEN = Path(__file__).parent / "golden" / "format_1.wal"
HEADER = WalHeader(cluster=0x0123456789ABCDEF, node=2, disk=0x7EDCBA9876543210)
FIRST = "wal/0000000000000001.wal"
STATE = WalState(
    HardState(4, 3, 2),
    SnapshotRef(2, 3),
    [Entry(3, 4, 1, b"members"), Entry(4, 4, 0, bytes(range(256)) * 3)],
)


def write_golden() -> bytes:
    disk = SimDisk()
    wal, _ = Wal.create_or_open(disk, "wal", HEADER, WalOptions(1 << 20, 0))
    for batch in (
        WalBatch(HardState(3, 2, 0), None, [Entry(1, 3, 0, b""), Entry(2, 3, 0, b"two")]),
        WalBatch(STATE.hard_state, STATE.snapshot, STATE.entries),
    ):
        wal.write(batch)
        wal.sync()
    return disk.content(FIRST)


def test_a_log_of_format_1_is_read_and_written_as_ever():
    golden = GOLDEN.read_bytes()
    disk = SimDisk()
    disk.mkdir("wal")
    disk.replace(FIRST, golden)
    assert Wal.create_or_open(disk, "wal", HEADER)[1] == STATE
    assert write_golden() == golden


def test_no_written_sector_is_unstamped_and_each_segment_has_its_stamp():
    for segment in (1, 2, 63, 64, 65):
        writer = BatchWriter()
        writer.entries([Entry(1, 1, 0, bytes(2000))])
        data = bytes(writer.finish(BatchHead(segment, 0, 0, writer.length, 0))[0])
        stamps = set(data[511::512])
        assert stamps == {0xC0 | segment % 64}


@pytest.mark.parametrize("at", [9, 12])  # of a record: format, group
def test_records_of_a_later_format_are_not_taken_for_damage(at):
    golden = bytearray(GOLDEN.read_bytes())
    golden[at] += 1
    golden[0:4] = zlib.crc32(golden[4:48]).to_bytes(4, "little")
    disk = SimDisk()
    disk.mkdir("wal")
    disk.replace(FIRST, bytes(golden))
    with pytest.raises(NewerFormat, match="newer version"):
        Wal.create_or_open(disk, "wal", HEADER)


def test_a_file_too_large_to_be_a_segment_is_not_read(tmp_path):
    files = RealFiles(str(tmp_path))
    files.mkdir("wal")
    file = files.open(FIRST, create=True)
    file.truncate(1 << 40)  # sparse
    file.close()
    with pytest.raises(Corruption, match="no segment"):
        Wal.create_or_open(files, "wal", HEADER)


def test_options_have_bounds():
    for bad in ({"segment_bytes": 1024}, {"segment_bytes": 1 << 30}, {"zeroed_bytes": -1}):
        with pytest.raises(ValueError, match="bytes"):
            WalOptions(**bad)

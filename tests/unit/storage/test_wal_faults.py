"""Torn or rotten: power cuts and flipped bits, against the promise that nothing synced is lost
silently."""

import random

import pytest

from balsadb.errors import Corruption, DiskFailed, NewerFormat
from balsadb.storage import SnapshotRef, Wal, WalBatch, WalHeader, WalOptions, WalState
from balsadb.storage.files import SECTOR_BYTES
from balsadb.types import Entry, HardState
from tests.simulation.disk import SimDisk, SimulatedCrash

HEADER = WalHeader(cluster=7, node=1, disk=99)
SMALL = WalOptions(segment_bytes=8192, zeroed_bytes=1024)
FIRST = "wal/0000000000000001.wal"


def entries(first: int, count: int, term: int = 1, size: int = 20) -> list[Entry]:
    return [Entry(i, term, 0, bytes([i % 251]) * size) for i in range(first, first + count)]


def open_log(disk: SimDisk, options: WalOptions = SMALL) -> tuple[Wal, WalState]:
    return Wal.create_or_open(disk, "wal", HEADER, options)


def used(disk: SimDisk, path: str = FIRST) -> int:
    """End of the written sectors."""
    return -(-len(disk.content(path).rstrip(b"\0")) // SECTOR_BYTES) * SECTOR_BYTES


def two_batches() -> tuple[SimDisk, int, int]:
    """A log of a synced batch and a last one of three sectors; where the last begins and ends."""
    disk = SimDisk()
    wal, _ = open_log(disk)
    wal.write(WalBatch(HardState(1, 2, 0), None, entries(1, 3)))
    wal.sync()
    start = used(disk)
    wal.write(WalBatch(HardState(2, 3, 1), None, entries(4, 5, size=200)))
    wal.sync()
    return disk, start, used(disk)


BEFORE = WalState(HardState(1, 2, 0), None, entries(1, 3))
AFTER = WalState(HardState(2, 3, 1), None, entries(1, 3) + entries(4, 5, size=200))


def test_every_flipped_bit_of_the_last_synced_batch_is_corruption():
    disk, start, end = two_batches()
    assert end - start == 3 * SECTOR_BYTES
    for bit in range(start * 8, end * 8):
        disk.flip_bit(FIRST, bit)
        with pytest.raises(Corruption, match=r"offset 1024.*join again"):
            open_log(disk)
        disk.flip_bit(FIRST, bit)
    assert open_log(disk)[1] == AFTER


def test_every_flipped_bit_before_the_last_batch_is_corruption():
    disk, start, _ = two_batches()
    for bit in range(start * 8):
        disk.flip_bit(FIRST, bit)
        with pytest.raises(Corruption):
            open_log(disk)
        disk.flip_bit(FIRST, bit)


@pytest.mark.parametrize("sector", [0, 1])
def test_a_zeroed_sector_before_the_last_batch_is_corruption(sector):
    disk, _, _ = two_batches()
    data = bytearray(disk.content(FIRST))
    data[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES] = bytes(SECTOR_BYTES)
    disk.replace(FIRST, bytes(data))
    with pytest.raises(Corruption, match="says it was synced"):
        open_log(disk)


def test_an_unsynced_batch_cut_at_any_byte_is_truncated():
    disk, start, end = two_batches()
    whole = disk.content(FIRST)
    for cut in range(start, end):
        disk.replace(FIRST, whole[:cut] + bytes(len(whole) - cut))
        wal, state = open_log(disk)
        assert state == BEFORE
        assert not any(disk.content(FIRST)[start:])
        assert disk.content(FIRST)[:start] == whole[:start]
    wal.write(WalBatch(HardState(2, 3, 1), None, entries(4, 5, size=200)))
    wal.sync()
    assert open_log(disk)[1] == AFTER


def test_a_file_cut_at_any_byte_of_an_unsynced_batch_is_truncated():
    disk, start, end = two_batches()
    whole = disk.content(FIRST)
    for cut in range(start, end):
        disk.replace(FIRST, whole[:cut])
        assert open_log(disk)[1] == BEFORE


def test_any_subset_of_sectors_of_an_unsynced_batch_is_truncated():
    disk, start, end = two_batches()
    whole = disk.content(FIRST)
    count = (end - start) // SECTOR_BYTES
    for kept in range(2**count - 1):
        data = bytearray(whole)
        for sector in range(count):
            if not kept >> sector & 1:
                at = start + sector * SECTOR_BYTES
                data[at : at + SECTOR_BYTES] = bytes(SECTOR_BYTES)
        disk.replace(FIRST, bytes(data))
        assert open_log(disk)[1] == BEFORE


def test_of_two_unsynced_batches_the_later_may_arrive_alone():
    disk = SimDisk()
    wal, _ = open_log(disk)
    start = used(disk)
    wal.write(WalBatch(entries=entries(1, 1)))
    wal.write(WalBatch(entries=entries(2, 1)))
    data = bytearray(disk.content(FIRST))
    data[start : start + SECTOR_BYTES] = bytes(SECTOR_BYTES)
    disk.replace(FIRST, bytes(data))
    assert open_log(disk)[1].entries == []
    assert used(disk) == start


def test_bytes_of_another_segment_after_the_end_are_corruption():
    disk = SimDisk()
    wal, _ = open_log(disk)
    for index in range(1, 40):
        wal.write(WalBatch(entries=entries(index, 1)))
        wal.sync()
    assert wal.segment_count > 2
    path = f"wal/{disk.listdir('wal')[-1]}"
    end = used(disk, path)
    old = disk.content(FIRST)[end:]
    assert any(old)
    disk.replace(path, disk.content(path)[:end] + old)
    with pytest.raises(Corruption):
        open_log(disk)


def test_a_batch_of_an_earlier_life_does_not_continue_the_chain():
    lives = []
    for data in (b"one", b"two"):
        disk = SimDisk()
        wal, _ = open_log(disk)
        for index in (1, 2):
            wal.write(WalBatch(entries=[Entry(index, 1, 0, data)]))
            wal.sync()
        lives.append(disk.content(FIRST))
    disk.replace(FIRST, lives[0][: 2 * SECTOR_BYTES] + lives[1][2 * SECTOR_BYTES :])
    with pytest.raises(Corruption, match="continue"):
        open_log(disk)


def test_an_older_segment_may_not_be_torn():
    disk = SimDisk()
    wal, _ = open_log(disk)
    while wal.segment_count < 3:
        wal.write(WalBatch(entries=entries(1, 1)))
        wal.sync()
    end = used(disk)
    whole = disk.content(FIRST)
    for cut in (0, SECTOR_BYTES, end - SECTOR_BYTES):
        disk.replace(FIRST, whole[:cut])
        with pytest.raises(Corruption, match=r"a later segment exists|does not continue"):
            open_log(disk)
    disk.replace(FIRST, whole[:SECTOR_BYTES] + bytes(SECTOR_BYTES) + whole[2 * SECTOR_BYTES :])
    with pytest.raises(Corruption, match="a later segment exists"):
        open_log(disk)


def run_workload(disk: SimDisk, options: WalOptions, acknowledged: list[WalState]) -> None:
    """Batches, overwrites, snapshots, compactions; each durable state is appended as it holds."""
    wal, state = open_log(disk, options)
    acknowledged.append(state)
    hard, snapshot, log = state.hard_state, state.snapshot, list(state.entries)
    for step in range(1, 13):
        last = log[-1].index if log else (snapshot.index if snapshot else 0)
        new: list[Entry] = []
        ref = None
        if step % 4 == 0 and log:
            ref = SnapshotRef(log[0].index, log[0].term)
        else:
            first = last if step % 5 == 0 and log else last + 1
            new = entries(first, step % 3 + 1, term=step, size=100 * step)
        hard = HardState(step, 1, 0)
        snapshot = ref or snapshot
        if new:
            log = [entry for entry in log if entry.index < new[0].index] + new
        log = [entry for entry in log if not snapshot or entry.index > snapshot.index]
        acknowledged.append(WalState(hard, snapshot, list(log)))  # may be durable from here on
        wal.write(WalBatch(hard, ref, new))
        if step % 3 == 0:
            continue  # two writes to one sync
        wal.sync()
        del acknowledged[:-1]  # must be durable from here on
        if snapshot and step % 4 == 0:
            wal.compact(snapshot.index)
    wal.close()


@pytest.mark.parametrize("segment_bytes", [4096, 8192])
def test_a_crash_at_any_operation_keeps_what_was_synced(segment_bytes):
    options = WalOptions(segment_bytes=segment_bytes, zeroed_bytes=1024)
    disk = SimDisk()
    run_workload(disk, options, [])
    total = disk.operations
    assert total > 35
    for at in range(1, total + 1):
        for seed in range(4):
            disk = SimDisk()
            disk.crash_at(at)
            allowed: list[WalState] = [WalState(None, None, [])]
            with pytest.raises(SimulatedCrash):
                run_workload(disk, options, allowed)
            rng = random.Random(f"{at} {seed}")
            disk.crash(rng)
            # A second power cut, while recovering, changes nothing.
            disk.crash_at(rng.randrange(1, 8))
            try:
                wal, state = open_log(disk, options)
                wal.close()
                assert state in allowed
            except SimulatedCrash:
                pass
            disk.crash(rng)
            _, state = open_log(disk, options)
            assert state in allowed, disk.log


def test_a_failure_at_any_operation_keeps_what_was_synced():
    disk = SimDisk()
    run_workload(disk, SMALL, [])
    for at in range(1, disk.operations + 1):
        disk = SimDisk()
        disk.fail_at(at)
        allowed: list[WalState] = [WalState(None, None, [])]
        with pytest.raises(DiskFailed):
            run_workload(disk, SMALL, allowed)
        disk.crash(random.Random(at))
        assert open_log(disk)[1] in allowed


def test_arbitrary_bytes_are_corruption_and_nothing_else():
    rng = random.Random(5)
    good = two_batches()[0].content(FIRST)
    for _ in range(300):
        data = bytearray(good)
        kind = rng.randrange(3)
        if kind == 0:
            data = bytearray(rng.randbytes(rng.randrange(3000)))
        elif kind == 1:
            for _ in range(rng.randrange(1, 20)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        else:
            at, length = rng.randrange(len(data)), rng.randrange(600)
            data[at : at + length] = rng.randbytes(rng.randrange(600))
        disk = SimDisk()
        disk.mkdir("wal")
        disk.replace(FIRST, bytes(data))
        try:
            state = open_log(disk)[1]
        except (Corruption, NewerFormat):
            continue
        assert state in (BEFORE, AFTER, WalState(None, None, []))


def test_a_crash_while_segments_are_removed_leaves_no_hole():
    def log_of_many_segments() -> tuple[SimDisk, Wal]:
        disk = SimDisk()
        wal, _ = open_log(disk)
        for index in range(1, 60):
            wal.write(WalBatch(HardState(index, 1, 0), None, entries(index, 1, term=index)))
            wal.sync()
        wal.write(WalBatch(None, SnapshotRef(59, 59)))
        wal.sync()
        assert wal.segment_count == 4
        return disk, wal

    disk, wal = log_of_many_segments()
    before = disk.operations
    wal.compact(59)
    total = disk.operations - before
    assert total >= 6
    for at in range(1, total + 1):
        for seed in range(8):
            disk, wal = log_of_many_segments()
            disk.crash_at(at)
            with pytest.raises(SimulatedCrash):
                wal.compact(59)
            disk.crash(random.Random(f"{at} {seed}"))
            state = open_log(disk)[1]
            assert state == WalState(HardState(59, 1, 0), SnapshotRef(59, 59), [])


def test_a_segment_whose_header_is_torn_is_begun_anew():
    disk = SimDisk()
    wal, _ = open_log(disk)
    wal.write(WalBatch(entries=entries(1, 1)))
    wal.sync()
    second = "wal/0000000000000002.wal"
    for junk in (b"", bytes(8192), bytes(SECTOR_BYTES) + b"\xc2" * 2 * SECTOR_BYTES):
        disk.replace(second, junk)
        wal, state = open_log(disk)
        assert state.entries == entries(1, 1)
        assert not disk.exists(second)
    wal.write(WalBatch(entries=entries(2, 1, size=9000)))
    wal.sync()
    assert disk.exists(second)
    assert open_log(disk)[1].entries == entries(1, 1) + entries(2, 1, size=9000)


def test_a_segment_whose_header_rotted_is_not_begun_anew():
    disk = SimDisk()
    wal, _ = open_log(disk)
    wal.write(WalBatch(entries=entries(1, 1)))
    wal.sync()
    disk.replace(FIRST, bytes(SECTOR_BYTES) + disk.content(FIRST)[SECTOR_BYTES:])
    with pytest.raises(Corruption, match="says it was synced"):
        open_log(disk)

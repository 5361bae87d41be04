"""The log against its rules: reopen, overwrite, snapshots, segments, compaction, misuse."""

import pytest

from balsadb.errors import Corruption, DiskFailed, ForeignDataDir
from balsadb.storage import (
    RealFiles,
    SnapshotRef,
    Wal,
    WalBatch,
    WalHeader,
    WalOptions,
    WalState,
)
from balsadb.types import Entry, HardState
from tests.simulation.disk import SimDisk

HEADER = WalHeader(cluster=7, node=1, disk=99)
SMALL = WalOptions(segment_bytes=4096, zeroed_bytes=1024)


def entries(first: int, count: int, term: int = 1, size: int = 20) -> list[Entry]:
    return [Entry(i, term, 0, bytes([i % 251]) * size) for i in range(first, first + count)]


def open_log(disk, options: WalOptions = SMALL) -> tuple[Wal, WalState]:
    return Wal.create_or_open(disk, "wal", HEADER, options)


def commit(wal: Wal, **batch) -> None:
    wal.write(WalBatch(**batch))
    wal.sync()


def test_a_new_log_is_empty_and_stays_so():
    disk = SimDisk()
    for _ in range(2):
        wal, state = open_log(disk)
        assert state == WalState(None, None, [])
        assert wal.segment_count == 1
        wal.close()


def test_everything_written_is_read_back_in_order():
    disk = SimDisk()
    wal, _ = open_log(disk)
    commit(wal, hard_state=HardState(1, 1, 0), entries=entries(1, 3))
    commit(wal, hard_state=HardState(2, 3, 2), entries=entries(4, 2, term=2))
    _, state = open_log(disk)
    assert state.hard_state == HardState(2, 3, 2)
    assert state.entries == entries(1, 3) + entries(4, 2, term=2)


def test_an_entry_drops_all_from_its_index_on():
    disk = SimDisk()
    wal, _ = open_log(disk)
    commit(wal, entries=entries(1, 5))
    commit(wal, entries=entries(3, 1, term=2))
    assert open_log(disk)[1].entries == entries(1, 2) + entries(3, 1, term=2)


def test_a_snapshot_that_agrees_keeps_the_entries_after_it():
    disk = SimDisk()
    wal, _ = open_log(disk)
    commit(wal, entries=entries(1, 5))
    commit(wal, snapshot=SnapshotRef(3, 1))
    state = open_log(disk)[1]
    assert state == WalState(None, SnapshotRef(3, 1), entries(4, 2))


def test_a_snapshot_that_disagrees_replaces_the_log():
    disk = SimDisk()
    wal, _ = open_log(disk)
    commit(wal, entries=entries(1, 5))
    commit(wal, snapshot=SnapshotRef(3, 2), entries=entries(4, 1, term=2))
    state = open_log(disk)[1]
    assert state == WalState(None, SnapshotRef(3, 2), entries(4, 1, term=2))


def test_a_snapshot_beyond_the_log_replaces_it():
    disk = SimDisk()
    wal, _ = open_log(disk)
    commit(wal, entries=entries(1, 5))
    commit(wal, snapshot=SnapshotRef(30, 1))
    commit(wal, entries=entries(31, 2, term=3))
    state = open_log(disk)[1]
    assert state == WalState(None, SnapshotRef(30, 1), entries(31, 2, term=3))


def test_segments_roll_and_carry_hard_state_and_snapshot():
    disk = SimDisk()
    wal, _ = open_log(disk)
    commit(wal, hard_state=HardState(5, 2, 1), entries=entries(1, 40))
    commit(wal, snapshot=SnapshotRef(40, 1))
    for first in range(41, 241, 20):
        commit(wal, entries=entries(first, 20, size=60))
    commit(wal, snapshot=SnapshotRef(200, 1))
    before = wal.segment_count
    assert before > 3
    size = wal.log_bytes
    wal.compact(200)
    assert 1 < wal.segment_count < before
    assert wal.log_bytes < size
    wal, state = open_log(disk)
    assert state == WalState(HardState(5, 2, 1), SnapshotRef(200, 1), entries(201, 40, size=60))
    commit(wal, entries=entries(241, 1, size=60))
    assert open_log(disk)[1].entries == entries(201, 41, size=60)


def test_a_replaced_log_stays_replaced_when_its_segments_are_gone():
    disk = SimDisk()
    wal, _ = open_log(disk)
    commit(wal, entries=entries(1, 15, term=4, size=150))
    commit(wal, entries=entries(16, 3, term=4, size=850))  # in the next segment
    commit(wal, snapshot=SnapshotRef(15, 3))
    assert wal.segment_count == 2
    wal.compact(15)
    assert wal.segment_count == 1
    assert open_log(disk)[1] == WalState(None, SnapshotRef(15, 3), [])


def test_compaction_needs_a_snapshot_that_covers_it():
    wal, _ = open_log(SimDisk())
    commit(wal, entries=entries(1, 5))
    with pytest.raises(ValueError, match="snapshot"):
        wal.compact(1)
    commit(wal, snapshot=SnapshotRef(3, 1))
    wal.compact(3)
    with pytest.raises(ValueError, match="snapshot"):
        wal.compact(4)


def test_a_batch_larger_than_a_segment_fills_one_alone():
    disk = SimDisk()
    wal, _ = open_log(disk)
    big = [Entry(1, 1, 0, bytes(range(256)) * 400)]
    commit(wal, entries=big)
    commit(wal, entries=entries(2, 1))
    assert wal.segment_count == 3
    assert open_log(disk)[1].entries == big + entries(2, 1)


@pytest.mark.parametrize(
    "bad",
    [
        entries(7, 1),  # a gap
        entries(1, 1) + entries(3, 1),  # a gap inside
        entries(2, 1),  # below the snapshot
        entries(6, 1, term=3) + entries(7, 1, term=2),  # falling term
        [Entry(6, 0, 0, b"")],  # no term
    ],
)
def test_wrong_entries_are_refused_and_nothing_is_written(bad):
    disk = SimDisk()
    wal, _ = open_log(disk)
    commit(wal, entries=entries(1, 5))
    commit(wal, snapshot=SnapshotRef(2, 1))
    before = disk.operations
    with pytest.raises(ValueError, match="entry"):
        wal.write(WalBatch(entries=bad))
    with pytest.raises(ValueError, match="snapshot"):
        wal.write(WalBatch(snapshot=SnapshotRef(1, 1)))
    assert disk.operations == before
    commit(wal, entries=entries(6, 1))
    assert open_log(disk)[1].entries == entries(3, 4)


@pytest.mark.parametrize("operation", [1, 2])
def test_after_a_disk_failure_nothing_is_written_any_more(operation):
    disk = SimDisk()
    wal, _ = open_log(disk)
    disk.fail_at(operation)
    with pytest.raises(DiskFailed):
        commit(wal, entries=entries(1, 1))
    before = disk.operations
    for action in (wal.sync, lambda: wal.write(WalBatch(entries=entries(1, 1)))):
        with pytest.raises(DiskFailed):
            action()
    assert disk.operations == before


def test_a_log_of_another_owner_is_refused():
    disk = SimDisk()
    open_log(disk)
    for other in (WalHeader(8, 1, 99), WalHeader(7, 2, 99), WalHeader(7, 1, 98)):
        with pytest.raises(ForeignDataDir):
            Wal.create_or_open(disk, "wal", other, SMALL)


def test_a_missing_segment_is_corruption():
    disk = SimDisk()
    wal, _ = open_log(disk)
    for first in range(1, 200, 20):
        commit(wal, entries=entries(first, 20))
    names = disk.listdir("wal")
    assert len(names) > 3
    for name in (names[0], names[1]):
        content = disk.content(f"wal/{name}")
        disk.remove(f"wal/{name}")
        with pytest.raises(Corruption, match="missing"):
            open_log(disk)
        disk.replace(f"wal/{name}", content)
    open_log(disk)


def test_an_idle_sync_costs_nothing():
    disk = SimDisk()
    wal, _ = open_log(disk)
    before = disk.operations
    wal.sync()
    assert disk.operations == before


def test_one_group_commit_is_one_write_and_one_sync():
    disk = SimDisk()
    wal, _ = open_log(disk, WalOptions())
    before = disk.operations
    for index in range(1, 101):
        commit(wal, hard_state=HardState(1, 1, index - 1), entries=entries(index, 1))
    assert disk.operations - before == 200


def test_a_log_on_the_real_disk(tmp_path):
    files = RealFiles(str(tmp_path / "data"))
    wal, _ = open_log(files)
    for first in range(1, 100, 10):
        commit(wal, hard_state=HardState(1, 1, first - 1), entries=entries(first, 10, size=100))
    commit(wal, snapshot=SnapshotRef(90, 1))
    wal.compact(90)
    wal.close()
    wal, state = open_log(files)
    assert state == WalState(HardState(1, 1, 90), SnapshotRef(90, 1), entries(91, 10, size=100))
    wal.close()


def test_a_reopened_segment_is_not_dropped_before_its_entries_are_covered():
    disk = SimDisk()
    wal, _ = open_log(disk)
    commit(wal, entries=entries(1, 15, size=150))
    wal.close()
    wal, _ = open_log(disk)
    commit(wal, snapshot=SnapshotRef(5, 1))
    commit(wal, entries=entries(16, 15, size=150))
    assert wal.segment_count == 2
    wal.compact(5)
    assert wal.segment_count == 2
    assert open_log(disk)[1].entries == entries(6, 25, size=150)


def test_terms_are_known_after_overwrites_over_overwrites():
    disk = SimDisk()
    wal, _ = open_log(disk)
    for first, term in ((1, 1), (3, 2), (2, 3)):
        commit(wal, entries=entries(first, 4, term=term))
    commit(wal, snapshot=SnapshotRef(2, 3))  # agrees
    assert open_log(disk)[1].entries == entries(3, 3, term=3)
    commit(wal, snapshot=SnapshotRef(4, 2))  # does not
    assert open_log(disk)[1] == WalState(None, SnapshotRef(4, 2), [])

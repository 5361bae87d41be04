"""Each place where a process may have died between a checkpoint and the log."""

import pytest

from balsadb.cluster.boot import CHECKPOINTS_DIRECTORY, WAL_DIRECTORY, Boot, entries_after_base
from balsadb.cluster.members import Members, encode_member_disk
from balsadb.errors import Corruption, EmptiedDisk
from balsadb.raft import Change, MembersChange, encode_change
from balsadb.storage import SnapshotRef, Wal, WalBatch, WalHeader
from balsadb.storage.checkpoints import CheckpointStore
from balsadb.storage.manifest import CheckpointMeta
from balsadb.types import (
    ENTRY_CHANGE,
    ENTRY_MEMBERS,
    ClusterId,
    DiskId,
    Entry,
    GroupId,
    HardState,
    LogIndex,
    NodeId,
    Term,
)
from tests.simulation.disk import SimDisk
from tests.simulation.register import Command, Register, encode_command

HEADER = WalHeader(ClusterId(1), NodeId(1), DiskId(9))
VOTERS = [NodeId(1), NodeId(2), NodeId(3)]


def entry(index: int, term: int) -> Entry:
    return Entry(LogIndex(index), Term(term), 0, b"e%d" % index)


def ref(index: int, term: int) -> SnapshotRef:
    return SnapshotRef(LogIndex(index), Term(term))


def hard(term: int, vote: int, commit: int) -> HardState:
    return HardState(Term(term), NodeId(vote), LogIndex(commit))


def disk_with(*batches: WalBatch, checkpoint: tuple[int, int] | None = None) -> SimDisk:
    disk = SimDisk()
    wal, _ = Wal.create_or_open(disk, WAL_DIRECTORY, HEADER)
    for batch in batches:
        wal.write(batch)
        wal.sync()
    wal.close()
    if checkpoint is not None:
        index, term = checkpoint
        register = Register()
        register.apply(LogIndex(index), encode_command(Command(0, 1, 0, index, b"")))
        meta = CheckpointMeta(
            LogIndex(index), Term(term), Members(VOTERS).encode(), ClusterId(1), GroupId(0)
        )
        CheckpointStore(disk, CHECKPOINTS_DIRECTORY).write(meta, register.columns.freeze())
    return disk


def recover(disk: SimDisk) -> Boot:
    return Boot.recover(disk, HEADER, VOTERS, Register)


def test_an_empty_directory_is_a_new_member() -> None:
    boot = recover(SimDisk())
    assert boot.raft_state.members.voters == (1, 2, 3)
    assert (boot.raft_state.applied, boot.newest, boot.raft_state.entries) == (0, None, [])
    assert boot.raft_state.hard_state == hard(0, 0, 0)


@pytest.mark.parametrize("left", [0, 100, 511])
def test_a_log_cut_to_less_than_its_header_is_an_emptied_disk(left: int) -> None:
    """Of a first start that was cut off the same bytes are left: its owner knows which it is."""
    disk = disk_with(WalBatch(hard(2, 1, 2), None, [entry(1, 1), entry(2, 2)]))
    file = disk.open(f"{WAL_DIRECTORY}/0000000000000001.wal")
    file.truncate(left)
    file.sync()
    before = disk.listdir(WAL_DIRECTORY)
    with pytest.raises(EmptiedDisk, match="not even its header"):
        Boot.recover(disk, HEADER, VOTERS, Register, begun=True)
    assert disk.listdir(WAL_DIRECTORY) == before
    assert recover(disk).raft_state.entries == []


def test_the_log_alone_is_delivered_again_from_the_start() -> None:
    boot = recover(
        disk_with(WalBatch(hard(2, 1, 2), None, [entry(1, 1), entry(2, 2), entry(3, 2)]))
    )
    assert boot.raft_state.applied == 0
    assert [e.index for e in boot.raft_state.entries] == [1, 2, 3]
    assert boot.raft_state.hard_state == hard(2, 1, 2)


def test_own_checkpoint_before_its_mark() -> None:
    entries = [entry(1, 1), entry(2, 2), entry(3, 2)]
    disk = disk_with(WalBatch(hard(2, 1, 2), None, entries), checkpoint=(2, 2))
    boot = recover(disk)
    assert boot.raft_state.applied == 2
    assert boot.applier.applied == 2
    assert boot.raft_state.snapshot is not None
    assert boot.raft_state.entries == entries, "older entries may still serve a lagging follower"
    machine = boot.applier.machine
    assert isinstance(machine, Register)
    assert machine.read(0) == (2, 2)
    # What was concluded is durable: the next start finds the mark.
    _, state = Wal.create_or_open(disk, WAL_DIRECTORY, HEADER)
    assert state.snapshot == ref(2, 2)
    assert [e.index for e in state.entries] == [3]


def test_a_staged_snapshot_before_its_mark_replaces_a_log_of_another_history() -> None:
    stale = [entry(1, 1), entry(2, 1), entry(3, 1)]
    disk = disk_with(WalBatch(hard(4, 2, 1), None, stale), checkpoint=(2, 3))
    boot = recover(disk)
    assert boot.raft_state.applied == 2
    assert boot.raft_state.entries == []
    assert boot.raft_state.hard_state == hard(4, 2, 2)
    boot.wal.write(WalBatch(None, None, [entry(3, 4)]))
    boot.wal.sync()
    boot.wal.close()
    assert [(e.index, e.term) for e in recover(disk).raft_state.entries] == [(3, 4)]


def test_a_staged_snapshot_beyond_the_log() -> None:
    boot = recover(disk_with(WalBatch(hard(1, 2, 1), None, [entry(1, 1)]), checkpoint=(9, 3)))
    assert boot.raft_state.applied == 9
    assert boot.raft_state.entries == []
    # The checkpoint proves term 3; nothing was promised in it, so the vote is free.
    assert boot.raft_state.hard_state == hard(3, 0, 9)


def test_the_mark_is_durable_and_the_restore_was_not_done() -> None:
    disk = disk_with(
        WalBatch(hard(3, 2, 1), None, [entry(1, 1), entry(2, 1)]),
        WalBatch(hard(3, 2, 9), ref(9, 3), [entry(10, 3)]),
        checkpoint=(9, 3),
    )
    boot = recover(disk)
    assert boot.raft_state.applied == 9
    assert [e.index for e in boot.raft_state.entries] == [10]


def test_a_mark_without_its_checkpoint_is_damage() -> None:
    disk = disk_with(WalBatch(hard(3, 2, 9), ref(9, 3), [entry(10, 3)]), checkpoint=(5, 2))
    with pytest.raises(Corruption, match="checkpoint at index 9"):
        recover(disk)


def test_a_damaged_newest_checkpoint_is_named() -> None:
    disk = disk_with(WalBatch(hard(3, 2, 9), ref(9, 3), ()), checkpoint=(9, 3))
    [name] = [n for n in disk.listdir(CHECKPOINTS_DIRECTORY) if n.endswith(".manifest")]
    disk.flip_bit(f"{CHECKPOINTS_DIRECTORY}/{name}", 999)
    with pytest.raises(Corruption, match="does not verify"):
        recover(disk)


@pytest.mark.parametrize(
    ("base", "entries", "kept"),
    [
        ((0, 0), [(1, 1), (2, 1)], [1, 2]),
        ((2, 1), [(1, 1), (2, 1), (3, 2)], [1, 2, 3]),
        ((2, 2), [(1, 1), (2, 1), (3, 1)], []),
        ((2, 2), [(3, 2)], [3]),
        ((2, 2), [(3, 1)], []),
        ((5, 2), [(3, 1), (4, 1)], []),
        ((5, 2), [], []),
    ],
)
def test_the_part_of_the_log_that_continues_the_base(
    base: tuple[int, int], entries: list[tuple[int, int]], kept: list[int]
) -> None:
    found = entries_after_base([entry(*one) for one in entries], ref(*base))
    assert [one.index for one in found] == kept


def test_a_gap_after_the_base_is_damage() -> None:
    with pytest.raises(Corruption, match="missing"):
        entries_after_base([entry(5, 2)], ref(2, 2))


def test_a_disk_named_in_the_log_is_known_before_the_entry_is_known_to_be_committed() -> None:
    """Else a start forgets for a while which disk a member has, and believes an emptied one."""
    named = Entry(LogIndex(2), Term(1), ENTRY_MEMBERS, encode_member_disk(NodeId(3), DiskId(1003)))
    removal = MembersChange((Change("remove", NodeId(2)),))
    removed = Entry(LogIndex(3), Term(1), ENTRY_CHANGE, encode_change(removal))
    boot = recover(disk_with(WalBatch(hard(1, 1, 1), None, (entry(1, 1), named, removed))))
    assert boot.known.disk_of(NodeId(3)) == 1003
    assert boot.members.disk_of(NodeId(3)) is None, "a checkpoint records what is committed"
    assert boot.known.removed == set(), "a change counts when it is committed"

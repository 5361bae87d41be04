"""What a node finds on its disk, made consistent before anything else sees it.

Two things were written independently: the newest checkpoint and the WAL. The rules, for each place
where the process may have died:

* *Own checkpoint durable, WAL not compacted yet*: the checkpoint is newer than the WAL's mark. It
  is the base; entries it covers are kept only to serve lagging followers.
* *Snapshot of a leader staged, WAL mark not written*: looks the same and is treated the same. A
  checkpoint holds committed state only, so taking it as the base is right whoever made it.
* *Mark durable, restore not done*: the mark names the newest checkpoint. The base is that one.
* *Mark newer than every checkpoint*: cannot happen by a crash (the checkpoint is durable before the
  mark is written), so it is damage, and the node refuses to start.

The log continues the base if it holds the base's last entry with the same term; else it belongs to
a history that the base replaced, and none of it may be kept (etcd-io/raft: `restore`). The WAL may
also lack entries that the checkpoint has: a node may apply before its own sync ends. Then the
checkpoint stands in for them, and the term is raised to the checkpoint's; nothing was promised in
that term, because no message of it can have left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from balsadb.cluster.members import Members
from balsadb.cluster.performers import Applier, MachineFactory
from balsadb.errors import REJOIN, Corruption
from balsadb.raft import RaftState, SnapshotMeta
from balsadb.storage import (
    Files,
    SnapshotRef,
    Wal,
    WalBatch,
    WalHeader,
    WalOptions,
    WalState,
)
from balsadb.storage.checkpoints import CheckpointStore
from balsadb.storage.manifest import Manifest
from balsadb.types import (
    ENTRY_MEMBERS,
    NO_NODE,
    Entry,
    HardState,
    LogIndex,
    NodeId,
    Term,
)

WAL_DIRECTORY = "wal"
CHECKPOINTS_DIRECTORY = "checkpoints"


@dataclass(slots=True)
class Boot:
    """A recovered node: the executors' objects, and what the driver starts from."""

    wal: Wal
    store: CheckpointStore
    applier: Applier
    raft_state: RaftState
    members: Members
    """The table as of the checkpoint; what the driver keeps for the next one."""
    known: Members
    """The same plus what is known to be committed after it, and the disks that the rest of the log
    names; what messages are checked against."""
    newest: Manifest | None

    @classmethod
    def recover(
        cls,
        files: Files,
        header: WalHeader,
        voters: Sequence[NodeId],
        factory: MachineFactory,
        wal_options: WalOptions | None = None,
        *,
        begun: bool = False,
    ) -> "Boot":
        """Open the WAL and the checkpoints under `files` and build the state machine.

        Entries after the checkpoint are not applied here: Raft delivers them again as they are
        known to be committed. Raises `Corruption` when synced bytes are missing or damaged;
        `EmptiedDisk` if all of a log that was `begun` is.
        """
        wal, state = Wal.create_or_open(files, WAL_DIRECTORY, header, wal_options, begun=begun)
        store = CheckpointStore(files, CHECKPOINTS_DIRECTORY)
        newest = store.newest()
        base = SnapshotRef(LogIndex(0), Term(0))
        members = Members(voters)
        if newest is not None:
            base = SnapshotRef(LogIndex(newest.index), Term(newest.term))
            members = Members.decode(newest.members)
        _check_mark(state, base, store.damaged)
        entries = entries_after_base(state.entries, base)
        hard_state = _raised(state.hard_state, base, entries)
        _repair(wal, state, base, hard_state)
        known = members.copy()
        for entry in entries:
            # The commit index on the disk lags. A member's disk is a fact whether its entry is
            # committed or not: to forget it here would be to believe an emptied one.
            committed = base.index < entry.index <= hard_state.commit
            if committed or entry.kind == ENTRY_MEMBERS:
                known.apply_entry(entry)
        machine = factory(None if newest is None else store.load(newest))
        return cls(
            wal=wal,
            store=store,
            applier=Applier(machine, base.index, store, factory),
            raft_state=RaftState(
                members=members.roles,
                hard_state=hard_state,
                snapshot=snapshot_meta(newest) if newest is not None else None,
                entries=entries,
                applied=base.index,
            ),
            members=members,
            known=known,
            newest=newest,
        )


def snapshot_meta(manifest: Manifest) -> SnapshotMeta:
    """What Raft knows of a checkpoint."""
    roles = Members.decode(manifest.members).roles
    return SnapshotMeta(LogIndex(manifest.index), Term(manifest.term), roles)


def entries_after_base(entries: Sequence[Entry], base: SnapshotRef) -> list[Entry]:
    """The part of the durable log that belongs to the same history as the checkpoint at `base`.

    If the log holds the base's last entry with its term, all of it does (log matching). If it
    begins right after the base, it does when its terms do not go back. Otherwise none of it.
    Raises `Corruption` for a gap between the base and the log.
    """
    if not entries:
        return []
    first, last = entries[0], entries[-1]
    if base.index == 0 and first.index == 1:
        return list(entries)
    if first.index <= base.index <= last.index:
        at_base = entries[base.index - first.index]
        return list(entries) if at_base.term == base.term else []
    if first.index == base.index + 1:
        return list(entries) if first.term >= base.term else []
    if last.index < base.index:
        return []
    raise Corruption(
        f"the log begins at index {first.index} but the newest checkpoint ends at {base.index}: "
        "entries between them are missing. This node must not vote; replace it under a new id: "
        f"{REJOIN}."
    )


def _check_mark(state: WalState, base: SnapshotRef, damaged: Mapping[str, str]) -> None:
    mark = state.snapshot
    if mark is not None and mark.index > base.index:
        why = "; ".join(damaged[name] for name in sorted(damaged)) or "it is missing"
        raise Corruption(
            f"the write-ahead log refers to a checkpoint at index {mark.index}, but the newest "
            f"intact one is at {base.index} ({why}). This node must not vote; replace it under a "
            f"new id: {REJOIN}."
        )


def _raised(hard_state: HardState | None, base: SnapshotRef, entries: list[Entry]) -> HardState:
    """The hard state, not behind what the checkpoint proves: committed up to it, in its term."""
    term, vote, commit = Term(0), NO_NODE, LogIndex(0)
    if hard_state is not None:
        term, vote, commit = hard_state.term, hard_state.vote, hard_state.commit
    last_index = max(base.index, entries[-1].index if entries else 0)
    last_term = max(base.term, entries[-1].term if entries else 0)
    if term < last_term:
        term, vote = Term(last_term), NO_NODE
    return HardState(term, vote, LogIndex(min(max(commit, base.index), last_index)))


def _repair(wal: Wal, state: WalState, base: SnapshotRef, hard_state: HardState) -> None:
    """Make durable what was concluded, so that the next start need not conclude it again."""
    mark = state.snapshot or SnapshotRef(LogIndex(0), Term(0))
    before = state.hard_state
    same_promise = (before is None and hard_state.term == 0) or (
        before is not None and (before.term, before.vote) == (hard_state.term, hard_state.vote)
    )
    if mark.index == base.index and same_promise:
        return
    wal.write(WalBatch(hard_state, base if base.index else None, ()))
    wal.sync()

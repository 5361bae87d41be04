"""Bounds and intervals of the driver; every queue of a node has its maximum here.

Times are in ticks (50 ms unless configured otherwise), sizes in bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from balsadb.raft import RaftOptions
from balsadb.types import ClusterId, DiskId, GroupId, NodeId, Term


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverOptions:
    """Options of one driver. `seed` feeds election timeouts only; give each process its own."""

    node: NodeId
    cluster: ClusterId
    disk: DiskId
    seed: int
    group: GroupId = GroupId(0)

    # Raft. A leader sends heartbeats every `heartbeat_ticks`; a follower that hears nothing for
    # `election_ticks` to twice that long asks for votes.
    election_ticks: int = 10
    heartbeat_ticks: int = 2
    message_bytes_max: int = 1 << 20
    inflight_max: int = 8
    inflight_bytes_max: int = 8 << 20
    uncommitted_bytes_max: int = 64 << 20
    committed_bytes_max: int = 4 << 20

    # Queues.
    proposals_max: int = 4096
    reads_max: int = 16384
    apply_works_max: int = 2
    """Pieces of apply work outstanding; more only adds latency to freezes."""
    apply_bytes_max: int = 1 << 20
    """Bytes of entries in one piece of apply work."""
    apply_entries_max: int = 256

    # Reads: a read index that got no answer is asked for again, with a fresh id.
    read_retry_ticks: int = 3

    # Checkpoints.
    checkpoint_log_bytes: int = 64 << 20
    checkpoint_entries: int = 100_000
    """Applied since the last checkpoint: either of the two is enough for the next."""
    log_tail_bytes: int = 16 << 20
    log_bytes_max: int = 512 << 20
    log_memory_bytes_max: int = 1 << 30
    """The log in memory above which a node that applies too slowly takes no more: a follower drops
    appends with entries (the leader sends them again), a leader refuses proposals."""
    checkpoints_kept: int = 2

    # Snapshot transfer.
    chunk_window: int = 4
    chunk_retry_ticks: int = 10
    fetch_attempts_max: int = 6
    snapshot_silence_ticks: int = 60
    """A receiver that asked for nothing for so long counts as gone: what it fetched may be
    collected."""
    serve_max: int = 16
    """Reads of checkpoints for peers that wait; more are dropped (the peer asks again)."""

    # Linker.
    link_tail_rows_min: int = 256
    link_rows_limit: int = 256
    link_idle_ticks: int = 2
    """No proposal for so long counts as idle: then short tails are linked too."""

    # The disk (`balsadb.cluster.disk_watch`). A sync that takes this long counts as hung: a leader
    # hands over or steps down, and nobody campaigns before a sync has completed.
    disk_stall_ticks: int = 40
    disk_low_bytes: int = 256 << 20
    disk_full_bytes: int = 64 << 20
    hurried_checkpoint_ticks: int = 200
    """While space is low: ticks between checkpoints, if anything was applied."""
    place: str = "its data directory"
    """Where the data lies, for messages."""


def raft_options(
    options: DriverOptions, election_timeout: Callable[[Term], int], incarnation: int
) -> RaftOptions:
    """What of it concerns Raft."""
    return RaftOptions(
        node=options.node,
        election_timeout=election_timeout,
        election_ticks=options.election_ticks,
        heartbeat_ticks=options.heartbeat_ticks,
        message_bytes_max=options.message_bytes_max,
        inflight_max=options.inflight_max,
        inflight_bytes_max=options.inflight_bytes_max,
        uncommitted_bytes_max=options.uncommitted_bytes_max,
        committed_bytes_max=options.committed_bytes_max,
        incarnation=incarnation,
    )

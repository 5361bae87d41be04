"""The core's orders to its host, and what the host tells the core at start.

The order of `Ready`'s fields is the order in which the host acts; their comments are the protocol.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from balsadb.raft.members import Members, SnapshotMeta
from balsadb.raft.messages import Message
from balsadb.types import Entry, HardState, LogIndex, NodeId, Term

RoleName = Literal["follower", "pre_candidate", "candidate", "leader"]
PeerState = Literal["probe", "replicate", "snapshot"]


class RaftOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one node takes part. Times are in ticks of the host."""

    node: NodeId
    """This node's id; never re-used by another machine or an emptied disk."""
    election_timeout: Callable[[Term], int]
    """Ticks of silence before this node campaigns, drawn anew at each change of role or term (the
    term is passed). Should be spread over [election_ticks, 2 * election_ticks)."""
    election_ticks: int = 10
    """Length of a leader's lease on its followers' loyalty, of the check-quorum period, and the
    time a transfer of leadership may take."""
    heartbeat_ticks: int = 2
    message_bytes_max: int = 1 << 20
    """Entries of one append; a single larger entry still travels, alone."""
    inflight_max: int = 8
    """Appends with entries on their way to one follower, unacknowledged."""
    inflight_bytes_max: int = 8 << 20
    uncommitted_bytes_max: int = 64 << 20
    """Proposals beyond this are refused with Overloaded."""
    committed_bytes_max: int = 4 << 20
    """Committed entries handed to the host and not applied yet; also bounds one Ready."""
    pre_vote: bool = True
    check_quorum: bool = True
    step_down_on_removal: bool = True
    """Whether a leader that was removed, or made a learner, stops leading when it applies that.
    Otherwise it goes on without a vote until another one is elected."""
    change_after_own_commit: bool = True
    """Whether a leader refuses changes of members until an entry of its own term is committed."""
    incarnation: int = 0
    """A number that differs at each start of this node (a random one will do, below 2**31): read
    ids contain it, so an answer to a read of an earlier life is never taken for one of this."""


class RaftState(msgspec.Struct, frozen=True, kw_only=True):
    """What a node remembers at start; see `Raft` for what is checked."""

    members: Members
    hard_state: HardState = HardState(Term(0), NodeId(0), LogIndex(0))
    snapshot: SnapshotMeta | None = None
    """The newest local checkpoint; None for a node whose log begins at index 1."""
    entries: list[Entry] = []
    """The durable log, contiguous. It continues the snapshot, or begins before it: then the first
    entry only anchors the log and what lies between can still be sent to a lagging follower."""
    applied: LogIndex = LogIndex(0)
    """The last log index whose effect the state machine holds (at least the snapshot's)."""


class SoftState(msgspec.Struct, frozen=True, gc=False):
    """Who leads (0: nobody known) and what this node is; never stored."""

    leader: NodeId
    role: RoleName


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of orders. The host acts on the fields from top to bottom.

    Several may be under way at once: the host may take the next one before this one is durable, as
    long as it writes them in order and sends `messages_after_persist` in order.
    """

    number: int
    """Increasing by one; what `on_persisted` is told. Every number must be reported, even when
    nothing had to be written (reporting a later one covers those before it)."""
    hard_state: HardState | None
    """To be written if not None (the newest replaces all earlier ones)."""
    entries: list[Entry]
    """To be appended to the durable log; the first one may overwrite an index written before, which
    drops everything from there on."""
    snapshot: SnapshotMeta | None
    """A staged checkpoint that now replaces log and state machine: its reference is written in the
    same batch, *before* `entries`; then the host installs it and calls `on_applied`."""
    must_sync: bool
    """Whether the three fields above need an fsync (a changed commit index alone does not)."""
    messages: list[Message]
    """May leave now, in parallel with the fsync: they say nothing that is not durable yet."""
    messages_after_persist: list[Message]
    """May leave once this Ready and all before it are durable."""
    committed: list[Entry]
    """To be applied, in order, after those of earlier Readies and after any earlier `snapshot`.
    They are durable here already. Report with `on_applied`."""
    reads: list[tuple[int, LogIndex]]
    """(read id, log index): the read may be served once that index is applied."""
    dropped_reads: list[int]
    """Reads that will not be answered (leadership changed); ask again, with a new id."""
    soft_state: SoftState | None
    """If it changed."""


class PeerStatus(msgspec.Struct, frozen=True, gc=False):
    """A leader's view of one member."""

    match: LogIndex
    """The follower's log equals the leader's durably up to here."""
    next: LogIndex
    """The next index to send."""
    state: PeerState
    recent_active: bool
    """Heard of in this check-quorum period."""
    inflight: int
    """Appends on their way, unacknowledged."""


class RaftStatus(msgspec.Struct, frozen=True, gc=False):
    """A picture of the core for people, metrics and tests."""

    node: NodeId
    term: Term
    role: RoleName
    leader: NodeId
    vote: NodeId
    commit: LogIndex
    applied: LogIndex
    persisted: LogIndex
    last_index: LogIndex
    first_index: LogIndex
    log_bytes: int
    uncommitted_bytes: int
    transferee: NodeId
    """To whom leadership is being handed; 0 if to nobody."""
    peers: dict[NodeId, PeerStatus]
    """Empty unless this node leads."""

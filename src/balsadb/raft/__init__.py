"""Agreeing on a log: Raft (Ongaro & Ousterhout, USENIX ATC 2014; Ongaro's thesis, 2014) as a pure
machine. Events in, ordered effects out; no clock, disk, socket, thread or chance of its own.

**Vocabulary.** A *node* votes if it is one of the *members*, unless it is a *learner*. A *term* is
an election's number; each has at most one *leader*. An *entry* has a log index and a term; it is
*committed* when a majority holds it durably and the leader commits something of its own term at or
after it. A *snapshot* is a checkpoint standing in for the log's beginning. A *quorum* is a majority
(of both halves, while members change). A *tick* is the host's unit of time. A *Ready* is one batch
of orders to the host.

**The host's loop.** Deliver what arrived (`step`), then time (`tick`), wishes (`propose`,
`read_index`, `transfer`) and completions (`on_persisted`, `on_applied`); then, while `has_ready()`,
take `ready()` and act on its fields in their order:

1. write `snapshot`, `hard_state`, `entries` as one batch; fsync if `must_sync`;
2. meanwhile send `messages`; after the fsync send `messages_after_persist`, and call
   `on_persisted(number)` (also when nothing was written, and in order);
3. apply `committed` in order, report `on_applied`; serve `reads` once their index is applied.

The next Ready may be taken before the last one is durable.

**Semantics** are those etcd-io/raft settled, so that its scenarios apply: pre-vote (thesis
9.6), check-quorum and loyalty to a live leader (6.2, 4.2.3), commit by own-term entries only (Raft
5.4.2), an empty entry on election (8), probe / replicate / snapshot streams with bounded pipelining
and term back-off (5.3), read index (thesis 6.4), leadership transfer (3.10), forget-leader, joint
quorums (4.3). Where we differ: events only mark work and `ready()` sends it, so a burst costs one
message a follower; reads share confirmation rounds; snapshot offers are repeated until the follower
has caught up; a vote request waits for the fsync; votes tell what is committed (as raft-rs does); a
change of members that cannot be made is refused instead of becoming an empty entry, and so is one
before the leader's first own commit.

**Invariants.** At most one leader a term; one vote a term, durable before it is told. A message of
term t leaves only when term t is durable (pre-votes name a term they would use). The leader's
`match` for a node never exceeds that node's durable log. Terms, commit and applied index never
decrease. Committed entries are never truncated; applied <= commit <= last. A read id is used once.
Assertions watch these and stay on in production: a violated one must end the process.

**Costs.** A proposal of one small entry on three nodes takes about 20 microseconds of each node's
time in all; entry data is never copied. Messages: one append and one answer a follower for all that
was proposed between two Readies; a heartbeat round for all reads asked meanwhile.

**What it does not do.** It does not store, send, encode entries, measure time or log. No leases: a
read always asks a quorum. It does not decide when a learner has caught up: its host does. It trusts
its peers (no Byzantine faults) and its disk: a node that lost synced data must not come back under
its old id.

Read in this order: messages, members, changes, quorum, progress, log, writes, ready, reads, core,
replication, roles/, raft.
"""

from balsadb.raft.changes import Change, MembersChange, decode_change, encode_change
from balsadb.raft.members import Members, SnapshotMeta
from balsadb.raft.messages import (
    AppendRequest,
    AppendResponse,
    Body,
    Heartbeat,
    HeartbeatResponse,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
    SnapshotOffer,
    TimeoutNow,
    TransferLeader,
    VoteRequest,
    VoteResponse,
    decode,
    encode,
)
from balsadb.raft.raft import Raft
from balsadb.raft.ready import (
    PeerStatus,
    RaftOptions,
    RaftState,
    RaftStatus,
    Ready,
    RoleName,
    SoftState,
)

__all__ = [
    "AppendRequest",
    "AppendResponse",
    "Body",
    "Change",
    "Heartbeat",
    "HeartbeatResponse",
    "Members",
    "MembersChange",
    "Message",
    "PeerStatus",
    "Raft",
    "RaftOptions",
    "RaftState",
    "RaftStatus",
    "ReadIndexRequest",
    "ReadIndexResponse",
    "Ready",
    "RoleName",
    "SnapshotMeta",
    "SnapshotOffer",
    "SoftState",
    "TimeoutNow",
    "TransferLeader",
    "VoteRequest",
    "VoteResponse",
    "decode",
    "decode_change",
    "encode",
    "encode_change",
]

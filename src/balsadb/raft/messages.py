"""What Raft nodes say to each other: one envelope with a tagged body, and its bytes.

Names follow the Raft paper where it has one. A body never repeats what the envelope holds.
`cluster`, `group` and `source_disk` are 0 as the core makes them: the host stamps them when a
message leaves and checks them when one arrives.

The wire form is msgpack arrays: fields may only be added at the end, with a default.
"""

from typing import Annotated, TypeAlias

import msgspec

from balsadb.errors import MalformedBody
from balsadb.raft.members import SnapshotMeta
from balsadb.types import (
    NUMBER,
    ClusterId,
    DiskId,
    Entry,
    GroupId,
    LogIndex,
    NodeId,
    Term,
)

_Index: TypeAlias = Annotated[LogIndex, NUMBER]
_Term: TypeAlias = Annotated[Term, NUMBER]
_Node: TypeAlias = Annotated[NodeId, NUMBER]
_ReadId: TypeAlias = Annotated[int, NUMBER]


class AppendRequest(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    """Leader -> follower: entries that follow (`previous_index`, `previous_term`), perhaps none.

    `commit` is the leader's commit index; the follower believes it up to the last entry that this
    message attests (Raft, figure 2, AppendEntries).
    """

    previous_index: _Index
    previous_term: _Term
    commit: _Index
    entries: list[Entry]


class AppendResponse(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=2):
    """Follower -> leader: what its durable log holds.

    Accepted: the log equals the leader's up to `index`, durably. Rejected: `index` echoes the
    request's `previous_index`, and (`hint_index`, `hint_term`) is the last position of the
    follower's log where the two logs may still agree (the paper's faster back-off, section 5.3).
    """

    index: _Index
    rejected: bool = False
    hint_index: _Index = LogIndex(0)
    hint_term: _Term = Term(0)


class Heartbeat(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=3):
    """Leader -> follower: I still lead. `commit` never exceeds what this follower acknowledged.

    `read_round` names the round of leadership confirmation that the answer will count for; 0 when
    no read waits (Raft, section 8; Ongaro's thesis, section 6.4).
    """

    commit: _Index
    read_round: _ReadId = 0


class HeartbeatResponse(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=4):
    """Follower -> leader: at this term I follow you. Echoes `read_round`."""

    read_round: _ReadId = 0


class VoteRequest(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=5):
    """Candidate -> voter: its last entry. With `pre_vote` it only asks whether an election could
    be won, and the envelope's term is the one it *would* use (thesis, section 9.6). `transfer`:
    the old leader asked for this election, so the voters' loyalty to it does not count.

    Votes, asked and answered, tell how far the log is known to be committed (`commit`, the term of
    the entry there): a leader that was removed may be the only one to know that, and it can neither
    lead any more nor vote for a shorter log than its own (raft-rs: `maybe_commit_by_vote`)."""

    last_index: _Index
    last_term: _Term
    pre_vote: bool = False
    transfer: bool = False
    commit: _Index = LogIndex(0)
    commit_term: _Term = Term(0)


class VoteResponse(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=6):
    """Voter -> candidate. The term is the request's when granted, the voter's own if not."""

    rejected: bool = False
    pre_vote: bool = False
    commit: _Index = LogIndex(0)
    commit_term: _Term = Term(0)


class ReadIndexRequest(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=7):
    """Follower -> leader: a log index that covers everything acknowledged before now, please.

    The answer holds for every read of that node with an id up to `read_id`."""

    read_id: _ReadId


class ReadIndexResponse(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=8):
    """Leader -> follower: reads up to `read_id` may be served once `index` is applied."""

    read_id: _ReadId
    index: _Index


class SnapshotOffer(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=9):
    """Leader -> follower: the log you need is gone; fetch this checkpoint instead.

    The receiving host fetches and stages the checkpoint durably *before* it steps this message.
    An offer is repeated until the follower catches up, so a duplicate is normal.
    """

    snapshot: SnapshotMeta


class TransferLeader(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=10):
    """Any node -> leader: please hand leadership to `node`."""

    node: _Node


class TimeoutNow(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=11):
    """Leader -> follower: campaign at once (thesis, section 3.10)."""


Body = (
    AppendRequest
    | AppendResponse
    | Heartbeat
    | HeartbeatResponse
    | VoteRequest
    | VoteResponse
    | ReadIndexRequest
    | ReadIndexResponse
    | SnapshotOffer
    | TransferLeader
    | TimeoutNow
)


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The envelope. `term` is the sender's, except in pre-votes (see `VoteRequest`)."""

    source: _Node
    target: _Node
    term: _Term
    body: Body
    cluster: Annotated[ClusterId, NUMBER] = ClusterId(0)
    group: Annotated[GroupId, NUMBER] = GroupId(0)
    source_disk: Annotated[DiskId, NUMBER] = DiskId(0)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The message as msgpack; entry data is copied once, into the result."""
    return _encoder.encode(message)


def decode(data: bytes | bytearray | memoryview) -> Message:
    """The message in `data`; MalformedBody if it is not exactly one of ours, or if its entries can
    stand in no log."""
    try:
        message = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedBody("message", f"is not a Raft message: {error}") from error
    if isinstance(message.body, AppendRequest):
        _check_entries(message.body, message.term)
    return message


def _check_entries(request: AppendRequest, term: Term) -> None:
    """They follow one another, and no term falls or is newer than the sender's."""
    index, last_term = request.previous_index, request.previous_term
    for entry in request.entries:
        if entry.index != index + 1 or entry.term < last_term:
            raise MalformedBody(
                "message",
                f"has entry {entry.index} of term {entry.term} after {index} of term {last_term}",
            )
        index, last_term = entry.index, entry.term
    if last_term > term:
        raise MalformedBody("message", f"of term {term} has an entry of term {last_term}")

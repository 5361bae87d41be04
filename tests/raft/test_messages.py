"""The bytes of messages."""

import pytest

from balsadb.errors import MalformedBody
from balsadb.raft import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Members,
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
from balsadb.types import ClusterId, DiskId, GroupId, LogIndex, NodeId, Term
from tests.raft.solo import log_of, meta

BODIES = [
    AppendRequest(LogIndex(0), Term(0), LogIndex(3), log_of(1, 2)),
    AppendResponse(LogIndex(1), rejected=True, hint_index=LogIndex(2), hint_term=Term(3)),
    Heartbeat(LogIndex(4), 5),
    HeartbeatResponse(6),
    VoteRequest(LogIndex(1), Term(2), pre_vote=True, transfer=True),
    VoteResponse(rejected=True, pre_vote=True),
    ReadIndexRequest(1 << 60),
    ReadIndexResponse(7, LogIndex(8)),
    SnapshotOffer(meta(9, 2, 1, 2)),
    TransferLeader(NodeId(3)),
    TimeoutNow(),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_a_message_survives_the_wire(body):
    message = Message(
        NodeId(1), NodeId(2), Term(3), body, ClusterId(2**62), GroupId(0), DiskId(2**61)
    )
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"not msgpack", encode(Message(NodeId(1), NodeId(2), Term(3), BODIES[0]))[:-1]],
)
def test_bytes_that_are_no_message_are_refused(data):
    with pytest.raises(MalformedBody, match="message"):
        decode(data)


@pytest.mark.parametrize(
    ("previous", "terms", "problem"),
    [
        ((1, 1), [1, 2], "has entry 1 of term 1 after 1 of term 1"),
        ((0, 2), [1], "has entry 1 of term 1 after 0 of term 2"),
        ((0, 0), [2, 1], "has entry 2 of term 1 after 1 of term 2"),
        ((0, 0), [1, 4], "of term 3 has an entry of term 4"),
        ((0, 4), [], "of term 3 has an entry of term 4"),
    ],
)
def test_entries_that_stand_in_no_log_are_refused(previous, terms, problem):
    """Whoever sends them is broken; the receiver's log must not be the one to find out."""
    body = AppendRequest(LogIndex(previous[0]), Term(previous[1]), LogIndex(0), log_of(*terms))
    with pytest.raises(MalformedBody, match=problem):
        decode(encode(Message(NodeId(1), NodeId(2), Term(3), body)))


@pytest.mark.parametrize("number", [-1, 1 << 63, (1 << 64) - 1])
def test_numbers_that_a_log_cannot_hold_are_refused(number):
    for message in (
        Message(NodeId(1), NodeId(2), Term(number), TimeoutNow()),
        Message(NodeId(number), NodeId(2), Term(3), TimeoutNow()),
        Message(NodeId(1), NodeId(2), Term(3), Heartbeat(LogIndex(number))),
        Message(NodeId(1), NodeId(2), Term(3), SnapshotOffer(meta(number, 2, 1, 2))),
        Message(NodeId(1), NodeId(2), Term(3), SnapshotOffer(meta(9, 2, number))),
    ):
        with pytest.raises(MalformedBody, match="Expected `int`"):
            decode(encode(message))


def test_an_unknown_kind_is_refused():
    data = encode(Message(NodeId(1), NodeId(2), Term(3), TimeoutNow()))
    assert decode(data.replace(b"\x91\x0b", b"\x91\x0b")).body == TimeoutNow()
    with pytest.raises(MalformedBody):
        decode(data.replace(b"\x91\x0b", b"\x91\x63"))


def test_members_are_sorted_and_know_their_halves():
    members = Members.of([3, 1, 2, 2], [4, 3])
    assert members.voters == (1, 2, 3)
    assert members.nodes == (1, 2, 3, 4)
    assert members.is_joint
    assert 4 in members
    assert 5 not in members

"""Majorities, of one set of voters and of two joined ones: who has won, what is committed.

Leaf arithmetic; the tests hold it against a brute-force oracle that enumerates quorums. An empty
set of voters wins every vote and commits everything, so that a joint quorum with an empty half is
the other half alone.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from balsadb.raft.members import Members
from balsadb.types import LogIndex, NodeId

UNBOUNDED = LogIndex(2**63 - 1)
"""The commit index of an empty set of voters."""


class VoteResult(Enum):
    """Where a vote stands."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def quorum_size(voters: Sequence[NodeId]) -> int:
    """The smallest number of voters that is more than half of them."""
    return len(voters) // 2 + 1


def majority_commit(
    voters: Sequence[NodeId], acknowledged: Callable[[NodeId], LogIndex]
) -> LogIndex:
    """The largest log index that a majority of `voters` acknowledged (0: none)."""
    if not voters:
        return UNBOUNDED
    indexes = sorted([acknowledged(node) for node in voters])
    return indexes[len(voters) - quorum_size(voters)]


def majority_vote(voters: Sequence[NodeId], votes: Mapping[NodeId, bool]) -> VoteResult:
    """The state of a vote in which absent voters have not answered; strangers do not count."""
    if not voters:
        return VoteResult.WON
    needed = quorum_size(voters)
    granted = missing = 0
    for node in voters:
        vote = votes.get(node)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    if granted >= needed:
        return VoteResult.WON
    return VoteResult.PENDING if granted + missing >= needed else VoteResult.LOST


def joint_commit(members: Members, acknowledged: Callable[[NodeId], LogIndex]) -> LogIndex:
    """The largest log index that both halves acknowledged by majority."""
    commit = majority_commit(members.voters, acknowledged)
    if members.outgoing:
        commit = min(commit, majority_commit(members.outgoing, acknowledged))
    return commit


def joint_vote(members: Members, votes: Mapping[NodeId, bool]) -> VoteResult:
    """Won if both halves won, lost if one is lost."""
    result = majority_vote(members.voters, votes)
    if not members.outgoing:
        return result
    other = majority_vote(members.outgoing, votes)
    if result is other:
        return result
    if VoteResult.LOST in (result, other):
        return VoteResult.LOST
    return VoteResult.PENDING

"""Corners of the core that no scenario of the other files reaches: refusals, and what a host may do
late or twice."""

import pytest

from balsadb.errors import Corruption, InvalidInput, NotLeader
from balsadb.raft import (
    AppendRequest,
    AppendResponse,
    Change,
    Heartbeat,
    Members,
    MembersChange,
    TransferLeader,
)
from balsadb.raft.changes import enter_joint, simple
from balsadb.types import LogIndex, NodeId, Term
from tests.raft.solo import Solo, bodies, log_of, meta

TWO, THREE, FOUR = NodeId(2), NodeId(3), NodeId(4)
REMOVE_SELF = MembersChange((Change("remove", NodeId(1)),))


def test_no_change_begins_while_a_joint_one_is_under_way():
    joint = enter_joint(Members.of([1, 2, 3]), [Change("voter", FOUR)], auto_leave=False)
    for begin in (
        lambda: simple(joint, [Change("voter", NodeId(5))]),
        lambda: enter_joint(joint, [Change("voter", NodeId(5))], auto_leave=True),
    ):
        with pytest.raises(InvalidInput, match="a joint change is under way"):
            begin()


def test_members_without_a_voter_begin_with_a_simple_change():
    nobody = Members(())
    with pytest.raises(InvalidInput, match="there is no voter yet"):
        enter_joint(nobody, [Change("voter", TWO)], auto_leave=True)
    assert simple(nobody, [Change("voter", TWO)]) == Members.of([2])


def test_a_follower_takes_no_change_and_says_who_leads():
    solo = Solo()
    solo.receive(2, Heartbeat(LogIndex(0)), term=1)
    with pytest.raises(NotLeader) as caught:
        solo.raft.propose_change(REMOVE_SELF)
    assert caught.value.leader == 2
    assert solo.status.last_index == 0


def test_a_change_that_a_snapshot_has_overtaken_changes_nothing():
    solo = Solo(snapshot=meta(5, 2, 1, 2, 3), hard_state=(2, 0, 5))
    overtaken = MembersChange((Change("remove", THREE),))
    assert solo.raft.apply_change(LogIndex(5), overtaken) == Members.of([1, 2, 3])
    assert solo.raft.apply_change(LogIndex(6), overtaken) == Members.of([1, 2])
    assert solo.raft.apply_change(LogIndex(6), overtaken) == Members.of([1, 2]), "once"


def test_a_committed_change_that_cannot_be_made_is_corruption():
    solo = Solo((1,))
    with pytest.raises(Corruption, match="the committed change of members at 3: .*keep a voter"):
        solo.raft.apply_change(LogIndex(3), REMOVE_SELF)
    assert solo.raft.members == Members.of([1])


def test_a_log_that_disagrees_with_its_snapshot_is_replaced_by_it():
    solo = Solo(entries=log_of(1, 1, 1, 1), snapshot=meta(2, 2), hard_state=(2, 0, 0))
    status = solo.status
    assert (status.first_index, status.last_index, status.commit) == (3, 2, 2)
    agreeing = Solo(entries=log_of(1, 1, 1, 1), snapshot=meta(2, 1), hard_state=(2, 0, 0))
    assert (agreeing.status.last_index, agreeing.status.commit) == (4, 2)


def test_a_follower_passes_a_wish_for_a_transfer_on():
    solo = Solo()
    assert bodies(solo.receive(3, TransferLeader(THREE), term=1), TransferLeader) == []
    solo.receive(2, Heartbeat(LogIndex(0)), term=1)
    messages = solo.receive(3, TransferLeader(THREE))
    assert [(m.target, m.body) for m in messages] == [(2, TransferLeader(THREE))]


def test_a_leader_that_was_removed_and_stays_takes_no_proposals():
    """With `step_down_on_removal` off, as etcd has it: it leads until a successor is elected."""
    solo = Solo(step_down_on_removal=False)
    solo.lead()
    index, _ = solo.raft.propose_change(REMOVE_SELF)
    solo.drain()
    solo.receive(2, AppendResponse(index))
    assert solo.status.commit == index
    assert solo.raft.apply_change(index, REMOVE_SELF) == Members.of([2, 3])
    assert solo.status.role == "leader"
    for propose in (
        lambda: solo.raft.propose([b"x"]),
        lambda: solo.raft.propose_change(MembersChange((Change("voter", FOUR),))),
    ):
        with pytest.raises(NotLeader, match="removed and waits for its successor"):
            propose()
    assert solo.status.last_index == index


def test_an_append_that_only_repeats_what_is_committed_tells_how_far_that_is():
    solo = Solo(entries=log_of(1, 1, 1), hard_state=(1, 0, 2))
    messages = solo.receive(2, AppendRequest(LogIndex(0), Term(0), LogIndex(0), log_of(1)))
    assert bodies(messages, AppendResponse) == [AppendResponse(LogIndex(2))]

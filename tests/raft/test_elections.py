"""Elections: pre-vote, check-quorum, loyalty to a live leader, forget-leader."""

from functools import partial

import pytest

from balsadb.raft import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Members,
    RaftOptions,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from balsadb.types import LogIndex, NodeId, Term
from tests.raft.network import Network
from tests.raft.solo import Solo, bodies, log_of, to


def options(node: int, incarnation: int, **change) -> RaftOptions:
    return RaftOptions(
        node=NodeId(node),
        election_timeout=lambda term: 10 + node,
        incarnation=incarnation,
        **change,
    )


def no_lease(**change):
    return partial(options, check_quorum=False, **change)


def role(network: Network, node: int) -> tuple[str, int]:
    status = network[node].status()
    return status.role, status.term


EMPTY_VOTE = VoteRequest(LogIndex(0), Term(0))
EMPTY_PRE_VOTE = VoteRequest(LogIndex(0), Term(0), pre_vote=True)


def test_leader_election_in_a_cluster_of_one():
    network = Network([1])
    network.elect(1)
    assert role(network, 1) == ("leader", 1)
    assert network.propose(1, b"x")
    network.pump()
    assert network[1].status().applied == 2


def test_leader_cycle():
    """Every node can lead in its turn, whatever the others' state."""
    network = Network([1, 2, 3], no_lease())
    for candidate in (1, 2, 3, 1, 3, 2):
        network.elect(candidate)
        roles = {node: network[node].status().role for node in (1, 2, 3)}
        assert roles.pop(candidate) == "leader"
        assert set(roles.values()) == {"follower"}


def test_leader_election_overwrites_newer_logs():
    """A leader of a later term overwrites uncommitted entries of a deposed one."""
    network = Network([1, 2, 3], no_lease(pre_vote=False))
    network.elect(1)
    network.isolate(1)
    network.propose(1, b"lost", b"lost too")
    network.pump()
    network.elect(2)
    network.propose(2, b"kept")
    network.pump()
    network.heal()
    network.tick(2, 2)
    network.pump()
    logs = [[e.data for e in network.hosts[n].core.log._entries] for n in (1, 2, 3)]
    assert logs == [[b"", b"", b"kept"]] * 3


@pytest.mark.parametrize("pre_vote", [False, True])
def test_duelling_candidates(pre_vote):
    """1 and 3 do not hear each other; 2 votes for the first. The second wins later only with a
    newer term and a log that has the first one's entry, which 3 lacks."""
    network = Network([1, 2, 3], no_lease(pre_vote=pre_vote))
    network.cut = {(1, 3), (3, 1)}
    network.elect(1)
    network.elect(3)
    assert role(network, 1) == ("leader", 1)
    network.heal()
    network.elect(3)
    assert not network.is_leader(3)
    assert network.is_leader(1) is pre_vote
    network.elect(1)
    assert network.is_leader(1)


def test_duelling_pre_candidates_do_not_raise_terms():
    network = Network([1, 2, 3])
    network.cut = {(1, 3), (3, 1)}
    network.elect(1)
    network.elect(3)  # node 2 follows a live leader and ignores it
    assert role(network, 1) == ("leader", 1)
    assert role(network, 3) == ("follower", 1)
    network.heal()
    network.tick(1, 2)
    network.pump()
    assert role(network, 1) == ("leader", 1)
    assert network[3].status().leader == 1


def test_candidate_concedes():
    network = Network([1, 2, 3], no_lease(pre_vote=False))
    network.isolate(1)
    network.elect(1)
    network.elect(3)
    network.heal()
    network.tick(3, 2)
    network.pump()
    network.propose(3, b"x")
    network.pump()
    assert role(network, 1) == ("follower", 1)
    assert network[1].status().commit == 2


def test_a_stale_pre_candidate_learns_the_term_from_the_refusal():
    solo = Solo(pre_vote=True, hard_state=(1, 0, 0))
    solo.raft.campaign()
    solo.drain()
    assert (solo.status.role, solo.status.term) == ("pre_candidate", 1)
    solo.receive(2, VoteResponse(rejected=True, pre_vote=True), term=7)
    assert (solo.status.role, solo.status.term) == ("follower", 7)


def test_pre_vote_changes_no_term_and_no_vote():
    solo = Solo(node=2, hard_state=(3, 0, 0))
    (answer,) = solo.receive(1, EMPTY_PRE_VOTE, term=4)
    assert answer.body == VoteResponse(pre_vote=True)
    assert answer.term == 4
    assert (solo.status.term, solo.status.vote) == (3, 0)


def test_a_pre_vote_of_a_longer_log_elsewhere_is_refused():
    solo = Solo(node=2, hard_state=(3, 0, 0), entries=log_of(1, 3))
    (answer,) = solo.receive(1, EMPTY_PRE_VOTE, term=4)
    assert (answer.body.rejected, answer.term) == (True, 3)


def test_a_lone_pre_candidate_never_raises_its_term():
    solo = Solo(pre_vote=True)
    solo.tick(200)
    assert (solo.status.role, solo.status.term) == ("pre_candidate", 0)


def test_leader_superseding_with_check_quorum():
    """A vote is refused while a live leader is followed; after silence it is granted."""
    network = Network([1, 2, 3], partial(options, pre_vote=False))
    network.tick(2, 9)
    network.elect(1)
    network.elect(3)
    assert role(network, 1) == ("leader", 1)
    assert role(network, 3)[0] == "candidate"
    network.tick(2, 10)
    network.elect(3)
    assert role(network, 3)[0] == "leader"


def test_leader_stepdown_when_quorum_lost():
    solo = Solo()
    solo.lead()
    solo.tick(10)
    assert solo.status.role == "leader"  # everybody was heard in the first period
    solo.tick(10)
    assert (solo.status.role, solo.status.leader, solo.status.term) == ("follower", 0, 1)


def test_leader_stays_when_quorum_active():
    solo = Solo()
    solo.lead()
    for _ in range(10):
        solo.tick(5)
        solo.receive(2, HeartbeatResponse())
    assert solo.status.role == "leader"


def test_without_check_quorum_a_leader_stays_alone():
    solo = Solo(check_quorum=False)
    solo.lead()
    solo.tick(100)
    assert solo.status.role == "leader"


def test_non_promotable_voter_never_campaigns():
    solo = Solo(members=Members.of([2, 3]))
    assert not solo.tick(100)
    assert solo.status.role == "follower"
    solo.receive(2, TimeoutNow(), term=1)
    assert solo.status.role == "follower"
    assert solo.receive(2, EMPTY_VOTE, term=2)[0].body == VoteResponse()


@pytest.mark.parametrize("pre_vote", [False, True])
def test_disruptive_follower(pre_vote):
    """A node that was away campaigns at once on its return: with pre-vote nobody notices."""
    network = Network([1, 2, 3], partial(options, pre_vote=pre_vote))
    network.elect(1)
    network.isolate(3)
    network.tick(3, 13)
    network.pump()
    network.heal()
    network.tick(1, 2)
    network.pump()
    if pre_vote:
        assert role(network, 1) == ("leader", 1)
        assert role(network, 3) == ("follower", 1)
    else:
        # Its higher term deposes the leader through the answer to a heartbeat; one bump.
        assert role(network, 1) == ("follower", 2)


def test_free_stuck_candidate_with_check_quorum():
    network = Network([1, 2, 3], partial(options, pre_vote=False))
    network.elect(1)
    network.isolate(1)
    network.elect(3)
    network.elect(3)
    assert role(network, 3) == ("candidate", 3)
    network.heal()
    network.elect(3)  # still refused: node 2 ... and node 1 are loyal
    assert role(network, 3)[0] == "candidate"
    network.tick(1, 2)
    network.pump()  # the stale leader hears the newer term and steps down
    assert role(network, 1)[0] == "follower"
    assert network[1].status().term == network[3].status().term
    network.elect(3)
    assert role(network, 3)[0] == "leader"


def test_pre_vote_with_a_stuck_pre_candidate():
    """A node with a higher term and a shorter log is brought in by one election."""
    network = Network([1, 2, 3], start=False)
    for node, term, terms in [(1, 1, (1, 1)), (2, 1, (1, 1)), (3, 11, (1,))]:
        disk = network.hosts[node].disk
        disk.entries = log_of(*terms)
        disk.hard_state = type(disk.hard_state)(Term(term), NodeId(0), LogIndex(0))
        network.restart(node)
    network.elect(1)
    assert network[1].status().term in (2, 11)
    for _ in range(30):
        for node in (1, 2, 3):
            network.tick(node)
        network.pump()
    leader = network.leader()
    assert leader in (1, 2)
    assert network[leader].status().term == 12
    assert {network[n].status().commit for n in (1, 2, 3)} == {3}


@pytest.mark.parametrize("pre_vote", [False, True])
def test_candidate_self_vote_after_lost_election(pre_vote):
    """The own vote becomes durable after the election was lost: it counts for nothing."""
    solo = Solo(pre_vote=pre_vote)
    solo.raft.campaign()
    ready = solo.take()
    solo.step(2, Heartbeat(LogIndex(0)), term=solo.status.term + pre_vote)
    assert solo.status.role == "follower"
    solo.finish(ready)
    solo.drain()
    assert (solo.status.role, solo.status.leader) == ("follower", 2)


def test_candidate_delivers_pre_candidate_self_vote_after_becoming_candidate():
    solo = Solo(pre_vote=True)
    solo.raft.campaign()
    ready = solo.take()
    solo.step(2, VoteResponse(pre_vote=True), term=1)
    solo.step(3, VoteResponse(pre_vote=True), term=1)
    assert solo.status.role == "candidate"
    solo.finish(ready)  # the pre-vote for itself arrives only now
    assert solo.status.role == "candidate"
    solo.drain()
    assert solo.status.role == "candidate"  # its own vote alone is no majority
    solo.receive(3, VoteResponse())
    assert solo.status.role == "leader"


def test_a_node_that_votes_resets_its_timer():
    solo = Solo(node=2)
    solo.tick(14)
    solo.receive(1, EMPTY_VOTE, term=1)
    assert not bodies(solo.tick(14), VoteRequest)


@pytest.mark.parametrize("meets", ["by its timer's follower", "by stepping down"])
def test_a_short_timeout_does_not_outlive_the_first_word_of_a_leader(meets):
    """Hosts draw short ones at a start, when no leader is known: a node that found one would
    campaign after its first few silent ticks."""
    solo = Solo(node=2, election_timeout=lambda term: 4, election_ticks=10)
    if meets == "by stepping down":
        solo.raft.campaign()
        solo.drain()
    else:
        solo.receive(3, EMPTY_VOTE, term=1)
    solo.receive(1, Heartbeat(LogIndex(0)), term=1)
    assert solo.status.leader == 1
    assert not bodies(solo.tick(13), VoteRequest)
    assert bodies(solo.tick(), VoteRequest)


def test_votes_of_strangers_and_second_answers_do_not_count():
    solo = Solo()
    solo.raft.campaign()
    solo.drain()
    solo.receive(9, VoteResponse())
    assert solo.status.role == "candidate"
    solo.receive(2, VoteResponse(rejected=True))
    solo.receive(2, VoteResponse())
    assert solo.status.role == "candidate"
    solo.receive(3, VoteResponse(rejected=True))
    assert solo.status.role == "follower"  # lost: it waits for its next timeout


def test_joint_members_need_both_majorities():
    solo = Solo(members=Members.of([1, 2, 3], [1, 4, 5]))
    solo.raft.campaign()
    solo.drain()
    solo.receive(2, VoteResponse())
    solo.receive(3, VoteResponse())
    assert solo.status.role == "candidate"
    solo.receive(4, VoteResponse())
    assert solo.status.role == "leader"
    solo.receive(2, AppendResponse(LogIndex(1)))
    assert solo.status.commit == 0
    solo.receive(5, AppendResponse(LogIndex(1)))
    assert solo.status.commit == 1


def test_forget_leader_lets_a_follower_vote_at_once():
    solo = Solo(node=2)
    solo.receive(1, Heartbeat(LogIndex(0)), term=1)
    assert not solo.receive(3, EMPTY_VOTE, term=2)
    solo.raft.forget_leader()
    assert solo.status.leader == 0
    assert solo.receive(3, EMPTY_VOTE, term=2)[0].body == VoteResponse()


def test_forget_leader_is_undone_by_the_next_heartbeat_and_ignored_by_leaders():
    solo = Solo(node=2)
    solo.receive(1, Heartbeat(LogIndex(0)), term=1)
    solo.raft.forget_leader()
    solo.receive(1, Heartbeat(LogIndex(0)), term=1)
    assert solo.status.leader == 1
    leader = Solo()
    leader.lead()
    leader.raft.forget_leader()
    assert (leader.status.role, leader.status.leader) == ("leader", 1)


def test_a_stale_leader_is_told_the_newer_term():
    solo = Solo(node=2, hard_state=(5, 0, 0))
    for stale in (Heartbeat(LogIndex(0)), AppendRequest(LogIndex(0), Term(0), LogIndex(0), [])):
        (answer,) = solo.receive(1, stale, term=3)
        assert (answer.term, answer.body) == (5, AppendResponse(LogIndex(0)))
    plain = Solo(node=2, hard_state=(5, 0, 0), check_quorum=False)
    assert not plain.receive(1, Heartbeat(LogIndex(0)), term=3)


def test_two_leaders_in_one_term_stop_the_node():
    solo = Solo(node=3)
    solo.receive(1, Heartbeat(LogIndex(0)), term=1)
    with pytest.raises(AssertionError, match="two leaders"):
        solo.receive(2, Heartbeat(LogIndex(0)), term=1)
    leader = Solo()
    leader.lead()
    with pytest.raises(AssertionError, match="two leaders"):
        leader.receive(2, Heartbeat(LogIndex(0)))


def test_soft_state_is_told_when_it_changes():
    solo = Solo()
    solo.lead()
    told = [(r.soft_state.leader, r.soft_state.role) for r in solo.readies if r.soft_state]
    assert told == [(0, "candidate"), (1, "leader")]
    assert to(solo.tick(1), 2) == []

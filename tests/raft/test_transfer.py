"""Handing leadership to a chosen node (thesis, section 3.10)."""

import pytest

from balsadb.errors import InvalidInput, NotLeader
from balsadb.raft import (
    AppendResponse,
    Heartbeat,
    ReadIndexRequest,
    TimeoutNow,
    TransferLeader,
    VoteRequest,
)
from balsadb.types import LogIndex, NodeId, Term
from tests.raft.network import Network
from tests.raft.solo import Solo, bodies, to

TWO, THREE = NodeId(2), NodeId(3)


def elected(count: int = 3) -> Network:
    network = Network(range(1, count + 1))
    network.elect(1)
    return network


def transfer(network: Network, source: int, target: int) -> None:
    network[source].transfer(NodeId(target))
    network._settle(source)
    network.pump()


def test_leader_transfer_to_up_to_date_node():
    network = elected()
    transfer(network, 1, 2)
    assert network.leader() == 2
    network.propose(2, b"x")
    network.pump()
    transfer(network, 2, 1)
    assert network.leader() == 1
    assert network[1].status().commit == 4


def test_leader_transfer_to_up_to_date_node_from_follower():
    network = elected()
    transfer(network, 2, 2)
    assert network.leader() == 2
    transfer(network, 3, 1)
    assert network.leader() == 1


def test_leader_transfer_with_check_quorum():
    """The others are loyal to a live leader, but the election was asked for by it."""
    network = elected()
    for node in (1, 2, 3):
        network.tick(node)
    network.pump()
    transfer(network, 1, 2)
    assert network.leader() == 2


def test_leader_transfer_to_slow_follower():
    network = elected()
    network.isolate(3)
    network.propose(1, b"x")
    network.pump()
    network.heal()
    transfer(network, 1, 3)
    for _ in range(3):
        network.tick(1, 2)
        network.pump()
    assert network.leader() == 3
    assert network[3].status().commit == 3


def test_leader_transfer_after_snapshot():
    network = elected()
    network.isolate(3)
    network.propose(1, b"x")
    network.pump()
    network.checkpoint(1)
    network.heal()
    transfer(network, 1, 3)
    for _ in range(4):
        network.tick(1, 2)
        network.pump()
    assert network.leader() == 3
    assert network.installs == 1


def test_leader_transfer_to_self_and_to_nobody():
    solo = Solo()
    solo.lead()
    solo.raft.transfer(NodeId(1))
    assert (solo.status.transferee, solo.drain()) == (0, [])
    with pytest.raises(InvalidInput, match="voting member"):
        solo.raft.transfer(NodeId(9))
    solo.receive(2, TransferLeader(NodeId(9)))
    assert solo.status.transferee == 0


def test_transfer_without_a_leader_is_refused():
    with pytest.raises(NotLeader):
        Solo().raft.transfer(TWO)
    candidate = Solo()
    candidate.raft.campaign()
    with pytest.raises(NotLeader):
        candidate.raft.transfer(TWO)


def test_leader_transfer_timeout():
    solo = Solo(check_quorum=False)
    solo.lead()
    solo.raft.transfer(TWO)
    assert to(solo.drain(), 2) == [TimeoutNow()]
    solo.tick(9)
    assert solo.status.transferee == 2
    solo.tick(1)
    assert (solo.status.transferee, solo.status.role) == (0, "leader")
    assert solo.raft.propose([b"x"])


def test_leader_transfer_ignores_proposals():
    solo = Solo()
    solo.lead()
    solo.raft.transfer(TWO)
    with pytest.raises(NotLeader) as caught:
        solo.raft.propose([b"x"])
    assert caught.value.leader == 2
    assert solo.status.last_index == 1


def test_leader_transfer_waits_for_the_last_entry_to_be_durable_there():
    solo = Solo()
    solo.lead()
    solo.raft.propose([b"x"])
    solo.drain()
    solo.raft.transfer(TWO)
    assert not bodies(solo.drain(), TimeoutNow)
    assert to(solo.receive(2, AppendResponse(LogIndex(2))), 2)[0] == TimeoutNow()


def test_leader_transfer_receives_higher_term_vote():
    solo = Solo()
    solo.lead()
    solo.raft.transfer(TWO)
    solo.drain()
    solo.receive(3, VoteRequest(LogIndex(1), Term(1), transfer=True), term=2)
    assert (solo.status.role, solo.status.transferee) == ("follower", 0)


def test_leader_transfer_back():
    solo = Solo()
    solo.lead()
    solo.raft.propose([b"x"])
    solo.drain()
    solo.raft.transfer(TWO)
    assert solo.status.transferee == 2
    solo.raft.transfer(NodeId(1))
    assert solo.status.transferee == 0
    assert solo.raft.propose([b"y"])


def test_leader_transfer_second_transfer_to_another_node():
    solo = Solo()
    solo.lead()
    solo.raft.transfer(TWO)
    solo.raft.transfer(THREE)
    assert solo.status.transferee == 3
    assert to(solo.drain(), 3) == [TimeoutNow()]


def test_leader_transfer_second_transfer_to_same_node_does_not_extend_it():
    solo = Solo(check_quorum=False)
    solo.lead()
    solo.raft.transfer(TWO)
    solo.drain()
    solo.tick(5)
    solo.raft.transfer(TWO)
    assert not bodies(solo.drain(), TimeoutNow)
    solo.tick(5)
    assert solo.status.transferee == 0


def test_timeout_now_skips_the_pre_vote():
    solo = Solo(pre_vote=True)
    solo.receive(2, Heartbeat(LogIndex(0)), term=1)
    messages = solo.receive(2, TimeoutNow())
    assert (solo.status.role, solo.status.term) == ("candidate", 2)
    assert all(body.transfer and not body.pre_vote for body in bodies(messages, VoteRequest))


def test_timeout_now_is_ignored_by_a_candidate_and_a_leader():
    solo = Solo()
    solo.raft.campaign()
    solo.drain()
    solo.receive(2, TimeoutNow())
    assert solo.status.term == 1
    leader = Solo()
    leader.lead()
    assert not leader.receive(2, TimeoutNow())


def test_a_planned_stop_of_the_leader_loses_nothing():
    network = elected()
    for k in range(5):
        network.propose(1, b"%d" % k)
    transfer(network, 1, 2)
    for _ in range(3):
        network.tick(1, 2)
        network.pump()
    network.crash(1)
    assert network.leader() == 2
    assert network[2].status().commit == 7


def test_reads_go_on_during_a_transfer():
    solo = Solo()
    solo.lead()
    solo.raft.propose([b"x"])
    solo.drain()
    solo.raft.transfer(TWO)
    solo.drain()
    messages = solo.receive(3, ReadIndexRequest(4))
    assert [m.target for m in messages if isinstance(m.body, Heartbeat)] == [2, 3]

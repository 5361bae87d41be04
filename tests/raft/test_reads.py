"""Read index: rounds, batches, forwarding, ids, and when a read must wait or is dropped."""

import pytest

from balsadb.errors import NotLeader
from balsadb.raft import (
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    VoteRequest,
    VoteResponse,
)
from balsadb.types import LogIndex, Term
from tests.raft.network import Network
from tests.raft.solo import Solo, bodies, log_of


def beats(messages) -> list[tuple[int, int]]:
    """(target, read round) of heartbeats."""
    return [(m.target, m.body.read_round) for m in messages if isinstance(m.body, Heartbeat)]


def leader(**options) -> Solo:
    solo = Solo(**options)
    solo.lead()
    return solo


def test_a_read_is_answered_by_a_round_of_heartbeats_that_leaves_at_once():
    solo = leader()
    read_id = solo.raft.read_index()
    assert beats(solo.drain()) == [(2, 1), (3, 1)]
    assert solo.reads == []
    solo.receive(2, HeartbeatResponse(1))
    assert solo.reads == [(read_id, 1)]


def test_a_single_node_answers_at_once():
    solo = leader(voters=(1,))
    read_id = solo.raft.read_index()
    ready = solo.take()
    assert ready.reads == [(read_id, 1)]
    assert ready.messages == []


def test_concurrent_reads_share_rounds():
    """Any number of reads: one round if none is under way, else one more."""
    solo = leader()
    first = [solo.raft.read_index() for _ in range(100)]
    assert beats(solo.drain()) == [(2, 1), (3, 1)]
    second = [solo.raft.read_index() for _ in range(100)]
    assert beats(solo.drain()) == []
    assert beats(solo.receive(3, HeartbeatResponse(1))) == [(2, 2), (3, 2)]
    assert [read_id for read_id, _ in solo.reads] == first
    solo.receive(2, HeartbeatResponse(1))  # late, of the finished round
    assert len(solo.reads) == 100
    solo.receive(2, HeartbeatResponse(2))
    assert [read_id for read_id, _ in solo.reads] == first + second


def test_regular_heartbeats_repeat_a_running_round():
    solo = leader()
    solo.raft.read_index()
    solo.drain()
    assert beats(solo.tick(2)) == [(2, 1), (3, 1)]


def test_a_read_gets_the_commit_index_of_its_rounds_start():
    solo = leader()
    solo.raft.read_index()
    solo.drain()
    solo.raft.propose([b"x"])
    solo.drain()
    solo.receive(2, AppendResponse(LogIndex(2)))
    solo.raft.read_index()
    solo.drain()
    solo.receive(2, HeartbeatResponse(1))
    solo.receive(2, HeartbeatResponse(2))
    assert [index for _, index in solo.reads] == [1, 2]


def test_read_only_for_new_leader():
    """Raft 8: a new leader knows the commit index only once it committed in its own term."""
    solo = Solo(hard_state=(1, 0, 1), entries=log_of(1, 1))
    solo.lead(acknowledge=False)
    solo.raft.read_index()
    assert beats(solo.drain()) == []
    assert beats(solo.receive(2, AppendResponse(LogIndex(3)))) == [(2, 1), (3, 1)]
    solo.receive(2, HeartbeatResponse(1))
    assert [index for _, index in solo.reads] == [3]


def test_a_single_node_too_must_commit_in_its_term_first():
    solo = Solo((1,), hard_state=(1, 1, 1), entries=log_of(1, 1))
    solo.raft.campaign()
    solo.finish(solo.take())  # its own vote
    assert solo.status.role == "leader"
    solo.raft.read_index()
    ready = solo.take()
    assert ready.reads == []
    solo.raft.on_persisted(ready.number)
    assert [index for _, index in solo.take().reads] == [3]


def test_read_ids_increase_and_contain_the_incarnation():
    first, second = leader(voters=(1,), incarnation=1), leader(voters=(1,), incarnation=2)
    ids = [first.raft.read_index(), first.raft.read_index(), second.raft.read_index()]
    assert ids == sorted(set(ids))


def test_five_nodes_need_two_answers():
    solo = leader(voters=(1, 2, 3, 4, 5))
    solo.raft.read_index()
    solo.drain()
    solo.receive(2, HeartbeatResponse(1))
    solo.receive(2, HeartbeatResponse(1))
    solo.receive(9, HeartbeatResponse(1))
    assert solo.reads == []
    solo.receive(5, HeartbeatResponse(1))
    assert len(solo.reads) == 1


# -------------------------------------------------------------------------------- followers


def follower() -> Solo:
    solo = Solo(node=2)
    solo.receive(1, Heartbeat(LogIndex(0)), term=1)
    return solo


def test_a_follower_forwards_one_request_for_all_reads_between_readies():
    solo = follower()
    ids = [solo.raft.read_index() for _ in range(10)]
    (message,) = solo.drain()
    assert (message.target, message.body) == (1, ReadIndexRequest(ids[-1]))
    solo.receive(1, ReadIndexResponse(ids[-1], LogIndex(7)))
    assert solo.reads == [(read_id, 7) for read_id in ids]


def test_an_answer_covers_older_lost_requests_and_nothing_newer():
    solo = follower()
    first = solo.raft.read_index()
    solo.drain()
    second = solo.raft.read_index()
    solo.drain()
    third = solo.raft.read_index()
    solo.drain()
    solo.receive(1, ReadIndexResponse(second, LogIndex(5)))
    assert solo.reads == [(first, 5), (second, 5)]
    solo.receive(1, ReadIndexResponse(second, LogIndex(5)))
    assert len(solo.reads) == 2
    solo.receive(1, ReadIndexResponse(third, LogIndex(6)))
    assert solo.reads[2:] == [(third, 6)]


def test_a_follower_of_nobody_refuses_reads():
    with pytest.raises(NotLeader):
        Solo(node=2).raft.read_index()
    candidate = Solo()
    candidate.raft.campaign()
    with pytest.raises(NotLeader):
        candidate.raft.read_index()


def test_the_leader_answers_a_follower_through_its_own_rounds():
    solo = leader()
    assert beats(solo.receive(2, ReadIndexRequest(77))) == [(2, 1), (3, 1)]
    messages = solo.receive(3, HeartbeatResponse(1))
    assert [(m.target, m.body) for m in messages] == [(2, ReadIndexResponse(77, LogIndex(1)))]


def test_read_only_duplicate_request():
    solo = leader()
    solo.receive(2, ReadIndexRequest(5))
    solo.receive(2, ReadIndexRequest(5))
    messages = solo.receive(3, HeartbeatResponse(1))
    assert len(bodies(messages, ReadIndexResponse)) == 1
    messages = solo.receive(3, HeartbeatResponse(2))  # the duplicate had to wait a round
    assert bodies(messages, ReadIndexResponse) == [ReadIndexResponse(5, LogIndex(1))]


def test_a_request_that_reaches_a_follower_goes_nowhere():
    assert not follower().receive(3, ReadIndexRequest(5))


# ------------------------------------------------------------------------------ lost leaders


def test_a_deposed_leader_drops_its_reads():
    solo = leader()
    running = solo.raft.read_index()
    solo.drain()
    waiting = solo.raft.read_index()
    solo.receive(2, Heartbeat(LogIndex(0)), term=5)
    assert solo.dropped == [running, waiting]
    solo.receive(3, HeartbeatResponse(1), term=1)
    assert solo.reads == []


def test_a_leader_without_a_quorum_drops_its_reads():
    solo = leader()
    read_id = solo.raft.read_index()
    solo.tick(30)
    assert solo.dropped == [read_id]


@pytest.mark.parametrize("how", ["new term", "forget", "campaign"])
def test_a_follower_that_loses_its_leader_drops_its_reads(how):
    solo = follower()
    read_id = solo.raft.read_index()
    solo.drain()
    if how == "new term":
        solo.receive(3, Heartbeat(LogIndex(0)), term=2)
    elif how == "forget":
        solo.raft.forget_leader()
        solo.drain()
    else:
        solo.raft.campaign()
        solo.drain()
    assert solo.dropped == [read_id]
    solo.receive(1, ReadIndexResponse(read_id, LogIndex(9)), term=solo.status.term)
    assert solo.reads == []


def test_a_read_that_waits_for_the_own_term_commit_is_dropped_with_the_leadership():
    solo = Solo(hard_state=(1, 0, 1), entries=log_of(1, 1))
    solo.lead(acknowledge=False)
    read_id = solo.raft.read_index()
    solo.drain()
    solo.receive(3, VoteRequest(LogIndex(9), Term(9), transfer=True), term=9)
    assert solo.dropped == [read_id]
    assert solo.status.role == "follower"


def test_reads_see_every_acknowledged_write_wherever_they_are_asked():
    network = Network([1, 2, 3])
    network.elect(1)
    for k in range(5):
        network.propose(1, b"%d" % k)
        network.pump()
        for node in (1, 2, 3):
            network.read(node)
        network.pump()
    assert all(not host.read_floors for host in network.hosts.values())


def test_reads_of_a_follower_survive_lost_messages():
    network = Network([1, 2, 3])
    network.elect(1)
    network.drop = lambda message: isinstance(message.body, ReadIndexResponse)
    network.read(2)
    network.pump()
    network.drop = lambda message: False
    network.read(2)
    network.pump()
    assert not network.hosts[2].read_floors


def test_a_vote_answer_confirms_no_read():
    solo = leader()
    solo.raft.read_index()
    solo.drain()
    solo.receive(2, VoteResponse())
    assert solo.reads == []

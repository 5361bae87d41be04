"""Bugs that real Raft implementations had, each as the test that would have caught it.

A: core algorithm. B: elections and liveness. C: reads. The mutants of `test_mutants.py` put some of
them back. Bugs that need a real disk or clock are tested with the driver.
"""

import random
from functools import partial

import pytest

from balsadb.raft import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Members,
    RaftOptions,
    ReadIndexRequest,
    ReadIndexResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from balsadb.raft.quorum import joint_commit
from balsadb.types import LogIndex, NodeId, Term
from tests.raft.network import Network
from tests.raft.solo import Solo, bodies, entries_at, log_of, meta, to


def options(node: int, incarnation: int, **change) -> RaftOptions:
    """Spread timeouts, equal in every run."""
    draw = random.Random(node * 1000 + incarnation)
    return RaftOptions(
        node=NodeId(node),
        election_timeout=lambda term: 10 + draw.randrange(10),
        incarnation=incarnation,
        **change,
    )


def run(network: Network, ticks: int) -> None:
    """Time passes for everybody alike; all messages and disks are fast."""
    for _ in range(ticks):
        for node in network.up():
            network.tick(node)
        network.pump()


# ----------------------------------------------------------------------------- A: algorithm


def test_a1_old_term_entries_are_not_committed_by_counting():
    solo = Solo(hard_state=(3, 0, 0), entries=log_of(1, 2, 2))
    solo.lead(acknowledge=False)
    for node in (2, 3):
        solo.receive(node, AppendResponse(LogIndex(3)))
    assert solo.status.commit == 0
    solo.receive(2, AppendResponse(LogIndex(4)))
    assert solo.status.commit == 4


def test_a2_an_older_append_does_not_truncate():
    """[5..8] then, late, [5..6]: the log still ends at 8."""
    solo = Solo(node=2, hard_state=(1, 0, 0), entries=log_of(1, 1, 1, 1))
    for count in (4, 2):
        entries = entries_at(5, *[1] * count)
        solo.receive(1, AppendRequest(LogIndex(4), Term(1), LogIndex(0), entries), term=1)
    assert solo.log[-1] == (8, 1)
    assert solo.status.persisted == 8


def test_a3_an_append_past_the_end_leaves_no_gap():
    solo = Solo(node=2, hard_state=(1, 0, 0), entries=log_of(1))
    request = AppendRequest(LogIndex(4), Term(1), LogIndex(0), entries_at(5, 1))
    (answer,) = solo.receive(1, request, term=1)
    assert answer.body == AppendResponse(LogIndex(4), True, LogIndex(1), Term(1))
    assert solo.log == [(1, 1)]


def test_a4_the_quorum_is_counted_over_the_right_sets():
    """Three of {1,2,3} and the leader are not enough while {3,4,5} has to agree too."""
    members = Members.of([1, 2, 3], [3, 4, 5])
    held = {1: 9, 2: 9, 3: 9, 4: 2, 5: 1}
    assert joint_commit(members, lambda node: LogIndex(held[node])) == 2


def test_a5_a_longer_log_with_a_lower_last_term_loses():
    solo = Solo(node=2, hard_state=(2, 0, 0), entries=log_of(1, 2))
    (answer,) = solo.receive(1, VoteRequest(LogIndex(9), Term(1)), term=3)
    assert answer.body.rejected


def test_a6_match_never_goes_back_and_old_rejections_do_nothing():
    solo = Solo()
    solo.lead()
    solo.raft.propose([b"a", b"b", b"c"])
    solo.drain()
    solo.receive(2, AppendResponse(LogIndex(4)))
    solo.receive(2, AppendResponse(LogIndex(2)))
    solo.receive(2, AppendResponse(LogIndex(3), True, LogIndex(1), Term(1)))
    peer = solo.status.peers[NodeId(2)]
    assert (peer.match, peer.next, peer.state) == (4, 5, "replicate")


def test_a6_acknowledgements_of_an_earlier_leadership_do_not_count():
    solo = Solo()
    solo.lead()
    solo.receive(3, Heartbeat(LogIndex(0)), term=2)
    solo.lead(acknowledge=False)
    assert solo.status.term == 3
    solo.receive(2, AppendResponse(LogIndex(2)), term=1)
    assert solo.status.peers[NodeId(2)].match == 0


def test_a7_leader_msg_app_self_ack_after_term_change():
    """The own fsync completes when another leads: it proves nothing to the new leadership."""
    solo = Solo()
    solo.lead()
    solo.raft.propose([b"lost"])
    late = solo.take()
    solo.step(2, AppendRequest(LogIndex(1), Term(1), LogIndex(1), entries_at(2, 2)), term=2)
    solo.raft.on_persisted(late.number)
    assert solo.status.persisted == 1
    solo.drain()
    assert solo.status.persisted == 2
    assert solo.log == [(1, 1), (2, 2)]


def test_a7_a_vote_of_an_earlier_candidacy_does_not_count():
    solo = Solo()
    solo.raft.campaign()
    solo.drain()
    solo.raft.campaign()
    solo.drain()
    solo.receive(2, VoteResponse(), term=1)
    assert (solo.status.role, solo.status.term) == ("candidate", 2)


def test_a8_async_storage_writes_append_aba_race():
    """Entry 2 of term 1 is being written; it is overwritten by term 2 and then, by a leader of term
    3, by something else again. Completions of the old writes prove nothing of the new log."""
    solo = Solo(node=2, hard_state=(1, 0, 0), entries=log_of(1))
    solo.step(1, AppendRequest(LogIndex(1), Term(1), LogIndex(1), entries_at(2, 1, 1, 1)), term=1)
    first = solo.take()
    solo.step(3, AppendRequest(LogIndex(1), Term(1), LogIndex(1), entries_at(2, 2)), term=2)
    second = solo.take()
    solo.step(1, AppendRequest(LogIndex(1), Term(1), LogIndex(1), entries_at(2, 1, 1, 1)), term=3)
    third = solo.take()
    assert [len(ready.entries) for ready in (first, second, third)] == [3, 1, 3]
    solo.raft.on_persisted(first.number)
    assert solo.status.persisted == 1
    solo.raft.on_persisted(second.number)
    assert solo.status.persisted == 1
    solo.raft.on_persisted(third.number)
    assert solo.status.persisted == 4


def test_a8_a_partly_overwritten_write_proves_the_prefix_that_is_left():
    solo = Solo(node=2)
    solo.step(1, AppendRequest(LogIndex(0), Term(0), LogIndex(0), entries_at(1, *[1] * 6)), term=1)
    first = solo.take()
    solo.step(3, AppendRequest(LogIndex(4), Term(1), LogIndex(0), entries_at(5, 2)), term=2)
    second = solo.take()
    solo.raft.on_persisted(first.number)
    assert solo.status.persisted == 4
    solo.raft.on_persisted(second.number)
    assert solo.status.persisted == 5


def test_a9_a_heartbeat_tells_no_commit_past_what_was_acknowledged():
    solo = Solo(hard_state=(1, 0, 3), entries=log_of(1, 1, 1))
    solo.lead(acknowledge=False)
    assert {body.commit for body in bodies(solo.tick(2), Heartbeat)} == {0}


def test_a9_a_previous_index_equal_to_the_commit_is_not_a_reversion():
    solo = Solo(node=2, hard_state=(1, 0, 2), entries=log_of(1, 1))
    request = AppendRequest(LogIndex(2), Term(1), LogIndex(3), entries_at(3, 1))
    (answer,) = solo.receive(1, request, term=1)
    assert answer.body == AppendResponse(LogIndex(3))
    assert solo.status.commit == 3


def test_a10_commit_is_at_least_the_snapshot_after_a_restart():
    solo = Solo(hard_state=(2, 0, 1), snapshot=meta(7, 2), entries=entries_at(8, 2))
    assert solo.status.commit == 7
    solo.receive(2, Heartbeat(LogIndex(5)), term=2)
    assert solo.status.commit == 7


def test_a11_a_damaged_start_state_stops_the_node_instead_of_sending_nonsense():
    """There is no read from a disk in here; what the host read is checked once, at start."""
    with pytest.raises(Exception, match="breaks between"):
        Solo(hard_state=(1, 0, 0), entries=[*log_of(1), *entries_at(5, 1)])


def test_a12_any_order_of_completions_leaves_a_live_leader():
    """The host completes in order; a report that comes late or twice changes nothing."""
    solo = Solo((1,))
    solo.lead()
    readies = []
    for k in range(4):
        solo.raft.propose([b"%d" % k])
        readies.append(solo.take())
    for ready in (readies[3], readies[0], readies[2], readies[3]):
        solo.raft.on_persisted(ready.number)
    assert solo.status.commit == 5


def test_a13_a_transfer_target_is_elected_only_with_a_durable_log():
    """The target's disk stalls: no answer, so no TimeoutNow; it crashes and nothing is lost."""
    network = Network([1, 2, 3])
    network.elect(1)
    network.propose(1, b"x")
    sent = list(network.wire)
    network.wire.clear()
    for message in sent:
        network.deliver(message)  # 2 and 3 have it in memory only
    network.wire.clear()
    network[1].transfer(NodeId(2))
    network._settle(1)
    assert not any(isinstance(m.body, TimeoutNow) for m in network.wire)
    network.crash(2)
    network.restart(2)
    run(network, 12)
    assert network.acknowledged == {2: b"x"}
    assert network[2].status().commit >= 2


def test_a14_no_message_of_a_term_leaves_before_that_term_is_durable():
    """The own vote request too. (`Invariants.sent` checks every message of all network tests.)"""
    solo = Solo()
    solo.raft.campaign()
    ready = solo.take()
    assert ready.hard_state is not None
    assert ready.hard_state.term == 1
    assert ready.messages == []
    assert {type(m.body) for m in ready.messages_after_persist} == {VoteRequest}


def test_a14_a_vote_waits_for_its_fsync():
    solo = Solo(node=2)
    solo.step(1, VoteRequest(LogIndex(0), Term(0)), term=1)
    ready = solo.take()
    assert (ready.messages, ready.must_sync) == ([], True)
    assert bodies(ready.messages_after_persist) == [VoteResponse()]


# ----------------------------------------------------------------------------- B: elections


def test_b1_partial_partition_does_not_depose_the_leader():
    """Only 1 (the leader) and 3 do not hear each other; 2 hears both."""
    network = Network([1, 2, 3], options)
    network.elect(1)
    network.cut = {(1, 3), (3, 1)}
    for _ in range(10):
        run(network, 10)
        network.propose(1, b"x")
    network.pump()
    assert network.leader() == 1
    assert network[1].status().term == 1
    assert len(network.acknowledged) == 10


def test_b2_a_deaf_leader_gives_way():
    """The leader is heard but hears nobody: check-quorum makes it step down."""
    network = Network([1, 2, 3], options)
    network.elect(1)
    network.cut = {(2, 1), (3, 1)}
    run(network, 60)
    assert network.leader() in (2, 3)
    assert network.propose(network.leader(), b"x")
    network.pump()
    assert network.acknowledged


def test_b3_a_high_term_and_a_short_log_do_not_deadlock():
    network = Network([1, 2, 3], partial(options, pre_vote=True))
    network.elect(1)
    network.isolate(3)
    network.propose(1, b"x")
    network.pump()
    disk = network.hosts[3].disk
    network.crash(3)
    disk.hard_state = type(disk.hard_state)(Term(11), NodeId(0), LogIndex(0))
    network.invariants.durable_terms[3] = 11
    network.restart(3)
    network.heal()
    run(network, 60)
    leader = network.leader()
    assert leader in (1, 2)
    assert network[leader].status().term == 12  # one bump
    assert {network[n].status().commit for n in (1, 2, 3)} == {3}


def test_b4_a_node_that_was_away_does_not_disturb():
    network = Network([1, 2, 3], options)
    network.elect(1)
    for _ in range(20):
        network.isolate(3)
        run(network, 30)
        network.heal()
        run(network, 5)
    assert (network.leader(), network[1].status().term) == (1, 1)


def test_b5_the_only_connected_node_becomes_leader():
    """Quorum loss around one hub: 3 hears everybody, the others only 3, and the leader is cut."""
    network = Network([1, 2, 3, 4, 5], options)
    network.elect(1)
    network.cut = {(a, b) for a in network.hosts for b in network.hosts if 3 not in (a, b)}
    run(network, 120)
    assert network.leader() == 3
    assert network.propose(3, b"x")
    network.pump()
    assert network.acknowledged


def test_b10_timeouts_are_drawn_anew_for_every_campaign():
    """Equal timeouts in one round do not mean equal ones in the next."""
    network = Network([1, 2, 3, 4], partial(options, pre_vote=False))
    run(network, 200)
    assert network.leader() is not None
    drawn: list[int] = []

    def draw(term: int) -> int:
        drawn.append(10 + len(drawn) % 3)
        return drawn[-1]

    solo = Solo(election_timeout=draw, pre_vote=True)
    solo.tick(60)
    assert drawn[:6] == [10, 11, 12, 10, 11, 12]


# --------------------------------------------------------------------------------- C: reads


def test_c1_an_answer_to_an_earlier_round_confirms_no_later_read():
    """A retry under the same context would be answered by old heartbeats: rounds are never
    re-used, and a read that joins later waits for a round of its own."""
    solo = Solo()
    solo.lead()
    first = solo.raft.read_index()
    solo.drain()
    solo.raft.propose([b"x"])
    solo.drain()
    solo.receive(3, AppendResponse(LogIndex(2)))
    solo.tick(2)  # round 1 is sent again by the regular heartbeat
    second = solo.raft.read_index()
    solo.drain()
    solo.receive(2, HeartbeatResponse(1))
    assert solo.reads == [(first, 1)]
    solo.receive(3, HeartbeatResponse(1))
    assert solo.reads == [(first, 1)]
    solo.receive(3, HeartbeatResponse(2))
    assert solo.reads == [(first, 1), (second, 2)]


def test_c1_read_ids_are_unique_and_increase_over_restarts():
    ids: list[int] = []
    for incarnation in range(1, 4):
        solo = Solo(node=2, incarnation=incarnation)
        solo.receive(1, Heartbeat(LogIndex(0)), term=1)
        ids += [solo.raft.read_index() for _ in range(3)]
        # An answer to a read of an earlier life finds nobody.
        solo.receive(1, ReadIndexResponse(ids[0], LogIndex(5)))
        assert solo.reads == [] or incarnation == 1
    assert ids == sorted(set(ids))


def test_c2_a_read_waits_for_the_first_commit_of_the_term():
    solo = Solo(hard_state=(1, 0, 1), entries=log_of(1))
    solo.lead(acknowledge=False)
    solo.receive(2, ReadIndexRequest(5))
    solo.tick(2)
    assert not bodies(solo.receive(2, HeartbeatResponse(0)), ReadIndexResponse)
    solo.receive(2, AppendResponse(LogIndex(2)))
    messages = solo.receive(3, HeartbeatResponse(1))
    assert to(messages, 2) == [ReadIndexResponse(5, LogIndex(2))]


def test_c3_after_a_transfer_the_old_leader_answers_nothing():
    network = Network([1, 2, 3])
    network.elect(1)
    network[1].transfer(NodeId(2))
    network._settle(1)
    network.cut = {(2, 1), (3, 1)}  # it does not hear that it was replaced
    network.pump()
    network.propose(2, b"x")
    network.pump()
    assert network.acknowledged
    assert network.is_leader(1)
    read_id = network.read(1)
    network.tick(1, 4)
    network.pump()
    assert read_id in network.hosts[1].read_floors


def test_c5_a_read_on_a_replica_waits_until_it_has_applied():
    network = Network([1, 2, 3])
    network.elect(1)
    network.propose(1, b"x")
    network.pump()
    network.cut = {(1, 2)}
    network.propose(1, b"y")
    network.pump()
    network.heal()
    read_id = network.read(2)
    network.persist(2, 9)
    while network.wire:
        network.deliver(network.wire.popleft())
        for node in (1, 3):
            network.persist(node, 9)
            network.apply(node)
    ready = dict(network.hosts[2].ready_reads)
    assert ready == {read_id: 3}
    network.apply(2)
    assert read_id in network.hosts[2].read_floors  # it has applied 2 only
    network.tick(1, 2)
    network.pump()
    assert read_id not in network.hosts[2].read_floors


def test_c6_a_duplicated_request_is_answered_without_harm():
    network = Network([1, 2, 3])
    network.elect(1)
    network.read(2)
    requests = list(network.wire)
    network.wire.extend(requests)
    network.pump()
    network.wire.extend(requests)
    network.pump()
    assert not network.hosts[2].read_floors

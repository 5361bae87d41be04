"""Streams of appends: bounds, back-off, batching, and what is told to the host when."""

import pytest

from balsadb.errors import Corruption, Overloaded
from balsadb.raft import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Members,
    Raft,
    RaftOptions,
    RaftState,
)
from balsadb.raft.log import ENTRY_OVERHEAD_BYTES
from balsadb.types import ENTRY_MEMBERS, Entry, HardState, LogIndex, NodeId, Term
from tests.raft.network import Network
from tests.raft.solo import Solo, bodies, entries_at, log_of, meta, to


def lengths(messages, target: int = 2) -> list[int]:
    """How many entries each append to the target has."""
    return [len(body.entries) for body in to(messages, target) if isinstance(body, AppendRequest)]


def test_proposals_between_two_readies_share_one_append():
    solo = Solo()
    solo.lead()
    for k in range(10):
        solo.raft.propose([b"%d" % k])
    ready = solo.take()
    assert lengths(ready.messages) == [10]
    assert len(ready.entries) == 10


def test_propose_is_all_or_nothing_and_numbers_each():
    solo = Solo()
    solo.lead()
    assert solo.raft.propose([b"a", b"b", b"c"]) == [(2, 1), (3, 1), (4, 1)]
    assert solo.raft.propose([]) == []


def test_entries_of_kind_members_pass_through():
    solo = Solo((1,))
    solo.lead()
    solo.raft.propose([b"disk"], ENTRY_MEMBERS)
    solo.drain()
    assert (solo.committed[-1].kind, solo.committed[-1].data) == (ENTRY_MEMBERS, b"disk")
    assert solo.raft.members == Members.of([1])


def test_appends_are_split_by_bytes_and_pipelined():
    solo = Solo(message_bytes_max=2 * (10 + ENTRY_OVERHEAD_BYTES))
    solo.lead()
    solo.raft.propose([bytes(10)] * 7)
    assert lengths(solo.drain()) == [2, 2, 2, 1]


def test_an_entry_over_the_message_limit_travels_alone():
    solo = Solo(message_bytes_max=10)
    solo.lead()
    solo.raft.propose([bytes(1000), b"", b""])
    assert lengths(solo.drain()) == [1, 1, 1]


def test_inflight_messages_are_bounded_and_freed_by_answers():
    solo = Solo(message_bytes_max=1, inflight_max=3)
    solo.lead()
    solo.raft.propose([b"x"] * 10)
    assert lengths(solo.drain()) == [1, 1, 1]
    assert solo.status.peers[NodeId(2)].inflight == 3
    assert lengths(solo.receive(2, AppendResponse(LogIndex(3)))) == [1, 1]


def test_inflight_bytes_are_bounded():
    solo = Solo(message_bytes_max=1, inflight_bytes_max=2 * (100 + ENTRY_OVERHEAD_BYTES))
    solo.lead()
    solo.raft.propose([bytes(100)] * 10)
    assert lengths(solo.drain()) == [1, 1]


def test_a_full_window_recovers_from_the_loss_of_everything():
    """The window is full and all of it was lost: the answer to a regular heartbeat starts it."""
    solo = Solo(message_bytes_max=1, inflight_max=2)
    solo.lead()
    solo.raft.propose([b"x"] * 5)
    assert lengths(solo.drain()) == [1, 1]
    solo.tick(2)
    (probe,) = to(solo.receive(2, HeartbeatResponse()), 2)
    assert (probe.previous_index, probe.entries) == (3, [])
    answer = AppendResponse(LogIndex(3), True, LogIndex(1), Term(1))
    (again,) = to(solo.receive(2, answer), 2)
    assert (again.previous_index, [e.index for e in again.entries]) == (1, [2])


def test_probing_sends_one_append_per_interval():
    solo = Solo(hard_state=(1, 0, 0), entries=log_of(1, 1))
    messages = solo.lead(acknowledge=False)
    assert lengths(messages) == [1]
    solo.raft.propose([b"x"])
    assert lengths(solo.drain()) == []
    assert lengths(solo.receive(2, HeartbeatResponse())) == []  # same interval: it is on its way
    solo.tick(2)
    assert lengths(solo.receive(2, HeartbeatResponse())) == [2]
    assert lengths(solo.receive(2, HeartbeatResponse())) == []


def test_heartbeat_resp_recovers_from_probing():
    solo = Solo()
    solo.lead()
    solo.raft.report_unreachable(NodeId(2))
    assert solo.status.peers[NodeId(2)].state == "probe"
    solo.tick(2)
    (append,) = to(solo.receive(2, HeartbeatResponse()), 2)
    assert append == AppendRequest(LogIndex(1), Term(1), LogIndex(1), [])
    solo.receive(2, AppendResponse(LogIndex(1)))
    assert solo.status.peers[NodeId(2)].state == "replicate"


def test_unreachable_is_for_streams_only():
    solo = Solo()
    solo.lead()
    solo.raft.report_unreachable(NodeId(1))
    solo.raft.report_unreachable(NodeId(9))
    assert solo.status.peers[NodeId(1)].state == "replicate"
    Solo().raft.report_unreachable(NodeId(2))


def test_an_idle_stream_sends_no_appends():
    solo = Solo()
    solo.lead()
    solo.tick(2)
    assert not bodies(solo.receive(2, HeartbeatResponse()), AppendRequest)


def test_heartbeats_for_reads_cause_no_appends():
    solo = Solo()
    solo.lead()
    solo.raft.propose([b"x"])
    solo.drain()
    for _ in range(5):
        solo.raft.read_index()
        solo.drain()
        answer = HeartbeatResponse(solo.raft._role._reads.round)
        assert not bodies(solo.receive(3, answer), AppendRequest)
    assert len(solo.reads) == 5


def test_heartbeat_commit_is_the_smaller_of_match_and_commit():
    solo = Solo((1, 2, 3))
    solo.lead()
    solo.raft.propose([b"x"])
    solo.drain()
    solo.receive(2, AppendResponse(LogIndex(2)))
    assert solo.status.commit == 2
    beats = {m.target: m.body.commit for m in solo.tick(2) if isinstance(m.body, Heartbeat)}
    assert beats == {2: 2, 3: 1}


@pytest.mark.parametrize(
    ("previous", "sent", "told", "committed"),
    [(1, 0, 3, 1), (1, 1, 4, 2), (2, 0, 4, 2), (3, 0, 2, 2), (3, 1, 9, 4), (1, 3, 3, 3)],
)
def test_a_follower_commits_what_the_leader_vouched_for_and_no_more(
    previous, sent, told, committed
):
    """Raft figure 2, AppendEntries 5 (etcd's TestHandleMsgApp): the last *new* entry is the one
    that the append ends with, not the last of the log: what lies behind it may be another's."""
    solo = Solo(node=2, hard_state=(1, 0, 0), entries=log_of(1, 1, 1))
    entries = entries_at(previous + 1, *[1] * sent)
    append = AppendRequest(LogIndex(previous), Term(1), LogIndex(told), entries)
    (answer,) = solo.receive(1, append, term=2)
    assert answer.body == AppendResponse(LogIndex(previous + sent))
    assert solo.status.commit == committed


def test_commit_is_told_at_once_with_an_empty_append():
    solo = Solo()
    solo.lead()
    solo.raft.propose([b"x"])
    solo.drain()
    messages = solo.receive(2, AppendResponse(LogIndex(2)))
    assert [b.commit for b in to(messages, 2)] == [2]
    assert [b.commit for b in to(messages, 3)] == [2]
    assert lengths(messages) == [0]


def test_old_messages_after_a_new_commit_are_answered_with_it():
    solo = Solo(hard_state=(1, 0, 3), entries=log_of(1, 1, 1))
    (answer,) = solo.receive(2, AppendRequest(LogIndex(1), Term(1), LogIndex(1), []), term=1)
    assert answer.body == AppendResponse(LogIndex(3))


def test_fast_log_rejection():
    """The leader skips what the follower's hint rules out, and the follower hints by term."""
    follower = Solo(node=2, hard_state=(4, 0, 0), entries=log_of(1, 2, 2, 4, 4, 4, 4))
    leader = Solo(hard_state=(5, 0, 0), entries=log_of(1, 2, 2, 3, 3, 5, 5, 5))
    (request,) = to(leader.lead(acknowledge=False), 2)[-1:]
    (answer,) = follower.receive(1, request, term=6)
    assert (answer.body.hint_index, answer.body.hint_term) == (7, 4)
    (request,) = to(leader.receive(2, answer.body), 2)
    # No entry of the leader after 5 has a term up to 4.
    assert request.previous_index == 5
    (answer,) = follower.receive(1, request, term=6)
    assert (answer.body.hint_index, answer.body.hint_term) == (3, 2)
    (request,) = to(leader.receive(2, answer.body), 2)
    (answer,) = follower.receive(1, request, term=6)
    assert answer.body == AppendResponse(LogIndex(9))


def test_log_replication_with_reordered_messages():
    network = Network([1, 2, 3])
    network.elect(1)
    for k in range(5):
        network.propose(1, b"%d" % k)
    network.wire = type(network.wire)(reversed(network.wire))
    for _ in range(4):
        network.pump()
        network.tick(1, 2)
    network.pump()
    assert {network[n].status().commit for n in (1, 2, 3)} == {6}


# ----------------------------------------------------------------------------------- limits


def test_uncommitted_entry_limit():
    size = 100 + ENTRY_OVERHEAD_BYTES
    solo = Solo(uncommitted_bytes_max=3 * size)
    solo.lead()
    for _ in range(3):
        solo.raft.propose([bytes(100)])
    with pytest.raises(Overloaded):
        solo.raft.propose([bytes(100)])
    assert solo.status.uncommitted_bytes == 3 * size
    solo.drain()
    solo.receive(2, AppendResponse(LogIndex(2)))
    solo.raft.propose([bytes(100)])


def test_uncommitted_limit_lets_one_large_proposal_pass():
    solo = Solo(uncommitted_bytes_max=10)
    solo.lead()
    solo.raft.propose([bytes(1000)])
    with pytest.raises(Overloaded):
        solo.raft.propose([b""])


def test_bounded_log_growth_with_partition():
    network = Network(
        [1, 2, 3],
        lambda node, incarnation: RaftOptions(
            node=NodeId(node),
            election_timeout=lambda term: 15,
            check_quorum=False,
            uncommitted_bytes_max=1000,
        ),
    )
    network.elect(1)
    network.isolate(1)
    accepted = sum(bool(network.propose(1, bytes(50))) for _ in range(100))
    assert accepted == 1000 // (50 + ENTRY_OVERHEAD_BYTES)
    assert network[1].status().log_bytes < 1200


def test_committed_entries_are_paged_and_wait_for_apply():
    size = 100 + ENTRY_OVERHEAD_BYTES
    solo = Solo((1,), committed_bytes_max=2 * size)
    solo.lead()
    solo.raft.propose([bytes(100)] * 5)
    ready = solo.take()
    solo.raft.on_persisted(ready.number)
    pages = [solo.take(), solo.take()]
    assert [len(page.committed) for page in pages] == [2, 0]
    assert not solo.raft.has_ready()
    solo.raft.on_applied(pages[0].committed[0].index)
    assert [e.index for e in solo.take().committed] == [4]


def test_committed_entries_are_paged_after_restart():
    solo = Solo((1,), hard_state=(1, 1, 3), entries=log_of(1, 1, 1), committed_bytes_max=1)
    pages = []
    while solo.raft.has_ready():
        pages.append(solo.take())
        solo.finish(pages[-1])
    assert [[e.index for e in page.committed] for page in pages] == [[1], [2], [3]]


# ------------------------------------------------------------------------- asynchronous disk


def test_own_entries_count_only_once_durable():
    solo = Solo((1,))
    solo.lead()
    solo.raft.propose([b"x"])
    ready = solo.take()
    assert (solo.status.commit, ready.committed) == (1, [])
    solo.raft.on_persisted(ready.number)
    assert solo.status.commit == 2


def test_a_majority_of_others_commits_without_the_own_disk_but_applies_after_it():
    solo = Solo()
    solo.lead()
    solo.raft.propose([b"x"])
    ready = solo.take()
    solo.step(2, AppendResponse(LogIndex(2)))
    solo.step(3, AppendResponse(LogIndex(2)))
    assert solo.status.commit == 2
    assert solo.take().committed == []
    solo.raft.on_persisted(ready.number)
    assert [e.data for e in solo.take().committed] == [b"x"]


def test_answers_to_appends_wait_for_the_disk_and_heartbeat_answers_do_not():
    solo = Solo(node=2)
    solo.receive(1, Heartbeat(LogIndex(0)), term=1)
    solo.step(1, AppendRequest(LogIndex(0), Term(0), LogIndex(0), entries_at(1, 1)))
    solo.step(1, Heartbeat(LogIndex(0), 4))
    ready = solo.take()
    assert bodies(ready.messages) == [HeartbeatResponse(4)]
    assert bodies(ready.messages_after_persist) == [AppendResponse(LogIndex(1))]


def test_nothing_of_a_new_term_leaves_before_the_term_is_durable():
    solo = Solo(node=2)
    solo.step(1, Heartbeat(LogIndex(0)), term=3)
    ready = solo.take()
    assert (ready.messages, ready.must_sync) == ([], True)
    assert bodies(ready.messages_after_persist) == [HeartbeatResponse(0)]


def test_the_leaders_appends_leave_before_its_own_fsync():
    solo = Solo()
    solo.lead()
    solo.raft.propose([b"x"])
    ready = solo.take()
    assert lengths(ready.messages) == [1]
    assert ready.messages_after_persist == []
    assert ready.must_sync


def test_several_readies_may_be_on_their_way_and_complete_together():
    solo = Solo()
    solo.lead()
    readies = []
    for k in range(3):
        solo.raft.propose([b"%d" % k])
        readies.append(solo.take())
    assert [[e.index for e in r.entries] for r in readies] == [[2], [3], [4]]
    solo.raft.on_persisted(readies[2].number)
    assert solo.status.peers[NodeId(1)].match == 4
    solo.raft.on_persisted(readies[0].number)  # known already: no effect
    assert solo.status.peers[NodeId(1)].match == 4


def test_must_sync_is_not_asked_for_a_commit_index_alone():
    solo = Solo(node=2)
    solo.receive(1, AppendRequest(LogIndex(0), Term(0), LogIndex(0), entries_at(1, 1)), term=1)
    solo.step(1, Heartbeat(LogIndex(1)))
    ready = solo.take()
    assert ready.hard_state == HardState(Term(1), NodeId(0), LogIndex(1))
    assert not ready.must_sync


def test_ready_is_empty_when_nothing_happened():
    solo = Solo()
    assert not solo.raft.has_ready()
    solo.tick(1)
    assert not solo.raft.has_ready()


def test_on_persisted_of_a_ready_never_handed_out_is_refused():
    with pytest.raises(AssertionError, match="never handed out"):
        Solo().raft.on_persisted(5)


# ---------------------------------------------------------------------------------- restart


def start(**state) -> Raft:
    options = RaftOptions(node=NodeId(1), election_timeout=lambda term: 15)
    return Raft(options, RaftState(members=Members.of([1, 2, 3]), **state))


def test_restart_from_a_log():
    raft = start(hard_state=HardState(Term(3), NodeId(2), LogIndex(2)), entries=log_of(1, 2, 3))
    status = raft.status()
    assert (status.term, status.vote, status.commit, status.last_index) == (3, 2, 2, 3)
    ready = raft.ready()
    assert ready.hard_state is None
    assert [e.index for e in ready.committed] == [1, 2]


def test_restart_from_a_snapshot_and_a_log():
    raft = start(snapshot=meta(2, 1), entries=entries_at(3, 2, 2), applied=LogIndex(2))
    status = raft.status()
    assert (status.first_index, status.last_index, status.commit) == (3, 4, 2)
    assert not raft.ready().committed


def test_restart_with_a_log_that_begins_before_the_snapshot():
    raft = start(
        snapshot=meta(3, 1),
        hard_state=HardState(Term(1), NodeId(0), LogIndex(4)),
        entries=entries_at(2, 1, 1, 1, 1),
    )
    status = raft.status()
    assert (status.first_index, status.last_index, status.applied) == (3, 5, 3)
    assert [e.index for e in raft.ready().committed] == [4]


def test_restart_with_a_snapshot_past_the_log_drops_the_log():
    status = start(snapshot=meta(9, 3), entries=entries_at(2, 1, 1, 1)).status()
    assert (status.first_index, status.last_index, status.commit) == (10, 9, 9)
    assert status.term == 3  # a batch torn between snapshot and hard state


def test_restart_with_a_commit_index_past_a_torn_log_keeps_what_is_there():
    raft = start(hard_state=HardState(Term(1), NodeId(0), LogIndex(9)), entries=log_of(1, 1))
    assert raft.status().commit == 2


@pytest.mark.parametrize(
    "state",
    [
        {"entries": [*log_of(1), *entries_at(3, 1)]},
        {"entries": log_of(2, 1)},
        {"snapshot": meta(2, 1), "entries": entries_at(5, 1)},
        {"entries": log_of(1, 1), "applied": LogIndex(7)},
    ],
    ids=["gap", "terms decrease", "hole after the snapshot", "applied past the end"],
)
def test_restart_from_contradictions_is_refused(state):
    with pytest.raises(Corruption):
        start(**state)


def test_a_heartbeat_that_proves_lost_entries_stops_the_node():
    solo = Solo(node=2)
    with pytest.raises(Corruption, match="lost"):
        solo.receive(1, Heartbeat(LogIndex(5)), term=1)


def test_an_acknowledgement_past_the_leaders_log_stops_the_leader():
    solo = Solo()
    solo.lead()
    with pytest.raises(Corruption, match=r"node 2 holds .* up to 50, but .* ends at 1: a disk"):
        solo.receive(2, AppendResponse(LogIndex(50)))


def test_messages_of_strangers_are_ignored():
    solo = Solo()
    solo.lead()
    assert not solo.receive(9, AppendResponse(LogIndex(1)))
    assert not solo.receive(9, HeartbeatResponse())


def test_a_message_for_another_node_is_a_bug():
    solo = Solo()
    other = Solo(node=2)
    solo.raft.campaign()
    message = next(m for m in solo.drain() if m.target == 3)
    with pytest.raises(AssertionError, match="node 3"):
        other.raft.step(message)


def test_entries_are_the_same_objects_for_disk_and_peers():
    data = bytes(500)
    solo = Solo()
    solo.lead()
    solo.raft.propose([data])
    ready = solo.take()
    assert isinstance(ready.entries[0], Entry)
    sent = [entry for body in bodies(ready.messages, AppendRequest) for entry in body.entries]
    assert all(entry is ready.entries[0] for entry in sent)
    assert sent[0].data is data

"""Offers of checkpoints, compaction, and restoring."""

import pytest

from balsadb.raft import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Members,
    Message,
    SnapshotOffer,
)
from balsadb.types import LogIndex, NodeId, Term
from tests.raft.network import Network
from tests.raft.solo import Solo, bodies, entries_at, log_of, meta, to

TWO = NodeId(2)


def compacted_leader() -> Solo:
    """A leader at index 11 whose log begins at 11; node 2 has nothing and was heard."""
    solo = Solo(snapshot=meta(10, 1), hard_state=(1, 0, 10))
    solo.lead(acknowledge=False)
    solo.receive(3, AppendResponse(LogIndex(11)))
    return solo


def offered_leader() -> Solo:
    solo = compacted_leader()
    solo.receive(2, AppendResponse(LogIndex(10), True, LogIndex(0), Term(0)))
    assert solo.status.peers[TWO].state == "snapshot"
    return solo


def test_provide_snap():
    solo = compacted_leader()
    messages = solo.receive(2, AppendResponse(LogIndex(10), True, LogIndex(0), Term(0)))
    assert to(messages, 2) == [SnapshotOffer(meta(10, 1))]
    assert solo.status.peers[TWO].state == "snapshot"


def test_ignore_providing_snap_to_a_node_that_does_not_answer():
    solo = compacted_leader()
    progress = solo.raft._role.progress[TWO]
    progress.next, progress.recent_active, progress.paused = LogIndex(5), False, False
    solo.raft.propose([b"x"])
    assert to(solo.drain(), 2) == []


def test_nothing_else_is_sent_while_a_snapshot_is_under_way():
    solo = offered_leader()
    solo.raft.propose([b"x"])
    assert to(solo.drain(), 2) == []
    assert [type(b) for b in to(solo.tick(2), 2)] == [Heartbeat]


def test_an_offer_is_repeated_until_it_is_answered():
    """Neither a lost offer nor a follower that forgot it needs a report."""
    solo = offered_leader()
    solo.raft.on_applied(LogIndex(11))
    solo.raft.set_snapshot(meta(11, 2))
    solo.tick(2)
    assert not bodies(solo.receive(2, HeartbeatResponse()), SnapshotOffer)
    solo.receive(3, HeartbeatResponse())
    solo.tick(8)
    assert bodies(solo.receive(2, HeartbeatResponse()), SnapshotOffer) == [
        SnapshotOffer(meta(11, 2))
    ]
    assert not bodies(solo.receive(2, HeartbeatResponse()), SnapshotOffer)


def test_snapshot_failure():
    solo = offered_leader()
    solo.raft.report_snapshot(TWO, ok=False)
    peer = solo.status.peers[TWO]
    assert (peer.state, peer.next) == ("probe", 1)
    solo.tick(2)
    assert bodies(solo.receive(2, HeartbeatResponse()), SnapshotOffer)


def test_snapshot_succeed():
    solo = offered_leader()
    solo.raft.report_snapshot(TWO, ok=True)
    peer = solo.status.peers[TWO]
    assert (peer.state, peer.next) == ("probe", 11)


def test_snapshot_succeed_via_app_resp():
    solo = offered_leader()
    messages = solo.receive(2, AppendResponse(LogIndex(10)))
    (append,) = to(messages, 2)
    assert (append.previous_index, len(append.entries)) == (10, 1)
    assert solo.status.peers[TWO].state == "replicate"


def test_snapshot_succeed_via_app_resp_behind():
    """The follower is still behind the log's beginning: it gets another offer."""
    solo = offered_leader()
    assert not to(solo.receive(2, AppendResponse(LogIndex(5))), 2)
    assert (solo.status.peers[TWO].state, solo.status.peers[TWO].match) == ("snapshot", 5)
    solo.receive(3, HeartbeatResponse())
    solo.tick(10)
    assert bodies(solo.receive(2, HeartbeatResponse()), SnapshotOffer)


def test_snapshot_abort_by_an_ordinary_answer():
    """A follower that had the entries after all goes on as usual."""
    solo = offered_leader()
    solo.receive(2, AppendResponse(LogIndex(11)))
    peer = solo.status.peers[TWO]
    assert (peer.state, peer.match, peer.next) == ("replicate", 11, 12)


# --------------------------------------------------------------------------------- follower


def offer(solo: Solo, index: int, term: int, at: int = 3) -> list[Message]:
    return solo.receive(1, SnapshotOffer(meta(index, term, 1, 2, 4)), term=at)


def test_restore():
    solo = Solo(node=2, hard_state=(1, 0, 0), entries=log_of(1))
    messages = offer(solo, 10, 2)
    assert bodies(messages) == [AppendResponse(LogIndex(10))]
    ready = next(r for r in solo.readies if r.snapshot is not None)
    assert ready.must_sync
    assert ready.messages == []
    assert solo.raft.members == Members.of([1, 2, 4])
    status = solo.status
    assert (status.commit, status.applied, status.first_index, status.last_index) == (
        10,
        10,
        11,
        10,
    )


def test_entries_after_a_snapshot_come_in_the_same_batch_and_apply_after_it():
    solo = Solo(node=2)
    solo.step(1, SnapshotOffer(meta(10, 2)), term=3)
    solo.step(1, AppendRequest(LogIndex(10), Term(2), LogIndex(11), entries_at(11, 3)), term=3)
    ready = solo.take()
    assert ready.snapshot == meta(10, 2)
    assert [e.index for e in ready.entries] == [11]
    assert ready.committed == []
    solo.finish(ready)
    assert [e.index for e in solo.take().committed] == [11]


def test_restore_ignore_snapshot_of_what_is_committed():
    solo = Solo(node=2, hard_state=(1, 0, 3), entries=log_of(1, 1, 1))
    messages = offer(solo, 2, 1)
    assert bodies(messages) == [AppendResponse(LogIndex(3))]
    assert all(ready.snapshot is None for ready in solo.readies)
    assert solo.log == [(1, 1), (2, 1), (3, 1)]


def test_a_snapshot_of_entries_that_are_here_only_commits_them():
    solo = Solo(node=2, hard_state=(1, 0, 0), entries=log_of(1, 1, 1))
    assert bodies(offer(solo, 2, 1)) == [AppendResponse(LogIndex(2))]
    assert solo.status.commit == 2
    assert solo.log == [(1, 1), (2, 1), (3, 1)]


def test_needs_snapshot_says_whether_a_checkpoint_must_be_fetched():
    solo = Solo(node=2, hard_state=(3, 0, 1), entries=log_of(1, 1, 1))

    def needs(index: int, term: int, at: int = 3) -> bool:
        body = SnapshotOffer(meta(index, term))
        return solo.raft.needs_snapshot(Message(NodeId(1), TWO, Term(at), body))

    assert needs(9, 2)
    assert needs(3, 2)
    assert not needs(1, 1)
    assert not needs(3, 1)
    assert not needs(9, 2, at=2)
    beat = Message(NodeId(1), TWO, Term(3), Heartbeat(LogIndex(0)))
    assert not solo.raft.needs_snapshot(beat)


def test_a_write_outstanding_when_a_snapshot_came_proves_nothing_after_it():
    solo = Solo(node=2)
    solo.step(1, AppendRequest(LogIndex(0), Term(0), LogIndex(0), entries_at(1, *[1] * 9)), term=1)
    before = solo.take()
    solo.step(3, SnapshotOffer(meta(5, 2)), term=2)
    solo.step(3, AppendRequest(LogIndex(5), Term(2), LogIndex(0), entries_at(6, 2, 2)), term=2)
    after = solo.take()
    solo.raft.on_persisted(before.number)
    assert solo.status.persisted == 5
    solo.raft.on_persisted(after.number)
    assert solo.status.persisted == 7


# ------------------------------------------------------------------------------- compaction


def test_compaction_never_passes_the_newest_checkpoint():
    solo = Solo((1,))
    solo.lead()
    solo.raft.propose([b"a", b"b"])
    solo.drain()
    assert solo.raft.compact(LogIndex(3)) == 0  # no checkpoint at all
    solo.raft.set_snapshot(meta(2, 1, 1))
    assert solo.raft.compact(LogIndex(3)) == 2
    assert solo.log == [(3, 1)]
    solo.raft.set_snapshot(meta(1, 1, 1))  # an older one is ignored
    assert solo.raft.compact(LogIndex(1)) == 2
    with pytest.raises(AssertionError, match="not applied"):
        solo.raft.set_snapshot(meta(9, 1, 1))


def test_a_follower_whose_log_is_gone_everywhere_gets_a_snapshot():
    network = Network([1, 2, 3])
    network.elect(1)
    network.isolate(3)
    for k in range(10):
        network.propose(1, b"%d" % k)
        network.pump()
    for node in (1, 2):
        network.checkpoint(node)
    assert network[1].status().first_index == 12
    network.heal()
    for _ in range(4):
        network.tick(1, 2)
        network.pump()
    assert network.installs == 1
    assert network[3].status().applied == 11
    network.propose(1, b"after")
    network.pump()
    assert network[3].status().applied == 12


def test_slow_follower_after_compaction():
    """The log's tail that compaction keeps serves a follower that is only a little behind."""
    network = Network([1, 2, 3])
    network.elect(1)
    network.cut = {(1, 3)}
    network.propose(1, b"a", b"b")
    network.pump()
    network.checkpoint(1, keep=2)
    network.heal()
    for _ in range(3):
        network.tick(1, 2)
        network.pump()
    assert network.installs == 0
    assert network[3].status().applied == 3


def test_a_crash_before_the_snapshot_is_durable_leaves_the_old_state():
    network = Network([1, 2, 3])
    network.elect(1)
    network.isolate(3)
    network.propose(1, b"a", b"b")
    network.pump()
    network.checkpoint(1)
    network.heal()
    offers: list[Message] = []

    def catch(message: Message) -> bool:
        if isinstance(message.body, SnapshotOffer):
            offers.append(message)
        return isinstance(message.body, SnapshotOffer)

    network.drop = catch
    for _ in range(3):
        network.tick(1, 2)
        network.pump()
    network.drop = lambda message: False
    assert network.fetch(offers[0])
    network.deliver(offers[0])
    assert network.hosts[3].disk.snapshot is None
    assert network.hosts[3].unpersisted[0].snapshot is not None
    network.crash(3)
    network.restart(3)
    assert network[3].status().last_index == 1
    for _ in range(8):
        network.tick(1, 2)
        network.pump()
    assert network[3].status().applied == 3


def test_a_restored_node_restarts_from_the_snapshot():
    network = Network([1, 2, 3])
    network.elect(1)
    network.isolate(3)
    network.propose(1, b"a", b"b")
    network.pump()
    network.checkpoint(1)
    network.heal()
    for _ in range(4):
        network.tick(1, 2)
        network.pump()
    network.crash(3)
    network.restart(3)
    status = network[3].status()
    assert (status.applied, status.commit, status.first_index) == (3, 3, 4)

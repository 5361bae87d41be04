"""Disks that fill up or hang, as a driver sees them: figures are fed by hand."""

import itertools
from typing import Any

import pytest

from balsadb.cluster.checkpointer import Checkpointer
from balsadb.cluster.disk_watch import FORGET_TICKS, SMALL_BATCH_BYTES, TELL_TICKS, DiskWatch
from balsadb.cluster.effects import CheckpointJob, CollectJob, Committed, Failed
from balsadb.cluster.frames import DiskTrouble, Packet
from balsadb.cluster.options import DriverOptions
from balsadb.cluster.performers import JobRunner, perform_wal
from balsadb.errors import DiskFull
from balsadb.raft import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Members,
    Message,
    TimeoutNow,
    VoteResponse,
)
from balsadb.types import ClusterId, DiskId, Entry, GroupId, LogIndex, NodeId, Term
from tests.simulation.register import Command, encode_command
from tests.unit.cluster.test_driver import CLUSTER, Host, message

LOW, FULL = 1000, 100
LIMITS = {"disk_low_bytes": LOW, "disk_full_bytes": FULL}


def watch(**options: Any) -> DiskWatch:
    return DiskWatch(
        DriverOptions(
            node=NodeId(1), cluster=ClusterId(7), disk=DiskId(11), seed=1, **LIMITS, **options
        )
    )


def said(source: int, body: Any, term: int = 1) -> Any:
    """A frame of another node."""
    if isinstance(body, DiskTrouble):
        disk = DiskId(20 + source)
        return Packet(CLUSTER, GroupId(0), NodeId(source), NodeId(1), disk, body)
    return Message(
        NodeId(source), NodeId(1), Term(term), body, CLUSTER, source_disk=DiskId(20 + source)
    )


def lead_three(**options: Any) -> Host:
    """Node 1 leads nodes 2 and 3, which acknowledge what it asks of them."""
    host = Host(voters=3, **LIMITS, **options)
    while not host.driver.is_leader:
        host.driver.tick()
        host.settle()
        term = host.driver.raft.status().term
        for node in (2, 3):
            host.driver.receive(said(node, VoteResponse(pre_vote=True), term + 1))
            host.settle()
        host.driver.receive(said(2, VoteResponse(), host.driver.raft.status().term))
        host.settle()
    acknowledge(host)
    host.settle()
    assert host.driver.is_caught_up
    return host


def acknowledge(host: Host, *nodes: int) -> None:
    """Followers have the log, and are heard."""
    status = host.driver.raft.status()
    for node in nodes or (2, 3):
        host.driver.receive(said(node, AppendResponse(status.last_index), status.term))
    host.settle()


def fate(host: Host, token: int, **options: Any) -> Any:
    host.write(token, **options)
    host.settle()
    acknowledge(host)
    answer = host.answers[token]
    return answer.error if isinstance(answer, Failed) else answer


def test_space_has_two_thresholds_and_does_not_flap() -> None:
    disk = watch()
    steps = [
        (LOW, "enough"),
        (LOW - 1, "low"),
        (LOW + LOW // 8 - 1, "low"),
        (LOW + LOW // 8, "enough"),
        (FULL - 1, "full"),
        (FULL + FULL // 8 - 1, "full"),
        (FULL + FULL // 8, "low"),
        (10 * LOW, "enough"),
    ]
    for free, space in steps:
        disk.measured(free)
        assert disk.space == space, free


def test_zero_watches_nothing() -> None:
    options = DriverOptions(
        node=NodeId(1),
        cluster=ClusterId(7),
        disk=DiskId(11),
        seed=1,
        disk_low_bytes=0,
        disk_full_bytes=0,
    )
    disk = DiskWatch(options)
    disk.measured(0)
    assert disk.space == "enough"
    assert disk.refusal(Members.of([1])) is None


def test_a_full_leader_refuses_what_grows_and_serves_the_rest() -> None:
    host = Host(**LIMITS, place="/data/one")
    host.lead()
    host.driver.disk_space(LOW - 1)
    last = host.driver.raft.status().last_index
    error = fate(host, 1)
    assert isinstance(error, DiskFull)
    assert (error.code, error.outcome, error.retryable) == ("disk_full", "failed", True)
    for words in ("node 1", "/data/one", "0.0 MiB free", "delete points"):
        assert words in error.message
    assert host.driver.raft.status().last_index == last
    for free in (LOW - 1, FULL - 1, 0):
        host.driver.disk_space(free)
        assert isinstance(fate(host, 100 + free, grows=False), Committed)
    host.driver.read(2, deadline_ticks=10)
    host.settle()
    assert not isinstance(host.answers[2], Failed)
    host.driver.disk_space(2 * LOW)
    assert isinstance(fate(host, 3), Committed)


def test_writes_need_a_majority_with_space() -> None:
    host = lead_three()
    low = DiskTrouble("low", 77 << 20, stalled=False)
    assert isinstance(fate(host, 1), Committed)
    host.driver.receive(said(2, low))
    assert isinstance(fate(host, 2), Committed), "one of three does not stop the others"
    host.driver.receive(said(3, low))
    error = fate(host, 3)
    assert isinstance(error, DiskFull)
    assert "node 2 (77.0 MiB), node 3 (77.0 MiB)" in error.message
    assert isinstance(fate(host, 4, grows=False), Committed)
    for _ in range(FORGET_TICKS):
        host.driver.tick()
        acknowledge(host)
    assert isinstance(fate(host, 5), Committed), "what is not repeated is over"


def test_a_follower_that_is_gone_does_not_count_as_one_with_space() -> None:
    host = lead_three()
    for _ in range(25):  # node 3 is silent, and node 2 has no room
        host.driver.tick()
        acknowledge(host, 2)
        host.driver.receive(said(2, DiskTrouble("full", 5, stalled=False)))
    assert host.driver.is_leader
    assert isinstance(fate(host, 1), DiskFull)


def test_a_joint_change_needs_space_in_both_halves() -> None:
    disk = watch()
    for node in (2, 3, 4, 5):
        disk.heard(NodeId(node))
    members = Members.of([1, 2, 3], outgoing=[1, 4, 5])
    for node in (4, 5):
        assert disk.refusal(members) is None
        disk.told(NodeId(node), DiskTrouble("low", 1, stalled=False))
    assert disk.refusal(members) is not None
    assert disk.refusal(Members.of([1, 2, 3], learners=[4, 5])) is None


def test_a_node_in_trouble_says_so_again_and_again() -> None:
    host = Host(voters=3, **LIMITS, election_ticks=1000)
    host.driver.receive(message(Heartbeat(LogIndex(0))))

    def told(ticks: int) -> list[tuple[int, Any]]:
        host.sent.clear()
        for _ in range(ticks):
            host.driver.tick()
            host.settle()
        packets = [(to, frame.body) for _, to, frame in host.sent if isinstance(frame, Packet)]
        assert {lane for lane, _, frame in host.sent if isinstance(frame, Packet)} <= {"control"}
        return packets

    assert told(3 * TELL_TICKS) == []
    host.driver.disk_space(FULL - 1)
    trouble = DiskTrouble("full", FULL - 1, stalled=False)
    assert told(2 * TELL_TICKS) == 2 * [(2, trouble), (3, trouble)]
    host.driver.disk_space(2 * LOW)
    assert told(3 * TELL_TICKS) == []


def test_a_full_follower_takes_small_batches_only() -> None:
    host = Host(voters=3, **LIMITS)

    def append(index: int, size: int) -> int:
        data = encode_command(Command(0, index, 0, index, bytes(size)))
        entry = Entry(LogIndex(index), Term(1), 0, data)
        body = AppendRequest(LogIndex(index - 1), Term(index > 1), LogIndex(0), [entry])
        host.driver.receive(message(body))
        host.settle()
        return host.driver.raft.status().last_index

    large = SMALL_BATCH_BYTES + 1
    assert append(1, large) == 1
    host.driver.disk_space(FULL - 1)
    assert append(2, large) == 1
    assert append(2, 100) == 2
    host.driver.receive(message(AppendRequest(LogIndex(2), Term(1), LogIndex(2), [])))
    host.settle()
    assert host.driver.raft.status().commit == 2, "what carries no entries is heard"
    host.driver.disk_space(2 * LOW)
    assert append(3, large) == 3


def test_a_leader_short_of_space_hands_over_to_one_that_has_it() -> None:
    host = lead_three(heartbeat_ticks=1)
    host.driver.receive(said(2, DiskTrouble("low", 5, stalled=False)))
    host.driver.disk_space(LOW - 1)
    host.driver.tick()
    acknowledge(host)
    asked = [to for _, to, frame in host.sent if isinstance(frame.body, TimeoutNow)]
    assert asked == [3]


def test_a_leader_short_of_space_stays_if_nobody_has_more() -> None:
    host = lead_three()
    for _ in range(30):
        for node in (2, 3):
            host.driver.receive(said(node, DiskTrouble("low", 5, stalled=False)))
        host.driver.disk_space(LOW - 1)
        host.driver.tick()
        acknowledge(host)
    assert host.driver.is_leader
    assert host.driver.raft.status().transferee == 0
    assert isinstance(fate(host, 9, grows=False), Committed)


# --- checkpoints -----------------------------------------------------------------------------


def test_while_space_is_low_checkpoints_hurry_and_one_is_kept() -> None:
    host = Host(**LIMITS, hurried_checkpoint_ticks=5)
    host.lead()
    runner = JobRunner(host.boot.store, host.boot.applier)
    collected: list[int] = []

    def run(ticks: int) -> None:
        for _ in range(ticks):
            host.driver.tick()
            while effects := host.take():
                for work in effects.wal:
                    perform_wal(host.boot.wal, work)
                    host.driver.wal_done(work.number)
                for piece in effects.apply:
                    host.driver.apply_done(host.boot.applier.perform(piece))
                for job in effects.jobs:
                    if isinstance(job, CollectJob):
                        collected.append(job.keep)
                    host.driver.job_done(job.job_id, runner.perform(job))

    run(3)
    assert host.boot.store.newest() is None
    host.driver.disk_space(LOW - 1)
    run(20)
    newest = host.boot.store.newest()
    assert newest is not None
    assert newest.index == host.driver.applied
    written = host.driver.status()["checkpoint"]["written"]
    run(20)
    assert host.driver.status()["checkpoint"]["written"] == written, "nothing new, no checkpoint"
    host.write(1, grows=False)
    run(10)
    assert [one.index for one in host.boot.store.manifests()] == [host.driver.applied]
    assert set(collected) == {1}


def test_a_checkpoint_without_room_is_no_end_and_is_tried_again() -> None:
    host = Host(**LIMITS, checkpoint_log_bytes=300, log_tail_bytes=0, hurried_checkpoint_ticks=5)
    host.lead()
    tried: list[int] = []
    for turn in range(40):
        host.driver.tick()
        host.write(turn)
        while effects := host.take():
            for work in effects.wal:
                perform_wal(host.boot.wal, work)
                host.driver.wal_done(work.number)
            for piece in effects.apply:
                host.driver.apply_done(host.boot.applier.perform(piece))
            for job in effects.jobs:
                error = DiskFull("no") if isinstance(job, CheckpointJob) else None
                if isinstance(job, CheckpointJob):
                    tried.append(turn)
                    for column in job.frozen:
                        column.release()
                host.driver.job_done(job.job_id, error)
    assert host.fatal is None
    assert len(tried) > 3
    assert min(after - before for before, after in itertools.pairwise(tried)) >= 5
    assert host.driver.status()["checkpoint"]["given_up"] == len(tried)
    assert len([token for token, one in host.answers.items() if isinstance(one, Committed)]) == 40


def test_a_checkpoint_given_up_leaves_its_log_due() -> None:
    options = watch(checkpoint_log_bytes=100)._options
    schedule = Checkpointer(options, LogIndex(0))
    schedule.applied([Entry(LogIndex(1), Term(1), 0, bytes(200))])
    before = schedule.log_bytes_since
    schedule.started(1)
    schedule.failed()
    assert schedule.log_bytes_since == before


# --- a disk that hangs -----------------------------------------------------------------------


def test_a_disk_that_is_busy_is_not_one_that_hangs() -> None:
    """Under load a sync is under way at every tick; another one each time."""
    host = lead_three(disk_stall_ticks=5)
    host.hold_wal = True
    for turn in range(50):
        host.write(turn)
        host.settle()
        host.driver.tick()
        work = host.held.pop(0)
        perform_wal(host.boot.wal, work)
        host.driver.wal_done(work.number)
        host.settle()
        acknowledge(host)
        assert host.driver.status()["disk"]["sync_ticks"] <= 1
    assert host.driver.is_leader
    assert host.driver.raft.status().transferee == 0


def test_a_hung_leader_that_cannot_hand_over_steps_down() -> None:
    host = lead_three(disk_stall_ticks=5, heartbeat_ticks=1)
    host.hold_wal = True
    host.write(1)
    host.settle()
    for tick in range(20):
        host.driver.tick()
        status = host.driver.raft.status()
        if not host.driver.is_leader:
            break
        for node in (2, 3):  # they are heard, but they do not take over
            host.driver.receive(said(node, HeartbeatResponse(), status.term))
        if host.driver.raft.status().transferee:
            acknowledge(host)
        host.settle()
        assert host.driver.status()["disk"]["stalled"] is (tick >= 5)
    host.settle()
    assert not host.driver.is_leader
    assert host.driver.status()["disk"]["stalled"]
    assert host.driver.leader == 0
    asked = [to for _, to, frame in host.sent if isinstance(frame.body, TimeoutNow)]
    assert asked, "it tried to hand over first"


def test_a_node_alone_waits_for_its_disk() -> None:
    host = Host(disk_stall_ticks=5)
    host.lead()
    host.hold_wal = True
    host.write(1)
    for _ in range(8):
        host.driver.tick()
        host.settle()
    host.driver.read(2, deadline_ticks=5)
    host.settle()
    assert host.driver.is_leader
    assert not isinstance(host.answers[2], Failed), "reads need no disk"
    host.hold_wal = False
    work = host.held.pop()
    perform_wal(host.boot.wal, work)
    host.driver.wal_done(work.number)
    host.settle()
    assert isinstance(host.answers[1], Committed)


@pytest.mark.parametrize("asked", ["by its timer", "by a leader", "by its host"])
def test_a_hung_node_does_not_campaign(asked: str) -> None:
    host = Host(voters=3, disk_stall_ticks=5)
    host.hold_wal = True
    entry = Entry(LogIndex(1), Term(1), 0, b"x")
    host.driver.receive(message(AppendRequest(LogIndex(0), Term(0), LogIndex(0), [entry])))
    host.settle()
    for _ in range(8):
        host.driver.tick()
        host.driver.receive(message(Heartbeat(LogIndex(0))))
        host.settle()
    if asked == "by a leader":
        host.driver.receive(message(TimeoutNow()))
    elif asked == "by its host":
        host.driver.peer_down(NodeId(2))
    for _ in range(60 if asked == "by its timer" else 9):
        host.driver.tick()
        host.settle()
    status = host.driver.raft.status()
    assert (status.role, status.term) == ("follower", 1)
    host.hold_wal = False
    while host.held:
        work = host.held.pop(0)
        perform_wal(host.boot.wal, work)
        host.driver.wal_done(work.number)
        host.settle()
    for _ in range(25):
        host.driver.tick()
        host.settle()
    assert host.driver.raft.status().role == "pre_candidate", "it may again"

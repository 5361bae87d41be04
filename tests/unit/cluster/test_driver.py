"""The driver fed by hand: one node, or one node of three with silent peers."""

from typing import Any

from balsadb.cluster.boot import Boot
from balsadb.cluster.driver import Driver
from balsadb.cluster.effects import (
    LANE_DISK,
    AppliedEntries,
    ApplyEntries,
    CollectJob,
    Committed,
    Effects,
    Failed,
    ReadReady,
)
from balsadb.cluster.frames import Packet, Refused, decode_frame
from balsadb.cluster.options import DriverOptions
from balsadb.cluster.performers import JobRunner, perform_wal
from balsadb.errors import DiskFailed, EmptiedDisk, NotLeader, Overloaded, QuorumLost
from balsadb.raft import AppendRequest, AppendResponse, Heartbeat, Message, VoteRequest
from balsadb.storage import WalHeader
from balsadb.types import ClusterId, DiskId, GroupId, LogIndex, NodeId, Term
from tests.simulation.disk import SimDisk
from tests.simulation.register import Command, Register, encode_command

CLUSTER = ClusterId(7)


class Host:
    """Performs WAL and apply at once unless told to hold them."""

    def __init__(self, voters: int = 1, **options: Any) -> None:
        header = WalHeader(CLUSTER, NodeId(1), DiskId(11))
        nodes = [NodeId(n) for n in range(1, voters + 1)]
        self.boot = Boot.recover(SimDisk(), header, nodes, Register)
        self.driver = Driver(
            DriverOptions(node=NodeId(1), cluster=CLUSTER, disk=DiskId(11), seed=3, **options),
            self.boot,
        )
        self.answers: dict[int, Any] = {}
        self.sent: list[tuple[str, int, Any]] = []
        self.fatal: BaseException | None = None
        self.syncs: list[int] = []
        self.hold_wal = False
        self.held: list[Any] = []

    def take(self) -> Effects:
        effects = self.driver.take()
        self.sent += [(s.lane, s.target, decode_frame(s.data)) for s in effects.sends]
        for token, answer in effects.answers:
            assert token not in self.answers, "answered once"
            self.answers[token] = answer
        self.fatal = effects.fatal or self.fatal
        return effects

    def settle(self) -> None:
        while effects := self.take():
            for work in effects.wal:
                self.held.append(work)
            while self.held and not self.hold_wal:
                work = self.held.pop(0)
                self.syncs.append(len(work.batch.entries))
                perform_wal(self.boot.wal, work)
                self.driver.wal_done(work.number)
            for piece in effects.apply:
                self.driver.apply_done(self.boot.applier.perform(piece))

    def lead(self) -> None:
        for _ in range(40):
            self.driver.tick()
            self.settle()
        assert self.driver.is_leader

    def write(self, token: int, **options: Any) -> None:
        data = encode_command(Command(0, token, token % 8, token, b""))
        self.driver.propose(token, [data], deadline_ticks=10, **options)


def message(body: Any, term: int = 1, **envelope: Any) -> Message:
    fields: dict[str, Any] = {"cluster": CLUSTER, "source_disk": DiskId(22), **envelope}
    return Message(NodeId(2), NodeId(1), Term(term), body, **fields)


def test_a_node_alone_writes_and_reads() -> None:
    host = Host()
    host.lead()
    assert host.driver.is_ready
    host.write(1)
    host.driver.read(2, deadline_ticks=10)
    host.settle()
    assert isinstance(host.answers[1], Committed)
    assert host.answers[1].results == [("set", host.answers[1].index)]
    assert isinstance(host.answers[2], ReadReady)
    status = host.driver.status()
    assert (status["role"], status["applied"]) == ("leader", status["commit"])


def test_what_arrives_during_a_sync_shares_the_next() -> None:
    host = Host()
    host.lead()
    host.hold_wal = True
    host.syncs.clear()
    host.write(1)
    host.settle()
    for token in range(2, 30):
        host.write(token)
        host.settle()
    assert len(host.held) == 1, "one sync at a time"
    host.hold_wal = False
    work = host.held.pop()
    perform_wal(host.boot.wal, work)
    host.driver.wal_done(work.number)
    host.settle()
    assert host.syncs == [28]
    assert len(host.answers) == 29


def test_a_follower_refuses_proposals_and_names_its_leader() -> None:
    host = Host(voters=3)
    host.driver.receive(message(Heartbeat(LogIndex(0))))
    host.settle()
    host.write(1)
    host.settle()
    answer = host.answers[1]
    assert isinstance(answer, Failed)
    assert isinstance(answer.error, NotLeader)
    assert answer.error.leader == 2
    assert answer.error.outcome == "failed"


def test_too_many_proposals_are_refused_before_the_log() -> None:
    host = Host(proposals_max=2)
    host.lead()
    host.hold_wal = True
    for token in range(1, 4):
        host.write(token)
    last = host.driver.raft.status().last_index
    host.settle()
    assert isinstance(host.answers[3].error, Overloaded)
    assert host.driver.raft.status().last_index == last
    host.hold_wal = False


def test_without_a_quorum_reads_fail_and_writes_are_unknown() -> None:
    host = Host(voters=3)
    host.driver.read(1, deadline_ticks=5)
    for _ in range(6):
        host.driver.tick()
        host.settle()
    assert isinstance(host.answers[1].error, QuorumLost)
    assert not host.driver.is_ready


def test_frames_of_others_are_dropped() -> None:
    host = Host(voters=3)
    for frame in (
        message(Heartbeat(LogIndex(0)), cluster=ClusterId(8)),
        message(Heartbeat(LogIndex(0)), group=GroupId(1)),
        Message(NodeId(2), NodeId(3), Term(1), Heartbeat(LogIndex(0)), CLUSTER),
    ):
        host.driver.receive(frame)
    host.settle()
    assert host.sent == []
    assert host.driver.leader == 0
    assert host.driver.admission.foreign_frames == 3


def test_a_refusal_of_this_disk_is_fatal_and_of_another_is_not() -> None:
    host = Host(voters=3)
    for disk, fatal in ((DiskId(999), False), (DiskId(11), True)):
        body = Refused(disk, "emptied")
        host.driver.receive(Packet(CLUSTER, GroupId(0), NodeId(2), NodeId(1), DiskId(22), body))
        host.settle()
        assert isinstance(host.fatal, EmptiedDisk) is fatal


def test_acknowledgements_wait_for_the_sync() -> None:
    host = Host(voters=3)
    host.hold_wal = True
    host.driver.receive(message(VoteRequest(LogIndex(0), Term(0)), term=3))
    host.settle()
    assert host.sent == []
    host.hold_wal = False
    work = host.held.pop()
    assert work.batch.hard_state.vote == 2
    host.driver.wal_done(work.number)
    host.settle()
    assert [target for _, target, _ in host.sent] == [2]
    host.hold_wal = True
    host.sent.clear()
    host.driver.receive(message(AppendRequest(LogIndex(0), Term(0), LogIndex(0), []), term=3))
    host.settle()
    answers = [one.body for _, _, one in host.sent if isinstance(one.body, AppendResponse)]
    assert len(answers) == 1, "it attests nothing that is not durable"


def test_a_failed_disk_is_fatal_and_another_error_of_a_job_is_not() -> None:
    host = Host()
    host.lead()
    results: list[Any] = []
    for error in (NotLeader(0), DiskFailed("no")):
        job_id = host.driver.start_job(
            lambda job_id: CollectJob(job_id=job_id, lane=LANE_DISK, keep=1, also=()),
            results.append,
        )
        host.driver.job_done(job_id, error)
    host.driver.take()
    assert [type(result) for result in results] == [NotLeader]


def test_apply_is_cut_into_bounded_pieces() -> None:
    host = Host(apply_entries_max=3, apply_works_max=1)
    host.lead()
    for token in range(1, 11):
        host.write(token)
    work = host.take().wal[0]
    host.driver.wal_done(work.number)
    sizes: list[int] = []
    while pieces := host.take().apply:
        [piece] = pieces
        assert isinstance(piece, ApplyEntries)
        sizes.append(len(piece.entries))
        done = host.boot.applier.perform(piece)
        assert isinstance(done, AppliedEntries)
        host.driver.apply_done(done)
    assert sizes == [3, 3, 3, 1]
    assert len(host.answers) == 10


def test_a_checkpoint_falls_between_two_entries_and_compacts_the_log() -> None:
    host = Host(checkpoint_log_bytes=500, log_tail_bytes=0, log_bytes_max=10_000)
    host.lead()
    runner = JobRunner(host.boot.store, host.boot.applier)
    for token in range(1, 30):
        host.write(token)
        while effects := host.take():
            for work in effects.wal:
                perform_wal(host.boot.wal, work)
                host.driver.wal_done(work.number)
            for piece in effects.apply:
                host.driver.apply_done(host.boot.applier.perform(piece))
            for job in effects.jobs:
                host.driver.job_done(job.job_id, runner.perform(job))
    status = host.driver.status()
    newest = host.boot.store.newest()
    assert newest is not None
    assert status["checkpoint"]["index"] == newest.index
    assert status["first_index"] == newest.index + 1
    assert len(host.boot.store.manifests()) <= 2

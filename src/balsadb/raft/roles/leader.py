"""The leader: orders proposals, streams them, counts what is durable, proves that it still leads.

Messages about entries and reads are not sent by the event that causes them but gathered in
`flush`, just before a Ready is taken: so a burst of proposals, answers and reads costs each
follower one append and one heartbeat.
"""

from collections.abc import Sequence

from balsadb.errors import REJOIN, Corruption, NotLeader, NotReady, Overloaded
from balsadb.raft.changes import MembersChange, changed, encode_change
from balsadb.raft.core import Core
from balsadb.raft.log import ENTRY_OVERHEAD_BYTES
from balsadb.raft.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
    SnapshotOffer,
    TimeoutNow,
    TransferLeader,
)
from balsadb.raft.progress import Inflights, Progress, adopt
from balsadb.raft.quorum import VoteResult, joint_commit, joint_vote
from balsadb.raft.reads import ReadRounds
from balsadb.raft.replication import Replicator
from balsadb.raft.roles.role import Follow, Role, Transition
from balsadb.types import ENTRY_CHANGE, ENTRY_NORMAL, NO_NODE, Entry, LogIndex, NodeId, Term


class Leader(Role):
    """Role-only state: each member's progress, the reads, the transfer under way."""

    name = "leader"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        log = core.log
        self.progress: dict[NodeId, Progress] = {
            node: self._make_progress(LogIndex(log.last_index + 1)) for node in core.members.nodes
        }
        self._own = self.progress[core.node]
        self._own.become_replicate()
        self._own.recent_active = True
        self._own.acknowledge(log.persisted)
        self._replicator = Replicator(core, self.progress)
        self._reads = ReadRounds(core.node)
        self._heartbeat_elapsed = 0
        self._heartbeat_due = False
        self.transferee = NO_NODE
        self._change_index = log.last_index
        """A change of members may stand at or before this index: none is proposed until it is
        applied (at first, all that was inherited may hold one)."""
        # Raft 5.4.2 and section 8: an entry of its own term lets a leader commit what it inherited.
        log.append([Entry(LogIndex(log.last_index + 1), core.term, ENTRY_NORMAL, b"")])
        self._replicator.broadcast()

    def _make_progress(self, next_index: LogIndex) -> Progress:
        options = self.core.options
        inflights = Inflights(options.inflight_max, options.inflight_bytes_max)
        return Progress(next_index, inflights)

    # ------------------------------------------------------------------------------- time

    def tick(self) -> Transition | None:
        """Heartbeats; once per election_ticks, check-quorum and the end of a stuck transfer."""
        options = self.core.options
        self.election_elapsed += 1
        self._heartbeat_elapsed += 1
        self._replicator.tick()
        if self.election_elapsed >= options.election_ticks:
            self.election_elapsed = 0
            self.transferee = NO_NODE
            if options.check_quorum and not self._quorum_is_active():
                return Follow(NO_NODE)
        if self._heartbeat_elapsed >= options.heartbeat_ticks:
            self._heartbeat_elapsed = 0
            self._heartbeat_due = True
            self._replicator.begin_interval()
        return None

    def _quorum_is_active(self) -> bool:
        """Thesis 6.2: a leader that a quorum did not answer for a whole period steps down."""
        heard = {node: progress.recent_active for node, progress in self.progress.items()}
        for progress in self.progress.values():
            progress.recent_active = progress is self._own
        return joint_vote(self.core.members, heard) is VoteResult.WON

    # -------------------------------------------------------------------------- proposals

    def propose(self, data: Sequence[bytes], kind: int) -> list[tuple[LogIndex, Term]]:
        """Append entries, all or none. Overloaded over the limit of uncommitted bytes."""
        core, log = self.core, self.core.log
        if core.node not in core.members:
            raise NotLeader(NO_NODE, "this leader was removed and waits for its successor")
        if self.transferee != NO_NODE:
            raise NotLeader(
                self.transferee, f"leadership is being handed to node {self.transferee}"
            )
        size = sum(map(len, data)) + ENTRY_OVERHEAD_BYTES * len(data)
        # A first proposal of any size passes, or it could never be made.
        if log.uncommitted_bytes and (
            log.uncommitted_bytes + size > core.options.uncommitted_bytes_max
        ):
            raise Overloaded(
                f"{log.uncommitted_bytes} bytes of proposals wait for a majority "
                f"(limit {core.options.uncommitted_bytes_max})"
            )
        return self._append(data, kind)

    def _append(self, data: Sequence[bytes], kind: int) -> list[tuple[LogIndex, Term]]:
        term, last = self.core.term, self.core.log.last_index
        entries = [
            Entry(LogIndex(index), term, kind, item) for index, item in enumerate(data, last + 1)
        ]
        self.core.log.append(entries)
        self._replicator.broadcast()
        return [(entry.index, term) for entry in entries]

    def propose_change(self, change: MembersChange) -> tuple[LogIndex, Term]:
        """Append a change of members. InvalidInput if it cannot be made of the present ones,
        NotReady while another is not applied, NotLeader during a transfer."""
        log = self.core.log
        if self._change_index > log.applied:
            raise NotReady("another change of members may be under way")
        if self.core.options.change_after_own_commit and log.term(log.commit) != self.core.term:
            raise NotReady("this leader has not committed an entry of its own term yet")
        changed(self.core.members, change)  # what is applied will be made of the same members
        [place] = self.propose([encode_change(change)], ENTRY_CHANGE)
        self._change_index = place[0]
        return place

    def on_members(self) -> Transition | None:
        """Stream to the new members, count by the new majorities. A leader that lost its vote steps
        down: it has applied that, so a majority of the others has it durably."""
        core = self.core
        fresh = LogIndex(max(core.log.last_index, 1))
        adopt(self.progress, core.members, lambda: self._newcomer(fresh))
        self._replicator.on_members()
        if core.node not in core.members:
            return Follow(NO_NODE) if core.options.step_down_on_removal else None
        self._advance_commit()
        self._answer_reads()
        if self.transferee != NO_NODE and self.transferee not in core.members:
            self.transferee = NO_NODE
        return None

    def _newcomer(self, next_index: LogIndex) -> Progress:
        """It counts as heard of, or a leader would step down for a node that had no time yet."""
        progress = self._make_progress(next_index)
        progress.recent_active = True
        return progress

    def on_applied(self) -> None:
        """A joint change that is to end by itself is ended as soon as it is applied (any leader
        does; an inherited one too)."""
        core = self.core
        if core.members.auto_leave and core.log.applied >= self._change_index:
            [(self._change_index, _)] = self._append([encode_change(MembersChange())], ENTRY_CHANGE)

    def on_persisted(self) -> None:
        """The own disk counts towards the majority like any other."""
        if self._own.acknowledge(self.core.log.persisted):
            self._advance_commit()

    def _advance_commit(self) -> None:
        """Raft 5.3 and 5.4.2: a majority holds it durably *and* it is of this term."""
        core, progress = self.core, self.progress
        index = joint_commit(core.members, lambda node: progress[node].match)
        if index > core.log.commit and core.log.term(index) == core.term:
            core.log.commit_to(index)
            self._replicator.broadcast()

    # --------------------------------------------------------------------------- messages

    def step(self, message: Message) -> Transition | None:
        """Answers of followers, and their wishes. Strangers are ignored."""
        body, source = message.body, message.source
        assert not isinstance(body, AppendRequest | Heartbeat | SnapshotOffer), (
            f"two leaders in term {self.core.term}: {self.core.node} and {source}"
        )
        if isinstance(body, TransferLeader):
            self.transfer(body.node)
            return None
        progress = self.progress.get(source)
        if progress is None:
            return None
        if isinstance(body, AppendResponse):
            progress.recent_active = True
            self._append_response(source, progress, body)
        elif isinstance(body, HeartbeatResponse):
            progress.recent_active = True
            self._replicator.on_heartbeat_response(source)
            self._reads.confirm(source, body.read_round)
            self._answer_reads()
        elif isinstance(body, ReadIndexRequest):
            self._reads.ask_remote(source, body.read_id)
        return None

    def _append_response(self, node: NodeId, progress: Progress, response: AppendResponse) -> None:
        if not response.rejected and response.index > self.core.log.last_index:
            # It answers in this term, so it means entries that it knows to be committed.
            raise Corruption(
                f"node {node} holds committed entries up to {response.index}, but the log of the "
                f"leader, node {self.core.node}, ends at {self.core.log.last_index}: a disk among "
                "those that elected it lost what it had acknowledged. Find the node whose log was "
                f"cut and rejoin it under a new node id: {REJOIN}"
            )
        if not self._replicator.on_response(node, response):
            return
        self._advance_commit()
        if node == self.transferee and progress.match == self.core.log.last_index:
            self.core.send(node, TimeoutNow())

    def transfer(self, target: NodeId) -> bool:
        """Thesis 3.10: bring the target up to date, then let it campaign at once. Proposals are
        refused meanwhile; after election_ticks the transfer is given up. False if the target does
        not vote."""
        progress = self.progress.get(target)
        if progress is None or target not in self.core.members:
            return False
        if target == self.transferee:
            return True
        if target == self.core.node:
            self.transferee = NO_NODE
            return True
        self.election_elapsed = 0
        self.transferee = target
        if progress.match == self.core.log.last_index:
            self.core.send(target, TimeoutNow())
        else:
            self._replicator.nudge(target)
        return True

    def report_unreachable(self, node: NodeId) -> None:
        """Messages to the node were lost: stop streaming, probe."""
        progress = self.progress.get(node)
        if progress is not None and node != self.core.node and progress.state == "replicate":
            progress.become_probe()

    def report_snapshot(self, node: NodeId, *, ok: bool) -> None:
        """The host knows how an offer ended before the follower's own answer arrived."""
        progress = self.progress.get(node)
        if progress is None or progress.state != "snapshot":
            return
        if not ok:
            progress.pending_snapshot = LogIndex(0)
        progress.become_probe()
        # Wait for the follower's answer, or the next heartbeat's, before probing.
        progress.paused = True

    # ------------------------------------------------------------------------------ reads

    def read(self, read_id: int) -> None:
        """Answered when the next round of heartbeats proves the leadership."""
        self._reads.ask_local(read_id)

    def _answer_reads(self) -> None:
        core = self.core
        local, remote = self._reads.finish(core.members)
        core.reads.extend((read_id, self._reads.index) for read_id in local)
        for node, read_id in remote:
            core.send(node, ReadIndexResponse(read_id, self._reads.index))

    def drop_reads(self) -> list[int]:
        """Own reads that were not answered. (Followers notice the new term themselves.)"""
        return self._reads.pending_local()

    def flush(self) -> None:
        """Send the gathered appends, and a heartbeat if one is due or reads ask for a round."""
        core = self.core
        # Until an entry of this term is committed, the commit index may lag behind what an
        # earlier leader acknowledged (Raft, section 8).
        if self._reads.is_waiting and core.log.term(core.log.commit) == core.term:
            self._start_read_round()
        self._replicator.flush()
        if self._heartbeat_due:
            self._heartbeat_due = False
            read_round = self._reads.heartbeat_round
            for node in self._replicator.others:
                commit = min(self.progress[node].match, core.log.commit)
                core.send(node, Heartbeat(commit, read_round))

    def _start_read_round(self) -> None:
        if self._reads.start(self.core.log.commit):
            self._heartbeat_due = True
            self._answer_reads()  # alone, a node is its own quorum
            if not self._reads.is_running:
                self._heartbeat_due = False

"""The node as one synchronous state machine: events in, effects out (see the package's chapter).

The driver owns no thread, clock, socket or file. It connects the Raft core to the write-ahead log,
the state machine, the checkpoints and the clients, and holds the rules between them:

* a message leaves only when the term it speaks in is durable, and an attestation only when what it
  attests is (`LogWriter`);
* an answer is given by (log index, term), never by index alone (`Proposals`);
* what is committed is applied in order, in bounded pieces (`ApplyQueue`);
* a snapshot is staged before Raft hears of it, its mark is durable before it is restored.
"""

from collections.abc import Callable, Sequence
from typing import Any

from balsadb.cluster.admission import COME_BACK, Admission
from balsadb.cluster.apply_queue import ApplyQueue, entry_bytes
from balsadb.cluster.boot import Boot
from balsadb.cluster.chance import Chance
from balsadb.cluster.disk_watch import DiskWatch
from balsadb.cluster.effects import (
    Answer,
    AppliedEntries,
    AppliedFreeze,
    AppliedRestore,
    ApplyDone,
    ApplyEntries,
    ApplyRestore,
    Effects,
    Failed,
    Job,
    ReadReady,
    Send,
)
from balsadb.cluster.frames import (
    DiskTrouble,
    Packet,
    PacketBody,
    PeerFrame,
    Refused,
    encode_packet,
    encode_raft,
)
from balsadb.cluster.handover import Handover
from balsadb.cluster.keeper import CheckpointKeeper
from balsadb.cluster.leading import TOKEN_FIRST_READ, Leading
from balsadb.cluster.log_writer import LogWriter
from balsadb.cluster.options import DriverOptions, raft_options
from balsadb.cluster.pending import Deadlines, Proposals, Reads
from balsadb.cluster.report import driver_status
from balsadb.cluster.wire import APPEND, BULK, CONTROL
from balsadb.errors import (
    BalsaError,
    DiskFailed,
    EmptiedDisk,
    NotLeader,
    Overloaded,
    StorageError,
)
from balsadb.raft import (
    AppendRequest,
    AppendResponse,
    MembersChange,
    Message,
    Raft,
    Ready,
    SnapshotOffer,
    decode_change,
)
from balsadb.types import (
    ENTRY_CHANGE,
    ENTRY_NORMAL,
    NO_NODE,
    Entry,
    LogIndex,
    NodeId,
    Term,
)

PEER_DOWN_CAMPAIGN_TICKS = 4
"""A follower whose leader's process is gone campaigns within this many ticks, at random."""
EAGER_CAMPAIGNS = 3
"""A node that has met no leader since its start uses short timeouts so many times: members that
start together need not wait a full timeout, and where messages are slow the normal ones follow."""


class Driver:
    """Feed events, then call `take()` and perform what it returns. Not thread-safe."""

    def __init__(self, options: DriverOptions, boot: Boot) -> None:
        self.options = options
        self._chance = Chance(options.seed)
        state = boot.raft_state
        self._gone = NO_NODE
        self._eager_campaigns = EAGER_CAMPAIGNS
        self._alone = boot.raft_state.members.nodes == (options.node,)
        self.raft = Raft(
            raft_options(options, self._election_timeout, self._chance.below(1 << 31)), state
        )
        self._term = state.hard_state.term
        self._role = "follower"
        self._leader = NO_NODE
        self._applied = state.applied
        self._applied_term = state.snapshot.term if state.snapshot else Term(0)
        self._effects = Effects()
        self._answers: list[tuple[int, Answer]] = []
        self._deadlines = Deadlines()
        self._campaign_tick = 0
        self._log_full = False
        self._jobs: dict[int, Callable[[Any], None]] = {}
        self._job_number = 0
        self.is_ready = False
        self.removed = ""
        """Why this node counts as removed from the cluster; empty if it does not."""

        self.writer = LogWriter(self._term)
        self.queue = ApplyQueue(
            options.apply_works_max, options.apply_entries_max, options.apply_bytes_max
        )
        self.proposals = Proposals(self._deadlines, self._answers)
        self.reads = Reads(self._deadlines, self._answers, options.reads_max)
        self.admission = Admission(options, boot.members, boot.known, state.hard_state.commit)
        self.keeper = CheckpointKeeper(options, self, self.raft, boot.newest)
        self.keeper.connect(self.writer, self.queue, self.admission)
        self.leading = Leading(options, self, self._propose_own)
        self.disk = DiskWatch(options)
        self.handover = Handover(options, self.raft, self.disk)
        # Ready means: a first linearizable read succeeded.
        self.reads.add(TOKEN_FIRST_READ, 0)

    # --- events from the host ------------------------------------------------------------------

    def tick(self) -> None:
        """One tick (50 ms) has passed."""
        for token in self._deadlines.tick():
            if not self.proposals.expire(token):
                self.reads.expire(token, self._leader)
        if self.disk.tick(syncing=self.writer.outstanding is not None):
            self._tell(self.disk.trouble)
        self.raft.hold_back(self.disk.is_stalled)
        self.raft.tick()
        self.keeper.tick(self.disk.space)
        self.leading.linker.tick()
        self.reads.retry(self.raft.read_index, self.options.read_retry_ticks)
        now = self._deadlines.now
        if self._campaign_tick and now >= self._campaign_tick:
            self._campaign_tick = 0
            if self._leader == NO_NODE:
                self.raft.campaign()
        self._log_full = self.raft.status().log_bytes > self.options.log_memory_bytes_max
        if self._role == "leader":
            self.leading.tick(self.admission)
            self.handover.tick(now)

    def stood_still(self) -> None:
        """The process was paused, and what waited in its sockets was received since."""
        self.raft.stood_still()

    def disk_space(self, free_bytes: int) -> None:
        """The host measured the space that is free where the data directory lies."""
        self.disk.measured(free_bytes)

    def receive(self, frame: PeerFrame) -> None:
        """A frame of a peer (`frames.decode_frame`). What is not meant for us is dropped."""
        verdict = self.admission.check(frame)
        if isinstance(verdict, Refused):
            self.packet(frame.source, verdict)
        if verdict != "take":
            return
        self.disk.heard(frame.source)
        if isinstance(frame, Packet):
            self._receive_packet(frame.source, frame.body)
        elif isinstance(frame.body, AppendRequest) and not self._takes(frame.body.entries):
            return
        elif frame.source == self._gone and self._deadlines.now <= self._campaign_tick:
            return  # the last words of a process that is gone
        else:
            self._step(frame)

    def propose(
        self,
        token: int,
        data: Sequence[bytes],
        kind: int = ENTRY_NORMAL,
        *,
        deadline_ticks: int,
        wait_applied: bool = True,
        grows: bool = True,
    ) -> None:
        """Put commands into the log; answered once.

        `Committed` when all are applied (or only committed, without `wait_applied`); `Failed` with
        `NotLeader` or `Overloaded` when they certainly did not reach the log, with
        `OutcomeUnknown` when they did and their fate was not seen. `deadline_ticks` 0: none.
        `grows`: they add data, and are refused with `DiskFull` when there is no room for more.
        """
        try:
            if len(self.proposals) >= self.options.proposals_max:
                raise Overloaded("too many proposals wait on the leader")
            if self._log_full:
                raise Overloaded("the leader applies its log too slowly, or cannot compact it")
            if self.writer.waiting_bytes > self.options.uncommitted_bytes_max:
                # A majority may commit without it; its next batch must not grow without bound.
                raise Overloaded("the leader's disk is slower than its followers")
            full = self.disk.refusal(self.raft.members) if grows and self.is_leader else None
            if full is not None:
                raise full
            positions = self.raft.propose(data, kind)
        except BalsaError as error:
            self._answers.append((token, Failed(error)))
            return
        self.proposals.add(token, positions, deadline_ticks, wait_applied)
        if token >= 0:
            self.leading.linker.proposed()

    def change_members(
        self, token: int, make: Callable[[], MembersChange], *, deadline_ticks: int
    ) -> None:
        """Put the change of members that `make` returns into the log; answered once, as a proposal
        is. `Failed` also with what `make` raises, `InvalidInput` for what cannot be made of the
        present members, and `NotReady` while another change is under way: nothing happened."""
        try:
            if self._role != "leader":
                raise NotLeader(self._leader)
            change = make()
            self.admission.check_change(change)
            position = self.raft.propose_change(change)
        except BalsaError as error:
            self._answers.append((token, Failed(error)))
            return
        self.proposals.add(token, [position], deadline_ticks, wait_applied=True)

    def read(self, token: int, *, deadline_ticks: int) -> None:
        """A linearizable barrier; answered once: `ReadReady`, or `Failed` with `QuorumLost` at the
        deadline, or `Overloaded` at once. Works on every node."""
        self.reads.add(token, deadline_ticks)

    def cancel(self, token: int) -> None:
        """Nobody waits for this token any more: no answer will come."""
        if not self.proposals.cancel(token):
            self.reads.cancel(token)

    def transfer(self) -> bool:
        """Hand leadership to the most up-to-date active follower, if we lead and there is one.

        Right after each check of the quorum nobody counts as active yet: then False, and ticks try
        again for one election timeout.
        """
        return self._role == "leader" and self.handover.ask(self._deadlines.now)

    def peer_down(self, node: NodeId) -> None:
        """The peer's process is certainly gone (stream closed, then reconnect refused). If it led,
        this node forgets it and campaigns soon, at a random tick."""
        self.raft.report_unreachable(node)
        if node == self._leader and node != self.options.node:
            self.raft.forget_leader()
            self._gone = node
            wait = 1 + self._chance.below(PEER_DOWN_CAMPAIGN_TICKS)
            self._campaign_tick = self._deadlines.now + wait

    # --- completions ---------------------------------------------------------------------------

    def wal_done(self, number: int) -> None:
        """The `WalWork` with this number is durable."""
        messages = self.writer.done(number)
        self.disk.synced()
        self.raft.on_persisted(self.writer.ready_durable)
        self._send(messages)

    def apply_done(self, done: ApplyDone) -> None:
        """A piece of apply work is done (in the order of the works)."""
        work, options = self.queue.done(), self.options
        if isinstance(done, AppliedEntries) and isinstance(work, ApplyEntries):
            last = work.entries[-1]
            self._applied, self._applied_term = last.index, last.term
            for entry in work.entries:
                if entry.kind == ENTRY_CHANGE:
                    members = self.raft.apply_change(entry.index, decode_change(entry.data))
                    self._alone = members.nodes == (options.node,)
                self.admission.apply(entry)
                if options.node in self.admission.members.removed:
                    self.removed = f"this node was removed from its cluster; {COME_BACK}"
            self.keeper.schedule.applied(work.entries)
            self.leading.linker.applied()
            self.raft.on_applied(last.index)
            self.proposals.applied(done.results)
        elif isinstance(done, AppliedFreeze):
            self.keeper.frozen(done, self._applied_term)
        elif isinstance(done, AppliedRestore) and isinstance(work, ApplyRestore):
            self._applied = LogIndex(work.manifest.index)
            self._applied_term = Term(work.manifest.term)
            self.raft.on_applied(self._applied)
            self.keeper.restored(work.manifest)
        else:
            raise TypeError(f"{type(done).__name__} does not answer {type(work).__name__}")
        self.reads.serve(self._applied)

    def job_done(self, job_id: int, result: Any) -> None:
        """A job returned `result`, or raised it (then it is the exception)."""
        done = self._jobs.pop(job_id)
        failed = isinstance(result, BaseException)
        if failed and (isinstance(result, DiskFailed) or not isinstance(result, BalsaError)):
            self._effects.fatal = result
            return
        done(result)

    # --- effects -------------------------------------------------------------------------------

    def take(self) -> Effects:
        """Everything to do since the last call."""
        self.reads.ask(self.raft.read_index)
        if self.keeper.schedule.is_due():
            self._job_number += 1
            self.keeper.start(self._job_number)
        if self.is_ready and self._role == "leader" and self.disk.space != "full":
            self.leading.start_plan()
        while True:
            self._drain()
            while (work := self.queue.next(self.writer.ready_durable)) is not None:
                self._effects.apply.append(work)
            if not self._settle():
                break
        effects, self._effects = self._effects, Effects()
        return effects

    # --- observation ---------------------------------------------------------------------------

    @property
    def leader(self) -> NodeId:
        """The leader this node knows, 0 if none."""
        return self._leader

    @property
    def is_leader(self) -> bool:
        """Whether this node believes to lead."""
        return self._role == "leader"

    @property
    def is_caught_up(self) -> bool:
        """Whether a leader has applied an entry of its own term, and so all that its predecessors
        acknowledged."""
        return self._role == "leader" and self._applied_term == self._term

    @property
    def applied(self) -> LogIndex:
        """The last log index that is applied."""
        return self._applied

    def status(self) -> dict[str, Any]:
        """Figures for operators, as builtins."""
        return driver_status(self)

    # --- lent to the parts ---------------------------------------------------------------------

    def packet(self, target: NodeId, body: PacketBody) -> None:
        """Send a packet, those of snapshots on the bulk lane."""
        options = self.options
        packet = Packet(options.cluster, options.group, options.node, target, options.disk, body)
        lane = CONTROL if isinstance(body, Refused | DiskTrouble) else BULK
        self._effects.sends.append(Send(lane, target, encode_packet(packet)))

    def start_job(self, make: Callable[[int], Job], done: Callable[[Any], None]) -> int:
        """Start a job; `done` gets what it returned, or the `BalsaError` it raised."""
        self._job_number += 1
        self._jobs[self._job_number] = done
        self._effects.jobs.append(make(self._job_number))
        return self._job_number

    # --- Raft ----------------------------------------------------------------------------------

    def _election_timeout(self, _term: Term) -> int:
        """Ticks until the next campaign: one to two times `election_ticks`, but short after the
        leader's process was seen to be gone, so that a split vote costs little, and right after
        the start (pre-votes disturb no leader that the others hear)."""
        ticks = self.options.election_ticks
        if self._alone:
            return 1
        eager = self._eager_campaigns > 0
        self._eager_campaigns -= eager
        if self._gone != NO_NODE or eager:
            return PEER_DOWN_CAMPAIGN_TICKS + self._chance.below(PEER_DOWN_CAMPAIGN_TICKS)
        return ticks + self._chance.below(ticks)

    def _drain(self) -> None:
        """Act on all that Raft wants, until it wants nothing more before something completes."""
        while True:
            while self.raft.has_ready():
                self._act(self.raft.ready())
            released = self.writer.unsynced_free()
            if released is None:
                break
            self.raft.on_persisted(self.writer.ready_durable)
            self._send(released)
        work = self.writer.next()
        if work is not None:
            self._effects.wal.append(work)

    def _act(self, ready: Ready) -> None:
        if ready.hard_state is not None and ready.hard_state.term != self._term:
            self._term = ready.hard_state.term
            self.proposals.lost("the leader changed")
        if ready.soft_state is not None:
            if self._role == "leader" and ready.soft_state.role != "leader":
                successor = ready.soft_state.leader
                self.proposals.lost(
                    f"node {successor} leads now"
                    if successor
                    else "this node no longer leads: it lost its quorum, or an election goes on"
                )
            self._role, self._leader = ready.soft_state.role, ready.soft_state.leader
            if self._leader != NO_NODE:
                self._gone = NO_NODE
                self._eager_campaigns = 0
            self.admission.leadership_changed()
        self.writer.add(ready)
        if ready.snapshot is not None:
            self.keeper.accepted(ready)
        self._send(ready.messages)
        if ready.committed:
            self.queue.push_entries(ready.committed)
            self.proposals.committed(ready.committed)
        for identity, index in ready.reads:
            self.reads.answered(identity, index)
        if ready.dropped_reads:
            self.reads.dropped(ready.dropped_reads)
        self.reads.serve(self._applied)

    def _send(self, messages: Sequence[Message]) -> None:
        options = self.options
        for message in messages:
            self.writer.check(message)
            body = message.body
            stamped = Message(
                message.source,
                message.target,
                message.term,
                body,
                options.cluster,
                options.group,
                options.disk,
            )
            lane = APPEND if isinstance(body, AppendRequest | AppendResponse) else CONTROL
            self._effects.sends.append(Send(lane, message.target, encode_raft(stamped)))

    def _takes(self, entries: Sequence[Entry]) -> bool:
        """Whether there is room for what a leader appends. If not it is dropped, as if it were
        lost: the leader sends it again."""
        if not entries:
            return True
        return not self._log_full and self.disk.takes(sum(map(entry_bytes, entries)))

    def _tell(self, body: PacketBody) -> None:
        """Send a packet to every other member."""
        for node in self.raft.members.nodes:
            if node != self.options.node:
                self.packet(node, body)

    def _propose_own(self, token: int, data: list[bytes], kind: int) -> None:
        self.propose(token, data, kind, deadline_ticks=0, grows=False)

    def _settle(self) -> bool:
        """Move answers to their host; whether one of the driver's own made more work."""
        own = False
        answers = list(self._answers)
        self._answers.clear()
        for token, answer in answers:
            if token >= 0:
                self._effects.answers.append((token, answer))
            elif token == TOKEN_FIRST_READ:
                self.is_ready = isinstance(answer, ReadReady)
            else:
                own = True
                self.leading.settled(token, answer, self.admission)
        return own

    def _step(self, message: Message) -> None:
        """Hand a message to Raft. What it says may show that our disk lost what it promised."""
        try:
            if isinstance(message.body, SnapshotOffer):
                self.keeper.offered(message, message.body)
            else:
                self.raft.step(message)
        except StorageError as error:
            empty = self.raft.status().last_index == 0
            self._effects.fatal = EmptiedDisk(error.message) if empty else error

    def _receive_packet(self, source: NodeId, body: PacketBody) -> None:
        match body:
            case DiskTrouble():
                self.disk.told(source, body)
            case Refused():
                reason = f"node {source} refuses this node: {body.reason}"
                if body.disk == self.options.disk and body.removed:
                    # It stays, for those who do not know yet and may need its vote to learn of it.
                    self.removed = reason
                elif body.disk == self.options.disk:
                    self._effects.fatal = EmptiedDisk(reason)
            case _:
                self.keeper.receive(source, body)

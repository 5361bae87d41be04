"""The conductor: handles terms once, hands everything else to the role, gathers `Ready`.

| term of a message | what happens                                                          |
|-------------------|-----------------------------------------------------------------------|
| newer             | become its follower, then as equal; two exceptions: votes are refused |
|                   | while a live leader is followed, and pre-votes never change a term    |
| equal             | votes are decided here, the rest belongs to the role                  |
| older             | ignored, except that a stale leader is told the newer term            |
"""

from collections.abc import Sequence
from itertools import pairwise

from balsadb.errors import Corruption, InvalidInput, NotLeader
from balsadb.raft.changes import MembersChange, changed
from balsadb.raft.core import Core
from balsadb.raft.log import Log
from balsadb.raft.members import Members, SnapshotMeta
from balsadb.raft.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    Message,
    SnapshotOffer,
    VoteRequest,
    VoteResponse,
)
from balsadb.raft.ready import RaftOptions, RaftState, RaftStatus, Ready, SoftState
from balsadb.raft.roles.candidate import Candidate
from balsadb.raft.roles.follower import Follower, needs_snapshot
from balsadb.raft.roles.leader import Leader
from balsadb.raft.roles.role import Campaign, CampaignKind, Follow, Lead, Role, Transition
from balsadb.types import ENTRY_CHANGE, ENTRY_NORMAL, NO_NODE, HardState, LogIndex, NodeId, Term


class Raft:
    """One node of one group. Pure: the host calls, then acts on `ready()`. Not re-entrant."""

    def __init__(self, options: RaftOptions, state: RaftState) -> None:
        """Start as a follower of nobody. Corruption if `state` contradicts itself."""
        assert options.node > NO_NODE, "node ids are positive"
        assert options.election_ticks > options.heartbeat_ticks > 0
        log = _recover_log(state)
        hard_state = _recover_hard_state(state, log)
        self._core = Core(options, hard_state, state.members, log)
        self._core.snapshot = state.snapshot
        self._role: Role = Follower(self._core)
        self._number = 0
        self._told_hard_state = state.hard_state
        self._told_soft_state = SoftState(NO_NODE, "follower")

    # ------------------------------------------------------------------------------ events

    def tick(self) -> None:
        """One tick of the host's clock passed. Drain the inbox before ticking."""
        self._follow_through(self._role.tick())

    def step(self, message: Message) -> None:
        """A message arrived. The host has checked cluster, group, disk and that it is for us."""
        core = self._core
        assert message.target == core.node, f"message for node {message.target}"
        if isinstance(message.body, VoteRequest | VoteResponse):
            self._learn_commit(message.body)
        if message.term < core.term:
            self._answer_stale(message)
            return
        if message.term > core.term and not self._accept_newer_term(message):
            return
        body = message.body
        if isinstance(body, VoteRequest):
            self._vote(message, body)
            return
        if isinstance(self._role, Candidate) and isinstance(
            body, AppendRequest | Heartbeat | SnapshotOffer
        ):
            self._become_follower(core.term, message.source)
        self._follow_through(self._role.step(message))

    def propose(
        self, data: Sequence[bytes], kind: int = ENTRY_NORMAL
    ) -> list[tuple[LogIndex, Term]]:
        """Append entries, all or none; (index, term) of each. It is committed if that index is
        committed *with that term*. NotLeader, or Overloaded; then nothing was appended."""
        if not isinstance(self._role, Leader):
            raise NotLeader(self._core.leader)
        return self._role.propose(data, kind)

    def propose_change(self, change: MembersChange) -> tuple[LogIndex, Term]:
        """Append a change of members, an entry of kind `ENTRY_CHANGE`; (index, term) of it. It
        takes effect when the host applies it (`apply_change`). NotLeader; InvalidInput if it cannot
        be made of the present members; NotReady while another one may be under way. Then nothing
        was appended."""
        if not isinstance(self._role, Leader):
            raise NotLeader(self._core.leader)
        return self._role.propose_change(change)

    def apply_change(self, index: LogIndex, change: MembersChange) -> Members:
        """The host applies the entry of kind `ENTRY_CHANGE` at `index`, in its turn and before
        `on_applied` reports it; returns the members from now on. One that a snapshot has overtaken
        changes nothing. Corruption if the members cannot change so."""
        core = self._core
        if index <= core.members_index:
            return core.members
        try:
            core.members = changed(core.members, change)
        except InvalidInput as error:
            raise Corruption(f"the committed change of members at {index}: {error}") from error
        core.members_index = index
        self._follow_through(self._role.on_members())
        return core.members

    def read_index(self) -> int:
        """Ask for a log index that covers everything acknowledged before this call. The answer
        comes as `Ready.reads`, or the id as `Ready.dropped_reads`, or nothing (a lost message):
        after a while the host asks again and gets a new id. NotLeader if no leader is known."""
        read_id = self._core.next_read_id()
        self._role.read(read_id)
        return read_id

    def transfer(self, target: NodeId) -> None:
        """Hand leadership to `target`, or (on a follower) ask the leader to. InvalidInput if it
        does not vote; NotLeader if no leader is known. `status().transferee` shows the progress."""
        if target not in self._core.members:
            raise InvalidInput("target", f"node {target} is not a voting member")
        role = self._role
        if isinstance(role, Leader):
            role.transfer(target)
        elif not isinstance(role, Follower) or not role.ask_transfer(target):
            raise NotLeader(NO_NODE)

    def forget_leader(self) -> None:
        """A follower knows that its leader is gone: it may vote and pre-vote at once, without
        waiting for its own timeout. No effect on other roles."""
        if isinstance(self._role, Follower):
            self._core.leader = NO_NODE
            self._core.dropped_reads.extend(self._role.drop_reads())

    def campaign(self) -> None:
        """Stand for election now (with a pre-vote, if that is the rule)."""
        self._follow_through(Campaign("pre_vote" if self._core.options.pre_vote else "election"))

    def hold_back(self, held: bool) -> None:
        """Whether not to campaign for now, whatever asks for it: the host's disk hangs. It could
        not win before its own vote is durable; it must not disturb others by trying, either."""
        self._core.held_back = held

    def stood_still(self) -> None:
        """The host's process was paused: what a follower did not hear meanwhile it could not hear,
        so its timer begins anew."""
        if isinstance(self._role, Follower):
            self._role.election_elapsed = 0

    def step_down(self) -> None:
        """A leader that is of no use any more (its disk hangs) becomes a follower of nobody."""
        if isinstance(self._role, Leader):
            self._become_follower(self._core.term, NO_NODE)

    def on_persisted(self, number: int) -> None:
        """Ready `number` and all before it are durable."""
        assert number <= self._number, f"Ready {number} was never handed out"
        core = self._core
        proven, self_messages = core.writes.complete(number)
        if proven and core.log.persisted_to(proven):
            self._role.on_persisted()
        for message in self_messages:
            self.step(message)

    def on_applied(self, index: LogIndex) -> None:
        """The state machine holds everything up to `index` (of `committed`, or a snapshot)."""
        self._core.log.applied_to(index)
        self._role.on_applied()

    def report_unreachable(self, node: NodeId) -> None:
        """Messages to `node` were lost: the leader probes instead of streaming."""
        if isinstance(self._role, Leader):
            self._role.report_unreachable(node)

    def report_snapshot(self, node: NodeId, ok: bool) -> None:
        """An offered snapshot was installed by `node`, or given up. Optional: offers repeat."""
        if isinstance(self._role, Leader):
            self._role.report_snapshot(node, ok=ok)

    def set_snapshot(self, meta: SnapshotMeta) -> None:
        """The newest durable local checkpoint; older ones are ignored."""
        core = self._core
        assert meta.index <= core.log.applied, "a checkpoint of what was not applied"
        if core.snapshot is None or meta.index > core.snapshot.index:
            core.snapshot = meta

    def compact(self, index: LogIndex) -> LogIndex:
        """Forget log entries up to `index` (at most the applied index); never past the newest
        checkpoint, which stands in for them. Returns the new last forgotten index."""
        core = self._core
        if core.snapshot is not None:
            core.log.compact(min(index, core.snapshot.index))
        return core.log.anchor_index

    # ------------------------------------------------------------------------------ orders

    def has_ready(self) -> bool:
        """Whether `ready()` would order anything."""
        self._role.flush()
        core = self._core
        return bool(
            core.log.has_unwritten
            or core.messages
            or core.messages_after_persist
            or core.self_messages
            or core.reads
            or core.dropped_reads
            or core.restored is not None
            or core.log.can_hand(core.options.committed_bytes_max)
            or self._hard_state_changed()
            or self._soft_state_changed()
        )

    def ready(self) -> Ready:
        """The next orders. They count as accepted: each is given once."""
        self._role.flush()
        core, log = self._core, self._core.log
        self._number += 1
        must_sync = core.restored is not None or log.has_unwritten
        hard_state: HardState | None = None
        if self._hard_state_changed():
            told = self._told_hard_state
            hard_state = HardState(core.term, core.voted_for, log.commit)
            must_sync = must_sync or hard_state.term != told.term or hard_state.vote != told.vote
            self._told_hard_state = hard_state
        soft_state: SoftState | None = None
        if self._soft_state_changed():
            soft_state = self._told_soft_state = SoftState(core.leader, self._role.name)
        entries = log.take_unwritten()
        if must_sync or core.self_messages:
            last_index = entries[-1].index if entries else LogIndex(0)
            core.writes.begin(self._number, core.term, last_index, core.self_messages)
        ready = Ready(
            number=self._number,
            hard_state=hard_state,
            entries=entries,
            snapshot=core.restored,
            must_sync=must_sync,
            messages=core.messages,
            messages_after_persist=core.messages_after_persist,
            committed=log.take_committed(core.options.committed_bytes_max),
            reads=core.reads,
            dropped_reads=core.dropped_reads,
            soft_state=soft_state,
        )
        core.take_outbox()
        return ready

    def needs_snapshot(self, message: Message) -> bool:
        """Whether this SnapshotOffer would replace the log: then its checkpoint must be fetched and
        staged before it is stepped. If not, it can be stepped at once (or dropped)."""
        return isinstance(message.body, SnapshotOffer) and needs_snapshot(
            self._core, message.term, message.body.snapshot
        )

    @property
    def members(self) -> Members:
        """Who votes, as far as this node has applied."""
        return self._core.members

    def status(self) -> RaftStatus:
        """A picture for people, metrics and tests."""
        core, log, role = self._core, self._core.log, self._role
        is_leader = isinstance(role, Leader)
        return RaftStatus(
            node=core.node,
            term=core.term,
            role=role.name,
            leader=core.leader,
            vote=core.voted_for,
            commit=log.commit,
            applied=log.applied,
            persisted=log.persisted,
            last_index=log.last_index,
            first_index=log.first_index,
            log_bytes=log.log_bytes,
            uncommitted_bytes=log.uncommitted_bytes,
            transferee=role.transferee if is_leader else NO_NODE,
            peers=(
                {node: progress.status() for node, progress in role.progress.items()}
                if is_leader
                else {}
            ),
        )

    def _hard_state_changed(self) -> bool:
        core, told = self._core, self._told_hard_state
        return (
            core.log.commit != told.commit or core.term != told.term or core.voted_for != told.vote
        )

    def _soft_state_changed(self) -> bool:
        told = self._told_soft_state
        return self._core.leader != told.leader or self._role.name != told.role

    # ------------------------------------------------------------------------ terms, roles

    def _accept_newer_term(self, message: Message) -> bool:
        """Adopt a newer term; False if the message must be ignored."""
        core, body = self._core, message.body
        if isinstance(body, VoteRequest):
            in_lease = (
                core.options.check_quorum
                and core.leader != NO_NODE
                and self._role.election_elapsed < core.options.election_ticks
            )
            if in_lease and not body.transfer:
                # Thesis 4.2.3: whoever hears a live leader is not disturbed by a stranger.
                return False
            if body.pre_vote:
                return True
        if isinstance(body, VoteResponse) and body.pre_vote and not body.rejected:
            # It echoes the term we would use if we won.
            return True
        speaks_as_leader = isinstance(body, AppendRequest | Heartbeat | SnapshotOffer)
        self._become_follower(message.term, message.source if speaks_as_leader else NO_NODE)
        return True

    def _answer_stale(self, message: Message) -> None:
        """A message of an older term. With pre-vote or check-quorum a node may sit on a term that a
        live leader does not know, and would never get out: so the leader is told."""
        core, body = self._core, message.body
        if isinstance(body, AppendRequest | Heartbeat):
            if core.options.check_quorum or core.options.pre_vote:
                core.send(message.source, AppendResponse(LogIndex(0)))
        elif isinstance(body, VoteRequest) and body.pre_vote:
            core.send(message.source, core.vote(rejected=True, pre_vote=True))

    def _learn_commit(self, body: VoteRequest | VoteResponse) -> None:
        """What is committed is so for ever, whoever says it and in whatever term. A candidate that
        learns of a change of members by this may have counted by a majority that is past."""
        core = self._core
        known = isinstance(self._role, Leader) or not core.log.matches(
            body.commit, body.commit_term
        )
        if known or not core.log.commit_to(body.commit):
            return
        if isinstance(self._role, Candidate) and core.log.has_unapplied(ENTRY_CHANGE):
            self._become_follower(core.term, NO_NODE)

    def _vote(self, message: Message, request: VoteRequest) -> None:
        """Raft 5.2 and 5.4.1: one vote a term, first come, only for a log as new as ours."""
        core = self._core
        can_vote = (
            core.voted_for == message.source
            or (core.voted_for == NO_NODE and core.leader == NO_NODE)
            or (request.pre_vote and message.term > core.term)
        )
        if not can_vote or not core.log.is_up_to_date(request.last_index, request.last_term):
            core.send(message.source, core.vote(rejected=True, pre_vote=request.pre_vote))
            return
        if not request.pre_vote:
            core.voted_for = message.source
            self._role.election_elapsed = 0
        core.send(message.source, core.vote(pre_vote=request.pre_vote), message.term)

    def _follow_through(self, transition: Transition | None) -> None:
        """Carry out what a role asked for."""
        if isinstance(transition, Follow):
            self._become_follower(self._core.term, transition.leader)
        elif isinstance(transition, Campaign):
            self._campaign(transition.kind)
        elif isinstance(transition, Lead):
            self._become_leader()

    def _end_role(self) -> None:
        self._core.dropped_reads.extend(self._role.drop_reads())

    def _become_follower(self, term: Term, leader: NodeId) -> None:
        core = self._core
        self._end_role()
        assert term >= core.term, "terms never decrease"
        if term > core.term:
            core.term, core.voted_for = term, NO_NODE
        core.leader = leader
        self._role = Follower(core)

    def _campaign(self, kind: CampaignKind) -> None:
        core = self._core
        if isinstance(self._role, Leader) or not core.can_campaign:
            return
        if core.log.has_unapplied(ENTRY_CHANGE):
            return  # this node may be no voter any more, or count by a majority that is past
        self._end_role()
        core.leader = NO_NODE
        if kind != "pre_vote":
            core.term, core.voted_for = Term(core.term + 1), core.node
        self._role = Candidate(core, kind)

    def _become_leader(self) -> None:
        core = self._core
        assert isinstance(self._role, Candidate), "only a candidate can win"
        assert self._role.name == "candidate", "a pre-vote does not elect"
        assert core.writes.durable_term == core.term, "elected before the own vote was durable"
        self._end_role()
        core.leader = core.node
        self._role = Leader(core)


def _recover_log(state: RaftState) -> Log:
    """The durable log, anchored at the snapshot or before it."""
    entries = state.entries
    snapshot_index = state.snapshot.index if state.snapshot is not None else LogIndex(0)
    snapshot_term = state.snapshot.term if state.snapshot is not None else Term(0)
    for before, after in pairwise(entries):
        if after.index != before.index + 1 or after.term < before.term:
            raise Corruption(f"the log breaks between entries {before.index} and {after.index}")
    if not entries or entries[-1].index < snapshot_index:
        log = Log(snapshot_index, snapshot_term, [])
    elif entries[0].index > snapshot_index:
        if entries[0].index != snapshot_index + 1:
            raise Corruption(
                f"the log begins at {entries[0].index}, the snapshot ends at {snapshot_index}"
            )
        log = Log(snapshot_index, snapshot_term, entries)
    else:
        log = Log(entries[0].index, entries[0].term, entries[1:])
        if not log.matches(snapshot_index, snapshot_term):
            log = Log(snapshot_index, snapshot_term, [])
    applied = max(state.applied, snapshot_index)
    if applied > log.last_index:
        raise Corruption(f"applied to {applied}, but the log ends at {log.last_index}")
    # The stored commit index is a hint; a torn batch may have kept it and lost its entries.
    log.commit_to(max(applied, min(state.hard_state.commit, log.last_index)))
    log.start_at(applied)
    return log


def _recover_hard_state(state: RaftState, log: Log) -> HardState:
    """The durable term and vote. A term in the log that is newer than the stored one comes from a
    batch torn after its first part; no vote was cast in it, for that would be stored."""
    stored = state.hard_state
    if log.last_term > stored.term:
        return HardState(log.last_term, NO_NODE, log.commit)
    return HardState(stored.term, stored.vote, log.commit)

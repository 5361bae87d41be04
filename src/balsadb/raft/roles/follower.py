"""The follower: accepts what the leader of its term says, and campaigns when it says nothing."""

from balsadb.errors import REJOIN, Corruption, NotLeader
from balsadb.raft.core import Core
from balsadb.raft.members import SnapshotMeta
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
from balsadb.raft.reads import ForwardedReads
from balsadb.raft.roles.role import Campaign, Role, Transition
from balsadb.types import NO_NODE, LogIndex, NodeId, Term


class Follower(Role):
    """Role-only state: the timer and the reads it forwarded."""

    name = "follower"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._timeout = core.draw_timeout()
        if core.leader != NO_NODE:
            self._be_patient()
        self._reads = ForwardedReads()

    def tick(self) -> Transition | None:
        """Raft 5.2: silence for a whole timeout starts an election."""
        self.election_elapsed += 1
        if self.election_elapsed < self._timeout or not self.core.can_campaign:
            return None
        self.election_elapsed = 0
        return Campaign("pre_vote" if self.core.options.pre_vote else "election")

    def step(self, message: Message) -> Transition | None:
        """Everything but votes, which the conductor handles."""
        body = message.body
        if isinstance(body, AppendRequest):
            self._heard(message.source)
            self._append(message.source, body)
        elif isinstance(body, Heartbeat):
            self._heard(message.source)
            self._heartbeat(message.source, body)
        elif isinstance(body, SnapshotOffer):
            self._heard(message.source)
            self._restore(message.source, body.snapshot)
        elif isinstance(body, ReadIndexResponse):
            for read_id in self._reads.answer(body.read_id):
                self.core.reads.append((read_id, body.index))
        elif isinstance(body, TimeoutNow):
            if self.core.can_campaign:
                return Campaign("transfer")
        elif isinstance(body, TransferLeader):
            self.ask_transfer(body.node)
        return None

    def ask_transfer(self, target: NodeId) -> bool:
        """Pass a wish for a transfer on to the leader; False if none is known."""
        if self.core.leader == NO_NODE:
            return False
        self.core.send(self.core.leader, TransferLeader(target))
        return True

    def read(self, read_id: int) -> None:
        """Asked of the leader at the next flush."""
        if self.core.leader == NO_NODE:
            raise NotLeader(NO_NODE)
        self._reads.ask(read_id)

    def flush(self) -> None:
        """One request for all reads gathered."""
        read_id = self._reads.take_request()
        if read_id is not None:
            self.core.send(self.core.leader, ReadIndexRequest(read_id))

    def drop_reads(self) -> list[int]:
        """The leader they were forwarded to does not count any more."""
        return self._reads.drop()

    def _heard(self, leader: NodeId) -> None:
        assert self.core.leader in (NO_NODE, leader), (
            f"two leaders in term {self.core.term}: {self.core.leader} and {leader}"
        )
        if self.core.leader == NO_NODE:
            self._be_patient()
        self.core.leader = leader
        self.election_elapsed = 0

    def _be_patient(self) -> None:
        """A leader speaks: a short timeout was drawn for a node that none spoke to."""
        ticks = self.core.options.election_ticks
        if self._timeout < ticks:
            self._timeout += ticks

    def _append(self, leader: NodeId, request: AppendRequest) -> None:
        """Raft figure 2, AppendEntries, and the faster back-off of section 5.3."""
        core, log = self.core, self.core.log
        if request.previous_index < log.commit:
            # Committed entries are equal everywhere: an old request, or one that overlaps.
            core.send(leader, AppendResponse(log.commit))
            return
        if not log.matches(request.previous_index, request.previous_term):
            index = min(request.previous_index, log.last_index)
            hint_index, hint_term = log.find_by_term(index, request.previous_term)
            core.send(
                leader,
                AppendResponse(
                    request.previous_index,
                    rejected=True,
                    hint_index=hint_index,
                    hint_term=hint_term,
                ),
            )
            return
        cut = log.merge(request.entries)
        if cut is not None:
            core.writes.truncate(cut)
        attested = LogIndex(request.previous_index + len(request.entries))
        log.commit_to(min(request.commit, attested))
        core.send(leader, AppendResponse(attested))

    def _heartbeat(self, leader: NodeId, heartbeat: Heartbeat) -> None:
        log = self.core.log
        if heartbeat.commit > log.last_index:
            # The leader tells no follower a commit index that it did not acknowledge as durable.
            raise Corruption(
                f"node {self.core.node} acknowledged log index {heartbeat.commit} but its log ends "
                f"at {log.last_index}: acknowledged entries were lost; rejoin under a new node id: "
                f"{REJOIN}"
            )
        log.commit_to(heartbeat.commit)
        self.core.send(leader, HeartbeatResponse(heartbeat.read_round))

    def _restore(self, leader: NodeId, snapshot: SnapshotMeta) -> None:
        """Raft figure 13. The checkpoint itself is staged already."""
        log = self.core.log
        if snapshot.index > log.commit:
            if log.matches(snapshot.index, snapshot.term):
                # The entries are here after all: keep those that follow.
                log.commit_to(snapshot.index)
            else:
                self.core.restore(snapshot)
        self.core.send(leader, AppendResponse(log.commit))


def needs_snapshot(core: Core, term: Term, snapshot: SnapshotMeta) -> bool:
    """Whether an offer of that term would replace the log, so that its checkpoint must be fetched
    before the offer is stepped."""
    return (
        term >= core.term
        and snapshot.index > core.log.commit
        and not core.log.matches(snapshot.index, snapshot.term)
    )

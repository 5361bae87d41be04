"""What a node has whatever its role: term, vote, log, members, and the messages it gathered.

The roles read and write this; only the conductor (`raft.py`) changes term, vote and role.
"""

from balsadb.raft.log import Log
from balsadb.raft.members import Members, SnapshotMeta
from balsadb.raft.messages import (
    AppendResponse,
    Body,
    Message,
    VoteRequest,
    VoteResponse,
)
from balsadb.raft.reads import COUNT_BITS
from balsadb.raft.ready import RaftOptions
from balsadb.raft.writes import Writes
from balsadb.types import NO_NODE, HardState, LogIndex, NodeId, Term

_SPEAK_OF_THE_DISK = (AppendResponse, VoteRequest, VoteResponse)
"""Bodies that promise something about the sender's log or vote: they always wait for the fsync. (A
vote request too: a candidate that crashes before its term and log are durable could otherwise
campaign in the same term again with a shorter log, and collect votes given to the longer one.)"""


class Core:
    """The common state. Fields are plain: the roles are its methods."""

    def __init__(
        self, options: RaftOptions, hard_state: HardState, members: Members, log: Log
    ) -> None:
        self.options = options
        self.node = options.node
        self.term = hard_state.term
        self.voted_for = hard_state.vote
        self.leader = NO_NODE
        self.members = members
        self.held_back = False
        """Whether the host says not to campaign for now."""
        self.members_index = log.applied
        """The log index that `members` is of: a change before it is in them already."""
        self.log = log
        self.writes = Writes(hard_state.term)
        self.snapshot: SnapshotMeta | None = None
        """The newest local checkpoint: what a lagging follower is offered."""
        self.restored: SnapshotMeta | None = None
        """A snapshot that replaced the log and was not handed to the host yet."""
        self.messages: list[Message] = []
        self.messages_after_persist: list[Message] = []
        self.self_messages: list[Message] = []
        self.reads: list[tuple[int, LogIndex]] = []
        self.dropped_reads: list[int] = []
        self._reads_count = 0

    @property
    def can_campaign(self) -> bool:
        """Whether this node votes at all, as far as it knows, and is not held back."""
        return self.node in self.members and not self.held_back

    def others(self) -> list[NodeId]:
        """Every member but this node, learners too, sorted."""
        return [node for node in self.members.nodes if node != self.node]

    def other_voters(self) -> list[NodeId]:
        """Every member but this node whose vote counts, sorted."""
        return [node for node in self.others() if node in self.members]

    def draw_timeout(self) -> int:
        """Ticks of silence until the next campaign."""
        ticks = self.options.election_timeout(self.term)
        assert ticks > 0, "an election timeout must be positive"
        return ticks

    def next_read_id(self) -> int:
        """A read id that was never used before, here or in an earlier life; increasing in one."""
        self._reads_count += 1
        assert self._reads_count < 1 << COUNT_BITS, "read ids of this incarnation are used up"
        return self.options.incarnation << COUNT_BITS | self._reads_count

    def vote(self, *, rejected: bool = False, pre_vote: bool = False) -> VoteResponse:
        """An answer to a vote request, with the newest fact of what is committed."""
        return VoteResponse(rejected, pre_vote, self.log.commit, self.commit_term)

    @property
    def commit_term(self) -> Term:
        """The term of the entry at the commit index."""
        term = self.log.term(self.log.commit)
        assert term is not None, "what is committed ends at the anchor or after it"
        return term

    def send(self, target: NodeId, body: Body, term: Term | None = None) -> None:
        """Queue a message at `term` (this node's own if None), for now or for after the fsync."""
        message = Message(self.node, target, self.term if term is None else term, body)
        if target == self.node:
            self.self_messages.append(message)
        elif isinstance(body, _SPEAK_OF_THE_DISK) or self.writes.durable_term < self.term:
            self.messages_after_persist.append(message)
        else:
            self.messages.append(message)

    def restore(self, snapshot: SnapshotMeta) -> None:
        """Replace log and members by a snapshot, which the host has staged."""
        self.log.restore(snapshot)
        self.writes.truncate(LogIndex(snapshot.index + 1))
        self.members, self.members_index = snapshot.members, snapshot.index
        self.snapshot = self.restored = snapshot

    def take_outbox(self) -> None:
        """All that was gathered is in a Ready now: begin anew, with new lists."""
        self.messages, self.messages_after_persist, self.self_messages = [], [], []
        self.reads, self.dropped_reads = [], []
        self.restored = None

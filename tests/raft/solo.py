"""One core without a network: the test plays all the others."""

from typing import Any

from balsadb.raft import (
    AppendResponse,
    Body,
    Members,
    Message,
    Raft,
    RaftOptions,
    RaftState,
    Ready,
    SnapshotMeta,
    VoteRequest,
    VoteResponse,
)
from balsadb.types import Entry, HardState, LogIndex, NodeId, Term


def log_of(*terms: int) -> list[Entry]:
    """Entries 1, 2, ... with these terms."""
    return [
        Entry(LogIndex(index), Term(term), 0, b"%d@%d" % (index, term))
        for index, term in enumerate(terms, 1)
    ]


def entries_at(first: int, *terms: int) -> list[Entry]:
    """Entries first, first + 1, ... with these terms."""
    return [
        Entry(LogIndex(index), Term(term), 0, b"%d@%d" % (index, term))
        for index, term in enumerate(terms, first)
    ]


def meta(index: int, term: int, *voters: int) -> SnapshotMeta:
    return SnapshotMeta(LogIndex(index), Term(term), Members.of(voters or (1, 2, 3)))


class Solo:
    """Node 1 unless told otherwise. Times out after 15 ticks; nothing happens by chance."""

    def __init__(
        self,
        voters: tuple[int, ...] = (1, 2, 3),
        *,
        node: int = 1,
        hard_state: tuple[int, int, int] = (0, 0, 0),
        entries: list[Entry] | None = None,
        snapshot: SnapshotMeta | None = None,
        members: Members | None = None,
        **options: Any,
    ) -> None:
        options = {"election_timeout": lambda term: 15, "pre_vote": False, **options}
        term, vote, commit = hard_state
        self.raft = Raft(
            RaftOptions(node=NodeId(node), **options),
            RaftState(
                members=members or Members.of(voters),
                hard_state=HardState(Term(term), NodeId(vote), LogIndex(commit)),
                entries=entries or [],
                snapshot=snapshot,
            ),
        )
        self.node = NodeId(node)
        self.committed: list[Entry] = []
        self.reads: list[tuple[int, int]] = []
        self.dropped: list[int] = []
        self.readies: list[Ready] = []

    @property
    def status(self):
        return self.raft.status()

    @property
    def log(self) -> list[tuple[int, int]]:
        """(index, term) of the retained entries."""
        return [(entry.index, entry.term) for entry in self.raft._core.log._entries]

    def drain(self) -> list[Message]:
        """Persist and apply everything; all messages, in order."""
        messages: list[Message] = []
        while self.raft.has_ready():
            ready = self.take()
            messages += ready.messages + ready.messages_after_persist
            self.finish(ready)
        return messages

    def take(self) -> Ready:
        """One Ready, not persisted."""
        ready = self.raft.ready()
        self.readies.append(ready)
        self.committed += ready.committed
        self.reads += ready.reads
        self.dropped += ready.dropped_reads
        return ready

    def finish(self, ready: Ready) -> None:
        """That Ready is durable, and applied."""
        self.raft.on_persisted(ready.number)
        if ready.snapshot is not None:
            self.raft.on_applied(ready.snapshot.index)
        if ready.committed:
            self.raft.on_applied(ready.committed[-1].index)

    def tick(self, count: int = 1) -> list[Message]:
        for _ in range(count):
            self.raft.tick()
        return self.drain()

    def step(self, source: int, body: Body, term: int | None = None) -> None:
        """A message arrives, at this node's term unless told otherwise; Readies are not taken."""
        at = Term(self.status.term if term is None else term)
        self.raft.step(Message(NodeId(source), self.node, at, body))

    def receive(self, source: int, body: Body, term: int | None = None) -> list[Message]:
        """A message arrives; everything that follows is persisted."""
        self.step(source, body, term)
        return self.drain()

    def lead(self, *, acknowledge: bool = True) -> list[Message]:
        """Win an election; if told, let everybody hold the new leader's first entry."""
        self.raft.campaign()
        messages = self.drain()
        for message in messages:
            if isinstance(message.body, VoteRequest):
                granted = VoteResponse(pre_vote=message.body.pre_vote)
                messages += self.receive(message.target, granted, message.term)
        assert self.status.role == "leader"
        if acknowledge:
            for node in self.status.peers:
                if node != self.node:
                    messages += self.receive(node, AppendResponse(self.status.last_index))
        return messages


def bodies(messages: list[Message], kind: type | None = None) -> list[Any]:
    """The bodies, of one kind if told."""
    return [m.body for m in messages if kind is None or isinstance(m.body, kind)]


def to(messages: list[Message], target: int) -> list[Any]:
    """The bodies for one node."""
    return [m.body for m in messages if m.target == target]

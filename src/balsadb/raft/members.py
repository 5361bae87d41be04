"""Who votes: the members of the group, and the snapshot mark that carries them.

Members are data of the replicated state machine. The core is told them at start and by a snapshot;
it does not change them by itself (a membership change is passed through the log as committed data
of kind `ENTRY_MEMBERS`, and the host tells the core what came of it).
"""

from collections.abc import Iterable

import msgspec

from balsadb.types import LogIndex, NodeId, Term


class Members(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The voters of the group.

    `outgoing` is empty except during a joint change (Ongaro's thesis, section 4.3): then every
    decision needs a majority of `voters` *and* one of `outgoing`. Learners will join as a further
    field at the end, so that older bytes still decode.
    """

    voters: tuple[NodeId, ...]
    outgoing: tuple[NodeId, ...] = ()

    @classmethod
    def of(cls, voters: Iterable[int], outgoing: Iterable[int] = ()) -> "Members":
        """Members from plain numbers, sorted, each once."""
        return cls(
            tuple(NodeId(node) for node in sorted(set(voters))),
            tuple(NodeId(node) for node in sorted(set(outgoing))),
        )

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """Every node that votes in either half, sorted."""
        if not self.outgoing:
            return self.voters
        return tuple(sorted({*self.voters, *self.outgoing}))

    @property
    def is_joint(self) -> bool:
        """Whether a joint change is under way."""
        return bool(self.outgoing)

    @property
    def is_single(self) -> bool:
        """Whether one node alone decides."""
        return len(self.voters) == 1 and not self.outgoing

    def __contains__(self, node: object) -> bool:
        """Whether the node votes (in either half)."""
        return node in self.voters or node in self.outgoing


class SnapshotMeta(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What Raft knows of a checkpoint: the last log index in it, that entry's term, and the members
    at that index. The bytes of the checkpoint travel outside Raft."""

    index: LogIndex
    term: Term
    members: Members

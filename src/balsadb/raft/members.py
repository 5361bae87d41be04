"""Who votes: the members of the group, and the snapshot mark that carries them.

Members are data of the replicated state machine. The core is told them at start and by a snapshot;
a change travels through the log (`changes`) and takes effect when the host applies it.
"""

from collections.abc import Iterable
from typing import Annotated, TypeAlias

import msgspec

from balsadb.types import NUMBER, LogIndex, NodeId, Term

_Nodes: TypeAlias = tuple[Annotated[NodeId, NUMBER], ...]


class Members(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The members of the group. All tuples are sorted, and each node is in one role (but that a
    node may be in both `voters` and `outgoing`, and one of `learners_next` is in `outgoing`).

    `outgoing` is empty except during a joint change (Ongaro's thesis, section 4.3): then every
    decision needs a majority of `voters` *and* one of `outgoing`. `learners` receive the log and
    decide nothing. `learners_next` still vote in `outgoing` and become learners when the change
    ends. `auto_leave`: a leader ends the joint change by itself.
    """

    voters: _Nodes
    outgoing: _Nodes = ()
    learners: _Nodes = ()
    learners_next: _Nodes = ()
    auto_leave: bool = False

    @classmethod
    def of(
        cls, voters: Iterable[int], outgoing: Iterable[int] = (), learners: Iterable[int] = ()
    ) -> "Members":
        """Members from plain numbers, sorted, each once."""
        return cls(_sorted(voters), _sorted(outgoing), _sorted(learners))

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """Every node that votes in either half or learns, sorted: those the log is sent to."""
        if not self.outgoing and not self.learners:
            return self.voters
        return _sorted({*self.voters, *self.outgoing, *self.learners, *self.learners_next})

    @property
    def is_joint(self) -> bool:
        """Whether a joint change is under way."""
        return bool(self.outgoing)

    def learns(self, node: NodeId) -> bool:
        """Whether the node receives the log and decides nothing."""
        return node in self.learners

    def __contains__(self, node: object) -> bool:
        """Whether the node votes (in either half)."""
        return node in self.voters or node in self.outgoing


def _sorted(nodes: Iterable[int]) -> tuple[NodeId, ...]:
    return tuple(NodeId(node) for node in sorted(set(nodes)))


class SnapshotMeta(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What Raft knows of a checkpoint: the last log index in it, that entry's term, and the members
    at that index. The bytes of the checkpoint travel outside Raft."""

    index: Annotated[LogIndex, NUMBER]
    term: Annotated[Term, NUMBER]
    members: Members

"""What all roles share, and the changes of role they may ask the conductor for.

A role never replaces itself: it returns a transition, and the conductor lets the old role object
die (with its votes, its progress, its unanswered reads) before the new one is made.
"""

from typing import Literal

import msgspec

from balsadb.errors import NotLeader
from balsadb.raft.core import Core
from balsadb.raft.messages import Message
from balsadb.raft.ready import RoleName
from balsadb.types import NodeId

CampaignKind = Literal["pre_vote", "election", "transfer"]


class Follow(msgspec.Struct, frozen=True, gc=False):
    """Become a follower in the current term; of nobody if `leader` is 0."""

    leader: NodeId


class Campaign(msgspec.Struct, frozen=True, gc=False):
    """Stand for election."""

    kind: CampaignKind


class Lead(msgspec.Struct, frozen=True, gc=False):
    """The election is won."""


Transition = Follow | Campaign | Lead


class Role:
    """Base of the roles. `step` gets messages of the current term only (pre-vote answers aside)."""

    name: RoleName

    def __init__(self, core: Core) -> None:
        self.core = core
        self.election_elapsed = 0
        """Ticks since the role began or since it last heard of a live leader."""

    def tick(self) -> Transition | None:
        """One tick of the host passed."""
        raise NotImplementedError

    def step(self, message: Message) -> Transition | None:
        """A message arrived; what the role has no use for is ignored."""
        raise NotImplementedError

    def read(self, read_id: int) -> None:
        """Ask for a read index; raises NotLeader if nobody can be asked."""
        raise NotLeader(self.core.leader, f"no leader is known that could answer read {read_id}")

    def on_persisted(self) -> None:
        """The durable prefix of the log may have grown."""

    def flush(self) -> None:
        """Send what was gathered: called before each Ready, and idempotent."""

    def on_members(self) -> Transition | None:
        """The members changed."""
        return None

    def on_applied(self) -> None:
        """The applied index may have grown."""

    def drop_reads(self) -> list[int]:
        """The role ends (or lost its leader): ids of reads that it cannot answer any more."""
        return []

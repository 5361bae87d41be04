"""Linearizable reads without a log entry: the read index (Raft, section 8; thesis, section 6.4).

A read may be answered from a state machine that has applied at least the commit index that the
leader had *after* the read was asked, provided that it still was the leader then. A leader proves
the latter by one round of heartbeats. Reads share rounds: those asked while a round is under way
wait for the next one, so any number of concurrent reads costs at most two rounds.

Why it is safe: a round's index is taken when the round starts, that is after all its reads were
asked and before any of its heartbeats left; a round's number is used once in a term, and only
answers of this term that carry it count. Read ids are never used twice, so an answer can only be
for the read it was meant for.
"""

from collections.abc import Sequence

from balsadb.raft.members import Members
from balsadb.raft.quorum import VoteResult, joint_vote
from balsadb.types import LogIndex, NodeId

COUNT_BITS = 32
"""A read id is the incarnation of its node, then a count of this many bits."""


def same_life(one: int, other: int) -> bool:
    """Whether two read ids are of one incarnation; only then does their order mean anything."""
    return one >> COUNT_BITS == other >> COUNT_BITS


class ReadRounds:
    """A leader's reads: its own, and the newest one asked by each follower (an answer to a read of
    a node holds for all that it asked before)."""

    def __init__(self, node: NodeId) -> None:
        self.round = 0
        self.index = LogIndex(0)
        """The commit index when the running round started."""
        self._node = node
        self._waiting_local: list[int] = []
        self._waiting_remote: dict[NodeId, int] = {}
        self._running_local: list[int] = []
        self._running_remote: dict[NodeId, int] = {}
        self._confirmed: dict[NodeId, bool] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether reads wait for a round to start."""
        return bool(self._waiting_local or self._waiting_remote)

    @property
    def is_running(self) -> bool:
        """Whether a round is under way."""
        return bool(self._running_local or self._running_remote)

    @property
    def heartbeat_round(self) -> int:
        """What a heartbeat should carry: the running round, or 0."""
        return self.round if self.is_running else 0

    def ask_local(self, read_id: int) -> None:
        """A read of this node."""
        self._waiting_local.append(read_id)

    def ask_remote(self, node: NodeId, read_id: int) -> None:
        """A read of a follower; requests may arrive twice or out of order. Those of another life of
        the node give way: nobody waits for them any more."""
        known = self._waiting_remote.get(node, 0)
        if read_id > known or not same_life(read_id, known):
            self._waiting_remote[node] = read_id

    def start(self, commit: LogIndex) -> bool:
        """Begin a round for all waiting reads, if there are any and none is under way."""
        if not self.is_waiting or self.is_running:
            return False
        self.round += 1
        self.index = commit
        self._running_local, self._waiting_local = self._waiting_local, []
        self._running_remote, self._waiting_remote = self._waiting_remote, {}
        self._confirmed = {self._node: True}
        return True

    def confirm(self, node: NodeId, read_round: int) -> None:
        """A heartbeat of that round was answered at this term."""
        if self.is_running and read_round == self.round:
            self._confirmed[node] = True

    def finish(self, members: Members) -> tuple[list[int], list[tuple[NodeId, int]]]:
        """If a quorum confirmed the running round, end it: own read ids, (node, read id) of others;
        both may be answered with `index`. Else nothing."""
        if not self.is_running or joint_vote(members, self._confirmed) is not VoteResult.WON:
            return [], []
        local, remote = self._running_local, sorted(self._running_remote.items())
        self._running_local, self._running_remote = [], {}
        return local, remote

    def pending_local(self) -> list[int]:
        """Own reads that were not answered."""
        return [*self._running_local, *self._waiting_local]


class ForwardedReads:
    """A follower's reads. Those asked between two Readies share one request, under the newest id;
    its answer holds for all older ones too, so a lost request is healed by the next."""

    def __init__(self) -> None:
        self._asked: list[int] = []
        self._sent_up_to = 0

    def ask(self, read_id: int) -> None:
        """A read of this node."""
        assert not self._asked or self._asked[-1] < read_id, "read ids increase"
        self._asked.append(read_id)

    def take_request(self) -> int | None:
        """The id to ask the leader for, if there are new reads."""
        if not self._asked or self._asked[-1] <= self._sent_up_to:
            return None
        self._sent_up_to = self._asked[-1]
        return self._sent_up_to

    def answer(self, read_id: int) -> Sequence[int]:
        """The reads that an answer to `read_id` covers; none if it comes too late, or was meant for
        an earlier life of this node (whose ids may well be larger)."""
        count = sum(1 for asked in self._asked if asked <= read_id and same_life(asked, read_id))
        answered, self._asked = self._asked[:count], self._asked[count:]
        return answered

    def drop(self) -> list[int]:
        """Forget all; returns their ids."""
        dropped, self._asked = self._asked, []
        return dropped

"""What a leader knows of one follower, and how much it may send it.

Three states. *Probe*: the follower's log is not known; one append at a time, until one is accepted.
*Replicate*: appends are sent optimistically, `next` runs ahead of `match`, bounded by messages and
bytes in flight. *Snapshot*: the entries it needs are gone; nothing is sent but the offer.

Invariants: match < next; match never decreases in a term; in-flight appends only in replicate.
"""

from collections import deque
from collections.abc import Callable

from balsadb.raft.members import Members
from balsadb.raft.ready import PeerState, PeerStatus
from balsadb.types import LogIndex, NodeId


class Inflights:
    """The appends on their way to one follower: (last index, bytes), oldest first."""

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._sent: deque[tuple[LogIndex, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be sent now (one message may overshoot the byte limit)."""
        return len(self._sent) >= self._messages_max or self._bytes >= self._bytes_max

    def add(self, last_index: LogIndex, data_bytes: int) -> None:
        """An append whose last entry is `last_index` left."""
        assert not self.is_full, "sent over the limit"
        assert not self._sent or self._sent[-1][0] < last_index, "sent twice"
        self._sent.append((last_index, data_bytes))
        self._bytes += data_bytes

    def release_to(self, index: LogIndex) -> None:
        """Everything up to `index` arrived."""
        while self._sent and self._sent[0][0] <= index:
            self._bytes -= self._sent.popleft()[1]

    def clear(self) -> None:
        """Forget all of it: it will be sent again."""
        self._sent.clear()
        self._bytes = 0


class Progress:
    """One follower, as its leader sees it. The leader has one for itself too (always replicate)."""

    def __init__(self, next_index: LogIndex, inflights: Inflights) -> None:
        self.match = LogIndex(0)
        self.next = next_index
        self.state: PeerState = "probe"
        self.recent_active = False
        self.paused = False
        """Probe: an append is unanswered. Replicate: the window is full."""
        self.inflights = inflights
        self.pending_snapshot = LogIndex(0)
        """Snapshot: the index offered last."""
        self.offer_age_ticks = 0
        """Snapshot: ticks since the offer left."""
        self.sent_commit = LogIndex(0)
        """The newest commit index that this follower was told, as far as it could use it."""

    def _enter(self, state: PeerState) -> None:
        self.paused = False
        self.pending_snapshot = LogIndex(0)
        self.offer_age_ticks = 0
        self.state = state
        self.inflights.clear()

    def become_probe(self) -> None:
        """Ask again from what is known to match, or from the snapshot just installed."""
        following = self.match + 1
        if self.state == "snapshot":
            following = max(following, self.pending_snapshot + 1)
        self._enter("probe")
        self.next = LogIndex(following)
        self._clip_sent_commit()

    def become_replicate(self) -> None:
        """The logs match up to `match`: stream."""
        self._enter("replicate")
        self.next = LogIndex(self.match + 1)

    def become_snapshot(self, index: LogIndex) -> None:
        """A checkpoint at `index` was offered."""
        self._enter("snapshot")
        self.pending_snapshot = index
        self.next = LogIndex(max(index, self.match) + 1)
        self.sent_commit = index

    @property
    def is_paused(self) -> bool:
        """Whether no append may be sent."""
        return self.state == "snapshot" or self.paused

    def sent(self, entries_count: int, data_bytes: int, commit: LogIndex) -> None:
        """An append with that many entries from `next` on left; it told `commit`."""
        if self.state == "replicate":
            if entries_count:
                self.next = LogIndex(self.next + entries_count)
                self.inflights.add(LogIndex(self.next - 1), data_bytes)
            self.paused = self.inflights.is_full
        else:
            assert self.state == "probe", "nothing is sent while a snapshot is under way"
            if entries_count:
                self.paused = True
        self.sent_commit = commit

    def can_bump_commit(self, commit: LogIndex) -> bool:
        """Whether telling `commit` would let the follower commit more."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def _clip_sent_commit(self) -> None:
        self.sent_commit = min(self.sent_commit, LogIndex(self.next - 1))

    def acknowledge(self, index: LogIndex) -> bool:
        """The follower's durable log matches up to `index`; False if that was known."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, LogIndex(index + 1))
        self.paused = False
        return True

    def reject(self, rejected: LogIndex, hint: LogIndex) -> bool:
        """The append after `rejected` did not fit; `hint` may. False if the answer is stale."""
        if self.state == "replicate":
            # Entries below match were acknowledged: an old rejection, overtaken on its way.
            if rejected <= self.match:
                return False
            self.next = LogIndex(self.match + 1)
            self._clip_sent_commit()
            return True
        if self.next - 1 != rejected:
            return False
        self.next = LogIndex(max(min(rejected, LogIndex(hint + 1)), LogIndex(self.match + 1)))
        self._clip_sent_commit()
        self.paused = False
        return True

    def status(self) -> PeerStatus:
        """A copy for people."""
        return PeerStatus(
            self.match, self.next, self.state, self.recent_active, len(self.inflights)
        )


def adopt(progress: dict[NodeId, Progress], members: Members, make: Callable[[], Progress]) -> None:
    """The members changed: forget who is gone, `make` progress for who came. Changed in place."""
    for node in [node for node in progress if node not in members.nodes]:
        del progress[node]
    for node in members.nodes:
        if node not in progress:
            progress[node] = make()

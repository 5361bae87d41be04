"""A leader's streams to its followers: what to send to whom, and when to ask again.

Events only mark a follower; `flush` sends. A marked follower gets every append that its window
allows, each with as many entries as fit; an empty append leaves only if it tells something new
(a commit index) or asks something (does the log match?).

*Interval*: from one regular heartbeat to the next. A follower whose stream was silent for the whole
interval is asked with an append, so a lost message costs at most one interval, and heartbeats sent
for reads do not cause any appends.
"""

from balsadb.raft.core import Core
from balsadb.raft.log import entries_bytes
from balsadb.raft.messages import AppendRequest, AppendResponse, SnapshotOffer
from balsadb.raft.progress import Progress
from balsadb.types import Entry, LogIndex, NodeId


class Replicator:
    """One per leadership. `progress` is the leader's, shared."""

    def __init__(self, core: Core, progress: dict[NodeId, Progress]) -> None:
        self._core = core
        self._progress = progress
        self.others = core.others()
        self._marked: set[NodeId] = set()
        """Get what there is to send."""
        self._asked: set[NodeId] = set()
        """Get an append even if it is empty."""
        self._silent: set[NodeId] = set()
        """Were sent no append in this interval."""

    def broadcast(self) -> None:
        """New entries or a new commit index: for everybody."""
        self._marked.update(self.others)

    def nudge(self, node: NodeId) -> None:
        """Send an append to the node in any case (if it may be sent one)."""
        self._asked.add(node)

    def on_members(self) -> None:
        """The members changed: whoever came is probed, whoever left is forgotten."""
        self.others = self._core.others()
        for nodes in (self._marked, self._asked, self._silent):
            nodes.intersection_update(self.others)
        self.broadcast()

    def tick(self) -> None:
        """Offers of snapshots grow older."""
        for node in self.others:
            self._progress[node].offer_age_ticks += 1

    def begin_interval(self) -> None:
        """A regular heartbeat leaves now."""
        self._silent.update(self.others)

    def on_heartbeat_response(self, node: NodeId) -> None:
        """The follower lives. If its stream is stuck or silent, ask where it is."""
        progress = self._progress[node]
        if progress.state == "snapshot":
            # The offer, or the follower's memory of it, may be lost; repeating one is cheap.
            if progress.offer_age_ticks >= self._core.options.election_ticks:
                self._offer_snapshot(node, progress)
        elif node in self._silent:
            progress.paused = False
            if progress.match < self._core.log.last_index or progress.state == "probe":
                self.nudge(node)

    def on_response(self, node: NodeId, response: AppendResponse) -> bool:
        """Digest an answer to an append; True if the follower's durable log grew (or proved to
        match while it was probed)."""
        core, progress = self._core, self._progress[node]
        if response.rejected:
            hint = response.hint_index
            if response.hint_term:
                # Where the follower's term is older than ours, nothing of that term or later fits.
                hint, _ = core.log.find_by_term(hint, response.hint_term)
            if progress.reject(response.index, hint):
                if progress.state == "replicate":
                    progress.become_probe()
                self.nudge(node)
            return False
        was_probing = progress.state == "probe" and progress.match == response.index
        if not progress.acknowledge(response.index) and not was_probing:
            return False
        if progress.state == "probe":
            progress.become_replicate()
        elif progress.state == "replicate":
            progress.inflights.release_to(response.index)
        elif progress.match + 1 >= core.log.first_index:
            progress.become_probe()
            progress.become_replicate()
        self._marked.add(node)
        return True

    def flush(self) -> None:
        """Send to all marked followers, in order of their ids."""
        if not self._marked and not self._asked:
            return
        commit = self._core.log.commit
        for node in self.others:
            is_asked = node in self._asked
            if not is_asked and node not in self._marked:
                continue
            progress = self._progress[node]
            may_be_empty = is_asked or progress.can_bump_commit(commit)
            while self._send_append(node, progress, may_be_empty=may_be_empty):
                may_be_empty = False
        self._marked.clear()
        self._asked.clear()

    def _send_append(self, node: NodeId, progress: Progress, *, may_be_empty: bool) -> bool:
        """One append, if the follower's state allows it; True if it left."""
        if progress.is_paused:
            return False
        core, log = self._core, self._core.log
        previous_index = LogIndex(progress.next - 1)
        previous_term = log.term(previous_index)
        if previous_term is None:
            self._offer_snapshot(node, progress)
            return False
        entries: list[Entry] = []
        if progress.next <= log.last_index and (
            progress.state != "replicate" or not progress.inflights.is_full
        ):
            entries = log.slice(
                progress.next, LogIndex(log.last_index + 1), core.options.message_bytes_max
            )
        if not entries and not may_be_empty:
            return False
        core.send(node, AppendRequest(previous_index, previous_term, log.commit, entries))
        progress.sent(len(entries), entries_bytes(entries), log.commit)
        self._silent.discard(node)
        return True

    def _offer_snapshot(self, node: NodeId, progress: Progress) -> None:
        """The entries it needs are compacted away. A node that does not answer gets no offer."""
        snapshot = self._core.snapshot
        if not progress.recent_active or snapshot is None:
            return
        assert snapshot.index >= self._core.log.anchor_index, "a hole between snapshot and log"
        self._core.send(node, SnapshotOffer(snapshot))
        progress.become_snapshot(snapshot.index)

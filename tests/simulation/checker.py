"""What must hold after every event, whatever the network, the disks and the clocks did.

Each check costs what changed, not what exists: it looks at the node the event touched, from where
it looked last. `Violation` names the invariant.
"""

from zlib import crc32

from balsadb.cluster.driver import Driver
from balsadb.cluster.effects import WalWork
from balsadb.raft import Members, Message, VoteRequest, VoteResponse
from balsadb.storage import WalBatch
from balsadb.types import Entry, LogIndex


class Violation(AssertionError):
    """An invariant does not hold."""


def require(condition: bool, invariant: str, detail: object = "") -> None:
    """Raise `Violation` unless the condition holds."""
    if not condition:
        raise Violation(f"{invariant}: {detail}")


class Disk:
    """What a node's synced batches say: the log's terms by index, the newest mark, the term."""

    def __init__(self) -> None:
        self.terms: dict[int, int] = {}
        self.mark = 0
        self.term = 0

    def copy(self) -> "Disk":
        """Another one, the same."""
        other = Disk()
        other.terms, other.mark, other.term = dict(self.terms), self.mark, self.term
        return other

    def take(self, batch: WalBatch) -> None:
        """A batch is on it."""
        if batch.snapshot is not None:
            index, term = batch.snapshot.index, batch.snapshot.term
            if self.terms.get(index) != term:
                self.terms = {index: term}
            self.mark = max(self.mark, index)
        if batch.hard_state is not None:
            self.term = batch.hard_state.term
        for entry in batch.entries:
            _put(self.terms, entry.index, entry.term)

    def holds(self, index: int, term: int) -> bool:
        """Whether it has the entry, or a checkpoint that covers it."""
        return self.mark >= index or self.terms.get(index) == term


class NodeView:
    """What the checker knows of one node; `disk` survives its crashes."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.writing: WalBatch | None = None
        self.written: dict[int, int] = {}
        self.commit = 0
        self.term = 0
        self.leading_term = 0


class Checker:
    """Invariants of Raft (figure 3 of the paper) and of the host around it."""

    def __init__(self, nodes: int) -> None:
        self.views = {node: NodeView() for node in range(1, nodes + 1)}
        self.leaders: dict[int, int] = {}
        self.votes: dict[tuple[int, int], int] = {}
        self.entries: dict[tuple[int, int], tuple[int, int]] = {}
        self.committed: dict[int, tuple[int, int]] = {}
        self.commit_max = 0
        self.commit_terms: list[tuple[int, int]] = []
        self.chains: dict[int, bytes] = {}
        self.members: dict[int, Members] = {}
        self.effective: set[tuple[int, int]] = set()
        self.refused: set[int] = set()
        self.acked: dict[int, int] = {}
        self.reads_checked = 0
        self.doubtful: set[int] = set()
        """Nodes whose disk was damaged or replaced. What they held when it happened counts as held:
        without their votes, which nobody may take, the rest decides as if they had it."""
        self.trusts_reads = False
        """Leave reads to the history of what clients saw."""

    # --- a node's life -------------------------------------------------------------------------

    def started(self, node: int, driver: Driver) -> None:
        """The node recovered from its disk: all that was synced is there; a batch whose sync did
        not end may be."""
        view = self.views[node]
        log = driver.raft._core.log
        term = driver.raft._core.term
        require(term >= view.disk.term, "a durable term is not forgotten", (node, term))
        require(log.commit >= view.disk.mark, "a checkpoint is not forgotten", node)
        base = log.anchor_index
        lost = _missing(view.disk, driver)
        if lost and view.writing is not None:
            disk = view.disk.copy()
            disk.take(view.writing)
            lost = _missing(disk, driver)
        require(not lost, "synced entries are not forgotten", (node, lost))
        view.written = {i: int(log.term(i) or 0) for i in range(base, log.last_index + 1)}
        view.disk.terms, view.disk.mark, view.disk.term = dict(view.written), base, term
        view.writing = None
        view.commit, view.term, view.leading_term = base, term, 0

    def wiped(self, node: int) -> None:
        """The node's disk was replaced by an empty one."""
        self.views[node] = NodeView()
        self.doubtful.add(node)

    def wal_issued(self, node: int, work: WalWork) -> None:
        """Log matching: an entry is fixed by (index, term), and so is all before it."""
        batch = work.batch
        if batch is None:
            return
        self.views[node].writing = batch
        written = self.views[node].written
        if batch.snapshot is not None:
            index, term = batch.snapshot.index, batch.snapshot.term
            if written.get(index) != term:
                written.clear()
            written[index] = term
        for entry in batch.entries:
            before = written.get(entry.index - 1, 0)
            require(entry.index == 1 or before > 0, "the log has no gap", (node, entry.index))
            known = self.entries.setdefault((entry.index, entry.term), (before, _content(entry)))
            require(
                known == (before, _content(entry)), "log matching", (node, entry.index, entry.term)
            )
            _put(written, entry.index, entry.term)

    def wal_durable(self, node: int, work: WalWork) -> None:
        """The batch is synced."""
        view = self.views[node]
        view.writing = None
        batch = work.batch
        if batch is None:
            return
        hard = batch.hard_state
        if hard is not None:
            require(hard.term >= view.disk.term, "a durable term never falls", node)
            if hard.vote:
                self._vote(node, hard.term, hard.vote)
        view.disk.take(batch)

    # --- after each event ----------------------------------------------------------------------

    def look(self, node: int, driver: Driver) -> None:
        """Roles, terms and commits of the node that the event touched."""
        view = self.views[node]
        core = driver.raft._core
        log = core.log
        term = core.term
        require(term >= view.term, "a term never falls", (node, term, view.term))
        view.term = term
        if driver.raft._role.name == "leader" and view.leading_term != term:
            view.leading_term = term
            leader = self.leaders.setdefault(term, node)
            require(leader == node, "election safety", (term, leader, node))
            self._complete(node, driver)
        self.changed(node, core.members_index, core.members)
        commit = log.commit
        require(commit >= view.commit, "a commit index never falls", (node, commit, view.commit))
        require(log.applied <= commit <= log.last_index, "applied <= commit <= last", node)
        if commit > view.commit:
            self._committed(node, driver, view.commit, commit)
            view.commit = commit

    def delivered(self, message: Message) -> None:
        """One vote in a term, over all lives of a node."""
        body = message.body
        if isinstance(body, VoteRequest) and not body.pre_vote:
            self._vote(message.source, message.term, message.source)
        elif isinstance(body, VoteResponse) and not body.pre_vote and not body.rejected:
            self._vote(message.source, message.term, message.target)

    def changed(self, node: int, index: int, members: Members) -> None:
        """The same index, the same members."""
        known = self.members.setdefault(index, members)
        require(known == members, "members are the same", (node, index, known, members))

    def applied(self, node: int, index: int, chain: bytes) -> None:
        """State-machine safety: the same index, the same state."""
        known = self.chains.setdefault(index, chain)
        require(known == chain, "state-machine safety", (node, index))

    # --- clients -------------------------------------------------------------------------------

    def acknowledged(self, index: int, term: int, data: bytes) -> None:
        """A write was acknowledged with this position."""
        require(
            self.committed.get(index) == (term, crc32(data)), "acknowledged is committed", index
        )
        self.acked[index] = term

    def certainly_failed(self, data: bytes) -> None:
        """A write was answered as failed: it must never be committed."""
        self.refused.add(crc32(data))

    def took_effect(self, client: int, sequence: int, index: int) -> None:
        """A command changed the state (as seen by the first answer about it)."""
        del index
        self.effective.add((client, sequence))

    def read_served(self, floor: int, applied: int, promised: int = 0) -> None:
        """A read sees all that was committed, anywhere, before it began, and what its answer
        promises."""
        self.reads_checked += 1
        if self.trusts_reads:
            return
        require(applied >= promised, "a read waits for apply", (promised, applied))
        require(applied >= floor, "linearizable read", (floor, applied))

    # --- inside --------------------------------------------------------------------------------

    def _vote(self, node: int, term: int, candidate: int) -> None:
        if node in self.doubtful:
            return  # it may have forgotten the first; what follows if that counts is checked
        known = self.votes.setdefault((node, term), candidate)
        require(known == candidate, "one vote a term", (node, term, known, candidate))

    def _complete(self, node: int, driver: Driver) -> None:
        """Leader completeness: what was committed in an earlier term is in the leader's log."""
        log = driver.raft._core.log
        term = driver.raft._core.term
        for index, committed_in in reversed(self.commit_terms):
            if committed_in < term:
                there = log.term(index) if index >= log.anchor_index else self.committed[index][0]
                require(
                    there == self.committed[index][0], "leader completeness", (node, term, index)
                )
                return

    def _committed(self, node: int, driver: Driver, before: int, commit: int) -> None:
        core = driver.raft._core
        log = core.log
        first = max(before, log.anchor_index) + 1
        entries = log.slice(first, commit + 1, 1 << 30) if first <= commit else []
        for entry in entries:
            content = (int(entry.term), _content(entry))
            known = self.committed.setdefault(entry.index, content)
            require(known == content, "committed is immutable", (node, entry.index, known, content))
            require(
                not entry.data or content[1] not in self.refused,
                "what was answered as failed is never committed",
                entry.index,
            )
        if commit > self.commit_max:
            # Whoever learns of it first is the leader that committed it.
            self.commit_max = commit
            self.commit_terms.append((commit, int(core.term)))
            self._on_quorum(commit, core.members)

    def _on_quorum(self, commit: int, members: Members) -> None:
        term = self.committed[commit][0]
        for half in filter(None, (members.voters, members.outgoing)):
            holders = [
                node
                for node in half
                if self.views[node].disk.holds(commit, term) or node in self.doubtful
            ]
            require(
                2 * len(holders) > len(half),
                "committed is durable on a quorum",
                (commit, holders, half),
            )


def _missing(disk: Disk, driver: Driver) -> list[int]:
    log = driver.raft._core.log
    return [
        index
        for index, term in disk.terms.items()
        if index > log.anchor_index and log.term(LogIndex(index)) != term
    ]


def _content(entry: Entry) -> int:
    return crc32(entry.data)


def _put(terms: dict[int, int], index: int, term: int) -> None:
    """An entry at an index drops those after it."""
    if index in terms:
        later = index
        while later in terms:
            del terms[later]
            later += 1
    terms[index] = term

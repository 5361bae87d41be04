"""Who waits for what: proposals on their way through the log, and reads on their way to an index.

Both tables are bounded by the driver's options and answer each token exactly once, unless it is
cancelled. Deadlines are in ticks.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from balsadb.cluster.effects import Answer, Committed, Failed, ReadReady
from balsadb.errors import NotLeader, OutcomeUnknown, Overloaded, QuorumLost
from balsadb.types import Entry, LogIndex, NodeId, Term

Answers = list[tuple[int, Answer]]


class Deadlines:
    """Tokens by the tick at which they expire. Cancelled tokens stay until their tick."""

    def __init__(self) -> None:
        self.now = 0
        self._due: dict[int, list[int]] = {}

    def add(self, token: int, ticks: int) -> None:
        """Let `token` expire `ticks` (at least one) from now."""
        self._due.setdefault(self.now + max(ticks, 1), []).append(token)

    def tick(self) -> Sequence[int]:
        """The tokens that expire now."""
        self.now += 1
        return self._due.pop(self.now, ())


class Proposal:
    """Consecutive entries of one proposal: log indexes `first` to `last`, all of `term`."""

    __slots__ = ("first", "last", "results", "term", "token", "wait_applied")

    def __init__(
        self, token: int, first: LogIndex, last: LogIndex, term: Term, wait_applied: bool
    ) -> None:
        self.token = token
        self.first = first
        self.last = last
        self.term = term
        self.wait_applied = wait_applied
        self.results: list[Any] = []


class Proposals:
    """Proposals in the log, by index; a waiter is keyed by (index, term), never by index alone."""

    def __init__(self, deadlines: Deadlines, answers: Answers) -> None:
        self._deadlines = deadlines
        self._answers = answers
        self._by_index: dict[LogIndex, Proposal] = {}
        self._by_token: dict[int, Proposal] = {}

    def __len__(self) -> int:
        """Proposals that wait."""
        return len(self._by_token)

    def add(
        self,
        token: int,
        positions: Sequence[tuple[LogIndex, Term]],
        deadline_ticks: int,
        wait_applied: bool,
    ) -> None:
        """Wait for the entries just put into the log at `positions` (consecutive, one term)."""
        first, term = positions[0]
        proposal = Proposal(token, first, positions[-1][0], term, wait_applied)
        for index, _ in positions:
            self._by_index[index] = proposal
        self._by_token[token] = proposal
        if deadline_ticks:
            self._deadlines.add(token, deadline_ticks)

    def committed(self, entries: Sequence[Entry]) -> None:
        """Entries are committed: answers those that wait for no more than that."""
        if not self._by_index:
            return
        for entry in entries:
            proposal = self._by_index.get(entry.index)
            if proposal is None:
                continue
            if proposal.term != entry.term:
                self._fail(proposal, "another leader's entry took its place in the log")
            elif entry.index == proposal.last and not proposal.wait_applied:
                self._forget(proposal)
                self._answer(proposal, Committed(entry.index, entry.term, ()))

    def applied(self, results: Sequence[tuple[LogIndex, Any]]) -> None:
        """Entries are applied with these results."""
        if not self._by_index:
            return
        for index, result in results:
            proposal = self._by_index.get(index)
            if proposal is None:
                continue
            proposal.results.append(result)
            if index == proposal.last:
                self._forget(proposal)
                self._answer(proposal, Committed(index, proposal.term, proposal.results))

    def lost(self, why: str) -> None:
        """Leadership or the place in the log is lost: the fate of all that wait is unknown."""
        for proposal in list(self._by_token.values()):
            self._fail(proposal, why)

    def expire(self, token: int) -> bool:
        """Answer `OutcomeUnknown` if the token waits; whether it did."""
        proposal = self._by_token.get(token)
        if proposal is None:
            return False
        self._fail(proposal, "not committed in time (is a majority of the members up?)")
        return True

    def cancel(self, token: int) -> bool:
        """Forget the token; whether it waited."""
        proposal = self._by_token.get(token)
        if proposal is None:
            return False
        self._forget(proposal)
        return True

    def _forget(self, proposal: Proposal) -> None:
        del self._by_token[proposal.token]
        for index in range(proposal.first, proposal.last + 1):
            self._by_index.pop(LogIndex(index), None)

    def _fail(self, proposal: Proposal, why: str) -> None:
        self._forget(proposal)
        self._answer(proposal, Failed(OutcomeUnknown(f"the write's outcome is unknown: {why}")))

    def _answer(self, proposal: Proposal, answer: Answer) -> None:
        self._answers.append((proposal.token, answer))


class ReadBatch:
    """Reads that share a read index; `asked` is the tick of the last request for it."""

    __slots__ = ("asked", "ids", "tokens")

    def __init__(self, tokens: list[int], asked: int) -> None:
        self.tokens = tokens
        self.asked = asked
        self.ids: list[int] = []


class Reads:
    """Linearizable reads: all reads that arrive between two `ask` calls share one read index.

    A request that got no answer is asked again under a fresh id (an id is never used twice: an
    answer to the first request must not serve a read that began after it). The answer to any id of
    a batch serves the batch, since all its reads began before the first of them.
    """

    def __init__(self, deadlines: Deadlines, answers: Answers, reads_max: int) -> None:
        self._deadlines = deadlines
        self._answers = answers
        self._reads_max = reads_max
        self._waiting: set[int] = set()
        self._fresh: list[int] = []
        self._batches: dict[int, ReadBatch] = {}
        self._ready: deque[tuple[LogIndex, list[int]]] = deque()

    def __len__(self) -> int:
        """Reads that wait."""
        return len(self._waiting)

    @property
    def unasked(self) -> int:
        """Tokens kept to be asked for."""
        return len(self._fresh)

    def add(self, token: int, deadline_ticks: int) -> None:
        """A read begins; refused with `Overloaded` when too many wait."""
        if len(self._waiting) >= self._reads_max:
            self._answers.append((token, Failed(Overloaded("too many reads wait on this node"))))
            return
        self._waiting.add(token)
        self._fresh.append(token)
        if deadline_ticks:
            self._deadlines.add(token, deadline_ticks)

    def ask(self, read_index: Callable[[], int]) -> None:
        """Ask for a read index for what arrived since the last call.

        `read_index` may raise `NotLeader` (no leader known): the reads wait on.
        """
        if not self._fresh:
            return
        tokens = [token for token in self._fresh if token in self._waiting]
        if tokens:
            try:
                identity = read_index()
            except NotLeader:
                self._fresh = tokens
                return
            batch = ReadBatch(tokens, self._deadlines.now)
            batch.ids.append(identity)
            self._batches[identity] = batch
        self._fresh.clear()

    def retry(self, read_index: Callable[[], int], retry_ticks: int) -> None:
        """Ask again for batches without an answer since `retry_ticks`."""
        due = [
            batch
            for identity, batch in self._batches.items()
            if identity == batch.ids[-1] and self._deadlines.now - batch.asked >= retry_ticks
        ]
        for batch in due:
            batch.tokens = [token for token in batch.tokens if token in self._waiting]
            if not batch.tokens:
                self._drop(batch)
                continue
            try:
                identity = read_index()
            except NotLeader:
                self._again(batch)
                continue
            batch.asked = self._deadlines.now
            batch.ids.append(identity)
            self._batches[identity] = batch
            if len(batch.ids) > 4:
                del self._batches[batch.ids.pop(0)]

    def dropped(self, identities: Sequence[int]) -> None:
        """Raft gave these up (no leader, or a leader change): ask again when one is known."""
        for identity in identities:
            batch = self._batches.get(identity)
            if batch is not None:
                batch.ids.remove(identity)
                del self._batches[identity]
                if not batch.ids:
                    self._fresh.extend(batch.tokens)

    def answered(self, identity: int, index: LogIndex) -> None:
        """The read index of a batch is known."""
        batch = self._batches.get(identity)
        if batch is not None:
            self._drop(batch)
            self._ready.append((index, batch.tokens))

    def serve(self, applied: LogIndex) -> None:
        """Answer the reads whose index is applied."""
        if not self._ready:
            return
        later: deque[tuple[LogIndex, list[int]]] = deque()
        for index, tokens in self._ready:
            if index > applied:
                later.append((index, tokens))
                continue
            for token in tokens:
                if token in self._waiting:
                    self._waiting.discard(token)
                    self._answers.append((token, ReadReady(applied)))
        self._ready = later

    def expire(self, token: int, leader: NodeId) -> None:
        """Answer `QuorumLost` if the token waits."""
        if token in self._waiting:
            self._waiting.discard(token)
            why = f"leader {leader} did not confirm" if leader else "no leader is known"
            error = QuorumLost(f"cannot read linearizably: {why} (is a majority of members up?)")
            self._answers.append((token, Failed(error)))

    def cancel(self, token: int) -> None:
        """Forget the token."""
        self._waiting.discard(token)

    def _drop(self, batch: ReadBatch) -> None:
        for identity in batch.ids:
            self._batches.pop(identity, None)

    def _again(self, batch: ReadBatch) -> None:
        self._drop(batch)
        self._fresh.extend(batch.tokens)

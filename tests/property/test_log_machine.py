"""The log of the Raft core against the longest way round: a plain list and numbers.

Hypothesis chooses the steps, each legal for the model; after every step the two must say the same,
and the log's own invariants must hold.
"""

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from balsadb.raft import Members, SnapshotMeta
from balsadb.raft.log import ENTRY_OVERHEAD_BYTES, Log
from balsadb.types import ENTRY_CHANGE, ENTRY_NORMAL, Entry, LogIndex, Term

sizes = st.lists(st.integers(0, 60), min_size=1, max_size=5)
share = st.integers(0, 100)
kinds = st.sampled_from([ENTRY_NORMAL, ENTRY_NORMAL, ENTRY_CHANGE])


def cost(entries: Sequence[Entry]) -> int:
    """What entries count against limits."""
    return sum(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in entries)


class LogMachine(RuleBasedStateMachine):
    """`entries` is all that was ever kept, from index 1 on; what lies at or before `anchor` counts
    as forgotten. The marks mean what the chapter of `raft/log.py` says."""

    @initialize(anchor=st.integers(0, 3), sizes=st.lists(st.integers(0, 60), max_size=4))
    def start(self, anchor: int, sizes: list[int]) -> None:
        self.term = 1
        self.entries = [Entry(LogIndex(i), Term(1), 0, b"") for i in range(1, anchor + 1)]
        new = self.made(sizes)
        self.entries += new
        self.anchor = self.commit = self.handed = self.applied = anchor
        self.written = self.persisted = len(self.entries)
        self.handed_now: list[Entry] = []
        self.log = Log(LogIndex(anchor), Term(1 if anchor else 0), new)

    def made(self, sizes: list[int], kind: int = ENTRY_NORMAL) -> list[Entry]:
        """New entries after the last, of the present term."""
        first = len(self.entries) + 1
        return [
            Entry(LogIndex(first + i), Term(self.term), kind, bytes(size))
            for i, size in enumerate(sizes)
        ]

    @property
    def last(self) -> int:
        return len(self.entries)

    def term_at(self, index: int) -> int | None:
        """The term that the log must give for an index."""
        if not self.anchor <= index <= self.last:
            return None
        return self.entries[index - 1].term if index else 0

    # --- growth ---

    @rule(sizes=sizes, kind=kinds, newer=st.booleans())
    def append(self, sizes: list[int], kind: int, newer: bool) -> None:
        self.term += newer
        new = self.made(sizes, kind)
        self.log.append(new)
        self.entries += new

    @rule(at=share, sizes=sizes, same=st.integers(0, 3))
    def merge(self, at: int, sizes: list[int], same: int) -> None:
        """A leader's entries: some are here already, some overwrite, some follow."""
        keep = self.commit + at * (self.last - self.commit + 1) // 101
        here = self.entries[max(self.anchor, keep - same) : keep]
        conflict = keep + 1 if keep < self.last else None
        self.term += 1
        kept, self.entries = self.entries, self.entries[:keep]
        new = self.made(sizes)
        assert self.log.merge([*here, *new]) == conflict
        self.entries += new
        if conflict is not None:
            self.written, self.persisted = min(self.written, keep), min(self.persisted, keep)
        again = [*here, *new]
        assert self.log.merge(again) is None, "a repetition changes nothing"
        assert self.log.merge(again[:1]) is None, "nor does the beginning of one"
        assert len(kept) >= keep

    @precondition(lambda self: self.last > self.commit)
    @rule(at=share)
    def truncate(self, at: int) -> None:
        index = self.commit + 1 + at * (self.last - self.commit) // 101
        self.log.truncate(LogIndex(index))
        del self.entries[index - 1 :]
        self.written, self.persisted = min(self.written, index - 1), min(self.persisted, index - 1)

    @rule(beyond=st.integers(1, 6), newer=st.booleans())
    def restore(self, beyond: int, newer: bool) -> None:
        """A snapshot ahead of the commit index replaces everything."""
        index = self.commit + beyond
        self.term += newer
        del self.entries[self.commit :]
        for missing in range(len(self.entries) + 1, index + 1):
            self.entries.append(Entry(LogIndex(missing), Term(self.term), 0, b""))
        self.log.restore(SnapshotMeta(LogIndex(index), Term(self.term), Members.of([1])))
        self.anchor = self.commit = self.handed = self.written = self.persisted = index
        self.handed_now = []

    @rule(at=share)
    def compact(self, at: int) -> None:
        index = at * (min(self.applied, self.persisted) + 1) // 101
        self.log.compact(LogIndex(index))
        self.anchor = max(self.anchor, index)

    # --- marks ---

    @rule(at=share)
    def commit_to(self, at: int) -> None:
        index = at * (self.last + 1) // 101
        assert self.log.commit_to(LogIndex(index)) == (index > self.commit)
        self.commit = max(self.commit, index)

    @rule()
    def write(self) -> None:
        assert self.log.has_unwritten == (self.written < self.last)
        assert self.log.take_unwritten() == self.entries[self.written :]
        self.written = self.last

    @rule(at=share)
    def persist(self, at: int) -> None:
        index = at * (self.written + 1) // 101
        assert self.log.persisted_to(LogIndex(index)) == (index > self.persisted)
        self.persisted = max(self.persisted, index)

    @rule(bytes_max=st.integers(1, 300))
    def hand(self, bytes_max: int) -> None:
        """As many as fit; one at least, if the host has none."""
        end = min(self.commit, self.persisted)
        expected: list[Entry] = []
        held = cost(self.handed_now)
        if held < bytes_max:
            for entry in self.entries[self.handed : end]:
                if expected and held + cost([*expected, entry]) > bytes_max:
                    break
                expected.append(entry)
        assert self.log.can_hand(bytes_max) == bool(expected)
        assert self.log.take_committed(bytes_max) == expected
        self.handed += len(expected)
        self.handed_now += expected

    @rule(at=share)
    def apply(self, at: int) -> None:
        index = at * (self.handed + 1) // 101
        self.log.applied_to(LogIndex(index))
        self.applied = max(self.applied, index)
        self.handed_now = [entry for entry in self.handed_now if entry.index > self.applied]

    @rule()
    def settle(self) -> None:
        """All that usually follows an append, or chance seldom gets as far as a compaction."""
        self.write()
        self.persist(100)
        self.commit_to(100)
        self.hand(1 << 20)
        self.apply(100)

    # --- what must hold ---

    @invariant()
    def marks_agree(self) -> None:
        log = self.log
        assert (log.anchor_index, log.first_index) == (self.anchor, self.anchor + 1)
        assert (log.last_index, log.last_term) == (self.last, self.term_at(self.last))
        assert (log.commit, log.handed, log.applied) == (self.commit, self.handed, self.applied)
        assert (log.written, log.persisted) == (self.written, self.persisted)
        retained = self.entries[self.anchor :]
        assert log.log_bytes == cost(retained)
        assert log.uncommitted_bytes == cost(self.entries[max(self.commit, self.anchor) :])
        assert log.handed_bytes == cost(self.handed_now)
        log.check()

    @invariant()
    def entries_agree(self) -> None:
        log = self.log
        for index in (0, self.anchor - 1, self.anchor, self.last, self.last + 1):
            assert log.term(LogIndex(index)) == (None if index < 0 else self.term_at(index))
        if self.last > self.anchor:
            stop = LogIndex(self.last + 1)
            assert log.slice(log.first_index, stop, 1 << 30) == self.entries[self.anchor :]
            assert len(log.slice(log.first_index, stop, 1)) == 1
        unapplied = self.entries[max(self.applied, self.anchor) : self.commit]
        changes = any(entry.kind == ENTRY_CHANGE for entry in unapplied)
        assert log.has_unapplied(ENTRY_CHANGE) == changes

    @invariant()
    def hints_lead_to_what_may_match(self) -> None:
        for index in (self.anchor, (self.anchor + self.last) // 2, self.last + 2):
            for term in {1, self.term - 1, self.term}:
                at = min(index, self.last)
                while at > self.anchor and self.entries[at - 1].term > term:
                    at -= 1
                found = self.log.find_by_term(LogIndex(index), Term(term))
                assert found == (at, self.term_at(at))


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, derandomize=True
)

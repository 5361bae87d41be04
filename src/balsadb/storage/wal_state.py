"""What a log says when its records are read in order, and the little of it that a writer keeps.

The rules, the same for both:

* an entry at index i drops every entry at i or above before it (Raft overwrites an uncommitted
  tail);
* a snapshot reference at index s drops the entries up to s; those after it stay if the log agreed
  with the snapshot (its entry s had the same term), and go if it did not. Who writes the reference
  decides that and records it, because a later reader may no longer have entry s;
* the last hard state counts.
"""

from collections.abc import Iterable

import msgspec

from balsadb.errors import REJOIN, Corruption
from balsadb.storage.record import Meta, Record, SnapshotMark, SnapshotRef
from balsadb.types import Entry, HardState, LogIndex, Term


class WalState(msgspec.Struct, frozen=True):
    """What a node remembers. `entries` are contiguous, from `snapshot.index` + 1 (or 1) on."""

    hard_state: HardState | None
    snapshot: SnapshotRef | None
    entries: list[Entry]


class Replay:
    """Reads records in order. `what` names the segment, for the messages of `Corruption`."""

    def __init__(self) -> None:
        self.hard_state: HardState | None = None
        self.snapshot: SnapshotRef | None = None
        self.entries: list[Entry] = []

    def apply(self, records: Iterable[Record], what: str) -> LogIndex:
        """Take the records of one batch; the largest entry index among them, 0 if none."""
        largest = 0
        for record in records:
            if isinstance(record, Entry):
                self._entry(record, what)
                largest = max(largest, record.index)
            elif isinstance(record, HardState):
                self.hard_state = record
            elif isinstance(record, SnapshotMark):
                self._snapshot(record)
            elif isinstance(record, Meta):
                raise Corruption(f"{what}: a segment's header inside a segment")
        return LogIndex(largest)

    def finish(self) -> WalState:
        """The state, once it is known to have no hole."""
        first = self.snapshot.index + 1 if self.snapshot else 1
        if self.entries and self.entries[0].index != first:
            raise Corruption(
                f"the log begins at entry {self.entries[0].index} where {first} is needed: a "
                f"segment is missing. Restore the files, or join again as a new node: {REJOIN}"
            )
        return WalState(self.hard_state, self.snapshot, self.entries)

    def _entry(self, entry: Entry, what: str) -> None:
        entries = self.entries
        if entries:
            at = entry.index - entries[0].index
            if at > len(entries):
                raise Corruption(f"{what}: entry {entry.index} follows {entries[-1].index}")
            if at < len(entries):
                del entries[max(at, 0) :]
        entries.append(entry)

    def _snapshot(self, mark: SnapshotMark) -> None:
        self.snapshot = mark.ref
        if not mark.keeps:
            self.entries.clear()
        elif self.entries:
            del self.entries[: max(mark.ref.index + 1 - self.entries[0].index, 0)]


class Outline:
    """What a writer knows of the log it continues: last index, terms, hard state, snapshot.

    Terms are kept as runs, (first index, term) each, so that the cost is a few numbers an
    election, not an entry.
    """

    def __init__(self, state: WalState) -> None:
        self.hard_state = state.hard_state
        self.snapshot = state.snapshot
        self.last = LogIndex(state.snapshot.index if state.snapshot else 0)
        self._runs: list[tuple[LogIndex, Term]] = []
        self.extend(state.entries)

    def mark(self, ref: SnapshotRef) -> SnapshotMark:
        """How a reference must be recorded. ValueError if it goes back."""
        old = self.snapshot
        if old is not None and ref.index < old.index:
            raise ValueError(f"snapshot reference {ref.index} after {old.index}")
        keeps = ref.index <= self.last and self._term(ref.index) == ref.term
        return SnapshotMark(ref, keeps)

    def set_snapshot(self, mark: SnapshotMark) -> None:
        """The reference was written."""
        self.snapshot = mark.ref
        if not mark.keeps:
            self.last = mark.ref.index
            self._runs.clear()
            return
        while len(self._runs) > 1 and self._runs[1][0] <= mark.ref.index:
            del self._runs[0]

    def check(self, entries: Iterable[Entry], after: LogIndex, floor: LogIndex) -> None:
        """ValueError unless the entries may follow a log that ends at `after`, none at or below
        `floor` (the snapshot), and have terms that never fall."""
        last, term = after, 0
        for entry in entries:
            if entry.index <= floor or entry.index > last + 1 or (term and entry.index != last + 1):
                raise ValueError(f"entry {entry.index} after {last}, snapshot {floor}")
            if entry.term < max(term, 1):
                raise ValueError(f"entry {entry.index} of term {entry.term} after term {term}")
            last, term = entry.index, entry.term

    def extend(self, entries: Iterable[Entry]) -> None:
        """The entries were written."""
        runs = self._runs
        for entry in entries:
            if entry.index <= self.last:
                while runs and runs[-1][0] >= entry.index:
                    runs.pop()
            if not runs or runs[-1][1] != entry.term:
                runs.append((entry.index, entry.term))
            self.last = entry.index

    def _term(self, index: LogIndex) -> Term | None:
        """The term of an entry of the log, or of the snapshot; None if not known."""
        if self.snapshot is not None and index == self.snapshot.index:
            return self.snapshot.term
        found: Term | None = None
        for first, term in self._runs:
            if first > index:
                break
            found = term
        return found

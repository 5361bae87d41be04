"""The log in memory, and the marks on it.

    anchor      handed        applied      commit                 last
    |------------|-------------|------------|-----------------------|
    first = anchor + 1                          persisted, written: anywhere from anchor to last

* *anchor*: the (index, term) just before the first retained entry: compacted away, or a snapshot.
* *written*: handed to the disk. *persisted*: known durable. Truncation pulls both back.
* *commit*: agreed by a quorum. *handed*: given to the host to apply. *applied*: reported applied.

Invariants (asserted): entries are contiguous, terms never decrease along the log; anchor <= applied
<= handed <= min(commit, persisted); commit <= last; persisted <= written <= last; committed
entries are never truncated; commit, applied, anchor never decrease.

Cost: everything is O(1) or linear in the entries it returns; compaction moves one pointer an entry
kept. Entry data is never copied.
"""

from collections.abc import Sequence

from balsadb.raft.members import SnapshotMeta
from balsadb.types import Entry, LogIndex, Term

ENTRY_OVERHEAD_BYTES = 24
"""What an entry counts beyond its data (index, term, kind, framing), so that none is free."""


def entries_bytes(entries: Sequence[Entry]) -> int:
    """What entries count against every limit in bytes."""
    total = ENTRY_OVERHEAD_BYTES * len(entries)
    for entry in entries:
        total += len(entry.data)
    return total


class Log:
    """See the chapter above. Indexes are log indexes throughout."""

    def __init__(self, anchor_index: LogIndex, anchor_term: Term, entries: Sequence[Entry]) -> None:
        """A durable log: (`anchor_index`, `anchor_term`) and the entries after it."""
        self.anchor_index = anchor_index
        self.anchor_term = anchor_term
        self._entries: list[Entry] = []
        self.commit = anchor_index
        self.handed = anchor_index
        self.applied = anchor_index
        self.persisted = anchor_index
        self.written = anchor_index
        self.log_bytes = 0
        self.uncommitted_bytes = 0
        self.handed_bytes = 0
        """Of entries handed to the host and not applied."""
        if entries:
            self.append(entries)
        self.written = self.persisted = self.last_index

    # -------------------------------------------------------------------------- positions

    @property
    def first_index(self) -> LogIndex:
        """The oldest retained entry (or the next one, if none is)."""
        return LogIndex(self.anchor_index + 1)

    @property
    def last_index(self) -> LogIndex:
        """The newest entry (or the anchor)."""
        return LogIndex(self.anchor_index + len(self._entries))

    @property
    def last_term(self) -> Term:
        """The newest entry's term."""
        return self._entries[-1].term if self._entries else self.anchor_term

    def term(self, index: LogIndex) -> Term | None:
        """The term at `index`; None before the anchor and after the end."""
        offset = index - self.anchor_index - 1
        if 0 <= offset < len(self._entries):
            return self._entries[offset].term
        return self.anchor_term if offset == -1 else None

    def matches(self, index: LogIndex, term: Term) -> bool:
        """Whether this log surely holds that entry (log matching: and so all before it)."""
        return self.term(index) == term

    def is_up_to_date(self, last_index: LogIndex, last_term: Term) -> bool:
        """Raft 5.4.1: whether a candidate's log is at least as new as this one: the later last term
        wins, then the longer log."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def find_by_term(self, index: LogIndex, term: Term) -> tuple[LogIndex, Term]:
        """The last position at or before `index` whose term is at most `term`, and its term (0 if
        it was compacted away). What is past it cannot match a log whose term there is `term`."""
        index = min(index, self.last_index)
        while index > self.anchor_index:
            here = self._entries[index - self.anchor_index - 1].term
            if here <= term:
                return index, here
            index = LogIndex(index - 1)
        return index, (self.anchor_term if index == self.anchor_index else Term(0))

    def slice(self, first: LogIndex, stop: LogIndex, bytes_max: int) -> list[Entry]:
        """Entries [first, stop), as many as fit in `bytes_max` but at least one."""
        assert self.anchor_index < first, "compacted away"
        start = end = first - self.anchor_index - 1
        limit = stop - self.anchor_index - 1
        total = 0
        while end < limit:
            total += len(self._entries[end].data) + ENTRY_OVERHEAD_BYTES
            if total > bytes_max and end > start:
                break
            end += 1
        return self._entries[start:end]

    def has_unapplied(self, kind: int) -> bool:
        """Whether an entry of that kind is committed and not applied yet."""
        first, stop = (max(at - self.anchor_index, 0) for at in (self.applied, self.commit))
        return any(self._entries[at].kind == kind for at in range(first, stop))

    # ------------------------------------------------------------------------------ growth

    def append(self, entries: Sequence[Entry]) -> None:
        """Entries that continue the log."""
        index, term = self.last_index, self.last_term
        for entry in entries:
            assert entry.index == index + 1, f"gap: {entry.index} after {index}"
            assert entry.term >= term, f"term {entry.term} after {term}"
            index, term = entry.index, entry.term
        size = entries_bytes(entries)
        self._entries.extend(entries)
        self.log_bytes += size
        self.uncommitted_bytes += size

    def merge(self, entries: Sequence[Entry]) -> LogIndex | None:
        """Raft figure 2, AppendEntries steps 3 and 4: skip what is here already, drop what
        conflicts, append the rest. The entry before the first must match (the caller checked).

        Returns the index from which the old log was dropped; None if nothing was.
        """
        for count, entry in enumerate(entries):
            here = self.term(entry.index)
            if here == entry.term:
                continue
            if here is not None:
                self.truncate(entry.index)
            self.append(entries[count:])
            return None if here is None else entry.index
        return None

    def truncate(self, index: LogIndex) -> None:
        """Drop the entries from `index` on: they were never committed."""
        assert index > self.commit, f"truncation at {index} of a log committed to {self.commit}"
        offset = index - self.anchor_index - 1
        size = entries_bytes(self._entries[offset:])
        del self._entries[offset:]
        self.log_bytes -= size
        self.uncommitted_bytes -= size
        self.written = min(self.written, LogIndex(index - 1))
        self.persisted = min(self.persisted, LogIndex(index - 1))

    def restore(self, snapshot: SnapshotMeta) -> None:
        """Everything is replaced by a snapshot that is ahead of the commit index."""
        assert snapshot.index > self.commit, "a snapshot from the past"
        self._entries.clear()
        self.anchor_index, self.anchor_term = snapshot.index, snapshot.term
        self.commit = self.written = self.persisted = snapshot.index
        # Not applied yet, but nothing between can be handed out any more: the snapshot holds it.
        self.handed = snapshot.index
        self.log_bytes = self.uncommitted_bytes = self.handed_bytes = 0

    def compact(self, index: LogIndex) -> None:
        """Forget the entries up to `index`, which are applied; no-op if they are gone already."""
        assert index <= self.applied, f"compaction to {index}, applied {self.applied}"
        assert index <= self.persisted, f"compaction to {index}, persisted {self.persisted}"
        count = index - self.anchor_index
        if count <= 0:
            return
        anchor = self._entries[count - 1]
        self.log_bytes -= entries_bytes(self._entries[:count])
        del self._entries[:count]
        self.anchor_index, self.anchor_term = anchor.index, anchor.term

    # ------------------------------------------------------------------------------- marks

    def commit_to(self, index: LogIndex) -> bool:
        """Raise the commit index; False if it was there already."""
        if index <= self.commit:
            return False
        assert index <= self.last_index, f"commit {index} past the end {self.last_index}"
        first = self.commit - self.anchor_index
        self.uncommitted_bytes -= entries_bytes(self._entries[first : index - self.anchor_index])
        self.commit = index
        return True

    @property
    def has_unwritten(self) -> bool:
        """Whether entries wait for the disk."""
        return self.written < self.last_index

    def take_unwritten(self) -> list[Entry]:
        """Entries that the disk has not been given; they count as given from now on."""
        entries = self._entries[self.written - self.anchor_index :]
        self.written = self.last_index
        return entries

    def persisted_to(self, index: LogIndex) -> bool:
        """Raise the durable mark; False if it was there already."""
        assert index <= self.written, f"persisted {index}, written {self.written}"
        if index <= self.persisted:
            return False
        self.persisted = index
        return True

    def _handable_to(self) -> LogIndex:
        return min(self.commit, self.persisted)

    def can_hand(self, bytes_max: int) -> bool:
        """Whether `take_committed` would return something."""
        return self.handed < self._handable_to() and self.handed_bytes < bytes_max

    def take_committed(self, bytes_max: int) -> list[Entry]:
        """Committed and durable entries to apply next, so many that no more than `bytes_max` are
        with the host (at least one if it has none)."""
        if not self.can_hand(bytes_max):
            return []
        stop = LogIndex(self._handable_to() + 1)
        entries = self.slice(LogIndex(self.handed + 1), stop, bytes_max - self.handed_bytes)
        self.handed_bytes += entries_bytes(entries)
        self.handed = entries[-1].index
        return entries

    def applied_to(self, index: LogIndex) -> None:
        """The host applied everything up to `index`."""
        assert index <= self.handed, f"applied {index}, handed {self.handed}"
        if index <= self.applied:
            return
        # A snapshot may have replaced entries that the host was still applying.
        first = max(self.applied - self.anchor_index, 0)
        stop = max(index - self.anchor_index, 0)
        self.handed_bytes -= entries_bytes(self._entries[first:stop])
        self.applied = index

    def start_at(self, index: LogIndex) -> None:
        """At start: the state machine holds everything up to `index` already."""
        assert self.anchor_index <= index <= min(self.commit, self.persisted)
        self.applied = self.handed = index

    def check(self) -> None:
        """Every invariant of the chapter, in time linear in the log; for tests."""
        assert self.persisted <= self.written <= self.last_index
        assert self.anchor_index <= self.handed <= min(self.commit, self.persisted)
        assert self.applied <= self.handed
        assert self.commit <= self.last_index
        term, index = self.anchor_term, self.anchor_index
        for entry in self._entries:
            assert entry.index == index + 1, f"gap at {entry.index}"
            assert entry.term >= term, f"term decreases at {entry.index}"
            index, term = entry.index, entry.term
        assert self.log_bytes == entries_bytes(self._entries)
        after = self.commit - self.anchor_index
        assert self.uncommitted_bytes == entries_bytes(self._entries[after:])
        held = self._entries[
            max(self.applied - self.anchor_index, 0) : self.handed - self.anchor_index
        ]
        assert self.handed_bytes == entries_bytes(held)

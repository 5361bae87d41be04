"""Committed work on its way to the apply thread: entries, freezes and restores, in log order.

Few pieces are outstanding at a time, each bounded in entries and bytes, so that a freeze or a
reader's wait never sits behind more than a few milliseconds of work. What waits here is bounded by
the driver, which stops taking appends (a follower) or proposals (a leader) above a maximum.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from balsadb.cluster.effects import ApplyEntries, ApplyFreeze, ApplyRestore, ApplyWork
from balsadb.storage.manifest import Manifest
from balsadb.types import Entry

ENTRY_OVERHEAD_BYTES = 32
"""Counted for each entry besides its data."""


def entry_bytes(entry: Entry) -> int:
    """What an entry counts against the bounds."""
    return len(entry.data) + ENTRY_OVERHEAD_BYTES


class GatedRestore(NamedTuple):
    """A restore that waits until the Raft `Ready` with this number is durable."""

    manifest: Manifest
    ready_number: int


class ApplyQueue:
    """First in, first out; at most `works_max` pieces outstanding."""

    def __init__(self, works_max: int, entries_max: int, bytes_max: int) -> None:
        self._works_max = works_max
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._queue: deque[Entry | ApplyFreeze | GatedRestore] = deque()
        self._outstanding: deque[ApplyWork] = deque()
        self.waiting_bytes = 0

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._queue)

    @property
    def outstanding(self) -> int:
        """Pieces handed out and not done."""
        return len(self._outstanding)

    def push_entries(self, entries: Sequence[Entry]) -> None:
        """Committed entries, in order."""
        self._queue.extend(entries)
        self.waiting_bytes += sum(map(entry_bytes, entries))

    def push_freeze(self, freeze: ApplyFreeze) -> None:
        """A freeze, after all that was pushed before."""
        self._queue.append(freeze)

    def push_restore(self, manifest: Manifest, ready_number: int) -> list[ApplyFreeze]:
        """A restore: what waits is covered by it and dropped. Returns the dropped freezes."""
        dropped = [item for item in self._queue if isinstance(item, ApplyFreeze)]
        self._queue.clear()
        self.waiting_bytes = 0
        self._queue.append(GatedRestore(manifest, ready_number))
        return dropped

    def next(self, ready_durable: int) -> ApplyWork | None:
        """The next piece of work, or None when nothing may start now."""
        if not self._queue or len(self._outstanding) >= self._works_max:
            return None
        head = self._queue[0]
        if isinstance(head, GatedRestore):
            if head.ready_number > ready_durable:
                return None
            self._queue.popleft()
            return self._hand_out(ApplyRestore(head.manifest))
        if isinstance(head, ApplyFreeze):
            self._queue.popleft()
            return self._hand_out(head)
        entries: list[Entry] = []
        total = 0
        while self._queue and len(entries) < self._entries_max:
            item = self._queue[0]
            if not isinstance(item, Entry):
                break
            size = entry_bytes(item)
            if entries and total + size > self._bytes_max:
                break
            entries.append(item)
            total += size
            self._queue.popleft()
        self.waiting_bytes -= total
        return self._hand_out(ApplyEntries(entries))

    def done(self) -> ApplyWork:
        """The oldest outstanding piece is done; returns it."""
        return self._outstanding.popleft()

    def _hand_out(self, work: ApplyWork) -> ApplyWork:
        self._outstanding.append(work)
        return work

"""The driver's side of the write-ahead log: group commit, and what must wait for it.

All that Raft wants written while a sync is under way is merged into the next one, so the disk
always works on one batch and the next batch is as large as the disk is slow. Messages that attest
unsynced state wait for the sync of their own `Ready`, whoever leads.
"""

from collections.abc import Sequence

from balsadb.cluster.effects import WalWork
from balsadb.raft import Message, Ready, VoteRequest, VoteResponse
from balsadb.storage import SnapshotRef, WalBatch
from balsadb.types import Entry, HardState, LogIndex, Term


class LogWriter:
    """Strictly first in, first out; at most one `WalWork` outstanding."""

    def __init__(self, durable_term: Term) -> None:
        self.durable_term = durable_term
        self.ready_durable = 0
        self.outstanding: WalWork | None = None
        self._work_number = 0
        # What accumulates for the next work.
        self._hard_state: HardState | None = None
        self._snapshot: SnapshotRef | None = None
        self._entries: list[Entry] = []
        self.waiting_bytes = 0
        """Bytes of entries that wait for the sync after the one under way."""
        self._must_sync = False
        self._compact = LogIndex(0)
        self._marked = LogIndex(0)
        """The newest snapshot mark handed out or waiting: marks never go back."""
        self._ready_number = 0
        self._messages: list[Message] = []
        # What the outstanding work will make durable.
        self._syncing_term = Term(0)
        self._syncing_ready = 0
        self._syncing_messages: list[Message] = []

    def add(self, ready: Ready) -> None:
        """Merge what `ready` wants durable into the next work."""
        if ready.hard_state is not None:
            self._hard_state = ready.hard_state
        if ready.snapshot is not None:
            # The snapshot replaces the whole log, entries that were never written included.
            self._snapshot = SnapshotRef(ready.snapshot.index, ready.snapshot.term)
            self._marked = self._snapshot.index
            self._entries.clear()
            self.waiting_bytes = 0
        if ready.entries:
            self._append(ready.entries)
        self._must_sync = self._must_sync or ready.must_sync
        self._ready_number = ready.number
        self._messages.extend(ready.messages_after_persist)

    def compact(self, mark: SnapshotRef, index: LogIndex) -> None:
        """Note the checkpoint `mark` and drop the log up to `index` with the next work. A newer
        mark stays: a restore may end after the next snapshot was accepted."""
        if mark.index > self._marked:
            self._snapshot = mark
            self._marked = mark.index
        self._compact = max(self._compact, index)
        self._must_sync = True

    def next(self) -> WalWork | None:
        """The next group commit, if none is under way and there is something to sync."""
        if self.outstanding is not None or not self._must_sync:
            return None
        self._work_number += 1
        batch = WalBatch(self._hard_state, self._snapshot, self._entries)
        self.outstanding = WalWork(self._work_number, batch, self._compact)
        self._syncing_term = self.durable_term
        if self._hard_state is not None:
            self._syncing_term = self._hard_state.term
        self._syncing_ready = self._ready_number
        self._syncing_messages = self._messages
        self._hard_state, self._snapshot, self._entries = None, None, []
        self.waiting_bytes = 0
        self._must_sync, self._compact, self._messages = False, LogIndex(0), []
        return self.outstanding

    def done(self, number: int) -> list[Message]:
        """The work is durable: what may leave now."""
        if self.outstanding is None or self.outstanding.number != number:
            raise AssertionError(f"sync {number} was not under way")
        self.outstanding = None
        self.durable_term = self._syncing_term
        self.ready_durable = max(self.ready_durable, self._syncing_ready)
        messages, self._syncing_messages = self._syncing_messages, []
        return messages

    def unsynced_free(self) -> list[Message] | None:
        """When nothing is under way and nothing must be synced, the last `Ready` counts as durable:
        its number is taken over and its waiting messages are returned; else None."""
        if self.outstanding is not None or self._must_sync:
            return None
        if self._ready_number <= self.ready_durable:
            return None
        self.ready_durable = self._ready_number
        messages, self._messages = self._messages, []
        return messages

    def check(self, message: Message) -> None:
        """No message of a term leaves before that term is durable (pre-votes excepted)."""
        body = message.body
        if isinstance(body, VoteRequest | VoteResponse) and body.pre_vote:
            return
        if message.term > self.durable_term:
            name = type(body).__name__
            raise AssertionError(
                f"{name} of term {message.term} before it is durable ({self.durable_term})"
            )

    def _append(self, entries: list[Entry]) -> None:
        waiting = self._entries
        first = entries[0].index
        if waiting and first <= waiting[-1].index:
            # Overwritten before it was ever written.
            kept = max(first - waiting[0].index, 0)
            self.waiting_bytes -= _data_bytes(waiting[kept:])
            del waiting[kept:]
        waiting.extend(entries)
        self.waiting_bytes += _data_bytes(entries)


def _data_bytes(entries: Sequence[Entry]) -> int:
    return sum(len(entry.data) for entry in entries)

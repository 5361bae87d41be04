"""When to write a checkpoint, and how much of the log may go afterwards.

A checkpoint starts when the log applied since the last one exceeds a size, or a number of entries:
a start applies them again, and small ones take their time too. The freeze travels through the apply
queue, so it falls between two entries, and the chunks are written by a job while entries go on
being applied. When it is durable, Raft and the WAL drop the log before it, except

* a tail of `log_tail_bytes`, so that a node that was away briefly needs no snapshot;
* what a follower that is active, or is fetching a snapshot, still needs, until the log exceeds
  `log_bytes_max`.

While disk space is low, checkpoints hurry: what was deleted is given back only by the next one.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from balsadb.cluster.apply_queue import entry_bytes
from balsadb.cluster.options import DriverOptions
from balsadb.types import Entry, LogIndex


@dataclass(frozen=True, slots=True)
class LogMark:
    """A position in the applied log: all of it up to `index` took `total_bytes` since start."""

    index: LogIndex
    total_bytes: int


class Checkpointer:
    """Bookkeeping only; the driver starts the freeze and the job."""

    def __init__(self, options: DriverOptions, index: LogIndex) -> None:
        self._options = options
        self._total_bytes = 0
        self._bytes_at_last = 0
        self._bytes_before = 0
        self._entries_since = 0
        self._entries_before = 0
        self._now = 0
        self._not_before = 0
        self._hurry = False
        self._marks: deque[LogMark] = deque([LogMark(index, 0)])
        self.running: int | None = None
        """Job id of the checkpoint under way."""
        self.index = index
        """Log index of the newest durable checkpoint."""
        self.written = 0
        self.given_up = 0
        """Checkpoints for which there was no room."""

    @property
    def log_bytes_since(self) -> int:
        """Bytes of log applied since the last freeze."""
        return self._total_bytes - self._bytes_at_last

    def applied(self, entries: Sequence[Entry]) -> None:
        """These entries are applied."""
        self._total_bytes += sum(map(entry_bytes, entries))
        self._entries_since += len(entries)
        step = max(self._options.checkpoint_log_bytes >> 4, 1)
        if self._total_bytes - self._marks[-1].total_bytes >= step:
            self._marks.append(LogMark(entries[-1].index, self._total_bytes))

    def tick(self, *, hurry: bool) -> None:
        """One tick has passed; whether disk space is low."""
        self._now += 1
        self._hurry = hurry

    def is_due(self) -> bool:
        """Whether a checkpoint should start now."""
        if self.running is not None or self._now < self._not_before:
            return False
        if self._hurry:
            return self.log_bytes_since > 0
        options = self._options
        return (
            self.log_bytes_since > options.checkpoint_log_bytes
            or self._entries_since > options.checkpoint_entries
        )

    def started(self, job_id: int) -> None:
        """A freeze was queued under this job id."""
        self.running = job_id
        self._bytes_before = self._bytes_at_last
        self._bytes_at_last = self._total_bytes
        self._entries_before, self._entries_since = self._entries_since, 0
        self._not_before = self._now + (self._options.hurried_checkpoint_ticks * self._hurry)

    def ended(self) -> None:
        """The checkpoint was written, or is not needed any more."""
        self.running = None

    def failed(self) -> None:
        """There was no room for the checkpoint under way: it is due again after a while."""
        self.running = None
        self.given_up += 1
        self._bytes_at_last = self._bytes_before
        self._entries_since += self._entries_before
        self._not_before = self._now + self._options.hurried_checkpoint_ticks

    def durable(self, index: LogIndex) -> None:
        """A checkpoint at `index` is durable."""
        self.index = max(self.index, index)
        self.written += 1

    def restored(self, index: LogIndex) -> None:
        """A snapshot replaced the log: what is applied begins at `index`."""
        self.index = max(self.index, index)
        self._marks = deque([LogMark(index, self._total_bytes)])
        self._bytes_at_last = self._total_bytes
        self._entries_since = 0

    def compact_to(self, needed: Iterable[LogIndex], log_bytes: int) -> LogIndex:
        """The log may be dropped up to here (0: nothing to drop). `needed`: the last log index
        each follower holds that should be spared a snapshot."""
        keep_above = self._total_bytes - self._options.log_tail_bytes
        target = LogIndex(0)
        for mark in self._marks:
            if mark.index > self.index or mark.total_bytes > keep_above:
                break
            target = mark.index
        if log_bytes <= self._options.log_bytes_max:
            target = min([target, *needed])
        while len(self._marks) > 1 and self._marks[1].index <= target:
            self._marks.popleft()
        return target

"""The write-ahead log: one ordered file of what a node must not forget.

Term, vote, commit, entries and snapshot references go through the same chain of records, so that
none can be newer than another. `write` then `sync` is one group commit: one pwrite, one
fdatasync. Segments are zeroed ahead of the writing, so that an fdatasync rarely has to record a
new file size, and so that what was never written can be told from what was (see `record` and
`wal_recovery`).

Not here: what the entries mean, when to compact, and any thread: one thread writes, syncs and
compacts; `log_bytes` and `segment_count` may be read by others.
"""

import msgspec

from balsadb.errors import REJOIN, DiskFailed, EmptiedDisk
from balsadb.storage.files import SECTOR_BYTES, File, Files
from balsadb.storage.record import (
    BATCH_BYTES_MAX,
    BatchHead,
    BatchWriter,
    SnapshotMark,
    WalBatch,
    WalHeader,
    sectors_of,
)
from balsadb.storage.wal_recovery import Segment, recover, segment_name
from balsadb.storage.wal_state import Outline, WalState
from balsadb.types import LogIndex

_SEGMENT_BYTES = 64 << 20
_ZEROED_BYTES = 1 << 20
_FIRST_CHAIN = 0


class WalOptions(msgspec.Struct, frozen=True):
    """`segment_bytes`: a new segment begins when the next batch would pass this (one batch may be
    larger and then fills one alone). `zeroed_bytes`: how far zeros are written ahead."""

    segment_bytes: int = _SEGMENT_BYTES
    zeroed_bytes: int = _ZEROED_BYTES

    def __post_init__(self) -> None:
        if not 8 * SECTOR_BYTES <= self.segment_bytes <= BATCH_BYTES_MAX:
            raise ValueError(f"segment_bytes must be 4 KiB to 256 MiB, not {self.segment_bytes}")
        if self.zeroed_bytes < 0:
            raise ValueError("zeroed_bytes must not be negative")


class Wal:
    """An open log. Made by `create_or_open`."""

    def __init__(
        self, files: Files, directory: str, header: WalHeader, options: WalOptions, state: WalState
    ) -> None:
        self._files = files
        self._directory = directory
        self._header = header
        self._options = options
        self._outline = Outline(state)
        self._closed: list[Segment] = []
        self._file: File | None = None
        self._number = 0
        self._offset = 0  # where the next batch goes
        self._synced = 0  # what of it is durable
        self._zeroed = 0  # size of the file
        self._chain = _FIRST_CHAIN
        self._largest = LogIndex(0)
        self._name_synced = True
        self._failed = False

    @classmethod
    def create_or_open(
        cls,
        files: Files,
        directory: str,
        header: WalHeader,
        options: WalOptions | None = None,
        *,
        begun: bool = False,
    ) -> tuple["Wal", WalState]:
        """Open the log in a directory, or begin one; the state it holds.

        A torn tail is cut off; all that is returned is durable. Corruption: the log must not be
        used; NewerFormat; ForeignDataDir if its header is another. `begun`: there is one, as its
        owner knows, so a log without even a header is an EmptiedDisk. About 1 ms a MiB plus 2.5 µs
        a record.
        """
        files.mkdir(directory)
        files.sync_dir(directory.rpartition("/")[0])
        found = recover(files, directory, header)
        if begun and not found.segments:
            raise EmptiedDisk(
                f"{directory}: the log of node {header.node} has not even its header, which was "
                "synced: what this node voted for and acknowledged is gone. Restore the files, or "
                f"join as a new node: {REJOIN}"
            )
        wal = cls(files, directory, header, options or WalOptions(), found.state)
        if found.dropped:
            # Its header never became durable, so nothing in it was ever acknowledged.
            files.remove(f"{directory}/{segment_name(found.dropped)}")
            files.sync_dir(directory)
        if found.segments:
            wal._continue(found.segments)
        else:
            wal._begin_segment()
            wal.sync()
        return wal, found.state

    @property
    def log_bytes(self) -> int:
        """Bytes of batches in all segments, those included that a compaction could drop."""
        return self._offset + sum(segment.end for segment in self._closed)

    @property
    def segment_count(self) -> int:
        """Segment files there are."""
        return len(self._closed) + 1

    def write(self, batch: WalBatch) -> None:
        """Put a batch after the last one; volatile until `sync`.

        All of it comes back after a crash, or nothing. ValueError, and nothing is written, if the
        entries leave a gap, go below the snapshot or fall in term; DiskFailed ends the log.
        """
        self._require_usable()
        outline = self._outline
        mark = outline.mark(batch.snapshot) if batch.snapshot is not None else None
        after = mark.ref.index if mark is not None and not mark.keeps else outline.last
        snapshot = batch.snapshot or outline.snapshot
        outline.check(batch.entries, after, snapshot.index if snapshot else LogIndex(0))
        writer = BatchWriter()
        if mark is not None:
            writer.snapshot(mark)
        if batch.hard_state is not None:
            writer.hard_state(batch.hard_state)
        writer.entries(batch.entries)
        if writer.length > BATCH_BYTES_MAX:
            raise ValueError(f"a batch of {writer.length} bytes; at most {BATCH_BYTES_MAX}")
        if self._offset + sectors_of(writer.length) * SECTOR_BYTES > self._options.segment_bytes:
            self._roll()
        self._put(writer)
        if mark is not None:
            outline.set_snapshot(mark)
        if batch.hard_state is not None:
            outline.hard_state = batch.hard_state
        outline.extend(batch.entries)
        if batch.entries:
            self._largest = max(self._largest, batch.entries[-1].index)

    def sync(self) -> None:
        """Make all that was written durable; nothing to do if it is. DiskFailed ends the log."""
        self._require_usable()
        if self._synced == self._offset:
            return
        try:
            self._open_file().sync()
            if not self._name_synced:
                self._files.sync_dir(self._directory)
                self._name_synced = True
        except DiskFailed:
            self._failed = True
            raise
        self._synced = self._offset

    def compact(self, index: LogIndex) -> None:
        """Remove the oldest segments as long as all their entries are <= index.

        ValueError unless a snapshot reference at `index` or above was written: without it the
        entries would be missed. What a removed segment said of hard state and snapshot is carried
        in the header of the next. Syncs first, and the directory after each removal, so that
        no crash leaves a hole.
        """
        snapshot = self._outline.snapshot
        if index > (snapshot.index if snapshot else 0):
            raise ValueError(f"compact to {index} without a snapshot reference that covers it")
        self.sync()
        while self._closed and self._closed[0].largest <= index:
            try:
                self._files.remove(self._path(self._closed[0].number))
                self._files.sync_dir(self._directory)
            except DiskFailed:
                self._failed = True
                raise
            del self._closed[0]

    def close(self) -> None:
        """Give the file back; what was not synced may be lost."""
        self._failed = True
        if self._file is not None:
            self._file.close()
            self._file = None

    def _continue(self, segments: list[Segment]) -> None:
        """Go on where the last segment ends: zero what is torn, make sure all is durable."""
        last = segments[-1]
        self._closed = segments[:-1]
        self._number = last.number
        self._chain = last.crc
        self._offset = last.end
        self._largest = last.largest
        self._file = self._files.open(self._path(last.number))
        self._zeroed = last.file_bytes
        for start in range(last.end, last.dirty_end, _ZEROED_BYTES):
            self._file.pwrite(bytes(min(_ZEROED_BYTES, last.dirty_end - start)), start)
        # What was read may have come from the page cache of a process that never synced it.
        self._name_synced = False
        self._synced = 0
        self.sync()

    def _roll(self) -> None:
        """Close this segment, durable as it is, and begin the next."""
        self.sync()
        self._closed.append(
            Segment(
                self._number, self._offset, self._offset, self._zeroed, self._chain, self._largest
            )
        )
        self._open_file().close()
        self._begin_segment()

    def _begin_segment(self) -> None:
        """Make the next segment's file and write its header, both volatile until `sync`."""
        self._number += 1
        path = self._path(self._number)
        try:
            self._file = self._files.open(path, create=True)
        except DiskFailed:
            self._failed = True
            raise
        self._offset = self._synced = self._zeroed = 0
        self._largest = LogIndex(0)
        self._name_synced = False
        writer = BatchWriter()
        writer.meta(self._header)
        if self._outline.snapshot is not None:
            writer.snapshot(SnapshotMark(self._outline.snapshot, keeps=True))
        if self._outline.hard_state is not None:
            writer.hard_state(self._outline.hard_state)
        self._put(writer)

    def _put(self, writer: BatchWriter) -> None:
        """Write a batch at the end, and zeros ahead of it when the file ends."""
        head = BatchHead(self._number, self._offset, self._synced, writer.length, self._chain)
        data, chain = writer.finish(head)
        end = self._offset + len(data)
        file = self._open_file()
        try:
            file.pwrite(data, self._offset)
            if end > self._zeroed:
                ahead = min(end + self._options.zeroed_bytes, self._options.segment_bytes)
                if ahead > end:
                    file.pwrite(bytes(ahead - end), end)
                self._zeroed = max(ahead, end)
        except DiskFailed:
            self._failed = True
            raise
        self._offset = end
        self._chain = chain

    def _path(self, number: int) -> str:
        return f"{self._directory}/{segment_name(number)}"

    def _open_file(self) -> File:
        assert self._file is not None
        return self._file

    def _require_usable(self) -> None:
        if self._failed:
            raise DiskFailed("the log is closed, or a write to it failed; start the node again")

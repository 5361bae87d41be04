"""Reading a log back: which bytes hold, which are torn and may go, which are rotten.

A batch that does not verify is *torn*, and is cut off, only if all of this holds:

1. it lies in the last segment (an older one was synced before its successor was made);
2. one of its sectors carries no stamp: a power cut leaves sectors that were never written, a
   fault of the medium leaves sectors that were written and read otherwise;
3. no valid BATCH record after it was written when it was already synced. (A valid record after it
   from the same unsynced window proves nothing: a disk may write the later one first.)

Anything else was durable once, and perhaps acknowledged: `Corruption`, and the node stands still.
Cutting at the first bad checksum instead loses committed entries (Alagappan et al., "Protocol-Aware
Recovery for Consensus-Based Storage", FAST 2018).

What this cannot tell from a torn write: sectors of the very last, unconfirmed batches that were
synced and later turned to zero by the medium.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from balsadb.errors import REJOIN, Corruption, ForeignDataDir, NewerFormat
from balsadb.storage.files import SECTOR_BYTES, Files
from balsadb.storage.record import (
    BATCH_BYTES_MAX,
    FORMAT_VERSION,
    BadBatch,
    BatchHead,
    Meta,
    Record,
    SnapshotMark,
    WalHeader,
    read_batch,
    read_head,
    sectors_of,
    split_sectors,
    stamp_of,
)
from balsadb.storage.wal_state import Replay, WalState
from balsadb.types import HardState, LogIndex

SEGMENT_FILE_BYTES_MAX = 3 * BATCH_BYTES_MAX
"""A larger segment file is not ours: nothing allocates for it."""

ADVICE = (
    "Synced bytes have changed, so this node must not vote or acknowledge any more. Keep a copy of "
    "the directory, check the disk, and join again as a new node with an empty directory: "
    f"{REJOIN} keeps the old one aside"
)


class Segment(NamedTuple):
    """A segment after recovery. `end`: offset where the next batch goes; `dirty_end`: bytes from
    `end` to here are of a torn batch (equal if there was none); `crc`: the chain at `end`;
    `largest`: the largest entry index ever written in it, 0 if none."""

    number: int
    end: int
    dirty_end: int
    file_bytes: int
    crc: int
    largest: LogIndex


class Recovered(NamedTuple):
    """All segments in order; `dropped`: the number of a last segment whose header was torn, to be
    removed; 0 if none."""

    segments: list[Segment]
    dropped: int
    state: WalState


def segment_name(number: int) -> str:
    """File name of a segment; sorts as the numbers do."""
    return f"{number:016d}.wal"


def list_segments(files: Files, directory: str) -> list[int]:
    """Numbers of the segments there, ascending; files of other names are not looked at."""
    numbers: list[int] = []
    for name in files.listdir(directory):
        stem, dot, suffix = name.partition(".")
        if dot and suffix == "wal" and stem.isascii() and stem.isdigit() and len(stem) == 16:
            numbers.append(int(stem))
    return sorted(numbers)


def recover(files: Files, directory: str, header: WalHeader) -> Recovered:
    """Read all segments. Corruption, NewerFormat or ForeignDataDir; changes nothing."""
    numbers = list_segments(files, directory)
    if numbers and numbers != list(range(numbers[0], numbers[-1] + 1)):
        raise Corruption(f"{directory}: of segments {numbers} some are missing. {ADVICE}")
    replay = Replay()
    segments: list[Segment] = []
    for number in numbers:
        path = f"{directory}/{segment_name(number)}"
        chain = segments[-1].crc if segments else None
        reader = _SegmentReader(files, path, number, header)
        segment = reader.read(replay, chain, number == numbers[-1])
        if segment is None:
            if not segments and number != 1:
                raise Corruption(f"{path}: the only segment has no header. {ADVICE}")
            return Recovered(segments, number, replay.finish())
        segments.append(segment)
    return Recovered(segments, 0, replay.finish())


class _SegmentReader:
    """Reads one segment file, wholly in memory (its bytes, then its stream: twice its size)."""

    def __init__(self, files: Files, path: str, number: int, header: WalHeader) -> None:
        self._path = path
        self._number = number
        self._header = header
        file = files.open(path)
        try:
            self._file_bytes = file.size()
            if self._file_bytes > SEGMENT_FILE_BYTES_MAX:
                raise Corruption(f"{path}: {self._file_bytes} bytes are no segment. {ADVICE}")
            data = file.pread(self._file_bytes, 0)
        finally:
            file.close()
        data += bytes(-len(data) % SECTOR_BYTES)
        self._data = data
        self._stream: bytes
        self._stamps: NDArray[np.uint8]
        self._stream, self._stamps = split_sectors(data)

    def read(self, replay: Replay, chain: int | None, is_last: bool) -> Segment | None:
        """Replay the segment. None if its header is torn (then it is the last and holds nothing).

        `chain`: the CRC that the segment before ends with; None for the first there is.
        """
        bad_stamps = np.flatnonzero(self._stamps != stamp_of(self._number))
        stamped = int(bad_stamps[0]) if len(bad_stamps) else len(self._stamps)
        sector = 0
        crc = chain
        largest = LogIndex(0)
        while sector < stamped:
            try:
                head = read_head(self._stream, sector, self._number)
                after = sector + sectors_of(head.length)
                if after > stamped:
                    raise BadBatch("a sector of the batch has no stamp, or a wrong one")
                records, end_crc = read_batch(self._stream, head)
            except BadBatch as reason:
                self._require_torn(sector, str(reason), is_last)
                break
            if crc is not None and head.previous != crc:
                raise self._rotten(sector, "the batch does not continue the one before it")
            if sector == 0:
                records = self._header_records(records, replay, first=chain is None)
            largest = max(largest, replay.apply(records, f"{self._path}, offset {head.offset}"))
            sector, crc = after, end_crc
        else:
            self._require_clean_or_torn(sector, is_last)
        if sector == 0:
            if not is_last:
                raise self._rotten(0, "the segment has no header, and a later segment exists")
            return None
        end = sector * SECTOR_BYTES
        assert crc is not None
        return Segment(self._number, end, self._used_end(end), self._file_bytes, crc, largest)

    def _header_records(self, records: list[Record], replay: Replay, first: bool) -> list[Record]:
        """Check the first batch: META of ours, then what it carries over from the segments before.

        The carried records count in the first segment there is; later they must say what the
        replay has come to.
        """
        meta = records[0] if records else None
        if not isinstance(meta, Meta):
            raise self._rotten(0, "the segment has no header")
        if meta.format_version > FORMAT_VERSION:
            raise NewerFormat(
                f"{self._path}: format {meta.format_version}, this version reads "
                f"{FORMAT_VERSION}: start the newer version again"
            )
        if meta.header != self._header:
            raise ForeignDataDir(
                f"{self._path}: the log of {meta.header}, not of {self._header}; "
                "point the node at its own data directory"
            )
        carried = records[1:]
        if first:
            return carried
        expected: list[HardState | SnapshotMark] = []
        if replay.snapshot is not None:
            expected.append(SnapshotMark(replay.snapshot, keeps=True))
        if replay.hard_state is not None:
            expected.append(replay.hard_state)
        if carried != expected:
            raise self._rotten(0, "the header does not carry over what the segments before say")
        return []

    def _require_clean_or_torn(self, sector: int, is_last: bool) -> None:
        """The stamps end at `sector`: either nothing was written from there on, or what was is
        torn."""
        if self._used_end(sector * SECTOR_BYTES) > sector * SECTOR_BYTES:
            self._require_torn(sector, "written sectors follow an unwritten one", is_last)

    def _require_torn(self, sector: int, reason: str, is_last: bool) -> None:
        """Return if the batch at `sector` is torn by the three rules above; else Corruption."""
        if not is_last:
            raise self._rotten(sector, f"{reason}, and a later segment exists")
        if not self._lacks_a_stamp(sector):
            raise self._rotten(sector, f"{reason}, and all its sectors were written")
        bad_offset = sector * SECTOR_BYTES
        stamp = stamp_of(self._number)
        for later in np.flatnonzero(self._stamps[sector + 1 :] == stamp):
            head = self._try_head(sector + 1 + int(later))
            if head is not None and head.synced > bad_offset:
                raise self._rotten(
                    sector, f"{reason}, and the batch at {head.offset} says it was synced"
                )

    def _lacks_a_stamp(self, sector: int) -> bool:
        """Whether a sector of the batch at `sector` was never written."""
        if self._stamps[sector] == 0:
            return True
        head = self._try_head(sector)
        if head is None:  # its first sector was written whole, and yet does not verify
            return False
        after = sector + sectors_of(head.length)
        return after > len(self._stamps) or bool((self._stamps[sector:after] == 0).any())

    def _try_head(self, sector: int) -> BatchHead | None:
        """The BATCH record at a sector, or None."""
        try:
            return read_head(self._stream, sector, self._number)
        except BadBatch:
            return None

    def _used_end(self, start: int) -> int:
        """Offset after the last byte that is not zero, at least `start`; whole sectors."""
        rest = np.frombuffer(self._data, np.uint8)[start:]
        used = np.flatnonzero(rest)
        return start if not len(used) else start + -(-(int(used[-1]) + 1) // 512) * 512

    def _rotten(self, sector: int, reason: str) -> Corruption:
        """The error for a batch that was durable and does not verify."""
        return Corruption(f"{self._path}, offset {sector * SECTOR_BYTES}: {reason}. {ADVICE}")

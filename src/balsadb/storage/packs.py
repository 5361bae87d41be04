"""Pack files: many chunks in one file, so that a checkpoint costs few fsyncs.

File: magic `BALSAPAK` (8 bytes), format (uint32), zero (uint32), then records: digest of the chunk
(16 bytes), its length (uint64), its bytes. Little-endian, no padding. A pack is written once, front
to back, synced, and never changed; chunks are verified against the digest that their reader knows
from a manifest. Records name their digest so that a pack of an unfinished staging can be resumed.
"""

from collections.abc import Callable
from struct import Struct

from balsadb.columns import DIGEST_BYTES, chunk_digest
from balsadb.errors import Corruption
from balsadb.storage.files import File, Files
from balsadb.storage.manifest import ChunkRef

PACK_FORMAT = 1
PACK_BYTES_MAX = 64 << 20
"""A pack is closed (and synced) once it holds this much: one fsync at a time stays short for the
log that shares the disk."""
MAGIC = b"BALSAPAK"
_HEAD = Struct("<8sII")
_RECORD = Struct(f"<{DIGEST_BYTES}sQ")
_SUFFIX = ".pack"


def pack_name(number: int) -> str:
    """File name of a pack."""
    return f"{number:016x}{_SUFFIX}"


def pack_number(name: str) -> int | None:
    """The number in a pack's file name; None for another file."""
    try:
        number = int(name.removesuffix(_SUFFIX), 16)
    except ValueError:
        return None
    # Python reads more as a number ("+1", "0_1") than is ever written as a name.
    return number if number >= 0 and name == pack_name(number) else None


class PackWriter:
    """Appends chunks to new packs, starting another when one is full. One thread at a time.

    `next_number` gives a number that no pack ever had. Nothing is durable before `finish`.
    `require_room(length)` raises `DiskFull` if so much must not be written now.
    """

    def __init__(
        self,
        files: Files,
        directory: str,
        next_number: Callable[[], int],
        require_room: Callable[[int], None],
    ) -> None:
        self._files = files
        self._directory = directory
        self._next_number = next_number
        self._require_room = require_room
        self._file: File | None = None
        self._number = 0
        self._offset = 0
        self._written = False
        self.packs: set[int] = set()
        """Numbers of the packs written so far."""

    def append(self, digest: bytes, data: bytes) -> ChunkRef:
        """Write one chunk. DiskFailed if the disk says so; DiskFull, and nothing is written, if it
        would take the room that is kept for the log."""
        self._require_room(len(data))
        file = self._file
        if file is None:
            self._number = self._next_number()
            self.packs.add(self._number)
            file = self._files.open(f"{self._directory}/{pack_name(self._number)}", create=True)
            self._file = file
            file.pwrite(_HEAD.pack(MAGIC, PACK_FORMAT, 0), 0)
            self._offset = _HEAD.size
            self._written = True
        ref = ChunkRef(digest, len(data), self._number, self._offset)
        file.pwrite(_RECORD.pack(digest, len(data)) + data, self._offset)
        self._offset += _RECORD.size + len(data)
        if self._offset >= PACK_BYTES_MAX:
            self._close_one(sync=True)
        return ref

    def finish(self) -> None:
        """Make all chunks durable: sync the last pack, then the directory's entries."""
        self._close_one(sync=True)
        if self._written:
            self._files.sync_dir(self._directory)
            self._written = False

    def abandon(self) -> None:
        """Close without syncing."""
        self._close_one(sync=False)

    def _close_one(self, sync: bool) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            if sync:
                file.sync()
        finally:
            file.close()


class PackReader:
    """Reads chunks of many packs and verifies each; keeps the latest pack open. One thread."""

    def __init__(self, files: Files, directory: str) -> None:
        self._files = files
        self._directory = directory
        self._file: File | None = None
        self._number = -1

    def __enter__(self) -> "PackReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the open pack, if any."""
        file, self._file = self._file, None
        self._number = -1
        if file is not None:
            file.close()

    def read(self, ref: ChunkRef) -> bytes:
        """A copy of the bytes of a chunk; errors as for `view`."""
        return bytes(self.view(ref))

    def view(self, ref: ChunkRef) -> memoryview:
        """The bytes of a chunk. Corruption if they are missing, short, or not what the digest says
        (a pack of a newer version is never met: its manifest was refused)."""
        where = f"{self._directory}/{pack_name(ref.pack)}"
        file = self._open(ref.pack, where)
        record = memoryview(file.pread(_RECORD.size + ref.length, ref.offset))
        data = record[_RECORD.size :]
        if record[: _RECORD.size] != _RECORD.pack(ref.digest, ref.length):
            raise Corruption(f"{where}: no record of chunk {ref.digest.hex()} at {ref.offset}")
        if chunk_digest(data) != ref.digest:
            raise Corruption(f"{where}: chunk {ref.digest.hex()} at {ref.offset} does not verify")
        return data

    def scan(self, number: int) -> list[ChunkRef]:
        """The chunks that verify, from the front to the first that does not: what can be resumed of
        a pack that may not have been synced."""
        refs: list[ChunkRef] = []
        try:
            file = self._open(number, pack_name(number))
        except Corruption:
            return refs
        size = file.size()
        offset = _HEAD.size
        while offset + _RECORD.size <= size:
            digest, length = _RECORD.unpack(file.pread(_RECORD.size, offset))
            if length > size - offset - _RECORD.size:
                break
            if chunk_digest(file.pread(length, offset + _RECORD.size)) != digest:
                break
            refs.append(ChunkRef(digest, length, number, offset))
            offset += _RECORD.size + length
        return refs

    def _open(self, number: int, where: str) -> File:
        if self._file is not None and self._number == number:
            return self._file
        self.close()
        try:
            file = self._files.open(f"{self._directory}/{pack_name(number)}")
        except FileNotFoundError as error:
            raise Corruption(f"{where}: the pack is missing") from error
        self._file = file
        self._number = number
        head = file.pread(_HEAD.size, 0)
        if head != _HEAD.pack(MAGIC, PACK_FORMAT, 0):
            self.close()
            raise Corruption(f"{where}: the pack's header does not verify")
        return file

"""A bare index as one file: every column, with checksums, replaced atomically.

8 bytes   BALSAIDX
u32       version of this format
u32       bytes of the header
16 bytes  BLAKE2b of the header
header    msgpack `FileHeader`: options, and for each column its description and the digests of
          its chunks
chunks    column by column, in order, nothing between or after them
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from secrets import token_hex
from tempfile import gettempdir
from typing import Final, cast

import msgspec

from balsadb.columns import DIGEST_BYTES, ColumnMeta, ColumnSet, FrozenColumn, chunk_digest
from balsadb.columns.reserve import FileReserve, MakeReserve
from balsadb.errors import Corruption, DamagedFile, DiskFailed, InvalidInput, NotFound
from balsadb.index import IndexOptions
from balsadb.storage.files import File, RealFiles, UnnamedFile

PREFIX: Final = "vectors"
"""Of the columns of the index proper."""
MAGIC: Final = b"BALSAIDX"
VERSION: Final = 2
_ADVICE: Final = (
    "Take another copy of the file, save the index again where it still is, or build it anew"
)
_START: Final = struct.Struct("<8sII16s")


class SavedColumn(msgspec.Struct, frozen=True, array_like=True):
    """A column in the file."""

    meta: ColumnMeta
    digests: list[bytes]


class FileHeader(msgspec.Struct, frozen=True):
    """What the file holds."""

    options: IndexOptions
    columns: list[SavedColumn]


def write_index(path: str, options: IndexOptions, columns: ColumnSet) -> None:
    """Write a new file beside `path`, make it durable, and put it in its place. DiskFailed, and
    nothing of the new file left."""
    files, name = _place(path)
    while files.exists(draft := f"{name}.{token_hex(4)}.new"):  # of the user's: left alone
        pass
    frozen = columns.freeze()
    try:
        _write(files, draft, options, frozen)
        files.rename(draft, name)
    except BaseException as error:
        with suppress(DiskFailed, FileNotFoundError):
            files.remove(draft)
        if isinstance(error, DiskFailed | FileNotFoundError):
            reason = error.message if isinstance(error, DiskFailed) else error.strerror
            raise DiskFailed(f"cannot save {path}, which is as it was: {reason}") from error
        raise
    finally:
        for one in frozen:
            one.release()
    files.sync_dir("")


def _write(
    files: RealFiles, name: str, options: IndexOptions, frozen: Sequence[FrozenColumn]
) -> None:
    saved = [
        SavedColumn(one.meta, [one.chunk_digest(i) for i in range(one.chunk_count)])
        for one in frozen
    ]
    header = msgspec.msgpack.encode(FileHeader(options, saved))
    file = files.open(name, create=True)
    try:
        start = _START.pack(MAGIC, VERSION, len(header), _digest(header))
        position = _append(file, 0, start + header)
        for one in frozen:
            for chunk in range(one.chunk_count):
                position = _append(file, position, one.chunk(chunk))
        file.sync()
    finally:
        file.close()


def read_index(
    path: str, reserves: Mapping[str, MakeReserve] | None = None
) -> tuple[IndexOptions, ColumnSet]:
    """The options and columns of a saved index; `reserves` as for `ColumnSet`. NotFound;
    DamagedFile for anything that is not a complete, unchanged file of this version."""
    if not Path(path).is_file():
        raise NotFound(f"there is no saved index at {path}")
    files, name = _place(path)
    file = files.open(name)
    try:
        header, position = _read_header(file)
        _check_size(file, position, header)
        columns = ColumnSet(reserves)
        for saved in header.columns:
            columns.load_column(saved.meta, _chunks(file, position, saved), saved.digests)
            position += saved.meta.rows * saved.meta.row_bytes
    except (_Damage, Corruption) as error:
        raise damaged(path, str(error)) from error
    finally:
        file.close()
    return header.options, columns


def damaged(path: str, reason: str) -> DamagedFile:
    """The error for a file from which no index can be made."""
    return DamagedFile("path", f"{path} cannot be loaded: {reason}. {_ADVICE}")


class _Damage(Exception):
    """What is wrong with the file, in words."""


def reserves_on_disk(where: object) -> dict[str, MakeReserve]:
    """The vectors' reserve in a file without a name: in the folder `where`, the system's temporary
    one for True; none for False. InvalidInput for anything else, or where there is no folder."""
    if where is False:
        return {}
    if where is not True and not isinstance(where, str | PathLike):
        raise InvalidInput("vectors_on_disk", "must be True, False or the path of a folder")
    folder = Path(gettempdir() if where is True else cast("str | PathLike[str]", where))
    if not folder.is_dir():
        raise InvalidInput("vectors_on_disk", f"must be the path of a folder, not {folder}")

    def make(size: int) -> FileReserve:
        file = UnnamedFile(folder, size)
        return FileReserve(file.mapping, file.fill)

    return {f"{PREFIX}/vectors": make}


def _place(path: str) -> tuple[RealFiles, str]:
    """The folder a path lies in, and the file's name there."""
    full = Path(path).absolute()
    return RealFiles(str(full.parent)), full.name


def _read_header(file: File) -> tuple[FileHeader, int]:
    start = file.pread(_START.size, 0)
    if not start:
        raise _Damage("it is empty")
    if not MAGIC.startswith(start[: len(MAGIC)]):
        raise _Damage("it is not a saved index")
    if len(start) != _START.size:
        raise _Damage(f"it is cut short, {len(start)} bytes are left")
    _, version, length, digest = _START.unpack(start)
    if version != VERSION:
        raise _Damage(f"it has format {version}, this version reads {VERSION}")
    encoded = file.pread(min(length, file.size()), _START.size)
    if len(encoded) < length:
        raise _Damage(f"it is cut short within its header, {file.size()} bytes are left")
    if _digest(encoded) != digest:
        raise _Damage("its header is changed")
    try:
        header = msgspec.msgpack.decode(encoded, type=FileHeader)
    except msgspec.DecodeError as error:
        raise _Damage(f"its header cannot be read: {error}") from error
    return header, _START.size + length


def _check_size(file: File, position: int, header: FileHeader) -> None:
    """Whether the columns, from `position` on, end where the file does."""
    try:
        metas = [saved.meta for saved in header.columns]
        wanted = position + sum(meta.rows * meta.row_bytes for meta in metas)
    except (TypeError, ValueError) as error:
        raise _Damage(f"its header cannot be read: {error}") from error
    size = file.size()
    if size < wanted:
        raise _Damage(f"it is cut short, {size} of {wanted} bytes are left")
    if size > wanted:
        raise _Damage(f"it has {size} bytes, {size - wanted} more than were saved")


def _chunks(file: File, position: int, saved: SavedColumn) -> Iterator[bytes]:
    """The chunks of a column, each verified before it is used."""
    if len(saved.digests) != saved.meta.chunk_count:
        raise _Damage(f"column {saved.meta.name!r} lacks checksums")
    for number, digest in enumerate(saved.digests):
        first, stop = saved.meta.chunk_span(number)
        data = file.pread(stop - first, position + first)
        if chunk_digest(data) != digest:
            raise _Damage(f"column {saved.meta.name!r} is changed in its chunk {number}")
        yield data


def _append(file: File, position: int, data: bytes) -> int:
    file.pwrite(data, position)
    return position + len(data)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES).digest()

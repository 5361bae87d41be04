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
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from tempfile import gettempdir
from typing import Final, cast

import msgspec

from balsadb.columns import DIGEST_BYTES, ColumnMeta, ColumnSet, chunk_digest
from balsadb.columns.reserve import FileReserve, MakeReserve
from balsadb.errors import Corruption, DamagedFile, InvalidInput, NotFound
from balsadb.index import IndexOptions
from balsadb.storage.files import File, RealFiles, map_unnamed

PREFIX: Final = "vectors"
"""Of the columns of the index proper."""
MAGIC: Final = b"BALSAIDX"
VERSION: Final = 2
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
    """Write a new file beside `path`, make it durable, and put it in its place. DiskFailed."""
    files, name = _place(path)
    frozen = columns.freeze()
    try:
        saved = [
            SavedColumn(one.meta, [one.chunk_digest(i) for i in range(one.chunk_count)])
            for one in frozen
        ]
        header = msgspec.msgpack.encode(FileHeader(options, saved))
        file = files.open(name + ".new", create=True)
        try:
            file.truncate(0)
            start = _START.pack(MAGIC, VERSION, len(header), _digest(header))
            position = _append(file, 0, start + header)
            for one in frozen:
                for chunk in range(one.chunk_count):
                    position = _append(file, position, one.chunk(chunk))
            file.sync()
        finally:
            file.close()
    finally:
        for one in frozen:
            one.release()
    files.rename(name + ".new", name)
    files.sync_dir("")


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
        columns = ColumnSet(reserves)
        for saved in header.columns:
            columns.load_column(saved.meta, _chunks(file, position, saved), saved.digests)
            position += saved.meta.rows * saved.meta.row_bytes
        if file.size() != position:
            raise DamagedFile("path", f"the file has {file.size()} bytes, not {position}")
    except Corruption as error:
        raise DamagedFile("path", f"the file does not verify: {error}") from error
    finally:
        file.close()
    return header.options, columns


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
    return {f"{PREFIX}/vectors": lambda size: FileReserve(map_unnamed(folder, size))}


def _place(path: str) -> tuple[RealFiles, str]:
    """The folder a path lies in, and the file's name there."""
    full = Path(path).absolute()
    return RealFiles(str(full.parent)), full.name


def _read_header(file: File) -> tuple[FileHeader, int]:
    start = file.pread(_START.size, 0)
    if len(start) != _START.size:
        raise DamagedFile("path", "the file is cut short")
    magic, version, length, digest = _START.unpack(start)
    if magic != MAGIC:
        raise DamagedFile("path", "the file is not a saved index")
    if version != VERSION:
        raise DamagedFile("path", f"the file has format {version}, this version reads {VERSION}")
    encoded = file.pread(min(length, file.size()), _START.size)
    if _digest(encoded) != digest:
        raise DamagedFile("path", "the header does not verify")
    try:
        header = msgspec.msgpack.decode(encoded, type=FileHeader)
    except msgspec.DecodeError as error:
        raise DamagedFile("path", f"the header cannot be read: {error}") from error
    return header, _START.size + length


def _chunks(file: File, position: int, saved: SavedColumn) -> Iterator[bytes]:
    """The chunks of a column, each verified before it is used."""
    if len(saved.digests) != saved.meta.chunk_count:
        raise DamagedFile("path", f"column {saved.meta.name!r} lacks checksums")
    for number, digest in enumerate(saved.digests):
        first, stop = saved.meta.chunk_span(number)
        data = file.pread(stop - first, position + first)
        if chunk_digest(data) != digest:
            raise DamagedFile("path", f"column {saved.meta.name!r}, chunk {number} does not verify")
        yield data


def _append(file: File, position: int, data: bytes) -> int:
    file.pwrite(data, position)
    return position + len(data)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES).digest()

"""The manifest: what a checkpoint is, and where its chunks lie.

File: magic `BALSACKP` (8 bytes), format (uint32), zero (uint32), length of the body (uint64), a
BLAKE2b digest (16 bytes) of those 24 bytes and the body, the body (msgpack). All little-endian.
These first 40 bytes mean the same in every format, so that a file of a newer version is told from
a damaged one: its digest holds.
"""

import re
from collections.abc import Iterator
from hashlib import blake2b
from struct import Struct
from typing import Annotated

import msgspec

from balsadb.columns import DIGEST_BYTES, ColumnMeta
from balsadb.errors import Corruption, NewerFormat
from balsadb.types import NUMBER, ClusterId, GroupId, LogIndex, Term

FORMAT = 1
MAGIC = b"BALSACKP"
_HEAD = Struct("<8sIIQ")
_HEAD_BYTES = _HEAD.size + DIGEST_BYTES
COLUMN_BYTES_MAX = 1 << 40
"""A larger column (in address space) is not believed; the largest of today reserves 16 GiB."""
_DTYPE = re.compile(r"[|<][biufSV][1-9][0-9]{0,8}", re.ASCII)


class ChunkRef(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where one chunk lies: `offset` is of its record in pack file number `pack`."""

    digest: bytes
    length: Annotated[int, NUMBER]
    pack: Annotated[int, NUMBER]
    offset: Annotated[int, NUMBER]


class CheckpointMeta(msgspec.Struct, frozen=True, array_like=True):
    """What a checkpoint is of: the state at `index`, reached in `term`, with the members
    (opaque bytes) of then."""

    index: Annotated[LogIndex, NUMBER]
    term: Annotated[Term, NUMBER]
    members: bytes
    cluster: ClusterId
    group: GroupId
    format: int = FORMAT


class Manifest(CheckpointMeta, frozen=True, array_like=True):
    """A checkpoint: its meta, and each column (in order of names) with its chunks in order."""

    columns: tuple[tuple[ColumnMeta, tuple[ChunkRef, ...]], ...] = ()

    def refs(self) -> Iterator[ChunkRef]:
        """All chunks in order; equal chunks come up repeatedly."""
        for _, refs in self.columns:
            yield from refs

    def packs(self) -> set[int]:
        """Numbers of the pack files that hold its chunks."""
        return {ref.pack for ref in self.refs()}

    def with_columns(
        self, columns: tuple[tuple[ColumnMeta, tuple[ChunkRef, ...]], ...]
    ) -> "Manifest":
        """The same checkpoint with its chunks elsewhere."""
        return msgspec.structs.replace(self, columns=columns, format=FORMAT)


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of a manifest file."""
    body = msgspec.msgpack.encode(manifest)
    head = _HEAD.pack(MAGIC, FORMAT, 0, len(body))
    return head + _digest(head, body) + body


def decode_manifest(data: bytes, what: str) -> Manifest:
    """Verify and decode; `what` names the bytes in messages.

    Corruption if a bit is not as it was written or the parts contradict one another; NewerFormat
    if a newer version wrote it.
    """
    if len(data) < _HEAD_BYTES:
        raise Corruption(f"{what}: {len(data)} bytes are too few for a manifest")
    head, body = data[: _HEAD.size], data[_HEAD_BYTES:]
    magic, version, zero, length = _HEAD.unpack(head)
    if (
        magic != MAGIC
        or length != len(body)
        or _digest(head, body) != data[_HEAD.size : _HEAD_BYTES]
    ):
        raise Corruption(f"{what}: the manifest does not verify (truncated or changed)")
    if version > FORMAT:
        raise NewerFormat(
            f"{what}: format {version}, this version reads up to {FORMAT}: start the newer "
            "version again"
        )
    try:
        manifest = msgspec.msgpack.decode(body, type=Manifest)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Corruption(f"{what}: {error}") from error
    if zero or version < 1:
        raise Corruption(f"{what}: unknown header fields")
    _check(manifest, what)
    return manifest


def _digest(head: bytes, body: bytes) -> bytes:
    digest = blake2b(head, digest_size=DIGEST_BYTES)
    digest.update(body)
    return digest.digest()


def _check(manifest: Manifest, what: str) -> None:
    """A manifest may come from a peer: no length or count is believed that the meta contradicts."""
    names = [meta.name for meta, _ in manifest.columns]
    if names != sorted(set(names)):
        raise Corruption(f"{what}: columns are not in order of their names")
    for meta, refs in manifest.columns:
        try:
            _check_size(meta)
            agree = 0 <= meta.rows <= meta.rows_max and meta.chunk_count == len(refs)
            spans = [meta.chunk_span(chunk) for chunk in range(len(refs))] if agree else []
        except (TypeError, ValueError) as error:
            raise Corruption(f"{what}: column {meta.name!r}: {error}") from error
        if not agree or [stop - first for first, stop in spans] != [ref.length for ref in refs]:
            raise Corruption(f"{what}: column {meta.name!r} and its chunks do not agree")
        if any(len(ref.digest) != DIGEST_BYTES for ref in refs):
            raise Corruption(f"{what}: column {meta.name!r} has a digest of a wrong length")


def _check_size(meta: ColumnMeta) -> None:
    """ValueError unless a column of that description can be made: a checkpoint that cannot be
    restored must be refused before it replaces what is here."""
    if not _DTYPE.fullmatch(meta.dtype) or min(meta.row_shape, default=0) < 0:
        raise ValueError(f"no column of {meta.dtype[:20]!r} and shape {meta.row_shape[:8]}")
    if max(meta.rows_max, 0) * max(meta.row_bytes, 1) > COLUMN_BYTES_MAX:
        raise ValueError(f"{meta.rows_max} rows of {meta.row_bytes} bytes are more than any has")

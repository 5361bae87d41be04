"""What a column is, apart from its bytes; and where its chunks begin and end."""

from collections.abc import Iterable
from hashlib import blake2b
from math import prod

import msgspec
import numpy as np

CHUNK_BYTES = 1 << 20
"""A chunk has as many whole rows as fit into this, and at least one."""
DIGEST_BYTES = 16


class ColumnMeta(msgspec.Struct, frozen=True, array_like=True):
    """Description of a column at one moment.

    `dtype` is NumPy's string form (`"<f4"`); `rows` are in use, `rows_max` are reserved. `rows_max`
    is not part of the digest: two replicas may reserve differently.
    """

    name: str
    dtype: str
    row_shape: tuple[int, ...]
    rows: int
    rows_max: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; 0 when the row shape has a zero width."""
        return np.dtype(self.dtype).itemsize * prod(self.row_shape)

    @property
    def rows_per_chunk(self) -> int:
        """Rows of every chunk but the last."""
        return rows_per_chunk(self.row_bytes)

    @property
    def chunk_count(self) -> int:
        """Chunks that hold bytes in use: 0 for a column without rows or with empty rows."""
        return -(-self.rows // self.rows_per_chunk) if self.row_bytes else 0

    def chunk_span(self, chunk: int) -> tuple[int, int]:
        """First byte and end of the bytes in use of a chunk. IndexError beyond `chunk_count`."""
        if not 0 <= chunk < self.chunk_count:
            raise IndexError(f"column {self.name!r} has no chunk {chunk}")
        first = chunk * self.rows_per_chunk
        stop = min(first + self.rows_per_chunk, self.rows)
        return first * self.row_bytes, stop * self.row_bytes


def rows_per_chunk(row_bytes: int) -> int:
    """Rows of a chunk; a function of the row size alone, so that all replicas cut alike."""
    return max(1, CHUNK_BYTES // max(1, row_bytes))


def chunk_digest(data: bytes | memoryview) -> bytes:
    """BLAKE2b of the bytes in use of a chunk, 16 bytes. The interpreter lock is free meanwhile."""
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def column_digest(meta: ColumnMeta, chunk_digests: Iterable[bytes]) -> bytes:
    """16 bytes over name, dtype, row shape, row count and the chunk digests in order."""
    shape = ",".join(map(str, meta.row_shape))
    head = f"{meta.name}\0{meta.dtype}\0{shape}\0{meta.rows}\0".encode()
    return blake2b(head + b"".join(chunk_digests), digest_size=DIGEST_BYTES).digest()

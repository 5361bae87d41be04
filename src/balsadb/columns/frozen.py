"""The content of a column at one moment, for readers of chunks in other threads."""

from collections.abc import Callable
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from balsadb.columns.copies import POOL, Copy
from balsadb.columns.meta import ColumnMeta, chunk_digest, column_digest
from balsadb.errors import Corruption


class FrozenColumn:
    """Chunks of a column as they were at `Column.freeze`, readable while the column is written.

    A chunk that nobody wrote is read in place: the reader copies (or hashes) the live bytes and
    then asks whether the chunk diverged meanwhile. The writer marks a chunk diverged *before* it
    writes, having put a copy aside first, so a "no" proves that the bytes read were the frozen
    ones, and a "yes" sends the reader to the copy.

    Made by `Column.freeze` only. All methods may be called from any thread.
    """

    def __init__(
        self,
        meta: ColumnMeta,
        live: NDArray[np.uint8],
        lock: Lock,
        digests: list[bytes],
        remember: Callable[[int, bytes], None],
    ) -> None:
        self.meta = meta
        self.chunk_count = meta.chunk_count
        self._live: NDArray[np.uint8] | None = live
        self._lock = lock
        self._digests = digests
        self._remember = remember
        self._diverged = bytearray(self.chunk_count)
        self._copies: dict[int, Copy] = {}

    @property
    def released(self) -> bool:
        """True once `release` was called."""
        return self._live is None

    @property
    def copied_bytes(self) -> int:
        """Memory held by copies of chunks."""
        with self._lock:
            return sum(copy.length for copy in self._copies.values())

    def chunk(self, index: int) -> bytes:
        """The bytes in use of a chunk at the time of the freeze; the last one may be short.

        IndexError beyond `chunk_count`; ValueError after `release` or `release_chunk`.
        """
        view = self._view(index)
        data = view.tobytes()
        with self._lock:
            copy = self._copies.get(index)
            if copy is not None:
                return copy.view.tobytes()
            if self._diverged[index] or self._live is None:
                raise self._gone(index)
            return data

    def chunk_digest(self, index: int) -> bytes:
        """Digest of `chunk(index)`, 16 bytes; not computed if the column knew it already."""
        known = self._digests[index]
        if known:
            return known
        digest = chunk_digest(self._view(index).data)
        with self._lock:
            copy = self._copies.get(index)
            if copy is None and (self._diverged[index] or self._live is None):
                raise self._gone(index)
            if not self._diverged[index]:
                self._remember(index, digest)
                copy = None
            if copy is not None:
                # Rare: it diverged while being hashed. Under the lock, since a release would
                # hand the copy's memory to the next.
                digest = chunk_digest(copy.view.data)
            self._digests[index] = digest
        return digest

    def known_digest(self, index: int) -> bytes:
        """The digest of a chunk if it is known without hashing, else empty."""
        return self._digests[index]

    def read(self, index: int) -> tuple[bytes, bytes]:
        """Digest and bytes of a chunk, with one hash of exactly these bytes.

        Corruption if they are not those of the digest that was known: memory rotted, or a writer
        did not announce its write.
        """
        data = self.chunk(index)
        digest = chunk_digest(data)
        with self._lock:
            known = self._digests[index]
            if known and known != digest:
                raise Corruption(
                    f"chunk {index} of column {self.meta.name!r} changed without being touched"
                )
            self._digests[index] = digest
            if not self._diverged[index] and self._live is not None:
                self._remember(index, digest)
        return digest, data

    def digest(self) -> bytes:
        """The column's digest at the time of the freeze: equals `Column.digest()` then."""
        return column_digest(self.meta, map(self.chunk_digest, range(self.chunk_count)))

    def copy_ahead(self, bytes_max: int) -> int:
        """Put aside copies of up to `bytes_max` bytes of chunks that nobody wrote yet, so that the
        writer need not. Chunks that changed of late, whose digest is unknown, come first: they are
        the likeliest to be written again. Returns the bytes copied, 0 when nothing is left."""
        copied = 0
        for index in sorted(range(self.chunk_count), key=lambda i: self._digests[i] != b""):
            with self._lock:
                if self._live is None:
                    break
                if self._diverged[index] or index in self._copies:
                    continue
                first, stop = self.meta.chunk_span(index)
                if copied + stop - first > bytes_max:
                    break
                self._copies[index] = POOL.take(self._live[first:stop])
            copied += stop - first
        return copied

    def release_chunk(self, index: int) -> None:
        """This chunk's bytes will not be read again: frees its copy and spares the writer one.
        Its digest stays readable if it was computed."""
        with self._lock:
            copy = self._copies.pop(index, None)
            if copy is not None:
                POOL.give(copy)
            self._diverged[index] = 1

    def release(self) -> None:
        """Free all copies; the writer no longer cares about this freeze. Idempotent."""
        with self._lock:
            self._live = None
            for copy in self._copies.values():
                POOL.give(copy)
            self._copies.clear()

    def diverge(self, index: int) -> None:
        """Writer only, with the lock held: the chunk is about to be written."""
        if self._live is None or index >= self.chunk_count or self._diverged[index]:
            return
        if index not in self._copies:
            first, stop = self.meta.chunk_span(index)
            self._copies[index] = POOL.take(self._live[first:stop])
        self._diverged[index] = 1

    def _view(self, index: int) -> NDArray[np.uint8]:
        first, stop = self.meta.chunk_span(index)
        live = self._live
        if live is None:
            raise self._gone(index)
        return live[first:stop]

    def _gone(self, index: int) -> ValueError:
        return ValueError(f"chunk {index} of frozen column {self.meta.name!r} was released")

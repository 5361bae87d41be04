"""One growable typed array with dirty chunks, cached digests and freezes."""

from math import prod
from threading import Lock
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from balsadb.columns.frozen import FrozenColumn
from balsadb.columns.meta import ColumnMeta, chunk_digest, column_digest, rows_per_chunk
from balsadb.columns.reserve import MakeReserve, Reserve
from balsadb.errors import LimitExceeded

_DTYPE_KINDS = "biufSV"


class Column:
    """A named array of `rows` rows inside a reserve of `rows_max`; see the chapter for the rules.

    `data` has shape (rows_max, *row_shape) and is the whole reserve; its address never changes and
    it is zero beyond `rows`. Writing to it is allowed after `touch` of the rows.
    """

    def __init__(
        self,
        name: str,
        dtype: DTypeLike,
        row_shape: tuple[int, ...] = (),
        *,
        rows_max: int,
        make_reserve: MakeReserve = Reserve,
    ) -> None:
        """Reserve `rows_max` rows, in memory unless told otherwise. ValueError for a dtype that
        has no portable string form (structured, object, big-endian) or a negative size."""
        self.name = name
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        if self.dtype.kind not in _DTYPE_KINDS or self.dtype.names or self.dtype.subdtype:
            raise ValueError(f"column {name!r}: dtype {self.dtype} is not a plain fixed-size type")
        if self.dtype.str.startswith(">"):
            raise ValueError(f"column {name!r}: dtype {self.dtype} is not little-endian")
        self.row_shape = tuple(int(width) for width in row_shape)
        if rows_max < 0 or min(self.row_shape, default=0) < 0:
            raise ValueError(f"column {name!r}: sizes cannot be negative")
        self.rows_max = rows_max
        self.row_bytes = self.dtype.itemsize * prod(self.row_shape)
        self.rows_per_chunk = rows_per_chunk(self.row_bytes)
        self._rows = 0
        self._reserve = make_reserve(rows_max * self.row_bytes)
        self.data: NDArray[Any] = _typed(self._reserve, self.dtype, (rows_max, *self.row_shape))
        chunks_max = -(-rows_max // self.rows_per_chunk) + 1
        # One byte a chunk: 0 = dirty and shared with no freeze, so that a touch has nothing to do.
        # 1 = its digest is cached, or a freeze may still read it in place.
        self._guarded = bytearray(chunks_max)
        self._guarded_array = np.frombuffer(self._guarded, np.uint8)
        self._digests: list[bytes] = [b""] * chunks_max
        self._lock = Lock()
        self._freezes: list[ref[FrozenColumn]] = []

    @property
    def rows(self) -> int:
        """Rows in use."""
        return self._rows

    @property
    def used(self) -> NDArray[Any]:
        """The rows in use: `data[:rows]`, a view."""
        return self.data[: self._rows]

    @property
    def meta(self) -> ColumnMeta:
        """The description of the column as it is now."""
        return ColumnMeta(self.name, self.dtype.str, self.row_shape, self._rows, self.rows_max)

    def __repr__(self) -> str:
        return f"Column({self.name!r}, {self.dtype}, {self.row_shape}, {self._rows} rows)"

    def ensure(self, rows: int) -> None:
        """Make sure that the column can have so many rows, changing none: for those who have other
        things to change before they resize. LimitExceeded over `rows_max`; DiskFull or DiskFailed
        of a reserve in a file."""
        if rows > self.rows_max:
            raise LimitExceeded(f"rows of column {self.name!r}", f"at most {self.rows_max} rows")
        self._reserve.allocate(rows * self.row_bytes)

    def resize(self, rows: int) -> None:
        """Set the number of rows. New rows are zero; bytes of dropped rows are zeroed, large ranges
        are given back to the system. What `ensure` raises; ValueError below 0."""
        old = self._rows
        if rows == old:
            return
        if rows > old:
            self.ensure(rows)
        if rows < 0:
            raise ValueError(f"column {self.name!r}: rows cannot be negative")
        if rows < old:
            self.touch(rows, old)
            self._rows = rows
            self._reserve.clear(rows * self.row_bytes, old * self.row_bytes)
            return
        if old % self.rows_per_chunk:
            # The last chunk gets longer, hence another digest, although no byte of it changed.
            self.touch(old - 1, old)
        self._rows = rows
        self._reserve.advise(rows * self.row_bytes)

    def touch(self, first: int, stop: int) -> None:
        """Announce a write to rows [first, stop). Must precede it. IndexError beyond `rows`."""
        if not 0 <= first <= stop <= self._rows:
            raise IndexError(f"column {self.name!r}: rows [{first}, {stop}) of {self._rows}")
        chunk = first // self.rows_per_chunk
        if stop <= (chunk + 1) * self.rows_per_chunk:
            if self._guarded[chunk] and first < stop:
                self._unguard([chunk])
            return
        chunk_stop = (stop - 1) // self.rows_per_chunk + 1
        if self._guarded.find(1, chunk, chunk_stop) >= 0:
            guarded = np.flatnonzero(self._guarded_array[chunk:chunk_stop]) + chunk
            self._unguard(guarded.tolist())

    def touch_rows(self, rows: NDArray[np.integer[Any]]) -> None:
        """Announce a write to scattered rows (any integer dtype, any order, repeats allowed)."""
        if rows.size == 0:
            return
        if int(rows.min()) < 0 or int(rows.max()) >= self._rows:
            raise IndexError(f"column {self.name!r}: a row outside [0, {self._rows})")
        chunks = rows // self.rows_per_chunk
        guarded = self._guarded_array[chunks] != 0
        if guarded.any():
            self._unguard(np.unique(chunks[guarded]).tolist())

    def put(self, row: int, value: ArrayLike) -> None:
        """Touch and write one row."""
        self.touch(row, row + 1)
        self.data[row] = value

    def append(self, values: ArrayLike) -> int:
        """Add rows (shape (n, *row_shape), an array's dtype of the same kind) and return the number
        of the first. LimitExceeded over `rows_max`, ValueError for another shape or kind."""
        dtype = None if isinstance(values, np.ndarray) else self.dtype
        array: NDArray[Any] = np.asarray(values, dtype)
        if not np.can_cast(array.dtype, self.dtype, "same_kind"):
            raise ValueError(f"column {self.name!r}: {array.dtype} does not cast to {self.dtype}")
        if array.shape[1:] != self.row_shape or array.ndim != 1 + len(self.row_shape):
            raise ValueError(f"column {self.name!r}: rows of shape {array.shape[1:]}")
        first = self._rows
        stop = first + array.shape[0]
        self.resize(stop)
        self.touch(first, stop)
        self.data[first:stop] = array
        return first

    def chunk_digests(self) -> list[bytes]:
        """Digest of every chunk in order, 16 bytes each; only changed chunks are hashed."""
        meta = self.meta
        for chunk in range(meta.chunk_count):
            if self._digests[chunk]:
                continue
            first, stop = meta.chunk_span(chunk)
            digest = chunk_digest(self._reserve.bytes[first:stop].data)
            with self._lock:
                self._remember(chunk, digest)
        return self._digests[: meta.chunk_count]

    def digest(self) -> bytes:
        """16 bytes over name, dtype, row shape, rows, chunk digests: equal iff the columns are."""
        return column_digest(self.meta, self.chunk_digests())

    def freeze(self) -> FrozenColumn:
        """Fix the content as it is now for readers of chunks in other threads. Release it when
        done (a freeze that is merely dropped is forgotten as well)."""
        meta = self.meta
        count = meta.chunk_count
        with self._lock:
            frozen = FrozenColumn(
                meta, self._reserve.bytes, self._lock, self._digests[:count], self._remember
            )
            self._guarded_array[:count] = 1
            self._freezes = [one for one in self._freezes if _live(one) is not None]
            self._freezes.append(ref(frozen))
        return frozen

    def load(self, position: int, data: bytes | memoryview, digest: bytes = b"") -> int:
        """Restore path: put a chunk's bytes at byte `position` of an otherwise unused reserve; a
        `digest` that was verified against `data` is remembered. Returns the next position."""
        stop = position + len(data)
        if stop > self._rows * self.row_bytes:
            raise ValueError(f"column {self.name!r}: more bytes than {self._rows} rows hold")
        self._reserve.bytes[position:stop] = np.frombuffer(data, np.uint8)
        if digest:
            with self._lock:
                self._remember(position // (self.rows_per_chunk * self.row_bytes), digest)
        return stop

    def _remember(self, chunk: int, digest: bytes) -> None:
        """With the lock held: the digest is of the chunk's present bytes."""
        self._digests[chunk] = digest
        self._guarded[chunk] = 1

    def _unguard(self, chunks: list[int]) -> None:
        """First touch of these chunks since a freeze or a digest: copy for the freezes, forget the
        digests."""
        if not self.row_bytes:
            return
        with self._lock:
            for one in self._freezes:
                frozen = _live(one)
                if frozen is not None:
                    for chunk in chunks:
                        frozen.diverge(chunk)
            for chunk in chunks:
                self._digests[chunk] = b""
                self._guarded[chunk] = 0


def _live(reference: "ref[FrozenColumn]") -> FrozenColumn | None:
    frozen = reference()
    return None if frozen is None or frozen.released else frozen


def _typed(reserve: Reserve, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The reserve as an array; an empty one of the right shape when its rows have no bytes."""
    if reserve.size == 0:
        return np.zeros(shape, dtype)
    return reserve.bytes.view(dtype).reshape(shape)

"""Columns: typed arrays that grow without moving, know what changed, and can be frozen.

Everything the replicated state machine remembers is a column: ids, vectors, links, payload bytes,
free space, versions. So a checkpoint is the columns' chunks, two replicas are identical if their
columns' digests are, and a node that lags fetches the chunks it lacks. There is no other format.

Vocabulary
----------
*column*: a named array of `rows` equal rows (a dtype and a row shape) inside a reserve of
`rows_max` rows. *reserve*: address space mapped once, given memory by the kernel page by page as
it is written. *chunk*: `rows_per_chunk` consecutive rows, about 1 MiB; the unit of change, hash,
copy and transfer; its boundaries are row boundaries. *chunk digest*: BLAKE2b, 16 bytes, of the
bytes of a chunk that are in use. *column digest*: of name, dtype, row shape, row count and the
chunk digests in order. *touch*: announce a write. *freeze*: fix the content of a column for
readers of chunks, while the column goes on changing. *diverged*: written since the freeze.
*allocator*: hands out the lowest free row numbers.

Invariants
----------
1. `Column.data` has one address for life: kernels, views and pointers stay good across growth.
2. Bytes at and beyond `rows` are zero. Growth is therefore free, and equal contents are equal
   bytes whatever came before.
3. Every write is preceded by `touch` or `touch_rows` of its rows (`put` and `append` do it), with
   no freeze or digest in between. A write without it is a bug that shows as a wrong digest.
4. A frozen chunk is copied before its first write, at most once for each freeze; an untouched chunk
   is never copied by the writer.
5. A cached chunk digest is the digest of the bytes now in use: touching and growing forget it.
6. Allocation depends on columns alone, so a node that restarted goes on exactly as one that did
   not.

Threads
-------
One writer. `touch`, `resize`, `freeze`, `digest` and the methods of `ColumnSet` belong to the
writer or to whoever has locked it out. `FrozenColumn` may be read and released from any thread at
any time. The lock of a column is taken by a writer only for the first touch of a chunk after a
freeze or a digest; every other touch reads one byte.

Costs
-----
`touch` of one row: about 0.2 us, of 256 scattered rows 6 us. First touch of a chunk under a freeze:
one copy of 1 MiB, about 0.1 ms into memory kept from earlier freezes (see `copies`);
`FrozenColumn.copy_ahead` and `release_chunk` let the reader take even that off the writer.
`freeze`: a byte and a pointer for each chunk. Digest: about 0.9 GB/s, changed chunks only; the
interpreter lock is free meanwhile. A column that is not in use costs a mapping and one page; huge
pages are asked for above 4 MiB in use.

What it does not do
-------------------
No files (see `balsadb.storage`), no variable-length rows (a heap column plus offsets does that), no
reads of past versions by kernels: freezing serves readers of chunks only. Memory is given back when
the last reference to a column, to a view of it and to its freezes is gone, never under a reader;
there is no `close` that could pull an array from under a kernel.
"""

from balsadb.columns.allocation import SlotAllocator
from balsadb.columns.column import Column
from balsadb.columns.column_set import ColumnSet
from balsadb.columns.frozen import FrozenColumn
from balsadb.columns.meta import CHUNK_BYTES, DIGEST_BYTES, ColumnMeta, chunk_digest

__all__ = [
    "CHUNK_BYTES",
    "DIGEST_BYTES",
    "Column",
    "ColumnMeta",
    "ColumnSet",
    "FrozenColumn",
    "SlotAllocator",
    "chunk_digest",
]

"""`balsadb.Index`: the graph alone, for those who want no points, payloads, log or server.

    index = balsadb.Index(dim=128, metric="Cosine")
    ids = index.add(vectors)
    ids, scores = index.search(queries, k=10)

Ids are unsigned 64-bit numbers; adding an id again replaces its vector. Missing results are padded
with id `NO_ID` (2**64 - 1) and score NaN. Any thread may call anything: searches run side by side,
`add`, `delete` and `save` wait for their turn and run alone.
"""

import operator
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, NoReturn, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from balsadb.columns import ColumnSet, SlotAllocator
from balsadb.database.locks import SharedLock
from balsadb.database.vector_bounds import bounded
from balsadb.embedded import arguments
from balsadb.embedded.arguments import NO_ID, Ids
from balsadb.embedded.id_masks import mask_of_flags
from balsadb.embedded.id_table import MISSING, IdTable
from balsadb.embedded.index_file import (
    PREFIX,
    damaged,
    read_index,
    reserves_on_disk,
    write_index,
)
from balsadb.errors import Corruption, InvalidInput, LimitExceeded
from balsadb.index import (
    QUANTISATIONS,
    IndexOptions,
    Metric,
    Precision,
    VectorIndex,
    prepare_vector,
)

LINK_ROWS: Final = 1_024
"""Rows linked at a time."""
DEAD_ROWS_MAX: Final = 1_024
"""Dead rows that were never linked, from which `add` frees them."""
TAIL_ROWS_MAX: Final = 256
"""Rows that may stay unlinked (scanned exactly) after an `add`."""
DELETED_A_REPAIR: Final = 64
"""Vectors deleted for which a `delete` plans one edit of repair. Such an edit frees up to twice as
many, so that repairs catch up with deletes."""
REPAIRS_MAX: Final = 16
"""Edits of repair in one `delete`: each takes tens of milliseconds, hundreds if it changes as many
lists as one edit may."""


class Index:
    """Approximate nearest neighbours in memory; see the module for an example.

    `metric`: "Cosine", "Euclid", "Dot" or "Manhattan". Scores: larger is better for Cosine and Dot,
    smaller for the others. `m`, `ef_construct`: links and care a vector gets (16 and 128 suit most
    data). `threads`: for building; None means one for each core. The graph does not depend on it.
    `quantization`: "int8", searches go by 8-bit codes from 2,048 vectors on and answers are scored
    exactly; None, searches go by the float32 vectors. `vectors_on_disk`: True, or a folder: the
    float32 vectors live in a file without a name there (True: the system's temporary folder) and
    need no memory of their own; the same answers, slower when they do not fit into it.
    """

    def __init__(  # noqa: PLR0913  what a user may choose
        self,
        dim: int,
        metric: str = "Cosine",
        m: int = 16,
        ef_construct: int = 128,
        threads: int | None = None,
        *,
        quantization: str | None = "int8",
        vectors_on_disk: bool | str | PathLike[str] = False,
    ) -> None:
        """InvalidInput names the parameter that is out of range."""
        if not isinstance(metric, str) or metric not in list(Metric):
            raise InvalidInput("metric", f"must be one of {', '.join(Metric)}")
        if threads is not None:
            threads = arguments.whole(threads, "threads")
        coded = isinstance(quantization, str) and quantization in QUANTISATIONS[1:]
        if quantization is not None and not coded:
            raise InvalidInput("quantization", 'must be "int8" or None')
        options = IndexOptions(
            arguments.whole(dim, "dim"),
            Metric(metric),
            m=arguments.whole(m, "m"),
            ef_construct=arguments.whole(ef_construct, "ef_construct"),
            quantization=quantization or "",
        )
        options.check()
        self._open(options, ColumnSet(reserves_on_disk(vectors_on_disk)), threads)

    def _open(self, options: IndexOptions, columns: ColumnSet, threads: int | None) -> None:
        self._threads = threads or os.cpu_count() or 1
        self._executor: ThreadPoolExecutor | None = None
        self._executor_threads = 0
        self._executor_mutex = Lock()
        self._lock = SharedLock()
        self._options = options
        self._columns = columns
        self._index = VectorIndex(columns, PREFIX, options)
        rows_max = options.rows_reserved
        fresh = "ids" not in columns
        if fresh:
            columns.create("ids", "<u8", rows_max=rows_max)
            columns.create("next_id", "<u8", rows_max=1).resize(1)
        self._slots = SlotAllocator(columns, "slots", rows_max)
        self._ids = columns["ids"]
        self._next_id = columns["next_id"]
        used = np.flatnonzero(self._slots.used())
        self._table = IdTable(self._ids.data)
        self._table.insert(used.astype(np.uint32))
        self._plain = bool((self._ids.data[used] == used).all())

    # ------------------------------------------------------------------ writing

    def add(self, vectors: ArrayLike, ids: ArrayLike | None = None) -> Ids:
        """Store `vectors` (n, dim), or one of shape (dim,), and return their ids, (n,).

        `ids`: (n,) unsigned integers, no two equal; without them, the numbers after the largest id
        so far. A vector whose id is known replaces the old one. InvalidInput, and nothing changed,
        for a wrong dimension, values that are no finite numbers, nothing to add, or (Cosine) a
        vector without direction; DiskFull, and nothing changed, if the vectors live in a file that
        finds no room.
        """
        rows = self._vectors(vectors, "vectors")
        numbers = None if ids is None else arguments.ids(ids, "ids")
        if numbers is not None and len(numbers) != len(rows):
            raise InvalidInput("ids", f"must be as many as vectors ({len(rows)})")
        if numbers is not None:
            arguments.check_distinct(numbers, "ids")
        with self._lock.exclusive():
            if numbers is None:
                return self._add(rows, self._new_ids(len(rows)), known=False)
            return self._add(rows, numbers)

    def _add(self, rows: NDArray[np.float32], numbers: Ids, *, known: bool = True) -> Ids:
        """`known`: whether ids may be in the index already."""
        if len(rows) > self._options.rows_reserved - self._index.rows_taken:
            raise LimitExceeded("vectors", f"at most {self._options.rows_reserved} in an index")
        self._index.ensure(len(rows))
        for first in range(0, len(rows), LINK_ROWS):
            part = slice(first, first + LINK_ROWS)
            self._store(numbers[part], rows[part], known=known)
            self._link(TAIL_ROWS_MAX)
        if 2 * len(rows) >= self._index.linked_count:  # a load, not a trickle
            self._finish_load()
        return numbers

    def _finish_load(self) -> None:
        """What looks at the whole graph: that a path leads to each vector, and its beam widths."""
        while self._apply(self._index.plan_bridges(**self._spread())):
            pass
        self._apply(self._index.plan_calibration(**self._spread()))

    def _new_ids(self, count: int) -> Ids:
        first = int(self._next_id.data[0])
        if first + count > NO_ID:
            raise InvalidInput("ids", "must be given: the largest id is taken")
        return np.arange(first, first + count, dtype=np.uint64)

    def _store(self, numbers: Ids, rows: NDArray[np.float32], *, known: bool) -> None:
        found = self._lookup(numbers) if known else np.full(len(numbers), MISSING)
        new = found < 0
        if (~new).any():
            self._index.tombstone(self._rows(found[~new]))
        fresh = self._slots.alloc(int(new.sum()))
        slots = found.astype(np.uint32)
        slots[new] = fresh
        if self._ids.rows < self._slots.top:
            self._ids.resize(self._slots.top)
        self._ids.touch_rows(slots)
        self._ids.data[slots] = numbers
        self._plain = self._plain and bool((numbers == slots).all())
        self._index.add(slots, rows)
        self._table.insert(fresh)
        largest = min(int(numbers.max()) + 1, NO_ID)
        self._next_id.put(0, np.uint64(max(largest, int(self._next_id.data[0]))))

    def _link(self, tail_max: int) -> None:
        """Plan and apply until fewer than `tail_max` rows wait and few dead ones lie about (a
        vector that is replaced leaves one each time), or nothing is left to do."""
        while self._index.tail_count >= tail_max or self._index.tail_dead_count >= DEAD_ROWS_MAX:
            if not self._apply(self._index.plan(LINK_ROWS, **self._spread())):
                return

    def _spread(self) -> dict[str, Any]:
        """How a plan is spread over threads."""
        return {"slices": 12 * self._threads, "run": self._run(self._threads)}

    def _apply(self, edit: bytes | None) -> bool:
        return edit is not None and self._index.apply(edit)

    def optimize(self) -> None:
        """Bring everything up to date: link every vector, free what was deleted, make the codes,
        measure again which `ef` reaches which recall if many vectors came or went, and see that a
        path leads to each. Worth a call after the last `add` or `delete` of many, and before
        `save`. Searches do without it, a little slower, but where many copies of few vectors came
        a few at a time, no `ef` may find some of them before."""
        with self._lock.exclusive():
            self._link(0)

    def delete(self, ids: ArrayLike) -> Ids:
        """Remove vectors by id; returns those ids that were not there.

        They are gone at once. Once one vector of the graph in 200 is dead, calls also repair the
        graph, each a bounded part of it: all that is due if batches are small, while most of one
        batch of many thousands is left to later calls, or to `optimize`.
        """
        numbers = np.unique(arguments.ids(ids, "ids"))
        with self._lock.exclusive():
            unknown = self._delete(numbers)
            self._repair(len(numbers) - len(unknown))
            return unknown

    def _delete(self, numbers: Ids) -> Ids:
        found = self._lookup(numbers)
        slots = found[found >= 0]
        self._index.tombstone(self._rows(slots))
        self._table.remove(slots.astype(np.uint32))
        self._ids.touch_rows(slots)
        self._ids.data[slots] = 0
        self._slots.free(slots)
        return numbers[found < 0]

    def _repair(self, deleted: int) -> None:
        """Free dead rows of the graph if they are many, with work in proportion to `deleted`."""
        edits = min(-(-deleted // DELETED_A_REPAIR), REPAIRS_MAX)
        # 1 may stand for a look at the whole graph or a measurement: those are for `optimize`.
        while edits and self._index.repair_due > 1:
            edits -= 1
            if not self._apply(self._index.plan(LINK_ROWS, **self._spread())):
                return

    # ------------------------------------------------------------------ reading

    def search(
        self,
        queries: ArrayLike,
        k: int,
        *,
        ef: int | Literal["auto"] = "auto",
        target_recall: float = 0.95,
        filter: ArrayLike | None = None,
        threads: int = 1,
    ) -> tuple[Ids, NDArray[np.float32]]:
        """The `k` nearest of each query (q, dim): ids uint64 (q, k) and scores float32 (q, k), best
        first. Where fewer than `k` match, the rest is `NO_ID` and NaN.

        `ef`: width of the beam, k..4096: more finds more of the true neighbours and takes longer.
        "auto": the width that was measured to find `target_recall` (between 0 and 1) of the true
        neighbours on average; of too few to measure (below 2,048) all are looked at. `filter`: a
        bool mask over ids (`filter[id]`), or an array of ids. Integers are ids, also where all are
        0 and 1: a mask of such is to be made one of bools (`.astype(bool)`). Ids that are not
        there, or there twice, are no error. InvalidInput names what is wrong.
        """
        k, threads = arguments.whole(k, "k"), arguments.whole(threads, "threads")
        beam = arguments.beam(ef, target_recall, k)
        wanted = self._vectors(queries, "queries")
        with self._lock.shared():
            slots = None if filter is None else self._mask(filter)
            return self._search(wanted, k, beam, slots, threads)

    def recall(
        self,
        sample: ArrayLike,
        k: int = 10,
        *,
        ef: int | Literal["auto"] = "auto",
        target_recall: float = 0.95,
        filter: ArrayLike | None = None,
    ) -> float:
        """The share of the true `k` nearest that `search` finds, on average over a sample.

        `sample`: queries (q, dim), best such as will come, compared with an exact search; or a
        number of stored vectors, each searched as if it were not stored. The rest as in `search`.
        1 where there is nothing to find. Costs an exact search of every query.
        """
        k = arguments.whole(k, "k")
        beam = arguments.beam(ef, target_recall, k)
        count = arguments.sample_size(sample)
        queries = self._vectors(sample, "sample") if count is None else count
        with self._lock.shared():
            slots = None if filter is None else self._mask(filter)
            return self._index.recall(queries, k, ef=beam[0], slots=slots, target_recall=beam[1])

    def memory(self) -> dict[str, int]:
        """Bytes in use by part: "vectors" (float32), "codes", "links" (layer 0), "upper_links",
        "bookkeeping" (ids, their table, states, counts), "scratch" (working memory that searches
        and builds keep: about 11 bytes a vector for each that ran at once)."""
        with self._lock.shared():
            sizes = self._index.memory()
            sizes["bookkeeping"] += self._ids.used.nbytes + self._table.size_bytes
            return sizes

    def _search(
        self,
        wanted: NDArray[np.float32],
        k: int,
        beam: tuple[int, float],
        slots: NDArray[np.bool_] | None,
        threads: int,
    ) -> tuple[Ids, NDArray[np.float32]]:
        ef, target_recall = beam
        ids = np.full((len(wanted), k), NO_ID, np.uint64)
        scores = np.full((len(wanted), k), np.nan, np.float32)

        def one(part: slice) -> None:
            rows, found, counts = self._index.search_many(
                wanted[part],
                k,
                ef=ef,
                slots=slots,
                precision=Precision(target_recall=target_recall),
            )
            if int(counts.min()) == k:
                ids[part], scores[part] = self._ids.data[self._index.row_slot[rows]], found
                return
            filled = np.arange(k) < counts[:, np.newaxis]
            ids[part][filled] = self._ids.data[self._index.row_slot[rows[filled]]]
            scores[part][filled] = found[filled]

        if min(threads, len(wanted)) == 1:
            one(slice(None))
            return ids, scores
        bounds = np.linspace(0, len(wanted), min(threads, len(wanted)) + 1).astype(int).tolist()
        for _ in self._run(threads)(one, [slice(*pair) for pair in pairwise(bounds)]):
            pass
        return ids, scores

    def __len__(self) -> int:
        """Vectors that a search can return."""
        with self._lock.shared():
            return self._index.live_count

    def __contains__(self, number: object) -> bool:
        """Whether an id is stored."""
        try:
            wanted = operator.index(cast("SupportsIndex", number))
        except TypeError:
            return False
        if not 0 <= wanted < NO_ID:
            return False
        with self._lock.shared():
            return bool(self._table.find(np.array([wanted], np.uint64))[0] >= 0)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._options.dim

    @property
    def metric(self) -> str:
        """The metric's name."""
        return self._options.metric.value

    def check(self) -> list[str]:
        """Violated invariants of the graph, in words; empty if all hold."""
        with self._lock.shared():
            return self._index.check()

    # ------------------------------------------------------------------ files

    def save(self, path: str | PathLike[str]) -> None:
        """Write the index, graph included, to one file; replaces it atomically (a link, not what it
        points to), and makes folders that are missing. What is written has a name of its own until
        it is complete. DiskFailed, and the old file is there as it was; InvalidInput for a path
        that is a directory, or none."""
        name = arguments.location(path)
        if Path(name).is_dir():
            raise InvalidInput("path", f"is a directory, name a file: {name}")
        with self._lock.exclusive():
            write_index(name, self._options, self._columns)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        threads: int | None = None,
        *,
        vectors_on_disk: bool | str | PathLike[str] = False,
    ) -> "Index":
        """A saved index, ready to search: nothing is rebuilt. `threads`, `vectors_on_disk`: as for
        a new one, whatever the saved one had. InvalidInput for these; NotFound; DamagedFile for a
        file that is truncated, changed, or of another version."""
        if threads is not None:
            threads = arguments.whole(threads, "threads")
        options, columns = read_index(arguments.location(path), reserves_on_disk(vectors_on_disk))
        index = cls.__new__(cls)
        try:
            index._open(options, columns, threads)  # noqa: SLF001  a constructor
        except (Corruption, InvalidInput, KeyError) as error:
            raise damaged(str(path), f"its columns make no index: {error}") from error
        return index

    def __reduce__(self) -> NoReturn:
        """TypeError: neither pickled nor copied."""
        raise TypeError(
            "an Index cannot be pickled or copied: save it to a file, and load that where it is "
            "wanted (index.save(path), balsadb.Index.load(path))"
        )

    # ------------------------------------------------------------------ inside

    def _run(self, threads: int) -> Callable[..., Any]:
        """`map`, on threads if there are to be more than one."""
        if threads == 1:
            return map
        with self._executor_mutex:
            if self._executor is None or threads > self._executor_threads:
                self._executor_threads = max(self._threads, threads, os.cpu_count() or 1)
                self._executor = ThreadPoolExecutor(self._executor_threads)
            return self._executor.map

    def _vectors(self, given: ArrayLike, field: str) -> NDArray[np.float32]:
        """`given` as prepared float32 (n, dim). InvalidInput if it is not such vectors."""
        array = arguments.vectors(given, field, self._options.dim)
        array = bounded(array, lambda row: f"{field}[{row}]")
        if self._options.metric is Metric.COSINE:
            zero = ~array.any(axis=1)
            if zero.any():
                rule = "must not be a zero vector: Cosine compares directions"
                raise InvalidInput(f"{field}[{int(zero.argmax())}]", rule)
        return prepare_vector(self._options.metric, array)

    def _lookup(self, numbers: Ids) -> NDArray[np.int64]:
        """The slot of each id, -1 where it is unknown."""
        return self._table.find(numbers)

    def _rows(self, slots: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The rows of slots that hold an id."""
        return self._index.slot_row[slots] - np.uint32(1)

    def _mask(self, given: ArrayLike) -> NDArray[np.bool_]:
        """A filter as a mask over slots."""
        array = arguments.array_of(given, "filter")
        if array.dtype == np.bool_:
            top = self._slots.top
            # A look at all slots costs as much as the filter itself: only if some are free.
            full = self._index.live_count == top
            live = None if full else self._index.slot_row[:top] != 0
            return mask_of_flags(array, self._ids.data[:top], live, plain=self._plain)
        mask = np.zeros(self._slots.top, np.bool_)
        if array.size:
            wanted = "a mask of bools (filter[id]) or one row of integer ids"
            found = self._lookup(arguments.ids(given, "filter", wanted))
            mask[found[found >= 0]] = True
        return mask

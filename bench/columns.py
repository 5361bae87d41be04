"""What columns and checkpoints cost: touches, digests, freezes, writing and loading a checkpoint.

    python bench/columns.py [--mib 256] [--directory DIR]

Writes one JSON object to standard output; units are the last word of each key.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import msgspec
import numpy as np

from balsadb.columns import Column, ColumnSet, SlotAllocator
from balsadb.storage import CheckpointMeta, CheckpointStore, RealFiles
from balsadb.types import ClusterId, GroupId, LogIndex, Term

DIMENSIONS = 128
BATCH_ROWS = 256


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median_ns(call: Callable[[], object], repeat: int) -> float:
    """Median nanoseconds of one call, over batches of 100."""
    times: list[float] = []
    for _ in range(max(5, repeat // 100)):
        start = time.perf_counter()
        for _ in range(100):
            call()
        times.append((time.perf_counter() - start) / 100)
    return round(float(np.median(times)) * 1e9, 1)


def filled(columns: ColumnSet, mib: int) -> Column:
    """A column of float32 vectors of that size, all different."""
    rows = mib * (1 << 20) // (4 * DIMENSIONS)
    column = columns.create("vectors", np.float32, (DIMENSIONS,), rows_max=4 * rows)
    column.resize(rows)
    column.touch(0, rows)
    rng = np.random.default_rng(0)
    for first in range(0, rows, 65_536):
        part = column.data[first : min(first + 65_536, rows)]
        part[:] = rng.random(part.shape, np.float32)
    return column


def touches(column: Column) -> dict[str, float]:
    """Announcing writes: one row, 256 scattered rows, and the first touch under a freeze."""
    rng = np.random.default_rng(1)
    rows = rng.integers(0, column.rows, BATCH_ROWS).astype(np.uint32)
    column.touch(0, column.rows)
    figures = {
        "touch_one_row_ns": median_ns(lambda: column.touch(7, 8), 20_000),
        "touch_256_rows_us": median_ns(lambda: column.touch_rows(rows), 5_000) / 1e3,
    }
    first_rows = range(0, column.rows, column.rows_per_chunk)
    frozen = column.freeze()
    column.touch_rows(np.array(first_rows[:64]))
    frozen.release()  # the memory of these copies is kept for the next freeze
    frozen = column.freeze()
    first_touches = [
        seconds_of(lambda row=row: column.touch(row, row + 1)) for row in first_rows[:64]
    ]
    frozen.release()
    figures["first_touch_under_freeze_us_median"] = round(float(np.median(first_touches)) * 1e6, 1)
    figures["first_touch_under_freeze_us_max"] = round(max(first_touches) * 1e6, 1)
    figures["freeze_us"] = median_ns(lambda: column.freeze().release(), 1_000) / 1e3
    return figures


def digests(column: Column) -> dict[str, float]:
    """Hashing everything, and again with one changed chunk."""
    column.touch(0, column.rows)
    cold_s = seconds_of(column.digest)
    column.put(0, 1.0)
    return {
        "digest_gb_per_s": round(column.used.nbytes / cold_s / 1e9, 2),
        "digest_one_chunk_changed_us": round(seconds_of(column.digest) * 1e6, 1),
    }


def allocation() -> dict[str, float]:
    """256 slots: fresh ones, scattered ones given back, and those again."""
    allocator = SlotAllocator(ColumnSet(), "slots", 1 << 32)
    allocator.alloc(1_000_000)
    scattered = np.random.default_rng(2).choice(1_000_000, BATCH_ROWS, replace=False)
    return {
        "alloc_256_fresh_us": round(seconds_of(lambda: allocator.alloc(BATCH_ROWS)) * 1e6, 1),
        "free_256_scattered_us": round(seconds_of(lambda: allocator.free(scattered)) * 1e6, 1),
        "alloc_256_scattered_us": round(seconds_of(lambda: allocator.alloc(BATCH_ROWS)) * 1e6, 1),
    }


def checkpoints(columns: ColumnSet, directory: str) -> dict[str, float]:
    """Writing all, writing what 1 % of the chunks changed, loading; and the slowest batch of
    writes while a checkpoint is written."""
    column = columns["vectors"]
    store = CheckpointStore(RealFiles(directory), "checkpoints")
    column.touch(0, column.rows)
    size = column.used.nbytes

    def write(index: int) -> None:
        meta = CheckpointMeta(LogIndex(index), Term(1), b"", ClusterId(1), GroupId(0))
        store.write(meta, columns.freeze())

    full_s = seconds_of(lambda: write(1))
    for row in range(0, column.rows, 100 * column.rows_per_chunk):
        column.put(row, 2.0)
    incremental_s = seconds_of(lambda: write(2))
    newest = store.newest()
    if newest is None:
        raise RuntimeError("no checkpoint was written")
    load_s = seconds_of(lambda: store.load(newest))
    column.touch(0, column.rows)
    frozen = columns.freeze()
    meta = CheckpointMeta(LogIndex(3), Term(1), b"", ClusterId(1), GroupId(0))
    saver = threading.Thread(target=lambda: store.write(meta, frozen))
    saver.start()
    batches = scattered_writes(column, saver)
    saver.join()
    return {
        "checkpoint_full_mb_per_s": round(size / full_s / 1e6, 1),
        "checkpoint_1_percent_changed_ms": round(incremental_s * 1e3, 1),
        "load_mb_per_s": round(size / load_s / 1e6, 1),
        "batch_of_256_writes_during_checkpoint_ms_median": round(float(np.median(batches)), 3),
        "batch_of_256_writes_during_checkpoint_ms_max": round(max(batches), 3),
    }


def scattered_writes(column: Column, saver: threading.Thread) -> list[float]:
    """Milliseconds of each batch of 256 scattered row writes while the saver runs."""
    rng = np.random.default_rng(3)
    times: list[float] = []
    while saver.is_alive() or not times:
        rows = rng.integers(0, column.rows, BATCH_ROWS)
        start = time.perf_counter()
        column.touch_rows(rows)
        column.data[rows] = 3.0
        times.append((time.perf_counter() - start) * 1e3)
        time.sleep(0.002)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size of the column")
    parser.add_argument("--directory", help="where checkpoints are written (temporary if absent)")
    options = parser.parse_args()
    columns = ColumnSet()
    column = filled(columns, options.mib)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        figures: dict[str, float] = {
            "column_mib": options.mib,
            **touches(column),
            **digests(column),
            **allocation(),
            **checkpoints(columns, directory),
        }
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(figures)).decode() + "\n")


if __name__ == "__main__":
    main()

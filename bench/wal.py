"""What the log costs on this machine: fdatasync, group commits, encoding, opening.

    python bench/wal.py [--seconds 2] [--directory DIR]

Writes one JSON object to standard output; units are the last word of each key. `--directory` says
on which disk; the default is the directory for temporary files, which may be in memory. The plain
figures next to the log's own are a file written and synced without it: what the disk allows.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable

import msgspec
import numpy as np

from balsadb.storage import RealFiles, Wal, WalBatch, WalHeader
from balsadb.storage.record import BatchHead, BatchWriter
from balsadb.types import ClusterId, DiskId, Entry, HardState, LogIndex, NodeId, Term

HEADER = WalHeader(ClusterId(1), NodeId(1), DiskId(1))
ENTRY_BYTES = 1024
GROUPS = (1, 8, 64, 512)
ENCODED_ENTRY_BYTES = (256, 1024, 4096, 65_536, 1 << 20)


def repeated(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call, for about `seconds`."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        call()
        times.append(time.perf_counter() - start)
    return times


def latency(times: list[float]) -> dict[str, float]:
    """Median and tail in milliseconds."""
    return {
        "p50_ms": round(float(np.percentile(times, 50)) * 1e3, 3),
        "p99_ms": round(float(np.percentile(times, 99)) * 1e3, 3),
        "max_ms": round(max(times) * 1e3, 3),
    }


def entries_from(first: int, count: int, size: int) -> list[Entry]:
    """Entries that follow one another, all of one random value."""
    data = os.urandom(size)
    return [Entry(LogIndex(i), Term(1), 0, data) for i in range(first, first + count)]


def plain(files: RealFiles, size: int, seconds: float) -> dict[str, float]:
    """A write of `size` bytes and an fdatasync, over a file that is all written already."""
    file = files.open("plain", create=True)
    span = 16 << 20
    file.pwrite(bytes(span), 0)
    file.sync()
    data = os.urandom(size)
    at = 0

    def commit() -> None:
        nonlocal at
        file.pwrite(data, at)
        file.sync()
        at = (at + size) % (span - size)

    times = repeated(commit, seconds)
    file.close()
    return {"commits_per_second": round(len(times) / sum(times)), **latency(times)}


def group_commits(files: RealFiles, group: int, seconds: float) -> dict[str, float]:
    """`Wal.write` and `Wal.sync` of `group` entries with a hard state, one after another."""
    wal, _ = Wal.create_or_open(files, f"group_{group}", HEADER)
    last = 0
    template = entries_from(1, group, ENTRY_BYTES)

    def commit() -> None:
        nonlocal last
        moved = [Entry(LogIndex(e.index + last), e.term, e.kind, e.data) for e in template]
        wal.write(WalBatch(HardState(Term(1), NodeId(1), LogIndex(last)), None, moved))
        wal.sync()
        last += group

    times = repeated(commit, seconds)
    wal.close()
    total = sum(times)
    return {
        "commits_per_second": round(len(times) / total),
        "entries_per_second": round(len(times) * group / total),
        "mib_per_second": round(len(times) * group * ENTRY_BYTES / total / (1 << 20), 1),
        **latency(times),
    }


def encoding(size: int) -> float:
    """Milliseconds of processor time to encode 1 MiB of entries of `size` bytes."""
    batch = entries_from(1, (1 << 20) // size, size)
    times: list[float] = []
    for _ in range(20):
        start = time.process_time()
        writer = BatchWriter()
        writer.entries(batch)
        writer.finish(BatchHead(1, 0, 0, writer.length, 0))
        times.append(time.process_time() - start)
    return round(float(np.median(times)) * 1e3, 3)


def opening(files: RealFiles) -> dict[str, float]:
    """Opening a log of 128 MiB, from the page cache: entries of 1 KiB in batches of 64."""
    wal, _ = Wal.create_or_open(files, "opening", HEADER)
    group = 64
    total = (128 << 20) // ENTRY_BYTES
    for first in range(1, total + 1, group):
        wal.write(WalBatch(None, None, entries_from(first, group, ENTRY_BYTES)))
    wal.sync()
    size = wal.log_bytes
    wal.close()
    start = time.perf_counter()
    wal, state = Wal.create_or_open(files, "opening", HEADER)
    seconds = time.perf_counter() - start
    wal.close()
    assert len(state.entries) == total
    return {
        "log_mib": round(size / (1 << 20), 1),
        "open_ms": round(seconds * 1e3, 1),
        "mib_per_second": round(size / (1 << 20) / seconds, 1),
    }


def main() -> None:
    """Run all and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    parser.add_argument("--directory", default=None, help="where to write (default: temporary)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        files = RealFiles(directory)
        result = {
            "entry_bytes": ENTRY_BYTES,
            "plain_512_bytes": plain(files, 512, options.seconds),
            "plain_64_kib": plain(files, 65_536, options.seconds),
            "group_commit": {
                str(group): group_commits(files, group, options.seconds) for group in GROUPS
            },
            "encode_1_mib_cpu_ms": {str(size): encoding(size) for size in ENCODED_ENTRY_BYTES},
            "opening": opening(files),
        }
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(result)) + b"\n")


if __name__ == "__main__":
    main()

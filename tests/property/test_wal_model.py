"""The log against a model: any run of batches, overwrites, snapshots, compactions, reopenings and
power cuts leaves what the model says."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balsadb.errors import Corruption, NewerFormat
from balsadb.storage import SnapshotRef, Wal, WalBatch, WalHeader, WalOptions, WalState
from balsadb.storage.record import BatchHead, BatchWriter
from balsadb.types import Entry, HardState
from tests.simulation.disk import SimDisk

HEADER = WalHeader(cluster=1 << 62, node=3, disk=(1 << 63) - 1)
FIRST = "wal/0000000000000001.wal"


@dataclass
class Model:
    """The meaning of a log, the long way round."""

    hard_state: HardState | None = None
    snapshot: SnapshotRef | None = None
    entries: dict[int, Entry] = field(default_factory=dict)

    @property
    def floor(self) -> int:
        return self.snapshot.index if self.snapshot else 0

    @property
    def last(self) -> int:
        return max(self.entries, default=self.floor)

    def state(self) -> WalState:
        return WalState(
            self.hard_state, self.snapshot, [self.entries[i] for i in sorted(self.entries)]
        )

    def write(self, batch: WalBatch) -> None:
        self.hard_state = batch.hard_state or self.hard_state
        ref = batch.snapshot
        if ref is not None:
            there = self.entries.get(ref.index)
            term = there.term if there else (self.snapshot or SnapshotRef(-1, -1)).term
            agrees = (there or self.floor == ref.index) and term == ref.term
            self.entries = {i: e for i, e in self.entries.items() if i > ref.index and agrees}
            self.snapshot = ref
        for entry in batch.entries:
            self.entries = {i: e for i, e in self.entries.items() if i < entry.index}
            self.entries[entry.index] = entry


steps = st.lists(
    st.tuples(
        st.sampled_from(
            "append append append overwrite mark install compact reopen crash sync sync".split()
        ),
        st.integers(0, 6),
        st.integers(0, 900),
        st.booleans(),
    ),
    max_size=30,
)


def batch_of(model: Model, action: str, count: int, size: int, with_hard: bool) -> WalBatch | None:
    """The batch of a step, legal for the model; None if the step writes none."""
    term = max((e.term for e in model.entries.values()), default=1)
    term = max(term, model.snapshot.term if model.snapshot else 1)
    hard = HardState(term + 1, count, model.floor) if with_hard else None
    first, ref = model.last + 1, None
    if action == "overwrite":
        first, term = max(first - count, model.floor + 1), term + 1
    elif action == "mark" and model.entries:
        index = min(model.floor + 1 + count, model.last)
        ref = SnapshotRef(index, model.entries[index].term)
        count = size % 2
    elif action == "install":
        term += 1
        ref = SnapshotRef(max(model.last + count - 3, model.floor), term)
        first, count = ref.index + 1, size % 2
    elif action != "append":
        return None
    entries = [Entry(first + i, term, i & 1, bytes([i + 1]) * size) for i in range(count)]
    return WalBatch(hard, ref, entries)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(steps, st.sampled_from([4096, 8192, 1 << 20]), st.integers(0, 1 << 30))
def test_the_log_means_what_the_model_says(run, segment_bytes, seed):
    options = WalOptions(segment_bytes=segment_bytes, zeroed_bytes=segment_bytes // 4)
    rng = random.Random(seed)
    disk = SimDisk()
    wal, _ = Wal.create_or_open(disk, "wal", HEADER, options)
    model, possible = Model(), [WalState(None, None, [])]  # the last is what was written last
    for action, count, size, flag in run:
        batch = batch_of(model, action, count, size, flag)
        if batch is not None:
            wal.write(batch)
            model.write(batch)
            possible.append(model.state())
            continue
        if action == "compact":
            wal.compact(model.floor)
        elif action == "sync":
            wal.sync()
        elif action == "crash":
            disk.crash(rng)
        elif action == "reopen":
            wal.close()
        else:
            continue  # nothing to mark yet
        if action in ("crash", "reopen"):
            wal, state = Wal.create_or_open(disk, "wal", HEADER, options)
            assert state in (possible if action == "crash" else possible[-1:])
            model = Model(state.hard_state, state.snapshot, {e.index: e for e in state.entries})
        possible = [model.state()]
    wal.close()
    _, state = Wal.create_or_open(disk, "wal", HEADER, options)
    assert state == model.state()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=3000), st.booleans())
def test_bytes_of_any_kind_never_do_worse_than_corruption(data, as_second):
    disk = SimDisk()
    path = FIRST
    if as_second:
        Wal.create_or_open(disk, "wal", HEADER, WalOptions(4096, 0))
        path = "wal/0000000000000002.wal"
    disk.mkdir("wal")
    disk.replace(path, data)
    try:
        _, state = Wal.create_or_open(disk, "wal", HEADER)
    except (Corruption, NewerFormat):
        return
    assert state == WalState(None, None, [])


records = st.lists(st.tuples(st.integers(0, 8), st.binary(max_size=60)), max_size=6)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(records)
def test_records_of_any_kind_with_good_checksums_never_do_worse_than_corruption(made):
    disk = SimDisk()
    Wal.create_or_open(disk, "wal", HEADER, WalOptions(4096, 0))
    start = len(disk.content(FIRST))
    chain = BatchWriter()
    chain.meta(HEADER)
    _, crc = chain.finish(BatchHead(1, 0, 0, chain.length, 0))
    writer = BatchWriter()
    for kind, payload in made:
        writer._add(kind, payload)
    data, _ = writer.finish(BatchHead(1, start, start, writer.length, crc))
    disk.replace(FIRST, disk.content(FIRST) + bytes(data))
    known = {1: -1, 2: 28, 3: 24, 4: 17}
    legal = all(known.get(kind) == len(payload) or (kind == 5 and len(payload) >= 20)
                for kind, payload in made)  # fmt: skip
    try:
        Wal.create_or_open(disk, "wal", HEADER)
    except (Corruption, NewerFormat):
        return
    assert legal


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_says_how_long_it_is(count):
    writer = BatchWriter()
    writer.entries([Entry(i, 1, 0, b"x" * 700 * i) for i in range(1, count + 1)])
    data, _ = writer.finish(BatchHead(1, 0, 0, writer.length, 0))
    assert len(data) == -(-writer.length // 511) * 512

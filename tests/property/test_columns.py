"""Columns against plain NumPy copies: any order of writes, resizes, freezes, reads and releases."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from balsadb.columns import Column, ColumnSet, FrozenColumn, SlotAllocator
from balsadb.columns.meta import chunk_digest
from balsadb.errors import LimitExceeded

ROWS_MAX = 90
SHAPES: list[tuple[str, tuple[int, ...]]] = [
    ("u1", ()),
    ("<f4", (3,)),
    ("<u4", (2, 2)),
    ("<i8", (20,)),  # one row is larger than a (shortened) chunk
    ("<f8", (0,)),
]
PLAIN = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 bytes, so that a few rows are many chunks, and rows do not divide them."""
    monkeypatch.setattr("balsadb.columns.meta.CHUNK_BYTES", 64)


@dataclass
class Model:
    """What the column must hold, as whole copies."""

    rows: NDArray[Any]
    frozen: list[tuple[FrozenColumn, NDArray[Any]]] = field(default_factory=list)


def fresh_digest(rows: NDArray[Any]) -> bytes:
    """The digest of a column that never had another content."""
    column = Column("c", rows.dtype, rows.shape[1:], rows_max=ROWS_MAX)
    column.append(rows)
    return column.digest()


def step(data: st.DataObject, column: Column, model: Model) -> None:
    """One random operation on both."""
    rows = len(model.rows)
    ops = ["resize", "range", "rows", "append", "digest", "freeze", "read", "free"]
    op = data.draw(st.sampled_from(ops))
    value = data.draw(st.integers(0, 255))
    if op == "resize":
        new = data.draw(st.integers(0, ROWS_MAX))
        column.resize(new)
        grown = np.zeros((new, *model.rows.shape[1:]), model.rows.dtype)
        grown[: min(rows, new)] = model.rows[:new]
        model.rows = grown
    elif op == "range":
        first = data.draw(st.integers(0, rows))
        stop = data.draw(st.integers(first, rows))
        column.touch(first, stop)
        column.data[first:stop] = value
        model.rows[first:stop] = value
    elif op == "rows" and rows:
        picked = np.array(data.draw(st.lists(st.integers(0, rows - 1), max_size=6)), np.uint32)
        column.touch_rows(picked)
        column.data[picked] = value
        model.rows[picked] = value
    elif op == "append" and rows < ROWS_MAX:
        count = data.draw(st.integers(0, ROWS_MAX - rows))
        more = np.full((count, *model.rows.shape[1:]), value, model.rows.dtype)
        assert column.append(more) == rows
        model.rows = np.concatenate([model.rows, more])
    elif op == "digest":
        assert column.digest() == fresh_digest(model.rows)
    elif op == "freeze":
        model.frozen.append((column.freeze(), model.rows.copy()))
    elif op == "read" and model.frozen:
        frozen, expected = model.frozen[data.draw(st.integers(0, len(model.frozen) - 1))]
        read_one(data, column, frozen, expected)
    elif op == "free" and model.frozen:
        frozen, _ = model.frozen.pop(data.draw(st.integers(0, len(model.frozen) - 1)))
        if value % 2:
            frozen.release()


def read_one(
    data: st.DataObject, column: Column, frozen: FrozenColumn, expected: NDArray[Any]
) -> None:
    """A reader's step in between the writer's."""
    how = data.draw(st.sampled_from(["digest", "ahead", "chunk", "read"]))
    if how == "ahead":
        frozen.copy_ahead(data.draw(st.sampled_from([0, 64, 10_000])))
    elif how == "digest":
        assert frozen.digest() == fresh_digest(expected)
    elif frozen.chunk_count:
        index = data.draw(st.integers(0, frozen.chunk_count - 1))
        first, stop = frozen.meta.chunk_span(index)
        expected_bytes = expected.tobytes()[first:stop]
        if how == "chunk":
            assert frozen.chunk(index) == expected_bytes
        else:
            assert frozen.read(index) == (chunk_digest(expected_bytes), expected_bytes)


@PLAIN
@given(st.data(), st.sampled_from(SHAPES))
def test_column_and_its_freezes_equal_plain_copies(
    data: st.DataObject, shape: tuple[str, tuple[int, ...]]
) -> None:
    dtype, row_shape = shape
    column = Column("c", dtype, row_shape, rows_max=ROWS_MAX)
    address = column.data.ctypes.data
    model = Model(np.zeros((0, *row_shape), dtype))
    for _ in range(data.draw(st.integers(1, 25))):
        step(data, column, model)
        assert column.rows == len(model.rows)
    assert column.data.ctypes.data == address
    assert column.used.tobytes() == model.rows.tobytes()
    assert not column.data[column.rows :].any()
    assert column.digest() == fresh_digest(model.rows)
    for frozen, expected in model.frozen:
        assert frozen.meta.rows == len(expected)
        chunks = [frozen.chunk(index) for index in range(frozen.chunk_count)]
        assert b"".join(chunks) == expected.tobytes()
        assert [frozen.chunk_digest(i) for i in range(len(chunks))] == [*map(chunk_digest, chunks)]
        assert frozen.digest() == fresh_digest(expected)


@settings(PLAIN, max_examples=60)
@given(st.data(), st.sampled_from([1, 5, 64, 65, 4097, 1 << 32]))
def test_allocator_is_lowest_first_and_survives_a_restore(data: st.DataObject, most: int) -> None:
    columns = ColumnSet()
    allocator = SlotAllocator(columns, "slots", most)
    used: set[int] = set()
    for _ in range(data.draw(st.integers(1, 15))):
        action = data.draw(st.sampled_from(["alloc", "free", "restore"]))
        if action == "alloc":
            count = data.draw(st.one_of(st.integers(0, 6), st.integers(60, 200)))
            if len(used) + count > most:
                before = columns.digest()
                with pytest.raises(LimitExceeded):
                    allocator.alloc(count)
                assert columns.digest() == before
                continue
            expected: list[int] = []
            candidate = 0
            while len(expected) < count:
                if candidate not in used:
                    expected.append(candidate)
                candidate += 1
            assert allocator.alloc(count).tolist() == expected
            used.update(expected)
        elif action == "free" and used:
            freed = data.draw(st.sets(st.sampled_from(sorted(used))))
            allocator.free(np.array(sorted(freed, key=lambda slot: slot * 7 % 13), np.int64))
            used -= freed
        elif action == "restore":
            restored = ColumnSet()
            for one in columns.freeze():
                restored.load_column(one.meta, [one.chunk(i) for i in range(one.chunk_count)])
            assert restored.digest() == columns.digest()
            columns, allocator = restored, SlotAllocator(restored, "slots", most)
        assert allocator.check() == []
        assert np.flatnonzero(allocator.used()).tolist() == sorted(used)
        assert allocator.used_count == len(used)

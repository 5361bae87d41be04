"""Columns: the edges that random tests do not single out, and readers in other threads."""

import gc
import threading
from weakref import ref

import numpy as np
import pytest

from balsadb.columns import CHUNK_BYTES, Column, ColumnMeta, ColumnSet, FrozenColumn, SlotAllocator
from balsadb.columns.column import chunk_digest
from balsadb.errors import Corruption, LimitExceeded

ROW = 128 * 1024  # eight rows a chunk


def filled(rows: int, *, rows_max: int = 64, name: str = "c") -> Column:
    """Row r is filled with r + 1."""
    column = Column(name, np.uint8, (ROW,), rows_max=rows_max)
    column.resize(rows)
    column.touch(0, rows)
    column.data[:rows] = np.arange(1, rows + 1, dtype=np.uint8)[:, None]
    return column


def test_reserve_is_aligned_zero_and_costs_nothing() -> None:
    column = Column("c", np.float32, (128,), rows_max=1 << 25)  # 16 GiB
    assert column.data.nbytes == 16 << 30
    assert column.data.ctypes.data % (2 << 20) == 0
    assert column.data.shape == (1 << 25, 128)
    column.resize(1 << 25)
    column.put((1 << 25) - 1, np.ones(128))
    assert column.data[-1].sum() == 128


def test_rows_that_do_not_divide_a_chunk_are_never_cut() -> None:
    column = Column("c", np.uint8, (300_000,), rows_max=10)
    column.resize(10)
    frozen = column.freeze()
    sizes = [len(frozen.chunk(i)) for i in range(frozen.chunk_count)]
    assert sizes == [900_000, 900_000, 900_000, 300_000]
    assert column.rows_per_chunk == 3
    large = Column("c", np.uint8, (CHUNK_BYTES + 1,), rows_max=3)
    large.resize(2)
    assert large.meta.chunk_count == 2


def test_shrink_gives_pages_back_as_zeros() -> None:
    column = filled(40)
    column.resize(3)
    assert not column.data[3:].any()
    assert column.data[2, 0] == 3
    column.resize(40)
    assert not column.used[3:].any()


def test_a_freeze_survives_shrink_and_growth() -> None:
    column = filled(20)
    frozen = column.freeze()
    column.resize(3)
    column.resize(20)
    column.touch(0, 20)
    column.data[:20] = 99
    content = b"".join(frozen.chunk(i) for i in range(frozen.chunk_count))
    assert content == filled(20).used.tobytes()


def test_digest_depends_on_content_and_description_only() -> None:
    column = filled(9)
    column.resize(20)
    column.touch(0, 20)
    column.data[:20] = 7
    column.resize(9)
    column.touch(0, 9)
    column.data[:9] = filled(9).used
    assert column.digest() == filled(9).digest()
    assert filled(9, rows_max=10).digest() == filled(9).digest()
    assert filled(9, name="d").digest() != filled(9).digest()
    assert filled(8).digest() != filled(9).digest()
    flat = Column("c", np.uint8, (1,), rows_max=8)
    wide = Column("c", np.uint8, (8,), rows_max=8)
    flat.resize(8)
    wide.resize(1)
    assert flat.digest() != wide.digest()


def test_growth_changes_the_digest_of_the_last_chunk() -> None:
    column = filled(9)
    column.digest()
    frozen = column.freeze()
    column.resize(10)
    grown = filled(9)
    grown.resize(10)
    assert column.digest() == grown.digest()
    assert frozen.digest() == filled(9).digest()


def test_only_changed_chunks_are_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def counting(data: bytes | memoryview) -> bytes:
        hashed.append(len(data))
        return chunk_digest(data)

    monkeypatch.setattr("balsadb.columns.column.chunk_digest", counting)
    monkeypatch.setattr("balsadb.columns.frozen.chunk_digest", counting)
    column = filled(24)
    column.digest()
    assert len(hashed) == 3
    column.put(9, 5)
    column.digest()
    assert len(hashed) == 4
    frozen = column.freeze()
    frozen.digest()
    assert len(hashed) == 4
    column.put(0, 5)
    later = column.freeze()
    later.digest()
    column.digest()  # what the reader of a freeze computed is the column's as well
    assert len(hashed) == 5


def test_writer_copies_touched_chunks_only_and_once() -> None:
    column = filled(24)
    frozen = column.freeze()
    column.put(9, 5)
    column.put(10, 5)
    assert frozen.copied_bytes == 8 * ROW
    frozen.release_chunk(2)
    column.put(20, 5)
    assert frozen.copied_bytes == 8 * ROW
    assert frozen.copy_ahead(1 << 30) == 8 * ROW
    assert frozen.copy_ahead(1 << 30) == 0
    frozen.release()
    assert frozen.copied_bytes == 0
    for read in (frozen.chunk, frozen.chunk_digest):
        with pytest.raises(ValueError, match="released"):
            read(0)


def test_what_a_reader_computes_of_the_past_is_not_taken_for_the_present() -> None:
    for reader in (FrozenColumn.read, FrozenColumn.chunk_digest):
        column = filled(16)
        frozen = column.freeze()
        column.put(0, 9)
        reader(frozen, 0)
        reader(frozen, 1)
        now = filled(16)
        now.put(0, 9)
        assert column.digest() == now.digest()
        assert frozen.digest() == filled(16).digest()


def test_a_released_chunk_cannot_be_read_as_something_newer() -> None:
    column = filled(8)
    frozen = column.freeze()
    frozen.release_chunk(0)
    column.put(0, 9)
    with pytest.raises(ValueError, match="released"):
        frozen.chunk(0)
    with pytest.raises(ValueError, match="released"):
        frozen.chunk_digest(0)


def test_memory_goes_with_the_last_reference() -> None:
    columns = ColumnSet()
    columns.add(filled(8, name="a"))
    frozen = columns["a"].freeze()
    column = ref(columns["a"])
    reserve = ref(columns["a"]._reserve)  # pyright: ignore[reportPrivateUsage]
    columns.remove("a")
    assert frozen.chunk(0)[0] == 1  # a dropped column's freeze can still be read
    del frozen
    gc.collect()
    assert column() is None
    assert reserve() is None


def test_a_freeze_that_was_dropped_costs_nothing() -> None:
    column = filled(8)
    for _ in range(5):
        column.freeze()
    column.freeze().release()
    column.put(0, 1)
    frozen = column.freeze()
    assert len(column._freezes) == 1  # pyright: ignore[reportPrivateUsage]
    assert frozen.chunk(0)[0] == 1


def test_bad_calls_change_nothing() -> None:
    column = filled(8)
    before = column.digest()
    for first, stop in ((-1, 2), (0, 9), (5, 4)):
        with pytest.raises(IndexError):
            column.touch(first, stop)
    for row in (-1, 8):
        with pytest.raises(IndexError):
            column.touch_rows(np.array([0, row]))
    with pytest.raises(LimitExceeded):
        column.resize(65)
    with pytest.raises(LimitExceeded):
        column.append(np.zeros((60, ROW), np.uint8))
    for bad in (np.zeros((1, 3), np.uint8), np.zeros(ROW, np.uint8), np.zeros((1, ROW))):
        with pytest.raises(ValueError):
            column.append(bad)
    assert column.digest() == before
    for dtype in (">u4", object, [("a", "u1")]):
        with pytest.raises(ValueError):
            Column("c", dtype, rows_max=1)


def test_set_is_ordered_by_name() -> None:
    first, second = ColumnSet(), ColumnSet()
    for columns, names in ((first, "bca"), (second, "abc")):
        for name in names:
            columns.create(name, np.uint8, rows_max=4)
    assert [column.name for column in first] == ["a", "b", "c"] == list(first.digests())
    assert first.digest() == second.digest()
    assert [column.name for column in first.with_prefix("b")] == ["b"]
    with pytest.raises(ValueError, match="exists"):
        first.create("a", np.uint8, rows_max=4)
    for column in first.with_prefix(""):
        first.remove(column.name)
    assert len(first) == 0
    assert first.digest() != second.digest()


def test_restore_refuses_chunks_of_another_length() -> None:
    frozen = filled(20).freeze()
    good = [frozen.chunk(i) for i in range(3)]
    bad = [good[:2], [*good, b"x"], [good[0], good[2], good[1]], [good[0], good[1], good[2][:-1]]]
    for chunks in bad:
        columns = ColumnSet()
        with pytest.raises(Corruption):
            columns.load_column(frozen.meta, chunks)
        assert "c" not in columns
    columns = ColumnSet()
    digests = [frozen.chunk_digest(i) for i in range(3)]
    restored = columns.load_column(frozen.meta, good, digests)
    assert restored.digest() == frozen.digest()
    restored.put(19, 0)
    assert restored.digest() != frozen.digest()


def test_meta_of_empty_columns_has_no_chunks() -> None:
    assert ColumnMeta("c", "<f4", (3,), 0, 9).chunk_count == 0
    assert ColumnMeta("c", "<f4", (0,), 9, 9).chunk_count == 0
    with pytest.raises(IndexError):
        ColumnMeta("c", "<f4", (3,), 0, 9).chunk_span(0)


def test_allocator_refuses_what_it_never_gave() -> None:
    columns = ColumnSet()
    allocator = SlotAllocator(columns, "s", 100)
    allocator.alloc(10)
    allocator.free(np.array([3]))
    before = columns.digest()
    for slots, words in (
        ([3], "slot 3 is free"),
        ([5, 4, 4], "slot 4 is free"),
        ([10], "never"),
        ([-1], "never"),
        ([5, 200], "never"),
    ):
        with pytest.raises(ValueError, match=words):
            allocator.free(np.array(slots))
    assert columns.digest() == before
    assert allocator.alloc(2).tolist() == [3, 10]


def test_slots_given_back_together_are_as_if_one_by_one() -> None:
    """In any order, over several levels, into words that have free slots and into full ones."""
    rng = np.random.default_rng(0)
    together, one_by_one = ColumnSet(), ColumnSet()
    allocators = [SlotAllocator(columns, "s", 1 << 24) for columns in (together, one_by_one)]
    for allocator in allocators:
        allocator.alloc(300_000)
    slots = rng.permutation(300_000)[:600].astype(np.uint32)
    slots = rng.permutation(np.concatenate((slots, np.setdiff1d(np.arange(4_032, 4_300), slots))))
    for part in (slots[:1], slots[1:200], slots[200:200], slots[200:]):
        allocators[0].free(part)
        for slot in part:
            allocators[1].free(np.array([slot]))
        assert together.digests() == one_by_one.digests()
        assert allocators[0].check() == []
    assert allocators[0].alloc(len(slots)).tolist() == np.sort(slots).tolist()


def test_readers_in_threads_see_the_frozen_bytes_while_the_writer_goes_on() -> None:
    """Every row always holds one value within a round; a torn or late read would mix rounds."""
    column = filled(48)
    wrong: list[str] = []

    def read(frozen: FrozenColumn, value: int, order: list[int], ahead: int) -> None:
        frozen.copy_ahead(ahead)
        for index in order:
            digest = frozen.chunk_digest(index)
            data = frozen.chunk(index)
            if set(data[:: ROW // 4]) != {value} or chunk_digest(data) != digest:
                wrong.append(f"round {value}, chunk {index}")
            frozen.release_chunk(index)
        frozen.release()

    readers: list[threading.Thread] = []
    for value in range(1, 26):
        for row in range(48):
            column.put(row, value)
        order = list(range(6))[:: -1 if value % 2 else 1]
        arguments = (column.freeze(), value, order, (value % 3) * 8 * ROW)
        readers.append(threading.Thread(target=read, args=arguments))
        readers[-1].start()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert column.digest() == column.freeze().digest()
    clean = Column("c", np.uint8, (ROW,), rows_max=64)
    clean.append(column.used)
    assert clean.digest() == column.digest()

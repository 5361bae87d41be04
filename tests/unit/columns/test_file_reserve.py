"""A reserve over a file without a name."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from balsadb.columns import Column, ColumnSet
from balsadb.columns.reserve import FileReserve
from balsadb.errors import DiskFailed, DiskFull
from balsadb.storage.files import UnnamedFile


def in_a_file(folder: Path, size: int) -> FileReserve:
    file = UnnamedFile(folder, size)
    return FileReserve(file.mapping, file.fill)


def blocks_of(column: Column) -> int:
    """Bytes of disk that the column's file takes."""
    file: UnnamedFile = column._reserve._fill.__self__
    return 512 * os.fstat(file._descriptor).st_blocks


def test_a_column_in_a_file_is_like_one_in_memory(tmp_path):
    sets = [ColumnSet({"a": lambda size: in_a_file(tmp_path, size)}), ColumnSet()]
    for columns in sets:
        column = columns.create("a", "<f4", (8,), rows_max=200_000)
        column.append(np.arange(1_200_000, dtype=np.float32).reshape(-1, 8))
        column.resize(40_000)
        column.resize(120_000)
        assert not column.data[40_000:].any(), "dropped rows read as zero"
        frozen = column.freeze()
        column.put(7, np.full(8, 3))
        assert frozen.chunk(0)[7 * 32 : 7 * 32 + 4] == np.float32(56).tobytes()
        frozen.release()
    assert sets[0].digests() == sets[1].digests()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_none_fails_loudly(tmp_path):
    with pytest.raises(DiskFailed, match="nowhere"):
        UnnamedFile(tmp_path / "nowhere", 4_096)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_column_that_finds_no_room_stays_as_it_was(tmp_path, monkeypatch, number):
    columns = ColumnSet({"a": lambda size: in_a_file(tmp_path, size)})
    column = columns.create("a", "<f4", (8,), rows_max=200_000)
    column.append(np.ones((40_000, 8), np.float32))
    before = column.digest()
    allocate, asked = os.posix_fallocate, []

    def full(descriptor: int, first: int, length: int) -> None:
        asked.append((first, length))
        allocate(descriptor, first, length - 4_096)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full)
    error = DiskFailed if number == errno.EIO else DiskFull
    for change in (lambda: column.ensure(120_000), lambda: column.resize(120_000)):
        with pytest.raises(error, match=f"{tmp_path}.*{os.strerror(number)}"):
            change()
        assert (column.rows, column.digest()) == (40_000, before)
        assert asked.pop() == (2 << 20, 2 << 20), "what is new, in whole steps"
        assert blocks_of(column) == 2 << 20, "what it found is given back"
    column.resize(50_000)
    assert asked == [], "the step before has room for these"
    monkeypatch.undo()
    column.resize(120_000)
    assert not column.data[40_000:120_000].any()


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_where_room_cannot_be_set_aside_it_is_written(tmp_path, monkeypatch, number):
    def unable(descriptor: int, first: int, length: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", unable)
    column = ColumnSet({"a": lambda size: in_a_file(tmp_path, size)}).create(
        "a", "<f4", (8,), rows_max=70_000
    )
    column.append(np.ones((40_000, 8), np.float32))
    assert blocks_of(column) >= 2 << 20
    column.resize(70_000)
    assert (column.data[:40_000] == 1).all()
    assert not column.data[40_000:].any()

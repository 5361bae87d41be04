"""A reserve over a file without a name."""

import os

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.columns.reserve import FileReserve
from balsadb.errors import DiskFailed
from balsadb.storage.files import map_unnamed


def test_a_column_in_a_file_is_like_one_in_memory(tmp_path):
    sets = [ColumnSet({"a": lambda size: FileReserve(map_unnamed(tmp_path, size))}), ColumnSet()]
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
        map_unnamed(tmp_path / "nowhere", 4_096)

"""Lists and buffers become little-endian float32 bytes."""

import struct
from array import array

import numpy as np
import pytest

from balsadb.client.vectors import batches, pack, pack_rows
from balsadb.errors import InvalidInput

NUMBERS = [0.5, -2.0, 3.25]
WANTED = struct.pack("<3f", *NUMBERS)


@pytest.mark.parametrize(
    "vector",
    [
        NUMBERS,
        tuple(NUMBERS),
        array("f", NUMBERS),
        array("d", NUMBERS),
        np.array(NUMBERS, np.float32),
        np.array(NUMBERS, np.float64),
        np.array(NUMBERS, np.float16),
        np.array(NUMBERS, ">f4"),
        memoryview(array("d", NUMBERS)),
        np.array([*NUMBERS, 9, 9, 9], np.float32)[:3],
        np.repeat(np.array(NUMBERS, np.float32), 2)[::2],
    ],
)
def test_every_form_gives_the_same_bytes(vector: object) -> None:
    assert pack(vector, "vector") == WANTED


@pytest.mark.parametrize("vector", [[0.5, "x"], ["a"], 7, None, np.zeros(3, "S3"), [[1.0]]])
def test_what_is_no_vector_is_refused_by_name(vector: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        pack(vector, "points[3].vector")
    assert caught.value.field == "points[3].vector"


def test_a_matrix_is_no_vector_and_a_vector_no_matrix() -> None:
    with pytest.raises(InvalidInput, match="one dimension"):
        pack(np.zeros((2, 2), np.float32), "v")
    with pytest.raises(InvalidInput, match="two dimensions"):
        pack_rows(np.zeros(4, np.float32), "v")


def test_rows_from_a_matrix_and_from_a_list_are_alike() -> None:
    matrix = np.arange(6, dtype=np.float64).reshape(2, 3)
    packed = pack_rows(matrix, "v").data
    assert packed == matrix.astype("<f4").tobytes()
    assert pack_rows(matrix.tolist(), "v").data == packed
    assert pack_rows(list(matrix), "v").data == packed


def test_rows_of_unequal_length_are_refused_by_position() -> None:
    with pytest.raises(InvalidInput) as caught:
        pack_rows([[1.0, 2.0], [1.0]], "vectors")
    assert caught.value.field == "vectors[1]"


@pytest.mark.parametrize("make", [list, iter, lambda rows: (row for row in rows), np.array])
def test_batches_cover_everything_in_order(make: object) -> None:
    rows = [[float(i)] for i in range(7)]
    runs = [[list(row) for row in run] for run in batches(make(rows), 3)]  # type: ignore[operator]
    assert [len(run) for run in runs] == [3, 3, 1]
    assert [row for run in runs for row in run] == rows

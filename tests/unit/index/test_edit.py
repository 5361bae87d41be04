"""The bytes of an edit."""

import numpy as np
import pytest

from balsadb.errors import Corruption
from balsadb.index.edit import Edit, decode, encode, version_of


def some_edit() -> Edit:
    return Edit(
        graph_version=2**40 + 5,
        entry=8,
        top_layer=3,
        rows_linked=np.array([7, 9], np.uint32),
        rows_freed=np.array([3], np.uint32),
        list_row=np.array([1, 7, 9], np.uint32),
        list_layer=np.array([0, 0, 2], np.uint8),
        masked=np.array([True, False, False]),
        masks=np.array([[0b1011, 1, 0]], np.uint8),
        appended=np.array([0, 2, 1], np.uint8),
        links=np.array([1, 9, 7], np.uint32),
    )


def test_what_is_encoded_is_decoded():
    edit = some_edit()
    again = decode(encode(edit))
    for name in Edit.__slots__:
        assert np.array_equal(getattr(again, name), getattr(edit, name)), name
    assert encode(again) == encode(edit)
    assert version_of(encode(edit)) == 2**40 + 5


def test_decoded_arrays_may_be_written():
    edit = decode(encode(some_edit()))
    assert edit.links.flags.writeable
    assert edit.masks.flags.writeable


@pytest.mark.parametrize("length", [0, 5, 40, 60, -1])
def test_a_cut_edit_is_corruption(length):
    with pytest.raises(Corruption):
        decode(encode(some_edit())[:length])


def test_an_unknown_format_is_corruption():
    with pytest.raises(Corruption, match="kind 9"):
        version_of(b"\x09" + encode(some_edit())[1:])


def test_counts_that_do_not_add_up_are_corruption():
    data = bytearray(encode(some_edit()))
    data[-4] += 1  # one more appended link than there are
    with pytest.raises(Corruption, match="add up"):
        decode(bytes(data))

"""Slices to arrays."""

import asyncio
import struct

import numpy as np
import pytest

from balsadb.api.codec import Format, encode
from balsadb.api.slices import Packed, cut_upsert
from balsadb.embedded.arrays import gather_upsert, packed_block, packed_vector
from balsadb.errors import InvalidInput


def gathered(value, format_=Format.JSON):
    return asyncio.run(gather_upsert("c", cut_upsert(encode(value, format_), format_)))


def test_many_slices_become_one_block():
    rows = np.random.default_rng(1).normal(size=(700, 3)).astype(np.float32)
    points = [
        {"id": at, "vector": row, "payload": {"at": at}} for at, row in enumerate(rows.tolist())
    ]
    found = gathered({"points": points})
    assert list(found.ids) == list(range(700))
    assert found.vectors[""].positions is None
    assert found.vectors[""].values.dtype == np.float32
    assert np.array_equal(found.vectors[""].values, rows)
    assert found.payloads[699] == {"at": 699}
    batch = {"ids": list(range(700)), "vectors": rows.tolist()}
    again = gathered({"batch": batch})
    assert np.array_equal(again.vectors[""].values, rows)
    assert again.payloads is None
    packed = {"ids": list(range(700)), "vectors": rows.tobytes()}
    again = gathered({"batch": packed}, Format.MSGPACK)
    assert np.array_equal(again.vectors[""].values, rows)


def test_positions_where_a_name_is_missing():
    points = [
        {"id": at, "vector": {"a": [at, 0]} if at % 3 == 0 else {"b": [at]}} for at in range(600)
    ]
    found = gathered({"points": points})
    assert found.vectors["a"].positions.tolist() == list(range(0, 600, 3))
    assert found.vectors["a"].values[:, 0].tolist() == list(range(0, 600, 3))
    assert len(found.vectors["b"].values) == 400


def test_bytes_and_lists_may_be_mixed():
    row = struct.pack("<2f", 1, 2)
    points = [{"id": 1, "vector": row}, {"id": 2, "vector": [3, 4]}]
    found = gathered({"points": points}, Format.MSGPACK)
    assert found.vectors[""].values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("second", [[1], [1, 2, 3], []])
def test_unequal_lengths_name_the_point(second):
    with pytest.raises(InvalidInput) as caught:
        gathered({"points": [{"id": 1, "vector": [1, 2]}, {"id": 2, "vector": second}]})
    assert caught.value.field == "points[1].vector"
    assert f"{len(second)} numbers" in caught.value.rule


def test_unequal_lengths_across_slices():
    points = [{"id": at, "vector": [1.0] if at < 256 else [1.0, 2.0]} for at in range(300)]
    with pytest.raises(InvalidInput) as caught:
        gathered({"points": points})
    assert caught.value.field == "points[256].vector"


def test_blocks_remember_where_their_vectors_stood():
    points = [{"id": 1, "vector": [1.0]}, {"id": 2, "vector": {"{a}": [1.0]}}]
    found = gathered({"points": points})
    assert found.vectors[""].field.format(0) == "points[0].vector"
    assert found.vectors["{a}"].field.format(1) == "points[1].vector.{a}"
    assert found.payloads_are_json
    rows = {"b": [[1.0]], "p": b"1234"}
    found = gathered({"batch": {"ids": [1], "vectors": rows}}, Format.MSGPACK)
    assert found.vectors["b"].field.format(0) == "batch.vectors.b[0]"
    assert found.vectors["p"].field.format(0) == "batch.vectors.p[0]"
    assert found.payload_field.format(0) == "batch.payloads[0]"
    assert not found.payloads_are_json


def test_bytes_that_are_no_floats():
    with pytest.raises(InvalidInput) as caught:
        gathered({"points": [{"id": 1, "vector": b"12345"}]}, Format.MSGPACK)
    assert caught.value.field == "points[0].vector"
    with pytest.raises(InvalidInput, match="whole number"):
        packed_vector(b"123", "query")
    for size in (7, 12):
        with pytest.raises(InvalidInput) as caught:
            gathered({"batch": {"ids": [1, 2], "vectors": bytes(size)}}, Format.MSGPACK)
        assert caught.value.field == "batch.vectors"


def test_an_empty_request():
    found = gathered({"points": []})
    assert (list(found.ids), found.vectors, found.payloads) == ([], {}, None)
    gathered({"batch": {"ids": [], "vectors": b""}}, Format.MSGPACK)


def test_other_tasks_run_in_between():
    turns = []

    async def run():
        body = encode({"points": [{"id": at, "vector": [0.5]} for at in range(1024)]})
        gathering = asyncio.create_task(gather_upsert("c", cut_upsert(body, Format.JSON)))
        while not gathering.done():
            turns.append(1)
            await asyncio.sleep(0)

    asyncio.run(run())
    assert len(turns) >= 4


def test_packed_rows_of_no_points_are_refused():
    with pytest.raises(InvalidInput, match=r"batch\.vectors"):
        packed_block(Packed(bytes(4), "batch.vectors"), 0)
    assert packed_block(Packed(b"", "batch.vectors"), 0).values.shape == (0, 0)

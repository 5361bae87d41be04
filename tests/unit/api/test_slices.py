"""Upserts cut into slices: both forms, both encodings, and packed vectors."""

import struct
from uuid import UUID

import pytest

from balsadb.api import limits
from balsadb.api.codec import Format, encode
from balsadb.api.slices import NamedVectors, Packed, cut_upsert
from balsadb.errors import InvalidInput, LimitExceeded, MalformedBody

TEXT = "550e8400-e29b-41d4-a716-446655440000"


def drawn(value, format_=Format.JSON):
    upsert = cut_upsert(encode(value, format_), format_)
    return upsert, list(upsert.slices)


@pytest.mark.parametrize("format_", list(Format))
def test_points(format_):
    value = {
        "points": [
            {"id": 1, "vector": [1, 2.5]},
            {"id": TEXT, "vector": {"": [3, 4], "a": [5]}, "payload": {"k": {"n": [1]}}},
            {"id": 3, "vector": {}, "payload": None, "shard_key": None},
        ]
    }
    upsert, (piece,) = drawn(value, format_)
    assert upsert.points_count == 3
    assert piece.ids == [1, UUID(TEXT), 3]
    assert piece.payloads == [None, {"k": {"n": [1]}}, None]
    assert piece.vectors == {
        "": NamedVectors([0, 1], [[1.0, 2.5], [3.0, 4.0]], "points[{}].vector"),
        "a": NamedVectors([1], [[5.0]], "points[{}].vector.a"),
    }


@pytest.mark.parametrize("format_", list(Format))
def test_batch(format_):
    value = {
        "batch": {
            "ids": [1, 2],
            "vectors": {"": [[1], [2]], "b": [[3, 4], None]},
            "payloads": [{"x": 1}, None],
        }
    }
    upsert, (piece,) = drawn(value, format_)
    assert (upsert.points_count, upsert.packed) == (2, {})
    assert piece.ids == [1, 2]
    assert piece.payloads == [{"x": 1}, None]
    assert piece.vectors["b"] == NamedVectors([0], [[3.0, 4.0]], "batch.vectors.b[{}]")


def test_binary_rows_and_packed_batches():
    row = struct.pack("<2f", 1, 2)
    _, (piece,) = drawn({"points": [{"id": 1, "vector": row}]}, Format.MSGPACK)
    assert piece.vectors[""].values == [row]
    upsert, (piece,) = drawn({"batch": {"ids": [1, 2], "vectors": row}}, Format.MSGPACK)
    assert upsert.packed == {"": Packed(row, "batch.vectors")}
    assert (piece.ids, piece.vectors) == ([1, 2], {})
    named = {"batch": {"ids": [1, 2], "vectors": {"n": row}}}
    assert drawn(named, Format.MSGPACK)[0].packed == {"n": Packed(row, "batch.vectors.n")}


def test_base64_rows_in_json():
    _, (piece,) = drawn({"points": [{"id": 1, "vector": "AACAPwAAAEA="}]})
    assert piece.vectors[""].values == [struct.pack("<2f", 1, 2)]


def test_slices_are_bounded_in_points_and_bytes():
    many = {"points": [{"id": at, "vector": [0.5]} for at in range(600)]}
    upsert, pieces = drawn(many)
    assert [len(piece.ids) for piece in pieces] == [256, 256, 88]
    assert [piece.first for piece in pieces] == [0, 256, 512]
    assert pieces[1].vectors[""].positions[0] == 256
    assert upsert.points_count == 600
    wide = {"points": [{"id": at, "vector": [0.123456789] * 8000} for at in range(30)]}
    _, pieces = drawn(wide)
    assert len(pieces) > 2
    assert [number for piece in pieces for number in piece.ids] == list(range(30))
    batch = {"batch": {"ids": list(range(30)), "vectors": [[0.123456789] * 8000] * 30}}
    assert len(drawn(batch)[1]) > 2


@pytest.mark.parametrize(
    ("value", "field", "rule"),
    [
        ({}, "points", "exactly one"),
        ({"points": [], "batch": {"ids": [], "vectors": []}}, "points", "exactly one"),
        ({"points": {}}, "points", "array"),
        ({"points": [7]}, "points[0]", "object"),
        ({"points": [{"vector": [1]}]}, "points[0]", "missing required field `id`"),
        ({"points": [{"id": 0, "vector": [1]}, {"id": -1, "vector": [1]}]}, "points[1].id", "UUID"),
        ({"points": [{"id": 1.5, "vector": [1]}]}, "points[0].id", "int"),
        ({"points": [{"id": "x", "vector": [1]}]}, "points[0].id", "UUID"),
        ({"points": [{"id": 1}]}, "points[0].vector", "required"),
        ({"points": [{"id": 1, "vector": [1, "x"]}]}, "points[0].vector[1]", "float"),
        ({"points": [{"id": 1, "vector": [[1]]}]}, "points[0].vector[0]", "float"),
        ({"points": [{"id": 1, "vector": [1], "payload": []}]}, "points[0].payload", "object"),
        ({"points": [{"id": 1, "vector": [1], "payload": "x"}]}, "points[0].payload", "object"),
        ({"batch": {"ids": [1], "vectors": []}}, "batch.vectors", "each of 1 ids"),
        ({"batch": {"ids": [1], "vectors": {"a": []}}}, "batch.vectors.a", "each of 1 ids"),
        (
            {"batch": {"ids": [1], "vectors": [[1]], "payloads": []}},
            "batch.payloads",
            "each of 1 ids",
        ),
        (
            {"batch": {"ids": [1], "vectors": [[1]], "payloads": [3]}},
            "batch.payloads[0]",
            "object",
        ),
        ({"batch": {"ids": [1, -2], "vectors": [[1], [1]]}}, "batch.ids[1]", "UUID"),
        ({"batch": {"ids": [1], "vectors": [["x"]]}}, "batch.vectors[0][0]", "float"),
    ],
)
def test_errors_name_the_place(value, field, rule):
    with pytest.raises(InvalidInput) as caught:
        drawn(value)
    assert caught.value.field == field
    assert rule in caught.value.rule


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_must_be_finite(text):
    body = b'{"points":[{"id":1,"vector":[1,' + text.encode() + b"]}]}"
    with pytest.raises(MalformedBody) as caught:
        list(cut_upsert(body, Format.JSON).slices)
    assert caught.value.field
    assert "finite" in caught.value.rule or "range" in caught.value.rule


def test_too_many_points():
    count = limits.BATCH_POINTS_MAX + 1
    for value in (
        {"points": [{"id": 1}] * count},
        {"batch": {"ids": [1] * count, "vectors": [[1]] * count}},
    ):
        with pytest.raises(LimitExceeded, match=str(limits.BATCH_POINTS_MAX)):
            drawn(value)

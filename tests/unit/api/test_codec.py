"""Bodies in two encodings."""

import struct

import msgspec
import pytest

from balsadb.api import points, queries
from balsadb.api.codec import Format, answer_format, convert, decode, encode, request_format
from balsadb.database.results import Record
from balsadb.errors import MalformedBody


def test_formats_are_chosen_by_media_type():
    assert request_format(None) is Format.JSON
    assert request_format("application/json; charset=utf-8") is Format.JSON
    assert request_format("text/html") is Format.JSON
    assert request_format("application/msgpack") is Format.MSGPACK
    assert request_format("Application/X-MsgPack; v=1") is Format.MSGPACK
    assert answer_format(None) is Format.JSON
    assert answer_format("*/*") is Format.JSON
    assert answer_format("text/html, application/msgpack;q=0.9") is Format.MSGPACK


@pytest.mark.parametrize("format_", list(Format))
def test_both_encodings_decode_alike(format_):
    value = {"ids": [1, "550e8400e29b41d4a716446655440000"], "with_payload": ["a"], "new": 1}
    found = decode(encode(value, format_), points.RetrievePoints, format_)
    assert found == points.RetrievePoints([1, "550e8400e29b41d4a716446655440000"], ["a"])


@pytest.mark.parametrize(
    ("body", "type_", "field", "rule"),
    [
        (b'{"ids":[1,2.5]}', points.RetrievePoints, "ids[1]", "Expected `int | str`"),
        (b'{"ids":3}', points.RetrievePoints, "ids", "Expected `array`"),
        (b"{}", points.RetrievePoints, "body", "missing required field `ids`"),
        (b"[]", points.RetrievePoints, "body", "Expected `object`"),
        (b'{"params":{"hnsw_ef":-1}}', queries.QueryRequest, "params.hnsw_ef", ">= 0"),
        (b'{"limit":0}', queries.QueryRequest, "limit", ">= 1"),
        (b'{"limit":1.5}', queries.QueryRequest, "limit", "Expected `int"),
        (b'{"filter":[]}', queries.QueryRequest, "filter", "Expected `object"),
        (b'{"ids":[1', points.RetrievePoints, "body", "truncated"),
        (b'{"ids":[NaN]}', points.RetrievePoints, "body", "is not valid JSON"),
        (b"\xff\xfe", points.RetrievePoints, "body", "is not valid JSON"),
        (b'{"ids":["\xff"]}', points.RetrievePoints, "body", "is not valid JSON"),
    ],
)
def test_errors_name_the_path(body, type_, field, rule):
    with pytest.raises(MalformedBody) as caught:
        decode(body, type_, Format.JSON)
    assert caught.value.field == field
    assert rule in caught.value.rule


@pytest.mark.parametrize("body", [b"\xc1", b"\x81", b"\xda\x00\x05ab", b"\x82\xa1a\x01"])
def test_malformed_msgpack(body):
    with pytest.raises(MalformedBody):
        decode(body, points.RetrievePoints, Format.MSGPACK)


@pytest.mark.parametrize("format_", list(Format))
def test_deep_nesting_is_refused_not_fatal(format_):
    body = b"[" * 100_000 if format_ is Format.JSON else b"\x91" * 100_000
    with pytest.raises(MalformedBody):
        decode(b'{"filter":{"a":' + body if format_ is Format.JSON else body, dict, format_)


def test_convert_puts_the_path_behind_the_field():
    with pytest.raises(MalformedBody) as caught:
        convert([1.0, "x"], list[float], "query.nearest")
    assert caught.value.field == "query.nearest[1]"


def test_raw_payloads_pass_through_json_and_are_translated_for_msgpack():
    record = Record(7, msgspec.Raw(b'{"a": [1, null]}'), {"": [1.0, 2.5]})
    assert b'"payload":{"a": [1, null]}' in encode([record])
    packed = msgspec.msgpack.decode(encode([record], Format.MSGPACK))
    assert packed == [
        {"id": 7, "payload": {"a": [1, None]}, "vector": {"": struct.pack("<2f", 1.0, 2.5)}}
    ]
    unnamed = msgspec.msgpack.decode(encode(Record(7, None, [0.5]), Format.MSGPACK))
    assert unnamed["vector"] == struct.pack("<f", 0.5)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (rb'"\ud800"', 6),
        (rb'"\uD83Dx"', 6),
        (rb'"\ud83d\n"', 6),
        (rb'"\\\udbffx"', 8),
    ],
)
def test_half_a_surrogate_pair_is_not_called_truncated(text, place):
    with pytest.raises(MalformedBody) as caught:
        decode(b'{"a":' + text + b"}", dict, Format.JSON)
    assert "half a surrogate pair" in caught.value.rule
    assert f"byte {place}" in caught.value.rule
    assert "truncated" not in caught.value.rule


@pytest.mark.parametrize(
    "body", [rb'{"a":"\ud83d\ude00', rb'{"a":"\ud83d', rb'{"a":"\ud83d\u', rb'{"a":"\\ud800 and so']
)
def test_a_body_that_ends_early_is_called_truncated(body):
    with pytest.raises(MalformedBody, match="truncated"):
        decode(body, dict, Format.JSON)


def test_a_body_of_backslashes_is_searched_once():
    body = b'{"a":"' + b"\\" * 2_000_001
    with pytest.raises(MalformedBody, match="JSON"):
        decode(body, dict, Format.JSON)

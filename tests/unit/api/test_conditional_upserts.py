"""Conditions on an upsert that are not kept are refused, not passed over."""

import msgspec
import pytest

from balsadb.api.codec import Format
from balsadb.api.slices import cut_upsert
from balsadb.errors import InvalidInput

POINTS = [{"id": 1, "vector": [1.0]}]


@pytest.mark.parametrize("format_", list(Format))
@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"update_mode": "insert_only"}, "update_mode"),
        ({"update_mode": "update_only"}, "update_mode"),
        ({"update_mode": 1}, "update_mode"),
        ({"update_filter": {"must": []}}, "update_filter"),
    ],
)
@pytest.mark.parametrize("body", [{"points": POINTS}, {"batch": {"ids": [1], "vectors": [[1.0]]}}])
def test_conditions_are_refused(body, extra, field, format_):
    module = msgspec.json if format_ is Format.JSON else msgspec.msgpack
    with pytest.raises(InvalidInput) as caught:
        cut_upsert(module.encode(body | extra), format_)
    assert caught.value.field == field


def test_the_plain_upsert_by_its_name_is_taken():
    body = {"points": POINTS, "update_mode": "upsert", "update_filter": None}
    assert cut_upsert(msgspec.json.encode(body), Format.JSON).points_count == 1

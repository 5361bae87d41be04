"""Point ids: every spelling the dialect takes, and nothing else."""

from uuid import UUID

import pytest

from balsadb.api.identifiers import parse_id, parse_ids, parse_path_id
from balsadb.errors import InvalidInput

TEXT = "550e8400-e29b-41d4-a716-446655440000"


@pytest.mark.parametrize("value", [0, 1, (1 << 64) - 1])
def test_unsigned_integers(value):
    assert parse_id(value, "id") == value


@pytest.mark.parametrize(
    "value",
    [TEXT, TEXT.upper(), TEXT.replace("-", ""), f"urn:uuid:{TEXT}", f"{{{TEXT}}}"],
)
def test_uuid_spellings(value):
    assert parse_id(value, "id") == UUID(TEXT)
    assert parse_path_id(value) == UUID(TEXT)


@pytest.mark.parametrize(
    "value",
    [
        -1,
        1 << 64,
        1.0,
        True,
        None,
        "",
        "7",
        "x",
        TEXT[:-1],
        "5-50e8400e29b41d4a716446655440000",
        [],
    ],
)
def test_everything_else_is_refused_and_named(value):
    with pytest.raises(InvalidInput) as caught:
        parse_id(value, "points[3].id")
    assert caught.value.field == "points[3].id"
    assert "64-bit integer or a UUID" in caught.value.rule


def test_the_position_of_a_bad_id_is_named():
    with pytest.raises(InvalidInput) as caught:
        parse_ids([1, 2, -3], "ids")
    assert caught.value.field == "ids[2]"


def test_digits_in_a_path_are_an_integer():
    assert parse_path_id("42") == 42
    assert parse_path_id("00042") == 42
    for text in ("18446744073709551616", "4 2", "+4", "٤"):
        with pytest.raises(InvalidInput):
            parse_path_id(text)

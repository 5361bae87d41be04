"""Ids and the table that finds their slots, against a dictionary."""

from uuid import UUID, uuid5

import numpy as np
import pytest

from balsadb.columns import ColumnSet
from balsadb.database.id_map import MISSING, IdMap
from balsadb.database.point_ids import (
    Ids,
    hash_ids,
    hash_one,
    pack,
    parse_ids,
    parse_path_id,
    split_id,
    unpack,
    wire_ids,
)
from balsadb.errors import InvalidInput

SPELLINGS = (
    "550e8400-e29b-41d4-a716-446655440000",
    "550E8400e29b41d4a716446655440000",
    "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
    "{550e8400-e29b-41d4-a716-446655440000}",
)


@pytest.mark.parametrize("text", SPELLINGS)
def test_every_spelling_of_a_uuid_is_one_id(text: str) -> None:
    assert wire_ids(parse_ids([text, UUID(SPELLINGS[0])], "ids")) == [SPELLINGS[0]] * 2
    assert parse_path_id(text) == UUID(SPELLINGS[0])


@pytest.mark.parametrize("value", [-1, 1 << 64, 1.0, True, None, "", "7", "x" * 32, [1], "film-1"])
def test_what_is_no_id_is_named(value: object) -> None:
    with pytest.raises(InvalidInput, match="point id") as caught:
        parse_ids([1, value], "points")  # type: ignore[list-item]
    assert caught.value.field == "points[1]"


def test_ids_survive_packing_and_hash_alike() -> None:
    values = [0, 1, (1 << 64) - 1, UUID(int=0), UUID(int=(1 << 128) - 1), UUID(int=1)]
    ids = parse_ids(values, "ids")
    assert wire_ids(unpack(pack(ids))) == [*values[:3], *map(str, values[3:])]
    assert hash_ids(ids).tolist() == [hash_one(*split_id(value, "id")) for value in values]
    assert len(set(hash_ids(ids).tolist())) == len(values)


def _ids(numbers: list[int]) -> Ids:
    return parse_ids([uuid5(UUID(int=0), str(n)) if n % 3 == 0 else n for n in numbers], "ids")


@pytest.mark.parametrize("seed", range(4))
def test_the_table_is_a_dictionary(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = ColumnSet()
    table = IdMap(columns, "c")
    model: dict[int, int] = {}
    live = np.zeros(4096, np.bool_)
    for turn in range(60):
        fresh = [n for n in rng.choice(3000, 60, replace=False).tolist() if n not in model]
        slots = np.flatnonzero(~live)[: len(fresh)].astype(np.uint32)
        live[slots] = True
        model.update(zip(fresh, slots.tolist(), strict=True))
        table.insert(slots, _ids(fresh), len(model))
        gone = [n for n in rng.choice(3000, 900, replace=False).tolist() if n in model]
        freed = np.array([model.pop(n) for n in gone], np.uint32)
        table.remove(freed)
        live[freed] = False
        if turn % 10 == 0:
            table = IdMap(columns, "c")
        asked = rng.choice(3000, 200).tolist()
        expected = [model.get(n, MISSING) for n in asked]
        assert table.find(_ids(asked)).tolist() == expected
        one = _ids(asked[:1])
        assert table.find_one(int(one.kind[0]), int(one.hi[0]), int(one.lo[0])) == expected[0]
    assert table.check(live) == []
    assert len(model) > 100

"""Searches on the wire as queries."""

import pytest

from balsadb.api import queries
from balsadb.database import NOTHING
from balsadb.embedded.searches import is_heavy, search_of
from balsadb.errors import InvalidInput


def made(**fields):
    return search_of(queries.QueryRequest(**fields), NOTHING)


def test_defaults():
    query = made(query=[1, 2.5])
    assert query.vector.tolist() == [1.0, 2.5]
    assert (query.limit, query.offset, query.using, query.exact) == (10, 0, "", False)
    assert query.hnsw_ef is None


def test_top_is_limit_but_limit_wins():
    assert made(top=3).limit == 3
    assert made(top=3, limit=4).limit == 4


@pytest.mark.parametrize("value", [7, {"nearest": 7}])
def test_ids(value):
    assert made(query=value).id == 7


def test_nothing_asked():
    query = made()
    assert (query.vector, query.id) == (None, None)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "query"),
        ({"nearest": None}, "query"),
        ({"nearest": [1, "x"]}, "query.nearest[1]"),
        ({"nearest": [1], "mmr": {"diversity": 0.5}}, "query.mmr"),
        ({"formula": {}}, "query.formula"),
        ([[1.0]], "query[0]"),
        (True, "query"),
        (1.5, "query"),
        (b"123", "query"),
    ],
)
def test_not_a_target(value, field):
    with pytest.raises(InvalidInput) as caught:
        made(query=value)
    assert caught.value.field == field


def test_which_searches_run_on_a_thread():
    assert not is_heavy(made(query=[1.0], limit=100))
    assert is_heavy(made(query=[1.0], limit=1000))
    assert is_heavy(made(query=[1.0], offset=1000))
    assert is_heavy(made(query=[1.0], filter={"must": []}))
    assert is_heavy(made(query=[1.0], params=queries.SearchParams(exact=True)))
    assert is_heavy(made(query=[1.0], params=queries.SearchParams(hnsw_ef=4000)))

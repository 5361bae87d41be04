"""Quantisation of a collection and of its vectors: fixed at creation, replicated, made in turns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from balsadb.database import (
    CreateCollection,
    Database,
    Query,
    UpdateCollection,
    UpsertPoints,
    VectorBlock,
    VectorParams,
    limits,
    linking,
)
from balsadb.errors import InvalidInput
from balsadb.index import edit, planner

DIM = 24


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GRAPH_ROWS_MIN", 100)
    monkeypatch.setattr(limits, "CODES_ROWS_MIN", 600)


def values(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


def fill(bench: Any, name: str, count: int, vectors: tuple[str, ...] = ("",)) -> None:
    blocks = {vector: VectorBlock(values(count)) for vector in vectors}
    for result in bench.do(UpsertPoints(name, list(range(count)), blocks)):
        result.unwrap()


def settle(bench: Any, rows: int = 256) -> list[int]:
    """Make all edits; returns their kinds."""
    kinds: list[int] = []
    while (work := bench.database.link_work(idle=True)) is not None:
        data = bench.database.plan(work, rows)
        if data is None:  # a look over the graph that found nothing to do
            continue
        assert bench.propose(data).unwrap() is True
        kinds.append(edit.kind_of(linking.commands.decode(data).edit))
    return kinds


def both(bench: Any) -> None:
    """A collection without codes but for one of its vectors."""
    params = {
        "own": VectorParams(DIM, "Cosine", "int8"),
        "same": VectorParams(DIM, "Cosine"),
    }
    bench.do(CreateCollection("films", params, quantization="none")).pop().unwrap()


def test_a_vectors_own_goes_before_the_collections(
    bench: Any, restart: Callable[[Database], Database]
) -> None:
    both(bench)
    fill(bench, "films", 700, ("own", "same"))
    kinds = settle(bench)
    assert (kinds.count(edit.TRAIN), kinds.count(edit.CODE)) == (1, 1)
    for database in (bench.database, restart(bench.database)):
        info = database.info("films")
        assert info.quantization == "none"
        assert info.status == "green"
        own, same = info.vectors["own"], info.vectors["same"]
        assert (own.quantization, own.own_quantization) == ("int8", True)
        assert (same.quantization, same.own_quantization) == ("none", False)
        assert (own.codes, same.codes) == ((1, 700, 700), (0, 0, 0))
        assert database.codes == (1, 700, 700)


def test_it_is_fixed_at_creation(bench: Any) -> None:
    both(bench)
    for change, field in (
        ({"quantization": "int8"}, "quantization_config"),
        ({"vector_quantization": {"own": "none"}}, "vectors.own.quantization_config"),
        ({"vector_quantization": {"same": "int8"}}, "vectors.same.quantization_config"),
        ({"vector_quantization": {"other": "int8"}}, "vectors.other"),
    ):
        with pytest.raises(InvalidInput) as caught:
            bench.do(UpdateCollection("films", **change))
        assert caught.value.field == field
    said = {"quantization": "none", "vector_quantization": {"own": "int8", "same": "none"}}
    bench.do(UpdateCollection("films", ef_construct=50, **said)).pop().unwrap()
    info = bench.database.info("films")
    assert (info.quantization, info.vectors["own"].quantization) == ("none", "int8")


@pytest.mark.parametrize("known", [{"quantization": "int4"}, {"quantization": ""}])
def test_only_known_ones(bench: Any, known: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="must be int8 or none"):
        bench.do(CreateCollection("films", {"": VectorParams(2, "Dot")}, **known))
    with pytest.raises(InvalidInput, match=r"vectors\.quantization_config"):
        bench.do(CreateCollection("films", {"": VectorParams(2, "Dot", **known)}))


def test_codes_are_made_though_no_tail_waits(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few rows for a graph: the tail is not linkable, and codes are due all the same."""
    monkeypatch.setattr(limits, "GRAPH_ROWS_MIN", 10_000)
    bench.create(**{"": (DIM, "Cosine")})
    fill(bench, "films", 599)
    assert bench.database.link_work(idle=True) is None
    bench.do(UpsertPoints("films", [599], {"": VectorBlock(values(1))}))
    assert bench.database.info("films").status == "yellow"
    assert settle(bench) == [edit.TRAIN, edit.CODE]
    assert bench.database.info("films").status == "green"
    fill(bench, "films", 700)  # the last of the first 600 gets another vector, hence another row
    assert bench.database.codes == (1, 701, 701)


def test_codes_and_long_tails_take_turns(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "CODE_ELEMENTS", 10 * 64)
    monkeypatch.setattr(limits, "LINK_BATCH", 300)
    bench.create(**{"": (DIM, "Cosine")})
    fill(bench, "films", 800)
    kinds = settle(bench, rows=100)
    first = kinds.index(edit.LINK)
    assert kinds[:first] == [edit.TRAIN] + [edit.CODE] * (linking.CODES_RUN - 1)
    assert kinds[first + 1 : first + 1 + linking.CODES_RUN] == [edit.CODE] * linking.CODES_RUN
    # Six edits of a graph bring the tail below the batch; then codes go on alone, then the rest.
    coded = len(kinds) - 1 - kinds[::-1].index(edit.CODE)
    assert kinds[:coded].count(edit.LINK) == 6
    assert kinds.count(edit.CODE) == 80
    assert kinds[coded + 1 :] == [edit.LINK] * 2


def test_searches_may_leave_the_codes_aside(bench: Any) -> None:
    bench.create(**{"": (DIM, "Euclid")})
    fill(bench, "films", 3_000)
    settle(bench, rows=1_024)
    for query in values(20, seed=1):
        exact = bench.database.query("films", Query(vector=query, exact=True))
        scores = {point.id: point.score for point in exact}
        for asked in (
            Query(vector=query),
            Query(vector=query, ignore_codes=True),
            Query(vector=query, oversampling=8.0),
            Query(vector=query, oversampling=1e300),
        ):
            found = bench.database.query("films", asked)
            assert len(found) == 10
            # Scores are exact, however a point was found.
            assert all(scores.get(point.id, point.score) == point.score for point in found)
        assert bench.database.query("films", Query(vector=query, oversampling=400.0)) == exact

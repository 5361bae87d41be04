"""Random histories against the official client's own engine in memory: the same points, payloads,
filters and answers. What is left out is where that engine refuses (unknown ids in a payload
operation) or makes lists of what is none (a path of `[]` through other values)."""

import random
import uuid
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

STEPS = 150
PATHS = ["k", "m", "n", "k.x", "m.y", "k[].x", "n[]", "k[0]", "k.x.y", "m[].x[].y", "k[1].x"]
SCALARS = ["a", "b", "c", 1, 2, 3, 2.5, 3.0, True, False, None, -1]
ANY = [["a", "b"], [1, 2], ["c"], [3]]
SIZES = {"a": 3, "b": 2}


class History:
    """One seed's choices, made on two clients alike."""

    def __init__(self, seed: int, url: str) -> None:
        self.random = random.Random(seed)
        self.clients = QdrantClient(":memory:"), QdrantClient(url=url)
        self.ids: list[Any] = list(range(20))
        self.ids += [str(uuid.UUID(int=self.random.getrandbits(128))) for _ in range(15)]
        config = {
            name: models.VectorParams(size=size, distance=self.pick(list(models.Distance)))
            for name, size in SIZES.items()
        }
        for client in self.clients:
            client.delete_collection("history")
            client.create_collection("history", vectors_config=config)

    def pick(self, choices: Any) -> Any:
        return self.random.choice(choices)

    def some(self, choices: Any, least: int = 0, most: int = 3) -> list[Any]:
        count = min(len(choices), self.random.randint(least, most))
        return self.random.sample(choices, count)

    def value(self, depth: int = 0) -> Any:
        kind = self.random.random()
        if kind < 0.55 or depth > 2:
            return self.pick(SCALARS)
        if kind < 0.75:
            return [self.value(depth + 1) for _ in range(self.random.randint(0, 3))]
        return {key: self.value(depth + 1) for key in self.some("xy", 0, 2)}

    def payload(self) -> dict[str, Any]:
        return {key: self.value() for key in self.some("kmn")}

    def vector(self, size: int) -> list[float]:
        return [self.random.uniform(-3, 3) for _ in range(size)]

    def condition(self, depth: int) -> Any:
        path, operand = self.pick(PATHS), self.pick(ANY)
        makers = [
            lambda: {"key": path, "match": {"value": self.pick(["a", "b", 1, 2, True, False])}},
            lambda: {"key": path, "match": {"any": operand}},
            lambda: {"key": path, "match": {"except": operand}},
            lambda: {
                "key": path,
                "range": {self.pick(["gt", "gte", "lt", "lte"]): self.pick([1, 2.5])},
            },
            lambda: {"is_empty": {"key": path}},
            lambda: {"is_null": {"key": path}},
            lambda: {"key": path, "is_empty": self.pick([True, False])},
            lambda: {"key": path, "is_null": self.pick([True, False])},
            lambda: {"has_id": self.some(self.ids, 1, 6)},
            lambda: {"has_vector": "b"},
        ]
        if depth < 2:
            makers.append(lambda: self.tree(depth + 1))
        return self.pick(makers)()

    def tree(self, depth: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for clause in ("must", "should", "must_not"):
            if self.random.random() < 0.4:
                found[clause] = [self.condition(depth) for _ in range(self.random.randint(1, 3))]
        if self.random.random() < 0.2:
            conditions = [self.condition(depth) for _ in range(3)]
            found["min_should"] = {"conditions": conditions, "min_count": self.random.randint(1, 2)}
        return found

    def filter(self) -> models.Filter:
        return models.Filter(**self.tree())

    def change(self) -> None:
        there = [point.id for point in self.clients[0].scroll("history", limit=100)[0]]
        chosen: Any = self.some(there, 1) if there and self.random.random() < 0.5 else self.filter()
        payload, key, keys = (
            self.payload(),
            self.pick([None, None, "k", "k.x"]),
            self.some(PATHS, 2),
        )
        points = [
            models.PointStruct(
                id=one,
                vector={name: self.vector(SIZES[name]) for name in self.some("ab")},
                payload=self.payload(),
            )
            for one in self.some(self.ids, 1, 4)
        ]
        act = self.pick(
            [
                lambda client: client.upsert("history", points),
                lambda client: client.upsert("history", points),
                lambda client: client.set_payload("history", payload, chosen, key=key),
                lambda client: client.overwrite_payload("history", payload, chosen),
                lambda client: client.delete_payload("history", keys, chosen),
                lambda client: client.clear_payload("history", chosen),
                lambda client: client.delete("history", chosen),
            ]
        )
        for client in self.clients:
            act(client)

    def both(self, ask: Any) -> tuple[Any, Any]:
        return ask(self.clients[0]), ask(self.clients[1])


def shown(points: Any) -> dict[str, Any]:
    return {str(one.id): (one.payload or {}, sorted(one.vector or {})) for one in points}


@pytest.mark.parametrize("seed", [1, 2])
def test_histories_agree(server, seed):
    history = History(seed, server.url)
    for _ in range(STEPS):
        history.change()
        compare(history)


def compare(history):
    chosen = history.filter()
    theirs, ours = history.both(
        lambda client: shown(client.scroll("history", limit=100, with_vectors=True)[0])
    )
    assert ours == theirs
    theirs, ours = history.both(
        lambda client: client.scroll("history", chosen, limit=100, with_payload=False)[0]
    )
    assert shown(ours) == shown(theirs), chosen
    name = history.pick("ab")
    query = history.vector(SIZES[name])
    options = {
        "limit": history.random.randint(1, 8),
        "offset": history.random.randint(0, 2),
        "score_threshold": history.pick([None, 0.3, 2.0]),
        "query_filter": history.pick([None, chosen]),
        "with_payload": history.pick([True, False, ["k"]]),
    }
    theirs, ours = history.both(
        lambda client: client.query_points("history", query, using=name, **options).points
    )
    assert [one.id for one in ours] == [one.id for one in theirs], options
    assert shown(ours) == shown(theirs)
    scores = [one.score for one in theirs]
    assert [one.score for one in ours] == pytest.approx(scores, abs=1e-3)

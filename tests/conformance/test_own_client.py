"""Our client, blocking and asynchronous, over HTTP to real processes and over the engine in this
process: the same story must come out everywhere."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import balsadb
from balsadb import AsyncClient, Client, errors
from balsadb.cli.local_cluster import ClusterPlan, LocalCluster
from balsadb.client import Options

SIZE = 8
UUID = str(uuid.UUID(int=5))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three node processes."""
    folder = tmp_path_factory.mktemp("cluster")
    made = LocalCluster.create_or_open(folder, ClusterPlan.on_free_ports(3))
    try:
        made.start()
        made.wait_ready()
        yield made
    finally:
        made.stop()


def follower(cluster: LocalCluster) -> str:
    """The address of a node that does not lead."""
    for node in cluster.nodes:
        with Client(node.url) as client:
            if client.cluster()["balsadb"]["role"] == "follower":
                return node.url
    raise AssertionError("no follower")


@contextmanager
def opened(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    """A client of each kind."""
    if where == "folder":
        with balsadb.open(str(tmp_path / "db")) as client:
            yield client
    else:
        cluster: LocalCluster = request.getfixturevalue("cluster")
        urls = [follower(cluster)] if where == "follower" else [n.url for n in cluster.nodes]
        with Client(urls) as client:
            yield client


def vectors(count: int) -> Any:
    return np.random.default_rng(3).standard_normal((count, SIZE), dtype=np.float32)


def test_a_payload_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    """NaN must not turn into null on its way, whichever call carries it."""
    with balsadb.open(tmp_path / "data") as client:
        client.create_collection("c", {"size": 2, "distance": "Dot"})
        client.upsert("c", [{"id": 1, "vector": [1.0, 2.0], "payload": {"x": 1}}])
        for write in (client.set_payload, client.overwrite_payload):
            with pytest.raises(errors.InvalidInput, match=r"payload\.y"):
                write("c", {"y": float("nan")}, [1])
        with pytest.raises(errors.InvalidInput, match=r"points\[0\]\.payload\.y"):
            client.upsert("c", [{"id": 1, "vector": [1.0, 2.0], "payload": {"y": float("inf")}}])
        assert client.get("c", 1).payload == {"x": 1}


@pytest.mark.parametrize("where", ["cluster", "follower", "folder"])
def test_a_life(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    name = f"life of {where}, größer 100%25"
    with opened(where, request, tmp_path) as client:
        assert client.create_collection(name, {"size": SIZE, "distance": "Euclid"})
        with pytest.raises(errors.AlreadyExists, match="already exists"):
            client.create_collection(name, {"size": SIZE, "distance": "Euclid"})
        assert client.collection_exists(name)
        assert name in client.collections()
        client.create_payload_index(name, "number", "integer")
        writing(client, name)
        changing(client, name)
        assert client.get_collection(name).points_count == 301
        assert client.delete_collection(name)
        assert not client.collection_exists(name)
        with pytest.raises(errors.NotFound) as caught:
            client.count(name)
        assert (caught.value.status_code, caught.value.code) == (404, "not_found")
        assert client.verify()["equal"]


def writing(client: Client, name: str) -> None:
    data = vectors(300)
    payloads = [{"number": number, "even": number % 2 == 0} for number in range(300)]
    seen: list[int] = []
    done = client.upload(name, data, payloads=payloads, batch_size=128, on_progress=seen.append)
    assert done.points == 300
    assert seen == [128, 256, 300]
    client.upsert(name, [{"id": UUID, "vector": data[0].tolist(), "payload": {"number": -1}}])
    assert client.count(name) == 301
    found = client.query(name, data[7], limit=3, with_vector=True)
    assert found[0].id == 7
    assert found[0].score == 0
    assert found[0].payload == {"number": 7, "even": False}
    assert found[0].vector == data[7].tolist()
    by_id = client.query(name, 7, limit=2)
    assert [point.id for point in by_id] == [point.id for point in found[1:]]
    distances = np.linalg.norm(data.astype(np.float64) - data[7], axis=1)
    assert [point.id for point in found] == np.argsort(distances)[:3].tolist()
    late = {"must": [{"key": "number", "range": {"gte": 290}}]}
    some = client.query(name, data[7], filter=late, limit=20, exact=True, with_payload=False)
    assert sorted(point.id for point in some) == list(range(290, 300))
    assert some[0].payload is None
    two = client.query_batch(name, [{"query": data[1]}, {"query": data[2], "limit": 1}])
    assert [len(answer) for answer in two] == [10, 1]
    assert two[1][0].id == 2


def changing(client: Client, name: str) -> None:
    assert client.get(name, UUID).payload == {"number": -1}
    client.set_payload(name, {"new": 1}, [3])
    client.overwrite_payload(name, {"only": True}, filter={"must": [{"has_id": [4]}]})
    client.delete_payload(name, ["even"], [3])
    client.clear_payload(name, [5])
    after = {point.id: point.payload for point in client.retrieve(name, [3, 4, 5, 10**9])}
    assert after == {3: {"number": 3, "new": 1}, 4: {"only": True}, 5: {}}
    with pytest.raises(errors.PointNotFound):
        client.get(name, 10**9)
    even = {"must": [{"key": "even", "match": {"value": True}}]}
    client.delete(name, filter=even)
    client.delete(name, [1, 10**9])
    left = [point.id for point in client.scroll_all(name, page=50)]
    assert len(left) == len(set(left)) == client.count(name)
    assert 1 not in left
    assert 6 not in left
    client.upsert_batch(name, list(range(300)), vectors(300))
    assert client.count(name) == 301
    page = client.scroll(name, limit=2, offset=10, with_payload=False)
    assert ([point.id for point in page.points], page.next_page_offset) == ([10, 11], 12)


def test_a_refusal_says_what_and_changes_nothing(cluster: LocalCluster) -> None:
    with Client(cluster.nodes[0].url) as client:
        client.create_collection("strict", {"size": SIZE, "distance": "Cosine"})
        with pytest.raises(errors.InvalidInput) as caught:
            client.upsert("strict", [{"id": 1, "vector": [1.0] * (SIZE - 1)}])
        assert "vector" in caught.value.field
        assert caught.value.rule
        assert caught.value.request_id
        assert caught.value.outcome == "failed"
        with pytest.raises(ValueError, match="vector"):
            client.upsert("strict", [{"id": 1, "vector": [float("nan")] * SIZE}])
        assert client.count("strict") == 0
        client.delete_collection("strict")


@pytest.mark.parametrize("where", ["cluster", "folder"])
def test_the_asynchronous_client(
    where: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place: dict[str, Any] = {"path": str(tmp_path / "db")}
    if where == "cluster":
        place = {"url": request.getfixturevalue("cluster").nodes[1].url}

    async def run() -> None:
        data = vectors(200)
        async with AsyncClient(**place) as client:
            await client.create_collection("async", {"size": SIZE, "distance": "Dot"})
            done = await client.upload("async", data, batch_size=64)
            assert done.points == 200
            writes = [client.set_payload("async", {"n": n}, [n]) for n in range(40)]
            await asyncio.gather(*writes)
            answers = await asyncio.gather(*(client.query("async", row, limit=1) for row in data))
            best = (data @ data.T).argmax(axis=1)
            assert [answer[0].id for answer in answers] == best.tolist()
            points = [point async for point in client.scroll_all("async", page=64)]
            assert [(point.payload or {}).get("n") for point in points[:41]] == [*range(40), None]
            assert await client.delete_collection("async")

    asyncio.run(run())


def test_what_is_written_in_a_folder_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    data = vectors(50)
    with balsadb.open(path) as client:
        client.create_collection("kept", {"size": SIZE, "distance": "Cosine"})
        client.upload("kept", data)
        with pytest.raises(errors.DataDirInUse):
            balsadb.open(path)
        before = client.query("kept", data[3], limit=5)
    with balsadb.open(path) as client:
        assert client.count("kept") == 50
        assert client.query("kept", data[3], limit=5) == before


def test_a_dead_address_is_passed_over(cluster: LocalCluster) -> None:
    urls = ["http://127.0.0.1:9", cluster.nodes[0].url]
    with Client(urls, options=Options(pause_max_s=0.01)) as client:
        assert isinstance(client.collections(), list)


def test_every_node_gives_the_same_answer(cluster: LocalCluster) -> None:
    data = vectors(400)
    clients = [Client(node.url) for node in cluster.nodes]
    try:
        clients[0].create_collection("same", {"size": SIZE, "distance": "Cosine"})
        clients[1].upload("same", data)
        for row in range(0, 400, 40):
            answers = [client.query("same", data[row], limit=20) for client in clients]
            assert answers[0] == answers[1] == answers[2]
        clients[2].delete_collection("same")
    finally:
        for client in clients:
            client.close()

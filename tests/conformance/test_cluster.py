"""Three node processes and the dialect's official client, unmodified: every promise of a cluster
that nothing happens to, on the leader and on the followers."""

import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from balsadb.cli import films as film_data
from balsadb.cli.local_cluster import LocalCluster, NodeProcess
from balsadb.client import Client, Options
from balsadb.database.limits import GRAPH_ROWS_MIN
from tests.chaos.clusters import figures, leader_of, running, vectors, wait_for
from tests.conformance.live_nodes import (
    at_one_index,
    by_role,
    during_one_term,
    metric,
    metrics,
    statuses,
    wait_linked,
)

FILMS = 3000
SIZE = 128
COMPILATIONS = "balsadb_kernel_compilations_total"
DISTANCES = "balsadb_distances_total"
LINKED = "linked"
SEARCHES: list[dict[str, Any]] = [
    {"filter": chosen, **how}
    for chosen in (
        {"must": [{"key": "even", "match": {"value": True}}]},
        {"must": [{"key": "n", "range": {"lt": 5}}]},
        {"should": [{"key": "word", "match": {"any": ["w1", "w2"]}}, {"has_id": [3]}]},
        {"must_not": [{"key": "x", "range": {"gte": 100.5}}, {"is_empty": {"key": "n"}}]},
        None,
    )
    for how in ({}, {"exact": True}, {"ef": 300, "limit": 200}, {"score_threshold": 0.1})
]
"""Each way through the index that a search can take."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Ready, and empty. Whatever the tests do after that, no node may compile anything."""
    with running(tmp_path_factory.mktemp("cluster"), 3) as made:
        ready = metrics(made, COMPILATIONS)
        yield made
        # Not more: a node that a test restarted counts anew, from what it compiled: nothing.
        pairs = zip(metrics(made, COMPILATIONS), ready, strict=True)
        assert all(now <= then for now, then in pairs)


@pytest.fixture(scope="module")
def films() -> film_data.Films:
    """Some of each year: the file is in the order of the years."""
    found = film_data.load()
    rows = np.linspace(0, len(found.payloads) - 1, FILMS).astype(int)
    return film_data.Films(found.vectors[rows], [found.payloads[row] for row in rows])


@pytest.fixture(scope="module")
def linked(cluster: LocalCluster, films: film_data.Films) -> str:
    """A collection of the films, all in the graph."""
    with Client(cluster.nodes[0].url) as client:
        client.create_collection(LINKED, {"size": SIZE, "distance": "Cosine"})
        client.upload(LINKED, films.vectors, payloads=films.payloads)
    wait_linked(cluster)
    return LINKED


# ------------------------------------------------------------------------- no search came before


def test_followers_compute_no_distance_when_vectors_are_linked(cluster: LocalCluster) -> None:
    data = vectors(GRAPH_ROWS_MIN + 400)

    def link(leader: NodeProcess) -> tuple[int, list[float]]:
        name = uuid.uuid4().hex
        before = metrics(cluster, DISTANCES)
        with Client(cluster.nodes[2].url) as client:
            client.create_collection(name, {"size": data.shape[1], "distance": "Euclid"})
            client.upload(name, data)
            wait_linked(cluster)
            after = metrics(cluster, DISTANCES)
            client.delete_collection(name)
        return leader.number, [b - a for a, b in zip(before, after, strict=True)]

    leader, computed = during_one_term(cluster, link)
    assert computed.pop(leader - 1) > len(data)
    assert computed == [0.0, 0.0]


# ------------------------------------------------------------------------- figures


def test_live_statistics(cluster: LocalCluster, linked: str) -> None:
    leader, followers = by_role(cluster)
    with Client(leader.url) as client:
        before = figures(leader)
        client.set_payload(linked, {"mark": 1}, [1])
    wait_linked(cluster)
    found = {one["node"]: one for one in statuses(cluster)}
    for node, one in found.items():
        assert one["role"] == ("leader" if node == leader.number else "follower")
        assert one["leader"] == leader.number
        assert one["term"] == before["term"] >= 1
        assert one["commit"] == one["applied"] > before["commit"]
        assert one["points"] == one["linked"] == FILMS
        assert one["tail"] == 0
        assert one["log_bytes"] > 0
        assert one["longest_lock_hold"]["longest_ms"] >= 0
        depths = {"proposals", "reads", "apply_entries", "apply_bytes", "wal_bytes"}
        assert depths | {"wal", "apply", "job_plan"} <= set(one["queues"])
        assert all(depth >= 0 for depth in one["queues"].values())
    peers = found[leader.number]["peers"]
    assert {int(node) for node in peers} == {node.number for node in followers}
    wait_for(lambda: all(peer["lag"] == 0 for peer in figures(leader)["peers"].values()), 10)
    assert all(peer["active"] for peer in peers.values())
    assert all(found[node.number]["peers"] == {} for node in followers)


def test_a_lagging_peer_shows(cluster: LocalCluster, linked: str) -> None:
    leader, (asleep, _) = by_role(cluster)
    with Client(leader.url) as client:
        asleep.send(signal.SIGSTOP)
        try:
            for turn in range(5):
                client.set_payload(linked, {"turn": turn}, [1])
            lag = figures(leader)["peers"][str(asleep.number)]["lag"]
        finally:
            asleep.send(signal.SIGCONT)
        assert lag >= 5
        wait_for(lambda: figures(leader)["peers"][str(asleep.number)]["lag"] == 0, 20)


# ------------------------------------------------------------------------- the official client


@pytest.fixture(scope="module", params=["leader", "follower"])
def official(
    cluster: LocalCluster, films: film_data.Films, request: pytest.FixtureRequest
) -> Iterator[tuple[QdrantClient, str]]:
    """The official client of a node in that role, and a collection that it filled."""
    leader, followers = by_role(cluster)
    node = leader if request.param == "leader" else followers[0]
    client = QdrantClient(url=node.url, timeout=30)
    name = f"films of the {request.param}"
    assert client.create_collection(
        name, models.VectorParams(size=SIZE, distance=models.Distance.COSINE)
    )
    for first in range(0, FILMS, 500):
        done = client.upsert(
            name,
            models.Batch(
                ids=list(range(first, first + 500)),
                vectors=films.vectors[first : first + 500].tolist(),
                payloads=films.payloads[first : first + 500],
            ),
            wait=True,
        )
        assert done.status == models.UpdateStatus.COMPLETED
    yield client, name
    assert client.delete_collection(name)
    client.close()


def is_drama_since(payload: dict[str, Any], year: int) -> bool:
    return "Drama" in payload["genres"] and payload["year"] >= year


def drama_since(year: int) -> models.Filter:
    return models.Filter(
        must=[
            models.FieldCondition(key="genres", match=models.MatchValue(value="Drama")),
            models.FieldCondition(key="year", range=models.Range(gte=year)),
        ]
    )


def test_official_query_with_a_filter(
    official: tuple[QdrantClient, str], films: film_data.Films
) -> None:
    client, name = official
    rows = [row for row in range(FILMS) if is_drama_since(films.payloads[row], 1990)]
    assert 50 < len(rows) < FILMS / 2
    units = films.vectors / np.linalg.norm(films.vectors, axis=1, keepdims=True)
    for asked in (0, 17, 2345):
        scores = units[rows] @ units[asked]
        best = [rows[at] for at in np.argsort(-scores, kind="stable")[:10]]
        found = client.query_points(
            name, films.vectors[asked].tolist(), query_filter=drama_since(1990), limit=10
        ).points
        assert [point.id for point in found] == best
        assert np.allclose([point.score for point in found], np.sort(scores)[::-1][:10], atol=1e-5)
        assert found[0].payload == films.payloads[best[0]]


def test_official_batch_query(official: tuple[QdrantClient, str], films: film_data.Films) -> None:
    client, name = official
    requests = [
        models.QueryRequest(query=5, limit=3),
        models.QueryRequest(query=films.vectors[5].tolist(), limit=4),
        models.QueryRequest(
            query=films.vectors[9].tolist(),
            limit=2,
            filter=drama_since(2000),
            params=models.SearchParams(exact=True),
            with_payload=["year"],
        ),
    ]
    by_id, by_vector, filtered = client.query_batch_points(name, requests)
    assert by_vector.points[0].id == 5
    assert [point.id for point in by_vector.points[1:]] == [point.id for point in by_id.points]
    assert all(set(point.payload or {}) == {"year"} for point in filtered.points)
    assert all(point.payload["year"] >= 2000 for point in filtered.points)


def test_official_scroll_and_count(
    official: tuple[QdrantClient, str], films: film_data.Films
) -> None:
    client, name = official
    seen: list[Any] = []
    offset: Any = None
    while True:
        page, offset = client.scroll(name, limit=700, offset=offset)
        seen += [record.id for record in page]
        if offset is None:
            break
    assert seen == list(range(FILMS))
    assert client.count(name).count == FILMS
    rows = [row for row in range(FILMS) if is_drama_since(films.payloads[row], 1970)]
    assert client.count(name, count_filter=drama_since(1970)).count == len(rows)
    page, _ = client.scroll(name, scroll_filter=drama_since(1970), limit=FILMS)
    assert [record.id for record in page] == rows


def test_official_payload_index_and_payload(
    official: tuple[QdrantClient, str], films: film_data.Films
) -> None:
    client, name = official
    client.create_payload_index(name, "year", models.PayloadSchemaType.INTEGER, wait=True)
    assert client.get_collection(name).payload_schema["year"].points == FILMS
    rows = [row for row in range(FILMS) if is_drama_since(films.payloads[row], 1980)]
    assert client.count(name, count_filter=drama_since(1980)).count == len(rows)
    client.set_payload(name, {"seen": True}, points=drama_since(1980), wait=True)
    seen = models.Filter(
        must=[models.FieldCondition(key="seen", match=models.MatchValue(value=True))]
    )
    page, _ = client.scroll(name, scroll_filter=seen, limit=FILMS)
    assert [record.id for record in page] == rows
    assert page[0].payload == {**films.payloads[rows[0]], "seen": True}
    client.overwrite_payload(name, {"only": 1}, points=[rows[0]], wait=True)
    client.delete_payload(name, ["seen"], points=rows[1:3], wait=True)
    client.clear_payload(name, points_selector=[rows[3]], wait=True)
    first = client.retrieve(name, rows[:4])
    assert [record.payload for record in first] == [
        {"only": 1},
        films.payloads[rows[1]],
        films.payloads[rows[2]],
        {},
    ]
    assert client.count(name, count_filter=seen).count == len(rows) - 4
    client.delete_payload_index(name, "year", wait=True)
    assert client.get_collection(name).payload_schema == {}


def test_official_delete(official: tuple[QdrantClient, str], films: film_data.Films) -> None:
    client, name = official
    before = client.count(name).count
    vector = films.vectors[7].tolist()
    assert client.query_points(name, vector, limit=1).points[0].id == 7
    client.delete(name, points_selector=[7, 8, 10**9], wait=True)
    assert client.count(name).count == before - 2
    assert client.query_points(name, vector, limit=1).points[0].id != 7
    assert client.retrieve(name, [7, 8, 9])[0].id == 9
    old = models.Filter(must=[models.FieldCondition(key="year", range=models.Range(lt=1960))])
    gone = client.count(name, count_filter=old).count
    assert gone > 0
    client.delete(name, points_selector=old, wait=True)
    assert client.count(name).count == before - 2 - gone


# ------------------------------------------------------------------------- one state everywhere


class Rounds:
    """One worker: writes through one node, then reads through the two others at once."""

    COUNT = 120

    def __init__(self, cluster: LocalCluster, collection: str, first_id: int) -> None:
        self.clients = [Client(node.url) for node in cluster.nodes]
        self.collection = collection
        self.first_id = first_id
        self.data = vectors(self.COUNT, seed=first_id + 1)

    def run(self) -> int:
        """Play all rounds; how many reads were checked."""
        checked = 0
        for turn in range(self.COUNT):
            at = turn % 3
            writer = self.clients[at]
            for reader in (self.clients[(at + 1) % 3], self.clients[(at + 2) % 3]):
                self.play(turn, writer, reader)
                checked += 1
        for client in self.clients:
            client.close()
        return checked

    def play(self, turn: int, writer: Client, reader: Client) -> None:
        """One write of each kind in turn, and a read that must see it."""
        name, point, vector = self.collection, self.first_id + turn, self.data[turn]
        kind = turn % 4
        if kind == 0:
            stamp = uuid.uuid4().hex
            writer.upsert(name, [{"id": point, "vector": vector, "payload": {"stamp": stamp}}])
            (found,) = reader.query(name, vector, limit=1)
            assert (found.id, found.payload) == (point, {"stamp": stamp})
            assert reader.get(name, point).payload == {"stamp": stamp}
        elif kind == 1:
            stamp = uuid.uuid4().hex
            writer.set_payload(name, {"stamp": stamp}, [point - 1])
            by_stamp = {"must": [{"key": "stamp", "match": {"value": stamp}}]}
            page = reader.scroll(name, filter=by_stamp).points
            assert [record.id for record in page] == [point - 1]
        elif kind == 2:
            mine = {"must": [{"has_id": list(range(self.first_id, self.first_id + self.COUNT))}]}
            writer.upsert_batch(name, [point], vector[None])
            before = reader.count(name, filter=mine)
            writer.delete(name, [point])
            assert reader.count(name, filter=mine) == before - 1
        else:
            writer.upsert_batch(name, [point], vector[None])
            assert reader.query(name, vector, limit=1)[0].id == point
            writer.delete(name, [point])
            assert reader.query(name, vector, limit=1)[0].id != point


def test_a_write_is_seen_at_once_by_every_other_node(cluster: LocalCluster) -> None:
    with Client(cluster.nodes[0].url) as client:
        client.create_collection("rounds", {"size": 32, "distance": "Cosine"})
        workers = [Rounds(cluster, "rounds", first) for first in (0, 10_000)]
        with ThreadPoolExecutor(len(workers)) as pool:
            checked = sum(pool.map(Rounds.run, workers))
        assert checked == 2 * 2 * Rounds.COUNT
        client.delete_collection("rounds")


def test_all_nodes_answer_1000_queries_alike(
    cluster: LocalCluster, linked: str, films: film_data.Films
) -> None:
    asked = np.random.default_rng(11).standard_normal((1000, SIZE), dtype=np.float32)
    asked[::2] += 12 * films.vectors[:500]
    year = {"must": [{"key": "year", "range": {"gte": 1985}}]}

    def searches(first: int) -> list[Any]:
        options: list[dict[str, Any]] = [
            {"limit": 10},
            {"limit": 20, "ef": 100},
            {"limit": 10, "filter": year},
            {"limit": 5, "exact": True},
        ]
        return [
            {**options[row % 4], "query": asked[row], "with_payload": False}
            for row in range(first, first + 100)
        ]

    def ask(client: Client) -> list[Any]:
        found: list[Any] = []
        for first in range(0, 1000, 100):
            found += client.query_batch(linked, searches(first))
        return found

    _, (first, second, third) = at_one_index(cluster, ask)
    assert first == second
    assert first == third
    assert [len(answer) for answer in first] == [10, 20, 10, 5] * 250
    # They are not only alike: what was asked near a film finds it.
    assert np.mean([first[row][0].id == row // 2 for row in range(0, 1000, 4)]) > 0.95


def test_verify_is_equal_through_any_node(cluster: LocalCluster, linked: str) -> None:
    for node in cluster.nodes:
        with Client(node.url) as client:
            found = client.verify()
        assert found["equal"] is True
        assert found["differing"] == []
        digests = [found["nodes"][str(number)]["digests"] for number in (1, 2, 3)]
        assert digests[0] == digests[1] == digests[2]
        assert len(digests[0]) == found["columns"] > 10


# ------------------------------------------------------------------------- reads without the quorum


def test_local_reads_need_nobody_else(
    cluster: LocalCluster, linked: str, films: film_data.Films
) -> None:
    leader, (alive, other) = by_role(cluster)
    with Client(alive.url, options=Options(local=True)) as client:
        body = {"query": films.vectors[3].tolist(), "limit": 5}
        url = f"{alive.url}/collections/{linked}/points/query"
        before = client.query(linked, films.vectors[3], limit=5)
        try:
            for node in (leader, other):
                node.send(signal.SIGSTOP)
            assert client.query(linked, films.vectors[3], limit=5) == before
            assert client.count(linked) == FILMS
            assert client.scroll(linked, limit=3).points[0].id == 0
            refused = httpx2.post(url, params={"timeout": 1}, json=body, timeout=10)
            assert refused.status_code == 503
            assert refused.json()["status"]["code"] == "quorum_lost"
            stale = {"timeout": 1, "consistency": "local"}
            assert httpx2.post(url, params=stale, json=body, timeout=10).status_code == 200
        finally:
            for node in (leader, other):
                node.send(signal.SIGCONT)
        wait_for(lambda: linearizable(alive, linked), 30)
    leader_of(cluster)
    wait_for(lambda: all(node.is_ready() for node in cluster.nodes), 30)


def linearizable(node: NodeProcess, collection: str) -> bool:
    """Whether the node reads with the promise again."""
    url = f"{node.url}/collections/{collection}/points/count"
    return httpx2.post(url, params={"timeout": 1}, json={}, timeout=10).status_code == 200


# ------------------------------------------------------------------------- kernels


@pytest.mark.parametrize("distance", ["Cosine", "Euclid", "Dot", "Manhattan"])
def test_no_compilation_after_ready(cluster: LocalCluster, distance: str) -> None:
    before = metrics(cluster, COMPILATIONS)
    graph, tail = GRAPH_ROWS_MIN + 100, 100
    count = graph + tail
    data = vectors(count, size=33)
    name = f"all of {distance}"
    payloads = [{"n": n, "even": n % 2 == 0, "word": f"w{n % 7}", "x": n / 2} for n in range(count)]
    with Client(cluster.nodes[1].url) as client:
        client.create_collection(name, {"size": 33, "distance": distance})
        client.upload(name, data[:graph], payloads=payloads[:graph])
        client.create_payload_index(name, "word", "keyword")
        wait_linked(cluster)
        client.upsert_batch(name, list(range(graph, count)), data[graph:], payloads[graph:])
        client.delete(name, [1, 2, 3, graph + 50])
        client.delete(name, filter={"must": [{"key": "n", "range": {"gt": count - 10}}]})
        for node in cluster.nodes:
            with Client(node.url) as reader:
                batch = [{**search, "query": row} for search in SEARCHES for row in (data[0], 44)]
                found = reader.query_batch(name, batch)
                assert all(found[:6])
        wait_linked(cluster)
        client.delete_collection(name)
    assert metrics(cluster, COMPILATIONS) == before


def test_kernels_are_loaded_when_a_node_comes_back(cluster: LocalCluster, linked: str) -> None:
    _, (node, _) = by_role(cluster)
    node.send(signal.SIGTERM)
    assert node.wait_gone(10)
    node.start()
    cluster.wait_ready(60)
    with Client(node.url) as client:
        assert metric(node, COMPILATIONS) == 0
        assert client.count(linked) == FILMS
        assert client.query(linked, 5, limit=3)
        assert metric(node, COMPILATIONS) == 0

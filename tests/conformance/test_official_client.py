"""The dialect's official Python client, unmodified, from its package index."""

import asyncio
import threading
import uuid
from importlib.metadata import version

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.common.version_check import is_compatible
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from balsadb.errors import Overloaded

SIZE = 16
COUNT = 500
GENRES = ["drama", "comedy", "horror"]


@pytest.fixture(scope="module")
def client(every_server):
    client = QdrantClient(url=every_server.url)
    for thread in threading.enumerate():
        if "check_compatibility" in thread.name:  # asks in the background; may outlive the server
            thread.join()
    yield client
    client.close()


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(7).normal(size=(COUNT, SIZE)).astype(np.float32)


@pytest.fixture
def films(client, vectors):
    client.delete_collection("films")
    assert client.create_collection(
        "films", vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.COSINE)
    )
    client.upsert(
        "films",
        points=[
            models.PointStruct(
                id=number,
                vector=vector.tolist(),
                payload={"genre": GENRES[number % 3], "year": 1950 + number % 70},
            )
            for number, vector in enumerate(vectors)
        ],
        wait=True,
    )
    return "films"


def drama(year):
    return models.Filter(
        must=[
            models.FieldCondition(key="genre", match=models.MatchValue(value="drama")),
            models.FieldCondition(key="year", range=models.Range(gte=year)),
        ]
    )


def cosine(vectors, query, chosen):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ (query / np.linalg.norm(query))
    order = sorted(chosen, key=lambda number: -scores[number])
    return order, scores


def test_the_version_is_compatible_with_the_client(client):
    assert is_compatible(version("qdrant-client"), client.info().version)


def test_collection_life(client):
    client.delete_collection("life")
    assert not client.collection_exists("life")
    assert client.create_collection("life", models.VectorParams(size=4, distance="Dot"))
    assert client.collection_exists("life")
    assert "life" in [found.name for found in client.get_collections().collections]
    with pytest.raises(UnexpectedResponse, match="already exists") as caught:
        client.create_collection("life", models.VectorParams(size=4, distance="Dot"))
    assert caught.value.status_code == 409
    info = client.get_collection("life")
    assert info.config.params.vectors == models.VectorParams(size=4, distance="Dot")
    assert info.status == models.CollectionStatus.GREEN
    assert client.update_collection("life", hnsw_config=models.HnswConfigDiff(ef_construct=99))
    assert client.get_collection("life").config.hnsw_config.ef_construct == 99
    assert client.delete_collection("life")


INT8 = models.ScalarQuantization(
    scalar=models.ScalarQuantizationConfig(
        type=models.ScalarType.INT8, quantile=0.99, always_ram=True
    )
)
SHOWN = models.ScalarQuantization(
    scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
)


def test_quantisation_is_said_and_shown(client):
    text = models.VectorParams(size=4, distance=models.Distance.DOT)
    image = models.VectorParams(size=2, distance=models.Distance.EUCLID, quantization_config=INT8)
    client.delete_collection("codes")
    assert client.create_collection(
        "codes", {"text": text, "image": image}, quantization_config=INT8
    )
    config = client.get_collection("codes").config
    assert config.quantization_config == SHOWN
    assert config.params.vectors["text"] == text
    assert config.params.vectors["image"].quantization_config == SHOWN
    # What is so may be said again; what is not cannot be brought about.
    assert client.update_collection("codes", quantization_config=INT8)
    named = {"text": models.VectorParamsDiff(quantization_config=INT8)}
    assert client.update_collection("codes", vectors_config=named)
    with pytest.raises(UnexpectedResponse, match="cannot be changed after creation") as caught:
        client.update_collection("codes", quantization_config=models.Disabled.DISABLED)
    assert caught.value.status_code == 400
    product = models.ProductQuantization(
        product=models.ProductQuantizationConfig(compression=models.CompressionRatio.X16)
    )
    with pytest.raises(UnexpectedResponse, match="not supported") as caught:
        client.create_collection("more", text, quantization_config=product)
    assert caught.value.status_code == 400
    assert client.delete_collection("codes")


def test_searches_with_codes(client, films, vectors):
    query = vectors[1] + 0.1
    order, scores = cosine(vectors, query, range(COUNT))
    for params in (
        models.QuantizationSearchParams(ignore=True),
        models.QuantizationSearchParams(rescore=False),
        models.QuantizationSearchParams(rescore=True, oversampling=2.4),
    ):
        found = client.query_points(
            films, query, limit=10, search_params=models.SearchParams(quantization=params)
        ).points
        assert [point.id for point in found] == order[:10]
        assert np.allclose([point.score for point in found], scores[order[:10]], atol=1e-5)


def test_named_vectors(client):
    client.delete_collection("named")
    client.create_collection(
        "named",
        vectors_config={
            "text": models.VectorParams(size=2, distance=models.Distance.EUCLID),
            "image": models.VectorParams(size=3, distance=models.Distance.MANHATTAN),
        },
    )
    points = [
        models.PointStruct(id=1, vector={"text": [0, 0], "image": [1, 1, 1]}),
        models.PointStruct(id=2, vector={"text": [3, 4]}),
    ]
    client.upsert("named", points)
    found = client.query_points("named", query=[0.0, 0.0], using="text").points
    assert [(point.id, point.score) for point in found] == [(1, 0.0), (2, 5.0)]
    found = client.query_points("named", query=[0.0, 0.0, 0.0], using="image").points
    assert [(point.id, point.score) for point in found] == [(1, 3.0)]
    assert set(client.get_collection("named").config.params.vectors) == {"text", "image"}


def test_query_with_a_filter(client, films, vectors):
    query = vectors[3] + 0.1
    found = client.query_points(
        films, query=query.tolist(), query_filter=drama(1980), limit=10, with_payload=True
    ).points
    chosen = [at for at in range(COUNT) if at % 3 == 0 and 1950 + at % 70 >= 1980]
    order, scores = cosine(vectors, query, chosen)
    assert [point.id for point in found] == order[:10]
    assert np.allclose([point.score for point in found], scores[order[:10]], atol=1e-5)
    assert all(point.payload["genre"] == "drama" for point in found)


def test_query_exact_threshold_offset_and_numpy(client, films, vectors):
    query = vectors[0]
    order, scores = cosine(vectors, query, range(COUNT))
    found = client.query_points(
        films, query=query, limit=5, offset=2, search_params=models.SearchParams(exact=True)
    ).points
    assert [point.id for point in found] == order[2:7]
    above = client.query_points(
        films, query=query, limit=100, score_threshold=float(scores[order[4]]) - 1e-6
    ).points
    assert [point.id for point in above] == order[:5]


def test_query_by_id_and_batch(client, films):
    alone = client.query_points(films, query=5, limit=3, with_payload=False).points
    assert 5 not in [point.id for point in alone]
    both = client.query_batch_points(
        films,
        requests=[models.QueryRequest(query=5, limit=3), models.QueryRequest(query=6, limit=1)],
    )
    assert both[0].points == alone
    assert len(both[1].points) == 1


def test_scroll_and_count(client, films):
    seen, offset = [], None
    while True:
        page, offset = client.scroll(films, limit=120, offset=offset, with_vectors=True)
        seen += [record.id for record in page]
        assert all(len(record.vector) == SIZE for record in page)
        if offset is None:
            break
    assert seen == list(range(COUNT))
    assert client.count(films).count == COUNT
    assert client.count(films, count_filter=drama(2010)).count > 0


def test_payload_operations(client, films):
    client.set_payload(films, payload={"seen": True}, points=[1, 2], wait=True)
    assert client.retrieve(films, [1])[0].payload["seen"] is True
    client.set_payload(films, payload={"seen": False}, points=drama(2015), wait=True)
    client.overwrite_payload(films, payload={"only": 1}, points=[2], wait=True)
    assert client.retrieve(films, [2])[0].payload == {"only": 1}
    client.delete_payload(films, keys=["seen"], points=[1], wait=True)
    assert "seen" not in client.retrieve(films, [1])[0].payload
    client.clear_payload(films, points_selector=[1], wait=True)
    assert client.retrieve(films, [1])[0].payload == {}


def test_payload_index(client, films):
    done = client.create_payload_index(films, "genre", models.PayloadSchemaType.KEYWORD, wait=True)
    assert done.status == models.UpdateStatus.COMPLETED
    client.create_payload_index(
        films, "year", models.IntegerIndexParams(type="integer", lookup=True, range=True)
    )
    schema = client.get_collection(films).payload_schema
    assert schema["genre"].data_type == models.PayloadSchemaType.KEYWORD
    assert schema["genre"].points == COUNT
    client.delete_payload_index(films, "genre")
    assert set(client.get_collection(films).payload_schema) == {"year"}


def test_delete(client, films):
    client.delete(films, points_selector=[0, 1], wait=True)
    assert client.count(films).count == COUNT - 2
    done = client.delete(films, points_selector=drama(1950), wait=True)
    assert done.status == models.UpdateStatus.COMPLETED
    assert client.count(films, count_filter=drama(1950)).count == 0


def test_bulk_upload_with_uuids(client):
    client.delete_collection("bulk")
    client.create_collection("bulk", models.VectorParams(size=4, distance="Dot"))
    keys = [uuid.UUID(int=number + 1) for number in range(300)]
    client.upload_points(
        "bulk",
        points=[
            models.PointStruct(id=key.hex, vector=[float(at), 0, 0, 0], payload={"at": at})
            for at, key in enumerate(keys)
        ],
        batch_size=64,
        wait=True,
    )
    assert client.count("bulk").count == 300
    (found,) = client.query_points("bulk", query=[1.0, 0, 0, 0], limit=1).points
    assert found.id == str(keys[-1])


def test_upload_waits_out_back_pressure(server, vectors):
    client = QdrantClient(url=server.url, check_compatibility=False)
    client.create_collection("slow", models.VectorParams(size=SIZE, distance="Dot"))
    server.service.failing = Overloaded("the tail is long", retry_after_s=1)
    with pytest.warns(UserWarning, match="Waiting for 1 seconds"):
        client.upload_collection("slow", vectors=vectors[:10], ids=range(10), wait=True)
    assert client.count("slow").count == 10
    client.close()


def test_errors_keep_their_text(client):
    with pytest.raises(UnexpectedResponse) as caught:
        client.query_points("none", query=[1.0])
    assert caught.value.status_code == 404
    assert "doesn't exist" in caught.value.structured()["status"]["error"]
    assert not isinstance(caught.value, ResponseHandlingException)


def test_consistency_and_ordering_are_accepted(client, films):
    for consistency in (1, 2, "majority", "quorum", "all"):
        client.query_points(films, query=1, limit=1, consistency=consistency)
    client.delete(films, [499], ordering=models.WriteOrdering.STRONG)


def test_cluster_and_telemetry(client):
    status = client.http.distributed_api.cluster_status().result
    assert str(status.peer_id) in status.peers
    assert status.raft_info.leader is not None
    assert client.info().title.startswith("balsadb")


def test_async_client(every_server):
    async def ask():
        client = AsyncQdrantClient(url=every_server.url, check_compatibility=False)
        await client.create_collection("async", models.VectorParams(size=2, distance="Dot"))
        await client.upsert("async", [models.PointStruct(id=1, vector=[1, 2])], wait=True)
        found = await client.query_points("async", query=[1.0, 1.0], with_vectors=True)
        await client.close()
        return found.points

    (point,) = asyncio.run(ask())
    assert (point.score, point.vector) == (3.0, [1.0, 2.0])

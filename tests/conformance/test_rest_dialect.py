"""The dialect, endpoint by endpoint, spoken by a client that knows nothing of it."""

import math
import struct
import uuid

import msgspec
import pytest

from tests.conformance.conftest import Rest

CITIES = ["Berlin", "Berlin", "Moscow", "New York", "Berlin", "Moscow"]
VECTORS = [
    [0.05, 0.61, 0.76, 0.74],
    [0.19, 0.81, 0.75, 0.11],
    [0.36, 0.55, 0.47, 0.94],
    [0.18, 0.01, 0.85, 0.80],
    [0.24, 0.18, 0.22, 0.44],
    [0.35, 0.08, 0.11, 0.44],
]


@pytest.fixture(scope="module")
def rest(every_server):
    rest = Rest(every_server)
    yield rest
    rest.client.close()


@pytest.fixture(scope="module")
def local(server):
    rest = Rest(server)
    yield rest
    rest.client.close()


@pytest.fixture
def films(rest):
    path = rest.fresh()
    points = [
        {"id": number, "vector": vector, "payload": {"city": city, "n": {"at": number}}}
        for number, (vector, city) in enumerate(zip(VECTORS, CITIES, strict=True), 1)
    ]
    rest.ok("PUT", f"{path}/points?wait=true", {"points": points})
    return path


def ids(points):
    return [point["id"] for point in points]


def test_root_is_not_enveloped(rest):
    answer = rest.send("GET", "/").json()
    assert answer["title"].startswith("balsadb")
    assert answer["version"].count(".") == 2
    assert answer["commit"] is None


def test_health(rest):
    for name in ("healthz", "livez"):
        response = rest.send("GET", f"/{name}")
        assert (response.status_code, response.text) == (200, f"{name} check passed")
    assert rest.send("GET", "/readyz").status_code == 200


def test_health_without_a_leader(local):
    local.service.leads = False
    try:
        assert local.send("GET", "/readyz").status_code == 503
        assert local.send("GET", "/livez").status_code == 200
    finally:
        local.service.leads = True


def test_no_redirects(rest):
    assert rest.send("GET", "/collections/").status_code == 404


def test_collections(rest):
    path = rest.fresh("alpha")
    assert {"name": "alpha"} in rest.ok("GET", "/collections")["collections"]
    assert rest.ok("GET", f"{path}/exists") == {"exists": True}
    info = rest.ok("GET", path)
    assert info["config"]["params"]["vectors"] == {"size": 4, "distance": "Cosine"}
    assert info["status"] == "green"
    assert info["optimizer_status"] == "ok"
    assert info["points_count"] == 0
    assert info["payload_schema"] == {}
    assert set(info["config"]["hnsw_config"]) == {"m", "ef_construct", "full_scan_threshold"}
    assert rest.ok("PATCH", path, {"hnsw_config": {"ef_construct": 77}}) is True
    assert rest.ok("GET", path)["config"]["hnsw_config"]["ef_construct"] == 77
    assert rest.ok("DELETE", path) is True
    assert rest.ok("DELETE", path) is False
    assert rest.ok("GET", f"{path}/exists") == {"exists": False}


def test_a_collection_exists_once(rest):
    path = rest.fresh("twice")
    response = rest.refused("PUT", path, {"vectors": {"size": 4, "distance": "Dot"}})
    assert response.status_code == 409
    assert "already exists" in response.json()["status"]["error"]


def test_named_vectors_and_the_empty_name(rest):
    path = rest.fresh("named", {"": {"size": 2, "distance": "Dot"}})
    rest.ok("PUT", f"{path}/points", {"points": [{"id": 1, "vector": {"": [1, 2]}}]})
    found = rest.ok("POST", f"{path}/points/query", {"query": [1, 1], "using": ""})["points"]
    assert (ids(found), found[0]["score"]) == ([1], 3.0)
    path = rest.fresh(
        "named", {"a": {"size": 2, "distance": "Dot"}, "b": {"size": 3, "distance": "Euclid"}}
    )
    assert set(rest.ok("GET", path)["config"]["params"]["vectors"]) == {"a", "b"}
    points = [
        {"id": 1, "vector": {"a": [1, 0], "b": [1, 2, 3]}},
        {"id": 2, "vector": {"b": [0, 0, 0]}},
    ]
    rest.ok("PUT", f"{path}/points", {"points": points})
    query = {"query": [0, 0, 1], "using": "b", "with_vector": ["b"]}
    found = rest.ok("POST", f"{path}/points/query", query)["points"]
    assert ids(found) == [2, 1]
    assert found[0]["vector"] == {"b": [0.0, 0.0, 0.0]}
    query = {"query": [1, 1], "using": "a"}
    assert ids(rest.ok("POST", f"{path}/points/query", query)["points"]) == [1]


def test_quantisation(rest):
    path = "/collections/codes"
    size = {"size": 4, "distance": "Cosine"}
    own = {"quantization_config": {"scalar": {"type": "int8", "memory": "pinned"}}}
    shown = {"scalar": {"type": "int8", "always_ram": True}}

    def made(body):
        rest.ok("DELETE", path)
        rest.ok("PUT", path, body)
        found = rest.ok("GET", path)
        kinds = {name: v["quantization"] for name, v in found["balsadb"]["vectors"].items()}
        config = found["config"]
        return config["quantization_config"], config["params"]["vectors"], kinds

    for usual in ({}, {"quantization_config": None}, {"quantization": own["quantization_config"]}):
        assert made({"vectors": size} | usual) == (shown, size, {"": "int8"})
    off = {"quantization_config": "Disabled"}
    assert made({"vectors": size} | off) == (None, size, {"": "none"})
    assert made({"vectors": size | off}) == (shown, size, {"": "none"})
    found = made({"vectors": {"a": size | own, "b": size}} | off)
    assert found == (
        None,
        {"a": size | {"quantization_config": shown}, "b": size},
        {"a": "int8", "b": "none"},
    )
    rest.ok("PATCH", path, off | {"vectors": {"a": own, "b": off}})
    rest.refused("PATCH", path, own)
    state = rest.ok("GET", path)["balsadb"]["vectors"]["a"]
    assert state == {
        "quantization": "int8",
        "quantisers": 0,
        "code_rows": 0,
        "coded_rows": 0,
        "linked": 0,
        "tail": 0,
        "graph_version": 0,
    }
    rest.ok("DELETE", path)


def test_wait_and_operation_ids(rest):
    path = rest.fresh()
    point = {"points": [{"id": 1, "vector": [1, 0, 0, 0]}]}
    first = rest.ok("PUT", f"{path}/points", point)
    assert first["status"] == "acknowledged"
    second = rest.ok("PUT", f"{path}/points?wait=true&ordering=strong", point)
    assert second["status"] == "completed"
    assert second["operation_id"] > first["operation_id"]


def test_id_spellings_are_answered_hyphenated(rest):
    path = rest.fresh()
    text = "550e8400-e29b-41d4-a716-446655440000"
    points = [{"id": text.replace("-", "").upper(), "vector": [1, 0, 0, 0]}]
    rest.ok("PUT", f"{path}/points", {"points": points})
    for spelling in (text, f"urn:uuid:{text}", f"{{{text}}}", text.replace("-", "")):
        assert ids(rest.ok("POST", f"{path}/points", {"ids": [spelling]})) == [text]
        assert rest.ok("GET", f"{path}/points/{spelling}")["id"] == text


def test_retrieve(rest, films):
    found = rest.ok("POST", f"{films}/points", {"ids": [3, 99, 1]})
    assert ids(found) == [3, 1]
    assert found[0]["payload"]["city"] == "Moscow"
    assert found[0]["vector"] is None
    body = {"ids": [1], "with_payload": ["city"], "with_vectors": True}
    (found,) = rest.ok("POST", f"{films}/points", body)
    assert found["payload"] == {"city": "Berlin"}
    assert math.isclose(math.hypot(*found["vector"]), 1.0, rel_tol=1e-6)
    one = rest.ok("GET", f"{films}/points/2")
    assert one["payload"] == {"city": "Berlin", "n": {"at": 2}}
    assert len(one["vector"]) == 4
    assert rest.refused("GET", f"{films}/points/99").status_code == 404


def test_batch_form(rest):
    path = rest.fresh()
    batch = {"ids": [1, 2], "vectors": [[1, 0, 0, 0], [0, 1, 0, 0]], "payloads": [{"a": 1}, None]}
    rest.ok("PUT", f"{path}/points", {"batch": batch})
    assert rest.ok("GET", f"{path}/points/1")["payload"] == {"a": 1}
    batch = {"ids": [3], "vectors": {"": [[0, 0, 1, 0]]}}
    rest.ok("PUT", f"{path}/points", {"batch": batch})
    assert rest.ok("POST", f"{path}/points/count")["count"] == 3


def test_the_last_of_duplicate_ids_wins(rest):
    path = rest.fresh()
    points = [
        {"id": 1, "vector": [1, 0, 0, 0], "payload": {"a": 1}},
        {"id": 1, "vector": [0, 1, 0, 0], "payload": {"a": 2}},
    ]
    rest.ok("PUT", f"{path}/points", {"points": points})
    assert rest.ok("POST", f"{path}/points/count", {"exact": True}) == {"count": 1}
    assert rest.ok("GET", f"{path}/points/1")["payload"] == {"a": 2}


def test_query(rest, films):
    found = rest.ok("POST", f"{films}/points/query", {"query": VECTORS[2], "limit": 3})["points"]
    assert found[0]["id"] == 3
    assert math.isclose(found[0]["score"], 1.0, rel_tol=1e-6)
    assert found[0]["payload"] is None
    assert found[0]["version"] > 0
    assert [point["score"] for point in found] == sorted(
        (point["score"] for point in found), reverse=True
    )
    nested = rest.ok("POST", f"{films}/points/query", {"query": {"nearest": VECTORS[2]}, "top": 3})
    assert nested["points"] == found


def test_query_by_id_leaves_the_point_out(rest, films):
    found = rest.ok("POST", f"{films}/points/query", {"query": 3, "limit": 10})["points"]
    assert sorted(ids(found)) == [1, 2, 4, 5, 6]
    assert rest.refused("POST", f"{films}/points/query", {"query": 99}).status_code == 404


def test_query_without_a_query_is_the_order_of_ids(rest, films):
    found = rest.ok("POST", f"{films}/points/query", {"limit": 2, "offset": 1})["points"]
    assert ids(found) == [2, 3]


def test_query_options(rest, films):
    path = f"{films}/points/query"
    everything = rest.ok("POST", path, {"query": VECTORS[0], "limit": 6})["points"]
    page = rest.ok("POST", path, {"query": VECTORS[0], "limit": 2, "offset": 2})["points"]
    assert page == everything[2:4]
    threshold = everything[2]["score"]
    above = rest.ok("POST", path, {"query": VECTORS[0], "score_threshold": threshold})["points"]
    assert ids(above) == ids(everything[:3])
    exact = {"query": VECTORS[0], "limit": 6, "params": {"exact": True}}
    assert rest.ok("POST", path, exact)["points"] == everything
    low = {"query": VECTORS[0], "limit": 6, "params": {"hnsw_ef": 1}}
    assert rest.ok("POST", path, low)["points"] == everything
    city = {"must": [{"key": "city", "match": {"value": "Berlin"}}]}
    body = {"query": VECTORS[0], "filter": city, "with_payload": {"exclude": ["n"]}}
    found = rest.ok("POST", path, body)["points"]
    assert sorted(ids(found)) == [1, 2, 5]
    assert all(point["payload"] == {"city": "Berlin"} for point in found)


def test_query_batch_and_older_searches(rest, films):
    one = {"query": VECTORS[0], "limit": 2}
    single = rest.ok("POST", f"{films}/points/query", one)
    batch = rest.ok("POST", f"{films}/points/query/batch", {"searches": [one, {"limit": 1}]})
    assert batch[0] == single
    assert ids(batch[1]["points"]) == [1]
    older = {"vector": VECTORS[0], "limit": 2}
    assert rest.ok("POST", f"{films}/points/search", older) == single["points"]
    older["vector"] = {"name": "", "vector": VECTORS[0]}
    batch = rest.ok("POST", f"{films}/points/search/batch", {"searches": [older]})
    assert batch == [single["points"]]


def test_scroll(rest, films):
    page = rest.ok("POST", f"{films}/points/scroll", {"limit": 4})
    assert ids(page["points"]) == [1, 2, 3, 4]
    assert page["points"][0]["payload"]["city"] == "Berlin"
    assert page["next_page_offset"] == 5
    page = rest.ok("POST", f"{films}/points/scroll", {"limit": 4, "offset": 5})
    assert ids(page["points"]) == [5, 6]
    assert page["next_page_offset"] is None
    assert len(rest.ok("POST", f"{films}/points/scroll")["points"]) == 6


def test_filters(rest, films):
    def count(**conditions):
        return rest.ok("POST", f"{films}/points/count", {"filter": conditions})["count"]

    berlin = {"key": "city", "match": {"value": "Berlin"}}
    assert count(must=[berlin]) == 3
    assert count(must_not=[berlin]) == 3
    assert count(should=[berlin, {"key": "n.at", "range": {"gte": 6}}]) == 4
    assert count(must=[{"key": "city", "match": {"any": ["Moscow", "New York"]}}]) == 3
    assert count(must=[{"key": "city", "match": {"except": ["Moscow"]}}]) == 4
    assert count(must=[{"has_id": [1, 2, 77]}]) == 2
    assert count(must=[{"is_empty": {"key": "nothing"}}]) == 6
    assert count(min_should={"conditions": [berlin, {"has_id": [1, 3]}], "min_count": 2}) == 1


def test_payload_operations(rest, films):
    points = f"{films}/points"

    def payload(number):
        return rest.ok("GET", f"{points}/{number}")["payload"]

    rest.ok("POST", f"{points}/payload", {"payload": {"x": 1}, "points": [1, 2]})
    assert payload(1) == {"city": "Berlin", "n": {"at": 1}, "x": 1}
    rest.ok("POST", f"{points}/payload", {"payload": {"y": 2}, "points": [1], "key": "n"})
    assert payload(1)["n"] == {"at": 1, "y": 2}
    rest.ok("PUT", f"{points}/payload", {"payload": {"only": True}, "points": [2]})
    assert payload(2) == {"only": True}
    moscow = {"must": [{"key": "city", "match": {"value": "Moscow"}}]}
    rest.ok("POST", f"{points}/payload/delete", {"keys": ["city"], "filter": moscow})
    assert payload(3) == {"n": {"at": 3}}
    assert payload(6) == {"n": {"at": 6}}
    rest.ok("POST", f"{points}/payload/clear", {"points": [3]})
    assert payload(3) == {}


def test_delete(rest, films):
    rest.ok("POST", f"{films}/points/delete", {"points": [1, 99]})
    assert rest.ok("POST", f"{films}/points/count")["count"] == 5
    berlin = {"must": [{"key": "city", "match": {"value": "Berlin"}}]}
    rest.ok("POST", f"{films}/points/delete", {"filter": berlin})
    assert ids(rest.ok("POST", f"{films}/points/scroll")["points"]) == [3, 4, 6]


def test_payload_indexes(rest, films):
    body = {"field_name": "city", "field_schema": "keyword"}
    assert rest.ok("PUT", f"{films}/index?wait=true", body)["status"] == "completed"
    rest.ok("PUT", f"{films}/index", {"field_name": "n.at", "field_schema": {"type": "integer"}})
    schema = rest.ok("GET", films)["payload_schema"]
    assert schema["city"] == {"data_type": "keyword", "points": 6, "params": None}
    assert schema["n.at"]["points"] == 6
    rest.ok("DELETE", f"{films}/index/city?wait=true")
    assert set(rest.ok("GET", films)["payload_schema"]) == {"n.at"}


def test_aliases_are_empty(rest, films):
    assert rest.ok("GET", "/aliases") == {"aliases": []}
    assert rest.ok("GET", f"{films}/aliases") == {"aliases": []}
    assert rest.refused("GET", "/collections/none/aliases").status_code == 404


def test_cluster_in_the_dialects_shape(rest):
    answer = rest.ok("GET", "/cluster")
    assert answer["status"] == "enabled"
    assert answer["peers"][str(answer["peer_id"])]["uri"].startswith("http://")
    leads = answer["raft_info"]["leader"] == answer["peer_id"]
    assert answer["raft_info"]["role"] == ("Leader" if leads else "Follower")
    assert answer["balsadb"]["term"] >= 1
    assert rest.ok("GET", "/cluster/verify")["equal"] is True
    assert rest.ok("GET", "/telemetry")["app"]["name"] == "balsadb"


def test_consistency_reaches_the_service(local):
    path = local.fresh()
    del local.service.reads[:]
    for consistency in ("", "?consistency=1", "?consistency=local", "?consistency=majority"):
        local.ok("POST", f"{path}/points/query{consistency}", {"limit": 1})
    assert local.service.reads == [False, True, True, False]


def test_msgpack_both_ways(rest):
    path = rest.fresh("packed", {"size": 2, "distance": "Dot"})
    rows = struct.pack("<4f", 1, 2, 3, 4)
    key = uuid.uuid4()
    media = {"content-type": "application/msgpack", "accept": "application/msgpack"}

    def call(method, target, body):
        content = msgspec.msgpack.encode(body)
        response = rest.send(method, target, content, headers=media)
        assert response.headers["content-type"] == "application/msgpack"
        return msgspec.msgpack.decode(response.content)

    batch = {"ids": [1, str(key)], "vectors": rows, "payloads": [{"a": [1, "é"]}, {}]}
    call("PUT", f"{path}/points?wait=true", {"batch": batch})
    query = {"query": struct.pack("<2f", 1, 1), "with_payload": True, "with_vector": True}
    found = call("POST", f"{path}/points/query", query)["result"]["points"]
    assert [(point["id"], point["score"]) for point in found] == [(str(key), 7.0), (1, 3.0)]
    assert found[1]["payload"] == {"a": [1, "é"]}
    assert found[1]["vector"] == struct.pack("<2f", 1, 2)
    refused = call("POST", f"{path}/points/query", {"query": b"123"})
    assert refused["status"]["field"] == "query"


def test_sessions_apply_at_most_once(rest, films):
    identity = {"Balsa-Session": "ab" * 16, "Balsa-Sequence": "1"}
    point = {"points": [{"id": 50, "vector": [1, 0, 0, 0]}]}
    first = rest.ok("PUT", f"{films}/points", point, headers=identity)
    rest.ok("POST", f"{films}/points/delete", {"points": [50]})
    again = rest.ok("PUT", f"{films}/points", point, headers=identity)
    assert rest.ok("POST", f"{films}/points", {"ids": [50]}) == []
    assert again["status"] == first["status"]


def test_metrics(rest, films):
    # Metrics are this node's own state: a linearizable read first brings a follower up to date.
    rest.send("POST", f"{films}/points/count", {})
    text = rest.send("GET", "/metrics").text
    for name in (
        'app_info{name="balsadb"',
        'collection_points{id="films"} 6.0',
        "cluster_term ",
        "balsadb_distances_total",
        "balsadb_kernel_compilations_total",
        "rest_responses_duration_seconds_count",
    ):
        assert name in text, name

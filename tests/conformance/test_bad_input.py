"""Bad input: a 4xx that names the field and the rule; nothing changes; the node lives on."""

import msgspec
import pytest

from balsadb.api import limits

C = "/collections/films"
P = f"{C}/points"
GOOD = [0.1, 0.2, 0.3, 0.4]


@pytest.fixture(autouse=True)
def films(rest):
    rest.fresh()
    rest.ok("PUT", f"{P}?wait=true", {"points": [{"id": 1, "vector": GOOD, "payload": {"a": 1}}]})
    yield
    assert rest.ok("POST", f"{P}/count") == {"count": 1}
    assert rest.ok("GET", f"{P}/1")["payload"] == {"a": 1}


def point(**changes):
    return {"points": [{"id": 2, "vector": GOOD} | changes]}


def filtered(condition):
    return {"filter": {"must": [condition]}}


def vectors(**params):
    return {"vectors": {"size": 4, "distance": "Dot"} | params}


def codes(**params):
    return {"query": GOOD, "params": {"quantization": params}}


INT8 = {"scalar": {"type": "int8"}}
QUANTISATIONS = [
    ({"product": {"compression": "x16"}}, ".product", "not supported"),
    ({"binary": {"always_ram": True}}, ".binary", "not supported"),
    ({"turbo": {}}, ".turbo", "not supported"),
    ({"scalar": {"type": "int4"}}, ".scalar.type", "int4"),
    ({"scalar": {"type": "int8", "quantile": 0.1}}, ".scalar.quantile", "0.5"),
    ({"scalar": {}}, ".scalar", "type"),
    ({}, "", "Disabled"),
    ("disabled", "", "Disabled"),
    (True, "", "Disabled"),
]
NEW = "/collections/new"
MANY = list(range(limits.BATCH_POINTS_MAX + 1))

CASES = [
    # vectors
    ("PUT", P, point(vector=[1.0, 2.0]), "points[0].vector", "expected dim: 4, got 2"),
    ("PUT", P, {"batch": {"ids": [2], "vectors": [[1.0]]}}, "batch.vectors[0]", "4"),
    ("PUT", P, point(vector=[]), "vector", ""),
    ("PUT", P, b'{"points":[{"id":2,"vector":[NaN,1,1,1]}]}', "body", "finite"),
    ("PUT", P, b'{"points":[{"id":2,"vector":[1,1,1,Infinity]}]}', "body", "finite"),
    ("PUT", P, point(vector=[1e300, 1, 1, 1]), "points[0].vector[0]", "finite"),
    ("PUT", P, point(vector=[1e18, 1e18, 1, 1]), "points[0].vector", "norm of at most 1e+18"),
    ("POST", f"{P}/query", {"query": [1e30, 1, 1, 1]}, "query", "norm of at most 1e+18"),
    ("PUT", P, point(vector={"nope": GOOD}), "nope", ""),
    ("PUT", P, point(vector="text"), "points[0].vector", ""),
    ("PUT", P, point(vector=[GOOD]), "points[0].vector", ""),
    ("PUT", P, point(vector=None), "points[0].vector", ""),
    ("PUT", P, {"points": [{"id": 2, "vector": GOOD}, {"id": 3, "vector": [1]}]}, "points[1]", ""),
    ("POST", f"{P}/query", {"query": [1.0]}, "query", "4"),
    ("POST", f"{P}/query", {"query": [1, 2, 3, "x"]}, "query[3]", "float"),
    ("POST", f"{P}/query", {"query": [1e300, 1, 1, 1]}, "query", "finite"),
    ("POST", f"{P}/query", {"query": GOOD, "using": "nope"}, "nope", ""),
    # ids
    ("PUT", P, point(id=-1), "points[0].id", "UUID"),
    ("PUT", P, point(id=1 << 64), "points[0].id", ""),
    ("PUT", P, point(id=1.5), "points[0].id", ""),
    ("PUT", P, point(id="abc"), "points[0].id", "UUID"),
    ("PUT", P, point(id=None), "points[0].id", ""),
    ("PUT", P, point(id=True), "points[0].id", ""),
    ("POST", P, {"ids": ["x"]}, "ids[0]", "UUID"),
    ("GET", f"{P}/abc", None, "id", "UUID"),
    ("POST", f"{P}/delete", {"points": [-5]}, "points[0]", "UUID"),
    ("POST", f"{P}/scroll", {"offset": "x"}, "offset", "UUID"),
    ("POST", f"{P}/query", {"query": "x"}, "query", "UUID"),
    # collections
    ("PUT", NEW, vectors(distance="Hamming"), "vectors.distance", "Cosine, Euclid, Dot, Manhattan"),
    ("PUT", NEW, vectors(size=0), "vectors.size", "1"),
    ("PUT", NEW, vectors(size=limits.DIMENSION_MAX + 1), "vectors.size", str(limits.DIMENSION_MAX)),
    ("PUT", NEW, vectors(size="4"), "vectors.size", "int"),
    ("PUT", NEW, vectors(datatype="uint8"), "vectors.datatype", "float32"),
    ("PUT", NEW, vectors(multivector_config={"comparator": "max_sim"}), "multivector", ""),
    ("PUT", NEW, {}, "vectors", ""),
    ("PUT", NEW, {"vectors": {}}, "vectors", ""),
    ("PUT", NEW, {"vectors": []}, "vectors", ""),
    ("PUT", NEW, {"vectors": {"a": {"size": 4}}}, "vectors.a", "distance"),
    ("PUT", NEW, vectors() | {"sparse_vectors": {"s": {}}}, "sparse_vectors", "not supported"),
    *(
        ("PUT", NEW, body, f"quantization_config{field}", rule)
        for config, field, rule in QUANTISATIONS
        for body in (
            vectors() | {"quantization_config": config},
            vectors(quantization_config=config),
            {"vectors": {"a": vectors(quantization_config=config)["vectors"]}},
        )
    ),
    ("PUT", NEW, vectors() | {"quantization": {"product": {}}}, "quantization.product", ""),
    ("PATCH", C, {"quantization_config": {"binary": {}}}, "quantization_config.binary", ""),
    ("PATCH", C, {"quantization_config": "Disabled"}, "quantization_config", "creation (it is"),
    (
        "PATCH",
        C,
        {"vectors": {"": {"quantization_config": "Disabled"}}},
        "vectors..quantization_config",
        "cannot be changed after creation (it is int8)",
    ),
    ("PATCH", C, {"vectors": {"a": {"quantization_config": INT8}}}, "vectors.a", "not a vector"),
    ("POST", f"{P}/query", codes(oversampling=0.9), "params.quantization.oversampling", "1"),
    ("POST", f"{P}/query", codes(oversampling="2"), "params.quantization.oversampling", "float"),
    ("POST", f"{P}/query", codes(ignore=1), "params.quantization.ignore", "bool"),
    ("POST", f"{P}/search", codes(rescore="no") | {"vector": GOOD}, "quantization.rescore", ""),
    ("PUT", NEW, vectors() | {"hnsw_config": {"m": -1}}, "hnsw_config.m", "4..64"),
    ("PUT", NEW, vectors() | {"hnsw_config": {"m": 5000}}, "hnsw_config.m", "4..64"),
    ("PUT", C, vectors(), "", "already exists"),
    ("PUT", "/collections/" + "x" * 256, vectors(), "", "255"),
    # payloads
    ("PUT", P, point(payload=[1]), "points[0].payload", "object"),
    ("PUT", P, point(payload="x"), "points[0].payload", "object"),
    ("POST", f"{P}/payload", {"payload": 3, "points": [1]}, "payload", "object"),
    ("POST", f"{P}/payload", {"payload": {}}, "points", "exactly one"),
    ("POST", f"{P}/payload", {"payload": {}, "points": [1], "filter": {}}, "points", "exactly one"),
    ("POST", f"{P}/payload/delete", {"keys": [1], "points": [1]}, "keys[0]", "str"),
    ("POST", f"{P}/delete", {}, "points", "exactly one"),
    # filters
    ("POST", f"{P}/scroll", {"filter": {"musst": []}}, "musst", ""),
    ("POST", f"{P}/scroll", filtered({"key": "a", "matches": {"value": 1}}), "filter", ""),
    ("POST", f"{P}/scroll", filtered({"key": "a", "match": {"near": 1}}), "near", ""),
    ("POST", f"{P}/scroll", filtered({"key": "a", "range": {"gt": "x"}}), "range.gt", ""),
    ("POST", f"{P}/scroll", filtered({"key": "a", "match": {"any": 1}}), "any", ""),
    ("POST", f"{P}/scroll", filtered({"has_id": ["x"]}), "has_id", ""),
    ("POST", f"{P}/count", {"filter": [1]}, "filter", "object"),
    ("POST", f"{P}/query", {"query": GOOD} | filtered({"key": 1}), "filter.must[0]", ""),
    ("POST", f"{P}/delete", filtered({"key": "a", "range": 3}), "range", ""),
    # limits
    ("POST", f"{P}/scroll", {"limit": limits.PAGE_MAX + 1}, "limit", str(limits.PAGE_MAX)),
    ("POST", f"{P}/scroll", {"limit": 0}, "limit", "1"),
    ("POST", f"{P}/query", {"limit": limits.PAGE_MAX + 1}, "limit", str(limits.PAGE_MAX)),
    ("POST", f"{P}/query", {"limit": -1}, "limit", "1"),
    ("POST", f"{P}/query", {"limit": "3"}, "limit", "int"),
    ("POST", f"{P}/query", {"offset": limits.OFFSET_MAX + 1}, "offset", str(limits.OFFSET_MAX)),
    ("POST", f"{P}/query", {"offset": -1}, "offset", "0"),
    ("POST", f"{P}/query", {"params": {"hnsw_ef": limits.EF_MAX + 1}}, "params.hnsw_ef", ""),
    (
        "POST",
        f"{P}/query/batch",
        {"searches": [{"limit": 1}, {"query": [1]}]},
        "searches[1].query",
        "4",
    ),
    ("POST", f"{P}/query/batch", {"searches": [{}, {"limit": 99999}]}, "searches[1].limit", ""),
    ("POST", f"{P}/query/batch", {"searches": [{}] * 1001}, "searches", "1000"),
    ("POST", P, {"ids": MANY}, "ids", str(limits.PAGE_MAX)),
    ("POST", f"{P}/delete", {"points": MANY}, "points", str(limits.BATCH_POINTS_MAX)),
    (
        "PUT",
        P,
        {"points": [{"id": at, "vector": []} for at in MANY]},
        "points",
        str(limits.BATCH_POINTS_MAX),
    ),
    # what is not served
    ("POST", f"{P}/query", {"prefetch": [{"query": GOOD}]}, "prefetch", "not supported"),
    ("POST", f"{P}/query", {"query": {"fusion": "rrf"}}, "query.fusion", "not supported"),
    ("POST", f"{P}/query", {"query": {"recommend": {}}}, "query.recommend", "not supported"),
    ("POST", f"{P}/scroll", {"order_by": "a"}, "order_by", "not supported"),
    ("PUT", f"{C}/index", {"field_name": "a", "field_schema": "geo"}, "field_schema", "keyword"),
    ("PUT", f"{C}/index", {"field_schema": "keyword"}, "body", "field_name"),
    # selectors and parameters
    ("POST", f"{P}/query", {"with_payload": "all"}, "with_payload", ""),
    ("POST", f"{P}/query", {"with_vector": [1]}, "with_vector", ""),
    ("POST", f"{P}/query?consistency=most", {}, "consistency", "majority"),
    ("PUT", f"{P}?wait=1", point(), "wait", "true"),
    ("PUT", f"{P}?timeout=soon", point(), "timeout", "seconds"),
    ("PUT", f"{P}?ordering=any", point(), "ordering", "weak"),
    # bodies
    ("PUT", P, b'{"points":', "body", "JSON"),
    ("PUT", P, b"", "body", "required"),
    ("PUT", P, b"[]", "body", "object"),
    ("POST", f"{P}/query", b"{]", "body", "JSON"),
    ("POST", f"{P}/query", b"\xff\x00", "body", "JSON"),
]


@pytest.mark.parametrize(("method", "path", "body", "field", "rule"), CASES)
def test_refused_by_field_and_rule(rest, method, path, body, field, rule):
    response = rest.refused(method, path, body)
    status = response.json()["status"]
    assert field in status["error"], status
    assert rule in status["error"], status
    assert status["outcome"] == "failed"
    assert status["request_id"] == response.headers["balsa-request-id"]
    if response.status_code in (400, 413, 422):
        assert status["field"]
        assert status["rule"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/collections/none", None),
        ("PATCH", "/collections/none", {"hnsw_config": {"ef_construct": 100}}),
        ("PUT", "/collections/none/points", {"points": [{"id": 1, "vector": [1]}]}),
        ("POST", "/collections/none/points", {"ids": [1]}),
        ("POST", "/collections/none/points/query", {"query": [1.0]}),
        ("POST", "/collections/none/points/scroll", {}),
        ("POST", "/collections/none/points/count", {}),
        ("POST", "/collections/none/points/delete", {"points": [1]}),
        ("POST", "/collections/none/points/payload", {"payload": {"a": 1}, "points": [1]}),
        ("PUT", "/collections/none/index", {"field_name": "a", "field_schema": "bool"}),
    ],
)
def test_unknown_collection(rest, method, path, body):
    response = rest.refused(method, path, body)
    assert response.status_code == 404
    assert "Collection `none` doesn't exist!" in response.json()["status"]["error"]


@pytest.mark.parametrize(
    "body", [b"\xc1", b"\x81\xa6points", b"\x81\xa6points\x03", b"\x93\x01\x02\x03"]
)
def test_malformed_msgpack(rest, body):
    response = rest.refused("PUT", P, body, headers={"content-type": "application/msgpack"})
    assert response.status_code == 400
    assert response.json()["status"]["code"] == "malformed_body"


@pytest.mark.parametrize("size", [3, 5, 15, 20])
def test_packed_vectors_of_another_length(rest, size):
    body = msgspec.msgpack.encode({"batch": {"ids": [2], "vectors": bytes(size)}})
    response = rest.refused("PUT", P, body, headers={"content-type": "application/msgpack"})
    assert "vector" in response.json()["status"]["error"]


def test_not_a_number_in_packed_vectors(rest):
    rows = b"\x00\x00\xc0\x7f" * 4
    body = msgspec.msgpack.encode({"batch": {"ids": [2], "vectors": rows}})
    response = rest.refused("PUT", P, body, headers={"content-type": "application/msgpack"})
    assert "finite" in response.json()["status"]["error"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {"in": [b"x"]}])
def test_payloads_that_are_no_json(rest, value):
    header = {"content-type": "application/msgpack"}
    for body, field in (
        (point(payload={"k": value}), "points[0].payload.k"),
        ({"batch": {"ids": [2], "vectors": [GOOD], "payloads": [{"k": value}]}}, "batch.payloads"),
    ):
        response = rest.refused("PUT", P, msgspec.msgpack.encode(body), headers=header)
        assert response.json()["status"]["field"].startswith(field)
    body = msgspec.msgpack.encode({"payload": {"k": value}, "points": [1]})
    response = rest.refused("POST", f"{P}/payload", body, headers=header)
    assert response.json()["status"]["field"].startswith("payload.k")


def test_a_body_over_the_maximum(rest):
    body = b'{"points":[' + b" " * limits.BODY_BYTES_MAX + b"]}"
    response = rest.refused("PUT", P, body)
    assert response.status_code == 413
    assert str(limits.BODY_BYTES_MAX) in response.json()["status"]["error"]

    def in_pieces():
        for _ in range(33):
            yield b" " * (1 << 20)

    response = rest.client.put(P, content=in_pieces())
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"Balsa-Session": "xyz", "Balsa-Sequence": "1"}, "Balsa-Session"),
        ({"Balsa-Session": "0" * 32}, "Balsa-Sequence"),
        ({"Balsa-Sequence": "1"}, "Balsa-Session"),
    ],
)
def test_malformed_sessions(rest, headers, field):
    response = rest.refused("PUT", P, point(), headers=headers)
    assert response.json()["status"]["field"] == field

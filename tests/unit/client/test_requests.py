"""Each builder gives the call that the wire contract describes."""

import inspect
import struct
import uuid
from typing import Any

import msgspec
import numpy as np
import pytest

from balsadb.api import points as wire_points
from balsadb.api import results
from balsadb.api.codec import Format, decode, encode
from balsadb.api.routes import ROUTES, match
from balsadb.client import AsyncClient, Client, requests
from balsadb.client.uploads import BATCH_BYTES_MAX, parts
from balsadb.errors import InvalidInput, PointNotFound

V = [1.0, 2.0]
BYTES = struct.pack("<2f", *V)
ID = uuid.UUID(int=7)

CALLS: list[tuple[requests.Call[Any], str]] = [
    (requests.create_collection("f", {"size": 2, "distance": "Dot"}), "create_collection"),
    (
        requests.create_collection(
            "f", {"size": 2, "distance": "Dot"}, quantization_config="Disabled"
        ),
        "create_collection",
    ),
    (requests.collections(), "list_collections"),
    (requests.get_collection("f"), "get_collection"),
    (requests.collection_exists("f"), "collection_exists"),
    (requests.update_collection("f", {"hnsw_config": {"m": 8}}), "update_collection"),
    (requests.delete_collection("f"), "delete_collection"),
    (requests.create_payload_index("f", "year", "integer"), "create_index"),
    (requests.delete_payload_index("f", "a.b"), "delete_index"),
    (requests.upsert("f", [{"id": 1, "vector": V}]), "upsert_points"),
    (requests.upsert_batch("f", [1, ID], [V, V], [None, {"a": 1}]), "upsert_points"),
    (requests.delete("f", [1]), "delete_points"),
    (requests.set_payload("f", {"a": 1}, [1], key="b"), "set_payload"),
    (requests.overwrite_payload("f", {"a": 1}, filter={"must": []}), "overwrite_payload"),
    (requests.delete_payload("f", ["a"], [1]), "delete_payload"),
    (requests.clear_payload("f", [1]), "clear_payload"),
    (requests.retrieve("f", [1, ID]), "retrieve_points"),
    (requests.get("f", 1), "retrieve_points"),
    (requests.scroll("f", limit=5, offset=ID, filter={"must": []}), "scroll_points"),
    (requests.count("f", filter={"must": []}), "count_points"),
    (requests.query("f", V, limit=3, ef=32, exact=True), "query_points"),
    (requests.query("f", ID), "query_points"),
    (requests.query("f", V, quantization={"oversampling": 2.0}), "query_points"),
    (requests.query_batch("f", [{"query": V}, {"query": 3, "limit": 2}]), "query_batch"),
    (requests.cluster(), "cluster_status"),
    (requests.verify(), "cluster_verify"),
    (requests.members(), "list_members"),
    (requests.add_member(4, "h:1"), "add_member"),
    (requests.move_member(4, "h:2"), "move_member"),
    (requests.promote_member(4), "promote_member"),
    (requests.remove_member(4, force=True), "remove_member"),
    (requests.transfer(2), "transfer_leader"),
]


@pytest.mark.parametrize(("call", "operation"), CALLS)
def test_the_server_routes_and_decodes_the_call(call: requests.Call[Any], operation: str) -> None:
    route = match(call.method, call.path).route
    assert route.operation == operation
    assert call.is_write == (route.kind == "write")
    changes_members = operation.endswith(("_member", "_leader"))
    assert call.changes == (call.is_write or changes_members)
    if call.body is None:
        assert route.body is None or not route.body_required
    else:
        decode(encode(call.body, call.format), route.body, call.format)


def test_every_operation_of_the_contract_has_a_method() -> None:
    no_method = {
        *("service_info", "healthz", "livez", "readyz", "metrics", "telemetry"),
        *("list_aliases", "collection_aliases"),
        *("get_point", "search_points", "search_batch"),  # older forms of what we call
    }
    built = {match(call.method, call.path).route.operation for call, _ in CALLS}
    assert built == {route.operation for route in ROUTES} - no_method


def test_vectors_travel_as_float32_bytes() -> None:
    call = requests.upsert(
        "f", [{"id": 1, "vector": V, "payload": {"a": 1}}, {"id": ID, "vector": {"n": np.array(V)}}]
    )
    assert call.format is Format.MSGPACK
    body = decode(encode(call.body, call.format), wire_points.UpsertPoints, call.format)
    assert body.points is not None
    assert body.points[0].vector == BYTES
    assert body.points[1].vector == {"n": struct.pack("<2f", *V)}
    assert body.points[1].id == str(ID)
    batch = requests.upsert_batch("f", [1, 2], {"n": np.array([V, V], "f4")}).body["batch"]
    assert batch["vectors"] == {"n": BYTES * 2}


def test_query_options_become_the_wire_names() -> None:
    body = requests.query(
        "f", V, limit=3, ef=9, exact=True, using="n", with_payload=["a"], score_threshold=0.5
    ).body
    assert body == {
        "query": BYTES,
        "limit": 3,
        "using": "n",
        "score_threshold": 0.5,
        "with_payload": ["a"],
        "params": {"hnsw_ef": 9, "exact": True},
    }
    assert requests.query("f", 5).body == {"query": 5, "with_payload": True}


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: requests.get_collection(""), "collection"),
        (lambda: requests.delete("f"), "points"),
        (lambda: requests.delete("f", [1], filter={}), "points"),
        (lambda: requests.upsert("f", [{"vector": V}]), "points[0]"),
        (lambda: requests.upsert("f", [{"id": 1, "vektor": V}]), "points[0]"),
        (lambda: requests.upsert("f", [{"id": 1, "vector": {"n": ["x"]}}]), "points[0].vector.n"),
        (lambda: requests.upsert_batch("f", [1, 2], [V]), "vectors"),
        (lambda: requests.upsert_batch("f", [1], [V], []), "payloads"),
        (lambda: requests.query("f", V, limits=3), "limits"),
        (lambda: requests.query_batch("f", [{"limit": 3}]), "searches[0].query"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(build: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        build()
    assert caught.value.field == field


def test_names_are_encoded_in_paths() -> None:
    call = requests.delete_payload_index("a/b c", "x.y?z")
    assert match(call.method, call.path).values == {
        "collection": "a/b c",
        match(call.method, call.path).route.parameters[1]: "x.y?z",
    }


def test_picking_from_answers() -> None:
    assert requests.count("f").pick(results.CountResult(4)) == 4
    found = results.CollectionsResult([results.CollectionDescription("f")])
    assert requests.collections().pick(found) == ["f"]
    with pytest.raises(PointNotFound, match="Point with id 3"):
        requests.get("f", 3).pick([])


def test_uploads_are_cut_by_number_and_by_bytes() -> None:
    cut = list(parts("f", np.zeros((7, 2), "f4"), {"batch_size": 3, "ids": iter("abcdefg")}))
    assert [part.points for part in cut] == [3, 3, 1]
    assert cut[2].call.body["batch"]["ids"] == ["g"]
    wide = np.zeros((5, BATCH_BYTES_MAX // 8), "f4")
    assert [part.points for part in parts("f", wide, {})] == [2, 2, 1]
    default = list(parts("f", ([float(i)] for i in range(3)), {"payloads": ({} for _ in range(3))}))
    assert default[0].call.body["batch"]["ids"] == [0, 1, 2]


@pytest.mark.parametrize("options", [{"ids": [1]}, {"payloads": [{}]}, {"batch_size": 0}])
def test_an_upload_needs_as_many_ids_and_payloads(options: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        list(parts("f", [V, V], options))
    assert caught.value.field == next(iter(options))


def test_both_clients_have_the_same_methods() -> None:
    def surface(client: type) -> dict[str, str]:
        return {
            name: str(inspect.signature(value)).partition(" -> ")[0]
            for name, value in vars(client).items()
            if not name.startswith("_") and callable(value)
        }

    assert surface(Client) == surface(AsyncClient)
    assert "count" in surface(Client)
    assert list(inspect.signature(Client.count).parameters) == ["self", "collection", "filter"]
    assert Client.count.__doc__ == requests.count.__doc__


def test_bodies_need_no_numpy() -> None:
    assert msgspec.msgpack.decode(encode(requests.query("f", V).body, Format.MSGPACK))

"""The OpenAPI document: complete, self-contained, and equal to the copy in docs/."""

from pathlib import Path

import msgspec
import pytest

from balsadb.api.routes import ROUTES
from balsadb.cluster.settings import NodeSettings
from balsadb.server.app import create_app
from tests.conformance.local_service import LocalService

FROZEN = Path(__file__).parents[3] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document():
    return create_app(LocalService(), NodeSettings()).openapi()


def references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_route_is_documented(document):
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        assert operation["operationId"] == route.operation
        assert operation["summary"] == route.summary
        assert operation["tags"] == [route.tag]
        content = operation["responses"]["200"]["content"][route.media]
        assert content["schema"], route.operation
        named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
        assert named == set(route.parameters)
        if route.body is not None:
            body = operation["requestBody"]["content"]["application/json"]
            assert body["schema"]
            assert body["example"]
        if route.kind != "node":
            assert {"400", "401", "404", "503"} <= set(operation["responses"])
    assert sum(len(methods) for methods in document["paths"].values()) == len(ROUTES)


def test_references_resolve_and_nothing_is_left_over(document):
    components = document["components"]
    known = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses")
        for name in components[kind]
    }
    assert set(references(document)) == known


def test_every_struct_says_what_it_is(document):
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("description"), name


def test_parameters_of_writes_and_reads(document):
    def names(path, method):
        return {one["name"] for one in document["paths"][path][method]["parameters"]}

    points = "/collections/{collection}/points"
    assert {"wait", "ordering", "timeout", "Balsa-Session"} <= names(points, "put")
    assert {"consistency", "timeout"} <= names(points, "post")


def test_the_examples_are_valid_requests():
    for route in ROUTES:
        if route.body is not None:
            msgspec.convert(route.example, route.body)


def test_frozen(document):
    """To accept a change: `python tests/unit/server/test_openapi.py`, then read the diff."""
    assert rendered(document) == FROZEN.read_bytes()


def rendered(document):
    fixed = {**document, "info": {**document["info"], "version": "*"}}
    return msgspec.json.format(msgspec.json.encode(fixed, order="sorted"), indent=1) + b"\n"


if __name__ == "__main__":
    FROZEN.parent.mkdir(exist_ok=True)
    FROZEN.write_bytes(rendered(create_app(LocalService(), NodeSettings()).openapi()))

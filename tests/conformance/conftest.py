"""A live server for each test module, and a plain HTTP client that knows no dialect."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from balsadb.cli.local_cluster import ClusterPlan, LocalCluster
from tests.conformance.local_service import LiveServer, serve, serve_node


class Rest:
    """Sends JSON, keeps nothing."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.service = server.service
        self.client = httpx2.Client(base_url=server.url, timeout=10)

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        if isinstance(body, bytes):
            options["content"] = body
        elif body is not None:
            options["json"] = body
        return self.client.request(method, path, **options)

    def ok(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        response = self.send(method, path, body, **options)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["status"] == "ok"
        assert answer["time"] >= 0
        return answer["result"]

    def refused(self, method: str, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        """Send what must be refused; asserts that nothing changed."""
        before = self.server.state()
        response = self.send(method, path, body, **options)
        assert 400 <= response.status_code < 500, response.text
        assert self.server.state() == before
        return response

    def fresh(self, name: str = "films", vectors: Any = None) -> str:
        """A new, empty collection."""
        self.ok("DELETE", f"/collections/{name}")
        self.ok(
            "PUT", f"/collections/{name}", {"vectors": vectors or {"size": 4, "distance": "Cosine"}}
        )
        return f"/collections/{name}"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    """The database without a log."""
    with serve() as live:
        yield live


@pytest.fixture(scope="session")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three node processes."""
    folder = tmp_path_factory.mktemp("three")
    cluster = LocalCluster.create_or_open(folder, ClusterPlan.on_free_ports(3))
    try:
        cluster.start()
        cluster.wait_ready()
        yield cluster
    finally:
        cluster.stop()


def a_follower(cluster: LocalCluster) -> str:
    """The address of a node that does not lead."""
    for node in cluster.nodes:
        found = httpx2.get(f"{node.url}/cluster").json()["result"]
        if found["raft_info"]["role"] == "Follower":
            return node.url
    raise AssertionError("no follower")


@pytest.fixture(scope="module", params=["local", "node", "follower"])
def every_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """The database alone, a node in this process, and a follower of three processes."""
    if request.param == "local":
        with serve() as live:
            yield live
    elif request.param == "follower":
        yield LiveServer(a_follower(request.getfixturevalue("three_nodes")), None)
    else:
        with serve_node(str(tmp_path_factory.mktemp("node"))) as live:
            yield live


@pytest.fixture(scope="module")
def rest(server: LiveServer) -> Iterator[Rest]:
    rest = Rest(server)
    yield rest
    rest.client.close()

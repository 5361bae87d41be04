"""What comes to the peer port of a living node and is no message of a peer: refused by field and
rule, and the cluster goes on."""

import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2
import msgspec
import numpy as np
import pytest

from balsadb.cli.local_cluster import LocalCluster, NodeProcess
from balsadb.client import Client
from balsadb.cluster.http_limits import HEAD_BYTES_MAX
from balsadb.cluster.rpc import Call
from balsadb.cluster.wire import (
    APPEND,
    CONTROL,
    FORWARD,
    FRAME_BYTES_MAX,
    HEADER_CLUSTER,
    HEADER_NODE,
    HEADER_SECRET,
    LANES,
    frame,
)
from balsadb.storage import cluster_id
from balsadb.types import NodeId
from tests.chaos.clusters import figures, running, vectors
from tests.conformance.live_nodes import by_role

NAME = "things"
SOMETHING = frame(b"R\x91\x01")


class Target(NamedTuple):
    """A node's peer port, and what a true peer says there of itself."""

    cluster: LocalCluster
    node: NodeProcess
    headers: dict[str, str]

    def send(
        self,
        body: bytes = SOMETHING,
        path: str = f"/lane/{CONTROL}",
        method: str = "POST",
        **changed: str | None,
    ) -> httpx2.Response:
        """Send with some headers changed (`balsa_secret="x"`), or left out (None)."""
        other = {name.replace("_", "-"): value for name, value in changed.items()}
        headers = {name: value for name, value in (self.headers | other).items() if value}
        url = f"http://{self.node.host}:{self.node.peer_port}{path}"
        return httpx2.request(method, url, content=body, headers=headers, timeout=10)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The leader: it has the most to lose."""
    with running(tmp_path_factory.mktemp("peers"), 3) as cluster:
        with Client(cluster.nodes[0].url) as client:
            client.create_collection(NAME, {"size": 32, "distance": "Cosine"})
            client.upsert_batch(NAME, list(range(50)), vectors(50))
        leader, (follower, _) = by_role(cluster)
        plan = cluster.plan
        members = {
            NodeId(number): f"{plan.host}:{port}" for number, port in enumerate(plan.peer_ports, 1)
        }
        headers = {
            HEADER_SECRET: plan.secret,
            HEADER_CLUSTER: str(cluster_id("balsadb", members)),
            HEADER_NODE: str(follower.number),
        }
        yield Target(cluster, leader, headers)


@pytest.fixture(autouse=True)
def unharmed(target: Target) -> Iterator[None]:
    """After each test the same processes run, and the cluster takes writes and searches."""
    before = [node.pid for node in target.cluster.nodes]
    yield
    assert [node.pid for node in target.cluster.nodes] == before
    with Client(target.node.url) as client:
        client.set_payload(NAME, {"seen": True}, [7])
        assert client.query(NAME, vectors(50)[7], limit=1)[0].payload == {"seen": True}
        assert client.count(NAME) == 50


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    """Status and field; the rule must say something."""
    error = answer.json()["error"]
    assert len(error["rule"]) > 10
    assert error["status"] == answer.status_code
    return answer.status_code, error["field"]


def test_what_is_sent_here_would_be_taken_from_a_peer(target: Target) -> None:
    """So the refusals below are for what each of them changes."""
    for lane in LANES:
        assert target.send(b"", f"/lane/{lane}").status_code == 200


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"balsa_secret": None}, (401, HEADER_SECRET)),
        ({"balsa_secret": "f" * 32}, (401, HEADER_SECRET)),
        ({"balsa_secret": None, "balsa_cluster": "1"}, (401, HEADER_SECRET)),
        ({"balsa_cluster": "1"}, (403, HEADER_CLUSTER)),
        ({"balsa_cluster": None}, (403, HEADER_CLUSTER)),
        ({"balsa_node": None}, (403, HEADER_NODE)),
        ({"balsa_node": "-1"}, (403, HEADER_NODE)),
        ({"balsa_node": "9" * 5000}, (403, HEADER_NODE)),
        ({"path": "/lane/gossip"}, (404, "path")),
        ({"path": "/collections"}, (404, "path")),
        ({"method": "PUT"}, (404, "path")),
    ],
)
def test_a_stranger_is_refused(
    target: Target, changed: dict[str, Any], expected: tuple[int, str]
) -> None:
    malformed = figures(target.node)["frames_malformed"]
    assert refusal(target.send(**changed)) == expected
    # Not one byte of it reached the node.
    assert figures(target.node)["frames_malformed"] == malformed


def test_a_node_is_no_peer_of_itself(target: Target) -> None:
    answer = target.send(balsa_node=str(target.node.number))
    assert refusal(answer) == (403, HEADER_NODE)


def test_random_bytes_in_place_of_a_frame(target: Target) -> None:
    chance = np.random.default_rng(5)
    before = figures(target.node)["frames_malformed"]
    for turn in range(20):
        lane = LANES[turn % len(LANES)]
        noise = chance.bytes(int(chance.integers(1, 2000)))
        assert refusal(target.send(frame(noise), f"/lane/{lane}")) == (400, "frame")
    assert figures(target.node)["frames_malformed"] == before + 20
    # Without a frame around it, noise is a frame too long or one that ends early.
    for _ in range(20):
        answer = target.send(chance.bytes(int(chance.integers(1, 2000))))
        assert refusal(answer) in {(413, "frame"), (400, "frame")}


@pytest.mark.parametrize("lane", [CONTROL, FORWARD])
@pytest.mark.parametrize("head", [b"R", b"P", b""])
def test_bodies_of_the_wrong_shape(target: Target, lane: str, head: bytes) -> None:
    deep = head + b"\x91" * 100_000 + b"\xc0"
    broad = head + b"\xdd\xff\xff\xff\xff"
    mapping = head + msgspec.msgpack.encode({"term": 10**9})
    for body in (deep, broad, mapping, head):
        assert refusal(target.send(frame(body), f"/lane/{lane}")) == (400, "frame")


@pytest.mark.parametrize("kind", ["http", "digests", "nothing"])
def test_calls_that_make_no_sense(target: Target, kind: str) -> None:
    """The call is whole, so the stream is; the answer goes out on the peer's own lane."""
    encode = msgspec.msgpack.encode
    calls = [frame(encode(Call(number, kind, b"\xc1?"))) for number in (0, 1, 1)]
    assert target.send(b"".join(calls), f"/lane/{FORWARD}").status_code == 200


@pytest.mark.parametrize("lane", LANES)
def test_a_frame_over_the_maximum(target: Target, lane: str) -> None:
    """Its length alone is enough: nothing waits for the rest."""
    length = (FRAME_BYTES_MAX[lane] + 1).to_bytes(4, "little")
    assert refusal(target.send(length, f"/lane/{lane}")) == (413, "frame")
    assert refusal(target.send(b"\xff" * 4, f"/lane/{lane}")) == (413, "frame")


def test_a_frame_that_ends_early(target: Target) -> None:
    whole = frame(b"R" + b"x" * 100)
    for size in (1, 3, 4, 5, 100):
        assert refusal(target.send(whole[:size], f"/lane/{APPEND}")) == (400, "frame")


def test_connections_that_break_off_or_speak_something_else(target: Target) -> None:
    head = "\r\n".join(
        [f"POST /lane/{APPEND} HTTP/1.1", "Host: x"]
        + [f"{name}: {value}" for name, value in target.headers.items()]
    ).encode()
    address = (target.node.host, target.node.peer_port)
    chunked = head + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    for sent in (b"", head, chunked, chunked + b"ff\r\n\x00\x01", chunked + b"zz\r\n"):
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(sent)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(np.random.default_rng(6).bytes(5000) + b"\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("port", ["port", "peer_port"])
def test_headers_without_end(target: Target, port: str) -> None:
    """Cut off before anything is known of who sends them, on both ports."""
    address = (target.node.host, getattr(target.node, port))
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(f"POST /lane/{APPEND} HTTP/1.1\r\nHost: x\r\n".encode())
        connection.sendall(b"a: b\r\n" * (HEAD_BYTES_MAX // 6))
        assert connection.recv(100).startswith(b"HTTP/1.1 431 ")

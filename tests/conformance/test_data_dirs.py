"""Data directories that a node must not start on: it ends and says what to do, changes nothing, and
the others go on."""

import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from balsadb.cli.local_cluster import ClusterPlan, LocalCluster, NodeProcess
from balsadb.client import Client
from balsadb.server.run import EXIT_STORAGE
from tests.chaos.clusters import figures, missing_on, running, vectors, wait_for
from tests.conformance.live_nodes import by_role

NAME = "things"
IDS = list(range(200))
EMPTIED = re.compile(
    r"its data directory was emptied or replaced.* under a new node id"
    r"|acknowledged entries were lost; rejoin under a new node id"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes with some points."""
    with running(tmp_path_factory.mktemp("dirs"), 3) as made:
        with Client(made.nodes[0].url) as client:
            client.create_collection(NAME, {"size": 32, "distance": "Cosine"})
            client.upsert_batch(NAME, IDS, vectors(len(IDS)))
        yield made


def serve(node: NodeProcess, *flags: str) -> tuple[int, str]:
    """Start the node on its settings and wait for its end: exit code and output."""
    done = subprocess.run(
        [sys.executable, "-m", "balsadb.cli", "serve", "--config", str(node.config_file), *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "500"},
    )
    return done.returncode, done.stdout + done.stderr


def content(folder: Path) -> dict[str, bytes]:
    """Every file under the folder but the lock, which names the last process that had it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "LOCK"
    }


def refused(node: NodeProcess, *flags: str) -> str:
    """What the node says as it refuses to start; its directory stays as it is."""
    before = content(node.data)
    code, said = serve(node, *flags)
    assert code == EXIT_STORAGE, said
    assert "Traceback" not in said
    assert content(node.data) == before
    return said


def knows_all(node: NodeProcess) -> bool:
    """Whether the log tells the disk of each member."""
    return all(figures(node).get("members", {"": False}).values())


@contextmanager
def one_away(cluster: LocalCluster) -> Iterator[NodeProcess]:
    """A follower that is stopped while the others serve; it comes back whole."""
    _, (node, other) = by_role(cluster)
    node.send(15)
    assert node.wait_gone(15)
    try:
        yield node
        with Client(other.url) as client:
            client.set_payload(NAME, {"served": node.number}, [1])
            assert client.count(NAME) == len(IDS)
    finally:
        node.start()
    cluster.wait_ready()
    assert missing_on(node, NAME, IDS) == []


def flip(path: Path, at: int) -> None:
    """Turn one bit of the file over."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def test_a_directory_in_use(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    free = ClusterPlan.on_free_ports(1)
    code, said = serve(node, "--port", str(free.ports[0]), "--peer-port", str(free.peer_ports[0]))
    assert code == EXIT_STORAGE, said
    assert "in use" in said
    assert str(node.data) in said
    assert missing_on(node, NAME, IDS) == []


def test_directories_of_others_newer_or_rotten(cluster: LocalCluster) -> None:
    with one_away(cluster) as node:
        identity = node.data / "IDENTITY"
        good = identity.read_bytes()

        # of a newer format
        newer = msgspec.json.decode(good)
        newer["identity"]["format"] = 2
        newer["identity"]["shape"] = "unheard of"
        body = msgspec.json.encode(newer["identity"])
        newer["crc32"] = zlib.crc32(body)
        identity.write_bytes(msgspec.json.encode({**newer, "identity": msgspec.Raw(body)}))
        said = refused(node)
        assert "has format 2, this version reads 1: start the newer version again" in said
        identity.write_bytes(good)

        # of another node, of another cluster
        own = cluster.nodes[node.number % 3]
        said = refused(node, "--node", str(own.number))
        assert f"belongs to node {node.number}, this is node {own.number}" in said
        assert "belongs to cluster" in refused(node, "--cluster-name", "another")

        # a byte of its log turned over
        segment = min((node.data / "wal").iterdir())
        flip(segment, 600)
        said = refused(node)
        assert segment.name in said
        assert "must not vote" in said
        assert "join again as a new node with an empty directory" in said
        flip(segment, 600)

        # the log cut to nothing
        whole = segment.read_bytes()
        segment.write_bytes(b"")
        assert "has not even its header" in refused(node)
        assert segment.read_bytes() == b"", "nothing was changed"
        segment.write_bytes(whole)

        # its log gone, under an identity
        log = node.data / "wal"
        log.rename(node.data / "lost")
        said = refused(node)
        assert "what this node voted for and acknowledged is gone" in said
        (node.data / "lost").rename(log)


@pytest.mark.parametrize(("role", "tries"), [("follower", 1), ("leader", 2)])
def test_a_directory_emptied_under_an_old_id(cluster: LocalCluster, role: str, tries: int) -> None:
    leader, followers = by_role(cluster)
    node = leader if role == "leader" else followers[0]
    others = [other for other in cluster.nodes if other is not node]
    wait_for(lambda: all(knows_all(other) for other in others), 20)
    node.kill()
    kept = node.data.with_name("kept")
    node.data.rename(kept)
    try:
        with Client([other.url for other in others]) as client:
            client.set_payload(NAME, {"without": role}, [2])
            for _ in range(tries):  # a second try is no way around it
                code, said = serve(node)
                assert code == EXIT_STORAGE, said
                # Whichever is noticed first: its disk is another, or its log lost what it had.
                assert EMPTIED.search(said), said
                client.set_payload(NAME, {"still": role}, [3])
                assert client.count(NAME) == len(IDS)
        for other in others:
            assert missing_on(other, NAME, IDS) == []
    finally:
        shutil.rmtree(node.data)
        kept.rename(node.data)
        node.start()
    cluster.wait_ready()
    with Client(node.url) as client:
        assert client.get(NAME, 3).payload == {"still": role}
        assert client.verify()["equal"]

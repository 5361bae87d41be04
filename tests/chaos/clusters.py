"""Real node processes for the tests that kill them, on loopback or in a network of their own."""

import secrets
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from balsadb.cli.local_cluster import ClusterPlan, LocalCluster, NodeProcess
from balsadb.client import Client, Options
from balsadb.cluster.settings import CLIENT_PORT, PEER_PORT, NodeSettings
from balsadb.errors import Unavailable
from tests.chaos.network import Network


class Newcomer(NodeProcess):
    """A node that is not in the plan of its cluster: started with --join on ports of its own."""

    def __init__(self, cluster: LocalCluster, number: int, peer_port: int | None = None) -> None:
        plan = cluster.plan
        ports = ClusterPlan.on_free_ports(1)
        super().__init__(cluster.folder, plan, 1)
        first = super()._settings()
        self.number = number
        self.port, self.peer_port = ports.ports[0], peer_port or ports.peer_ports[0]
        self.data = cluster.folder / f"node{number}"
        self.config_file = cluster.folder / f"node{number}.toml"
        self.pid_file = cluster.folder / f"node{number}.pid"
        self.log_file = cluster.folder / f"node{number}.log"
        self._joins = msgspec.structs.replace(
            first,
            node=number,
            data=str(self.data),
            port=self.port,
            peer_port=self.peer_port,
            members={},
            join=",".join(f"{plan.host}:{port}" for port in plan.peer_ports),
        )

    @property
    def address(self) -> str:
        """Where its peers reach it."""
        return f"{self.host}:{self.peer_port}"

    def _settings(self) -> NodeSettings:
        self._joins.check()
        return self._joins


API_KEY = "chaos"
"""Of nodes that listen beyond loopback."""


class NetworkNode(NodeProcess):
    """A node in a network namespace of its own."""

    def __init__(self, folder: Path, plan: ClusterPlan, number: int, network: Network) -> None:
        super().__init__(folder, plan, number)
        self.network = network
        self.host = network.address(number)

    def start(self) -> None:
        """Start the process in its namespace."""
        with self.network.inside(self.number):
            super().start()

    def _settings(self) -> NodeSettings:
        members = {
            number: f"{self.network.address(number)}:{PEER_PORT}" for number in self.network.numbers
        }
        settings = NodeSettings(
            node=self.number,
            data=str(self.data),
            host=self.host,
            peer_host=self.host,
            members=members,
            cluster_secret=self._plan.secret,
            api_key=API_KEY,
        )
        settings.check()
        return settings


IMPATIENT = Options(timeout_s=3.0, tries_max=1)


@contextmanager
def running(
    folder: Path, nodes: int, before: Callable[[LocalCluster], None] = lambda cluster: None
) -> Generator[LocalCluster]:
    """A cluster that is ready; nothing of it runs afterwards. `before` it starts, something may be
    done to its folders."""
    cluster = LocalCluster.create_or_open(folder / "cluster", ClusterPlan.on_free_ports(nodes))
    before(cluster)
    with _started(cluster):
        yield cluster


@contextmanager
def networked(folder: Path, network: Network) -> Generator[LocalCluster]:
    """The same in a network that is up."""
    count = len(network.numbers)
    ports = (CLIENT_PORT,) * count
    peer_ports = (PEER_PORT,) * count
    plan = ClusterPlan(count, ports=ports, peer_ports=peer_ports, secret=secrets.token_hex(16))
    folder = folder / "cluster"
    folder.mkdir()
    cluster = LocalCluster(folder, plan)
    cluster.nodes[:] = [NetworkNode(folder, plan, n, network) for n in network.numbers]
    with _started(cluster):
        yield cluster


@contextmanager
def _started(cluster: LocalCluster) -> Generator[None]:
    try:
        cluster.start()
        cluster.wait_ready()
        yield
    finally:
        cluster.stop()


def client_of(nodes: NodeProcess | Sequence[NodeProcess], options: Options | None = None) -> Client:
    """A client of one node or several, with the key that they want."""
    several = [nodes] if isinstance(nodes, NodeProcess) else nodes
    asked = options or Options()
    if any(isinstance(node, NetworkNode) for node in several):
        asked = asked.but({"api_key": API_KEY})
    return Client([node.url for node in several], options=asked)


def figures(node: NodeProcess) -> dict[str, Any]:
    """What the node says of itself; empty if it does not answer."""
    with client_of(node, IMPATIENT) as client:
        try:
            return client.cluster()["balsadb"]
        except Unavailable:
            return {}


def leader_of(cluster: LocalCluster, timeout_s: float = 20.0) -> NodeProcess:
    """The node that leads now."""
    found: list[NodeProcess] = []

    def led() -> bool:
        found[:] = [node for node in cluster.nodes if figures(node).get("role") == "leader"]
        return len(found) == 1

    wait_for(led, timeout_s)
    return found[0]


def wait_for(condition: Callable[[], bool], timeout_s: float) -> None:
    """Return when the condition holds; fails after the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


def vectors(count: int, size: int = 32, seed: int = 1) -> NDArray[np.float32]:
    """Unit vectors by chance."""
    made = np.random.default_rng(seed).standard_normal((count, size), dtype=np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def missing_on(node: NodeProcess, collection: str, ids: Sequence[int]) -> list[int]:
    """The ids that the node does not have, read from it alone."""
    with client_of(node, Options(local=True)) as client:
        lacking: list[int] = []
        for first in range(0, len(ids), 5000):
            some = ids[first : first + 5000]
            found = client.retrieve(collection, some, with_payload=False)
            lacking += set(some) - {int(point.id) for point in found}
        return sorted(lacking)

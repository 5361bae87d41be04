"""Two systems of three local nodes each, under one face: BalsaDB's and etcd's, for their failovers.

Both run with the settings they come with, on free ports, with their data in one folder on one disk;
both answer a write when a majority has it on its disks.
"""

import shutil
import signal
import subprocess
import time
from base64 import b64encode
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import msgspec

from balsadb.cli.local_cluster import ClusterPlan, LocalCluster

NODES = 3
WHOLE_TIMEOUT_S = 120.0
POLL_S = 0.05
RECORDS = 1000
"""Different keys that are written, over and over: what is stored stays small."""
COLLECTION = "failover"
VALUE = "a small record, written again and again"


class Write(NamedTuple):
    """One small write as an HTTP request."""

    method: str
    path: str
    body: bytes


class System:
    """Three nodes, numbered from 0. All may be asked for a write."""

    name = ""
    version = ""
    urls: list[str]

    def start(self) -> None:
        """Start all and make ready for writes."""
        raise NotImplementedError

    def stop(self) -> None:
        """End what still runs."""
        raise NotImplementedError

    def write(self, turn: int) -> Write:
        """The request that stores record number `turn`."""
        raise NotImplementedError

    def send(self, node: int, number: signal.Signals) -> None:
        """Send the node's process a signal."""
        raise NotImplementedError

    def is_gone(self, node: int) -> bool:
        """Whether the node's process has ended."""
        raise NotImplementedError

    def restart(self, node: int) -> None:
        """Start the node again, on its old data."""
        raise NotImplementedError

    def _leader_seen_by(self, client: httpx2.Client, node: int) -> int | None:
        """Whom a node that is up and ready takes for the leader."""
        raise NotImplementedError

    def wait_whole(self) -> int:
        """The leader, once all nodes are ready and name the same."""
        deadline = time.monotonic() + WHOLE_TIMEOUT_S
        with httpx2.Client(timeout=2.0, trust_env=False) as client:
            while True:
                seen = {self._seen(client, node) for node in range(NODES)}
                leader = next(iter(seen))
                if len(seen) == 1 and leader is not None:
                    return leader
                assert time.monotonic() < deadline, (
                    f"{self.name} did not become whole: the nodes name {seen}\n{self._last_words()}"
                )
                time.sleep(POLL_S)

    def _last_words(self) -> str:
        """The ends of the nodes' logs."""
        raise NotImplementedError

    def _seen(self, client: httpx2.Client, node: int) -> int | None:
        try:
            return self._leader_seen_by(client, node)
        except httpx2.HTTPError:
            return None


class Balsa(System):
    """Three processes of `balsadb serve`."""

    name = "balsadb"

    def __init__(self, folder: Path) -> None:
        plan = ClusterPlan.on_free_ports(NODES)
        self._cluster = LocalCluster.create_or_open(folder / self.name, plan)
        self.urls = [node.url for node in self._cluster.nodes]

    def start(self) -> None:
        """With a collection of short vectors."""
        self._cluster.start()
        self._cluster.wait_ready()
        self.wait_whole()
        schema = msgspec.json.encode({"vectors": {"size": 4, "distance": "Cosine"}})
        with httpx2.Client(timeout=30.0, trust_env=False) as client:
            url = f"{self.urls[0]}/collections/{COLLECTION}"
            client.put(url, content=schema).raise_for_status()
            self.version = client.get(self.urls[0]).json()["version"]

    def stop(self) -> None:
        """Paused ones too."""
        for node in self._cluster.nodes:
            node.send(signal.SIGCONT)
        self._cluster.stop()

    def write(self, turn: int) -> Write:
        """A point."""
        key = turn % RECORDS
        point = {"id": key, "vector": [1.0, 2.0, 3.0, key], "payload": {"value": VALUE}}
        body = msgspec.json.encode({"points": [point]})
        return Write("PUT", f"/collections/{COLLECTION}/points?wait=true", body)

    def send(self, node: int, number: signal.Signals) -> None:
        """Send the node's process a signal."""
        self._cluster.nodes[node].send(number)

    def is_gone(self, node: int) -> bool:
        """Whether the node's process has ended."""
        return self._cluster.nodes[node].pid is None

    def restart(self, node: int) -> None:
        """Start the node again, on its old data."""
        self._cluster.nodes[node].start()

    def _last_words(self) -> str:
        return "\n".join(
            f"node {node.number} ({node.pid or 'ended'}): {node.last_log_lines()}"
            for node in self._cluster.nodes
        )

    def _leader_seen_by(self, client: httpx2.Client, node: int) -> int | None:
        if client.get(f"{self.urls[node]}/readyz").status_code != httpx2.codes.OK:
            return None
        status = client.get(f"{self.urls[node]}/cluster").json()["result"]["balsadb"]
        return status["leader"] - 1 if status["leader"] else None


class Etcd(System):
    """Three processes of etcd; writes go through its gateway from JSON to gRPC."""

    name = "etcd"

    def __init__(self, folder: Path) -> None:
        program = shutil.which("etcd")
        assert program is not None, "etcd is not on the PATH"
        self._program = program
        self._folder = folder / self.name
        self._folder.mkdir(parents=True)
        plan = ClusterPlan.on_free_ports(NODES)
        self.urls = [f"http://{plan.host}:{port}" for port in plan.ports]
        self._peers = [f"http://{plan.host}:{port}" for port in plan.peer_ports]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._members: dict[str, int] = {}
        """Member id -> node."""

    def start(self) -> None:
        """Start all and wait for a leader."""
        for node in range(NODES):
            self.restart(node)
        self.wait_whole()
        with httpx2.Client(timeout=5.0, trust_env=False) as client:
            self.version = client.get(f"{self.urls[0]}/version").json()["etcdserver"]

    def stop(self) -> None:
        """All at once: nothing of it is needed any more."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def write(self, turn: int) -> Write:
        """A key and its value."""
        key = b64encode(f"{COLLECTION}/{turn % RECORDS}".encode()).decode()
        value = b64encode(VALUE.encode()).decode()
        return Write("POST", "/v3/kv/put", msgspec.json.encode({"key": key, "value": value}))

    def send(self, node: int, number: signal.Signals) -> None:
        """Send the node's process a signal."""
        self._processes[node].send_signal(number)

    def is_gone(self, node: int) -> bool:
        """Whether the node's process has ended."""
        return self._processes[node].poll() is not None

    def restart(self, node: int) -> None:
        """Start the node again, on its old data."""
        everybody = ",".join(f"node{i}={peer}" for i, peer in enumerate(self._peers))
        options = {
            "name": f"node{node}",
            "data-dir": str(self._folder / f"node{node}"),
            "listen-client-urls": self.urls[node],
            "advertise-client-urls": self.urls[node],
            "listen-peer-urls": self._peers[node],
            "initial-advertise-peer-urls": self._peers[node],
            "initial-cluster": everybody,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        with (self._folder / f"node{node}.log").open("ab") as log:
            self._processes[node] = subprocess.Popen(
                [self._program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _last_words(self) -> str:
        logs = (self._folder / f"node{node}.log" for node in range(NODES))
        return "\n".join(log.read_text(errors="replace")[-1000:] for log in logs)

    def _leader_seen_by(self, client: httpx2.Client, node: int) -> int | None:
        if client.get(f"{self.urls[node]}/health").status_code != httpx2.codes.OK:
            return None
        found = client.post(f"{self.urls[node]}/v3/maintenance/status", content=b"{}")
        status: dict[str, Any] = found.json()
        self._members[status["header"]["member_id"]] = node
        return self._members.get(status.get("leader", ""))

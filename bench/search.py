"""How long one search takes: in this process, and over REST on three nodes with one client.

    python bench/search.py          # prints JSON; figures in milliseconds

Films, 10 nearest, ef 64, one thread, one kept-alive connection; after a warm-up. The figures that
must hold stand beside those measured.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import balsadb
from balsadb.cli import films
from balsadb.cli.local_cluster import ClusterPlan, LocalCluster
from balsadb.client import Client

QUERIES = 1000
WARM_UP = 100
EF = 64
MOST_MS = {
    "in_process": 0.15,
    "rest_leader": 2.0,
    "rest_follower": 3.0,
    "rest_local": 1.2,
    "rest_filtered": 5.0,
}
FILTER = {
    "must": [
        {"key": "genres", "match": {"value": "Drama"}},
        {"key": "year", "range": {"gte": 1980, "lt": 2000}},
    ]
}


def measure(step: Callable[[int], object]) -> dict[str, float]:
    """Percentiles of `step(i)` in milliseconds."""
    for turn in range(WARM_UP):
        step(turn)
    times: list[float] = []
    for turn in range(QUERIES):
        began = time.perf_counter()
        step(turn)
        times.append((time.perf_counter() - began) * 1e3)
    cuts = statistics.quantiles(times, n=100)
    return {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3), "p99": round(cuts[98], 3)}


def in_process(data: films.Films) -> dict[str, float]:
    """The bare index."""
    index = balsadb.Index(data.vectors.shape[1], "Cosine")
    index.add(data.vectors)
    return measure(lambda turn: index.search(data.vectors[turn : turn + 1], 10, ef=EF))


def over_rest(data: films.Films, folder: Path) -> dict[str, dict[str, float]]:
    """Three node processes."""
    cluster = LocalCluster.create_or_open(folder, ClusterPlan.on_free_ports(3))
    try:
        cluster.start()
        cluster.wait_ready()
        return ask(data, [Client(node.url) for node in cluster.nodes])
    finally:
        cluster.stop()


def ask(data: films.Films, clients: list[Client]) -> dict[str, dict[str, float]]:
    """Load, wait for the graph, and measure."""
    clients[0].create_collection("films", {"size": data.vectors.shape[1], "distance": "Cosine"})
    clients[0].create_payload_index("films", "genres", "keyword")
    clients[0].create_payload_index("films", "year", "integer")
    clients[0].upload("films", data.vectors, payloads=data.payloads)
    while any(client.cluster()["balsadb"]["tail"] for client in clients):
        time.sleep(0.1)
    time.sleep(2)  # what the load left to do (a checkpoint) is not what is measured
    roles = [client.cluster()["balsadb"]["role"] for client in clients]
    leader = clients[roles.index("leader")]
    follower = clients[roles.index("follower")]
    local = follower.with_options(local=True)
    rows = np.random.default_rng(1).permutation(len(data.vectors))

    def search(client: Client, **options: Any) -> dict[str, float]:
        return measure(
            lambda turn: client.query(
                "films", data.vectors[rows[turn]], limit=10, ef=EF, with_payload=False, **options
            )
        )

    return {
        "rest_leader": search(leader),
        "rest_follower": search(follower),
        "rest_local": search(local),
        "rest_filtered": search(leader, filter=FILTER),
    }


def main() -> int:
    """Measure, print, and say by the exit code whether every figure holds."""
    data = films.load()
    with tempfile.TemporaryDirectory(prefix="balsadb-bench-") as folder:
        found = {"in_process": in_process(data), **over_rest(data, Path(folder))}
    for name, figures in found.items():
        figures["p50_most"] = MOST_MS[name]
    print(msgspec.json.format(msgspec.json.encode(found)).decode())
    return 0 if all(figures["p50"] <= figures["p50_most"] for figures in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

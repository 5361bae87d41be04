"""All nodes die at once in the middle of a load; what was acknowledged is there afterwards."""

import http.client
import re
import threading
import time
from pathlib import Path

import pytest

from balsadb.cli import films
from balsadb.client import Client, Options
from balsadb.client.uploads import parts
from balsadb.errors import BalsaError
from tests.chaos.clusters import figures, missing_on, running, wait_for

pytestmark = pytest.mark.chaos

COLLECTION = "films"
BATCH = 256
READY_S = 15.0
"""Three times what an idle machine with two cores needs at most."""


@pytest.mark.parametrize("killed_after", [5_000, 20_000])
def test_kill_all_during_a_load(tmp_path: Path, killed_after: int) -> None:
    found = films.load()
    with running(tmp_path, 3) as cluster:
        acknowledged: list[int] = []
        enough = threading.Event()

        def load() -> None:
            options = Options(timeout_s=2.0, tries_max=1)
            with Client(cluster.nodes[0].url, options=options) as client:
                calls = parts(COLLECTION, found.vectors, {"batch_size": BATCH})
                for number, part in enumerate(calls):
                    try:
                        client.call(part.call)
                    except BalsaError:
                        return
                    acknowledged.extend(range(number * BATCH, number * BATCH + part.points))
                    if len(acknowledged) >= killed_after:
                        enough.set()

        with Client(cluster.nodes[0].url) as client:
            client.create_collection(COLLECTION, {"size": 128, "distance": "Cosine"})
        loader = threading.Thread(target=load)
        loader.start()
        assert enough.wait(60)
        linked = max(figures(node)["linked"] for node in cluster.nodes)
        for node in cluster.nodes:
            node.send(9)
        for node in cluster.nodes:
            assert node.wait_gone(5)
        loader.join(30)
        assert killed_after <= len(acknowledged) < len(found.vectors)

        began = time.monotonic()
        cluster.start()
        cluster.wait_ready()
        ready_s = time.monotonic() - began
        print(f"ready after {ready_s:.2f} s with {len(acknowledged)} points, {linked} linked")
        assert ready_s < READY_S
        # The graph is there as it was: nothing was computed before ready. After that only the
        # new leader computes, for rows not linked yet.
        for node in cluster.nodes:
            assert metric(node.host, node.port, "balsadb_distances_at_ready") == 0
        computed = [metric(n.host, n.port, "balsadb_distances_total") for n in cluster.nodes]
        assert sorted(computed)[:2] == [0, 0]
        assert max(figures(node)["linked"] for node in cluster.nodes) >= linked
        with Client(cluster.nodes[0].url) as client:
            assert client.verify()["equal"]
        for node in cluster.nodes:
            assert missing_on(node, COLLECTION, acknowledged) == []
        # The load goes on where it was cut, and the graph takes everything.
        with Client(cluster.nodes[1].url) as client:
            client.upload(COLLECTION, found.vectors)
            assert client.count(COLLECTION) == len(found.vectors)
            wait_for(lambda: all(figures(n).get("tail") == 0 for n in cluster.nodes), 120)
            assert client.verify()["equal"]


def metric(host: str, port: int, name: str) -> float:
    """A figure of the node's metrics."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])

"""Five nodes lose two, then a third, and come back."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from balsadb.client import Client, Options
from balsadb.errors import Unavailable
from tests.chaos.clusters import figures, leader_of, missing_on, running, vectors, wait_for

pytestmark = pytest.mark.chaos

COLLECTION = "things"
TIMEOUT_S = 4.0


def test_two_of_five_may_die_and_a_third_costs_writes_only(tmp_path: Path) -> None:
    with running(tmp_path, 5) as cluster:
        data = vectors(500)
        urls = [node.url for node in cluster.nodes]
        with Client(urls) as client:
            client.create_collection(COLLECTION, {"size": data.shape[1], "distance": "Cosine"})
            client.upload(COLLECTION, data)

        leader = leader_of(cluster)
        others = [node for node in cluster.nodes if node is not leader]
        leader.kill()
        others[0].kill()
        alive = others[1:]
        with Client([node.url for node in alive]) as client:
            client.upload(COLLECTION, data[:50], ids=range(1000, 1050))
            assert client.count(COLLECTION) == 550
            assert [point.id for point in client.query(COLLECTION, data[7], limit=1)] == [7]

        third = leader_of(cluster)
        assert third in alive
        third.send(signal.SIGKILL)
        third.wait_gone(5)
        left = [node for node in alive if node is not third]
        # A write that was on its way to the dead leader hears of that; later ones of the quorum.
        wait_for(lambda: all(figures(node).get("leader") == 0 for node in left), 10)
        for node in left:
            refuse_writes_but_search(node.url, data)

        cluster.start()
        cluster.wait_ready()
        for node in cluster.nodes:
            assert missing_on(node, COLLECTION, [*range(500), *range(1000, 1050)]) == []
        with Client(urls) as client:
            assert client.verify()["equal"]


def refuse_writes_but_search(url: str, data: NDArray[np.float32]) -> None:
    options = Options(timeout_s=TIMEOUT_S, tries_max=1)
    with Client(url, options=options) as client:
        began = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            client.upsert_batch(COLLECTION, [5000], data[:1])
        # Within the request's own time-out, and what a slow machine adds.
        assert time.monotonic() - began < TIMEOUT_S + 2
        assert caught.value.status_code == 503
        assert caught.value.outcome in {"failed", "unknown"}
        assert "quorum" in caught.value.message.lower() or "majority" in caught.value.message
        local = client.with_options(local=True)
        assert [point.id for point in local.query(COLLECTION, data[9], limit=1)] == [9]
        with pytest.raises(Unavailable):
            client.query(COLLECTION, data[9], limit=1)

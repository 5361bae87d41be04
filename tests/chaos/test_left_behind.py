"""A node that was away while the log was compacted past it comes back by snapshot, under load."""

import time
from pathlib import Path

import pytest

from balsadb.cli import films
from balsadb.cli.failover import Searcher, Writer
from balsadb.client import Client
from tests.chaos.clusters import figures, leader_of, missing_on, running, wait_for

pytestmark = pytest.mark.chaos

COLLECTION = "films"


@pytest.mark.parametrize("kills", [0, 3])
def test_rejoin_by_snapshot_under_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    monkeypatch.setenv("BALSADB_CHECKPOINT_LOG_BYTES", str(1 << 20))
    monkeypatch.setenv("BALSADB_LOG_TAIL_BYTES", str(128 << 10))
    found = films.load()
    with running(tmp_path, 3) as cluster:
        with Client([node.url for node in cluster.nodes]) as client:
            client.create_collection(COLLECTION, {"size": 128, "distance": "Cosine"})
            client.upload(COLLECTION, found.vectors[:500])
        away = next(node for node in cluster.nodes if node is not leader_of(cluster))
        applied = figures(away)["applied"]
        away.kill()
        others = [node for node in cluster.nodes if node is not away]
        urls = [node.url for node in others]
        with Client(urls) as client:
            client.upload(COLLECTION, found.vectors[:12_000], payloads=found.payloads[:12_000])
        wait_for(lambda: min(figures(node)["first_index"] for node in others) > applied, 60)

        writer = Writer(urls, COLLECTION, found.vectors)
        searchers = [Searcher(url, COLLECTION, found.vectors) for url in urls]
        time.sleep(0.5)
        cluster.start()
        for turn in range(kills):
            # Killed at whatever step of the install it has reached: the old state or the new.
            time.sleep(0.7 + 0.15 * turn)
            away.kill()
            cluster.start()
        cluster.wait_ready()
        wait_for(lambda: figures(away).get("applied", 0) > applied, 60)
        received = figures(away)["snapshot"]["received"]
        searched = [searcher.stop() for searcher in searchers]
        written = writer.stop()
        print(f"{received} snapshots, {len(written.times)} writes, {len(searched[0].times)} reads")

        assert received >= 1 or kills
        assert [outcome.errors for outcome in searched] == [[], []]
        assert written.errors == []
        commit = max(figures(node)["commit"] for node in others)
        wait_for(lambda: figures(away)["applied"] >= commit, 60)
        assert missing_on(away, COLLECTION, [*range(12_000), *writer.written]) == []
        with Client(away.url) as client:
            assert client.verify()["equal"]

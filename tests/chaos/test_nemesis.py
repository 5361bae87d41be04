"""Faults of every kind, one after the other, on nodes in network namespaces, under clients whose
history must be linearizable.

`CHAOS_FAULTS` (30) is how many kills of a leader, how many pauses and how many partitions the long
test makes; `CHAOS_SEED` another order; `CHAOS_REPORT` names a folder for the table of faults and
the histories, which `python -m tests.linearizability` can check again.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from balsadb.cli.local_cluster import LocalCluster, NodeProcess
from balsadb.client import Options
from balsadb.errors import Unavailable
from tests.chaos import nemesis
from tests.chaos.clusters import (
    client_of,
    figures,
    leader_of,
    missing_on,
    networked,
    vectors,
    wait_for,
)
from tests.chaos.load import SIZE, THINGS, Writer, create
from tests.chaos.network import Network
from tests.chaos.recording import Recorded

pytestmark = pytest.mark.chaos

FAULTS = int(os.environ.get("CHAOS_FAULTS", "30"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
SERVES_S = 60.0
"""Within which every node must serve again after a fault; it includes the wait for TCP to repeat
what was lost, which doubles, and a machine that does other things as well."""


@pytest.fixture(autouse=True)
def little_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes write a checkpoint often and keep little of the log: a start applies little again, and
    one that was away for long comes back by snapshot."""
    monkeypatch.setenv("BALSADB_CHECKPOINT_LOG_BYTES", str(256 << 10))
    monkeypatch.setenv("BALSADB_LOG_TAIL_BYTES", str(32 << 10))
    monkeypatch.setenv("BALSADB_WAL_SEGMENT_BYTES", str(1 << 20))


def serves(node: NodeProcess) -> bool:
    """Whether the node takes a write and sees it."""
    with client_of(node, Options(timeout_s=3.0, tries_max=3)) as client:
        try:
            client.upsert_batch(THINGS, [1 << 40], vectors(1, SIZE))
            return len(client.retrieve(THINGS, [1 << 40])) == 1
        except Unavailable:
            return False


@contextmanager
def whole_again(cluster: LocalCluster, network: Network) -> Generator[None]:
    """However it ends, nobody is paused or cut off afterwards."""
    try:
        yield
    finally:
        for node in cluster.nodes:
            node.send(signal.SIGCONT)
            network.plug(node.number)
        network.heal()


def run(folder: Path, network: Network, each: int, seed: int) -> None:
    """Do a deck of faults under load; fails if anything acknowledged is missing, a node differs, or
    the history has no explanation."""
    report = Path(os.environ.get("CHAOS_REPORT", folder))
    report.mkdir(parents=True, exist_ok=True)
    done: Counter[str] = Counter()
    chance = random.Random(seed)
    began = time.monotonic()
    with networked(folder, network) as cluster:
        slow = network.worsen(1, "delay", "1ms") and network.worsen(1)
        deck = nemesis.deck(chance, each, slow=slow)
        with whole_again(cluster, network):
            create(cluster.nodes)
            load, writer = Recorded(cluster), Writer(cluster.nodes, pause_s=0.05)
            try:
                for number, fault in enumerate(deck, 1):
                    fault(nemesis.Scene(cluster, network, chance))
                    cluster.start()
                    cluster.wait_ready()
                    # All of it lives again: otherwise one fault could hide behind the next.
                    for node in cluster.nodes:
                        wait_for(lambda node=node: serves(node), SERVES_S)
                    load.next_collection()
                    done[fault.__name__] += 1
                    at = time.monotonic() - began
                    print(f"{at:6.1f} s {number:3} {fault.__name__}", flush=True)
            finally:
                network.heal()
                try:
                    writer.stop()
                    load.stop()
                finally:
                    load.recorder.write(report / f"history-{each}-{seed}.jsonl")
        terms = figures(leader_of(cluster))["term"]
        netem = "used" if slow else "not in this kernel"
        took_s = time.monotonic() - began
        lines = (
            nemesis.table(done),
            "",
            f"seed {seed}, {took_s:.0f} s, term {terms} at the end; netem {netem}",
            load.recorder.check(),
            f"{len(writer.written)} points acknowledged, {writer.unavailable} not",
        )
        text = "\n".join(lines)
        (report / f"faults-{each}-{seed}.md").write_text(text + "\n")
        print(text)
        check_the_end(cluster, writer)
    assert nemesis.counted(done, nemesis.LEADER_KILLS) >= each
    assert nemesis.counted(done, nemesis.PAUSES) >= each
    assert nemesis.counted(done, nemesis.PARTITIONS) >= each
    assert set(done) == {fault.__name__ for fault in deck}


def check_the_end(cluster: LocalCluster, writer: Writer) -> None:
    """Every node has what was acknowledged, and all have the same."""
    with client_of(cluster.nodes) as client:
        found = client.verify()
        assert found["equal"], found["differing"]
        assert len(found["nodes"]) == len(cluster.nodes)
    assert len(writer.written) > 100
    for node in cluster.nodes:
        assert missing_on(node, THINGS, writer.written) == []


def test_every_kind_of_fault_once(tmp_path: Path, network: Network) -> None:
    run(tmp_path, network, 1, SEED)


@pytest.mark.timeout(3600)
def test_thirty_of_each(tmp_path: Path, network: Network) -> None:
    run(tmp_path, network, FAULTS, SEED + 1)

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
from balsadb.client import Client, Options
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
from tests.chaos.load import Worker
from tests.chaos.network import Network, why_not
from tests.chaos.recording import OPTIONS, Recorded, create

WHY_NOT = why_not()
pytestmark = [pytest.mark.chaos, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]

FAULTS = int(os.environ.get("CHAOS_FAULTS", "30"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
THINGS = "things"
SERVES_S = 60.0
"""Within which every node must serve again after a fault; it includes the wait for TCP to repeat
what was lost, which doubles, and a machine that does other things as well."""


class Writer:
    """Stores points one by one; `written` are those that were acknowledged."""

    def __init__(self, client: Client) -> None:
        self.written: list[int] = []
        self._client = client
        self._data = vectors(64, 4)

    def step(self, turn: int) -> None:
        """Store the next point."""
        self._client.upsert_batch(THINGS, [turn], self._data[turn % 64][None])
        self.written.append(turn)


def serves(node: NodeProcess) -> bool:
    """Whether the node takes a write and sees it."""
    with client_of(node, Options(timeout_s=3.0, tries_max=3)) as client:
        try:
            client.upsert_batch(THINGS, [1 << 40], vectors(1, 4))
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


def run(folder: Path, each: int, seed: int) -> None:
    """Do a deck of faults under load; fails if anything acknowledged is missing, a node differs, or
    the history has no explanation."""
    network = Network(3)
    done: Counter[str] = Counter()
    chance = random.Random(seed)
    began = time.monotonic()
    with network.up(), networked(folder, network) as cluster:
        slow = network.worsen(1, "delay", "1ms") and network.worsen(1)
        deck = nemesis.deck(chance, each, slow=slow)
        with client_of(cluster.nodes, OPTIONS) as client, whole_again(cluster, network):
            create(client, THINGS)
            load, writer = Recorded(cluster), Writer(client)
            writing = Worker(writer.step, 0.05)
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
                writing.stop()
                load.stop()
        terms = figures(leader_of(cluster))["term"]
        report = Path(os.environ.get("CHAOS_REPORT", folder))
        report.mkdir(parents=True, exist_ok=True)
        netem = "used" if slow else "not in this kernel"
        took_s = time.monotonic() - began
        lines = (
            nemesis.table(done),
            "",
            f"seed {seed}, {took_s:.0f} s, term {terms} at the end; netem {netem}",
            load.recorder.check(report / f"history-{each}-{seed}.jsonl"),
            f"{len(writer.written)} points acknowledged, {writing.unavailable} not",
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


def test_every_kind_of_fault_once(tmp_path: Path) -> None:
    run(tmp_path, 1, SEED)


@pytest.mark.timeout(3600)
def test_thirty_of_each(tmp_path: Path) -> None:
    run(tmp_path, FAULTS, SEED + 1)

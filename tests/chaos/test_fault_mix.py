"""Kills and pauses by chance for half a minute, under writes and reads: never more than a minority
at a time, so the cluster goes on, and nothing that it said is taken back."""

import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balsadb.cli.local_cluster import LocalCluster
from balsadb.client import Client, Options
from tests.chaos.clusters import figures, leader_of, missing_on, running, vectors, wait_for
from tests.chaos.load import Worker

pytestmark = pytest.mark.chaos

COLLECTION = "things"
SIZE = 32
WRITERS = 3
REGISTER = 1
"""The point that one writer counts up, and that every reader must see grow."""
FIRST_ID = 10_000
PAUSES_S = (1.2, 3.0)
"""Longer than an election takes (0.5 to 1 s), so that another leads when the paused one wakes."""
CHAOS_S = 30.0
"""For each size of cluster; a round takes 3 to 6 seconds."""
ROUNDS_MIN = 4
OPTIONS = Options(timeout_s=20.0, tries_max=1000, pause_max_s=0.1)
"""Each write is repeated with its session until it is known to be done."""


class History:
    """What was acknowledged: the ids that must exist, and the register's newest value."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.urls = [node.url for node in cluster.nodes]
        self.written: list[list[int]] = [[] for _ in range(WRITERS)]
        self.deleted: list[int] = []
        self.acknowledged = 0
        self.attempted = 0
        self.seen = 0
        self._lock = threading.Lock()
        self._clients: list[Client] = []

    def client(self, first: int) -> Client:
        """A client of all nodes that asks node `first` first."""
        at = first % len(self.urls)
        made = Client(self.urls[at:] + self.urls[:at], options=OPTIONS)
        self._clients.append(made)
        return made

    def close(self) -> None:
        """Close every client."""
        for client in self._clients:
            client.close()

    def writer(self, number: int) -> Callable[[int], None]:
        """Stores points of its own range, and deletes every tenth again."""
        client = self.client(number)
        data = vectors(64, SIZE, seed=number)
        first = FIRST_ID * (number + 1)

        def step(turn: int) -> None:
            point = first + turn
            client.upsert_batch(COLLECTION, [point], data[turn % 64][None], [{"turn": turn}])
            if turn % 10:
                self.written[number].append(point)
            else:
                client.delete(COLLECTION, [point])
                self.deleted.append(point)

        return step

    def counter(self) -> Callable[[int], None]:
        """Sets the register to 1, 2, 3, ...: the only one to write it."""
        client = self.client(0)

        def step(turn: int) -> None:
            self.attempted = turn + 1
            client.set_payload(COLLECTION, {"value": turn + 1}, [REGISTER])
            self.acknowledged = turn + 1

        return step

    def reader(self, number: int) -> Callable[[int], None]:
        """Reads the register through one node after the other; it never goes back, for all readers
        together, and never behind what was acknowledged before the read."""
        clients = [Client(url, options=Options(timeout_s=5, tries_max=1)) for url in self.urls]
        self._clients += clients

        def step(turn: int) -> None:
            with self._lock:
                least = max(self.acknowledged, self.seen)
            value = register(clients[(turn + number) % len(clients)])
            most = self.attempted
            assert least <= value <= most, f"read {value} after {least} was known, {most} tried"
            with self._lock:
                self.seen = max(self.seen, value)

        return step


def register(client: Client) -> int:
    """The register's value, linearizable."""
    payload: Any = client.get(COLLECTION, REGISTER).payload
    return int(payload["value"])


def harm(cluster: LocalCluster, chance: random.Random) -> str:
    """Kill or pause at most a minority for a while, the leader more often than not; then make all
    of it whole again."""
    minority = (len(cluster.nodes) - 1) // 2
    count = chance.randint(1, minority)
    if chance.random() < 0.6:
        leader = leader_of(cluster)
        others = [node for node in cluster.nodes if node is not leader]
        victims = [leader, *chance.sample(others, count - 1)]
    else:
        victims = chance.sample(cluster.nodes, count)
    said: list[str] = []
    for node in victims:
        if chance.random() < 0.5:
            node.send(signal.SIGSTOP)
            said.append(f"pause {node.number}")
        else:
            node.kill()
            said.append(f"kill {node.number}")
    time.sleep(chance.uniform(*PAUSES_S))
    for node in victims:
        node.send(signal.SIGCONT)
    cluster.start()
    cluster.wait_ready()
    return " ".join(said)


@pytest.mark.parametrize(("nodes", "seed"), [(3, 1), (5, 2)])
def test_kills_and_pauses_under_load(tmp_path: Path, nodes: int, seed: int) -> None:
    chance = random.Random(seed)
    with running(tmp_path, nodes) as cluster:
        history = History(cluster)
        client = history.client(0)
        client.create_collection(COLLECTION, {"size": SIZE, "distance": "Cosine"})
        client.upsert_batch(COLLECTION, [REGISTER], vectors(1, SIZE), [{"value": 0}])
        workers = [Worker(history.writer(number)) for number in range(WRITERS)]
        workers.append(Worker(history.counter()))
        readers = [Worker(history.reader(number)) for number in range(2)]
        rounds: list[str] = []
        terms = {figures(leader_of(cluster))["term"]}
        end = time.monotonic() + CHAOS_S
        try:
            while time.monotonic() < end or len(rounds) < ROUNDS_MIN:
                before = history.acknowledged
                rounds.append(harm(cluster, chance))
                # It lives again: otherwise one fault could hide behind the next.
                wait_for(lambda since=before: history.acknowledged > since + 1, 30)
                terms.add(figures(leader_of(cluster))["term"])
        finally:
            for node in cluster.nodes:
                node.send(signal.SIGCONT)
            for worker in [*workers, *readers]:
                worker.stop()
        print(
            f"{len(rounds)} rounds ({'; '.join(rounds)}), {len(terms)} leaders seen, "
            f"{[worker.done for worker in workers]} writes, {[one.done for one in readers]} reads, "
            f"{[one.unavailable for one in [*workers, *readers]]} unavailable"
        )
        assert len(terms) > 2
        check_the_end(cluster, history)
        history.close()


def check_the_end(cluster: LocalCluster, history: History) -> None:
    """Every node has what was acknowledged, and all have the same."""
    assert history.acknowledged > 100
    with Client(history.urls) as client:
        found = client.verify()
        assert found["equal"], found["differing"]
        assert len(found["nodes"]) == len(cluster.nodes)
        assert history.acknowledged <= register(client) <= history.attempted
    kept = [point for ids in history.written for point in ids]
    assert len(kept) > 100
    for node in cluster.nodes:
        assert missing_on(node, COLLECTION, kept) == []
        assert missing_on(node, COLLECTION, history.deleted) == sorted(history.deleted)

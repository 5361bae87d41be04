"""A leader with all its work to do stays leader, for elections are for the dead and not for the
busy; and whoever waits for a leader that stands still is served by the next one."""

import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from balsadb.cli.local_cluster import LocalCluster
from balsadb.client import Client, Options
from tests.chaos.clusters import figures, leader_of, running, vectors

pytestmark = pytest.mark.chaos

COLLECTION = "things"
SIZE = 128
BATCH = 1000
WRITERS = 3
INGEST_S = 60.0
CORES = 2
PATIENT = Options(timeout_s=60.0, tries_max=1000)
"""Sends again what is refused because vectors come faster than they are linked (429)."""


@contextmanager
def few_cores(count: int) -> Generator[None, None, None]:
    """What is started meanwhile, and this process, share so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def terms(cluster: LocalCluster) -> list[int]:
    """Of all nodes; an election that was only tried shows too, unless its pre-vote was refused."""
    return [figures(node)["term"] for node in cluster.nodes]


def ingest(cluster: LocalCluster, writer: int, end: float, stored: list[int]) -> None:
    """Upsert batches one after another, through one node each; `stored` counts points."""
    urls = [node.url for node in cluster.nodes]
    data = vectors(BATCH, SIZE, seed=writer)
    with Client(urls[writer:] + urls[:writer], options=PATIENT) as client:
        while time.monotonic() < end:
            first = writer * 10_000_000 + stored[writer]
            client.upsert_batch(COLLECTION, range(first, first + BATCH), data)
            stored[writer] += BATCH


def test_no_election_under_full_ingest(tmp_path: Path) -> None:
    with few_cores(CORES), running(tmp_path, 3) as cluster:
        with Client(cluster.nodes[0].url) as client:
            client.create_collection(COLLECTION, {"size": SIZE, "distance": "Cosine"})
        leader = leader_of(cluster)
        before = terms(cluster)
        stored = [0] * WRITERS
        end = time.monotonic() + INGEST_S
        writers = [
            threading.Thread(target=ingest, args=(cluster, writer, end, stored), daemon=True)
            for writer in range(WRITERS)
        ]
        for thread in writers:
            thread.start()
        seen: set[int] = set()
        while time.monotonic() < end:
            seen.update(term for term in (figures(node).get("term", 0) for node in cluster.nodes))
            time.sleep(0.5)
        for thread in writers:
            thread.join(120)
            assert not thread.is_alive()
        after = terms(cluster)
        holds = [figures(node)["longest_lock_hold"] for node in cluster.nodes]
        print(f"{sum(stored)} points, terms {before} to {after}, longest lock holds {holds}")
        assert all(stored), "every writer must have written"
        assert seen - {0} == set(before) == set(after)
        assert leader_of(cluster).number == leader.number


def test_a_write_handed_to_a_leader_that_stands_still_is_done_by_the_next(tmp_path: Path) -> None:
    """A paused process still has its connections: nothing but the election tells the follower that
    no answer will come, and a client would wait until its own patience ends."""
    with running(tmp_path, 3) as cluster:
        leader = leader_of(cluster)
        follower = next(node for node in cluster.nodes if node is not leader)
        with Client(follower.url, options=PATIENT) as client:
            client.create_collection(COLLECTION, {"size": SIZE, "distance": "Cosine"})
            client.upsert_batch(COLLECTION, [1], vectors(1, SIZE))
            leader.send(signal.SIGSTOP)
            try:
                began = time.monotonic()
                client.upsert_batch(COLLECTION, [2], vectors(1, SIZE))
                took_s = time.monotonic() - began
            finally:
                leader.send(signal.SIGCONT)
            assert took_s < PATIENT.timeout_s / 4
            assert client.count(COLLECTION) == 2

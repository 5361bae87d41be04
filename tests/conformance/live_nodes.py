"""What the tests of real node processes ask of each node, beside its REST dialect."""

import http.client
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest

from balsadb.cli.local_cluster import LocalCluster, NodeProcess
from balsadb.client import Client, Options
from tests.chaos.clusters import figures, leader_of, wait_for

T = TypeVar("T")

QUIET_S = 60.0


def metric(node: NodeProcess, name: str) -> float:
    """The figure without labels of that name in the node's metrics."""
    connection = http.client.HTTPConnection(node.host, node.port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return float(value)
    raise AssertionError(f"no {name} in the metrics of node {node.number}")


def metrics(cluster: LocalCluster, name: str) -> list[float]:
    """The figure on every node."""
    return [metric(node, name) for node in cluster.nodes]


def by_role(cluster: LocalCluster) -> tuple[NodeProcess, list[NodeProcess]]:
    """The leader and its followers."""
    leader = leader_of(cluster)
    return leader, [node for node in cluster.nodes if node is not leader]


def statuses(cluster: LocalCluster) -> list[dict[str, Any]]:
    """What every node says of itself; fails if one does not answer."""
    found = [figures(node) for node in cluster.nodes]
    assert all(found)
    return found


def wait_linked(cluster: LocalCluster) -> None:
    """Return when every vector is in the graph on every node, and all applied the same log."""

    def is_quiet() -> bool:
        found = statuses(cluster)
        same = len({one["applied"] for one in found}) == 1
        return same and all(one["tail"] == 0 and one["applied"] == one["commit"] for one in found)

    wait_for(is_quiet, QUIET_S)


def during_one_term(cluster: LocalCluster, measure: Callable[[NodeProcess], T]) -> T:
    """What `measure(leader)` returns, from a try during which nobody else led."""
    for _ in range(3):
        leader = leader_of(cluster)
        before = figures(leader)
        found = measure(leader)
        after = figures(leader)
        if (after["role"], after["term"]) == ("leader", before["term"]):
            return found
    pytest.fail("the leader changed three times while nothing was killed")


def at_one_index(
    cluster: LocalCluster, ask: Callable[[Client], Sequence[T]]
) -> tuple[int, list[Sequence[T]]]:
    """The applied index, and the answers of all nodes at it, each read from that node alone."""
    deadline = time.monotonic() + QUIET_S
    while True:
        wait_linked(cluster)
        before = {one["applied"] for one in statuses(cluster)}
        answers: list[Sequence[T]] = []
        for node in cluster.nodes:
            with Client(node.url, options=Options(local=True)) as client:
                answers.append(ask(client))
        after = {one["applied"] for one in statuses(cluster)}
        if before == after and len(before) == 1:
            return before.pop(), answers
        assert time.monotonic() < deadline, "the log never rests"

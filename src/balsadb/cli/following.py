"""A local cluster follows its members: who was removed is stopped and not started again, who moved
is started at the new place, who is told to come comes.

The plan in `cluster.json` says who was there when it was written; the nodes that run know who is a
member now. Whoever starts or shows the cluster asks them first.
"""

import http.client
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from balsadb.api.options import API_KEY_HEADER
from balsadb.cli import local_cluster
from balsadb.cli.local_cluster import LocalCluster, NodeProcess
from balsadb.cli.plan import ClusterPlan
from balsadb.cli.settings import ENVIRONMENT_PREFIX
from balsadb.errors import InvalidInput

Say = Callable[[str], None]


class News(NamedTuple):
    """What a running node knows of the members."""

    applied: int
    addresses: dict[int, str]
    removed: frozenset[int]

    def elsewhere(self, plan: ClusterPlan) -> dict[int, str]:
        """Members that the plan's folder does not hold."""
        return {n: at for n, at in sorted(self.addresses.items()) if n not in plan.numbers}


def ask(cluster: LocalCluster) -> News | None:
    """What the node that has applied most knows; None if none answers."""
    found = [news for node in cluster.all_nodes if node.pid and (news := _ask_node(node))]
    return max(found, key=lambda news: news.applied, default=None)


def followed(plan: ClusterPlan, news: News) -> ClusterPlan:
    """The plan, brought up to date."""
    moved = dict(plan.moved)
    for number in plan.numbers:
        host, _, port = news.addresses.get(number, "").rpartition(":")
        if host == plan.host and port.isdecimal() and int(port) != plan.ports_of(number)[1]:
            moved[number] = int(port)
    gone = sorted({*plan.gone, *(one for one in plan.numbers if one in news.removed)})
    return msgspec.structs.replace(plan, moved=moved, gone=tuple(gone))


def follow(cluster: LocalCluster, say: Say) -> LocalCluster:
    """The cluster as its members are now; what is written down follows, and nodes that were removed
    or run where nobody looks for them are stopped. Hold the folder's lock."""
    news = ask(cluster)
    plan = cluster.plan if news is None else followed(cluster.plan, news)
    if plan != cluster.plan:
        local_cluster.write_plan(cluster.folder, plan)
    now = LocalCluster(cluster.folder, plan)
    gone = [node for node in now.all_nodes if node.number in plan.gone and node.pid]
    before = {node.number: node.peer_port for node in cluster.all_nodes}
    moved = [node for node in now.nodes if node.peer_port != before[node.number] and node.pid]
    for node in gone:
        say(f"node {node.number} was removed from the cluster: stopping it")
    for node in moved:
        say(f"node {node.number} moved to {node.host}:{node.peer_port}: stopping it here")
    local_cluster.end([*gone, *moved])
    return now


def bring_up(cluster: LocalCluster, timeout_s: float, say: Say) -> tuple[LocalCluster, list[int]]:
    """Start the members that do not run, and return when all are ready: the cluster as it is then,
    and who was started. NotReady when one ended or the time is over.

    Nodes that have just started may be those that know who was removed, so they are asked, too.
    """
    deadline = time.monotonic() + timeout_s
    started: list[int] = []
    cluster = follow(cluster, say)
    while True:
        now = cluster
        started += now.start(say)

        def look(now: LocalCluster = now) -> None:
            after = follow(now, say)
            if after.plan != now.plan:
                raise _Changed(after)

        try:
            now.wait_ready(deadline - time.monotonic(), say, look)
            return now, started
        except _Changed as change:
            cluster = change.cluster


def grow(cluster: LocalCluster, number: int, say: Say) -> NodeProcess:
    """Start one node more in the folder, which joins the cluster; returns when it is ready.

    InvalidInput for a number that cannot be, before anything is touched; NotReady if the cluster
    does not take it in: the folder forgets it then. Hold the folder's lock.
    """
    cluster.plan.check_new(number)
    news = ask(cluster)
    if news is not None:
        _check_unknown(news, followed(cluster.plan, news).grown(number), number)
    cluster = follow(cluster, say)
    grown = LocalCluster(cluster.folder, cluster.plan.grown(number))
    local_cluster.write_plan(grown.folder, grown.plan)
    [node] = [one for one in grown.nodes if one.number == number]
    say(f"starting node {number} on {node.url}")
    try:
        node.start()
        local_cluster.wait_ready([node], on_event=say)
    except BaseException:
        if not (node.data / "JOINED").exists():  # it was not taken in
            local_cluster.end([node])
            local_cluster.write_plan(cluster.folder, cluster.plan)
            local_cluster.delete(node)
        raise
    return node


def _check_unknown(news: News, grown: ClusterPlan, number: int) -> None:
    """InvalidInput if a node elsewhere has or had the number: it would start only to be refused."""
    here = f"{grown.host}:{grown.ports_of(number)[1]}"
    at = news.addresses.get(number, here)  # taken in before its start, it is known here already
    if number not in news.removed and at == here:
        return
    why = "was removed from this cluster" if number in news.removed else f"is a member, at {at}"
    free = max({*grown.numbers, *news.addresses, *news.removed}) + 1
    raise InvalidInput(
        "number", f"node {number} {why}, and a number is never used again; {free} is free"
    )


class _Changed(Exception):
    """Other nodes than those waited for are members now."""

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__()
        self.cluster = cluster


def _ask_node(node: NodeProcess) -> News | None:
    key = os.environ.get(f"{ENVIRONMENT_PREFIX}API_KEY", "")
    connection = http.client.HTTPConnection(node.host, node.port, timeout=2)
    try:
        connection.request("GET", "/cluster", headers={API_KEY_HEADER: key} if key else {})
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            return None
        figures: dict[str, Any] = msgspec.json.decode(answer.read())["result"]["balsadb"]
        addresses = {int(n): str(at) for n, at in figures["member_addresses"].items()}
        return News(int(figures["applied"]), addresses, frozenset(figures["removed"]))
    except (OSError, http.client.HTTPException, msgspec.DecodeError, KeyError, TypeError):
        return None
    finally:
        connection.close()

"""`balsadb cluster members|add|move|promote|remove|transfer`: who belongs to a running cluster.

Nodes of a local cluster's folder are started, restarted and stopped as it is decided here; of nodes
elsewhere only the cluster hears.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from balsadb.cli import following, local_cluster
from balsadb.cli.clusters import DATA, ApiKey, Folder, Url, addresses, say
from balsadb.cli.clusters import app as clusters
from balsadb.cli.local_cluster import READY_TIMEOUT_S, LocalCluster
from balsadb.cli.output import AsJson, Output, Shown, show, wants_json
from balsadb.cli.plan import require_free
from balsadb.cluster.settings import is_address
from balsadb.errors import AlreadyExists, InvalidInput

COLUMNS = ("id", "address", "role", "leader", "lag", "state", "active")

Node = Annotated[int, typer.Argument(help="The node's number.")]
Force = Annotated[bool, typer.Option("--force", help="Though the rest has no majority.")]
Address = Annotated[str, typer.Argument(help="Its peer address, host:port.")]
NewAddress = Annotated[
    str | None,
    typer.Argument(help="Its peer address, host:port. None: start it here, in the folder."),
]


def _ask(
    data: Path,
    url: str | None,
    api_key: str,
    what: Callable[[Any], Any],
    about: int | None = None,
) -> Any:
    from balsadb.client import Client

    with Client(addresses(data, url, about)) as client:
        return what(client.with_options(api_key=api_key))


@clusters.command()
def members(
    *,
    data: Folder = DATA,
    url: Url = None,
    api_key: ApiKey = "",
    output: Shown = Output.TABLE,
    as_json: AsJson = False,
) -> None:
    """Who belongs to the cluster, and how many entries of the log each one is behind the leader."""
    found = _ask(data, url, api_key, lambda client: client.members())
    show(found, COLUMNS, as_json=wants_json(output, as_json))


@clusters.command()
def add(
    node: Node,
    address: NewAddress = None,
    *,
    data: Folder = DATA,
    url: Url = None,
    api_key: ApiKey = "",
) -> None:
    """Take in a node. It learns, without a vote, until it is promoted.

    With an address: a node that runs there (one that was started with --join has done this by
    itself). Without: a new node of the folder's cluster on this machine, which is started.
    """
    if address is not None:
        _ask(data, url, api_key, lambda client: client.add_member(node, address), node)
        print(f"node {node} at {address} is a member")
        return
    if url is not None:
        raise InvalidInput("ADDRESS", "must be given with --url: the peer address of the node")
    with local_cluster.exclusive(data):
        started = following.grow(LocalCluster.open(data), node, say)
    print(f"node {node}  {started.url}  pid {started.pid}  learns")
    print(f"once it has caught up, give it a vote: balsadb cluster promote {node}")


@clusters.command()
def move(
    node: Node, address: Address, *, data: Folder = DATA, url: Url = None, api_key: ApiKey = ""
) -> None:
    """A member has another peer address from now on. A node of the folder is started again there;
    any other is for you to start there."""
    cluster = None if url is not None else LocalCluster.open(data)
    if not is_address(address):
        raise InvalidInput("ADDRESS", f"must be host:port, not {address!r}")
    host, _, port = address.rpartition(":")
    ours = cluster is not None and node in cluster.plan.numbers and host == cluster.plan.host
    if cluster is None or not ours:
        _ask(data, url, api_key, lambda client: client.move_member(node, address), node)
        print(f"node {node} is looked for at {address}: start it there, with the same data")
        return
    with local_cluster.exclusive(data):
        if int(port) != cluster.plan.ports_of(node)[1]:
            known = _ask(data, url, api_key, lambda client: client.members(), node)
            # The member itself may be known there already: what was done is no error.
            _require_nobody(cluster, [one for one in known if one["id"] != node], address)
            require_free(node, host, int(port), "another address")
        _ask(data, url, api_key, lambda client: client.move_member(node, address), node)
        following.bring_up(cluster, READY_TIMEOUT_S, say)
    print(f"node {node} runs at {address}")


def _require_nobody(cluster: LocalCluster, known: list[dict[str, Any]], address: str) -> None:
    """AlreadyExists if a node has the address: the ports alone would not say which."""
    taken = [f"node {one['id']} has it" for one in known if one["address"] == address]
    client = cluster.plan.client_of(int(address.rpartition(":")[2]))
    if client is not None:
        taken.append(f"the clients of node {client} come to it")
    if taken:
        raise AlreadyExists(f"the address {address} already exists: {taken[0]}. Choose another one")


@clusters.command()
def promote(node: Node, *, data: Folder = DATA, url: Url = None, api_key: ApiKey = "") -> None:
    """Give a learner that has caught up a vote."""
    _ask(data, url, api_key, lambda client: client.promote_member(node), node)
    print(f"node {node} votes")


@clusters.command()
def remove(
    node: Node,
    *,
    force: Force = False,
    data: Folder = DATA,
    url: Url = None,
    api_key: ApiKey = "",
) -> None:
    """Take a member out, for good: its number is never used again. A node of the folder is stopped;
    any other is for you to stop."""
    _ask(data, url, api_key, lambda client: client.remove_member(node, force=force), node)
    print(f"node {node} is no member any more")
    if url is None:
        with local_cluster.exclusive(data):
            following.follow(LocalCluster.open(data), say)


@clusters.command()
def transfer(node: Node, *, data: Folder = DATA, url: Url = None, api_key: ApiKey = "") -> None:
    """Hand leadership to a voter."""
    _ask(data, url, api_key, lambda client: client.transfer(node), node)
    print(f"node {node} leads")

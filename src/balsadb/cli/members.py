"""`balsadb cluster members|add|move|promote|remove|transfer`: who belongs to a running cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from balsadb.cli.clusters import DATA, ApiKey, AsJson, Folder, Output, Shown, Url, addresses, table
from balsadb.cli.clusters import app as clusters

COLUMNS = ("id", "address", "role", "leader", "lag", "state", "active")

Node = Annotated[int, typer.Argument(help="The node's number.")]
Force = Annotated[bool, typer.Option("--force", help="Though the rest has no majority.")]
Address = Annotated[str, typer.Argument(help="Its peer address, host:port.")]


def _ask(data: Path, url: str | None, api_key: str, what: Callable[[Any], Any]) -> Any:
    from balsadb.client import Client

    with Client(addresses(data, url)) as client:
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
    """Who belongs to the cluster, and how far behind the leader each one is."""
    found = _ask(data, url, api_key, lambda client: client.members())
    if as_json or output is Output.JSON:
        print(msgspec.json.encode(found).decode())
        return
    table(COLUMNS, [["-" if one[k] is None else str(one[k]) for k in COLUMNS] for one in found])


@clusters.command()
def add(
    node: Node, address: Address, *, data: Folder = DATA, url: Url = None, api_key: ApiKey = ""
) -> None:
    """Take in a node that runs with --join. It learns, without a vote, until it is promoted."""
    _ask(data, url, api_key, lambda client: client.add_member(node, address))
    print(f"node {node} at {address} is a learner; give it a vote: balsadb cluster promote {node}")


@clusters.command()
def move(
    node: Node, address: Address, *, data: Folder = DATA, url: Url = None, api_key: ApiKey = ""
) -> None:
    """A member has another peer address from now on."""
    _ask(data, url, api_key, lambda client: client.move_member(node, address))
    print(f"node {node} is reached at {address}")


@clusters.command()
def promote(node: Node, *, data: Folder = DATA, url: Url = None, api_key: ApiKey = "") -> None:
    """Give a learner that has caught up a vote."""
    _ask(data, url, api_key, lambda client: client.promote_member(node))
    print(f"node {node} votes")


@clusters.command()
def remove(
    node: Node,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Though the rest has no majority.")
    ] = False,
    data: Folder = DATA,
    url: Url = None,
    api_key: ApiKey = "",
) -> None:
    """Take a member out, for good: its number is never used again. Its process may be stopped."""
    _ask(data, url, api_key, lambda client: client.remove_member(node, force=force))
    print(f"node {node} is no member any more")


@clusters.command()
def transfer(node: Node, *, data: Folder = DATA, url: Url = None, api_key: ApiKey = "") -> None:
    """Hand leadership to a voter."""
    _ask(data, url, api_key, lambda client: client.transfer(node))
    print(f"node {node} leads")

"""`balsadb cluster ...`: start, stop and look at a cluster of processes on this machine."""

import enum
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from balsadb.cli import local_cluster
from balsadb.cli.local_cluster import ClusterPlan, LocalCluster
from balsadb.cluster.settings import CLIENT_PORT, PEER_PORT

app = typer.Typer(help="A cluster of processes on this machine.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option("--data", help="Folder of the cluster's data and logs.")]
Url = Annotated[str | None, typer.Option("--url", help="Ask this node instead of a folder's.")]
ApiKey = Annotated[str, typer.Option("--api-key", envvar="BALSADB_API_KEY", help="The API key.")]


class Output(enum.Enum):
    """How answers are shown."""

    TABLE = "table"
    JSON = "json"


Shown = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]
DATA = Path("data")


@app.command()
def start(
    nodes: Annotated[int | None, typer.Argument(help="How many nodes; 3 for a new one.")] = None,
    *,
    data: Folder = DATA,
    reset: Annotated[bool, typer.Option("--reset", help="Delete the old cluster first.")] = False,
    port: Annotated[int, typer.Option(help="First client port; 10 more a node.")] = CLIENT_PORT,
    peer_port: Annotated[int, typer.Option(help="First peer port; 10 more a node.")] = PEER_PORT,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Ports nobody uses.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until ready.")] = 120.0,
) -> None:
    """Start the nodes that do not run, leave the others, and return when all are ready.

    Refuses another number of nodes than the folder has, unless --reset deletes them.
    """
    began = time.monotonic()
    with local_cluster.exclusive(data):
        if reset:
            local_cluster.reset(data)
        wanted = None
        if nodes is not None or local_cluster.read_plan(data) is None:
            count = local_cluster.NODES_DEFAULT if nodes is None else nodes
            wanted = (
                ClusterPlan.on_free_ports(count)
                if free_ports
                else ClusterPlan.numbered(count, port, peer_port)
            )
        cluster = LocalCluster.create_or_open(data, wanted)
        started = cluster.start(_say)
        cluster.wait_ready(timeout, _say)
    for node in cluster.nodes:
        state = "started" if node.number in started else "already running"
        print(f"node {node.number}  {node.url}  pid {node.pid}  {state}")
    _say(f"ready after {time.monotonic() - began:.1f} s; data and logs in {cluster.folder}")


@app.command()
def stop(*, data: Folder = DATA) -> None:
    """Stop every node of the folder; its data stays."""
    with local_cluster.exclusive(data):
        stopped = LocalCluster.open(data).stop() if local_cluster.read_plan(data) else []
    numbers = ", ".join(str(number) for number in stopped)
    print(f"stopped node {numbers}" if stopped else "no node runs")


@app.command()
def status(
    *, data: Folder = DATA, url: Url = None, api_key: ApiKey = "", output: Shown = Output.TABLE
) -> None:
    """What each node says of itself; a node that does not answer is shown as down."""
    found = [_status_of(address, api_key) for address in _addresses(data, url)]
    if output is Output.JSON:
        print(msgspec.json.encode(found).decode())
    else:
        columns = ["url", "role", "leader", "term", "commit", "applied", "points", "linked", "tail"]
        _table(columns, [[str(node.get(key, "")) for key in columns] for node in found])
    if not any(node["role"] == "leader" for node in found):
        raise typer.Exit(3)


@app.command()
def verify(
    *, data: Folder = DATA, url: Url = None, api_key: ApiKey = "", output: Shown = Output.TABLE
) -> None:
    """Compare the digests of every column on every node at one log index; exit 1 if they differ."""
    from balsadb.client import Client

    with Client(_addresses(data, url)) as client:
        found = client.with_options(api_key=api_key, timeout_s=60.0).verify()
    if output is Output.JSON:
        print(msgspec.json.encode(found).decode())
    else:
        nodes: dict[str, dict[str, Any]] = found["nodes"]
        rows = [
            [node, str(taken.get("columns", "")), taken.get("error", "")]
            for node, taken in nodes.items()
        ]
        _table(["node", "columns", "error"], rows)
        verdict = "equal" if found["equal"] else f"DIFFERENT: {', '.join(found['differing'])}"
        print(f"{verdict} at log index {found['index']}")
    if not found["equal"]:
        raise typer.Exit(1)


def _addresses(data: Path, url: str | None) -> list[str]:
    if url is not None:
        return [url]
    return [node.url for node in LocalCluster.open(data).nodes]


def _status_of(address: str, api_key: str) -> dict[str, Any]:
    from balsadb.client import Client, Options
    from balsadb.errors import Unavailable

    options = Options(api_key=api_key, timeout_s=3.0, tries_max=1)
    with Client(address, options=options) as client:
        try:
            figures: dict[str, Any] = client.cluster().get("balsadb", {})
        except Unavailable:
            return {"url": address, "role": "down"}
    return {"url": address, **figures}


def _table(columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

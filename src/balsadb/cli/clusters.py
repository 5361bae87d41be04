"""`balsadb cluster ...`: start, stop and look at a cluster of processes on this machine."""

import math
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from balsadb.cli import following, local_cluster
from balsadb.cli.local_cluster import LocalCluster
from balsadb.cli.output import AsJson, Output, Shown, print_json, print_table, show, wants_json
from balsadb.cli.plan import Wish
from balsadb.cluster.settings import CLIENT_PORT, PEER_PORT
from balsadb.errors import InvalidInput

app = typer.Typer(help="A cluster of processes on this machine.", no_args_is_help=True)


def _folder(text: str | Path) -> Path:
    """The folder by its one true name: nodes are told apart by the paths in their commands."""
    if not str(text).strip():
        raise typer.BadParameter("must not be empty")
    try:
        return Path(text).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise typer.BadParameter(f"{text!r} cannot be the cluster's folder: {error}") from error


Folder = Annotated[
    Path,
    typer.Option(
        "--data", parser=_folder, metavar="DIR", help="Folder of the cluster's data and logs."
    ),
]
Url = Annotated[str | None, typer.Option("--url", help="Ask this node instead of a folder's.")]
ApiKey = Annotated[str, typer.Option("--api-key", envvar="BALSADB_API_KEY", help="The API key.")]


ClientPort = Annotated[
    int | None, typer.Option(help=f"First client port; 10 more a node. Default: {CLIENT_PORT}.")
]
PeerPort = Annotated[
    int | None, typer.Option(help=f"First peer port; 10 more a node. Default: {PEER_PORT}.")
]
DATA = Path("data")
COLUMNS = ("url", "role", "leader", "term", "commit", "applied", "points", "tail")
"""What the table of `status` shows: it fits into 80 characters, with figures of seven digits. JSON
has everything."""


@app.command()
def start(
    nodes: Annotated[int | None, typer.Argument(help="How many nodes; 3 for a new one.")] = None,
    *,
    data: Folder = DATA,
    reset: Annotated[bool, typer.Option("--reset", help="Delete the old cluster first.")] = False,
    port: ClientPort = None,
    peer_port: PeerPort = None,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Ports nobody uses.")] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait until ready, after compiling.")
    ] = 120.0,
) -> None:
    """Start the nodes that do not run, leave the others, and return when all are ready.

    The nodes are those that are members now: one that was removed is stopped, one that moved is
    started at its new place. Refuses another number of nodes or other ports than the folder has,
    unless --reset deletes them. What is refused changes nothing.
    """
    began = time.monotonic()
    wish = Wish(nodes, port, peer_port, free_ports)
    if nodes is not None or local_cluster.read_plan(data) is None:
        wish.plan()
    if not (math.isfinite(timeout) and timeout > 0):
        raise InvalidInput("--timeout", "must be above 0")
    with local_cluster.exclusive(data):
        cluster = LocalCluster.prepare(data, wish, anew=reset)
        cluster, started = following.bring_up(cluster, timeout, say)
    for node in cluster.nodes:
        state = "started" if node.number in started else "already running"
        print(f"node {node.number}  {node.url}  pid {node.pid}  {state}")
    say(f"ready after {time.monotonic() - began:.1f} s; data and logs in {cluster.folder}")


@app.command()
def stop(
    *,
    data: Folder = DATA,
    reset: Annotated[bool, typer.Option("--reset", help="Delete its data, too.")] = False,
) -> None:
    """Stop every node of the folder; its data stays, unless --reset deletes it."""
    stopped: list[int] = []
    if local_cluster.read_plan(data) is not None:
        with local_cluster.exclusive(data):
            stopped = LocalCluster.open(data).stop()
            if reset:
                local_cluster.reset(data)
                # At the very end: whoever comes from now on makes a new one.
                (data / local_cluster.LOCK_NAME).unlink(missing_ok=True)
                say(f"the cluster in {data} is deleted")
    numbers = ", ".join(str(number) for number in stopped)
    print(f"stopped node {numbers}" if stopped else "no node runs")


@app.command()
def status(
    *,
    data: Folder = DATA,
    url: Url = None,
    api_key: ApiKey = "",
    output: Shown = Output.TABLE,
    as_json: AsJson = False,
) -> None:
    """What each node says of itself; a node that does not answer is shown as down.

    Members that the folder does not hold are shown with their peer address, as elsewhere.
    """
    elsewhere: dict[int, str] = {}
    if url is None:
        cluster = LocalCluster.open(data)
        news = following.ask(cluster)
        if news is not None:
            cluster = LocalCluster(cluster.folder, following.followed(cluster.plan, news))
            elsewhere = news.elsewhere(cluster.plan)
        found = [_status_of(node.url, api_key) for node in cluster.nodes]
    else:
        found = [_status_of(url, api_key)]
    found += [
        {"url": f"node {node} at {address}", "role": "elsewhere"}
        for node, address in elsewhere.items()
    ]
    show(found, COLUMNS, as_json=wants_json(output, as_json))
    if not any(one["role"] == "leader" or one.get("leader") in elsewhere for one in found):
        raise typer.Exit(3)


@app.command()
def verify(
    *,
    data: Folder = DATA,
    url: Url = None,
    api_key: ApiKey = "",
    output: Shown = Output.TABLE,
    as_json: AsJson = False,
) -> None:
    """Compare the digests of every column on every node at one log index.

    Ends with 1 if they differ, with 3 if they do not but some node could not be compared.
    """
    from balsadb.client import Client

    with Client(addresses(data, url)) as client:
        found = client.with_options(api_key=api_key, timeout_s=60.0).verify()
    if wants_json(output, as_json):
        print_json(found)
    else:
        nodes: dict[str, dict[str, Any]] = found["nodes"]
        rows = [
            [node, str(taken.get("columns", "")), taken.get("error", "")]
            for node, taken in nodes.items()
        ]
        print_table(("node", "columns", "error"), rows)
        print("\n".join(_verdict(found)))
    if found["differing"]:
        raise typer.Exit(1)
    if not found["equal"]:
        raise typer.Exit(3)


def _verdict(found: dict[str, Any]) -> list[str]:
    """What a comparison says: first who was left out of it, and why."""
    nodes: dict[str, dict[str, Any]] = found["nodes"]
    missing = {node: str(taken["error"]) for node, taken in nodes.items() if "error" in taken}
    lines = [
        f"not compared: {why if why.startswith(f'node {node} ') else f'node {node}: {why}'}"
        for node, why in missing.items()
    ]
    verdict = "equal"
    if missing:
        verdict = "equal on node " + ", ".join(node for node in nodes if node not in missing)
    if found["differing"]:
        verdict = f"DIFFERENT: {', '.join(found['differing'])}"
    return [*lines, f"{verdict} at log index {found['index']}"]


def addresses(data: Path, url: str | None, about: int | None = None) -> list[str]:
    """The nodes to ask: the one given, or those of a folder's cluster that answer, and last the one
    that the question is about."""
    if url is not None:
        return [url]
    return [node.url for node in LocalCluster.open(data).whom_to_ask(about)]


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


def say(text: str) -> None:
    """Progress, beside what a command answers."""
    print(text, file=sys.stderr, flush=True)

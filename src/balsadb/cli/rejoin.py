"""`balsadb node rejoin`: the way back for a node whose data directory is damaged, emptied or lost.

What such a node promised (votes, acknowledgements) lies in the directory that cannot be trusted, so
it must not come back under its old id. It comes back as a new member instead: the old directory is
moved aside (never deleted), the old id is taken out of the cluster, for good, and the new one is
taken in at the same address, as a learner. Each step may be repeated: what is done already is left.
"""

import os
import re
import shlex
from collections.abc import Callable, Container
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import typer

from balsadb.cli import settings as node_settings
from balsadb.cluster import joining
from balsadb.cluster.settings import NODE_MAX, NodeSettings, is_address
from balsadb.errors import AlreadyExists, BalsaError, Corruption, InvalidInput, StorageError
from balsadb.storage import RealFiles, read_identity
from balsadb.storage.datadir import LOCK_NAME

app = typer.Typer(help="One node and its data directory.", no_args_is_help=True)

TIMEOUT_S = 30.0


class Cluster(Protocol):
    """What is asked of a member (the client has more)."""

    def members(self) -> list[dict[str, Any]]:
        """Who belongs to the cluster."""
        ...

    def cluster(self) -> dict[str, Any]:
        """What the asked node knows; of it, who was removed."""
        ...

    def add_member(self, node: int, address: str) -> object:
        """Take in a learner."""
        ...

    def remove_member(self, node: int, *, force: bool = False) -> object:
        """Take a member out."""
        ...


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for: `old` comes back as `new`, at the peer address `address`."""

    old: int
    new: int
    address: str
    data: Path
    force: bool = False

    def check(self) -> None:
        """InvalidInput for what cannot be, before anything is done."""
        if not 1 <= self.new <= NODE_MAX:
            raise InvalidInput("--new-id", f"must be 1 to {NODE_MAX}")
        if self.new == self.old:
            raise InvalidInput(
                "--new-id", f"must be a number that no node ever had; {self.old} is the old one"
            )
        if not is_address(self.address):
            raise InvalidInput("--address", f"must be host:port, not {self.address[:300]!r}")

    def check_among(self, members: dict[int, str], removed: Container[int]) -> None:
        """AlreadyExists or InvalidInput for what the cluster would refuse after the old id is gone:
        then it is too late for another choice."""
        advice = "choose a number that no node of this cluster ever had"
        taken = members.get(self.new)
        # At our own address it is what an earlier call took in, but only after the old one went.
        if taken is not None and (taken != self.address or self.old in members):
            raise AlreadyExists(f"node {self.new} is a member already, at {taken}: {advice}")
        if self.new in removed:
            raise InvalidInput(
                "--new-id", f"node {self.new} was removed from this cluster for good: {advice}"
            )
        for node, other in members.items():
            if other == self.address and node not in (self.old, self.new):
                raise AlreadyExists(
                    f"the address {self.address} already exists: node {node} has it. Give the "
                    "peer address that this node listens on (--address)"
                )


def plan_of(settings: NodeSettings, new: int, address: str | None, *, force: bool = False) -> Plan:
    """The plan for the node that these settings, those of its last start, belong to."""
    if not settings.members and not settings.join:
        raise InvalidInput(
            "--config",
            "must be the settings that the node was started with: they have the first members of "
            "its cluster, or the members that it joined (or give BALSADB_INITIAL_MEMBERS)",
        )
    own = settings.members.get(settings.node, joining.peer_address(settings))
    plan = Plan(
        old=settings.node,
        new=new,
        address=address or own,
        data=Path(settings.data).absolute(),
        force=force,
    )
    plan.check()
    return plan


def carry_out(plan: Plan, cluster: Cluster, say: Callable[[str], None]) -> list[str]:
    """Move the directory aside, take the old id out and the new one in; returns the peer addresses
    of the other members.

    All that can be refused is refused before anything is changed; when the cluster refuses to let
    the old id go, the directory is put back.
    """
    members = {int(one["id"]): str(one["address"]) for one in cluster.members()}
    plan.check_among(members, cluster.cluster()["balsadb"]["removed"])
    aside = move_aside(plan)
    if aside is None:
        say(f"{plan.data} holds nothing that could be kept")
    else:
        say(f"the old directory is kept as {aside}")
    if plan.old in members:
        try:
            cluster.remove_member(plan.old, force=plan.force)
        except BalsaError as error:
            # Whether a lost answer means a removal is not known: then it is not undone.
            if aside is not None and error.outcome == "failed":
                aside.rename(plan.data)
                say(f"node {plan.old} stays a member, and its directory is back in its place")
            raise
    say(f"node {plan.old} is no member any more")
    if plan.new not in members:
        cluster.add_member(plan.new, plan.address)
    say(f"node {plan.new} at {plan.address} is a learner")
    return [members[node] for node in sorted(members) if node not in (plan.old, plan.new)]


def move_aside(plan: Plan) -> Path | None:
    """Give the directory another name beside its own; None if there is nothing in it. DataDirInUse
    while a node runs on it, InvalidInput if it is that of another node."""
    data = plan.data
    if not data.is_dir() or not any(data.iterdir()):
        return None
    files = RealFiles(str(data))
    lock = files.lock(LOCK_NAME)
    try:
        _check_owner(files, plan)
        aside = _free_name(plan)
        try:
            data.rename(aside)
        except OSError as error:
            raise StorageError(
                f"cannot move {data} to {aside}: {error.strerror}. If it is a file system of its "
                "own, move what is in it to another place by hand, and repeat"
            ) from error
    finally:
        lock.release()
    RealFiles(str(data.parent)).sync_dir("")
    return aside


def set_aside(data: Path) -> list[Path]:
    """The directories that were moved aside from that place, under whatever id."""
    name = re.compile(rf"{re.escape(data.name)}\.node[0-9]+-set-aside(-[0-9]+)?")
    return [one for one in data.parent.iterdir() if name.fullmatch(one.name) and one.is_dir()]


def _check_owner(files: RealFiles, plan: Plan) -> None:
    try:
        identity = read_identity(files)
    except Corruption:
        return  # that is why it is moved away
    if identity is not None and identity.node not in (plan.old, plan.new):
        raise InvalidInput(
            "--data",
            f"{plan.data} is the directory of node {identity.node}, not of node {plan.old}",
        )
    if identity is not None and identity.node == plan.new:
        raise InvalidInput(
            "--data", f"{plan.data} is that of node {plan.new} already: it has joined anew"
        )


def _free_name(plan: Plan) -> Path:
    name = f"{plan.data.name}.node{plan.old}-set-aside"
    for turn in range(1, 1000):
        found = plan.data.with_name(name if turn == 1 else f"{name}-{turn}")
        if not found.exists():
            return found
    raise StorageError(f"{plan.data.parent} holds a thousand directories that were set aside")


def next_steps(plan: Plan, flags: list[str], others: list[str], member: str) -> list[str]:
    """What the operator does next, as commands. `flags`: those that name the settings; `others`:
    the peer addresses of the other members."""
    join = ",".join(others)
    serve = ["balsadb", "serve", *flags, "--node", str(plan.new), "--join", join]
    keys = f'node = {plan.new} and join = "{join}", in place of initial_members'
    return [
        f"Start it with its new number from now on (in its settings file: {keys}):",
        f"  {shlex.join(serve)}",
        "When it has caught up, give it a vote:",
        f"  {shlex.join(['balsadb', 'cluster', 'promote', str(plan.new), '--url', member])}",
    ]


@app.callback()
def node() -> None:
    """One node and its data directory."""


@app.command()
def rejoin(
    *,
    new_id: Annotated[int, typer.Option(help="A number that no node of the cluster ever had.")],
    member: Annotated[str, typer.Option(help="Client URL of a node that runs.")],
    config: Annotated[
        str | None, typer.Option(help="TOML file that the node was started with.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Its data directory, if not that file's.")
    ] = None,
    old_id: Annotated[int | None, typer.Option(help="Its number, if not that file's.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Its peer address, host:port, if it changes.")
    ] = None,
    api_key: Annotated[str, typer.Option(envvar="BALSADB_API_KEY", help="The API key.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Though the rest has no majority.")
    ] = False,
) -> None:
    """Bring a node whose data directory is damaged or lost back, under a new id.

    Its directory is moved aside, its old id leaves the cluster for good, the new one joins.
    """
    from balsadb.client import Client

    settings = node_settings.load({"data": data, "node": old_id}, os.environ, config)
    plan = plan_of(settings, new_id, address, force=force)
    with Client(member) as client:
        asked = client.with_options(api_key=api_key or settings.api_key, timeout_s=TIMEOUT_S)
        others = carry_out(plan, asked, print)
    flags = [] if config is None else ["--config", config]
    flags += [] if data is None else ["--data", data]
    print("\n".join(next_steps(plan, flags, others, member)))

"""What an operator may do to the members, and what is refused before it reaches the log.

A change is made of what the leader knows right now; Raft's own guards (one change at a time, the
log's order) hold whatever is decided here. These rules keep an operator from the usual accidents:
a vote for a node that lags, the loss of the quorum, an address or an id used twice.
"""

from typing import Any

from balsadb.cluster.driver import Driver
from balsadb.cluster.members import Members, encode_places
from balsadb.cluster.settings import NODE_MAX, is_address
from balsadb.errors import AlreadyExists, InvalidInput, NotFound, NotReady
from balsadb.raft import Change, MembersChange, PeerStatus, RaftStatus
from balsadb.raft.changes import changed
from balsadb.types import NodeId

PROMOTION_LAG_MAX = 1_000
"""Entries of the log that a learner may be behind to be given a vote."""


def adding(driver: Driver, peers: dict[NodeId, str], node: int, address: str) -> MembersChange:
    """Take a node in as a learner. AlreadyExists for an id or an address in use."""
    table = driver.admission.members
    new = _node(node)
    if new in table.roles.nodes:
        raise AlreadyExists(
            f"node {node} already exists in this cluster, at {peers.get(new, '?')}. Choose a "
            f"number that no node ever had, such as {table.unused()}; or, if that node is to be "
            f"reached at another address: balsadb cluster move {node} {address}"
        )
    _check_address(address, {**peers})
    return MembersChange((Change("learner", new),), "auto", encode_places({new: address}))


def moving(driver: Driver, peers: dict[NodeId, str], node: int, address: str) -> MembersChange:
    """A member is reached at another address."""
    member = _member(driver.admission.members, node)
    _check_address(address, {other: at for other, at in peers.items() if other != member})
    return MembersChange((Change("update", member),), "auto", encode_places({member: address}))


def promoting(driver: Driver, node: int) -> MembersChange:
    """Give a learner a vote. NotReady, with its lag, if it has not caught up."""
    member = _member(driver.admission.members, node)
    status = driver.raft.status()
    if not driver.raft.members.learns(member):
        raise AlreadyExists(f"node {node} votes already")
    peer = status.peers.get(member)
    lag = 0 if peer is None else status.last_index - peer.match
    why = "" if peer is None else _not_ready(peer, lag)
    if why:
        raise NotReady(f"node {node} {why}: it lags {lag} entries behind. Try again later")
    return MembersChange((Change("voter", member),))


def _not_ready(peer: PeerStatus, lag: int) -> str:
    """Why a learner gets no vote yet; empty if it may have one."""
    never = peer.match == 0 and peer.state == "probe"  # counts as active for a while all the same
    if never or not peer.recent_active:
        ever = " and never was" if never else ""
        return f"is not reached{ever} (does it run, at the address that the cluster knows?)"
    if peer.state == "snapshot":
        return "is fetching a checkpoint"
    if lag > PROMOTION_LAG_MAX:
        return f"has not caught up (at most {PROMOTION_LAG_MAX} entries may be missing)"
    return "" if peer.state == "replicate" else "is being asked where its log ends"


def removing(driver: Driver, node: int, *, force: bool) -> MembersChange:
    """Take a member out, for good. InvalidInput if too few of the others are reached, unless
    forced."""
    member = _member(driver.admission.members, node)
    change = MembersChange((Change("remove", member),))
    left = changed(driver.raft.members, change).voters
    reached = [one for one in left if _is_reached(driver.raft.status(), one)]
    if 2 * len(reached) <= len(left) and not force:
        raise InvalidInput(
            "node",
            f"without node {node} only {len(reached)} of {len(left)} voters are reached, which is "
            "no majority: the cluster would stop. Bring the others back, or remove those that are "
            "gone for good before this one; --force (`force`) does it all the same",
        )
    return change


def describe(driver: Driver, addresses: dict[NodeId, str]) -> list[dict[str, Any]]:
    """Every member: its role, address, and, as far as this leader knows, how far it is."""
    status, roles = driver.raft.status(), driver.raft.members
    found: list[dict[str, Any]] = []
    for node in roles.nodes:
        peer = status.peers.get(node)
        own = node == status.node
        found.append(
            {
                "id": node,
                "address": addresses.get(node, ""),
                "role": "learner" if roles.learns(node) else "voter",
                "joint": roles.is_joint and (node in roles.outgoing) != (node in roles.voters),
                "leader": node == status.leader,
                "match": peer.match if peer else None,
                "lag": max(0, status.last_index - peer.match) if peer else None,
                "state": peer.state if peer else None,
                "active": own or (peer.recent_active if peer else None),
            }
        )
    return found


def _is_reached(status: RaftStatus, node: NodeId) -> bool:
    peer = status.peers.get(node)
    return node == status.node or (peer is not None and peer.recent_active)


def _node(node: int) -> NodeId:
    if not 1 <= node <= NODE_MAX:
        raise InvalidInput("id", f"must be 1 to {NODE_MAX}")
    return NodeId(node)


def _member(table: Members, node: int) -> NodeId:
    if node not in table.roles.nodes:
        members = ", ".join(map(str, table.roles.nodes))
        raise NotFound(f"node {node} is not a member; there are {members}")
    return NodeId(node)


def _check_address(address: str, taken: dict[NodeId, str]) -> None:
    if not is_address(address):
        raise InvalidInput("address", f"must be host:port, not {address[:300]!r}")
    for node, other in taken.items():
        if other == address:
            raise AlreadyExists(f"the address {address} already exists: node {node} has it")

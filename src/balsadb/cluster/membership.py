"""What an operator may do to the members, and what is refused before it reaches the log.

A change is made of what the leader knows right now; Raft's own guards (one change at a time, the
log's order) hold whatever is decided here. These rules keep an operator from the usual accidents:
a vote for a node that lags, the loss of the quorum, an address or an id used twice.
"""

import re
from typing import Any

from balsadb.cluster.driver import Driver
from balsadb.cluster.members import Members, encode_places
from balsadb.errors import AlreadyExists, InvalidInput, NotFound, NotReady
from balsadb.raft import Change, MembersChange, RaftStatus
from balsadb.raft.changes import changed
from balsadb.types import NodeId

PROMOTION_LAG_MAX = 1_000
"""Entries of the log that a learner may be behind to be given a vote."""
NODE_MAX = 999_999_999


def adding(driver: Driver, peers: dict[NodeId, str], node: int, address: str) -> MembersChange:
    """Take a node in as a learner. AlreadyExists for an id or an address in use."""
    table = driver.admission.members
    new = _node(node)
    if new in table.roles.nodes:
        raise AlreadyExists(f"node {node} is a member already")
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
    if peer is not None and not (peer.recent_active and peer.state == "replicate"):
        raise NotReady(f"node {node} is not reached, or fetches a checkpoint: try again later")
    lag = 0 if peer is None else status.last_index - peer.match
    if lag > PROMOTION_LAG_MAX:
        raise NotReady(
            f"node {node} lags {lag} entries behind (at most {PROMOTION_LAG_MAX}): try again later"
        )
    return MembersChange((Change("voter", member),))


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
            "no majority: the cluster would stop. Bring them back first, or use force",
        )
    return change


def describe(driver: Driver, peers: dict[NodeId, str], own_address: str) -> list[dict[str, Any]]:
    """Every member: its role, address, and, as far as this leader knows, how far it is."""
    status, roles = driver.raft.status(), driver.raft.members
    found: list[dict[str, Any]] = []
    for node in roles.nodes:
        peer = status.peers.get(node)
        own = node == status.node
        found.append(
            {
                "id": node,
                "address": own_address if own else peers.get(node, ""),
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
    host, _, port = address.rpartition(":")
    named = re.fullmatch(r"[A-Za-z0-9._:%\[\]-]{1,255}", host, re.ASCII)
    if not (named and re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535):
        raise InvalidInput("address", f"must be host:port, not {address[:300]!r}")
    for node, other in taken.items():
        if other == address:
            raise AlreadyExists(f"node {node} has the address {address}")

"""Who the members are: their roles (held by Raft), where they are, and the disk each one made its
promises on.

A node's votes and acknowledgements live on its disk. If it returns under its old id with another
disk, its promises are gone and two leaders could be elected in one term, so the pair (node, disk)
is logged on first contact and any other disk under that id is refused from then on. For the same
reason the id of a node that was removed is never taken again. The table is part of the replicated
state: it is kept in each checkpoint's manifest and rebuilt from the log.
"""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from balsadb.errors import Corruption
from balsadb.raft import Members as Roles
from balsadb.raft import MembersChange, decode_change
from balsadb.raft.changes import changed
from balsadb.types import ENTRY_CHANGE, ENTRY_MEMBERS, DiskId, Entry, NodeId

T = TypeVar("T")


class MemberDisk(msgspec.Struct, array_like=True, frozen=True):
    """The data of an `ENTRY_MEMBERS` entry: `node` speaks from `disk`."""

    node: NodeId
    disk: DiskId


class MembersRecord(msgspec.Struct, array_like=True, frozen=True):
    """`CheckpointMeta.members`: the voters (ascending) and the logged disks (by node); since nodes
    may come and go, the other roles, the addresses of nodes that came or moved, and who is gone."""

    voters: list[NodeId]
    disks: list[MemberDisk]
    outgoing: list[NodeId] = []
    learners: list[NodeId] = []
    learners_next: list[NodeId] = []
    auto_leave: bool = False
    addresses: list[tuple[NodeId, str]] = []
    removed: list[NodeId] = []


class Places(msgspec.Struct, array_like=True, frozen=True):
    """The context of a change of members: peer addresses of nodes that come or move."""

    addresses: dict[NodeId, str] = {}


_disk_decoder = msgspec.msgpack.Decoder(MemberDisk)
_record_decoder = msgspec.msgpack.Decoder(MembersRecord)
_places_decoder = msgspec.msgpack.Decoder(Places)
_encoder = msgspec.msgpack.Encoder()


def _decode(decoder: "msgspec.msgpack.Decoder[T]", data: bytes, what: str) -> T:
    """What a log or a checkpoint holds of members; Corruption if it cannot be read."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Corruption(f"{what} cannot be read: {error}") from error


def encode_member_disk(node: NodeId, disk: DiskId) -> bytes:
    """Data of the entry that records a member's disk."""
    return _encoder.encode(MemberDisk(node, disk))


def encode_places(addresses: dict[NodeId, str]) -> bytes:
    """The context of a change of members."""
    return _encoder.encode(Places(addresses))


class Members:
    """Roles, addresses that the log tells, the table node -> disk (the first disk logged for a node
    stays), and who was removed."""

    def __init__(self, voters: Sequence[NodeId]) -> None:
        self.roles = Roles.of(voters)
        self.addresses: dict[NodeId, str] = {}
        """Of nodes that came or moved; the first members' are in everybody's settings."""
        self.removed: set[NodeId] = set()
        self.version: int = 0
        """Changes with the roles and the addresses."""
        self._disks: dict[NodeId, DiskId] = {}

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """Every node that votes, in either half of a joint change."""
        return tuple(node for node in self.roles.nodes if node in self.roles)

    @classmethod
    def decode(cls, data: bytes) -> "Members":
        """From a manifest's `members` bytes. Corruption."""
        record = _decode(_record_decoder, data, "the table of members of a checkpoint")
        members = cls([])
        members.roles = Roles(
            tuple(record.voters),
            tuple(record.outgoing),
            tuple(record.learners),
            tuple(record.learners_next),
            record.auto_leave,
        )
        members.addresses = dict(record.addresses)
        members.removed = set(record.removed)
        for pair in record.disks:
            members.record(pair)
        return members

    def encode(self) -> bytes:
        """For a manifest; equal tables give equal bytes."""
        roles = self.roles
        return _encoder.encode(
            MembersRecord(
                list(roles.voters),
                [MemberDisk(node, disk) for node, disk in self.disks()],
                list(roles.outgoing),
                list(roles.learners),
                list(roles.learners_next),
                roles.auto_leave,
                sorted(self.addresses.items()),
                sorted(self.removed),
            )
        )

    def copy(self) -> "Members":
        """One that changes on its own."""
        return Members.decode(self.encode())

    def record(self, pair: MemberDisk) -> None:
        """Remember a pair; a second disk of the same node is ignored."""
        self._disks.setdefault(pair.node, pair.disk)

    def apply(self, data: bytes) -> None:
        """Apply the data of an `ENTRY_MEMBERS` entry."""
        self.record(_decode(_disk_decoder, data, "an entry that names a member's disk"))

    def apply_entry(self, entry: Entry) -> None:
        """Apply a committed entry, if it is of a kind that concerns members."""
        if entry.kind == ENTRY_MEMBERS:
            self.apply(entry.data)
        elif entry.kind == ENTRY_CHANGE:
            self.change(decode_change(entry.data))

    def change(self, change: MembersChange) -> None:
        """Apply a change of members (an `ENTRY_CHANGE` entry). InvalidInput if it does not fit."""
        before, after = self.roles, changed(self.roles, change)
        told = {}
        if change.context:
            told = _decode(_places_decoder, change.context, "an entry's addresses").addresses
        self.roles = after
        self.version += 1
        self.addresses |= {node: address for node, address in told.items() if node in after.nodes}
        for node in set(before.nodes) - set(after.nodes):
            self.removed.add(node)
            self.addresses.pop(node, None)

    def unused(self) -> int:
        """A number that no node of this cluster has or had."""
        return max([0, *self.roles.nodes, *self.removed]) + 1

    def disk_of(self, node: NodeId) -> DiskId | None:
        """The disk logged for the node, or None."""
        return self._disks.get(node)

    def replace(self, other: "Members") -> None:
        """Take over another table (a snapshot was installed)."""
        self.roles = other.roles
        self.version += 1
        self.addresses = dict(other.addresses)
        self.removed = set(other.removed)
        self._disks = dict(other.disks())

    def disks(self) -> list[tuple[NodeId, DiskId]]:
        """All pairs, by node."""
        return sorted(self._disks.items())

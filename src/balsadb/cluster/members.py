"""Who the members are: their votes (held by Raft) and the disk each one made its promises on.

A node's votes and acknowledgements live on its disk. If it returns under its old id with another
disk, its promises are gone and two leaders could be elected in one term, so the pair (node, disk)
is logged on first contact and any other disk under that id is refused from then on. The table is
part of the replicated state: it is kept in each checkpoint's manifest and rebuilt from the log.
"""

from collections.abc import Sequence

import msgspec

from balsadb.types import DiskId, NodeId


class MemberDisk(msgspec.Struct, array_like=True, frozen=True):
    """The data of an `ENTRY_MEMBERS` entry: `node` speaks from `disk`."""

    node: NodeId
    disk: DiskId


class MembersRecord(msgspec.Struct, array_like=True, frozen=True):
    """`CheckpointMeta.members`: the voters (ascending) and the logged disks (by node)."""

    voters: list[NodeId]
    disks: list[MemberDisk]


_disk_decoder = msgspec.msgpack.Decoder(MemberDisk)
_record_decoder = msgspec.msgpack.Decoder(MembersRecord)
_encoder = msgspec.msgpack.Encoder()


def encode_member_disk(node: NodeId, disk: DiskId) -> bytes:
    """Data of the entry that records a member's disk."""
    return _encoder.encode(MemberDisk(node, disk))


class Members:
    """The table node -> disk, with the voters beside it. The first disk logged for a node stays."""

    def __init__(self, voters: Sequence[NodeId]) -> None:
        self.voters: tuple[NodeId, ...] = tuple(sorted(voters))
        self._disks: dict[NodeId, DiskId] = {}

    @classmethod
    def decode(cls, data: bytes) -> "Members":
        """From a manifest's `members` bytes."""
        record = _record_decoder.decode(data)
        members = cls(record.voters)
        for pair in record.disks:
            members.record(pair)
        return members

    def encode(self) -> bytes:
        """For a manifest; equal tables give equal bytes."""
        disks = [MemberDisk(node, disk) for node, disk in self.disks()]
        return _encoder.encode(MembersRecord(list(self.voters), disks))

    def record(self, pair: MemberDisk) -> None:
        """Remember a pair; a second disk of the same node is ignored."""
        self._disks.setdefault(pair.node, pair.disk)

    def apply(self, data: bytes) -> None:
        """Apply the data of an `ENTRY_MEMBERS` entry."""
        self.record(_disk_decoder.decode(data))

    def disk_of(self, node: NodeId) -> DiskId | None:
        """The disk logged for the node, or None."""
        return self._disks.get(node)

    def replace(self, other: "Members") -> None:
        """Take over another table (a snapshot was installed)."""
        self.voters = other.voters
        self._disks = dict(other.disks())

    def disks(self) -> list[tuple[NodeId, DiskId]]:
        """All pairs, by node."""
        return sorted(self._disks.items())

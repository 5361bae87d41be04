"""Whose frames are taken: the right cluster and group, meant for us, from a member, and from the
disk that the log knows that member by (`balsadb.cluster.members`)."""

from typing import Literal

from balsadb.cluster.frames import Packet, PeerFrame, Refused
from balsadb.cluster.members import Members, encode_member_disk
from balsadb.cluster.options import DriverOptions
from balsadb.types import DiskId, NodeId

Verdict = Literal["take", "drop"] | Refused


class Admission:
    """Checks frames, and knows which members' disks are still to be logged."""

    def __init__(self, options: DriverOptions, members: Members, known: Members) -> None:
        self._options = options
        self._voters = frozenset(known.voters)
        self._heard: dict[NodeId, DiskId] = {options.node: options.disk}
        self._proposed: set[NodeId] = set()
        self.members = members
        """As of the applied index: what a checkpoint records."""
        self.known = known
        """What frames are checked against; may be ahead of `members` right after a start."""
        self.foreign_frames = 0
        self.refused_frames = 0

    def check(self, frame: PeerFrame) -> Verdict:
        """What to do with a frame: take it, drop it silently, or drop it and tell its source."""
        options = self._options
        foreign = (
            frame.cluster != options.cluster
            or frame.group != options.group
            or frame.target != options.node
            or frame.source not in self._voters
            or frame.source == options.node
        )
        if foreign:
            self.foreign_frames += 1
            return "drop"
        disk = self._heard.get(frame.source)
        if disk == frame.source_disk:
            return "take"
        logged = self.known.disk_of(frame.source)
        if logged is not None and logged != frame.source_disk:
            if isinstance(frame, Packet) and isinstance(frame.body, Refused):
                return "take"
            self.refused_frames += 1
            return Refused(
                frame.source_disk,
                f"node {frame.source} is known by another disk: its data directory was emptied "
                "or replaced, and with it the votes it gave. Start it under a new node id: "
                "today that takes a new cluster (docs/operations.md, A disk is lost).",
            )
        self._heard[frame.source] = frame.source_disk
        return "take"

    def apply(self, data: bytes) -> None:
        """An `ENTRY_MEMBERS` entry is applied."""
        self.members.apply(data)
        self.known.apply(data)
        self._recheck()

    def restored(self, members: Members) -> None:
        """A snapshot's table replaces ours."""
        self.members.replace(members)
        self.known.replace(members)
        self._recheck()

    def leadership_changed(self) -> None:
        """What an earlier leader proposed may be lost: propose again."""
        self._proposed.clear()

    def next_to_log(self) -> bytes | None:
        """Data of the entry that a leader should propose now: a disk heard of and not logged."""
        for node in sorted(self._heard):
            if node not in self._proposed and self.members.disk_of(node) is None:
                self._proposed.add(node)
                return encode_member_disk(node, self._heard[node])
        return None

    def _recheck(self) -> None:
        """Forget disks heard of that the log contradicts: their next frame is refused."""
        for node, disk in list(self._heard.items()):
            logged = self.known.disk_of(node)
            if logged is not None and logged != disk and node != self._options.node:
                del self._heard[node]

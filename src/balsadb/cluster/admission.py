"""Whose frames are taken: the right cluster and group, meant for us, from nobody who was removed,
and from the disk that the log knows that node by (`balsadb.cluster.members`).

Not only from members: a node that lags behind may not know yet who joined, and the newcomer may be
the leader that has to tell it (Ongaro's thesis, 4.1). Strangers have the cluster's secret or they
would not be heard at all.
"""

from typing import Literal

from balsadb.cluster.frames import Packet, PeerFrame, Refused
from balsadb.cluster.members import Members, encode_member_disk
from balsadb.cluster.options import DriverOptions
from balsadb.errors import REJOIN, InvalidInput
from balsadb.raft import MembersChange
from balsadb.types import ENTRY_CHANGE, ENTRY_MEMBERS, DiskId, Entry, NodeId

Verdict = Literal["take", "drop"] | Refused

COME_BACK = (
    "to take this machine back, stop the process and start it as a new node: balsadb serve --node "
    "NUMBER --join HOST:PORT --data DIR, with a number that no node of the cluster ever had, the "
    "peer address of a member, and an empty directory"
)
"""What an operator may do with a node that was removed."""


class Admission:
    """Checks frames, and knows which members' disks are still to be logged."""

    def __init__(
        self, options: DriverOptions, members: Members, known: Members, known_index: int = 0
    ) -> None:
        self._options = options
        self._heard: dict[NodeId, DiskId] = {options.node: options.disk}
        self._proposed: set[NodeId] = set()
        self.members = members
        """As of the applied index: what a checkpoint records."""
        self.known = known
        """What frames are checked against; may be ahead of `members` right after a start."""
        self._known_index = known_index
        self.foreign_frames = 0
        self.refused_frames = 0

    def check(self, frame: PeerFrame) -> Verdict:
        """What to do with a frame: take it, drop it silently, or drop it and tell its source."""
        options = self._options
        foreign = (
            frame.cluster != options.cluster
            or frame.group != options.group
            or frame.target != options.node
            or frame.source == options.node
        )
        if foreign:
            self.foreign_frames += 1
            return "drop"
        if frame.source in self.known.removed:
            if isinstance(frame, Packet) and isinstance(frame.body, Refused):
                return "drop"
            self.refused_frames += 1
            return Refused(
                frame.source_disk,
                f"node {frame.source} was removed from this cluster. Its id is never used again: "
                + COME_BACK,
                removed=True,
            )
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
                "or replaced, and with it the votes it gave. Remove it from the cluster and let it "
                "join under a new node id: "
                f"{REJOIN} does both.",
            )
        self._heard[frame.source] = frame.source_disk
        return "take"

    def apply(self, entry: Entry) -> None:
        """An entry is applied; most do not concern members."""
        if entry.kind not in (ENTRY_MEMBERS, ENTRY_CHANGE):
            return
        self.members.apply_entry(entry)
        # What was known to be committed at start is in there already.
        if entry.index > self._known_index:
            self.known.apply_entry(entry)
        self._recheck()

    def check_change(self, change: MembersChange) -> None:
        """InvalidInput if a change would take back an id that was removed."""
        for one in change.changes:
            if one.kind in ("voter", "learner") and one.node in self.members.removed:
                raise InvalidInput(
                    "id", f"{one.node} was removed, and an id is never used again: choose another"
                )

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
        for node in sorted(set(self._heard) & set(self.members.roles.nodes)):
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

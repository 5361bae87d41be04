"""What the driver knows of disks: how long its own sync has hung, how much space is left, and which
members say that they are in trouble.

Pure: the host measures and calls `measured`; time is ticks. Two thresholds of free space:

* `enough`: nothing follows.
* `low`, below `disk_low_bytes`: a leader refuses writes that add data and hands over to a member
  with enough space; checkpoints come sooner, and only one is kept.
* `full`, below `disk_full_bytes`: besides, nothing is planned, no chunk of a checkpoint is written,
  and a follower takes only small batches of the log (the leader sends the others again).

A node in trouble tells all members so, again and again (`DiskTrouble`); what was not repeated for a
while is forgotten, so a lost message does no harm and a node without trouble sends nothing. Writes
that add data need a majority of voters with enough space: one follower that is full does not stop
them, and a leader with space does not promise what two full followers could not keep.
"""

from collections.abc import Sequence
from typing import Any

from balsadb.cluster.frames import DiskTrouble, Space
from balsadb.cluster.options import DriverOptions
from balsadb.errors import DiskFull
from balsadb.raft import Members
from balsadb.types import NodeId

TELL_TICKS = 10
"""Between two reports of a node in trouble."""
FORGET_TICKS = 40
"""After so long without a report its trouble counts as over."""
SMALL_BATCH_BYTES = 64 << 10
"""Entries of one append that a full follower still takes: deletes are small, upserts are not."""
HYSTERESIS_SHIFT = 3
"""Space counts as better only an eighth above the threshold, so that it does not flap."""
MIB = 1 << 20


class DiskWatch:
    """One node's view. `tick` once a tick, the rest as it happens."""

    def __init__(self, options: DriverOptions) -> None:
        self._options = options
        self._now = 0
        self._sync_began = 0
        self._syncing = False
        self._heard: dict[NodeId, int] = {}
        self._told: dict[NodeId, tuple[int, DiskTrouble]] = {}
        self.free_bytes: int | None = None
        """As last measured; None before that."""
        self.space: Space = "enough"

    # --- what happens ---

    def tick(self, syncing: bool) -> bool:
        """One tick has passed; whether to tell the members of our trouble now."""
        self._now += 1
        if not syncing or not self._syncing:
            self._sync_began = self._now
        self._syncing = syncing
        in_trouble = self.is_stalled or self.space != "enough"
        return in_trouble and self._now % TELL_TICKS == 0

    def synced(self) -> None:
        """A sync has completed (the next may begin at once: a busy disk is not a hung one)."""
        self._sync_began = self._now

    def measured(self, free_bytes: int) -> None:
        """So much is free where the data directory lies."""
        self.free_bytes = free_bytes
        options = self._options
        if self._is_below(options.disk_full_bytes, was=self.space == "full"):
            self.space = "full"
        elif self._is_below(options.disk_low_bytes, was=self.space != "enough"):
            self.space = "low"
        else:
            self.space = "enough"

    def heard(self, node: NodeId) -> None:
        """A frame of that node came."""
        self._heard[node] = self._now

    def told(self, node: NodeId, trouble: DiskTrouble) -> None:
        """A member says that it is in trouble."""
        self._told[node] = (self._now, trouble)

    # --- what follows ---

    @property
    def stalled_ticks(self) -> int:
        """How long the sync under way has taken."""
        return self._now - self._sync_began

    @property
    def is_stalled(self) -> bool:
        """Whether the sync under way counts as hung."""
        return self.stalled_ticks >= self._options.disk_stall_ticks

    @property
    def trouble(self) -> DiskTrouble:
        """What to tell the members."""
        return DiskTrouble(self.space, self.free_bytes or 0, self.is_stalled)

    def trouble_of(self, node: NodeId) -> DiskTrouble | None:
        """What a member said lately, if it is in trouble."""
        tick, trouble = self._told.get(node, (-FORGET_TICKS, None))
        return trouble if self._now - tick < FORGET_TICKS else None

    def takes(self, entries_bytes: int) -> bool:
        """Whether a follower should write a batch of that size."""
        return self.space != "full" or entries_bytes <= SMALL_BATCH_BYTES

    def refusal(self, members: Members) -> DiskFull | None:
        """Why a leader must not take a write that adds data; None if it may."""
        options = self._options
        if self.space != "enough":
            return DiskFull(
                f"node {options.node}, which leads, has {_mib(self.free_bytes)} free in "
                f"{options.place}; writes that add data need {_mib(options.disk_low_bytes)}. "
                "Nothing was written. Make room there, or delete points or collections: writes go "
                "on by themselves then"
            )
        for voters in (members.voters, members.outgoing):
            low = [node for node in voters if self._is_low(node)]
            able = [node for node in voters if node not in low and self._is_heard(node)]
            if low and 2 * len(able) <= len(voters):
                nodes = ", ".join(f"node {node} ({_mib(self._free_of(node))})" for node in low)
                return DiskFull(
                    f"too few voters have free disk space for writes that add data: {nodes}, the "
                    "free space of their data directories. Nothing was written. Make room there, "
                    "or delete points or collections: writes go on by themselves then"
                )
        return None

    def status(self, members: Sequence[NodeId]) -> dict[str, Any]:
        """For operators."""
        known = ((node, self.trouble_of(node)) for node in members)
        return {
            "space": self.space,
            "free_bytes": self.free_bytes,
            "stalled": self.is_stalled,
            "sync_ticks": self.stalled_ticks,
            "trouble": {
                node: {"space": told.space, "free_bytes": told.free_bytes, "stalled": told.stalled}
                for node, told in known
                if told is not None
            },
        }

    # --- inside ---

    def _is_below(self, threshold: int, *, was: bool) -> bool:
        assert self.free_bytes is not None
        return self.free_bytes < threshold + (threshold >> HYSTERESIS_SHIFT) * was

    def _is_low(self, node: NodeId) -> bool:
        trouble = self.trouble_of(node)
        return trouble is not None and trouble.space != "enough"

    def _free_of(self, node: NodeId) -> int:
        trouble = self.trouble_of(node)
        return trouble.free_bytes if trouble is not None else 0

    def _is_heard(self, node: NodeId) -> bool:
        tick = self._heard.get(node)
        lately = tick is not None and self._now - tick < 2 * self._options.election_ticks
        return lately or node == self._options.node


def _mib(count: int | None) -> str:
    return f"{(count or 0) / MIB:.1f} MiB"

"""When a leader gives leadership away, and to whom.

* It was asked to (a planned stop): for one election timeout, as soon as somebody can take over.
* Its disk hangs: it can acknowledge nothing of its own, so it hands over; if that has not worked an
  election timeout later, it steps down, and the others elect.
* Its disk has too little space: it hands over to a member with enough, if there is one, and stays
  otherwise, for reads and deletes.
"""

from balsadb.cluster.disk_watch import DiskWatch
from balsadb.cluster.options import DriverOptions
from balsadb.raft import Raft
from balsadb.types import NodeId


class Handover:
    """Called on ticks while the node leads, and when it is asked."""

    def __init__(self, options: DriverOptions, raft: Raft, disk: DiskWatch) -> None:
        self._options = options
        self._raft = raft
        self._disk = disk
        self._asked_until = 0
        self._next_try = 0

    def ask(self, now: int) -> bool:
        """The host wants to stop: hand over now, or on one of the next ticks; whether it began."""
        self._asked_until = now + self._options.election_ticks
        return self._begin(self._able())

    def tick(self, now: int) -> None:
        """One tick as leader."""
        options, disk = self._options, self._disk
        if disk.stalled_ticks >= options.disk_stall_ticks + options.election_ticks:
            # Whoever is alone, or has nobody to hear it, gains nothing by that: reads go on.
            if any(node != options.node for node in self._raft.members.nodes):
                self._raft.step_down()
            return
        if now <= self._asked_until:
            self._begin(self._able())
        elif now >= self._next_try and (disk.is_stalled or disk.space != "enough"):
            # A leader that hangs takes what it can get; one that lacks space looks for space.
            roomy = [node for node in self._able() if disk.trouble_of(node) is None]
            if self._begin(roomy or (self._able() if disk.is_stalled else [])):
                # Raft gives a transfer up after an election timeout.
                self._next_try = now + options.election_ticks

    def _able(self) -> list[NodeId]:
        """Voters that are active and have the log, the furthest first; none whose disk hangs.

        Right after each check of the quorum nobody counts as active yet."""
        found: list[tuple[int, int]] = []
        for node, peer in self._raft.status().peers.items():
            trouble = self._disk.trouble_of(node)
            votes = node in self._raft.members and node != self._options.node
            reached = peer.recent_active and peer.state != "snapshot"
            if votes and reached and not (trouble is not None and trouble.stalled):
                found.append((-peer.match, node))
        return [NodeId(node) for _, node in sorted(found)]

    def _begin(self, candidates: list[NodeId]) -> bool:
        if not candidates:
            return False
        self._asked_until = 0
        self._raft.transfer(candidates[0])
        return True

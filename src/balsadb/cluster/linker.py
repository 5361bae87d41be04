"""The linker: on the leader, turns tails of unlinked rows into edits of the graph, and rows without
codes into edits of the codes, one at a time.

It asks the state machine for work in a job (planning computes distances and takes milliseconds to
seconds), proposes what comes back like any other command, and asks again when that is applied. A
long tail is linked while writes go on; a short one when no proposal arrived for a while. Codes that
are due wait for neither: their edits are short. A plan that the log overtook (leader change, a
graph that moved on) is ignored alike by all replicas, so nothing here needs to be undone.
"""

from typing import Literal

from balsadb.cluster.options import DriverOptions

RETRY_TICKS = 10
"""After a plan that was lost or that found nothing, unless something was applied since."""


class Linker:
    """Decides when to plan: it rests, plans (a job runs), or proposes (a plan is in the log)."""

    def __init__(self, options: DriverOptions) -> None:
        self._options = options
        self._now = 0
        self._state: Literal["resting", "planning", "proposing"] = "resting"
        self._proposal_tick = 0
        self._next_tick = 0
        self._dirty = True
        self._looked_idle = False
        self.plans = 0

    @property
    def state(self) -> str:
        """For status."""
        return self._state

    @property
    def is_idle(self) -> bool:
        """Whether no client proposed anything for a while."""
        return self._now - self._proposal_tick >= self._options.link_idle_ticks

    def tick(self) -> None:
        """One tick has passed."""
        self._now += 1

    def proposed(self) -> None:
        """A client's proposal entered the log."""
        self._proposal_tick = self._now

    def applied(self) -> None:
        """Commands were applied: there may be new work."""
        self._dirty = True
        self._looked_idle = False

    def wants_plan(self) -> bool:
        """Whether a plan should be started now (call `started` if it is)."""
        if self._state != "resting":
            return False
        if self._dirty:
            return self._now >= self._next_tick
        # Nothing new since the last look; a short tail may still wait for the idle moment.
        return self.is_idle and not self._looked_idle

    def started(self) -> int:
        """A plan job starts; returns the shortest tail, in rows, worth linking now."""
        self._state = "planning"
        self._dirty = False
        self._looked_idle = self.is_idle
        return 1 if self.is_idle else self._options.link_tail_rows_min

    def planned(self, found: bool) -> None:
        """The job ended; if `found`, its plan is being proposed."""
        self._state = "proposing" if found else "resting"
        if found:
            self.plans += 1
        else:
            # Looking costs little, but not nothing: once a tick is enough.
            self._next_tick = self._now + 1

    def settled(self, linked: bool) -> None:
        """The plan was applied (`linked`), or lost."""
        self._state = "resting"
        self._dirty = True
        self._looked_idle = False
        if not linked:
            self._next_tick = self._now + RETRY_TICKS

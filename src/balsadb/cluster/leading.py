"""What a leader proposes of its own: the members' disks on first contact, the linker's plans."""

from collections.abc import Callable
from typing import Any

from balsadb.cluster.admission import Admission
from balsadb.cluster.effects import LANE_PLAN, Answer, Committed, PlanJob
from balsadb.cluster.linker import Linker
from balsadb.cluster.options import DriverOptions
from balsadb.cluster.snapshots import Port
from balsadb.types import ENTRY_MEMBERS, ENTRY_NORMAL

# Tokens of the driver's own proposals and reads; those of its host are 0 or larger.
TOKEN_LINK = -1
TOKEN_MEMBERS = -2
TOKEN_FIRST_READ = -3

Propose = Callable[[int, list[bytes], int], None]


class Leading:
    """Duties of the leader, done on ticks and when its own proposals are answered."""

    def __init__(self, options: DriverOptions, port: Port, propose: Propose) -> None:
        self._options = options
        self._port = port
        self._propose = propose
        self._members_waiting = False
        self.linker = Linker(options)

    def tick(self, admission: Admission) -> None:
        """One tick as leader."""
        data = None if self._members_waiting else admission.next_to_log()
        if data is not None:
            self._members_waiting = True
            self._propose(TOKEN_MEMBERS, [data], ENTRY_MEMBERS)

    def start_plan(self) -> None:
        """Start a plan job if the linker wants one."""
        if not self.linker.wants_plan():
            return
        tail_rows_min = self.linker.started()
        rows_limit = self._options.link_rows_limit
        self._port.start_job(
            lambda job_id: PlanJob(
                job_id=job_id,
                lane=LANE_PLAN,
                tail_rows_min=tail_rows_min,
                rows_limit=rows_limit,
            ),
            self._planned,
        )

    def settled(self, token: int, answer: Answer, admission: Admission) -> None:
        """One of the driver's own proposals is answered."""
        committed = isinstance(answer, Committed)
        if token == TOKEN_LINK:
            self.linker.settled(linked=committed)
        elif token == TOKEN_MEMBERS:
            self._members_waiting = False
            if not committed:
                admission.leadership_changed()

    def _planned(self, result: Any) -> None:
        if isinstance(result, Exception):
            raise result
        self.linker.planned(found=result is not None)
        if result is not None:
            self._propose(TOKEN_LINK, [result], ENTRY_NORMAL)

"""What the driver asks of the world, and what the world reports back.

The driver (`balsadb.cluster.driver`) never blocks, never waits and never touches a disk, a socket,
a clock or a thread. `Driver.take()` returns one `Effects`; whoever hosts the driver (the shell
with threads, the simulator with simulated time) performs it with the bodies in
`balsadb.cluster.performers` and reports each completion through the method of the driver named
below. Four independent executors, each strictly first in, first out:

=============  =======================  ==================================  =====================
effect         executor                 body                                completion
=============  =======================  ==================================  =====================
`Send`         the network              transport                           none (may be lost)
`WalWork`      the WAL thread           `perform_wal`                       `Driver.wal_done`
`ApplyWork`    the apply thread         `Applier.perform`                   `Driver.apply_done`
`Job`          a thread of `job.lane`   `JobRunner.perform`                 `Driver.job_done`
=============  =======================  ==================================  =====================

At most one `WalWork` is outstanding (that is the group commit). Answers go to whoever holds the
token. `Effects.fatal` ends the process after nothing else is performed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from balsadb.columns import ColumnSet, FrozenColumn
from balsadb.errors import BalsaError
from balsadb.storage import WalBatch
from balsadb.storage.manifest import CheckpointMeta, Manifest
from balsadb.storage.staging import Staging
from balsadb.types import Entry, LogIndex, NodeId, Term


class StateMachine(Protocol):
    """What the log drives: the database, or the simulator's small register.

    `apply` is deterministic; it is called for `ENTRY_NORMAL` entries with data only (a leader's
    empty entry and `ENTRY_MEMBERS` never reach it).
    """

    @property
    def columns(self) -> ColumnSet:
        """Everything it remembers."""
        ...

    def apply(self, index: LogIndex, data: bytes, /) -> Any:
        """Apply one command; a deterministic error is part of the result, never raised."""
        ...


class Linkable(Protocol):
    """A state machine that has link work for the leader (the database)."""

    def link_work(self) -> Any:
        """The next thing to link (with its `tail` in rows, and whether its `codes` are due: those
        do not wait for a longer tail), or None."""
        ...

    def plan(self, work: Any, rows_limit: int, /) -> bytes | None:
        """The encoded command that links at most `rows_limit` rows, or None."""
        ...

    def maintenance(self) -> list[bytes]:
        """Encoded commands for housekeeping, to be proposed in a quiet moment; mostly none."""
        ...


# --- network ---------------------------------------------------------------------------------


class Send(NamedTuple):
    """One frame (`balsadb.cluster.frames`) for `target` on `lane`; may be lost, never blocks."""

    lane: str
    target: NodeId
    data: bytes


# --- write-ahead log -------------------------------------------------------------------------


class WalWork(NamedTuple):
    """One group commit: write and sync `batch` (None: nothing to write), then drop segments that
    lie wholly at or below `compact` (0: none). Report with `Driver.wal_done(number)`."""

    number: int
    batch: WalBatch | None
    compact: LogIndex


# --- apply -----------------------------------------------------------------------------------


class ApplyEntries(NamedTuple):
    """Apply committed entries in order; at most a few milliseconds or megabytes together."""

    entries: Sequence[Entry]


class ApplyFreeze(NamedTuple):
    """Freeze every column, between two entries, for the checkpoint with this job id."""

    job_id: int


class ApplyRestore(NamedTuple):
    """Replace the state machine by one built from the (durable, verified) checkpoint."""

    manifest: Manifest


ApplyWork = ApplyEntries | ApplyFreeze | ApplyRestore


class AppliedEntries(NamedTuple):
    """Results by log index; None for entries that are not commands."""

    results: Sequence[tuple[LogIndex, Any]]


@dataclass(frozen=True, slots=True)
class AppliedFreeze:
    """The columns as they were right after entry `index`."""

    job_id: int
    index: LogIndex
    frozen: Sequence[FrozenColumn]


@dataclass(frozen=True, slots=True)
class AppliedRestore:
    """The state machine is now the checkpoint of `index`."""

    index: LogIndex


ApplyDone = AppliedEntries | AppliedFreeze | AppliedRestore

# --- jobs ------------------------------------------------------------------------------------

LANE_DISK = "disk"
"""Jobs that write checkpoints; one at a time."""
LANE_SERVE = "serve"
"""Jobs that read checkpoints for a peer; one at a time."""
LANE_PLAN = "plan"
"""Jobs that compute link plans; one at a time."""
JOB_LANES = (LANE_DISK, LANE_SERVE, LANE_PLAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work off the driver's thread. `lane` names the thread; jobs of a lane run in order."""

    job_id: int
    lane: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointJob(Job):
    """`CheckpointStore.write`; returns the `Manifest`. Releases the frozen columns."""

    meta: CheckpointMeta
    frozen: Sequence[FrozenColumn]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectJob(Job):
    """`CheckpointStore.collect(keep, also)`; returns None."""

    keep: int
    also: Sequence[LogIndex]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOpenJob(Job):
    """`CheckpointStore.stage`; returns the `Staging` (what is present already is not missing)."""

    manifest_bytes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePutJob(Job):
    """`Staging.put` of one chunk; returns None."""

    staging: Staging
    digest: bytes
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFinishJob(Job):
    """`Staging.finish`; returns the durable `Manifest`."""

    staging: Staging


@dataclass(frozen=True, slots=True, kw_only=True)
class StageAbandonJob(Job):
    """`Staging.abandon`; returns None. What was stored may be found again by a later staging."""

    staging: Staging


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadManifestJob(Job):
    """`CheckpointStore.manifest_bytes(index)`; returns bytes, or None when it is gone."""

    index: LogIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadChunkJob(Job):
    """`CheckpointStore.read_chunk(digest)`; returns bytes, or None when it is gone."""

    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanJob(Job):
    """Ask the state machine for link work and plan it; returns the encoded command, or None when
    nothing is worth an edit (`tail_rows_min`: shorter tails wait; codes that are due do not)."""

    tail_rows_min: int
    rows_limit: int


# --- answers ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Committed:
    """A proposal's fate: committed and applied (`results` holds one result an entry), or only
    committed when it was proposed with `wait_applied=False` (`results` empty). `index` and `term`
    are those of its last entry."""

    index: LogIndex
    term: Term
    results: Sequence[Any]


@dataclass(frozen=True, slots=True)
class ReadReady:
    """The state machine has applied `index`, which covers all that was acknowledged, anywhere in
    the cluster, before the read was asked for."""

    index: LogIndex


class Failed(NamedTuple):
    """`error.outcome` says whether it certainly did not happen."""

    error: BalsaError


Answer = Committed | ReadReady | Failed


@dataclass(slots=True)
class Effects:
    """What to do now. The parts are independent of each other; inside a part order matters."""

    sends: list[Send] = field(default_factory=list[Send])
    wal: list[WalWork] = field(default_factory=list[WalWork])
    apply: list[ApplyWork] = field(default_factory=list[ApplyWork])
    jobs: list[Job] = field(default_factory=list[Job])
    answers: list[tuple[int, Answer]] = field(default_factory=list[tuple[int, Answer]])
    fatal: BaseException | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.sends or self.wal or self.apply or self.jobs or self.answers or self.fatal)

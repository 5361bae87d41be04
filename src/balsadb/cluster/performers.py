"""The bodies of the executors: what a host (shell or simulator) runs for each effect.

They are plain synchronous calls; which thread runs them, and when, is the host's business. Each
body belongs to exactly one executor (`balsadb.cluster.effects`), so none needs a lock.
"""

from collections.abc import Callable
from typing import Any, cast

from balsadb.cluster.effects import (
    AppliedEntries,
    AppliedFreeze,
    AppliedRestore,
    ApplyDone,
    ApplyEntries,
    ApplyFreeze,
    ApplyWork,
    CheckpointJob,
    CollectJob,
    Job,
    Linkable,
    PlanJob,
    ReadChunkJob,
    ReadManifestJob,
    StageAbandonJob,
    StageFinishJob,
    StageOpenJob,
    StagePutJob,
    StateMachine,
    WalWork,
)
from balsadb.columns import ColumnSet
from balsadb.storage import Wal
from balsadb.storage.checkpoints import CheckpointStore
from balsadb.types import ENTRY_NORMAL, LogIndex

MachineFactory = Callable[[ColumnSet | None], StateMachine]
"""Builds the state machine: empty for None, else from a checkpoint's columns."""


def perform_wal(wal: Wal, work: WalWork) -> None:
    """One group commit: write, one sync, then drop what is compacted. Raises `DiskFailed`."""
    if work.batch is not None:
        wal.write(work.batch)
        wal.sync()
    if work.compact:
        wal.compact(work.compact)


class Applier:
    """Body of the apply thread; owner of the state machine.

    `machine` is replaced as a whole when a snapshot is installed, so readers take the attribute
    once per read.
    """

    def __init__(
        self,
        machine: StateMachine,
        applied: LogIndex,
        store: CheckpointStore,
        factory: MachineFactory,
    ) -> None:
        self.machine = machine
        self.applied = applied
        self._store = store
        self._factory = factory

    def perform(self, work: ApplyWork) -> ApplyDone:
        """Do one piece of work. Whatever it raises must end the process."""
        if isinstance(work, ApplyEntries):
            results: list[tuple[LogIndex, Any]] = []
            for entry in work.entries:
                if entry.index != self.applied + 1:
                    raise AssertionError(f"entry {entry.index} after applied {self.applied}")
                command = entry.kind == ENTRY_NORMAL and len(entry.data) > 0
                result = self.machine.apply(entry.index, entry.data) if command else None
                self.applied = entry.index
                results.append((entry.index, result))
            return AppliedEntries(results)
        if isinstance(work, ApplyFreeze):
            return AppliedFreeze(work.job_id, self.applied, self.machine.columns.freeze())
        self.machine = self._factory(self._store.load(work.manifest))
        self.applied = LogIndex(work.manifest.index)
        return AppliedRestore(self.applied)


class JobRunner:
    """Bodies of the jobs. Different lanes may run at the same time, on different threads."""

    def __init__(self, store: CheckpointStore, applier: Applier) -> None:
        self._store = store
        self._applier = applier

    def perform(self, job: Job) -> Any:
        """The job's result; what it raises is handed to `Driver.job_done` as the result."""
        match job:
            case CheckpointJob():
                return self._store.write(job.meta, job.frozen)
            case CollectJob():
                return self._store.collect(job.keep, job.also)
            case StageOpenJob():
                return self._store.stage(job.manifest_bytes)
            case StagePutJob():
                return job.staging.put(job.digest, job.data)
            case StageFinishJob():
                return job.staging.finish()
            case StageAbandonJob():
                return job.staging.abandon()
            case ReadManifestJob():
                return self._store.manifest_bytes(job.index)
            case ReadChunkJob():
                return self._store.read_chunk(job.digest)
            case PlanJob():
                return self._plan(job)
            case _:
                raise AssertionError(f"unknown job {type(job).__name__}")

    def _plan(self, job: PlanJob) -> bytes | None:
        machine = self._applier.machine
        if not hasattr(machine, "link_work"):
            return None
        linkable = cast("Linkable", machine)
        work = linkable.link_work()
        if work is not None and (work.codes or work.tail >= job.tail_rows_min):
            return linkable.plan(work, job.rows_limit)
        # Housekeeping waits for the same quiet moments as short tails do.
        commands = linkable.maintenance() if job.tail_rows_min <= 1 else []
        return commands[0] if commands else None

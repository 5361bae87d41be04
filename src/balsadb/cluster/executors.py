"""The threads that perform the driver's effects, each strictly in order; completions go back
through `report`, which carries them to the driver's own thread."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from balsadb.cluster.driver import Driver
from balsadb.cluster.effects import JOB_LANES, ApplyWork, Effects, Job, WalWork
from balsadb.cluster.performers import Applier, JobRunner, perform_wal
from balsadb.cluster.workers import Fatal, SpaceWatch, Worker
from balsadb.errors import BalsaError
from balsadb.storage import Wal


@dataclass(frozen=True, slots=True)
class Parts:
    """What the threads work on."""

    wal: Wal
    applier: Applier
    jobs: JobRunner
    free_bytes: Callable[[], int] | None = None
    """Measures the space left for the data; None: not watched."""


class Executors:
    """One thread for the log, one for apply, one for each lane of jobs."""

    def __init__(
        self,
        parts: Parts,
        driver: Driver,
        report: Callable[[Callable[[], None]], None],
        fatal: Fatal,
    ) -> None:
        self._parts = parts
        self._driver = driver
        self._report = report
        self._wal = Worker("wal", fatal)
        self._apply = Worker("apply", fatal)
        self._jobs = {lane: Worker(f"job-{lane}", fatal) for lane in JOB_LANES}
        self._space = None
        if parts.free_bytes is not None:
            self._space = SpaceWatch(parts.free_bytes, self._do_measured)

    def start(self) -> None:
        """Start all threads."""
        for worker in self._workers():
            worker.start()
        if self._space is not None:
            self._space.start()

    def stop(self) -> None:
        """Let each finish what it has, then end it; the log's own thread closes the log."""
        if self._space is not None:
            self._space.stop()
        self._wal.submit(self._parts.wal.close)
        for worker in self._workers():
            worker.stop()

    def submit(self, effects: Effects) -> None:
        """Queue the works of one `Driver.take`; the driver bounds what is outstanding."""
        for work in effects.wal:
            self._wal.submit(partial(self._do_wal, work))
        for work in effects.apply:
            self._apply.submit(partial(self._do_apply, work))
        for job in effects.jobs:
            self._jobs[job.lane].submit(partial(self._do_job, job))

    @property
    def depths(self) -> dict[str, int]:
        """Works waiting, by thread."""
        waiting = {f"job_{lane}": worker.depth for lane, worker in self._jobs.items()}
        return {"wal": self._wal.depth, "apply": self._apply.depth, **waiting}

    def _workers(self) -> list[Worker]:
        return [self._wal, self._apply, *self._jobs.values()]

    def _do_wal(self, work: WalWork) -> None:
        perform_wal(self._parts.wal, work)
        self._report(partial(self._driver.wal_done, work.number))

    def _do_apply(self, work: ApplyWork) -> None:
        done = self._parts.applier.perform(work)
        self._report(partial(self._driver.apply_done, done))

    def _do_measured(self, free_bytes: int) -> None:
        self._report(partial(self._driver.disk_space, free_bytes))

    def _do_job(self, job: Job) -> None:
        result: Any
        try:
            result = self._parts.jobs.perform(job)
        except BalsaError as error:
            result = error
        self._report(partial(self._driver.job_done, job.job_id, result))

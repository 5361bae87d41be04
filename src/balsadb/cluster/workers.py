"""Threads of a node: each takes work from one queue, strictly in order, and reports back to the
shell's event loop. A failure that is not a `BalsaError` result ends the process (see `Fatal`): a
node that cannot be trusted must not go on.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from balsadb.errors import DiskFailed

Fatal = Callable[[BaseException], None]
"""Called with what escaped from a worker; it does not return in a real process."""


class Worker:
    """One daemon thread with a FIFO of thunks."""

    def __init__(self, name: str, fatal: Fatal) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._fatal = fatal
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Queue `work`; whoever feeds a worker bounds what is outstanding."""
        self._queue.put(work)

    @property
    def depth(self) -> int:
        """Works waiting."""
        return self._queue.qsize()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish what is queued, then end the thread."""
        self._queue.put(None)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while (work := self._queue.get()) is not None:
                work()
        except BaseException as error:
            self._fatal(error)


class SpaceWatch:
    """Measures the free space of a disk again and again, on a thread of its own: a file system that
    hangs answers late, and nobody waits for it."""

    def __init__(
        self, measure: Callable[[], int], report: Callable[[int], None], period_s: float = 0.5
    ) -> None:
        self._measure = measure
        self._report = report
        self._period_s = period_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="space", daemon=True)

    def start(self) -> None:
        """Start measuring; the first figure comes at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop measuring. Does not wait: the disk may hang."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            # A figure that cannot be had is no failed write: the last one stands.
            with contextlib.suppress(DiskFailed):
                self._report(self._measure())
            self._stopped.wait(self._period_s)


class Pulse:
    """Measures how long anything holds the interpreter lock: a thread that wants to run every
    `period_s` and notes how late it is.

    What it sees includes the machine's own scheduling delay, so it is an upper bound.
    """

    def __init__(self, period_s: float = 0.02) -> None:
        self.longest_s = 0.0
        self._period_s = period_s
        self._recent: list[float] = [0.0] * 64
        self._position = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Start measuring."""
        self._thread.start()

    def stop(self) -> None:
        """Stop measuring."""
        self._stopped.set()

    def status(self) -> dict[str, Any]:
        """`longest_ms` since start and `recent_ms` over the last minute or so."""
        return {
            "longest_ms": round(self.longest_s * 1e3, 3),
            "recent_ms": round(max(self._recent) * 1e3, 3),
        }

    def _run(self) -> None:
        rounds = 0
        while True:
            before = time.monotonic()
            if self._stopped.wait(self._period_s):
                return
            late = time.monotonic() - before - self._period_s
            self.longest_s = max(self.longest_s, late)
            # One cell of the ring holds the worst of about one second.
            self._recent[self._position] = max(self._recent[self._position], late)
            rounds += 1
            if rounds % 50 == 0:
                self._position = (self._position + 1) % len(self._recent)
                self._recent[self._position] = 0.0

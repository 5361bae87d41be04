"""Readers and one writer, in threads. The writer is `apply`, the readers are searches."""

from collections.abc import Generator
from contextlib import contextmanager
from threading import Condition, Lock

Mutex = Lock
"""Guards a derived structure that readers build; the only other lock of this package."""


class SharedLock:
    """Many readers or one writer. A waiting writer holds back new readers, so that a stream of
    searches cannot starve apply; and a writer that leaves lets in the readers that wait by then, so
    that a backlog of entries cannot starve searches.

    An uncontended acquire and release cost about one microsecond together. Not re-entrant: a
    reader that takes it again while a writer waits would wait for itself.
    """

    __slots__ = (
        "_admitted",
        "_mutex",
        "_no_readers",
        "_readers",
        "_readers_waiting",
        "_turn",
        "_writers_waiting",
        "_writing",
    )

    def __init__(self) -> None:
        self._mutex = Lock()
        self._no_readers = Condition(self._mutex)
        self._admitted = Condition(self._mutex)
        self._turn = 0
        self._readers = 0
        self._readers_waiting = 0
        self._writing = False
        self._writers_waiting = 0

    def acquire_shared(self) -> None:
        """Wait for the writer that holds the lock or is next, if there is one."""
        with self._mutex:
            if not (self._writing or self._writers_waiting):
                self._readers += 1
                return
            turn = self._turn
            self._readers_waiting += 1
            while self._turn == turn:
                self._admitted.wait()

    def release_shared(self) -> None:
        """Undo one `acquire_shared`."""
        with self._mutex:
            assert self._readers > 0
            self._readers -= 1
            if not self._readers and self._writers_waiting:
                self._no_readers.notify()

    def acquire_exclusive(self) -> None:
        """Wait until nobody holds the lock."""
        with self._mutex:
            self._writers_waiting += 1
            try:
                while self._writing or self._readers:
                    self._no_readers.wait()
            finally:
                self._writers_waiting -= 1
            self._writing = True

    def release_exclusive(self) -> None:
        """Undo `acquire_exclusive`."""
        with self._mutex:
            assert self._writing
            self._writing = False
            if self._readers_waiting:
                # Counted in here, not when they wake: this thread may be back before they run.
                self._readers += self._readers_waiting
                self._readers_waiting = 0
                self._turn += 1
                self._admitted.notify_all()
            elif self._writers_waiting:
                self._no_readers.notify()

    @contextmanager
    def shared(self) -> Generator[None]:
        """Hold the lock with other readers."""
        self.acquire_shared()
        try:
            yield
        finally:
            self.release_shared()

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Hold the lock alone."""
        self.acquire_exclusive()
        try:
            yield
        finally:
            self.release_exclusive()

"""Threads that ask a cluster for something, again and again."""

import threading
from collections.abc import Callable

from balsadb.errors import BalsaError


class Worker:
    """A thread that repeats `step(turn)` until it is told to stop, with a pause after each; what
    went wrong is kept."""

    def __init__(self, step: Callable[[int], None], pause_s: float = 0.0) -> None:
        self.done = 0
        self.unavailable = 0
        self.failure: BaseException | None = None
        self._step = step
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the current step; raises what the thread raised."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        turn = 0
        while not self._stop.is_set():
            try:
                self._step(turn)
                self.done += 1
            except BalsaError as error:
                if not error.retryable:
                    self.failure = error
                    return
                self.unavailable += 1
            except AssertionError as error:
                self.failure = error
                return
            turn += 1
            self._stop.wait(self._pause_s)

"""Threads that ask a cluster for something, again and again."""

import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from balsadb.cli.local_cluster import NodeProcess
from balsadb.client import Options
from balsadb.errors import BalsaError
from tests.chaos.clusters import client_of, vectors

THINGS = "things"
SIZE = 4
PATIENT = Options(timeout_s=30.0, tries_max=10_000, pause_max_s=0.1)
"""A write is repeated with its session until it is known to be done."""


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


class Writer(Worker):
    """Stores points in `THINGS` one by one, with payloads of so many bytes. `written` are those
    that were acknowledged, `times` when."""

    def __init__(
        self, nodes: Sequence[NodeProcess], *, pause_s: float = 0.02, payload_bytes: int = 1
    ) -> None:
        self.written: list[int] = []
        self.times: list[float] = []
        self._client = client_of(nodes, PATIENT)
        self._data = vectors(64, SIZE)
        self._payload = {"text": "x" * payload_bytes}
        super().__init__(self._store, pause_s)

    def stop(self) -> None:
        """End after the current write."""
        super().stop()
        self._client.close()

    def count_since(self, began: float) -> int:
        """How many writes were acknowledged since then."""
        return sum(at > began for at in self.times)

    def gap_s(self, began: float) -> float:
        """The longest time without an acknowledgement from then to the last one."""
        times = [began, *(at for at in self.times if at > began)]
        return max((later - earlier for earlier, later in pairwise(times)), default=float("inf"))

    def _store(self, turn: int) -> None:
        self._client.upsert_batch(THINGS, [turn], self._data[turn % 64][None], [self._payload])
        self.times.append(time.monotonic())
        self.written.append(turn)


def create(nodes: Sequence[NodeProcess], name: str = THINGS) -> None:
    """Create a collection of short vectors."""
    with client_of(nodes, PATIENT) as client:
        client.create_collection(name, {"size": SIZE, "distance": "Euclid"})

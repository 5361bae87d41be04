"""Writing and searching without pause, while somebody kills the leader."""

import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from balsadb.client import Client, Options
from balsadb.errors import BalsaError

FIRST_ID = 1_000_000
"""Ids of the points written under load start here, far from the films'."""

PATIENT = Options(timeout_s=30.0, tries_max=10_000, pause_max_s=0.02)
"""Repeats at once, so that the gap that is measured is the cluster's and not the client's."""


class Outcome(NamedTuple):
    """What one worker saw. `times` are the seconds (monotonic) of its successes."""

    times: list[float]
    errors: list[str]

    def gap_ms(self, since: float) -> float:
        """The longest time between two successes in a row, the second of which came after `since`,
        in milliseconds."""
        gaps = [later - earlier for earlier, later in pairwise(self.times) if later > since]
        return max(gaps, default=float("inf")) * 1000

    def count_after(self, since: float) -> int:
        """How many successes came after `since`."""
        return sum(at > since for at in self.times)


class Worker:
    """A thread that repeats one step until it is told to stop."""

    def __init__(self, name: str, urls: Sequence[str]) -> None:
        self.outcome = Outcome([], [])
        self._client = Client(urls, options=PATIENT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> Outcome:
        """End the thread after its current step; what it saw."""
        self._stop.set()
        self._thread.join()
        self._client.close()
        return self.outcome

    def step(self, client: Client, turn: int) -> None:
        """Do one thing that succeeds or raises a `BalsaError`."""
        raise NotImplementedError

    def _run(self) -> None:
        turn = 0
        while not self._stop.is_set():
            try:
                self.step(self._client, turn)
            except BalsaError as error:
                self.outcome.errors.append(f"{error.code}: {error.message}")
                continue
            self.outcome.times.append(time.monotonic())
            turn += 1


class Writer(Worker):
    """Stores points, one by one; `written` are the ids that were acknowledged."""

    def __init__(self, urls: Sequence[str], collection: str, vectors: NDArray[np.float32]) -> None:
        self.written: list[int] = []
        self._collection = collection
        self._vectors = vectors
        super().__init__("writer", urls)

    def step(self, client: Client, turn: int) -> None:
        """Store the next point."""
        point_id = FIRST_ID + turn
        vector = self._vectors[turn % len(self._vectors)]
        payload = {"title": f"written under load {turn}", "year": 2024}
        client.upsert_batch(self._collection, [point_id], vector[None], [payload])
        self.written.append(point_id)


class Searcher(Worker):
    """Searches on one node, with or without the promise of linearizability."""

    def __init__(
        self, url: str, collection: str, vectors: NDArray[np.float32], *, local: bool = False
    ) -> None:
        self._collection = collection
        self._vectors = vectors
        self._local = local
        super().__init__("searcher", [url])

    def step(self, client: Client, turn: int) -> None:
        """Search the next vector."""
        asked = client.with_options(local=True) if self._local else client
        vector = self._vectors[turn % len(self._vectors)]
        found = asked.query(self._collection, vector, limit=10, with_payload=False)
        assert len(found) == 10, "a search must find what it asks for"

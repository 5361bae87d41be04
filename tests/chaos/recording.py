"""Clients that record what they asked, when, and what they were told, for the checker.

Registers are points of one collection with a value in the payload: written whole, read, deleted,
and changed if they have a value (`set_payload` by a filter, whose answer does not say whether it
found one). A new register begins every few seconds, so that what is unknown of one is no burden to
the next. Small collections, one at a time, are written and deleted point by point, counted, and
searched for all that is visible.
"""

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from balsadb.cli.local_cluster import LocalCluster
from balsadb.client import Client, Options
from balsadb.errors import BalsaError
from tests.chaos.clusters import client_of
from tests.chaos.load import SIZE, Worker, create
from tests.linearizability.checker import UNKNOWN, Operation
from tests.linearizability.histories import write_lines
from tests.linearizability.models import Ask, Points, check_recorded

REGISTERS = "registers"
REGISTER_S = 4.0
"""How long a register is used."""
POINTS = range(6)
"""Of a small collection."""
OPTIONS = Options(timeout_s=5.0, tries_max=1000, pause_max_s=0.1)
"""A write is repeated with its session until it is known to be done, or five seconds are over."""
HASTY = Options(timeout_s=1.0, tries_max=1)
"""A write is sent once: what becomes of it often stays unknown."""
HASTY_SHARE = 0.2
DECIDE_S = 600.0
_READS = ("read", "retrieve", "count", "search")


class Recorder:
    """What all clients saw, in one history."""

    def __init__(self) -> None:
        self.history: list[Operation] = []
        self.refused = 0
        """Writes that were answered with an error which says that they were not done, and reads
        without an answer: they explain nothing and forbid nothing."""
        self._began = time.monotonic()
        self._values = 0
        self._lock = threading.Lock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def value(self) -> int:
        """One that was never written."""
        with self._lock:
            self._values += 1
            return self._values

    def record(self, process: int, request: Ask | Points, act: Callable[[], Any]) -> Any:
        """Do it, and note what came of it; the result, `UNKNOWN` without one."""
        called = self.elapsed_s
        returned, result = math.inf, UNKNOWN
        try:
            result = act()
            returned = self.elapsed_s
        except BalsaError as error:
            if not error.retryable:
                raise
            if request.kind in _READS or error.outcome == "failed":
                with self._lock:
                    self.refused += 1
                return UNKNOWN
        operation = Operation(process, called, returned, request, result)
        with self._lock:
            self.history.append(operation)
        return result

    def write(self, file: Path) -> None:
        """Write the history, as `python -m tests.linearizability` reads it."""
        file.write_text("".join(f"{line}\n" for line in write_lines(self.history)))

    def check(self) -> str:
        """Fails if the history has no explanation, else says how large it was."""
        violation = check_recorded(self.history, seconds=DECIDE_S)
        assert violation is None, "no explanation of\n" + "\n".join(map(str, violation.part))
        kinds = Counter(operation.request.kind for operation in self.history)
        unknown = sum(not operation.is_known for operation in self.history)
        return (
            f"{len(self.history)} operations are linearizable "
            f"({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}), "
            f"{unknown} of unknown outcome; {self.refused} refused"
        )


class Clients:
    """One thread's clients, each asking another node first; and what it does with them."""

    def __init__(self, cluster: LocalCluster, recorder: Recorder, process: int) -> None:
        nodes = cluster.nodes
        self.process = process
        self.recorder = recorder
        self.chance = random.Random(process)
        turns = [nodes[first:] + nodes[:first] for first in range(len(nodes))]
        self._patient = [client_of(turn, OPTIONS) for turn in turns]
        self._hasty = [client_of(turn, HASTY) for turn in turns]

    def any(self) -> Client:
        """One of them, by chance."""
        hasty = self.chance.random() < HASTY_SHARE
        return self.chance.choice(self._hasty if hasty else self._patient)

    def close(self) -> None:
        """Close all."""
        for client in (*self._patient, *self._hasty):
            client.close()

    def step_of_registers(self, turn: int) -> None:
        """One operation on the register of the moment, or on the one before."""
        client = self.any()
        age = int(self.recorder.elapsed_s / REGISTER_S)
        key = 1 + max(0, age - self.chance.choice((0, 0, 0, 1)))
        kind = self.chance.choice(("read", "read", "write", "write", "cas", "delete"))
        if kind == "read":
            self._read(client, key)
        elif kind == "write":
            value = self.recorder.value()
            point = {"id": key, "vector": [1.0] * SIZE, "payload": {"value": value}}
            self._do(Ask("write", key, value), lambda: client.upsert(REGISTERS, [point]))
        elif kind == "delete":
            self._do(Ask("write", key, None), lambda: client.delete(REGISTERS, [key]))
        else:
            self._change(client, key)

    def step_of_points(self, collection: Callable[[], str]) -> Callable[[int], None]:
        """Steps with the small collection that `collection` names at the time."""

        def step(turn: int) -> None:
            name, client = collection(), self.any()
            key = self.chance.choice(POINTS)
            kind = self.chance.choice(
                ("upsert", "upsert", "delete", "retrieve", "count", "search", "search")
            )
            if kind == "upsert":
                value = self.recorder.value()
                vector = [self.chance.random() for _ in range(SIZE)]
                point = {"id": key, "vector": vector, "payload": {"value": value}}
                request = Points(kind, key, value, name)
                self._do(request, lambda: client.upsert(name, [point]))
            elif kind == "delete":
                self._do(Points(kind, key, None, name), lambda: client.delete(name, [key]))
            elif kind == "retrieve":
                request = Points(kind, key, None, name)
                self.recorder.record(self.process, request, lambda: value_of(client, name, key))
            elif kind == "count":
                request = Points(kind, None, None, name)
                self.recorder.record(self.process, request, lambda: client.count(name))
            else:
                exact = self.chance.random() < 0.5
                request = Points(kind, None, None, name)
                self.recorder.record(
                    self.process, request, lambda: visible(client, name, exact=exact)
                )

        return step

    def _do(self, request: Ask | Points, act: Callable[[], object]) -> None:
        """A write whose answer says that it was done, and nothing more."""

        def done() -> Any:
            act()
            return UNKNOWN if request.kind == "cas" else None

        self.recorder.record(self.process, request, done)

    def _read(self, client: Client, key: int) -> Any:
        request = Ask("read", key)
        return self.recorder.record(self.process, request, lambda: value_of(client, REGISTERS, key))

    def _change(self, client: Client, key: int) -> None:
        """Change the value if it is still what was just read."""
        expected = self._read(client, key)
        if not isinstance(expected, int):
            return
        value = self.recorder.value()
        still = {"must": [{"has_id": [key]}, {"key": "value", "match": {"value": expected}}]}
        self._do(
            Ask("cas", key, value, expected),
            lambda: client.set_payload(REGISTERS, {"value": value}, filter=still),
        )


def value_of(client: Client, collection: str, key: int) -> int | None:
    """The value of a point, None if there is no point."""
    found = client.retrieve(collection, [key])
    return None if not found else _value(found[0].payload)


def visible(client: Client, collection: str, *, exact: bool) -> frozenset[tuple[int, int]]:
    """All points that a search finds, with their values."""
    found = client.query(collection, [0.5] * SIZE, limit=100, exact=exact)
    return frozenset((int(point.id), _value(point.payload)) for point in found)


def _value(payload: Any) -> int:
    return int(payload["value"])


class Recorded:
    """A cluster under recorded load: `registers` threads on registers, `points` threads on small
    collections, each with a pause after every operation."""

    def __init__(
        self, cluster: LocalCluster, *, registers: int = 3, points: int = 3, pause_s: float = 0.05
    ) -> None:
        self.recorder = Recorder()
        self._nodes = cluster.nodes
        self._collections = 0
        create(self._nodes, REGISTERS)
        self.next_collection()
        several = range(1, registers + points + 1)
        self._clients = [Clients(cluster, self.recorder, number) for number in several]
        steps = [clients.step_of_registers for clients in self._clients[:registers]]
        steps += [
            clients.step_of_points(lambda: self.collection) for clients in self._clients[registers:]
        ]
        self.workers: Sequence[Worker] = [Worker(step, pause_s) for step in steps]

    @property
    def collection(self) -> str:
        """The small collection of the moment."""
        return f"points{self._collections}"

    def next_collection(self) -> None:
        """Go on with a new small collection."""
        create(self._nodes, f"points{self._collections + 1}")
        self._collections += 1

    def stop(self) -> None:
        """End all threads; raises what one of them raised."""
        try:
            for worker in self.workers:
                worker.stop()
        finally:
            for clients in self._clients:
                clients.close()

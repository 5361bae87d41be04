"""What the clients saw, as a history that `tests.linearizability` can judge.

The checks after every event look inside the nodes. This one believes nobody: it knows when a client
asked, when it was answered, and what the answer was, and asks whether one register for each key
could have answered so.

A write goes on over its retries: one session and sequence, applied once. It has no return if the
client gave up. A write nobody acknowledged and nobody read is left out: values are written once, so
it may as well not have happened, and the search is spared every choice of where to put it.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

from tests.linearizability.checker import UNKNOWN, Operation, check
from tests.linearizability.models import Ask, Register
from tests.simulation.checker import require
from tests.simulation.register import KEYS, Command

if TYPE_CHECKING:
    from tests.simulation.node import SimNode

_NOBODY = -1
"""The process that looks at the replicas in the end."""


class _Write(NamedTuple):
    called: int
    command: Command


class History:
    """Operations of all clients on all keys, in simulated microseconds."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._open: dict[tuple[int, int], _Write] = {}

    def write_called(self, now: int, command: Command) -> None:
        """The first attempt; further ones change nothing."""
        self._open.setdefault((command.client, command.sequence), _Write(now, command))

    def write_returned(self, now: int, command: Command) -> None:
        """It was acknowledged."""
        called, _ = self._open.pop((command.client, command.sequence))
        ask = Ask("write", command.key, command.value)
        self.operations.append(Operation(command.client, called, now, ask, None))

    def read(self, process: int, called: int, now: int, values: list[int | None]) -> None:
        """A read of every key was answered."""
        self.operations.extend(
            Operation(process, called, now, Ask("read", key), value)
            for key, value in enumerate(values)
        )

    def check(self, *, seconds: float = math.inf) -> None:
        """Raise `Violation` unless some order explains every answer."""
        seen = {one.result for one in self.operations if one.request.kind == "read"}
        lost = [
            Operation(
                command.client,
                called,
                math.inf,
                Ask("write", command.key, command.value),
                UNKNOWN,
            )
            for called, command in self._open.values()
            if command.value in seen
        ]
        found = check(Register(), [*self.operations, *lost], seconds=seconds)
        if found is None:
            return
        explained = {id(one) for one in found.longest}
        rest = [one for one in found.part if one.is_known and id(one) not in explained]
        require(False, "linearizable history", (rest[:3], "after", found.longest[-3:]))


def values_of(node: "SimNode") -> list[int | None] | None:
    """What a read at this node sees of each key now (None: never written); None if the node's state
    machine is not made of registers."""
    machine = node.boot.applier.machine
    if not hasattr(machine, "read"):
        return None
    return [value or None for value, _ in map(machine.read, range(KEYS))]


def read_replicas(history: History, now: int, nodes: "list[SimNode]") -> None:
    """In the end each replica is read once more."""
    for node in nodes:
        values = values_of(node)
        if values is not None:
            history.read(_NOBODY, now, now, values)

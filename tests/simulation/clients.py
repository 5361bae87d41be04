"""Clients with sessions: they write and read, retry what is unknown, and tell the checker."""

from typing import TYPE_CHECKING, Any

from balsadb.cluster.effects import Answer, Committed, Failed, ReadReady
from balsadb.errors import NotLeader
from tests.simulation.checker import require
from tests.simulation.history import values_of
from tests.simulation.register import KEYS, Command, encode_command

if TYPE_CHECKING:
    from tests.simulation.node import SimNode
    from tests.simulation.world import World

PATIENCE_US = 2_500_000


class Client:
    """One request at a time. A write keeps its sequence over retries."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.sequence = 0
        self.attempt = 0
        self.command: Command | None = None
        self.target = 1
        self.stopped = False
        self.acked = 0
        self._request = 0
        self._data = b""
        self._floor = 0
        self._called = 0

    def think(self) -> None:
        """Pause, then act."""
        knobs = self.world.knobs
        self.world.schedule(
            1 + int(self.world.rng.random() * 2 * knobs.think_us), self._act, self._request
        )

    def _act(self, request: int) -> None:
        if request != self._request or (self.stopped and self.command is None):
            return
        rng = self.world.rng
        if self.command is None and rng.random() < 0.3:
            self.target = rng.randrange(1, len(self.world.nodes) + 1)
            self._read()
            return
        if self.command is None:
            self.sequence += 1
            value = self.number * 1_000_000 + self.sequence
            self.command = Command(self.number, self.sequence, rng.randrange(KEYS), value, b"")
            self.world.history.write_called(self.world.now, self.command)
        self._write(self.command)

    def _write(self, command: Command) -> None:
        # Each attempt has bytes of its own, so that the log shows which attempts reached it.
        self.attempt += 1
        padding = self.attempt.to_bytes(4, "little") + bytes(
            self.world.rng.randrange(self.world.knobs.padding_max + 1)
        )
        self._data = encode_command(
            Command(command.client, command.sequence, command.key, command.value, padding)
        )
        data = [self._data]
        token = self._begin()
        wait_applied = self.world.rng.random() < 0.9
        sent = self.world.nodes[self.target].call(
            lambda driver: driver.propose(token, data, deadline_ticks=40, wait_applied=wait_applied)
        )
        if not sent:
            self._elsewhere(0)

    def _read(self) -> None:
        self._floor = self.world.checker.commit_max
        self._called = self.world.now
        token = self._begin()
        if not self.world.nodes[self.target].call(
            lambda driver: driver.read(token, deadline_ticks=30)
        ):
            self._elsewhere(0)

    def _begin(self) -> int:
        self._request += 1
        token = self.world.token(self)
        self.world.schedule(PATIENCE_US, self._impatient, self._request)
        return token

    def _impatient(self, request: int) -> None:
        """The node died with the request: the outcome is unknown."""
        if request == self._request:
            self._unknown()

    def answered(self, node: "SimNode", data: bytes, answer: Answer) -> None:
        """The answer to the request under way (late ones do not get here)."""
        checker = self.world.checker
        if isinstance(answer, Committed):
            checker.acknowledged(answer.index, answer.term, data)
            if answer.results:
                kind, _ = answer.results[0]
                require(kind in {"set", "repeated"}, "at most once, and not too late", kind)
            self.acked += 1
            if self.command is not None:
                self.world.history.write_returned(self.world.now, self.command)
            self.command = None
            self._next()
        elif isinstance(answer, ReadReady):
            checker.read_served(self._floor, node.boot.applier.applied, answer.index)
            values = values_of(node)
            if values is not None:
                self.world.history.read(self.number, self._called, self.world.now, values)
            self._next()
        else:
            self._failed(data, answer)

    def _failed(self, data: bytes, answer: Failed) -> None:
        error = answer.error
        if error.outcome == "unknown":
            self._unknown()
            return
        if self.command is not None:
            self.world.checker.certainly_failed(data)
        self._elsewhere(error.leader if isinstance(error, NotLeader) else 0)

    def _unknown(self) -> None:
        if self.command is not None and self.world.rng.random() < 0.2:
            self.command = None  # gives up: it may or may not have happened
        self._elsewhere(0)

    def _elsewhere(self, leader: int) -> None:
        self.target = leader or self.world.rng.randrange(1, len(self.world.nodes) + 1)
        self._next()

    def _next(self) -> None:
        self._request += 1
        self.think()

    @property
    def data(self) -> bytes:
        """The bytes of the attempt under way."""
        return self._data

    def status(self) -> dict[str, Any]:
        """For a failing seed's report."""
        return {"client": self.number, "sequence": self.sequence, "acked": self.acked}

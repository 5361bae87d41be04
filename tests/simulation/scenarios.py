"""Hand-driven worlds: no clients, no faults, no elections but those that are asked for."""

from collections.abc import Callable
from typing import Any

from balsadb.cluster.effects import Answer
from balsadb.storage import WalOptions
from tests.simulation.knobs import Knobs
from tests.simulation.node import SimNode
from tests.simulation.register import Command, encode_command
from tests.simulation.world import World

NEVER_TICKS = 100_000


def quiet_world(nodes: int = 3, seed: int = 1, **driver: Any) -> World:
    """All nodes up; nobody campaigns unless told to."""
    options: dict[str, Any] = {"election_ticks": NEVER_TICKS, "heartbeat_ticks": 2, **driver}
    knobs = Knobs(nodes=nodes, clients=0, faults_us=0, driver=options, wal=WalOptions(8192, 4096))
    world = World(seed, knobs)
    world.start_all()
    world.run(1_000)
    return world


def run_until(world: World, condition: Callable[[], bool], microseconds: int = 20_000_000) -> bool:
    """Run until the condition holds, looked at after every event."""
    return world.run(microseconds, condition, every=1)


def elect(world: World, node: int) -> bool:
    """Let the node campaign, with nobody loyal to an earlier leader; whether it leads then."""
    for other in world.nodes.values():
        other.call(lambda driver: driver.raft.forget_leader())
    for _ in range(3):  # the first attempt may only teach it a newer term
        world.nodes[node].call(lambda driver: driver.raft.campaign())
        if run_until(world, lambda: is_leader(world.nodes[node]), 500_000):
            return True
    return False


def is_leader(node: SimNode) -> bool:
    """Whether it believes to lead."""
    return node.alive and node.driver.is_leader


class Caller:
    """Stands in for a client: collects the answers to its tokens."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.command = 0
        self._request = 0
        self.data = b""
        self.answers: list[Answer] = []

    def answered(self, _node: SimNode, _data: bytes, answer: Answer) -> None:
        """Keep it."""
        self.answers.append(answer)

    def write(self, node: int, padding: int = 0) -> bytes:
        """Propose one command on a node; returns its bytes."""
        self.command += 1
        data = encode_command(
            Command(0, self.command, self.command % 8, self.command, bytes(padding))
        )
        token = self.world.token(self)  # type: ignore[arg-type]
        self.world.nodes[node].call(lambda driver: driver.propose(token, [data], deadline_ticks=0))
        return data

    def read(self, node: int, deadline_ticks: int = 100) -> None:
        """Ask for a read on a node."""
        token = self.world.token(self)  # type: ignore[arg-type]
        self.world.nodes[node].call(
            lambda driver: driver.read(token, deadline_ticks=deadline_ticks)
        )


def isolate(world: World, *nodes: int) -> None:
    """Cut these nodes off from all others (not from one another)."""
    side = set(nodes)
    world.network.split(side, set(world.nodes) - side)

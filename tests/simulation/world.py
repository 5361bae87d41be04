"""The simulated world: one seed drives clocks, network, disks, crashes and clients.

`run_seed` runs a safety phase under faults, then heals everything and demands progress: a leader, a
write and a read on every node, and the same bytes everywhere.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from balsadb.cluster.effects import Answer
from balsadb.raft import Members
from balsadb.types import NodeId
from tests.simulation.checker import Checker, require
from tests.simulation.clients import Client
from tests.simulation.history import History, read_replicas
from tests.simulation.knobs import Knobs
from tests.simulation.nemesis import Nemesis
from tests.simulation.network import Network
from tests.simulation.node import SimNode
from tests.simulation.operators import Operator, Replacer, newest_members
from tests.simulation.script import Script

LIVENESS_US = 60_000_000


class World:
    """Event heap, trace, and everything that lives in it. Times in microseconds.

    Without `knobs` the seed chooses them. `rng`: chance that goes on from somewhere; else the
    seed's. `script`: what to do again of an earlier run.
    """

    def __init__(
        self,
        seed: int,
        knobs: Knobs | None = None,
        *,
        rng: random.Random | None = None,
        script: Script | None = None,
    ) -> None:
        self.rng = rng or random.Random(seed)
        self.seed = seed
        self.knobs = knobs or Knobs.of(self.rng)
        self.script = script or Script()
        self.faults: Counter[str] = Counter()
        """How often each kind of fault was done; frames and writes are counted by themselves."""
        self.now = 0
        self.fatal_is_fine = False
        self.damaged: set[int] = set()
        """Nodes whose disks were tampered with: these may end for it, and only these."""
        self.events = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._digest = blake2b(digest_size=16)
        self._tokens: dict[int, tuple[Client | Operator | Replacer, int, bytes]] = {}
        self._token = 0
        everybody = self.knobs.nodes + self.knobs.strangers
        self.checker = Checker(everybody)
        self.checker.trusts_reads = self.knobs.trusts_reads
        self.history = History()
        self.network = Network(self.rng, self.schedule, self._deliver)
        self.network.loss = self.knobs.loss
        self.network.repeat = self.knobs.repeat
        self.network.delay_us = self.knobs.delay_us
        self.nodes = {node: SimNode(self, node) for node in range(1, everybody + 1)}
        self._tick_us = {
            node: int(self.knobs.tick_us * self.rng.uniform(0.9, 1.1)) for node in self.nodes
        }
        self._even_tick_us = dict(self._tick_us)
        self.clients = [Client(self, number) for number in range(self.knobs.clients)]

    # --- time ----------------------------------------------------------------------------------

    def schedule(self, delay: int, event: Callable[..., None], *arguments: Any) -> None:
        """Run `event` after `delay`; equal times run in order of scheduling."""
        self._order += 1
        heapq.heappush(self._heap, (self.now + delay, self._order, event, arguments))

    def run(
        self, microseconds: int, until: Callable[[], bool] | None = None, every: int = 32
    ) -> bool:
        """Run for so long, or until the condition holds (looked at after `every` events)."""
        end = self.now + microseconds
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, event, arguments = heapq.heappop(heap)
            self.events += 1
            event(*arguments)
            if until is not None and self.events % every == 0 and until():
                return True
        self.now = max(self.now, end)
        return until is not None and until()

    def tick_of(self, node: int) -> int:
        """Length of the node's tick now: clocks differ and jitter."""
        return self._tick_us[node] + int(self.rng.random() * 2000)

    def skew(self, node: int, percent: int) -> None:
        """Let the node's ticks be longer or shorter from now on."""
        self._tick_us[node] = self.knobs.tick_us * percent // 100

    def delay_of(self, lane: str) -> int:
        """How long a piece of work takes."""
        rng = self.rng
        if lane == "apply":
            return 100 + int(rng.random() * (100_000 if rng.random() < 0.02 else 1000))
        if lane == "wal":
            return 500 + int(rng.random() * (200_000 if rng.random() < 0.02 else 3000))
        return 500 + int(rng.random() * (300_000 if rng.random() < 0.1 else 10_000))

    # --- trace ---------------------------------------------------------------------------------

    def trace(self, *words: object) -> None:
        """Add to the trace."""
        self._digest.update(repr((self.now, *words)).encode())

    def trace_bytes(self, data: bytes) -> None:
        """Add a frame to the trace."""
        self._digest.update(data)

    def all_faults(self) -> Counter[str]:
        """Times each kind of fault happened so far, wherever it was counted."""
        parts = [self.network.faults, *(node.disk.faults for node in self.nodes.values())]
        return sum(parts, Counter(self.faults))

    @property
    def trace_hash(self) -> str:
        """Of everything so far."""
        return self._digest.hexdigest()

    # --- clients -------------------------------------------------------------------------------

    def token(self, client: "Client | Operator | Replacer") -> int:
        """A fresh token for the client's request."""
        self._token += 1
        self._tokens[self._token] = (client, client._request, client.data)
        return self._token

    def answer(self, node: SimNode, token: int, answer: Answer) -> None:
        """Hand an answer to the client, if it still waits for it."""
        client, request, data = self._tokens.pop(token)
        self.trace("answer", token, type(answer).__name__)
        if request == client._request:
            client.answered(node, data, answer)

    def _deliver(self, target: int, data: bytes) -> None:
        self.nodes[target].receive(data)

    # --- phases --------------------------------------------------------------------------------

    def start_all(self) -> None:
        """Start every node that is down."""
        for node in self.nodes.values():
            node.start()

    def leader(self) -> SimNode | None:
        """The live leader of the highest term, if any."""
        leading = [
            (node.driver.raft.status().term, number)
            for number, node in self.nodes.items()
            if node.alive and node.driver.is_leader
        ]
        return self.nodes[max(leading)[1]] if leading else None

    def members(self) -> Members:
        """As of the newest entry that a live node applied."""
        return newest_members(self)

    def voting(self) -> list[SimNode]:
        """The nodes that are members, learners too, and not out of service."""
        nodes = [self.nodes[node] for node in self.members().nodes]
        return [node for node in nodes if not node.is_out]

    def may_lose(self, number: int) -> bool:
        """Whether the cluster can do without this node, and the others that were damaged."""
        members = self.members()
        voters = set(members.voters)
        lost = (self.damaged | {number}) & voters
        return number in voters and not members.is_joint and 2 * len(lost) < len(voters)

    def would_refuse(self, number: int) -> bool:
        """Whether every other node that counts is up and would know this one by its disk. One that
        never heard which disk a node has cannot tell an emptied one from a new one."""
        node = self.nodes[number]
        others = [other for other in self.voting() if other is not node]
        return all(
            other.alive and other.driver.admission.known.disk_of(NodeId(number)) == node.disk_id
            for other in others
        )

    def intact(self) -> bool:
        """No lost node is to be replaced any more, and no wiped one is still believed."""
        out = [node for node in map(self.nodes.get, self.members().nodes) if node and node.is_out]
        return not any(node.alive for node in out) and not (self.knobs.replaces and out)

    def converged(self) -> bool:
        """Every member ready, applied to the same index, nothing under way."""
        applied: set[int] = set()
        for node in self.voting():
            if not node.alive or not node.driver.is_ready:
                return False
            status = node.driver.raft.status()
            if node.driver.applied != status.last_index:
                return False
            applied.add(status.last_index)
        return len(applied) == 1 and self.leader() is not None

    def calm(self) -> None:
        """No more faults: heal, wake and start everything."""
        self.network.perfect()
        for node in self.nodes.values():
            node.paused_until = 0
            node.slow_disk = node.slow_apply = 1
            node.hung_until = 0
            node.disk.full = False
            node.disk.clear_faults()
            self._tick_us[node.node] = self._even_tick_us[node.node]
        self.start_all()


def run_seed(seed: int, knobs: Knobs | None = None) -> World:
    """Both phases of a seed; raises what it finds."""
    world = World(seed, knobs)
    run_world(world)
    return world


def run_world(world: World) -> None:
    """Both phases; raises what they find."""
    world.start_all()
    nemesis = Nemesis(world)
    for client in world.clients:
        client.think()
    if world.knobs.faults_us:
        nemesis.wait()
    operator = Operator(world, world.knobs.changes_us or LIVENESS_US)
    if world.knobs.changes_us:
        operator.wait()
    if world.knobs.replaces:
        Replacer(world).wait()
    world.run(world.knobs.safety_us)
    nemesis.stopped = operator.stopped = True
    world.calm()
    acked = [client.acked for client in world.clients]
    progress = world.run(
        LIVENESS_US,
        lambda: all(c.acked > before for c, before in zip(world.clients, acked, strict=True)),
    )
    require(progress, "liveness: every client is served again", _report(world))
    for client in world.clients:
        client.stopped = True

    def done() -> bool:
        return world.converged() and not world.members().is_joint and world.intact()

    require(world.run(LIVENESS_US, done), "liveness: all converge", _report(world))
    check_end(world)


def check_end(world: World) -> None:
    """All acknowledged writes are there and all replicas are the same, to the byte."""
    require(not world.members().is_joint, "a joint change ends", world.members())
    commits = {node.driver.applied for node in world.voting()}
    require(len(commits) == 1, "convergence", commits)
    newest = max(world.checker.acked, default=0)
    require(newest <= min(commits), "acknowledged writes survive", (newest, commits))
    for index, term in world.checker.acked.items():
        require(world.checker.committed[index][0] == term, "acknowledged writes survive", index)
    digests = {node.boot.applier.machine.columns.digest() for node in world.voting()}
    require(len(digests) == 1, "replicas are the same, to the byte")
    if world.clients:
        read_replicas(world.history, world.now, world.voting())
        world.history.check()


def _report(world: World) -> list[Any]:
    nodes = [
        (number, node.alive, node.driver.status() if node.alive else None)
        for number, node in world.nodes.items()
    ]
    return [*nodes, *(client.status() for client in world.clients)]

"""A seeded run of a `Network`: chance decides what is delayed, lost, repeated, cut, crashed.

First a safety phase under faults, then the faults stop and the group must elect a leader, commit,
and become equal everywhere. One seed is one run: `Simulation(seed).run()` twice gives the same
`trace_hash()`.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from balsadb.raft import Change, Members, MembersChange, Message, Raft, RaftOptions
from balsadb.types import NodeId, Term
from tests.raft.network import Host, Network
from tests.seeds import Run

SAFETY_TIME = 1200
LIVENESS_TIME = 20_000
TICK_TIME = 10
LATE_TIME = 600
"""How late a message may be: several elections."""


class Simulation:
    """Times are in units of a tenth of a tick."""

    safety_time = SAFETY_TIME

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.now = 0
        self.faults: Counter[str] = Counter()
        """How often each kind of fault was done."""
        self._events: list[tuple[int, int, Callable[..., Any]]] = []
        self._sequence = 0
        self._draw_knobs()
        self.network = Network(
            self._nodes, self._make_options, start=False, strangers=self._strangers
        )
        self.network.on_sent = self._sent
        self.network.on_ready = self._ready
        self._faulty = True
        self._values = 0
        self._enough = 0
        """Once the faults end: how many acknowledged writes show that the group works."""
        self._persisting: dict[int, int] = {}
        self.crashes = self.reads_asked = 0
        for node in self.network.hosts:
            self.network.restart(node)
            self._later(self.random.randrange(TICK_TIME), partial(self._tick, node))
        self._later(1, self._client)
        self._later(1, self._fault)

    def _draw_knobs(self) -> None:
        draw = self.random
        self._nodes = range(1, draw.choice([1, 2, 3, 3, 3, 4, 5, 5]) + 1)
        self._loss = draw.choice([0, 0, 0.02, 0.1, 0.25])
        self._repeat = draw.choice([0, 0.05, 0.3])
        self._delay = draw.choice([2, 10, 40])
        self._late = draw.choice([0, 0.01, 0.05])
        self._fsync = draw.choice([1, 5, 30])
        self._apply = draw.choice([0, 5, 60])
        self._crash = draw.choice([0, 0.05, 0.15])
        self._cutting = draw.choice([0, 0.15, 0.4])
        self._leader_hunt = draw.choice([0.2, 0.9])
        self._checkpoint = draw.choice([0, 0.5, 1])
        self._client_pace = draw.choice([3, 15, 60])
        self._election_ticks = draw.choice([4, 8])
        self._options: dict[str, Any] = {
            "heartbeat_ticks": draw.choice([1, 2]),
            "message_bytes_max": draw.choice([64, 300, 1 << 20]),
            "inflight_max": draw.choice([1, 2, 8]),
            "inflight_bytes_max": draw.choice([100, 1 << 20]),
            "uncommitted_bytes_max": draw.choice([400, 1 << 15]),
            "committed_bytes_max": draw.choice([64, 500, 1 << 20]),
            "pre_vote": draw.random() < 0.8,
            "check_quorum": draw.random() < 0.6,
        }
        # From another source, so that runs without changes are what they were without this.
        more = self._more = random.Random(~self.seed)
        self._changing = more.choice([0, 0.1, 0.4, 0.8])
        if not (self._options["pre_vote"] or self._options["check_quorum"]):
            self._changing = 0  # a removed node that goes on campaigning is stopped by these only
        first = self._nodes[-1] + 1
        self._strangers = range(first, first + more.choice([1, 2, 3])) if self._changing else []

    def _make_options(self, node: int, incarnation: int) -> RaftOptions:
        ticks = self._election_ticks

        def timeout(term: Term) -> int:
            return ticks + self.random.randrange(ticks)

        return RaftOptions(
            node=NodeId(node),
            election_timeout=timeout,
            election_ticks=ticks,
            incarnation=incarnation,
            **self._options,
        )

    # ------------------------------------------------------------------------------ events

    def _later(self, delay: int, event: Callable[..., Any]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (self.now + delay, self._sequence, event))

    def _run_until(self, stop: int, done: Callable[[], bool] = lambda: False) -> None:
        while self._events and self._events[0][0] <= stop:
            self.now, _, event = heapq.heappop(self._events)
            event()
            if done():
                return
        self.now = stop

    def _alive(self, host: Host) -> Callable[[], bool]:
        """Whether the host is still in the life it has now."""
        incarnation = host.incarnation
        return lambda: host.raft is not None and host.incarnation == incarnation

    def _tick(self, node: int) -> None:
        self.network.tick(node)
        jitter = self.random.randrange(3) - 1 if self._faulty else 0
        self._later(TICK_TIME + jitter, partial(self._tick, node))

    def _sent(self, message: Message) -> None:
        draw = self.random
        copies = 1
        if self._faulty:
            copies = 0 if draw.random() < self._loss else 1 + (draw.random() < self._repeat)
            self.faults[("message lost", "", "message repeated")[copies]] += 1
        for _ in range(copies):
            late = self._faulty and draw.random() < self._late
            self.faults["message late"] += late
            delay = draw.randrange(LATE_TIME if late else self._delay)
            self._later(1 + delay, partial(self._arrive, message))

    def _arrive(self, message: Message) -> None:
        if self.network.needs_fetch(message):
            # Fetching a checkpoint takes a while; the offer is stepped after it.
            if self._faulty and self.random.random() < 0.2:
                self.faults["fetch of a snapshot failed"] += 1
                return
            self._later(self.random.randrange(100), partial(self._fetched, message))
            return
        self.network.deliver(message)

    def _fetched(self, message: Message) -> None:
        if self.network.is_up(message.target) and self.network.fetch(message):
            self.network.deliver(message)

    def _ready(self, host: Host) -> None:
        """Each Ready becomes durable after a while, in order; its entries are applied later."""
        alive = self._alive(host)
        if not self._persisting.get(host.node):
            self._persisting[host.node] = host.incarnation
            self._later(1 + self.random.randrange(self._fsync), partial(self._persist, host, alive))
        if host.to_apply or host.ready_reads:
            self._later(
                self.random.randrange(self._apply + 1), partial(self._apply_at, host, alive)
            )

    def _persist(self, host: Host, alive: Callable[[], bool]) -> None:
        if not alive():
            return
        # Group commit: some of what waits, never out of order.
        self.network.persist(host.node, 1 + self.random.randrange(len(host.unpersisted)))
        if host.unpersisted:
            self._later(1 + self.random.randrange(self._fsync), partial(self._persist, host, alive))
        else:
            self._persisting.pop(host.node)
        if host.to_apply:
            self._later(
                self.random.randrange(self._apply + 1), partial(self._apply_at, host, alive)
            )

    def _apply_at(self, host: Host, alive: Callable[[], bool]) -> None:
        if alive():
            self.network.apply(host.node)

    # ------------------------------------------------------------------- clients and faults

    def _client(self) -> None:
        draw, up = self.random, self.network.up()
        leader = None if self._faulty else self.network.leader()
        members = None if leader is None else self.network.hosts[leader].core.members
        if leader is not None and members and members.is_joint and not members.auto_leave:
            self.network.change(leader, MembersChange())
        elif not self._faulty and len(self.network.acknowledged) > self._enough:
            self._later(TICK_TIME, self._client)  # a change on its way may still begin a joint one
            return
        if up:
            node = draw.choice(up)
            # Old leaders are asked too: that is how logs diverge, and how reads could be stale.
            leaders = [n for n in up if self.network.is_leader(n)]
            if leaders and draw.random() < 0.7:
                node = draw.choice(leaders)
            if draw.random() < 0.3:
                self.reads_asked += self.network.read(node) is not None
            else:
                self._values += 1
                count = draw.choice([1, 1, 1, 6, 20])
                self.network.propose(node, *[b"%d.%d" % (self._values, k) for k in range(count)])
        self._later(1 + draw.randrange(self._client_pace), self._client)

    def _fault(self) -> None:
        if not self._faulty:
            return
        draw, network = self.random, self.network
        node = draw.choice(list(network.hosts))
        if draw.random() < self._leader_hunt:
            node = network.leader() or node
        if draw.random() < self._crash and network.is_up(node):
            self._crash_node(node)
        if draw.random() < self._cutting:
            self._cut(node)
        if draw.random() < self._checkpoint:
            for up in network.up():
                network.checkpoint(up, keep=draw.choice([0, 0, 2]))
        if network.is_up(node):
            self._meddle(network[node])
        if self._more.random() < self._changing:
            self._change()
        self._later(10 + draw.randrange(40), self._fault)

    def _change(self) -> None:
        """Some change of members, sensible or not, asked of whoever thinks it leads."""
        draw, network = self._more, self.network
        leaders = [node for node in network.up() if network.is_leader(node)]
        if not leaders:
            return
        kinds = ("voter", "voter", "learner", "remove", "update")
        changes = tuple(
            Change(draw.choice(kinds), draw.choice(list(network.hosts)))
            for _ in range(draw.choice([0, 1, 1, 1, 2, 3]))
        )
        way = draw.choice(("auto", "auto", "implicit", "explicit"))
        network.change(draw.choice(leaders), MembersChange(changes, way))
        for change in changes:
            self.faults[f"member change asked: {change.kind}"] += 1

    def _members(self) -> Members:
        """As of the newest entry that anybody applied."""
        return max(self.network.hosts.values(), key=lambda host: host.applied).core.members

    def _cut(self, node: int) -> None:
        """Mend everything, or cut a node off, or cut one direction between two."""
        choice = self.random.randrange(6)
        if choice <= 1:
            self.network.heal()
        elif choice <= 4:
            self.faults["node cut off"] += 1
            self.network.isolate(node)
        else:
            self.faults["one-way cut"] += 1
            self.network.cut.add((node, self.random.choice(list(self.network.hosts))))

    def _meddle(self, raft: Raft) -> None:
        """What an operator or a nervous host may do at any time."""
        draw = self.random
        other = NodeId(draw.choice(list(self.network.hosts)))
        wish = draw.random() < 0.05 and raft.status().role == "leader"
        if wish and other in raft.members:
            self.faults["transfer"] += 1
            raft.transfer(other)
        if draw.random() < 0.03:
            self.faults["leader forgotten, or a campaign"] += 1
            draw.choice([raft.forget_leader, raft.campaign])()
        if draw.random() < 0.1:
            self.faults["report that a node is unreachable"] += 1
            raft.report_unreachable(other)
        if draw.random() < 0.05:
            self.faults["report of a snapshot"] += 1
            raft.report_snapshot(other, draw.random() < 0.5)

    def _crash_node(self, node: int) -> None:
        self.crashes += 1
        self.faults["crash"] += 1
        self.network.crash(node)
        self._persisting.pop(node, None)
        self._later(self._time_down(), partial(self._restart, node))

    def _time_down(self) -> int:
        return 1 + self.random.randrange(400)

    def _restart(self, node: int) -> None:
        if not self.network.is_up(node):
            self.network.restart(node)

    # --------------------------------------------------------------------------------- run

    def run(self) -> "Simulation":
        """Both phases. Raises AssertionError, naming the seed, if anything is wrong."""
        try:
            self._run_until(self.safety_time)
            self._end_of_faults()
            self._check_agreement()
        except Exception as error:
            error.add_note(f"seed {self.seed}, time {self.now}, {self._options}")
            raise
        return self

    def _end_of_faults(self) -> None:
        self._faulty = False
        # An election needs a round trip and two fsyncs well within the shortest timeout.
        self._delay, self._fsync = min(self._delay, 5), min(self._fsync, 5)
        self.network.heal()
        for node in self.network.hosts:
            self._restart(node)
        self._enough = len(self.network.acknowledged) + 2
        self._run_until(
            self.now + LIVENESS_TIME,
            lambda: len(self.network.acknowledged) > self._enough and self._is_equal(),
        )

    def _is_equal(self) -> bool:
        """Every member applied what every member knows to be committed."""
        members = self._members()
        if members.is_joint:
            return False  # a change that is not complete
        hosts = [self.network.hosts[node] for node in members.nodes]
        return len({host.applied for host in hosts}) == 1 and all(
            host.raft is not None and host.core.log.commit == host.applied for host in hosts
        )

    def _check_agreement(self) -> None:
        network = self.network
        assert self._is_equal(), [
            network[node].status() for node in network.hosts if network.is_up(node)
        ]
        network.invariants.check_all()
        for index, value in network.acknowledged.items():
            assert network.invariants.committed[index][1] == value, "an acknowledged write is lost"
        assert network.acknowledged, "nothing was ever acknowledged"
        members = self._members()
        assert len({network.hosts[node].digest for node in members.nodes}) == 1


def run_seed(seed: int) -> Run:
    """Both phases of a seed; raises what it finds."""
    return run_simulation(Simulation(seed))


def run_simulation(simulation: Simulation) -> Run:
    """Both phases, and what they came to."""
    network = simulation.run().network
    faults = Counter({kind: times for kind, times in simulation.faults.items() if kind})
    faults["member change done"] = network.changes
    return Run(simulation._sequence, network.trace_hash(), +faults)

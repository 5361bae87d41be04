"""Nodes of one group with disks and a network, moved by hand: every step is a method call.

`Network` decides nothing by itself: messages wait in `wire` until somebody delivers or drops them,
Readies wait until somebody persists them, committed entries until somebody applies them. Directed
tests call the steps one by one; `tests/raft/simulation.py` calls them by seeded chance. After every
step the invariants of `tests/raft/invariants.py` are checked.

A crash loses what is not persisted; a restart begins from the durable log and newest checkpoint.
"""

import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from balsadb.errors import InvalidInput, NotLeader, NotReady, Overloaded
from balsadb.raft import (
    Members,
    MembersChange,
    Message,
    Raft,
    RaftOptions,
    RaftState,
    Ready,
    SnapshotMeta,
    SnapshotOffer,
    decode,
    decode_change,
    encode,
)
from balsadb.types import ENTRY_CHANGE, Entry, HardState, LogIndex, NodeId, Term
from tests.raft.invariants import Invariants


@dataclass
class Disk:
    """What survives a crash. `entries` may begin before the snapshot."""

    hard_state: HardState = HardState(Term(0), NodeId(0), LogIndex(0))
    snapshot: SnapshotMeta | None = None
    entries: list[Entry] = field(default_factory=list)
    checkpoints: dict[int, "Checkpoint"] = field(default_factory=dict)

    def write(self, ready: Ready) -> None:
        """The batch of one Ready."""
        if ready.snapshot is not None:
            self.snapshot = ready.snapshot
            self.entries = []
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        if ready.entries:
            first = ready.entries[0].index
            while self.entries and self.entries[-1].index >= first:
                self.entries.pop()
            self.entries.extend(ready.entries)

    def term_at(self, index: int) -> int | None:
        """The term of a durable entry; None if it is not there as an entry."""
        if not self.entries:
            return None
        offset = index - self.entries[0].index
        return self.entries[offset].term if 0 <= offset < len(self.entries) else None

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry is durable here, as itself or inside the snapshot."""
        if self.snapshot is not None and self.snapshot.index >= index:
            return True
        return self.term_at(index) == term


@dataclass(frozen=True)
class Checkpoint:
    """A state machine on disk: here just a digest of the applied log."""

    meta: SnapshotMeta
    digest: int


class Host:
    """One node: its disk, and while it is up its core and state machine."""

    def __init__(
        self, node: int, members: Members, make_options: Callable[[int, int], RaftOptions]
    ):
        self.node = NodeId(node)
        self.members = members
        self.make_options = make_options
        self.disk = Disk()
        self.incarnation = 0
        self.raft: Raft | None = None
        self.unpersisted: deque[Ready] = deque()
        self.to_apply: deque[list[Entry] | SnapshotMeta] = deque()
        self.applied = 0
        self.digest = 0
        self.proposals: dict[tuple[int, int], bytes] = {}
        self.read_floors: dict[int, int] = {}
        self.ready_reads: list[tuple[int, int]] = []

    @property
    def core(self):
        """The inside of the core, for invariants."""
        assert self.raft is not None
        return self.raft._core

    def start(self) -> None:
        """From the disk."""
        assert self.raft is None
        self.incarnation += 1
        snapshot = self.disk.snapshot
        self.applied = snapshot.index if snapshot else 0
        self.digest = self.disk.checkpoints[snapshot.index].digest if snapshot else 0
        state = RaftState(
            members=snapshot.members if snapshot else self.members,
            hard_state=self.disk.hard_state,
            snapshot=snapshot,
            entries=list(self.disk.entries),
            applied=LogIndex(self.applied),
        )
        self.raft = Raft(self.make_options(self.node, self.incarnation), state)

    def crash(self) -> None:
        """Everything but the disk is gone."""
        self.raft = None
        self.unpersisted.clear()
        self.to_apply.clear()
        self.proposals.clear()
        self.read_floors.clear()
        self.ready_reads.clear()


def default_options(node: int, incarnation: int) -> RaftOptions:
    """Election timeouts far apart, so that the node a test ticks is the one that campaigns."""
    return RaftOptions(
        node=NodeId(node),
        election_timeout=lambda term: 10 + node,
        election_ticks=10,
        heartbeat_ticks=2,
        incarnation=incarnation,
    )


class Network:
    """See the module. All methods leave every host with nothing ready."""

    def __init__(
        self,
        nodes: Iterable[int],
        make_options: Callable[[int, int], RaftOptions] = default_options,
        *,
        start: bool = True,
        strangers: Iterable[int] = (),
    ) -> None:
        """`nodes` are the first members. `strangers` are none yet: they know the first members (an
        operator told them) and wait to be taken in."""
        members = Members.of(nodes)
        self.hosts = {
            NodeId(node): Host(node, members, make_options)
            for node in [*members.voters, *strangers]
        }
        self.changes = 0
        """Changes of members that were applied first."""
        self.wire: deque[Message] = deque()
        self.cut: set[tuple[int, int]] = set()
        """Ordered pairs whose messages are dropped when sent."""
        self.invariants = Invariants(self)
        self.drop: Callable[[Message], bool] = lambda message: False
        """Messages that are lost when sent."""
        self.on_sent: Callable[[Message], None] | None = None
        """Takes every message instead of `wire`."""
        self.on_ready: Callable[[Host], None] = lambda host: None
        self._trace = hashlib.blake2b(digest_size=16)
        self.acknowledged: dict[int, bytes] = {}
        self.read_floor = 0
        self.installs = 0
        """No read asked from now on may see less."""
        if start:
            for node in self.hosts:
                self.restart(node)

    def __getitem__(self, node: int) -> Raft:
        raft = self.hosts[node].raft
        assert raft is not None, f"node {node} is down"
        return raft

    def trace(self, *event: object) -> None:
        """One line of what happened."""
        self._trace.update(repr(event).encode())

    def trace_hash(self) -> str:
        """Equal for equal runs."""
        return self._trace.hexdigest()

    def is_up(self, node: int) -> bool:
        return self.hosts[node].raft is not None

    def up(self) -> list[int]:
        return [node for node in self.hosts if self.is_up(node)]

    def is_leader(self, node: int) -> bool:
        """Whether it thinks so."""
        return self[node]._role.name == "leader"

    def leader(self) -> int | None:
        """The live leader of the highest term, if there is one."""
        leaders = [node for node in self.up() if self.is_leader(node)]
        return max(leaders, key=lambda node: self.hosts[node].core.term, default=None)

    # ------------------------------------------------------------------------------ steps

    def tick(self, node: int, count: int = 1) -> None:
        for _ in range(count):
            if self.is_up(node):
                self[node].tick()
                self._settle(node)

    def deliver(self, message: Message) -> None:
        """The message arrives (as bytes); nothing happens if its target is down."""
        if not self.is_up(message.target):
            return
        data = encode(message)
        self.trace("deliver", data)
        self[message.target].step(decode(data))
        self._settle(message.target)

    def persist(self, node: int, count: int = 1) -> None:
        """The oldest outstanding Readies of a node become durable."""
        host = self.hosts[node]
        for _ in range(min(count, len(host.unpersisted))):
            ready = host.unpersisted.popleft()
            host.disk.write(ready)
            self.invariants.wrote(host)
            self.trace("persist", node, ready.number)
            for message in ready.messages_after_persist:
                self._send(host, message)
            if ready.snapshot is not None:
                host.to_apply.append(ready.snapshot)
            self[node].on_persisted(ready.number)
            self._settle(node)

    def apply(self, node: int) -> None:
        """Everything handed to the state machine is applied."""
        host = self.hosts[node]
        while host.to_apply:
            work = host.to_apply.popleft()
            if isinstance(work, SnapshotMeta):
                host.applied = work.index
                self.installs += 1
                host.digest = host.disk.checkpoints[work.index].digest
                self.invariants.installed(host)
            else:
                for entry in work:
                    self._apply_entry(host, entry)
            self.trace("apply", node, host.applied)
            self[node].on_applied(LogIndex(host.applied))
        self._serve_reads(host)
        self._settle(node)

    def crash(self, node: int) -> None:
        self.trace("crash", node)
        self.hosts[node].crash()
        self.invariants.crashed(self.hosts[node])

    def restart(self, node: int) -> None:
        self.trace("restart", node)
        self.hosts[node].start()
        self._settle(node)

    def checkpoint(self, node: int, keep: int = 0) -> None:
        """Save the state machine durably, then compact the log, keeping `keep` entries."""
        host = self.hosts[node]
        log = host.core.log
        if host.applied < 1 or host.applied != log.applied or host.applied < log.anchor_index:
            return
        term = log.term(LogIndex(host.applied))
        assert term is not None
        meta = SnapshotMeta(LogIndex(host.applied), term, self[node].members)
        host.disk.checkpoints[meta.index] = Checkpoint(meta, host.digest)
        # The reference is written by the host itself; outstanding Readies are newer or overwrite.
        if not any(ready.snapshot for ready in host.unpersisted):
            host.disk.snapshot = meta
            self[node].set_snapshot(meta)
            anchor = self[node].compact(LogIndex(max(0, meta.index - keep)))
            while host.disk.entries and host.disk.entries[0].index < anchor:
                host.disk.entries.pop(0)
        self.trace("checkpoint", node, meta.index, keep)
        self._settle(node)

    def fetch(self, message: Message) -> bool:
        """Stage the checkpoint that an offer names; False if the source cannot serve it now."""
        assert isinstance(message.body, SnapshotOffer)
        index = message.body.snapshot.index
        source, target = self.hosts[message.source], self.hosts[message.target]
        if not self.is_up(message.source) or index not in source.disk.checkpoints:
            return False
        target.disk.checkpoints[index] = source.disk.checkpoints[index]
        return True

    def needs_fetch(self, message: Message) -> bool:
        """Whether the message is an offer whose checkpoint must be staged first."""
        return self.is_up(message.target) and self[message.target].needs_snapshot(message)

    # ---------------------------------------------------------------------------- clients

    def propose(self, node: int, *values: bytes) -> list[int]:
        """Indexes of the proposals, none if refused."""
        host = self.hosts[node]
        try:
            places = self[node].propose(values)
        except (NotLeader, Overloaded):
            return []
        for place, value in zip(places, values, strict=True):
            host.proposals[place] = value
        self.trace("propose", node, values)
        self._settle(node)
        return [index for index, _ in places]

    def change(self, node: int, change: MembersChange) -> int | None:
        """Propose a change of members; its index, None if refused."""
        try:
            index, _ = self[node].propose_change(change)
        except (InvalidInput, NotLeader, NotReady, Overloaded):
            return None
        self.trace("change", node, change)
        self._settle(node)
        return index

    def read(self, node: int) -> int | None:
        """Start a linearizable read; its id, None if refused."""
        try:
            read_id = self[node].read_index()
        except NotLeader:
            return None
        host = self.hosts[node]
        assert read_id not in host.read_floors
        assert all(read_id > other for other in host.read_floors)
        host.read_floors[read_id] = self.read_floor
        self._settle(node)
        return read_id

    # ---------------------------------------------------------------------------- by whole

    def pump(self, *, only: Iterable[int] | None = None) -> None:
        """Persist, apply and deliver everything among the live nodes until nothing is left."""
        nodes = list(self.hosts if only is None else only)
        while True:
            for node in nodes:
                if self.is_up(node):
                    self.persist(node, len(self.hosts[node].unpersisted))
                    self.apply(node)
            messages = [m for m in self.wire if m.target in nodes]
            if not messages and not any(self.hosts[n].unpersisted for n in nodes if self.is_up(n)):
                return
            self.wire = deque(m for m in self.wire if m.target not in nodes)
            for message in messages:
                if not self.needs_fetch(message) or self.fetch(message):
                    self.deliver(message)

    def elect(self, node: int) -> None:
        """The node campaigns and everybody who hears it answers."""
        self[node].campaign()
        self._settle(node)
        self.pump()

    def isolate(self, *nodes: int) -> None:
        """Cut the nodes from all others, both ways (among themselves they talk)."""
        inside = set(nodes)
        for a in self.hosts:
            for b in self.hosts:
                if (a in inside) != (b in inside):
                    self.cut.add((a, b))

    def heal(self) -> None:
        self.cut.clear()

    # ----------------------------------------------------------------------------- inside

    def _settle(self, node: int) -> None:
        """Act on all Readies of a node up to the fsync."""
        host = self.hosts[node]
        raft = host.raft
        while raft is not None and raft.has_ready():
            ready = raft.ready()
            host.unpersisted.append(ready)
            for message in ready.messages:
                self._send(host, message)
            if ready.committed:
                host.to_apply.append(ready.committed)
            host.ready_reads.extend(ready.reads)
            for read_id in ready.dropped_reads:
                del host.read_floors[read_id]
            self.on_ready(host)
        self.invariants.check(host)

    def _send(self, host: Host, message: Message) -> None:
        self.invariants.sent(host, message)
        if (message.source, message.target) in self.cut or self.drop(message):
            return
        if self.on_sent is None:
            self.wire.append(message)
        else:
            self.on_sent(message)

    def _apply_entry(self, host: Host, entry: Entry) -> None:
        assert entry.index == host.applied + 1, "applied out of order"
        host.digest = zlib.crc32(repr(entry).encode(), host.digest)
        host.applied = entry.index
        if entry.kind == ENTRY_CHANGE:
            self[host.node].apply_change(entry.index, decode_change(entry.data))
            self.changes += entry.index not in self.invariants.committed
        self.invariants.applied(host, entry)
        value = host.proposals.pop((entry.index, entry.term), None)
        if value is not None:
            assert value == entry.data
            self.acknowledged[entry.index] = value
            self.read_floor = max(self.read_floor, entry.index)

    def _serve_reads(self, host: Host) -> None:
        waiting: list[tuple[int, int]] = []
        for read_id, index in host.ready_reads:
            if index > host.applied:
                waiting.append((read_id, index))
                continue
            floor = host.read_floors.pop(read_id)
            assert index >= floor, f"stale read: {index} after {floor} was acknowledged"
            self.read_floor = max(self.read_floor, host.applied)
            self.trace("read", host.node, read_id, host.applied)
        host.ready_reads = waiting

"""One simulated node: the real driver, WAL, checkpoints and executors' bodies, on a `SimDisk`."""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from balsadb.cluster.boot import Boot
from balsadb.cluster.driver import Driver
from balsadb.cluster.effects import ApplyEntries, Job, WalWork
from balsadb.cluster.frames import decode_frame
from balsadb.cluster.options import DriverOptions
from balsadb.cluster.performers import JobRunner, perform_wal
from balsadb.errors import BalsaError, Corruption, DiskFailed, EmptiedDisk
from balsadb.raft import Message
from balsadb.storage import WalHeader
from balsadb.types import DiskId, NodeId
from tests.simulation.disk import SimDisk, SimulatedCrash
from tests.simulation.register import Register
from tests.simulation.versions import of_next_version

if TYPE_CHECKING:
    from tests.simulation.world import World

CLUSTER = 77


class Executor:
    """First in, first out, one at a time, each work after its own delay."""

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self.busy = False


class ObservedRegister(Register):
    """Tells the checker of each command applied."""

    world: "World"
    node: int

    def apply(self, index: Any, data: bytes, /) -> Any:
        result = super().apply(index, data)
        self.world.checker.applied(self.node, index, self.chain)
        return result


class SimNode:
    """Alive between `start` and `crash`; the disk stays."""

    def __init__(self, world: "World", node: int) -> None:
        self.world = world
        self.node = node
        self.disk = SimDisk()
        self.disk_id = 1000 + node
        self.begun = False
        """Whether the disk has a log: what the directory's identity tells a real node."""
        self.alive = False
        self.life = 0
        self.paused_until = 0
        self.slow_disk = 1
        self.slow_apply = 1
        self.hung_until = 0
        self.wiped = False
        """Whether its disk was replaced; then it is refused wherever it is known."""
        self.lost = False
        """Whether it said that its disk is not what it was; it is not started again."""
        self.is_newer = False
        """Whether it runs a later version of the code now (`versions`)."""
        self.driver: Driver
        self.boot: Boot
        self.fatal: BaseException | None = None

    @property
    def is_out(self) -> bool:
        """Whether the cluster must do without it from now on."""
        return self.lost or self.wiped

    # --- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Recover from the disk and run. A power cut during recovery leaves it down."""
        if self.alive or self.lost:
            return
        world = self.world
        self.life += 1
        self.alive = True
        self.fatal = None
        knobs = world.knobs
        if knobs.versions:
            # Not from the world's chance: a seed is what it is without this.
            self.is_newer = Random(f"{world.seed} {self.node} {self.life}").random() < 0.5
            world.faults["start of a later version"] += self.is_newer
        try:
            header = WalHeader(CLUSTER, NodeId(self.node), DiskId(self.disk_id))
            voters = range(1, knobs.nodes + 1)
            self.boot = Boot.recover(
                self.disk, header, voters, self._machine, knobs.wal, begun=self.begun
            )
            self.begun = True
            options = DriverOptions(
                node=NodeId(self.node),
                cluster=CLUSTER,
                disk=DiskId(self.disk_id),
                seed=world.rng.getrandbits(60),
                **knobs.driver,
            )
            self.driver = Driver(options, self.boot)
        except (SimulatedCrash, DiskFailed):
            self.crash()
            return
        except (Corruption, EmptiedDisk) as error:
            self._damage_found(error)
            return
        self.runner = JobRunner(self.boot.store, self.boot.applier)
        self.executors = {name: Executor() for name in ("wal", "apply", "disk", "serve", "plan")}
        world.checker.started(self.node, self.driver)
        if not self.wiped:
            world.checker.doubtful.discard(self.node)
        self._later(int(world.rng.random() * knobs.tick_us), self._tick)
        self.pump()

    def crash(self) -> None:
        """The power goes: what was not synced may be lost or torn."""
        if self.alive:
            self.alive = False
            self.life += 1
        self.disk.crash(self.world.rng)
        self.world.trace("crash", self.node)

    def replace_disk(self) -> None:
        """The operator puts in an empty disk."""
        self.disk.wipe()
        self.begun = False
        self.disk_id += 1000
        self.wiped = True
        self.world.checker.wiped(self.node)

    def pause(self, microseconds: int) -> None:
        """Stop the process for a while; nothing is lost."""
        self.paused_until = self.world.now + microseconds

    # --- events --------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """A frame arrives."""
        if self.alive:
            self._run(self._received, data)

    def call(self, event: Callable[[Driver], None]) -> bool:
        """A client, or the nemesis, uses the driver; False if the node is down or paused."""
        if not self.alive or self.world.now < self.paused_until:
            return False
        event(self.driver)
        self.pump()
        return True

    def pump(self) -> None:
        """Perform what the driver wants, then check."""
        world = self.world
        effects = self.driver.take()
        if effects.fatal is not None:
            self.fatal = effects.fatal
            if isinstance(effects.fatal, Corruption | EmptiedDisk) and not world.fatal_is_fine:
                self._damage_found(effects.fatal)
                return
            expected = world.fatal_is_fine or isinstance(effects.fatal, DiskFailed)
            if not expected:
                raise effects.fatal
            self.crash()
            return
        for send in effects.sends:
            data = of_next_version(send.data) if self.is_newer else send.data
            world.trace_bytes(data)
            world.network.send(self.node, send.target, data)
        for work in effects.wal:
            world.checker.wal_issued(self.node, work)
            self._enqueue("wal", work)
        for piece in effects.apply:
            self._enqueue("apply", piece)
        for job in effects.jobs:
            self._enqueue(job.lane, job)
        world.checker.look(self.node, self.driver)
        for token, answer in effects.answers:
            world.answer(self, token, answer)

    def _machine(self, columns: Any) -> Any:
        machine = self.world.knobs.machine(columns)
        if isinstance(machine, ObservedRegister):
            machine.world, machine.node = self.world, self.node
        return machine

    def _tick(self) -> None:
        self._later(self.world.tick_of(self.node), self._tick)
        self.driver.tick()
        self.pump()

    def _received(self, data: bytes) -> None:
        frame = decode_frame(data)
        if isinstance(frame, Message):
            self.world.checker.delivered(frame)
        self.driver.receive(frame)
        self.pump()

    # --- executors -----------------------------------------------------------------------------

    def _enqueue(self, lane: str, work: Any) -> None:
        executor = self.executors[lane]
        executor.queue.append(work)
        if not executor.busy:
            self._begin(lane, executor)

    def _begin(self, lane: str, executor: Executor) -> None:
        executor.busy = True
        delay = self.world.delay_of(lane)
        if lane in {"wal", "disk"}:
            delay *= self.slow_disk
        elif lane == "apply":
            delay *= self.slow_apply
        if lane == "wal" and self.world.knobs.writes_early:
            self._later(delay // 4, self._write_wal, executor.queue[0])
        self._later(delay, self._finish, lane, executor)

    def _write_wal(self, work: WalWork) -> None:
        if work.batch is not None:
            self.boot.wal.write(work.batch)

    def _finish(self, lane: str, executor: Executor) -> None:
        late = self.hung_until - self.world.now
        if late > 0 and lane in {"wal", "disk"}:
            self._later(late, self._finish, lane, executor)
            return
        work = executor.queue.popleft()
        if lane == "wal":
            self._finish_wal(work)
        elif lane == "apply":
            done = self.boot.applier.perform(work)
            if isinstance(work, ApplyEntries):
                self.world.trace("apply", self.node, work.entries[-1].index)
            self.driver.apply_done(done)
        else:
            self._finish_job(work)
        executor.busy = False
        if executor.queue:
            self._begin(lane, executor)
        self.pump()

    def _finish_wal(self, work: WalWork) -> None:
        if self.world.knobs.writes_early:
            self.boot.wal.sync()
            if work.compact:
                self.boot.wal.compact(work.compact)
        else:
            perform_wal(self.boot.wal, work)
        self.world.checker.wal_durable(self.node, work)
        self.driver.wal_done(work.number)

    def _finish_job(self, job: Job) -> None:
        try:
            result = self.runner.perform(job)
        except BalsaError as error:  # the driver decides what it means
            result = error
        self.world.trace("job", self.node, type(job).__name__)
        self.driver.job_done(job.job_id, result)

    def _later(self, delay: int, event: Callable[..., None], *arguments: Any) -> None:
        self.world.schedule(delay, self._alive_only, self.life, event, arguments)

    def _alive_only(self, life: int, event: Callable[..., None], arguments: Any) -> None:
        if self.alive and self.life == life:
            self._run(event, *arguments)

    def _run(self, event: Callable[..., None], *arguments: Any) -> None:
        late = self.paused_until - self.world.now
        if late > 0:
            self._later(late, event, *arguments)
            return
        try:
            event(*arguments)
        except (SimulatedCrash, DiskFailed):
            # A failed disk ends the process, whatever thread met it.
            self.crash()
        except Corruption as error:
            self._damage_found(error)

    def _damage_found(self, error: BaseException) -> None:
        """The node refuses to go on, as it must if its disk was tampered with, and only then."""
        if self.node not in self.world.damaged:
            raise error
        self.lost = True
        self.crash()
        self.world.faults[f"node out of service: {type(error).__name__}"] += 1

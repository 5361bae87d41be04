"""What each kind of fault does to the world, and when it passes. Times in microseconds.

Each is counted where it takes effect: `Faults` counts what was done to somebody, the network and
the disks count single frames and writes. The counts of a seed are `World.faults`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.node import SimNode
    from tests.simulation.world import World

_TRY_AGAIN_US = 400_000


class Faults:
    """Injects faults into one world. Nodes that do not exist are passed over, so that the faults of
    a large cluster can be tried on a smaller one."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self._kinds: dict[str, Callable[..., bool]] = {
            "crash": self._crash,
            "crash in a write": self._crash_soon,
            "crash of the leader": self._crash_leader,
            "crash of all": self._crash_all,
            "split": self._split,
            "one-way cut": self._one_way,
            "pause": self._pause,
            "slow disk": self._slow_disk,
            "transfer": self._transfer,
            "wrong rumour": self._rumour,
            "restart within a term": self._bounce,
            "slow apply": self._slow_apply,
            "change of delays": self._delays,
            "disk error": self._fail_soon,
            "hung disk": self._hang_disk,
            "clogged link": self._clog,
            "clock skew": self._skew,
            "full disk": self._fill_disk,
            "flipped bits": self._flip,
            "wiped disk": self._wipe,
        }

    def inject(self, kind: str, arguments: tuple[Any, ...]) -> None:
        """Do it, now."""
        if self._kinds[kind](*arguments):
            self.world.faults[kind] += 1

    # --- nodes ---------------------------------------------------------------------------------

    def _crash(self, number: int) -> bool:
        return self._down(self.world.nodes.get(number))

    def _down(self, node: "SimNode | None") -> bool:
        """The power goes; the others may notice; it comes back."""
        world = self.world
        if node is None or not node.alive:
            return False
        node.crash()
        if world.rng.random() < 0.7:
            world.schedule(int(world.rng.random() * 60_000), self._notice, node.node)
        self._up_later(node)
        return True

    def _up_later(self, node: "SimNode") -> None:
        self.world.schedule(int(self.world.rng.expovariate(1 / 700_000)) + 1000, node.start)

    def _notice(self, down: int) -> None:
        for number, node in self.world.nodes.items():
            if number != down:
                node.call(lambda driver: driver.peer_down(down))

    def _crash_soon(self, number: int, operations: int) -> bool:
        """In the middle of one of its next writes."""
        node = self.world.nodes.get(number)
        if node is None or not node.alive:
            return False
        node.disk.crash_at(operations)
        self._restart_after_fault(node)
        return False  # the disk counts it, if it comes to that

    def _fail_soon(self, number: int, operations: int) -> bool:
        """One of its next disk operations is an error."""
        node = self.world.nodes.get(number)
        if node is None or not node.alive:
            return False
        node.disk.fail_at(operations)
        self._restart_after_fault(node)
        return False  # the disk counts it, if it comes to that

    def _restart_after_fault(self, node: "SimNode") -> None:
        self.world.schedule(1_500_000, self._down, node)
        self.world.schedule(3_000_000, node.start)

    def _bounce(self, number: int) -> bool:
        """Back before anybody noticed: what was sent to its earlier life arrives in this one."""
        node = self.world.nodes.get(number)
        if node is None or not node.alive:
            return False
        node.crash()
        self.world.schedule(self.world.rng.randrange(100, 30_000), node.start)
        return True

    def _crash_leader(self) -> bool:
        return self._down(self.world.leader())

    def _crash_all(self) -> bool:
        fell = [self._down(node) for node in self.world.nodes.values()]
        return any(fell)

    def _pause(self, number: int, duration: int) -> bool:
        node = self.world.nodes.get(number)
        if node is None:
            return False
        node.pause(duration)
        return True

    def _slow_apply(self, number: int, factor: int) -> bool:
        node = self.world.nodes.get(number)
        if node is None:
            return False
        node.slow_apply = factor
        self.world.schedule(2_000_000, self._fast_apply, node)
        return True

    def _fast_apply(self, node: "SimNode") -> None:
        node.slow_apply = 1

    # --- disks ---------------------------------------------------------------------------------

    def _slow_disk(self, number: int) -> bool:
        node = self.world.nodes.get(number)
        if node is None:
            return False
        node.slow_disk = 100
        self.world.schedule(1_500_000, self._fast_disk, node)
        return True

    def _fast_disk(self, node: "SimNode") -> None:
        node.slow_disk = 1

    def _hang_disk(self, number: int, duration: int) -> bool:
        """Nothing that was handed to the disk comes back before that time."""
        node = self.world.nodes.get(number)
        if node is None or not node.alive:
            return False
        node.hung_until = self.world.now + duration
        return True

    def _fill_disk(self, number: int, duration: int) -> bool:
        """No file grows. The process ends, is started again and again, and once there is space it
        stays."""
        node = self.world.nodes.get(number)
        if node is None:
            return False
        node.disk.full = True
        for later in range(_TRY_AGAIN_US, duration, _TRY_AGAIN_US):
            self.world.schedule(later, node.start)
        self.world.schedule(duration, self._empty_disk, node)
        return True

    def _empty_disk(self, node: "SimNode") -> None:
        node.disk.full = False
        node.start()

    def _flip(self, number: int, spots: list[tuple[float, float]]) -> bool:
        """The node goes down, and its files are not as it left them when it comes back."""
        node = self.world.nodes.get(number)
        if node is None or not node.alive or not self.world.may_lose(number):
            return False
        node.crash()
        for which, where in spots:
            paths = node.disk.paths()
            path = paths[int(which * len(paths))]
            used = len(node.disk.content(path).rstrip(b"\0"))
            if used:
                node.disk.flip_bit(path, int(where * used * 8))
        self.world.damaged.add(number)
        self.world.checker.doubtful.add(number)
        self._up_later(node)
        return True

    def _wipe(self, number: int) -> bool:
        """The node goes down, and comes back under its old id with an empty disk."""
        world, node = self.world, self.world.nodes.get(number)
        if node is None or not node.alive or not world.may_lose(number):
            return False
        if not world.would_refuse(number):
            return False
        node.crash()
        node.replace_disk()
        self.world.damaged.add(number)
        self._up_later(node)
        return True

    # --- network -------------------------------------------------------------------------------

    def _split(self, side: list[int], other: list[int], duration: int) -> bool:
        world = self.world
        world.network.split(set(side), set(other))
        world.schedule(duration, world.network.heal)
        return bool(side and other)

    def _one_way(self, source: int, target: int, duration: int) -> bool:
        world = self.world
        world.network.cut(source, target)
        world.schedule(duration, world.network.heal)
        return source != target

    def _delays(self, mean: int) -> bool:
        self.world.network.delay_us = mean
        return True

    def _clog(self, source: int, target: int, duration: int) -> bool:
        world = self.world
        world.network.clog(source, target)
        world.schedule(duration, world.network.unclog, source, target)
        return True

    # --- clocks and leaders -----------------------------------------------------------------------

    def _skew(self, number: int, percent: int) -> bool:
        if number not in self.world.nodes:
            return False
        self.world.skew(number, percent)
        return True

    def _transfer(self) -> bool:
        leader = self.world.leader()
        return leader is not None and leader.call(lambda driver: driver.transfer())

    def _rumour(self, gone: int, hearer: int) -> bool:
        """Wrong news that a node is gone."""
        node = self.world.nodes.get(hearer)
        if node is None or gone not in self.world.nodes:
            return False
        return node.call(lambda driver: driver.peer_down(gone))

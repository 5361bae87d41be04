"""Who breaks things: crashes, cuts, pauses, slow disks, wishes for another leader."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.node import SimNode
    from tests.simulation.world import World


class Nemesis:
    """Acts at random intervals until stopped."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.stopped = False
        self._actions = (
            self._crash,
            self._crash,
            self._crash_soon,
            self._crash_soon,
            self._crash_leader,
            self._crash_all,
            self._split,
            self._split,
            self._one_way,
            self._pause,
            self._slow_disk,
            self._transfer,
            self._rumour,
        )
        if world.knobs.rough:
            self._actions += (
                self._bounce,
                self._bounce,
                self._slow_apply,
                self._storm,
                self._fail_soon,
                self._fail_soon,
            )

    def wait(self) -> None:
        """Until the next action."""
        mean = self.world.knobs.faults_us
        self.world.schedule(int(self.world.rng.expovariate(1 / mean)) + 1, self._act)

    def _act(self) -> None:
        if self.stopped:
            return
        action = self.world.rng.choice(self._actions)
        self.world.trace(action.__name__)
        action()
        self.wait()

    def _any(self) -> "SimNode":
        return self.world.nodes[self.world.rng.randrange(1, len(self.world.nodes) + 1)]

    def _down(self, node: "SimNode") -> None:
        """The power goes; the others may notice; it comes back."""
        world = self.world
        if not node.alive:
            return
        node.crash()
        if world.rng.random() < 0.7:
            world.schedule(int(world.rng.random() * 60_000), self._notice, node.node)
        self._up_later(node)

    def _up_later(self, node: "SimNode") -> None:
        self.world.schedule(int(self.world.rng.expovariate(1 / 700_000)) + 1000, node.start)

    def _notice(self, down: int) -> None:
        for number, node in self.world.nodes.items():
            if number != down:
                node.call(lambda driver: driver.peer_down(down))

    def _crash(self) -> None:
        self._down(self._any())

    def _crash_soon(self) -> None:
        """In the middle of one of its next writes."""
        node = self._any()
        if node.alive:
            node.disk.crash_at(self.world.rng.randrange(1, 25))
            self.world.schedule(1_500_000, self._down, node)
            self.world.schedule(3_000_000, node.start)

    def _fail_soon(self) -> None:
        """One of its next disk operations is an error."""
        node = self._any()
        if node.alive:
            node.disk.fail_at(self.world.rng.randrange(1, 25))
            self.world.schedule(1_500_000, self._down, node)
            self.world.schedule(3_000_000, node.start)

    def _bounce(self) -> None:
        """Back before anybody noticed: what was sent to its earlier life arrives in this one."""
        node = self._any()
        if node.alive:
            node.crash()
            self.world.schedule(self.world.rng.randrange(100, 30_000), node.start)

    def _slow_apply(self) -> None:
        node = self._any()
        node.slow_apply = self.world.rng.choice((10, 50))
        self.world.schedule(2_000_000, self._fast_apply, node)

    def _fast_apply(self, node: "SimNode") -> None:
        node.slow_apply = 1

    def _storm(self) -> None:
        self.world.network.delay_us = self.world.rng.choice((500, 5_000, 50_000, 150_000))

    def _crash_leader(self) -> None:
        leader = self.world.leader()
        if leader is not None:
            self._down(leader)

    def _crash_all(self) -> None:
        if self.world.rng.random() < 0.5:
            for node in self.world.nodes.values():
                self._down(node)

    def _split(self) -> None:
        world = self.world
        everybody = set(world.nodes)
        size = world.rng.randrange(1, max(len(everybody), 2))
        side = set(world.rng.sample(sorted(everybody), size))
        world.network.split(side, everybody - side)
        world.schedule(int(world.rng.expovariate(1 / 1_500_000)), world.network.heal)

    def _one_way(self) -> None:
        world = self.world
        source, target = self._any().node, self._any().node
        world.network.cut(source, target)
        world.schedule(int(world.rng.expovariate(1 / 1_500_000)), world.network.heal)

    def _pause(self) -> None:
        self._any().pause(int(self.world.rng.expovariate(1 / 800_000)))

    def _slow_disk(self) -> None:
        node = self._any()
        node.slow_disk = 100
        self.world.schedule(1_500_000, self._fast_disk, node)

    def _fast_disk(self, node: "SimNode") -> None:
        node.slow_disk = 1

    def _transfer(self) -> None:
        leader = self.world.leader()
        if leader is not None:
            leader.call(lambda driver: driver.transfer())

    def _rumour(self) -> None:
        """Wrong news that a node is gone."""
        gone = self._any().node
        node = self._any()
        if node.node != gone:
            node.call(lambda driver: driver.peer_down(gone))

"""Who breaks things: chooses, at random moments, a kind of fault of those the seed allows and what
it needs. `faults` says what each does."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.faults import Faults

if TYPE_CHECKING:
    from tests.simulation.node import SimNode
    from tests.simulation.script import Choice
    from tests.simulation.world import World

NAME = "nemesis"
Arguments = tuple[Any, ...] | None


class Nemesis:
    """Acts at random intervals until stopped. All that is chosen is chosen before it acts."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.stopped = False
        self._faults = Faults(world)
        self._arguments: dict[str, Callable[[], Arguments]] = {
            "crash": self._node,
            "crash in a write": self._soon,
            "crash of the leader": tuple,
            "crash of all": self._sometimes,
            "split": self._split,
            "one-way cut": self._one_way,
            "pause": self._pause,
            "slow disk": self._node,
            "transfer": tuple,
            "wrong rumour": self._rumour,
            "restart within a term": self._node,
            "slow apply": self._slow_apply,
            "change of delays": self._delays,
            "disk error": self._soon,
            "hung disk": self._hung_disk,
            "clogged link": self._clogged_link,
            "clock skew": self._skew,
            "full disk": self._full_disk,
            "flipped bits": self._flips,
            "wiped disk": self._node,
        }

    def wait(self) -> None:
        """Until the next action."""
        world = self.world
        drawn = int(world.rng.expovariate(1 / world.knobs.faults_us)) + 1
        world.schedule(world.script.delay(NAME, world.now, drawn), self._act)

    def _act(self) -> None:
        if self.stopped:
            return
        world = self.world
        kind, arguments = world.script.choose(NAME, world.now, world.rng, self._choose)
        if arguments is not None:
            world.trace(kind)
            self._faults.inject(kind, arguments)
        self.wait()

    def _choose(self) -> "Choice":
        kind = self.world.rng.choice(self.world.knobs.kinds)
        return kind, self._arguments[kind]()

    # --- what each needs -----------------------------------------------------------------------

    def _any(self) -> "SimNode":
        return self.world.nodes[self.world.rng.randrange(1, len(self.world.nodes) + 1)]

    def _node(self) -> Arguments:
        return (self._any().node,)

    def _soon(self) -> Arguments:
        """A node, and which of its next disk operations."""
        node = self._any()
        return (node.node, self.world.rng.randrange(1, 25)) if node.alive else None

    def _sometimes(self) -> Arguments:
        return () if self.world.rng.random() < 0.5 else None

    def _split(self) -> Arguments:
        rng = self.world.rng
        everybody = set(self.world.nodes)
        size = rng.randrange(1, max(len(everybody), 2))
        side = sorted(rng.sample(sorted(everybody), size))
        other = sorted(everybody.difference(side))
        return side, other, int(rng.expovariate(1 / 1_500_000))

    def _one_way(self) -> Arguments:
        source, target = self._any().node, self._any().node
        return source, target, int(self.world.rng.expovariate(1 / 1_500_000))

    def _pause(self) -> Arguments:
        return self._any().node, int(self.world.rng.expovariate(1 / 800_000))

    def _rumour(self) -> Arguments:
        gone, hearer = self._any().node, self._any().node
        return (gone, hearer) if hearer != gone else None

    def _slow_apply(self) -> Arguments:
        return self._any().node, self.world.rng.choice((10, 50))

    def _delays(self) -> Arguments:
        return (self.world.rng.choice((500, 5_000, 50_000, 150_000)),)

    def _hung_disk(self) -> Arguments:
        """Of the leader, more often than not; longer than it may lead without one."""
        rng, leader = self.world.rng, self.world.leader()
        chosen = leader if leader is not None and rng.random() < 0.7 else self._any()
        return chosen.node, rng.randrange(1_000_000, 4_500_000)

    def _clogged_link(self) -> Arguments:
        source, target = self._any().node, self._any().node
        if source == target:
            return None
        return source, target, int(self.world.rng.expovariate(1 / 800_000))

    def _skew(self) -> Arguments:
        return self._any().node, self.world.rng.randrange(70, 131)

    def _full_disk(self) -> Arguments:
        return self._any().node, int(self.world.rng.expovariate(1 / 1_500_000))

    def _flips(self) -> Arguments:
        """A node, and where the bits are: a share of its files, and of the file, for each."""
        rng, node = self.world.rng, self._any()
        count = rng.choice((1, 1, 2, 8))
        return node.node, [(round(rng.random(), 6), round(rng.random(), 6)) for _ in range(count)]

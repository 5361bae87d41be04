"""The operator, who changes the members while everything else goes wrong."""

import random
from typing import TYPE_CHECKING

from balsadb.cluster.effects import Answer, Committed
from balsadb.cluster.members import encode_places
from balsadb.raft import Change, Members, MembersChange
from balsadb.types import NodeId

if TYPE_CHECKING:
    from tests.simulation.node import SimNode
    from tests.simulation.script import Choice
    from tests.simulation.world import World

NAME = "operator"
CHANGE = "change of members"
REPLACE_US = 500_000


class Operator:
    """Asks whoever seems to lead for some change, now and then, sensible or not. Chance of its own:
    worlds without it stay what they were."""

    def __init__(self, world: "World", mean_us: int) -> None:
        self.world = world
        self.mean_us = mean_us
        self.rng = random.Random(~world.seed)
        self.stopped = False
        self.asked = self.done = 0
        self.data = b""
        self._asked = MembersChange()
        self._request = 0

    def wait(self) -> None:
        """Until the next wish."""
        world = self.world
        drawn = int(self.rng.expovariate(1 / self.mean_us)) + 1
        world.schedule(world.script.delay(NAME, world.now, drawn), self._act)

    def _act(self) -> None:
        leader = self.world.leader()
        if not self.stopped:
            _, wish = self.world.script.choose(NAME, self.world.now, self.rng, self._choose)
            if wish is not None and leader is not None and self._is_possible(wish[0]):
                self._ask(leader, wish[0])
        elif leader is not None:
            members = leader.driver.raft.members
            if members.is_joint and not members.auto_leave:
                self._ask(leader, MembersChange())
        self.wait()

    def _choose(self) -> "Choice":
        return CHANGE, None if self.world.leader() is None else (self._wish(),)

    def _is_possible(self, change: MembersChange) -> bool:
        """Whether it names only nodes that there are: a smaller world may be asked the same."""
        return all(one.node in self.world.nodes for one in change.changes)

    def _wish(self) -> MembersChange:
        draw = self.rng
        changes = tuple(
            Change(
                draw.choice(("voter", "voter", "learner", "remove", "update")),
                NodeId(draw.choice(sorted(self.world.nodes))),
            )
            for _ in range(draw.choice((0, 1, 1, 1, 2, 3)))
        )
        places = {change.node: f"here:{draw.randrange(9)}" for change in changes}
        transition = draw.choice(("auto", "auto", "auto", "implicit", "explicit"))
        return MembersChange(changes, transition, encode_places(places))

    def _ask(self, leader: "SimNode", change: MembersChange) -> None:
        self._request += 1
        self.asked += 1
        self._asked = change
        token = self.world.token(self)
        leader.call(lambda driver: driver.change_members(token, lambda: change, deadline_ticks=40))

    def answered(self, _node: "SimNode", _data: bytes, answer: Answer) -> None:
        """What became of the last wish."""
        if not isinstance(answer, Committed):
            return
        self.done += 1
        for change in self._asked.changes:
            self.world.faults[f"member change: {change.kind}"] += 1
        if len(self._asked.changes) > 1:
            self.world.faults["member change: several at once"] += 1


class Replacer:
    """Takes lost nodes out of the cluster, and strangers in for them as long as there are any."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.data = b""
        self._request = 0

    def wait(self) -> None:
        """Until the next look."""
        self.world.schedule(REPLACE_US, self._act)

    def _act(self) -> None:
        world = self.world
        leader = world.leader()
        if leader is not None:
            members = leader.driver.raft.members
            lost = [node for node in members.nodes if world.nodes[node].is_out]
            if lost and not members.is_joint:
                self._replace(leader, lost[0])
        self.wait()

    def _replace(self, leader: "SimNode", lost: NodeId) -> None:
        removed = leader.driver.admission.members.removed
        spare = [
            NodeId(number)
            for number, node in self.world.nodes.items()
            if number not in leader.driver.raft.members
            and number not in removed
            and not node.is_out
        ]
        changes = [Change("remove", lost), *(Change("voter", node) for node in spare[:1])]
        change = MembersChange(tuple(changes), "auto", encode_places({}))
        self._request += 1
        token = self.world.token(self)
        leader.call(lambda driver: driver.change_members(token, lambda: change, deadline_ticks=40))

    def answered(self, _node: "SimNode", _data: bytes, answer: Answer) -> None:
        """The change is done, or will be asked for again."""
        if isinstance(answer, Committed):
            self.world.faults["member change: lost node replaced"] += 1


def newest_members(world: "World") -> Members:
    """As of the newest entry that a live node applied, or any, if none lives."""
    live = [node for node in world.nodes.values() if node.alive] or world.nodes.values()
    return max(live, key=lambda node: (node.driver.applied, node.node)).driver.raft.members

"""Faults of a cluster in a network of its own: each is done, kept for a while, and undone.

Never more than a minority is harmed at a time. What a fault needs to know (who leads) it asks
before it does anything, so that what is counted as a leader's fault hit a leader.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from balsadb.cli.local_cluster import LocalCluster, NodeProcess
from tests.chaos.clusters import leader_of
from tests.chaos.network import Network

HELD_S = (1.2, 3.0)
"""Longer than an election takes (0.5 to 1 s), so that another leads when the harmed one returns."""
FLAPS = 10


class Scene(NamedTuple):
    """What a fault can reach. `chance` decides everything that is left open."""

    cluster: LocalCluster
    network: Network
    chance: random.Random

    def leader_and_others(self) -> tuple[NodeProcess, list[NodeProcess]]:
        """Who leads now, and the rest in an order by chance."""
        leader = leader_of(self.cluster, 60)
        others = [node for node in self.cluster.nodes if node is not leader]
        self.chance.shuffle(others)
        return leader, others

    def hold(self) -> None:
        """Let the fault last."""
        time.sleep(self.chance.uniform(*HELD_S))


Fault = Callable[[Scene], None]


def kill_leader(scene: Scene) -> None:
    """SIGKILL to the leader."""
    _kill(scene, scene.leader_and_others()[0])


def kill_follower(scene: Scene) -> None:
    """SIGKILL to a follower."""
    _kill(scene, scene.leader_and_others()[1][0])


def pause_leader(scene: Scene) -> None:
    """SIGSTOP to the leader, for longer than an election takes."""
    _pause(scene, scene.leader_and_others()[0])


def pause_follower(scene: Scene) -> None:
    """SIGSTOP to a follower, likewise."""
    _pause(scene, scene.leader_and_others()[1][0])


def isolate_leader(scene: Scene) -> None:
    """The leader and the rest do not see each other; clients see all."""
    leader, others = scene.leader_and_others()
    scene.network.cut_both(leader.number, _numbers(others))
    _held(scene)


def isolate_follower(scene: Scene) -> None:
    """A follower and the rest do not see each other; clients see all."""
    leader, (follower, *others) = scene.leader_and_others()
    scene.network.cut_both(follower.number, _numbers([leader, *others]))
    _held(scene)


def cut_one_pair(scene: Scene) -> None:
    """The leader and one follower do not see each other; everybody else sees both."""
    leader, others = scene.leader_and_others()
    scene.network.cut_both(leader.number, [others[0].number])
    _held(scene)


def deafen_leader(scene: Scene) -> None:
    """What is sent to the leader is lost; what it sends arrives."""
    leader, others = scene.leader_and_others()
    for other in others:
        scene.network.cut(other.number, leader.number)
    _held(scene)


def mute_leader(scene: Scene) -> None:
    """What the leader sends is lost; what is sent to it arrives."""
    leader, others = scene.leader_and_others()
    for other in others:
        scene.network.cut(leader.number, other.number)
    _held(scene)


def deafen_follower(scene: Scene) -> None:
    """What is sent to one follower is lost; what it sends arrives."""
    leader, (follower, *others) = scene.leader_and_others()
    for other in (leader, *others):
        scene.network.cut(other.number, follower.number)
    _held(scene)


def unplug_any(scene: Scene) -> None:
    """The cable of a node is pulled: nobody reaches it, clients neither."""
    node = scene.chance.choice(scene.cluster.nodes)
    scene.network.unplug(node.number)
    scene.hold()
    scene.network.plug(node.number)


def flap(scene: Scene) -> None:
    """What the leader sends or hears is lost again and again for a moment: loss and delay."""
    leader, others = scene.leader_and_others()
    for _ in range(FLAPS):
        other = scene.chance.choice(others)
        ends = [leader.number, other.number]
        scene.chance.shuffle(ends)
        scene.network.cut(*ends)
        time.sleep(scene.chance.uniform(0.03, 0.2))
        scene.network.heal()
        time.sleep(scene.chance.uniform(0.0, 0.1))


def slow_network(scene: Scene) -> None:
    """All packets of two nodes are late, out of order, and one in fifty is lost."""
    leader, others = scene.leader_and_others()
    for node in (leader, others[0]):
        scene.network.worsen(node.number, *"delay 15ms 10ms reorder 25% loss 2%".split())
    scene.hold()
    for node in (leader, others[0]):
        scene.network.worsen(node.number)


def stop_leader(scene: Scene) -> None:
    """SIGTERM to the leader, which hands leadership over and ends."""
    leader, _ = scene.leader_and_others()
    _stop(leader)
    scene.hold()


def rolling_restart(scene: Scene) -> None:
    """One node after the other is stopped and started, the next when the last is ready."""
    for node in scene.cluster.nodes:
        _stop(node)
        node.start()
        scene.cluster.wait_ready()


LEADER_KILLS = {kill_leader: 1}
PAUSES = {pause_leader: 2, pause_follower: 1}
PARTITIONS = {
    isolate_leader: 1,
    isolate_follower: 1,
    cut_one_pair: 1,
    deafen_leader: 1,
    mute_leader: 1,
    deafen_follower: 1,
    unplug_any: 1,
    flap: 1,
}
"""Kinds, and how often each comes, in proportion."""
OTHERS = (kill_follower, stop_leader, rolling_restart)


def deck(chance: random.Random, each: int, *, slow: bool) -> list[Fault]:
    """Faults in an order by chance: at least `each` kills of a leader, pauses and partitions, and a
    tenth as many of the other kinds; every kind at least once. `slow`: so can the network be."""
    faults: list[Fault] = []
    for kinds in (LEADER_KILLS, PAUSES, PARTITIONS):
        faults += _dealt(kinds, max(each, sum(kinds.values())))
    others: list[Fault] = [*OTHERS, *([slow_network] if slow else [])]
    faults += [fault for fault in others for _ in range(max(1, each // 10))]
    chance.shuffle(faults)
    return faults


def table(done: Counter[str]) -> str:
    """How many faults of which kind were done."""
    groups = (
        ("leader kills", LEADER_KILLS),
        ("pauses", PAUSES),
        ("partitions", PARTITIONS),
        ("others", (*OTHERS, slow_network)),
    )
    lines = ["| Faults | Count | Of which |", "|---|---|---|"]
    for title, kinds in groups:
        counts = {fault.__name__: done[fault.__name__] for fault in kinds}
        words = ", ".join(f"{count} {_spoken(name)}" for name, count in counts.items() if count)
        lines.append(f"| {title} | {sum(counts.values())} | {words} |")
    return "\n".join(lines)


def counted(done: Counter[str], kinds: Iterable[Fault]) -> int:
    """How many faults of these kinds were done."""
    return sum(done[fault.__name__] for fault in kinds)


def _dealt(kinds: Mapping[Fault, int], count: int) -> list[Fault]:
    """`count` faults of these kinds, in proportion."""
    turn = [fault for fault, weight in kinds.items() for _ in range(weight)]
    return [turn[at % len(turn)] for at in range(count)]


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _kill(scene: Scene, node: NodeProcess) -> None:
    node.kill()
    scene.hold()


def _pause(scene: Scene, node: NodeProcess) -> None:
    node.send(signal.SIGSTOP)
    scene.hold()
    node.send(signal.SIGCONT)


def _held(scene: Scene) -> None:
    scene.hold()
    scene.network.heal()


def _stop(node: NodeProcess) -> None:
    node.send(signal.SIGTERM)
    assert node.wait_gone(30), f"node {node.number} does not end: {node.last_log_lines()}"


def _numbers(nodes: Iterable[NodeProcess]) -> list[int]:
    return [node.number for node in nodes]

"""Whole nodes on disks that hang or fill up."""

from typing import Any

import pytest

from balsadb.cluster.effects import Committed, Failed
from balsadb.cluster.frames import decode_frame
from balsadb.errors import DiskFull
from balsadb.raft import Message, TimeoutNow
from tests.simulation.knobs import TICK_US
from tests.simulation.node import SimNode
from tests.simulation.scenarios import Caller, is_leader, run_until
from tests.simulation.test_scenarios import TIMEOUT_US, led_world
from tests.simulation.world import World

STALL_TICKS = 20
WATCHDOG_US = STALL_TICKS * TICK_US * 11 // 10
"""The slowest clock is a tenth slower."""


def hang(node: SimNode) -> None:
    """From now on no sync returns: what is under way ends never, what comes later waits."""
    node.executors["wal"].busy = True


def release(node: SimNode) -> None:
    """The disk answers again."""
    executor = node.executors["wal"]
    executor.busy = False
    if executor.queue:
        node._begin("wal", executor)


def without_handing_over(world: World) -> None:
    """Every TimeoutNow is lost."""
    send = world.network.send

    def lossy(source: int, target: int, data: bytes) -> None:
        frame = decode_frame(data)
        if not (isinstance(frame, Message) and isinstance(frame.body, TimeoutNow)):
            send(source, target, data)

    world.network.send = lossy  # type: ignore[method-assign]


def led_by_other(world: World) -> bool:
    return any(is_leader(world.nodes[node]) for node in (2, 3))


@pytest.mark.parametrize("hand_over", [True, False])
@pytest.mark.parametrize("seed", range(1, 9))
def test_a_hung_leader_is_replaced_in_time_and_follows_when_it_wakes(
    seed: int, hand_over: bool
) -> None:
    world = led_world(seed=seed, disk_stall_ticks=STALL_TICKS)
    if not hand_over:
        without_handing_over(world)
    hung = world.nodes[1]
    before = hung.driver.raft.status().term
    hang(hung)
    began = world.now
    caller = Caller(world)
    caller.write(1)
    assert run_until(world, lambda: led_by_other(world), WATCHDOG_US + 2 * TIMEOUT_US)
    took_us = world.now - began
    assert took_us <= WATCHDOG_US + 2 * TIMEOUT_US
    # Writes go on, and the hung node never comes back as a leader.
    for _ in range(10):
        leader = world.leader()
        assert leader is not None
        assert leader is not hung
        answered = len(caller.answers)
        caller.write(leader.node)
        assert run_until(world, lambda n=answered: len(caller.answers) > n, TIMEOUT_US)
        assert isinstance(caller.answers[-1], Committed)
        world.run(TIMEOUT_US)
        assert not is_leader(hung)
    term = max(node.driver.raft.status().term for node in world.nodes.values())
    assert hung.driver.status()["disk"]["stalled"]
    release(hung)
    assert run_until(world, world.converged, 5 * TIMEOUT_US)
    assert hung.driver.leader in (2, 3)
    assert not hung.driver.status()["disk"]["stalled"]
    after = {node.driver.raft.status().term for node in world.nodes.values()}
    assert after == {term}, "it disturbs nobody as it comes back"
    assert term > before


def test_the_others_do_without_a_hung_node_when_their_leader_dies() -> None:
    world = led_world(nodes=5, disk_stall_ticks=STALL_TICKS)
    hung = world.nodes[2]
    hang(hung)
    Caller(world).write(1)
    world.run(2 * WATCHDOG_US)
    world.nodes[1].crash()
    others = (3, 4, 5)
    assert run_until(
        world, lambda: any(is_leader(world.nodes[node]) for node in others), 4 * TIMEOUT_US
    )
    world.run(5 * TIMEOUT_US)
    assert not is_leader(hung)
    assert hung.driver.raft.status().role == "follower"


def measure(world: World, free: dict[int, int]) -> None:
    for number, left in free.items():
        world.nodes[number].call(lambda driver, left=left: driver.disk_space(left))


def answer_of(world: World, caller: Caller, node: int, padding: int = 0) -> Any:
    answered = len(caller.answers)
    caller.write(node, padding)
    assert run_until(world, lambda: len(caller.answers) > answered, TIMEOUT_US)
    answer = caller.answers[-1]
    return answer.error if isinstance(answer, Failed) else answer


def test_leadership_goes_where_the_space_is() -> None:
    world = led_world(disk_low_bytes=1000, disk_full_bytes=100)
    measure(world, {1: 999, 2: 999, 3: 10_000})
    assert run_until(world, lambda: is_leader(world.nodes[3]), 2 * TIMEOUT_US)
    caller = Caller(world)
    world.run(TIMEOUT_US)
    # Two of three lack space: no more data, until one has room again.
    assert isinstance(answer_of(world, caller, 3), DiskFull)
    measure(world, {2: 10_000})
    world.run(4 * TIMEOUT_US)
    assert is_leader(world.nodes[3])
    assert isinstance(answer_of(world, caller, 3), Committed)


def test_a_full_follower_stays_alive_and_catches_up_when_it_has_room() -> None:
    world = led_world(disk_low_bytes=1000, disk_full_bytes=100)
    measure(world, {2: 50})
    world.run(TIMEOUT_US)
    caller = Caller(world)
    for _ in range(10):
        assert isinstance(answer_of(world, caller, 1, padding=100_000), Committed)
    full = world.nodes[2].driver
    assert full.applied < world.nodes[1].driver.applied - 5
    world.run(5 * TIMEOUT_US)
    assert full.status()["role"] == "follower"
    assert is_leader(world.nodes[1])
    measure(world, {2: 10_000})
    assert run_until(world, world.converged, 10 * TIMEOUT_US)

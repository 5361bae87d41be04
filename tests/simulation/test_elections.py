"""When an election is held and, more often, when none is: at rest, under partial cuts, for a leader
that is heard but does not hear. Whole nodes with the settings they come with."""

from collections.abc import Callable

import pytest

from tests.simulation.scenarios import Caller, run_until
from tests.simulation.world import Knobs, World

ELECTION_TICKS = 10
SECOND_US = 1_000_000
TICK_US = 55_000
"""Of the slowest clock."""
LEAST_TIMEOUT_US = ELECTION_TICKS * 50_000
LONGEST_TIMEOUT_US = 2 * ELECTION_TICKS * TICK_US
WRITE_EVERY_US = 20_000
STALL_EVERY_US = 4 * SECOND_US
STALL_US_MAX = 200_000


def elected_world(nodes: int, seed: int) -> World:
    """Ordinary delays (messages 0.1 to 2.1 ms, a sync in fifty up to 0.2 s), clocks that differ by
    up to a tenth; no faults. One of the nodes leads and all are ready."""
    world = World(seed, Knobs(nodes=nodes, clients=0, faults_us=0))
    world.start_all()
    assert world.run(10 * SECOND_US, world.converged)
    return world


def leader_of(world: World) -> int:
    """The number of the node that leads."""
    leader = world.leader()
    assert leader is not None
    return leader.node


def terms(world: World) -> set[int]:
    """Of all nodes."""
    return {node.driver.raft.status().term for node in world.nodes.values()}


def written(world: World, leader: int, count: int) -> list[int]:
    """Write that often, one after another; how long each took in microseconds."""
    times: list[int] = []
    for _ in range(count):
        caller = Caller(world)
        caller.write(leader)
        began = world.now
        assert run_until(world, lambda caller=caller: bool(caller.answers), SECOND_US)
        times.append(world.now - began)
        world.run(WRITE_EVERY_US)
    return times


def stall(world: World) -> None:
    """Some process stands still for a moment (a collector, a busy machine), again and again."""
    node = world.rng.choice(list(world.nodes.values()))
    node.pause(world.rng.randrange(STALL_US_MAX))
    world.schedule(world.rng.randrange(2 * STALL_EVERY_US), stall, world)


def rest(nodes: int, seconds: int, disturb: Callable[[World], None] = stall) -> None:
    """Nobody asks for anything for so long: the first election stays the only one."""
    world = elected_world(nodes, seed=nodes)
    before, leader = terms(world), leader_of(world)
    assert len(before) == 1
    disturb(world)
    world.run(seconds * SECOND_US)
    assert world.checker.leaders == {before.pop(): leader}, "an election was held"
    assert terms(world) == set(world.checker.leaders)


@pytest.mark.parametrize("nodes", [3, 5])
def test_no_election_in_five_minutes_at_rest(nodes: int) -> None:
    rest(nodes, 300)


@pytest.mark.slow
@pytest.mark.chaos  # minutes: with `make chaos`, not with the slow ones of each change
@pytest.mark.parametrize("nodes", [3, 5])
def test_no_election_in_an_hour_at_rest(nodes: int) -> None:
    rest(nodes, 3600)


def test_an_election_would_be_noticed() -> None:
    """A leader that stands still for longer than the longest timeout is replaced."""
    with pytest.raises(AssertionError, match="an election was held"):
        rest(3, 20, lambda world: world.nodes[leader_of(world)].pause(2 * LONGEST_TIMEOUT_US))


@pytest.mark.parametrize("nodes", [3, 5])
def test_with_one_follower_cut_off_from_the_leader_only_writes_go_on(nodes: int) -> None:
    """A partial partition made an outage of six hours where pre-votes were missing (2020)."""
    for seed in range(2):
        world = elected_world(nodes, seed)
        before, leader = terms(world), leader_of(world)
        whole = sorted(written(world, leader, 50))
        lonely = next(node for node in world.nodes if node != leader)
        world.network.split({leader}, {lonely})
        began = world.now
        cut = sorted(written(world, leader, 300))
        assert world.now - began > 5 * LONGEST_TIMEOUT_US
        # One of three disks less to wait for; the faster half of the writes shows no difference.
        assert cut[len(cut) // 2] < 2 * whole[len(whole) // 2]
        assert leader_of(world) == leader
        assert terms(world) == before
        world.network.heal()
        assert world.run(10 * SECOND_US, world.converged)
        assert (leader_of(world), terms(world)) == (leader, before)


@pytest.mark.parametrize("nodes", [3, 5])
def test_a_deaf_leader_is_replaced_within_three_election_timeouts(nodes: int) -> None:
    """It is heard, but hears nobody: it must notice itself, for nobody else can."""
    took: list[int] = []
    for seed in range(20):
        world = elected_world(nodes, seed)
        # At any moment of its check of the quorum.
        world.run(world.rng.randrange(2 * LEAST_TIMEOUT_US))
        deaf = leader_of(world)
        others = [node for node in world.nodes if node != deaf]
        for node in others:
            world.network.cut(node, deaf)
        began = world.now

        def replaced(world: World = world, others: list[int] = others) -> bool:
            return any(world.nodes[node].driver.is_leader for node in others)

        assert run_until(world, replaced, 10 * LONGEST_TIMEOUT_US)
        took.append(world.now - began)
        new = next(node for node in others if world.nodes[node].driver.is_leader)
        written(world, new, 10)
    # The leader was heard in the first of its periods, misses everybody in the second, and falls
    # silent; a follower's timeout is one to two of such periods.
    assert max(took) <= 2 * LONGEST_TIMEOUT_US < 3 * LONGEST_TIMEOUT_US
    assert sorted(took)[len(took) // 2] <= 3 * LEAST_TIMEOUT_US

"""A snapshot's way in, with the power cut at every single disk operation: old state or new."""

import pytest

from balsadb.errors import EmptiedDisk
from balsadb.types import ENTRY_MEMBERS
from tests.simulation.scenarios import Caller, elect, isolate, quiet_world, run_until
from tests.simulation.world import World, check_end

SMALL = {
    "checkpoint_log_bytes": 2000,
    "log_tail_bytes": 200,
    "log_bytes_max": 2500,
    "chunk_window": 2,
    "chunk_retry_ticks": 3,
    "snapshot_silence_ticks": 20,
}


def lagging_world(seed: int) -> tuple[World, Caller]:
    """Node 3 has some state of its own and lacks more than the others' logs still hold."""
    world = quiet_world(seed=seed, election_ticks=10, **SMALL)
    caller = Caller(world)
    assert elect(world, 1)
    for _ in range(10):
        caller.write(1, 50)
    assert world.run(5_000_000, world.converged)
    isolate(world, 3)
    for _ in range(60):
        caller.write(1, 100)
        world.run(20_000)
    world.run(1_000_000)
    first = world.nodes[1].driver.raft.status().first_index
    assert first > world.nodes[3].driver.applied + 1
    assert len(caller.answers) == 70
    return world, caller


def finish(world: World) -> None:
    """Everybody up and the same."""
    world.calm()
    assert world.run(30_000_000, world.converged)
    check_end(world)


def operations_of_an_install(seed: int) -> int:
    """How many disk operations node 3 makes from the offer to the end."""
    world, _ = lagging_world(seed)
    before = world.nodes[3].disk.operations
    world.network.perfect()
    finish(world)
    assert world.nodes[3].driver.keeper.fetcher.completed == 1
    return world.nodes[3].disk.operations - before


@pytest.mark.parametrize("part", range(4))
def test_a_power_cut_at_each_operation_of_an_install(part: int) -> None:
    operations = operations_of_an_install(5)
    assert operations > 20
    for at in range(1 + part, operations + 1, 4):
        world, _ = lagging_world(5)
        node = world.nodes[3]
        before = node.driver.applied
        node.disk.crash_at(at)
        world.network.perfect()
        assert run_until(world, lambda node=node: not node.alive), at
        node.start()
        new = world.nodes[1].driver.keeper.schedule.index
        # What it recovered is the old state, or the checkpoint, never a mixture: the checker saw
        # the chain of commands at the index, and the digests are compared at the end.
        assert node.boot.applier.applied <= before or node.boot.applier.applied >= new, at
        finish(world)


def test_an_install_survives_a_change_of_leader() -> None:
    world, _ = lagging_world(6)
    world.network.perfect()
    node = world.nodes[3]
    assert run_until(world, lambda: node.driver.keeper.fetcher.status() is not None)
    world.nodes[1].crash()
    for number in (2, 3):
        world.nodes[number].call(lambda driver: driver.peer_down(1))
    world.run(3_000_000)
    finish(world)


def test_checkpoints_go_on_while_one_is_fetched() -> None:
    """Writers outrun a slow link: the log is kept for the receiver, or a newer one is offered."""
    world, caller = lagging_world(7)
    world.network.heal()
    world.network.delay_us = 40_000
    for _ in range(200):
        caller.write(1, 100)
        world.run(30_000)
    finish(world)


def test_an_emptied_disk_is_refused() -> None:
    world = quiet_world(election_ticks=10, **SMALL)
    assert elect(world, 1)
    assert world.run(5_000_000, world.converged)
    world.run(1_000_000)
    node = world.nodes[3]
    assert world.nodes[1].driver.admission.known.disk_of(3) == node.disk_id
    world.fatal_is_fine = True
    node.crash()
    node.replace_disk()
    node.start()
    assert run_until(world, lambda: not node.alive, 5_000_000)
    assert isinstance(node.fatal, EmptiedDisk)


def test_an_emptied_disk_is_refused_after_everybody_restarted_from_checkpoints() -> None:
    world, _ = lagging_world(8)
    world.network.perfect()
    assert world.run(30_000_000, world.converged)
    for node in world.nodes.values():
        node.crash()
    third = world.nodes[3]
    third.replace_disk()
    world.fatal_is_fine = True
    world.start_all()
    world.run(5_000_000)
    assert isinstance(third.fatal, EmptiedDisk)
    assert world.leader() is not None


def test_an_emptied_disk_is_refused_by_a_node_that_restarted_before_it_knew_more() -> None:
    """Acknowledged writes are on nodes 1 and 3; node 3's disk is emptied. Node 2, which lacks them,
    has started again, and what its disk says of the commit index is older than the entry that
    names node 3's disk: with the votes of both the writes would be gone."""
    world = quiet_world(election_ticks=10)
    world.network.perfect()
    assert elect(world, 1)
    assert world.run(5_000_000, world.converged)
    world.run(1_000_000)
    isolate(world, 2)
    caller = Caller(world)
    caller.write(1)
    assert run_until(world, lambda: bool(caller.answers))
    second, third = world.nodes[2], world.nodes[3]
    second.crash()
    third.crash()
    third.replace_disk()
    world.damaged.add(3)
    world.network.heal()
    isolate(world, 1)
    second.start()
    commit = second.boot.raft_state.hard_state.commit
    named = [e.index for e in second.boot.raft_state.entries if e.kind == ENTRY_MEMBERS]
    assert named[-1] > commit, "else this shows nothing"
    third.start()
    world.run(5_000_000)
    assert third.lost
    assert world.leader() is None
    world.network.heal()
    assert world.run(10_000_000, world.converged)
    check_end(world)

"""Each kind of fault by hand: it does what it says, and the cluster does what it must."""

import copy
import random

import pytest

from balsadb.cluster.boot import Boot
from balsadb.errors import Corruption, DiskFailed
from balsadb.storage import WalHeader
from balsadb.types import DiskId, NodeId
from tests.simulation.disk import SimDisk
from tests.simulation.faults import Faults
from tests.simulation.knobs import FULL, Knobs, full_knobs
from tests.simulation.network import Network
from tests.simulation.node import CLUSTER, SimNode
from tests.simulation.operators import Replacer
from tests.simulation.register import Register
from tests.simulation.world import World, check_end, run_world

SECOND_US = 1_000_000
TIMEOUT_US = 1_100_000
"""The longest election timeout of an even clock."""


def busy_world(seed: int = 1, strangers: int = 0, **driver: int) -> tuple[World, Faults]:
    """Three members with clients and a leader, no faults but those that are injected."""
    knobs = Knobs(strangers=strangers, faults_us=0, driver=dict(driver))
    world = World(seed, knobs)
    world.start_all()
    for client in world.clients:
        client.think()
    assert world.run(5 * SECOND_US, lambda: all(client.acked > 3 for client in world.clients))
    return world, Faults(world)


def leader_of(world: World) -> SimNode:
    """The leader, who is there."""
    leader = world.leader()
    assert leader is not None
    return leader


def served(world: World) -> bool:
    """Whether each client gets further writes through, within a few elections."""
    before = [client.acked for client in world.clients]
    return world.run(
        8 * TIMEOUT_US,
        lambda: all(c.acked > acked for c, acked in zip(world.clients, before, strict=True)),
    )


def end(world: World) -> None:
    """Everything heals, and everything that was acknowledged is everywhere."""
    world.calm()
    for client in world.clients:
        client.stopped = True
    assert world.run(60 * SECOND_US, lambda: world.converged() and world.intact())
    check_end(world)


# --- a sync that does not return ---------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_leader_whose_sync_hangs_hands_over_and_writes_go_on(seed: int) -> None:
    world, faults = busy_world(seed, disk_stall_ticks=10)
    old = leader_of(world)
    faults.inject("hung disk", (old.node, 60 * SECOND_US))
    changed = world.run(4 * TIMEOUT_US, lambda: world.leader() not in (None, old), every=1)
    assert changed, "somebody else leads"
    assert served(world)
    assert world.now < old.hung_until, "all that while the disk hung"
    assert leader_of(world) is not old
    end(world)


def test_a_follower_whose_sync_hangs_is_not_waited_for() -> None:
    world, faults = busy_world(disk_stall_ticks=10)
    leader = leader_of(world)
    hung = next(node for node in world.nodes.values() if node is not leader)
    faults.inject("hung disk", (hung.node, 20 * SECOND_US))
    assert served(world)
    assert leader_of(world) is leader
    end(world)


# --- links and clocks --------------------------------------------------------------------------


def test_a_clogged_link_holds_frames_and_gives_them_all_at_once() -> None:
    arrived: list[tuple[int, bytes]] = []
    events: list[tuple[int, object, tuple[object, ...]]] = []
    network = Network(
        random.Random(1),
        lambda delay, event, *arguments: events.append((delay, event, arguments)),
        lambda target, data: arrived.append((target, data)),
    )

    def settle() -> int:
        longest = max((delay for delay, _, _ in events), default=0)
        for _, event, arguments in events[:]:
            event(*arguments)  # type: ignore[operator]
        del events[: len(events)]
        return longest

    network.perfect()
    network.clog(1, 2)
    for number in range(5):
        network.send(1, 2, b"%d" % number)
    network.send(2, 1, b"back")
    settle()
    assert arrived == [(1, b"back")]
    network.unclog(1, 2)
    assert len(events) == 5
    assert settle() == 0, "at once"
    assert sorted(arrived[1:]) == [(2, b"%d" % number) for number in range(5)]
    assert network.faults["frame held"] == 5


def test_clocks_that_differ_by_almost_half_make_no_elections() -> None:
    """The leader's ticks are 30 % too long, its followers' 30 % too short."""
    world, faults = busy_world()
    leader = leader_of(world)
    for number in world.nodes:
        faults.inject("clock skew", (number, 130 if number == leader.node else 70))
    term = leader.driver.raft.status().term
    world.run(30 * SECOND_US)
    assert leader_of(world) is leader
    assert leader.driver.raft.status().term == term
    end(world)


# --- files that change while a node is down ----------------------------------------------------


def used_bits(disk: SimDisk) -> list[tuple[str, int]]:
    """Where a flipped bit can matter: path and how many bits."""
    sizes = [(path, 8 * len(disk.content(path).rstrip(b"\0"))) for path in disk.paths()]
    return [(path, bits) for path, bits in sizes if bits]


def restarted(world: World, node: SimNode, disk: SimDisk) -> Boot | None:
    """What the node would recover from this disk; None if it refuses."""
    header = WalHeader(CLUSTER, NodeId(node.node), DiskId(node.disk_id))
    try:
        return Boot.recover(disk, header, [1, 2, 3], Register, world.knobs.wal)
    except Corruption:
        return None


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing() -> None:
    world, _ = busy_world(checkpoint_log_bytes=1500, log_tail_bytes=300)
    world.run(5 * SECOND_US)
    node = next(node for node in world.nodes.values() if node is not leader_of(world))
    node.crash()
    whole = restarted(world, node, copy.deepcopy(node.disk))
    assert whole is not None
    places = used_bits(node.disk)
    assert len({path.split("/")[0] for path, _ in places}) == 2, "the log and checkpoints"
    rng = random.Random(5)
    refused = 0
    for _ in range(150):
        path, bits = rng.choice(places)
        disk = copy.deepcopy(node.disk)
        disk.flip_bit(path, rng.randrange(bits))
        found = restarted(world, node, disk)
        refused += found is None
        if found is not None:
            assert found.raft_state == whole.raft_state, path
            assert found.applier.machine.chain == whole.applier.machine.chain, path
    assert 40 < refused < 150


def test_a_node_whose_log_was_damaged_is_replaced_by_a_stranger() -> None:
    world, faults = busy_world(strangers=1)
    world.knobs.replaces = True
    world.run(2 * SECOND_US)
    faults.inject("flipped bits", (2, [(0.0, 0.5)]))
    faults.inject("flipped bits", (3, [(0.0, 0.5)]))
    faults.inject("wiped disk", (1,))
    assert world.faults["flipped bits"] == 1, "one of three and no more"
    assert world.faults["wiped disk"] == 0
    assert world.run(60 * SECOND_US, lambda: world.nodes[2].lost)
    assert served(world)
    Replacer(world).wait()
    assert world.run(20 * SECOND_US, lambda: world.members().voters == (1, 3, 4))
    assert served(world)
    end(world)
    assert not world.nodes[2].alive


def test_damage_to_a_node_that_nobody_damaged_is_a_finding() -> None:
    world, _ = busy_world()
    world.run(2 * SECOND_US)
    node = world.nodes[2]
    node.crash()
    path, bits = used_bits(node.disk)[0]
    node.disk.flip_bit(path, bits // 2)
    with pytest.raises(Corruption):
        node.start()


def test_a_wiped_node_is_refused_and_the_others_go_on() -> None:
    world, faults = busy_world()
    world.run(2 * SECOND_US)
    faults.inject("wiped disk", (3,))
    assert world.run(60 * SECOND_US, lambda: world.nodes[3].lost)
    assert world.faults["node out of service: EmptiedDisk"] == 1
    assert served(world)
    end(world)


# --- a full disk -------------------------------------------------------------------------------


def test_a_full_disk_takes_writes_inside_files_only() -> None:
    disk = SimDisk()
    file = disk.open("a", create=True)
    file.pwrite(bytes(1024), 0)
    disk.full = True
    file.pwrite(b"x" * 1024, 0)
    with pytest.raises(DiskFailed, match="no space"):
        file.pwrite(b"x", 1024)
    with pytest.raises(DiskFailed, match="no space"):
        disk.open("b", create=True)
    assert disk.paths() == ["a"]
    assert file.size() == 1024
    disk.full = False
    file.pwrite(b"x", 1024)
    assert disk.faults["write to a full disk"] == 2


@pytest.mark.parametrize("whose", ["leader", "follower"])
def test_a_node_on_a_full_disk_ends_and_comes_back_with_everything(whose: str) -> None:
    world, faults = busy_world()
    leader = leader_of(world)
    node = next(one for one in world.nodes.values() if (one is leader) == (whose == "leader"))
    life = node.life
    faults.inject("full disk", (node.node, 10 * SECOND_US))
    assert world.run(9 * SECOND_US, lambda: not node.alive, every=1)
    assert served(world)
    assert world.run(12 * SECOND_US, lambda: not node.disk.full and node.alive)
    assert node.life >= life + 2
    assert world.run(5 * SECOND_US, lambda: node.driver.is_ready)
    end(world)


# --- all together ------------------------------------------------------------------------------


def test_a_seed_has_some_of_the_kinds() -> None:
    chosen = [set(full_knobs(seed).kinds) for seed in range(60)]
    for kind in FULL:
        assert 15 <= sum(kind in kinds for kinds in chosen) <= 45, kind
    assert len({frozenset(kinds) for kinds in chosen}) > 55


@pytest.mark.sim
def test_each_kind_is_injected_and_counted() -> None:
    expected = {*FULL, "write lost", "change of a directory lost", "frame held"}
    counted: set[str] = set()
    for seed in range(20):
        if expected <= counted:
            break
        knobs = full_knobs(seed)
        knobs.nodes, knobs.kinds, knobs.faults_us = 5, FULL, 200_000
        knobs.strangers, knobs.changes_us, knobs.replaces = 1, 0, True
        world = World(seed, knobs)
        run_world(world)
        counted |= world.all_faults().keys()
    assert expected <= counted, expected - counted

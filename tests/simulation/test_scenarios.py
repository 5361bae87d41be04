"""Situations with a name, from the literature and from other systems' post-mortems."""

from typing import Any

import pytest

from balsadb.cluster.effects import Committed, Failed, ReadReady
from balsadb.errors import NotLeader, OutcomeUnknown, QuorumLost
from balsadb.raft.roles.leader import Leader
from tests.simulation.checker import Violation
from tests.simulation.scenarios import Caller, elect, is_leader, isolate, quiet_world, run_until
from tests.simulation.world import World

TIMEOUT_US = 1_100_000
"""The longest election timeout: twice ten ticks, of the slowest clock."""


def led_world(seed: int = 1, nodes: int = 3, **driver: Any) -> World:
    """Normal timeouts, a perfect network, node 1 leads and everybody knows it."""
    world = quiet_world(nodes=nodes, seed=seed, election_ticks=10, **driver)
    world.network.perfect()
    assert elect(world, 1)
    assert world.run(5_000_000, world.converged)
    world.run(1_000_000)
    assert is_leader(world.nodes[1])
    return world


def term(world: World, node: int) -> int:
    """The node's term."""
    return world.nodes[node].driver.raft.status().term


def test_a_follower_that_hears_nobody_does_not_disturb_when_it_returns() -> None:
    world = led_world()
    before = term(world, 1)
    isolate(world, 3)
    world.run(20 * TIMEOUT_US)
    world.network.heal()
    world.run(3 * TIMEOUT_US)
    assert is_leader(world.nodes[1])
    assert term(world, 1) == before == term(world, 3)


def test_a_cut_between_leader_and_one_follower_changes_nothing() -> None:
    """A partial partition made an outage of six hours where pre-votes were missing (2020)."""
    world = led_world(nodes=5)
    before = term(world, 1)
    world.network.split({1}, {5})
    world.run(10 * TIMEOUT_US)
    assert is_leader(world.nodes[1])
    assert term(world, 1) == before
    caller = Caller(world)
    caller.write(1)
    assert run_until(world, lambda: bool(caller.answers), TIMEOUT_US)


def test_a_leader_that_hears_nobody_is_replaced() -> None:
    world = led_world()
    for follower in (2, 3):
        world.network.cut(follower, 1)
    assert run_until(world, lambda: any(is_leader(world.nodes[n]) for n in (2, 3)), 4 * TIMEOUT_US)
    assert run_until(world, lambda: not is_leader(world.nodes[1]), TIMEOUT_US)


def test_a_leader_whose_disk_hangs_hands_over() -> None:
    world = led_world(disk_stall_ticks=20)
    world.nodes[1].slow_disk = 1_000_000
    caller = Caller(world)
    caller.write(1)
    # The followers commit without the leader's disk ...
    assert run_until(world, lambda: world.checker.commit_max >= 5, TIMEOUT_US)
    # ... but the leader can acknowledge nothing, so it must go.
    assert run_until(world, lambda: any(is_leader(world.nodes[n]) for n in (2, 3)), 4 * TIMEOUT_US)


def test_writes_to_a_leader_without_a_quorum_are_unknown_and_reads_fail() -> None:
    world = led_world()
    isolate(world, 1)
    caller = Caller(world)
    caller.write(1)
    caller.read(1, deadline_ticks=10)
    assert run_until(world, lambda: len(caller.answers) == 2, 3 * TIMEOUT_US)
    errors = [answer.error for answer in caller.answers if isinstance(answer, Failed)]
    assert sorted(type(error).__name__ for error in errors) == ["OutcomeUnknown", "QuorumLost"]
    assert {error.outcome for error in errors} == {"unknown", "failed"}
    assert isinstance(errors[0], OutcomeUnknown | QuorumLost)


def test_a_deposed_leader_refuses_what_comes_late() -> None:
    world = led_world()
    isolate(world, 1)
    assert run_until(world, lambda: any(is_leader(world.nodes[n]) for n in (2, 3)), 4 * TIMEOUT_US)
    world.network.heal()
    world.run(TIMEOUT_US)
    caller = Caller(world)
    caller.write(1)
    assert run_until(world, lambda: bool(caller.answers), TIMEOUT_US)
    [answer] = caller.answers
    assert isinstance(answer, Failed)
    assert isinstance(answer.error, NotLeader)
    assert answer.error.leader in (2, 3)


def read_at_a_leader_that_was_replaced() -> list[Any]:
    """Node 1 is cut off and does not know yet that another leads and has committed a write."""
    world = led_world()
    isolate(world, 1)
    world.nodes[2].call(lambda driver: driver.peer_down(1))
    world.nodes[3].call(lambda driver: driver.peer_down(1))
    assert run_until(world, lambda: any(is_leader(world.nodes[n]) for n in (2, 3)), TIMEOUT_US)
    assert is_leader(world.nodes[1])
    leader = 2 if is_leader(world.nodes[2]) else 3
    writer, reader = Caller(world), Caller(world)
    writer.write(leader)
    assert run_until(world, lambda: bool(writer.answers), TIMEOUT_US)
    assert isinstance(writer.answers[0], Committed)
    assert is_leader(world.nodes[1])
    floor = world.checker.commit_max
    reader.read(1, deadline_ticks=60)
    world.run(100_000)
    world.network.heal()
    assert run_until(world, lambda: bool(reader.answers), 5_000_000)
    for answer in reader.answers:
        if isinstance(answer, ReadReady):
            world.checker.read_served(floor, answer.index)
    return reader.answers


def test_a_replaced_leader_serves_no_stale_read() -> None:
    [answer] = read_at_a_leader_that_was_replaced()
    assert isinstance(answer, ReadReady)


def test_mutant_read_without_a_round_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Leader, read_id: int) -> None:
        self.core.reads.append((read_id, self.core.log.commit))

    monkeypatch.setattr(Leader, "read", read)
    with pytest.raises(Violation, match="linearizable read"):
        read_at_a_leader_that_was_replaced()


def test_a_lost_read_request_is_asked_again() -> None:
    world = led_world()
    reader = Caller(world)
    world.network.cut(3, 1)
    reader.read(3)
    world.run(120_000)
    assert reader.answers == []
    world.network.heal()
    assert run_until(world, lambda: bool(reader.answers), 600_000)
    assert isinstance(reader.answers[0], ReadReady)


def test_a_dead_leader_is_replaced_within_half_a_second() -> None:
    """From the moment its closed connections are noticed; a tick is 50 ms."""
    slowest = 0
    for seed in range(20):
        world = led_world(seed)
        world.nodes[1].crash()
        began = world.now
        for number in (2, 3):
            world.nodes[number].call(lambda driver: driver.peer_down(1))
        assert run_until(world, lambda world=world: world.leader() is not None)
        slowest = max(slowest, world.now - began)
    assert slowest <= 500_000


def test_wrong_news_that_the_leader_is_gone_does_little() -> None:
    world = led_world()
    before = term(world, 1)
    world.nodes[3].call(lambda driver: driver.peer_down(1))
    world.run(3 * TIMEOUT_US)
    assert is_leader(world.nodes[1])
    assert term(world, 1) == before
    assert world.nodes[3].driver.leader == 1


def test_a_clean_transfer_needs_no_timeout() -> None:
    """At whatever moment of the leader's check of its quorum it is asked for."""
    for moment in range(12):
        world = led_world()
        world.run(moment * 50_000)
        world.nodes[1].call(lambda driver: driver.transfer())
        began = world.now
        assert run_until(
            world, lambda world=world: any(is_leader(world.nodes[n]) for n in (2, 3)), 2_000_000
        )
        assert world.now - began < 300_000, moment


def test_a_follower_that_applies_slowly_holds_a_bounded_log_and_catches_up() -> None:
    world = led_world(
        checkpoint_log_bytes=2000,
        log_tail_bytes=0,
        log_bytes_max=1 << 20,
        log_memory_bytes_max=8000,
        message_bytes_max=500,
        committed_bytes_max=500,
    )
    slow = world.nodes[3]
    slow.slow_apply = 300
    caller = Caller(world)
    longest = 0
    for _ in range(150):
        caller.write(1, 100)
        world.run(10_000)
        longest = max(longest, slow.driver.raft.status().log_bytes)
    assert 8000 < longest < 8000 + 8 * 500 + 4000, "what was under way may still arrive"
    slow.slow_apply = 1
    assert world.run(20_000_000, world.converged)
    assert len(caller.answers) == 150

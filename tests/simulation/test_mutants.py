"""Two faults, put back on purpose: each falls to a scenario that the real code passes.

They show that the simulator's checks can fail, and for the right reason.
"""

from typing import Any

import pytest

from balsadb.cluster.driver import Driver
from balsadb.cluster.log_writer import LogWriter
from balsadb.raft import Ready
from balsadb.raft.quorum import joint_commit
from balsadb.raft.roles.leader import Leader
from tests.simulation.checker import Violation
from tests.simulation.scenarios import Caller, elect, is_leader, isolate, quiet_world, run_until


@pytest.fixture
def votes_without_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What must wait for the sync leaves at once, and the driver's own check is off."""
    act: Any = Driver._act

    def eager(self: Driver, ready: Ready) -> None:
        act(self, ready)
        self._send(ready.messages_after_persist)
        ready.messages_after_persist.clear()

    def add(self: LogWriter, ready: Ready) -> None:
        real_add(self, ready)
        self._messages.clear()

    real_add: Any = LogWriter.add
    monkeypatch.setattr(Driver, "_act", eager)
    monkeypatch.setattr(LogWriter, "add", add)
    monkeypatch.setattr(LogWriter, "check", lambda *_: None)


@pytest.fixture
def commits_by_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader commits whatever a majority holds, entries of earlier terms included."""

    def advance(self: Leader) -> None:
        core = self.core
        index = joint_commit(core.members, lambda node: self.progress[node].match)
        if index > core.log.commit:
            core.log.commit_to(index)
            self._replicator.broadcast()

    monkeypatch.setattr(Leader, "_advance_commit", advance)


def vote_then_crash() -> None:
    """Node 3 votes for 1 in term 1, loses power before its sync ends, and is asked by 2."""
    world = quiet_world()
    isolate(world, 2)
    world.nodes[3].slow_disk = 10_000
    world.nodes[1].call(lambda driver: driver.raft.campaign())
    run_until(world, lambda: is_leader(world.nodes[1]), 400_000)
    isolate(world, 1)
    world.nodes[3].crash()
    world.nodes[3].slow_disk = 1
    world.nodes[3].start()
    world.network.heal()
    isolate(world, 1)
    elect(world, 2)
    world.run(1_000_000)


def figure_8() -> None:
    """Figure 8 of the Raft paper: an old term's entry on a majority, then a leader without it."""
    world = quiet_world(nodes=5, message_bytes_max=1, inflight_max=1)
    caller = Caller(world)
    nodes = world.nodes
    assert elect(world, 1)
    assert world.run(5_000_000, world.converged)
    world.run(1_000_000)  # all disks are logged
    assert world.converged()
    # (a) Node 1 puts an entry on itself and 2 only.
    isolate(world, 1, 2)
    caller.write(1)
    old = nodes[1].driver.raft.status().last_index
    assert run_until(world, lambda: nodes[1].driver.raft.status().peers[2].match == old)
    # (b) It goes down; 5 is elected by 3 and 4 and puts another entry on itself only.
    nodes[1].crash()
    world.network.heal()
    isolate(world, 2)
    assert elect(world, 5)
    isolate(world, 5)
    assert run_until(world, lambda: nodes[5].driver.raft.status().persisted >= old)
    nodes[5].crash()
    # (c) 1 returns, is elected by 2 and 3, and brings the old entry to 3: a majority holds it.
    world.network.heal()
    isolate(world, 4)
    nodes[1].start()
    assert elect(world, 1)
    isolate(world, 3)
    assert run_until(world, lambda: nodes[1].driver.raft.status().peers[2].match > old)
    world.network.heal()
    isolate(world, 4)
    assert run_until(world, lambda: nodes[1].driver.raft.status().peers[3].match == old)
    # (d) 1 and 2 go down; 5 returns, is elected by 3 and 4, and replaces the entry.
    isolate(world, 1, 2)
    world.run(50_000)  # what was under way is lost
    nodes[1].crash()
    nodes[2].crash()
    world.network.heal()
    nodes[5].start()
    assert elect(world, 5)
    world.run(2_000_000)


def test_a_vote_waits_for_its_sync() -> None:
    vote_then_crash()


@pytest.mark.usefixtures("votes_without_sync")
def test_mutant_vote_without_sync_is_caught() -> None:
    with pytest.raises(Violation, match=r"one vote a term|election safety"):
        vote_then_crash()


def test_an_old_entry_is_not_committed_by_counting() -> None:
    figure_8()


@pytest.mark.usefixtures("commits_by_counting")
def test_mutant_commit_by_counting_is_caught() -> None:
    with pytest.raises(Violation, match=r"leader completeness|committed is immutable"):
        figure_8()

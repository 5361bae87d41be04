"""Many seeds of the simulation: safety under faults, then recovery; and that a seed is a run."""

import pytest

from tests.raft.elections import Elections
from tests.raft.simulation import Simulation

SEEDS = 100
SEEDS_PER_TEST = 20


@pytest.mark.sim
@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_seeds(first):
    for seed in range(first, first + SEEDS_PER_TEST):
        Simulation(seed).run()


@pytest.mark.sim
def test_seeds_that_aim_at_elections():
    runs = [Elections(seed).run() for seed in range(20)]
    assert sum(len(run.network.invariants.leaders) for run in runs) > 3 * len(runs)
    assert sum(run.crashes for run in runs) > 20 * len(runs)
    assert sum(run.faults["rival campaign"] for run in runs) > 5


def test_one_seed_is_one_run():
    for seed in range(1000, 1004):
        first, second = Simulation(seed).run(), Simulation(seed).run()
        assert first.network.trace_hash() == second.network.trace_hash()
    assert first.network.trace_hash() != Simulation(1).run().network.trace_hash()


def test_the_seeds_see_elections_crashes_reads_and_snapshots():
    """The simulation would be worth nothing if it never went where the bugs live."""
    runs = [Simulation(seed).run() for seed in range(200, 215)]
    assert sum(len(run.network.invariants.leaders) for run in runs) > 2 * len(runs)
    assert sum(run.crashes for run in runs) > len(runs)
    assert sum(run.reads_asked for run in runs) > 20 * len(runs)
    assert sum(run.network.installs for run in runs) > len(runs) // 2
    assert sum(len(run.network.acknowledged) for run in runs) > 50 * len(runs)
    assert sum(run.network.changes for run in runs) > 2 * len(runs)
    assert any(len(run._members().learners) for run in runs)

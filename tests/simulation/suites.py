"""The suites of seeds of whole nodes: which knobs each gives a seed."""

import random
from collections.abc import Callable
from typing import NamedTuple

from tests.seeds import Run, Suite
from tests.simulation.knobs import Knobs, changing_knobs, full_knobs, reads_knobs, rough_knobs
from tests.simulation.world import World, run_world


class Start(NamedTuple):
    """What a seed begins with. The chance goes on where the knobs left it, or anew."""

    knobs: Knobs
    chance: random.Random


def start_of(suite: str, seed: int) -> Start:
    """What a suite gives a seed; a fresh one each time."""
    chance = random.Random(seed)
    if suite == "plain":
        return Start(Knobs.of(chance), chance)
    return Start(_KNOBS[suite](seed), chance)


def _run(suite: str, seed: int) -> Run:
    start = start_of(suite, seed)
    world = World(seed, start.knobs, rng=start.chance)
    run_world(world)
    return Run(world.events, world.trace_hash, world.all_faults())


def run_plain(seed: int) -> Run:
    """One seed."""
    return _run("plain", seed)


def run_rough(seed: int) -> Run:
    """One seed."""
    return _run("rough", seed)


def run_changing(seed: int) -> Run:
    """One seed."""
    return _run("changing", seed)


def run_full(seed: int) -> Run:
    """One seed."""
    return _run("full", seed)


def run_reads(seed: int) -> Run:
    """One seed."""
    return _run("reads", seed)


_KNOBS: dict[str, Callable[[int], Knobs]] = {
    "rough": rough_knobs,
    "changing": changing_knobs,
    "full": full_knobs,
    "reads": reads_knobs,
}

SUITES = (
    Suite("plain", "crashes, cuts, pauses, slow disks", run_plain),
    Suite("rough", "more kinds of faults", run_rough),
    Suite("changing", "members come and go", run_changing),
    Suite("full", "some of all kinds of faults, lost nodes too", run_full),
    Suite("reads", "reads are judged by what clients saw alone", run_reads),
)

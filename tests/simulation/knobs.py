"""What a seed chooses before it runs, for each suite of seeds."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from balsadb.storage import WalOptions
from tests.simulation.node import ObservedRegister

TICK_US = 50_000

PLAIN = (
    "crash",
    "crash",
    "crash in a write",
    "crash in a write",
    "crash of the leader",
    "crash of all",
    "split",
    "split",
    "one-way cut",
    "pause",
    "slow disk",
    "transfer",
    "wrong rumour",
)
"""Kinds of faults by how likely they are."""

ROUGH = (
    *PLAIN,
    "restart within a term",
    "restart within a term",
    "slow apply",
    "change of delays",
    "disk error",
    "disk error",
)

DAMAGE = ("flipped bits", "wiped disk")
"""What takes a node out for good, if it hits anything."""

FULL = (
    *dict.fromkeys(ROUGH),
    "hung disk",
    "clogged link",
    "clock skew",
    "full disk",
    *DAMAGE,
)
"""All kinds; a seed takes some of them."""


@dataclass(slots=True)
class Knobs:
    """See the fields. Times in microseconds."""

    nodes: int = 3
    strangers: int = 0
    """Nodes that are no members at first."""
    changes_us: int = 0
    """Mean time between wishes for a change of members; 0: none."""
    clients: int = 3
    tick_us: int = TICK_US
    think_us: int = 40_000
    padding_max: int = 100
    safety_us: int = 10_000_000
    driver: dict[str, Any] = field(default_factory=dict[str, Any])
    wal: WalOptions = field(default_factory=lambda: WalOptions(16 << 10, 4096))
    machine: Callable[[Any], Any] = ObservedRegister
    loss: float = 0.0
    repeat: float = 0.0
    delay_us: int = 1000
    faults_us: int = 1_000_000
    """Mean time between faults; 0: none."""
    kinds: tuple[str, ...] = PLAIN
    """Of faults, by how likely they are."""
    writes_early: bool = False
    """A batch of the log is written some time before its sync ends, so that any crash may meet it
    half-written; else both happen at once, and only a crash in a write does that."""
    replaces: bool = False
    """An operator takes lost nodes out of the cluster, and strangers in for them."""
    versions: bool = False
    """Each start of a node is by chance of this version of the code or of a later one."""
    trusts_reads: bool = False
    """Reads are judged by the history of what clients saw, and by nothing else."""

    @classmethod
    def of(cls, rng: random.Random) -> "Knobs":
        """Small bounds and short intervals, so that every path is walked often."""
        checkpoint = rng.choice((400, 1500, 6000, 1 << 20))
        driver: dict[str, Any] = {
            "checkpoint_log_bytes": checkpoint,
            "log_tail_bytes": rng.choice((0, checkpoint // 4, checkpoint // 2)),
            "log_bytes_max": checkpoint * rng.choice((1, 2, 50)),
            "log_memory_bytes_max": checkpoint * 60,
            "message_bytes_max": rng.choice((1, 200, 1 << 20)),
            "inflight_max": rng.choice((1, 2, 8)),
            "committed_bytes_max": rng.choice((100, 2000, 1 << 20)),
            "apply_entries_max": rng.choice((1, 3, 64)),
            "apply_works_max": rng.choice((1, 2)),
            "chunk_window": rng.choice((1, 4)),
            "chunk_retry_ticks": rng.choice((3, 10)),
            "proposals_max": rng.choice((2, 100)),
        }
        return cls(
            nodes=rng.choice((3, 3, 3, 3, 5, 5, 1, 2, 4)),
            clients=rng.choice((2, 3, 4)),
            think_us=rng.choice((20_000, 40_000, 80_000)),
            padding_max=rng.choice((10, 100, 300)),
            driver=driver,
            wal=WalOptions(rng.choice((4096, 16 << 10, 1 << 20)), rng.choice((0, 4096))),
            loss=rng.choice((0.0, 0.0, 0.02, 0.2)),
            repeat=rng.choice((0.0, 0.05, 0.3)),
            delay_us=rng.choice((500, 2000, 20_000)),
            faults_us=rng.choice((400_000, 1_000_000, 2_500_000)),
        )


def reads_knobs(seed: int) -> Knobs:
    """What the seed chooses anyway, and stale reads are found by their clients or not at all."""
    knobs = Knobs.of(random.Random(seed))
    knobs.trusts_reads = True
    return knobs


def rough_knobs(seed: int) -> Knobs:
    """What the seed chooses anyway, and rough faults."""
    knobs = Knobs.of(random.Random(seed))
    knobs.kinds = ROUGH
    return knobs


def changing_knobs(seed: int) -> Knobs:
    """What the seed chooses anyway, and an operator who changes the members."""
    knobs = Knobs.of(random.Random(seed))
    chance = random.Random(~seed)
    knobs.strangers = chance.choice((1, 2, 3))
    knobs.changes_us = chance.choice((200_000, 600_000, 2_000_000))
    if chance.random() < 0.3:
        knobs.kinds = ROUGH
    return knobs


def full_knobs(seed: int) -> Knobs:
    """What the seed chooses anyway, and a swarm: some of all kinds of faults, some more likely than
    others. A fault that seldom meets another hides what both together would show, and one that is
    everywhere hides the rest (Groce et al., "Swarm Testing", ISSTA 2012)."""
    knobs = Knobs.of(random.Random(seed))
    chance = random.Random(f"full {seed}")
    kinds = [kind for kind in FULL if chance.random() < 0.5] or ["crash"]
    knobs.kinds = tuple(kind for kind in kinds for _ in range(chance.choice((1, 1, 2, 4))))
    knobs.driver["disk_stall_ticks"] = chance.choice((10, 40))
    if not set(kinds).isdisjoint(DAMAGE):
        # Nobody else changes members meanwhile: with one node lost, to remove another can be the
        # end of a cluster, and that would be the operator's fault.
        knobs.strangers = chance.choice((0, 1, 1, 2))
        knobs.replaces = knobs.strangers > 0
    elif chance.random() < 0.4:
        knobs.strangers = chance.choice((1, 2))
        knobs.changes_us = chance.choice((600_000, 2_000_000))
    # Batches of several sectors, long under way: a power cut can tear them.
    knobs.writes_early = chance.random() < 0.7
    knobs.padding_max = chance.choice((100, 1500, 4000))
    knobs.versions = chance.random() < 0.4
    return knobs

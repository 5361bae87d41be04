"""A recorded run is that run again, and a failing one shrinks to what makes it fail."""

import random
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
import pytest

from balsadb.types import LogIndex
from tests.simulation import shrink
from tests.simulation.checker import Violation
from tests.simulation.register import Command, Register, encode_command
from tests.simulation.script import Script
from tests.simulation.shrink import Scenario, Shrinker, kind_of, smallest
from tests.simulation.suites import start_of
from tests.simulation.world import World, run_world


def failing() -> Shrinker:
    """Of the first seed that finds the mutant and in which much is done."""
    for seed in range(40):
        shrinker = Shrinker("full", seed, variants=2, runs_max=120)
        if shrinker.failure is not None and len(shrinker.recorded.keep) >= 12:
            return shrinker
    raise AssertionError("no seed finds it")


def ran(suite: str, seed: int, script: Script | None = None) -> World:
    start = start_of(suite, seed)
    start.knobs.safety_us, start.knobs.faults_us = 3_000_000, 200_000
    world = World(seed, start.knobs, rng=start.chance, script=script)
    run_world(world)
    return world


@pytest.mark.parametrize(
    ("suite", "seed"), [("plain", 3), ("rough", 20), ("changing", 21), ("full", 11)]
)
def test_all_steps_of_a_run_are_that_run_again(suite: str, seed: int) -> None:
    recorded = ran(suite, seed)
    steps = recorded.script.steps
    assert sum(step.arguments is not None for step in steps) > 1
    assert ran(suite, seed, Script(steps)).trace_hash == recorded.trace_hash
    assert ran(suite, seed, Script(steps, ())).trace_hash != recorded.trace_hash


def test_a_script_replays_each_actors_steps_at_their_times() -> None:
    chance, recorder = random.Random(1), Script()
    for at in (5, 9):
        recorder.choose("one", at, chance, lambda: ("draw", (chance.random(),)))
    recorder.choose("other", 7, chance, lambda: ("nothing", None))
    again, anew = Script(recorder.steps, keep=[1]), random.Random(2)
    assert again.delay("one", 0, 100) == 5
    assert again.choose("one", 5, anew, lambda: ("never", ())) == ("draw", None)
    assert again.delay("one", 5, 100) == 4
    assert again.choose("one", 9, anew, lambda: ("never", ())) == recorder.steps[1][2:4]
    assert anew.getstate() == recorder.steps[1].chance
    assert again.delay("one", 9, 100) == 100
    assert again.choose("one", 109, anew, lambda: ("never", ())) == ("nothing", None)


@pytest.mark.parametrize("needed", [(), (7,), (0, 19), (3, 4, 12), tuple(range(20))])
def test_what_is_left_is_what_is_needed(needed: tuple[int, ...]) -> None:
    tried = 0

    def fails(items: tuple[int, ...]) -> bool:
        nonlocal tried
        tried += 1
        return set(needed) <= set(items)

    assert smallest(tuple(range(20)), fails) == needed
    assert tried < 150


def test_runs_that_found_the_same_are_told_by_the_invariant() -> None:
    assert kind_of(Violation("log matching: (1, 2)")) == kind_of(Violation("log matching: (3, 4)"))
    assert kind_of(Violation("log matching: (1, 2)")) != kind_of(Violation("election safety: 1"))
    assert kind_of(KeyError("a")) == kind_of(KeyError("b")) == "KeyError"


@pytest.fixture
def writes_are_applied_each_time_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state machine does not look at sessions: a write that is tried again may undo another's.
    Replicas stay equal, so only what the clients saw can show it."""

    def apply(self: Register, index: LogIndex, data: bytes, /) -> Any:
        columns, command = self.columns, Command(*_fields(data))
        link = self.chain + index.to_bytes(8, "little") + data
        columns["chain"].touch(0, 16)
        columns["chain"].data[:16] = np.frombuffer(blake2b(link, digest_size=16).digest(), np.uint8)
        columns["values"].put(command.key, command.value)
        columns["versions"].put(command.key, index)
        return ("set", int(index))

    monkeypatch.setattr(Register, "apply", apply)


def _fields(data: bytes) -> tuple[Any, ...]:
    return tuple(msgspec.msgpack.decode(data))


@pytest.mark.sim
@pytest.mark.usefixtures("writes_are_applied_each_time_they_arrive")
def test_a_mutant_shrinks_to_a_few_actions(capsys: pytest.CaptureFixture[str]) -> None:
    shrinker = failing()
    assert shrinker.failure is not None
    assert shrinker.failure.kind == "linearizable history"
    recorded, found = shrinker.recorded, shrinker.shrink()
    assert 3 * len(found.keep) <= len(recorded.keep)
    assert found.safety_us <= recorded.safety_us
    failure = shrinker.replay(found)
    assert failure is not None
    assert failure.kind == "linearizable history"
    # The command does the same again.
    words = shrinker.command(found).split()
    assert words[:3] == ["python", "-m", "tests.simulation.shrink"]
    assert shrink.main(words[3:]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{len(found.keep)} actions, {found.nodes} nodes")
    assert "linearizable history" in out


def test_a_seed_that_passes_is_said_to_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert shrink.main(["--seed", "6"]) == 0
    assert capsys.readouterr().out == "seed 6 passes\n"


def test_a_scenario_is_told_in_words() -> None:
    shrinker = Shrinker("full", 11)
    told = shrinker.told(Scenario(shrinker.recorded.keep[:2], 3, 1, 2_500_000))
    lines = told.splitlines()
    assert lines[0] == "2 actions, 3 nodes, 1 clients, 2.5 s"
    assert len(lines) == 3
    assert " s  " in lines[1]


def test_commands_of_the_mutant_are_those_of_the_register() -> None:
    command = Command(1, 2, 3, 4, b"")
    assert Command(*_fields(encode_command(command))) == command

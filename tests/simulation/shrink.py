"""`python -m tests.simulation.shrink --seed 17 --suite full`: the least that makes a seed fail.

A failing seed is run once more and everything that was done to it is kept (`script`). Then it is
run again and again with less: without some of the actions (delta debugging: Zeller & Hildebrandt,
TSE 2002), with fewer clients, fewer nodes, for a shorter time. What still fails in the same way
is taken; what does not is put back. Printed: the actions that are left, and the command that does
just them again.

To leave out an action moves all that comes after it, so a run is tried with several chances
(`--variants`) before it counts as one that passes.
"""

import argparse
import random
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.seeds import FAILURES
from tests.simulation.checker import Violation
from tests.simulation.script import Script, Step
from tests.simulation.suites import SUITES, start_of
from tests.simulation.world import World, run_world


class Scenario(NamedTuple):
    """What is done again of a recorded run."""

    keep: tuple[int, ...]
    """Numbers of its steps."""
    nodes: int
    clients: int
    safety_us: int
    variant: int = 0


class Failure(NamedTuple):
    """How a run failed: `kind` is what two runs that found the same have in common."""

    kind: str
    at: int
    words: str


def kind_of(error: BaseException) -> str:
    """An invariant, or the name of the exception."""
    if isinstance(error, Violation):
        return str(error).partition(": ")[0]
    return type(error).__name__


def run_recorded(world: World) -> Failure | None:
    """Both phases; how they failed."""
    try:
        run_world(world)
    except FAILURES as error:
        return Failure(kind_of(error), world.now, traceback.format_exc())
    return None


def smallest(items: tuple[int, ...], fails: Callable[[tuple[int, ...]], bool]) -> tuple[int, ...]:
    """Items of which none can go, in one piece or alone, so that it still fails (ddmin)."""
    if not items or fails(()):
        return ()
    parts = 2
    while len(items) > 1:
        size = -(-len(items) // parts)
        for at in range(0, len(items), size):
            rest = items[:at] + items[at + size :]
            if rest and fails(rest):
                items, parts = rest, max(parts - 1, 2)
                break
        else:
            if parts >= len(items):
                break
            parts = min(2 * parts, len(items))
    return items


class Shrinker:
    """Runs one seed of a suite with less and less."""

    def __init__(self, suite: str, seed: int, variants: int = 3, runs_max: int = 400) -> None:
        self.suite = suite
        self.seed = seed
        self.variants = variants
        self.runs_max = runs_max
        self.runs = 0
        start = start_of(suite, seed)
        world = World(seed, start.knobs, rng=start.chance)
        self.failure = run_recorded(world)
        self.steps: Sequence[Step] = world.script.steps
        knobs = world.knobs
        done = tuple(number for number, step in enumerate(self.steps) if step.arguments is not None)
        self.recorded = Scenario(done, knobs.nodes, knobs.clients, knobs.safety_us)
        self.found = self.recorded
        """The least so far that fails."""

    def replay(self, scenario: Scenario) -> Failure | None:
        """Run a scenario."""
        start = start_of(self.suite, self.seed)
        knobs, chance = start.knobs, start.chance
        knobs.nodes, knobs.clients = scenario.nodes, scenario.clients
        knobs.safety_us = scenario.safety_us
        if scenario.variant:
            chance = random.Random(f"{self.seed} {scenario.variant}")
        script = Script(self.steps, scenario.keep, scenario.variant)
        return run_recorded(World(self.seed, knobs, rng=chance, script=script))

    def fails(self, scenario: Scenario) -> bool:
        """Whether it fails as the seed did, with some chance; then it is the least so far."""
        assert self.failure is not None
        for variant in range(self.variants):
            if self.runs >= self.runs_max:
                return False
            self.runs += 1
            tried = scenario._replace(variant=variant)
            failure = self.replay(tried)
            if failure is not None and failure.kind == self.failure.kind:
                self.found = tried
                return True
        return False

    def shrink(self) -> Scenario:
        """Until nothing can be left out, or the runs are used up."""
        assert self.failure is not None
        early = [at for at in self.recorded.keep if self.steps[at].at <= self.failure.at]
        self.found = self.recorded._replace(keep=tuple(early))
        before = None
        while before != self.found:
            before = self.found
            self._shorter()  # first: it makes all further runs quicker
            self._fewer_actions()
            self._fewer_clients()
            self._fewer_nodes()
        return self.found

    def _fewer_actions(self) -> None:
        smallest(self.found.keep, lambda keep: self.fails(self.found._replace(keep=keep)))

    def _fewer_clients(self) -> None:
        while self.found.clients > 1:
            if not self.fails(self.found._replace(clients=self.found.clients - 1)):
                break

    def _fewer_nodes(self) -> None:
        while self.found.nodes > 1:
            if not self.fails(self.found._replace(nodes=self.found.nodes - 1)):
                break

    def _shorter(self) -> None:
        while self.found.safety_us > 500_000:
            if not self.fails(self.found._replace(safety_us=self.found.safety_us // 2)):
                break

    # --- words ---------------------------------------------------------------------------------

    def command(self, scenario: Scenario) -> str:
        """What runs a scenario again."""
        keep = ",".join(map(str, scenario.keep)) or "none"
        return (
            f"python -m tests.simulation.shrink --suite {self.suite} --seed {self.seed} "
            f"--keep {keep} --nodes {scenario.nodes} --clients {scenario.clients} "
            f"--safety-us {scenario.safety_us} --variant {scenario.variant}"
        )

    def told(self, scenario: Scenario) -> str:
        """A scenario in words: its size, then its actions."""
        size = (
            f"{len(scenario.keep)} actions, {scenario.nodes} nodes, {scenario.clients} clients, "
            f"{scenario.safety_us / 1e6:g} s\n"
        )
        return size + "".join(f"{number:5d} {self.steps[number]}\n" for number in scenario.keep)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 if the seed, or the scenario, fails; 0 if it passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--suite", choices=[suite.name for suite in SUITES], default="plain")
    parser.add_argument("--variants", type=int, default=3, help="chances that a run gets to fail")
    parser.add_argument("--runs", type=int, default=400, help="how many at most")
    parser.add_argument("--keep", default="", help="do these actions again, and no more")
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--clients", type=int, default=0)
    parser.add_argument("--safety-us", type=int, default=0)
    parser.add_argument("--variant", type=int, default=0)
    options = parser.parse_args(arguments)
    shrinker = Shrinker(options.suite, options.seed, options.variants, options.runs)
    if options.keep:
        recorded = shrinker.recorded
        keep = () if options.keep == "none" else tuple(map(int, options.keep.split(",")))
        scenario = Scenario(
            keep,
            options.nodes or recorded.nodes,
            options.clients or recorded.clients,
            options.safety_us or recorded.safety_us,
            options.variant,
        )
        sys.stdout.write(shrinker.told(scenario))
        return _end(shrinker.replay(scenario))
    if shrinker.failure is None:
        sys.stdout.write(f"seed {options.seed} passes\n")
        return 0
    sys.stdout.write(f"fails: {shrinker.failure.kind}\nrecorded: ")
    sys.stdout.write(shrinker.told(shrinker.recorded))
    found = shrinker.shrink()
    sys.stdout.write(f"after {shrinker.runs} runs: {shrinker.told(found)}")
    sys.stdout.write(f"{shrinker.command(found)}\n")
    return 1


def _end(failure: Failure | None) -> int:
    if failure is None:
        sys.stdout.write("passes\n")
        return 0
    sys.stdout.write(f"fails at {failure.at / 1e6:.3f} s: {failure.kind}\n{failure.words}")
    return 1


if __name__ == "__main__":
    sys.exit(main())

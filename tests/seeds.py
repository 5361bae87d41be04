"""Runs suites of seeds, over several processes, and tells which failed and what was injected.

A simulator lists its suites and calls `main`. Whatever the number of processes, results are told in
order of the seeds, and the same seeds give the same words, times apart.
"""

import argparse
import os
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

from balsadb.errors import BalsaError

BLOCK = 10
"""Seeds that a process takes at once."""

FAILURES = (
    AssertionError,
    AttributeError,
    BalsaError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""A seed that raises one of these has found something; the others go on."""


class Run(NamedTuple):
    """What a seed came to: its length in events, the hash of its trace, faults by kind."""

    events: int
    trace: str
    faults: Counter[str]


class Suite(NamedTuple):
    """A way to run seeds. `run` raises what the seed finds; a function of a module, so that another
    process can find it."""

    name: str
    about: str
    run: Callable[[int], Run]


class Told(NamedTuple):
    """A seed, and its run or its failure."""

    seed: int
    run: Run | None
    error: str = ""
    trace: str = ""


def tell(suite: Suite, seed: int) -> Told:
    """Run one seed."""
    try:
        return Told(seed, suite.run(seed))
    except FAILURES as error:
        words = f"{type(error).__name__}: {str(error)[:400]}"
        return Told(seed, None, words, traceback.format_exc())


def tell_all(suite: Suite, seeds: range, jobs: int) -> Iterator[Told]:
    """Run seeds, told in their order."""
    jobs = min(jobs, len(seeds) // BLOCK)
    if jobs <= 1:
        for seed in seeds:
            yield tell(suite, seed)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        waiting: deque[Future[list[Told]]] = deque()
        for at in range(0, len(seeds), BLOCK):
            waiting.append(pool.submit(_block, suite, seeds[at : at + BLOCK]))
            if len(waiting) > 2 * jobs:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _block(suite: Suite, seeds: range) -> list[Told]:
    return [tell(suite, seed) for seed in seeds]


def table_of(faults: Counter[str], seen_in: Counter[str], seeds: int) -> str:
    """What was injected, as Markdown: how often, and in how many of the seeds."""
    lines = ["| Fault | Times | Seeds |", "|---|---:|---:|"]
    for kind in sorted(faults):
        share = f"{seen_in[kind]} ({seen_in[kind] / seeds:.0%})"
        lines.append(f"| {kind} | {faults[kind]} | {share} |")
    return "\n".join(lines) + "\n"


def main(about: str, suites: Sequence[Suite], arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit status 1 if a seed failed; each failure is printed with its seed."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--first", action="store_true", help="end at the first failure")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.set_defaults(suite=suites[0])
    kinds = parser.add_mutually_exclusive_group()
    for suite in suites[1:]:
        flag = f"--{suite.name}"
        kinds.add_argument(flag, dest="suite", action="store_const", const=suite, help=suite.about)
    options = parser.parse_args(arguments)
    seeds = range(options.start, options.start + options.seeds)
    failed: list[int] = []
    events, passed = 0, 0
    faults, seen_in = Counter[str](), Counter[str]()
    began = time.monotonic()
    for told in tell_all(options.suite, seeds, options.jobs):
        _print(told, verbose=options.verbose)
        if told.run is None:
            failed.append(told.seed)
            if options.first:
                break
            continue
        passed += 1
        events += told.run.events
        faults += told.run.faults
        seen_in.update(told.run.faults.keys())
    seconds = time.monotonic() - began
    if passed:
        sys.stdout.write(table_of(faults, seen_in, passed))
    done = passed + len(failed)
    sys.stdout.write(
        f"{done} seeds, {events} events, {seconds:.1f} s, {3600 * done / seconds:.0f} seeds an "
        f"hour, failed: {failed or 'none'}\n"
    )
    return 1 if failed else 0


def _print(told: Told, *, verbose: bool) -> None:
    if told.run is None:
        sys.stdout.write(f"seed {told.seed}: {told.error}\n")
        if verbose:
            sys.stderr.write(told.trace)
    elif verbose:
        sys.stdout.write(f"seed {told.seed}: {told.run.events} events, trace {told.run.trace}\n")
    sys.stdout.flush()

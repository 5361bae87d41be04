"""`python -m tests.simulation.run --seeds 1000 --start 0`: run seeds, report the failing ones."""

import argparse
import sys
import time
import traceback

from balsadb.errors import BalsaError
from tests.simulation.world import changing_knobs, rough_knobs, run_seed

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


def main() -> int:
    """Exit status 1 if a seed failed; each failure is printed with its seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--first", action="store_true", help="end at the first failure")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--rough", action="store_true", help="more kinds of faults")
    parser.add_argument("--changing", action="store_true", help="members come and go")
    options = parser.parse_args()
    failed: list[int] = []
    events = 0
    began = time.monotonic()
    for seed in range(options.start, options.start + options.seeds):
        try:
            knobs = rough_knobs(seed) if options.rough else None
            world = run_seed(seed, changing_knobs(seed) if options.changing else knobs)
        except FAILURES as error:
            failed.append(seed)
            sys.stdout.write(f"seed {seed}: {type(error).__name__}: {str(error)[:400]}\n")
            if options.verbose:
                traceback.print_exc()
            if options.first:
                break
            continue
        events += world.events
        if options.verbose:
            sys.stdout.write(f"seed {seed}: {world.events} events, trace {world.trace_hash}\n")
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"{options.seeds} seeds, {events} events, {seconds:.1f} s, failed: {failed or 'none'}\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

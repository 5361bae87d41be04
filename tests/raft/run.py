"""`python -m tests.raft.run --seeds 1000 --start 0`: seeds of the core alone."""

import argparse
import sys
import time
import traceback

from balsadb.errors import BalsaError
from tests.raft.simulation import Simulation


def main() -> int:
    """Exit status 1 if a seed failed; each failure is printed with its seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--first", action="store_true", help="end at the first failure")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    failed: list[int] = []
    changes = 0
    began = time.monotonic()
    for seed in range(options.start, options.start + options.seeds):
        try:
            changes += Simulation(seed).run().network.changes
        except (AssertionError, BalsaError, LookupError, TypeError, ValueError) as error:
            failed.append(seed)
            sys.stdout.write(f"seed {seed}: {type(error).__name__}: {str(error)[:400]}\n")
            if options.verbose:
                traceback.print_exc()
            if options.first:
                break
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"{options.seeds} seeds, {changes} changes of members, {seconds:.1f} s, "
        f"failed: {failed or 'none'}\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.raft.run --seeds 1000 --start 0`: seeds of the core alone."""

import sys

from tests.raft.simulation import run_seed
from tests.seeds import Suite, main

SUITES = (Suite("core", "messages between cores", run_seed),)

if __name__ == "__main__":
    sys.exit(main(__doc__ or "", SUITES))

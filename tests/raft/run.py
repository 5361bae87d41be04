"""`python -m tests.raft.run --seeds 1000 --start 0`: seeds of the core alone."""

import sys

from tests.raft import elections, simulation
from tests.seeds import Suite, main

SUITES = (
    Suite("core", "messages between cores", simulation.run_seed),
    Suite("elections", "short reigns: faults aim at elections", elections.run_seed),
)

if __name__ == "__main__":
    sys.exit(main(__doc__ or "", SUITES))

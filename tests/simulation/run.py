"""`python -m tests.simulation.run --seeds 1000 --start 0`: run seeds, report the failing ones."""

import sys

from tests.seeds import main
from tests.simulation.suites import SUITES

if __name__ == "__main__":
    sys.exit(main(__doc__ or "", SUITES))

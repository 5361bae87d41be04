"""`python -m tests.linearizability FILE`: is the recorded history linearizable?"""

import argparse
import sys
from pathlib import Path

from tests.linearizability.checker import Undecided
from tests.linearizability.histories import BadHistory, read_jepsen, read_lines
from tests.linearizability.models import check_recorded


def main() -> int:
    """0: yes; 1: no, with the longest part that has an explanation; 2: cannot be read, or decided
    in time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--jepsen", action="store_true", help="a log of Jepsen's etcd tests")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    try:
        with options.file.open() as lines:
            history = (read_jepsen if options.jepsen else read_lines)(lines)
        violation = check_recorded(history, seconds=options.seconds)
    except (BadHistory, OSError) as error:
        sys.stderr.write(f"{options.file}: {error}\n")
        return 2
    except Undecided:
        sys.stderr.write(f"{options.file}: not decided in {options.seconds:g} s\n")
        return 2
    if violation is None:
        sys.stdout.write(f"linearizable: {len(history)} operations\n")
        return 0
    sys.stdout.write(
        f"NOT linearizable: of {len(violation.part)} operations {len(violation.longest)} have an "
        "explanation, in this order:\n"
    )
    for operation in violation.longest:
        sys.stdout.write(f"  {operation}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

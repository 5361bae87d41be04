"""`python -m tests.fuzz.guided TARGET --corpus FOLDER`: inputs that reach new code are kept and
damaged further, by the fuzzer atheris (`pip install atheris`; nothing else here needs it).

The folder is filled with the target's valid inputs and the regressions first, and keeps what is
found. An input that fails is written beside it by the fuzzer, which then ends the process.
"""

import argparse
import importlib
import sys
from pathlib import Path

READERS = ["balsadb.storage", "balsadb.raft", "balsadb.cluster", "balsadb.database.commands"]
"""What reads bytes: to watch more costs a minute of start."""


def main() -> None:
    """Ends the process: that is how atheris returns."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided")
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, required=True)
    options = parser.parse_args()
    atheris = importlib.import_module("atheris")
    # Only what is imported in here is watched: so the targets are, and what they read with.
    with atheris.instrument_imports(include=READERS):
        targets = importlib.import_module("tests.fuzz.targets")
        regressions = importlib.import_module("tests.fuzz.regressions")
    target = targets.TARGETS[options.target]
    folder: Path = options.corpus / target.name
    folder.mkdir(parents=True, exist_ok=True)
    known = [*target.seeds, *regressions.REGRESSIONS.get(target.name, [])]
    for number, data in enumerate(known):
        (folder / f"known{number}").write_bytes(data)
    limits = [f"-max_total_time={options.seconds}", "-max_len=20000", "-rss_limit_mb=2048"]
    prefix = f"-artifact_prefix={folder.parent}/{target.name}-"
    atheris.Setup([sys.argv[0], *limits, prefix, str(folder)], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""`python -m tests.mutants.run`: every known bug is put back, alone, and must be found.

A mutant is a copy of the source with one place changed; its simulator runs seed by seed in a
process of its own until one fails. Printed: how many seeds that took, from several starting points,
and what the failing one said. Exit status 1 if a mutant lived.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from tests.mutants.catalogue import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "balsadb"
COMMANDS = {
    "raft": ["tests.raft.run"],
    "elections": ["tests.raft.run", "--elections"],
    "nodes": ["tests.simulation.run"],
    "rough": ["tests.simulation.run", "--rough"],
    "changing": ["tests.simulation.run", "--changing"],
    "reads": ["tests.simulation.run", "--reads"],
}
START = 1_000_000
"""Seeds that no other test uses."""


def patched(mutant: Mutant) -> str:
    """The mutant's file. AssertionError if its place is not there exactly once."""
    text = (SOURCE / mutant.file).read_text()
    found = text.count(mutant.old)
    assert found == 1, f"{mutant.name}: {found} times in {mutant.file}: {mutant.old!r}"
    return text.replace(mutant.old, mutant.new)


def hunt(mutant: Mutant, start: int) -> tuple[int | None, str]:
    """How many seeds it took (None: it lived), and what the one that failed said."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "balsadb"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / mutant.file).write_text(patched(mutant))
        module, *flags = COMMANDS[mutant.suite]
        seeds = ["--start", str(start), "--seeds", str(mutant.seeds_max), "--first", "--jobs=1"]
        ended = subprocess.run(
            [sys.executable, "-m", module, *flags, *seeds],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"^seed (\d+): (.*)$", ended.stdout, re.MULTILINE)
    if found is None:
        assert ended.returncode == 0, f"{mutant.name}: the run broke: {ended.stderr[-2000:]}"
        return None, ""
    return int(found[1]) - start + 1, found[2]


def row(mutant: Mutant, counts: Sequence[int | None], said: str) -> str:
    """A line of the table."""
    caught = [count for count in counts if count is not None]
    middle = f"{median(caught):.0f}" if caught else "-"
    most = f"{max(caught)}" if len(caught) == len(counts) else "lived"
    return f"| {mutant.name} | {mutant.suite} | {middle} | {most} | {said[:60]} |"


def main() -> int:
    """The table, as it is found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="starting points for each mutant")
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.name]
    lived: list[str] = []
    sys.stdout.write("| Bug | Suite | Seeds, median | Most | Found as |\n|---|---|---|---|---|\n")
    with ThreadPoolExecutor(options.jobs) as pool:
        hunts = [
            [pool.submit(hunt, mutant, START * (number + 1)) for number in range(options.rounds)]
            for mutant in chosen
        ]
        for mutant, futures in zip(chosen, hunts, strict=True):
            results = [future.result() for future in futures]
            counts = [count for count, _ in results]
            if None in counts:
                lived.append(mutant.name)
            said = next((said for _, said in results if said), "")
            sys.stdout.write(row(mutant, counts, said) + "\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen)} mutants, lived: {', '.join(lived) or 'none'}\n")
    return 1 if lived else 0


if __name__ == "__main__":
    sys.exit(main())

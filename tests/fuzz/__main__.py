"""`python -m tests.fuzz`: damage valid inputs, for a while, and report what breaks a check.

The damage is random; `tests.fuzz.guided` is the same guided by coverage. An input that failed is
printed and, with `--findings`, written to a file; it then belongs into `tests/fuzz/regressions.py`.
"""

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.mutations import any_damage, damage
from tests.fuzz.regressions import REGRESSIONS
from tests.fuzz.targets import TARGETS, Target, check_bounded


def run(target: Target, seconds: float, seed: int, check: Callable[[bytes], None]) -> int:
    """Damage the target's inputs for that long; how many inputs were tried."""
    rng = random.Random(seed)
    seeds = [*target.seeds, *REGRESSIONS.get(target.name, [])]
    deadline = time.monotonic() + seconds
    count = 0
    while time.monotonic() < deadline:
        data = damage(rng.choice(seeds), any_damage(rng), rng.choice(seeds))
        if rng.random() < 0.02:
            data = rng.randbytes(rng.randrange(2000))
        count += 1
        check(data)
    return count


def main() -> None:
    """Ends with what the first failed check raised."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", default=[], help=" ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=10, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", action="store_true", help="check the memory too (slower)")
    parser.add_argument("--findings", type=Path, help="folder for inputs that failed")
    options = parser.parse_args()
    for name in options.targets or TARGETS:
        target = TARGETS[name]
        last = [b""]

        def check(data: bytes, target: Target = target, last: list[bytes] = last) -> None:
            last[0] = data
            if options.memory:
                check_bounded(target, data)
            else:
                target.check(data)

        try:
            count = run(target, options.seconds, options.seed, check)
        except BaseException:  # an interrupt too: it may have been hanging
            print(f"{name}: FAILED by {last[0].hex()}", flush=True)
            if options.findings:
                options.findings.mkdir(parents=True, exist_ok=True)
                (options.findings / f"{name}.{len(last[0])}.bin").write_bytes(last[0])
            raise
        print(f"{name}: {count:,} inputs in {options.seconds} s, none broke it", flush=True)


if __name__ == "__main__":
    main()

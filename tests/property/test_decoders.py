"""Bytes of any kind, for everything that reads what others wrote: errors of the project's own tree,
bounded memory, nothing changed by a refusal (`tests/fuzz` has the decoders and the checks).

`FUZZ_EXAMPLES=20000` makes the runs longer; `python -m tests.fuzz` runs for as long as one likes.
"""

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import run
from tests.fuzz.mutations import KINDS, Damage, any_damage, damage
from tests.fuzz.regressions import REGRESSIONS
from tests.fuzz.targets import BYTES_A_BYTE, SLACK_BYTES, TARGETS, Target, check_bounded

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))

share = st.integers(0, 65535)
blows = st.lists(st.builds(Damage, st.sampled_from(KINDS), share, share, share), max_size=5)
each = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
thorough = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@each
@thorough
@given(data=st.binary(max_size=2000))
def test_any_bytes(target: Target, data: bytes) -> None:
    check_bounded(target, data)


@each
@thorough
@given(pick=share, other=share, made=blows)
def test_damaged_inputs(target: Target, pick: int, other: int, made: list[Damage]) -> None:
    seeds = target.seeds
    data = damage(seeds[pick % len(seeds)], made, seeds[other % len(seeds)])
    check_bounded(target, data)


@each
def test_what_once_broke_it(target: Target) -> None:
    """And the valid inputs themselves."""
    for data in [*target.seeds, *REGRESSIONS.get(target.name, [])]:
        check_bounded(target, data)


@each
def test_every_cut(target: Target) -> None:
    """An input that ends early, at every byte of its first few hundred."""
    seed = max(target.seeds, key=len)
    for size in {*range(min(len(seed), 120)), *range(0, min(len(seed), 2000), 97)}:
        target.check(seed[:size])


def test_regressions_are_of_targets_that_exist() -> None:
    assert set(REGRESSIONS) <= set(TARGETS)


def test_the_runner_finds_a_decoder_that_breaks() -> None:
    """A check that cannot fail shows nothing."""

    def breaks(data: bytes) -> None:
        assert b"\xff\xff\xff" not in data

    target = Target("broken", lambda: [bytes(100)], breaks)
    with pytest.raises(AssertionError):
        run(target, 60.0, 1, breaks)
    assert run(Target("empty", lambda: [b""], len), 0.01, 1, len) > 0


def test_the_memory_bound_is_checked() -> None:
    target = Target("greedy", lambda: [b""], lambda data: bytes(SLACK_BYTES + BYTES_A_BYTE * 4 + 1))
    with pytest.raises(AssertionError, match="for an input of 3"):
        check_bounded(target, b"abc")


def test_damage_is_of_all_kinds_and_changes_something() -> None:
    data = bytes(range(200))
    hit = {kind: damage(data, [Damage(kind, 20_000, 40_000, 77)], b"other" * 30) for kind in KINDS}
    assert data not in hit.values()
    assert len(set(hit.values())) == len(KINDS)
    rng = random.Random(1)
    for _ in range(1000):
        damage(b"", any_damage(rng), b"")

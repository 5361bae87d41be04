"""The catalogue fits the source, and a share of the mutants is hunted in every run."""

import ast

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.run import hunt, patched

QUICK = (
    "two votes in one term",
    "a quorum of half",
    "acknowledged before it is durable",
    "a joint commit asks one half",
    "the log is not synced",
)
"""Found within a few seeds."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_one_place_of_the_source(mutant):
    ast.parse(patched(mutant))


def test_names_are_told_apart():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25


@pytest.mark.sim
@pytest.mark.parametrize("name", QUICK)
def test_a_share_of_them_is_found(name):
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    count, said = hunt(mutant, 5_000_000)
    assert count is not None, said
